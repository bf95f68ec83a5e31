"""An answer follows what was measured, for every kind of test; and an answer that does not is caught."""

from __future__ import annotations

import math
from typing import Any

import mutation
import numpy as np
import pandas as pd
import pytest
from evidence_cases import grid, make, values
from mutation import asked, flips, mutate

from replication.evidence import Outcome, tidy

BETTER = {"uba": 0.0, "linear": 2.0, "step": 3.0}


def curve(b: float, seeds: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"quantity": "error", "seed": s, "budget": x, "value": 5.0 * x**b * (1 + rng.normal(0, 0.01))}
        for s in range(seeds)
        for x in (1.0, 2.0, 4.0, 8.0)
    ]
    return tidy(rows)


NOISE = np.array([-0.02, 0.0, 0.01, 0.01])
CELLS = pd.concat([values(0.5 + NOISE, budget=25), values(0.6 + NOISE, budget=50)], ignore_index=True)
DRAWS = values([0.05 + 0.01 * i for i in range(101)])
POOLED: dict[str, Any] = {"by": [], "every": False}

CASES: dict[str, tuple[str, dict[str, Any], pd.DataFrame, str]] = {
    "identity": ("identity", {}, values([0.0, 1e-13]), "yes"),
    "identity, exact": ("identity", {"tolerance": 0.0}, values([0.0]), "yes"),
    "identity, failed": ("identity", {}, values([0.0, 1.0]), "no"),
    "value": ("value", {}, values([3.0, 3.001, 2.999]), "yes"),
    "value, exact": ("value", {}, values([3.04]), "yes"),
    "value, no tolerance": ("value", {"paper_precision": 0.0}, values([3.0]), "yes"),
    "value, failed": ("value", {}, values([4.0, 4.001]), "no"),
    "value, wide": ("value", {}, values([2.0, 4.0, 3.0]), "open"),
    "value, diverged": ("value", {}, values([3.0, math.nan, 3.0]), "open"),
    "value, too few": ("value", {"min_seeds": 4, "exact": False}, values([3.0]), "open"),
    "direction": ("direction", {}, grid(BETTER), "yes"),
    "direction, higher": (
        "direction",
        {"direction": "higher", "effect": 1.0},
        grid({k: -v for k, v in BETTER.items()}),
        "yes",
    ),
    "direction, no margin": ("direction", {"margin": 0.0}, grid(BETTER), "yes"),
    "direction, refuted": ("direction", {}, grid({"uba": 1.0, "linear": 0.0, "step": 0.0}), "no"),
    "direction, tied": ("direction", {}, grid(dict.fromkeys(BETTER, 0.0), rng=3), "no"),
    "direction, open": ("direction", {}, grid(dict.fromkeys(BETTER, 0.0), noise=5), "open"),
    "direction, too few": ("direction", {"min_seeds": 12}, grid(BETTER), "open"),
    "every": ("every", {}, grid(BETTER), "yes"),
    "every, higher": (
        "every",
        {"direction": "higher", "effect": 1.0},
        grid({k: -v for k, v in BETTER.items()}),
        "yes",
    ),
    "every, refuted": ("every", {}, grid({"uba": 0.0, "linear": 1.0, "step": -1.0}), "no"),
    "every, open": ("every", {"margin": 0.0}, grid({"uba": 0.0, "linear": 0.0, "step": 1.0}, rng=3), "open"),
    "slope, positive": ("slope", {}, curve(1.0), "yes"),
    "slope, refuted": ("slope", {"claimed": "negative"}, curve(1.0), "no"),
    "slope, power": ("slope", {"method": "loglog", "claimed": "at_most", "bound": -0.4}, curve(-0.5), "yes"),
    "slope, too flat": ("slope", {"method": "loglog", "claimed": "at_most", "bound": -0.6}, curve(-0.5), "no"),
    "slope, at least": ("slope", {"claimed": "at_least", "bound": 1.0}, curve(1.0), "yes"),
    "slope, ranks": ("slope", {"method": "spearman", "claimed": "at_least", "bound": 0.5}, curve(1.0), "yes"),
    "slope, ranks negative": ("slope", {"method": "spearman", "claimed": "negative"}, curve(1.0), "no"),
    "interval": ("interval", {}, CELLS, "yes"),
    "interval, pooled": ("interval", {"every": False}, CELLS, "yes"),
    "interval, open above": ("interval", {"upper": None}, CELLS, "yes"),
    "interval, open below": ("interval", {"lower": None}, CELLS, "yes"),
    "interval, refuted": ("interval", {"upper": 0.55}, CELLS, "no"),
    "interval, undecided": ("interval", {"upper": 0.6}, CELLS, "open"),
    "interval, draws": ("interval", {"rows": "draws", **POOLED, "upper": 1.2}, DRAWS, "yes"),
    "interval, draws refuted": ("interval", {"rows": "draws", **POOLED, "upper": 0.02}, DRAWS, "no"),
    "value, draws": ("value", {"rows": "draws", "paper_value": 0.5}, DRAWS, "open"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_answer_flips(case: str) -> None:
    kind, changes, records, said = CASES[case]
    test = make(kind, **changes)
    assert asked(test, records).answer == said
    assert flips(test, records)


def test_the_shift_is_as_small_as_the_rule_is_sharp() -> None:
    """A mutation of a mile would not notice a band of twice its width."""
    against = mutate(make("value"), values([3.04]), "against")
    assert against["value"].item() == pytest.approx(3.05, abs=1e-4)
    identity = mutate(make("identity"), values([0.0]), "against")
    assert identity["value"].item() == pytest.approx(1e-12, rel=1e-9)
    records = grid(BETTER)
    shifted = mutate(make("direction"), records, "against")
    moved = (shifted["value"] - records["value"])[records["schedule"] == "uba"]
    assert 2.0 < moved.max() < 2.5 + 0.3  # the gap to the baselines, and the width of an interval


@pytest.mark.parametrize("kind", ["identity", "value", "direction", "every", "slope, positive", "interval"])
@pytest.mark.parametrize("stuck", ["yes", "no", "open"])
def test_an_answer_that_ignores_the_records_is_caught(kind: str, stuck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, changes, records, _ = CASES[kind]
    monkeypatch.setattr(mutation, "answer", lambda *_: Outcome("T1", "primary", "C1", stuck))
    assert not flips(make(name, **changes), records)


def test_a_test_that_cannot_fail_is_caught() -> None:
    never = make("slope", method="spearman", claimed="at_most", bound=1.0)
    assert asked(never, curve(1.0)).answer == "yes"
    assert not flips(never, curve(1.0))


def test_a_test_whose_baseline_was_never_run_is_caught() -> None:
    records = grid(BETTER)
    assert not flips(make("direction"), records[records["schedule"] != "step"])

"""Shifted past what its claim allows, every kind of measurement changes its verdict."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from evidence_cases import grid, make, values

from replication.evidence import Claim, evaluate, flips, mutate, tidy
from replication.evidence import mutation as module

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
CASES: dict[str, tuple[Claim, pd.DataFrame, str]] = {
    "identity": (make("identity"), values([0.0, 1e-13]), "reproduced"),
    "identity, exact": (make("identity", tolerance=0.0), values([0.0]), "reproduced"),
    "identity, failed": (make("identity"), values([0.0, 1.0]), "not reproduced"),
    "value": (make("value"), values([3.0, 3.001, 2.999]), "reproduced"),
    "value, exact": (make("value"), values([3.04]), "reproduced"),
    "value, no tolerance": (make("value", paper_precision=0.0), values([3.0]), "reproduced"),
    "value, failed": (make("value"), values([4.0, 4.001]), "not reproduced"),
    "value, partly": (make("value", null=0.0), values([4.0, 4.001, 4.002]), "partly reproduced"),
    "value, partly, null above": (make("value", null=9.0), values([4.0, 4.001, 4.002]), "partly reproduced"),
    "value, wide": (make("value"), values([2.0, 4.0, 3.0]), "inconclusive"),
    "value, diverged": (make("value"), values([3.0, math.nan, 3.0]), "inconclusive"),
    "value, too few": (make("value", min_seeds=4), values([3.0]), "inconclusive"),
    "value, too few and no seed": (
        make("value", min_seeds=4),
        tidy([{"quantity": "error", "value": 3.0}]),
        "inconclusive",
    ),
    "direction": (make("direction"), grid(BETTER), "reproduced"),
    "direction, higher": (
        make("direction", direction="higher"),
        grid({k: -v for k, v in BETTER.items()}),
        "reproduced",
    ),
    "direction, no margin": (make("direction", margin=0.0), grid(BETTER), "reproduced"),
    "direction, refuted": (make("direction"), grid({"uba": 1.0, "linear": 0.0, "step": 0.0}), "not reproduced"),
    "direction, tied": (make("direction"), grid(dict.fromkeys(BETTER, 0.0), rng=3), "not reproduced"),
    "direction, partly": (
        make("direction"),
        grid({"uba": 0.0, "linear": 1.0, "step": -1.0}),
        "partly reproduced",
    ),
    "direction, unclear": (make("direction"), grid(dict.fromkeys(BETTER, 0.0), noise=5), "inconclusive"),
    "direction, too few": (make("direction", min_seeds=12), grid(BETTER), "inconclusive"),
    "direction, premise": (
        make("direction", baselines=["linear"], decisive=None, premise="step"),
        grid({"uba": 0.0, "linear": 2.0, "step": 1.0}),
        "reproduced",
    ),
    "direction, no gap": (
        make("direction", baselines=["linear"], decisive=None, premise="step"),
        grid({"uba": 0.0, "linear": 2.0, "step": 3.0}),
        "inconclusive",
    ),
    "ordering": (make("ordering"), grid(BETTER), "reproduced"),
    "ordering, refuted": (make("ordering"), grid({"uba": 3.0, "linear": 2.0, "step": 1.0}), "not reproduced"),
    "slope, positive": (make("slope"), curve(1.0), "reproduced"),
    "slope, refuted": (make("slope", claimed="negative"), curve(1.0), "not reproduced"),
    "slope, zero": (make("slope", claimed="zero", margin=0.5), curve(0.0), "reproduced"),
    "slope, not zero": (make("slope", claimed="zero", margin=0.5), curve(1.0), "not reproduced"),
    "slope, zero in ranks": (
        make("slope", claimed="zero", margin=0.5, method="spearman"),
        curve(1.0),
        "not reproduced",
    ),
    "slope, power": (
        make("slope", method="loglog", claimed="at_most", bound=-0.4),
        curve(-0.5),
        "reproduced",
    ),
    "slope, power too flat": (
        make("slope", method="loglog", claimed="at_most", bound=-0.6),
        curve(-0.5),
        "not reproduced",
    ),
    "slope, at least": (make("slope", claimed="at_least", bound=1.0), curve(1.0), "reproduced"),
    "slope, ranks": (make("slope", method="spearman", claimed="at_least", bound=0.5), curve(1.0), "reproduced"),
    "slope, ranks negative": (make("slope", method="spearman", claimed="negative"), curve(1.0), "not reproduced"),
    "interval": (make("interval"), CELLS, "reproduced"),
    "interval, open above": (make("interval", upper=None), CELLS, "reproduced"),
    "interval, open below": (make("interval", lower=None), CELLS, "reproduced"),
    "interval, refuted": (make("interval", upper=0.55), CELLS, "not reproduced"),
    "interval, undecided": (make("interval", upper=0.6), CELLS, "inconclusive"),
    "interval, draws": (make("interval", rows="draws", by=[], upper=1.2), DRAWS, "reproduced"),
    "interval, draws refuted": (make("interval", rows="draws", by=[], upper=0.02), DRAWS, "not reproduced"),
    "value, draws": (make("value", rows="draws", paper_value=0.5), DRAWS, "inconclusive"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_verdict_flips(case: str) -> None:
    claim, records, word = CASES[case]
    assert evaluate(records, [claim], "smoke")[0].verdict == word
    assert flips(claim, records, "smoke")


@pytest.mark.parametrize("case", CASES)
def test_mutations_only_move_values(case: str) -> None:
    claim, records, _ = CASES[case]
    before = evaluate(records, [claim], "smoke")[0]
    for side in ("for", "against"):
        after = evaluate(mutate(claim, records, side), [claim], "smoke")[0]  # type: ignore[arg-type]
        assert len(after.comparisons) >= len([one for one in before.comparisons if one["role"] == "premise"])
        assert after.n >= max(before.n, claim.min_seeds)


def test_the_shift_is_as_small_as_the_rule_is_sharp() -> None:
    """A mutation of a mile would not notice a band of twice its width."""
    claim = make("value")
    against = mutate(claim, values([3.04]), "against")
    assert against["value"].item() == pytest.approx(3.05, abs=1e-4)
    identity = mutate(make("identity"), values([0.0]), "against")
    assert identity["value"].item() == pytest.approx(1e-12, rel=1e-9)
    records = grid(BETTER)
    shifted = mutate(make("direction"), records, "against")
    moved = (shifted["value"] - records["value"])[records["schedule"] == "uba"]
    assert moved.max() < 3.0 + 0.3 + 0.3  # the larger gap, the margin, and the width of an interval


@pytest.mark.parametrize("kind", ["identity", "value", "direction", "ordering", "slope", "interval"])
@pytest.mark.parametrize("stuck", ["reproduced", "not reproduced", "inconclusive"])
def test_a_verdict_that_ignores_the_records_is_caught(kind: str, stuck: str, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, records, _ = CASES[kind if kind != "slope" else "slope, positive"]
    genuine = evaluate(records, [claim], "smoke")
    frozen = [type(genuine[0])(**{**vars(genuine[0]), "verdict": stuck})]
    monkeypatch.setattr(module, "evaluate", lambda *_: frozen)
    assert not flips(claim, records, "smoke")


def test_a_claim_that_cannot_fail_is_caught() -> None:
    never = make("slope", method="spearman", claimed="at_most", bound=1.0)
    assert evaluate(curve(1.0), [never], "smoke")[0].verdict == "reproduced"
    assert not flips(never, curve(1.0), "smoke")


def test_a_claim_whose_baseline_was_never_run_is_caught() -> None:
    records = grid(BETTER)
    assert not flips(make("direction"), records[records["schedule"] != "step"], "smoke")


def test_what_is_not_attempted_has_nothing_to_shift() -> None:
    with pytest.raises(ValueError, match=r"'T1' is not attempted \(no data\)"):
        flips(make("identity", quantity="other"), values([0.0]), "smoke")

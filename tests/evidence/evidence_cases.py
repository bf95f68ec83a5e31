"""Claims and records that several test modules of this room use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import yaml

from replication.evidence import Outcome, PaperClaims, Test, parse_claims, tidy
from replication.evidence.samples import samples
from replication.evidence.verdicts import answer

COMMON: dict[str, Any] = {
    "id": "T1",
    "asks": "Does something hold?",
    "notebook": "10_test",
    "quantity": "error",
    "effect": 0.5,
    "spread": 0.1,
    "at": ["smoke", "standard", "paper"],
}
FIELDS: dict[str, dict[str, Any]] = {
    "identity": {"comparison": "identity", "tolerance": 1e-12, "tolerance_reason": "rounding"},
    "value": {"comparison": "value", "paper_value": 3.0, "paper_precision": 0.05, "exact": True},
    "direction": {
        "comparison": "direction",
        "factor": "schedule",
        "ours": "uba",
        "baselines": ["linear", "step"],
        "direction": "lower",
        "by": ["budget"],
        "margin": 0.3,
        "effect": -1.0,
        "min_seeds": 5,
    },
    "every": {
        "comparison": "direction",
        "factor": "schedule",
        "ours": "uba",
        "baselines": ["linear", "step"],
        "direction": "lower",
        "by": ["budget"],
        "every": True,
        "decisive": ["linear"],
        "margin": 0.3,
        "effect": -1.0,
        "min_seeds": 5,
    },
    "slope": {"comparison": "slope", "x": "budget", "method": "linear", "claimed": "positive", "min_seeds": 3},
    "interval": {
        "comparison": "interval",
        "lower": 0.0,
        "upper": 1.0,
        "by": ["budget"],
        "every": True,
        "min_seeds": 3,
    },
}


def entry(kind: str, **changes: Any) -> dict[str, Any]:
    """The fields of a valid test of a kind, as its file has them, with some changed."""
    return {**COMMON, **FIELDS[kind], **changes}


def content(*tests: dict[str, Any], **top: Any) -> dict[str, Any]:
    """A claims file of one claim with these tests."""
    claim = {"id": "C1", "says": "Something holds.", "source": "abstract", "read": "paper", "tests": list(tests)}
    quantities = {"error": {"label": "error", "unit": "%"}, "seconds": {"label": "time", "unit": "s", "volatile": True}}
    return {
        "paper": "test",
        "title": "A title",
        "citation": "A citation",
        "quantities": quantities,
        "claims": [claim],
        **top,
    }


def paper(*tests: dict[str, Any], **top: Any) -> PaperClaims:
    """The claims of a paper with one claim and these tests."""
    return parse_claims(yaml.safe_dump(content(*tests, **top)), "claims.yaml")


def make(kind: str, **changes: Any) -> Test:
    """A valid test of a kind, with some fields changed."""
    return paper(entry(kind, **changes)).tests[0]


def ask(records: pd.DataFrame, kind: str, **changes: Any) -> Outcome:
    """The answer to a test of a kind, with some fields changed."""
    test = make(kind, **changes)
    return answer(test, samples(records, test))


def values(numbers: Iterable[float], **factors: Any) -> pd.DataFrame:
    """Records with a seed each."""
    return tidy([{"quantity": "error", "seed": s, "value": v, **factors} for s, v in enumerate(numbers)])


def grid(
    mean: Mapping[str, float] | Callable[[str, int], float],
    *,
    noise: float = 0.1,
    seeds: int = 10,
    budgets: Iterable[int] = (25, 50),
    rng: int = 0,
) -> pd.DataFrame:
    """Records of a schedule × budget × seed design with a common effect per seed, which pairing removes."""
    generator = np.random.default_rng(rng)
    shared = generator.normal(0, 5, seeds)
    level = mean if callable(mean) else lambda schedule, budget: mean[schedule]
    names = ("uba", "linear", "step")
    return tidy(
        [
            {
                "quantity": "error",
                "schedule": schedule,
                "budget": budget,
                "seed": seed,
                "value": level(schedule, budget) + shared[seed] + generator.normal(0, noise),
            }
            for schedule in names
            for budget in budgets
            for seed in range(seeds)
        ]
    )

"""Claims and records that several test modules of this room use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from replication.evidence import Claim, parse_claim, tidy

COMMON: dict[str, Any] = {
    "id": "T1",
    "statement": "Something holds.",
    "notebook": "10_test",
    "source": {"kind": "abstract", "where": "", "verified": True},
    "quantity": "error",
    "scale": "smoke",
    "profiles": ["smoke", "standard", "paper"],
    "decision": "the rule in words",
}
FIELDS: dict[str, dict[str, Any]] = {
    "identity": {"comparison": "identity", "tolerance": 1e-12, "tolerance_reason": "rounding"},
    "value": {"comparison": "value", "paper_value": 3.0, "paper_precision": 0.05},
    "direction": {
        "comparison": "direction",
        "factor": "schedule",
        "ours": "uba",
        "baselines": ["linear", "step"],
        "direction": "lower",
        "by": ["budget"],
        "margin": 0.3,
        "decisive": ["linear"],
        "min_seeds": 5,
    },
    "ordering": {
        "comparison": "ordering",
        "factor": "schedule",
        "order": ["uba", "linear", "step"],
        "by": ["budget"],
        "min_seeds": 5,
    },
    "slope": {"comparison": "slope", "x": "budget", "method": "linear", "claimed": "positive", "min_seeds": 3},
    "interval": {"comparison": "interval", "lower": 0.0, "upper": 1.0, "by": ["budget"], "min_seeds": 3},
}


def make(kind: str, **changes: Any) -> Claim:
    """A valid claim of a kind, with some fields changed."""
    return parse_claim({**COMMON, **FIELDS[kind], **changes})


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

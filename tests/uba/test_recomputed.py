"""The pooled contrasts of the published pages, computed again from their records with pandas and scipy alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from replication.evidence import load_records

RESULTS = Path(__file__).parents[2] / "results"
CONTRASTS = {
    "11_uba_vision": ("U3", "test_error", "uba 5", {"optimizer": "sgd"}),
    "12_uba_language": ("U4", "test_bits_per_byte", "uba 0.5", {}),
}
FILES = [path for name in CONTRASTS for path in sorted(RESULTS.glob(f"*/{name}.json"))]


def pooled(records, quantity, ours, where):
    """UBA minus the mean of cosine and linear over the budgets, with its 95 % interval."""
    for column, level in where.items():
        records = records[(records[column] == level)]

    def table(name, *columns):
        rows = records[(records["quantity"] == name) & records["schedule"].isin([ours, "cosine", "linear"])]
        return rows.pivot_table(index=list(columns), columns="schedule", values="value")

    def contrast(scores):
        return scores[ours] - scores[["cosine", "linear"]].mean(axis=1)

    seeds = contrast(table(quantity, "budget", "seed")).groupby("seed").mean()
    parts = [(seeds.var() / len(seeds), len(seeds) - 1)]
    tuning, tests = (table(name, "budget", "peak", "seed") for name in ("tuning_score", f"{quantity}_at"))
    budgets = tuning.index.unique("budget")
    for budget in budgets:
        scores = {name: tuning.loc[budget].pivot_table(index="peak", columns="seed", values=name) for name in tuning}
        m = len(tuning.index.unique("seed"))
        drawn = []
        for draw in itertools.product(range(m), repeat=m):
            best = {name: of.iloc[:, list(draw)].mean(axis=1).round(9).idxmin() for name, of in scores.items()}
            drawn.append({name: tests.loc[budget, peak][name].mean() for name, peak in best.items()})
        variance = contrast(pd.DataFrame(drawn)).var(ddof=0) * m / (m - 1) / len(budgets) ** 2
        parts += [(variance, m - 1)] if variance > 0 else []
    total = sum(variance for variance, _ in parts)
    # Welch and Satterthwaite
    freedom = total**2 / sum(variance**2 / of for variance, of in parts)
    return seeds.mean(), seeds.mean() + np.array([-1, 1]) * stats.t.ppf(0.975, freedom) * total**0.5


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_pooled_contrast_follows_from_the_records(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    test, *asked = CONTRASTS[path.stem]
    (outcome,) = (of for of in stored["tests"] if of["test_id"] == test)
    estimate, interval = pooled(load_records(stored["records"]), *asked)
    assert estimate == pytest.approx(outcome["estimate"], rel=1e-9)
    assert interval == pytest.approx([outcome["low"], outcome["high"]], rel=1e-6)


def test_there_is_something_to_recompute():
    assert {path.stem for path in FILES} == set(CONTRASTS)

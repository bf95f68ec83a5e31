"""The contrasts of the published pre-training page, computed again from its records with pandas and scipy alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from replication.evidence import load_records

FILES = sorted((Path(__file__).parents[2] / "results").glob("*/31_disf_pretraining.json"))


def contrast(records, baseline):
    """DiSF minus a baseline, paired by seed, with the 95 % interval that carries the choice of the peaks."""
    rows = records[records["view"] == "main"]

    def table(quantity, *columns):
        of = rows[(rows["quantity"] == quantity) & rows["method"].isin(["disf", baseline])]
        return of.pivot_table(index=list(columns), columns="method", values="value")

    macro = table("macro_bits_per_byte", "seed").dropna()
    seeds = macro["disf"] - macro[baseline]
    parts = [(seeds.var() / len(seeds), len(seeds) - 1)]
    scores, tests = table("tuning_score", "peak", "seed"), table("macro_at", "peak", "seed")
    m = len(scores.index.unique("seed"))
    drawn = []
    for draw in itertools.product(range(m), repeat=m):
        taken = {}
        for method in ("disf", baseline):
            tuned = (
                scores.dropna(subset=method)
                .pivot_table(index="peak", columns="seed", values=method)
                .iloc[:, list(draw)]
            )
            best = tuned.mean(axis=1).round(9).idxmin()
            taken[method] = tests[method].loc[best].mean()
        drawn.append(taken["disf"] - taken[baseline])
    variance = np.var(drawn) * m / (m - 1)
    parts += [(variance, m - 1)] if variance > 0 else []
    total = sum(variance for variance, _ in parts)
    # Welch and Satterthwaite
    freedom = total**2 / sum(variance**2 / of for variance, of in parts)
    return seeds.mean(), seeds.mean() + np.array([-1, 1]) * stats.t.ppf(0.975, freedom) * total**0.5


@pytest.fixture(params=FILES, ids=lambda path: path.parent.name)
def published(request):
    stored = json.loads(request.param.read_text(encoding="utf-8"))
    return {of["test_id"]: of for of in stored["tests"]}, load_records(stored["records"])


@pytest.mark.parametrize(("test", "baseline"), [("D3", "random"), ("D5", "full")])
def test_the_contrasts_follow_from_the_records(published, test, baseline):
    outcomes, records = published
    estimate, interval = contrast(records, baseline)
    assert estimate == pytest.approx(outcomes[test]["estimate"], rel=1e-9)
    assert interval == pytest.approx([outcomes[test]["low"], outcomes[test]["high"]], rel=1e-6)


def test_the_share_of_the_gap_is_that_of_the_means(published):
    """The middle of the resamples is near the ratio of the means over the seeds."""
    outcomes, records = published
    rows = records[(records["quantity"] == "macro_bits_per_byte") & (records["view"] == "main")]
    means = rows.pivot_table(index="seed", columns="method", values="value")[["disf", "random", "full"]].dropna().mean()
    share = (means["random"] - means["disf"]) / (means["random"] - means["full"])
    draws = records[records["quantity"] == "share_of_gap"]["value"]
    assert draws.quantile(0.025) < share < draws.quantile(0.975)
    ends = outcomes["D5-half"]
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([ends["low"], ends["high"]], rel=0.05, abs=0.02)


def test_there_is_something_to_recompute():
    assert FILES

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evidence_cases import grid, make
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from replication.evidence import (
    bootstrap_interval,
    equivalent,
    evaluate,
    holm,
    mean_interval,
    paired_difference,
    percentile_interval,
    slope,
)

finite = st.floats(-1e6, 1e6)


def within(hits: int, trials: int, nominal: float) -> bool:
    """Whether a simulated rate agrees with the nominal one to three standard errors."""
    return abs(hits / trials - nominal) <= 3 * math.sqrt(nominal * (1 - nominal) / trials)


def test_the_mean_interval_is_scipys() -> None:
    x = np.random.default_rng(0).normal(1, 2, 9)
    found, theirs = mean_interval(x), stats.ttest_1samp(x, 0)
    interval = theirs.confidence_interval(0.95)
    assert (found.estimate, found.n) == (pytest.approx(x.mean()), 9)
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, theirs.pvalue), rel=1e-12)
    narrow = mean_interval(x, level=0.90)
    assert (narrow.low, narrow.high) == pytest.approx(tuple(theirs.confidence_interval(0.90)), rel=1e-12)


@pytest.mark.parametrize(("n", "level"), [(3, 0.95), (10, 0.95), (10, 0.90)])
def test_t_intervals_cover_at_their_nominal_rate(n: int, level: float) -> None:
    samples = np.random.default_rng(n).normal(1.5, 3.0, (3000, n))
    intervals = [mean_interval(x, level=level) for x in samples]
    assert within(sum(i.low <= 1.5 <= i.high for i in intervals), 3000, level)


@pytest.mark.filterwarnings("error")
def test_bootstrap_intervals_cover_at_their_nominal_rate() -> None:
    rng = np.random.default_rng(1)
    # the mean of a normal sample: a bootstrap's t-free interval is short by about 1 % at n = 60, so allow for that
    truth, hits, trials = 2.0, 0, 500
    for _ in range(trials):
        found = bootstrap_interval(rng.normal(truth, 1.0, 60), np.mean, rng=rng, resamples=600)
        hits += found.low <= truth <= found.high
    assert 0.94 - 3 * math.sqrt(0.94 * 0.06 / trials) <= hits / trials <= 0.95 + 3 * math.sqrt(0.95 * 0.05 / trials)


def test_the_bootstrap_estimates_the_statistic_it_is_given() -> None:
    x = [0.0, 1.0, 2.0, 3.0, 100.0]
    found = bootstrap_interval(x, np.median, rng=np.random.default_rng(0))
    again = bootstrap_interval(x[::-1], np.median, rng=np.random.default_rng(0))
    assert found.estimate == 2.0
    assert found == again
    assert found.low <= 2.0 < found.high
    assert found.p is None


@given(st.lists(finite, min_size=2, max_size=8), st.randoms())
def test_the_order_of_values_changes_no_bit(x: list[float], random: Any) -> None:
    shuffled = list(x)
    random.shuffle(shuffled)
    assert mean_interval(shuffled) == mean_interval(x)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("value", "p"), [(0.1, 0.0), (0.0, 1.0), (-3.0, 0.0)])
def test_equal_values_give_a_point(value: float, p: float) -> None:
    found = mean_interval([value] * 3)
    assert (found.estimate, found.low, found.high, found.p) == (value, value, value, p)
    assert mean_interval([value]).p is None


@pytest.mark.parametrize(
    ("values", "level", "says"),
    [([], 0.95, "there are none"), ([1.0, math.nan], 0.95, "1 of 2 are not finite"), ([1.0], 1.0, "level")],
)
def test_bad_samples_are_refused(values: list[float], level: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mean_interval(values, level=level)


def test_pairing_removes_what_the_arms_share() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 10, 12)
    ours = pd.Series(shared - 0.5 + rng.normal(0, 0.1, 12))
    baseline = pd.Series(shared + rng.normal(0, 0.1, 12))
    paired = paired_difference(ours, baseline)
    assert paired.p is not None
    assert paired.p == pytest.approx(stats.ttest_rel(ours, baseline).pvalue, rel=1e-9)
    assert paired.p < 1e-6
    assert stats.ttest_ind(ours, baseline).pvalue > 0.5


def test_pairing_is_by_unit_and_not_by_position() -> None:
    ours = {0: 1.0, 1: 20.0, 2: 300.0}
    baseline = {2: 299.0, 0: 0.0, 1: 19.0}
    assert paired_difference(ours, baseline).differences == (1.0, 1.0, 1.0)
    partial = paired_difference(ours, {2: 299.0, 7: 5.0})
    assert (partial.n, partial.left_out, partial.estimate) == (1, 3, 1.0)


def test_arms_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="no common unit"):
        paired_difference({0: 1.0}, {1: 1.0})
    with pytest.raises(ValueError, match="ours: the unit 0 stands twice"):
        paired_difference(pd.Series([1.0, 2.0], index=[0, 0]), {0: 1.0})
    with pytest.raises(ValueError, match="not finite"):
        paired_difference({0: math.inf, 1: 1.0}, {0: 1.0, 1: 1.0})
    with pytest.raises(ValueError, match="rng"):
        paired_difference({0: 1.0}, {0: 1.0}, statistic=np.median)


def test_a_paired_median_uses_the_bootstrap() -> None:
    ours = dict(enumerate([1.0, 2.0, 3.0, 4.0, 90.0]))
    found = paired_difference(ours, dict.fromkeys(ours, 0.0), statistic=np.median, rng=np.random.default_rng(0))
    assert found.estimate == 3.0
    assert found.p is None


def test_holm_by_hand_and_by_statsmodels() -> None:
    # sorted: .005·4, .01·3, .03·2, .04·1, then made monotone
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(3).uniform(size=20)
    assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]))
    assert holm([]) == []


def test_the_family_wise_error_under_the_null_is_at_most_five_percent() -> None:
    claim = make("direction", margin=0.0, decisive=None)
    trials = 300
    false = sum(
        any(one["state"] in ("better", "worse") for one in evaluate(records, [claim], "smoke")[0].comparisons)
        for records in (grid(dict.fromkeys(("uba", "linear", "step"), 0.0), seeds=6, rng=k) for k in range(trials))
    )
    assert false / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert false > 0


def test_equivalence_is_the_ninety_percent_interval_inside_the_margin() -> None:
    x = np.random.default_rng(4).normal(0.1, 1.0, 40)
    narrow, wide = mean_interval(x, level=0.90), mean_interval(x)
    reach = max(abs(narrow.low), abs(narrow.high))
    assert equivalent(x, reach * 1.0001)
    assert not equivalent(x, reach * 0.9999)
    # a margin between the two intervals tells 90 % from 95 %
    assert equivalent(x, (reach + max(abs(wide.low), abs(wide.high))) / 2)
    assert not equivalent([0.0], 1.0)


def test_equivalence_errs_at_most_at_its_level() -> None:
    # the true mean stands on the margin: the worst case of the null
    samples = np.random.default_rng(5).normal(1.0, 1.0, (2000, 20))
    assert within(sum(equivalent(x, 1.0) for x in samples), 2000, 0.05)


@given(st.floats(-3, 3), st.floats(-5, 5))
def test_slopes_recover_what_was_planted(b: float, a: float) -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert slope(x, a + b * x, "linear") == pytest.approx(b, abs=1e-9)
    assert slope(x, math.exp(a) * x**b, "loglog") == pytest.approx(b, abs=1e-9)
    assert slope(x, np.exp(x / 3), "spearman") == pytest.approx(1.0)
    assert slope(x, -(x**3), "spearman") == pytest.approx(-1.0)


@pytest.mark.filterwarnings("error")
def test_slopes_that_do_not_exist() -> None:
    assert slope([1, 2, 3], [5, 5, 5], "spearman") == 0.0
    assert slope([1, 2, 3], [5, 5, 5], "linear") == 0.0
    assert math.isnan(slope([1, 1], [1, 2], "linear"))
    assert math.isnan(slope([1, 2], [1, math.nan], "spearman"))
    assert math.isnan(slope([1, 2], [0, 1], "loglog"))


def test_the_percentile_interval_is_numpys_and_does_not_narrow_with_more_draws() -> None:
    draws = np.random.default_rng(0).lognormal(size=4001)
    found = percentile_interval(draws[::-1])
    assert (found.low, found.estimate, found.high) == tuple(np.quantile(draws, [0.025, 0.5, 0.975]))
    assert (found.n, found.p) == (4001, None)
    twice = percentile_interval(np.concatenate([draws, draws]))
    assert twice.half_width == pytest.approx(found.half_width, rel=0.01)
    assert mean_interval(draws).half_width < found.half_width / 10
    with pytest.raises(ValueError, match="1 of 2 are not finite"):
        percentile_interval([1.0, np.nan])

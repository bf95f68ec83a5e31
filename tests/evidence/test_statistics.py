from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from replication.evidence import mean_interval, percentile_interval, slope
from replication.evidence.statistics import Draws, Mean, holm, mean_of

finite = st.floats(-1e6, 1e6)


def within(hits: int, trials: int, nominal: float) -> bool:
    """Whether a simulated rate agrees with the nominal one to three standard errors."""
    return abs(hits / trials - nominal) <= 3 * math.sqrt(nominal * (1 - nominal) / trials)


def test_the_mean_interval_is_scipys() -> None:
    x = np.random.default_rng(0).normal(1, 2, 9)
    found, theirs = mean_interval(x), stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (found.estimate, found.n) == (pytest.approx(x.mean()), 9)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    narrow = mean_of(x).interval(0.90)
    theirs = stats.ttest_1samp(x, 0).confidence_interval(0.90)
    assert (narrow.low, narrow.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_one_sided_p_values_are_scipys_and_two_of_them_are_statsmodels_tost() -> None:
    x = np.random.default_rng(1).normal(0.1, 1, 30)
    found = mean_of(x)
    above = stats.ttest_1samp(x, -0.5, alternative="greater").pvalue
    below = stats.ttest_1samp(x, 0.5, alternative="less").pvalue
    assert (found.p_above(-0.5), found.p_below(0.5)) == pytest.approx((above, below), rel=1e-9)
    assert max(found.p_above(-0.5), found.p_below(0.5)) == pytest.approx(ttost_paired(x, 0 * x, -0.5, 0.5)[0], rel=1e-9)


def test_two_independent_parts_give_welchs_interval() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 8), rng.normal(0, 5, 20)
    parts = tuple((float(x.var(ddof=1)) / len(x), len(x) - 1) for x in (a, b))
    found = Mean(float(a.mean() - b.mean()), 8, parts)
    theirs = stats.ttest_ind(a, b, equal_var=False)
    assert found.freedom == pytest.approx(theirs.df)
    assert found.p_above(0) == pytest.approx(stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue)
    interval = theirs.confidence_interval()
    assert (found.interval().low, found.interval().high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("n", "level"), [(3, 0.95), (10, 0.95), (10, 0.90)])
def test_t_intervals_cover_at_their_nominal_rate(n: int, level: float) -> None:
    samples = np.random.default_rng(n).normal(1.5, 3.0, (3000, n))
    intervals = [mean_of(x).interval(level) for x in samples]
    assert within(sum(i.low <= 1.5 <= i.high for i in intervals), 3000, level)


def test_what_is_visible_is_seen_in_four_of_five_runs() -> None:
    rng = np.random.default_rng(3)
    effect = float(np.mean([mean_of(x).visible() for x in rng.normal(0, 1, (200, 12))]))
    seen = sum(mean_of(x).p_above(0) <= 0.025 for x in rng.normal(effect, 1, (2000, 12)))
    assert seen / 2000 == pytest.approx(0.8, abs=0.04)


@settings(deadline=None)
@given(st.lists(finite, min_size=2, max_size=8), st.randoms())
def test_the_order_of_values_changes_no_bit(x: list[float], random: Any) -> None:
    shuffled = list(x)
    random.shuffle(shuffled)
    assert mean_interval(shuffled) == mean_interval(x)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.1, 0.0, -3.0])
def test_equal_values_give_a_point_that_is_on_its_own_bound(value: float) -> None:
    found = mean_of([value] * 3)
    interval = found.interval()
    assert (interval.estimate, interval.low, interval.high, found.visible()) == (value, value, value, 0.0)
    assert (found.p_above(value), found.p_below(value)) == (0.0, 0.0)
    assert (found.p_above(value + 1e-9), found.p_below(value - 1e-9)) == (1.0, 1.0)


@pytest.mark.parametrize(("values", "says"), [([], "there are none"), ([1.0, math.nan], "1 of 2 are not finite")])
def test_bad_samples_are_refused(values: list[float], says: str) -> None:
    for interval in (mean_interval, percentile_interval):
        with pytest.raises(ValueError, match=says):
            interval(values)


def test_draws_speak_by_their_shares() -> None:
    draws = Draws(np.sort(np.arange(1000.0)))
    assert (draws.p_above(25.0), draws.p_below(899.0)) == (0.025, 0.1)
    assert (draws.value, draws.n) == (499.5, 1000)
    interval = draws.interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((49.95, 949.05))


def test_more_draws_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    found = [percentile_interval(rng.normal(0, 1, n)) for n in (500, 50000)]
    few, many = ((interval.high - interval.low) / 2 for interval in found)
    assert few == pytest.approx(many, rel=0.15)
    assert many == pytest.approx(1.96, rel=0.03)


def test_holm_by_hand_and_by_statsmodels() -> None:
    # sorted: .005·4, .01·3, .03·2, .04·1, then made monotone
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(3).uniform(size=20)
    assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]))
    assert holm([]) == []


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

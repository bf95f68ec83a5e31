"""The benchmark gap of the figures: every printed column, half widths, and the test with another ceiling."""

from __future__ import annotations

import pytest
from meek_targets import TARGETS, all_printed, printed
from scipy.optimize import brentq

from replication.meek.benchmark import PAPER, Sigmoid, peak_score_gap, score_gap
from replication.meek.gap import C0, Growth
from replication.meek.law import PAPER as LAW

CASE = TARGETS["benchmark gap"]


@pytest.mark.parametrize("n", CASE["steps"])
def test_gap_in_points(n):
    row = CASE["steps"][n]
    peak = peak_score_gap(n=int(n))
    assert 100 * peak.gap == printed(row["peak"])
    assert peak.time == pytest.approx(float(row["time"]), abs=0.02)  # these were read off a grid
    assert (100 * score_gap(CASE["years"], n=int(n))).tolist() == all_printed(row["gaps"])
    # the years between which the gap exceeds half its peak
    half = [
        brentq(lambda t: float(score_gap(t, n=int(n))) - peak.gap / 2, *sides)
        for sides in ((0.0, peak.time), (peak.time, 20.0))
    ]
    assert half == all_printed(row["above half"])


@pytest.mark.parametrize("year", CASE["accuracy"])
def test_accuracy_of_leader_and_meek(year):
    growth, t = Growth(), float(year)
    scores = [100 * float(PAPER(LAW.loss(C0 * factor**t))) for factor in (growth.sota, growth.meek)]
    assert scores == all_printed(CASE["accuracy"][year])


def test_constants_before_rounding():
    case = CASE["unrounded"]
    sigmoid = Sigmoid(*(case[name] for name in ("A", "k", "x0", "b")))
    for n, (points, year) in case["steps"].items():
        peak = peak_score_gap(sigmoid, n=int(n))
        assert [100 * peak.gap, peak.time] == all_printed([points, year])


def test_with_a_ceiling_of_one_steps_amplify_the_gap():
    sigmoid = PAPER.with_ceiling(1.0)
    assert sigmoid.A == 0.75
    for n, (points, year) in CASE["ceiling 1"].items():
        peak = peak_score_gap(sigmoid, n=int(n))
        assert [100 * peak.gap, peak.time] == all_printed([points, year])


def test_ceilings():
    assert PAPER.ceiling == printed("0.80")

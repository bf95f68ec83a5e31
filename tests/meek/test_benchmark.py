"""The sigmoid, its fit, and gaps over several steps; numbers of the paper's figure are in `test_benchmark_table`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from replication.meek.benchmark import NAMES, PAPER, Sigmoid, fit_sigmoid, multi_step_gap, peak_score_gap, score_gap
from replication.meek.gap import Growth
from replication.meek.law import PAPER as LAW

LOSSES = np.linspace(1.6, 2.6, 40)


def noisy(sigmoid: Sigmoid, seed: int, noise: float = 0.05) -> np.ndarray:
    return sigmoid(LOSSES) + noise * np.random.default_rng(seed).standard_normal(len(LOSSES))


def test_a_sigmoid_runs_from_ceiling_to_chance():
    assert PAPER([0.5, 1.97, 9.0]) == pytest.approx([0.8, 0.525, 0.25])
    assert float(PAPER.ceiling) == pytest.approx(0.8)
    assert PAPER(np.ones((2, 3))).shape == (2, 3)
    assert Sigmoid(0.5, [-10, -20], 2.0, 0.2)([1.5, 2.5]).shape == (2,)
    assert not np.isnan(PAPER([1e6, -1e6])).any()  # no overflow


def test_another_ceiling_keeps_the_rise():
    higher = PAPER.with_ceiling(1.0)
    assert (float(higher.ceiling), higher.k, higher.x0, higher.b) == (1.0, PAPER.k, PAPER.x0, PAPER.b)
    with pytest.raises(ValueError, match=r"ceiling: must be above the score of a very bad model, 0.25, got 0.2"):
        PAPER.with_ceiling(0.2)


@pytest.mark.parametrize(
    ("field", "value"), [("A", -0.5), ("A", 0.0), ("k", np.nan), ("x0", np.inf), ("b", np.nan), ("A", np.nan)]
)
def test_bad_parameters_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field}: must be"):
        Sigmoid(**{"A": 0.5, "k": -20.0, "x0": 2.0, "b": 0.25, field: value})
    with pytest.raises(ValueError, match="loss: must be finite"):
        PAPER([2.0, np.nan])


@example(A=0.3046875, k=-40.0, x0=2.15234375, b=0.0)  # one start leads to the far end of a flat curve
@given(
    A=st.floats(0.3, 0.75),
    k=st.floats(-40, -12),
    x0=st.floats(1.9, 2.2),
    b=st.floats(0.0, 0.3),
)
def test_planted_parameters_are_found(A, k, x0, b):
    planted = Sigmoid(A, k, x0, b)
    found = fit_sigmoid(LOSSES, planted(LOSSES))
    assert [getattr(found, name) for name in NAMES] == pytest.approx([A, k, x0, b], rel=1e-5, abs=1e-6)
    assert found.rmse < 1e-7
    assert found.r_squared == pytest.approx(1)


def test_the_fit_is_that_of_scipy_whatever_its_sign():
    for seed in range(20):
        scores = noisy(PAPER, seed)
        found = fit_sigmoid(LOSSES, scores)
        assert found.A > 0 > found.k
        start = (0.5, -20.0, 2.0, 0.25)
        other, covariance = curve_fit(lambda x, A, k, x0, b: A / (1 + np.exp(-k * (x - x0))) + b, LOSSES, scores, start)
        assert [getattr(found, name) for name in NAMES] == pytest.approx(other, rel=1e-4)
        assert list(found.errors.values()) == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-3)
        residuals = scores - found(LOSSES)
        assert found.rmse == pytest.approx(np.sqrt(np.mean(residuals**2)))
        assert found.r_squared == pytest.approx(1 - residuals.var() / scores.var(), abs=1e-4)


def test_a_mirrored_solution_is_turned_over(monkeypatch):
    """-A, -k and b + A draw the same curve; its errors must be those of the curve with A > 0."""
    scores = noisy(PAPER, 0)
    right = fit_sigmoid(LOSSES, scores)

    def mirrored(*args, **kwargs):
        (A, k, x0, b), covariance = curve_fit(*args, **kwargs)
        same = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]])
        return (
            (np.array([-A, -k, x0, b + A]), same @ covariance @ same.T)
            if A > 0
            else (np.array([A, k, x0, b]), covariance)
        )

    monkeypatch.setattr("scipy.optimize.curve_fit", mirrored)
    turned = fit_sigmoid(LOSSES, scores)
    assert [getattr(turned, name) for name in NAMES] == pytest.approx([getattr(right, name) for name in NAMES])
    assert turned.covariance == pytest.approx(right.covariance)


def test_intervals_cover_the_planted_parameters():
    covered = dict.fromkeys(NAMES, 0)
    for seed in range(200):
        found = fit_sigmoid(LOSSES, noisy(PAPER, seed))
        for name in NAMES:
            low, high = found.interval(name)
            covered[name] += low <= getattr(PAPER, name) <= high
    assert all(180 <= count <= 199 for count in covered.values())
    narrow, wide = (np.ptp(found.interval("k", level)) for level in (0.5, 0.95))
    assert narrow < wide / 2
    with pytest.raises(ValueError, match="name: must be one of A, k, x0, b, got 'kk'"):
        found.interval("kk")
    with pytest.raises(ValueError, match=r"^level: must lie in \(0, 1\), got 95$"):
        found.interval("k", 95)


@pytest.mark.parametrize(
    ("loss", "score", "message"),
    [
        ([], [], "loss: is empty"),
        ([1.0, 2, 3, 4, np.nan], [0.1, 0.2, 0.3, 0.4, 0.5], "loss: must be finite, got nan"),
        ([1.0, 2, 3, 4, 5], [0.1, 0.2, np.inf, 0.4, 0.5], "score: must be finite, got inf"),
        ([1.0, 2, 3, 4], [0.8, 0.7, 0.3, 0.2], "loss: 4 models do not determine 4 parameters and their errors; give 5"),
        ([1.0, 2, 3, 4, 5], [0.8, 0.7, 0.3], r"equally long, got shapes \(5,\) and \(3,\)"),
        ([2.0] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "loss: is the same for every model"),
        ([1.0, 2, 3, 4, 5], [0.5] * 5, "score: is the same for every model"),
    ],
)
def test_bad_data_are_named(loss, score, message):
    with pytest.raises(ValueError, match=message):
        fit_sigmoid(loss, score)


@pytest.mark.parametrize("scores", [0.9 - 0.05 * LOSSES, np.where(LOSSES < 2, 0.8, 0.3)], ids=["line", "jump"])
def test_data_without_a_sigmoid_are_refused(scores):
    """On a line the plateaus lie anywhere, and at a jump every steep slope fits."""
    with pytest.raises(ValueError, match="these 40 models do not determine a sigmoid"):
        fit_sigmoid(LOSSES, scores)


def test_steps_multiply():
    assert multi_step_gap(0.9, 0.5) == pytest.approx(0.4)
    assert multi_step_gap([0.9, 0.8], 0.5, 2) == pytest.approx([0.56, 0.39])
    assert multi_step_gap(0.8, 0.8, 7) == 0
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"^p_sota: must"):
            multi_step_gap(bad, 0.5)
        with pytest.raises(ValueError, match=r"^p_meek: must"):
            multi_step_gap(0.5, bad)
    with pytest.raises(ValueError, match=r"^n: must be positive"):
        multi_step_gap(0.5, 0.4, 0)


@given(meek=st.floats(0, 1), sota=st.floats(0, 1), n=st.integers(1, 50))
def test_the_gap_is_antisymmetric_and_at_most_one(meek, sota, n):
    gap = float(multi_step_gap(sota, meek, n))
    assert -1 <= gap <= 1
    assert gap == -float(multi_step_gap(meek, sota, n))
    assert (gap > 0) <= (sota > meek)


def test_a_score_beyond_its_range_counts_as_its_end():
    extrapolated = Sigmoid(3.0, -20.0, 1.9, -0.5)  # from -0.5 to 2.5
    t = np.linspace(0, 20, 50)
    leader, meek = (np.clip(extrapolated(LAW.loss(1e20 * g**t)), 0, 1) for g in (Growth().sota, Growth().meek))
    assert score_gap(t, extrapolated) == pytest.approx(leader - meek)
    assert peak_score_gap(extrapolated).gap <= 1


def test_the_peak_is_the_largest_gap():
    t = np.linspace(0, 50, 20001)
    for n in (1, 10):
        for growth in (Growth(), Growth(g_alg=1.5)):
            curve = score_gap(t, growth=growth, n=n)
            found = peak_score_gap(growth=growth, n=n)
            assert found.gap == pytest.approx(curve.max(), abs=1e-6)
            assert found.time == pytest.approx(t[curve.argmax()], abs=5e-3)
    assert score_gap(0.0) == 0


def test_a_head_start_is_the_leaders_alone():
    t = np.linspace(0, 20, 41)
    leader, meek = (PAPER(LAW.loss(C * g**t)) for C, g in ((1e22, Growth().sota), (1e20, Growth().meek)))
    np.testing.assert_allclose(score_gap(t, head_start=100.0), leader - meek, atol=1e-12)
    # in loss the gap only falls from so large a head start, in points it still rises
    assert 0 < peak_score_gap(head_start=100.0).time < peak_score_gap().time
    with pytest.raises(ValueError, match=r"^head_start: must be positive"):
        score_gap(1.0, head_start=0)
    for horizon in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"^horizon: must be positive"):
            peak_score_gap(horizon=horizon)

"""The sequential test: its formula and figures, the run against a plain loop and against Wald, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meek_targets import TARGETS, printed

from replication.meek.gap import peak_gap, time_below, training_gap
from replication.meek.sprt import drift_tokens, run_sprt, sprt_tokens

CASES = TARGETS["sequential test"]


@pytest.mark.parametrize("error", CASES["factor"])
def test_factor_of_the_formula(error):
    eps = float(error)
    assert sprt_tokens(1, eps) == printed(CASES["factor"][error])
    # the drift times the expected length is what Wald's boundaries are worth, with both errors eps
    assert sprt_tokens(1, eps) == pytest.approx((1 - eps) * np.log((1 - eps) / eps) + eps * np.log(eps / (1 - eps)))


@pytest.mark.parametrize("tokens", CASES["gap for"])
def test_tokens_over_the_gap(tokens):
    assert sprt_tokens(1, 0.05) / float(tokens) == printed(CASES["gap for"][tokens])


@pytest.mark.parametrize("year", CASES["tokens"])
def test_tokens_over_time(year):
    assert sprt_tokens(training_gap(float(year)), 0.05) == printed(CASES["tokens"][year])


def test_fewest_tokens_are_needed_at_the_peak():
    assert sprt_tokens(peak_gap(), 0.05) == printed(CASES["minimum"])
    assert sprt_tokens(peak_gap(), 0.05, 100) == printed(CASES["minimum of slowdown 100"])
    assert sprt_tokens(training_gap(np.linspace(0, 20, 500)), 0.05).min() >= sprt_tokens(peak_gap(), 0.05)


@pytest.mark.parametrize(
    "case", CASES["crossings"], ids=lambda case: f"{case['tokens']} tokens, s = {case['slowdown']}"
)
def test_when_more_tokens_than_a_line_are_needed(case):
    level = sprt_tokens(1, 0.05, case["slowdown"]) / case["tokens"]
    year = time_below(level)
    assert year == printed(case["time"])
    assert sprt_tokens(training_gap(year), 0.05, case["slowdown"]) == pytest.approx(case["tokens"])


@settings(deadline=None)
@given(st.floats(1e-6, 10), st.floats(1e-4, 0.499), st.floats(1, 100))
def test_tokens_scale_with_slowdown_and_fall_with_the_gap(delta, eps, s):
    assert sprt_tokens(delta, eps, s) == pytest.approx(s * float(sprt_tokens(delta, eps)), rel=1e-12)
    assert sprt_tokens(2 * delta, eps) == pytest.approx(float(sprt_tokens(delta, eps)) / 2, rel=1e-12)
    assert sprt_tokens(delta, eps) > sprt_tokens(delta, (eps + 0.5) / 2)


def test_no_gap_takes_for_ever():
    assert sprt_tokens([0, 1], 0.05).tolist() == [np.inf, pytest.approx(2.65, rel=1e-5)]


def test_broadcasts():
    gaps, errors, s = np.geomspace(0.01, 1, 4), np.array([[0.01], [0.1]]), np.array([1.0, 10]).reshape(2, 1, 1)
    table = sprt_tokens(gaps, errors, s)
    assert table.shape == (2, 2, 4)
    assert table[1, 0, 2] == sprt_tokens(gaps[2], 0.01, 10)


# --- the run ----------------------------------------------------------------------------------------------------------


def plain(ratios, error, start):
    """The test as one would write it down."""
    total, bound = 0.0, np.log((1 - error) / error)
    for read, ratio in enumerate(ratios[start:], 1):
        total += ratio
        if abs(total) >= bound:
            return read, total > 0
    return None


@pytest.mark.parametrize(("drift", "scale"), [(0.5, 1.0), (0.02, 0.2), (-0.02, 0.2), (0.003, 0.003)])
@pytest.mark.parametrize("error", [0.01, 0.05, 0.3])
def test_run_equals_a_plain_loop(drift, scale, error):
    """From two tokens to some hundreds: within a window of the search and over several of them."""
    ratios = np.random.default_rng(0).normal(drift, scale, 6000)
    starts = np.arange(0, 3000, 97)
    found = run_sprt(ratios, error, starts=starts)
    assert list(zip(found.tokens.tolist(), found.correct.tolist(), strict=True)) == [
        plain(ratios, error, start) for start in starts
    ]


def test_tests_keep_the_order_of_their_starts():
    ratios = np.repeat([1.0, -1.0], 50)
    found = run_sprt(ratios, 0.05, starts=[60, 0, 48])
    assert found.tokens.tolist() == [3, 3, 7]
    assert found.correct.tolist() == [False, True, False]


def test_the_boundary_itself_decides():
    bound = float(np.log(0.95 / 0.05))
    assert run_sprt([bound, 9.0], 0.05, starts=[0]).tokens.tolist() == [1]
    assert run_sprt([np.nextafter(bound, 0), 9.0], 0.05, starts=[0]).tokens.tolist() == [2]


def test_a_decision_at_the_last_token():
    """The text ends within the first window, and just behind a window's edge."""
    for length in (3, 64, 65, 320, 321):
        ratios = np.zeros(length)
        ratios[-1] = 5.0
        assert run_sprt(ratios, 0.05, starts=[0, length - 1]).tokens.tolist() == [length, 1]


def test_walds_expectation_and_error_rates():
    """Gaussian ratios of the better of two models have variance 2 mu; small steps leave little overshoot."""
    mu, eps, tests = 0.002, 0.05, 400
    expected = float(sprt_tokens(mu, eps))
    rng = np.random.default_rng(0)
    tokens, correct = [], []
    for _ in range(tests):
        found = run_sprt(rng.normal(mu, np.sqrt(2 * mu), 20_000), eps, starts=[0])
        tokens.append(found.tokens[0])
        correct.append(found.correct[0])
    error = np.std(tokens) / np.sqrt(tests)
    overshoot = 0.5826 * np.sqrt(2 * mu) / mu  # Siegmund: a walk of steps sigma passes a line by 0.58 sigma
    assert np.mean(tokens) == pytest.approx(expected + overshoot, abs=4 * error)
    assert 4 * error < expected / 4
    assert np.mean(correct) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / tests))


# --- walks that come from neither model -------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.floats(1e-4, 1), st.floats(1e-3, 0.4))
def test_drift_with_the_variance_of_the_better_model_is_wald(mu, eps):
    assert drift_tokens(mu, 2 * mu, eps) == pytest.approx(float(sprt_tokens(mu, eps)), rel=1e-9)


@settings(deadline=None)
@given(st.floats(1e-4, 1), st.floats(1e-3, 0.4))
def test_drift_alone_walks_straight_and_chance_alone_diffuses(mu, eps):
    bound = np.log((1 - eps) / eps)
    assert drift_tokens(mu, 1e-6 * mu, eps) == pytest.approx(bound / mu, rel=1e-9)
    assert drift_tokens(1e-9 * mu, mu, eps) == pytest.approx(bound**2 / mu, rel=1e-6)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, 0.5, -0.1, 1.0, np.nan])
def test_error_must_lie_between_zero_and_a_half(bad):
    message = r"^error: must lie in \(0, 0\.5\), got"
    for call in (
        lambda: sprt_tokens(1, bad),
        lambda: sprt_tokens(1, [0.1, bad]),
        lambda: run_sprt([1.0, 9.0], bad, starts=[0]),
        lambda: drift_tokens(1, 1, bad),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_gap_must_not_be_negative():
    with pytest.raises(
        ValueError, match=r"^delta_loss: must not be negative, got -0\.2; take the worse minus the better$"
    ):
        sprt_tokens([0.1, -0.2], 0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sprt_tokens(np.nan, 0.05), r"^delta_loss: must be finite, got nan$"),
        (lambda: sprt_tokens([], 0.05), r"^delta_loss: is empty$"),
        (lambda: sprt_tokens(1, 0.05, 0.5), r"^slowdown: must be at least 1, got 0\.5$"),
        (lambda: sprt_tokens(1, 0.05, 0), r"^slowdown: must be at least 1, got 0$"),
        (lambda: run_sprt([], 0.05, starts=[0]), r"^log_ratios: is empty$"),
        (lambda: run_sprt([1.0, np.nan], 0.05, starts=[0]), r"^log_ratios: must be finite, got nan$"),
        (lambda: run_sprt(np.ones((2, 3)), 0.05, starts=[0]), r"one-dimensional, got shape \(2, 3\)$"),
        (lambda: run_sprt([9.0], 0.05, starts=[-1]), r"^starts: must be tokens .* in \[0, 1\), got -1$"),
        (lambda: run_sprt([9.0], 0.05, starts=[0, 1]), r"^starts: must be tokens .* in \[0, 1\), got 1$"),
        (lambda: run_sprt([9.0, 9.0], 0.05, starts=[0.5]), r"^starts: must be .* whole numbers .* got 0\.5$"),
        (lambda: drift_tokens(0, 1, 0.05), r"^mean: must be positive"),
        (lambda: drift_tokens(1, -1, 0.05), r"^variance: must be positive"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("start", [51, 99])
def test_undecided_names_the_test(start):
    ratios = np.zeros(100)
    ratios[50] = 5.0
    assert run_sprt(ratios, 0.05, starts=[40]).tokens.tolist() == [11]
    with pytest.raises(
        ValueError, match=f"^starts: the test that begins at {start} reaches the end of 100 tokens undecided$"
    ):
        run_sprt(ratios, 0.05, starts=[40, start])

"""The theory's numbers: against brute force, against closed forms, and against values computed elsewhere."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from replication.uba import chebyshev_steps, theory, uba, worst_case_contraction
from replication.uba.baselines import factors


def log_worst(steps, kappa):
    return float(worst_case_contraction(steps, 1 / kappa, 1.0, log=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=6), st.floats(1.5, 100))
def test_worst_case_is_the_maximum_over_a_dense_grid(steps, kappa):
    grid = np.linspace(1 / kappa, 1, 20001)
    brute = np.abs(np.prod(1 - np.array(steps)[:, None] * grid, axis=0)).max()
    exact = float(worst_case_contraction(steps, 1 / kappa, 1.0))
    assert exact >= brute * (1 - 1e-12)
    assert exact == pytest.approx(brute, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("kappa", [2, 10, 50, 200])
@pytest.mark.parametrize("steps", [8, 32])
def test_phi_of_two_kappa_solves_the_minmax_problem(kappa, steps):
    nodes = np.arange(steps) + 0.5
    ours = uba(nodes, steps, 2 * kappa, peak=kappa, floor=1.0)
    np.testing.assert_allclose(ours, chebyshev_steps(1 / kappa, 1.0, steps), rtol=1e-12)
    assert log_worst(ours, kappa) == pytest.approx(theory.chebyshev_bound(1 / kappa, 1.0, steps, log=True), abs=1e-9)
    ratios = np.linspace(0.9, 1.1, 201)
    worst = worst_case_contraction(
        uba(nodes, steps, 2 * kappa * ratios[:, None], peak=kappa, floor=1.0), 1 / kappa, 1.0, log=True
    )
    assert 0.999 <= ratios[worst.argmin()] <= 1.004


def test_bound_is_the_classical_formula():
    bound = 1 / math.cosh(8 * math.acosh(11 / 9))
    assert theory.chebyshev_bound(0.1, 1.0, 8) == pytest.approx(bound, rel=1e-12)
    assert theory.chebyshev_bound(0.1, 1.0, 32, log=True) == pytest.approx(-20.264, abs=5e-4)


def test_numbers_of_the_minmax_problem():
    """kappa = 10, T = 32, computed independently: best constant step, cosine with the same ends, and other nodes."""
    assert log_worst(np.full(32, 2 / 1.1), 10) == pytest.approx(-6.42, abs=0.01)
    assert log_worst(uba(np.arange(32) + 0.5, 32, 2, peak=10, floor=1), 10) == pytest.approx(26.6, abs=0.05)
    assert log_worst(uba(np.arange(32), 32, 20, peak=10, floor=1), 10) == pytest.approx(-14.95, abs=0.01)
    assert log_worst(uba(np.arange(8), 8, 100, peak=50, floor=1), 50) == pytest.approx(3.15, abs=0.01)


@given(st.integers(1, 300))
def test_lebedev_order_is_a_permutation(steps):
    assert sorted(theory.lebedev_order(steps).tolist()) == list(range(steps))


def test_only_the_fractal_order_survives_rounding():
    kappa, steps = 50, 128
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((64, 64)))
    hessian = (basis * np.linspace(1 / kappa, 1, 64)) @ basis.T
    sizes = chebyshev_steps(1 / kappa, 1.0, steps)
    ends, peaks = {}, {}
    for name, order in (("decreasing", np.arange(steps)), ("fractal", theory.lebedev_order(steps))):
        w = np.ones(64) / 8
        norms = []
        for size in sizes[order]:
            w = w - size * (hessian @ w)
            norms.append(np.linalg.norm(w))
        ends[name], peaks[name] = norms[-1], max(norms)
    assert 1e30 < ends["decreasing"] < 1e36
    assert 1e46 < peaks["decreasing"] < 1e51
    assert ends["fractal"] < 1e-13
    assert peaks["fractal"] < 1e4


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (0.05, 2.153), (0.25, 2.061), (0.5, 2.042), (0.74, 2.038), (1, 2.040), (2, 2.062), (5, 2.136), (10, 2.236),
        ("linear", 2.003), ("rex", 2.022), ("step", 2.494), ("constant", 3.029),
    ],
)  # fmt: skip
def test_last_iterate_bound(schedule, expected):
    table = factors(schedule, 2000) if isinstance(schedule, str) else uba(np.arange(2000), 2000, schedule)
    assert float(theory.last_iterate_bound(table)) == pytest.approx(expected, abs=6e-4)


def test_quadratic_recursion_is_the_expectation_of_sgd():
    """Against 200,000 sampled runs of SGD itself."""
    eigenvalues, noise, peak, steps = np.array([0.2, 1.0]), 0.3, 0.7, 6
    table = uba(np.arange(steps), steps, 5.0)
    rng = np.random.default_rng(0)
    w = rng.choice([-1.0, 1.0], (200_000, 2))
    for factor in table:
        gradient = w * eigenvalues + rng.standard_normal(w.shape) * np.sqrt(noise * eigenvalues)
        w -= peak * factor * gradient
    sampled = 0.5 * (w**2 * eigenvalues).mean()
    exact = float(theory.quadratic_loss(table, peak, eigenvalues, noise).squeeze())
    assert exact == pytest.approx(sampled, rel=0.01)
    path = theory.quadratic_trajectory(table, peak, eigenvalues, noise)
    assert path.loss.squeeze()[-1] == exact
    assert path.gradient.squeeze()[-1] == pytest.approx((w**2 * eigenvalues**2).mean(), rel=0.01)
    assert path.loss.squeeze()[0] == pytest.approx(0.3)


PHIS = [0.02, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200]
PILOT = {
    (1e-3, 100): [(20, 0.86), (20, 0.79), (0.1, 0.43), (0.02, 0.55), (0.02, 0.61)],
    (1e-3, 400): [(50, 0.82), (100, 0.72), (5, 0.89), (0.05, 0.52), (0.05, 0.64)],
    (1e-3, 1600): [(50, 0.80), (200, 0.70), (100, 0.62), (1, 0.90), (0.1, 0.66)],
    (0.1, 100): [(10, 0.96), (20, 0.91), (10, 0.92), (5, 0.96), (5, 0.96)],
    (0.1, 400): [(20, 0.92), (50, 0.86), (20, 0.79), (10, 0.86), (10, 0.88)],
    (0.1, 1600): [(20, 0.89), (50, 0.81), (100, 0.69), (20, 0.74), (20, 0.79)],
}


@pytest.mark.parametrize("steps", [100, 400, 1600])
def test_best_phi_on_the_noisy_quadratic(steps):
    """A pilot computed elsewhere with the same grids: best φ and its loss over that of tuned cosine."""
    peaks = np.sort(np.append(np.geomspace(0.01, 1.95, 36), 1.0))
    table = np.stack([uba(np.arange(steps), steps, phi) for phi in PHIS])
    for column, kappa in enumerate([3, 10, 100, 1000, 10000]):
        losses = theory.quadratic_loss(table, peaks, np.geomspace(1 / kappa, 1, 64), [1e-3, 0.1]).min(axis=1)
        for row, noise in enumerate([1e-3, 0.1]):
            phi, ratio = PILOT[noise, steps][column]
            relative = losses[:, row] / losses[PHIS.index(2), row]
            # half of the last printed digit, and a little for the pilot's grid of peaks, known in words only
            assert relative.min() == pytest.approx(ratio, abs=0.006)
            assert relative[PHIS.index(phi)] == pytest.approx(relative.min(), rel=1e-3)


@pytest.mark.parametrize("phi", [0.5, 2.0, 10.0])
def test_stationarity_bound_is_the_sum_over_the_schedule(phi):
    """2 D0 / Σ η + L σ² Σ η² / Σ η, whose closed form holds for large T."""
    steps, peak, smoothness, variance, gap = 20000, 0.01, 2.0, 3.0, 0.7
    rates = peak * uba(np.arange(steps) + 0.5, steps, phi)
    expected = 2 * gap / rates.sum() + smoothness * variance * (rates**2).sum() / rates.sum()
    bound = theory.stationarity_bound(phi, steps, peak, smoothness=smoothness, variance=variance, gap=gap)
    assert float(bound) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: chebyshev_steps(0.0, 1.0, 8), "lambda_min"),
        (lambda: chebyshev_steps(2.0, 1.0, 8), "lambda_min"),
        (lambda: chebyshev_steps(0.1, math.inf, 8), "lambda_max"),
        (lambda: chebyshev_steps(0.1, 1.0, 0), "T"),
        (lambda: worst_case_contraction([math.nan], 0.1, 1.0), "steps"),
        (lambda: worst_case_contraction([-1.0], 0.1, 1.0), r"steps: must lie in \[0, inf\), got -1$"),
        (lambda: theory.quadratic_loss([1.0], -1.0, [1.0], 0.1), r"peaks: must lie in \[0, inf\), got -1$"),
        (lambda: theory.quadratic_loss([1.0], [], [1.0], 0.1), "peaks: is empty"),
        (lambda: theory.mean_factor(-1.0), "phi: must be at least 0, got -1"),
        (lambda: theory.mean_square_factor(math.nan), "phi: must be at least 0, got nan"),
        (lambda: theory.quadratic_loss([1.0], 1.0, [1.0, 2.0], 0.1, v0=[1.0, 1.0, 1.0]), "v0"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        call()


# --- the schedule's shape ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [0.05, 0.5, 1.0, 2.0, 5.0, 50.0])
def test_shape_formulas_are_those_of_the_curve(phi):
    assert float(theory.mean_factor(phi)) == pytest.approx(quad(lambda s: uba(s, 1, phi), 0, 1)[0], rel=1e-7)
    square = quad(lambda s: uba(s, 1, phi) ** 2, 0, 1)[0]
    assert float(theory.mean_square_factor(phi)) == pytest.approx(square, rel=1e-7)


def test_constant_schedule_is_the_limit_of_the_shape_formulas():
    assert float(theory.mean_factor(0)) == float(theory.mean_square_factor(0)) == 1


# --- the min-max problem ----------------------------------------------------------------------------------------------


@given(st.floats(1.01, 1e4), st.floats(1e-3, 1e3), st.integers(1, 200))
def test_chebyshev_steps_are_uba_on_any_spectrum(kappa, top, steps):
    low = top / kappa
    ours = uba(np.arange(steps) + 0.5, steps, 2 * top / low, peak=1 / low, floor=1 / top)
    np.testing.assert_allclose(chebyshev_steps(low, top, steps), ours, rtol=1e-9)


def test_chebyshev_steps_are_the_inverse_roots_of_the_chebyshev_polynomial():
    found = chebyshev_steps(0.2, 3.0, 9)
    roots = np.polynomial.chebyshev.Chebyshev.basis(9, domain=[0.2, 3.0]).roots()
    np.testing.assert_allclose(np.sort(1 / found), np.sort(roots), rtol=1e-10)
    assert (np.diff(found) < 0).all()


def test_no_constant_step_does_better_than_the_classical_one():
    constants = [log_worst(np.full(32, eta), 10) for eta in np.linspace(1.7, 1.95, 251)]
    assert min(constants) == pytest.approx(-6.42, abs=5e-3)
    assert log_worst(np.full(32, 2 / 1.1), 10) <= min(constants) + 1e-9


@pytest.mark.parametrize("kappa", [2, 10, 200])
def test_no_phi_far_from_two_kappa_comes_under_the_bound(kappa):
    ratios = np.geomspace(0.01, 100, 81)
    tables = uba(np.arange(16) + 0.5, 16, 2 * kappa * ratios[:, None], peak=kappa, floor=1)
    excess = worst_case_contraction(tables, 1 / kappa, 1, log=True)
    excess -= theory.chebyshev_bound(1 / kappa, 1, 16, log=True)
    assert ratios[excess.argmin()] == pytest.approx(1)
    assert (np.diff(excess)[:40] < 0).all()
    assert (np.diff(excess)[40:] > 0).all()


def test_bound_of_a_single_curvature_is_zero():
    assert theory.chebyshev_bound(1, 1, 3) == 0
    assert theory.chebyshev_bound(1, 1, 3, log=True) == -math.inf


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)))
def test_worst_case_does_not_depend_on_the_order(order):
    steps = chebyshev_steps(0.1, 1, 8)
    assert log_worst(steps[list(order)], 10) == pytest.approx(log_worst(steps, 10), abs=1e-9)


def test_worst_case_of_a_stack_is_that_of_its_rows():
    stack = np.random.default_rng(0).uniform(0, 3, (2, 3, 5))
    found = worst_case_contraction(stack, 0.1, 1)
    assert found.shape == (2, 3)
    for index in np.ndindex(2, 3):
        assert found[index] == pytest.approx(float(worst_case_contraction(stack[index], 0.1, 1)), rel=1e-12)


def test_worst_case_neither_overflows_nor_underflows_in_logarithms():
    assert log_worst(np.full(60, 1e15), 2) == pytest.approx(60 * math.log(1e15 - 1), rel=1e-12)
    assert log_worst(chebyshev_steps(0.5, 1, 500), 2) == pytest.approx(
        theory.chebyshev_bound(0.5, 1, 500, log=True), rel=1e-9
    )


# --- the order of the steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 4, 16, 128])
def test_lebedev_order_follows_each_step_by_its_mirror_image(steps):
    order = theory.lebedev_order(steps)
    assert (order[0::2] + order[1::2] == steps - 1).all()
    assert (order[0::2] == theory.lebedev_order(steps // 2)).all()


@pytest.mark.parametrize("steps", [3, 7, 31])
def test_lebedev_order_of_an_odd_number_starts_in_the_middle(steps):
    order = theory.lebedev_order(steps)
    assert order[0] == steps // 2
    assert (order[1::2] + order[2::2] == steps - 1).all()


@pytest.mark.parametrize("steps", [8, 31, 32, 48])
def test_lebedev_order_keeps_every_partial_product_below_the_condition_number(steps):
    sizes = chebyshev_steps(1 / 50, 1, steps)

    def peak(order) -> float:
        return max(log_worst(sizes[order][:k], 50) for k in range(1, steps + 1))

    assert peak(theory.lebedev_order(steps)) <= math.log(50)
    assert peak(np.arange(steps)) > 1.5 * math.log(50)


def test_decreasing_order_peaks_at_1e12_in_32_steps():
    sizes = chebyshev_steps(1 / 50, 1, 32)
    peak = max(log_worst(sizes[:k], 50) for k in range(1, 33))
    assert peak / math.log(10) == pytest.approx(12, abs=1)


# --- the last-iterate bound -------------------------------------------------------------------------------------------


def test_last_iterate_bound_of_the_best_phi_stays_behind_linear():
    phis = np.arange(50, 100) / 100
    bounds = theory.last_iterate_bound(uba(np.arange(2000), 2000, phis[:, None]))
    assert phis[bounds.argmin()] == pytest.approx(0.74, abs=0.011)
    assert bounds.min() == pytest.approx(2.038, abs=5e-4)
    assert bounds.min() > float(theory.last_iterate_bound(factors("linear", 2000)))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.integers(0, 3), st.floats(0.01, 100))
def test_last_iterate_bound_is_the_theorem_written_out(f, zeros, scale):
    """Steps of 0 at the end count in T only; the peak is tuned, so the scale does not matter."""
    inner = sum(x * x for x in f) / sum(f)
    for k in range(len(f) - 1):
        inner += f[k] / sum(f[k + 1 :]) * sum(x * x for x in f[k:]) / sum(f[k:])
    found = theory.last_iterate_bound([[scale * x for x in f] + [0.0] * zeros])
    assert found.shape == (1,)
    assert found[0] == pytest.approx(math.sqrt((len(f) + zeros) * inner / sum(f)), rel=1e-9)


# --- the noisy quadratic ----------------------------------------------------------------------------------------------


def test_quadratic_is_a_dense_covariance_recursion():
    """The whole second-moment matrix in a rotated basis, one schedule, peak and noise level at a time."""
    spectrum, v0 = np.array([0.05, 0.2, 0.6, 1.0]), np.array([1.0, 3.0, 0.5, 2.0])
    tables = np.stack([factors("uba", 9, phi=5.0), factors("rex", 9)])
    peaks, noises = np.array([0.3, 1.2, 1.9]), np.array([0.0, 0.2])
    basis, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))
    hessian = (basis * spectrum) @ basis.T
    path = theory.quadratic_trajectory(tables, peaks, spectrum, noises, v0)
    final = theory.quadratic_loss(tables, peaks, spectrum, noises, v0)
    assert path.loss.shape == path.gradient.shape == (2, 3, 2, 10)
    for s, p, n in np.ndindex(2, 3, 2):
        second = (basis * v0) @ basis.T
        for t in range(10):
            assert path.loss[s, p, n, t] == pytest.approx(0.5 * np.trace(hessian @ second) / 4, rel=1e-11)
            assert path.gradient[s, p, n, t] == pytest.approx(np.trace(hessian @ second @ hessian) / 4, rel=1e-11)
            if t < 9:
                eta = tables[s, t] * peaks[p]
                shrink = np.eye(4) - eta * hessian
                second = shrink @ second @ shrink.T + eta**2 * noises[n] * hessian
        assert final[s, p, n] == pytest.approx(path.loss[s, p, n, -1], rel=1e-14)


def test_quadratic_takes_one_row_of_peaks_per_schedule():
    tables, peaks = np.stack([factors("linear", 6), factors("rex", 6)]), np.array([[0.1, 0.5], [0.2, 0.9]])
    found = theory.quadratic_loss(tables, peaks, [0.1, 1.0], [0.1])
    for s, row in enumerate(peaks):
        np.testing.assert_allclose(found[s], theory.quadratic_loss(tables[s], row, [0.1, 1.0], [0.1])[0], rtol=1e-14)


def test_divergence_is_infinite_and_not_nan():
    assert theory.quadratic_loss(np.ones(2000), [50.0], [0.1, 1.0], [0.0, 1.0]).tolist() == [[[math.inf] * 2]]


def test_what_starts_at_the_minimum_without_noise_stays_there():
    """Also where the peak is too large for the curvature, and with noise it diverges."""
    assert theory.quadratic_loss(np.ones(2000), [50.0], [0.1, 1.0], [0.0, 1.0], v0=0).tolist() == [[[0, math.inf]]]
    slow = theory.quadratic_loss(np.ones(300), [50.0], [0.01, 1.0], 0.0, v0=[1.0, 0.0])
    assert slow.item() == pytest.approx(0.5 * 0.01 * 0.25**300 / 2, rel=1e-9, abs=0)
    path = theory.quadratic_trajectory(np.ones(2000), [50.0], [0.1, 1.0], [0.0], v0=0)
    assert (path.loss == 0).all()
    assert (path.gradient == 0).all()


def test_without_noise_the_smallest_phi_is_best():
    peaks = np.sort(np.append(np.geomspace(0.01, 1.95, 36), 1.0))
    for steps, kappa in itertools.product([100, 400], [3, 10, 100, 1000, 10000]):
        table = uba(np.arange(steps), steps, np.array(PHIS)[:, None])
        losses = theory.quadratic_loss(table, peaks, np.geomspace(1 / kappa, 1, 64), 0.0).min(axis=1)[:, 0]
        assert PHIS[losses.argmin()] in ((0.02, 0.05) if kappa == 3 else (0.02,))


def test_with_noise_phi_5_beats_tuned_cosine_and_one_half_loses():
    peaks, ratios = np.sort(np.append(np.geomspace(0.01, 1.95, 36), 1.0)), []
    for steps, kappa in itertools.product([100, 400, 1600], [10, 100, 1000, 10000]):
        table = uba(np.arange(steps), steps, np.array([[5.0], [0.5], [2.0]]))
        five, half, cosine = theory.quadratic_loss(table, peaks, np.geomspace(1 / kappa, 1, 64), 0.1).min(axis=1)[:, 0]
        ratios.append((five / cosine, half / cosine))
    (least, _), (most, _) = min(ratios), max(ratios)
    assert (least, most) == pytest.approx((0.87, 0.96), abs=0.0055)
    worse = [half for _, half in ratios]
    assert (min(worse), max(worse)) == pytest.approx((1.14, 1.26), abs=0.0055)


# --- the stationarity bound -------------------------------------------------------------------------------------------


def test_stationarity_bound_tuned_over_the_peak_is_smallest_for_small_phi():
    peaks, steps, gap, variance = np.geomspace(1e-4, 1, 4001), 10_000, 2.0, 0.5
    tuned = []
    for phi in (0.01, 0.5, 2.0, 8.0, 50.0):
        bounds = theory.stationarity_bound(phi, steps, peaks, smoothness=1.0, variance=variance, gap=gap)
        tuned.append(bounds.min())
        assert tuned[-1] == pytest.approx(2 * math.sqrt(gap * variance * (2 + math.sqrt(phi / 2)) / steps), rel=1e-4)
    assert tuned == sorted(tuned)


def test_stationarity_bound_holds_on_a_quadratic_with_known_constants():
    spectrum = np.geomspace(0.01, 1, 16)
    for phi, peak in itertools.product((0.05, 2.0, 20.0), (0.05, 1.0)):
        path = theory.quadratic_trajectory(uba(np.arange(400), 400, phi), peak, spectrum, 0.3)
        constants = {"variance": 0.3 * spectrum.mean(), "gap": path.loss.ravel()[0]}
        bound = theory.stationarity_bound(phi, 400, peak, smoothness=1.0, **constants)
        assert 0 < path.gradient.ravel()[:-1].min() <= bound


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: chebyshev_steps(0.5, 1, True), "T"),
        (lambda: theory.chebyshev_bound(0.5, 1, 2.0), "T"),
        (lambda: theory.lebedev_order(-1), "T"),
        (lambda: worst_case_contraction([], 0.5, 1), "steps"),
        (lambda: worst_case_contraction(1.0, 0.5, 1), "steps"),
        (lambda: theory.last_iterate_bound([0.0, 0.0]), "factors"),
        (lambda: theory.last_iterate_bound([1.0, -0.5]), "factors"),
        (lambda: theory.quadratic_loss([1.0], 0.1, [-1.0], 0), "eigenvalues"),
        (lambda: theory.quadratic_loss([1.0], 0.1, [1.0], math.nan), "noise"),
        (lambda: theory.quadratic_trajectory([math.inf], 0.1, [1.0], 0), "factors"),
        (lambda: theory.stationarity_bound(2, 10, 1.5, smoothness=1, variance=0, gap=1), "peak"),
        (lambda: theory.stationarity_bound(2, 10, 0.0, smoothness=1, variance=0, gap=1), "peak"),
        (lambda: theory.stationarity_bound(2, 10, 0.1, smoothness=0, variance=0, gap=1), "smoothness"),
    ],
)
def test_other_bad_arguments_are_refused_by_name(call, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        call()

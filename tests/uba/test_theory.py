"""The theory's numbers: against brute force, against closed forms, and against values computed elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.uba import theory, uba
from replication.uba.baselines import factors


def log_worst(steps, kappa):
    return float(theory.worst_case_contraction(steps, 1 / kappa, 1.0, log=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=6), st.floats(1.5, 100))
def test_worst_case_is_the_maximum_over_a_dense_grid(steps, kappa):
    grid = np.linspace(1 / kappa, 1, 20001)
    brute = np.abs(np.prod(1 - np.array(steps)[:, None] * grid, axis=0)).max()
    exact = float(theory.worst_case_contraction(steps, 1 / kappa, 1.0))
    assert exact >= brute * (1 - 1e-12)
    assert exact == pytest.approx(brute, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("kappa", [2, 10, 50, 200])
@pytest.mark.parametrize("steps", [8, 32])
def test_phi_of_two_kappa_solves_the_minmax_problem(kappa, steps):
    nodes = np.arange(steps) + 0.5
    ours = uba(nodes, steps, 2 * kappa, peak=kappa, floor=1.0)
    np.testing.assert_allclose(ours, theory.chebyshev_steps(1 / kappa, 1.0, steps), rtol=1e-12)
    assert log_worst(ours, kappa) == pytest.approx(theory.chebyshev_bound(1 / kappa, 1.0, steps, log=True), abs=1e-9)
    ratios = np.linspace(0.9, 1.1, 201)
    worst = theory.worst_case_contraction(
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
    sizes = theory.chebyshev_steps(1 / kappa, 1.0, steps)
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
        (lambda: theory.chebyshev_steps(0.0, 1.0, 8), "lambda_min"),
        (lambda: theory.chebyshev_steps(2.0, 1.0, 8), "lambda_min"),
        (lambda: theory.chebyshev_steps(0.1, math.inf, 8), "lambda_max"),
        (lambda: theory.chebyshev_steps(0.1, 1.0, 0), "T"),
        (lambda: theory.worst_case_contraction([math.nan], 0.1, 1.0), "steps"),
        (lambda: theory.worst_case_contraction([-1.0], 0.1, 1.0), "steps"),
        (lambda: theory.quadratic_loss([1.0], -1.0, [1.0], 0.1), "peaks"),
        (lambda: theory.quadratic_loss([1.0], 1.0, [1.0, 2.0], 0.1, v0=[1.0, 1.0, 1.0]), "v0"),
    ],
)
def test_bad_arguments_are_refused_by_name(call, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        call()

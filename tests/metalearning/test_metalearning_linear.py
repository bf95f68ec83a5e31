"""Closed forms of the linear model: known numbers, exact identities, brute force in more dimensions, refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import ortho_group

from replication.metalearning import (
    Tasks,
    adapted_risk,
    crossover_tasks,
    curvature,
    modelling_error,
    neutral_alpha,
    optimum_drs,
    optimum_maml,
    variances,
)

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "metalearning_linear.json").read_text())
NS = [1, 2, 5, 10, 25, 50, 100, 400, math.inf]


# --- known numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["closed_form"])
def test_adapted_risk_is_the_known_quadratic(case):
    alpha, N = (float(part) for part in case.removeprefix("alpha").split("_N"))
    A, B, C0, optimum = GOLDEN["closed_form"][case]
    theta = np.array([-1.0, 0.0, 0.5, 2.0])
    np.testing.assert_allclose(adapted_risk(theta, alpha, N), A * theta**2 / 2 - B * theta + C0, atol=4e-6)
    assert curvature(alpha, N) == pytest.approx(A, abs=1e-6)
    assert optimum_maml(alpha, N) == pytest.approx(optimum, abs=1e-6)


@pytest.mark.parametrize("row", GOLDEN["delta_method"]["rows"], ids=lambda row: f"alpha{row[0]}-N{row[1]}")
def test_delta_method(row):
    alpha, N, optimum, gap, V_drs, V_maml, M_star = row
    within = {1: 0.25, 5: 0.08}.get(N, 0.04)  # the known V are simulated
    found = variances(alpha, N)
    assert optimum_maml(alpha, N) == pytest.approx(optimum, abs=1e-5)
    assert modelling_error(alpha, N) == pytest.approx(gap, abs=1e-5)
    assert found.drs == pytest.approx(V_drs, rel=0.01)
    assert found.maml == pytest.approx(V_maml, rel=within)
    if M_star is None:
        assert crossover_tasks(alpha, N) == math.inf
    else:
        known = (V_maml * (1 + within) - V_drs * 0.99) / (V_maml - V_drs) if V_maml > V_drs else 1 + within
        # an error of V carries over to its difference
        assert crossover_tasks(alpha, N) == pytest.approx(M_star, rel=abs(known - 1), abs=0.02)


def test_least_risk_before_the_update_and_the_spread_of_tasks():
    assert adapted_risk(optimum_drs(), 0, 1) == pytest.approx(11 / 18, abs=1e-12)
    assert optimum_drs(3.0) == pytest.approx(2.0, abs=1e-12)
    assert variances(0.5, math.inf).drs == pytest.approx(32 / 135, abs=1e-12)
    np.testing.assert_allclose(optimum_maml(1.0, NS), 1.6, atol=1e-12)


# --- identities ------------------------------------------------------------------------------------------------------


@given(
    N=st.one_of(st.integers(1, 10_000), st.just(math.inf)),
    beta=st.floats(0.1, 10),
    alpha=st.floats(0, 2),
)
@settings(max_examples=60, deadline=None)
def test_the_modelling_error_is_zero_where_it_must_be(N, beta, alpha):
    exact = 5 / (3 * beta * (1 + 2 / N))
    scale = beta**3
    assert neutral_alpha(N, beta) == pytest.approx(exact, rel=1e-9)
    assert 0 <= modelling_error(exact, N, beta) < 1e-12 * scale
    assert modelling_error(0, N, beta) == 0
    assert modelling_error(alpha, N, Tasks(beta, spread=0)) < 1e-12 * scale
    assert modelling_error(alpha, N, Tasks(beta, tied=False)) < 1e-12 * scale
    assert modelling_error(1.05 * exact, N, beta) > 1e-6 * scale


@given(alpha=st.floats(0, 1), N=st.integers(1, 500), p=st.integers(1, 6), spread=st.floats(0.05, 1), tied=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_optimum_is_the_minimum_and_the_modelling_error_the_difference_of_risks(alpha, N, p, spread, tied):
    tasks = Tasks(2.0, p, spread, tied)
    at = np.full(p, optimum_maml(alpha, N, tasks)) if p > 1 else float(optimum_maml(alpha, N, tasks))
    drs = np.full(p, optimum_drs(tasks)) if p > 1 else optimum_drs(tasks)
    least = adapted_risk(at, alpha, N, tasks)
    assert adapted_risk(drs, alpha, N, tasks) - least == pytest.approx(
        float(modelling_error(alpha, N, tasks)), abs=1e-9
    )
    slope = approx_fprime(np.atleast_1d(at), lambda x: float(adapted_risk(x if p > 1 else x[0], alpha, N, tasks)), 1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-4)


def test_neutral_alpha_in_other_families():
    for tasks in (Tasks(2.0, 3), Tasks(2.0, spread=0.5), Tasks(1.0, 5, 0.3)):
        at = neutral_alpha([2, 20], tasks)
        assert (at > 0).all()
        np.testing.assert_allclose(modelling_error(at, [2, 20], tasks), 0, atol=1e-13)
    N = np.arange(1, 40)
    assert (crossover_tasks(neutral_alpha(N), N) == np.inf).all()
    assert np.isfinite(crossover_tasks(neutral_alpha(N) * (1 + 1e-6), N)).all()
    assert np.isnan(neutral_alpha(5, Tasks(tied=False)))
    assert np.isnan(neutral_alpha(5, Tasks(spread=0)))


def test_functions_broadcast():
    alpha, N = np.array([0.1, 0.5])[:, None], np.array([1, 10, 100])
    for function in (optimum_maml, modelling_error, curvature, crossover_tasks):
        table = function(alpha, N)
        assert table.shape == (2, 3)
        assert table[1, 2] == pytest.approx(float(function(0.5, 100)), rel=1e-12)


# --- brute force -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 5])
@pytest.mark.parametrize("tied", [True, False])
def test_adapted_risk_is_the_mean_over_simulated_tasks_and_steps(p, tied):
    rng, alpha, N, draws = np.random.default_rng(1), 0.4, 4, 50_000
    tasks = Tasks(1.5, p, 0.8, tied)
    low, high = 1.5 * 0.1, 1.5 * 0.9
    t = rng.uniform(low, high, (draws, p))
    theta_task = t if tied else rng.uniform(low, high, (draws, p))
    U = ortho_group.rvs(p, draws, random_state=rng) if p > 1 else np.ones((draws, 1, 1))
    s = rng.uniform(0, 1.5, draws)
    X = np.einsum("dnj,dij->dni", rng.normal(size=(draws, N, p)) * np.sqrt(t)[:, None], U)
    y = np.einsum("dni,di->dn", X, theta_task) + np.sqrt(s)[:, None] * rng.normal(size=(draws, N))
    for theta in (np.full(p, 0.7), np.linspace(-0.5, 1.2, p)):
        step = alpha / N * np.einsum("dni,dn->di", X, X @ theta - y)
        away = np.einsum("dij,di->dj", U, theta - step - theta_task)
        risks = ((t * away**2).sum(-1) + s) / 2
        known = adapted_risk(theta if p > 1 else theta[0], alpha, N, tasks)
        assert abs(risks.mean() - known) < 4 * risks.std() / math.sqrt(draws)


def test_curvature_holds_the_moment_of_the_sample_covariance():
    """E[(S - Q) Q (S - Q)] = (Q^3 + tr(Q^2) Q) / N for S = X'X / N: the known diagonal, by simulation."""
    q, N, draws = np.array([0.3, 1.1, 1.7]), 7, 200_000
    X = np.random.default_rng(0).normal(size=(draws, N, 3)) * np.sqrt(q)
    D = X.swapaxes(1, 2) @ X / N - np.diag(q)
    moment = np.einsum("dij,j,djk->ik", D, q, D) / draws
    exact = (q**3 + (q**2).sum() * q) / N
    np.testing.assert_allclose(N * exact, [1.284, 5.940, 12.036], atol=5e-4)
    np.testing.assert_allclose(np.diag(moment), exact, rtol=0.01)
    np.testing.assert_allclose(q * (1 - 0.6 * q) ** 2 + 0.36 * exact, [0.267754, 0.432646, 0.619674], atol=1e-6)
    # and the average over tasks of three eigenvalues each
    t = np.random.default_rng(1).uniform(0, 2, (400_000, 3))
    W = t * (1 - 0.6 * t) ** 2 + 0.36 / N * (t**3 + (t**2).sum(1, keepdims=True) * t)
    assert W.mean() == pytest.approx(float(curvature(0.6, N, Tasks(2.0, 3))), rel=0.005)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("alpha", lambda: optimum_maml(-0.1, 5)),
        ("alpha", lambda: adapted_risk(1.0, math.nan, 5)),
        ("alpha", lambda: modelling_error([0.1, math.inf], 5)),
        ("N", lambda: optimum_maml(0.1, 0)),
        ("N", lambda: crossover_tasks(0.1, [1, 0.5])),
        ("N", lambda: neutral_alpha(math.nan)),
        ("beta", lambda: optimum_drs(0.0)),
        ("beta", lambda: modelling_error(0.1, 5, math.inf)),
        ("p", lambda: Tasks(p=0)),
        ("p", lambda: Tasks(p=1.5)),
        ("p", lambda: variances(0.1, 5, Tasks(p=2))),
        ("spread", lambda: Tasks(spread=1.1)),
        ("theta", lambda: adapted_risk(1.0, 0.1, 5, Tasks(p=2))),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(name, call):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call()

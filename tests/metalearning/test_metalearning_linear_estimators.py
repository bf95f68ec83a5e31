"""DRS and MAML against plain normal equations on drawn samples, and the fractions of wins against known tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp, ortho_group

from replication.metalearning import Tasks, adapted_risk, estimates, variances, win_fraction, wins
from replication.metalearning.estimators import BLOCK, Statistics, draw, nested_estimates
from replication.metalearning.experiments.linear import SAMPLES, TASKS, reference, standard_error
from replication.metalearning.smoothness import Risks, bound_ratio, logistic, quadratic

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "metalearning_linear.json").read_text())


def drawn(N, M, p, trials, seed):
    """Samples of both halves, one by one: X of shape (2, trials, M, N, p) and Y."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 2, (trials, M, p))
    U = ortho_group.rvs(p, trials * M, random_state=rng).reshape(trials, M, p, p) if p > 1 else np.ones((1, 1, 1, 1))
    s = rng.uniform(0, 2, (trials, M))
    X = np.einsum(
        "htmnj,tmij->htmni", rng.normal(size=(2, trials, M, N, p)) * np.sqrt(t)[:, :, None], U * np.ones_like(U)
    )
    Y = np.einsum("htmni,tmi->htmn", X, t) + np.sqrt(s)[..., None] * rng.normal(size=(2, trials, M, N))
    return X, Y


def plain(X, Y, alpha):
    """DRS by least squares on all samples and MAML by its normal equations, one trial."""
    (X1, X2), (Y1, Y2) = X, Y
    p, N = X1.shape[-1], X1.shape[-2]
    pooled = np.linalg.lstsq(X.reshape(-1, p), Y.reshape(-1), rcond=None)[0]
    A, b = np.zeros((p, p)), np.zeros(p)
    for x1, y1, x2, y2 in zip(X1, Y1, X2, Y2, strict=True):
        S = np.eye(p) - alpha / N * x1.T @ x1
        A += S @ x2.T @ x2 @ S
        b += S @ x2.T @ (y2 - alpha / N * x2 @ x1.T @ y1)
    return pooled, np.linalg.solve(A, b)


def statistics(X, Y):
    """What the estimators need of samples of one half (trials, M, N, p)."""
    A = np.einsum("tmni,tmnj->ijmt", X, X) / X.shape[2]
    return Statistics(A, np.einsum("tmni,tmn->imt", X, Y) / X.shape[2])


def drs(first, second):
    """DRS's estimate from the statistics of all tasks, shape (trials, p)."""
    return solved((first.A + second.A).sum(2), (first.b + second.b).sum(1))


def maml(first, second, alpha):
    """MAML's estimate from the statistics of all tasks, shape (trials, p)."""
    S = np.eye(len(first.A))[:, :, None, None] - alpha * first.A
    A = np.einsum("ijmt,jkmt,klmt->ilt", S, second.A, S)
    return solved(A, np.einsum("ijmt,jmt->it", S, second.b - alpha * np.einsum("ijmt,jmt->imt", second.A, first.b)))


def solved(A, b):
    return np.linalg.solve(np.moveaxis(A, 2, 0), b.T[..., None])[..., 0]


@pytest.mark.parametrize("p", [1, 3])
def test_nested_estimates_use_every_task_once_at_each_number(p):
    tasks, alpha = Tasks(2.0, p=p), [0.0, 0.4]
    found = nested_estimates(alpha, 4, (6, 12, 24), tasks, trials=2, seed=3)
    halves = draw(4, 6, tasks, 8, 3)
    for M, groups in ((6, 1), (12, 2), (24, 4)):
        assert found[M].drs.shape[0] == 8 // groups
        for trial in range(8 // groups):
            # trials that are 8 / groups apart make one
            taken = slice(trial, None, 8 // groups)
            joined = [
                Statistics(half.A[..., taken].reshape(p, p, M, 1), half.b[..., taken].reshape(p, M, 1))
                for half in halves
            ]
            np.testing.assert_allclose(np.ravel(found[M].drs[trial]), drs(*joined)[0])
            for a, step in enumerate(alpha):
                np.testing.assert_allclose(np.ravel(found[M].maml[a, trial]), maml(*joined, step)[0])


def test_without_a_split_all_samples_adapt_and_judge():
    """Train-train MAML by plain normal equations, and the same DRS."""
    N, M, alpha = 3, 6, 0.4
    X, Y = drawn(N, M, 1, 1, 0)
    both = np.concatenate(list(X), axis=2), np.concatenate(list(Y), axis=2)
    A, b = 0.0, 0.0
    for x, y in zip(both[0][0], both[1][0], strict=True):
        S = 1 - alpha / (2 * N) * float((x[:, 0] ** 2).sum())
        A += S * float((x[:, 0] ** 2).sum()) * S
        b += S * float(x[:, 0] @ (y - alpha / (2 * N) * x[:, 0] * float(x[:, 0] @ y)))
    halves = [statistics(*half) for half in zip(X, Y, strict=True)]
    whole = Statistics(*((one + other) / 2 for one, other in zip(*halves, strict=True)))
    np.testing.assert_allclose(maml(whole, whole, alpha)[0, 0], b / A)
    # what `estimates` gives is that, of the data that it draws
    found, split = (estimates([alpha], N, [M], 2.0, 5, 1, split=split) for split in (False, True))
    first, second = draw(N, M, 2.0, 5, 1)
    whole = Statistics(*((one + other) / 2 for one, other in zip(first, second, strict=True)))
    np.testing.assert_allclose(found.maml[0, 0], maml(whole, whole, alpha)[:, 0])
    np.testing.assert_allclose(found.drs, split.drs)
    assert not np.allclose(found.maml, split.maml)


def test_nested_numbers_of_tasks_must_divide_each_other():
    with pytest.raises(ValueError, match=r"M: each number must be a multiple of the one before, got \[10, 25\]"):
        nested_estimates([0.5], 5, [10, 25])
    with pytest.raises(ValueError, match="M: is empty"):
        nested_estimates([0.5], 5, [])
    with pytest.raises(ValueError, match="M: 1 tasks of N = 1 samples in a half do not determine p = 2 parameters"):
        nested_estimates([0.5], 1, [1, 2], Tasks(2.0, p=2))


@pytest.mark.parametrize("p", [1, 2, 5])
def test_estimators_equal_plain_normal_equations(p):
    X, Y = drawn(N=4, M=6, p=p, trials=3, seed=0)
    halves = [statistics(x, y) for x, y in zip(X, Y, strict=True)]
    for alpha in (0.0, 0.3, 1.0):
        pooled, adapted = drs(*halves), maml(*halves, alpha)
        for trial in range(3):
            known = plain(X[:, trial], Y[:, trial], alpha)
            np.testing.assert_allclose(pooled[trial], known[0], rtol=1e-9)
            np.testing.assert_allclose(adapted[trial], known[1], rtol=1e-7)


@pytest.mark.parametrize("p", [1, 2, 5])
@pytest.mark.parametrize("N", [2, 7])
def test_drawn_statistics_have_the_distribution_of_drawn_samples(p, N):
    """Also with fewer samples than dimensions. Entries of A, of b and of the noise b - A theta, both halves."""
    trials = 5_000
    ours = draw(N, 1, Tasks(2.0, p), trials, seed=3)
    X, Y = drawn(N, 1, p, trials, seed=4)
    theirs = [statistics(x, y) for x, y in zip(X, Y, strict=True)]
    for half, other in zip(ours, theirs, strict=True):
        for i in range(p):
            for j in range(p):
                assert ks_2samp(half.A[i, j, 0], other.A[i, j, 0]).pvalue > 1e-4
            assert ks_2samp(half.b[i, 0], other.b[i, 0]).pvalue > 1e-4
        np.testing.assert_allclose(half.A, half.A.swapaxes(0, 1), atol=1e-12)
        assert np.linalg.matrix_rank(half.A[:, :, 0, 0], tol=1e-10) == min(N, p)
    # the halves share their task: products across them carry it
    ours_both, theirs_both = ((one.A[0, 0] * two.b[0])[0] for one, two in (ours, theirs))
    assert ks_2samp(ours_both, theirs_both).pvalue > 1e-4


@pytest.mark.parametrize("p", [1, 2])
def test_the_grid_equals_the_estimators_on_the_same_tasks(p):
    """The polynomials in alpha and the running sums over tasks, against each cell on its own."""
    tasks, alphas, Ms, trials = Tasks(2.0, p), [0.0, 0.35, 1.0], [7, 3, 20], 11
    found = estimates(alphas, 5, Ms, tasks, trials, seed=2)
    halves = draw(5, 20, tasks, trials, seed=2)
    for m, M in enumerate(Ms):
        cut = [Statistics(half.A[:, :, :M], half.b[:, :M]) for half in halves]
        np.testing.assert_allclose(found.drs[m].reshape(trials, p), drs(*cut), rtol=1e-9)
        for a, alpha in enumerate(alphas):
            np.testing.assert_allclose(found.maml[a, m].reshape(trials, p), maml(*cut, alpha), rtol=1e-7)


@pytest.mark.parametrize("p", [1, 3])
def test_a_cell_does_not_depend_on_the_others(p):
    tasks, trials = Tasks(2.0, p), BLOCK + 50
    grid = win_fraction([0.2, 0.9], [3, 8], [2, 6, 15], tasks, trials, seed=5)
    cell = win_fraction(0.9, 8, 6, tasks, trials, seed=5)
    assert cell.after.shape == ()
    assert (cell.before, cell.after) == (grid.before[1, 1, 1], grid.after[1, 1, 1])
    assert grid.after[1, 1, 1] != win_fraction(0.9, 8, 6, tasks, trials, seed=6).after
    again = win_fraction([0.2, 0.9], [3, 8], [2, 6, 15], tasks, trials, seed=np.int64(5))
    assert np.array_equal(grid.after, again.after)
    assert np.array_equal(grid.before, again.before)


def test_blocks_of_trials_differ():
    found = estimates([0.5], 3, [4], trials=2 * BLOCK, seed=1)
    assert len(np.unique(found.drs)) == 2 * BLOCK
    assert len(np.unique(found.maml)) == 2 * BLOCK
    assert np.array_equal(found.drs[:, :BLOCK], estimates([0.5], 3, [4], trials=BLOCK, seed=1).drs)


@pytest.mark.parametrize("p", [1, 2])
def test_wins_compare_the_exact_risks(p):
    tasks, alphas = Tasks(2.0, p), [0.3, 0.7]
    found = estimates(alphas, 6, [5, 30], tasks, 200, seed=0)
    won = wins(found, alphas, 6, tasks)
    for a, alpha in enumerate(alphas):
        after = [adapted_risk(theta, alpha, 6, tasks) for theta in (found.maml[a], found.drs)]
        before = [adapted_risk(theta, 0.0, 6, tasks) for theta in (found.maml[a], found.drs)]
        assert np.array_equal(won.after[a], after[0] < after[1])
        assert np.array_equal(won.before[a], before[0] < before[1])
    fractions = win_fraction(alphas, 6, [5, 30], tasks, 200, seed=0)
    assert np.array_equal(fractions.after, won.after.mean(-1))
    assert np.array_equal(fractions.before, won.before.mean(-1))


def test_variances_of_the_estimators_are_those_of_the_delta_method():
    found = estimates([0.25, 1.0], 25, [1000], trials=1000, seed=0)
    at = variances([0.25, 1.0], 25)
    assert 1000 * found.drs.var() == pytest.approx(float(at.drs[0]), rel=0.15)
    np.testing.assert_allclose(1000 * found.maml[:, 0].var(-1), at.maml, rtol=0.15)


# --- known tables ----------------------------------------------------------------------------------------------------


def test_fractions_of_wins_are_those_of_another_implementation():
    picked = [0, 1, 3, 6]  # of N and of M
    Ns, Ms = [SAMPLES[i] for i in picked], [TASKS[i] for i in picked]
    for name, beta, stage in (("after", 2.0, "after"), ("before", 2.0, "before"), ("after, beta 1", 1.0, "after")):
        table = reference()[name]
        known = table._replace(wins=table.wins[:, picked][:, :, picked])
        ours = getattr(win_fraction(table.alphas, Ns, Ms, beta, trials=1000, seed=11), stage)
        assert (np.abs(ours - known.wins) <= 4 * standard_error(known, 1000) + 0.005).all()


def test_reference_tables_are_whole():
    sizes = {name: (table.trials, table.wins.shape) for name, table in reference().items()}
    assert sizes == {
        "after": (10000, (21, 12, 12)),
        "before": (10000, (5, 12, 12)),
        "after, beta 1": (2000, (5, 12, 12)),
        "authors, after": (100, (5, 12, 12)),
        "authors, before": (100, (5, 12, 12)),
    }
    # alpha 0.5; N = 5, M = 400 and the other way round
    after = reference()["after"].wins[10].round(3)
    assert (after[SAMPLES.index(5), -1], after[-1, TASKS.index(5)]) == (0.755, 0.903)


def test_mean_risks_are_those_of_another_implementation():
    known = GOLDEN["mean_risk"]
    for i, N in ((0, 5), (2, 25), (4, 400)):
        alphas = [float(alpha) for alpha in known["drs_after"]]
        found = estimates(alphas, N, [25, 100, 400], trials=1000, seed=0)
        np.testing.assert_allclose(
            adapted_risk(found.drs, 0.0, N).mean(-1), [row[i] for row in known["drs_before"]], rtol=0.01
        )
        for method, theta in (("drs", found.drs[None]), ("maml", found.maml)):
            risks = adapted_risk(theta, np.array(alphas)[:, None, None], N).mean(-1)
            tables = np.array([[row[i] for row in known[f"{method}_after"][a]] for a in known[f"{method}_after"]])
            # MAML's tail is heavy: its mean is known to a few per cent where tasks and samples are few
            heavy = np.where((method == "maml") & (np.array([25, 100, 400]) < 100) & (N < 100), 0.06, 0.012)
            assert (np.abs(risks / tables - 1) < heavy).all(), (method, N)


@pytest.mark.parametrize("row", GOLDEN["neutral"]["rows"][::2], ids=lambda row: f"N{row[0]}")
def test_drs_wins_at_the_zero_of_the_modelling_error(row):
    N, known = row
    found = win_fraction(5 / (6 * (1 + 2 / N)), N, GOLDEN["neutral"]["M"], trials=4000, seed=0)
    np.testing.assert_allclose(found.after, known, atol=0.04)
    assert (found.after < 0.5).all()


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("alpha", {"alpha": -0.1}),
        ("N", {"N": 0}),
        ("N", {"N": 2.5}),
        ("N", {"N": [5, -1]}),
        ("N", {"N": []}),
        ("M", {"M": []}),
        ("M", {"M": 0}),
        ("M", {"M": [2, 2.5]}),
        ("M", {"N": 2, "M": 2, "beta": Tasks(p=5)}),
        ("beta", {"beta": -1.0}),
        ("trials", {"trials": 0}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": np.random.RandomState(0)}),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(name, arguments):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        win_fraction(**({"alpha": 0.5, "N": 5, "M": 5, "trials": 2} | arguments))


# --- smoothness ------------------------------------------------------------------------------------------------------


def test_the_bound_is_attained_by_uniform_negative_curvature():
    risks = quadratic(-2 * np.tile(np.eye(3), (4, 1, 1)), np.zeros((4, 3)))
    for alpha in (0.01, 0.5, 3.0):
        assert bound_ratio(risks, np.array([1.0, -2.0, 0.5]), alpha) == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="alpha: must be positive and finite, got 0"):
        bound_ratio(risks, np.ones(3), 0.0)


def test_the_ratio_uses_the_gradient_of_the_risk_after_a_step():
    rng = np.random.default_rng(0)
    X, y, theta, alpha = rng.normal(size=(3, 9, 2)), rng.integers(0, 2, (3, 9)).astype(float), rng.normal(size=2), 0.7
    risks = logistic(X, y)

    def objective(point, step):
        total = 0.0
        for x, label in zip(X, y, strict=True):
            g = x.T @ (1 / (1 + np.exp(-x @ point)) - label) / 9
            score = x @ (point - step * g)
            total += np.mean(np.logaddexp(0, score) - label * score) / 3
        return total

    e = 1e-6 * np.eye(2)
    maml_, drs_ = ([(objective(theta + d, a) - objective(theta - d, a)) / 2e-6 for d in e] for a in (alpha, 0.0))
    g = risks.gradient(theta[None])
    bound = alpha * risks.L * (2 + alpha * risks.L) * np.linalg.norm(g, axis=1).mean()
    known = np.linalg.norm(np.subtract(maml_, drs_)) / bound
    assert bound_ratio(risks, theta, alpha) == pytest.approx(known, rel=1e-5)
    assert isinstance(risks, Risks)
    assert all(np.linalg.eigvalsh(risks.hessian(rng.normal(size=(1, 2)))).max() <= risks.L for _ in range(20))

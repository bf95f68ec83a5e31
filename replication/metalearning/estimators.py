"""DRS and MAML on finite data of linear regression, and how often which wins.

Both solve least squares exactly from M tasks of 2N samples each. DRS pools all samples:

    theta = (sum_j X_j'X_j)^-1 sum_j X_j'Y_j.

MAML takes N samples of a task (X1, Y1) for the inner step and N (X2, Y2) for the outer loss: with
S_j = I - (alpha/N) X1'X1,

    theta = (sum_j S_j X2'X2 S_j)^-1 sum_j S_j X2'(Y2 - (alpha/N) X2 X1'Y1).

Without a split (train-train; Bai et al. 2021) all 2N samples take both places.

Both sums need of a task only A = X'X/N and b = X'Y/N of its halves. These are drawn from their joint distribution, a
Wishart matrix and a Gaussian vector, so that N costs nothing. And MAML's sums are polynomials in alpha,

    S A2 S = A2 - alpha (A1 A2 + A2 A1) + alpha^2 A1 A2 A1,
    S (b2 - alpha A2 b1) = b2 - alpha (A1 b2 + A2 b1) + alpha^2 A1 A2 b1,

so that one set of sums over tasks serves every alpha, and the running sums over 400 tasks serve every smaller M.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts are loaded where they are first used
from numpy.typing import ArrayLike, NDArray

from replication.checks import whole
from replication.metalearning.linear import Family, Float, Tasks, family, optimum_drs, optimum_maml, step_size

BLOCK = 500
"""Trials drawn together at p = 1, for arrays that fit the cache; each block has a seed of its own."""


class Statistics(NamedTuple):
    """What the estimators need of one half of each task's data: A = X'X/N and b = X'Y/N.

    Shapes (p, p, M, trials) and (p, M, trials): long axes last, which is what makes small p fast.
    """

    A: Float
    b: Float


class Estimates(NamedTuple):
    """Estimates of both methods from the same data.

    Shapes (M, trials, p) and (alpha, M, trials, p), where alpha and M stand for the lengths of those arguments; p = 1
    drops the last axis.
    """

    drs: Float
    maml: Float


class Wins(NamedTuple):
    """Where, or in which fraction of trials, MAML's risk is below DRS's, before and after one step at test."""

    before: NDArray[Any]
    after: NDArray[Any]


def draw(N: int, M: int, beta: Family = 2.0, trials: int = 1, seed: int = 0) -> tuple[Statistics, Statistics]:
    """Draw tasks and what the estimators need of their data, for both halves.

    With Q = L L', X'X is L T T' L' with T lower trapezoidal (Bartlett: chi variables on the diagonal, Gaussians below),
    and X'Y - X'X theta_gamma is Gaussian given X, with covariance s X'X.

    Parameters
    ----------
    N : int
        Samples in each half.
    M, trials : int
        Tasks, and independent repetitions. The first tasks do not depend on how many follow.
    beta : float or Tasks
        The family of tasks.
    seed : int
        Fixes everything.

    Raises
    ------
    ValueError
        N, M, trials, beta or seed is outside its range.
    """
    N, M, trials = whole("N", N), whole("M", M), whole("trials", trials)
    seed = whole("seed", seed, 0)
    tasks, shape = family(beta), (M, trials)
    p, rank = tasks.p, min(N, tasks.p)
    # a stream for each variable: the tasks come first on its own, so that more of them only append
    streams = (np.random.default_rng(child) for child in np.random.SeedSequence((seed, N)).spawn(2 * p + 2 + 4 * p * p))
    t = np.stack([next(streams).uniform(*tasks.range, shape) for _ in range(p)])
    theta = t if tasks.tied else np.stack([next(streams).uniform(*tasks.range, shape) for _ in range(p)])
    s = next(streams).uniform(0, tasks.beta, shape)
    L = np.sqrt(t)[None]
    if p > 1:
        rotations = scipy.stats.ortho_group.rvs(p, M * trials, random_state=next(streams)).reshape(*shape, p, p)
        L = np.moveaxis(rotations, (2, 3), (0, 1)) * L

    def half() -> Statistics:
        T = np.zeros((p, rank, *shape))
        for i in range(p):
            for j in range(min(i + 1, rank)):
                stream = next(streams)
                T[i, j] = np.sqrt(stream.chisquare(N - i, shape)) if i == j else stream.standard_normal(shape)
        root = _times(L, T)
        e = np.stack([next(streams).standard_normal(shape) for _ in range(rank)])
        A = _times(root, root.swapaxes(0, 1)) / N
        return Statistics(A, _times(A, theta) + np.sqrt(s) / N * _times(root, e))

    return half(), half()


def estimates(
    alpha: ArrayLike,
    N: int,
    M: ArrayLike,
    beta: Family = 2.0,
    trials: int = 1000,
    seed: int = 0,
    *,
    split: bool = True,
) -> Estimates:
    """Estimates of both methods over step sizes and numbers of tasks.

    All step sizes see the same data, and of the tasks of a trial the first M are used. So a cell does not depend on
    which other cells are asked for, and cells of one N are not independent. (The authors' code draws every cell anew.)

    Parameters
    ----------
    alpha : array_like
        Step sizes, one-dimensional.
    N : int
        Samples in each half of a task's data.
    M : array_like of int
        Numbers of tasks, one-dimensional.
    beta : float or Tasks
        The family of tasks.
    trials, seed : int
        Independent repetitions, and what fixes them.
    split : bool
        Whether MAML splits the samples of a task; else all of them are in both its halves (train-train).

    Raises
    ------
    ValueError
        An argument is outside its range; the message names it.
    """
    steps, counts = np.atleast_1d(step_size(alpha)), _whole_numbers("M", M)
    parts = list(_blocks(steps, whole("N", N), counts, family(beta), whole("trials", trials), seed, split))
    pooled, adapted = zip(*parts, strict=True)
    return Estimates(np.concatenate(pooled, axis=1), np.concatenate(adapted, axis=2))


def nested_estimates(
    alpha: ArrayLike, N: int, M: Sequence[int], beta: Family = 2.0, trials: int = 1, seed: int = 0
) -> dict[int, Estimates]:
    """Estimates by number of tasks, all from the same tasks: at fewer tasks there are as many times more of them.

    Parameters
    ----------
    alpha : array_like
        Step sizes, one-dimensional.
    N : int
        Samples in each half of a task's data.
    M : sequence of int
        Numbers of tasks, each a multiple of the one before.
    beta : float or Tasks
        The family of tasks.
    trials, seed : int
        Estimates at the largest M, and what fixes them.

    Returns
    -------
    dict of int to Estimates
        Without the axis M.

    Raises
    ------
    ValueError
        An argument is outside its range; the message names it.
    """
    steps, counts, tasks = np.atleast_1d(step_size(alpha)), _whole_numbers("M", M).tolist(), family(beta)
    if any(more % fewer for fewer, more in itertools.pairwise(counts)):
        raise ValueError(f"M: each number must be a multiple of the one before, got {list(M)}")
    _check_determined(whole("N", N), counts[0], tasks)
    parts = _summands(*draw(N, counts[0], tasks, whole("trials", trials) * counts[-1] // counts[0], seed))
    made = {}
    for m in counts:

        def summed(summand: Float, groups: int = m // counts[0]) -> Float:
            total: Float = summand.sum(axis=-2)
            return np.asarray(total.reshape(*total.shape[:-1], groups, -1).sum(axis=-2))

        made[m] = _solved(parts, summed, steps)
    return made


def win_fraction(
    alpha: ArrayLike, N: ArrayLike, M: ArrayLike, beta: Family = 2.0, trials: int = 1000, seed: int = 0
) -> Wins:
    """How often MAML's risk is below DRS's, before and after one step at test, over a whole grid.

    Risks are exact (`adapted_risk`), where the authors' code estimates them by Monte Carlo. The fraction of wins is not
    the order of the mean risks: they disagree where the risk has a heavy tail (small N).

    Parameters
    ----------
    alpha, N, M : array_like
        Step sizes; samples in each half of a task's data; numbers of tasks. The result has all combinations.
    beta : float or Tasks
        The family of tasks; a number is the beta of the authors' family with p = 1.
    trials, seed : int
        Independent repetitions, and what fixes them. All step sizes and numbers of tasks share the data (see
        `estimates`).

    Returns
    -------
    Wins
        Both of shape alpha.shape + N.shape + M.shape.

    Raises
    ------
    ValueError
        An argument is outside its range; the message names it.

    Examples
    --------
    >>> wins = win_fraction(alpha=[0.25, 0.5], N=10, M=[25, 400])
    >>> wins.after.shape
    (2, 2)
    >>> bool(wins.after[1, 1] > 0.9), bool(wins.before[1, 1] < 0.1)
    (True, True)
    """
    tasks, alpha, trials = family(beta), step_size(alpha), whole("trials", trials)
    Ns, Ms = _whole_numbers("N", N), _whole_numbers("M", M)
    counts = np.zeros((2, alpha.size, Ns.size, Ms.size))
    for i, n in enumerate(Ns.tolist()):
        for found in _blocks(alpha.ravel(), n, Ms, tasks, trials, seed):
            counts[:, :, i] += np.sum(wins(found, alpha.ravel(), n, tasks), axis=-1)
    return Wins(*(counts / trials).reshape(2, *alpha.shape, *np.shape(N), *np.shape(M)))


def wins(found: Estimates, alpha: ArrayLike, N: int, beta: Family = 2.0) -> Wins:
    """In which trials MAML's risk is below DRS's; boolean arrays of shape (alpha, M, trials).

    Parameters
    ----------
    found : Estimates
        From `estimates` with the same alpha, N and beta.
    alpha, N, beta
        As `estimates` takes them.
    """
    tasks = family(beta)
    # E W is a multiple of the identity: the lower risk is the one nearer to the optimum
    optima = optimum_drs(tasks), optimum_maml(np.ravel(alpha), N, tasks)[:, None, None]
    return Wins(*(_distance(found.maml, at, tasks) < _distance(found.drs, at, tasks) for at in optima))


def _blocks(
    alpha: Float, N: int, M: NDArray[np.int64], tasks: Tasks, trials: int, seed: int, split: bool = True
) -> Iterator[Estimates]:
    """Estimates block after block of trials."""
    size = max(1, BLOCK // tasks.p**2)
    ends, where = np.unique(M, return_inverse=True)
    _check_determined(N, int(ends[0]), tasks)
    for block, start in enumerate(range(0, trials, size)):
        halves = draw(N, int(ends[-1]), tasks, min(size, trials - start), _block_seed(seed, block))
        if not split:
            halves = (Statistics(*((one + other) / 2 for one, other in zip(*halves, strict=True))),) * 2

        def running(summand: Float) -> Float:
            """Sums over the first M tasks, for all M."""
            return np.add.reduceat(summand, [0, *ends[:-1]], axis=-2).cumsum(axis=-2)[..., where, :]

        yield _solved(_summands(*halves), running, alpha)


class _Summands(NamedTuple):
    """What every task adds to the normal equations."""

    weights: tuple[Float, Float, Float]
    """MAML's matrix: coefficients of alpha to the power of 0, 1 and 2."""
    products: tuple[Float, Float, Float]
    """MAML's right-hand side."""
    inner: Statistics
    """What DRS has more than the first of both."""


def _summands(first: Statistics, second: Statistics) -> _Summands:
    cross, vector = _times(first.A, second.A), _times(second.A, first.b)
    return _Summands(
        (second.A, -(cross + cross.swapaxes(0, 1)), _times(cross, first.A)),
        (second.b, -(_times(first.A, second.b) + vector), _times(first.A, vector)),
        first,
    )


def _solved(parts: _Summands, summed: Callable[[Float], Float], alpha: Float) -> Estimates:
    """Both estimates from the sums over tasks; p = 1 drops the last axis."""
    weights, products = [summed(part) for part in parts.weights], [summed(part) for part in parts.products]
    pooled = _solve(weights[0] + summed(parts.inner.A), products[0] + summed(parts.inner.b))
    adapted = np.stack([_solve(_polynomial(weights, a), _polynomial(products, a)) for a in alpha.tolist()])
    return Estimates(pooled[..., 0], adapted[..., 0]) if len(parts.inner.A) == 1 else Estimates(pooled, adapted)


def _check_determined(N: int, M: int, tasks: Tasks) -> None:
    if tasks.p > N * M:
        raise ValueError(f"M: {M} tasks of N = {N} samples in a half do not determine p = {tasks.p} parameters")


def _block_seed(seed: int, block: int) -> int:
    """The seed of a block of trials; that of the first is `seed` itself."""
    return seed if not block else int(np.random.SeedSequence((seed, block)).generate_state(1, np.uint64)[0])


def _polynomial(coefficients: list[Float], x: float) -> Float:
    constant, linear, square = coefficients
    return constant + x * linear + x**2 * square


def _times(A: Float, B: Float) -> Float:
    """Products of matrices, or of matrices and vectors, whose own axes come first."""
    return np.asarray(np.einsum("ij...,jk...->ik..." if B.ndim == A.ndim else "ij...,j...->i...", A, B))


def _solve(A: Float, b: Float) -> Float:
    """Solutions of the normal equations, own axis last."""
    if len(A) == 1:
        return np.moveaxis(b / A[0], 0, -1)
    solved = np.linalg.solve(np.moveaxis(A, (0, 1), (-2, -1)), np.moveaxis(b, 0, -1)[..., None])
    return np.asarray(solved[..., 0], dtype=np.float64)


def _distance(theta: Float, optimum: Float | float, tasks: Tasks) -> Float:
    """Squared distance from an optimum that is the same in every coordinate."""
    if tasks.p == 1:
        return np.asarray(np.abs(theta - optimum))
    return np.asarray(((theta - np.asarray(optimum)[..., None]) ** 2).sum(-1))


def _whole_numbers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers above 0, one at least, flat."""
    found = np.array([whole(name, value) for value in np.ravel(np.asarray(values)).tolist()], dtype=np.int64)
    if not found.size:
        raise ValueError(f"{name}: is empty")
    return found

"""Linear regression over many tasks in closed form: optima, modelling error, risk after adaptation, the crossover M*.

A task has an optimum theta_gamma, inputs x ~ N(0, Q), outputs y = x'theta_gamma + e, and half the squared error as its
risk R. DRS minimises F_drs = E R(theta); MAML minimises F_maml = E R(theta - alpha g_N(theta)), the risk after one step
of size alpha along the gradient g_N of N samples. The model (tasks, estimators, figures) is the one of the authors'
published code; the closed forms are derived here and are no theorem of the paper.

With W = Q (I - alpha Q)^2 + (alpha^2 / N)(Q^3 + tr(Q^2) Q),

    F_maml(theta) = E (theta - theta_gamma)' W (theta - theta_gamma) / 2 + E s / 2 + alpha^2 E[s tr Q^2] / (2 N),

and alpha = 0 gives F_drs. The eigenvectors of Q are uniform over all rotations, so that E W is a multiple of the
identity and either optimum is one number, the same in every coordinate. Functions broadcast over alpha and N.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replication.checks import at_least, positive, whole, within

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Tasks:
    """The family of tasks: eigenvalues t of Q and task optima theta_gamma, both of length p, and noise variances s.

    t_i ~ U(beta (1 - spread) / 2, beta (1 + spread) / 2), Q = U diag(t) U' with U uniform over the rotations,
    theta_gamma = t, s ~ U(0, beta).

    Parameters
    ----------
    beta : float
        Upper end of the range of eigenvalues (at spread 1) and of noise variances; the authors' command has 2.
    p : int
        Dimension; the authors' command has 1.
    spread : float
        1: the authors' range of t. Smaller: tasks more alike, around the same mean; 0: Q and theta_gamma are the same
        for all.
    tied : bool
        False: theta_gamma is drawn independently of Q, from the distribution of t.

    Raises
    ------
    ValueError
        beta is not positive and finite, p is no whole number above 0, or spread is not in [0, 1].
    """

    beta: float = 2.0
    p: int = 1
    spread: float = 1.0
    tied: bool = True

    def __post_init__(self) -> None:
        positive("beta", self.beta)
        whole("p", self.p)
        within("spread", self.spread, "[0, 1]")

    @property
    def noise(self) -> float:
        """Mean noise variance, E s."""
        return self.beta / 2

    @property
    def range(self) -> tuple[float, float]:
        """Ends of the range of the eigenvalues."""
        return self.beta * (1 - self.spread) / 2, self.beta * (1 + self.spread) / 2

    def moment(self, k: int) -> float:
        """E t^k."""
        low, high = self.range
        # (high^(k+1) - low^(k+1)) / ((k + 1)(high - low)) without the division, which fails at spread 0
        return sum(high**i * low ** (k - i) for i in range(k + 1)) / (k + 1)

    def mean(self, of_q: tuple[int, ...], of_theta: tuple[int, ...] = ()) -> float:
        """E of a product of power sums: tr Q^a over `of_q`, times sum_i theta_i^a over `of_theta`."""
        if not self.tied and of_theta:
            return self.mean(of_q) * self.mean(of_theta)
        # sum over which factors share an index i: p (p - 1) ... distinct indices, one moment each
        return sum(
            math.perm(self.p, len(blocks)) * math.prod(self.moment(sum(block)) for block in blocks)
            for blocks in _partitions((*of_q, *of_theta))
        )


Family = float | Tasks
"""A family of tasks, or the beta of the authors' family in one dimension."""


class Variances(NamedTuple):
    """Limits of M Var of the two estimators as the number of tasks M grows."""

    drs: Float
    maml: Float


def optimum_drs(beta: Family = 2.0) -> float:
    """Where DRS ends with unlimited data, E[Q]^-1 E[Q theta_gamma]: the same number in every coordinate.

    Examples
    --------
    >>> round(optimum_drs(2.0), 4)
    1.3333
    """
    return float(optimum_maml(0.0, 1, beta))


def optimum_maml(alpha: ArrayLike, N: ArrayLike, beta: Family = 2.0) -> Float:
    """Where MAML ends with unlimited tasks, E[W]^-1 E[W theta_gamma]: the same number in every coordinate.

    Parameters
    ----------
    alpha : array_like
        Size of the step, at training and at test alike; not negative.
    N : array_like
        Samples of the step; at least 1, infinity allowed.
    beta : float or Tasks
        The family of tasks; a number is the beta of the authors' family with p = 1.

    Returns
    -------
    ndarray
        Of the common shape of alpha and N.

    Raises
    ------
    ValueError
        alpha, N or beta is outside its range.

    Examples
    --------
    >>> optimum_maml([0.25, 0.5, 1.0], 10).round(4).tolist()
    [1.1862, 1.1, 1.6]
    """
    tasks = family(beta)
    return _average(alpha, N, tasks, (1,)) / (tasks.p * _average(alpha, N, tasks))


def modelling_error(alpha: ArrayLike, N: ArrayLike, beta: Family = 2.0) -> Float:
    """What DRS loses after adaptation by aiming at F_drs: F_maml(optimum_drs) - F_maml(optimum_maml).

    It is half of E[W] times the squared distance of the optima, and does not depend on the budget. It is zero at
    alpha = 0, at `neutral_alpha`, where all tasks have the same Q, and where theta_gamma and Q are independent.

    Parameters
    ----------
    alpha, N, beta
        As `optimum_maml` takes them.

    Examples
    --------
    >>> modelling_error([0.25, 0.5, 1.0], 10).round(5).tolist()
    [0.00523, 0.00726, 0.02607]
    """
    tasks = family(beta)
    distance = optimum_maml(alpha, N, tasks) - optimum_drs(tasks)
    return np.asarray(_average(alpha, N, tasks) * tasks.p * distance**2 / 2)


def neutral_alpha(N: ArrayLike, beta: Family = 2.0) -> Float:
    """The positive step size at which both optima are the same, so that the modelling error is zero.

    5 / (3 beta (1 + 2/N)) for the authors' family with p = 1. NaN where every step size has that property.

    Parameters
    ----------
    N, beta
        As `optimum_maml` takes them.

    Examples
    --------
    >>> neutral_alpha([1, 25, float("inf")]).round(4).tolist()
    [0.2778, 0.7716, 0.8333]
    """
    tasks, N = family(beta), samples(N)
    optimum = optimum_drs(tasks)

    def pull(of_q: tuple[int, ...]) -> float:
        return tasks.mean(of_q, (1,)) / tasks.p - optimum * tasks.mean(of_q)

    # -2 alpha pull(Q^2) + alpha^2 [(1 + 1/N) pull(Q^3) + pull(tr(Q^2) Q) / N] = 0
    square = (1 + 1 / N) * pull((3,)) + pull((2, 1)) / N
    if not tasks.tied or tasks.spread == 0:
        return np.full_like(square, np.nan)
    return np.asarray(2 * pull((2,)) / square)


def adapted_risk(theta: ArrayLike, alpha: ArrayLike, N: ArrayLike, beta: Family = 2.0) -> Float:
    """F_maml(theta): expected half squared error (noise included) after one step; at alpha = 0 before it, F_drs(theta).

    The authors' code estimates the coefficients of this quadratic from 1000 tasks; here they are exact.

    Parameters
    ----------
    theta : array_like
        Parameters; for p > 1 the last axis has length p.
    alpha, N, beta
        As `optimum_maml` takes them; they broadcast with theta without its last axis.

    Examples
    --------
    >>> adapted_risk([1.2, 1.1], 0.5, 10).round(5).tolist()
    [0.55667, 0.55533]
    """
    tasks = family(beta)
    theta = np.asarray(theta, dtype=np.float64)
    if tasks.p > 1 and theta.shape[-1:] != (tasks.p,):
        raise ValueError(f"theta: the last axis must have length p = {tasks.p}, got the shape {theta.shape}")
    squares, total = (theta**2, theta) if tasks.p == 1 else ((theta**2).sum(-1), theta.sum(-1))
    # E (theta - theta_gamma)' W (theta - theta_gamma)
    quadratic = (
        _average(alpha, N, tasks) * squares
        - 2 * _average(alpha, N, tasks, (1,)) * total / tasks.p
        + _average(alpha, N, tasks, (2,))
    )
    step = np.square(step_size(alpha)) * tasks.mean((2,)) / samples(N)
    return np.asarray((quadratic + tasks.noise * (1 + step)) / 2)


def curvature(alpha: ArrayLike, N: ArrayLike, beta: Family = 2.0) -> Float:
    """E[W], the curvature of the adapted risk: `F_maml(theta) = minimum + E[W] |theta - optimum_maml|^2 / 2`.

    Parameters
    ----------
    alpha, N, beta
        As `optimum_maml` takes them.
    """
    return _average(alpha, N, family(beta))


def variances(alpha: ArrayLike, N: ArrayLike, beta: Family = 2.0) -> Variances:
    """Limits of M Var of both estimators, by the delta method; exact, for p = 1.

    V = E psi^2 / (E weight)^2, where psi is what a task adds to the normal equations at the optimum. With a1 and a2 the
    mean squares of both halves' inputs, e1 and e2 their mean products of input and noise, and S = 1 - alpha a1, DRS has
    psi = [(theta_gamma - theta)(a1 + a2) + e1 + e2] / 2 and MAML S^2 a2 (theta_gamma - theta) + S e2 - alpha S a2 e1.

    Parameters
    ----------
    alpha, N, beta
        As `optimum_maml` takes them.

    Raises
    ------
    ValueError
        p is not 1.

    Examples
    --------
    >>> [round(float(v), 4) for v in variances(0.5, 10)]
    [0.3107, 1.4252]
    """
    tasks = family(beta)
    if tasks.p != 1:
        raise ValueError(f"p: the variances are known in closed form for p = 1 only, got {tasks.p}")
    alpha, N = np.broadcast_arrays(step_size(alpha), samples(N))
    c, weight = 1 + 2 / N, _average(alpha, N, tasks)

    def spread(k: int, theta: Float | float) -> Float:
        """E q^k (theta_gamma - theta)^2."""
        return np.asarray(tasks.mean((k,), (2,)) - 2 * theta * tasks.mean((k,), (1,)) + theta**2 * tasks.mean((k,)))

    def rise(k: int) -> Float:
        """E a^k / q^k for a = q chi2_N / N."""
        return np.asarray(math.prod((1 + 2 * i / N for i in range(k)), start=np.ones_like(N)))

    first = (1 + 1 / N) * spread(2, optimum_drs(tasks)) + tasks.noise * tasks.mean((1,)) / (2 * N)
    optimum = optimum_maml(alpha, N, tasks)
    zero = np.zeros_like(N)
    own = sum((math.comb(4, k) * (-alpha) ** k * rise(k) * spread(2 + k, optimum) for k in range(5)), zero)
    inner = sum((math.comb(2, k) * (-alpha) ** k * rise(k + 1) * tasks.mean((3 + k,)) for k in range(3)), zero)
    second = c * own + tasks.noise / N * (weight + alpha**2 * c * inner)
    return Variances(np.asarray(first / tasks.mean((1,)) ** 2), np.asarray(second / weight**2))


def crossover_tasks(alpha: ArrayLike, N: ArrayLike, beta: Family = 2.0) -> Float:
    """M*, the number of tasks beyond which MAML has the lower *mean* risk after adaptation; for p = 1.

    (V_maml - V_drs) / (optimum_drs - optimum_maml)^2. Asymptotic, and poor below about 25 tasks. Infinite where the
    modelling error is zero; negative where MAML is also less variable, so that it is better at any number of tasks.

    Parameters
    ----------
    alpha, N, beta
        As `optimum_maml` takes them.

    Raises
    ------
    ValueError
        p is not 1.

    Examples
    --------
    >>> crossover_tasks([0.0, 0.5, 1.0], 10).round(1).tolist()
    [inf, 20.5, 19.6]
    """
    tasks = family(beta)
    drs, maml = variances(alpha, N, tasks)
    distance = optimum_drs(tasks) - optimum_maml(alpha, N, tasks)
    # a difference of rounding, as at `neutral_alpha`, is none
    distance = np.where(np.isclose(distance, 0, atol=1e-14 * abs(optimum_drs(tasks))), 0, distance)
    with np.errstate(divide="ignore"):
        return np.asarray((maml - drs) / distance**2)


# --- arguments -------------------------------------------------------------------------------------------------------


def family(beta: Family) -> Tasks:
    """The tasks that an argument `beta` stands for."""
    return beta if isinstance(beta, Tasks) else Tasks(beta)


def step_size(alpha: ArrayLike) -> Float:
    """`alpha` as an array, if it is finite and not negative."""
    return within("alpha", alpha, "[0, inf)")


def samples(N: ArrayLike) -> Float:
    """`N` as an array, if it is at least 1; infinity is allowed."""
    return at_least("N", N, 1)


def _average(alpha: ArrayLike, N: ArrayLike, tasks: Tasks, of_theta: tuple[int, ...] = ()) -> Float:
    """E[tr W] / p; with `of_theta`, E of tr W times the power sum of theta_gamma, over p."""
    alpha, N = step_size(alpha), samples(N)
    terms = (
        (1.0, (1,)),
        (-2 * alpha, (2,)),
        (alpha**2 * (1 + 1 / N), (3,)),
        (alpha**2 / N, (2, 1)),
    )
    return np.asarray(sum(factor * (tasks.mean(of_q, of_theta) / tasks.p) for factor, of_q in terms))


def _partitions(items: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """All ways to split items into blocks."""
    if not items:
        yield ()
        return
    first, rest = items[0], items[1:]
    for blocks in _partitions(rest):
        yield ((first,), *blocks)
        for i, block in enumerate(blocks):
            yield (*blocks[:i], (first, *block), *blocks[i + 1 :])

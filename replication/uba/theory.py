r"""The theory around UBA that can be computed: min-max steps, exact noisy quadratics, convergence bounds.

The paper's theorems were not available; everything here is derived from the schedule's formula or taken from the cited
literature, and each function says which. Notation: spectrum in :math:`[\lambda_l, \lambda_u]`, condition number
:math:`\kappa = \lambda_u / \lambda_l`, budget :math:`T`, :math:`a = \varphi / 2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replication.checks import at_least, positive, whole, within

__all__ = [
    "Trajectory",
    "chebyshev_bound",
    "chebyshev_steps",
    "last_iterate_bound",
    "lebedev_order",
    "mean_factor",
    "mean_square_factor",
    "quadratic_loss",
    "quadratic_trajectory",
    "stationarity_bound",
    "worst_case_contraction",
]

Float = NDArray[np.float64]


def _spectrum(lambda_min: float, lambda_max: float) -> None:
    positive("lambda_min", lambda_min)
    positive("lambda_max", lambda_max)
    if lambda_min > lambda_max:
        raise ValueError(f"lambda_min: must not exceed lambda_max ({lambda_max!r}), got {lambda_min!r}")


def _schedule(name: str, values: ArrayLike) -> Float:
    rates = within(name, values, "[0, inf)")
    if not rates.ndim:
        raise ValueError(f"{name}: must be learning rates with the steps along the last axis, got {rates:g} alone")
    return rates


# --- the schedule's shape -------------------------------------------------------------------------------------------


def mean_factor(phi: ArrayLike) -> Float:
    r"""Mean of the schedule over the budget, relative to the peak: :math:`1 / (1 + \sqrt{\varphi / 2})` (derived).

    Examples
    --------
    >>> mean_factor([0.5, 2, 8])
    array([0.66666667, 0.5       , 0.33333333])
    """
    return np.asarray(1 / (1 + np.sqrt(at_least("phi", phi, 0) / 2)))


def mean_square_factor(phi: ArrayLike) -> Float:
    r"""Mean of the squared schedule: :math:`(2 + \sqrt a) / (2 (1 + \sqrt a)^2)`, :math:`a = \varphi/2` (derived)."""
    root = np.sqrt(at_least("phi", phi, 0) / 2)
    return np.asarray((2 + root) / (2 * (1 + root) ** 2))


# --- the min-max problem ----------------------------------------------------------------------------------------------


def chebyshev_steps(lambda_min: float, lambda_max: float, T: int) -> Float:
    r"""Step sizes that minimise the worst-case contraction of gradient descent in T steps, largest first.

    .. math::
        \frac{1}{\eta_t} = \lambda_l \cos^2\frac{\theta_t}{2} + \lambda_u \sin^2\frac{\theta_t}{2}, \qquad
        \theta_t = \frac{(2t - 1) \pi}{2T}, \quad t = 1 \dots T

    Classical (Young 1953). Identical to UBA at the mid-points with :math:`\varphi = 2\kappa`,
    :math:`\eta_{\max} = 1/\lambda_l`, :math:`\eta_{\min} = 1/\lambda_u`.

    Parameters
    ----------
    lambda_min, lambda_max : float
        Ends of the spectrum, 0 < lambda_min ≤ lambda_max.
    T : int
        Number of steps.

    Returns
    -------
    ndarray of float64, shape (T,)
        Step sizes, in units of 1/lambda.

    Examples
    --------
    >>> from replication.uba.schedule import uba
    >>> midpoints = np.arange(8) + 0.5
    >>> np.allclose(chebyshev_steps(0.1, 1, 8), uba(midpoints, 8, phi=20, peak=10, floor=1), rtol=1e-13)
    True
    """
    _spectrum(lambda_min, lambda_max)
    half = (np.arange(whole("T", T)) + 0.5) * (math.pi / (2 * T))
    return np.asarray(1 / (lambda_min * np.cos(half) ** 2 + lambda_max * np.sin(half) ** 2))


def worst_case_contraction(steps: ArrayLike, lambda_min: float, lambda_max: float, *, log: bool = False) -> Float:
    r"""Largest factor on the error of any curvature in the interval after the steps.

    .. math:: \max_{\lambda \in [\lambda_l, \lambda_u]} \Bigl| \prod_t (1 - \eta_t \lambda) \Bigr|

    Between two neighbouring roots :math:`1/\eta_t` the logarithm is a sum of concave functions, so it has one maximum
    there, and its derivative falls from plus to minus infinity: bisection finds every maximum to the last bits of
    lambda, and the value, stationary there, to rounding (about T machine epsilons in the logarithm). No grid is used.

    Parameters
    ----------
    steps : array, shape (..., T)
        Step sizes, finite and ≥ 0, in any order: the product does not depend on it.
    lambda_min, lambda_max : float
        Ends of the interval.
    log : bool
        Return the natural logarithm, which neither overflows nor underflows.

    Returns
    -------
    ndarray of float64, shape (...)
        The worst case; below 1 (log below 0) where gradient descent contracts on the whole interval.

    Examples
    --------
    >>> float(worst_case_contraction([1.0], 0.5, 1.5))
    0.5
    """
    _spectrum(lambda_min, lambda_max)
    eta = _schedule("steps", steps)
    with np.errstate(divide="ignore", over="ignore"):
        roots = 1 / eta  # inf for a step of (almost) 0, which contributes a factor of 1
    inner = np.sort(np.clip(roots, lambda_min, lambda_max), axis=-1)
    ends = [np.full((*eta.shape[:-1], 1), end) for end in (lambda_min, lambda_max)]
    knots = np.concatenate([ends[0], inner, ends[1]], axis=-1)
    low, high = knots[..., :-1].copy(), knots[..., 1:].copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(64):
            middle = 0.5 * (low + high)
            # derivative of log |prod (1 - eta lambda)| = sum of -eta / (1 - eta lambda)
            slope = -np.sum(eta[..., None, :] / (1 - eta[..., None, :] * middle[..., None]), axis=-1)
            rising = slope > 0
            low, high = np.where(rising, middle, low), np.where(rising, high, middle)
        candidates = np.concatenate([low, high, *ends], axis=-1)
        values = np.sum(np.log(np.abs(1 - eta[..., None, :] * candidates[..., None])), axis=-1)
    # a candidate on a root has value log 0 = -inf, which never is the maximum unless the whole interval is one point
    worst = np.max(np.where(np.isnan(values), -np.inf, values), axis=-1)
    if log:
        return np.asarray(worst)
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(worst))


def chebyshev_bound(lambda_min: float, lambda_max: float, T: int, *, log: bool = False) -> float:
    r"""Least worst-case contraction that any T step sizes can reach: :math:`1/\cosh(T \,\mathrm{arccosh}
    \frac{\kappa + 1}{\kappa - 1})` (classical).

    Parameters
    ----------
    lambda_min, lambda_max : float
        Ends of the spectrum.
    T : int
        Number of steps.
    log : bool
        Return the natural logarithm.

    Returns
    -------
    float
        The bound; 0 (log: -inf) where the interval is a single point.

    Examples
    --------
    >>> round(chebyshev_bound(0.1, 1, 32, log=True), 3)
    -20.264
    """
    _spectrum(lambda_min, lambda_max)
    whole("T", T)
    if lambda_min == lambda_max:
        return -math.inf if log else 0.0
    # arccosh((kappa + 1)/(kappa - 1)) = 2 artanh(1/sqrt(kappa)), without cancellation for large kappa
    exponent = 2 * T * math.atanh(math.sqrt(lambda_min / lambda_max))
    value = math.log(2) - exponent - math.log1p(math.exp(-2 * exponent))
    return value if log else math.exp(value)


def lebedev_order(T: int) -> NDArray[np.int64]:
    """Order of the min-max steps that keeps every partial product small (Lebedev and Finogenov; "fractal" order).

    For a power of two this is the classical recursion: each step is followed by its mirror image in the sorted list.
    For an odd number of steps the middle one, which contracts on the whole interval alone, goes first (our extension).

    Parameters
    ----------
    T : int
        Number of steps.

    Returns
    -------
    ndarray of int64, shape (T,)
        Permutation of 0…T-1 to index steps sorted by size, as :func:`chebyshev_steps` returns them.

    Examples
    --------
    >>> lebedev_order(8)
    array([0, 7, 3, 4, 1, 6, 2, 5])
    """
    if whole("T", T) == 1:
        return np.zeros(1, dtype=np.int64)
    half = lebedev_order(T // 2)
    pairs = np.stack([half, T - 1 - half], axis=1).ravel()
    return pairs if T % 2 == 0 else np.concatenate([[T // 2], pairs])


# --- the noisy quadratic ----------------------------------------------------------------------------------------------


class Trajectory(NamedTuple):
    """Expected progress of SGD on the noisy quadratic; axes (schedule, peak, noise, step 0…T)."""

    loss: Float
    """Expected loss per dimension."""
    gradient: Float
    """Expected squared norm of the gradient per dimension."""


def _moments(
    factors: ArrayLike, peaks: ArrayLike, eigenvalues: ArrayLike, noise: ArrayLike, v0: ArrayLike
) -> Iterator[Callable[[int], Float]]:
    """Yield, for steps 0…T, a function that weights the second moments by a power of the eigenvalues and averages them.

    Its result has the shape (S, P, N), and is that of the step until the next one is asked for. v_i is linear in the
    initial moment and in the noise level, so that one pass serves every noise level.
    """
    table = np.atleast_2d(_schedule("factors", factors))
    given = {"peaks": peaks, "eigenvalues": eigenvalues, "noise": noise, "v0": v0}
    top, curvature, level, start = (np.atleast_1d(within(name, of, "[0, inf)")) for name, of in given.items())
    if start.size not in (1, curvature.size):
        raise ValueError(f"v0: must be one number or one per eigenvalue ({curvature.size}), got {start.size}")
    top = np.atleast_2d(top)
    shape = (*np.broadcast_shapes((*table.shape[:-1], 1), top.shape), len(curvature))
    initial, unit = np.broadcast_to(start, shape).copy(), np.zeros(shape)

    def mean(power: int) -> Float:
        weights = curvature**power / len(curvature)
        with np.errstate(over="ignore", invalid="ignore"):
            # without noise there is none, also where it would have diverged
            noisy = np.where(level > 0, (unit @ weights)[..., None] * level, 0)
            return np.asarray((initial @ weights)[..., None] + noisy)

    yield mean
    for t in range(table.shape[-1]):
        with np.errstate(over="ignore", invalid="ignore"):
            eta = (table[:, t, None] * top)[..., None]
            scaled = eta * curvature
            shrink = (1 - scaled) ** 2
            initial *= shrink
            unit *= shrink
            unit += eta * scaled
        yield mean


def quadratic_trajectory(
    factors: ArrayLike, peaks: ArrayLike, eigenvalues: ArrayLike, noise: ArrayLike, v0: ArrayLike = 1.0
) -> Trajectory:
    r"""Exact expected loss and squared gradient at every step of SGD on a noisy quadratic.

    Same model and arguments as :func:`quadratic_loss`.

    Returns
    -------
    Trajectory
        ``loss`` and ``gradient``, float64, shape (S, P, N, T + 1): before the first step, …, after the last.
    """
    path = [(0.5 * mean(1), mean(2)) for mean in _moments(factors, peaks, eigenvalues, noise, v0)]
    return Trajectory(*(np.stack(of, axis=-1) for of in zip(*path, strict=True)))


def quadratic_loss(
    factors: ArrayLike, peaks: ArrayLike, eigenvalues: ArrayLike, noise: ArrayLike, v0: ArrayLike = 1.0
) -> Float:
    r"""Exact expected final loss of SGD on a noisy quadratic, for every schedule, peak and noise level.

    The loss is :math:`\frac{1}{2D} \sum_i \lambda_i w_i^2`, each coordinate's gradient :math:`\lambda_i w_i` carries
    noise of variance :math:`s^2 \lambda_i`, and the second moments follow without sampling

    .. math:: v_i \leftarrow (1 - \eta_t \lambda_i)^2 \, v_i + \eta_t^2 s^2 \lambda_i .

    Parameters
    ----------
    factors : array, shape (T,) or (S, T)
        Schedules relative to their peak.
    peaks : array, shape (P,) or (S, P)
        Peak learning rates, shared or one row per schedule.
    eigenvalues : array, shape (D,)
        Curvatures :math:`\lambda_i`.
    noise : array, shape (N,)
        Noise levels :math:`s^2`.
    v0 : float or array, shape (D,)
        Initial second moments :math:`E[w_i^2]`.

    Returns
    -------
    ndarray of float64, shape (S, P, N)
        Expected loss per dimension after T steps; inf where it overflows.

    Examples
    --------
    >>> float(quadratic_loss([1.0, 1.0], 0.5, [1.0], noise=0.0).squeeze())  # 1/2 (1 - 1/2)^4
    0.03125
    """
    *_, mean = _moments(factors, peaks, eigenvalues, noise, v0)
    loss = 0.5 * mean(1)
    return np.where(np.isnan(loss), np.inf, loss)


# --- bounds -----------------------------------------------------------------------------------------------------------


def last_iterate_bound(factors: ArrayLike) -> Float:
    r"""Convex bound on the last iterate of subgradient descent, peak tuned, in units of :math:`D G / \sqrt T`.

    Defazio et al. 2023 (arXiv 2310.07831), Theorem 10, for learning rates :math:`\gamma f_t`, minimised over
    :math:`\gamma`:

    .. math::
        \sqrt{\frac{T}{\sum_t f_t} \Bigl[ \frac{\sum_t f_t^2}{\sum_t f_t} + \sum_{k=1}^{T-1}
        \frac{f_k}{\sum_{t>k} f_t} \, \frac{\sum_{t \ge k} f_t^2}{\sum_{t \ge k} f_t} \Bigr]}

    Parameters
    ----------
    factors : array, shape (..., T)
        Schedules relative to their peak. Steps of 0 at the end leave the iterate where it is and are dropped.

    Returns
    -------
    ndarray of float64, shape (...)
        The bound; :math:`D` is the initial distance, :math:`G` the Lipschitz constant.

    Examples
    --------
    >>> float(last_iterate_bound(1 - np.arange(2000) / 2000).round(3))  # linear decay
    2.003
    """
    table = _schedule("factors", factors)
    flat = table.reshape(-1, table.shape[-1])
    return np.array([_last_iterate(row) for row in flat]).reshape(table.shape[:-1])


def _last_iterate(row: Float) -> float:
    moving = np.flatnonzero(row)
    if not moving.size:
        raise ValueError("factors: a schedule of zeros only has no bound; give one with a positive step")
    f = row[: moving[-1] + 1]
    rest = np.cumsum(f[::-1])[::-1]  # sum over t >= k
    ratio = np.cumsum(f[::-1] ** 2)[::-1] / rest
    return math.sqrt(len(row) / rest[0] * (ratio[0] + float(np.sum(f[:-1] / rest[1:] * ratio[:-1]))))


def stationarity_bound(
    phi: ArrayLike, T: ArrayLike, peak: ArrayLike, *, smoothness: float, variance: ArrayLike, gap: ArrayLike
) -> Float:
    r"""Bound on the least expected squared gradient norm in T steps of SGD with UBA, floor 0.

    .. math::
        \min_{t} E\|\nabla f\|^2 \le \frac{2 D_0 (1 + \sqrt a)}{T \eta_{\max}}
        + L \sigma^2 \eta_{\max} \frac{2 + \sqrt a}{2 (1 + \sqrt a)}, \qquad a = \varphi / 2

    Derived from the descent lemma with the schedule's means for large T; not the paper's theorem, which is not known.

    Parameters
    ----------
    phi : array
        Shape of the schedule, ≥ 0.
    T : array
        Budget in steps.
    peak : array
        Peak learning rate, at most 1/L.
    smoothness : float
        L, the Lipschitz constant of the gradient.
    variance : array
        :math:`\sigma^2`, variance of the stochastic gradient.
    gap : array
        :math:`D_0 = f(w_0) - f^*`.

    Returns
    -------
    ndarray of float64
        The bound, broadcast over the arguments.

    Raises
    ------
    ValueError
        If ``peak`` exceeds 1/L, where the bound does not hold.

    Examples
    --------
    >>> float(stationarity_bound(2, 100, 0.1, smoothness=1.0, variance=0.0, gap=1.0).round(6))
    0.4
    """
    positive("smoothness", smoothness)
    top = np.asarray(peak, dtype=np.float64)
    if not np.all((top > 0) & (top <= 1 / smoothness)):
        raise ValueError(f"peak: must be positive and at most 1/L = {1 / smoothness:.6g}, got {peak!r}")
    mean, square = mean_factor(phi), mean_square_factor(phi)
    descent = 2 * np.asarray(gap) / (np.asarray(T) * top * mean)
    return np.asarray(descent + smoothness * np.asarray(variance) * top * square / mean)

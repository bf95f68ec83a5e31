"""Fit L(N, D) = E + A N^-alpha + B D^-beta to training runs, and its bootstrap, many problems at once.

The objective of Hoffmann et al. 2022 (approach 3), the sum of Huber_delta(ln L - ln(predicted loss)), has five
parameters and a few hundred points: one optimiser call on it is mostly overhead, and thousands of resamples and starts
fit into one program. A resample is a vector of counts over the same points, so all problems share N, D and L, and the
gradients and Hessians of all of them are a few matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import huber

from replication.meek.law import Float, ParametricLaw, Real, positive
from replication.training import track

Rule = Callable[[Float, Float, Float], NDArray[np.bool_]]

SCALE = 1e4
"""The objective is of the order of 1e-3; it is multiplied by this before any tolerance is applied to it."""
TOLERANCE = 1e-4
"""Largest gradient norm, of the scaled objective in standardised parameters, that counts as converged."""
CHUNK = 256
"""Problems solved together: as many as keep the working arrays within a processor's cache."""
ITERATIONS = 300
"""Newton steps at most."""


@dataclass(frozen=True)
class ChinchillaFit(ParametricLaw):
    """A fitted law, or one for every resample of a bootstrap.

    Attributes
    ----------
    objective : float or ndarray
        Sum of the Huber losses at the solution.
    gradient_norm : float or ndarray
        Norm of the scaled objective's gradient there, in standardised parameters.
    converged : bool or ndarray
        Whether that is at most `TOLERANCE`.
    n : int
        Points fitted, after outliers were left out.
    """

    objective: Real
    gradient_norm: Real
    converged: bool | NDArray[np.bool_]
    n: int


def drop_largest(count: int) -> Rule:
    """Outlier rule: keep runs whose loss is below the `count`-th largest (5 in Besiroglu et al. 2024); 0 keeps all."""
    if count < 0:
        raise ValueError(f"count: must not be negative, came {count}")

    def rule(N: Float, D: Float, loss: Float) -> NDArray[np.bool_]:
        del N, D
        return np.ones(len(loss), np.bool_) if count == 0 else loss < np.sort(loss)[-min(count, len(loss))]

    return rule


def hoffmann_grid() -> Float:
    """The 4,500 starts of Hoffmann et al. 2022, shape (4500, 5): columns ln A, ln B, ln E, alpha, beta."""
    exponents, logs = np.arange(0, 2.5, 0.5), np.arange(0, 30, 5.0)
    grid = np.meshgrid(logs, logs, np.arange(-1, 1.5, 0.5), exponents, exponents, indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 5)


#: Starts of a bootstrap: the laws of Hoffmann et al. and three around them that differ in both exponents.
DEFAULT_STARTS = np.array(
    [
        [6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083],
        [6.2, 7.6, 0.6, 0.35, 0.37],
        [4.5, 10.0, 0.7, 0.25, 0.5],
        [9.0, 5.0, 0.4, 0.5, 0.25],
    ]
)


def fit_chinchilla(
    N: ArrayLike,
    D: ArrayLike,
    loss: ArrayLike,
    *,
    delta: float = 1e-3,
    outliers: Rule | None = None,
    starts: ArrayLike = DEFAULT_STARTS,
) -> ChinchillaFit:
    """Fit L(N, D) = E + A N^-alpha + B D^-beta by the Huber loss of ln L; the best of many starts.

    Parameters
    ----------
    N, D, loss : array_like, shape (n,)
        Parameters, training tokens, and final loss in nats per token of n training runs.
    delta : float
        Where the Huber loss of the residual of ln L becomes linear.
    outliers : callable(N, D, loss) -> bool mask, optional
        Which runs to keep, such as ``drop_largest(5)``; default: all.
    starts : array_like, shape (S, 5)
        Starting points: ln A, ln B, ln E, alpha, beta (see `hoffmann_grid`).

    Returns
    -------
    ChinchillaFit
        Of scalars.

    Raises
    ------
    ValueError
        Data are empty, not positive, NaN, of unequal length, or fewer than the five parameters after the outlier rule;
        they do not vary in N or in D; delta is not positive; or the starts have another shape.

    Examples
    --------
    >>> N, D = np.meshgrid(np.geomspace(1e8, 1e10, 8), np.geomspace(1e9, 1e11, 8))
    >>> law = ParametricLaw(482.0, 2085.0, 1.82, 0.35, 0.37)
    >>> fitted = fit_chinchilla(N.ravel(), D.ravel(), law.loss(N, D).ravel())
    >>> round(float(fitted.alpha), 4), round(float(fitted.frontier().alpha), 4)
    (0.35, 0.1799)
    """
    problem = _Problem.of(N, D, loss, delta, outliers)
    solution = problem.solve(np.ones((1, problem.n)), _starts(starts))
    return problem.fit(solution, 0)


def bootstrap_chinchilla(
    N: ArrayLike,
    D: ArrayLike,
    loss: ArrayLike,
    *,
    resamples: int = 4000,
    seed: int = 0,
    delta: float = 1e-3,
    outliers: Rule | None = None,
    starts: ArrayLike = DEFAULT_STARTS,
) -> ChinchillaFit:
    """Fit the law to bootstrap resamples of the runs.

    Parameters
    ----------
    N, D, loss, delta, outliers, starts
        As `fit_chinchilla` takes them; outliers are left out before runs are drawn. Every resample is fitted from every
        start and from the solution of the whole sample.
    resamples : int
        Number of resamples, each of as many runs, drawn with replacement.
    seed : int
        Of the resampling.

    Returns
    -------
    ChinchillaFit
        Of arrays of shape (resamples,); ``.frontier()`` is the compute-optimal law of each.

    Raises
    ------
    ValueError
        As `fit_chinchilla`, or there is no resample.
    """
    if resamples < 1:
        raise ValueError(f"resamples: must be at least 1, came {resamples}")
    problem = _Problem.of(N, D, loss, delta, outliers)
    whole = problem.solve(np.ones((1, problem.n)), _starts(starts))
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(problem.n, np.full(problem.n, 1 / problem.n), size=resamples).astype(np.float64)
    everywhere = np.concatenate([_starts(starts), problem.natural(whole.theta)])
    return problem.fit(problem.solve(counts, everywhere), slice(None))


class _Solution(NamedTuple):
    theta: Float
    objective: Float
    gradient_norm: Float


@dataclass(frozen=True)
class _Problem:
    """Runs in standardised logarithms: ln N and ln D centred and scaled, which makes the problem well conditioned."""

    x: Float
    y: Float
    target: Float
    centre: tuple[float, float]
    spread: tuple[float, float]
    delta: float

    @classmethod
    def of(cls, N: ArrayLike, D: ArrayLike, loss: ArrayLike, delta: float, outliers: Rule | None) -> _Problem:
        if not delta > 0:
            raise ValueError(f"delta: must be positive, came {delta}")
        columns = [np.atleast_1d(positive(name, value)) for name, value in (("N", N), ("D", D), ("loss", loss))]
        if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
            shapes = ", ".join(str(column.shape) for column in columns)
            raise ValueError(f"N, D, loss: must be one-dimensional and equally long, came shapes {shapes}")
        if outliers is not None:
            keep = outliers(*columns)
            columns = [column[keep] for column in columns]
        if len(columns[0]) < 5:
            raise ValueError(f"loss: {len(columns[0])} runs are fewer than the 5 parameters; give more runs")
        (x, y), target = (np.log(column) for column in columns[:2]), np.log(columns[2])
        for name, column in (("N", x), ("D", y)):
            if np.ptp(column) < 1e-9:
                raise ValueError(f"{name}: is the same in every run, so its exponent cannot be fitted")
        centre, spread = (float(x.mean()), float(y.mean())), (float(x.std()), float(y.std()))
        return cls((x - centre[0]) / spread[0], (y - centre[1]) / spread[1], target, centre, spread, delta)

    @property
    def n(self) -> int:
        return len(self.target)

    def standard(self, theta: Float) -> Float:
        """From ln A, ln B, ln E, alpha, beta to ln of the terms at the centre, ln E, and exponents per spread."""
        a, b, e, alpha, beta = theta.T
        at_centre = (a - alpha * self.centre[0], b - beta * self.centre[1])
        return np.stack([*at_centre, e, alpha * self.spread[0], beta * self.spread[1]], axis=1)

    def natural(self, theta: Float) -> Float:
        """The inverse of `standard`."""
        a, b, e, alpha, beta = theta.T
        alpha, beta = alpha / self.spread[0], beta / self.spread[1]
        return np.stack([a + alpha * self.centre[0], b + beta * self.centre[1], e, alpha, beta], axis=1)

    def fit(self, solution: _Solution, index: int | slice) -> ChinchillaFit:
        a, b, e, alpha, beta = self.natural(solution.theta).T
        norm = solution.gradient_norm[index]
        return ChinchillaFit(
            A=np.exp(a[index]),
            B=np.exp(b[index]),
            E=np.exp(e[index]),
            alpha=alpha[index],
            beta=beta[index],
            objective=solution.objective[index] / SCALE,
            gradient_norm=norm,
            converged=norm <= TOLERANCE,
            n=self.n,
        )

    def solve(self, counts: Float, starts: Float) -> _Solution:
        """Best solution of every row of counts over all starts."""
        begin = self.standard(starts)
        best = _Solution(np.empty((len(counts), 5)), np.full(len(counts), np.inf), np.full(len(counts), np.inf))
        rows = max(1, CHUNK // len(begin))
        for first in track(range(0, len(counts), rows), "batches of fits"):
            part = counts[first : first + rows]
            found = self._newton(np.repeat(part, len(begin), axis=0), np.tile(begin, (len(part), 1)))
            objective = found.objective.reshape(len(part), -1)
            chosen = objective.argmin(axis=1) + np.arange(len(part)) * len(begin)
            for whole, piece in zip(best, found, strict=True):
                whole[first : first + rows] = piece[chosen]
        return best

    def _newton(self, counts: Float, theta: Float) -> _Solution:
        """Damped Newton steps with the exact Hessian, its eigenvalues made positive; one damping per problem."""
        theta, damping = theta.copy(), np.full(len(theta), 1e-2)
        value, gradient, hessian = self.derivatives(counts, theta)
        active = np.arange(len(theta))
        for _ in range(ITERATIONS):
            active = active[np.linalg.norm(gradient[active], axis=1) > TOLERANCE * 0.1]
            active = active[damping[active] < 1e12]
            if not active.size:
                break
            values, vectors = np.linalg.eigh(hessian[active])
            size = np.abs(values).max(axis=1, keepdims=True)
            slope = np.einsum("pij,pi->pj", vectors, gradient[active])
            step = -slope / (np.abs(values) + damping[active, None] * size + 1e-12)
            trial = theta[active] + np.einsum("pij,pj->pi", vectors, np.clip(step, -1, 1))
            new = self.derivatives(counts[active], trial)
            better = new[0] < value[active]
            moved = active[better]
            theta[moved] = trial[better]
            value[moved], gradient[moved], hessian[moved] = (part[better] for part in new)
            damping[active] *= np.where(better, 0.2, 8.0)
            damping[moved] = np.maximum(damping[moved], 1e-12)
        return _Solution(theta, value, np.linalg.norm(gradient, axis=1))

    def derivatives(self, counts: Float, theta: Float) -> tuple[Float, Float, Float]:
        """Scaled objective, its gradient and Hessian in standardised parameters: shapes (P,), (P, 5), (P, 5, 5)."""
        x, y = self.x, self.y
        a, b, e, alpha, beta = theta.T[:, :, None]
        with np.errstate(over="ignore", invalid="ignore"):
            p, q = np.exp(a - alpha * x), np.exp(b - beta * y)
            total = p + q + np.exp(e)
            r = self.target - np.log(total)
            p, q = p / total, q / total
        s = 1 - p - q
        small = np.abs(r) <= self.delta
        weight = SCALE * counts
        value = np.sum(weight * huber(self.delta, r), axis=1)
        # derivatives of the Huber loss: first times the count, second too
        g = weight * np.clip(r, -self.delta, self.delta)
        h = weight * small
        # d r / d theta = -(p, q, s) times (1, 1, 1, -x, -y) in the order a, b, e, alpha, beta
        ones, xx, yy, xy = np.ones_like(x), x * x, y * y, x * y
        gp, gq = g * p, g * q
        ga = gp @ np.stack([ones, x], axis=1)
        gb = gq @ np.stack([ones, y], axis=1)
        gradient = np.stack([-ga[:, 0], -gb[:, 0], -(g * s).sum(axis=1), ga[:, 1], gb[:, 1]], axis=1)
        # second derivatives of ln(sum): w_i (1_ij - w_j); of the objective: h w_i w_j - g w_i (1_ij - w_j)
        hg = h + g
        pp = (hg * p * p - gp) @ np.stack([ones, x, xx], axis=1)
        qq = (hg * q * q - gq) @ np.stack([ones, y, yy], axis=1)
        pq = (hg * p * q) @ np.stack([ones, x, y, xy], axis=1)
        ps = (hg * p * s) @ np.stack([ones, x], axis=1)
        qs = (hg * q * s) @ np.stack([ones, y], axis=1)
        ss = np.sum(hg * s * s - g * s, axis=1)
        rows = [
            [pp[:, 0], pq[:, 0], ps[:, 0], -pp[:, 1], -pq[:, 2]],
            [pq[:, 0], qq[:, 0], qs[:, 0], -pq[:, 1], -qq[:, 1]],
            [ps[:, 0], qs[:, 0], ss, -ps[:, 1], -qs[:, 1]],
            [-pp[:, 1], -pq[:, 1], -ps[:, 1], pp[:, 2], pq[:, 3]],
            [-pq[:, 2], -qq[:, 1], -qs[:, 1], pq[:, 3], qq[:, 2]],
        ]
        hessian = np.stack([np.stack(row, axis=1) for row in rows], axis=1)
        value = np.where(np.isfinite(value), value, np.inf)
        return value, gradient, hessian


def _starts(starts: ArrayLike) -> Float:
    array = np.atleast_2d(np.asarray(starts, dtype=np.float64))
    if array.ndim != 2 or array.shape[1] != 5 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"starts: must be finite, of shape (S, 5): ln A, ln B, ln E, alpha, beta; came {array.shape}")
    return array

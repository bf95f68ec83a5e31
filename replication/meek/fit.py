"""Fit L(N, D) = E + A N^-alpha + B D^-beta to training runs, and its bootstrap, many problems at once.

The objective of Hoffmann et al. 2022 (approach 3), the sum of Huber_delta(ln L - ln(predicted loss)), has five
parameters and a few hundred points: one optimiser call on it is mostly overhead, and thousands of resamples and starts
fit into one program. A resample is a vector of counts over the same points, so all problems share N, D and L, and the
gradients and Hessians of all of them are a few matrix products.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from replication.checks import at_least, positive
from replication.meek.law import Float, ParametricLaw, Real
from replication.training import track

Rule = Callable[[Float, Float, Float], NDArray[np.bool_]]

SCALE = 1e4
"""The objective is of the order of 1e-3; it is multiplied by this before any tolerance is applied to it."""
TOLERANCE = 1e-4
"""Largest gradient norm, of the scaled objective in standardised parameters, that counts as converged."""
BATCH = 4096
"""Problems set up together; it bounds the memory."""
CHUNK = 128
"""Problems worked on together: enough to spread the cost of a call, few enough for a processor's cache."""
ITERATIONS = 3000
"""Newton steps at most; a typical problem takes 20, one of few and noisy runs hundreds."""
CONDITION = 1e5
"""Largest condition number of the Hessian, in standardised parameters, at which the runs determine the law.

Well spread runs have 1e3 to 1e4. Runs with 20 tokens per parameter have 3e5 if it is within a tenth, 1e15 if exactly.
"""


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
    condition : float or ndarray
        Condition number of the Hessian there; above `CONDITION` other constants fit as well.
    n : int
        Points fitted, after outliers were left out.
    """

    objective: Real
    gradient_norm: Real
    converged: bool | NDArray[np.bool_]
    condition: Real
    n: int


class IllConditionedWarning(UserWarning):
    """The runs hardly determine the law: other constants fit them as well."""


def drop_largest(count: int) -> Rule:
    """Outlier rule: keep runs whose loss is below the `count`-th largest (5 in Besiroglu et al. 2024); 0 keeps all."""
    if count < 0:
        raise ValueError(f"count: must not be negative, got {count}")

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

    Warns
    -----
    IllConditionedWarning
        The runs hardly determine the law, as when all have the same tokens per parameter.

    Raises
    ------
    ValueError
        Data are empty, not positive, NaN, of unequal length, or fewer than the five parameters after the outlier rule;
        they do not vary in N or in D, or do not determine a law with positive exponents; delta is not positive; or the
        starts have another shape.

    Examples
    --------
    >>> N, D = np.meshgrid(np.geomspace(1e8, 1e10, 8), np.geomspace(1e9, 1e11, 8))
    >>> law = ParametricLaw(482.0, 2085.0, 1.82, 0.35, 0.37)
    >>> fitted = fit_chinchilla(N.ravel(), D.ravel(), law.loss(N, D).ravel())
    >>> round(float(fitted.alpha), 4), round(float(fitted.frontier().alpha), 4)
    (0.35, 0.1799)
    """
    problem = _Problem.of(N, D, loss, delta, outliers)
    fitted = problem.fit(problem.solve(np.ones((1, problem.n)), _starts(starts)), 0)
    if fitted.condition > CONDITION:
        warnings.warn(
            f"N, D: these runs hardly determine the law (condition number {fitted.condition:.0e}, at most "
            f"{CONDITION:.0e} would do); give runs that differ more in size and in tokens per parameter",
            IllConditionedWarning,
            stacklevel=2,
        )
    return fitted


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
    at_least("resamples", resamples, 1)
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
    condition: Float


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
        positive("delta", delta)
        columns = [np.atleast_1d(positive(name, value)) for name, value in (("N", N), ("D", D), ("loss", loss))]
        if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
            shapes = ", ".join(str(column.shape) for column in columns)
            raise ValueError(f"N, D, loss: must be one-dimensional and equally long, got shapes {shapes}")
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
        with np.errstate(over="ignore"):
            A, B, E = np.exp(a), np.exp(b), np.exp(e)
        no_law = ~((alpha > 0) & (beta > 0) & np.isfinite(A) & np.isfinite(B))
        if no_law.any():
            raise ValueError(
                f"N, D, loss: {no_law.sum()} of {len(no_law)} fits have an exponent that is not positive or a scale "
                "that is not finite, so these runs do not determine the law; give more runs, over a wider range"
            )
        return ChinchillaFit(
            A=A[index],
            B=B[index],
            E=E[index],
            alpha=alpha[index],
            beta=beta[index],
            objective=solution.objective[index] / SCALE,
            gradient_norm=norm,
            converged=norm <= TOLERANCE,
            condition=solution.condition[index],
            n=self.n,
        )

    def solve(self, counts: Float, starts: Float) -> _Solution:
        """Best solution of every row of counts over all starts."""
        begin = self.standard(starts)
        best = _Solution(np.empty((len(counts), 5)), *(np.empty(len(counts)) for _ in range(3)))
        rows = max(1, BATCH // len(begin))
        for first in track(range(0, len(counts), rows), "batches of fits"):
            found = self._newton(counts[first : first + rows], begin)
            objective = found.objective.reshape(-1, len(begin))
            chosen = objective.argmin(axis=1) + np.arange(len(objective)) * len(begin)
            for whole, piece in zip(best, found, strict=True):
                whole[first : first + rows] = piece[chosen]
        return best

    def _newton(self, counts: Float, begin: Float) -> _Solution:
        """Solutions of every row of counts from every start, by damped Newton steps with one damping per problem.

        The Hessian is exact; where it is not positive, steps are refused until the damping makes it so. At most `CHUNK`
        problems are worked on at a time; one that is finished makes room for the next, so that few long ones do not
        hold up the rest.
        """
        theta = np.tile(begin, (len(counts), 1))
        # with these the first step of a problem stays where it is, and is taken
        value, gradient, hessian = (
            np.full(len(theta), np.inf),
            np.zeros_like(theta),
            np.tile(np.eye(5), (len(theta), 1, 1)),
        )
        damping, steps = np.full(len(theta), 5e-2), np.zeros(len(theta), np.int64)
        active, waiting = np.split(np.arange(len(theta)), [CHUNK])
        while active.size:
            curvature = hessian[active]
            size = np.abs(np.trace(curvature, axis1=1, axis2=2))
            damped = curvature + (damping[active] * size + 1e-12)[:, None, None] * np.eye(5)
            step = np.linalg.solve(damped, -gradient[active][:, :, None])[:, :, 0]
            trial = theta[active] + np.clip(step, -1, 1)
            new = self.derivatives(counts[active // len(begin)], trial)
            better = new[0] < value[active]
            moved = active[better]
            theta[moved] = trial[better]
            value[moved], gradient[moved], hessian[moved] = (part[better] for part in new)
            damping[active] *= np.where(better, 0.2, 8.0)
            damping[moved] = np.maximum(damping[moved], 1e-12)
            steps[active] += 1
            unsolved = np.linalg.norm(gradient[active], axis=1) > TOLERANCE * 0.1
            active = active[unsolved & (damping[active] < 1e12) & (steps[active] <= ITERATIONS)]
            room = CHUNK - len(active)
            active, waiting = np.concatenate([active, waiting[:room]]), waiting[room:]
        # a start at which the objective is not finite is never left
        norm = np.where(np.isfinite(value), np.linalg.norm(gradient, axis=1), np.inf)
        return _Solution(theta, value, norm, np.linalg.cond(np.nan_to_num(hessian)))

    @cached_property
    def _powers(self) -> tuple[Float, Float, Float]:
        """Products of d ln p / d(a, alpha) = (1, -x) and d ln q / d(b, beta) = (1, -y): of x, of y, of both."""
        x, y, one = self.x, self.y, np.ones_like(self.x)
        of_x, of_y, of_xy = (one, -x, x * x), (one, -y, y * y), (one, -x, -y, x * y)
        return np.stack(of_x, axis=1), np.stack(of_y, axis=1), np.stack(of_xy, axis=1)

    def derivatives(self, counts: Float, theta: Float) -> tuple[Float, Float, Float]:
        """Scaled objective, its gradient and Hessian in standardised parameters: shapes (P,), (P, 5), (P, 5, 5)."""
        a, b, e, alpha, beta = theta.T[:, :, None]
        with np.errstate(over="ignore", invalid="ignore"):
            p, q = _exp(a - alpha * self.x), _exp(b - beta * self.y)
            total = p + q + np.exp(e)
            r = self.target - _log(total)
            p /= total
            q /= total
        # the Huber loss, and its first and second derivatives, times the count
        clipped = np.clip(r, -self.delta, self.delta)
        g = SCALE * counts * clipped
        h = SCALE * counts * (r == clipped)
        value = np.einsum("pn,pn->p", g, r - clipped / 2)
        # With the shares w = (p, q, s) of the three terms, s = 1 - p - q: d r / d ln(term i) = -w_i, and the second
        # derivatives of the objective are h w_i w_j - g w_i (1_ij - w_j). Sums with s follow from those with p and q.
        of_x, of_y, of_xy = self._powers
        h += g
        hp, hq = h * p, h * q
        g_p, g_q, g_1 = (g * p) @ of_x, (g * q) @ of_y, g.sum(axis=1)
        h_p, h_q, h_1 = hp @ of_x[:, :2], hq @ of_y[:, :2], h.sum(axis=1)
        h_pp, h_pq, h_qq = (hp * p) @ of_x, (hp * q) @ of_xy, (hq * q) @ of_y
        pp, pq, qq = h_pp - g_p, h_pq, h_qq - g_q
        ps, qs = h_p - h_pp[:, :2] - h_pq[:, :2], h_q - h_qq[:, :2] - h_pq[:, ::2]
        g_s = g_1 - g_p[:, 0] - g_q[:, 0]
        ss = h_1 - h_p[:, 0] - h_q[:, 0] - ps[:, 0] - qs[:, 0] - g_s
        gradient = -np.stack([g_p[:, 0], g_q[:, 0], g_s, g_p[:, 1], g_q[:, 1]], axis=1)
        rows = [
            [pp[:, 0], pq[:, 0], ps[:, 0], pp[:, 1], pq[:, 2]],
            [pq[:, 0], qq[:, 0], qs[:, 0], pq[:, 1], qq[:, 1]],
            [ps[:, 0], qs[:, 0], ss, ps[:, 1], qs[:, 1]],
            [pp[:, 1], pq[:, 1], ps[:, 1], pp[:, 2], pq[:, 3]],
            [pq[:, 2], qq[:, 1], qs[:, 1], pq[:, 3], qq[:, 2]],
        ]
        return np.where(np.isfinite(value), value, np.inf), gradient, np.array(rows).transpose(2, 0, 1)


# NumPy's exp and log are vectorised only where the processor has AVX-512, torch's everywhere
def _exp(array: Float) -> Float:
    return torch.exp(torch.from_numpy(array)).numpy()


def _log(array: Float) -> Float:
    return torch.log(torch.from_numpy(array)).numpy()


def _starts(starts: ArrayLike) -> Float:
    array = np.atleast_2d(np.asarray(starts, dtype=np.float64))
    if array.ndim != 2 or array.shape[1] != 5 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"starts: must be finite, of shape (S, 5): ln A, ln B, ln E, alpha, beta; got {array.shape}")
    return array

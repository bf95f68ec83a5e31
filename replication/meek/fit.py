"""Fit L(N, D) = E + A N^-alpha + B D^-beta to training runs, and its bootstrap, many problems at once.

The objective of Hoffmann et al. 2022 (approach 3), the sum of Huber_delta(ln L - ln(predicted loss)), has five
parameters and a few hundred points: one optimiser call on it is mostly overhead, and thousands of resamples and starts
fit into one program. A resample is a vector of counts over the same points, so all problems share N, D and L, and the
gradients and Hessians of all of them are a few matrix products.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded where they are first used
import torch
from numpy.typing import ArrayLike, NDArray

from replication.checks import generator, one_of, positive, whole, within
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

Well spread runs have 2e3 to 4e3. Runs with 20 tokens per parameter have 1e5 to 4e5 if it is within a tenth, more than
1e7 if exactly.
"""
NAMES = ("A", "B", "E", "alpha", "beta")
_TERMS = ("A N^-alpha", "B D^-beta", "E", "alpha", "beta")


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
        Whether that is at most `TOLERANCE` and the runs determine the law: where they do not, a search stops anywhere
        along a valley, and its gradient is small too.
    condition : float or ndarray
        Condition number of the Hessian expected there, in standardised parameters; above `CONDITION` other constants
        fit as well. The exact Hessian of so narrow a Huber loss hangs on the few runs with next to no residual.
    direction : ndarray, shape (5,) or (resamples, 5)
        Unit vector along which the objective hardly changes: logarithms of both terms at the middle of the runs, ln E,
        and alpha and beta times the standard deviation of ln N and ln D.
    n : int
        Points fitted, after outliers were left out.
    """

    objective: Real
    gradient_norm: Real
    converged: bool | NDArray[np.bool_]
    condition: Real
    direction: Float
    n: int
    _problem: _Problem = field(repr=False, compare=False)

    @property
    def free(self) -> str:
        """What can change with next to no effect on the fit, in words, such as ``"A N^-alpha up, B D^-beta down"``."""
        if self.direction.ndim > 1:
            raise ValueError(f"free: is of one fit, got {len(self.direction)}")
        size = np.abs(self.direction)
        sign = np.sign(self.direction[size.argmax()])
        told = np.flatnonzero(size >= 0.3 * size.max())
        return ", ".join(f"{_TERMS[i]} {'up' if self.direction[i] * sign > 0 else 'down'}" for i in told)

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of a constant.

        Of a single fit it is the profile interval: all values at which the objective, minimised over the other four,
        is not significantly larger (drop-in-dispersion test of M-estimators, with the density of the residuals
        estimated). It reaches to 0 or to infinity where nothing limits the constant. Of a bootstrap it lies between
        percentiles.

        Parameters
        ----------
        name : {"A", "B", "E", "alpha", "beta"}
            Which.
        level : float
            Confidence, in (0, 1).

        Examples
        --------
        >>> N, D = np.meshgrid(np.geomspace(1e8, 1e10, 8), np.geomspace(1e9, 1e11, 8))
        >>> noise = 1 + 0.003 * np.sin(np.arange(64.0) ** 2)
        >>> loss = ParametricLaw(482.0, 2085.0, 1.82, 0.35, 0.37).loss(N, D).ravel() * noise
        >>> low, high = fit_chinchilla(N.ravel(), D.ravel(), loss).interval("alpha")
        >>> low < 0.35 < high
        True
        """
        one_of("name", name, NAMES)
        within("level", level, "(0, 1)")
        value = np.asarray(getattr(self, name))
        if value.ndim:
            low, high = np.quantile(value, [(1 - level) / 2, (1 + level) / 2])
            return float(low), float(high)
        theta = np.array([np.log(self.A), np.log(self.B), np.log(self.E), self.alpha, self.beta])
        ends = self._problem.profile(self._problem.standard(theta[None])[0], NAMES.index(name), level)
        low, high = (np.exp(end) for end in ends) if name in ("A", "B", "E") else (max(end, 0.0) for end in ends)
        return float(low), float(high)


class IllConditionedWarning(UserWarning):
    """The runs hardly determine the law: other constants fit them as well."""


def drop_largest(count: int) -> Rule:
    """Outlier rule: keep runs whose loss is below the `count`-th largest (5 in Besiroglu et al. 2024); 0 keeps all."""
    whole("count", count, 0)

    def rule(N: Float, D: Float, loss: Float) -> NDArray[np.bool_]:
        del N, D
        return np.ones(len(loss), np.bool_) if count == 0 else loss < np.sort(loss)[-min(count, len(loss))]

    return rule


#: The law of Hoffmann et al. and three around it that differ in both exponents.
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
    """Fit L(N, D) = E + A N^-alpha + B D^-beta by the Huber loss of ln L; the best of several starts.

    Parameters
    ----------
    N, D, loss : array_like, shape (n,)
        Parameters, training tokens, and final loss of n training runs: lists, arrays or columns of a table, in any
        units (billions; nats or bits per token), which are those of the law. For its frontier, and for gaps, N and D
        must be plain counts and the loss in nats, because C = 6 N D is in FLOP.
    delta : float
        Where the Huber loss of the residual of ln L becomes linear.
    outliers : callable(N, D, loss) -> bool mask, optional
        Which runs to keep, such as ``drop_largest(5)``; default: all.
    starts : array_like, shape (S, 5)
        Starting points: ln A, ln B, ln E, alpha, beta.

    Returns
    -------
    ChinchillaFit
        Of scalars.

    Warns
    -----
    IllConditionedWarning
        The runs hardly determine the law, as when all have the same tokens per parameter, or but two sizes. The
        message says what is free.
    RuntimeWarning
        The search ended before the objective was flat.

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
    _warn(fitted)
    return fitted


def _warn(fitted: ChinchillaFit) -> None:
    """Tell the caller of the caller of a fit that should not be used as it is."""
    if fitted.condition > CONDITION:
        warnings.warn(
            f"N, D: these runs hardly determine the law (condition number {fitted.condition:.0e}, at most "
            f"{CONDITION:.0e} would do); free are: {fitted.free}; give runs that differ more in size and in tokens per "
            "parameter",
            IllConditionedWarning,
            stacklevel=3,
        )
    elif not fitted.converged:
        warnings.warn(
            f"starts: the search ended at a gradient of norm {fitted.gradient_norm:.0e}, at most {TOLERANCE:.0e} would "
            "do; give starts nearer to the law",
            RuntimeWarning,
            stacklevel=3,
        )


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
        Of arrays of shape (resamples,); ``.frontier()`` is the compute-optimal law of each. Resamples that determine no
        law, as happens with few runs, are left out with an `IllConditionedWarning`.

    Warns
    -----
    IllConditionedWarning, RuntimeWarning
        As `fit_chinchilla`, of the whole sample.

    Raises
    ------
    ValueError
        As `fit_chinchilla`, the resamples are no integer of at least 1, the seed is none of at least 0, or most
        resamples determine no law.
    """
    whole("resamples", resamples)
    problem = _Problem.of(N, D, loss, delta, outliers)
    rng = generator(seed)
    first = problem.solve(np.ones((1, problem.n)), _starts(starts))
    _warn(problem.fit(first, 0))
    counts = rng.multinomial(problem.n, np.full(problem.n, 1 / problem.n), size=resamples).astype(np.float64)
    everywhere = np.concatenate([_starts(starts), problem.natural(first.theta)])
    return problem.fit(problem.solve(counts, everywhere), slice(None))


class _Solution(NamedTuple):
    theta: Float
    objective: Float
    gradient_norm: Float
    condition: Float
    direction: Float


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

    def fit(self, solution: _Solution, index: int | slice | NDArray[np.int64]) -> ChinchillaFit:
        a, b, e, alpha, beta = self.natural(solution.theta).T
        with np.errstate(over="ignore"):
            A, B, E = np.exp(a), np.exp(b), np.exp(e)
        no_law = ~((alpha > 0) & (beta > 0) & np.isfinite(A) & np.isfinite(B))
        if 2 * no_law.sum() > len(no_law):
            raise ValueError(
                f"N, D, loss: {no_law.sum()} of {len(no_law)} fits have an exponent that is not positive or a scale "
                "that is not finite, so these runs do not determine the law; give more runs, over a wider range"
            )
        if no_law.any():  # of a few runs, some resample lacks what determines the law
            warnings.warn(
                f"{no_law.sum()} of {len(no_law)} resamples determine no law and are left out",
                IllConditionedWarning,
                stacklevel=3,
            )
            index = np.flatnonzero(~no_law)
        norm, condition = solution.gradient_norm[index], solution.condition[index]
        return ChinchillaFit(
            A=A[index],
            B=B[index],
            E=E[index],
            alpha=alpha[index],
            beta=beta[index],
            objective=solution.objective[index] / SCALE,
            gradient_norm=norm,
            converged=(norm <= TOLERANCE) & (condition <= CONDITION),
            condition=condition,
            direction=solution.direction[index],
            n=self.n,
            _problem=self,
        )

    def solve(self, counts: Float, starts: Float) -> _Solution:
        """Best solution of every row of counts over all starts."""
        begin = self.standard(starts)
        parts = []
        rows = max(1, BATCH // len(begin))
        for first in track(range(0, len(counts), rows), "batches of fits"):
            own = counts[first : first + rows]
            found = self._newton(np.repeat(own, len(begin), axis=0), np.tile(begin, (len(own), 1)))
            best = found[1].reshape(-1, len(begin)).argmin(axis=1) + np.arange(len(own)) * len(begin)
            theta, value, norm = (part[best] for part in found)
            parts.append((theta, value, norm, *self._identified(own, theta)))
        return _Solution(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _newton(self, counts: Float, begin: Float, *, within: Float | None = None) -> tuple[Float, Float, Float]:
        """Solutions of problems, each with its counts and its start, by damped Newton steps: place, value, gradient.

        The Hessian is exact; where it is not positive, steps are refused until the damping, one number per problem,
        makes it so. At most `CHUNK` problems are worked on at a time; one that is finished makes room for the next, so
        that few long ones do not hold up the rest. `within` has for each problem an orthonormal basis, shape (5, k), of
        the directions in which it may move.
        """
        theta = begin.copy()
        # with these the first step of a problem stays where it is, and is taken
        value, gradient, hessian = (
            np.full(len(theta), np.inf),
            np.zeros_like(theta),
            np.tile(np.eye(5), (len(theta), 1, 1)),
        )
        damping, taken = np.full(len(theta), 5e-2), np.zeros(len(theta), np.int64)
        active, waiting = np.split(np.arange(len(theta)), [CHUNK])
        while active.size:
            curvature, slope = hessian[active], gradient[active][:, :, None]
            if within is not None:
                basis = within[active]
                curvature, slope = basis.transpose(0, 2, 1) @ curvature @ basis, basis.transpose(0, 2, 1) @ slope
            size = np.abs(np.trace(curvature, axis1=1, axis2=2))
            damped = curvature + (damping[active] * size + 1e-12)[:, None, None] * np.eye(curvature.shape[1])
            step = np.clip(np.linalg.solve(damped, -slope), -1, 1)
            trial = theta[active] + (step if within is None else basis @ step)[:, :, 0]
            new = self.derivatives(counts[active], trial)
            better = new[0] < value[active]
            moved = active[better]
            theta[moved] = trial[better]
            value[moved], gradient[moved], hessian[moved] = (part[better] for part in new)
            damping[active] *= np.where(better, 0.2, 8.0)
            damping[moved] = np.maximum(damping[moved], 1e-12)
            taken[active] += 1
            slope = gradient[active]
            if within is not None:
                slope = np.einsum("pik,pi->pk", basis, slope)
            unsolved = np.linalg.norm(slope, axis=1) > TOLERANCE * 0.1
            active = active[unsolved & (damping[active] < 1e12) & (taken[active] <= ITERATIONS)]
            room = CHUNK - len(active)
            active, waiting = np.concatenate([active, waiting[:room]]), waiting[room:]
        # a start at which the objective is not finite is never left
        norm = np.where(np.isfinite(value), np.linalg.norm(gradient, axis=1), np.inf)
        return theta, value, norm

    def _identified(self, counts: Float, theta: Float) -> tuple[Float, Float]:
        """Condition number of the expected Hessian of every problem, and the direction in which it is flattest."""
        values, vectors = np.linalg.eigh(self._information(counts, theta))
        least = values[:, 0]
        return np.where(least > 0, values[:, -1] / np.where(least > 0, least, 1.0), np.inf), vectors[:, :, 0]

    def _information(self, counts: Float, theta: Float) -> Float:
        """What the Hessian would be if every residual were within delta and of mean zero, without `SCALE`."""
        shares = self._shares(theta)[0]
        slopes = np.stack([*shares, -self.x * shares[0], -self.y * shares[1]], axis=2)
        return np.asarray(np.nan_to_num(np.einsum("pni,pnj->pij", counts[:, :, None] * slopes, slopes)))

    def profile(self, best: Float, index: int, level: float) -> tuple[float, float]:
        """Ends of the profile interval of a natural parameter (ln A, ln B, ln E, alpha, beta) around a solution.

        From the solution to either side the objective is minimised over the other directions, first in growing steps
        and then between the last two, until it is larger by what the level allows.
        """
        # d (natural parameters) / d (standardised ones)
        rows = np.eye(5)
        rows[0, 3], rows[1, 4] = self.centre[0] / self.spread[0], self.centre[1] / self.spread[1]
        rows[3, 3], rows[4, 4] = 1 / self.spread[0], 1 / self.spread[1]
        of = rows[index]
        # a step along `ahead` changes the parameter by one; `basis` spans the directions that leave it alone
        ahead = of / (of @ of)
        basis = np.linalg.svd(of[None])[2][1:].T
        one = np.ones((1, self.n))
        least, allowed = float(self.derivatives(one, best[None])[0][0]), self._allowed(best, level)
        start = float(self.natural(best[None])[0, index])

        def rise(at: Float, by: float) -> tuple[Float, float]:
            found, value, _ = self._newton(one, (at + by * ahead)[None], within=basis[None])
            return found[0], float(value[0]) - least

        # where the objective is quadratic, the end is here
        information = SCALE * self._information(one, best[None])[0]
        near = float(np.clip(np.sqrt(2 * allowed * (of @ np.linalg.pinv(information) @ of)), 1e-6, 0.1))
        # what can move so far is limited by nothing, and no exponent is negative
        far = {-1.0: start if index > 2 else 50.0, 1.0: 10.0 if index > 2 else 50.0}
        ends = []
        for side in (-1.0, 1.0):
            at, low, step, excess_low = best, 0.0, near, 0.0
            excess = 0.0
            while low < far[side]:
                step = min(step, far[side] - low)
                there, excess = rise(at, side * step)
                if excess > allowed:
                    break
                at, low, step, excess_low = there, low + step, 2 * step, excess
            if excess <= allowed:
                ends.append(side * np.inf)
                continue
            high, turn = low + step, False
            while high - low > 1e-3 * high:
                # the root of the rise is nearly straight; every other step halves, in case that it is not
                roots = np.sqrt(np.maximum([excess_low, allowed, excess], 0))
                share = (roots[1] - roots[0]) / (roots[2] - roots[0])
                by = (high - low) * (0.5 if turn else float(np.clip(share, 0.02, 0.98)))
                turn = not turn
                there, found = rise(at, side * by)
                if found > allowed:
                    high, excess = low + by, found
                else:
                    at, low, excess_low = there, low + by, found
            ends.append(start + side * low)
        return ends[0], ends[1]

    def _allowed(self, best: Float, level: float) -> float:
        """Rise of the objective at the ends of a profile interval.

        Twice the rise times E[psi'] / E[psi^2] is about chi-squared with one degree of freedom (Schrader and
        Hettmansperger 1980), psi being the Huber loss's derivative; Student's t allows for few runs. Few residuals lie
        within delta, so their density there is that between two quantiles, as far from the median as Hall and Sheather
        (1988) say. Five residuals are left out of it: so narrow a Huber loss passes through as many runs as it has
        parameters.
        """
        r = self._shares(best[None])[1][0]
        freedom = max(self.n - 5, 1)
        psi = np.clip(r, -self.delta, self.delta)
        spread = float(np.median(np.abs(r))) / float(scipy.special.ndtri(0.75))
        share = min(self.n ** (-1 / 3) * (1.96**2 * 1.5 / (2 * np.pi)) ** (1 / 3), 0.45)
        window = max(self.delta, spread * float(scipy.special.ndtri(0.5 + share)))
        inside = max(int((np.abs(r) <= window).sum()) - 5, 1)
        slope = inside / freedom * self.delta / window
        # losses are hardly known to more than five digits, nor is the solution
        square = max(float(psi @ psi) / freedom, 1e-10)
        return float(SCALE * float(scipy.special.stdtrit(freedom, (1 + level) / 2)) ** 2 * square / slope / 2)

    def _shares(self, theta: Float) -> tuple[Float, Float]:
        """Shares of the three terms in the predicted loss, shape (3, P, n), and the residuals of ln L, shape (P, n)."""
        a, b, e, alpha, beta = theta.T[:, :, None]
        with np.errstate(over="ignore", invalid="ignore"):
            terms = np.stack(np.broadcast_arrays(_exp(a - alpha * self.x), _exp(b - beta * self.y), np.exp(e)))
            total = terms.sum(axis=0)
            return terms / total, self.target - np.log(total)

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

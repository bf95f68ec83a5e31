"""From loss to a benchmark's score: the sigmoid, its fit, and what a gap in score becomes over several steps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded where they are first used
from numpy.typing import ArrayLike

from replication.checks import finite, one_of, positive, within
from replication.meek.gap import C0, PAPER_GROWTH, Growth, training_gap
from replication.meek.law import PAPER as PAPER_LAW
from replication.meek.law import Float, Real, ScalingLaw

NAMES = ("A", "k", "x0", "b")
"""Parameters of a sigmoid, in the order of a fit's covariance."""


@dataclass(frozen=True)
class Sigmoid:
    """A benchmark's score over loss, A / (1 + exp(-k (L - x0))) + b.

    Parameters
    ----------
    A : float or ndarray
        Span between chance and ceiling; positive.
    k : float or ndarray
        Slope per nat; negative, because a lower loss scores higher.
    x0 : float or ndarray
        Loss at the middle of the rise, nats per token.
    b : float or ndarray
        Score of a very bad model (chance).

    Raises
    ------
    ValueError
        A is not positive, or a parameter is not finite.

    Examples
    --------
    >>> mmlu = Sigmoid(0.55, -23.77, 1.97, 0.25)
    >>> mmlu([2.59, 1.97, 1.70]).round(3).tolist()
    [0.25, 0.525, 0.799]
    """

    A: Real
    k: Real
    x0: Real
    b: Real

    def __post_init__(self) -> None:
        positive("A", self.A)
        for name in ("k", "x0", "b"):
            finite(name, getattr(self, name))

    @property
    def ceiling(self) -> Float:
        """Score of a very good model, A + b."""
        return np.asarray(np.asarray(self.A) + np.asarray(self.b))

    def with_ceiling(self, ceiling: float) -> Sigmoid:
        """The same rise from the same chance level to another ceiling.

        Raises
        ------
        ValueError
            The ceiling is not above chance.
        """
        if not (np.asarray(ceiling) > np.asarray(self.b)).all():
            raise ValueError(f"ceiling: must be above the score of a very bad model, {self.b}, got {ceiling:g}")
        return Sigmoid(ceiling - np.asarray(self.b), self.k, self.x0, self.b)

    def __call__(self, loss: ArrayLike) -> Float:
        """Score at a loss in nats per token, broadcast against the parameters."""
        distance = finite("loss", loss) - np.asarray(self.x0)
        return np.asarray(np.asarray(self.A) * scipy.special.expit(np.asarray(self.k) * distance) + np.asarray(self.b))


PAPER = Sigmoid(A=0.55, k=-23.77, x0=1.97, b=0.25)
"""MMLU over loss as the paper's projections have it: its fit to 30 models, rounded."""


@dataclass(frozen=True)
class SigmoidFit(Sigmoid):
    """A fitted sigmoid.

    Parameters
    ----------
    covariance : ndarray, shape (4, 4)
        Of A, k, x0, b, by the curvature of the sum of squares.
    rmse, r_squared : float
        Root mean square of the residuals, and the share of the variance that is explained.
    n : int
        Points fitted.
    """

    covariance: Float
    rmse: float
    r_squared: float
    n: int

    @property
    def errors(self) -> dict[str, float]:
        """Standard error of each parameter."""
        return dict(zip(NAMES, np.sqrt(np.diag(self.covariance)).tolist(), strict=True))

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of a parameter, by Student's t with n - 4 degrees of freedom."""
        one_of("name", name, NAMES)
        within("level", level, "(0, 1)")
        reach = float(scipy.special.stdtrit(self.n - len(NAMES), (1 + level) / 2)) * self.errors[name]
        centre = float(getattr(self, name))
        return centre - reach, centre + reach


def fit_sigmoid(loss: ArrayLike, score: ArrayLike) -> SigmoidFit:
    """Fit a sigmoid to scores over losses by least squares, as the paper does (SciPy's `curve_fit`).

    It starts at A = largest score, x0 = median loss, k = 1, b = smallest score, or at k = -20 if that fails. A sigmoid
    with -A, -k and b + A is the same curve; the one with A > 0 is returned.

    Parameters
    ----------
    loss, score : array_like, shape (n,)
        Losses in nats per token and scores of n models.

    Raises
    ------
    ValueError
        Data are empty, not finite, of unequal length, constant, fewer than five (four parameters and one degree of
        freedom), or do not determine a sigmoid.

    Examples
    --------
    >>> losses = np.linspace(1.7, 2.6, 30)
    >>> found = fit_sigmoid(losses, PAPER(losses))
    >>> round(float(found.k), 2), round(float(found.x0), 2)
    (-23.77, 1.97)
    """
    x, y = np.atleast_1d(finite("loss", loss)), np.atleast_1d(finite("score", score))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"loss, score: must be one-dimensional and equally long, got shapes {x.shape} and {y.shape}")
    if len(x) <= len(NAMES):
        raise ValueError(f"loss: {len(x)} models do not determine 4 parameters and their errors; give 5 or more")
    for name, column in (("loss", x), ("score", y)):
        if np.ptp(column) == 0:
            raise ValueError(f"{name}: is the same for every model, so no sigmoid can be fitted")

    def curve(at: Float, A: float, k: float, x0: float, b: float) -> Float:
        return np.asarray(A * scipy.special.expit(k * (at - x0)) + b)

    def solve(k: float) -> tuple[Float, Float]:
        start = (y.max(), k, float(np.median(x)), y.min())
        with warnings.catch_warnings():
            warnings.simplefilter("error", scipy.optimize.OptimizeWarning)  # it says that the covariance cannot be had
            found, covariance = scipy.optimize.curve_fit(curve, x, y, p0=start, maxfev=10_000)
        return np.asarray(found), np.asarray(covariance)

    try:
        try:
            found, covariance = solve(1.0)
        except (RuntimeError, scipy.optimize.OptimizeWarning):
            # seldom that start leads to the far end of a flat curve; this one has the sign of a score that falls
            found, covariance = solve(-20.0)
    except (RuntimeError, scipy.optimize.OptimizeWarning) as error:
        raise ValueError(f"loss, score: these {len(x)} models do not determine a sigmoid ({error})") from error
    if found[0] < 0:
        same = np.diag([-1.0, -1.0, 1.0, 1.0])
        same[3, 0] = 1.0
        found, covariance = same @ found, same @ covariance @ same.T
    A, k, x0, b = map(float, found)
    residuals = y - curve(x, A, k, x0, b)
    return SigmoidFit(
        A=A,
        k=k,
        x0=x0,
        b=b,
        covariance=covariance,
        rmse=float(np.sqrt(np.mean(residuals**2))),
        r_squared=float(1 - np.sum(residuals**2) / np.sum((y - y.mean()) ** 2)),
        n=len(x),
    )


def multi_step_gap(p_sota: ArrayLike, p_meek: ArrayLike, n: ArrayLike = 1) -> Float:
    """Gap in the probability to succeed at n steps in a row, p_sota^n - p_meek^n; steps taken as independent.

    Parameters
    ----------
    p_sota, p_meek : array_like
        Probability of success at one step, in [0, 1].
    n : array_like
        Steps; positive.

    Raises
    ------
    ValueError
        A probability lies outside [0, 1], or n is not positive.

    Examples
    --------
    >>> multi_step_gap(0.9, 0.5, [1, 2, 10]).round(3).tolist()
    [0.4, 0.56, 0.348]
    """
    for name, value in (("p_sota", p_sota), ("p_meek", p_meek)):
        within(name, value, "[0, 1]")
    steps = positive("n", n)
    return np.asarray(np.asarray(p_sota, dtype=np.float64) ** steps - np.asarray(p_meek, dtype=np.float64) ** steps)


def score_gap(
    t: ArrayLike,
    sigmoid: Sigmoid = PAPER,
    law: ScalingLaw = PAPER_LAW,
    growth: Growth = PAPER_GROWTH,
    C0: ArrayLike = C0,
    *,
    n: ArrayLike = 1,
    head_start: ArrayLike = 1.0,
) -> Float:
    """Score of the leader minus score of the meek over time, for tasks of n steps; a fraction of 1.

    Parameters
    ----------
    t : array_like
        Years from the start.
    sigmoid : Sigmoid
        Default: the paper's, for MMLU.
    law, growth, C0, head_start
        As `replication.meek.gap.training_gap` takes them.
    n : array_like
        Steps of the task.

    A score beyond 0 or 1, to which a fitted sigmoid may extrapolate, counts as 0 or 1.
    """
    t = finite("t", t)
    leader = law.loss(positive("C0", C0) * positive("head_start", head_start) * growth.sota**t)
    meek = leader + training_gap(t, law, growth, C0, head_start)
    return multi_step_gap(np.clip(sigmoid(leader), 0, 1), np.clip(sigmoid(meek), 0, 1), n)


class Peak(NamedTuple):
    """The largest gap in score and when it is reached."""

    time: float
    """Years from the start."""
    gap: float
    """A fraction of 1."""


def peak_score_gap(
    sigmoid: Sigmoid = PAPER,
    law: ScalingLaw = PAPER_LAW,
    growth: Growth = PAPER_GROWTH,
    C0: float = C0,
    *,
    n: float = 1,
    head_start: float = 1.0,
    horizon: float = 50.0,
) -> Peak:
    """Find the largest gap in score up to a horizon in years; arguments as in `score_gap`.

    Examples
    --------
    >>> found = peak_score_gap()
    >>> round(found.time, 2), round(100 * found.gap, 2)
    (4.08, 46.39)
    """
    grid = np.linspace(0, positive("horizon", horizon), 501)
    curve = partial(score_gap, sigmoid=sigmoid, law=law, growth=growth, C0=C0, n=n, head_start=head_start)
    best = float(grid[curve(grid).argmax()])
    around = (max(best - grid[1], 0.0), min(best + grid[1], horizon))
    found = scipy.optimize.minimize_scalar(lambda t: -float(curve(t)), bounds=around, method="bounded")
    return Peak(float(found.x), -float(found.fun))

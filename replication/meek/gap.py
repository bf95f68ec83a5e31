"""The gap between a leader and a fixed ("meek") budget over time: training, inference, and what follows from them.

Time is in years from a start at which both have the same compute; there is no calendar in the model. Every function
broadcasts over all of its arguments, the fields of a law and of a growth included, so that a map over two of them is
one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from replication.checks import finite, one_of, positive
from replication.meek.law import PAPER, Float, Real, ScalingLaw

C0 = 1e20
"""Compute of both at the start, FLOP: $1,000 at 1e17 FLOP per dollar."""
FLOP_PER_DOLLAR = 1e17
"""Price of compute at the start."""
INFERENCE_FLOP = 1e9
"""FLOP per token that the fixed inference budget of $1e-8 a token buys at the start."""

Reading = Literal["squared", "docstring"]
READINGS: tuple[Reading, ...] = get_args(Reading)


@dataclass(frozen=True)
class Growth:
    """Yearly growth factors.

    Parameters
    ----------
    g_alg : float or ndarray
        Algorithmic progress, which divides the compute that a loss needs.
    g_h : float or ndarray
        FLOP per dollar.
    g_i : float or ndarray
        The leader's spending; the meek spend a constant amount.

    Raises
    ------
    ValueError
        A factor is not positive (1 means no growth).

    Examples
    --------
    >>> round(float(Growth().meek), 2), round(float(Growth().sota), 2)
    (3.92, 14.0)
    """

    g_alg: Real = 2.8
    g_h: Real = 1.4
    g_i: Real = 5 / 1.4

    def __post_init__(self) -> None:
        for name in ("g_alg", "g_h", "g_i"):
            positive(name, getattr(self, name))

    @property
    def meek(self) -> Float:
        """Growth of the meek's effective compute, G_m = g_alg g_h."""
        return np.asarray(self.g_alg) * np.asarray(self.g_h, dtype=np.float64)

    @property
    def sota(self) -> Float:
        """Growth of the leader's effective compute, G_s = g_alg g_h g_i."""
        return np.asarray(self.meek * np.asarray(self.g_i))


PAPER_GROWTH = Growth()
"""The paper's."""


def training_gap(
    t: ArrayLike,
    law: ScalingLaw = PAPER,
    growth: Growth = PAPER_GROWTH,
    C0: ArrayLike = C0,
    head_start: ArrayLike = 1.0,
) -> Float:
    """Loss of the meek minus loss of the leader, in nats per token.

    Delta L(t) = A C0^-alpha [G_m^(-alpha t) - kappa^-alpha G_s^(-alpha t)]; the irreducible loss cancels.

    Parameters
    ----------
    t : array_like
        Years from the start.
    law : ScalingLaw
        Default: the paper's.
    growth : Growth
        Default: the paper's.
    C0 : array_like
        The meek's compute at the start, FLOP.
    head_start : array_like
        kappa, the leader's compute at the start over the meek's; the paper has 1.

    Returns
    -------
    ndarray
        Of the arguments' common shape.

    Raises
    ------
    ValueError
        t is not finite, or C0 or head_start is not positive.

    Examples
    --------
    >>> round(float(training_gap(peak_time())), 5)
    0.21177
    """
    t, alpha = finite("t", t), np.asarray(law.alpha)
    scale = np.asarray(law.A) * positive("C0", C0) ** -alpha
    leader = positive("head_start", head_start) ** -alpha * growth.sota ** (-alpha * t)
    return np.asarray(scale * (growth.meek ** (-alpha * t) - leader))


def peak_time(law: ScalingLaw = PAPER, growth: Growth = PAPER_GROWTH, head_start: ArrayLike = 1.0) -> Float:
    """When the training gap is largest: t* = ln(ln G_s / ln G_m) / (alpha ln g_i) - ln(kappa) / ln(g_i), in years.

    The paper calls it an inflection; it is the maximum (the curve's inflection lies at twice t* when kappa is 1).
    Negative: the gap shrinks from the first day. At g_i = 1 and kappa = 1 it is the limit 1 / (alpha ln G_m). Where G_m
    and g_i neither both grow nor both shrink there is no such time: minus infinity where the gap is largest at the
    start, infinity where it has no peak, because it grows for ever.

    Parameters
    ----------
    law, growth, head_start
        As `training_gap` takes them.

    Examples
    --------
    >>> round(float(peak_time()), 4), round(float(peak_time(head_start=2.5e5)), 2)
    (3.3589, -6.41)
    """
    alpha, kappa = np.asarray(law.alpha), positive("head_start", head_start)
    x, y = np.log(growth.meek), np.log(np.asarray(growth.g_i, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        # log1p keeps the digits where y is small
        peak = np.log1p(y / x) / (alpha * y) - np.where(kappa == 1, 0.0, np.log(kappa) / y)
        limit = 1 / (alpha * x)
    # the leader ahead at last, by ever more; or behind, by ever less
    grows = ((y > 0) & (x <= 0)) | ((y <= 0) & (x + y > 0) & (kappa < 1)) | ((y == 0) & (x < 0) & (kappa > 1))
    monotone = np.where(grows, np.inf, np.where((y == 0) & (x > 0) & (kappa == 1), limit, -np.inf))
    return np.where(x * y > 0, peak, monotone)


def peak_gap(
    law: ScalingLaw = PAPER, growth: Growth = PAPER_GROWTH, C0: ArrayLike = C0, head_start: ArrayLike = 1.0
) -> Float:
    """Largest training gap from the start on: at `peak_time`, or at t = 0 where that is earlier; nats per token.

    NaN where the gap has no peak, because it grows for ever.
    """
    time = peak_time(law, growth, head_start)
    peaks = time < np.inf
    return np.where(peaks, training_gap(np.where(peaks, np.maximum(time, 0), 0), law, growth, C0, head_start), np.nan)


def time_below(
    level: ArrayLike,
    law: ScalingLaw = PAPER,
    growth: Growth = PAPER_GROWTH,
    C0: ArrayLike = C0,
    head_start: ArrayLike = 1.0,
) -> Float:
    """When the training gap has fallen to a level after its peak, in years; NaN where it never reaches the level.

    Parameters
    ----------
    level : array_like
        Gap in nats per token; positive.
    law, growth, C0, head_start
        As `training_gap` takes them.

    Examples
    --------
    >>> round(float(time_below(0.05)), 2)
    13.32
    """
    level = positive("level", level)
    start = np.maximum(peak_time(law, growth, head_start), 0.0)
    top = peak_gap(law, growth, C0, head_start)
    # the meek's own reducible loss bounds the gap from above, and falls to the level at a known time; a year more, so
    # that rounding leaves a change of sign. Where the leader spends ever less, the meek catch up at a known time
    alone = np.asarray(law.A) * positive("C0", C0) ** -np.asarray(law.alpha)
    y = np.log(np.asarray(growth.g_i, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        end = np.where(y < 0, -np.log(head_start) / y, np.log(alone / level) / decay_rate(law, growth) + 1.0)
    reached = (top >= level) & np.isfinite(end)
    between = np.where(reached, start, 0.0), np.where(reached, end, 0.0)
    fields = (law.A, law.alpha, growth.g_alg, growth.g_h, growth.g_i, C0, head_start)

    def excess(t: Float, level: Float, *of: Float) -> Float:
        A, alpha, g_alg, g_h, g_i, compute, kappa = of
        return training_gap(t, ScalingLaw(A, alpha, 0.0), Growth(g_alg, g_h, g_i), compute, kappa) - level

    from scipy.optimize import elementwise  # here, since to load it takes longer than all of the room

    found = elementwise.find_root(excess, between, args=(level, *fields))
    return np.where(reached & found.success, found.x, np.nan)


def decay_rate(law: ScalingLaw = PAPER, growth: Growth = PAPER_GROWTH) -> Float:
    """Rate at which the training gap decays in the end, alpha ln G_m, per year."""
    return np.asarray(np.asarray(law.alpha) * np.log(growth.meek))


def lag(t: ArrayLike, growth: Growth = PAPER_GROWTH, head_start: ArrayLike = 1.0) -> Float:
    """Years until the meek reach the loss that the leader has at t: (t ln g_i + ln kappa) / ln G_m.

    It grows for ever, although the gap in loss closes. Infinite where the meek never reach it, because their compute
    does not grow.
    """
    ahead = finite("t", t) * np.log(np.asarray(growth.g_i)) + np.log(positive("head_start", head_start))
    speed = np.log(growth.meek)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((ahead > 0) & (speed <= 0), np.inf, np.where(ahead == 0, 0.0, ahead / speed))


# --- inference -------------------------------------------------------------------------------------------------------


def inference_compute(
    t: ArrayLike,
    growth: Growth = PAPER_GROWTH,
    g_inf: ArrayLike = 2.8,
    *,
    reading: Reading = "squared",
    constant: ArrayLike = 1.0,
    flop: ArrayLike = INFERENCE_FLOP,
) -> Float:
    """Training compute, in FLOP, of the model that a fixed spend per token can serve.

    A compute-optimal model has N ~ sqrt(C), so C = k f^2 for f FLOP per token. The authors' code squares everything
    that makes a token cheaper, C(t) = k [f0 (g_h g_inf)^t]^2 g_alg^t ("squared"); a docstring of theirs does not square
    g_inf, C(t) = k [f0 g_h^t]^2 (g_alg g_inf)^t ("docstring").

    Parameters
    ----------
    t : array_like
        Years from the start.
    growth : Growth
        Default: the paper's.
    g_inf : array_like
        Yearly growth of inference efficiency; the paper's panels have 2.8 and 9.
    reading : {"squared", "docstring"}
        Which of the two formulas.
    constant : array_like
        k; the authors drop it (1), 20 tokens per parameter give 30.
    flop : array_like
        f0, FLOP per token at the start.
    """
    t, k, f0 = finite("t", t), positive("constant", constant), positive("flop", flop)
    return np.asarray(k * f0**2 * _inference_growth(growth, g_inf, reading) ** t)


def inference_gap(
    t: ArrayLike,
    law: ScalingLaw = PAPER,
    growth: Growth = PAPER_GROWTH,
    g_inf: ArrayLike = 2.8,
    C0: ArrayLike = C0,
    *,
    reading: Reading = "squared",
    constant: ArrayLike = 1.0,
    flop: ArrayLike = INFERENCE_FLOP,
) -> Float:
    """Loss at a fixed inference spend minus the leader's, in nats per token; negative once inference has overtaken.

    The paper clips it at zero, which hides that the formula then lets the fixed budget serve a model better than any
    that exists. Arguments as in `training_gap` and `inference_compute`.
    """
    served = law.reducible(inference_compute(t, growth, g_inf, reading=reading, constant=constant, flop=flop))
    return np.asarray(served - law.reducible(positive("C0", C0) * growth.sota ** finite("t", t)))


def inference_crossing(
    growth: Growth = PAPER_GROWTH,
    g_inf: ArrayLike = 2.8,
    C0: ArrayLike = C0,
    *,
    reading: Reading = "squared",
    constant: ArrayLike = 1.0,
    flop: ArrayLike = INFERENCE_FLOP,
) -> Float:
    """When the fixed inference budget serves as good a model as the leader can train, in years.

    t0 = ln(C0 / (k f0^2)) / ln(growth of the served compute / growth of the leader's); g_alg cancels in the squared
    reading. Infinite where inference never catches up.

    Parameters
    ----------
    growth, g_inf, C0, reading, constant, flop
        As in `inference_gap`.

    Examples
    --------
    >>> inference_crossing(g_inf=[2.8, 9.0]).round(2).tolist()
    [4.1, 1.33]
    """
    distance = np.log(positive("C0", C0) / (positive("constant", constant) * positive("flop", flop) ** 2))
    speed = np.log(_inference_growth(growth, g_inf, reading) / growth.sota)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance <= 0, 0.0, np.where(speed > 0, distance / speed, np.inf))


def price_decline(growth: Growth = PAPER_GROWTH, g_inf: ArrayLike = 2.8) -> Float:
    """Factor by which the model lets the price of a fixed capability fall each year, g_h g_inf sqrt(g_alg)."""
    return np.asarray(np.asarray(growth.g_h) * positive("g_inf", g_inf) * np.sqrt(np.asarray(growth.g_alg)))


def _inference_growth(growth: Growth, g_inf: ArrayLike, reading: Reading) -> Float:
    one_of("reading", reading, READINGS)
    faster = positive("g_inf", g_inf)
    return np.asarray(np.asarray(growth.g_h) ** 2 * np.asarray(growth.g_alg) * faster ** (1 + (reading == "squared")))

"""The few statistics that verdicts rest on: estimates with what is known of their error, and slopes.

Input is sorted first, so that the order of rows does not change even the last bit of a result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

# scipy.stats takes a second to import, these functions do not
from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]
#: Two-sided level of every decision.
ALPHA = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Parameters
    ----------
    estimate, low, high
        The estimate and the ends of its interval; one point where the interval has no width.
    n
        Number of replicates.
    """

    estimate: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Mean:
    """A mean whose variance is a sum of independent parts, judged by Student's t with Satterthwaite's freedom.

    Parameters
    ----------
    value, n
        The mean, and the number of replicates.
    parts
        For each source of error its variance and degrees of freedom; none for an exact number.
    """

    value: float
    n: int
    parts: tuple[tuple[float, float], ...] = ()

    @cached_property
    def error(self) -> float:
        """The standard error."""
        return float(sum(variance for variance, _ in self.parts) ** 0.5)

    @cached_property
    def freedom(self) -> float:
        """Degrees of freedom (Satterthwaite 1946)."""
        total = sum(variance for variance, _ in self.parts)
        # shares of the whole, since squares of small variances underflow
        return float(1 / sum((variance / total) ** 2 / freedom for variance, freedom in self.parts))

    def interval(self, level: float = 1 - ALPHA) -> Interval:
        """The t interval of a level in (0, 1)."""
        reach = self._t((1 + level) / 2) * self.error if self.error else 0.0
        return Interval(self.value, self.value - reach, self.value + reach, self.n)

    def p_above(self, bound: float) -> float:
        """One-sided p value of the hypothesis that the true number is below a bound: small speaks for above.

        A number without error is above a bound that it equals.
        """
        if not self.error:
            return float(self.value < bound)
        return float(stdtr(self.freedom, (bound - self.value) / self.error))

    def p_below(self, bound: float) -> float:
        """As `p_above`, of the hypothesis that the true number is above a bound: small speaks for below."""
        if not self.error:
            return float(self.value > bound)
        return float(stdtr(self.freedom, (self.value - bound) / self.error))

    def visible(self) -> float:
        """Distance from a bound at which a decision at 2.5 % one-sided would have had a power of 80 %."""
        return (self._t(1 - ALPHA / 2) + self._t(0.8)) * self.error if self.error else 0.0

    def _t(self, share: float) -> float:
        return float(stdtrit(self.freedom, share))


@dataclass(frozen=True)
class Draws:
    """The distribution of one estimate (bootstrap resamples, Monte Carlo): more draws sharpen it, nothing narrows it.

    Attributes
    ----------
    sample
        The draws, sorted.
    """

    sample: Array

    @property
    def value(self) -> float:
        """The median."""
        return float(np.quantile(self.sample, 0.5))

    @property
    def n(self) -> int:
        """Number of draws."""
        return len(self.sample)

    def interval(self, level: float = 1 - ALPHA) -> Interval:
        """Between percentiles."""
        ends = np.quantile(self.sample, [(1 - level) / 2, (1 + level) / 2])
        return Interval(self.value, float(ends[0]), float(ends[1]), self.n)

    def p_above(self, bound: float) -> float:
        """Share of the draws below the bound."""
        return float((self.sample < bound).mean())

    def p_below(self, bound: float) -> float:
        """Share of the draws above the bound."""
        return float((self.sample > bound).mean())

    def visible(self) -> float:
        """As `Mean.visible`, for a normal distribution."""
        return 2.8 * float(self.sample.std())


#: A number, and what is known of its error.
Estimate: TypeAlias = Mean | Draws


def mean_of(values: ArrayLike) -> Mean:
    """The mean of independent replicates, finite, shape (n,); without error if they are all equal."""
    x = _sample(values)
    # the mean of equal numbers is that number; summing would lose its last bit
    if x[0] == x[-1]:
        return Mean(float(x[0]), len(x))
    return Mean(float(x.mean()), len(x), ((float(x.var(ddof=1)) / len(x), len(x) - 1),))


def mean_interval(values: ArrayLike) -> Interval:
    """The mean with its 95 % t interval.

    Parameters
    ----------
    values : array_like, shape (n,)
        Independent replicates, finite.

    Returns
    -------
    Interval
        A point if n = 1 or all values are equal.

    Raises
    ------
    ValueError
        There is no value, or one is not finite.

    Examples
    --------
    >>> mean_interval([1.0, 2.0, 3.0]).low.__round__(4)
    -0.4841
    """
    return mean_of(values).interval()


def percentile_interval(draws: ArrayLike) -> Interval:
    """The median of draws from a distribution, with the interval between its 2.5 and 97.5 percentiles.

    Parameters
    ----------
    draws : array_like, shape (n,)
        Draws, finite.

    Raises
    ------
    ValueError
        There is no draw, or one is not finite.

    Examples
    --------
    >>> found = percentile_interval(range(1001))
    >>> found.estimate, round(found.low, 6), round(found.high, 6)
    (500.0, 25.0, 975.0)
    """
    return Draws(_sample(draws)).interval()


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given.

    Examples
    --------
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    # statsmodels' own collects garbage at every call, 0.4 s each; a test holds the two equal
    p = np.asarray(list(p_values), dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(x) for x in adjusted]


def resamples(m: int) -> NDArray[np.int64]:
    """Draws of m tuning seeds with replacement, as places: shape (draws, m).

    All m**m of up to four seeds; of more, a thousand, the same every time.
    """
    if m <= 4:
        return np.array(list(itertools.product(range(m), repeat=m)), dtype=np.int64).reshape(-1, m)
    return np.random.default_rng(0).integers(0, m, size=(1000, m))


def slope(x: ArrayLike, y: ArrayLike, method: Literal["linear", "loglog", "spearman"]) -> float:
    """How `y` changes with `x`.

    Parameters
    ----------
    x, y : array_like, shape (n,)
        At least two different `x`.
    method : {"linear", "loglog", "spearman"}
        ``linear``: least-squares slope; ``loglog``: that of log y on log x; ``spearman``: rank correlation, which is
        0 by convention where `y` is constant.

    Returns
    -------
    float
        NaN where there is no slope: fewer than two different `x`, a value that is not finite, or one without a
        logarithm.
    """
    from scipy import stats

    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if method == "loglog":
        if (a <= 0).any() or (b <= 0).any():
            return float("nan")
        a, b = np.log(a), np.log(b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or len(np.unique(a)) < 2:
        return float("nan")
    if np.ptp(b) == 0:
        return 0.0
    if method == "spearman":
        return float(stats.spearmanr(a, b).statistic)
    return float(stats.linregress(a, b).slope)


def _sample(values: ArrayLike) -> Array:
    x = np.sort(np.asarray(values, dtype=float).ravel())
    if not len(x):
        raise ValueError("values: there are none")
    if not np.isfinite(x).all():
        raise ValueError(f"values: {int((~np.isfinite(x)).sum())} of {len(x)} are not finite")
    return x

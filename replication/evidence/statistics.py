"""The few statistics that verdicts rest on: intervals, paired differences, Holm's correction, equivalence, slopes.

All of them sort their input first, so that the order of rows does not change even the last bit of a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

# not `from scipy import stats`: SciPy imports it when it is first used, and who only reads verdicts never does (2 s)
import scipy
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate, low, high
        The estimate and the ends of its interval; one point where the interval cannot be had or has no width.
    n
        Number of replicates.
    p
        Two-sided p value of the t test against zero; None where there is none (one replicate, bootstrap).
    """

    estimate: float
    low: float
    high: float
    n: int
    p: float | None = None

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Paired(Interval):
    """A paired difference.

    Attributes
    ----------
    differences
        Ours minus baseline, one per common unit, sorted.
    left_out
        Number of units that only one of the arms has.
    """

    differences: tuple[float, ...] = ()
    left_out: int = 0


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """The mean with its t interval, and the t test against zero.

    Parameters
    ----------
    values : array_like, shape (n,)
        Independent replicates, finite.
    level : float
        Confidence, in (0, 1).

    Returns
    -------
    Interval
        A point if n = 1 (`p` is None then) or all values are equal (`p` is 0, or 1 at zero).

    Raises
    ------
    ValueError
        There is no value, one is not finite, or `level` is not inside (0, 1).

    Examples
    --------
    >>> mean_interval([1.0, 2.0, 3.0]).low.__round__(4)
    -0.4841
    """
    x = _sample(values, level)
    n = len(x)
    # the mean of equal numbers is that number; summing would lose its last bit
    mean = float(x[0] if x[0] == x[-1] else x.mean())
    error = 0.0 if x[0] == x[-1] else float(x.std(ddof=1)) / n**0.5
    if error == 0:
        return Interval(mean, mean, mean, n, None if n == 1 else float(mean == 0))
    reach = float(scipy.stats.t.ppf((1 + level) / 2, n - 1)) * error
    p = 2 * float(scipy.stats.t.sf(abs(mean) / error, n - 1))
    return Interval(mean, mean - reach, mean + reach, n, p)


def percentile_interval(draws: ArrayLike, *, level: float = 0.95) -> Interval:
    """The median of draws from a distribution, with the interval between its percentiles.

    For draws that are the distribution of one estimate (bootstrap resamples, Monte Carlo over uncertain inputs): more
    draws make the interval sharper, not narrower.

    Parameters
    ----------
    draws : array_like, shape (n,)
        Draws, finite.
    level : float
        Share of the draws inside the interval, in (0, 1).

    Returns
    -------
    Interval
        Without `p`; `n` is the number of draws.

    Raises
    ------
    ValueError
        There is no draw, one is not finite, or `level` is not inside (0, 1).

    Examples
    --------
    >>> found = percentile_interval(range(1001))
    >>> found.estimate, round(found.low, 6), round(found.high, 6)
    (500.0, 25.0, 975.0)
    """
    x = _sample(draws, level)
    low, middle, high = (float(q) for q in np.quantile(x, [(1 - level) / 2, 0.5, (1 + level) / 2]))
    return Interval(middle, low, high, len(x))


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., Array],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 9999,
) -> Interval:
    """Any statistic with its BCa bootstrap interval (Efron 1987).

    Parameters
    ----------
    values : array_like, shape (n,)
        Independent replicates, finite.
    statistic : callable
        As `scipy.stats.bootstrap` takes it, such as `numpy.median`.
    rng : numpy.random.Generator
        Source of the resamples.
    level : float
        Confidence, in (0, 1).
    resamples : int
        Number of resamples.

    Returns
    -------
    Interval
        Without `p`; a point if n = 1 or all values are equal.
    """
    x = _sample(values, level)
    estimate = float(statistic(x, axis=-1))
    if x[0] == x[-1]:
        return Interval(estimate, estimate, estimate, len(x))
    found = scipy.stats.bootstrap(
        (x,), statistic, n_resamples=resamples, confidence_level=level, method="BCa", rng=rng
    ).confidence_interval
    return Interval(estimate, float(found.low), float(found.high), len(x))


def paired_difference(
    ours: Mapping[Any, float] | pd.Series[float],
    baseline: Mapping[Any, float] | pd.Series[float],
    *,
    level: float = 0.95,
    statistic: Callable[..., Array] | None = None,
    rng: np.random.Generator | None = None,
) -> Paired:
    """Ours minus baseline over the units that both have.

    Parameters
    ----------
    ours, baseline : mapping or Series
        Finite values by what identifies a replicate (the seed). Units of only one arm are left out and counted.
    level : float
        Confidence, in (0, 1).
    statistic, rng : callable and numpy.random.Generator, optional
        A statistic of the differences other than the mean; its interval is then the BCa bootstrap's.

    Returns
    -------
    Paired
        Its `n` is the number of common units.

    Raises
    ------
    ValueError
        A unit stands twice in an arm, the arms have no common unit, or a difference is not finite.

    Examples
    --------
    >>> found = paired_difference({0: 1.0, 1: 2.0, 2: 9.0}, {1: 0.5, 0: 1.0})
    >>> found.estimate, found.n, found.left_out
    (0.75, 2, 1)
    """
    a, b = _arm("ours", ours), _arm("baseline", baseline)
    common = a.keys() & b.keys()
    if not common:
        raise ValueError("ours and baseline have no common unit to pair on")
    differences = sorted(a[unit] - b[unit] for unit in common)
    if statistic is None:
        found = mean_interval(differences, level=level)
    elif rng is None:
        raise ValueError("rng: a bootstrap needs a numpy.random.Generator")
    else:
        found = bootstrap_interval(differences, statistic, rng=rng, level=level)
    left_out = len(a) + len(b) - 2 * len(common)
    return Paired(found.estimate, found.low, found.high, found.n, found.p, tuple(differences), left_out)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given.

    Examples
    --------
    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import multipletests  # it imports scipy.stats

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def equivalent(values: ArrayLike, margin: float, *, alpha: float = 0.05) -> bool:
    """Whether the mean is shown to lie within ``±margin``: two one-sided t tests (TOST) at `alpha`.

    That is the case exactly if the ``1 - 2 alpha`` interval lies inside ``±margin``. One replicate shows nothing.
    """
    found = mean_interval(values, level=1 - 2 * alpha)
    return found.n > 1 and -margin < found.low and found.high < margin


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
        return float(scipy.stats.spearmanr(a, b).statistic)
    return float(scipy.stats.linregress(a, b).slope)


def _arm(name: str, arm: Mapping[Any, float] | pd.Series[float]) -> dict[Any, float]:
    if isinstance(arm, pd.Series) and not arm.index.is_unique:
        raise ValueError(f"{name}: the unit {arm.index[arm.index.duplicated()][0]} stands twice")
    return {unit: float(value) for unit, value in arm.items()}


def _sample(values: ArrayLike, level: float) -> Array:
    x = np.sort(np.asarray(values, dtype=float).ravel())
    if not len(x):
        raise ValueError("values: there are none")
    if not np.isfinite(x).all():
        raise ValueError(f"values: {int((~np.isfinite(x)).sum())} of {len(x)} are not finite")
    if not 0 < level < 1:
        raise ValueError(f"level: {level} is not inside (0, 1)")
    return x

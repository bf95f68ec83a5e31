"""Leaderboards over time: the best model so far overall and within a band, and how the gap between them moves.

A board is a frame with one row per model (or run) and the columns ``model``, ``date``, ``score``, and whatever its
bands select by, under a unique index. Rows without a date or a score count nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from replication.checks import generator
from replication.meek.law import Float

Bests = pd.Series  # index: dates, rising; values: scores, rising
Rule = Callable[[pd.DataFrame], Bests]
Order = Literal["heapsort", "stable"]


class Band(NamedTuple):
    """Models whose value in a column lies within limits, both included; a missing value lies in no band."""

    name: str
    column: str
    low: float
    high: float

    def of(self, board: pd.DataFrame) -> pd.DataFrame:
        """The band's rows of a board.

        Raises
        ------
        ValueError
            The board lacks the column, or has no dated and scored row within the limits.
        """
        if self.column not in board:
            raise ValueError(
                f"board: has no column {self.column!r} for the band {self.name!r}, only {[*board.columns]}"
            )
        rows = board[board[self.column].between(self.low, self.high)]
        if _scored(rows).empty:
            raise ValueError(
                f"band {self.name!r}: no dated and scored row has {self.column} from {self.low:g} to {self.high:g}"
            )
        return rows


def new_bests(board: pd.DataFrame) -> Bests:
    """The running maximum: every date on which the best score rises, with the best score from then on.

    Examples
    --------
    >>> dates = pd.to_datetime(["2024-02-01", "2024-01-01", "2024-02-01", "2024-03-01"])
    >>> found = new_bests(pd.DataFrame({"date": dates, "score": [60, 50, 70, 70]}))
    >>> dict(zip(found.index.strftime("%Y-%m"), found, strict=True))
    {'2024-01': 50.0, '2024-02': 70.0}
    """
    best = _scored(board).groupby("date")["score"].max().cummax()
    return best[best > best.shift(fill_value=-np.inf)]


def first_new_bests(board: pd.DataFrame, order: Order = "heapsort") -> Bests:
    """The authors' rule: of a date's new bests only the first that comes up is kept, so a better one may be lost.

    Which comes up first is the order of the rows after sorting by date. With a sort that is not stable, as theirs was,
    it means nothing.

    Parameters
    ----------
    board : DataFrame
        See the module.
    order : {"heapsort", "stable"}
        The sorting algorithm; "stable" keeps the table's order within a date.
    """
    rows = _scored(board).sort_values("date", kind=order)
    new = rows[rows["score"] > rows["score"].cummax().shift(fill_value=-np.inf)]
    return new.drop_duplicates("date").set_index("date")["score"]


def monthly_gap(board: pd.DataFrame, band: Band, rule: Rule = new_bests) -> pd.Series[float]:
    """Best overall minus best in the band at the end of every month, from the first that has both to the board's last.

    Parameters
    ----------
    board : DataFrame
        See the module.
    band : Band
        A part of it.
    rule : callable
        `new_bests`, or `first_new_bests` for the authors' curve.

    Returns
    -------
    Series
        Indexed by month (`Period`).
    """
    last = _scored(board)["date"].max().to_period("M")
    overall, inside = (_monthly(rule(rows), last) for rows in (board, band.of(board)))
    return (overall - inside).dropna()


def years(months: pd.PeriodIndex) -> Float:
    """The ends of months in years, such as 2025.0 for December 2024."""
    return np.asarray(months.year + months.month / 12, dtype=np.float64)


def gap_slope(gap: pd.Series[float]) -> float:
    """Least-squares slope of a monthly gap, in points a year."""
    return float(_slopes(gap.to_numpy(dtype=np.float64)[None])[0])


def slopes_left_out(board: pd.DataFrame, band: Band) -> pd.Series[float]:
    """The gap's slope without each model in turn that sets a new best, overall or in the band; others change nothing.

    All rows of a model are left out together. The board still ends in its last month.

    Returns
    -------
    Series
        Points a year, indexed by the model that is left out.
    """
    scored = _scored(board)
    inside = band.of(scored)
    best, best_inside = (rows["score"] == rows["date"].map(new_bests(rows)) for rows in (scored, inside))
    names = scored["model"].to_numpy()
    setters = pd.unique(names[best | best_inside.reindex(scored.index, fill_value=False)])
    gaps = _gaps(scored, inside, names != setters[:, None])
    return gaps.set_axis(setters).apply(lambda gap: gap_slope(gap.dropna()), axis=1)


def block_slopes(gap: pd.Series[float], draws: int, seed: int = 0, block: int = 3) -> Float:
    """Slopes of a monthly gap whose residuals are drawn anew in blocks of months (moving-block bootstrap).

    What stays from month to month is kept within a block: it says how sure the slope is given the models that there
    were, where `resampled_gaps` asks what hangs on them.

    Parameters
    ----------
    gap : Series
        As `monthly_gap` returns it, of at least two blocks.
    draws, seed : int
        Number of resamples, and of the resampling.
    block : int
        Months.
    """
    values = gap.to_numpy(dtype=np.float64)
    n = len(values)
    if n < 2 * block:
        raise ValueError(f"gap: must have at least {2 * block} months, got {n}")
    x = np.arange(n) / 12
    line = np.polynomial.Polynomial.fit(x, values, 1)(x)
    starts = generator(seed).integers(0, n - block + 1, (draws, -(-n // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :n]
    return _slopes(line + (values - line)[index])


def resampled_gaps(board: pd.DataFrame, band: Band, draws: int, seed: int = 0) -> pd.DataFrame:
    """The monthly gap when the board's models are drawn anew, with replacement: what hangs on which models came out.

    All rows of a model are drawn together. The same seed draws the same models for every band of a board, and for other
    scores of the same models.

    Parameters
    ----------
    board, band
        As in `monthly_gap`.
    draws : int
        Number of resamples.
    seed : int
        Of the resampling.

    Returns
    -------
    DataFrame
        A row for each draw, a column for each month from the first in which the whole board has a gap; NaN where a
        draw has none yet.
    """
    scored = _scored(board)
    codes, models = pd.factorize(board["model"])
    rng = generator(seed)
    times = rng.multinomial(len(models), np.full(len(models), 1 / len(models)), size=draws)
    return _gaps(scored, band.of(scored), times[:, codes[board.index.isin(scored.index)]] > 0)


def _gaps(scored: pd.DataFrame, band: pd.DataFrame, drawn: NDArray[np.bool_]) -> pd.DataFrame:
    """Monthly gaps of some of a board's rows, shape (draws, rows): a row for each draw, as `resampled_gaps` has it."""
    month, score, length = _coded(scored)
    member = scored.index.isin(band.index)
    overall = _best(month, score, length, drawn)
    inside = _best(month[member], score[member], length, drawn[:, member])
    gaps = np.where(np.isfinite(inside), overall - np.where(np.isfinite(inside), inside, 0.0), np.nan)
    first = int(month[member].min())
    months = pd.period_range(scored["date"].min().to_period("M"), periods=length, freq="M")
    return pd.DataFrame(gaps[:, first:], columns=months[first:])


def gap_slopes(gaps: pd.DataFrame) -> Float:
    """Slope of each row of `resampled_gaps`, in points a year; NaN where fewer than two months have a gap."""
    return _slopes(gaps.to_numpy(dtype=np.float64))


def random_band_slopes(board: pd.DataFrame, band: Band, draws: int, rng: np.random.Generator) -> Float:
    """Slopes of the gap for random bands: in each month as many models as the band has, drawn from all of that month.

    The running maximum of any growing set of models rises; these are the slopes that come of that alone.

    Parameters
    ----------
    board, band
        As in `monthly_gap`.
    draws : int
        Number of random bands.
    rng : numpy.random.Generator
        Draws them.

    Returns
    -------
    ndarray, shape (draws,)
        Points a year.
    """
    scored = _scored(board)
    month, score, length = _coded(scored)
    counts = np.bincount(month[scored.index.isin(band.of(scored).index)], minlength=length)
    best = np.full((draws, length), -np.inf)
    for at in np.flatnonzero(counts):
        pool = np.tile(score[month == at], (draws, 1))
        best[:, at] = rng.permuted(pool, axis=1)[:, : counts[at]].max(axis=1)
    gaps = _best(month, score, length, np.ones((1, len(score)), np.bool_)) - np.maximum.accumulate(best, axis=1)
    return _slopes(gaps[:, np.flatnonzero(counts)[0] :])


def _scored(board: pd.DataFrame) -> pd.DataFrame:
    return board.dropna(subset=["date", "score"]).astype({"score": "float64"})


def _monthly(bests: Bests, last: pd.Period) -> pd.Series[float]:
    """The best score at the end of each month up to the last."""
    at_end = bests.groupby(pd.DatetimeIndex(bests.index).to_period("M")).last()
    return at_end.reindex(pd.period_range(at_end.index[0], last, freq="M")).ffill()


def _coded(scored: pd.DataFrame) -> tuple[NDArray[np.intp], Float, int]:
    """Each row's month, counted from the board's first, and its score; the number of months."""
    dates = scored["date"].dt
    months = (dates.year * 12 + dates.month).to_numpy()
    return months - months.min(), scored["score"].to_numpy(), int(np.ptp(months)) + 1


def _best(month: NDArray[np.intp], score: Float, length: int, drawn: NDArray[np.bool_]) -> Float:
    """The best score of the rows drawn at the end of each month, shape (draws, months); minus infinity before one."""
    best = np.full((len(drawn), length), -np.inf)
    for at in np.unique(month):
        of = month == at
        best[:, at] = np.where(drawn[:, of], score[of], -np.inf).max(axis=1)
    return np.asarray(np.maximum.accumulate(best, axis=1))


def _slopes(gaps: NDArray[np.floating[Any]]) -> Float:
    """Least-squares slopes, a year, of gaps a month apart, shape (n, months) to (n,); NaN of fewer than two months."""
    known = np.isfinite(gaps)
    x = np.arange(gaps.shape[1]) / 12
    with np.errstate(invalid="ignore"):
        centred = np.where(known, x - (known @ x / known.sum(axis=1))[:, None], 0.0)
        return np.asarray((np.where(known, gaps, 0.0) * centred).sum(axis=1) / (centred**2).sum(axis=1))

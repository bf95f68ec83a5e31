"""Leaderboards over time: the best model so far overall and within a band, and how the gap between them moves.

A board is a frame with one row per model (or run) and the columns ``model``, ``date``, ``score``, and whatever its
bands select by. Rows without a date or a score count nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

    Returns
    -------
    Series
        Points a year, indexed by the model that is left out.
    """
    scored = _scored(board)
    setters = []
    for rows in (scored, _scored(band.of(board))):
        bests = new_bests(rows)
        setters += [*rows.index[rows["score"] == rows["date"].map(bests)]]
    left_out = list(dict.fromkeys(setters))
    found = [gap_slope(monthly_gap(scored.drop(row), band)) for row in left_out]
    return pd.Series(found, index=scored.loc[left_out, "model"].to_list(), dtype=np.float64)


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
    months = scored["date"].dt.to_period("M")
    counts = band.of(scored)["date"].dt.to_period("M").value_counts()
    grid = pd.period_range(counts.index.min(), months.max(), freq="M")
    best = np.full((draws, len(grid)), -np.inf)
    for column, month in enumerate(grid):
        if month in counts.index:
            pool = np.tile(scored.loc[months == month, "score"].to_numpy(dtype=np.float64), (draws, 1))
            best[:, column] = rng.permuted(pool, axis=1)[:, : counts[month]].max(axis=1)
    overall = _monthly(new_bests(scored), grid[-1]).reindex(grid).to_numpy(dtype=np.float64)
    return _slopes(overall - np.maximum.accumulate(best, axis=1))


def _scored(board: pd.DataFrame) -> pd.DataFrame:
    return board.dropna(subset=["date", "score"]).astype({"score": "float64"})


def _monthly(bests: Bests, last: pd.Period) -> pd.Series[float]:
    """The best score at the end of each month up to the last."""
    at_end = bests.groupby(pd.DatetimeIndex(bests.index).to_period("M")).last()
    return at_end.reindex(pd.period_range(at_end.index[0], last, freq="M")).ffill()


def _slopes(gaps: NDArray[np.floating[Any]]) -> Float:
    """Least-squares slopes, a year, of gaps that are a month apart; shape (n, months) to (n,)."""
    x = np.arange(gaps.shape[1]) / 12
    x -= x.mean()
    with np.errstate(invalid="ignore"):
        return np.asarray(gaps @ x / (x @ x))

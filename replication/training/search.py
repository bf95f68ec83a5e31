"""Tuning: one protocol for all methods, and what is needed to say how sure a choice is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

# the draws by which the interval judges the choice
from replication.evidence.statistics import resamples

TUNING_SEED = 1000
"""The first seed of every tuning; evaluation seeds count from zero and stay below."""

Seeds = Annotated[int, Field(gt=0, le=TUNING_SEED)]
"""A field of a config: how many evaluation seeds there are."""

Setting = TypeVar("Setting", bound=Hashable)
Arm = TypeVar("Arm", bound=Hashable)


def apart(seeds: Sequence[int]) -> None:
    """Refuse evaluation seeds of which some is one of the tuning's.

    Raises
    ------
    ValueError
        If one is.
    """
    if max(seeds) >= TUNING_SEED:
        raise ValueError(f"seeds: must be below {TUNING_SEED}, where those of the tuning begin, got {max(seeds)}")


class Tuned(NamedTuple, Generic[Setting]):
    """What tuning found for one arm."""

    settings: list[Setting]
    """All that were tried, those with smaller rates first."""
    scores: NDArray[np.float64]
    """Score of each with each tuning seed, shape (K, m)."""
    chosen: list[Setting]
    """The best, then those that another draw of the tuning seeds would have chosen."""
    inside: bool
    """Whether the best rate is no end of those tried."""

    @property
    def best(self) -> Setting:
        """The setting with the least mean score."""
        return self.chosen[0]


@dataclass(frozen=True)
class Grid(Generic[Setting]):
    """The settings that an arm is tuned over.

    Attributes
    ----------
    settings
        Named tuples, of which `tune` changes the rate.
    block
        Rates that are added at a time when it is widened.
    """

    settings: Sequence[Setting]
    block: int = 1


def tune(
    score: Callable[[Sequence[Setting]], ArrayLike],
    arms: Mapping[Arm, Grid[Setting]],
    *,
    rate: str,
    widen: int = 0,
) -> dict[Arm, Tuned[Setting]]:
    """Choose the setting of every arm with the least mean score over the tuning seeds.

    A grid whose best rate is an end of it is widened there by its own spacing, until the best is inside or the grid was
    widened so many times, the same for all arms. A setting that several arms share is trained once. A diverged run
    never wins, and a tie goes to the smaller rate.

    Parameters
    ----------
    score : callable(settings) -> array_like, shape (K, m)
        Trains each setting with each of m tuning seeds. Lower is better; NaN and infinities are diverged runs.
    arms : mapping
        The grid of each arm.
    rate : str
        The field of a setting that is its rate.
    widen : int
        How often a grid may be widened.

    Returns
    -------
    dict
        By arm.

    Examples
    --------
    >>> class Trial(NamedTuple):
    ...     lr: float
    >>> grids = {"sgd": Grid([Trial(0.1), Trial(0.2)])}
    >>> found = tune(lambda trials: [[abs(t.lr - 0.5)] for t in trials], grids, rate="lr", widen=3)
    >>> found["sgd"].best, len(found["sgd"].settings), found["sgd"].inside
    (Trial(lr=0.4), 4, True)
    """
    grids = {arm: list(grid.settings) for arm, grid in arms.items()}
    scores: dict[Setting, NDArray[np.float64]] = {}
    left = widen
    while True:
        new = [one for one in dict.fromkeys(one for grid in grids.values() for one in grid) if one not in scores]
        # what an arm was widened to, another may have been tried at already
        if new:
            scores |= dict(zip(new, np.asarray(score(new), dtype=float), strict=True))
        found = {arm: _chosen(grid, scores, rate) for arm, grid in grids.items()}
        wider = {arm: _wider(found[arm], rate, arms[arm].block) for arm in grids if not found[arm].inside}
        if not left or not wider:
            return found
        grids |= wider
        left -= 1


def _chosen(grid: list[Setting], scores: Mapping[Setting, NDArray[np.float64]], rate: str) -> Tuned[Setting]:
    table = np.stack([scores[one] for one in grid])
    chosen = [grid[k] for k in candidates(table)]
    rates = [getattr(one, rate) for one in grid]
    return Tuned(grid, table, chosen, min(rates) < getattr(chosen[0], rate) < max(rates))


def _wider(tuned: Tuned[Setting], rate: str, block: int) -> list[Setting]:
    """The settings with `block` further rates at the end where the best lies; smaller rates first, as before."""
    rates = sorted({getattr(one, rate) for one in tuned.settings})
    low = getattr(tuned.best, rate) == rates[0]
    # the spacing at that end, from the inside out
    inner, end = (rates[1:2] or [2 * rates[0]], rates[0]) if low else (rates[-2:-1] or [rates[0] / 2], rates[-1])
    step = end / inner[0]
    added = [end * step ** (j + 1) for j in range(block)]
    # what else a setting is made of, in the order of the grid
    kinds: dict[Any, Any] = {one._replace(**{rate: None}): one for one in tuned.settings}  # type: ignore[attr-defined]
    return [
        kind._replace(**{rate: value})
        for bare, kind in kinds.items()
        for value in sorted(
            {getattr(one, rate) for one in tuned.settings if one._replace(**{rate: None}) == bare} | set(added)  # type: ignore[attr-defined]
        )
    ]


def candidates(scores: ArrayLike) -> list[int]:
    """The best setting, then those that another draw of the tuning seeds would have chosen.

    Evaluating all of them lets an interval carry the uncertainty of the choice (``tuned`` in ``claims.yaml``).

    Parameters
    ----------
    scores : array_like, shape (K, m)
        Score of each setting with each tuning seed; lower is better, a diverged run (NaN, infinite) never wins, and a
        tie goes to the first setting, so put the smaller rate first.

    Returns
    -------
    list of int
        Indices of settings, the one with the best mean first, the others in their order.

    Examples
    --------
    >>> candidates([[1.0, 3.0], [2.0, 1.5], [9.0, 9.0]])
    [1, 0]
    """
    table = np.asarray(scores, dtype=float)
    table = np.where(np.isfinite(table), table, np.inf)
    # rounded, so that a tie goes to the first on every machine
    best = np.round(table.mean(axis=1), 9).argmin()
    chosen = np.round(table[:, resamples(table.shape[1])].mean(axis=2), 9).argmin(axis=0)
    return [int(best), *(int(k) for k in np.unique(chosen) if k != best)]

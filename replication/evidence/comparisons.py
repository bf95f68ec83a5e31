"""From records to comparisons: which rows a claim is about, and what each cell or pair of levels shows."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypedDict

import numpy as np
import pandas as pd

from replication.evidence import statistics
from replication.evidence.claims import (
    Claim,
    DirectionClaim,
    IntervalClaim,
    Level,
    OrderingClaim,
    SlopeClaim,
    ValueClaim,
)

#: Two-sided level of every decision.
ALPHA = 0.05

State = Literal["better", "worse", "tied", "holds", "fails", "unclear"]
Role = Literal["claim", "premise"]
CellClaim = ValueClaim | SlopeClaim | IntervalClaim
PairClaim = DirectionClaim | OrderingClaim

Cell = tuple[Level, ...]
Unit = tuple[Level, ...]
Values = dict[Unit, float]


class Comparison(TypedDict):
    """Raw numbers of one comparison; a number that cannot be had is None.

    Keys
    ----
    role
        ``claim``, or ``premise`` for the comparison that must hold before the claim is asked.
    cell
        The levels of the claim's `by` columns.
    ours, baseline
        The compared levels (None where a claim compares no levels); the estimate is ours minus baseline.
    decisive
        Whether a tie or defeat here refutes the claim.
    estimate, low, high
        With the 95 % interval.
    low90, high90
        The 90 % interval, by which equivalence is judged.
    p, p_holm
        Two-sided, alone and adjusted within the family.
    n, left_out
        Units compared, and units that only one arm has.
    state
        ``better``, ``worse``, ``tied`` or ``unclear``; for claims without levels ``holds``, ``fails`` or ``unclear``.
    note
        Why a comparison could not be made, else empty.
    """

    role: Role
    cell: dict[str, Level]
    ours: Level | None
    baseline: Level | None
    decisive: bool
    estimate: float | None
    low: float | None
    high: float | None
    low90: float | None
    high90: float | None
    p: float | None
    p_holm: float | None
    n: int
    left_out: int
    state: State
    note: str


def select(records: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """The rows of the records that measure a claim: its quantity, at the levels of its `where`."""
    rows = records[records["quantity"] == claim.quantity]
    for column, wanted in claim.where.items():
        if rows.empty:
            break
        _require(rows, claim, [column])
        rows = rows[rows[column].isin(list(wanted) if isinstance(wanted, tuple) else [wanted])]
    return rows


def describe(comparison: Comparison) -> str:
    """A comparison's name in words: what is compared, and its cell."""
    cell = ", ".join(f"{column}={text(level)}" for column, level in comparison["cell"].items())
    if comparison["ours"] is None or comparison["baseline"] is None:
        return cell
    return f"{text(comparison['ours'])} against {text(comparison['baseline'])}" + (f" at {cell}" if cell else "")


def text(level: Level) -> str:
    """A level in words; whole floats without their point.

    Examples
    --------
    >>> text(75.0), text("uba"), text(True)
    ('75', 'uba', 'True')
    """
    return f"{level:g}" if isinstance(level, float) else str(level)


# --- one estimate per cell: value, slope, interval -------------------------------------------------------------------


def cells(claim: CellClaim, rows: pd.DataFrame) -> dict[Cell, Values]:
    """Per cell the value, or the slope, of each replicate; cells in sorted order.

    Raises
    ------
    ValueError
        A replicate stands twice in a cell (such rows are not independent), or a column is missing or not numeric.
    """
    found = _slopes(claim, rows) if isinstance(claim, SlopeClaim) else _replicates(claim, rows)
    return {cell: found[cell] for cell in sorted(found)}


def compare_cells(claim: CellClaim, rows: pd.DataFrame) -> list[Comparison]:
    """Judge every cell: ``holds`` or ``fails`` by its interval, else ``unclear``.

    A refutation by any one of m cells is tested at level alpha/m (Bonferroni, which Holm's first step equals); a
    confirmation needs all cells, so it needs no correction.
    """
    found = cells(claim, rows)
    by = () if isinstance(claim, ValueClaim) else claim.by
    made = []
    for cell, of_unit in found.items():
        values = np.array(list(of_unit.values()))
        bad = int((~np.isfinite(values)).sum())
        note = f"{bad} of {len(values)} values are not finite" if bad else ""
        comparison = _comparison("claim", by, cell, len(values), note, None if bad else values, interval_of(claim))
        comparison["p"] = None  # the t test against zero is not the question here
        if not bad:
            if _holds(claim, comparison):
                comparison["state"] = "holds"
            elif _excluded(claim, interval_of(claim)(values, level=1 - ALPHA / len(found))):
                comparison["state"] = "fails"
        made.append(comparison)
    return made


def interval_of(claim: CellClaim) -> Callable[..., statistics.Interval]:
    """The interval by which a claim judges the values of a cell."""
    draws = not isinstance(claim, SlopeClaim) and claim.rows == "draws"
    return statistics.percentile_interval if draws else statistics.mean_interval


def limits(claim: CellClaim) -> tuple[float, float]:
    """Lowest and highest value that agree with a claim; an open end is infinite."""
    match claim:
        case ValueClaim():
            return claim.band
        case IntervalClaim():
            low, high = claim.lower, claim.upper
        case SlopeClaim(claimed="zero"):
            low, high = -claim.margin, claim.margin
        case SlopeClaim(claimed="positive" | "at_least"):
            low, high = claim.bound or 0.0, None
        case _:
            low, high = None, claim.bound or 0.0
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def discord(claim: CellClaim, comparison: Comparison) -> float:
    """How far the far end of a cell's interval lies beyond the limits; negative inside, infinite if not known."""
    if comparison["low"] is None or comparison["high"] is None:
        return math.inf
    low, high = limits(claim)
    return max(low - comparison["low"], comparison["high"] - high)


def _holds(claim: CellClaim, comparison: Comparison) -> bool:
    low, high = limits(claim)
    zero = isinstance(claim, SlopeClaim) and claim.claimed == "zero"
    ends = (comparison["low90"], comparison["high90"]) if zero else (comparison["low"], comparison["high"])
    if ends[0] is None or ends[1] is None:
        return False
    if isinstance(claim, SlopeClaim) and claim.bound is None:
        return low < ends[0] and ends[1] < high
    return low <= ends[0] and ends[1] <= high


def _excluded(claim: CellClaim, found: statistics.Interval) -> bool:
    low, high = (0.0, 0.0) if isinstance(claim, SlopeClaim) and claim.claimed == "zero" else limits(claim)
    return found.high < low or found.low > high


def _replicates(claim: ValueClaim | IntervalClaim, rows: pd.DataFrame) -> dict[Cell, Values]:
    by = () if isinstance(claim, ValueClaim) else claim.by
    found: dict[Cell, Values] = {}
    keys = zip(row_keys(rows, claim, by), unit_keys(rows, claim, claim.unit_by), strict=True)
    for (cell, unit), value in zip(keys, rows["value"].tolist(), strict=True):
        values = found.setdefault(cell, {})
        if unit in values:
            advice = "narrow `where`, split them with `by`, or name in `unit_by` what tells replicates apart"
            raise _twice(claim, (*by, *claim.unit_by)[: len(cell) + len(unit)], (*cell, *unit), advice)
        values[unit] = value
    return found


def _slopes(claim: SlopeClaim, rows: pd.DataFrame) -> dict[Cell, Values]:
    row_keys(rows, claim, (claim.x,))
    if not pd.api.types.is_numeric_dtype(rows[claim.x]):
        raise ValueError(f"claim {claim.id!r}: the column {claim.x!r} must be numeric to have a slope")
    points: dict[Cell, dict[Unit, dict[float, list[float]]]] = {}
    keys = zip(row_keys(rows, claim, claim.by), unit_keys(rows, claim, claim.unit_by), strict=True)
    for (cell, unit), x, value in zip(keys, rows[claim.x].tolist(), rows["value"].tolist(), strict=True):
        points.setdefault(cell, {}).setdefault(unit, {}).setdefault(x, []).append(value)

    def estimate(at: Mapping[float, list[float]]) -> float:
        xs = sorted(at)
        # sorted, so that the order of rows does not change the last bit
        return statistics.slope(xs, [sum(sorted(at[x])) / len(at[x]) for x in xs], claim.method)

    return {cell: {unit: estimate(at) for unit, at in units.items()} for cell, units in points.items()}


# --- pairs of levels: direction, ordering ----------------------------------------------------------------------------

Arms = dict[Cell, dict[Level, Values]]
Pair = tuple[Cell, Level, Level]


def arms(claim: PairClaim, rows: pd.DataFrame) -> Arms:
    """Per cell and level of the factor, the value of each unit; cells in sorted order.

    Raises
    ------
    ValueError
        A unit stands twice in an arm, or a column is missing.
    """
    _require(rows, claim, (claim.factor,))
    rows = rows[rows[claim.factor].isin(list(levels(claim)))]
    found: Arms = {}
    keys = zip(row_keys(rows, claim, claim.by), row_keys(rows, claim, claim.pair_on), strict=True)
    for (cell, unit), level, value in zip(keys, rows[claim.factor].tolist(), rows["value"].tolist(), strict=True):
        values = found.setdefault(cell, {}).setdefault(level, {})
        if unit in values:
            advice = "narrow `where`, or name the column that differs in `by` or `pair_on`"
            raise _twice(claim, (claim.factor, *claim.by, *claim.pair_on), (level, *cell, *unit), advice)
        values[unit] = value
    return {cell: found[cell] for cell in sorted(found)}


def levels(claim: PairClaim) -> tuple[Level, ...]:
    """The levels of the factor that a claim compares, the premise's last."""
    if isinstance(claim, OrderingClaim):
        return claim.order
    return (claim.ours, *claim.baselines, *(() if claim.premise is None else (claim.premise,)))


def pairs(claim: PairClaim, found: Arms) -> list[Pair]:
    """Every comparison that a claim asks for, as (cell, ours, baseline)."""
    if isinstance(claim, OrderingClaim):
        wanted = list(zip(claim.order[1:], claim.order[:-1], strict=True))
    else:
        wanted = [(claim.ours, baseline) for baseline in claim.baselines]
    return [(cell, ours, baseline) for cell in found for ours, baseline in wanted]


def sign(claim: PairClaim) -> int:
    """Sign that the claim gives to ours minus baseline."""
    return -1 if isinstance(claim, DirectionClaim) and claim.direction == "lower" else 1


def favour(claim: PairClaim, comparison: Comparison) -> float:
    """How much even the unfavourable end of a comparison's interval speaks for the claim."""
    if comparison["low"] is None or comparison["high"] is None:
        return -math.inf
    return min(sign(claim) * comparison["low"], sign(claim) * comparison["high"])


def compare_pairs(claim: PairClaim, found: Arms, wanted: Iterable[Pair], role: Role = "claim") -> list[Comparison]:
    """Paired comparisons as one family.

    Holm's correction runs over all of them; one that has no p value counts as p = 1. Units of only one arm are left
    out and counted; a difference that is not finite makes its comparison ``unclear``, it is never dropped.
    """
    margin = claim.margin if isinstance(claim, DirectionClaim) else 0.0
    decisive = claim.decisive if isinstance(claim, DirectionClaim) else None
    family: list[Comparison] = []
    tied: list[bool] = []
    for cell, ours, baseline in wanted:
        a, b = found[cell].get(ours, {}), found[cell].get(baseline, {})
        common = a.keys() & b.keys()
        bad = sum(not math.isfinite(a[unit] - b[unit]) for unit in common)
        absent = [text(level) for level, arm in ((ours, a), (baseline, b)) if not arm]
        if absent:
            note = f"no records of {' and '.join(absent)}"
        elif not common:
            note = "no common unit to pair on"
        else:
            note = f"{bad} of {len(common)} differences are not finite" if bad else ""
        differences = None if note else np.array(statistics.paired_difference(a, b).differences)
        comparison = _comparison(role, claim.by, cell, len(common), note, differences)
        comparison["ours"], comparison["baseline"] = ours, baseline
        comparison["decisive"] = decisive is None or baseline in decisive
        comparison["left_out"] = len(a) + len(b) - 2 * len(common)
        family.append(comparison)
        tied.append(differences is not None and margin > 0 and statistics.equivalent(differences, margin))
    adjusted = statistics.holm([1.0 if one["p"] is None else one["p"] for one in family])
    for comparison, p, is_tied in zip(family, adjusted, tied, strict=True):
        if comparison["estimate"] is None:
            continue
        comparison["p_holm"] = p
        if p < ALPHA:
            comparison["state"] = "better" if sign(claim) * comparison["estimate"] > 0 else "worse"
        elif is_tied:
            comparison["state"] = "tied"
    return family


# --- rows ------------------------------------------------------------------------------------------------------------


def _comparison(
    role: Role,
    by: tuple[str, ...],
    cell: Cell,
    n: int,
    note: str,
    values: np.typing.NDArray[np.float64] | None,
    interval: Callable[..., statistics.Interval] = statistics.mean_interval,
) -> Comparison:
    wide = narrow = None
    if values is not None:
        wide, narrow = interval(values), interval(values, level=1 - 2 * ALPHA)
    return {
        "role": role,
        "cell": dict(zip(by, cell, strict=True)),
        "ours": None,
        "baseline": None,
        "decisive": True,
        "estimate": wide.estimate if wide else None,
        "low": wide.low if wide else None,
        "high": wide.high if wide else None,
        "low90": narrow.low if narrow else None,
        "high90": narrow.high if narrow else None,
        "p": wide.p if wide else None,
        "p_holm": None,
        "n": n,
        "left_out": 0,
        "state": "unclear",
        "note": note,
    }


def _require(rows: pd.DataFrame, claim: Claim, columns: Iterable[str]) -> None:
    have = [str(column) for column in rows.columns]
    for column in columns:
        if column not in have:
            near = difflib.get_close_matches(column, have, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"claim {claim.id!r}: the records have no column {column!r}, only {', '.join(have)}{hint}")


def row_keys(rows: pd.DataFrame, claim: Claim, columns: tuple[str, ...]) -> list[tuple[Level, ...]]:
    """Per row its levels in `columns`, none of them missing."""
    _require(rows, claim, columns)
    for column in columns:
        missing = int(rows[column].isna().sum())
        if missing:
            raise ValueError(
                f"claim {claim.id!r}: {missing} of the {len(rows)} rows of {claim.quantity!r} have no {column!r}; "
                "every row must have one, or `where` must leave the others out"
            )
    if not columns:
        return [()] * len(rows)
    return list(zip(*(rows[column].tolist() for column in columns), strict=True))


def unit_keys(rows: pd.DataFrame, claim: Claim, columns: tuple[str, ...]) -> list[Unit]:
    """As `row_keys`, but exact results have no seed: all their rows are then of one unit."""
    if columns == ("seed",) and ("seed" not in rows or rows["seed"].isna().all()):
        return [()] * len(rows)
    return row_keys(rows, claim, columns)


def _twice(claim: Claim, columns: tuple[str, ...], at: tuple[Level, ...], advice: str) -> ValueError:
    where = ", ".join(f"{column}={text(level)}" for column, level in zip(columns, at, strict=True)) or "no seed"
    return ValueError(f"claim {claim.id!r}: several rows of {claim.quantity!r} have {where}; {advice}")

"""Mutations of records, by which a verdict proves that it depends on what was measured.

For the records of any claim, `mutate` shifts the measured values past the edge of what the claim allows, in either
direction, and keeps cells, replicates and spread as they are. A verdict that does not follow is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd

from replication.evidence.claims import (
    Claim,
    DirectionClaim,
    IdentityClaim,
    Level,
    OrderingClaim,
    SlopeClaim,
    ValueClaim,
)
from replication.evidence.comparisons import (
    ALPHA,
    CellClaim,
    PairClaim,
    arms,
    cells,
    interval_of,
    levels,
    limits,
    pairs,
    row_keys,
    select,
    sign,
)
from replication.evidence.records import tidy
from replication.evidence.statistics import Interval, mean_interval
from replication.evidence.verdicts import evaluate

Side = Literal["for", "against"]


def flips(claim: Claim, records: pd.DataFrame, profile: str) -> bool:
    """Whether a claim's verdict follows the measured values.

    Shifted against the claim they must refute it; shifted for the claim they must not. So a ``reproduced`` stops being
    one, and a ``not reproduced`` does too.

    Parameters
    ----------
    claim, records, profile
        As `evaluate` takes them.

    Raises
    ------
    ValueError
        The claim is not attempted with these records, so there is nothing to shift.
    """
    before = evaluate(records, [claim], profile)[0]
    if before.verdict == "not attempted":
        raise ValueError(f"claim {claim.id!r} is not attempted ({before.reason}): there is nothing to shift")
    sides: tuple[Side, Side] = ("against", "for")
    against, favourable = (evaluate(mutate(claim, records, side), [claim], profile)[0].verdict for side in sides)
    return against == "not reproduced" != favourable


def mutate(claim: Claim, records: pd.DataFrame, side: Side) -> pd.DataFrame:
    """The records of a claim with their values shifted just past what it allows.

    Where replicates are fewer than the claim asks for, copies make up their number; a value that is not finite is
    replaced by the median of the others.

    Parameters
    ----------
    claim, records
        As `evaluate` takes them.
    side : {"for", "against"}
        Whether the shifted values support the claim as far as their spread allows, or contradict it.
    """
    rows = _complete(claim, select(records, claim))
    if isinstance(claim, IdentityClaim):
        values = np.zeros(len(rows))
        values[0] = 0.0 if side == "for" else np.nextafter(claim.tolerance, np.inf)
    elif isinstance(claim, DirectionClaim | OrderingClaim):
        values = rows["value"].to_numpy() + _shift_levels(claim, rows, side)
    elif isinstance(claim, SlopeClaim):
        values = _shift_slopes(claim, rows, side)
    else:
        values = _shift_means(claim, rows, side)
    return tidy(rows.assign(value=values))


def _complete(claim: Claim, rows: pd.DataFrame) -> pd.DataFrame:
    finite = rows["value"][np.isfinite(rows["value"])]
    if isinstance(claim, SlopeClaim) and claim.method == "loglog":
        finite = finite[finite > 0]
    rows = rows.assign(value=rows["value"].where(rows["value"].isin(finite), finite.median() if len(finite) else 1.0))
    if isinstance(claim, IdentityClaim):
        n = len(rows)
        column = "seed"
    else:
        unit_by = claim.pair_on if isinstance(claim, DirectionClaim | OrderingClaim) else claim.unit_by
        column = unit_by[-1] if unit_by else "seed"
        n = evaluate(rows, [claim], claim.profiles[0])[0].n
    if n >= claim.min_seeds or not n:
        return rows
    labels = rows[column] if column in rows and rows[column].notna().all() else pd.Series(0, index=rows.index)
    copies = range(math.ceil(claim.min_seeds / n))
    if pd.api.types.is_numeric_dtype(labels):
        period = labels.max() - labels.min() + 1
        parts = [rows.assign(**{column: labels + copy * period}) for copy in copies]
    else:
        parts = [rows.assign(**{column: [f"{label} copy {copy}" for label in labels]}) for copy in copies]
    return pd.concat(parts, ignore_index=True)


def _past(edge: float) -> float:
    """A step past an edge, above the rounding of the shifted values."""
    return 1e-6 * max(1.0, abs(edge))


def _target(claim: CellClaim, found: Interval, strict: Interval, side: Side) -> float:
    """Where the mean must lie for the claim to hold, or for even the corrected interval to lie outside."""
    low, high = limits(claim)
    if side == "for":
        if math.isfinite(low) and math.isfinite(high):
            return (low + high) / 2
        step = 2 * found.half_width
        return high - step - _past(high) if math.isfinite(high) else low + step + _past(low)
    above = math.isfinite(high)
    edge = high if above else low
    if isinstance(claim, ValueClaim) and claim.null is not None:
        # a value on the paper's side of the null would still be partly reproduced
        edge, above = claim.null, claim.null > claim.paper_value
    step = 2 * strict.half_width + _past(edge)
    return edge + step if above else edge - step


def _targets(claim: CellClaim, rows: pd.DataFrame, side: Side) -> dict[tuple[Level, ...], tuple[Interval, float]]:
    found = cells(claim, rows)
    made = {}
    for cell, of_unit in found.items():
        values = [value for value in of_unit.values() if math.isfinite(value)] or [0.0]
        judged = interval_of(claim)
        interval, strict = judged(values), judged(values, level=1 - ALPHA / len(found))
        made[cell] = interval, _target(claim, interval, strict, side)
    return made


def _shift_means(claim: CellClaim, rows: pd.DataFrame, side: Side) -> np.typing.NDArray[np.float64]:
    targets = _targets(claim, rows, side)
    shifted = []
    by = () if isinstance(claim, ValueClaim) else claim.by
    for cell, value in zip(row_keys(rows, claim, by), rows["value"].tolist(), strict=True):
        interval, target = targets[cell]
        # without spread, the target itself: adding a difference would lose its last bit
        shifted.append(value + (target - interval.estimate) if interval.half_width else target)
    return np.array(shifted)


def _shift_slopes(claim: SlopeClaim, rows: pd.DataFrame, side: Side) -> np.typing.NDArray[np.float64]:
    x, values = rows[claim.x].to_numpy(dtype=float), rows["value"].to_numpy()
    if claim.claimed == "zero" and side == "for":
        return np.ones(len(rows))  # no dependence on x at all
    if claim.method == "spearman":
        # ranks cannot be shifted by a given amount: the values follow x, or its reverse
        rising = (claim.claimed in ("positive", "at_least")) == (side == "for") or claim.claimed == "zero"
        return x if rising else -x
    targets = _targets(claim, rows, side)
    keys = row_keys(rows, claim, claim.by)
    change = np.array([targets[cell][1] - targets[cell][0].estimate for cell in keys])
    return np.asarray(values + change * x if claim.method == "linear" else values * x**change)


def _shift_levels(claim: PairClaim, rows: pd.DataFrame, side: Side) -> np.typing.NDArray[np.float64]:
    found = arms(claim, rows)
    size = 1e-6 * max(1.0, float(rows["value"].abs().max()))

    def step(ours: Callable[[Level], Level], side: Side) -> float:
        """Shift of ours against its baselines, in the claimed direction."""
        wanted = pairs(claim, found)
        margin = claim.margin if isinstance(claim, DirectionClaim) else 0.0
        needed = [0.0]
        for cell, level, baseline in wanted:
            a, b = found[cell].get(ours(level), {}), found[cell].get(baseline, {})
            if a.keys() & b.keys():
                differences = [sign(claim) * (a[unit] - b[unit]) for unit in a.keys() & b.keys()]
                interval = mean_interval(differences, level=1 - ALPHA / len(wanted))
                needed.append(-interval.low if side == "for" else interval.high)
        return (max(needed) + margin + size) * (1 if side == "for" else -1)

    shift: dict[Level, float] = dict.fromkeys(levels(claim), 0.0)
    if isinstance(claim, OrderingClaim):
        shift = {level: index * step(lambda level: level, side) for index, level in enumerate(claim.order)}
    else:
        shift[claim.ours] = sign(claim) * step(lambda level: level, side)
        if claim.premise is not None:
            premise = claim.premise
            shift[premise] = sign(claim) * step(lambda _: premise, "for")
    return np.array([shift.get(level, 0.0) for level in rows[claim.factor].tolist()])

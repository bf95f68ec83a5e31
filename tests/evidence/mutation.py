"""Mutations of records, by which an answer proves that it depends on what was measured.

`mutate` shifts the measured values of a test just past the edge of what its rule allows, in either direction, and keeps
cells, replicates and spread as they are. An answer that does not follow is no answer.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd

from replication.evidence import Outcome, Test, tidy
from replication.evidence.claims import DirectionTest, IdentityTest, SlopeTest
from replication.evidence.samples import Sample, samples, select
from replication.evidence.statistics import ALPHA
from replication.evidence.verdicts import answer, limits

Side = Literal["for", "against"]


def flips(test: Test, records: pd.DataFrame) -> bool:
    """Whether a test's answer follows the measured values: shifted against it "no", shifted for it not "no"."""
    records = records[records["quantity"].isin(asked_of(test))]
    found = samples(records, test)
    assert found, f"test {test.id!r} has no data: there is nothing to shift"
    if min(len(sample.numbers) for sample in found) < max(test.min_seeds, 2):
        # whether the number follows is asked of few replicates too
        test = test.model_copy(update={"min_seeds": 1, "exact": True})
    against, favourable = (asked(test, mutate(test, records, side)).answer for side in ("against", "for"))
    return against == "no" != favourable


def asked_of(test: Test) -> set[str]:
    """The quantities that a test looks at."""
    tuned = getattr(test, "tuned", None)
    return {test.quantity} | ({tuned.scores, tuned.tests} if tuned else set())


def asked(test: Test, records: pd.DataFrame) -> Outcome:
    """The answer to one test by itself, without its gates."""
    return answer(test, samples(records, test))


def mutate(test: Test, records: pd.DataFrame, side: Side) -> pd.DataFrame:
    """The records with the values of a test shifted just past what its rule allows, or just inside."""
    measured = select(records, test)
    finite = measured["value"][np.isfinite(measured["value"])]
    rows = measured.assign(value=measured["value"].where(measured["value"].isin(finite), finite.median()))
    others = records[~records.index.isin(rows.index)]
    if isinstance(test, IdentityTest):
        values = np.zeros(len(rows))
        values[0] = 0.0 if side == "for" else np.nextafter(test.tolerance, np.inf)
    elif isinstance(test, SlopeTest) and test.method == "spearman":
        # ranks cannot be shifted by a given amount: the values follow x, or its reverse
        rising = test.claimed in ("positive", "at_least")
        values = rows[test.x].to_numpy(dtype=float) * (1 if rising == (side == "for") else -1)
    else:
        values = _shifted(test, rows, pd.concat([rows, others], ignore_index=True), side)
    return tidy(pd.concat([rows.assign(value=values), others], ignore_index=True))


def _shifted(test: Test, rows: pd.DataFrame, records: pd.DataFrame, side: Side) -> np.typing.NDArray[np.float64]:
    found = samples(records, test)
    # with every baseline a comparison of its own, the one that has to move farthest moves all
    delta: dict[tuple[object, ...], float] = {}
    for sample in found:
        cell, change = tuple(sample.cell[column] for column in test.by), _delta(test, sample, len(found), side)
        farther = max if _upwards(test, side) else min
        delta[cell] = farther(delta.get(cell, change), change)
    keys = zip(*(rows[column].tolist() for column in test.by), strict=True) if test.by else [()] * len(rows)
    change = np.array([delta[tuple(key)] for key in keys])
    values = rows["value"].to_numpy()
    if isinstance(test, DirectionTest):
        return np.asarray(values + change * (rows[test.factor] == test.ours).to_numpy())
    if isinstance(test, SlopeTest):
        x = rows[test.x].to_numpy(dtype=float)
        return np.asarray(values + change * x if test.method == "linear" else np.abs(values) * x**change)
    without_spread = all(len(set(sample.numbers.values())) == 1 for sample in found)
    if without_spread:
        # the target itself: adding a difference would lose its last bit
        target = found[0].estimate().value + change[0] if len(found) == 1 else None
        return np.full(len(rows), target) if target is not None else values + change
    return np.asarray(values + change)


def _upwards(test: Test, side: Side) -> bool:
    low, high = limits(test)
    return (math.isfinite(low) and not math.isfinite(high)) == (side == "for")


def _delta(test: Test, sample: Sample, m: int, side: Side) -> float:
    """The shift of one cell's number that brings its corrected interval past the edge."""
    if not sample.numbers:
        return 0.0
    low, high = limits(test)
    judged = sample.estimate()
    ends = judged.interval(1 - ALPHA / (4 * m))
    # the interval of draws need not be symmetric
    value, reach = judged.value, max(judged.value - ends.low, ends.high - judged.value)
    past = 1e-9 * max(1.0, abs(value), *(abs(edge) for edge in (low, high) if math.isfinite(edge)))
    margin = test.margin if isinstance(test, DirectionTest) else 0.0
    if side == "for":
        if math.isfinite(low) and math.isfinite(high):
            return (low + high) / 2 - value
        edge = high - reach - margin - past if math.isfinite(high) else low + reach + margin + past
        return edge - value
    above = math.isfinite(high)
    edge = high if above else low
    return (edge + reach + past if above else edge - reach - past) - value

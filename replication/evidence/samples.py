"""From records to numbers: which rows a test is about, and per cell one number for each replicate."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from replication.checks import near_of
from replication.evidence.claims import (
    BaseTest,
    DirectionTest,
    IdentityTest,
    IntervalTest,
    Level,
    SlopeTest,
    Test,
    text,
)
from replication.evidence.statistics import Array, Draws, Estimate, Mean, mean_of, resamples, slope

Unit = tuple[Level, ...]
Values = dict[Unit, float]
Cell = tuple[Level, ...]


@dataclass(frozen=True)
class Sample:
    """The numbers of one cell, or of one baseline in one cell.

    Attributes
    ----------
    cell
        The levels of the test's `by` columns.
    baseline
        The level compared with, where each is a comparison of its own.
    numbers
        One number for each replicate: the value, the slope, or the paired difference.
    left_out
        Replicates that not all arms have.
    note
        Why there is no estimate, else empty.
    tuning
        Variance of the number over resampled tuning seeds, and its degrees of freedom.
    draws
        Whether `numbers` are draws of one estimate's distribution.
    """

    cell: dict[str, Level]
    numbers: Values
    baseline: Level | None = None
    left_out: int = 0
    note: str = ""
    tuning: tuple[float, float] | None = None
    draws: bool = False

    @property
    def name(self) -> str:
        """What is compared, and where, in words."""
        where = ", ".join(f"{column}={text(level)}" for column, level in self.cell.items())
        against = "" if self.baseline is None else f"against {text(self.baseline)}"
        return " at ".join(filter(None, (against, where)))

    def estimate(self) -> Estimate:
        """The cell's number with its error."""
        values = np.array(list(self.numbers.values()))
        if self.draws:
            return Draws(np.sort(values))
        found = mean_of(values)
        extra = (self.tuning,) if self.tuning and self.tuning[0] > 0 else ()
        return replace(found, parts=(*found.parts, *extra))


def pool(samples: Sequence[Sample]) -> Estimate:
    """The mean over cells, as strata.

    Cells that share their replicates (the same seeds) are averaged replicate by replicate, so that what a seed does to
    all of them is not counted as independent; of cells that share some of them the covariance is added, unless it is
    negative. The choice of settings is independent between cells.
    """
    if len(samples) == 1:
        return samples[0].estimate()
    groups: dict[frozenset[Unit], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(frozenset(sample.numbers), []).append(sample)
    if samples[0].draws:
        if len(groups) > 1:
            raise ValueError("draws of several cells are averaged draw by draw, but the cells have different draws")
        return Draws(np.sort(_averages(samples)))
    parts: list[tuple[float, float]] = []
    value = 0.0
    means = {units: dict(zip(group[0].numbers, _averages(group), strict=True)) for units, group in groups.items()}
    for units, group in groups.items():
        found, share = mean_of(list(means[units].values())), len(group) / len(samples)
        value += share * found.value
        parts += [(share**2 * variance, freedom) for variance, freedom in found.parts]
    # cells that share some of their replicates only are not independent either
    for (units, one), (others, other) in itertools.combinations(groups.items(), 2):
        if len(common := units & others) > 1:
            both = float(np.cov([[means[of][unit] for unit in sorted(common)] for of in (units, others)])[0, 1])
            share = 2 * len(one) * len(other) / len(samples) ** 2 * len(common) / (len(units) * len(others))
            parts.append((share * max(both, 0.0), len(common) - 1))
    # the comparisons of one cell share the choice of ours, so their errors of choice add up
    chosen: dict[Cell, list[tuple[float, float]]] = {}
    for sample in samples:
        if sample.tuning and sample.tuning[0] > 0:
            chosen.setdefault(tuple(sample.cell.values()), []).append(sample.tuning)
    parts += [((sum(v**0.5 for v, _ in of) / len(samples)) ** 2, min(m for _, m in of)) for of in chosen.values()]
    return Mean(value, min(len(units) for units in groups), tuple(parts))


def select(records: pd.DataFrame, test: BaseTest, quantity: str | None = None) -> pd.DataFrame:
    """The rows of the records that measure a test: its quantity (or another one), at the levels of its `where`."""
    return _narrowed(records, test, quantity)[0]


def absent(records: pd.DataFrame, test: BaseTest) -> str:
    """Why no row measures a test: the levels of its `where` that the run lacks, and those that it has instead."""
    return _narrowed(records, test)[1]


def _narrowed(records: pd.DataFrame, test: BaseTest, quantity: str | None = None) -> tuple[pd.DataFrame, str]:
    rows = records[records["quantity"] == (quantity or test.quantity)]
    for column, wanted in test.where.items():
        if rows.empty:
            break
        _require(rows, test, [column])
        levels = list(wanted) if isinstance(wanted, tuple) else [wanted]
        there, rows = rows[column], rows[rows[column].isin(levels)]
        if rows.empty:
            lacks, has = (", ".join(map(text, of)) for of in (levels, there.dropna().unique()))
            return rows, f"no data for {column} {lacks}; the run has {textwrap.shorten(has, 80, placeholder=' …')}"
    return rows, "no data"


def samples(records: pd.DataFrame, test: Test) -> list[Sample]:
    """Per cell (with `every` and baselines: per comparison) the numbers that a test judges; cells in sorted order.

    Raises
    ------
    ValueError
        A replicate stands twice in a cell (such rows are not independent), a column is missing or not numeric, or an
        arm whose setting was tuned has no scores.
    """
    rows, tuned = select(records, test), getattr(test, "tuned", None)
    # a part that failed takes a whole quantity with it
    if rows.empty or (tuned and not {tuned.scores, tuned.tests} <= set(records["quantity"])):
        return []
    if isinstance(test, DirectionTest):
        return _differences(test, rows, records)
    if isinstance(test, IdentityTest):
        # its rows are no replicates: every single one has to hold
        return [Sample({}, {(row,): abs(value) for row, value in enumerate(rows["value"].tolist())})]
    if isinstance(test, SlopeTest):
        found = _slopes(test, rows)
    else:
        advice = "narrow `where`, split them with `by`, or name in `unit_by` what tells replicates apart"
        found = _replicates(test, rows, test.by, test.unit_by, advice)
    draws = not isinstance(test, SlopeTest) and test.rows == "draws"
    choices = _choices(test, records) if isinstance(test, IntervalTest) and test.tuned else {}
    made = []
    for cell in sorted(found):
        bad = sum(not math.isfinite(value) for value in found[cell].values())
        note = f"{bad} of {len(found[cell])} values are not finite" if bad else ""
        made.append(Sample(dict(zip(test.by, cell, strict=True)), found[cell], note=note, draws=draws))
        if isinstance(test, IntervalTest) and test.tuned and not note:
            spread = _choice_variance(test, made[-1], choices.get(cell, {}), test.baselines, np.min)
            made[-1] = replace(made[-1], tuning=spread)
    return made


def _averages(samples: Sequence[Sample]) -> list[float]:
    # sorted, so that the order of cells does not change the last bit
    return [sum(sorted(sample.numbers[unit] for sample in samples)) / len(samples) for unit in samples[0].numbers]


def _replicates(
    test: Test, rows: pd.DataFrame, by: tuple[str, ...], unit_by: tuple[str, ...], advice: str
) -> dict[Cell, Values]:
    found: dict[Cell, Values] = {}
    keys = zip(_keys(rows, test, by), _units(rows, test, unit_by), strict=True)
    for (cell, unit), value in zip(keys, rows["value"].tolist(), strict=True):
        values = found.setdefault(cell, {})
        if unit in values:
            raise _twice(test, (*by, *unit_by)[: len(cell) + len(unit)], (*cell, *unit), advice)
        values[unit] = value
    return found


def _slopes(test: SlopeTest, rows: pd.DataFrame) -> dict[Cell, Values]:
    _keys(rows, test, (test.x,))
    if not pd.api.types.is_numeric_dtype(rows[test.x]):
        raise ValueError(f"test {test.id!r}: the column {test.x!r} must be numeric to have a slope")
    points: dict[tuple[Cell, Unit], dict[float, list[float]]] = {}
    keys = zip(_keys(rows, test, test.by), _units(rows, test, test.unit_by), strict=True)
    for key, x, value in zip(keys, rows[test.x].tolist(), rows["value"].tolist(), strict=True):
        points.setdefault(key, {}).setdefault(x, []).append(value)
    found: dict[Cell, Values] = {}
    for (cell, unit), at in points.items():
        xs = sorted(at)
        ys = [sum(sorted(at[x])) / len(at[x]) for x in xs]
        found.setdefault(cell, {})[unit] = slope(xs, ys, test.method)
    return found


# --- pairs of levels -------------------------------------------------------------------------------------------------


def _differences(test: DirectionTest, rows: pd.DataFrame, records: pd.DataFrame) -> list[Sample]:
    arms = _arms(test, rows)
    wanted = [(level,) for level in test.baselines] if test.every else [test.baselines]
    choices = _choices(test, records) if test.tuned else {}
    made = []
    for cell, baselines in itertools.product(arms, wanted):
        of = [arms[cell].get(level, {}) for level in (test.ours, *baselines)]
        absent = [text(level) for level, arm in zip((test.ours, *baselines), of, strict=True) if not arm]
        common = set.intersection(*(set(arm) for arm in of))
        values = {u: of[0][u] - sum(arm[u] for arm in of[1:]) / len(baselines) for u in sorted(common)}
        bad = sum(not math.isfinite(value) for value in values.values())
        if absent:
            note = f"no records of {' and '.join(absent)}"
        elif not common:
            note = "no common replicate to pair on"
        else:
            note = f"{bad} of {len(common)} differences are not finite" if bad else ""
        left_out = len(set.union(*(set(arm) for arm in of))) - len(common)
        baseline = baselines[0] if test.every else None
        sample = Sample(dict(zip(test.by, cell, strict=True)), values, baseline, left_out, note)
        if test.tuned and not note:
            spread = _choice_variance(test, sample, choices.get(cell, {}), baselines, np.mean)
            sample = replace(sample, tuning=spread)
        made.append(sample)
    return made


def _arms(test: DirectionTest, rows: pd.DataFrame) -> dict[Cell, dict[Level, Values]]:
    """Per cell and level of the factor, the value of each replicate; cells in sorted order."""
    _require(rows, test, (test.factor,))
    rows = rows[rows[test.factor].isin([test.ours, *test.baselines])]
    _keys(rows, test, ("seed",))  # which every row must have, to be one of a pair
    found: dict[Cell, dict[Level, Values]] = {}
    advice = "narrow `where`, or name the column that differs in `by`"
    for (level, *cell), values in _replicates(test, rows, (test.factor, *test.by), ("seed",), advice).items():
        found.setdefault(tuple(cell), {})[level] = values
    return {cell: found[cell] for cell in sorted(found)}


# --- the choice of settings ------------------------------------------------------------------------------------------


class _Choice(NamedTuple):
    """One arm's settings: tuning scores, shape (settings, tuning seeds), and mean evaluation score of each setting."""

    scores: Array
    tests: Array


def _choices(test: DirectionTest | IntervalTest, records: pd.DataFrame) -> dict[Cell, dict[Any, _Choice]]:
    """Per cell and arm the settings that were evaluated, with their scores in tuning and in evaluation."""
    tuned = test.tuned
    assert tuned is not None
    among = {level: parts for level, parts in tuned.among.items() if level in (test.ours, *test.baselines)}
    levels = {one for level in (test.ours, *test.baselines) for one in among.get(str(level), (level,))}
    test = test.model_copy(update={"where": {name: of for name, of in test.where.items() if name != test.factor}})
    arm, found = [*test.by, test.factor], []
    for quantity in (tuned.scores, tuned.tests):
        rows = select(records, test, quantity)
        rows = rows[rows[test.factor].isin(levels)].sort_values("seed", kind="stable")
        _keys(rows, test, test.by)
        # in the order of their first rows; a setting may lack a column
        found.append(rows.groupby([*arm, *tuned.setting], sort=False, dropna=False)["value"].agg(list))
    scores, tests = found
    if len(set(scores.map(len))) > 1:
        raise ValueError(f"test {test.id!r}: settings differ in their number of tuning seeds")
    evaluated: Any = scores.to_frame("scores").join(tests.map(np.mean).rename("tests"), how="inner")
    made: dict[Cell, dict[Level, _Choice]] = {}
    for (*cell, level), of in evaluated.groupby(arm, sort=False):
        made.setdefault(tuple(cell), {})[level] = _Choice(np.array(of["scores"].tolist()), of["tests"].to_numpy())
    for arms in made.values():
        for joint, parts in among.items():
            if there := [arms[one] for one in parts if one in arms]:
                arms[joint] = _Choice(*map(np.concatenate, zip(*there, strict=True)))
    return made


def _choice_variance(
    test: DirectionTest | IntervalTest,
    sample: Sample,
    arms: Mapping[Any, _Choice],
    baselines: Sequence[Level],
    of: Callable[..., Any],
) -> tuple[float, float]:
    """Variance of ours minus the mean, or the least, of the baselines over resampled tuning seeds, and its freedom.

    A resample draws as many tuning seeds with replacement, the same for all arms; each arm takes the setting that is
    best in it. The evaluation seeds' share of the error is the t interval's own (law of total variance). With m tuning
    seeds the bootstrap's variance is m/(m - 1) times too small.
    """
    ours: Any = test.ours
    assert test.tuned is not None
    if absent := [text(level) for level in (ours, *baselines) if level not in arms]:
        at = f" at {where}" if (where := replace(sample, baseline=None).name) else ""
        raise ValueError(
            f"test {test.id!r}: no setting of {' and '.join(absent)} has rows of both {test.tuned.scores!r} and "
            f"{test.tuned.tests!r}{at}; without them the interval lacks the choice of settings"
        )
    m = arms[ours].scores.shape[1]
    if m < 2:
        return 0.0, 1.0
    drawn = resamples(m)

    def taken(arm: _Choice) -> Array:
        # rounded, so that a tie between settings goes to the first (the smaller rate) on every machine
        best = np.round(arm.scores[:, drawn].mean(axis=2), 9).argmin(axis=0)
        picked: Array = arm.tests[best]
        return picked

    difference = taken(arms[ours]) - of([taken(arms[level]) for level in baselines], axis=0)
    return float(difference.var()) * m / (m - 1), float(m - 1)


# --- rows ------------------------------------------------------------------------------------------------------------


def _require(rows: pd.DataFrame, test: BaseTest, columns: Iterable[str]) -> None:
    have = [str(column) for column in rows.columns]
    for column in columns:
        if column not in have:
            raise ValueError(f"test {test.id!r}: the records have no column {column!r}{near_of(column, have)}")


def _keys(rows: pd.DataFrame, test: BaseTest, columns: tuple[str, ...]) -> list[tuple[Level, ...]]:
    """Per row its levels in `columns`, none of them missing."""
    _require(rows, test, columns)
    for column in columns:
        missing = int(rows[column].isna().sum())
        if missing:
            raise ValueError(
                f"test {test.id!r}: {missing} of the {len(rows)} rows of {test.quantity!r} have no {column!r}; "
                "every row must have one, or `where` must leave the others out"
            )
    if not columns:
        return [()] * len(rows)
    return list(zip(*(rows[column].tolist() for column in columns), strict=True))


def _units(rows: pd.DataFrame, test: BaseTest, columns: tuple[str, ...]) -> list[Unit]:
    """As `_keys`, but exact results have no seed: all their rows are then of one unit."""
    if columns == ("seed",) and ("seed" not in rows or rows["seed"].isna().all()):
        return [()] * len(rows)
    return _keys(rows, test, columns)


def _twice(test: BaseTest, columns: tuple[str, ...], at: tuple[Level, ...], advice: str) -> ValueError:
    where = ", ".join(f"{column}={text(level)}" for column, level in zip(columns, at, strict=True)) or "no seed"
    return ValueError(f"test {test.id!r}: several rows of {test.quantity!r} have {where}; {advice}")

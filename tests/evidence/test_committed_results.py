"""Every committed result says what its own records say, and would say otherwise if they were otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mutation import flips
from scipy import stats

from replication.evidence import Outcome, load_claims, load_records, reevaluate, verdicts
from replication.evidence.claims import DirectionTest
from replication.evidence.samples import Sample, pool, samples
from replication.evidence.statistics import Draws

RESULTS = Path(__file__).parents[2] / "results"
FILES = sorted(RESULTS.glob("*/*.json"))
NAMES = [path.relative_to(RESULTS).as_posix() for path in FILES]

claims_of = cache(load_claims)


@cache
def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


@cache
def records_of(path: Path) -> pd.DataFrame:
    return load_records(read(path)["records"])


def answered() -> list[Any]:
    return [
        pytest.param(path, stored["test_id"], id=f"{name}:{stored['test_id']}")
        for path, name in zip(FILES, NAMES, strict=True)
        for stored in read(path)["tests"]
        if stored["answer"] != "not run"
    ]


def test_every_executed_notebook_has_its_results() -> None:
    """A renamed folder or file type must not leave the tests below with nothing to do."""
    deciding = []
    for path in sorted((RESULTS.parent / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        executed = any(cell.get("execution_count") for cell in notebook["cells"])
        if executed and notebook["metadata"].get("replication", {}).get("paper"):
            deciding.append(f"smoke/{path.stem}.json")
    assert deciding
    assert set(deciding) <= set(NAMES)
    assert answered()


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_stored_answers_are_those_of_the_stored_records(path: Path) -> None:
    results = read(path)
    assert (results["notebook"], results["profile"]) == (path.stem, path.parent.name)
    again = reevaluate(results)
    for now, stored in zip(again, results["tests"], strict=True):
        assert_same(json.loads(json.dumps(now.to_dict())), stored, stored["test_id"])
    decided = verdicts(claims_of(results["paper"]), again, results["notebook"], results["profile"])
    assert [one.to_dict() for one in decided] == results["verdicts"]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_contrasts_are_those_of_a_few_lines_of_pandas_and_scipy(path: Path) -> None:
    results, records = read(path), records_of(path)
    for outcome in map(Outcome.from_dict, results["tests"]):
        test = claims_of(results["paper"]).test(outcome.test_id, results["profile"])
        if not isinstance(test, DirectionTest) or outcome.low is None or outcome.high is None:
            continue
        rows = records[records["quantity"] == test.quantity]
        for column, level in test.where.items():
            rows = rows[rows[column].isin(level if isinstance(level, list | tuple) else [level])]
        wide = rows.pivot_table(index="seed", columns=[test.factor, *test.by], values="value")
        wanted = [[level] for level in test.baselines] if test.every else [list(test.baselines)]
        against = [wide[test.ours] - sum(wide[level] for level in of) / len(of) for of in wanted]
        comparisons = pd.concat(against, axis=1).dropna(how="all")
        n, estimate = comparisons.count().min(), comparisons.mean().mean()
        assert (outcome.n, outcome.estimate) == (n, pytest.approx(estimate, rel=1e-9)), outcome.test_id
        if comparisons.isna().any(axis=None):
            # comparisons with seeds of their own are strata, whose interval is beyond a few lines
            each = sorted((of["n"], of["estimate"]) for of in outcome.comparisons)
            means = sorted(zip(comparisons.count(), comparisons.mean(), strict=True))
            np.testing.assert_allclose(each, means, rtol=1e-9, err_msg=outcome.test_id)
            continue
        low, high = stats.ttest_1samp(comparisons.mean(axis=1), 0).confidence_interval()
        if test.tuned:  # the interval carries the choice of settings too
            # a small second source of error may narrow it by its degrees of freedom: 0.9 % with five seeds
            slack = 0.01 * (high - low) + 1e-9
            assert outcome.low - slack <= low <= high <= outcome.high + slack, outcome.test_id
        else:
            assert (outcome.low, outcome.high) == pytest.approx((low, high), rel=1e-9), outcome.test_id


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_timing_is_among_the_records(path: Path) -> None:
    volatile = claims_of(read(path)["paper"]).volatile
    assert not set(records_of(path)["quantity"]) & set(volatile)


def assert_same(now: Any, stored: Any, where: str) -> None:
    """Words exactly, numbers to 1e-9."""
    if isinstance(stored, dict):
        assert now.keys() == stored.keys(), where
        for key, value in stored.items():
            assert_same(now[key], value, f"{where}.{key}")
    elif isinstance(stored, list):
        assert len(now) == len(stored), where
        for index, value in enumerate(stored):
            assert_same(now[index], value, f"{where}[{index}]")
    elif isinstance(stored, float):
        assert now == pytest.approx(stored, rel=1e-9, abs=1e-9), where
    else:
        assert now == stored, where


@pytest.mark.parametrize(("path", "test_id"), answered())
def test_every_answer_flips(path: Path, test_id: str) -> None:
    results = read(path)
    test = claims_of(results["paper"]).test(test_id, results["profile"])
    assert flips(test, records_of(path))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_spread_that_a_rule_is_planned_with_is_the_recorded_one(path: Path) -> None:
    """A rule whose power rests on a spread that the run did not have is planned on a wish."""
    results = read(path)
    for outcome in map(Outcome.from_dict, results["tests"]):
        test = claims_of(results["paper"]).test(outcome.test_id, results["profile"])
        if test.role != "primary" or test.exact or test.every or outcome.low is None or outcome.n < 2:
            continue
        recorded = recorded_spread(samples(records_of(path), test))
        assert test.spread is not None
        assert recorded <= 1.5 * test.spread + 1e-12, (
            f"{outcome.test_id}: recorded {recorded:.3g}, planned {test.spread:g}"
        )


def recorded_spread(found: Sequence[Sample]) -> float:
    """The standard deviation between replicates of the judged number, apart from the choice of settings."""
    judged = pool([replace(sample, tuning=None) for sample in found])
    if isinstance(judged, Draws):
        interval = judged.interval()
        return (interval.high - interval.low) / 2 / 1.96
    return float(judged.error * judged.n**0.5)

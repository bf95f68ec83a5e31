"""The cost experiment, small: the estimate counts what the loop does, and workers change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from replication import evidence
from replication.disf.experiments import cost, worker
from replication.disf.selection import select

TINY = {
    "rows": 48, "dimension": 8, "picks": 5, "table_rows": [32, 64], "table_dimensions": [8], "table_picks": [4],
    "sweep_rows": [32], "sweep_dimensions": [8], "sweep_picks": [4], "samples": 2, "repeats": 3, "corpus_rows": 144,
    "corpus_dimension": 6, "workers": [2],
}  # fmt: skip


@pytest.fixture(scope="module")
def config():
    return cost.Config(**TINY)


@pytest.fixture(scope="module")
def records(config):
    return evidence.gather(cost, config)


def rows(records, quantity, **where):
    found = records[records["quantity"] == quantity]
    for column, level in where.items():
        found = found[found[column] == level]
    return found


def test_records_hold_what_the_claims_and_figures_need(records):
    assert sorted(rows(records, "speed_ratio")["seed"]) == [0, 1, 2]
    assert (rows(records, "cost_pick_mismatches")["value"] == 0).all()
    assert len(rows(records, "cost_pick_mismatches")) == 3
    table = rows(records, "cost_ratio")
    assert len(table) == 2 * 3
    least = rows(records, "least_cost_ratio").set_index("seed")["value"]
    assert least.to_dict() == table.groupby("seed")["value"].min().to_dict()
    seconds = rows(records, "seconds")
    assert set(seconds["sweep"]) == {"rows", "dimension", "picks"}
    assert set(seconds["program"]) >= {"loop", "fast float32", "fast float64", "participation"}
    assert (seconds["value"] > 0).all()
    assert len(rows(records, "memory_growth")) == 3
    assert sorted(rows(records, "peak_memory")["rows"].unique()) == [144, 1440]


def test_workers_change_nothing(records):
    found = rows(records, "worker_mismatches")
    assert set(found["order"]) == {"file", "shuffled"}
    assert (found["value"] == 0).all()


def test_a_mismatch_would_be_seen(config, monkeypatch):
    original = cost._authors
    monkeypatch.setattr(cost, "_authors", lambda x, k: original(x, k)[::-1])
    assert all(row["value"] > 0 for row in cost.whole_loop(config) if row["quantity"] == "cost_pick_mismatches")
    monkeypatch.setattr(cost, "select", lambda *a, **k: select(*a, **k) + 1)
    found = [row["value"] for row in cost.corpora(config) if row["quantity"] == "worker_mismatches"]
    assert min(found) > 0


def test_the_loops_estimate_is_evaluations_times_their_time(monkeypatch):
    """With a clock that counts evaluations the estimate is exactly the number that the loop makes."""
    evaluated = []
    monkeypatch.setattr(cost.reference, "score", lambda U: evaluated.append(len(U)))
    monkeypatch.setattr(cost.time, "process_time", lambda: float(len(evaluated)))
    x = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    picked = np.arange(9)
    assert cost.loop_seconds(x, picked, samples=3) == pytest.approx(sum(50 - n for n in range(1, 9)))
    assert min(evaluated) == 2
    assert max(evaluated) == 9


def test_a_batch_of_a_file_is_a_batch_of_the_whole(tmp_path):
    x = np.random.default_rng(0).standard_normal((90, 5)).astype(np.float32)
    path = tmp_path / "x.npy"
    np.save(path, x)
    parts = [worker.batch(str(path), i, 30, 4) for i in (2, 0, 1)]
    np.testing.assert_array_equal(
        np.concatenate([parts[1], parts[2], parts[0]]), select(x, k_per_batch=4, batch_size=30, seed=0)
    )


def test_peaks_do_every_batch_once(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(worker, "batch", lambda path, i, rows, picks: done.append(i))
    found = worker.peaks("x", [2, 5], 10, 3)
    assert done == [0, 1, 2, 3, 4]
    assert 0 < found[0] <= found[1]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"repeats": 2}, "repeats"),
        ({"workers": []}, "workers"),
        ({"table_rows": []}, "table_rows"),
        ({"corpus_rows": 1000}, "corpus_rows: must hold a batch of 1024 rows at least, got 1000"),
        ({"picks": 1}, "picks: must be at least 2, .*got 1"),
        ({"sweep_picks": [4, 1]}, r"sweep_picks: must be at least 2, .*got \[4, 1\]"),
        ({"sedes": 3}, "sedes"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        cost.Config(**changes)

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from replication.runs.cluster import DaskEngine, connect
from replication.runs.engines import Engine, ProcessEngine
from replication.runs.errors import RefusedError
from replication.runs.notebook import Listener, Outcome
from replication.runs.store import Run

PROCESSORS = os.cpu_count() or 1
RUNS = [Run("toy", "smoke", {"seeds": n}, "toy", f"{n:016x}", {}) for n in range(6)]
ENGINES = [ProcessEngine(1), ProcessEngine(3)]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster's scheduler; each of its two workers offers a GPU."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, resources={"GPU": 1}, dashboard_address="127.0.0.1:0") as made:
        yield made.scheduler_address


def succeed(run: Run, listener: Listener | None = None) -> Outcome:
    if listener is not None:
        listener(run, {"started": "here"})
    status = "failed" if run.parameters["seeds"] == 2 else "computed"
    return Outcome(run, status, 0.0, str(run.parameters["seeds"] ** 2))


@pytest.mark.parametrize("which", ENGINES, ids=["one", "three"])
def test_every_engine_gives_the_same_outcomes_and_a_failure_stops_none(which: Engine) -> None:
    found = sorted(which.outcomes(succeed, RUNS), key=lambda outcome: outcome.run.run_id)
    assert found == [succeed(run) for run in RUNS]


def test_workers_run_side_by_side_but_no_more_than_asked() -> None:
    barrier, lock, busy, most = threading.Barrier(2, timeout=20), threading.Lock(), 0, 0

    def meet(run: Run, listener: Listener | None = None) -> Outcome:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        barrier.wait()
        with lock:
            busy -= 1
        return succeed(run)

    assert len(list(ProcessEngine(2).outcomes(meet, RUNS))) == len(RUNS)
    assert most == 2


@pytest.mark.parametrize("which", ENGINES, ids=["one", "three"])
def test_interrupt_starts_no_more(which: Engine) -> None:
    started: list[Any] = []
    gate = threading.Event()

    def slow(run: Run, listener: Listener | None = None) -> Outcome:
        started.append(run)
        if len(started) > 1:
            gate.wait(20)
        return succeed(run)

    def interrupt() -> None:
        with closing(which.outcomes(slow, RUNS)) as outcomes:
            next(outcomes)
            threading.Timer(0.2, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert len(started) < len(RUNS)


def test_engines_refuse_to_have_no_worker() -> None:
    with pytest.raises(RefusedError, match="at least 1, got 0"):
        ProcessEngine(0)


def succeed_or_raise(run: Run, listener: Listener | None = None) -> Outcome:
    if run.parameters["seeds"] == 4:
        raise ZeroDivisionError("a defect of ours")
    return succeed(run, listener)


def test_dask_gives_the_same_outcomes_and_passes_events_on(scheduler: str) -> None:
    said: list[str] = []
    heard: dict[str, Any] = {}
    engine = DaskEngine(scheduler, {"GPU": 1.0}, say=said.append)
    found = {o.run.run_id: o for o in engine.outcomes(succeed_or_raise, RUNS, lambda r, e: heard.update({r.name: e}))}
    assert len(found) == len(RUNS)
    for run in RUNS:
        if run.parameters["seeds"] == 4:
            assert found[run.run_id].status == "failed"
            assert "ZeroDivisionError" in found[run.run_id].message
        else:
            assert found[run.run_id] == succeed(run)
    assert set(heard) == {run.name for run in RUNS if run.parameters["seeds"] != 4}
    assert said[0].startswith("dashboard: http://127.0.0.1:")


def test_need_that_no_worker_meets_is_said(scheduler: str) -> None:
    said: list[str] = []

    def enough(text: str) -> None:
        said.append(text)
        if "waiting" in text:
            raise RefusedError("enough")

    with pytest.raises(RefusedError, match="enough"):
        next(DaskEngine(scheduler, {"GPU": 2.0}, say=enough).outcomes(succeed, RUNS))
    assert said[-1] == "no worker offers GPU=2 now; waiting for one (`dask worker … --resources 'GPU=2'`)"


@pytest.mark.parametrize("kind", ["one", "three", "dask"])
def test_what_a_listener_raises_ends_the_batch(kind: str, scheduler: str) -> None:
    which: Engine = DaskEngine(scheduler) if kind == "dask" else ENGINES[kind == "three"]

    def listen(run: Run, event: Any) -> None:
        raise ZeroDivisionError(event["started"])

    with pytest.raises(ZeroDivisionError, match="here"):
        list(which.outcomes(succeed, RUNS, listen))


@pytest.mark.parametrize(("experiment", "most"), [("", 6), ("replication.uba.experiments.theory", 6 + PROCESSORS)])
def test_no_more_workers_are_started_than_there_is_work(
    experiment: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def pool(workers: int) -> Any:
        asked.append(workers)
        raise RefusedError("enough")

    monkeypatch.setattr("replication.runs.engines.ThreadPoolExecutor", pool)
    for workers in (100, 3):
        with pytest.raises(RefusedError, match="enough"):
            next(ProcessEngine(workers).outcomes(succeed, [replace(run, experiment=experiment) for run in RUNS]))
    assert asked == [min(100, most), 3]


def test_a_scheduler_without_workers_is_said() -> None:
    from distributed import LocalCluster

    said: list[str] = []
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        connect(cluster.scheduler_address, say=said.append),
    ):
        assert f"{cluster.scheduler_address} has no workers yet; waiting for one" in said[-1]

from __future__ import annotations

import os
import threading
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from replication.runs.cluster import DaskEngine, connect, gpus
from replication.runs.engines import Engine, ProcessEngine, SerialEngine, needed
from replication.runs.errors import RefusedError
from replication.runs.notebook import Listener, Outcome
from replication.runs.store import Run

RUNS = [Run("toy", "smoke", {"seeds": n}, "toy", f"{n:016x}", {}) for n in range(6)]
ENGINES = [SerialEngine(), ProcessEngine(1), ProcessEngine(3)]


def succeed(run: Run, listener: Listener | None = None) -> Outcome:
    if listener is not None:
        listener(run, {"started": "here"})
    status = "failed" if run.parameters["seeds"] == 2 else "computed"
    return Outcome(run, status, 0.0, str(run.parameters["seeds"] ** 2))


@pytest.mark.parametrize("which", ENGINES, ids=["serial", "one", "three"])
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


@pytest.mark.parametrize("which", ENGINES, ids=["serial", "one", "three"])
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
    for kind in (ProcessEngine, DaskEngine):
        with pytest.raises(RefusedError, match="at least 1, got 0"):
            kind(0)


def succeed_or_raise(run: Run, listener: Listener | None = None) -> Outcome:
    if run.parameters["seeds"] == 4:
        raise ZeroDivisionError("a defect of ours")
    return succeed(run, listener)


def test_dask_gives_the_same_outcomes_and_passes_events_on() -> None:
    said: list[str] = []
    heard: dict[str, Any] = {}
    engine = DaskEngine(2, say=said.append)
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


def test_run_that_no_worker_can_take_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
    hungry = Run("toy", "smoke", {"seeds": 1}, "toy", "0" * 16, {}, {"GPU": 1.0})
    with pytest.raises(RefusedError, match="asks for GPU=1, and no worker offers it: this machine has 0 GPUs"):
        list(DaskEngine(1).outcomes(succeed, [hungry]))


def test_a_gpu_goes_to_one_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    hungry = [Run("toy", "smoke", {"seeds": n}, "toy", f"{n:016x}", {}, {"GPU": 1.0}) for n in range(3)]
    found = list(DaskEngine(2).outcomes(which_gpu, hungry))
    assert {outcome.message for outcome in found} == {"7"}
    assert len({outcome.status for outcome in found}) == 1  # all by the one worker that has it


def which_gpu(run: Run, listener: Listener | None = None) -> Outcome:
    return Outcome(run, str(os.getpid()), 0.0, os.environ["CUDA_VISIBLE_DEVICES"])


@pytest.mark.parametrize("which", [*ENGINES, DaskEngine(2)], ids=["serial", "one", "three", "dask"])
def test_what_a_listener_raises_ends_the_batch(which: Engine) -> None:
    def listen(run: Run, event: Any) -> None:
        raise ZeroDivisionError(event["started"])

    with pytest.raises(ZeroDivisionError, match="here"):
        list(which.outcomes(succeed, RUNS, listen))


def test_no_more_workers_are_started_than_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needed(40, RUNS) == 6
    assert needed(3, RUNS) == 3
    with_parts = [replace(RUNS[0], experiment="replication.uba.experiments.theory")]
    assert needed(40, with_parts) == min(40, 1 + (os.cpu_count() or 1))
    asked: list[int] = []

    def connect(workers: int, *_: Any, **__: Any) -> Any:
        asked.append(workers)
        raise RefusedError("enough")

    monkeypatch.setattr("replication.runs.cluster.connect", connect)
    with pytest.raises(RefusedError, match="enough"):
        next(DaskEngine(40).outcomes(succeed, RUNS))
    assert asked == [6]


def test_a_scheduler_without_workers_is_said() -> None:
    from distributed import LocalCluster

    said: list[str] = []
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        connect(1, cluster.scheduler_address, say=said.append),
    ):
        assert f"{cluster.scheduler_address} has no workers yet; waiting for one" in said[-1]

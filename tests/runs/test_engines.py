from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest

from replication.runs.engines import Engine, ProcessEngine, SerialEngine, engine
from replication.runs.errors import RefusedError
from replication.runs.notebook import Outcome
from replication.runs.store import Run

RUNS = [Run("toy", "smoke", {"seeds": n}, "toy", f"{n:016x}", {}) for n in range(6)]
ENGINES = [SerialEngine(), ProcessEngine(1), ProcessEngine(3)]


def succeed(run: Run) -> Outcome:
    status = "failed" if run.parameters["seeds"] == 2 else "computed"
    return Outcome(run, status, 0.0, str(run.parameters["seeds"] ** 2))


@pytest.mark.parametrize("which", ENGINES, ids=["serial", "one", "three"])
def test_every_engine_gives_the_same_outcomes_and_a_failure_stops_none(which: Engine) -> None:
    found = sorted(which.outcomes(succeed, RUNS), key=lambda outcome: outcome.run.run_id)
    assert found == [succeed(run) for run in RUNS]


def test_workers_run_side_by_side_but_no_more_than_asked() -> None:
    barrier, lock, busy, most = threading.Barrier(2, timeout=20), threading.Lock(), 0, 0

    def meet(run: Run) -> Outcome:
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

    def slow(run: Run) -> Outcome:
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


def test_number_of_workers_picks_the_engine() -> None:
    assert isinstance(engine(1), SerialEngine)
    assert isinstance(engine(2), ProcessEngine)
    with pytest.raises(RefusedError, match="at least 1, got 0"):
        ProcessEngine(0)

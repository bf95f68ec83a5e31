"""Where several runs execute. Every engine yields the same outcomes; only the order and the time differ."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol

from replication.runs import notebook, parts
from replication.runs.errors import RefusedError
from replication.runs.notebook import Listener, Outcome
from replication.runs.store import Run

#: `notebook.execute` with its project and options: called as `execute(run, listener=listener)`.
Execute = Callable[..., Outcome]
#: `parts.help_with` with its project and options: called as `assist(run)`, it computes parts of a run that is executed
#: elsewhere, and returns when there is none left.
Assist = Callable[[Run], None]


class Engine(Protocol):
    """Executes runs; closing the iterator early, or an interrupt, stops all that have begun and starts no more."""

    def outcomes(
        self, execute: Execute, runs: Sequence[Run], listener: Listener | None = None, assist: Assist | None = None
    ) -> Generator[Outcome]:
        """Yield each run's outcome as soon as it is there; a run that fails is an outcome, not an exception."""
        ...


class ProcessEngine:
    """Runs on this machine, one or several at a time.

    Each run already is a process of its own, so a worker is a thread that waits for one run after another. When no run
    is left to start, a worker helps with the parts of those that go on.

    Parameters
    ----------
    workers
        Runs at a time, at least 1.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise RefusedError(f"workers must be at least 1, got {workers}.")
        self.workers = workers

    def outcomes(
        self, execute: Execute, runs: Sequence[Run], listener: Listener | None = None, assist: Assist | None = None
    ) -> Generator[Outcome]:
        """Yield each run's outcome as soon as it is there."""
        going: dict[str, Run] = {}
        # more could have nothing to do: one for each run, and all processors for their parts
        processors = (os.cpu_count() or 1) if any(run.experiment for run in runs) else 0
        workers = min(self.workers, len(runs) + processors)

        def work(run: Run) -> Outcome:
            going[run.name] = run
            try:
                return execute(run, listener=listener)
            finally:
                del going[run.name]
                # it has nothing to do any more, unless the run failed
                notebook.stop([parts.helper(run)])

        def idle() -> None:
            helped: set[str] = set()
            while assist and (left := [run for name, run in list(going.items()) if name not in helped]):
                helped.add(left[0].name)
                assist(left[0])

        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(work, run) for run in runs]
            for _ in range(workers - 1):
                pool.submit(idle)
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                with notebook.stopping():
                    pool.shutdown(wait=True)
                raise

"""Where several runs execute. Every engine yields the same outcomes; only the order and the time differ."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol

from replication.runs import notebook
from replication.runs.errors import RefusedError
from replication.runs.notebook import Listener, Outcome
from replication.runs.store import Run

#: `notebook.execute` with its project and options: called as `execute(run, listener=listener)`.
Execute = Callable[..., Outcome]


class Engine(Protocol):
    """Executes runs; closing the iterator early, or an interrupt, stops all that have begun and starts no more."""

    def outcomes(self, execute: Execute, runs: Sequence[Run], listener: Listener | None = None) -> Generator[Outcome]:
        """Yield each run's outcome as soon as it is there; a run that fails is an outcome, not an exception."""
        ...


class SerialEngine:
    """One run after another, in the order asked."""

    def outcomes(self, execute: Execute, runs: Sequence[Run], listener: Listener | None = None) -> Generator[Outcome]:
        """Yield each run's outcome, in order."""
        for run in runs:
            yield execute(run, listener=listener)


class ProcessEngine:
    """Several runs side by side on this machine.

    Each run already is a process of its own, so a worker is a thread that waits for one run after another.

    Parameters
    ----------
    workers
        Runs at a time, at least 1.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise RefusedError(f"workers must be at least 1, got {workers}.")
        self.workers = workers

    def outcomes(self, execute: Execute, runs: Sequence[Run], listener: Listener | None = None) -> Generator[Outcome]:
        """Yield each run's outcome as soon as it is there."""
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(execute, run, listener=listener) for run in runs]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                with notebook.stopping():
                    pool.shutdown(wait=True)
                raise

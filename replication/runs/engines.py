"""Where several runs execute. Every engine yields the same outcomes; only the order and the time differ.

A further engine (a cluster, say) is one more class with `outcomes`: each run is executed by `notebook.execute`, whose
arguments can be pickled, on a machine that sees the project and its store.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol

from replication.runs import notebook
from replication.runs.errors import RefusedError
from replication.runs.notebook import Outcome
from replication.runs.store import Run


class Engine(Protocol):
    """Executes runs; closing the iterator early, or an interrupt, stops all that have begun and starts no more."""

    def outcomes(self, execute: Callable[[Run], Outcome], runs: Sequence[Run]) -> Generator[Outcome]:
        """Yield each run's outcome as soon as it is there; a run that fails is an outcome, not an exception."""
        ...


class SerialEngine:
    """One run after another, in the order asked."""

    def outcomes(self, execute: Callable[[Run], Outcome], runs: Sequence[Run]) -> Generator[Outcome]:
        """Yield each run's outcome, in order."""
        yield from map(execute, runs)


class ProcessEngine:
    """Several runs side by side.

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

    def outcomes(self, execute: Callable[[Run], Outcome], runs: Sequence[Run]) -> Generator[Outcome]:
        """Yield each run's outcome as soon as it is there."""
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(execute, run) for run in runs]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                with notebook.stopping():
                    pool.shutdown(wait=True)
                raise


def engine(workers: int) -> Engine:
    """The engine for this many runs at a time."""
    return SerialEngine() if workers == 1 else ProcessEngine(workers)

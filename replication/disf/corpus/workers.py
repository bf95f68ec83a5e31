"""Several processes that compute what one would."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from threadpoolctl import threadpool_limits

from replication.disf.corpus.errors import CorpusError
from replication.disf.corpus.journal import Journal
from replication.interrupts import deferring_interrupts

Result = TypeVar("Result")
#: Returns lines of a journal.
Call = Callable[[], list[dict[str, Any]]]


class Workers:
    """Calls functions in processes of their own, one thread each; with one worker, in this process.

    Parameters
    ----------
    workers : int or Executor
        How many processes, at least 1; or an executor whose processes see the same files at the same paths, which is
        not closed.
    """

    def __init__(self, workers: int | Executor) -> None:
        self._pool = workers if isinstance(workers, Executor) else None
        self._count = 0 if isinstance(workers, Executor) else workers  # processes of our own
        # calls that are under way or wait at a time; a cluster may have many workers, and calls are small
        self._ahead = 2 * self._count or 256
        self._processes: set[BaseProcess] = set()
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        self._exits.enter_context(one_thread())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()
        if self._pool is not None and self._count:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            if kind is not None:  # what they would finish is not awaited: a call may take minutes
                for process in self._processes:
                    process.kill()

    def fill(
        self,
        journal: Journal,
        calls: Callable[[int], Iterable[Call]],
        tell: Callable[[int], object],
    ) -> None:
        """Complete a journal with the lines that calls return.

        Parameters
        ----------
        journal : Journal
            What is completed.
        calls : callable
            Given the number of lines that are there, the calls that make the others.
        tell : callable
            Hears how many lines there are.
        """

        def rest(done: int) -> Iterator[dict[str, Any]]:
            tell(done)
            for lines in self.in_order(calls(done)):
                yield from lines
                done += len(lines)
                tell(done)

        journal.fill(rest)

    def in_order(self, calls: Iterable[Callable[[], Result]]) -> Iterator[Result]:
        """Yield the results of `calls` in their order; few are taken before the results of earlier ones are asked for.

        Raises
        ------
        CorpusError
            If a process was killed, or a cluster went away.
        """
        if self._count == 1:
            for call in calls:
                yield call()
            return
        if self._pool is None:
            others = set(multiprocessing.active_children())
            self._pool = ProcessPoolExecutor(self._count, multiprocessing.get_context("spawn"), initializer=_begin)
            with deferring_interrupts():
                for _ in range(self._count):  # it starts one at a time while none is idle
                    self._pool.submit(int)
            self._processes = set(multiprocessing.active_children()) - others
        waiting: deque[Future[Result]] = deque()
        try:
            for call in calls:
                # our own processes were told when they began; a cluster's are told with every call
                waiting.append(self._pool.submit(call) if self._count else self._pool.submit(_in_one_thread, call))
                if len(waiting) >= self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except (BrokenExecutor, CancelledError) as error:
            raise CorpusError(
                "A worker process ended early, perhaps for want of memory. Nothing finished is lost: the same command "
                "goes on, with fewer workers if memory is short. (A script of your own must call this under "
                "`if __name__ == '__main__':`.)"
            ) from error
        finally:
            for future in waiting:
                future.cancel()  # a cluster would compute it for nobody


def _in_one_thread(call: Callable[[], Result]) -> Result:
    with one_thread():
        return call()


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and BLAS inside the block: the order of a sum is part of a result."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _begin() -> None:
    """Prepare a worker process."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

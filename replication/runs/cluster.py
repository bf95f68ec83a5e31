"""Runs on the workers of a dask cluster whose scheduler's address is known.

A notebook never hears of it. One run is one task, and a task starts the run's own process as the other engine does.
Idle workers compute parts of other runs if they share the store. Workers must see the project at the same path with the
same sources and packages (which each run checks), and write what they finish to the store.
"""

from __future__ import annotations

import contextlib
import os
import platform
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from replication.checks import extra
from replication.runs import notebook, parts
from replication.runs.engines import Assist, Execute
from replication.runs.errors import ReplicationError
from replication.runs.notebook import Listener, Outcome
from replication.runs.store import Run

if TYPE_CHECKING:
    from distributed import Client, Future

# seconds that a scheduler has to answer the first call, and to come back when it went away
_ANSWER, _PATIENCE = 30.0, 600.0


class DaskEngine:
    """Several runs at a time on a cluster's workers, one run a task.

    A worker that dies takes its run with it, and another worker does that run again; a scheduler that goes away is
    waited for, and what it had not finished is asked for again.

    Parameters
    ----------
    scheduler
        Its scheduler's address, such as ``"tcp://10.0.0.1:8786"``.
    resources
        What a worker must offer for each run, in the cluster's own words, such as ``{"GPU": 1}``.
    say
        Called with what a person should know: the dashboard's address, a lost scheduler.
    """

    def __init__(
        self,
        scheduler: str,
        resources: Mapping[str, float] | None = None,
        *,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._scheduler = scheduler
        self._resources = dict(resources or {})
        self._say = say

    def outcomes(
        self, execute: Execute, runs: Sequence[Run], listener: Listener | None = None, assist: Assist | None = None
    ) -> Generator[Outcome]:
        """Yield each run's outcome as soon as it is there."""
        waiting = {run.name: run for run in runs}
        answer = _ANSWER
        while waiting:
            try:
                with connect(self._scheduler, say=self._say, answer=answer) as client:
                    self._check_resources(client)
                    for outcome in self._through(client, execute, list(waiting.values()), listener, assist):
                        del waiting[outcome.run.name]
                        yield outcome
            except _LostError:
                self._say(f"the scheduler went away; waiting for it for {_PATIENCE:g} s")
                answer = _PATIENCE

    def _check_resources(self, client: Client) -> None:
        """Say that no worker offers what runs ask for; they would wait in silence."""
        offered: dict[str, float] = {}
        for worker in client.scheduler_info(n_workers=-1)["workers"].values():
            for name, amount in worker["resources"].items():
                offered[name] = max(offered.get(name, 0.0), amount)
        for name, amount in self._resources.items():
            if offered.get(name, 0.0) < amount:
                asked = f"{name}={amount:g}"
                # a cluster may grow: its next worker can be the right one
                self._say(f"no worker offers {asked} now; waiting for one (`dask worker … --resources '{asked}'`)")

    def _through(
        self,
        client: Client,
        execute: Execute,
        runs: Sequence[Run],
        listener: Listener | None,
        assist: Assist | None,
    ) -> Generator[Outcome]:
        names = {run.name: run for run in runs}
        # a key of its own for every call: a cluster remembers keys, and a second call is no cached one
        call = uuid.uuid4().hex
        # What runs say and what they end with, in order. The listener is called from this thread, where what it raises
        # ends the batch as with the other engine; in dask's own it would leave this one waiting for ever.
        heard: SimpleQueue[Any] = SimpleQueue()
        if listener is not None:
            client.subscribe_topic(call, lambda message: heard.put(message[1]))
        futures: dict[Future, Run] = {
            client.submit(
                _on_worker,
                execute,
                run,
                call,
                key=f"{run.name}-{call}",
                resources=self._resources or None,
                pure=False,
                priority=-number,  # in the order asked
            ): run
            for number, run in enumerate(runs)
        }
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        # after all runs: a task that finds nothing to do ends at once
        helpers = [
            client.submit(
                assist,
                run,
                key=f"{run.name}-help-{number}-{call}",
                # a part is the same on no other kind of device
                resources=self._resources or None,
                pure=False,
                priority=-len(runs) - number,
            )
            for run in runs
            for number in range(workers - 1 if assist and run.experiment else 0)
        ]
        for future in futures:
            future.add_done_callback(heard.put)
        try:
            while futures:
                told = heard.get()
                if isinstance(told, dict):
                    assert listener is not None
                    listener(names[told["run"]], told["event"])
                else:
                    yield _outcome(told, futures.pop(told))
        finally:
            with contextlib.suppress(Exception):
                client.cancel(helpers, force=True)
                client.run(notebook.stop, [parts.helper(run) for run in runs if helpers])
            if futures:
                left = [run.name for run in futures.values()]
                with contextlib.suppress(Exception):
                    # not begun: never begin; begun: dask cannot stop a task, but a run's process ends with its lifeline
                    client.cancel(list(futures), force=True)
                    client.run(notebook.stop, left)


class _LostError(Exception):
    """The scheduler went away, and its futures with it."""


@contextlib.contextmanager
def connect(
    scheduler: str, *, say: Callable[[str], None] = lambda _text: None, answer: float = _ANSWER
) -> Iterator[Client]:
    """A client of the cluster at an address.

    Raises
    ------
    ReplicationError
        No scheduler answers at the address within `answer` seconds.
    """
    with extra("cluster"):
        import dask
        from distributed import Client

    try:
        with dask.config.set({"distributed.comm.timeouts.connect": f"{answer}s"}):
            client = Client(scheduler, timeout=answer)
    except (OSError, ValueError) as error:
        raise ReplicationError(
            f"no scheduler answers at {scheduler} ({error}). Start one with `dask scheduler`, and workers with "
            "`dask worker ADDRESS --nthreads 1`, or give the address that it prints."
        ) from error
    with client:
        say(f"dashboard: {client.dashboard_link}")
        if not client.scheduler_info(n_workers=-1)["workers"]:
            say(f"{scheduler} has no workers yet; waiting for one (`dask worker {scheduler} --nthreads 1`)")
        yield client


def _on_worker(execute: Execute, run: Run, topic: str) -> Outcome:
    from distributed import get_worker

    worker = get_worker()
    # dask has its workers give memory back to the system at every turn, which makes a run up to three times as slow
    os.environ.pop("MALLOC_TRIM_THRESHOLD_", None)

    def tell(run: Run, event: Any) -> None:
        worker.log_event(topic, {"run": run.name, "event": dict(event)})

    return execute(run, listener=tell)


def _outcome(future: Future, run: Run) -> Outcome:
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        outcome: Outcome = future.result()
    except KilledWorker as error:
        times = error.allowed_failures + 1
        return Outcome(run, "failed", 0.0, f"its worker died, {times} times in a row; was it short of memory?")
    except (CancelledError, CommClosedError) as error:
        raise _LostError from error
    except Exception as error:
        # whatever a cluster comes up with must not stop the rest
        return Outcome(run, "failed", 0.0, f"{type(error).__name__} on a worker ({platform.node()}): {error}")
    return outcome

"""Runs on a dask cluster: one on this machine, or any whose scheduler's address is known.

The engine owns the cluster; a notebook never hears of it. One run is one task, and a task starts the run's own process
as every engine does. Workers for which there is no run help with the parts of the others. Workers must see the project
at the same path with the same sources and packages (which each checks), and write what they finish to the store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import tempfile
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from replication.checks import extra
from replication.interrupts import deferring_interrupts
from replication.runs import notebook, parts
from replication.runs.engines import Assist, Execute, needed
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.notebook import Listener, Outcome
from replication.runs.store import Run

if TYPE_CHECKING:
    from distributed import Client, Future

# seconds that a scheduler has to answer the first call
_ANSWER = 30.0


class DaskEngine:
    """Several runs at a time on a cluster's workers, one run a task.

    A worker that dies takes its run with it, and another worker does that run again; a scheduler that goes away is
    waited for, and what it had not finished is asked for again.

    Parameters
    ----------
    workers
        Workers of the cluster that is started on this machine, at least 1 (see `needed`); of no account with
        `scheduler`.
    scheduler
        Address of an existing cluster's scheduler, such as ``"tcp://10.0.0.1:8786"``.
    say
        Called with what a person should know: the dashboard's address, a lost scheduler.
    patience
        Seconds to wait for a scheduler that went away.
    """

    def __init__(
        self,
        workers: int = 1,
        scheduler: str | None = None,
        *,
        say: Callable[[str], None] = lambda _text: None,
        patience: float = 600.0,
    ) -> None:
        if workers < 1:
            raise RefusedError(f"workers must be at least 1, got {workers}.")
        self._workers = workers
        self._scheduler = scheduler
        self._say = say
        self._patience = patience

    def outcomes(
        self, execute: Execute, runs: Sequence[Run], listener: Listener | None = None, assist: Assist | None = None
    ) -> Generator[Outcome]:
        """Yield each run's outcome as soon as it is there."""
        waiting = {run.name: run for run in runs}
        answer = _ANSWER
        while waiting:
            try:
                workers = needed(self._workers, waiting.values())
                with connect(workers, self._scheduler, say=self._say, answer=answer) as client:
                    _check_resources(client, runs, self._scheduler, self._say)
                    for outcome in _through(client, execute, list(waiting.values()), listener, assist):
                        del waiting[outcome.run.name]
                        yield outcome
            except _LostError:
                self._say(f"the scheduler went away; waiting for it for {self._patience:g} s")
                answer = self._patience


class _LostError(Exception):
    """The scheduler went away, and its futures with it."""


@contextlib.contextmanager
def connect(
    workers: int, scheduler: str | None, *, say: Callable[[str], None] = lambda _text: None, answer: float = _ANSWER
) -> Iterator[Client]:
    """A client of the cluster at an address, or of a new one on this machine that ends with the block.

    Raises
    ------
    ReplicationError
        No scheduler answers at the address within `answer` seconds.
    """
    with extra("cluster"):
        import dask
        from distributed import Client

    if scheduler is None:
        # workers keep scratch files; not in whatever folder the command is given
        with (
            tempfile.TemporaryDirectory(prefix="replication-dask-") as scratch,
            _local(workers, scratch) as cluster,
            Client(cluster) as client,
        ):
            say(f"dashboard: {client.dashboard_link}")
            yield client
        return
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


@contextlib.contextmanager
def _local(workers: int, scratch: str) -> Iterator[Any]:
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    graphics = gpus()
    options = [
        {
            "nthreads": 1,
            # a worker only waits for the run's own process, which the memory limit would not see
            "memory_limit": 0,
            "local_directory": scratch,
            "silence_logs": logging.CRITICAL,
            "dashboard": False,
            **(
                {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": graphics[number]}}
                if number < len(graphics)
                else {}
            ),
        }
        for number in range(workers)
    ]
    settings = {
        # by default a busy worker is given another task in advance, which waits while others are idle
        "distributed.scheduler.worker-saturation": 1.0,
        # the workers only wait; looking a hundred times a second what they do would cost a tenth of a core
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.interval": "10s",
    }
    with dask.config.set(settings), warnings.catch_warnings(), deferring_interrupts():
        # the dashboard takes another port if this one is in use, and says so in the line that we print
        warnings.filterwarnings("ignore", message="Port .* is already in use")
        cluster = SpecCluster(
            workers={number: {"cls": Nanny, "options": each} for number, each in enumerate(options)},
            scheduler={
                "cls": Scheduler,
                "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:8787"},
            },
            silence_logs=logging.CRITICAL,
            name="replicate",
        )
    with cluster:
        yield cluster


def gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` must be for each GPU that this process may use.

    Examples
    --------
    >>> import os
    >>> os.environ["CUDA_VISIBLE_DEVICES"] = "2,3"
    >>> gpus()
    ['2', '3']
    >>> del os.environ["CUDA_VISIBLE_DEVICES"]
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"}]
    numbers = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")]
    return sorted(numbers, key=int)


def _check_resources(client: Client, runs: Sequence[Run], scheduler: str | None, say: Callable[[str], None]) -> None:
    """Refuse, or say, that no worker offers what a run asks for; it would wait in silence."""
    offered: dict[str, float] = {}
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        for name, amount in worker["resources"].items():
            offered[name] = max(offered.get(name, 0.0), amount)
    for run in runs:
        for name, amount in run.resources.items():
            if offered.get(name, 0.0) >= amount:
                continue
            short = f"{run.name} asks for {name}={amount:g}, and no worker offers it"
            if scheduler is None:
                raise RefusedError(f"{short}: this machine has {len(gpus())} GPUs. Take `--scheduler` of a cluster.")
            # a cluster may grow: its next worker can be the right one
            say(f"{short} now; waiting for one (`dask worker … --resources '{name}={amount:g}'`)")
            return


def _through(
    client: Client, execute: Execute, runs: Sequence[Run], listener: Listener | None, assist: Assist | None
) -> Generator[Outcome]:
    names = {run.name: run for run in runs}
    # a key of its own for every call: a cluster remembers keys, and a second call is no cached one
    call = uuid.uuid4().hex
    # What runs say and what they end with, in order. The listener is called from this thread, where what it raises ends
    # the batch as with the other engines; in dask's own it would leave this one waiting for ever.
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
            resources=run.resources or None,
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
            resources=run.resources or None,
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
                # not begun: never begin; begun: dask cannot stop a task, but the run's process ends with its lifeline
                client.cancel(list(futures), force=True)
                client.run(notebook.stop, left)


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

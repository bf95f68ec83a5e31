"""One notebook executed by papermill in a process of its own.

The caller (`execute`) starts ``python -m replication.runs.notebook`` and talks to it over two pipes: the request goes
down its standard input, events and the outcome come back up its standard output as lines of JSON. The standard input
then stays open as the child's lifeline: it closes when the caller ends, in whatever way, and the child takes its kernel
with it. Nothing is left behind by Ctrl-C or by SIGKILL.

Code in the kernel may say how far it is by writing ``progress.json`` (by rename) into ``$REPLICATION_RUN_DIR``:
``{"done": 120, "total": 400, "what": "training"}``, and lists its parts in ``parts.json``, whose files tell which are
done, whoever computes them. It is shown to the person who waits, and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from replication.atomic import read_json
from replication.runs import profiles
from replication.runs.errors import ReplicationError
from replication.runs.files import write_text
from replication.runs.profiles import Project
from replication.runs.remote import local_folder
from replication.runs.store import GENERATED_TAGS, Run, RunStore, listed_parts
from replication.sources import digest

#: Metadata that differs between two executions of the same notebook (nbstripout's own list, and papermill's).
VOLATILE = [
    *("metadata.signature", "metadata.widgets", "metadata.papermill", "metadata.language_info"),
    *("cell.metadata.collapsed", "cell.metadata.ExecuteTime", "cell.metadata.execution"),
    *("cell.metadata.heading_collapsed", "cell.metadata.hidden", "cell.metadata.scrolled", "cell.metadata.papermill"),
]
# seconds between two looks at how far the kernel says it is
_LOOK = 0.5
# seconds that a stopped child has for ending its kernel before it is killed itself
_GRACE = 10.0
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    status
        ``computed``, ``re-evaluated`` (verdicts anew from stored parts), ``reused`` (nothing to do), ``failed``,
        ``timed out`` or ``interrupted``.
    seconds
        Wall time that the caller waited.
    message
        The verdicts, checks and missing data in a few sentences, or what went wrong.
    """

    run: Run
    status: str
    seconds: float
    message: str

    @property
    def ok(self) -> bool:
        """Whether results are there."""
        return self.status in {"computed", "re-evaluated", "reused"}


@dataclass(frozen=True)
class Options:
    """How runs are executed.

    Attributes
    ----------
    force
        Compute even if results or parts are there.
    timeout
        Seconds after which a run is stopped; None for never.
    start_timeout
        Seconds that a kernel has to start and answer.
    elsewhere
        The run was planned on another machine: refuse it where sources, packages or data differ from those there.
    since
        When the command was given: parts that are older are reused, or with `force` computed anew, and failures that
        are older are tried again.
    """

    force: bool = False
    timeout: float | None = None
    start_timeout: int = 300
    elsewhere: bool = False
    since: float = field(default_factory=time.time, compare=False)


#: Called with events of a run while it executes: first `{"started": "the machine's name"}`, then `{"cell": 3, "cells":
#: 12}`, `{"done": 120, "total": 400, "what": "training"}`, `{"part": "resnet8, sgd, 0.5", "state": "done", "done": 3,
#: "total": 9, "what": "parts", "left": 840.0}` or `{"waiting": True}`.
Listener = Callable[[Run, Mapping[str, Any]], None]


# the live children of this process with their names, so that some or all can be stopped at once
_live: dict[subprocess.Popen[str], str] = {}
_lock = threading.Lock()
_stopping = threading.Event()


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Stop every run of this process, and start none until the end of the block."""
    with _lock:
        _stopping.set()
        children = list(_live)
    for child in children:
        _close(child)
    for child in children:
        _cut(child)
    try:
        yield
    finally:
        _stopping.clear()


def stop(names: Collection[str]) -> None:
    """Stop those runs of this process that have one of these names (`Run.name`), without waiting for their end."""
    with _lock:
        children = [child for child, name in _live.items() if name in names]
    for child in children:
        _close(child)


def execute(run: Run, project: Project, options: Options, listener: Listener | None = None) -> Outcome:
    """Execute a run in its own process, unless it is finished, and wait for it.

    Two processes that are asked for the same run compute it once: the second waits for the first and reads.

    Parameters
    ----------
    listener
        Called from this thread with the run's events.

    Returns
    -------
    Outcome
        Also for a run that failed; nothing is raised for that.
    """
    start = time.monotonic()
    if project.shared:
        # the caller's copy of the shared store may be on another machine
        project = replace(project, store=local_folder(project.shared))
    store = RunStore(project)
    try:
        if not options.force:
            store.pull(run)
            if (results := store.current(run)) is not None:
                return Outcome(run, "reused", time.monotonic() - start, message(results))
        if listener is not None:
            listener(run, {"started": platform.node()})
        status, told = _in_a_process(run, project, options, listener)
        if status != "interrupted":
            store.push(run)
    except ReplicationError as error:
        status, told = "failed", str(error)
    return Outcome(run, status, time.monotonic() - start, told)


def _in_a_process(run: Run, project: Project, options: Options, listener: Listener | None) -> tuple[str, str]:
    """Execute a run in its own process; its status and message."""
    request = {
        "run": asdict(run),
        "project": {name: str(getattr(project, name)) for name in ("root", "package", "store")},
        "options": asdict(options),
    }
    outcome: dict[str, Any] = {}

    def hear(event: dict[str, Any]) -> None:
        if "status" in event:
            outcome.update(event)
        elif listener is not None:
            listener(run, event)

    status, last = run_child(run.name, __name__, request, environment(run, project, options), hear)
    if outcome:
        return outcome["status"], outcome["message"]
    if status == _INTERRUPTED:
        return "interrupted", last or "stopped before its end"
    return "failed", f"its process ended with status {status}: {last or 'it said nothing'}"


def run_child(
    name: str,
    module: str,
    request: Mapping[str, Any],
    variables: Mapping[str, str],
    hear: Callable[[dict[str, Any]], None] = lambda _event: None,
) -> tuple[int, str]:
    """Run a module of ours in a process that ends when this one does.

    Parameters
    ----------
    name
        What `stop` knows it by.
    module
        Reads the request, a line of JSON, from its standard input.
    request, variables
        What it is asked, and its environment.
    hear
        Called with each line of JSON that it writes.

    Returns
    -------
    status, last
        Its exit status, and the last line that it wrote to standard error.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with _lock:
            if _stopping.is_set():
                return _INTERRUPTED, "not started"
            child = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env=variables,
                # signals of the terminal are for the caller; the child learns of its end by the lifeline
                start_new_session=True,
            )
            _live[child] = name
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(request) + "\n")
                child.stdin.flush()
            for line in child.stdout:
                hear(json.loads(line))
            child.wait()
        finally:
            _cut(child)
            with _lock:
                del _live[child]
        errors.seek(0)
        return child.returncode, (errors.read().strip().splitlines() or [""])[-1]


def _close(child: subprocess.Popen[str]) -> None:
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()


def _cut(child: subprocess.Popen[str]) -> None:
    """Cut a child's lifeline and wait for its end."""
    _close(child)
    try:
        child.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        _kill_descendants(child.pid)
        child.kill()
        child.wait()


def environment(run: Run, project: Project, options: Options) -> dict[str, str]:
    """The environment of a run: that of any kernel, and what the run is."""
    work = RunStore(project).folder(run) / "work"
    return {
        "REPLICATION_DEVICE": run.ingredients["device"],
        **surroundings(project, work),
        "REPLICATION_SINCE": str(options.since),
        **({"REPLICATION_FRESH": str(options.since)} if options.force else {}),
        "REPLICATION_RUNS": str(project.store),
        "REPLICATION_RUN_DIR": str(work),
        "REPLICATION_RUN_ID": run.run_id,
    }


def surroundings(project: Project, work: Path) -> dict[str, str]:
    """The environment of a project's kernels: the caller's, with what decides their numbers pinned."""
    inherited = [str(Path(p).absolute()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {
        **threads,
        **os.environ,
        "REPLICATION_HOME": str(project.root),
        "PYTHONHASHSEED": "0",
        # the sources that the run id was made of come first
        "PYTHONPATH": os.pathsep.join([str(project.package.parent), *inherited]),
        # start-up files of the user's IPython are no part of a run
        "IPYTHONDIR": str(work / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


# ---------------------------------------------------------------------------------------------- inside the child

_INTERRUPTED = 75


class _Failure(Exception):
    """A run that did not end well, in words; `about` is kept with them."""

    def __init__(self, message: str, **about: Any) -> None:
        super().__init__(message)
        self.about = {"message": message, "status": "failed", "cell": None, "traceback": "", **about}


def main() -> int:
    """Execute the run that standard input asks for; events and the outcome go to standard output."""
    request = json.loads(sys.stdin.readline())
    run = Run(**request["run"])
    root, package, folder = (Path(request["project"][name]) for name in ("root", "package", "store"))
    project = Project(root, package, folder)
    options = Options(**request["options"])
    # kernels inherit standard output and error: keep the pipe to the caller out of their reach
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    speaking = threading.Lock()

    def say(**event: Any) -> None:
        with speaking:
            channel.write(json.dumps(event) + "\n")
            channel.flush()

    threading.Thread(target=die_with_caller, daemon=True).start()
    store = RunStore(project)
    lock = store.lock(run)
    try:
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            say(waiting=True)
            lock.acquire()
        with lock:
            if not options.force and (results := store.current(run)) is not None:
                say(status="reused", message=message(results))
            elif options.elsewhere and (differing := store.differences(run)):
                what = f"{platform.node()} differs from where the run was planned in {' and '.join(differing)}"
                say(status="failed", message=f"{what}; make them equal")
            else:
                _execute_locked(run, store, options, say)
    except OSError as error:
        say(
            status="failed",
            message=f"cannot write {error.filename or f'in {store.root}'}: {error.strerror or error}. "
            "Nothing finished is lost.",
        )
    except Exception as error:
        say(status="failed", message=f"{type(error).__name__}: {error} (more in log.txt)")
        raise
    return 0


def _execute_locked(run: Run, store: RunStore, options: Options, say: Callable[..., None]) -> None:
    work = store.open_work(run)
    folder = store.folder(run)
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        _papermill(run, store.project, work, options, say)
        results = _results(run, work)
        told = message(results)  # what cannot be told is not finished
        _normalise_file(work / "notebook.ipynb")
    except _Failure as failure:
        partial = work / "notebook.ipynb"
        if partial.exists():
            _normalise_file(partial)
        store.fail(run, failure.about)
        say(status=failure.about["status"], message=str(failure))
    else:
        store.finish(run, results)
        about = results.get("provenance", {})
        again = bool(about.get("parts")) and about.get("reused") == len(about["parts"])
        say(status="re-evaluated" if again else "computed", message=told)


def _papermill(run: Run, project: Project, work: Path, options: Options, say: Callable[..., None]) -> None:
    import logging

    import papermill
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    node = read_notebook(project.notebook_file(run.notebook))
    node.cells = [cell for cell in node.cells if not tagged(cell, *GENERATED_TAGS)]
    inject = profiles.changed(project, run.notebook, run.parameters)
    # papermill adds a cell if it has parameters to inject
    cells = len(node.cells) + bool(inject)
    source = work / "source.ipynb"
    write_notebook(source, node)
    expired, finished = threading.Event(), threading.Event()

    def expire() -> None:
        expired.set()
        _kill_descendants(os.getpid())
        # papermill sees the dead kernel and saves the page; if it hangs all the same, it has had its time
        if not finished.wait(_GRACE):
            say(status="timed out", message=_late(options.timeout))
            os._exit(1)

    watch = threading.Timer(options.timeout or 0, expire)
    watch.daemon = True
    if options.timeout is not None:
        watch.start()
    threading.Thread(target=_tell_progress, args=(work, options.force, finished, say), daemon=True).start()
    try:
        papermill.execute_notebook(
            source,
            work / "notebook.ipynb",
            parameters=inject,
            cwd=work,
            # a notebook without a kernelspec, as some editors write them, is Python's
            kernel_name=node.metadata.get("kernelspec", {}).get("name") or "python3",
            language="python",
            start_timeout=options.start_timeout,
            progress_bar=False,
            log_output=True,
            on_cell_start=lambda *, cell_index, **_: say(cell=cell_index + 1, cells=cells),
        )
    except PapermillExecutionError as error:
        traceback = _ANSI.sub("", "\n".join(error.traceback))
        logging.error(traceback)
        what = f"{error.ename}: {_ANSI.sub('', error.evalue)}".splitlines()[0]
        raise _Failure(f"cell {error.exec_count} raised {what}", cell=error.exec_count, traceback=traceback) from error
    except (CellExecutionError, DeadKernelError, RuntimeError) as error:
        if expired.is_set():
            raise _Failure(_late(options.timeout), status="timed out") from error
        if "respond in" in str(error):  # nbclient's words
            late = f"the kernel did not answer within {options.start_timeout} s (--start-timeout)"
            raise _Failure(late, status="timed out") from error
        raise _Failure(f"the kernel died: {error}. Was it short of memory? See log.txt.") from error
    finally:
        finished.set()
        watch.cancel()


def _tell_progress(work: Path, force: bool, finished: threading.Event, say: Callable[..., None]) -> None:
    """Pass on how far the kernel is: parts as they end, else what it says itself, once each time."""
    last, listed, known, begun = None, dict[str, Path](), set[str](), time.monotonic()
    while not finished.wait(_LOOK):
        listed = listed or listed_parts(work)
        for name, file in listed.items():
            for path, state in ((file, "done"), (file.with_suffix(".failed.json"), "failed")):
                if name not in known and path.exists() and path.stat().st_mtime >= started_at(work):
                    known.add(name)
                    # what was there before counts as done, unless all is computed anew
                    gone = known | {one for one, at in listed.items() if not force and at.exists()}
                    left = (time.monotonic() - begun) / len(known) * (len(listed) - len(gone))
                    say(part=name, state=state, done=len(gone), total=len(listed), what="parts", left=left)
        told = read_json(work / "progress.json")
        # any code may write it, so anything may be in it
        if told is not None and told != last and all(_is_number(told.get(name)) for name in ("done", "total")):
            last = told
            if len(listed) < 2:
                say(done=told["done"], total=told["total"], what=str(told.get("what", "steps")))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def started_at(work: Path) -> float:
    """When the execution in a run's `work/` began: what ended before is no news."""
    return (work / "source.ipynb").stat().st_mtime


def _late(timeout: float | None) -> str:
    return f"stopped after {timeout:g} s (--timeout)"


def _results(run: Run, work: Path) -> dict[str, Any]:
    """What the notebook's finish step wrote, checked to be this run's."""
    results = read_json(work / "results.json")
    if run.paper:
        if results is None:
            raise _Failure("the notebook ended without results.json; its last cell must call `run.finish(…)`.")
        if results.get("run_id") != run.run_id:
            raise _Failure(f"results.json is of run {results.get('run_id')!r}, not of this run, {run.run_id!r}.")
        if run.experiment and digest(results["parts"]) != run.ingredients["parts"]:
            raise _Failure(
                "its parts are not those that were planned: sources, packages, data or numerics changed meanwhile; "
                "give the command again."
            )
        if failed := results.get("failed"):
            told = "; ".join(f"{name}: {what}" for name, what in failed.items())
            raise _Failure(
                f"{len(failed)} parts failed, the others are kept: {told}. The page says what is decided without them.",
                traceback=_tracebacks(work, failed),
            )
        return results
    return results or {
        "schema": 2,
        "notebook": run.notebook,
        "paper": "",
        "profile": run.profile,
        "run_id": run.run_id,
        "parameters": run.parameters,
        "missing": {},
        "failed": {},
        "verdicts": [],
        "tests": [],
    }


def _tracebacks(work: Path, names: Collection[str]) -> str:
    """What the parts of these names left."""
    files = [file.with_suffix(".failed.json") for name, file in listed_parts(work).items() if name in names]
    return "\n".join(found["traceback"] for found in map(read_json, files) if found)


def _normalise_file(path: Path) -> None:
    node = read_notebook(path)
    normalise(node)
    write_notebook(path, node)


def read_notebook(path: Path) -> Any:
    """The notebook in a file, as nbformat's node of format 4."""
    import nbformat

    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def write_notebook(path: Path, node: Any) -> None:
    """Write a notebook by rename, valid and with one line end at its end."""
    import nbformat

    nbformat.validate(node)
    write_text(path, nbformat.writes(node).rstrip("\n") + "\n")  # type: ignore[no-untyped-call]


def tagged(cell: Any, *tags: str) -> bool:
    """Whether a cell has one of some tags."""
    return not set(tags).isdisjoint(cell.metadata.get("tags", []))


def normalise(node: Any) -> None:
    """Take off a notebook what differs between equal executions; outputs, counts and cell ids stay.

    As ``nbstripout --keep-output --keep-count --keep-id``, and papermill's and the interpreter's stamps as well.
    """
    from nbstripout import strip_output

    strip_output(node, keep_output=True, keep_count=True, keep_id=True, extra_keys=VOLATILE)
    spec = node.metadata.get("kernelspec", {})
    node.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": spec.get("name", "python3"),
    }
    node.metadata["language_info"] = {"name": "python"}
    for cell in node.cells:
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]


def sentence(results: Mapping[str, Any]) -> str:
    """How many verdicts, gates and checks of stored results came out in which way."""
    tests = results.get("tests", [])
    if not results["verdicts"] and not tests:
        return "no claims."
    from replication import evidence
    from replication.evidence.tables import apart

    told = apart(evidence.Outcome.from_dict(test) for test in tests)
    return f"{evidence.summary_sentence(one['verdict'] for one in results['verdicts'])} {told[:1].upper()}{told[1:]}."


def missing(results: Mapping[str, Any]) -> str:
    """The data sets that a run did not find, each with what brings it; empty if it had all."""
    return " ".join(f"{name}: {command}" for name, command in results.get("missing", {}).items())


def message(results: Mapping[str, Any]) -> str:
    """What a person is told of a finished run."""
    lacking = missing(results)
    return f"{sentence(results)} Data missing: {lacking}" if lacking else sentence(results)


def die_with_caller() -> NoReturn:
    """End this process and what it started when its standard input closes."""
    while os.read(0, 4096):
        pass
    _kill_descendants(os.getpid())
    os._exit(_INTERRUPTED)


def _kill_descendants(pid: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


if __name__ == "__main__":
    sys.exit(main())

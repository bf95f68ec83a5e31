"""Garbage collection of the run store: which runs nobody can use any more, and their removal."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from replication.atomic import read_json
from replication.runs import publish
from replication.runs.store import Run, RunStore, listed_parts
from replication.sources import canonical

_DAY = 86_400.0


@dataclass(frozen=True)
class Removable:
    """A run that may go.

    Attributes
    ----------
    name
        `notebook/run id`.
    reason
        ``failed``, ``unfinished`` or ``superseded``.
    days
        Since anything in its folder was written.
    size
        In bytes.
    """

    name: str
    reason: str
    days: float
    size: int

    @property
    def age(self) -> str:
        """How old it is, in words."""
        return f"{self.days:.0f} days old" if self.days >= 2 else f"{self.days * 24:.0f} hours old"


def removable(store: RunStore, *, older_than: float | None = None) -> Iterator[Removable]:
    """The runs that may go, by notebook, the oldest first; nothing is removed.

    A run whose id stands in published results, whose lock somebody holds, or that belongs to a batch as it was last
    started is never among them.

    Parameters
    ----------
    older_than
        Days since the last write; younger ones stay.
    """
    # damaged published results are an error here too: what they came from would not be known
    spared = {(results["notebook"], results.get("run_id")) for _, results in publish.committed(store.project)}
    for path in (store.root / "batches").glob("[!.]*.json"):
        batch = read_json(path) or {}
        spared |= {(run["notebook"], run["run_id"]) for run in batch.get("runs", [])}
    runs = list(store.runs())
    newest = {_asked(run): run.name for run in runs if store.results(run) is not None}
    found = []
    for run in runs:
        state = store.state(run)
        done = state not in {"failed", "unfinished"}
        if (run.notebook, run.run_id) in spared or (done and newest.get(_asked(run)) == run.name):
            continue
        # its lock says whether somebody works on it; asking costs a file, so it is asked last
        if _free(store, run.notebook, run.run_id):
            written, size = _files(store.folder(run))
            days = (time.time() - written) / _DAY
            if older_than is None or days > older_than:
                found.append(Removable(run.name, "superseded" if done else state, days, size))
    yield from sorted(found, key=lambda one: (one.name.partition("/")[0], -one.days))


def remove(store: RunStore, one: Removable) -> bool:
    """Remove a run, holding its lock; a run that somebody works on, or that was written to since, stays.

    Its folder is renamed first, so that a kill in between leaves no half of a run.

    Returns
    -------
    bool
        Whether it is gone.
    """
    # what an earlier removal was killed over
    for left in store.root.glob(".removed-*"):
        shutil.rmtree(left, ignore_errors=True)
    notebook, _, run_id = one.name.partition("/")
    folder = store.root / notebook / run_id
    with _held(store, notebook, run_id) as held:
        if not held or not folder.is_dir() or (time.time() - _files(folder)[0]) / _DAY < one.days - 1 / _DAY:
            return False
        aside = folder.rename(store.root / f".removed-{notebook}-{run_id}")
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # only if it was the notebook's last
    return True


def loose_parts(store: RunStore, *, older_than: float | None = None) -> Iterator[Path]:
    """Files of parts that no run of the store needs, finished or not, and no published result came from.

    Parameters
    ----------
    older_than
        Days since they were written; younger ones stay.
    """
    needed = {key for _, results in publish.committed(store.project) for key in results.get("parts", {}).values()}
    for folder in store.root.glob("*/*"):
        # in this order: a run that ends in between leaves its results and takes its work away
        needed |= {file.stem for file in listed_parts(folder / "work").values()}
        finished = read_json(folder / "results.json") or {}
        needed |= set(finished.get("parts", {}).values())
    for file in sorted(store.root.glob("parts/*/*")):
        # one that is being written has another name in a moment
        with contextlib.suppress(FileNotFoundError):
            old = older_than is None or (time.time() - file.stat().st_mtime) / _DAY > older_than
            if old and file.name.partition(".")[0] not in needed:
                yield file


def in_words(size: int) -> str:
    """A number of bytes as people say it.

    Examples
    --------
    >>> in_words(900), in_words(1_234_000)
    ('900 bytes', '1.2 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _asked(run: Run) -> str:
    return canonical([run.notebook, run.profile, run.parameters])


@contextlib.contextmanager
def _held(store: RunStore, notebook: str, run_id: str) -> Iterator[bool]:
    """Hold a run's lock if nobody does; says whether."""
    lock = store.lock(Run(notebook, "", {}, "", run_id, {}))
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _free(store: RunStore, notebook: str, run_id: str) -> bool:
    with _held(store, notebook, run_id) as held:
        return held


def _files(folder: Path) -> tuple[float, int]:
    """When anything in a folder was last written, and how many bytes are in it."""
    written, size = folder.stat().st_mtime, 0
    for place, _, names in os.walk(folder):
        for name in names:
            # a run that ends meanwhile takes its work/ away
            with contextlib.suppress(FileNotFoundError):
                about = (Path(place) / name).lstat()
                written, size = max(written, about.st_mtime), size + about.st_size
    return written, size

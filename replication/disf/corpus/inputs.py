"""What is selected from: a corpus or ready-made features, looked through once."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replication.disf.corpus import copies, readers
from replication.disf.corpus.errors import CorpusError
from replication.disf.corpus.journal import Journal
from replication.disf.corpus.readers import Kind, Left, Scanned, Source
from replication.disf.corpus.workers import Call, Workers

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

_FAULTS = 20  # that are shown
_TASK_BYTES, _TASK_FILES = 16 << 20, 256  # of the files that one call scans


class Input:
    """A corpus or ready-made features: its files, and what is in them."""

    def __init__(self, root: Path, kinds: tuple[Kind, ...], pattern: str | None) -> None:
        self.root, self._kinds, self._pattern = root, kinds, pattern
        self.listing = self._list()
        self.counts = dict.fromkeys(("documents", "empty", "broken", "unreadable"), 0)
        self.faults: list[str] = []
        self.sha256 = ""
        self.index: Journal
        self._hashes: Path

    def _list(self) -> str:
        """Digest of the files' names, sizes and times: tells in no time whether anything was changed."""
        digest = hashlib.sha256()
        self.files = self.bytes = self.n_ignored = 0
        self.ignored: list[str] = []
        self.n_left, self.left = 0, list[Left]()
        for source in readers.sources(self.root, self._pattern, self._kinds):
            if isinstance(source, Left):
                self.n_left += bool(source.fault)
                self.n_ignored += not source.fault
                if source.fault and len(self.left) < _FAULTS:
                    self.left.append(source)
                elif not source.fault and len(self.ignored) < readers.EXAMPLES:
                    self.ignored.append(source.name)
                continue
            self.files += 1
            self.bytes += source.size
            digest.update(canonical(source.about))
        if not self.files:
            others = [*(left.name for left in self.left), *self.ignored]
            found = f"{self.n_left + self.n_ignored} others, such as {others[0]}" if others else "nothing"
            raise CorpusError(
                f"{self.root} holds no file to read, but {found}. Names that are read end in "
                f"{', '.join(readers.suffixes(self._kinds))}."
            )
        return digest.hexdigest()

    def unchanged(self) -> bool:
        """Whether the files are still those that were listed."""
        return self.listing == self._list()

    def look_through(
        self,
        work: Path,
        scan: Callable[[Source], Scanned],
        settings: object,
        pool: Workers,
        tell: Progress,
    ) -> None:
        """Scan all files, as far as that is not done already, and sum up what is in them."""
        self.index = Journal(work / f"index-{key(self.listing, settings)}.jsonl")
        self._hashes = work / "hashes"
        files = {self._hashes / line["hashes"][0] for line in self.index.known()}
        if not all(map(copies.whole, files)):
            self.index.discard()  # somebody made room, or the disk lost some

        def calls(done: int) -> Iterator[Call]:
            sources = (s for s in readers.sources(self.root, self._pattern, self._kinds) if isinstance(s, Source))
            groups = _groups(itertools.islice(sources, done, None))
            return (partial(_scanned, scan, self._hashes, group) for group in groups)

        pool.fill(self.index, calls, lambda done: tell("files indexed", done, self.files))
        self.counts["unreadable"] = self.n_left
        for left in self.left:
            self._fault(f"{self.root.name}/{left.name} {left.fault}")
        digest = hashlib.sha256()
        for line in self.index:
            for name in ("documents", "empty", "broken"):
                self.counts[name] += line[name]
            where = f"{self.root.name}/{line['name']}" if self.root.is_dir() else line["name"]
            if line["error"]:
                self.counts["unreadable"] += 1
                self._fault(f"{where} {line['error']}")
                continue
            place = "line" if line["kind"] == "jsonl" else "row"
            for number, fault in line["examples"]:
                self._fault(f"{where}, {place} {number}, {fault}")
            digest.update(canonical([line["name"], line["kind"], line["sha256"]]))
        self.sha256 = digest.hexdigest()

    def copies(self) -> npt.NDArray[np.bool_]:
        """Which documents, or rows of features, are exact copies of an earlier one, wherever that is."""
        return copies.find(lambda: copies.kept(self._hashes, self.index), self.counts["documents"])

    def _fault(self, text: str) -> None:
        if len(self.faults) < _FAULTS:
            self.faults.append(text)

    def judge(self, on_error: str) -> None:
        """Stop where there is something that should not be left out in silence, or nothing to select from."""
        broken, unreadable = self.counts["broken"], self.counts["unreadable"]
        if on_error == "stop" and (broken or unreadable):
            what = f"{broken} broken lines or rows and {unreadable} unreadable files in {self.root}"
            shown = "\n  ".join(self.faults)
            advice = "Mend them, or leave them out: --on-error skip (on_error='skip')."
            if self.left:
                advice += " --pattern says which names to read."
            raise CorpusError(f"{what}:\n  {shown}\n{advice}")
        if not self.counts["documents"]:
            raise CorpusError(f"{self.root} holds no document: {self.counts['empty']} are empty, {broken} are broken")


def _scanned(scan: Callable[[Source], Scanned], folder: Path, group: list[Source]) -> list[dict[str, Any]]:
    return copies.keep(folder, map(scan, group))


def _groups(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Files that are scanned by one call: many small ones, or a large one."""
    group: list[Source] = []
    size = 0
    for source in sources:
        group.append(source)
        size += source.size
        if size >= _TASK_BYTES or len(group) == _TASK_FILES:
            yield group
            group, size = [], 0
    if group:
        yield group


def canonical(value: object) -> bytes:
    """A JSON value as bytes that are the same for equal values."""
    return json.dumps(value, sort_keys=True).encode()


def key(*parts: object) -> str:
    """Short name that stands for these values."""
    return hashlib.sha256(canonical(parts)).hexdigest()[:20]

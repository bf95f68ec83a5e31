"""A file that grows by whole results, so that neither a kill nor a power cut loses or spoils any of them."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from replication.disf.corpus.errors import CorpusError


class Journal:
    """JSON objects, one a line, in order; called `<name>.part` until the last is there, then `<name>`.

    Each line begins with its checksum and is handed to the operating system as soon as it is known. The last line is
    the number of the others. After a kill or a power cut all lines before the first that is not whole count, and the
    rest is cut off, also of a file that was complete.

    Parameters
    ----------
    path : Path
        Its name when it is complete.

    Examples
    --------
    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "squares.jsonl")
    >>> journal.fill(lambda done: ({"square": i * i} for i in range(done, 3)))
    >>> journal.complete, [line["square"] for line in journal]
    (True, [0, 1, 4])
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f"{path.name}.part")
        self._complete = False

    @property
    def complete(self) -> bool:
        """Whether all lines are there; a file with its final name that lacks some is a part again."""
        if not self._complete and self.path.exists():
            count, last, end = 0, None, 0
            with self.path.open("rb") as file:
                for count, (last, end) in enumerate(_whole(file)):  # noqa: B007 (the last ones are looked at)
                    pass
            self._complete = last == count and end == self.path.stat().st_size
            if not self._complete:
                self.path.replace(self._part)
        return self._complete

    def discard(self) -> None:
        """Begin anew."""
        for path in (self.path, self._part):
            path.unlink(missing_ok=True)
        self._complete = False

    def known(self) -> Iterator[dict[str, Any]]:
        """The lines that are there, whether it is complete or not."""
        path = self.path if self.complete else self._part
        if path.exists():
            with path.open("rb") as file:
                yield from (value for value, _ in _whole(file) if not isinstance(value, int))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            for value, _ in _whole(file):
                if isinstance(value, int):
                    return
                yield value
        raise CorpusError(f"{self.path} is damaged. Start again: what is whole is not computed anew.")

    def fill(self, rest: Callable[[int], Iterable[dict[str, Any]]]) -> None:
        """Append what ``rest(done)`` yields, ``done`` being the number of lines that are there, and complete it."""
        if self.complete:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self._part.open("a+b")
        try:
            count = _mend(file)
            for line in rest(count):
                _write(file, line)
                count += 1
            _write(file, count, sync=True)
        finally:
            # what a full disk did not take is written once more, and fails once more without a file's name
            with contextlib.suppress(OSError):
                file.close()
        self._part.replace(self.path)
        self._complete = True


def _write(file: IO[bytes], value: Any, *, sync: bool = False) -> None:
    text = json.dumps(value).encode()
    try:
        file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        file.flush()
        if sync:
            os.fsync(file.fileno())
    except OSError as error:  # a full disk names no file
        error.filename = file.name
        raise


def _whole(file: IO[bytes]) -> Iterator[tuple[Any, int]]:
    """The values of a journal's lines, each with where it ends, up to the first line that is not whole."""
    end = 0
    for line in file:
        text = line[9:-1]
        if line[:9] != b"%08x " % zlib.crc32(text) or not line.endswith(b"\n"):
            return
        end += len(line)
        yield json.loads(text), end


def _mend(file: IO[bytes]) -> int:
    """Cut off what is not a whole result; return the number of those that are."""
    file.seek(0)
    count = end = 0
    for value, after in _whole(file):
        if isinstance(value, int):
            break
        count, end = count + 1, after
    file.truncate(end)
    return count

"""A file that grows by whole results, so that a kill loses none of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


class Journal:
    """JSON objects, one a line, in order; called `<name>.part` until the last is there, then `<name>`.

    Each line is handed to the operating system as soon as it is known. After a kill every whole line counts; a torn
    last one is cut off.

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

    @property
    def complete(self) -> bool:
        """Whether the last line is there."""
        return self.path.exists()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with (self.path if self.complete else self._part).open("rb") as lines:
            for line in lines:
                yield json.loads(line)

    def fill(self, rest: Callable[[int], Iterable[dict[str, Any]]]) -> None:
        """Append what ``rest(done)`` yields, ``done`` being the number of lines that are there, and complete it."""
        if self.complete:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._part.open("a+b") as file:
            for line in rest(self._mend(file)):
                file.write(json.dumps(line, ensure_ascii=True).encode() + b"\n")
                file.flush()
        self._part.replace(self.path)

    @staticmethod
    def _mend(file: Any) -> int:
        """Cut off what is not a whole line; return the number of lines."""
        file.seek(0)
        count = end = 0
        for line in file:
            try:
                json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            count += 1
            end += len(line)
        file.truncate(end)
        return count

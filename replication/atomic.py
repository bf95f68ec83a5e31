"""Files that are whole or absent. Every room may import this module, as it knows none of them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes its place when the block ends well and is gone when it fails.

    Whoever reads sees the old file or the new one, never half of it, also after a kill or on a full disk.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made if it is not there.
    sync : bool
        Wait until the bytes are on the disk before the rename, so that a power cut leaves no empty file. Not needed for
        files that are worth nothing after the process.

    Raises
    ------
    OSError
        The folder cannot be written or the disk is full; it names `path`, which is as it was.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [(p.name, p.read_text()) for p in folder.iterdir()]
    [('a.txt', 'whole')]
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own: two processes that make the same file at once must not write into each other's
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # a full disk names no file, and nobody knows the temporary one
        if error.filename is None or str(error.filename) == str(temporary):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write a JSON object by rename (see `replacing`); NaN and infinities are refused, as JSON has none."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file, or no whole JSON text of an object in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None

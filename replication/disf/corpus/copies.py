"""Exact copies anywhere in a corpus: found by 64-bit hashes, a share of them in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replication.disf.corpus import rows

Hashes = npt.NDArray[np.uint64]

_AT_ONCE: Final = 1 << 22  # hashes in memory


def keep(folder: Path, found: Iterable[tuple[dict[str, Any], Hashes]]) -> list[dict[str, Any]]:
    """Write the hashes of some files to one of ours; each file's line of the index then says where they are."""
    lines, parts, start = [], [np.empty(0, np.uint64)], 0
    for line, hashes in found:
        lines.append((line, start))
        parts.append(hashes)
        start += len(hashes)
    together = np.concatenate(parts)
    path = folder / f"{_name(together)}.npy"
    if not whole(path):
        rows.write(path, together)
    return [line | {"hashes": [path.name, start]} for line, start in lines]


def whole(path: Path) -> bool:
    """Whether a file of hashes is there as it was written; its name is their checksum."""
    try:
        return path.stem == _name(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return False


def _name(hashes: Hashes) -> str:
    return hashlib.sha256(hashes.tobytes()).hexdigest()[:40]


def kept(folder: Path, index: Iterable[Mapping[str, Any]]) -> Iterator[Hashes]:
    """The hashes of each file of an index."""
    name, whole = "", np.empty(0, np.uint64)
    for line in index:
        file, start = line["hashes"]
        if file != name:
            name, whole = file, np.load(folder / file, mmap_mode="r", allow_pickle=False)
        yield whole[start : start + line["documents"]]


def find(parts: Callable[[], Iterable[Hashes]], total: int) -> npt.NDArray[np.bool_]:
    """Which of `total` documents have the hash of an earlier one.

    Two of a million different documents have the same hash with a probability of 3e-8. The later one is then taken for
    a copy.

    Examples
    --------
    >>> find(lambda: [np.array([7, 8], np.uint64), np.array([8, 9, 7], np.uint64)], 5).tolist()
    [False, False, True, False, True]
    """
    copied = np.zeros(total, dtype=bool)
    shares = -(-total // _AT_ONCE)
    for share in range(shares):
        hashes, numbers, start = [], [], 0
        for part in parts():
            mine = np.flatnonzero(part % np.uint64(shares) == share)
            hashes.append(part[mine])
            numbers.append(start + mine)
            start += len(part)
        ours, documents = np.concatenate(hashes), np.concatenate(numbers)
        order = np.argsort(ours, kind="stable")
        again = order[1:][ours[order[1:]] == ours[order[:-1]]]
        copied[documents[again]] = True
    return copied

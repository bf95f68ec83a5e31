"""Features on disk: N rows of d floats in .npy or Parquet files, read a slice at a time."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replication.atomic import replacing
from replication.disf.corpus.errors import DamagedFile
from replication.disf.corpus.readers import EXAMPLES, Scanned, Source, looked_through, reason, value
from replication.training.seeding import stream_seed

_DTYPES: Final = ("float16", "float32", "float64")
_BLOCK = 8 << 20  # bytes


class Piece(NamedTuple):
    """Some rows of a .npy file, in ascending order; `first` is the number of the file's row 0 in the corpus."""

    path: str
    first: int
    rows: npt.NDArray[np.int64]


def read(pieces: Sequence[Piece]) -> npt.NDArray[Any]:
    """The rows of some pieces, one after another, in memory, in the machine's byte order."""
    # each map is gone at the end of this call: pages of a longer-lived one would count as memory in use
    return np.concatenate([_native(np.load(p.path, mmap_mode="r", allow_pickle=False)[p.rows]) for p in pieces])


def _native(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rows.astype(rows.dtype.newbyteorder("="), copy=False)


def groups(
    total: int, size: int, *, shuffle: int | None = None, without: npt.NDArray[np.bool_] | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers of the batches of a corpus, each batch's in ascending order.

    Parameters
    ----------
    total, size : int
        Rows of the corpus, and of a batch.
    shuffle : int, optional
        Seed of the partition into batches, which takes four or eight bytes a row; without it batches are cut in the
        order of the rows.
    without : ndarray of bool, optional
        Which rows are left out of their batches.

    Examples
    --------
    >>> [rows.tolist() for rows in groups(5, 2)], [rows.tolist() for rows in groups(5, 2, shuffle=1)]
    ([[0, 1], [2, 3], [4]], [[2, 3], [1, 4], [0]])
    """
    order = None
    if shuffle is not None:
        order = np.arange(total, dtype=np.uint32 if total < 2**32 else np.int64)
        np.random.default_rng(stream_seed(shuffle, "disf corpus")).shuffle(order)
    for start in range(0, total, size):
        stop = min(start + size, total)
        rows = np.arange(start, stop) if order is None else np.sort(order[start:stop]).astype(np.int64)
        yield rows if without is None else rows[~without[rows]]


def batches(files: Iterable[tuple[str, int]], groups: Iterable[npt.NDArray[np.int64]]) -> Iterator[list[Piece]]:
    """Where the rows of each group are, of files that are given with their numbers of rows.

    Examples
    --------
    >>> [[(p.path, p.rows.tolist()) for p in pieces] for pieces in batches([("a", 3), ("b", 2)], groups(5, 2))]
    [[('a', [0, 1])], [('a', [2]), ('b', [0])], [('b', [1])]]
    """
    paths, counts = zip(*files, strict=True)
    starts = np.cumsum([0, *counts])
    for rows in groups:
        which = np.searchsorted(starts, rows, side="right") - 1
        parts = np.split(rows, np.flatnonzero(np.diff(which)) + 1) if len(rows) else []
        files_of = which[np.flatnonzero(np.diff(which, prepend=-1))]
        yield [
            Piece(paths[file], int(starts[file]), part - starts[file])
            for file, part in zip(files_of, parts, strict=True)
        ]


def checksum(path: Path) -> list[int] | None:
    """Number and checksum of the rows of a .npy file; None where it is not there or was cut short.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npy"
    >>> write(path, np.eye(3))
    >>> checksum(path)[0], path.write_bytes(path.read_bytes()[:-1]), checksum(path)
    (3, 199, None)
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return [len(rows), zlib.crc32(np.ascontiguousarray(rows).data)]


def write(path: Path, rows: npt.NDArray[Any]) -> None:
    """Write rows to a .npy file by rename."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, rows, allow_pickle=False)


def made(path: Path, count: int, rows: Callable[[], npt.NDArray[Any]]) -> list[int]:
    """Write so many rows to a .npy file, unless they are in it already; returns its `checksum`."""
    found = checksum(path)
    if found is None or found[0] != count:
        write(path, rows())
        found = checksum(path)
    assert found is not None
    return found


def _blocks(source: Source, column: str | None) -> Iterator[npt.NDArray[Any]]:
    """The rows of a features file, some megabytes at a time."""
    try:
        if source.kind == "npy":
            yield from _npy_blocks(source.path)
        else:
            yield from _parquet_blocks(source.path, column)
    except Exception as error:  # a file from anywhere may make a reader fail in any way
        raise DamagedFile(reason(error)) from error


def _npy_blocks(path: str) -> Iterator[npt.NDArray[Any]]:
    whole = np.load(path, mmap_mode="r", allow_pickle=False)
    shape, dtype = whole.shape, whole.dtype
    del whole
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"has an array of shape {shape}, not (documents, dimensions)")
    if dtype.name not in _DTYPES:
        raise ValueError(f"holds {dtype.name}, not one of {', '.join(_DTYPES)}")
    step = max(1, _BLOCK // (dtype.itemsize * shape[1]))
    for start in range(0, shape[0], step):
        yield _native(np.array(np.load(path, mmap_mode="r", allow_pickle=False)[start : start + step]))


def _parquet_blocks(path: str, column: str | None) -> Iterator[npt.NDArray[Any]]:
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        schema = file.schema_arrow
        lists = [field.name for field in schema if _is_vector(field.type)]
        if column is None and len(lists) != 1:
            raise ValueError(f"has {len(lists)} columns of float vectors ({', '.join(lists)}), not one to take")
        column = column or lists[0]
        if column not in lists:
            found = schema.field(column).type if column in schema.names else f"columns {', '.join(schema.names)}"
            raise ValueError(f"has no vectors of floats in column {column!r}, but {found}")
        done, width = 0, 0
        for batch in file.iter_batches(1024, columns=[column], use_threads=False):
            vectors = batch.column(column)
            # a vector that is null has none
            lengths = pc.list_value_length(vectors).fill_null(0).to_numpy(zero_copy_only=False)
            width = width or int(lengths[0])
            wrong = np.flatnonzero((lengths != width) | (lengths == 0))
            values = vectors.flatten()
            if len(wrong) or values.null_count:
                where = f"row {done + int(wrong[0])}" if len(wrong) else f"one of rows {done} to {done + len(batch)}"
                what = f"whole vector of {width} dimensions" if width else "vector"
                raise ValueError(f"has no {what} in {where}")
            yield values.to_numpy(zero_copy_only=False).reshape(len(batch), width)
            done += len(batch)


def _is_vector(kind: Any) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and pa.types.is_floating(kind.value_type)


def scan(source: Source, column: str | None) -> Scanned:
    """Count the rows of a features file, and sum it.

    Returns
    -------
    dict, ndarray
        As :func:`replication.disf.corpus.readers.scan`, the hashes being those of rows. The line has ``width``,
        ``dtype`` and ``norms`` too: the sums of the rows' lengths and of their squares. ``documents`` are all rows, and
        the ``broken`` ones among them hold NaN or infinite values.
    """

    def count(counts: dict[str, Any], examples: list[tuple[int, str]], hashes: bytearray) -> None:
        norms = np.zeros(2)
        for block in _blocks(source, column):
            finite = np.isfinite(block).all(1)
            bad = np.flatnonzero(~finite)
            hashes += b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in np.ascontiguousarray(block))
            squares = np.einsum("ij,ij->i", block, block, dtype=np.float64)[finite]
            norms += np.sqrt(squares).sum(), squares.sum()
            examples += [(counts["documents"] + int(row), "has NaN or infinite features") for row in bad[:EXAMPLES]]
            counts["broken"] += len(bad)
            counts["documents"] += len(block)
            # half precision goes with single: it is exact in it
            counts["width"], counts["dtype"] = block.shape[1], np.result_type(block, np.float32).name
        counts["norms"] = norms.tolist()

    nothing = {"documents": 0, "empty": 0, "broken": 0, "width": 0, "dtype": "", "norms": [0.0, 0.0]}
    return looked_through(source, nothing, count)


def imported(source: Source, column: str | None, folder: Path, name: str) -> list[dict[str, Any]]:
    """Copy the features of a Parquet file to .npy files, since Parquet cannot be read from any row on.

    Returns
    -------
    list of dict
        A line of the journal: ``files`` has the files' names within `folder`, and `checksum` of each.
    """
    files = []
    for number, block in enumerate(_blocks(source, column)):
        file = f"{name}-{number}.npy"
        files.append((file, made(folder / file, len(block), partial(np.asarray, block))))
    return [{"files": files}]


def identifiers(source: Source, key: str) -> Iterator[Any]:
    """What a Parquet file has in the column `key`, row by row; None throughout if there is no such column."""
    with pq.ParquetFile(source.path, pre_buffer=False, buffer_size=1 << 20) as file:
        known = key in file.schema_arrow.names
        for batch in file.iter_batches(1024, columns=[key] if known else [], use_threads=False):
            yield from map(value, batch.column(key)) if known else [None] * len(batch)

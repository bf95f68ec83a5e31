"""Features on disk: N rows of d floats in .npy or Parquet files, read a slice at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replication.atomic import replacing
from replication.data.store import file_sha256
from replication.disf.corpus.errors import DamagedFile
from replication.disf.corpus.readers import EXAMPLES, Source, reason

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]

_DTYPES: Final = ("float16", "float32", "float64")
_BLOCK = 8 << 20  # bytes


class Piece(NamedTuple):
    """Rows ``start`` to ``stop`` of a .npy file."""

    path: str
    start: int
    stop: int


def read(pieces: Sequence[Piece]) -> FloatArray:
    """The rows of some pieces, one after another, in memory: float16 as float32, in the machine's byte order."""
    # each map is gone at the end of this call: pages of a longer-lived one would count as memory in use
    parts = [np.load(piece.path, mmap_mode="r", allow_pickle=False)[piece.start : piece.stop] for piece in pieces]
    dtype = np.float32 if parts[0].dtype.itemsize == 2 else parts[0].dtype.newbyteorder("=")
    return np.concatenate(parts, dtype=dtype)


def batches(files: Iterable[tuple[str, int]], size: int) -> Iterator[list[Piece]]:
    """Cut files, given with their numbers of rows, into batches of ``size`` rows; batches run on from file to file.

    Examples
    --------
    >>> [[(p.path, p.start, p.stop) for p in pieces] for pieces in batches([("a", 3), ("b", 2)], 2)]
    [[('a', 0, 2)], [('a', 2, 3), ('b', 0, 1)], [('b', 1, 2)]]
    """
    pieces: list[Piece] = []
    room = size
    for path, rows in files:
        start = 0
        while start < rows:
            stop = min(rows, start + room)
            pieces.append(Piece(path, start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield pieces
                pieces, room = [], size
    if pieces:
        yield pieces


def write(path: Path, rows: FloatArray) -> None:
    """Write rows to a .npy file by rename."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, rows, allow_pickle=False)


def _blocks(source: Source, column: str | None) -> Iterator[npt.NDArray[Any]]:
    """The rows of a features file, some megabytes at a time."""
    try:
        if source.kind == "npy":
            yield from _npy_blocks(source.path)
        else:
            yield from _parquet_blocks(source.path, column)
    except (OSError, ValueError, pa.ArrowException) as error:
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
        yield read([Piece(path, start, min(start + step, shape[0]))])


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
            lengths = pc.list_value_length(vectors).to_numpy(zero_copy_only=False)
            width = width or int(lengths[0])
            wrong = np.flatnonzero(lengths != width)  # a vector that is null has length NaN
            values = vectors.flatten()
            if len(wrong) or values.null_count or not width:
                where = f"row {done + int(wrong[0])}" if len(wrong) else f"one of rows {done} to {done + len(batch)}"
                raise ValueError(f"has no whole vector of {width} dimensions in {where}")
            yield values.to_numpy(zero_copy_only=False).reshape(len(batch), width)
            done += len(batch)


def _is_vector(kind: Any) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and pa.types.is_floating(kind.value_type)


def scan(files: Sequence[Source], column: str | None) -> list[dict[str, Any]]:
    """Count the rows of each features file, and sum it: a line of the index for each.

    Returns
    -------
    list of dict
        As :func:`replication.disf.corpus.readers.scan`, with ``width``, ``dtype``; ``documents`` are all rows, and the
        ``broken`` ones among them hold NaN or infinite values.
    """
    return [_scan_one(source, column) for source in files]


def _scan_one(source: Source, column: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"documents": 0, "empty": 0, "broken": 0, "width": 0, "dtype": ""}
    examples: list[tuple[int, str]] = []
    sha256 = error = ""
    try:
        sha256 = file_sha256(Path(source.path))
        for block in _blocks(source, column):
            bad = np.flatnonzero(~np.isfinite(block).all(1))
            examples += [(found["documents"] + int(row), "has NaN or infinite features") for row in bad[:EXAMPLES]]
            found["broken"] += len(bad)
            found["documents"] += len(block)
            found["width"], found["dtype"] = block.shape[1], block.dtype.name
    except (DamagedFile, OSError) as damage:
        error, examples = str(damage) if isinstance(damage, DamagedFile) else reason(damage), []
        found |= {"documents": 0, "broken": 0, "width": 0, "dtype": ""}
    fields = asdict(source)
    del fields["path"]
    return {**fields, "sha256": sha256, **found, "examples": examples[:EXAMPLES], "error": error}


def imported(source: Source, column: str | None, folder: Path, name: str) -> list[tuple[str, int]]:
    """Copy the features of a Parquet file to .npy files, since Parquet cannot be read from any row on.

    Returns
    -------
    list of (str, int)
        The files' names within `folder` and their numbers of rows.
    """
    files = []
    for number, block in enumerate(_blocks(source, column)):
        file = f"{name}-{number}.npy"
        if not (folder / file).exists():
            write(folder / file, block.astype(np.float32) if block.dtype.itemsize == 2 else block)
        files.append((file, len(block)))
    return files


def identifiers(source: Source, key: str) -> Iterator[Any]:
    """What a Parquet file has in the column `key`, row by row; None throughout if there is no such column."""
    with pq.ParquetFile(source.path, pre_buffer=False, buffer_size=1 << 20) as file:
        known = key in file.schema_arrow.names
        for batch in file.iter_batches(1024, columns=[key] if known else [], use_threads=False):
            yield from batch.column(key).to_pylist() if known else [None] * len(batch)

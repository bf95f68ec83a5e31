"""The documents of a corpus on disk, one at a time: JSON lines, Parquet and text files."""

from __future__ import annotations

import base64
import codecs
import fnmatch
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from replication.disf.corpus.errors import CorpusError, DamagedFile
from replication.places import file_sha256

Kind = Literal["jsonl", "parquet", "text", "npy"]
#: A file's line of the index, and hashes of what is in it.
Scanned = tuple[dict[str, Any], npt.NDArray[np.uint64]]
#: Adds to a file's counts, to examples of its faults and to its hashes.
Count = Callable[[dict[str, Any], list[tuple[int, str]], bytearray], None]

COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}
_SUFFIXES: Final[dict[str, Kind]] = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".md": "text",
    ".npy": "npy",
}
#: Of a file's broken lines, so many are shown.
EXAMPLES: Final = 3


@dataclass(frozen=True)
class Source:
    """One file of a corpus, and how the file system tells that it was changed."""

    name: str
    path: str
    kind: Kind
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def about(self) -> dict[str, Any]:
        """What is written down of it: all but its path, as a corpus may be moved."""
        return {name: value for name, value in vars(self).items() if name != "path"}


class Left(NamedTuple):
    """A file or folder that is not read, and what is wrong with it; empty where nobody would expect to read it."""

    name: str
    fault: str


class Entry(NamedTuple):
    """One place of a corpus where a document is or should be.

    Attributes
    ----------
    number
        Line of a JSONL file, from 1; row of a Parquet file, from 0; 0 for a text file.
    text
        The document; empty where there is none.
    fault
        Why there is no document here; empty where there is one.
    record
        Gives the whole record as one JSON object.
    """

    number: int
    text: str
    fault: str
    record: Callable[[], bytes]


@contextmanager
def opened(path: str | Path) -> Iterator[io.BufferedReader]:
    """A file's bytes, decompressed if its name ends in .gz or .zst; a truncated stream is an error, not an end."""
    compression = COMPRESSIONS.get(Path(path).suffix.lower())
    # pyarrow's stream raises where a compressed file is cut off; zstandard's takes the cut for the end
    with pa.input_stream(str(path), compression=compression, buffer_size=1 << 20) as stream:
        if compression and not Path(path).stat().st_size:
            raise DamagedFile("has no bytes; even an empty compressed file has some")
        yield io.BufferedReader(stream, 1 << 16)


def kind_of(name: str) -> Kind | None:
    """How a file is read, by its name's suffixes; None where they say nothing.

    Examples
    --------
    >>> kind_of("c4-train.00000-of-01024.json.gz"), kind_of("a.parquet"), kind_of("notes.txt"), kind_of("a.py")
    ('jsonl', 'parquet', 'text', None)
    """
    path = Path(name.lower())
    compressed = path.suffix in COMPRESSIONS
    kind = _SUFFIXES.get(Path(path.stem).suffix if compressed else path.suffix)
    return None if compressed and kind in ("parquet", "npy") else kind


def suffixes(kinds: Sequence[Kind]) -> list[str]:
    """Suffixes of the files of some kinds."""
    return [suffix for suffix, kind in _SUFFIXES.items() if kind in kinds]


def sources(root: Path, pattern: str | None, kinds: Sequence[Kind]) -> Iterator[Source | Left]:
    """The files of a corpus, each folder's entries in the order of their names.

    Parameters
    ----------
    root
        A file, or a folder that is searched at any depth.
    pattern
        Which file names to read, with * and ? as in a shell; a suffix that says nothing means text then. By default
        all whose suffix is known, and it is a fault of another suffix that it is not.
    kinds
        What is looked for.

    Yields
    ------
    Source or Left
        A file to read, or one that is left out.

    Raises
    ------
    CorpusError
        `root` is a file of another kind.
    """
    if root.is_file():
        only = kind_of(root.name) or "text"
        if only not in kinds:
            raise CorpusError(f"{root} is not read here; names that are end in {', '.join(suffixes(kinds))}")
        yield _source(root, root.name, only)
        return
    stack = [root]
    while stack:
        path = stack.pop()
        name = path.relative_to(root).as_posix()
        try:
            if path.is_dir() and (path == root or not path.is_symlink()):
                inside = sorted(os.scandir(path), key=lambda entry: entry.name, reverse=True)
                stack += [Path(entry.path) for entry in inside if not entry.name.startswith(".")]
            elif path.is_file():
                kind = kind_of(path.name)
                if pattern is not None:
                    kind = (kind or "text") if fnmatch.fnmatchcase(path.name, pattern) else None
                if kind is not None and kind in kinds:
                    yield _source(path, name, kind)
                else:
                    unknown = pattern is None and kind is None and path.suffix
                    ending = "".join(path.suffixes[-2:] if path.suffix.lower() in COMPRESSIONS else path.suffixes[-1:])
                    yield Left(name, f"ends in {ending}, which is not read" if unknown else "")
            else:  # a link to a folder, which may lead round in a circle, or to nothing; a socket
                yield Left(name, "")
        except OSError as error:
            if path == root:
                raise
            yield Left(name, reason(error))


def _source(path: Path, name: str, kind: Kind) -> Source:
    stat = path.stat()
    return Source(name, str(path), kind, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def entries(source: Source, text_key: str, *, also: Sequence[str] | None = ()) -> Iterator[Entry]:
    """What stands in a file, in order; blank lines of JSONL are nothing.

    Parameters
    ----------
    source
        The file.
    text_key
        Key or column of the text.
    also
        Columns of Parquet that records have beside the text; None for all.

    Raises
    ------
    DamagedFile
        The file cannot be read to its end.
    """
    try:
        if source.kind == "jsonl":
            yield from _json_lines(source.path, text_key)
        elif source.kind == "parquet":
            yield from _parquet(source.path, text_key, also)
        else:
            yield from _text(source.path, text_key)
    except UnicodeDecodeError as error:
        raise DamagedFile(f"is not UTF-8: {error}") from error
    except DamagedFile:
        raise
    except Exception as error:  # a file from anywhere may make a reader fail in any way
        raise DamagedFile(reason(error)) from error


def reason(error: Exception) -> str:
    """What is wrong with a file, in one line."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return " ".join(str(error).split()) or f"cannot be read ({type(error).__name__})"


def _json_lines(path: str, key: str) -> Iterator[Entry]:
    with opened(path) as lines:
        for number, raw in enumerate(lines, start=1):
            line = raw.strip()
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line:
                text, fault = _text_of(line, key)
                yield Entry(number, text, fault, partial(bytes, line))


def _text_of(line: bytes, key: str) -> tuple[str, str]:
    """The text of a JSON object, and what is wrong with it."""
    try:
        value = json.loads(line.decode())
    except RecursionError:
        return "", "is nested too deeply"
    except ValueError as error:
        return "", f"is not JSON: {error}"
    if not isinstance(value, dict):
        return "", f"is {type(value).__name__}, not an object"
    text = value.get(key)
    if isinstance(text, str):
        return text, ""
    return "", f"has {type(text).__name__} under {key!r}, not a string" if key in value else f"has no key {key!r}"


def _parquet(path: str, key: str, also: Sequence[str] | None) -> Iterator[Entry]:
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        schema = file.schema_arrow
        if key not in schema.names:
            raise DamagedFile(f"has no column {key!r}, but {', '.join(schema.names)}")
        kind = schema.field(key).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise DamagedFile(f"has {kind} in column {key!r}, not text")
        columns = None if also is None else [key, *(name for name in also if name in schema.names and name != key)]
        number = 0
        for batch in file.iter_batches(256, columns=columns, use_threads=False):
            for row, scalar in enumerate(batch.column(key)):
                try:
                    text, fault = scalar.as_py() or "", ""
                except UnicodeDecodeError as error:
                    text, fault = "", f"is not UTF-8 in column {key!r}: {error}"
                yield Entry(number, text, fault, partial(_row_json, batch, row))
                number += 1


def _row_json(batch: Any, row: int) -> bytes:
    return as_json({name: value(column[row]) for name, column in zip(batch.schema.names, batch.columns, strict=True)})


def value(scalar: Any) -> Any:
    """A value of a Parquet file as Python has it, or as near as it can.

    Dates that Python's calendar does not reach are ISO 8601 texts; bytes of a text that are not UTF-8 become lone
    surrogates, from which ``encode("utf-8", "surrogateescape")`` makes them again.
    """
    try:
        return scalar.as_py()
    except Exception:  # each type has its own ways to be beyond Python's
        kind, types = scalar.type, pa.types
    if types.is_dictionary(kind):
        return value(scalar.value)
    if types.is_struct(kind):
        return {name: value(inner) for name, inner in scalar.items()}
    if types.is_nested(kind):
        return [value(inner) for inner in scalar.values]
    if isinstance(scalar, pa.StringScalar | pa.LargeStringScalar | pa.StringViewScalar):
        return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
    if types.is_date(kind) or types.is_timestamp(kind):
        unit: Any = kind.unit if types.is_timestamp(kind) else "D" if types.is_date32(kind) else "ms"
        return f"{np.datetime64(scalar.value, unit)}{'+00:00' if getattr(kind, 'tz', None) else ''}"
    return str(scalar)


def as_json(record: Mapping[str, Any]) -> bytes:
    """A record as one line."""
    plain = _plain(record)
    try:
        return json.dumps(plain, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # lone surrogates, which only an escape can hold
        return json.dumps(plain).encode()


def _plain(value: Any) -> Any:
    """A value of a Parquet file as JSON has it: bytes in base 64, times in ISO 8601, no number as null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _text(path: str, key: str) -> Iterator[Entry]:
    with opened(path) as file:
        text = file.read().decode("utf-8-sig")
    yield Entry(0, text, "", partial(as_json, {key: text}))


def scan(source: Source, text_key: str, also: Sequence[str] | None = ()) -> Scanned:
    """Count what is in a file, and sum it; read it as it will be read later, so that damage is found now.

    Returns
    -------
    dict, ndarray
        A line of the index, and a hash of each document's text. The line has the source's own fields without its path,
        ``sha256``, ``documents`` (those that are not empty), ``empty``, ``broken``, ``examples`` (number and fault of
        the first few), and ``error``: why the file is left out whole, or empty.
    """

    def count(counts: dict[str, Any], examples: list[tuple[int, str]], hashes: bytearray) -> None:
        for entry in entries(source, text_key, also=also):
            what = "broken" if entry.fault else "documents" if entry.text.strip() else "empty"
            counts[what] += 1
            if what == "documents":
                hashes += hashlib.blake2b(entry.text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            if entry.fault and len(examples) < EXAMPLES:
                examples.append((entry.number, entry.fault))

    return looked_through(source, {"documents": 0, "empty": 0, "broken": 0}, count)


def looked_through(source: Source, nothing: Mapping[str, Any], count: Count) -> Scanned:
    """What :func:`scan` returns; `count` adds what is in the file to counts that are `nothing` before."""
    counts, examples, hashes = dict(nothing), list[tuple[int, str]](), bytearray()
    sha256 = error = ""
    try:
        sha256 = file_sha256(Path(source.path))
        count(counts, examples, hashes)
    except (DamagedFile, OSError) as damage:
        # nothing in a damaged file can be vouched for, not even what came before the damage
        error = str(damage) if isinstance(damage, DamagedFile) else reason(damage)
        counts, examples, hashes = dict(nothing), [], bytearray()
    line = {**source.about, "sha256": sha256, **counts, "examples": examples[:EXAMPLES], "error": error}
    return line, np.frombuffer(hashes, np.uint64)


def source_of(root: Path, line: dict[str, Any]) -> Source:
    """The file that a line of the index is about."""
    path = root if root.is_file() else root / line["name"]
    return Source(path=str(path), **{name: line[name] for name in Source.__dataclass_fields__ if name != "path"})


def documents(
    root: Path, index: Iterator[dict[str, Any]], text_key: str, *, start: int = 0, also: Sequence[str] | None = ()
) -> Iterator[tuple[str, Entry]]:
    """The documents of a corpus in order, each with its file's name: without empty and broken ones.

    Parameters
    ----------
    root, text_key, also
        As for :func:`sources` and :func:`entries`.
    index
        What :func:`scan` found.
    start
        Leave out so many from the beginning.

    Raises
    ------
    CorpusError
        If a file no longer holds what the index says.
    """
    for line in index:
        if start >= line["documents"]:
            start -= line["documents"]
            continue
        found = 0
        try:
            for entry in entries(source_of(root, line), text_key, also=also):
                if not entry.fault and entry.text.strip():
                    found += 1
                    if found > line["documents"]:
                        break
                    if found > start:
                        yield line["name"], entry
        except DamagedFile as damage:
            raise CorpusError(_changed(line["name"], str(damage))) from damage
        if found != line["documents"]:
            raise CorpusError(_changed(line["name"], f"{line['documents']} documents were in it before"))
        start = 0


def _changed(name: str, why: str) -> str:
    return f"{name} has changed while it was being read ({why}). Start again when it no longer changes."

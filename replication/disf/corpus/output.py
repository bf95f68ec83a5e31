"""What is written: the selected records in order of selection, and the manifest."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from replication.atomic import replacing
from replication.disf.corpus import readers, rows
from replication.disf.corpus.inputs import Input
from replication.places import file_sha256

#: Of the records written, the key of where they came from.
FIELD: Final = "_selection"
_FILES: Final = ' "files": ['
_BLANK: Final = re.compile(r"[ \t\n\r]*")

#: Where a document stands, and a way to its record.
Place = tuple[dict[str, Any], Callable[[], bytes]]


def write(
    file: IO[bytes],
    picks: Iterable[Mapping[str, Any]],
    places: Iterable[Place],
    *,
    scratch: IO[bytes],
    id_key: str,
    records: bool,
    tell: Callable[[int, int], None],
) -> Counter[str]:
    """Write the output's lines in order of selection, and count the files that they are from.

    Records are read in the corpus's order, whatever the order of selection: they are first written to `scratch`.

    Parameters
    ----------
    file
        The output.
    picks
        For each batch, its number as ``batch`` and its picks as ``documents``.
    places
        For each document of the corpus.
    scratch
        An empty file to read and write.
    id_key
        Key of a record's identifier.
    records
        Whether whole records are wanted.
    tell
        Hears how many of the selected documents were read, and how many there are.
    """
    of_batch = [(line["batch"], np.array(line["documents"], dtype=np.int64)) for line in picks]
    chosen = np.concatenate([documents for _, documents in of_batch])
    batch = np.repeat([number for number, _ in of_batch], [len(documents) for _, documents in of_batch])
    pick = np.concatenate([np.arange(len(documents)) for _, documents in of_batch])
    ends = np.zeros(len(chosen) + 1, dtype=np.int64)
    files: Counter[str] = Counter()
    order = np.argsort(chosen)
    found = iter(places)
    number = -1
    for done, rank in enumerate(order):
        ahead = int(chosen[rank]) - number - 1
        number = int(chosen[rank])
        where, record = next(itertools.islice(found, ahead, None))
        files[where["file"]] += 1
        where |= {"document": number, "batch": int(batch[rank]), "pick": int(pick[rank])}
        line = _whole(record(), where) if records else _identified(record(), where, id_key)
        ends[done + 1] = ends[done] + scratch.write(line + b"\n")
        if done % 1000 == 0:
            tell(done, len(chosen))
    for place in np.argsort(order):
        scratch.seek(ends[place])
        file.write(scratch.read(ends[place + 1] - ends[place]))
    tell(len(chosen), len(chosen))
    return files


# A record's own bytes are what is written: numbers keep their digits, keys their order, and what stands twice does so.


def _identified(record: bytes, where: dict[str, Any], id_key: str) -> bytes:
    known = dict(_members(record)).get(id_key, "")
    return f"{{{known.strip()}{', ' if known else ''}{json.dumps(where)[1:]}".encode()


def _whole(record: bytes, where: dict[str, Any]) -> bytes:
    if f'"{FIELD}"'.encode() in record:  # of an earlier selection
        record = f"{{{','.join(text for name, text in _members(record) if name != FIELD)}}}".encode()
    return b'%s, "%s": %s}' % (record.rstrip()[:-1].rstrip(), FIELD.encode(), json.dumps(where).encode())


def _members(record: bytes) -> Iterator[tuple[str, str]]:
    """The members of a JSON object: each one's name, and all the text between its commas.

    Examples
    --------
    >>> list(_members(b'{"a": 1.10, "b":[1e400]}'))
    [('a', '"a": 1.10'), ('b', ' "b":[1e400]')]
    """
    text, read = record.decode(), json.JSONDecoder().raw_decode

    def past(at: int) -> int:
        blank = _BLANK.match(text, at)
        assert blank is not None
        return blank.end()

    start = text.index("{") + 1
    while text[at := past(start)] != "}":
        name, at = read(text, at)
        _, at = read(text, past(past(at) + 1))
        end = past(at)
        yield name, text[start:end]
        start = end + (text[end] == ",")


def documents(corpus: Input, text_key: str, also: Sequence[str] | None) -> Iterator[Place]:
    """The documents of a corpus; `also` as for :func:`replication.disf.corpus.readers.entries`."""
    for name, entry in readers.documents(corpus.root, iter(corpus.index), text_key, also=also):
        place = "line" if readers.kind_of(name) == "jsonl" else "row"
        yield {"file": name, place: entry.number}, entry.record


def rows_of(features: Input, id_key: str) -> Iterator[Place]:
    """The rows of ready-made features; their records hold an identifier, if there is one."""
    for line in features.index:
        source = readers.source_of(features.root, line)
        known = rows.identifiers(source, id_key) if source.kind == "parquet" else itertools.repeat(None)
        for row, value in zip(range(line["documents"]), known, strict=False):
            record = {} if value is None else {id_key: value}
            yield {"file": line["name"], "row": row}, partial(readers.as_json, record)


def write_manifest(path: Path, head: Mapping[str, Any], inputs: Iterable[Input]) -> None:
    """Write a manifest: what is small first, then each input file on a line, so that not all need be in memory."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, indent=1).removesuffix("\n}") + f",\n{_FILES}")
        separator = "\n"
        for found in inputs:
            for line in found.index:
                shown = {name: value for name, value in line.items() if name not in ("hashes", "norms")}
                file.write(f"{separator}  {json.dumps(shown)}")
                separator = ",\n"
        file.write("\n ]\n}\n")


def read_head(manifest: Path) -> dict[str, Any] | None:
    """A manifest without its list of files; None if there is none."""
    try:
        with manifest.open(encoding="utf-8") as file:
            before = itertools.takewhile(lambda line: not line.startswith(_FILES), file)
            head = json.loads("".join(before).rstrip().removesuffix(",") + "}")
    except (OSError, ValueError):
        return None
    return head if isinstance(head, dict) and head.get("schema") == 2 else None


def about(path: Path) -> dict[str, Any]:
    """Name, size and checksum of a file."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}

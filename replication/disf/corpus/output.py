"""What is written: the selected records in order of selection, and the manifest."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from replication.atomic import replacing
from replication.data.store import file_sha256
from replication.disf.corpus import readers, rows
from replication.disf.corpus.inputs import Input

#: Of the records written, the key of where they came from.
FIELD: Final = "_selection"
_FILES: Final = ' "files": ['

#: Where a document stands, and a way to its record.
Place = tuple[dict[str, Any], Callable[[], bytes]]


def lines(
    picks: Iterable[Mapping[str, Any]], places: Iterable[Place], *, id_key: str, records: bool
) -> Iterator[list[bytes]]:
    """The output's lines, a batch at a time, in order of selection.

    Parameters
    ----------
    picks
        For each batch, its number as ``batch`` and its picks as ``documents``.
    places
        For each document of the corpus.
    id_key
        Key of a record's identifier.
    records
        Whether whole records are wanted.
    """
    numbered = enumerate(places)
    for line in picks:
        rank = {document: pick for pick, document in enumerate(line["documents"])}
        found = [b""] * len(rank)
        last = max(rank, default=-1)
        for number, (where, record) in numbered if rank else ():
            if number in rank:
                where |= {"document": number, "batch": line["batch"], "pick": rank[number]}
                found[rank[number]] = _whole(record(), where) if records else _identified(record(), where, id_key)
            if number == last:
                break
        yield found


def _identified(record: bytes, where: dict[str, Any], id_key: str) -> bytes:
    value = json.loads(record)
    return json.dumps(({id_key: value[id_key]} if id_key in value else {}) | where).encode()


def _whole(record: bytes, where: dict[str, Any]) -> bytes:
    if f'"{FIELD}"'.encode() in record:  # of an earlier selection
        value = json.loads(record)
        value.pop(FIELD, None)
        record = json.dumps(value).encode()
    # the record's own bytes: numbers keep their digits and keys their order
    return b'%s, "%s": %s}' % (record.rstrip()[:-1].rstrip(), FIELD.encode(), json.dumps(where).encode())


def documents(corpus: Input, text_key: str) -> Iterator[Place]:
    """The documents of a corpus."""
    for name, entry in readers.documents(corpus.root, iter(corpus.index), text_key, whole=True):
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
                file.write(f"{separator}  {json.dumps(line)}")
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
    return head if isinstance(head, dict) and head.get("schema") == 1 else None


def about(path: Path) -> dict[str, Any]:
    """Name, size and checksum of a file."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}

"""What is written: the selected records in order of selection, and the manifest."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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

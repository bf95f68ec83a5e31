"""Text with domain labels: a corpus that is on every machine, and the user's own."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from replication.atomic import replacing
from replication.data import wheels
from replication.data.cache import made_once
from replication.data.wheels import Document
from replication.places import ChecksumMismatch, DataNotFound, cache_folder, checksum_of

#: SHA-256 of the embedded corpus, as `Corpus.checksum` has it. It changes with the pins and the rules of `wheels` only.
CORPUS_SHA256: Final = "28640fae156fc6c1d55d99dabccb2647efb8bb36bc47928c5fe1aa44d232ea1d"


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents with domain labels.

    Attributes
    ----------
    documents
        one row per document, columns `domain`, `distribution`, `path`, `text`, all str: what it is about, the
        package, folder or file it comes from, where in that it stands, and the text itself.
    checksum
        SHA-256 of all four columns, in hexadecimal.
    """

    documents: pd.DataFrame
    checksum: str

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Corpus:
        """Corpus of these documents, in their order."""
        rows = list(documents)
        return cls(pd.DataFrame(rows, columns=list(Document._fields)), _checksum(rows))

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, sorted."""
        return tuple(sorted(set(self.documents["domain"])))


def text_corpus() -> Corpus:
    """Text of fourteen domains, the same on every machine, from packages that are installed with the project.

    Source code, docstrings, tests, type stubs, scripts, style sheets, templates, LaTeX, JSON schemas, tables, package
    manifests, licences, descriptions in English, and messages in some seventy languages: about 2,800 documents of 200
    to 4,000 bytes, 8 MB. See `replication.data.wheels` for the rules. Built in seconds, then read from the cache.

    Raises
    ------
    DataNotFound
        if a package is missing or has another version than the project's lock pins.
    ChecksumMismatch
        if the files of a package were changed, or the corpus came out differently.

    Examples
    --------
    >>> corpus = text_corpus()
    >>> corpus.domains[:4]
    ('code', 'docstrings', 'javascript', 'latex')
    """
    path = _cache()
    return made_once(path, lambda: _read_cache(path), lambda: _build(path))


def read_text(source: str = "") -> Corpus:
    """The embedded corpus for "", else that of a file or a folder of one's own.

    Parameters
    ----------
    source
        absolute path of a `.jsonl` or `.jsonl.gz` file with one JSON object a line, `{"text": …, "domain": …}`, where a
        line without a domain is of the domain `text`; or of a folder of `.txt` files at any depth, in which each
        sub-folder is a domain and a file beside them is of the domain `text`.

    Raises
    ------
    DataNotFound
        if there is no such file or folder, or no document in it.
    ValueError
        if the path is relative, a line is not such an object, or a file is not UTF-8; the message says which.
    """
    if not source:
        return text_corpus()
    path = Path(source).expanduser()
    if not path.is_absolute():
        raise ValueError(
            f"text: must be an absolute path, as a run has a folder of its own, got {source!r}; "
            f"from here that is {path.absolute()}"
        )
    return _jsonl(path) if source.endswith((".jsonl", ".jsonl.gz")) else _folder(path)


def text_checksum(source: str = "") -> str:
    """Checksum of `read_text(source)`; the embedded corpus is not read for it.

    Raises
    ------
    DataNotFound
        if there is no text, or the embedded corpus is neither cached nor can be built from the packages that are
        installed.
    ValueError
        as `read_text` does.
    """
    if source:
        return checksum_of(source, lambda: read_text(source).checksum)
    if not _cache().exists():
        wheels.check_versions()
    return CORPUS_SHA256


def _folder(folder: Path) -> Corpus:
    files = sorted((file for file in folder.rglob("*.txt") if file.is_file()), key=lambda file: file.as_posix())
    if not files:
        what = "holds no file" if folder.is_dir() else "is not a folder; it should hold files"
        raise DataNotFound(f"text: {folder} {what} named *.txt, one sub-folder for each domain")
    documents = []
    for file in files:
        inside = file.relative_to(folder)
        try:
            text = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8 ({error}): convert it, or take it away") from error
        domain = inside.parts[0] if len(inside.parts) > 1 else "text"
        documents.append(Document(domain, folder.resolve().name, inside.as_posix(), text))
    return Corpus.of(documents)


def _jsonl(file: Path) -> Corpus:
    if not file.is_file():
        raise DataNotFound(f'text: there is no file {file}; it should hold one JSON object a line, {{"text": "…"}}')
    documents: list[Document] = []
    number = 0
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    documents.append(_document(line, file.name, number))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file}, after line {number}: the compressed file is damaged ({error})") from error
    except ValueError as error:
        raise ValueError(f"{file}, line {number}: {error}") from error
    if not documents:
        raise DataNotFound(f"text: {file} holds no document")
    return Corpus.of(documents)


def table_bits(train: npt.NDArray[np.int64], held_out: npt.NDArray[np.int64]) -> dict[str, float]:
    """Bits per byte of two tables of counts: what a language model has to beat before it is asked anything.

    A *unigram* table knows how often each byte occurs, a *bigram* table how often it follows the byte before it; one is
    added to every count.

    Parameters
    ----------
    train, held_out : ndarray of int64, shapes (N, context + 1) and (M, context + 1)
        Windows of bytes to count, and to score: every byte but a window's first.

    Examples
    --------
    >>> ab = np.frombuffer(b"ababababab", np.uint8).astype(np.int64)[None]
    >>> bits = table_bits(ab.repeat(100, axis=0), ab)
    >>> round(bits["unigram"], 1), bits["bigram"] < 0.8
    (1.3, True)
    """
    pairs = np.bincount((256 * train[:, :-1] + train[:, 1:]).ravel(), minlength=65536).reshape(256, 256)
    before, after = held_out[:, :-1], held_out[:, 1:]
    unigram, bigram = pairs.sum(axis=0) + 1, pairs + 1
    return {
        "unigram": float(-np.log2(unigram / unigram.sum())[after].mean()),
        "bigram": float(-np.log2(bigram / bigram.sum(axis=1, keepdims=True))[before, after].mean()),
    }


def _document(line: bytes, name: str, number: int) -> Document:
    entry = json.loads(line)
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise ValueError(f'expected an object with a string "text", found {line[:60]!r}')
    domain = "text" if entry.get("domain") is None else entry["domain"]
    if not isinstance(domain, str):
        raise ValueError(f"the domain must be a string, found {domain!r}")
    (domain + entry["text"]).encode()  # refuses half of a surrogate pair here, where the line is known
    return Document(domain, name, str(number), entry["text"])


def _line(document: Document) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def _checksum(documents: Iterable[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(_line(document))
    return digest.hexdigest()


def _cache() -> Path:
    return cache_folder() / f"text-{CORPUS_SHA256}.jsonl.gz"


def _read_cache(path: Path) -> Corpus | None:
    """The cached corpus; None if there is none or it is not whole."""
    try:
        with gzip.open(path, "rb") as lines:
            corpus = Corpus.of(Document(*json.loads(line)) for line in lines)
    except (OSError, EOFError, zlib.error, ValueError, TypeError):
        return None
    return corpus if corpus.checksum == CORPUS_SHA256 else None


def _build(path: Path) -> Corpus:
    documents = wheels.build()
    corpus = Corpus.of(documents)
    if corpus.checksum != CORPUS_SHA256:
        raise ChecksumMismatch(
            f"the text corpus has the SHA-256 {corpus.checksum} here; {CORPUS_SHA256} was expected. If you changed the "
            "versions or the rules in replication/data/wheels.py, put the new one into CORPUS_SHA256 in "
            "replication/data/text.py. Otherwise install the packages anew: "
            "python -m pip install --force-reinstall -r requirements.lock"
        )
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(b"".join(map(_line, documents)), compresslevel=6, mtime=0))
    return corpus

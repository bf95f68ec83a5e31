"""Select from a corpus on disk: index, features, picks, output; each stage resumable, none bound by memory.

The stages leave their results in a work folder, in files that are named by a hash of all that they depend on:

``index-….jsonl``
    One line a file: checksum, counts, faults. Depends on the files' names, sizes and times.
``features/…/*.npy`` and ``shards-….jsonl``
    Features, 1,024 documents a file, named by a checksum of the texts; and which of them make the corpus. Depend on the
    files' contents and the extractor, so that a corpus that grew at its end needs features of the new documents only.
``picks-….jsonl``
    One line a batch. Depends on the features and all parameters of the selection.

So a changed input or parameter makes new files of just the stages that it touches.
"""

from __future__ import annotations

import itertools
import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from replication import provenance
from replication.atomic import replacing
from replication.disf import selection
from replication.disf.corpus import extractors, output, readers, rows
from replication.disf.corpus.batch import select_noting
from replication.disf.corpus.errors import CorpusError
from replication.disf.corpus.inputs import Input, Progress, key
from replication.disf.corpus.journal import Journal
from replication.disf.corpus.readers import Kind
from replication.disf.corpus.settings import Settings, taking
from replication.disf.corpus.workers import Call, Workers
from replication.places import file_sha256

__all__ = ["Selected", "select_corpus"]

_SHARD: Final = 1024  # documents
_MOST_FILES: Final = 1000  # that are told apart in a selection's mix
_UNEVEN: Final = 0.25  # standard deviation of the rows' lengths, of their mean
_CORPUS: Final[tuple[Kind, ...]] = ("jsonl", "parquet", "text")
_FEATURES: Final[tuple[Kind, ...]] = ("npy", "parquet")
_REPLACE: Final = (
    "Give another output (with the same --work, what fits is not computed again), or replace it: --force (force=True)."
)


@dataclass(frozen=True)
class Selected:
    """What :func:`select_corpus` did.

    Parameters
    ----------
    output, manifest : Path
        The files.
    counts : dict
        ``files``, ``unreadable`` files, ``ignored`` files, ``bytes``, ``documents``, ``empty``, ``broken``, ``copies``
        of earlier documents, ``selected``, ``missing`` (batches with fewer distinct rows than their quota),
        ``batches``.
    faults : list of str
        The first few broken lines and all unreadable files, as ``file:line why``; at most twenty.
    reused : bool
        Whether the output was there already, so that nothing was done.
    mix : dict
        Documents and selected ones of each file, or of each folder at the top of a corpus that has some; empty where
        there are more than a thousand.
    notes : list of str
        What a person should know of the features.
    ignored : list of str
        The first few files that were not read and need not be: without a suffix, or with one that is no document's.
    seconds : dict
        Time spent in each stage.
    """

    output: Path
    manifest: Path
    counts: dict[str, int]
    faults: list[str]
    reused: bool
    mix: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@taking(Settings)
def select_corpus(settings: Settings) -> Selected:
    """Select documents of a corpus of any size by DiSF, and write them with where they came from.

    The output depends on the contents of the inputs and on the parameters, not on `workers`, nor on how often the work
    was killed and begun again. Memory is bounded by a batch, the longest document, the names in one folder, a dozen
    bytes a document and forty a selected one.

    Parameters
    ----------
    corpus
        A file, or a folder that is searched at any depth, in the order of names: ``.jsonl``, ``.json``, ``.ndjson``
        (one object a line; also with ``.gz`` or ``.zst``), ``.parquet``, ``.txt`` and ``.md`` (one document). None
        selects from ready-made features alone.
    out
        JSON lines: ``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``. Beside it, ``<out>.manifest.json`` says what it was made
        of.
    features
        ``tfidf``, ``minilm``, ``sentence-transformer:MODEL``, or ready-made: ``.npy`` or ``.parquet``, file or folder.
        MiniLM needs the extra ``minilm``; another model, such as ``sentence-transformer:facebook/contriever``, needs
        the package, and a network once. Ready-made ones are float16, float32 or float64, one row for each document of
        `corpus` that is not empty.
    k
        Documents to select in all, instead of a ratio.
    ratio
        Share of the documents to select, such as 0.015.
    k_per_batch
        Documents to select from each batch, instead of a ratio.
    batch_size
        Documents that compete with each other.
    shuffle
        Seed of the random partition into batches; none cuts batches in file order. In a corpus that is sorted by domain
        file order lets each domain compete with itself only.
    seed
        Of the random picks, and of the sample that TF-IDF is fitted on.
    second
        How a batch's second document is picked, which the objective leaves open. As for
        :func:`replication.disf.select`, like `criterion` and `on_duplicates`.
    criterion
        The paper's is correlation; participation is ours, several times as fast, and can be less even than random.
    on_duplicates
        What to do with exact copies. Of copies of a text anywhere in the corpus, and of features anywhere in ready-made
        ones, the first is kept, even where its own features are not finite; so it is of features within a batch.
    text_key
        Key, or Parquet column, of a document's text.
    id_key
        Key, or Parquet column, of an identifier, where documents have one, for the output.
    feature_key
        Parquet column of ready-made features; not needed where only one holds vectors.
    pattern
        Which file names to read, such as ``*.py``; without it, those with known suffixes. Other suffixes than the above
        are read as text then.
    max_chars
        Features see so much of a document's beginning.
    write
        Whole records, or only which and where they are. Records get an added object ``_selection``; otherwise only what
        is in that object is written, and the identifier.
    on_error
        Broken lines, and files and folders that cannot be read: list them all and stop, or leave them out. So are rows
        of features that are not finite; the whole corpus is looked through first. Empty documents are always left out.
    work
        Folder for what can be resumed; without it, ``<out>.work``. Several outputs may share one. It can be deleted
        when it is no longer needed.
    workers
        Processes; the output is the same. Or an executor of :mod:`concurrent.futures` whose processes see the same
        files at the same paths, such as ``client.get_executor(pure=False)`` of a dask cluster.
    force
        Replace a finished output of other inputs or parameters.
    progress
        Called with what is being done, how much of it is done, and how much there is.

    Returns
    -------
    Selected
        What was done; ``reused`` where the output was there already.

    Raises
    ------
    CorpusError
        For whatever of the above cannot be used as asked.
    OSError
        If a file cannot be written. Nothing finished is lost then: the next call goes on from there.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "features.npy", np.random.default_rng(0).standard_normal((3000, 16), dtype=np.float32))
    >>> done = select_corpus(None, folder / "picks.jsonl", features=folder / "features.npy", ratio=0.01, shuffle=None)
    >>> done.counts["selected"], (folder / "picks.jsonl").read_text().splitlines()[0]
    (30, '{"file": "features.npy", "row": 344, "document": 344, "batch": 0, "pick": 0}')
    """
    settings = settings.checked()
    features, workers = settings.features, settings.workers
    out = Path(settings.out).expanduser()
    work = Path(settings.work).expanduser() if settings.work is not None else out.with_name(f"{out.name}.work")
    given = {"corpus": settings.corpus, "features": None if extractors.known(str(features)) else features}
    roots = {name: Path(root).expanduser() for name, root in given.items() if root is not None}
    if not roots:
        raise CorpusError(f"corpus: needed for the features {features!r}; only ready-made features do without")
    for name, root in roots.items():
        if not root.exists():
            names = f" (features by name are {', '.join(extractors.NAMES)})" if name == "features" else ""
            raise CorpusError(f"{root}: there is no such file or folder{names}")
        for path in (out, work):
            if path.resolve().is_relative_to(root.resolve()):
                raise CorpusError(f"{path} lies in {root}, of which it would be a part next time; choose another place")
    if readers.kind_of(out.name) != "jsonl":
        raise CorpusError(f"out: {out.name} will hold JSON lines; let its name end in .jsonl, .jsonl.gz or .jsonl.zst")
    if not isinstance(workers, int):  # a cluster's workers have working folders of their own
        out, work = out.absolute(), work.absolute()
        roots = {name: root.absolute() for name, root in roots.items()}
    for folder in (out.parent, work):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / ".probe") as probe:  # before hours of work
            probe.touch()
        (folder / ".probe").unlink(missing_ok=True)
    pool = Workers(workers)
    try:
        # Two commands may have one output and different work folders, or one work folder and different outputs. The
        # files of the locks stay: to remove one is to risk that two processes hold it.
        with FileLock(out.with_name(f".{out.name}.lock"), timeout=0), FileLock(work / ".lock", timeout=0), pool:
            return _Run(settings, roots.get("corpus"), roots.get("features"), out, work, pool).execute()
    except Timeout as error:
        where = f"in {work}" if Path(error.lock_file).name == ".lock" else f"on {out}"
        raise CorpusError(f"Another process is at work {where}; wait for it, or give another --work or --out") from None


class _Run:
    """One call of :func:`select_corpus`, with its arguments checked."""

    def __init__(
        self,
        settings: Settings,
        corpus: Path | None,
        ready: Path | None,
        out: Path,
        work: Path,
        pool: Workers,
    ) -> None:
        self.settings, self.out, self.work, self.pool = settings, out, work, pool
        self.manifest = out.with_name(f"{out.name}.manifest.json")
        self.tell: Progress = settings.progress or (lambda *_: None)
        self.corpus = Input(corpus, _CORPUS, settings.pattern) if corpus is not None else None
        self.ready = Input(ready, _FEATURES, None) if ready is not None else None
        self.inputs = [found for found in (self.corpus, self.ready) if found is not None]
        self.features = "ready-made" if ready is not None else str(settings.features)
        self.extractor: dict[str, Any] = {"name": self.features}
        # columns of Parquet that are read beside the text
        self.also = None if settings.write == "records" else (settings.id_key,)
        self.seconds: dict[str, float] = {}
        self.parameters = settings.parameters | {"features": self.features}

    def execute(self) -> Selected:
        # beside ours, other processes may be writing
        _sweep(self.out.parent.glob(".*"), f"{re.escape(self.out.name)}|{re.escape(self.manifest.name)}")
        _sweep(self.work.glob(".*"), r"tfidf-.*\.npy")
        for folder in ("features", "hashes"):
            _sweep((self.work / folder).rglob(".*"), ".*")
        finished = None if self.settings.force or not self.out.exists() else self._finished()
        if finished and finished["listing"] == [found.listing for found in self.inputs] and not self._stops(finished):
            return self._selected(finished, reused=True)
        extractors.probe(self.features)
        self._timed("index", self._index)
        contents = [found.sha256 for found in self.inputs]
        if finished:
            if finished["inputs"] != contents:
                raise CorpusError(f"{self.out} was selected from inputs that have changed since. {_REPLACE}")
            # the same bytes with other times
            output.write_manifest(
                self.manifest, finished | {"listing": [found.listing for found in self.inputs]}, self.inputs
            )
            return self._selected(finished, reused=True)
        files, identity = self._timed("features", self._imported if self.ready else self._extracted)
        picks = self._timed("selection", lambda: self._picks(files, identity))
        return self._selected(self._timed("output", lambda: self._output(picks, contents)), reused=False)

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:
        begin = time.monotonic()
        found = work()
        self.seconds[stage] = round(time.monotonic() - begin, 3)
        return found

    def _selected(self, head: Mapping[str, Any], *, reused: bool) -> Selected:
        told = {name: head.get(name, []) for name in ("counts", "faults", "ignored", "mix", "notes")}
        return Selected(self.out, self.manifest, reused=reused, seconds=self.seconds, **told)

    def _stops(self, finished: Mapping[str, Any]) -> bool:
        counts = finished["counts"]
        return self.settings.on_error == "stop" and bool(counts["broken"] or counts["unreadable"])

    def _finished(self) -> dict[str, Any]:
        """The manifest of the output that is there.

        Raises
        ------
        CorpusError
            The output is not of this command, was changed since, or was made by other parameters.
        """
        head = output.read_head(self.manifest)
        if head is None:
            raise CorpusError(f"{self.out} exists and was not written by this command. {_REPLACE}")
        if head["output"] != output.about(self.out):
            raise CorpusError(f"{self.out} is not what its manifest says: it was changed since. {_REPLACE}")
        before = head["parameters"]
        changed = [
            f"{name} {before.get(name)!r}, now {value!r}"
            for name, value in self.parameters.items()
            if before.get(name) != value
        ]
        if changed:
            raise CorpusError(
                f"{self.out} is a finished selection by other parameters ({'; '.join(changed)}). {_REPLACE}"
            )
        return head

    # ------------------------------------------------------------------------------------------------ stages

    def _index(self) -> None:
        if self.corpus:
            scan = partial(readers.scan, text_key=self.settings.text_key, also=self.also)
            about = ["texts", self.settings.text_key, self.also]
            self.corpus.look_through(self.work, scan, about, self.pool, self.tell)
        if self.ready:
            look = partial(rows.scan, column=self.settings.feature_key)
            self.ready.look_through(self.work, look, ["rows", self.settings.feature_key], self.pool, self.tell)
        for found in self.inputs:
            found.judge(self.settings.on_error)
        self.total = self.inputs[0].counts["documents"]
        if self.ready:
            shapes = {(line["width"], line["dtype"]) for line in self.ready.index if line["documents"]}
            if len(shapes) > 1:
                kinds = ", ".join(f"{width} x {dtype}" for width, dtype in sorted(shapes))
                raise CorpusError(f"{self.ready.root}: its files hold features of different kinds: {kinds}")
            if (n := self.ready.counts["documents"]) != self.total:
                raise CorpusError(
                    f"{self.ready.root} holds {n} rows, but the corpus has {self.total} documents that are neither "
                    "empty nor left out; features must be one row for each of these, in their order"
                )
        settings = self.settings
        size = min(settings.batch_size, self.total)
        self.batches = -(-self.total // size)
        try:
            self.share = selection.share_of(self.total, size, settings.k, settings.ratio, settings.k_per_batch)
        except ValueError as error:
            raise CorpusError(str(error)) from error
        self.wanted = selection.quota(0, self.total, self.share)
        # of texts, and of ready-made features
        self.copied = (
            None
            if settings.on_duplicates == "keep"
            else np.logical_or.reduce([found.copies() for found in self.inputs])
        )
        if settings.on_duplicates == "error" and self.copied is not None and self.copied.any():
            raise CorpusError(
                f"{self.copied.sum()} documents are exact copies of earlier ones, the first of them document "
                f"{self.copied.argmax()} (from 0); on_duplicates='drop' selects only one of each"
            )

    def _imported(self) -> tuple[Iterator[tuple[str, int]], str]:
        """The files of ready-made features with their numbers of rows, and what identifies them."""
        ready, settings = self.ready, self.settings
        assert ready is not None
        column = settings.feature_key
        identity = key("ready", ready.sha256, column, settings.text_key)
        if all(line["kind"] == "npy" for line in ready.index):
            return ((readers.source_of(ready.root, line).path, line["documents"]) for line in ready.index), identity
        folder = self.work / "features" / f"ready-made-{key(column)}"

        def calls(done: int) -> Iterator[Call]:
            whole = (line for line in ready.index if not line["error"])
            for line in itertools.islice(whole, done, None):
                yield partial(rows.imported, readers.source_of(ready.root, line), column, folder, line["sha256"])

        def tell(done: int) -> None:
            self.tell("files of features copied", done, ready.files)

        return self._shards(key("ready", ready.sha256, column), folder, calls, tell), identity

    def _extracted(self) -> tuple[Iterator[tuple[str, int]], str]:
        """As :meth:`_imported`, of features that are made of the documents."""
        corpus, settings = self.corpus, self.settings
        assert corpus is not None

        def documents(start: int = 0) -> Iterator[str]:
            for _, entry in readers.documents(corpus.root, iter(corpus.index), settings.text_key, start=start):
                # without lone surrogates, which JSON can hold and UTF-8 cannot
                yield entry.text[: settings.max_chars].encode("utf-8", "replace").decode()

        extractor = extractors.prepare(
            self.features,
            documents=documents,
            total=self.total,
            key=key(corpus.sha256, settings.text_key, settings.max_chars, settings.seed),
            seed=settings.seed,
            folder=self.work,
            tell=self.tell,
        )
        self.extractor = extractor.identity
        folder = self.work / "features" / f"{self.features}-{key(extractor.identity)}"

        def calls(done: int) -> Iterator[Call]:
            texts = documents(done * _SHARD)
            chunks = iter(lambda: list(itertools.islice(texts, _SHARD)), [])
            return (partial(_extract, extractor, folder, chunk) for chunk in chunks)

        def tell(done: int) -> None:
            self.tell("documents embedded", min(done * _SHARD, self.total), self.total)

        identity = key(corpus.sha256, settings.text_key, settings.max_chars, extractor.identity)
        return self._shards(identity, folder, calls, tell), identity

    def _shards(
        self,
        key: str,
        folder: Path,
        calls: Callable[[int], Iterable[Call]],
        tell: Callable[[int], None],
    ) -> Iterator[tuple[str, int]]:
        """The files of features in a folder with their numbers of rows; those that are not there are made."""
        journal = Journal(self.work / f"shards-{key}.jsonl")
        # somebody made room, or the disk lost some
        damaged = [
            folder / name
            for line in journal.known()
            for name, about in line["files"]
            if rows.checksum(folder / name) != about
        ]
        if damaged:
            for path in damaged:
                path.unlink(missing_ok=True)
            journal.discard()
        self.pool.fill(journal, calls, tell)
        return ((str(folder / name), about[0]) for line in journal for name, about in line["files"])

    def _picks(self, files: Iterable[tuple[str, int]], identity: str) -> Journal:
        settings, size, total = self.settings, self.settings.batch_size, self.total
        options: dict[str, Any] = {name: getattr(settings, name) for name in ("second", "criterion", "on_duplicates")}
        contents, order = [found.sha256 for found in self.inputs], settings.shuffle
        # what decides the picks beside data and parameters: our source and the libraries that compute
        code = {"selection": file_sha256(Path(selection.__file__)), **extractors.versions("numpy", "torch")}
        name = key(contents, identity, str(self.share), size, order, settings.seed, options, code)
        journal = Journal(self.work / f"picks-{name}.jsonl")

        def calls(done: int) -> Iterator[Call]:
            groups = itertools.islice(rows.groups(total, size, shuffle=order, without=self.copied), done, None)
            for batch, pieces in enumerate(rows.batches(files, groups), start=done):
                k = selection.quota(batch * size, min((batch + 1) * size, total), self.share)
                yield partial(select_noting, pieces, k, batch=batch, seed=settings.seed, **options)

        self.pool.fill(journal, calls, lambda done: self.tell("batches selected", done, self.batches))
        return journal

    def _mix(self, selected: Mapping[str, int]) -> dict[str, list[int]]:
        """Documents and selected ones of each file, or folder at the top of the corpus."""
        mix: dict[str, list[int]] = {}
        for line in self.inputs[0].index:
            if line["documents"]:
                counts = mix.setdefault(line["name"].split("/")[0], [0, 0])
                counts[0] += line["documents"]
                counts[1] += selected.get(line["name"], 0)
                if len(mix) > _MOST_FILES:
                    return {}
        return mix

    def _notes(self, picks: Journal) -> list[str]:
        told = Counter(note for line in picks for note in line["notes"])
        found = [f"{note} ({count} of {self.batches} batches)" for note, count in told.items()]
        if not self.ready:
            return found
        # rows that are not finite have no length
        finite = self.ready.counts["documents"] - self.ready.counts["broken"]
        mean, square = np.sum([line["norms"] for line in self.ready.index], axis=0) / max(1, finite)
        deviation = math.sqrt(max(0.0, square - mean**2))
        if deviation > _UNEVEN * mean:
            found.append(
                f"the lengths of the features' rows are uneven (mean {mean:.3g}, standard deviation {deviation:.3g}): "
                "documents with short rows are hardly ever selected; scale rows to unit length unless that is meant"
            )
        return found

    def _output(self, picks: Journal, contents: list[str]) -> dict[str, Any]:
        counts = {
            "files": sum(found.files for found in self.inputs),
            "bytes": sum(found.bytes for found in self.inputs),
            "ignored": sum(found.n_ignored for found in self.inputs),
            **{name: sum(f.counts[name] for f in self.inputs) for name in ("empty", "broken", "unreadable")},
            "documents": self.total,
            "copies": 0 if self.copied is None else int(self.copied.sum()),
            "batches": self.batches,
        }
        settings = self.settings
        if self.corpus:
            places = output.documents(self.corpus, settings.text_key, self.also)
        else:
            places = output.rows_of(self.inputs[0], settings.id_key)
        with replacing(self.out) as temporary:
            compression = readers.COMPRESSIONS.get(self.out.suffix.lower())
            with (
                pa.output_stream(str(temporary), compression=compression) as file,
                tempfile.TemporaryFile(dir=self.work) as scratch,
            ):
                files = output.write(
                    file,
                    picks,
                    places,
                    scratch=scratch,
                    id_key=settings.id_key,
                    records=self.corpus is not None and settings.write == "records",
                    tell=partial(self.tell, "documents written"),
                )
            counts["selected"] = files.total()
            if not all(found.unchanged() for found in self.inputs):
                raise CorpusError("An input was changed during the work. Start again when it no longer changes.")
            counts["missing"] = self.wanted - counts["selected"]
            head = {
                "schema": 2,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "output": {**output.about(temporary), "name": self.out.name},
                "parameters": self.parameters,
                "features": self.extractor,
                "counts": counts,
                "mix": self._mix(files),
                "notes": self._notes(picks),
                "faults": [fault for found in self.inputs for fault in found.faults],
                "ignored": [name for found in self.inputs for name in found.ignored],
                "seconds": self.seconds,
                "inputs": contents,
                "listing": [found.listing for found in self.inputs],
                "provenance": provenance.collect(),
            }
            # before the output is in its place: an output without a manifest is never ours
            output.write_manifest(self.manifest, head, self.inputs)
        return head


def _extract(extractor: extractors.Extractor, folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    """Make the features of some documents, unless they are there; the file's name is a checksum of the texts."""
    path = folder / f"{key(texts)}.npy"
    return [{"files": [(path.name, rows.made(path, len(texts), lambda: extractor(texts)))]}]


def _sweep(paths: Iterable[Path], names: str) -> None:
    """Remove what killed processes left of :func:`replacing` files whose names match a pattern."""
    for path in list(paths):
        if re.fullmatch(rf"\.[0-9a-f]{{32}}\.({names})", path.name):
            path.unlink(missing_ok=True)

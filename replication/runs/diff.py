"""What changed between two runs, batches, folders of results, or commits: claims, numbers, figures, and why perhaps."""

from __future__ import annotations

import base64
import functools
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.atomic import read_json
from replication.runs.agreement import Change, changes, flat, short
from replication.runs.batch import Batch
from replication.runs.errors import RefusedError
from replication.runs.profiles import page_profile
from replication.runs.store import Run, RunStore, room_files
from replication.sources import canonical, file_digests

# what is compared of a checkout, at any commit
_PARTS = ("notebooks", "results", "replication")
# what stands among the parameters, or in what an older form of the results tells of the time
_LEFT_OUT = frozenset({"started", "wall_seconds", "parameters", "seeds"})


@dataclass(frozen=True)
class Entry:
    """What one side has of one notebook at one setting.

    Parameters
    ----------
    notebook, profile, parameters
        What was run; a notebook that decides no claims has no profile.
    results
        Its results, or None for a notebook that decides no claims.
    page
        The executed notebook, where there is one.
    sources
        Digests of the rooms' files that the results depend on, where they are known.
    """

    notebook: str
    profile: str
    parameters: Mapping[str, Any]
    results: Mapping[str, Any] | None
    page: Mapping[str, Any] | None
    sources: Mapping[str, str]

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.notebook} at {self.profile}" if self.profile else self.notebook


@dataclass(frozen=True)
class Side:
    """One of the two things that are compared."""

    label: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Figure:
    """A picture that is not the same on both sides.

    Parameters
    ----------
    cell
        The id of the cell that shows it, with a number if it shows several.
    share
        Share of the pixels that differ; None where one side lacks it or the sizes differ.
    before, after
        Width and height in pixels; None where a side lacks it.
    """

    cell: str
    share: float | None
    before: tuple[int, int] | None
    after: tuple[int, int] | None

    def __str__(self) -> str:
        if self.share is not None:
            return f"figure {self.cell}: {_percent(self.share)} of its pixels differ"
        if self.before is None or self.after is None:
            return f"figure {self.cell} {'appeared' if self.before is None else 'disappeared'}"
        return f"figure {self.cell}: {'×'.join(map(str, self.before))} -> {'×'.join(map(str, self.after))} pixels"


@dataclass(frozen=True)
class Pair:
    """The same notebook on both sides, and how it differs.

    Parameters
    ----------
    changes, figures
        What came out differently.
    context
        What went in differently: parameters, versions, machine, sources; by name, before and after.
    """

    name: str
    changes: tuple[Change, ...]
    figures: tuple[Figure, ...]
    context: Mapping[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether the same came out."""
        return not self.changes and not self.figures


@dataclass(frozen=True)
class Difference:
    """All that differs between two sides."""

    before: str
    after: str
    pairs: tuple[Pair, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the same came out on both sides, whatever went in."""
        return not self.only_before and not self.only_after and all(pair.same for pair in self.pairs)

    def lines(self) -> Iterator[str]:
        """The difference in words."""
        for pair in self.pairs:
            if not pair.same:
                yield f"{pair.name}:"
                yield from (f"  {_change(change)}" for change in pair.changes)
                yield from (f"  {figure}" for figure in pair.figures)
        for names, side in ((self.only_before, self.before), (self.only_after, self.after)):
            yield from (f"only in {side}: {name}" for name in names)
        found: dict[str, list[str]] = {}
        for pair in self.pairs:
            for name, (a, b) in pair.context.items():
                found.setdefault(f"{name}: {short(a)} -> {short(b)}", []).append(pair.name)
        if found:
            yield "What went in differs too:" if not self.same else "What went in differs:"
            for line, where in found.items():
                everywhere = len(where) == len(self.pairs)
                yield f"  {line}" + ("" if everywhere else f" ({', '.join(where)})")
        compared = len(self.pairs)
        differing = sum(not pair.same for pair in self.pairs)
        yield (
            f"{compared} notebook{'' if compared == 1 else 's'} compared, {self.before} with {self.after}: "
            + (f"{differing} differ{'s' if differing == 1 else ''}." if differing else "no difference.")
        )


def side(store: RunStore, name: str) -> Side:
    """Find what a name means: a file or folder, a run, a batch, or a commit.

    Parameters
    ----------
    name
        In this order: a results file, a run's folder, a folder of results files or a checkout of the project; the
        start of a run's id; that of a batch's name; anything that git takes for a commit.

    Raises
    ------
    RefusedError
        It is none of these, or holds no results.
    """
    path = Path(name).expanduser()
    made = (
        Side(name, tuple(_of_path(path)))
        if path.exists()
        else _of_run(store, name) or _of_batch(store, name) or _of_commit(store, name)
    )
    if made is None:
        raise RefusedError(
            f"{name!r} is no file or folder, no run's or batch's id (`replicate list` shows the runs), and no commit."
        )
    if not made.entries:
        raise RefusedError(f"{name!r} holds no results of a finished run.")
    return made


def here(store: RunStore) -> Side:
    """The project's results and pages as its files are now."""
    return Side("the files here", tuple(_of_checkout(store.project.root)))


def compare(before: Side, after: Side) -> Difference:
    """Pair what both sides have and say how it differs.

    Entries are paired by notebook, profile and parameters; what is left over, by notebook and profile, and at last by
    notebook alone, where each side has just one.

    Raises
    ------
    RefusedError
        A paper's claims, by whose tolerances numbers are compared, are gone or malformed.
    """
    left, right = list(before.entries), list(after.entries)
    pairs: list[tuple[Entry, Entry]] = []
    keys: tuple[Callable[[Entry], Hashable], ...] = (
        lambda one: (one.notebook, one.profile, canonical(one.parameters)),
        lambda one: (one.notebook, one.profile),
        lambda one: one.notebook,
    )
    for key in keys:
        for wanted in dict.fromkeys(map(key, left)):
            a, b = ([one for one in side.entries if key(one) == wanted] for side in (before, after))
            if len(a) == len(b) == 1 and a[0] in left and b[0] in right:
                pairs.append((a[0], b[0]))
                left.remove(a[0])
                right.remove(b[0])
    pairs.sort(key=lambda pair: (pair[0].name, canonical(pair[0].parameters)))
    only = [tuple(sorted(_named(one, side) for one in found)) for found, side in ((left, before), (right, after))]
    made = tuple(_pair(a, b, _named(a, before), _named(b, after)) for a, b in pairs)
    return Difference(before.label, after.label, made, *only)


def _named(entry: Entry, side: Side) -> str:
    """An entry's name, with the parameters that tell it from others of its notebook and profile on its side."""
    others = [one.parameters for one in side.entries if one.name == entry.name]
    telling = [f"{name} {short(value)}" for name, value in entry.parameters.items() if _varies(name, others)]
    return f"{entry.name} ({', '.join(telling)})" if telling else entry.name


def _varies(name: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    return any(one.get(name) != settings[0].get(name) for one in settings)


def _pair(a: Entry, b: Entry, one: str, other: str) -> Pair:
    from replication import evidence

    found: tuple[Change, ...] = ()
    if a.results is not None and b.results is not None:
        try:
            found = tuple(changes(a.results, b.results, evidence.load_claims(b.results["paper"])))
        except ValueError as error:
            raise RefusedError(f"{b.name}: {error}") from error
    name = one if one == other else f"{one} and {other}"
    return Pair(name, found, tuple(_figures(a.page, b.page)), dict(_context(a, b)))


def _context(a: Entry, b: Entry) -> Iterator[tuple[str, tuple[Any, Any]]]:
    yield from _differing("parameter ", a.parameters, b.parameters)
    if a.results is not None and b.results is not None:
        yield from _differing("", _provenance(a.results), _provenance(b.results))
    if a.sources and b.sources:
        for name, (before, after) in _differing("source ", a.sources, b.sources):
            yield name, (before and before[:12], after and after[:12])


def _differing(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            yield f"{what}{name}", (a.get(name), b.get(name))


def _provenance(results: Mapping[str, Any]) -> dict[str, Any]:
    return dict(flat("", {k: v for k, v in results.get("provenance", {}).items() if k not in _LEFT_OUT}))


# --- figures ---------------------------------------------------------------------------------------------------------


def _figures(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterator[Figure]:
    if before is None or after is None:
        return
    import numpy as np
    from PIL import Image

    def read(png: bytes) -> Image.Image:
        return Image.open(io.BytesIO(png)).convert("RGBA")

    a, b = _pictures(before), _pictures(after)
    for cell in dict.fromkeys([*a, *b]):
        if a.get(cell) == b.get(cell):  # equal files are equal pictures, and most of them are
            continue
        images = [read(side[cell]) if cell in side else None for side in (a, b)]
        one, other = images
        sizes = [None if image is None else image.size for image in images]
        if one is None or other is None or one.size != other.size:
            yield Figure(cell, None, *sizes)
        elif share := float((np.asarray(one) != np.asarray(other)).any(axis=-1).mean()):
            yield Figure(cell, share, *sizes)


def _pictures(page: Mapping[str, Any]) -> dict[str, bytes]:
    """A page's PNG pictures by cell id, without those of cells that nobody compares; the answer is none of these."""
    found = {}
    for cell in page["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "nbval-ignore-output" in tags and "answer" not in tags:
            continue
        shown = [output.get("data", {}) for output in cell.get("outputs", [])]
        encoded = [data["image/png"] for data in shown if "image/png" in data]
        for number, text in enumerate(encoded, start=1):
            name = cell.get("id", "?") + (f" ({number})" if len(encoded) > 1 else "")
            found[name] = base64.b64decode("".join(text))
    return found


# --- the sides -------------------------------------------------------------------------------------------------------


def _of_run(store: RunStore, name: str) -> Side | None:
    try:
        run = store.find(name)
    except RefusedError:
        return None
    entry = _run_entry(store, run)
    if entry is None:
        raise RefusedError(f"{run.name} is not finished; `replicate run {run.notebook}` runs it.")
    return Side(run.name, (entry,))


def _of_batch(store: RunStore, name: str) -> Side | None:
    try:
        label, runs = Batch.executed(store, name)
    except RefusedError:
        return None
    return Side(f"batch {label}", tuple(entry for run in runs if (entry := _run_entry(store, run)) is not None))


def _run_entry(store: RunStore, run: Run) -> Entry | None:
    results = store.results(run)
    if results is None:
        return None
    page = read_json(store.folder(run) / "notebook.ipynb")
    return _entry(results, page, run.ingredients.get("sources", {}))


def _entry(
    results: Mapping[str, Any], page: Mapping[str, Any] | None = None, sources: Mapping[str, str] | None = None
) -> Entry:
    decides = bool(results["paper"])
    profile = results["profile"] if decides else ""
    return Entry(results["notebook"], profile, results["parameters"], results if decides else None, page, sources or {})


def _of_path(path: Path) -> Iterator[Entry]:
    if path.is_file():
        yield from map(_entry, _results([path]))
    elif (path / "results.json").is_file():
        about = read_json(path / "provenance.json") or {}
        sources = about.get("ingredients", {}).get("sources", {})
        for results in _results([path / "results.json"]):
            yield _entry(results, read_json(path / "notebook.ipynb"), sources)
    elif (path / "notebooks").is_dir() and (path / "results").is_dir():
        yield from _of_checkout(path)
    else:
        yield from map(_entry, _results(sorted(path.rglob("[!.]*.json"))))


def _results(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        found = read_json(path)
        if found is not None and found.keys() >= {"notebook", "profile", "paper", "parameters", "verdicts"}:
            yield found
        elif len(paths) == 1:
            raise RefusedError(f"{path} is not a results file.")


def _of_checkout(root: Path) -> Iterator[Entry]:
    read = {path.stem: read_json(path) for path in sorted((root / "notebooks").glob("[!.]*.ipynb"))}
    pages = {stem: page for stem, page in read.items() if page is not None and "cells" in page}
    package = root / "replication"
    sources = functools.cache(lambda paper: file_digests(room_files(package, paper), package))
    for results in _results(sorted((root / "results").glob("*/[!.]*.json"))):
        stem, profile = results["notebook"], results["profile"]
        page = pages.get(stem)
        if page is None or page_profile(page) != profile:
            page = read_json(root / "results" / profile / f"{stem}.ipynb")
        yield _entry(results, page, sources(results["paper"]))
    for stem, page in pages.items():
        if not page["metadata"].get("replication", {}).get("paper"):
            yield Entry(stem, "", {}, None, page, {})


def _of_commit(store: RunStore, name: str) -> Side | None:
    root = store.project.root
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        there = _git(root, "ls-tree", "--name-only", commit.decode().strip()).decode().split()
    except (OSError, subprocess.CalledProcessError):
        return None
    parts = [part for part in _PARTS if part in there]
    if not parts:
        return Side(name, ())
    archive = _git(root, "archive", "--format=tar", commit.decode().strip(), "--", *parts)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return Side(name, tuple(_of_checkout(Path(folder))))


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True).stdout


# --- words -----------------------------------------------------------------------------------------------------------


def _change(change: Change) -> str:
    number = "" if change.what in ("verdict", "answer") else f" {change.what}"
    if not number and (change.before is None or change.after is None):
        gone = change.after is None
        return f"{change.of} {'disappeared' if gone else 'appeared'}: {change.before if gone else change.after}"
    return f"{change.of}:{number} {short(change.before)} -> {short(change.after)}"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %") if share >= 0.001 else "fewer than 0.1 %"

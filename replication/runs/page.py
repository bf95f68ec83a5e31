"""A report as two files: an HTML page that needs no other, with style and figures in it, and the same in Markdown."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from replication.evidence.claims import DirectionTest
from replication.evidence.scoreboard import ANSWER_MARKS, MARKS, Mark
from replication.evidence.tables import shortened
from replication.evidence.verdicts import limits
from replication.runs.agreement import Agreement, shown
from replication.runs.files import write_text
from replication.runs.report import Matrix, Row, Said, Section, matrices, overview, sections, shared, word
from replication.runs.store import Run, RunStore
from replication.sources import canonical

_MARKS: dict[str, Mark] = dict([*MARKS.items(), *ANSWER_MARKS.items()])
# runs side by side that still have room for words, and that one table has room for
_WORDS, _COLUMNS = 4, 30
# panels that are shown without being asked for
_PANELS = 12
# characters of a parameter's value at the head of a column
_HEAD = 12


def write(
    store: RunStore, title: str, runs: Iterable[Run], stem: Path, agreed: Agreement | None = None
) -> tuple[Path, Path]:
    """Write the page as `stem`.html and `stem`.md; returns both."""
    found = list(sections(store, runs, stem.parent))
    # a name may hold dots of its own
    name = stem.name.removesuffix(".html").removesuffix(".md")
    paths = stem.parent / f"{name}.html", stem.parent / f"{name}.md"
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"canonical": canonical, "shortened": shortened, "shown": shown}
    about = {
        "title": title,
        "page": paths[0].name,
        "overview": overview(found),
        "agreed": agreed,
        "matrices": matrices(found),
        "sections": found,
        "failures": [section for section in found if section.trouble],
        "common": shared(found),
        "marks": _MARKS,
        "styles": {told: f"v{place}" for place, told in enumerate(_MARKS)},
        "most_words": _WORDS,
        "most_columns": _COLUMNS,
        "most_panels": _PANELS,
        "head": _HEAD,
        "heads": _heads,
        "plots": _plots,
        "word": word,
    }
    for path in paths:
        write_text(path, templates.get_template(f"report{path.suffix}.jinja").render(about).strip() + "\n")
    return paths


def _heads(name: str, columns: Sequence[Section]) -> list[tuple[str, int]]:
    """One parameter's values over the columns; equal neighbours share a cell, whose width stands beside."""
    values = (shown(column.settings.get(name)) for column in columns)
    return [(value, len(list(same))) for value, same in groupby(values)]


def _plots(matrix: Matrix) -> Iterator[tuple[str, list[tuple[Row, str]], list[str]]]:
    """For each parameter that can be an axis, panels (a test, a drawing) and the tests that it leaves as they are."""
    for name in matrix.varying:
        columns = [column for column in matrix.columns if column.said and _number(column.settings.get(name))]
        if len({column.settings[name] for column in columns}) < 2:
            continue
        panels, same = [], []
        for row in matrix.rows:
            found = [(column, column.said[row.key]) for column in columns if row.key in column.said]
            points = [(at, said) for at, said in found if said.estimate is not None and math.isfinite(said.estimate)]
            if row.test and points:
                if len({(said.estimate, said.low, said.high) for _, said in points}) > 1:
                    panels.append((row, _draw(matrix, row, name, points)))
                else:
                    same.append(row.name)
        if panels or same:
            yield name, panels, same


def _draw(matrix: Matrix, row: Row, name: str, points: Sequence[tuple[Section, Said]]) -> str:
    import matplotlib as mpl
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    assert row.test is not None
    others = [other for other in matrix.varying if other != name]
    xs = [column.settings[name] for column, _ in points]
    ys = [said.estimate for _, said in points]
    lines: dict[str, list[tuple[float, float | None]]] = {}
    for (column, _), x, y in zip(points, xs, ys, strict=True):
        lines.setdefault(canonical([column.settings.get(other) for other in others]), []).append((x, y))
    # text stays text, and equal runs give an equal page
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 9}):
        figure = Figure(figsize=(3.4, 2.6))
        ax = figure.add_axes((0.2, 0.19, 0.77, 0.64))
        # few artists: a report may have hundreds of panels
        ends = [(x, one.low, one.high) for x, (_, one) in zip(xs, points, strict=True) if one.low is not None]
        if ends:
            ax.vlines(*zip(*ends, strict=True), color="#555555", lw=1, zorder=2)
        size = 6 if len(points) <= 60 else 4
        for answer, mark in ANSWER_MARKS.items():
            at = [(x, y) for x, y, (_, said) in zip(xs, ys, points, strict=True) if said.word == answer]
            if at:
                ax.plot(*zip(*at, strict=True), "o", ms=size, mfc=mark.fill, mec="#333333", mew=0.7, zorder=3)
        ax.add_collection(LineCollection([sorted(line) for line in lines.values()], color="#999999", lw=0.8, zorder=1))
        if min(xs) > 0 and max(xs) >= 30 * min(xs):
            ax.set_xscale("log")
        elif all(isinstance(x, int) for x in xs):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        bottom, top = ax.get_ylim()
        if isinstance(row.test, DirectionTest):
            ax.axhline(0, color="#555555", lw=0.8, ls="--", zorder=0)
        else:
            low, high = limits(row.test)
            if low < top and high > bottom:
                ax.axhspan(max(low, bottom), min(high, top), color="#e6e6e6", lw=0, zorder=0)
            ax.set_ylim(bottom, top)
        ax.set_title(row.name, fontsize=10, loc="left")
        ax.set_xlabel(name)
        ax.set_ylabel(shortened(matrix.claims.unit(row.test) or "estimate", 34))
        ax.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return base64.b64encode(file.getvalue()).decode()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

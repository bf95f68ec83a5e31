"""A report as one HTML file that needs no other: style and figures are inside it.

Colours are never alone: each verdict and answer has its word or, where many runs stand side by side, its sign, which
the legend explains; words stand in the count beside it and under the pointer.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from replication.evidence.claims import DirectionTest
from replication.evidence.scoreboard import ANSWER_MARKS, MARKS, Mark
from replication.evidence.verdicts import limits
from replication.runs.agreement import Agreement
from replication.runs.report import Matrix, Row, Said, Section, matrices, overview, shared, shown, word
from replication.sources import canonical

_MARKS: dict[str, Mark] = dict([*MARKS.items(), *ANSWER_MARKS.items()])
# runs side by side that still have room for words, and that one table has room for
_WORDS, _COLUMNS = 4, 30
# panels that are shown without being asked for
_PANELS = 12
# characters of a parameter's value at the head of a column
_HEAD = 12

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 80em; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { line-height: 1.2; } h2 { margin-top: 2em; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .7em 0; }
th, td { border-bottom: 1px solid #ddd; padding: .3em .6em; text-align: left; vertical-align: top; }
pre { background: #f6f6f6; padding: .7em; overflow-x: auto; } code { background: #f6f6f6; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .15em 0; overflow-wrap: anywhere; } details { margin: .3em 0; }
.scroll { overflow-x: auto; max-width: 100%; }
.matrix th, .matrix td { border: 1px solid #ddd; padding: .2em .45em; text-align: center; white-space: nowrap;
  vertical-align: middle; }
.matrix th:first-child { position: sticky; left: 0; background: #fff; text-align: left; min-width: 13em;
  max-width: 26em; white-space: normal; z-index: 1; }
.matrix .says { font-weight: normal; color: #555; font-size: .85em; display: block; }
.matrix .count { text-align: left; font-size: .85em; min-width: 9em; white-space: normal; }
.matrix thead th { font-weight: normal; font-size: .85em; }
.legend span { display: inline-block; padding: .1em .6em; margin: .1em .3em .1em 0; border: 1px solid #bbb; }
.panels { display: flex; flex-wrap: wrap; gap: .6em; } .panels figure { margin: 0; flex: 0 1 19em; }
.panels img { width: 100%; } figcaption { font-size: .8em; color: #555; }
.none { background: repeating-linear-gradient(45deg, #fff 0 4px, #eee 4px 8px); color: #555; }
@media (max-width: 700px) { .matrix .says { display: none; } body { font-size: 14px; padding: 0 .6em; }
  .matrix th:first-child { min-width: 6em; max-width: 8em; } .matrix .count { min-width: 7em; }
  .panels figure { flex-basis: 100%; } }
""" + "".join(
    f".v{place} {{ background: {mark.fill}; color: {mark.ink}; }}\n" for place, mark in enumerate(_MARKS.values())
)


def page(title: str, found: Sequence[Section], agreed: Agreement) -> str:
    """The page as one HTML file."""
    made = matrices(found)
    parts = [f"<h1>{_text(title)}</h1><p>{_text(overview(found))}</p>"]
    if agreed:
        parts.append(f"<h2>Agreement with the published results</h2><p><strong>{_text(str(agreed))}</strong></p>")
        parts.append(f"<ul>{''.join(f'<li>{_text(line)}</li>' for line in agreed.lines())}</ul>")
        parts.append(_details("Claim by claim", f'<div class="scroll">{agreed.table().to_html()}</div>', opened=True))
    if made:
        parts.append(_legend())
    for matrix in made:
        parts.append(f"<h2>{_text(matrix.notebook)}</h2>")
        parts += [*_tables(matrix), *_plots(matrix)]
    failures = [section for section in found if section.trouble]
    if failures:
        parts.append("<h2>Failures</h2>")
        parts += [
            f"<details{' open' if len(failures) <= 3 else ''}><summary>{_where(section)}: "
            f"{_text(section.summary)}</summary><p>{_links(section)}</p><pre>{_text(section.trouble)}</pre></details>"
            for section in failures
        ]
    common = shared(found)
    parts.append("<h2>Runs</h2>")
    parts += [_run(section, common) for section in found]
    if common:
        parts.append("<h2>Provenance</h2>")
        parts.append(_details("What all finished runs have in common", _entries(common.items())))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _legend() -> str:
    signs = "".join(
        f'<span class="v{place}">{mark.sign} {name}</span>' for place, (name, mark) in enumerate(_MARKS.items())
    )
    return f'<p class="legend">{signs}<span class="none">! no results</span></p>'


# --- verdict or answer per row and setting ---------------------------------------------------------------------------


def _tables(matrix: Matrix) -> Iterator[str]:
    blocks = [matrix.columns[start : start + _COLUMNS] for start in range(0, len(matrix.columns), _COLUMNS)]
    if not matrix.rows:
        yield "<p>No run answers anything.</p>"
    elif len(blocks) == 1:
        yield f'<div class="scroll">{_table(matrix, matrix.columns, first=True)}</div>'
    else:
        for place, columns in enumerate(blocks):
            table = f'<div class="scroll">{_table(matrix, columns, first=not place)}</div>'
            name = f"Runs {columns[0].number} to {columns[-1].number} of this notebook"
            yield _details(name, table, opened=not place)
    if matrix.untouched:
        names = ", ".join(matrix.untouched)
        yield _details(f"{len(matrix.untouched)} that none of these runs answers", f"<p>{_text(names)}</p>")


def _table(matrix: Matrix, columns: Sequence[Section], *, first: bool) -> str:
    counted = len(matrix.columns) > _WORDS and first
    rows = [_heads(name, columns, counted) for name in matrix.varying]
    links = "".join(f'<th><a href="#run-{column.number}">{column.number}</a></th>' for column in columns)
    rows.append(f"<tr><th>run</th>{_count('all runs', 'th') if counted else ''}{links}</tr>")
    body = []
    for row in matrix.rows:
        says = f'<span class="says">{_text(_shorter(row.says))}</span>'
        cells = "".join(_cell(matrix, row, column, words=len(columns) <= _WORDS) for column in columns)
        counts = _count(matrix.counts(row)) if counted else ""
        body.append(f'<tr><th title="{_text(row.says)}">{_text(row.name)}{says}</th>{counts}{cells}</tr>')
    return f'<table class="matrix"><thead>{"".join(rows)}</thead><tbody>{"".join(body)}</tbody></table>'


def _heads(name: str, columns: Sequence[Section], counted: bool) -> str:
    """One parameter's values over the columns; equal neighbours share a cell."""
    merged: list[tuple[str, int]] = []
    for column in columns:
        value = shown(column.settings.get(name))
        if merged and merged[-1][0] == value:
            merged[-1] = value, merged[-1][1] + 1
        else:
            merged.append((value, 1))
    cells = "".join(
        f'<th colspan="{span}" title="{_text(name)} = {_text(value)}">{_text(_shorter(value, _HEAD * span))}</th>'
        for value, span in merged
    )
    return f"<tr><th>{_text(name)}</th>{_count('', 'th') if counted else ''}{cells}</tr>"


def _count(text: str, tag: str = "td") -> str:
    return f'<{tag} class="count">{_text(text)}</{tag}>'


def _cell(matrix: Matrix, row: Row, column: Section, *, words: bool) -> str:
    said, setting, told = column.said.get(row.key), matrix.label(column), word(row, column)
    if said is None:
        tip = ": ".join(filter(None, (setting, told or "not asked at this profile")))
        inner = f"! {told}" if words else "!"
        return f'<td class="none" title="{_text(tip)}">{_text(inner) if told else ""}</td>'
    tip = ": ".join(filter(None, (setting, f"{told}; {said.reason}")))
    place, sign = list(_MARKS).index(told), _MARKS[told].sign
    return f'<td class="v{place}" title="{_text(tip)}">{_text(f"{sign} {told}" if words else sign)}</td>'


# --- estimate against parameter --------------------------------------------------------------------------------------


def _plots(matrix: Matrix) -> Iterator[str]:
    for name in matrix.varying:
        points = [column for column in matrix.columns if column.said and _number(column.settings.get(name))]
        if len({column.settings[name] for column in points}) < 2:
            continue
        panels = [panel for row in matrix.rows if row.test and (panel := _panel(matrix, row, name, points))]
        if panels:
            others = [other for other in matrix.varying if other != name]
            joined = (
                f"; lines join runs that differ in nothing else that varies ({', '.join(others)})" if others else ""
            )
            note = (
                f"Estimate with its 95 % interval against {name}, one panel a test, coloured by answer{joined}. "
                "Grey: where the answer is yes; dashed: no difference."
            )
            inside = f'<p>{_text(note)}</p><div class="panels">{"".join(panels)}</div>'
            yield _details(f"Results against {name}", inside, opened=len(panels) <= _PANELS)


def _panel(matrix: Matrix, row: Row, name: str, columns: Sequence[Section]) -> str:
    found = [(column, column.said[row.key]) for column in columns if row.key in column.said]
    points = [(column, said) for column, said in found if said.estimate is not None and math.isfinite(said.estimate)]
    if not points:
        return ""
    image = base64.b64encode(_draw(matrix, row, name, points))
    label = f"{row.name}: estimate against {name}"
    return (
        f'<figure><img alt="{_text(label)}" src="data:image/svg+xml;base64,{image.decode()}">'
        f"<figcaption>{_text(_shorter(row.says))}</figcaption></figure>"
    )


def _draw(matrix: Matrix, row: Row, name: str, points: Sequence[tuple[Section, Said]]) -> bytes:
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
        figure = Figure(figsize=(3.4, 2.5))
        ax = figure.add_axes((0.2, 0.19, 0.77, 0.69))
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
        ax.set_ylabel(_shorter(matrix.claims.unit(row.test) or "estimate", 34))
        ax.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- runs ------------------------------------------------------------------------------------------------------------


def _run(section: Section, common: dict[str, str]) -> str:
    own = {name: value for name, value in section.provenance.items() if name not in common}
    inside = [
        f"<p>{_links(section)}</p>",
        *(f'<div class="scroll">{table.to_html()}</div>' for table in section.tables),
        _details("Parameters", _entries((name, shown(value)) for name, value in section.settings.items())),
        _details("Provenance of this run alone", _entries(own.items())) if own else "",
    ]
    head = f"{_where(section)}, {_text(section.run.profile)} – {_text(section.state)}"
    told = f": {_text(section.summary)}" if section.summary else ""
    # the mark is inside, so that a link to it opens what it is in
    return f'<details><summary>{head}{told}</summary><div id="run-{section.number}">{"".join(inside)}</div></details>'


def _where(section: Section) -> str:
    return f"<strong>{section.number}</strong> {_text(section.run.name)}"


def _links(section: Section) -> str:
    links = ((section.link, "executed notebook"), (section.log, "log"))
    return " · ".join(f'<a href="{_text(to)}">{name}</a>' for to, name in links if to)


def _entries(entries: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{_text(name)}</th><td><code>{_text(value)}</code></td></tr>" for name, value in entries)
    return f"<table>{rows}</table>"


def _details(summary: str, inside: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{_text(summary)}</summary>{inside}</details>"


def _text(text: str) -> str:
    return html.escape(text)


def _shorter(text: str, width: int = 110) -> str:
    return text if len(text) <= width else text[: max(width - 1, 1)].rstrip() + "…"

"""Tables of claims, verdicts and comparisons: rounded text for the eye, raw numbers in the output's metadata.

An executed notebook's text is compared exactly on other machines, so a table prints no digit that the measurement's
own uncertainty does not support, and no number at all for a claim that is volatile by nature.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from replication.evidence.claims import (
    Claim,
    DirectionClaim,
    IdentityClaim,
    OrderingClaim,
    PaperClaims,
    SlopeClaim,
    ValueClaim,
    load_claims,
)
from replication.evidence.comparisons import Comparison, limits, text
from replication.evidence.verdicts import Verdict

#: What stands where numbers differ from run to run by nature.
VOLATILE = "see results"
_NONE = "–"
_WIDTH = 44


@dataclass(frozen=True)
class Table:
    """A table that shows itself in a notebook, on the web and in a terminal.

    Attributes
    ----------
    columns, rows
        Heads and cells, as text.
    raw
        JSON-able numbers behind the text; a notebook keeps them in the output's metadata under ``replication``.
    strong
        Name of the column to emphasise.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    raw: Mapping[str, Any] = field(default_factory=dict)
    strong: str = ""

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
        del include, exclude  # IPython's protocol; it filters the bundle itself
        return {"text/plain": str(self), "text/html": self.to_html()}, {"replication": self.raw}

    def __str__(self) -> str:
        wrapped = [[textwrap.wrap(cell, _WIDTH) or [""] for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(line) for row in wrapped for line in row[i]) for i in range(len(self.columns))]
        lines = []
        for index, row in enumerate(wrapped):
            for k in range(max(len(cell) for cell in row)):
                parts = (cell[k] if k < len(cell) else "" for cell in row)
                lines.append("  ".join(p.ljust(w) for p, w in zip(parts, widths, strict=True)).rstrip())
            if index == 0:
                lines.append("  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def to_html(self) -> str:
        """An HTML table with nothing in it but alignment."""

        def line(cells: Sequence[str], tag: str) -> str:
            made = []
            for name, cell in zip(self.columns, cells, strict=True):
                inner = html.escape(cell, quote=False)
                if tag == "td" and name == self.strong:
                    inner = f"<strong>{inner}</strong>"
                # Jupyter aligns cells to the right unless told otherwise
                made.append(f'<{tag} style="text-align: left">{inner}</{tag}>')
            return f"<tr>{''.join(made)}</tr>"

        body = "\n".join(line(row, "td") for row in self.rows)
        head = line(self.columns, "th")
        return f"<table>\n<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"

    def to_markdown(self) -> str:
        """A GitHub-flavoured Markdown table."""

        def line(cells: Iterable[str]) -> str:
            return "| " + " | ".join(cells) + " |"

        rows = [
            [
                f"**{_escape(cell)}**" if name == self.strong and cell else _escape(cell)
                for name, cell in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]
        return "\n".join([line(self.columns), line("---" for _ in self.columns), *map(line, rows)])


def rounded(
    estimate: float | None, low: float | None = None, high: float | None = None, *, resolution: float = 0.0
) -> str:
    """An estimate with its interval, rounded to what the interval supports.

    All three numbers are rounded to the place of the second significant digit of the interval's half-width. A point
    (no interval, or one of no width) is rounded to the second significant digit of `resolution`, and to at most six
    significant digits; without a resolution, to four.

    Parameters
    ----------
    estimate, low, high : float or None
        The estimate and the ends of its interval.
    resolution : float
        A difference that matters for a point, such as half the width of the band that it is held against.

    Examples
    --------
    >>> rounded(-0.41873, -0.60218, -0.23528)
    '-0.42 [-0.60, -0.24]'
    >>> rounded(3.3589012, resolution=0.05), rounded(0.0, 0.0, 0.0), rounded(-0.004, -0.42, 0.4)
    ('3.359', '0', '0.00 [-0.42, 0.40]')
    >>> rounded(123456.0, 121000.0, 125912.0), rounded(2.0e-7, 1.0e-7, 3.0e-7)
    ('123500 [121000, 125900]', '2.0e-07 [1.0e-07, 3.0e-07]')
    """
    if estimate is None or not math.isfinite(estimate):
        return _NONE
    if low is None or high is None or high - low <= 2e-6 * max(abs(low), abs(high)):
        if estimate == 0:
            return "0"
        exponent = _exponent(estimate)
        if not resolution:
            return _number(estimate, 3 - exponent, exponent)
        matters = _exponent(resolution)
        return _number(estimate, min(1 - matters, 5 - exponent), max(exponent, matters))
    places = 1 - _exponent((high - low) / 2)
    exponent = max(_exponent(number) for number in (estimate, low, high) if number != 0)
    return "{} [{}, {}]".format(*(_number(number, places, exponent) for number in (estimate, low, high)))


def claims_table(claims: Iterable[Claim] | PaperClaims) -> Table:
    """What is claimed, where, and by which rule it is decided."""
    listed = list(claims.claims if isinstance(claims, PaperClaims) else claims)
    rows = tuple((c.id, c.statement, _source(c), paper_says(c), c.decision, c.scale) for c in listed)
    raw = [c.model_dump(mode="json", include={"id", "paper_value", "paper_precision", "tolerance"}) for c in listed]
    return Table(("claim", "statement", "source", "paper", "decision", "scale"), rows, {"claims": raw})


def verdict_table(verdicts: Iterable[Verdict], claims: Iterable[Claim] | PaperClaims) -> Table:
    """What was claimed, what was measured, and the verdict with its reason."""
    by_id = {claim.id: claim for claim in (claims.claims if isinstance(claims, PaperClaims) else claims)}
    listed = list(verdicts)
    rows = []
    for verdict in listed:
        claim = by_id[verdict.claim_id]
        n = str(verdict.n) if verdict.n else _NONE
        rows.append(
            (
                claim.id,
                shortened(claim.statement),
                paper_says(claim),
                ours(verdict, claim),
                n,
                verdict.reason,
                verdict.verdict,
            )
        )
    columns = ("claim", "statement", "paper", "ours [95 % interval]", "n", "decision", "verdict")
    return Table(columns, tuple(rows), {"verdicts": [verdict.to_dict() for verdict in listed]}, strong="verdict")


def comparisons_table(verdict: Verdict, claim: Claim | None = None) -> Table:
    """Every comparison behind a verdict.

    Parameters
    ----------
    verdict : Verdict
        Of any kind of claim; one for each cell and pair of levels.
    claim : Claim, optional
        For the unit, and to print no numbers if it is volatile.
    """
    with_levels = any(one["ours"] is not None for one in verdict.comparisons)
    with_premise = any(one["role"] == "premise" for one in verdict.comparisons)
    factors = list(dict.fromkeys(column for one in verdict.comparisons for column in one["cell"]))
    columns = [*factors, *(["ours", "baseline"] if with_levels else []), "difference" if with_levels else "value"]
    columns[-1] += " [95 % interval]"
    columns += ["n", *(["role"] if with_premise else []), "decision"]

    def row(one: Comparison) -> tuple[str, ...]:
        cells = [text(one["cell"][column]) for column in factors]
        levels = [_NONE if level is None else text(level) for level in (one["ours"], one["baseline"])]
        decision = (
            one["state"] + (f" ({one['note']})" if one["note"] else "") + ("" if one["decisive"] else ", not decisive")
        )
        value = _measured(one["estimate"], one["low"], one["high"], claim)
        return (
            *cells,
            *(levels if with_levels else ()),
            value,
            str(one["n"]),
            *([one["role"]] if with_premise else []),
            decision,
        )

    raw = {"claim_id": verdict.claim_id, "comparisons": [dict(one) for one in verdict.comparisons]}
    return Table(tuple(columns), tuple(row(one) for one in verdict.comparisons), raw, strong="decision")


def verdict_markdown(results: Iterable[Mapping[str, Any]], notebooks: str = "notebooks") -> str:
    """The README's table: every verdict of some runs, with a link to the notebook that shows its evidence.

    A claim that one profile decides is not listed as not attempted at another; one that none decides is listed once.

    Parameters
    ----------
    results : iterable of mappings
        Contents of ``results.json`` files.
    notebooks : str
        Where the notebooks are, as seen from the page that the table stands on.
    """
    rows: list[tuple[str, ...]] = []
    listed = sorted(results, key=lambda one: (one["notebook"], one["profile"]))
    told = {
        (result["notebook"], verdict["claim_id"])
        for result in listed
        for verdict in result["verdicts"]
        if verdict["verdict"] != "not attempted"
    }
    for result in listed:
        claims = {claim.id: claim for claim in load_claims(result["paper"]).claims}
        link = f"[{result['notebook']}]({notebooks}/{result['notebook']}.ipynb)"
        for verdict in map(Verdict.from_dict, result["verdicts"]):
            if verdict.claim_id not in claims:
                raise ValueError(f"{result['notebook']}: the stored verdict {verdict.claim_id!r} has no claim today")
            if verdict.verdict == "not attempted":
                if (result["notebook"], verdict.claim_id) in told:
                    continue
                told.add((result["notebook"], verdict.claim_id))
            claim = claims[verdict.claim_id]
            cells = (link, f"{claim.id}: {shortened(claim.statement)}", paper_says(claim), ours(verdict, claim))
            rows.append((*cells, str(verdict.n) if verdict.n else _NONE, result["profile"], verdict.verdict))
    columns = ("notebook", "claim", "paper", "ours [95 % interval]", "n", "profile", "verdict")
    return Table(columns, tuple(rows), strong="verdict").to_markdown()


def paper_says(claim: Claim) -> str:
    """What a claim expects to be measured, in a few words."""
    unit = f" {claim.unit}" if claim.unit else ""
    match claim:
        case IdentityClaim():
            return "equal" if claim.tolerance == 0 else f"≤ {claim.tolerance:g}{unit}"
        case ValueClaim():
            half = claim.paper_precision + claim.tolerance
            return f"{claim.paper_value:.10g}" + (f" ± {half:g}" if half else "") + unit
        case DirectionClaim():
            said = f"{text(claim.ours)} {claim.direction}"
        case OrderingClaim():
            said = " < ".join(text(level) for level in claim.order)
        case SlopeClaim(claimed="zero"):
            said = f"slope 0 ± {claim.margin:g}"
        case SlopeClaim(bound=None):
            said = f"slope {claim.claimed}"
        case _:
            low, high = limits(claim)
            said = f"≤ {high:g}" if math.isinf(low) else f"≥ {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
            said = f"slope {said}" if isinstance(claim, SlopeClaim) else said + unit
    return said if claim.paper_value is None else f"{said} ({claim.paper_value:.10g}{unit})"


def ours(verdict: Verdict, claim: Claim) -> str:
    """What was measured, rounded, with its unit."""
    if verdict.verdict == "not attempted":
        return _NONE
    if isinstance(claim, IdentityClaim) and verdict.estimate is not None and 0 < claim.tolerance >= verdict.estimate:
        # how far below the tolerance rounding errors stay depends on the machine
        return VOLATILE if claim.volatile else f"≤ {claim.tolerance:g}" + (f" {claim.unit}" if claim.unit else "")
    return _measured(verdict.estimate, verdict.low, verdict.high, claim)


def _measured(estimate: float | None, low: float | None, high: float | None, claim: Claim | None) -> str:
    if claim is not None and claim.volatile:
        return VOLATILE
    shown = rounded(estimate, low, high, resolution=0.0 if claim is None else _resolution(claim))
    return f"{shown} {claim.unit}" if claim is not None and claim.unit and estimate is not None else shown


def _resolution(claim: Claim) -> float:
    match claim:
        case ValueClaim():
            return claim.paper_precision + claim.tolerance
        case DirectionClaim() | SlopeClaim():
            return claim.margin
        case IdentityClaim() | OrderingClaim():
            return 0.0
        case _:
            low, high = limits(claim)
            return (high - low) / 2 if math.isfinite(high - low) else 0.0


def _exponent(value: float) -> int:
    """Decimal exponent after rounding to two significant digits."""
    return int(f"{value:.1e}".partition("e")[2])


def _number(value: float, places: int, exponent: int) -> str:
    """A number rounded to a decimal place; scientific where its companions' exponent asks for it."""
    value = round(value, places)
    if value == 0:
        value = 0.0  # not -0.0
    if -5 < exponent < 7:
        return f"{value:.{max(places, 0)}f}"
    return f"{value:.{max(places + (_exponent(value) if value else exponent), 0)}e}"


def _source(claim: Claim) -> str:
    kind, where = claim.source.kind, claim.source.where
    between = " " if kind in ("section", "table", "figure") else ": "
    said = where if where.startswith(kind) else kind + (between + where if where else "")
    return said if claim.source.verified else f"{said} (not verified)"


def shortened(statement: str) -> str:
    """A statement cut at a word to what a table has room for."""
    return textwrap.shorten(statement, 110, placeholder=" …")


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")

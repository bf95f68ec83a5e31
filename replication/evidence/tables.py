"""Tables and sentences about claims, tests and their outcomes: rounded text, and the raw numbers in the metadata.

An executed notebook's text is compared exactly on other machines, so nothing here prints a digit that the measurement's
own uncertainty does not support. Sentences are computed from numbers; the words come from the claims file.
"""

from __future__ import annotations

import html
import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from replication.evidence.claims import (
    Claim,
    DirectionTest,
    IdentityTest,
    IntervalTest,
    PaperClaims,
    SlopeTest,
    Test,
    ValueTest,
)
from replication.evidence.verdicts import (
    VERDICTS,
    Comparison,
    Outcome,
    Verdict,
    Word,
    least_favourable,
    limits,
    objections,
    summary_sentence,
)

#: A sign for each verdict, so that none is told by colour alone.
SIGNS: dict[Word, str] = dict(zip(VERDICTS, "✓≈✗?–", strict=True))
_NONE = "–"
_WIDTH = 44
# claims that the table at the top of a page has room for
_TOP = 6


@dataclass(frozen=True)
class Table:
    """A table that shows itself in a notebook, on the web and in a terminal.

    Parameters
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

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
        return {"text/plain": str(self), "text/html": self.to_html()}, {"replication": self.raw}

    def __str__(self) -> str:
        wrapped = [[textwrap.wrap(cell, _WIDTH) or [""] for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(line) for row in wrapped for line in row[i]) for i in range(len(self.columns))]
        wrapped.insert(1, [["-" * width] for width in widths])
        lines = (line for row in wrapped for line in itertools.zip_longest(*row, fillvalue=""))
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

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

        def cell(name: str, text: str) -> str:
            text = text.replace("|", "\\|").replace("\n", " ")
            return f"**{text}**" if name == self.strong and text else text

        rows = [line(map(cell, self.columns, row)) for row in self.rows]
        return "\n".join([line(self.columns), line("---" for _ in self.columns), *rows])


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


def outcomes_table(outcomes: Iterable[Outcome], claims: PaperClaims, scale: str, *roles: str) -> Table:
    """The tests of some roles at a scale: the question, what the rule expects, what was measured, the answer."""
    listed = [outcome for outcome in outcomes if not roles or outcome.role in roles]
    rows = []
    for outcome in listed:
        test, said = claims.test(outcome.test_id, scale), str(outcome.answer)
        if outcome.role == "check":
            said = {"yes": "holds", "no": "fails"}.get(said, said)
        name, number = f"{outcome.claim} {outcome.test_id}".strip(), measured(outcome, test, claims)
        rows.append((name, test.asks, expects(test, claims), number, str(outcome.n or _NONE), said, outcome.reason))
    columns = ("test", "question", "yes if", "ours [95 % interval]", "n", "answer", "reason")
    return Table(columns, tuple(rows), {"tests": [outcome.to_dict() for outcome in listed]}, strong="answer")


def rules_table(tests: Iterable[Test], claims: PaperClaims) -> Table:
    """What is asked, and the rule that answers it."""
    rows = tuple((f"{test.claim} {test.id}".strip(), test.role, test.asks, decision(test, claims)) for test in tests)
    return Table(("test", "role", "question", "rule"), rows)


def top_table(
    verdicts: Iterable[Verdict], outcomes: Sequence[Outcome], claims: PaperClaims, scale: str, most: int = _TOP
) -> Table:
    """At most six claims: what the paper says, ours, the verdict, what the controls say.

    Of more claims those that are not attempted, then those that are inconclusive, are counted in a line below.
    """
    listed = list(verdicts)
    kept = sorted(listed, key=lambda verdict: max(VERDICTS.index(verdict.verdict), 2))[:most]
    rows = []
    for verdict in (one for one in listed if one in kept):
        claim = claims.claim(verdict.claim_id)
        shown = next((outcome for outcome in outcomes if outcome.test_id == verdict.shown), None)
        number = _NONE
        if shown is not None:
            test = claims.test(shown.test_id, scale)
            number = measured(shown, test, claims) + _cell(" ({})", shown, test, claims)
        controls = [
            f"{claims.test(outcome.test_id, scale).asks} {outcome.answer.capitalize()}."
            for outcome in outcomes
            if outcome.claim == claim.id and outcome.role == "control" and outcome.answer in ("yes", "no")
        ]
        said = f"{SIGNS[verdict.verdict]} {verdict.verdict}"
        rows.append((claim.id, claim.says, number, said, " ".join(controls[:2]) or _NONE))
    if more := Counter(one.verdict for one in listed if one not in kept):
        rows.append(("", f"and {', '.join(f'{count} more, {word}' for word, count in more.items())}", "", "", ""))
    raw = {"verdicts": [verdict.to_dict() for verdict in listed]}
    return Table(
        ("claim", "the paper says", "ours [95 % interval]", "verdict", "controls"), tuple(rows), raw, strong="verdict"
    )


def answer_text(verdicts: Sequence[Verdict], outcomes: Sequence[Outcome], claims: PaperClaims, scale: str) -> str:
    """Two or three sentences in Markdown: the finding on the headline or the first claim, counts, gates and checks."""
    run = [one for one in verdicts if one.verdict != "not attempted"]
    lead = next((one for one in run if claims.claim(one.claim_id).headline), run[0] if run else None)
    parts = [] if lead is None else [finding(claims.claim(lead.claim_id), lead, outcomes, claims, scale)]
    counts = summary_sentence(verdict.verdict for verdict in verdicts).rstrip(".")
    parts.append(f"Claims of the paper on this page, at the {scale} scale: {counts}; {apart(outcomes)}.")
    return " ".join(parts)


def apart(outcomes: Iterable[Outcome]) -> str:
    """Gates and checks, counted in a phrase.

    Examples
    --------
    >>> apart([Outcome("G", "gate", "", "no"), Outcome("A", "check", "", "yes"), Outcome("B", "check", "", "yes")])
    '0 of 1 gates came out (not G); 2 of 2 checks hold'
    """
    run = [outcome for outcome in outcomes if outcome.answer != "not run"]
    parts = []
    for role, verb in (("gate", "gates came out"), ("check", "checks hold")):
        of = [outcome for outcome in run if outcome.role == role]
        failed = [outcome.test_id for outcome in of if outcome.answer != "yes"]
        if of:
            parts.append(
                f"{len(of) - len(failed)} of {len(of)} {verb}" + (f" (not {', '.join(failed)})" if failed else "")
            )
    return "; ".join(parts) or "no gates, no checks"


def finding(
    claim: Claim,
    verdict: Verdict,
    outcomes: Iterable[Outcome],
    claims: PaperClaims,
    scale: str,
    *,
    brief: bool = False,
) -> str:
    """What was found on one claim, in sentences of Markdown: verdict, number, what could have been seen.

    In brief, of the controls that change how it reads the first is named and the others are counted.
    """
    of = {outcome.test_id: outcome for outcome in outcomes}
    said = f"{claim.says} **{verdict.verdict.capitalize()}** at the {scale} scale"
    shown = of.get(verdict.shown)
    if shown is None:
        return f"{said}: {verdict.reason}." if verdict.reason else f"{said}."
    test = claims.test(shown.test_id, scale)
    number, bound = measured(shown, test, claims), expects(test, claims)
    where = _cell("; {}", shown, test, claims)
    parts = [f"{said}: {subject(test, claims)} is {number} (n = {shown.n}, yes if {bound}{where})."]
    if shown.answer == "blind":
        parts += ["The assay is blind:", *(_told(of[gate], claims, scale) for gate in shown.blind)]
    elif shown.visible:
        parts.append(
            f"An effect of {shown.visible:.2g}{_space(claims.unit(test))} beyond that bound would have been seen."
        )
    against = list(objections(claim.id, verdict.verdict, of.values()))
    if brief and against:
        parts.append(f"But: {claims.test(against[0].test_id, scale).asks} No.")
        if more := len(against) - 1:
            parts.append(f"{more} more control{'s say' if more > 1 else ' says'} no.")
    else:
        parts += [f"But: {_told(one, claims, scale)}" for one in against]
    return " ".join(parts)


def _told(outcome: Outcome, claims: PaperClaims, scale: str) -> str:
    test = claims.test(outcome.test_id, scale)
    said = {"no": "No", "open": "Open"}.get(outcome.answer, outcome.answer.capitalize())
    # the mean over cells says little where the question is asked of each
    instead = test.every or outcome.answer == "not run"
    number = outcome.reason if instead else f"{measured(outcome, test, claims)} (yes if {expects(test, claims)})"
    return f"{test.asks} {said}: {number}."


def comparisons_table(outcome: Outcome, claims: PaperClaims, scale: str) -> Table:
    """Every cell, and every baseline, behind an answer: what each says by its own, narrower interval."""
    test = claims.test(outcome.test_id, scale)
    levels = any(one["baseline"] is not None for one in outcome.comparisons)
    factors = list(dict.fromkeys(column for one in outcome.comparisons for column in one["cell"]))
    head = (*factors, *(["against"] if levels else []), "ours [simultaneous 95 % interval]", "n", "answer alone")
    rows = []
    for one in outcome.comparisons:
        cells = [claims.named(one["cell"][column]) for column in factors]
        against = [_NONE if one["baseline"] is None else claims.named(one["baseline"])] if levels else []
        number = _number_of(test, claims, one["estimate"], one["low"], one["high"])
        rows.append((*cells, *against, number, str(one["n"]), one["note"] or one["state"]))
    raw = {"test_id": outcome.test_id, "comparisons": [dict(one) for one in outcome.comparisons]}
    return Table(head, tuple(rows), raw, strong="answer alone")


# --- words for one test ----------------------------------------------------------------------------------------------


def subject(test: Test, claims: PaperClaims) -> str:
    """The judged number in words."""
    label = claims.quantities[test.quantity].label
    match test:
        case DirectionTest():
            of = [claims.named(level) for level in test.baselines]
            others = of[0] if len(of) == 1 else f"{'each' if test.every else 'the mean'} of {_joined(of)}"
            return f"{label}, {claims.named(test.ours)} minus {others},"
        case SlopeTest(method="spearman"):
            return f"the rank correlation of {label} with {test.x}"
        case SlopeTest():
            return f"the {'exponent' if test.method == 'loglog' else 'slope'} of {label} in {test.x}"
        case IdentityTest():
            return f"the largest {label}"
        case _:
            return label


def expects(test: Test, claims: PaperClaims) -> str:
    """The values to which the answer is yes, in a few words."""
    unit, (low, high) = _space(claims.unit(test)), limits(test)
    match test:
        case IdentityTest():
            return "0" if test.tolerance == 0 else f"≤ {test.tolerance:g}{unit}"
        case ValueTest():
            return f"{test.paper_value:.10g}" + (f" ± {test.half:g}" if test.half else "") + unit
        case _ if math.isinf(low):
            said = f"≤ {high:g}" if abs(high) > 1e-300 or high == 0 else "< 0"
        case _ if math.isinf(high):
            said = f"≥ {low:g}" if abs(low) > 1e-300 or low == 0 else "> 0"
        case _:
            said = f"{low:g} to {high:g}"
    return said + unit + (" in every cell" if test.every else "")


def decision(test: Test, claims: PaperClaims) -> str:
    """The decision rule, generated from the test's fields."""
    unit, yes = _space(claims.unit(test)), expects(test, claims)
    if isinstance(test, IdentityTest):
        return f"Yes if every row of {claims.quantities[test.quantity].label} is {yes}; no otherwise."
    of, over = subject(test, claims).rstrip(","), ""
    if test.by:
        over = f", in each cell of {' × '.join(test.by)}" if test.every else f", averaged over {' × '.join(test.by)}"
    if isinstance(test, DirectionTest) and test.every:
        others = _joined([claims.named(level) for level in test.baselines])
        of = f"{claims.quantities[test.quantity].label}, {claims.named(test.ours)} minus each of {others}"
    yes = yes.removesuffix(" in every cell")
    if test.exact:
        return f"{of[:1].upper()}{of[1:]}{over}, without sampling error: yes if {yes}; no otherwise."
    tie = ""
    if isinstance(test, DirectionTest) and test.margin:
        of_ties = f" against {_joined([claims.named(b) for b in test.decisive])}" if test.decisive else ""
        tie = f", or the 90 % interval{of_ties} lies within ±{test.margin:g}{unit} (a tie)"
    if test.every:
        rule = f"yes if each one-sided 5 % test finds {yes}; no if, after Holm, one contradicts it{tie}"
    else:
        which = "95 % of the draws lie" if getattr(test, "rows", "") == "draws" else "the 95 % interval lies"
        rule = f"yes if {which} where the number is {yes}; no if outside{tie}"
    gates = f" Asked only if {_joined(test.gates)} came out." if test.gates else ""
    fewest = f"; open with fewer than {test.min_seeds} replicates" if test.min_seeds > 1 else ""
    return f"{of[:1].upper()}{of[1:]}{over}: {rule}{fewest}.{gates}"


def measured(outcome: Outcome, test: Test, claims: PaperClaims) -> str:
    """What was measured, rounded, with its unit; where every cell is asked, the least favourable one's number."""
    if outcome.answer == "not run" or outcome.estimate is None:
        return _NONE
    if worst := _worst(outcome, test):
        number = _number_of(test, claims, worst["estimate"], worst["low"], worst["high"])
        low, high = limits(test)
        inside = all(end is not None and low <= end <= high for end in (worst["low"], worst["high"]))
        # the interval shown is simultaneous, while a yes needs each cell's own test only
        return number if inside or outcome.answer != "yes" else f"{number}; alone, at one-sided 5 %, it holds"
    if isinstance(test, IdentityTest) and 0 < test.tolerance >= outcome.estimate:
        # how far below the tolerance rounding errors stay depends on the machine
        return f"≤ {test.tolerance:g}{_space(claims.unit(test))}"
    return _number_of(test, claims, outcome.estimate, outcome.low, outcome.high)


def _worst(outcome: Outcome, test: Test) -> Comparison | None:
    """The least favourable cell, where every cell is asked."""
    if not test.every or not outcome.comparisons or outcome.estimate is None:
        return None
    return outcome.comparisons[least_favourable(test, outcome.comparisons, outcome.answer)]


def _cell(form: str, outcome: Outcome, test: Test, claims: PaperClaims) -> str:
    """The least favourable cell's name in a form, where every cell is asked."""
    if (worst := _worst(outcome, test)) is None:
        return ""
    names = [claims.named(level) for level in worst["cell"].values()]
    against = [] if worst["baseline"] is None else [f"against {claims.named(worst['baseline'])}"]
    return form.format(f"least favourable: {', '.join([*names, *against])}")


def shortened(statement: str, width: int = 110) -> str:
    """A statement cut at a word to what a table has room for."""
    return textwrap.shorten(statement, width, placeholder=" …")


def _joined(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _space(unit: str) -> str:
    return f" {unit}" if unit else ""


def _number_of(test: Test, claims: PaperClaims, estimate: float | None, low: float | None, high: float | None) -> str:
    """A test's number with its interval, rounded to what these and its rule support, and its unit."""
    shown = rounded(estimate, low, high, resolution=_resolution(test))
    return shown if shown == _NONE else shown + _space(claims.unit(test))


def _resolution(test: Test) -> float:
    match test:
        case ValueTest():
            return test.half
        case DirectionTest():
            return test.margin
        case IntervalTest(lower=float(low), upper=float(high)):
            return (high - low) / 2
        case _:
            return 0.0


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

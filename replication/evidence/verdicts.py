"""Answers to tests and verdicts on claims, computed from records by the rules that the claims file states."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypedDict, get_args

import pandas as pd

from replication.checks import one_of
from replication.evidence.claims import (
    PROFILES,
    BaseTest,
    Claim,
    ClaimError,
    DirectionTest,
    IdentityTest,
    IntervalTest,
    Level,
    PaperClaims,
    Role,
    SlopeTest,
    Test,
    ValueTest,
    load_claims,
)
from replication.evidence.records import load_records
from replication.evidence.samples import Sample, absent, pool, samples
from replication.evidence.statistics import ALPHA, Estimate, holm

Word = Literal["reproduced", "partly reproduced", "not reproduced", "inconclusive", "not attempted"]
#: The verdicts on a claim, best first: the order in which they are counted.
VERDICTS: tuple[Word, ...] = get_args(Word)

Answer = Literal["yes", "no", "open", "blind", "not run"]
#: The answers to a test's question. ``open``: the run cannot tell; ``blind``: a gate did not come out.
ANSWERS: tuple[Answer, ...] = get_args(Answer)

State = Literal["yes", "no", "tie", "open"]


class Comparison(TypedDict):
    """What one cell, or one baseline in one cell, shows; a number that cannot be had is None.

    Keys
    ----
    cell, baseline
        The levels of the test's `by` columns, and the level compared with where each is a comparison of its own.
    estimate, low, high
        The cell's number with its simultaneous 95 % interval (Bonferroni over the cells).
    n, left_out
        Replicates, and those that not all arms have.
    state
        What the cell says by itself.
    note
        Why there is no number, else empty.
    """

    cell: dict[str, Level]
    baseline: Level | None
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    left_out: int
    state: State
    note: str


@dataclass(frozen=True)
class Outcome:
    """What the records say to one test.

    Parameters
    ----------
    test_id, role, claim
        Whose.
    answer
        To the test's question.
    estimate, low, high
        The judged number with its 95 % interval: the mean over the cells; of an identity the largest difference. None
        where nothing finite was measured.
    n
        Replicates; the fewest over the cells.
    visible
        Where the answer is open: the smallest distance from the rule's bound that the run would have seen (80 % power);
        where every cell is asked, that of the cell which sees least.
    reason
        A short phrase without measured numbers.
    blind
        Ids of the gates that did not come out.
    comparisons
        One for each cell and baseline, where there are several.
    """

    test_id: str
    role: Role
    claim: str
    answer: Answer
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    visible: float | None = None
    reason: str = ""
    blind: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        plain = asdict(self)
        return {**plain, "blind": list(self.blind), "comparisons": list(plain["comparisons"])}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Outcome:
        """The outcome whose `to_dict` was stored."""
        known = {field.name: stored[field.name] for field in fields(cls)}
        return cls(**{**known, "blind": tuple(known["blind"]), "comparisons": tuple(known["comparisons"])})


@dataclass(frozen=True)
class Verdict:
    """Where a claim stands at one scale.

    Parameters
    ----------
    claim_id, verdict
        The claim and the word.
    shown
        Id of the primary test whose number stands for it: the first that was run, or the first that says no; empty
        where none was asked.
    reason
        A short phrase without measured numbers.
    """

    claim_id: str
    verdict: Word
    shown: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def evaluate(records: pd.DataFrame, claims: PaperClaims, notebook: str, scale: str) -> list[Outcome]:
    """Answer the tests that a notebook's run at one profile is asked.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the run (see `tidy`).
    claims : PaperClaims
        Whose tests.
    notebook, scale : str
        The notebook, and the profile of the run.

    Returns
    -------
    list of Outcome
        One per test, in the file's order; gates first.

    Raises
    ------
    ValueError
        The records do not have the form that a test asks for: a column is missing, a replicate stands twice in a
        cell, a level is missing where it tells cells apart. The message names the test and the columns.
    """
    one_of("profile", scale, PROFILES, ClaimError)
    found: dict[str, Outcome] = {}
    for test in claims.at(notebook, scale):
        numbers = samples(records, test)
        outcome = answer(test, numbers)
        if not numbers:
            outcome = replace(outcome, reason=absent(records, test))
        closed = tuple(gate for gate in test.gates if found[gate].answer != "yes")
        if closed and outcome.answer != "not run":
            states = " and ".join(f"gate {gate}: {found[gate].answer}" for gate in closed)
            outcome = replace(
                outcome, answer="blind", blind=closed, visible=None, reason=f"the assay is blind; {states}"
            )
        found[test.id] = outcome
    return list(found.values())


def reevaluate(results: Mapping[str, Any], claims: PaperClaims | None = None) -> list[Outcome]:
    """Answer a finished run's tests again, from its stored records with today's claims and today's rules.

    Parameters
    ----------
    results : mapping
        The content of a ``results.json``.
    claims : PaperClaims, optional
        Default: those of the results' paper.
    """
    loaded = claims or load_claims(str(results["paper"]))
    return evaluate(load_records(results["records"]), loaded, results["notebook"], results["profile"])


def decide(claim: Claim, outcomes: Iterable[Outcome], scale: str, notebook: str | None = None) -> Verdict:
    """The verdict on a claim at a scale, from its primary tests there.

    All say yes: reproduced. One says no: not reproduced. Some say yes: partly reproduced. Else inconclusive; not
    attempted where none was run.

    Parameters
    ----------
    claim, scale
        What is decided.
    outcomes : iterable of Outcome
        Answers at that scale; those of other claims are left aside.
    notebook : str, optional
        Only this notebook's tests; default: all.
    """
    asked = [test.id for test in claim.primary(scale, notebook)]
    of = {outcome.test_id: outcome for outcome in outcomes if outcome.test_id in asked}
    run = [outcome for outcome in of.values() if outcome.answer != "not run"]
    if not run:
        elsewhere = " and ".join(known for known in PROFILES if known != scale and claim.primary(known, notebook))
        unasked = f"asked at {elsewhere}" if elsewhere else ""
        missing = next((outcome.reason for outcome in of.values()), "no data")
        return Verdict(claim.id, "not attempted", "", missing if asked else unasked)
    answers = Counter(outcome.answer for outcome in run)
    shown = next(test_id for test_id in asked if test_id in {outcome.test_id for outcome in run})
    word: Word
    if answers["no"]:
        word, deciding = "not reproduced", next(one for one in run if one.answer == "no")
        shown = deciding.test_id
    elif answers["yes"] == len(asked):
        word, deciding = "reproduced", of[shown]
    elif answers["yes"]:
        word, deciding = "partly reproduced", next((one for one in run if one.answer != "yes"), of[shown])
    else:
        word, deciding = "inconclusive", of[shown]
    told = [f"{count} {said}" for said in ANSWERS if (count := answers[said])]
    if len(asked) > len(run):
        told.append(f"{len(asked) - len(run)} not run")
    counts = f"primary tests: {', '.join(told)}; {deciding.test_id}: " if len(asked) > 1 else ""
    return Verdict(claim.id, word, shown, counts + deciding.reason)


def verdicts(claims: PaperClaims, outcomes: Sequence[Outcome], notebook: str, scale: str) -> list[Verdict]:
    """The verdicts that one notebook's run gives, on the claims for which it has primary tests."""
    return [decide(claim, outcomes, scale, notebook) for claim in claims.of(notebook)]


def objections(claim_id: str, word: Word, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The controls that change how a positive verdict on a claim reads: those that say no."""
    if word not in ("reproduced", "partly reproduced"):
        return []
    return [one for one in outcomes if (one.claim, one.role, one.answer) == (claim_id, "control", "no")]


def summary_sentence(words: Iterable[str]) -> str:
    """Count verdicts in one sentence.

    Examples
    --------
    >>> summary_sentence(["inconclusive", "reproduced", "inconclusive"])
    '1 reproduced, 2 inconclusive.'
    """
    counts = Counter(words)
    return ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word]) + "." if counts else "no claims."


# --- one test --------------------------------------------------------------------------------------------------------


def limits(test: Test) -> tuple[float, float]:
    """Lowest and highest value to which the answer is yes; an open end is infinite."""
    match test:
        case IdentityTest():
            return 0.0, test.tolerance
        case ValueTest():
            return test.paper_value - test.half, test.paper_value + test.half
        case IntervalTest():
            low, high = test.lower, test.upper
        case SlopeTest(claimed="at_least"):
            low, high = test.bound, None
        case SlopeTest(claimed="at_most"):
            low, high = None, test.bound
        case DirectionTest(direction="higher") | SlopeTest(claimed="positive"):
            # a sign is strict: zero is on neither side
            low, high = math.nextafter(0, 1), None
        case _:
            low, high = None, math.nextafter(0, -1)
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def least_favourable(test: Test, of: Sequence[Comparison], said: Answer) -> int:
    """The cell that speaks least for the test: its place; its interval reaches farthest beyond the limits.

    Where the answer is no, one of the cells that say so.
    """
    low, high = limits(test)
    places = [
        place
        for place, cell in enumerate(of)
        if said != "no" or cell["state"] == "no" or (cell["state"] == "tie" and _decisive(test, cell["baseline"]))
    ]

    def beyond(place: int) -> float:
        first, last = of[place]["low"], of[place]["high"]
        return -math.inf if first is None or last is None else max(low - first, last - high)

    return max(places or range(len(of)), key=beyond)


def answer(test: Test, found: Sequence[Sample]) -> Outcome:
    """Answer a test from the numbers of its cells (see `samples`)."""
    blank = Outcome(test.id, test.role, test.claim, "not run", reason="no data")
    if not found:
        return blank
    n = min(len(sample.numbers) for sample in found)
    if isinstance(test, IdentityTest):
        return _identity(test, blank, list(found[0].numbers.values()))
    noted = [sample for sample in found if sample.note]
    if noted:
        return replace(blank, answer="open", n=n, reason=noted[0].note, comparisons=_comparisons(test, found))
    pooled, of = pool(found), [sample.estimate() for sample in found]
    interval = pooled.interval()
    each = _comparisons(test, found) if len(found) > 1 else ()
    made = replace(blank, estimate=interval.estimate, low=interval.low, high=interval.high, n=n, comparisons=each)
    if not test.exact and n < test.min_seeds:
        return replace(made, answer="open", reason=f"n = {n}, but the rule asks for {test.min_seeds}")
    if not test.exact and n == 1:
        return replace(made, answer="open", reason="measured once, so without an interval")
    decisive = [_decisive(test, sample.baseline) for sample in found]
    said, reason = every(test, of, decisive) if test.every else one(test, pooled)
    if test.every and len(found) > 1:
        reason += f"; least favourable: {found[least_favourable(test, made.comparisons, said)].name}"
    seen = max(cell.visible() for cell in (of if test.every else [pooled]))
    return replace(made, answer=said, reason=reason, visible=seen if said == "open" else None)


def one(test: Test, estimate: Estimate) -> tuple[Answer, str]:
    """Judge one number by its 95 % interval: yes if it lies inside the limits, no if it lies outside.

    A direction with a margin answers no before all else if the 90 % interval lies within it (two one-sided tests).
    """
    shown = "number" if test.exact else "interval"
    if _tie(test, estimate) <= ALPHA:
        return "no", "a tie: no difference that matters"
    if _inside(test, estimate) <= ALPHA / 2:
        return "yes", f"the {shown} agrees"
    if _outside(test, estimate) <= ALPHA / 2:
        return "no", f"the {shown} contradicts it"
    return "open", f"the {shown} decides nothing"


def every(test: Test, of: Sequence[Estimate], decisive: Sequence[bool]) -> tuple[Answer, str]:
    """Judge all cells (intersection-union test).

    No if, after Holm over the family, some cell lies outside the limits, or is a tie against a decisive baseline. Else
    yes if each cell's own one-sided 5 % test holds, which needs no correction.
    """
    m = len(of)
    sides = sum(map(math.isfinite, limits(test)))
    outside = [min(1.0, sides * _outside(test, cell)) for cell in of]
    may_tie = isinstance(test, DirectionTest) and test.margin > 0
    ties = [_tie(test, cell) for cell, counts in zip(of, decisive, strict=True) if counts and may_tie]
    adjusted = holm([*outside, *ties])
    against = sum(p <= ALPHA for p in adjusted[:m])
    tied = sum(p <= ALPHA for p in adjusted[m:])
    if against or tied:
        told = ((against, "contradict it"), (tied, "are ties"))
        return "no", " and ".join(f"{count} of {m} cells {what}" for count, what in told if count)
    hold = sum(_inside(test, cell) <= ALPHA for cell in of)
    if hold == m:
        return "yes", f"all {m} cells hold"
    return "open", f"{hold} of {m} cells hold, the others decide nothing"


def _inside(test: Test, estimate: Estimate) -> float:
    """One-sided p value of the hypothesis that the number lies on or beyond a limit: small speaks for yes."""
    low, high = limits(test)
    return max(estimate.p_above(low), estimate.p_below(high))


def _outside(test: Test, estimate: Estimate) -> float:
    """The smaller of two one-sided p values of the hypothesis that the number lies inside: small speaks for no.

    A number without error that equals a limit is inside.
    """
    low, high = limits(test)
    return min(estimate.p_below(math.nextafter(low, -math.inf)), estimate.p_above(math.nextafter(high, math.inf)))


def _tie(test: Test, estimate: Estimate) -> float:
    """p value of the two one-sided tests for a difference within the margin; 1 where no tie is defined."""
    if not isinstance(test, DirectionTest) or not test.margin:
        return 1.0
    return max(estimate.p_above(-test.margin), estimate.p_below(test.margin))


def _decisive(test: Test, baseline: Level | None) -> bool:
    return not isinstance(test, DirectionTest) or test.decisive is None or baseline in test.decisive


def _identity(test: BaseTest, blank: Outcome, values: Sequence[float]) -> Outcome:
    n, bad = len(values), sum(not math.isfinite(value) for value in values)
    if bad:
        return replace(blank, answer="no", n=n, reason=f"{bad} of {n} differences are not finite")
    largest = max(values)
    held = largest <= test.tolerance
    if held and n < test.min_seeds:
        return replace(blank, answer="open", n=n, reason=f"{n} rows, the rule asks for {test.min_seeds}")
    reason = f"the largest difference is {'within' if held else 'above'} the tolerance"
    said: Answer = "yes" if held else "no"
    return replace(blank, answer=said, estimate=largest, low=largest, high=largest, n=n, reason=reason)


def _comparisons(test: Test, found: Sequence[Sample]) -> tuple[Comparison, ...]:
    made: list[Comparison] = []
    for sample in found:
        entry: Comparison = {
            "cell": sample.cell,
            "baseline": sample.baseline,
            "estimate": None,
            "low": None,
            "high": None,
            "n": len(sample.numbers),
            "left_out": sample.left_out,
            "state": "open",
            "note": sample.note,
        }
        if not sample.note:
            estimate = sample.estimate()
            interval = estimate.interval(1 - ALPHA / len(found))
            entry |= {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
            if _tie(test, estimate) <= ALPHA:
                entry["state"] = "tie"
            elif _inside(test, estimate) <= ALPHA:
                entry["state"] = "yes"
            elif _outside(test, estimate) <= ALPHA:
                entry["state"] = "no"
        made.append(entry)
    return tuple(made)

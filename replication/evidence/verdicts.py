"""Verdicts, computed from records by the rule that each claim states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from replication.evidence.claims import (
    PROFILES,
    Claim,
    DirectionClaim,
    IdentityClaim,
    IntervalClaim,
    OrderingClaim,
    PaperClaims,
    SlopeClaim,
    ValueClaim,
    load_claims,
    one_of,
)
from replication.evidence.comparisons import (
    CellClaim,
    Comparison,
    PairClaim,
    arms,
    compare_cells,
    compare_pairs,
    describe,
    discord,
    favour,
    pairs,
    select,
)
from replication.evidence.records import load_records

Word = Literal["reproduced", "partly reproduced", "not reproduced", "inconclusive", "not attempted"]
#: The verdicts, best first: the order in which they are counted.
VERDICTS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim.

    Attributes
    ----------
    claim_id, verdict
        The claim and the word.
    estimate, low, high
        The measured value with its 95 % interval; for several comparisons, those of the one that decides. None where
        nothing finite was measured.
    n
        Replicates; the fewest over the comparisons.
    reason
        A short phrase without measured numbers.
    comparisons
        Every comparison made.
    """

    claim_id: str
    verdict: Word
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    reason: str
    comparisons: tuple[Comparison, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {**asdict(self), "comparisons": [dict(comparison) for comparison in self.comparisons]}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Verdict:
        """The verdict whose `to_dict` was stored."""
        known = {field.name: stored[field.name] for field in fields(cls)}
        return cls(**{**known, "comparisons": tuple(known["comparisons"])})


def evaluate(records: pd.DataFrame, claims: Iterable[Claim] | PaperClaims, profile: str) -> list[Verdict]:
    """Decide claims.

    Parameters
    ----------
    records : DataFrame
        Tidy records (see `tidy`).
    claims : iterable of Claim, or PaperClaims
        What to decide.
    profile : {"smoke", "standard", "paper"}
        Profile of the run that measured the records.

    Returns
    -------
    list of Verdict
        One per claim, in their order.

    Raises
    ------
    ValueError
        The records do not have the form that a claim asks for: a column is missing, a replicate stands twice in a
        cell, a level is missing where it tells cells apart. The message names the claim and the columns.
    """
    one_of("profile", profile, PROFILES)
    listed = claims.claims if isinstance(claims, PaperClaims) else claims
    return [_decide(records, claim, profile) for claim in listed]


def reevaluate(results: Mapping[str, Any], claims: PaperClaims | None = None) -> list[Verdict]:
    """Decide a finished run's claims again, from its stored records with today's claims and today's rules.

    Parameters
    ----------
    results : mapping
        The content of a ``results.json``.
    claims : PaperClaims, optional
        Default: those of the results' paper.
    """
    loaded = claims or load_claims(str(results["paper"]))
    return evaluate(load_records(results["records"]), loaded.of(results["notebook"]), results["profile"])


def summary_sentence(verdicts: Iterable[Verdict | Mapping[str, Any]]) -> str:
    """Count verdicts in one sentence.

    Examples
    --------
    >>> summary_sentence([{"verdict": "inconclusive"}, {"verdict": "reproduced"}, {"verdict": "inconclusive"}])
    '1 reproduced, 2 inconclusive.'
    """
    counts = Counter(one.verdict if isinstance(one, Verdict) else one["verdict"] for one in verdicts)
    return ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word]) + "." if counts else "no claims."


def _decide(records: pd.DataFrame, claim: Claim, profile: str) -> Verdict:
    if profile not in claim.profiles:
        at = " and ".join(claim.profiles)
        return _verdict(claim, "not attempted", f"decided at profile {at}" if at else "beyond every profile", 0)
    rows = select(records, claim)
    match claim:
        case _ if rows.empty:
            return _verdict(claim, "not attempted", "no data", 0)
        case IdentityClaim():
            return _decide_identity(claim, rows)
        case DirectionClaim() | OrderingClaim():
            return _decide_pairs(claim, rows)
        case ValueClaim() | SlopeClaim() | IntervalClaim():
            return _decide_cells(claim, rows)


def _verdict(
    claim: Claim,
    word: Word,
    reason: str,
    n: int,
    head: Comparison | None = None,
    comparisons: Iterable[Comparison] = (),
) -> Verdict:
    numbers = (None, None, None) if head is None else (head["estimate"], head["low"], head["high"])
    return Verdict(claim.id, word, *numbers, n, reason, tuple(comparisons))


def _too_few(claim: Claim, n: int) -> str:
    return f"n = {n}, but the claim asks for {claim.min_seeds}"


def _decide_identity(claim: IdentityClaim, rows: pd.DataFrame) -> Verdict:
    values = rows["value"].abs().to_numpy()
    n, bad = len(values), int((~np.isfinite(values)).sum())
    if bad:
        return _verdict(claim, "not reproduced", f"{bad} of {n} differences are not finite", n)
    largest = float(values.max())
    word: Word = "reproduced" if largest <= claim.tolerance else "not reproduced"
    reason = f"the largest difference is {'within' if word == 'reproduced' else 'above'} the tolerance"
    if n < claim.min_seeds:
        word, reason = "inconclusive", _too_few(claim, n)
    return Verdict(claim.id, word, largest, largest, largest, n, reason)


def _decide_cells(claim: CellClaim, rows: pd.DataFrame) -> Verdict:
    made = compare_cells(claim, rows)
    states = [one["state"] for one in made]
    n = min(one["n"] for one in made)
    word: Word
    if n < claim.min_seeds:
        word, deciding, reason = "inconclusive", [one for one in made if one["n"] == n], _too_few(claim, n)
    elif "fails" in states:
        word, deciding, reason = "not reproduced", [one for one in made if one["state"] == "fails"], "contradicts it"
    elif "unclear" in states:
        word, deciding, reason = "inconclusive", [one for one in made if one["state"] == "unclear"], "decides nothing"
    else:
        word, deciding, reason = "reproduced", made, "agrees with the claim"
    head = max(deciding, key=lambda one: discord(claim, one))
    if n >= claim.min_seeds:
        reason = head["note"] or f"the interval {reason}"
        if len(made) > 1:
            reason = f"{len(deciding)} of {len(made)} cells: {reason}"
    if word == "not reproduced" and isinstance(claim, ValueClaim) and _beyond_null(claim, head):
        word, reason = "partly reproduced", "the direction is the paper's, the size is not"
    if len(made) > 1:
        reason += f"; least favourable: {describe(head)}"
    return _verdict(claim, word, reason, n, head, made)


def _beyond_null(claim: ValueClaim, head: Comparison) -> bool:
    """Whether the interval excludes the null on the paper's side of it."""
    if claim.null is None or head["low"] is None or head["high"] is None:
        return False
    return head["low"] > claim.null if claim.paper_value > claim.null else head["high"] < claim.null


def _decide_pairs(claim: PairClaim, rows: pd.DataFrame) -> Verdict:
    found = arms(claim, rows)
    wanted = pairs(claim, found)
    if not wanted:
        return _verdict(claim, "not attempted", "no data", 0)
    premises: list[Comparison] = []
    if isinstance(claim, DirectionClaim) and claim.premise is not None:
        premise = claim.premise
        premises = compare_pairs(claim, found, [(cell, premise, baseline) for cell, _, baseline in wanted], "premise")
        n = min(one["n"] for one in premises)
        if n < claim.min_seeds:
            return _verdict(claim, "inconclusive", f"premise: {_too_few(claim, n)}", n, None, premises)
        wanted = [pair for pair, one in zip(wanted, premises, strict=True) if one["state"] == "better"]
        if not wanted:
            return _verdict(claim, "inconclusive", "no gap to explain", n, None, premises)
    made = compare_pairs(claim, found, wanted)

    # an ordering knows no margin, so its comparisons are never tied
    against = [one for one in made if one["decisive"] and one["state"] in ("worse", "tied")]
    unclear = [one for one in made if one["state"] == "unclear"]
    better = [one for one in made if one["state"] == "better"]
    n = min(one["n"] for one in made)
    word: Word
    if n < claim.min_seeds:
        word, deciding, reason = "inconclusive", [one for one in made if one["n"] == n], _too_few(claim, n)
    elif len(better) == len(made):
        word, deciding, reason = "reproduced", made, f"{len(made)} of {len(made)} comparisons better"
    elif against:
        word, deciding, reason = "not reproduced", against, f"{len(against)} of {len(made)} comparisons refute it"
    elif better and not unclear:
        word, deciding = "partly reproduced", [one for one in made if one["decisive"]]
        reason = f"{len(better)} of {len(made)} comparisons better, the others not decisive"
    else:
        word, deciding = "inconclusive", unclear or made
        reason = f"{len(unclear)} of {len(made)} comparisons unclear"
    rank = {"worse": 0, "tied": 1, "unclear": 2, "better": 3}
    head = min(deciding, key=lambda one: (rank[one["state"]], favour(claim, one)))
    reason += f"; least favourable: {describe(head)}, {head['state']}" if len(made) > 1 else ""
    reason += f" ({head['note']})" if head["note"] else ""
    return _verdict(claim, word, reason, n, head, [*premises, *made])

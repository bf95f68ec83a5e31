"""Whether what is published still holds: results, claims, README, scoreboard, notebooks and the store agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from replication.runs import notebook, profiles, publish
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.files import read_json
from replication.runs.profiles import Project, canonical, infer
from replication.runs.store import RunStore

# two machines' sums differ in the last digits, and no page shows more than four
_RELATIVE = 1e-4
_NUMBERS = ("estimate", "low", "high", "n")


@dataclass(frozen=True)
class Change:
    """One thing about a claim that two sets of verdicts say differently.

    Attributes
    ----------
    claim_id
        Whose.
    what
        ``claim`` (one side lacks it; the other's verdict is given), ``verdict``, or the number's name: ``estimate``,
        ``low``, ``high``, ``n``.
    before, after
        What the two sides say; None where a side says nothing.
    """

    claim_id: str
    what: str
    before: Any
    after: Any


def changes(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], paper: str) -> Iterator[Change]:
    """What differs between two sets of stored verdicts, claim by claim.

    Numbers differ if they do by more than the claim's tolerance and by more than rounding on another machine; those of
    a claim that is volatile by nature never do.

    Raises
    ------
    ValueError
        There is no such paper, or its claims are malformed.
    """
    from replication import evidence

    claims = {claim.id: claim for claim in evidence.load_claims(paper).claims}
    left, right = ({verdict["claim_id"]: verdict for verdict in verdicts} for verdicts in (before, after))
    for claim_id in sorted(left.keys() | right.keys()):
        a, b = left.get(claim_id), right.get(claim_id)
        if a is None or b is None:
            yield Change(claim_id, "claim", a and a["verdict"], b and b["verdict"])
            continue
        if a["verdict"] != b["verdict"]:
            yield Change(claim_id, "verdict", a["verdict"], b["verdict"])
        claim = claims.get(claim_id)
        if claim is not None and claim.volatile:
            continue
        for number in _NUMBERS:
            tolerance = 0.0 if claim is None or number == "n" else claim.tolerance
            if not _close(a[number], b[number], tolerance):
                yield Change(claim_id, number, a[number], b[number])


def disagreements(project: Project) -> Iterator[str]:
    """Each thing that disagrees, as a sentence; nothing is executed and nothing is written."""
    stored = RunStore(project)
    results_of: dict[tuple[str, str], Mapping[str, Any]] = {}
    for path, results in publish.committed(project):
        name = path.relative_to(project.root).as_posix()
        results_of[results["notebook"], results["profile"]] = results
        if (results["profile"], results["notebook"]) != (path.parent.name, path.stem):
            yield f"{name} holds results of {results['notebook']} at profile {results['profile']}."
        yield from _today(project, name, results)
    yield from _readme(project)
    for stem in project.notebooks():
        yield from _page(project, stem, results_of)
    for run in stored.runs():
        found, reference = stored.results(run), results_of.get((run.notebook, run.profile))
        if found is None or reference is None or found["parameters"] != reference["parameters"]:
            continue
        yield from _compare(f"run {run.name}", found["verdicts"], "committed", reference["verdicts"], found["paper"])


def _today(project: Project, name: str, results: Mapping[str, Any]) -> Iterator[str]:
    """Are results of a notebook and a profile that are there, and do the verdicts follow by today's claims?"""
    from replication import evidence

    stem, profile = results["notebook"], results["profile"]
    if stem not in project.notebooks():
        yield f"{name}: there is no notebook {stem!r}; remove the file."
        return
    try:
        asked = profiles.resolve(project, stem, profile, {})
        today = [verdict.to_dict() for verdict in evidence.reevaluate(results)]
    except (RefusedError, ValueError) as error:
        yield f"{name}: {error}"
        return
    measured = results["parameters"]
    # an experiment may record its own form of a parameter under another name
    for parameter in sorted(asked.keys() & measured.keys()):
        if canonical(asked[parameter]) != canonical(measured[parameter]):
            yield (
                f"{name}: {parameter} was {canonical(measured[parameter])}, "
                f"but profile {profile} says {canonical(asked[parameter])}."
            )
    yield from _compare(name, results["verdicts"], "by today's claims", today, results["paper"])


def _compare(
    name: str, ours: list[dict[str, Any]], whose: str, theirs: list[dict[str, Any]], paper: str
) -> Iterator[str]:
    # one number a claim is enough to say that they differ
    for _, found in groupby(changes(ours, theirs, paper), lambda change: (change.claim_id, change.what in _NUMBERS)):
        change = next(found)
        where = f"{name}: claim {change.claim_id}"
        if change.what == "claim":
            yield f"{where} is {'missing' if change.before is None else 'missing ' + whose}."
        elif change.what == "verdict":
            yield f"{where} is {change.before!r}, {whose} {change.after!r}."
        else:
            yield f"{where}, {change.what} is {change.before}, {whose} {change.after}."


def _close(a: Any, b: Any, tolerance: float) -> bool:
    numbers = [float("nan") if value is None else float(value) for value in (a, b)]
    if any(map(math.isnan, numbers)):
        return all(map(math.isnan, numbers))
    return math.isclose(*numbers, rel_tol=_RELATIVE, abs_tol=max(tolerance, 1e-12))


def _readme(project: Project) -> Iterator[str]:
    try:
        _, inside, _ = publish.split_readme(project)
        today = publish.readme_table(project)
    except ReplicationError as error:
        yield str(error)
        return
    if inside != today:
        yield "README.md: its table of verdicts is not the one of results/; `replicate report --readme` writes it."


def _page(project: Project, stem: str, results_of: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[str]:
    """Does a committed notebook show the committed results of the profile that it was executed at?"""
    path = project.notebook_file(stem)
    name = path.relative_to(project.root).as_posix()
    node = read_json(path)
    if not isinstance(node, dict):
        yield f"{name} is not a notebook."
        return
    about = node["metadata"].get("replication", {})
    if about.get("scoreboard"):
        yield from _scoreboard(name, stem, node, results_of)
    if not about.get("paper"):
        return
    profile = page_profile(path)
    results = results_of.get((stem, profile))
    if results is None:
        yield f"{name}: there is no results/{profile}/{stem}.json; `replicate run {stem} --publish` makes it."
        return
    shown = summaries(node)
    if shown != [notebook.summary(results)]:
        yield f"{name}: its verdict summary is not the one of results/{profile}/{stem}.json."
    tables = list(verdict_tables(node))
    if not tables:
        yield f"{name}: it shows no verdict table."
    for table in tables:
        yield from _compare(name, table, f"in results/{profile}", results["verdicts"], results["paper"])


def _scoreboard(
    name: str, stem: str, node: Mapping[str, Any], results_of: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Iterator[str]:
    """Does the committed scoreboard show the committed results?"""
    from replication.evidence.scoreboard import Board

    shown = [
        "".join(output["data"]["text/markdown"])
        for output in _outputs(node)
        if output.get("metadata", {}).get("replication", {}).get("scoreboard")
    ]
    try:
        today = Board.of(results_of.values()).to_markdown()
    except ValueError as error:
        yield f"{name}: {error}"
        return
    if shown != [today]:
        yield f"{name}: its board is not the one of results/; `replicate run {stem} --publish` makes it anew."


def page_profile(path: Path) -> str:
    """The profile that a notebook's own defaults are of."""
    declared = {p.name: p.default for p in infer(path)}
    return str(declared.get("profile", "smoke"))


def summaries(node: Mapping[str, Any]) -> list[str]:
    """The texts of a notebook's cells tagged `verdict-summary`."""
    return [
        "".join(cell["source"]) for cell in node["cells"] if notebook.SUMMARY_TAG in cell["metadata"].get("tags", [])
    ]


def verdict_tables(node: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The raw verdicts in the metadata of a notebook's displayed verdict tables."""
    for output in _outputs(node):
        verdicts = output.get("metadata", {}).get("replication", {}).get("verdicts")
        if verdicts is not None:
            yield verdicts


def _outputs(node: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for cell in node["cells"]:
        yield from cell.get("outputs", [])

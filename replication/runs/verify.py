"""Whether what is published still holds: results, claims, README, notebooks and the store agree with one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from replication.runs import notebook, publish
from replication.runs.errors import ReplicationError
from replication.runs.files import read_json
from replication.runs.profiles import Project, infer
from replication.runs.store import RunStore

# two machines' sums differ in the last digits, and no page shows more than four
_RELATIVE = 1e-4


def disagreements(project: Project) -> Iterator[str]:
    """Each thing that disagrees, as a sentence; nothing is executed and nothing is written."""
    stored = RunStore(project)
    results_of: dict[tuple[str, str], Mapping[str, Any]] = {}
    for path, results in publish.committed(project):
        name = path.relative_to(project.root).as_posix()
        results_of[results["notebook"], results["profile"]] = results
        if (results["profile"], results["notebook"]) != (path.parent.name, path.stem):
            yield f"{name} holds results of {results['notebook']} at profile {results['profile']}."
        yield from _today(name, results)
    yield from _readme(project)
    for stem in project.notebooks():
        yield from _page(project, stem, results_of)
    for run in stored.runs():
        found, reference = stored.results(run), results_of.get((run.notebook, run.profile))
        if found is None or reference is None or found["parameters"] != reference["parameters"]:
            continue
        yield from _compare(f"run {run.name}", found["verdicts"], "committed", reference["verdicts"], found["paper"])


def _today(name: str, results: Mapping[str, Any]) -> Iterator[str]:
    """Do stored verdicts follow from the stored records by today's claims?"""
    from replication import evidence

    today = [verdict.to_dict() for verdict in evidence.reevaluate(results)]
    yield from _compare(name, results["verdicts"], "by today's claims", today, results["paper"])


def _compare(
    name: str, ours: list[dict[str, Any]], whose: str, theirs: list[dict[str, Any]], paper: str
) -> Iterator[str]:
    from replication import evidence

    claims = {claim.id: claim for claim in evidence.load_claims(paper).claims}
    left, right = ({verdict["claim_id"]: verdict for verdict in verdicts} for verdicts in (ours, theirs))
    for claim_id in sorted(left.keys() | right.keys()):
        if claim_id not in left or claim_id not in right:
            yield f"{name}: claim {claim_id} is {'missing' if claim_id not in left else 'missing ' + whose}."
            continue
        a, b = left[claim_id], right[claim_id]
        if a["verdict"] != b["verdict"]:
            yield f"{name}: claim {claim_id} is {a['verdict']!r}, {whose} {b['verdict']!r}."
        claim = claims.get(claim_id)
        if claim is None or claim.volatile:
            continue
        for number in ("estimate", "low", "high", "n"):
            if not _close(a[number], b[number], claim.tolerance if number != "n" else 0.0):
                yield f"{name}: claim {claim_id}, {number} is {a[number]}, {whose} {b[number]}."
                break


def _close(a: Any, b: Any, tolerance: float) -> bool:
    numbers = [float("nan") if value is None else float(value) for value in (a, b)]
    if any(map(math.isnan, numbers)):
        return all(map(math.isnan, numbers))
    return math.isclose(*numbers, rel_tol=_RELATIVE, abs_tol=max(tolerance, 1e-12))


def _readme(project: Project) -> Iterator[str]:
    try:
        _, inside, _ = publish.split_readme(project)
    except ReplicationError as error:
        yield str(error)
        return
    if inside != publish.readme_table(project):
        yield "README.md: its table of verdicts is not the one of results/; `replicate report --readme` writes it."


def _page(project: Project, stem: str, results_of: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[str]:
    """Does a committed notebook show the committed results of the profile that it was executed at?"""
    path = project.notebook_file(stem)
    name = path.relative_to(project.root).as_posix()
    node = read_json(path)
    if not isinstance(node, dict):
        yield f"{name} is not a notebook."
        return
    if not node["metadata"].get("replication", {}).get("paper"):
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
    for cell in node["cells"]:
        for output in cell.get("outputs", []):
            verdicts = output.get("metadata", {}).get("replication", {}).get("verdicts")
            if verdicts is not None:
                yield verdicts

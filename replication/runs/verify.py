"""Is what is committed consistent: results with records and claims, pages and the README with results?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from replication.atomic import read_json
from replication.runs import notebook, profiles, publish
from replication.runs.agreement import Results, changes, close
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.profiles import Project
from replication.sources import canonical


def disagreements(project: Project) -> Iterator[str]:
    """Each thing that disagrees, as a sentence; only committed files are read, and nothing is executed or written."""
    results_of: dict[tuple[str, str], Results] = {}
    for path, results in publish.committed(project):
        name = path.relative_to(project.root).as_posix()
        results_of[results["notebook"], results["profile"]] = results
        if (results["profile"], results["notebook"]) != (path.parent.name, path.stem):
            yield f"{name} holds results of {results['notebook']} at profile {results['profile']}."
        if lacking := notebook.missing(results):
            yield f"{name}: data were missing. {lacking}"
        yield from _today(project, name, results)
    yield from _readme(project)
    for stem in project.notebooks():
        yield from _page(project, stem, results_of)


def _today(project: Project, name: str, results: Results) -> Iterator[str]:
    """Are results of a notebook and a profile that are there, and do they follow from the records by today's claims?"""
    from replication import evidence

    stem, profile = results["notebook"], results["profile"]
    if stem not in project.notebooks():
        yield f"{name}: there is no notebook {stem!r}; remove the file."
        return
    try:
        asked = profiles.resolve(project, stem, profile, {})
        claims = evidence.load_claims(results["paper"])
        outcomes = evidence.reevaluate(results, claims)
        decided = evidence.verdicts(claims, outcomes, stem, profile)
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
    today = {"verdicts": [one.to_dict() for one in decided], "tests": [one.to_dict() for one in outcomes]}
    # rounding may differ between the machine of the run and this one
    theirs, whose = {**results, **today}, "by today's claims"
    found = list(changes(results, theirs, claims))
    # one number a test is enough to say that they differ
    for _, group in groupby(found, lambda change: (change.of, change.what in ("verdict", "answer"))):
        change = next(group)
        where = f"{name}: {change.of}"
        if change.what not in ("verdict", "answer"):
            yield f"{where}, {change.what} is {change.before}, {whose} {change.after}."
        elif change.before is None or change.after is None:
            yield f"{where} is {'missing' if change.before is None else f'missing {whose}'}."
        else:
            yield f"{where} is {change.before!r}, {whose} {change.after!r}."
    if not found and not all(_same(results[key], theirs[key]) for key in ("verdicts", "tests")):
        yield f"{name}: a reason, a comparison or a number's last digits are others {whose}."


def _same(a: Any, b: Any) -> bool:
    """Whether JSON values are the same, numbers up to rounding on another machine."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return close(a, b) if isinstance(a, float) and isinstance(b, float) else bool(a == b)


def _readme(project: Project) -> Iterator[str]:
    try:
        _, inside, _ = publish.split_readme(project)
        today = publish.board(project)
    except ReplicationError as error:
        yield str(error)
        return
    again = "`replicate report --readme` writes it."
    if inside != publish.found(today):
        yield f"README.md: what it says was found is not what results/ say; {again}"
    if today.standings and _picture(publish.picture_file(project)) != publish.picture_of(today):
        yield f"results/scoreboard.png: it does not show the verdicts of results/; {again}"


def _picture(path: Path) -> str | None:
    """The description that a picture holds."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.info.get("Description")
    except OSError:
        return None


def _page(project: Project, stem: str, results_of: Mapping[tuple[str, str], Results]) -> Iterator[str]:
    """Does a committed notebook show the committed results of the profile that it was executed at?"""
    path = project.notebook_file(stem)
    name = path.relative_to(project.root).as_posix()
    node = read_json(path)
    if node is None:
        yield f"{name} is not a notebook."
        return
    about = node["metadata"].get("replication", {})
    if about.get("scoreboard"):
        yield from _scoreboard(name, stem, node, results_of)
    if not about.get("paper"):
        return
    profile = profiles.page_profile(node)
    results = results_of.get((stem, profile))
    if results is None:
        yield f"{name}: there is no results/{profile}/{stem}.json; `replicate run {stem} --publish` makes it."
        return
    yield from _shown(name, node, results)
    for (of, other), more in results_of.items():
        if of == stem and other != profile:
            beside = publish.page_file(project, other, stem)
            page = read_json(beside)
            if page is not None:
                yield from _shown(beside.relative_to(project.root).as_posix(), page, more)
            else:
                again = f"`replicate run {stem} --profile {other} --publish` makes it"
                yield f"{beside.relative_to(project.root).as_posix()} is not there, or no notebook; {again}."


def _shown(name: str, node: Mapping[str, Any], results: Results) -> Iterator[str]:
    """Are the answer at the top of a page, its table of claims and its tables of tests those of some results?"""
    from replication import evidence
    from replication.evidence.tables import answer_text

    profile, of = results["profile"], f"results/{results['profile']}/{results['notebook']}.json"
    again = "`replicate render` writes it anew."
    try:
        claims = evidence.load_claims(results["paper"])
        outcomes = [evidence.Outcome.from_dict(one) for one in results["tests"]]
        decided = [evidence.Verdict(**one) for one in results["verdicts"]]
        answer = f"**Answer.** {answer_text(decided, outcomes, claims, profile)}"
    except (ValueError, TypeError, KeyError) as error:
        yield f"{of}: {error}"
        return
    top = list(_outputs(node, "answer"))
    texts = ["".join(output.get("data", {}).get("text/markdown", "")) for output in top]
    if texts[:1] != [answer]:
        yield f"{name}: its answer is not the one of {of}; {again}"
    verdicts, tests = list(_raw(top, "verdicts")), list(_raw(_outputs(node), "tests"))
    if not verdicts:
        yield f"{name}: its answer shows no table of claims."
    absent = {test["test_id"] for test in results["tests"]} - {test["test_id"] for table in tests for test in table}
    if absent:
        yield f"{name}: no table shows {', '.join(sorted(absent))}."
    # a page and its results are of one run, so they are equal to the last digit
    if any(table != results["verdicts"] for table in verdicts):
        yield f"{name}: its table of claims is not the one of {of}; {again}"
    known = {test["test_id"]: test for test in results["tests"]}
    for test in (test for table in tests for test in table if test != known.get(test["test_id"])):
        yield f"{name}: test {test['test_id']} is not as in {of}; {again}"


def _scoreboard(
    name: str, stem: str, node: Mapping[str, Any], results_of: Mapping[tuple[str, str], Results]
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


def _outputs(node: Mapping[str, Any], tag: str = "") -> Iterator[dict[str, Any]]:
    for cell in node["cells"]:
        if not tag or tag in cell["metadata"].get("tags", []):
            yield from cell.get("outputs", [])


def _raw(outputs: Any, key: str) -> Iterator[list[dict[str, Any]]]:
    """What lies under a key in the metadata of displayed tables."""
    for output in outputs:
        found = output.get("metadata", {}).get("replication", {}).get(key)
        if found is not None:
            yield found

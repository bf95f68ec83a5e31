"""One page about runs: the verdict of each claim at each setting, what it depends on, what failed and how."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.runs import notebook
from replication.runs.diff import flat
from replication.runs.files import read_json, write_text
from replication.runs.profiles import canonical
from replication.runs.store import Run, RunStore

if TYPE_CHECKING:
    from replication.evidence import Claim, PaperClaims, Table, Verdict

# lines of a traceback that a reader needs to see where it went wrong
_TRACEBACK = 12
# columns that a Markdown table can have and still be read
_COLUMNS = 8


@dataclass(frozen=True)
class Section:
    """What the page says of one run.

    Attributes
    ----------
    number
        By which the page refers to it, from 1.
    verdicts
        Of the claims that there are today; none for a run without results.
    link, log
        Of the executed notebook and its log, relative to the page; empty where there is none.
    """

    number: int
    run: Run
    state: str
    summary: str
    link: str
    log: str
    verdicts: tuple[Verdict, ...]
    table: Table | None
    provenance: dict[str, str]
    trouble: str

    @property
    def settings(self) -> dict[str, Any]:
        """The run's parameters, its profile first."""
        return {"profile": self.run.profile, **self.run.parameters}


@dataclass(frozen=True)
class Matrix:
    """The runs of one notebook: its attempted claims down, runs across.

    Attributes
    ----------
    varying
        The parameters that name the columns.
    claims
        Those that some run attempts.
    untouched
        Ids of those that none does.
    """

    notebook: str
    columns: tuple[Section, ...]
    varying: tuple[str, ...]
    claims: tuple[Claim, ...]
    untouched: tuple[str, ...]

    def verdict(self, claim: Claim, column: Section) -> Verdict | None:
        """What a run says of a claim, if anything."""
        return next((one for one in column.verdicts if one.claim_id == claim.id), None)

    def counts(self, claim: Claim) -> str:
        """The verdicts on a claim over all runs, in words."""
        from replication import evidence

        found = [verdict for column in self.columns if (verdict := self.verdict(claim, column)) is not None]
        return evidence.summary_sentence(found).removesuffix(".")

    def label(self, column: Section) -> str:
        """A column's setting in words."""
        return ", ".join(f"{name} {shown(column.settings.get(name))}" for name in self.varying)


def sections(store: RunStore, runs: Iterable[Run], page_folder: Path) -> Iterator[Section]:
    """What there is to say of each run; links are relative to the page's folder."""
    claims: dict[str, PaperClaims] = {}
    for number, run in enumerate(runs, start=1):
        folder, state = store.folder(run), store.state(run)
        results, failure = store.results(run), read_json(folder / "failed.json")
        name = "notebook.ipynb" if results is not None else "notebook.failed.ipynb"
        link, log = (
            Path(os.path.relpath(path, page_folder)).as_posix() if path.is_file() else ""
            for path in (folder / name, folder / "log.txt")
        )
        summary, trouble = "", ""
        if results is not None:
            summary = notebook.sentence(results)
        if failure is not None:
            summary = summary or f"{failure['status']}: {failure['message']}"
            trouble = "\n".join(failure["traceback"].splitlines()[-_TRACEBACK:]).replace(
                f"{store.project.root}{os.sep}", ""
            )
        verdicts, table = _verdicts(results, claims)
        yield Section(number, run, state, summary, link, log, verdicts, table, _provenance(folder, results), trouble)


def _verdicts(
    results: dict[str, Any] | None, loaded: dict[str, PaperClaims]
) -> tuple[tuple[Verdict, ...], Table | None]:
    if not results or not results["verdicts"]:
        return (), None
    from replication import evidence

    paper = results["paper"]
    # there may be hundreds of runs of one paper
    if paper not in loaded:
        loaded[paper] = evidence.load_claims(paper)
    known = {claim.id for claim in loaded[paper].claims}
    # a stale run may hold the verdict of a claim that is gone
    found = tuple(evidence.Verdict.from_dict(v) for v in results["verdicts"] if v["claim_id"] in known)
    return found, evidence.verdict_table(found, loaded[paper])


def _provenance(folder: Path, results: Mapping[str, Any] | None) -> dict[str, str]:
    if results is None:
        return {}
    about = read_json(folder / "provenance.json")
    # when and how long stands in provenance.json alone: results are a function of the run id
    whole = {**results.get("provenance", {}), **(about.get("environment", {}) if isinstance(about, dict) else {})}
    whole.pop("parameters", None)
    return {name: shown(value) for name, value in flat("", whole)}


def matrices(found: Sequence[Section]) -> list[Matrix]:
    """One matrix for each notebook that decides claims, in the order of the runs."""
    from replication import evidence

    made = []
    of_notebook: dict[str, list[Section]] = {}
    for section in found:
        if section.run.paper:
            of_notebook.setdefault(section.run.notebook, []).append(section)
    for name, columns in of_notebook.items():
        listed = evidence.load_claims(columns[0].run.paper).of(name)
        told = {one.claim_id for section in columns for one in section.verdicts if one.verdict != "not attempted"}
        claims = tuple(claim for claim in listed if claim.id in told)
        untouched = tuple(claim.id for claim in listed if claim.id not in told)
        made.append(Matrix(name, tuple(columns), _varying(columns), claims, untouched))
    return made


def _varying(columns: Sequence[Section]) -> tuple[str, ...]:
    """The profile if it varies, and the parameters that vary within a profile: the others follow from the profile."""
    seen: dict[str, dict[str, set[str]]] = {}
    for column in columns:
        for name, value in column.settings.items():
            seen.setdefault(name, {}).setdefault(column.run.profile, set()).add(canonical(value))
    names = [name for name, values in seen.items() if any(len(of) > 1 for of in values.values())]
    if len({column.run.profile for column in columns}) > 1:
        names.insert(0, "profile")

    def turns(name: str) -> int:
        values = [canonical(column.settings.get(name)) for column in columns]
        return sum(a != b for a, b in pairwise(values))

    # the one that changes least from run to run is the outermost
    return tuple(sorted(names, key=turns))


def shared(found: Sequence[Section]) -> dict[str, str]:
    """The provenance that all finished runs have in common."""
    with_results = [section.provenance for section in found if section.provenance]
    if not with_results:
        return {}
    return {name: value for name, value in with_results[0].items() if all(p.get(name) == value for p in with_results)}


def overview(found: Sequence[Section]) -> str:
    """How many runs, in which states."""
    counts = Counter(section.state for section in found)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(found)} run{'s' * (len(found) != 1)}: {states}." if found else "No runs."


def shown(value: Any) -> str:
    """A value as the page shows it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else canonical(value)


def markdown(title: str, found: Sequence[Section], page_name: str) -> str:
    """The page as Markdown; its figures are on the HTML page, to which it leads."""
    lines = [f"# {title}", "", overview(found), "", f"[The same with figures]({page_name})", ""]
    for matrix in matrices(found):
        lines += [f"## {matrix.notebook}", "", _matrix(matrix).to_markdown(), ""]
        if matrix.untouched:
            lines += [f"Not attempted by any of these runs: {', '.join(matrix.untouched)}.", ""]
    failures = [section for section in found if section.trouble]
    if failures:
        lines += ["## Failures", ""]
        for section in failures:
            lines += [f"{section.number}. {section.run.name}: {section.summary}", ""]
            lines += ["```text", section.trouble, "```", ""]
    lines += ["## Runs", ""]
    common = shared(found)
    for section in found:
        lines += [f"### {section.number}. {section.run.name}", ""]
        lines += [f"{section.state}: {section.summary}".rstrip(": "), ""]
        lines += [f"Parameters: `{canonical(section.settings)}`", ""]
        links = [f"[{text}]({to})" for text, to in (("executed notebook", section.link), ("log", section.log)) if to]
        if links:
            lines += [" · ".join(links), ""]
        if section.table:
            lines += ["<details><summary>Verdicts</summary>", "", section.table.to_markdown(), "", "</details>", ""]
        own = {name: value for name, value in section.provenance.items() if name not in common}
        if own:
            lines += [*(f"- {name}: {value}" for name, value in own.items()), ""]
    if common:
        lines += ["## Provenance of all finished runs", "", *(f"- {name}: {value}" for name, value in common.items())]
    return "\n".join(lines).rstrip() + "\n"


def _matrix(matrix: Matrix) -> Table:
    from replication import evidence

    if len(matrix.columns) > _COLUMNS:
        counts = tuple((claim.id, claim.statement, matrix.counts(claim)) for claim in matrix.claims)
        return evidence.Table(("claim", "statement", f"verdicts of {len(matrix.columns)} runs"), counts)

    def word(claim: Claim, column: Section) -> str:
        verdict = matrix.verdict(claim, column)
        return verdict.verdict if verdict is not None else column.state

    heads = (matrix.label(column) or "verdict" for column in matrix.columns)
    names = [f"{column.number}: {head}" for column, head in zip(matrix.columns, heads, strict=True)]
    rows = tuple((claim.id, *(word(claim, column) for column in matrix.columns)) for claim in matrix.claims)
    return evidence.Table(("claim", *names), rows)


def newest(store: RunStore, wanted: Sequence[str]) -> list[Run]:
    """The finished runs of some profiles, by notebook; of each setting the newest one."""
    last: dict[str, Run] = {}
    for run in store.runs():
        if run.profile in wanted and store.results(run) is not None:
            last[canonical([run.notebook, run.profile, run.parameters])] = run
    return sorted(last.values(), key=lambda run: (run.notebook, wanted.index(run.profile)))


def write(store: RunStore, title: str, runs: Iterable[Run], stem: Path) -> tuple[Path, Path]:
    """Write the page as `stem`.html and `stem`.md; returns both."""
    from replication.runs.page import page

    found = list(sections(store, runs, stem.parent))
    # a name may hold dots of its own
    name = stem.name.removesuffix(".html").removesuffix(".md")
    paths = stem.parent / f"{name}.html", stem.parent / f"{name}.md"
    write_text(paths[0], page(title, found))
    write_text(paths[1], markdown(title, found, paths[0].name))
    return paths

"""What there is to say of runs on one page: each verdict and answer, and what failed and how."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from replication.atomic import read_json
from replication.runs import notebook
from replication.runs.agreement import flat, shown
from replication.runs.store import Run, RunStore
from replication.sources import canonical

if TYPE_CHECKING:
    from replication.evidence import PaperClaims, Table, Test

# lines of a traceback that a reader needs to see where it went wrong
_TRACEBACK = 12
# columns that a Markdown table can have and still be read
_COLUMNS = 8


class Said(NamedTuple):
    """A verdict on a claim, or the answer to a test, with the number that decides."""

    word: str
    reason: str
    number: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None


class Row(NamedTuple):
    """A claim, or a test with its question: one row of a matrix.

    Parameters
    ----------
    key
        ``claim C1`` or ``test U3``.
    name, says, test
        As the page shows it; a claim has no test.
    """

    key: str
    name: str
    says: str
    test: Test | None = None


@dataclass(frozen=True)
class Section:
    """What the page says of one run.

    Parameters
    ----------
    number
        By which the page refers to it, from 1.
    said
        By the rows' keys, for claims and tests that there are today; nothing for a run without results.
    tables
        The claims and the tests.
    link, log
        Of the executed notebook and its log, relative to the page; empty where there is none.
    """

    number: int
    run: Run
    state: str
    summary: str
    link: str
    log: str
    said: Mapping[str, Said]
    tables: tuple[Table, ...]
    provenance: dict[str, str]
    trouble: str

    @property
    def settings(self) -> dict[str, Any]:
        """The run's parameters, its profile first."""
        return {"profile": self.run.profile, **self.run.parameters}

    @property
    def links(self) -> list[tuple[str, str]]:
        """Where the executed notebook and the log are, if they are, and the words of the links to them."""
        return [(to, text) for to, text in ((self.link, "executed notebook"), (self.log, "log")) if to]

    def own(self, common: Mapping[str, str]) -> dict[str, str]:
        """The provenance that is not common to all runs."""
        return {name: value for name, value in self.provenance.items() if name not in common}


@dataclass(frozen=True)
class Matrix:
    """The runs of one notebook: its claims and tests down, runs across.

    Attributes
    ----------
    varying
        The parameters that name the columns.
    rows
        The claims, then the tests, that some run answers.
    untouched
        Names of those that none does.
    claims
        The paper's.
    """

    notebook: str
    columns: tuple[Section, ...]
    varying: tuple[str, ...]
    rows: tuple[Row, ...]
    untouched: tuple[str, ...]
    claims: PaperClaims

    def counts(self, row: Row) -> str:
        """The words of a row over all runs, counted."""
        from replication import evidence

        counts = Counter(column.said[row.key].word for column in self.columns if row.key in column.said)
        return ", ".join(f"{counts[word]} {word}" for word in (*evidence.VERDICTS, *evidence.ANSWERS) if counts[word])

    def label(self, column: Section) -> str:
        """A column's setting in words."""
        return ", ".join(f"{name} {shown(column.settings.get(name))}" for name in self.varying)

    def cell(self, row: Row, column: Section) -> str:
        """What a run says of a row, with its number."""
        said = column.said.get(row.key)
        return f"{said.word}: {said.number}" if said and said.number.strip("–") else word(row, column)

    def table(self) -> Table:
        """A word per row and run; where there are many runs, their number per word."""
        from replication import evidence

        if len(self.columns) > _COLUMNS:
            counts = tuple((row.name, row.says, self.counts(row)) for row in self.rows)
            return evidence.Table(("claim, test", "what it says or asks", f"of {len(self.columns)} runs"), counts)
        names = [f"{column.number}: {self.label(column) or 'said'}" for column in self.columns]
        rows = ((row.name, *(self.cell(row, column) for column in self.columns)) for row in self.rows)
        return evidence.Table(("claim, test", *names), tuple(rows))


def sections(store: RunStore, runs: Iterable[Run], page_folder: Path) -> Iterator[Section]:
    """What there is to say of each run; links are relative to the page's folder."""
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
            summary = notebook.message(results)
        if failure is not None:
            status = "" if failure["status"] == state else f"{failure['status']}: "
            summary = summary or f"{status}{failure['message']}"
            trouble = "\n".join(failure["traceback"].splitlines()[-_TRACEBACK:]).replace(
                f"{store.project.root}{os.sep}", ""
            )
        said, tables = _said(results)
        provenance = _provenance(results, store.machine(run))
        yield Section(number, run, state, summary, link, log, said, tables, provenance, trouble)


def _said(results: Mapping[str, Any] | None) -> tuple[dict[str, Said], tuple[Table, ...]]:
    # results of an older form have no tests
    if not results or not results.get("paper") or "tests" not in results:
        return {}, ()
    from replication import evidence
    from replication.evidence.tables import measured, outcomes_table, top_table

    paper, profile = results["paper"], results["profile"]
    claims = evidence.load_claims(paper)
    known = {f"claim {claim.id}" for claim in claims.claims} | {f"test {test.id}" for test in claims.tests}
    # a stale run may hold what is gone
    verdicts = [evidence.Verdict(**one) for one in results["verdicts"] if f"claim {one['claim_id']}" in known]
    outcomes = [evidence.Outcome.from_dict(one) for one in results["tests"] if f"test {one['test_id']}" in known]
    numbers = {one.test_id: measured(one, claims.test(one.test_id, profile), claims) for one in outcomes}
    said = {f"claim {one.claim_id}": Said(one.verdict, one.reason, numbers.get(one.shown, "")) for one in verdicts}
    for one in outcomes:
        said[f"test {one.test_id}"] = Said(
            one.answer, one.reason, numbers[one.test_id], one.estimate, one.low, one.high
        )
    top = top_table(verdicts, outcomes, claims, profile, len(verdicts))
    return said, (top, outcomes_table(outcomes, claims, profile))


def _provenance(results: Mapping[str, Any] | None, machine: Mapping[str, Any]) -> dict[str, str]:
    if results is None:
        return {}
    left_out = {"parameters", "volatile", "processor", "reused"}
    whole = {name: value for name, value in (results.get("provenance", {}) | machine).items() if name not in left_out}
    if parts := whole.get("parts"):
        seconds = sum(told[0] for told in parts.values())
        whole["parts"] = f"{len(parts)}, {machine.get('reused', 0)} of them from the store; {seconds:.0f} s on one core"
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
        claims = evidence.load_claims(columns[0].run.paper)
        scales = dict.fromkeys(column.run.profile for column in columns)
        tests = {test.id: test for scale in scales for test in claims.at(name, scale)}
        decided = {claim.id: Row(f"claim {claim.id}", claim.id, claim.says) for claim in claims.of(name)}
        listed = []
        # a claim, and below it what decides or explains it; gates and checks last
        for place in (*(claim.id for claim in claims.claims), ""):
            listed += [decided[place]] if place in decided else []
            listed += [
                Row(f"test {test.id}", f"{test.claim or test.role} {test.id}", test.asks, test)
                for test in tests.values()
                if test.claim == place
            ]
        nothing = {"not attempted", "not run"}
        told = {key for section in columns for key, one in section.said.items() if one.word not in nothing}
        rows = tuple(row for row in listed if row.key in told)
        untouched = tuple(row.name for row in listed if row.key not in told)
        made.append(Matrix(name, tuple(columns), _varying(columns), rows, untouched, claims))
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


def word(row: Row, column: Section) -> str:
    """What a run says of a row; its state if it has no results, nothing if it was not asked."""
    if row.key in column.said:
        return column.said[row.key].word
    return "" if column.said else column.state


def newest(store: RunStore, wanted: Sequence[str]) -> list[Run]:
    """The finished runs of some profiles, by notebook; of each setting the newest one."""
    last: dict[str, Run] = {}
    for run in store.runs():
        if run.profile in wanted and store.results(run) is not None:
            last[canonical([run.notebook, run.profile, run.parameters])] = run
    return sorted(last.values(), key=lambda run: (run.notebook, wanted.index(run.profile)))

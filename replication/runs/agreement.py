"""Do local runs agree with what is published? Verdicts, answers and numbers; where they do not, the probable cause."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replication.runs import notebook, publish
from replication.runs.errors import ReplicationError
from replication.runs.store import Run, RunStore
from replication.sources import canonical

if TYPE_CHECKING:
    from replication.evidence import PaperClaims, Table, Test

Results = Mapping[str, Any]

# two machines' sums differ in the last digits, and no page shows more than four
_RELATIVE = 1e-4
_NUMBERS = ("estimate", "low", "high")
# what may make numbers differ, the likeliest first, by its place in the provenance
_CAUSES = {
    "data": "other data",
    "device": "another device",
    "packages": "other versions",
    "python": "another Python",
    "cpu.model": "another processor",
    "cpu.features": "another processor",
    "platform": "another system",
    "numerics": "other settings of the numerical libraries",
    "run_id": "other sources, versions or data",
}


@dataclass(frozen=True)
class Change:
    """One thing that two results of a notebook say differently.

    Parameters
    ----------
    of
        ``claim C1`` or ``test U3``.
    what
        ``verdict``, ``answer``, ``estimate``, ``low``, ``high`` or ``n``.
    before, after
        What the two sides say; a verdict or an answer of None stands where a side has no such claim or test.
    """

    of: str
    what: str
    before: Any
    after: Any


def changes(before: Results, after: Results, claims: PaperClaims) -> Iterator[Change]:
    """What differs between two results: verdicts, then answers and numbers.

    Numbers differ if they do by more than the test's tolerance and by more than rounding on another machine, which is
    relative to the largest number of the test: an end of an interval may lie near zero.
    """
    yield from (Change(f"claim {name}", "verdict", a, b) for name, a, b in _words(before, after, "verdicts") if a != b)
    tolerances = {test.id: test.tolerance for test in claims.at(after["notebook"], after["profile"])}
    left, right = _tests(before), _tests(after)
    for name, a, b in _words(before, after, "tests"):
        if a != b:
            yield Change(f"test {name}", "answer", a, b)
        if a is None or b is None:
            continue
        one, other = left[name], right[name]
        tolerance = max(tolerances.get(name, 0.0), _RELATIVE * _largest(one, other))
        for number in _NUMBERS:
            if not close(one[number], other[number], tolerance):
                yield Change(f"test {name}", number, one[number], other[number])
        if one["n"] != other["n"]:
            yield Change(f"test {name}", "n", one["n"], other["n"])


def close(a: float | None, b: float | None, tolerance: float = 0.0) -> bool:
    """Whether two numbers are the same up to a tolerance and to rounding on another machine; None is only None."""
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=_RELATIVE, abs_tol=max(tolerance, 1e-12))


def _words(before: Results, after: Results, key: str) -> Iterator[tuple[str, str | None, str | None]]:
    """The verdicts on all claims, or the answers to all tests, that either side has."""
    name, word = ("claim_id", "verdict") if key == "verdicts" else ("test_id", "answer")
    left, right = ({one[name]: one[word] for one in side.get(key, [])} for side in (before, after))
    yield from ((each, left.get(each), right.get(each)) for each in dict.fromkeys([*left, *right]))


def _largest(*outcomes: Mapping[str, Any]) -> float:
    return max((abs(one[name]) for one in outcomes for name in _NUMBERS if one[name] is not None), default=0.0)


def _tests(results: Results) -> dict[str, Any]:
    return {test["test_id"]: test for test in results.get("tests", [])}


def flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The entries of nested mappings, by names such as ``packages.numpy``."""
    if not isinstance(value, Mapping):
        yield prefix, value[:12] if prefix == "git.revision" and value else value
        return
    for name, inner in value.items():
        yield from flat(f"{prefix}.{name}" if prefix else name, inner)


# --- runs beside what is published -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """A run beside the published results of its notebook and profile.

    Parameters
    ----------
    published, found
        The two results.
    changes
        What differs, from published to found.
    farthest
        Largest relative difference of a number; relative to the largest number of its test.
    volatile
        Labels of what the run measured of its machine.
    """

    published: Results
    found: Results
    changes: tuple[Change, ...]
    farthest: float
    volatile: tuple[str, ...]

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.found['notebook']} at {self.found['profile']}"

    @property
    def cause(self) -> str:
        """Why the two may differ, from what they depend on."""
        before, after = (
            dict(flat("", {**side.get("provenance", {}), "run_id": side["run_id"]}))
            for side in (self.published, self.found)
        )
        told: dict[str, list[str]] = {}
        for start, what in _CAUSES.items():
            for place in dict.fromkeys([*before, *after]):
                a, b = before.get(place), after.get(place)
                if a != b and (place == start or place.startswith(f"{start}.")):
                    leaf = place.removeprefix(f"{start}.").rpartition(".")[2]
                    told.setdefault(what, []).append(f"{leaf} {short(a)} published, {short(b)} here")
        return "; ".join(f"{what} ({'; '.join(details)})" for what, details in told.items()) or "nothing known differs"


@dataclass(frozen=True)
class Agreement:
    """Whether local runs agree with the published results.

    Parameters
    ----------
    asked, ran
        How many notebooks with published results were asked for, each at a profile as published, and are finished.
    compared
        Runs beside what is published.
    without_data
        How many ran without some of their data.
    left_out
        Why some are not compared, and what mends it, in sentences.
    """

    asked: int = 0
    ran: int = 0
    compared: tuple[Compared, ...] = ()
    without_data: int = 0
    left_out: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.asked or self.left_out)

    def __str__(self) -> str:
        if not self.asked:
            return "Nothing is compared."
        parts = [f"{self.ran} of {self.asked} notebooks ran"]
        parts += [f"{self.without_data} without its data, not compared (listed)"] if self.without_data else []
        counts = [f"{same} of {total} {what}" for what, (same, total) in self._counts().items() if total]
        if counts:
            told = " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))
            parts.append(f"{told} agree with the published ones")
            beyond = sum(change.what in (*_NUMBERS, "n") for one in self.compared for change in one.changes)
            parts += [f"{beyond} number{'s' * (beyond != 1)} beyond tolerance (listed)"] if beyond else []
            parts.append(f"largest relative difference of a number {max(one.farthest for one in self.compared):.1g}")
        volatile = sum(len(one.volatile) for one in self.compared)
        parts += [f"volatile: {volatile} (listed)"] if volatile else []
        return f"{'; '.join(parts)}."

    def _counts(self) -> dict[str, tuple[int, int]]:
        """How many verdicts, checks and other answers agree, and of how many."""
        found: dict[str, list[bool]] = {"verdicts": [], "checks": [], "other answers": []}
        for one in self.compared:
            for _, a, b in _words(one.published, one.found, "verdicts"):
                if {a, b} != {"not attempted"}:
                    found["verdicts"].append(a == b)
            roles = {name: test["role"] for side in (one.found, one.published) for name, test in _tests(side).items()}
            for name, a, b in _words(one.published, one.found, "tests"):
                found["checks" if roles[name] == "check" else "other answers"].append(a == b)
        return {what: (sum(same), len(same)) for what, same in found.items()}

    def lines(self) -> Iterator[str]:
        """Everything that the sentence says is listed."""
        for one in self.compared:
            for change in one.changes:
                before, after = short(change.before), short(change.after)
                yield f"{one.name}, {change.of}: {change.what} {before} published, {after} here."
            if one.changes:
                yield f"{one.name}, probable cause: {one.cause}."
        yield from self.left_out
        volatile = [f"{label} ({one.name})" for one in self.compared for label in one.volatile]
        if volatile:
            yield f"Volatile, compared with nothing: {'; '.join(volatile)}."

    def table(self) -> Table:
        """Each claim, each test that differs, and the gates and checks of each notebook."""
        from replication import evidence
        from replication.evidence.tables import apart

        rows: list[tuple[str, ...]] = []
        for one in self.compared:
            listed = [(f"claim {name}", a, b) for name, a, b in _words(one.published, one.found, "verdicts")]
            listed += [
                (f"{change.of}, {change.what}", short(change.before), short(change.after))
                for change in one.changes
                if change.what != "verdict"
            ]
            counts = (apart(map(evidence.Outcome.from_dict, side["tests"])) for side in (one.published, one.found))
            listed.append(("gates and checks", next(counts), next(counts)))
            rows += [(one.name, what, str(a), str(b), "agrees" if a == b else "differs") for what, a, b in listed]
        return evidence.Table(("notebook", "what", "published", "here", ""), tuple(rows), strong="here")


def agreement(store: RunStore, runs: Iterable[Run], profiles: Collection[str] = ()) -> Agreement:
    """Compare runs with the published results of the same notebook, profile and parameters.

    Parameters
    ----------
    store : RunStore
        Where the runs are.
    runs : iterable of Run
        Of those with the same notebook and profile, the last that is finished counts.
    profiles : collection of str
        Every published notebook of these profiles counts as asked for.
    """
    try:
        published = {(one["notebook"], one["profile"]): one for _, one in publish.committed(store.project)}
    except ReplicationError as error:
        return Agreement(left_out=(str(error),))
    found: dict[tuple[str, str], tuple[Run, Results] | None] = {key: None for key in published if key[1] in profiles}
    for run in runs:
        key = run.notebook, run.profile
        if key in published and _as(published[key]["parameters"], run.parameters):
            results = store.results(run)
            found[key] = found.get(key) if results is None else (run, results)
    if not found:
        return Agreement()
    compared, left_out, without = [], [], 0
    finished = {key: one for key, one in found.items() if one is not None}
    for (stem, profile), (run, ours) in finished.items():
        if lacking := notebook.missing(ours):
            without += 1
            left_out.append(f"Not compared, data missing: {stem} at {profile}. {lacking}")
        elif store.current(run) is None:
            again = f"`replicate run {stem} --profile {profile}` brings them up to date"
            left_out.append(f"Not compared, verdicts of older claims: {stem} at {profile}; {again}.")
        else:
            compared.append(_compare(published[stem, profile], ours, store.machine(run)))
    return Agreement(len(found), len(finished), tuple(compared), without, tuple(left_out))


def _as(published: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether parameters are the published ones; an experiment may record its own form under another name."""
    return all(canonical(published[name]) == canonical(value) for name, value in asked.items() if name in published)


def _compare(published: Results, found: Results, machine: Mapping[str, Any]) -> Compared:
    from replication import evidence

    claims = evidence.load_claims(found["paper"])
    measured = machine.get("volatile", {}).get("quantity", {}).get("levels", [])
    labels = tuple(claims.volatile[name].label for name in measured if name in claims.volatile)
    left, right = _tests(published), _tests(found)
    tests = [test for test in claims.at(found["notebook"], found["profile"]) if test.id in left and test.id in right]
    farthest = max((_distance(test, left[test.id], right[test.id]) for test in tests), default=0.0)
    return Compared(published, found, tuple(changes(published, found, claims)), farthest, labels)


def _distance(test: Test, a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Relative difference of two outcomes' numbers; 0 for rounding errors that an identity tolerates."""
    largest = _largest(a, b)
    if not largest or (test.comparison == "identity" and largest <= test.tolerance):
        return 0.0
    pairs = [(a[name], b[name]) for name in _NUMBERS]
    return max((abs(x - y) / largest for x, y in pairs if x is not None and y is not None), default=0.0)


def shown(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else canonical(value)


def short(value: Any) -> str:
    """A value in few characters."""
    text = "none" if value is None else shown(value)
    return text if len(text) <= 60 else f"{text[:57]}…"

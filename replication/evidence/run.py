"""One run as a notebook sees it: start, provenance, claims, records, verdicts, finish.

Where ``REPLICATION_RUN_DIR`` names a folder, the results are left there as JSON, written whole or not at all. The
experiment's rows are kept part by part (see `parts`): a change of claims or of this room reruns no experiment. Where
``REPLICATION_RECORDS`` names the folder of published results, a run takes its records from there and computes nothing:
so a page that took a night is checked in seconds. With ``REPLICATION_ANEW`` it does so only if another processor
computed them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from replication import places, provenance
from replication.atomic import write_json
from replication.checks import one_of
from replication.evidence import parts
from replication.evidence.claims import PROFILES, ClaimError, PaperClaims, Profile, claims_file, load_claims
from replication.evidence.records import dump_records, load_records
from replication.evidence.tables import (
    Table,
    answer_text,
    apart,
    comparisons_table,
    outcomes_table,
    rounded,
    rules_table,
    top_table,
)
from replication.evidence.verdicts import Outcome, Verdict, evaluate, summary_sentence, verdicts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA = 2
#: The modules that turn records into verdicts and into what a page says of them.
DECIDING = ("claims.py", "plots.py", "records.py", "run.py", "samples.py", "statistics.py", "tables.py", "verdicts.py")
# parts of the top of a page, in their order
_TOP = ("answer", "figure", "claims", "scale")


def page() -> None:
    """Leave room at the top of a page for the answer, which `Run.show` fills in when it is known."""
    from IPython.display import Markdown, display

    display(Markdown("*Run the notebook to compute the answer.*"), display_id=_TOP[0])  # type: ignore[no-untyped-call]
    for part in _TOP[1:]:
        display(Markdown(""), display_id=part)  # type: ignore[no-untyped-call]


def start(paper: str, *, notebook: str, profile: str) -> Run:
    """Begin a run: check the names and pin the numerics. Call it before anything imports torch.

    Parameters
    ----------
    paper : str
        Name of the paper's room, such as ``"uba"``.
    notebook : str
        Stem of the notebook, such as ``"10_uba_theory"``; some claim of the paper must name it.
    profile : {"smoke", "standard", "paper"}
        The profile that the parameters are of.

    Raises
    ------
    ClaimError
        A name is not known (the message says the nearest that is), or the paper's claims are malformed.
    """
    pinned = provenance.pin_numerics()
    claims = load_claims(paper)
    one_of("notebook", notebook, claims.notebooks, ClaimError)
    one_of("profile", profile, PROFILES, ClaimError)
    return Run(claims, notebook, profile, pinned)


def evidence_key(paper: str) -> str:
    """Digest of what turns a paper's records into verdicts and pages: the deciding modules and the paper's claims."""
    room = resources.files("replication.evidence")
    digest = hashlib.sha256()
    for file in (*(room / name for name in DECIDING), claims_file(paper)):
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


class Run:
    """A run in progress; made by `start`.

    Attributes
    ----------
    paper
        Whose claims.
    notebook
        What runs.
    profile
        At which scale.
    claims
        The paper's claims and tests.
    """

    def __init__(self, claims: PaperClaims, notebook: str, profile: str, pinned: Mapping[str, Any]) -> None:
        self.paper = claims.paper
        self.notebook = notebook
        self.profile: Profile = next(known for known in PROFILES if known == profile)
        self.claims = claims
        folder = os.environ.get("REPLICATION_RUN_DIR")
        self._folder = Path(folder) if folder else None
        self._run_id = os.environ.get("REPLICATION_RUN_ID") or None
        self._pinned = pinned
        self._provenance: dict[str, Any] | None = None
        self._plan: parts.Plan | None = None
        self._replayed: Mapping[str, Any] | None = None
        self._missing: dict[str, str] = {}
        self._collected = parts.Collected(pd.DataFrame(), {}, {}, set())
        self._reused = 0
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()

    def configure(self, experiment: parts.Experiment, parameters: Mapping[str, Any]) -> Any:
        """Check the parameters of an experiment, list its parts, and show what the results depend on.

        Parameters
        ----------
        experiment : module
            With ``Config`` and ``parts(config)``.
        parameters : mapping
            A value for every field of ``Config``, such as the notebook's ``globals()``.

        Returns
        -------
        Config

        Raises
        ------
        ValueError
            A value is not allowed; the message names the parameter. Or the records to be shown are of other parameters.
        """
        from IPython.display import display

        config = checked(experiment, {name: parameters[name] for name in experiment.Config.model_fields})
        self._replayed = self._published(config)
        if self._replayed is None:
            self._plan = parts.Plan.of(experiment, config, places.runs() or Path(tempfile.mkdtemp()))
            data = self._plan.data
            self._missing = dict(getattr(experiment, "missing", lambda _config: {})(config))
        else:
            data = self._replayed["provenance"]["data"]
        plain, device = to_jsonable_python(config.model_dump()), parts.device(config)
        made = self._provenance = provenance.collect(parameters=plain, data=data, device=device, pinned=self._pinned)
        git, cpu, numerics = made["git"], made["cpu"], made["numerics"]
        revision = (git["revision"] or "not in git")[:12] + (", with changes" if git["dirty"] else "")
        packages = made["packages"]
        shown = {
            "revision": revision,
            "python": f"{made['python']}, {made['platform']}",
            "packages": ", ".join(f"{name} {packages[name]}" for name in ("torch", "numpy", "pandas", "scipy")),
            "processor": f"{cpu['model']} ({', '.join(cpu['features'])})",
            "numerics": "pinned" if numerics["pinned"] else f"not pinned: {numerics['reason']}",
            "device": device,
            "data": ", ".join(f"{name} {checksum[:19]}" for name, checksum in made["data"].items()) or "none",
        }
        display(Table(("provenance", self.notebook), tuple(shown.items()), made))  # type: ignore[no-untyped-call]
        return config

    def rules_table(self) -> Table:
        """What this notebook is asked at this profile, and the rules that answer."""
        return rules_table(self.claims.at(self.notebook, self.profile), self.claims)

    def records(self) -> pd.DataFrame:
        """The rows of all parts of the experiment: those in the store, and the others, computed now.

        A part that fails leaves the others standing. It is told here, and no test is decided that needs its rows.

        Raises
        ------
        RuntimeError
            `configure` was not called, or every part failed.
        """
        if self._replayed is not None:
            told = (self._replayed["records"], self._replayed["machine"]["volatile"])
            return parts.joined(map(load_records, told))
        if self._plan is None:
            raise RuntimeError("call run.configure(experiment, globals()) before run.records()")
        plan = self._plan
        if self._folder is not None:
            listed = [[part.name, key] for part, key in plan.listed()]
            write_json(self._folder / "parts.json", {"folder": str(plan.folder), "parts": listed}, indent=None)
        # the command's start, or this notebook's: others may have computed parts of this run before it came here
        since = float(os.environ.get("REPLICATION_SINCE") or self._started.timestamp())
        parts.sweep(plan, started=since)
        found = self._collected = parts.collect(plan)
        self._reused = sum(told["when"] < since for told in found.finished.values())
        if not found.finished:
            raise RuntimeError(f"every part failed: {'; '.join(map(': '.join, found.failures.items()))}")
        for name, what in found.failures.items():
            print(f"Part {name} failed, and nothing that needs it is decided: {what}")  # noqa: T201 (for the page)
        return found.records

    def evaluate(self, records: pd.DataFrame) -> list[Outcome]:
        """Answer this notebook's tests; one that needs a part that failed is not run."""
        whole = records[~records["quantity"].isin(list(self._collected.undecidable))]
        return evaluate(whole, self.claims, self.notebook, self.profile)

    def verdicts(self, outcomes: Sequence[Outcome]) -> list[Verdict]:
        """The verdicts on the claims that this notebook decides."""
        return verdicts(self.claims, outcomes, self.notebook, self.profile)

    def show(self, outcomes: Sequence[Outcome], figure: Figure, *, caption: str, scale: str) -> None:
        """Fill in the top of the page (see `page`): answer, key figure, the claims, the scale.

        Parameters
        ----------
        outcomes : sequence of Outcome
            This notebook's answers.
        figure : Figure
            The key figure; it is closed afterwards.
        caption : str
            What the figure shows; Markdown.
        scale : str
            Data, model and seeds in one line, and what would change the answer; Markdown.
        """
        from IPython.display import Markdown, update_display
        from matplotlib import pyplot

        decided = self.verdicts(outcomes)
        told = f"**Answer.** {answer_text(decided, outcomes, self.claims, self.profile)}"
        table = top_table(decided, outcomes, self.claims, self.profile)
        note = f"*{caption}*\n\n**Scale.** {self.profile}: {scale}"
        for part, shown in zip(_TOP, (Markdown(told), figure, table, Markdown(note)), strict=True):  # type: ignore[no-untyped-call]
            update_display(shown, display_id=part)  # type: ignore[no-untyped-call]
        pyplot.close(figure)

    def tests_table(self, outcomes: Iterable[Outcome], *roles: str) -> Table:
        """What was asked, measured and answered; of some roles, or of all."""
        return outcomes_table(outcomes, self.claims, self.profile, *roles)

    def comparisons_table(self, outcome: Outcome) -> Table:
        """Every comparison behind one of this notebook's answers."""
        return comparisons_table(outcome, self.claims, self.profile)

    def volatile_table(self, records: pd.DataFrame) -> Table:
        """What depends on the machine: shown, stored with the machine's name, and judged by nothing."""
        rows = []
        for name, quantity in self.claims.volatile.items():
            values = records.loc[records["quantity"] == name, "value"]
            if len(values):
                low, middle, high = values.quantile([0.25, 0.5, 0.75])
                rows.append((quantity.label, f"{rounded(middle, low, high)} {quantity.unit}".strip(), str(len(values))))
        machine = self._machine() if self._replayed is None else self._replayed["machine"]
        seconds = [cpu for _, cpu, _ in machine["parts"].values()]
        rows.append(("CPU time of all parts", f"{sum(seconds):.0f} s", str(len(seconds))))
        return Table(("on this machine", "median [quartiles]", "n"), tuple(rows))

    def finish(self, records: pd.DataFrame, outcomes: Iterable[Outcome]) -> None:
        """Print the answer, and leave the results in the run's folder if there is one.

        Raises
        ------
        ValueError
            The outcomes are not those of this notebook's tests, all of them and in order.
        RuntimeError
            `configure` was not called: results without provenance are no evidence.
        """
        answered = list(outcomes)
        ids = [outcome.test_id for outcome in answered]
        expected = [test.id for test in self.claims.at(self.notebook, self.profile)]
        if ids != expected:
            raise ValueError(f"outcomes: got {ids}, but the tests of {self.notebook} at {self.profile} are {expected}")
        if self._provenance is None:
            raise RuntimeError("call run.configure(experiment, globals()) before run.finish(…)")
        decided = self.verdicts(answered)
        if self._folder is not None:
            volatile = records["quantity"].isin(list(self.claims.volatile))
            machine = self._machine() | {"volatile": dump_records(records[volatile])}
            results = {
                "schema": SCHEMA,
                "notebook": self.notebook,
                "paper": self.paper,
                "profile": self.profile,
                "run_id": self._run_id,
                "parameters": self._provenance["parameters"],
                "missing": self._missing,
                "failed": self._collected.failures,
                "parts": {part.name: key for part, key in self._plan.listed()} if self._plan else {},
                "rows": self._rows(volatile),
                "verdicts": [verdict.to_dict() for verdict in decided],
                "tests": [outcome.to_dict() for outcome in answered],
                "records": dump_records(records[~volatile]),
                "provenance": {**self._provenance, "threads": provenance.threads(), **machine},
                "evidence_key": evidence_key(self.paper),
            }
            write_json(self._folder / "results.json", results)
        counts = summary_sentence(verdict.verdict for verdict in decided)
        print(f"{self.notebook}, profile {self.profile}: {counts}\nApart: {apart(answered)}.")  # noqa: T201
        print("\n".join(f"- {verdict.claim_id}: {verdict.verdict}" for verdict in decided))  # noqa: T201 (for the page)
        for name, command in self._missing.items():
            print(f"Missing data: {name}. {command}")  # noqa: T201

    def _rows(self, volatile: pd.Series[bool]) -> dict[str, list[int]]:
        """How many rows each finished part has among the records, and among those that depend on the machine."""
        found, begin = {}, 0
        for name, told in self._collected.finished.items():
            own = volatile[begin : begin + told["rows"]]
            found[name] = [int((~own).sum()), int(own.sum())]
            begin += told["rows"]
        return found

    def _machine(self) -> dict[str, Any]:
        """When, for how long and on what the run was, so far."""
        finished = self._collected.finished
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - self._clock, 3),
            "parts": {
                name: [told["seconds"], told["cpu_seconds"], told["processor"]] for name, told in finished.items()
            },
            "reused": self._reused,
        }

    def _published(self, config: parts.Settings) -> Mapping[str, Any] | None:
        """The published results of this notebook and profile, if records are taken from there."""
        folder = os.environ.get("REPLICATION_RECORDS")
        if not folder:
            return None
        path = Path(folder) / self.profile / f"{self.notebook}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["parameters"] != provenance.without_paths(to_jsonable_python(config.model_dump())):
            raise ValueError(f"REPLICATION_RECORDS: {path.name} is of other parameters than this page")
        processors = {processor for *_, processor in found["machine"]["parts"].values()}
        return None if os.environ.get("REPLICATION_ANEW") and processors == {provenance.cpu_model()} else found


def checked(experiment: parts.Experiment, values: Mapping[str, Any]) -> parts.Settings:
    """The config of these values.

    Raises
    ------
    ValueError
        A value is not allowed; the message names the parameter, what it got and what is allowed.
    """
    try:
        return experiment.Config(**values)
    except ValidationError as error:
        told = []
        for one in error.errors():
            where = ".".join(map(str, one["loc"]))
            got = f", got {one['input']!r}" if where else ""
            message = one["msg"].removeprefix("Value error, ")
            told.append(f"{where}: {message[:1].lower()}{message[1:]}{got}" if where else message)
        raise ValueError("; ".join(told)) from None
    except (ArithmeticError, LookupError, TypeError) as error:  # of a rule that did not think of such values
        raise ValueError(f"values that make no sense together ({type(error).__name__}: {error}): {values}") from None

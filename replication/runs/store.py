"""The run store: each run's folder is named by a hash of everything its result depends on.

``runs/<notebook>/<run id>/`` holds ``notebook.ipynb``, ``results.json``, ``provenance.json`` and ``log.txt``. The rows
of an experiment's parts are in ``runs/parts/`` (`replication.evidence.parts`), where other runs find them too. While a
run executes, its kernel works in the folder's ``work/``. What is whole is moved out of it, and ``results.json`` last: a
run is finished if and only if that file is there, whatever killed whom and when.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, FileLock

from replication.atomic import read_json, write_json
from replication.provenance import pin_numerics
from replication.runs import profiles
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.profiles import Project
from replication.runs.remote import Remote
from replication.sources import PINNED, closure, device_class, digest, file_digests, versions

if TYPE_CHECKING:
    from replication.evidence.parts import Plan

#: Cells with these tags are written by the runner or papermill: they are results, not source.
GENERATED_TAGS = frozenset({"injected-parameters", "papermill-error-cell-tag"})
# what two equal executions tell differently; kept in provenance.json only
_STAMPS = ("started", "wall_seconds", "parts", "reused", "volatile")


@dataclass(frozen=True)
class Spec:
    """What somebody asks for: a notebook at a profile, with some parameters of their own."""

    notebook: str
    profile: str
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A spec made exact: every parameter has its value, and `run_id` names all that the result depends on.

    Attributes
    ----------
    paper
        The paper's room in the package; empty for a notebook that decides no claims (it is never taken as finished,
        since what it shows depends on what others left).
    ingredients
        What `run_id` is the hash of, with the parameters: the notebook, what shows the page (sources and versions),
        and the keys of the experiment's parts, which have all that its rows depend on. Data, device and numerics stand
        beside, as words for what differs.
    experiment
        The module whose parts it computes, such as ``"replication.uba.experiments.vision"``; empty for none.
    """

    notebook: str
    profile: str
    parameters: dict[str, Any]
    paper: str
    run_id: str
    ingredients: dict[str, Any]
    experiment: str = ""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Run:
        """The run that a file describes; what older versions wrote besides is left out."""
        return cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})

    @property
    def name(self) -> str:
        """`notebook/run id`, as people write it."""
        return f"{self.notebook}/{self.run_id}"

    @property
    def config(self) -> dict[str, Any]:
        """The fields of the experiment's ``Config``: all parameters but the profile's name."""
        return {name: value for name, value in self.parameters.items() if name != "profile"}


def source_digest(notebook: Mapping[str, Any]) -> str:
    """Digest of a notebook's code and prose: without outputs, counts, metadata, and cells that the runner writes."""
    cells = [
        (cell["cell_type"], "".join(cell["source"]))
        for cell in notebook["cells"]
        if not GENERATED_TAGS & set(cell["metadata"].get("tags", []))
    ]
    return digest(cells)


def room_files(package: Path, paper: str) -> list[Path]:
    """The files of a paper's room and all that they import of the package, without claims, evidence and runner."""
    modules = [file.relative_to(package.parent).with_suffix("") for file in (package / paper).rglob("*.py")]
    return closure([".".join(module.parts) for module in modules], package)


def plan_of(experiment: str, config: Mapping[str, Any], store: str | Path) -> Plan:
    """The parts of an experiment, a module by its name, with their keys and places in a store.

    Raises
    ------
    ValueError
        A value is not allowed; the message names the parameter, what it got and what is allowed.
    """
    # as the run does: what is pinned is part of the keys
    pin_numerics(here=False)
    from replication.evidence.parts import Plan
    from replication.evidence.run import checked

    module: Any = importlib.import_module(experiment)
    return Plan.of(module, checked(module, config), Path(store))


def listed_parts(work: Path) -> dict[str, Path]:
    """The parts that a kernel listed in its `work/`, by name, each with its file; none if nothing readable is there."""
    listed = read_json(work / "parts.json") or {}
    try:
        return {str(name): Path(listed["folder"]) / f"{key}.json" for name, key in listed["parts"]}
    except (TypeError, KeyError, ValueError):
        return {}


class RunStore:
    """The folders of all runs of a project.

    Parameters
    ----------
    project
        Whose notebooks, sources and store.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.root = project.store
        self.shared = Remote(project.shared) if project.shared else None
        # read once, since a batch may hold hundreds of runs
        self._about = functools.cache(self._common)
        self._room = functools.cache(self._shown)

    def prepare(self) -> None:
        """Make sure that runs can be kept, before any time is spent on one.

        Raises
        ------
        ReplicationError
            The store's folder cannot be made or written.
        """
        probe = self.root / f".probe-{os.getpid()}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise ReplicationError(
                f"cannot write the run store {self.root}: {error.strerror}. "
                "Free it, or set REPLICATION_RUNS to a folder that you can write."
            ) from error

    def plan(self, spec: Spec) -> Run:
        """Check a spec and find the id of its run; nothing is executed or written.

        Raises
        ------
        RefusedError
            The notebook, profile, a parameter or data are wrong, or the notebook names a paper without a room.
        """
        notebook = self.project.notebook(spec.notebook)
        values = profiles.resolve(self.project, notebook, spec.profile, spec.overrides)
        paper, experiment, ingredients = self._depends(notebook, values)
        run_id = digest([notebook, values, ingredients])[:16]
        return Run(notebook, spec.profile, values, paper, run_id, ingredients, experiment)

    def differences(self, run: Run) -> list[str]:
        """In which things this machine differs from the one on which a run was planned, in words."""
        *_, here = self._depends(run.notebook, run.parameters)
        return [name for name, value in here.items() if run.ingredients.get(name) != value]

    def _depends(self, notebook: str, values: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """A notebook's paper, its experiment, and what its run at these values depends on."""
        paper, experiment, page = self._about(notebook)
        pin_numerics(here=False)
        numerics = {name: os.environ.get(name) for name in PINNED}
        found = {**page, "device": device_class(), "numerics": numerics}
        if experiment:
            config = {name: value for name, value in values.items() if name != "profile"}
            try:
                plan = plan_of(experiment, config, self.root)
                found |= {"data": dict(plan.data), "parts": digest({part.name: key for part, key in plan.listed()})}
            except ValueError as error:
                raise RefusedError(f"notebook {notebook!r}: {error}") from None
            except Exception as error:  # data that are not here, say: the run itself tells, and the others go on
                found["parts"] = f"{type(error).__name__}: {error}"
        return paper, experiment, found

    def _common(self, notebook: str) -> tuple[str, str, dict[str, Any]]:
        """What all runs of a notebook have in common: paper, experiment, and what shows the page."""
        node = profiles.read_page(self.project.notebook_file(notebook))
        paper = node["metadata"].get("replication", {}).get("paper", "")
        if paper and not (self.project.package / paper).is_dir():
            raise RefusedError(
                f"notebooks/{notebook}.ipynb names the paper {paper!r}, but there is no folder replication/{paper}."
            )
        return paper, profiles.experiment(node), {"notebook": source_digest(node), **self._room(paper)}

    def _shown(self, paper: str) -> dict[str, dict[str, str]]:
        """Sources and versions that the pages of a paper depend on."""
        files = room_files(self.project.package, paper) if paper else []
        return {"sources": file_digests(files, self.project.package), "versions": versions(files)}

    def folder(self, run: Run) -> Path:
        """The folder of a run, there or not."""
        return self.root / run.notebook / run.run_id

    def lock(self, run: Run) -> BaseFileLock:
        """The lock that whoever executes a run holds; the operating system frees it when its holder dies."""
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{run.notebook}-{run.run_id}.lock")

    def pull(self, run: Run) -> None:
        """Take a finished run from the shared store, if there is one and it has it, unless today's is here."""
        if self.shared is not None and (self.current(run) if run.paper else self.results(run)) is None:
            self.shared.pull(self.folder(run), run.name)

    def push(self, run: Run) -> None:
        """Give what is there of a run to the shared store, if there is one."""
        if self.shared is not None:
            self.shared.push(self.folder(run), run.name)

    def results(self, run: Run) -> dict[str, Any] | None:
        """A run's results, or None if it is not finished."""
        return read_json(self.folder(run) / "results.json")

    def machine(self, run: Run) -> dict[str, Any]:
        """What a finished run's machine told: when, how long, volatile quantities, processor; nothing compares it."""
        about = read_json(self.folder(run) / "provenance.json") or {}
        machine: dict[str, Any] = about.get("machine", {})
        return machine

    def current(self, run: Run) -> dict[str, Any] | None:
        """A finished run's results if its verdicts are today's, else None: it must be executed."""
        found = self.results(run) if run.paper else None
        if found is None:
            return None
        from replication import evidence

        return found if found.get("evidence_key") == evidence.evidence_key(run.paper) else None

    def state(self, run: Run) -> str:
        """``finished``, ``stale`` (verdicts are to be recomputed), ``failed``, ``unfinished`` or ``absent``."""
        folder = self.folder(run)
        if self.results(run) is not None:
            return "finished" if self.current(run) or not run.paper else "stale"
        if (folder / "failed.json").is_file():
            return "failed"
        return "unfinished" if folder.is_dir() else "absent"

    def runs(self) -> Iterator[Run]:
        """Every run with a folder, the newest last."""
        for path in sorted(self.root.glob("[!.]*/*/provenance.json"), key=lambda p: p.stat().st_mtime):
            with contextlib.suppress(TypeError):  # a field is missing
                yield Run.of(read_json(path) or {})

    def find(self, run_id: str) -> Run:
        """The run whose id starts with `run_id` (or `notebook/run_id`).

        Raises
        ------
        RefusedError
            None or several do.
        """
        of, _, wanted = run_id.rpartition("/")
        known = (run for run in self.runs() if not of or run.notebook == Path(of).name)
        found = [run for run in known if wanted and run.run_id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        raise RefusedError(
            f"{len(found) or 'no'} runs have an id that starts with {wanted!r}; `replicate list` shows the runs."
        )

    def open_work(self, run: Run) -> Path:
        """An empty `work/` for a run's kernel."""
        work = self.folder(run) / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_json(self.folder(run) / "provenance.json", asdict(run) | {"machine": self.machine(run)})
        return work

    def finish(self, run: Run, results: Mapping[str, Any]) -> None:
        """Move what a successful execution left in `work/` to its place, `results.json` last."""
        folder = self.folder(run)
        work = folder / "work"
        told = results.get("provenance", {})
        machine = {name: told[name] for name in _STAMPS if name in told}
        machine["processor"] = told.get("cpu", {}).get("model")
        write_json(folder / "provenance.json", asdict(run) | {"machine": machine})
        # results are a function of the run id: equal to the byte, whenever, wherever and by whichever engine
        lasting = {name: value for name, value in told.items() if name not in _STAMPS}
        results = {**results, "provenance": lasting} if "provenance" in results else results
        if (work / "notebook.ipynb").exists():
            (work / "notebook.ipynb").replace(folder / "notebook.ipynb")
        write_json(folder / "results.json", results)
        for name in ("failed.json", "notebook.failed.ipynb"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)

    def fail(self, run: Run, failure: Mapping[str, Any]) -> None:
        """Keep what a failed execution left: its partial notebook, and what went wrong."""
        folder = self.folder(run)
        partial = folder / "work" / "notebook.ipynb"
        if partial.exists():
            partial.replace(folder / "notebook.failed.ipynb")
        write_json(folder / "failed.json", failure)

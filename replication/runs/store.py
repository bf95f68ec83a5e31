"""The run store: each run's folder is named by a hash of everything its result depends on.

``runs/<notebook>/<run id>/`` holds ``notebook.ipynb``, ``results.json``, ``provenance.json`` and ``log.txt``. The rows
of an experiment's parts are in ``runs/parts/`` (`replication.evidence.parts`), where other runs find them too. While a
run executes, its kernel works in the folder's ``work/``. What is whole is moved out of it, and ``results.json`` last: a
run is finished if and only if that file is there, whatever killed whom and when.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock

from replication.runs import profiles
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.files import read_json, write_json
from replication.runs.profiles import Project
from replication.runs.remote import Remote
from replication.sources import INSTRUCTIONS, device_class, digest, file_digests, versions

#: Cells with these tags are written by the runner or papermill: they are results, not source.
GENERATED_TAGS = frozenset({"injected-parameters", "papermill-error-cell-tag"})
#: The package's parts that every paper's results depend on, beside the paper's own room.
SHARED_ROOMS = ("training", "data", "compat.py")
# what two equal executions tell differently; kept in provenance.json only
_STAMPS = ("started", "wall_seconds", "parts", "reused", "volatile")


@dataclass(frozen=True)
class Spec:
    """What somebody asks for: a notebook at a profile, with some parameters of their own.

    Attributes
    ----------
    resources
        What the machine that executes it must offer, in a cluster's own words, such as ``{"GPU": 1}``.
    """

    notebook: str
    profile: str
    overrides: Mapping[str, Any]
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A spec made exact: every parameter has its value, and `run_id` names all that the result depends on.

    Attributes
    ----------
    paper
        The paper's room in the package; empty for a notebook that decides no claims (it is never taken as finished,
        since what it shows depends on what others left).
    ingredients
        What `run_id` is the hash of: digests of the notebook's source and of the rooms, distributions' versions,
        data checksums, device class.
    resources
        What the machine that executes it must offer; no part of `run_id`.
    experiment
        The module whose parts it computes, such as ``"replication.uba.experiments.vision"``; empty for none.
    """

    notebook: str
    profile: str
    parameters: dict[str, Any]
    paper: str
    run_id: str
    ingredients: dict[str, Any]
    resources: dict[str, float] = field(default_factory=dict, compare=False)
    experiment: str = ""

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
    """The files whose bytes decide a paper's records: its room and the shared ones, without claims and caches."""
    found = []
    for room in (paper, *SHARED_ROOMS):
        path = package / room
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [
            file
            for file in inside
            if file.is_file()
            and file.name != "claims.yaml"
            and not any(part == "__pycache__" or part.startswith(".") for part in file.relative_to(package).parts)
        ]
    return found


def listed_parts(work: Path) -> dict[str, Path]:
    """The parts that a kernel listed in its `work/`, by name, each with its file; none if nothing readable is there."""
    listed = read_json(work / "parts.json")
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
        self._data: dict[str, str] = {}
        self._notebooks: dict[str, tuple[str, str, dict[str, Any]]] = {}

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
            The notebook, profile or a parameter is wrong, or the notebook names a paper without a room.
        """
        notebook = self.project.notebook(spec.notebook)
        values = profiles.resolve(self.project, notebook, spec.profile, spec.overrides)
        paper, experiment, common = self._common(notebook)
        # a worker with a GPU computes on it, whatever the machine has on which the run is planned
        device = "cuda" if spec.resources.get("GPU") else device_class()
        ingredients = {**common, "device": device}
        # instructions that the caller's shell asks for decide bits, and may decide an answer; unset, notebooks pin them
        shell = {name: os.environ.get(name, value) for name, value in INSTRUCTIONS.items()}
        if asked := {name: value for name, value in shell.items() if value != INSTRUCTIONS[name]}:
            ingredients["numerics"] = asked
        run_id = digest([notebook, values, ingredients])[:16]
        return Run(notebook, spec.profile, values, paper, run_id, ingredients, dict(spec.resources), experiment)

    def differences(self, run: Run) -> list[str]:
        """In which things this machine differs from the one on which a run was planned, in words."""
        *_, here = self._common(run.notebook)
        words = {"source": "notebook", "rooms": "sources", "distributions": "versions", "data": "data"}
        return [words[name] for name, value in here.items() if run.ingredients[name] != value]

    def _common(self, notebook: str) -> tuple[str, str, dict[str, Any]]:
        """A notebook's paper, experiment, and what its runs depend on; read once, since a batch may hold hundreds."""
        if notebook not in self._notebooks:
            node = profiles.read_page(self.project.notebook_file(notebook))
            about = node["metadata"].get("replication", {})
            paper = about.get("paper", "")
            if paper and not (self.project.package / paper).is_dir():
                raise RefusedError(
                    f"notebooks/{notebook}.ipynb names the paper {paper!r}, but there is no folder replication/{paper}."
                )
            files = room_files(self.project.package, paper) if paper else []
            common = {
                "source": source_digest(node),
                "rooms": file_digests(files, self.project.package),
                "distributions": versions(files),
                "data": {name: self._checksum(name) for name in about.get("data", [])},
            }
            self._notebooks[notebook] = paper, profiles.experiment(node), common
        return self._notebooks[notebook]

    def _checksum(self, name: str) -> str:
        if name not in self._data:
            from replication import data

            try:
                self._data[name] = data.checksum(name)
            except data.DataNotFound:
                self._data[name] = "absent"
        return self._data[name]

    def folder(self, run: Run) -> Path:
        """The folder of a run, there or not."""
        return self.root / run.notebook / run.run_id

    def lock(self, run: Run) -> BaseFileLock:
        """The lock that whoever executes a run holds; the operating system frees it when its holder dies."""
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{run.notebook}-{run.run_id}.lock")

    def pull(self, run: Run) -> None:
        """Take a finished run from the shared store, if there is one and it has it."""
        if self.shared is not None:
            self.shared.pull(self.folder(run), run.name)

    def push(self, run: Run) -> None:
        """Give what is there of a run to the shared store, if there is one."""
        if self.shared is not None:
            self.shared.push(self.folder(run), run.name)

    def results(self, run: Run) -> dict[str, Any] | None:
        """A run's results, or None if it is not finished."""
        found = read_json(self.folder(run) / "results.json")
        return found if isinstance(found, dict) else None

    def machine(self, run: Run) -> dict[str, Any]:
        """What a finished run's machine told: when, how long, volatile quantities, processor; nothing compares it."""
        about = read_json(self.folder(run) / "provenance.json")
        return about.get("machine", {}) if isinstance(about, dict) else {}

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
            found = read_json(path)
            with contextlib.suppress(TypeError, KeyError):
                yield Run(**{name: found[name] for name in Run.__dataclass_fields__ if name in found})

    def find(self, run_id: str) -> Run:
        """The run whose id starts with `run_id` (or `notebook/run_id`).

        Raises
        ------
        RefusedError
            None or several do.
        """
        wanted = run_id.rpartition("/")[2]
        found = [run for run in self.runs() if wanted and run.run_id.startswith(wanted)]
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

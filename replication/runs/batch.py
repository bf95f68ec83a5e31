"""Many runs from one grid file: checked before anything starts, remembered, resumed.

A grid file::

    profile: smoke              # for all entries that name none
    notebooks: [10_uba_theory]  # as their profile has them; without `notebooks` and `runs`: all that have the profile
    runs:
      - notebook: 11_uba_vision
        parameters: {model: mlp}                       # the same in each run of the entry
        grid: {label_noise: [0.0, 0.2], seeds: 5..6}  # every combination: 4
        groups:                                           # parameter sets with names: 2; with the grid: 8 runs
          short: {budgets: [1.0, 2.0], batch_size: 16}
          long: {budgets: [4.0, 8.0], batch_size: 32}
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from replication.atomic import read_json, write_json
from replication.checks import near_of
from replication.places import unchanging
from replication.runs import parts
from replication.runs.engines import Engine
from replication.runs.errors import RefusedError
from replication.runs.files import read_yaml
from replication.runs.notebook import Listener, Options, Outcome, execute, message
from replication.runs.profiles import Project, expand_range
from replication.runs.store import Run, RunStore, Spec
from replication.sources import digest


class Sweep(BaseModel):
    """One notebook at many parameter values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notebook: str
    profile: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("grid", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        return {name: expand_range(v) for name, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        for name, values in self.grid.items():
            if not values:
                raise ValueError(f"{name!r} has no values")
        sets = {name: set(group) for name, group in self.groups.items()}
        grouped = set().union(*sets.values())
        for name, group in sets.items():
            if missing := sorted(grouped - group):
                raise ValueError(f"group {name!r} does not set {', '.join(missing)}; every group sets the same names")
        names = [*self.parameters, *self.grid, *grouped]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is set twice; a parameter stands in one of parameters, grid and groups")
        return self

    def overrides(self) -> Iterator[dict[str, Any]]:
        """Each run's parameters: every combination of `grid` with every one of `groups`.

        Examples
        --------
        >>> groups = {"few": {"c": 3, "d": 5}, "many": {"c": 9, "d": 6}}
        >>> for overrides in Sweep(notebook="n", grid={"b": "1..2"}, groups=groups).overrides():
        ...     print(overrides)
        {'b': 1, 'c': 3, 'd': 5}
        {'b': 1, 'c': 9, 'd': 6}
        {'b': 2, 'c': 3, 'd': 5}
        {'b': 2, 'c': 9, 'd': 6}
        """
        for *combination, group in itertools.product(*self.grid.values(), list(self.groups.values()) or [{}]):
            yield self.parameters | dict(zip(self.grid, combination, strict=True)) | group


class Grid(BaseModel):
    """A grid file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str = "smoke"
    notebooks: list[str] | None = None
    runs: list[Sweep] | None = None

    @classmethod
    def load(cls, path: Path, profile: str | None = None) -> Grid:
        """Read and check a grid file.

        Parameters
        ----------
        profile
            Takes the place of the file's own.

        Raises
        ------
        RefusedError
            The file is absent, or an entry is wrong; the message says which and why.
        """
        found = read_yaml(path)
        if not isinstance(found, dict):
            raise RefusedError(f"{path} must have the keys {', '.join(cls.model_fields)}.")
        if found.keys() & {"notebooks", "runs"} and not any(found.get(name) for name in ("notebooks", "runs")):
            raise RefusedError(f"{path} asks for no run; without `notebooks` and `runs` it asks for all notebooks.")
        if profile is not None:
            found["profile"] = profile
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            hint = ""
            if first["type"] == "extra_forbidden":
                model = Sweep if first["loc"][0] == "runs" else cls
                hint = near_of(str(first["loc"][-1]), model.model_fields)
            raise RefusedError(f"{path}: {where}: {first['msg']}{hint}") from None

    def specs(self, project: Project) -> list[Spec]:
        """The runs that this file asks for, in order."""
        named, sweeps = self.notebooks or [], self.runs or []
        if self.notebooks is None and self.runs is None:
            named = [name for name in project.notebooks() if self.profile in project.profiles(name)]
            if not named:
                raise RefusedError(
                    f"no notebook has a profile {self.profile!r}{near_of(self.profile, project.profiles())}"
                )
        specs = [Spec(name, self.profile, {}) for name in named]
        for sweep in sweeps:
            specs += [Spec(sweep.notebook, sweep.profile or self.profile, o) for o in sweep.overrides()]
        return specs


class Batch:
    """The runs of one grid, remembered under `runs/batches/` by what was asked for.

    Parameters
    ----------
    specs
        What was asked for; checked whole before anything starts.

    Raises
    ------
    RefusedError
        Any spec is wrong.
    """

    def __init__(self, store: RunStore, specs: Sequence[Spec]) -> None:
        self.store = store
        with unchanging():  # there may be hundreds of runs, and data of gigabytes
            planned = [(spec, store.plan(spec)) for spec in specs]
        # two entries may ask for the same run; a notebook of no paper shows what the others left, so it comes last
        unique = {run.name: (spec, run) for spec, run in planned}
        pairs = sorted(unique.values(), key=lambda pair: not pair[1].paper)
        self.specs: list[Spec] = [spec for spec, _ in pairs]
        self.runs: list[Run] = [run for _, run in pairs]
        asked = [[run.notebook, run.profile, run.parameters] for run in self.runs]
        self.name = digest(asked)[:8]

    @classmethod
    def remembered(cls, store: RunStore, name: str | None = None) -> Batch:
        """A batch that was started before: the newest, or the one whose name starts with `name`.

        Raises
        ------
        RefusedError
            There is none.
        """
        found, _ = cls._read(store, name)
        return cls(store, [Spec(*(spec[name] for name in Spec.__dataclass_fields__)) for spec in found["specs"]])

    @classmethod
    def executed(cls, store: RunStore, name: str | None = None) -> tuple[str, list[Run]]:
        """The name and the runs of a batch as they were when it was last started, whatever has changed since.

        Raises
        ------
        RefusedError
            There is none.
        """
        found, path = cls._read(store, name)
        return path.stem, [Run.of(run) for run in found["runs"]]

    @staticmethod
    def _read(store: RunStore, name: str | None) -> tuple[dict[str, Any], Path]:
        files = sorted((store.root / "batches").glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
        if not files:
            raise RefusedError("no batch was started yet; `replicate batch` starts one.")
        if name:
            known = [path.stem for path in files]
            start = Path(name).name.removesuffix(".json") if Path(name).is_file() else name
            files = [path for path in files if path.stem.startswith(start)]
            if len(files) != 1:
                raise RefusedError(f"there is no one batch {name!r}{near_of(name, known)}")
        found = read_json(files[-1])
        if found is None:
            raise RefusedError(f"{files[-1]} is damaged; start the batch again with `replicate batch`.")
        return found, files[-1]

    def remember(self) -> None:
        """Write the batch down, so that `replicate resume` finds it, and as the newest."""
        asked = {"specs": [asdict(spec) for spec in self.specs], "runs": [asdict(run) for run in self.runs]}
        write_json(self.store.root / "batches" / f"{self.name}.json", asked)

    def execute(
        self, engine: Engine, options: Options, listener: Listener | None = None, *, remember: bool = True
    ) -> Generator[Outcome]:
        """Execute what is not finished; yields outcomes as they come, and one failing run never stops the rest.

        Parameters
        ----------
        remember
            Write the batch down, so that it can be resumed and reported by name.
        """
        if remember:
            self.remember()
        start = time.monotonic()
        shared = self.store.shared.finished() if self.store.shared else set()
        waiting = []
        for run in self.runs:
            if run.name in shared:
                self.store.pull(run)
            # what is there needs no engine: a finished batch of hundreds is a matter of seconds
            if not options.force and (results := self.store.current(run)) is not None:
                yield Outcome(run, "reused", time.monotonic() - start, message(results))
            else:
                waiting.append(run)
            start = time.monotonic()
        work = partial(execute, project=self.store.project, options=options)
        assist = partial(parts.help_with, project=self.store.project, options=options)
        # those that read the others' results wait for them
        for runs in ([r for r in waiting if r.paper], [r for r in waiting if not r.paper]):
            if not runs:
                continue
            with closing(engine.outcomes(work, runs, listener, assist)) as outcomes:
                for outcome in outcomes:
                    if outcome.ok:
                        self.store.pull(outcome.run)
                    yield outcome

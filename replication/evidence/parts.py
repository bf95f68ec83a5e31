"""Parts: the independent pieces of an experiment, each stored when it ends.

A part is a name, one function and the settings that it reads. Its rows are kept in ``parts/`` of the run store under a
hash of what they depend on: the function, the settings, the sources that it imports, versions of packages, data, kind
of device and numerics. So whatever kills a run costs at most the parts in flight, more seeds or one more method compute
only what is new, and any number of processes may work through the same list: who holds a part's lock computes it. A
digest stands beside the rows: where they are not those that were written, the part is computed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeGuard

import pandas as pd
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

import replication
from replication import provenance, sources
from replication.atomic import read_json, write_json
from replication.evidence.records import dump_records, load_records, tidy

SCHEMA = 1
# seconds between two looks at what other processes have done
_LOOK = 0.2


class Settings(BaseModel):
    """Base of an experiment's ``Config``: every field is a parameter of its notebook, stated nowhere else.

    A field's default is the smoke profile's value, its description the comment in the notebook's parameters cell.
    Numbers must be finite.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def only(self, *names: str) -> Self:
        """A copy for one part, which holds some fields alone; the others are None, so that the part cannot read them.

        Parameters
        ----------
        *names : str
            Fields that are kept.

        Examples
        --------
        >>> class Config(Settings):
        ...     methods: list[str] = ["a", "b"]
        ...     steps: int = 3
        >>> Config().only("steps")
        Config(methods=None, steps=3)
        """
        fields = type(self).model_fields
        if unknown := set(names) - fields.keys():
            raise ValueError(f"only: got {', '.join(sorted(unknown))}, but the fields are {', '.join(fields)}")
        return self.model_copy(update=dict.fromkeys(fields.keys() - set(names)))


@dataclasses.dataclass(frozen=True)
class Part:
    """One piece of an experiment.

    Attributes
    ----------
    name
        Of its own within the experiment; people read it.
    compute
        A function of a module. It is given the settings, the rows of `needs` if there are any, and `cell`, and returns
        or yields rows (see `tidy`).
    settings
        All that it reads; usually the experiment's config with most fields left out (`Settings.only`).
    cell
        Further arguments by keyword, JSON-able: which piece it is, such as ``{"method": "MAML"}``. A part that names
        some of the experiment's data sets here reads no other.
    needs
        Names of earlier parts whose rows it is given, as one frame.
    alone
        Measures time: computed when no other part of its run is.
    """

    name: str
    compute: Callable[..., Iterable[Mapping[str, Any]] | pd.DataFrame]
    settings: Settings
    cell: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()
    alone: bool = False


class Experiment(Protocol):
    """A module that a notebook runs; it may also have ``inputs(config)`` and ``missing(config)``."""

    Config: type[Settings]

    def parts(self, config: Any) -> Sequence[Part]:
        """The parts of the experiment, in the order of their rows."""
        ...


@dataclasses.dataclass(frozen=True)
class Plan:
    """The parts of an experiment with their places in the store."""

    parts: tuple[Part, ...]
    keys: tuple[str, ...]
    data: Mapping[str, str]
    """Checksums of the data sets that are read, by name."""
    folder: Path
    """Where rows are kept."""

    @classmethod
    def of(cls, experiment: Experiment, config: Settings, folder: Path) -> Plan:
        """List the parts of an experiment and find their keys.

        Parameters
        ----------
        experiment : module
            With `Config` and `parts`.
        config : Settings
            Its config.
        folder : Path
            The run store.

        Raises
        ------
        ValueError
            Two parts have one name, or a part needs one that does not stand before it.
        """
        parts = tuple(experiment.parts(config))
        known: dict[str, str] = {}
        data: dict[str, str] = getattr(experiment, "inputs", lambda _config: {})(config)
        common = {
            "device": device(config),
            # what is pinned decides the bits
            "numerics": {name: os.environ.get(name) for name in sources.PINNED},
        }
        for part in parts:
            if part.name in known:
                raise ValueError(f"parts: the name {part.name!r} stands twice")
            if absent := [name for name in part.needs if name not in known]:
                raise ValueError(f"parts: {part.name!r} needs {', '.join(absent)}, which must stand before it")
            compute = part.compute
            known[part.name] = sources.digest(
                {
                    **common,
                    "data": {name: data[name] for name in data if name in part.cell.values()} or data,
                    "schema": SCHEMA,
                    "function": f"{compute.__module__}:{compute.__qualname__}",
                    "settings": part.settings.model_dump(mode="json"),
                    "cell": dict(part.cell),
                    "sources": _sources(compute.__module__),
                    "needs": [known[name] for name in part.needs],
                }
            )[:24]
        # uba-vision of replication.uba.experiments.vision
        name = "-".join(getattr(experiment, "__name__", "").split(".")[1::2]) or "experiment"
        return cls(parts, tuple(known.values()), data, folder / "parts" / name)

    def listed(self) -> list[tuple[Part, str]]:
        """Each part with its key."""
        return list(zip(self.parts, self.keys, strict=True))

    def file(self, key: str) -> Path:
        """Where a part's rows are kept."""
        return self.folder / f"{key}.json"

    def stored(self, key: str) -> dict[str, Any] | None:
        """A finished part: its rows, when, where and how long; None if it is not there, or damaged."""
        found = _read(self.file(key))
        return found if _whole(found) and found.get("schema") == SCHEMA and not _outdated(found) else None

    def failure(self, key: str) -> dict[str, Any] | None:
        """How a part failed last: message, traceback and when."""
        return _read(self.file(key).with_suffix(".failed.json"))

    def state(self, key: str) -> str:
        """``done``, ``running``, ``failed`` or ``waiting``."""
        if self.stored(key):
            return "done"
        if (lock := self.file(key).with_suffix(".lock")).exists():
            try:
                with FileLock(lock, timeout=0):
                    pass
            except Timeout:
                return "running"
        return "failed" if self.failure(key) else "waiting"


def device(config: Settings) -> str:
    """The kind of device that a config computes on, ``"cpu"`` or ``"cuda"``."""
    asked = getattr(config, "device", "cpu")
    return sources.device_class() if asked == "auto" else str(asked).partition(":")[0]


def gather(experiment: Experiment, config: Settings) -> pd.DataFrame:
    """All rows of an experiment, computed here and kept nowhere.

    Raises
    ------
    Exception
        Whatever a part raises.
    """
    rows: dict[str, pd.DataFrame] = {}
    for part in experiment.parts(config):
        rows[part.name] = _compute(part, rows)
    return joined(rows.values())


def joined(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Frames of records one after another, in the one form of records."""
    # not `concat`, which takes the kind of a column that is empty in one frame for another
    return tidy(row for frame in frames for row in frame.to_dict("records"))  # type: ignore[misc]


def sweep(plan: Plan, *, helping: bool = False, started: float | None = None) -> None:
    """Compute the parts of a plan that are not in the store, beside any other process that does the same.

    Returns when every part is done or has failed.

    Parameters
    ----------
    plan : Plan
        Whose parts.
    helping : bool
        Leave parts that measure time to the process that is helped.
    started : float, optional
        Failures before this time are tried again; default: before this call.
    """
    begun = time.time() if started is None else started
    # what measures time, and what needs it, comes last, and is left to the process that is helped
    last: set[str] = set()
    for part in plan.parts:
        if part.alone or last & set(part.needs):
            last.add(part.name)
    pending = [i for i, part in enumerate(plan.parts) if not (helping and part.name in last)]
    ended: dict[str, bool] = {}
    while pending:
        moved = False
        for i in list(pending):
            part, key = plan.parts[i], plan.keys[i]
            if plan.file(key).exists() and plan.stored(key):
                ended[part.name] = True
            elif (told := plan.failure(key)) and told["when"] >= begun:
                ended[part.name] = False
            elif any(ended.get(name) is False for name in part.needs):
                failed = ", ".join(name for name in part.needs if ended.get(name) is False)
                _fail(plan, key, part, f"it needs {failed}, which failed")
                ended[part.name] = False
            elif not all(ended.get(name) for name in part.needs) or (
                part.alone and any(plan.parts[j].name not in last for j in pending)
            ):
                continue
            else:
                done = _try(plan, i)
                if done is None:
                    continue
                ended[part.name] = done
            pending.remove(i)
            moved = True
        if pending and not moved:
            time.sleep(_LOOK)


def restore(plan: Plan, results: Mapping[str, Any]) -> list[str]:
    """Put the rows of published results into the store, of the parts that would be computed alike and are not there.

    So a profile may be extended where another machine computed it. Rows that depend on the machine follow the others
    of their part.

    Parameters
    ----------
    plan : Plan
        The extended one.
    results : mapping
        As `finish` leaves them; those of before parts had their numbers of rows restore nothing.

    Returns
    -------
    list of str
        Names of the parts that were restored.
    """
    machine, named, restored = results["machine"], {key: part for part, key in plan.listed()}, []
    frames = [load_records(told) for told in (results["records"], machine["volatile"])]
    # whole numbers of a column that some rows lack were published as floats
    lacking = {name for frame in frames for name in frame.columns[frame.isna().any()]} - {"value"}
    for name, counts in results.get("rows", {}).items():
        own = [frame[:count] for frame, count in zip(frames, counts, strict=True)]
        frames = [frame[count:] for frame, count in zip(frames, counts, strict=True)]
        key = results["parts"][name]
        if key in named and not plan.stored(key):
            # columns that other parts alone fill in are not its own
            filled = [one.loc[:, one.notna().any() | one.columns.isin(["quantity", "value"])] for one in own]
            filled = [_whole_numbers(one, lacking) for one in filled]
            seconds, cpu_seconds, processor = machine["parts"][name]
            about = {"seconds": seconds, "cpu_seconds": cpu_seconds, "processor": processor, "machine": "published"}
            when = datetime.datetime.fromisoformat(machine["started"]).timestamp()
            _keep(plan, key, named[key], joined(filled), **about, when=when)
            restored.append(named[key].name)
    return restored


def _whole_numbers(rows: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Rows with integers in those of some columns that hold whole numbers alone."""
    floats = rows.select_dtypes("float64")
    return rows.astype({name: "int64" for name in columns if name in floats and (floats[name] % 1 == 0).all()})


class Collected(NamedTuple):
    """What the parts of a plan left."""

    records: pd.DataFrame
    """The rows of all finished parts, in order."""
    finished: dict[str, dict[str, Any]]
    """When, where and how long each finished part was computed, and its number of rows, by its name."""
    failures: dict[str, str]
    """The names of those that failed, with what went wrong."""
    undecidable: set[str]
    """The quantities in which a failed part may have had a share: those of finished parts of the same function; if
    there is none, all of them."""


def collect(plan: Plan) -> Collected:
    """Read what the parts of a plan left, each once."""
    frames: dict[str, pd.DataFrame] = {}
    finished, failures = {}, {}
    for part, key in plan.listed():
        if found := plan.stored(key):
            frames[part.name] = load_records(found.pop("rows"))
            finished[part.name] = found | {"rows": len(frames[part.name])}
        else:
            failures[part.name] = str((plan.failure(key) or {"message": "not computed"})["message"])
    records = joined(frames.values())
    undecidable: set[str] = set()
    for part in plan.parts:
        if part.name in failures:
            siblings = [frames[one.name] for one in plan.parts if one.compute == part.compute and one.name in frames]
            undecidable.update(*(frame["quantity"] for frame in siblings or [records]))
    return Collected(records, finished, failures, undecidable)


def _try(plan: Plan, i: int) -> bool | None:
    """Compute a part unless another process does; whether it went well, None if another has it."""
    part, key = plan.parts[i], plan.keys[i]
    file = plan.file(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file.with_suffix(".lock"), timeout=0):
            if plan.stored(key):
                return True
            if file.exists() and not _whole(_read(file)):
                print(f"part {part.name}: {file} is damaged, so it is computed again", file=sys.stderr)  # noqa: T201
            keys = {one.name: of for one, of in plan.listed()}
            rows = {name: load_records((plan.stored(keys[name]) or {})["rows"]) for name in part.needs}
            begin = time.perf_counter(), time.process_time()
            try:
                made = _compute(part, rows)
            except Exception as error:
                _fail(plan, key, part, f"{type(error).__name__}: {error}", traceback.format_exc())
                return False
            spent = time.perf_counter() - begin[0], time.process_time() - begin[1]
            _keep(
                plan,
                key,
                part,
                made,
                seconds=round(spent[0], 3),
                cpu_seconds=round(spent[1], 3),
                processor=provenance.cpu_model(),
                machine=platform.node(),
                # clocks differ: what is computed now is not of before the command
                when=max(time.time(), _fresh()),
            )
            file.with_suffix(".failed.json").unlink(missing_ok=True)
            return True
    except Timeout:
        return None


def _keep(plan: Plan, key: str, part: Part, made: pd.DataFrame, **about: Any) -> None:
    """Write a finished part, with what is told about how it was computed."""
    rows = dump_records(made)
    settings = part.settings.model_dump(mode="json", exclude_none=True) | dict(part.cell)
    told = {"schema": SCHEMA, "name": part.name, "settings": settings, **about}
    write_json(plan.file(key), {**told, "digest": sources.digest(rows), "rows": rows}, indent=None)


def _compute(part: Part, rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    needed = [joined(rows[name] for name in part.needs)] if part.needs else []
    return tidy(part.compute(part.settings, *needed, **part.cell))


def _fail(plan: Plan, key: str, part: Part, message: str, trace: str = "") -> None:
    print(trace or message, file=sys.stderr)  # noqa: T201 (the run's log)
    told = {"name": part.name, "message": message, "traceback": trace, "when": time.time()}
    write_json(plan.file(key).with_suffix(".failed.json"), told, indent=None)


def _whole(found: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    """Whether a part's rows are those that were written; parts that were stored without a digest are believed."""
    return bool(found and "rows" in found and found.get("digest") in (None, sources.digest(found["rows"])))


def _outdated(found: Mapping[str, Any]) -> bool:
    """Whether the runner was told to compute anew (`--force`) what was there before."""
    return float(found.get("when", 0)) < _fresh()


def _fresh() -> float:
    return float(os.environ.get("REPLICATION_FRESH") or 0)


@functools.cache
def _sources(module: str) -> dict[str, Any]:
    """Sources and versions that a module depends on; read once, as Python reads them once."""
    package = Path(replication.__file__).parent
    if module.partition(".")[0] == package.name:
        files = sources.closure(module, package)
        return {"files": sources.file_digests(files, package), "versions": sources.versions(files)}
    # a module of somebody's own, in a notebook or a test
    file = getattr(sys.modules.get(module), "__file__", None)
    return {"files": sources.file_digests([Path(file)], Path(file).parent) if file else {}}


def _read(path: Path) -> dict[str, Any] | None:
    # a file that another machine replaces may be gone for a moment
    with contextlib.suppress(OSError):
        return read_json(path)
    return None

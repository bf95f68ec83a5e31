"""The project's notebooks, the parameters they declare, and the profiles that set them."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import os
import re
import tokenize
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

import replication
from replication import places
from replication.atomic import read_json
from replication.checks import near_of
from replication.runs.errors import RefusedError
from replication.runs.files import read_yaml, yaml_value
from replication.runs.remote import local_folder
from replication.sources import canonical

SMOKE = "smoke"
"""The profile that the notebooks' own values are of; it needs no file."""
_RANGE = re.compile(r"^(-?\d+)\.\.(-?\d+)$")
_TYPES: dict[str, Any] = {
    **{"__builtins__": {}, "int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict},
    **{name: getattr(typing, name) for name in ("Any", "Dict", "List", "Literal", "Optional", "Union")},
    "typing": typing,
}


@dataclass(frozen=True)
class Parameter:
    """One parameter that a notebook declares in its cell tagged `parameters`."""

    name: str
    type_name: str
    default: Any
    help: str

    def check(self, value: Any) -> Any:
        """`value` as this parameter's type: an int is a fine float, a bool is no int, `0..9` is a list of ints.

        Raises
        ------
        RefusedError
            `value` is of another type; the message says the parameter, what it got and what is allowed.

        Examples
        --------
        >>> seeds = Parameter("seeds", "list[int]", [0], "replicates")
        >>> seeds.check("0..3")
        [0, 1, 2, 3]
        >>> Parameter("peak", "float", 0.1, "peak learning rate").check(1)
        1.0
        >>> Parameter("budget", "int", 100, "steps").check(True)
        Traceback (most recent call last):
        replication.runs.errors.RefusedError: parameter 'budget' is int, got True (bool).
        """
        if self.type_name == "list[int]":
            value = expand_range(value)
        try:
            return _adapter(self.type_name).validate_python(value, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where, what, kind = "", value, "finite " if first["type"] == "finite_number" else ""
            for step in first["loc"]:
                try:
                    what = what[step]
                except (TypeError, KeyError, IndexError):
                    break
                where += f" at [{step!r}]"
            raise RefusedError(
                f"parameter {self.name!r} is {kind}{self.type_name}, got {what!r} ({type(what).__name__}){where}."
            ) from None


@functools.cache
def _adapter(type_name: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(eval(type_name, _TYPES), config=ConfigDict(allow_inf_nan=False))
    except Exception as error:
        raise RefusedError(
            f"type {type_name!r} is not one a parameter can have; "
            "allowed: int, float, str, bool, Literal[…], list[…] and dict[…] of them, and unions such as int | None."
        ) from error


def expand_range(value: Any) -> Any:
    """The list of ints that the text `a..b` stands for (both ends included); any other value unchanged.

    Examples
    --------
    >>> expand_range("0..3"), expand_range([5, 7]), expand_range("3..0")
    ([0, 1, 2, 3], [5, 7], [])
    """
    match = _RANGE.match(value.strip()) if isinstance(value, str) else None
    return list(range(int(match[1]), int(match[2]) + 1)) if match else value


@dataclass(frozen=True)
class Project:
    """Where the project's things are.

    Parameters
    ----------
    root
        The folder with `notebooks/` and `pyproject.toml`.
    package
        The folder of the package `replication` whose sources the notebooks run.
    store
        The folder of the runs.
    shared
        Address of a store that other machines share, such as ``s3://bucket/runs``; empty for none. Then `store` is this
        machine's copy.
    """

    root: Path
    package: Path
    store: Path
    shared: str = ""

    @classmethod
    def find(cls) -> Project:
        """The project of the installed package, or of `$REPLICATION_HOME`; runs go to `$REPLICATION_RUNS` or `runs/`.

        `$REPLICATION_RUNS` may be a folder or an address that fsspec opens (`s3://…`).

        The current folder plays no part, so every command does the same wherever it is given.

        Raises
        ------
        RefusedError
            No folder with `notebooks/` and `pyproject.toml` is found.
        """
        package = Path(replication.__file__).absolute().parent
        root, store = places.home(), os.environ.get("REPLICATION_RUNS", "")
        if root:
            shared = store if "://" in store else ""
            return cls(root, package, local_folder(shared) if shared else places.runs() or root / "runs", shared)
        home = os.environ.get("REPLICATION_HOME")
        asked = f"REPLICATION_HOME is {home}, which is not" if home else f"{package.parent} is not in"
        raise RefusedError(
            f"{asked} a project folder with notebooks/ and pyproject.toml. "
            "Install the project with `pip install -e .` from its clone, or set REPLICATION_HOME to the clone."
        )

    @property
    def results(self) -> Path:
        """The folder of the committed results of reference runs."""
        return self.root / "results"

    def notebooks(self) -> list[str]:
        """The names (file stems) of all notebooks, in order."""
        return sorted(p.stem for p in (self.root / "notebooks").glob("[!.]*.ipynb"))

    def notebook(self, name: str) -> str:
        """The notebook meant by a name, a file name, a path, or the start of one name only.

        Raises
        ------
        RefusedError
            None or several are meant, or a path is of no notebook of the project.
        """
        stem, known = Path(name).name.removesuffix(".ipynb"), self.notebooks()
        path = Path(name).expanduser()
        if {*name} & {os.sep, "/"} or (path.suffix == ".ipynb" and path.is_file()):
            # a path means that file: from here, or, so that examples work anywhere, from the project
            here = path if path.exists() else self.root / path
            if stem not in known or not here.exists() or not here.samefile(self.notebook_file(stem)):
                raise RefusedError(
                    f"{name} {'is not in' if here.exists() else 'does not exist, nor in'} the project {self.root}; "
                    f"what is run are its notebooks/{near_of(stem, known)}"
                )
        if stem in known:
            return stem
        started = [n for n in known if stem and n.startswith(stem)]
        if len(started) == 1:
            return started[0]
        if started:
            raise RefusedError(f"notebook {name!r} could be any of {', '.join(started)}; give more of its name.")
        raise RefusedError(f"there is no notebook {name!r}{near_of(stem, known)}")

    def notebook_file(self, notebook: str) -> Path:
        """The file of a notebook."""
        return self.root / "notebooks" / f"{notebook}.ipynb"

    def profile_file(self, notebook: str, profile: str) -> Path:
        """The flat YAML file of a notebook's profile (plain `papermill -f` takes it too)."""
        return self.root / "notebooks" / "profiles" / profile / f"{notebook}.yaml"

    def profiles(self, notebook: str | None = None) -> list[str]:
        """The names of the profiles, of all notebooks or of one, smallest first; smoke is the notebooks' defaults."""
        folders = (self.root / "notebooks" / "profiles").glob("*/")
        names = {
            f.name
            for f in folders
            if (f / f"{notebook}.yaml").is_file() or (notebook is None and any(f.glob("*.yaml")))
        }
        return sorted(names | {SMOKE}, key=rank)


def rank(profile: str) -> tuple[int, str]:
    """Where a profile stands among others, the smallest first; one of somebody's own comes last."""
    order = (SMOKE, "standard", "paper")
    return (order.index(profile) if profile in order else len(order), profile)


@functools.lru_cache(maxsize=128)
def _infer(path: str, _modified_ns: int) -> tuple[Parameter, ...]:
    return declared(read_page(Path(path)), Path(path).name)


def read_page(path: Path) -> dict[str, Any]:
    """A notebook, as JSON has it.

    Raises
    ------
    RefusedError
        The file is none of format 4.
    """
    page = read_json(path)
    if page is None or not isinstance(page.get("cells"), list) or "metadata" not in page:
        raise RefusedError(f"notebooks/{path.name} is not a notebook of format 4.")
    return page


def infer(path: Path) -> tuple[Parameter, ...]:
    """The parameters that the notebook in a file declares (see `declared`)."""
    return _infer(str(path), path.stat().st_mtime_ns)


def declared(page: Mapping[str, Any], name: str) -> tuple[Parameter, ...]:
    """The parameters that a notebook declares, in order: the assignments to a name in its cell tagged `parameters`.

    The comment behind one is its meaning.

    Parameters
    ----------
    page
        The notebook, as JSON has it.
    name
        Of its file, for messages.

    Raises
    ------
    RefusedError
        The cell is not Python, or a default is no literal value.
    """
    tagged = (cell for cell in page["cells"] if "parameters" in cell.get("metadata", {}).get("tags", []))
    source = "".join(next(tagged, {"source": ""})["source"])
    try:
        statements = ast.parse(source).body
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, tokenize.TokenError) as error:
        raise RefusedError(f"{name}: its parameters cell is not Python: {error}.") from error
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    found = {}
    for statement in statements:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=parameter), annotation=annotation, value=ast.expr() as value):
                # `x: "int"` and `x: int` are the same
                type_name = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
            case ast.Assign(targets=[ast.Name(id=parameter)], value=value):
                type_name = ""
            case _:
                continue
        try:
            default = ast.literal_eval(value)
        except ValueError as error:
            raise RefusedError(
                f"{name}: parameter {parameter!r} must default to a plain value, not {ast.unparse(value)!r}."
            ) from error
        meaning = comments.get(statement.end_lineno or 0, "")
        found[parameter] = Parameter(parameter, str(type_name or type(default).__name__), default, meaning)
    return tuple(found.values())


def page_profile(page: Mapping[str, Any]) -> str:
    """The profile that a notebook's own defaults are of."""
    with contextlib.suppress(RefusedError):
        return next((str(p.default) for p in declared(page, "page") if p.name == "profile"), SMOKE)
    return SMOKE


def experiment(notebook: Mapping[str, Any]) -> str:
    """The module whose ``Config`` the parameters of a notebook are, by its metadata; empty for none."""
    about = notebook.get("metadata", {}).get("replication", {})
    name = about.get("experiment", "")
    return f"replication.{about['paper']}.experiments.{name}" if name else ""


def parameters_cell(config: Any) -> str:
    """The source of a notebook's parameters cell, from its experiment's ``Config``.

    Parameters
    ----------
    config : type of Settings
        Its fields' defaults are the values, their descriptions the comments.
    """
    about = "smoke, standard or paper: decides which claims this run can decide"
    lines = [f'profile: str = "{SMOKE}"  # {about}']
    for name, declared in config.model_fields.items():
        value = declared.default
        text = _literal(value)
        lines.append(f"{name}: {_type_name(declared.annotation)} = {text}  # {declared.description}")
    return "\n".join(lines)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _type_name(annotation: Any) -> str:
    """The plain type of a field: `PositiveInt` is an int, a `Literal` of texts is a str."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is list:
        return f"list[{_type_name(inside[0])}]"
    if origin is Annotated:
        return _type_name(inside[0])
    if origin is Literal:
        return type(inside[0]).__name__
    return str(annotation.__name__)


def parameters(project: Project, notebook: str) -> dict[str, Parameter]:
    """The parameters that a notebook declares, by name and in order."""
    return {p.name: p for p in infer(project.notebook_file(notebook))}


def profile_values(project: Project, notebook: str, profile: str) -> dict[str, Any]:
    """The values in a notebook's profile, as they stand in the file.

    Raises
    ------
    RefusedError
        There is no such profile for this notebook, or its file is not a flat mapping.
    """
    path = project.profile_file(notebook, profile)
    if profile == SMOKE and not path.is_file():
        return {}
    if not path.is_file():
        raise RefusedError(
            f"notebook {notebook!r} has no profile {profile!r}{near_of(profile, project.profiles(notebook))}"
        )
    values = read_yaml(path)
    if values is None:
        values = {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise RefusedError(f"{path} must be a flat list of `name: value` lines.")
    return values


def resolve(project: Project, notebook: str, profile: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of a run: the notebook's defaults, then the profile's values, then the caller's.

    Parameters
    ----------
    overrides
        Values that the caller sets; `profile` itself is set by its name only.

    Returns
    -------
    dict
        All parameters of the notebook with values of the declared types; `profile` holds the profile's name.

    Raises
    ------
    RefusedError
        An unknown name (the message says the nearest one and lists all), or a value of a wrong type.
    """
    declared = parameters(project, notebook)
    values = {name: p.default for name, p in declared.items()}
    from_profile = profile_values(project, notebook, profile)
    for given, whose in ((from_profile, f" in profile {profile!r}"), (overrides, "")):
        for name, value in given.items():
            if name not in declared:
                raise RefusedError(f"notebook {notebook!r} has no parameter {name!r}{whose}{near_of(name, declared)}")
            values[name] = value
    for given in (from_profile, overrides):
        if (value := given.get("profile", profile)) != profile:
            raise RefusedError(f"parameter 'profile' is the profile's name, {profile!r}, not {value!r}; use --profile.")
    if "profile" in declared:
        values["profile"] = profile
    return {name: p.check(values[name]) for name, p in declared.items()}


def changed(project: Project, notebook: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a run's parameters that differ from the notebook's own defaults: what papermill must inject.

    A run at the notebook's defaults thus has no injected cell, and its page is the notebook itself.
    """
    return {
        name: values[name]
        for name, p in parameters(project, notebook).items()
        if canonical(values[name]) != canonical(p.check(p.default))
    }


def from_text(parameter: Parameter | None, text: str) -> Any:
    """The value that `-p name text` means: the text itself for a `str`, else the text read as YAML.

    Examples
    --------
    >>> from_text(Parameter("peak", "float", 0.1, ""), "1e-3"), from_text(Parameter("name", "str", "", ""), "3")
    (0.001, '3')
    """
    if parameter is None or parameter.type_name == "str":
        return text
    return yaml_value(text, f"-p {parameter.name}")

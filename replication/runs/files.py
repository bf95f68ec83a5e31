"""Text, JSON and YAML files: written whole or not at all, read with errors for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from replication import plain_yaml
from replication.atomic import replacing
from replication.runs.errors import RefusedError


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` by rename (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_rows(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object by rename, with each entry of its lists and objects on one line.

    Long lists of numbers stay small that way, and a version control system still shows which entry changed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> write_rows(path, {"a": 1, "b": [[1, 2], [3]], "c": {"x": [4, 5]}})
    >>> print(path.read_text(), end="")
    {
    "a": 1,
    "b": [
     [1, 2],
     [3]
    ],
    "c": {
     "x": [4, 5]
    }
    }
    """

    def dumps(inner: Any) -> str:
        return json.dumps(inner, ensure_ascii=False)

    def rows(inner: Any) -> str:
        if not inner or not isinstance(inner, list | dict):
            return dumps(inner)
        if isinstance(inner, dict):
            return "{\n" + ",\n".join(f" {dumps(name)}: {dumps(entry)}" for name, entry in inner.items()) + "\n}"
        return "[\n" + ",\n".join(f" {dumps(entry)}" for entry in inner) + "\n]"

    write_text(path, "{\n" + ",\n".join(f"{dumps(name)}: {rows(inner)}" for name, inner in value.items()) + "\n}\n")


def read_yaml(path: Path) -> Any:
    """The YAML value in `path`, read as by `yaml_value`.

    Raises
    ------
    RefusedError
        The file is absent or is not YAML.
    """
    try:
        return yaml_value(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise RefusedError(f"cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path} is not YAML: {error}") from error


def yaml_value(text: str, name: str) -> Any:
    """The YAML value in a text, which people wrote; `name` says in messages where it is from.

    Raises
    ------
    RefusedError
        It is not YAML, has a key twice, or has words that can be read in two ways (see `plain_yaml.load`).
    """
    try:
        return plain_yaml.load(text)
    except yaml.YAMLError as error:
        raise RefusedError(f"{name} is not YAML: {' '.join(str(error).split())}") from error

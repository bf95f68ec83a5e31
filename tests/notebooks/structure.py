"""What every committed notebook must be, before its numbers are looked at."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import yaml
from papermill.inspection import inspect_notebook

from replication.runs.errors import RefusedError
from replication.runs.files import read_yaml
from replication.runs.profiles import Parameter, infer

MOST_BYTES = 3_000_000
REQUIRED_PROFILES = ("standard",)
# two folders deep at least, at the start of a word: no URL, no fraction, no closing tag
_PATH = re.compile(r"""(?:^|[\s"'(=>])((?:/[\w.@+-]+){2,}/?|[A-Z]:\\[\w.-]+)""", re.MULTILINE)
_LINK = re.compile(r"\]\((?!\w+:|#)([\w./-]+)(?:#[\w-]+)?\)")
_PROGRESS = re.compile(r"\d+%\|.*\||\d(?:it/s|s/it)\b")


def problems(path: Path) -> list[str]:
    """Everything that is wrong with a notebook, each in one sentence; its profiles are looked for beside it."""
    try:
        node = json.loads(path.read_text(encoding="utf-8"))
        nbformat.validate(node)
    except (ValueError, nbformat.ValidationError) as error:
        return [f"not a notebook: {str(error).splitlines()[0]}"]
    code = [cell for cell in node["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    decides = bool(node["metadata"].get("replication", {}).get("paper"))
    return [
        *_file(path, node),
        *_links(path, node),
        *_execution(code),
        *(line for cell in code for line in _outputs(cell)),
        *_tags(code, beside=path.parent.name == "notebooks"),
        *_answer(code, decides),
        *_parameters(path, code, decides),
    ]


def _file(path: Path, node: Mapping[str, Any]) -> Iterator[str]:
    if path.stat().st_size > MOST_BYTES:
        yield f"{path.stat().st_size / 1e6:.1f} MB is more than {MOST_BYTES / 1e6:g} MB"
    if (kernel := node["metadata"].get("kernelspec", {}).get("name")) != "python3":
        yield f"kernelspec is {kernel!r}, not 'python3'"
    for cell in node["cells"]:
        if found := _PATH.search("".join(cell["source"])):
            yield f"absolute path in a cell's source: {found[1]}"


def _links(path: Path, node: Mapping[str, Any]) -> Iterator[str]:
    for cell in node["cells"]:
        texts = [cell["source"]] if cell["cell_type"] == "markdown" else []
        texts += [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", [])]
        for target in _LINK.findall("\n".join(map("".join, texts))):
            # the page of a larger scale may lead to another that is not published yet
            awaited = "/" not in target and (path.parents[2] / "notebooks" / target).exists()
            if not awaited and not (path.parent / target).exists():
                yield f"a link leads nowhere: {target}"


def _execution(code: list[Mapping[str, Any]]) -> Iterator[str]:
    counts = [cell.get("execution_count") for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"execution counts are {counts}, not 1 to {len(code)}: run it from top to bottom"


def _outputs(cell: Mapping[str, Any]) -> Iterator[str]:
    where = f"cell [{cell.get('execution_count')}]"
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            yield f"{where} shows an error: {output['ename']}"
            continue
        if output.get("name") == "stderr":
            yield f"{where} writes to stderr"
        data = output.get("data", {"text/plain": output.get("text", "")})
        if kinds := {"image/svg+xml", "application/vnd.jupyter.widget-view+json"} & data.keys():
            yield f"{where} shows {kinds.pop()}, which differs from run to run"
        for kind, text in data.items():
            if not kind.startswith("text/"):
                continue
            text = "".join(text)
            if found := _PATH.search(text):
                yield f"{where} shows an absolute path: {found[1]}"
            if _PROGRESS.search(text):
                yield f"{where} shows a progress bar"
            if kind == "text/html" and re.search(r"<(style|svg)\b", text):
                yield f"{where} shows styled HTML or SVG, whose ids differ from run to run"


def _tags(code: list[Mapping[str, Any]], *, beside: bool) -> Iterator[str]:
    tags = [set(cell["metadata"].get("tags", [])) for cell in code]
    injected = [found for found in tags if "injected-parameters" in found]
    if injected and beside:
        yield "has a cell of injected parameters: publish it from its own profile"
    tags = [found for found in tags if found not in injected]
    start = next((i for i, found in enumerate(tags) if "parameters" in found), None)
    if start is not None and (len(tags) < start + 2 or "nbval-ignore-output" not in tags[start + 1]):
        yield "the code cell after the parameters must be the start, tagged nbval-ignore-output"


def _answer(code: list[Mapping[str, Any]], decides: bool) -> Iterator[str]:
    """A page that decides claims begins with its answer, which `evidence.page()` makes room for."""
    places = [place for place, cell in enumerate(code) if "answer" in cell["metadata"].get("tags", [])]
    if places != [0] * decides:
        yield f"{'the first code cell, and no other,' if decides else 'no cell'} must be tagged answer"
        return
    for cell in code[: len(places)]:
        if "nbval-ignore-output" not in cell["metadata"]["tags"]:
            yield "the answer must be tagged nbval-ignore-output"
        if "evidence.page()" not in "".join(cell["source"]):
            yield "the answer must call evidence.page()"


def _parameters(path: Path, code: list[Mapping[str, Any]], decides: bool) -> Iterator[str]:
    # a notebook that decides no claims shows those of every profile, so it knows none
    cells = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    if len(cells) != 1:
        yield f"has {len(cells)} cells tagged parameters, not 1"
        return
    try:
        declared = {p.name: p for p in infer(path)}
    except RefusedError as error:
        yield str(error)
        return
    # plain papermill, which reads a line at a time, must find the same
    known = inspect_notebook(str(path))
    for statement in ast.parse("".join(cells[0]["source"])).body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            yield f"parameters, line {statement.lineno}: must be `name: type = value  # meaning`"
        elif statement.target.id not in known:
            name = statement.target.id
            yield f"parameter {name!r} is not understood by papermill (has its line a second =?)"
    for parameter in declared.values():
        if not parameter.help:
            yield f"parameter {parameter.name!r} has no comment that says what it is"
    if decides and "profile" not in declared:
        yield "must have the parameter `profile`"
    if path.parent.name == "notebooks":
        yield from _profiles(path, declared)


def _profiles(path: Path, declared: Mapping[str, Parameter]) -> Iterator[str]:
    for profile in REQUIRED_PROFILES:
        file = path.parent / "profiles" / profile / f"{path.stem}.yaml"
        if not file.is_file():
            yield f"has no profile {profile!r}"
            continue
        values = read_yaml(file) or {}
        if values != (yaml.safe_load(file.read_text(encoding="utf-8")) or {}):
            yield f"profile {profile!r} says something else to plain papermill, which reads YAML 1.1"
        if "profile" in declared and values.get("profile") != profile:
            yield f"profile {profile!r} must say `profile: {profile}`, for plain papermill"
        for name, value in values.items():
            if name not in declared:
                yield f"profile {profile!r} sets {name!r}, which is no parameter"
                continue
            try:
                checked = declared[name].check(value)
            except RefusedError as error:
                yield f"profile {profile!r}: {error}"
                continue
            if name != "profile" and checked == declared[name].check(declared[name].default):
                yield f"profile {profile!r} sets {name!r} to the notebook's own value; leave it out"

"""A new paper: its room, notebook, profile and test, laid out so that they run and pass at once."""

from __future__ import annotations

import json
import keyword
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from replication.runs.errors import RefusedError
from replication.runs.files import write_text
from replication.runs.profiles import Project

_TEMPLATES = Path(__file__).parent / "templates" / "new"
# the one place that lists the rooms by hand: which may import which
_LAYER = re.compile(r'(?<=^  ")(\w+(?: \| \w+)*) \| runs(?=",$)', re.MULTILINE)


def lay_out(project: Project, paper: str, experiment: str = "example") -> tuple[str, list[Path]]:
    """Write what a paper needs, with a toy experiment in it, and list its room in pyproject.toml.

    Returns
    -------
    notebook, files
        The name of its notebook, and what was written.

    Raises
    ------
    RefusedError
        A name is none of a module, or the paper's is taken; or the project is not the folder that the package is in.
    """
    for what, name, such in (("paper", paper, "my_paper"), ("experiment", experiment, "vision")):
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
            raise RefusedError(
                f"{what}: must be a name in small letters, digits and _ that is no word of Python's, such as {such}, "
                f"got {name!r}."
            )
    if project.package.parent != project.root:
        raise RefusedError(
            f"the package is in {project.package.parent}, not in the project {project.root}; install the project from "
            "its clone: pip install -e ."
        )
    taken = [
        place
        for place in (project.package / paper, project.package / f"{paper}.py", project.root / "tests" / paper)
        if place.exists()
    ]
    if taken:
        raise RefusedError(f"paper: {paper!r} is taken by {taken[0].relative_to(project.root)}; choose another name.")
    settings = project.root / "pyproject.toml"
    text = settings.read_text(encoding="utf-8")
    layer = _LAYER.search(text)
    if layer is None:
        raise RefusedError('pyproject.toml: there is no line of papers that ends in ` | runs",` among its contracts.')
    tens = [int(name[0]) for name in project.notebooks() if name[:2].isdigit()]
    if (ten := max(tens, default=0) + 1) > 9:
        raise RefusedError("notebooks: no number below 100 is left for those of another paper.")
    notebook = f"{ten}0_{paper}_{experiment}"
    names = {"paper": paper, "experiment": experiment, "notebook": notebook}
    written = []
    templates = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    for name in templates.list_templates():
        place = name.removesuffix(".jinja")
        for word, meant in names.items():
            place = place.replace(word.upper(), meant)
        made = templates.get_template(name).render(names)
        target = project.root / place
        write_text(target, _page(made, paper, experiment) if target.suffix == ".ipynb" else made)
        written.append(target)
    rooms = " | ".join(sorted([*layer[1].split(" | "), paper]))
    write_text(settings, f"{text[: layer.start(1)]}{rooms}{text[layer.end(1) :]}")
    return notebook, [*written, settings]


def _page(text: str, paper: str, experiment: str) -> str:
    """The notebook whose cells stand in a text, each below a line with its kind and tags."""
    cells = []
    for number, (kind, tags, source) in enumerate(re.findall(r"^%% (\w+)(.*)\n((?:(?!%% ).*\n)*)", text, re.MULTILINE)):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"{paper}-{number:02}"[-64:], "metadata": {}}
        if tags:
            cell["metadata"]["tags"] = tags.split()
        if "hide-input" in tags:
            cell["metadata"]["jupyter"] = {"source_hidden": True}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        cells.append(cell | {"source": source.rstrip("\n").splitlines(keepends=True)})
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "replication": {"experiment": experiment, "paper": paper},
    }
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"

"""What is committed of a run: its page, its results, and what the README says of all results."""

from __future__ import annotations

import importlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.atomic import read_json, replacing
from replication.runs import notebook, profiles
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.files import write_rows, write_text
from replication.runs.profiles import Project
from replication.runs.store import GENERATED_TAGS, Run, RunStore, Spec
from replication.sources import digest

if TYPE_CHECKING:
    from replication.evidence.parts import Plan
    from replication.evidence.scoreboard import Board

BEGIN, END = "<!-- verdicts:begin -->", "<!-- verdicts:end -->"


def publish(store: RunStore, run: Run) -> list[Path]:
    """Put a finished run's results and its page into their committed places.

    The page replaces ``notebooks/<notebook>.ipynb`` only if every parameter has the notebook's default value, so that
    reading, executing and checking a notebook are about the same numbers. Other pages lie beside their results. Files
    are replaced by rename.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    RefusedError
        The run's parameters are not its profile's, it is not finished, or some of its data were missing.
    """
    project, folder = store.project, store.folder(run)
    if run.parameters != profiles.resolve(project, run.notebook, run.profile, {}):
        raise RefusedError(
            f"{run.name} has parameters of its own; only a profile as it stands is published. Run it without -p and -y."
        )
    results = store.results(run)
    if results is None:
        raise RefusedError(
            f"{run.name} is not finished; `replicate run {run.notebook} --profile {run.profile}` runs it."
        )
    if lacking := notebook.missing(results):
        raise RefusedError(f"{run.name} ran without some of its data, so it is not published. {lacking}")
    written = []
    if run.paper:
        written.append(project.results / run.profile / f"{run.notebook}.json")
        write_rows(written[-1], results | {"machine": store.machine(run)})
    written.append(page_of(project, run.profile, run.notebook))
    _put(project, written[-1], notebook.read_notebook(folder / "notebook.ipynb"))
    return written


def page_of(project: Project, profile: str, name: str) -> Path:
    """Where a profile's page lies: it is the notebook if the profile changes no value, else beside the results."""
    changed = profiles.changed(project, name, profiles.resolve(project, name, profile, {}))
    return page_file(project, profile, name) if changed else project.notebook_file(name)


def _put(project: Project, page: Path, node: Any) -> None:
    if page.is_relative_to(project.results):
        for cell in node.cells:  # it lies one folder deeper
            cell.source = cell.source.replace("](../replication/", "](../../replication/")
    notebook.write_notebook(page, node)


def render(project: Project, results: Mapping[str, Any]) -> list[Path]:
    """Execute a published page anew from its records, and answer its tests anew; nothing is computed.

    For a change of claims, figures or prose where computing takes a night. What the page says of sources, versions and
    machine stays, as the records are theirs.

    Returns
    -------
    list of Path
        The page and the results.

    Raises
    ------
    ReplicationError
        A cell raised.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    from replication import evidence

    name, profile = results["notebook"], results["profile"]
    page = page_of(project, profile, name)
    before, node = notebook.read_notebook(page), notebook.read_notebook(project.notebook_file(name))
    values = [cell for cell in before.cells if notebook.tagged(cell, *GENERATED_TAGS)]
    node.cells = [cell for cell in node.cells if not notebook.tagged(cell, *GENERATED_TAGS)]
    place = next(i for i, cell in enumerate(node.cells) if notebook.tagged(cell, "parameters")) + 1
    node.cells[place:place] = values
    with tempfile.TemporaryDirectory() as work:
        around = notebook.surroundings(project, Path(work)) | {"REPLICATION_RECORDS": str(project.results)}
        client = NotebookClient(node, timeout=None, resources={"metadata": {"path": work}})
        try:
            client.execute(env=around, stderr=subprocess.DEVNULL)
        except CellExecutionError as error:
            raise ReplicationError(f"{name} at {profile}: {error.ename}: {error.evalue}") from error
    # the start shows sources and versions, which are those of the records
    told = {cell.id: cell.outputs for cell in before.cells if notebook.tagged(cell, "nbval-ignore-output")}
    for cell in node.cells:
        if cell.id in told and notebook.tagged(cell, "hide-input") and not notebook.tagged(cell, "answer"):
            cell.outputs = told[cell.id]
    notebook.normalise(node)
    outcomes = evidence.reevaluate(results)
    decided = evidence.verdicts(evidence.load_claims(results["paper"]), outcomes, name, profile)
    file = project.results / profile / f"{name}.json"
    anew = {"verdicts": [one.to_dict() for one in decided], "tests": [one.to_dict() for one in outcomes]}
    write_rows(file, {**results, **anew, "evidence_key": evidence.evidence_key(results["paper"])})
    _put(project, page, node)
    return [page, file]


def page_file(project: Project, profile: str, notebook: str) -> Path:
    """Where the page of a profile lies that is not the notebook's own."""
    return project.results / profile / f"{notebook}.ipynb"


def refresh_parameters(project: Project, notebook: str) -> bool:
    """Write a notebook's parameters cell from its experiment's ``Config``; whether it was another."""
    path = project.notebook_file(notebook)
    node = profiles.read_page(path)
    name = profiles.experiment(node)
    cells = [cell for cell in node["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    if not name or not cells:
        return False
    source = profiles.parameters_cell(importlib.import_module(name).Config).splitlines(keepends=True)
    if cells[0]["source"] == source:
        return False
    cells[0]["source"] = source
    write_text(path, json.dumps(node, indent=1, ensure_ascii=False) + "\n")
    return True


def restore(project: Project, plan: Plan, run: Run) -> list[str]:
    """Names of the parts whose rows were taken over from a run's published results (see `parts.restore`)."""
    from replication.evidence import parts

    results = read_json(project.results / run.profile / f"{run.notebook}.json")
    return parts.restore(plan, results) if results else []


def scoreboards(project: Project) -> list[Spec]:
    """The notebooks that show the published results of all others, to be executed and published after them."""
    found = []
    for stem in project.notebooks():
        node = read_json(project.notebook_file(stem))
        if node is not None and node["metadata"].get("replication", {}).get("scoreboard"):
            # they show every profile; the name of one is but a formality
            found.append(Spec(stem, project.profiles(stem)[0], {}))
    return found


def committed(project: Project) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The committed results, by profile from the smallest and by notebook.

    Raises
    ------
    ReplicationError
        A file is not whole JSON, or of an older form.
    """
    for profile in sorted_profiles(project):
        for path in sorted((project.results / profile).glob("[!.]*.json")):
            found = read_json(path)
            if found is None or "tests" not in found:
                raise ReplicationError(f"{path} is not a results file; publish the run again or restore it from git.")
            yield path, found


def sorted_profiles(project: Project) -> list[str]:
    """The profiles that have committed results, the smallest first."""
    return sorted((path.name for path in project.results.glob("*/")), key=profiles.rank)


def board(project: Project) -> Board:
    """Where all claims stand, from `results/` alone.

    Raises
    ------
    ReplicationError
        A published test is not among today's.
    """
    from replication.evidence.scoreboard import Board

    try:
        return Board.of(results for _, results in committed(project))
    except ValueError as error:
        raise ReplicationError(f"{error}; run the notebook again with --publish.") from error


def found(board: Board) -> str:
    """What the README says: what was found, one line a paper, and how many claims stand how."""
    return f"{board.findings()}\n\n**{board}**" if board.standings else board.to_markdown()


def picture_file(project: Project) -> Path:
    """Where the scoreboard lies as a picture."""
    return project.results / "scoreboard.png"


def picture_of(board: Board) -> str:
    """What tells pictures of two scoreboards apart; it is kept in the picture."""
    return digest(board.to_markdown())


def split_readme(project: Project) -> tuple[str, str, str]:
    """The README's text before, between and after the markers of what is generated.

    Raises
    ------
    ReplicationError
        There is no README, or not one pair of markers in it.
    """
    path = project.root / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ReplicationError(f"README.md needs the lines {BEGIN} and {END} once each, where the findings go.")
    return before, inside.strip(), after


def refresh_readme(project: Project) -> list[Path]:
    """Write today's findings between the README's markers, and draw the scoreboard."""
    import matplotlib.pyplot as plt

    from replication.evidence.scoreboard import ladder

    before, _, after = split_readme(project)
    path, today = project.root / "README.md", board(project)
    write_text(path, f"{before}{BEGIN}\n{found(today)}\n{END}{after}")
    if not today.standings:
        return [path]
    figure = ladder(today)
    with replacing(picture_file(project)) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Description": picture_of(today)})
    plt.close(figure)
    return [path, picture_file(project)]

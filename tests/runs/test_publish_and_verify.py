"""Publishing and verifying, with the real evidence room over results that were never executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_output
from toys import Toy, build, toy_cells

from replication import evidence
from replication.evidence.scoreboard import Board
from replication.runs import notebook, publish, verify
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.store import Run, Spec


@pytest.fixture
def claims(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real evidence room reads the toy paper's claims."""
    path = toy.package / "toy" / "claims.yaml"
    for module in (evidence.claims, evidence.run):
        monkeypatch.setattr(module, "claims_file", lambda paper: path)
    return path


def finish(toy: Toy, profile: str = "smoke", value: float = 1.5, **overrides: Any) -> Run:
    """Leave a finished run in the store as a notebook would."""
    run = toy.store.plan(Spec("toy", profile, overrides))
    work = toy.store.open_work(run, force=False)
    records = evidence.tidy([{"quantity": "value", "seed": seed, "value": value} for seed in range(3)])
    verdicts = evidence.evaluate(records, evidence.load_claims("toy"), profile)
    results = {
        "schema": 1,
        "notebook": "toy",
        "paper": "toy",
        "profile": profile,
        "run_id": run.run_id,
        "parameters": run.parameters,
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "records": evidence.dump_records(records),
        "provenance": {"device": "cpu", "threads": 1},
        "evidence_key": evidence.evidence_key("toy"),
    }
    node = notebook.read_notebook(toy.project.notebook_file("toy"))
    notebook.refresh_summary(node, results)
    data, metadata = evidence.verdict_table(verdicts, evidence.load_claims("toy"))._repr_mimebundle_()
    node.cells[4]["outputs"] = [new_output("display_data", data=data, metadata=metadata)]
    notebook.write_notebook(work / "notebook.ipynb", node)
    toy.store.finish(run, results)
    return run


@pytest.fixture
def published(toy: Toy, claims: Path) -> Toy:
    publish.publish(toy.store, finish(toy))
    publish.refresh_readme(toy.project)
    return toy


def found(toy: Toy) -> list[str]:
    return list(verify.disagreements(toy.project))


def edit(path: Path, change: Any) -> None:
    node = json.loads(path.read_text())
    change(node)
    path.write_text(json.dumps(node))


def test_published_project_agrees_with_itself(published: Toy) -> None:
    assert found(published) == []
    readme = (published.root / "README.md").read_text()
    assert "| [toy](notebooks/toy.ipynb) | smoke | 1 |" in readme
    assert "**reproduced**" in readme
    assert readme.startswith("# Toy\n")
    assert readme.endswith("\nEnd.\n")


def test_another_profile_publishes_results_but_not_the_page(published: Toy) -> None:
    before = published.project.notebook_file("toy").read_bytes()
    written = publish.publish(published.store, finish(published, "standard"))
    assert written == [published.root / "results" / "standard" / "toy.json"]
    assert published.project.notebook_file("toy").read_bytes() == before
    publish.refresh_readme(published.project)
    assert found(published) == []
    readme = (published.root / "README.md").read_text()
    assert readme.index("(notebooks/toy.ipynb) | smoke |") < readme.index("(notebooks/toy.ipynb) | standard |")


def test_only_a_profile_as_it_stands_is_published(toy: Toy, claims: Path) -> None:
    with pytest.raises(RefusedError, match="parameters of its own"):
        publish.publish(toy.store, finish(toy, seeds=4))
    with pytest.raises(RefusedError, match="not finished"):
        publish.publish(toy.store, toy.store.plan(Spec("toy", "smoke", {})))


def test_changed_verdict_in_results_is_found(published: Toy) -> None:
    def forge(results: Any) -> None:
        results["verdicts"][0]["verdict"] = "not reproduced"

    edit(published.root / "results" / "smoke" / "toy.json", forge)
    text = "\n".join(found(published))
    assert "results/smoke/toy.json: claim double is 'not reproduced', by today's claims 'reproduced'." in text
    assert "README.md" in text
    assert "notebooks/toy.ipynb: its verdict summary" in text


def test_changed_number_in_results_is_found(published: Toy) -> None:
    def forge(results: Any) -> None:
        results["verdicts"][0]["estimate"] = 1.7

    edit(published.root / "results" / "smoke" / "toy.json", forge)
    assert "results/smoke/toy.json: claim double, estimate is 1.7, by today's claims 1.5." in found(published)


def test_changed_claim_is_found(published: Toy, claims: Path) -> None:
    claims.write_text(claims.read_text().replace("paper_value: 1.5", "paper_value: 9.5"))
    assert any("is 'reproduced', by today's claims 'not reproduced'" in line for line in found(published))


def test_changed_readme_is_found(published: Toy) -> None:
    readme = published.root / "README.md"
    readme.write_text(readme.read_text().replace("| smoke | 1 |", "| smoke | 7 |"))
    (line,) = found(published)
    assert line.startswith("README.md")


def test_changed_page_is_found(published: Toy) -> None:
    def forge(node: Any) -> None:
        node["cells"][1]["source"] = ["**Verdicts** at the `smoke` profile: 7 reproduced."]
        node["cells"][4]["outputs"][0]["metadata"]["replication"]["verdicts"][0]["estimate"] = 9.0

    edit(published.project.notebook_file("toy"), forge)
    summary, number = found(published)
    assert "its verdict summary is not the one of results/smoke/toy.json" in summary
    assert "notebooks/toy.ipynb: claim double, estimate is 9.0, in results/smoke 1.5" in number


def test_page_without_its_table_is_found(published: Toy) -> None:
    edit(published.project.notebook_file("toy"), lambda node: node["cells"][4].update(outputs=[]))
    assert found(published) == ["notebooks/toy.ipynb: it shows no verdict table."]


def test_page_without_results_is_found(published: Toy) -> None:
    (published.root / "results" / "smoke" / "toy.json").unlink()
    publish.refresh_readme(published.project)
    assert any("there is no results/smoke/toy.json" in line for line in found(published))


@pytest.mark.parametrize(("value", "agrees"), [(1.5 + 1e-6, True), (1.55, True), (1.65, False)])
def test_rerun_is_compared_within_the_claims_tolerance(published: Toy, value: float, agrees: bool) -> None:
    run = finish(published, value=value)
    lines = [line for line in found(published) if line.startswith(f"run {run.name}")]
    assert (lines == []) == agrees


def test_readme_without_markers_is_told_so(toy: Toy) -> None:
    (toy.root / "README.md").write_text("# Toy\n")
    with pytest.raises(ReplicationError, match="verdicts:begin"):
        publish.refresh_readme(toy.project)


def test_damaged_results_are_told_so(published: Toy) -> None:
    (published.root / "results" / "smoke" / "toy.json").write_text("{")
    with pytest.raises(ReplicationError, match="is not a results file"):
        found(published)


def test_board_needs_no_results(published: Toy) -> None:
    published.add("board", toy_cells())
    assert found(published) == []


@pytest.fixture
def board(published: Toy) -> Toy:
    """The published project, with a scoreboard that shows it."""
    cells = toy_cells(parameters="papers: list[str] = []  # which to show")
    published.add("00_board", cells, scoreboard=True)
    return published


def show_board(toy: Toy) -> None:
    results = [results for _, results in publish.committed(toy.project)]
    data, metadata = Board.of(results)._repr_mimebundle_()
    output = {"output_type": "display_data", "data": data, "metadata": metadata}
    edit(toy.project.notebook_file("00_board"), lambda node: node["cells"][4].update(outputs=[output]))


def test_scoreboard_that_shows_something_else_is_found(board: Toy) -> None:
    line = "notebooks/00_board.ipynb: its board is not the one of results/; `replicate run 00_board --publish` "
    assert found(board) == [f"{line}makes it anew."]
    show_board(board)
    assert found(board) == []
    publish.publish(board.store, finish(board, "standard"))
    publish.refresh_readme(board.project)
    assert found(board) == [f"{line}makes it anew."]


def test_page_of_no_profile_is_published_at_any(board: Toy) -> None:
    board.profile("standard", "00_board", "")
    run = board.store.plan(Spec("00_board", "standard", {}))
    work = board.store.open_work(run, force=False)
    (work / "notebook.ipynb").write_bytes(board.project.notebook_file("00_board").read_bytes())
    board.store.finish(run, {"verdicts": []})
    assert publish.publish(board.store, run) == [board.project.notebook_file("00_board")]


def test_results_that_nothing_stands_behind_are_found(published: Toy) -> None:
    path = published.root / "results" / "smoke" / "toy.json"
    edit(path, lambda results: results["parameters"].update(seeds=7))
    assert found(published) == ["results/smoke/toy.json: seeds was 7, but profile smoke says 3."]
    edit(path, lambda results: results.update(profile="paper"))
    lines = found(published)
    assert "results/smoke/toy.json holds results of toy at profile paper." in lines
    assert any("has no profile 'paper'" in line for line in lines)
    edit(path, lambda results: results.update(notebook="gone", profile="smoke"))
    assert "results/smoke/toy.json: there is no notebook 'gone'; remove the file." in found(published)


def test_verdict_whose_claim_is_gone_is_found_everywhere(published: Toy, claims: Path) -> None:
    claims.write_text(claims.read_text().replace("id: double", "id: triple"))
    text = "\n".join(found(published))
    assert "results/smoke/toy.json: claim double is missing by today's claims." in text
    assert "results/smoke/toy.json: claim triple is missing." in text
    assert "has no claim today" in text


def test_changes_of_a_volatile_claims_numbers_are_none(published: Toy, claims: Path) -> None:
    before = {"claim_id": "double", "verdict": "reproduced", "estimate": 1.5, "low": 1.5, "high": 1.5, "n": 3}
    after = before | {"estimate": 2.5, "n": 4}
    assert [(one.what, one.before, one.after) for one in verify.changes([before], [after], "toy")] == [
        ("estimate", 1.5, 2.5),
        ("n", 3, 4),
    ]
    claims.write_text(claims.read_text() + "    volatile: true\n")
    assert list(verify.changes([before], [after], "toy")) == []


def test_publishing_shows_itself_on_the_scoreboard_at_once(tmp_path: Path) -> None:
    """Whichever way a result is published, the scoreboard is executed after it."""
    toy = build(tmp_path, real_evidence=True)
    show = (
        "from replication.evidence import scoreboard\nfrom replication.runs import publish\n"
        "from replication.runs.profiles import Project\n"
        "scoreboard.Board.of([found for _, found in publish.committed(Project.find())])"
    )
    cells = toy_cells("papers: list[str] = []  # which to show", show, "")
    toy.add("00_board", cells, scoreboard=True)
    toy.profile("standard", "00_board", "")
    for command in (["run", "toy"], ["batch", "--profile", "standard"]):
        done = toy.replicate(*command, "--publish")
        assert done.returncode == 0, done.stderr
        assert "published" in done.stdout
        text = toy.project.notebook_file("00_board").read_text()
        assert '"text/markdown"' in text
    # the second time both profiles are on it
    assert "| smoke | 1 |" in text
    assert "| standard | 1 |" in text

"""Publishing and verifying, with the real evidence room over results that were never executed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import CONFIG, Toy, build, display, leave, toy_cells

from replication.evidence.scoreboard import Board
from replication.runs import publish, verify
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.store import Spec

PAGE = "notebooks/toy.ipynb"
RESULTS = "results/smoke/toy.json"


@pytest.fixture
def published(toy: Toy, claims: Path) -> Toy:
    publish.publish(toy.store, leave(toy))
    publish.refresh_readme(toy.project)
    return toy


def found(toy: Toy) -> list[str]:
    return list(verify.disagreements(toy.project))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    node = json.loads(path.read_text())
    change(node)
    path.write_text(json.dumps(node))


def test_published_project_agrees_with_itself(published: Toy) -> None:
    assert found(published) == []
    readme = (published.root / "README.md").read_text()
    assert "**Reproduced** at the smoke scale" in readme
    assert readme.startswith("# Toy\n")
    assert readme.endswith("\nEnd.\n")


def test_published_results_keep_what_the_machine_told_apart(published: Toy) -> None:
    results = json.loads((published.root / RESULTS).read_text())
    assert list(results)[-1] == "machine"
    assert results["machine"] == {
        "started": "now",
        "wall_seconds": 2.0,
        "volatile": {"quantity": {"levels": ["seconds"], "codes": [0]}, "value": [2.0]},
        "processor": "A",
    }
    assert "seconds" not in results["records"]["quantity"]["levels"]
    assert results["provenance"].keys() == {"device", "cpu", "packages"}
    edit(published.root / RESULTS, lambda results: results["machine"].update(started="then", wall_seconds=9.0))
    assert found(published) == []


def test_the_page_of_another_profile_lies_beside_its_results(published: Toy) -> None:
    before = published.project.notebook_file("toy").read_bytes()
    run = leave(published, "standard")
    link = {"source": "[it](../replication/toy/experiment.py)"}
    edit(published.store.folder(run) / "notebook.ipynb", lambda node: node["cells"][0].update(link))
    written = publish.publish(published.store, run)
    page = published.root / "results" / "standard" / "toy.ipynb"
    assert written == [page.with_suffix(".json"), page]
    assert "[it](../../replication/toy/experiment.py)" in page.read_text()  # seen from where it lies
    assert published.project.notebook_file("toy").read_bytes() == before
    publish.refresh_readme(published.project)
    assert found(published) == []
    edit(page, lambda node: node["cells"][1].update(outputs=[]))
    assert any("results/standard/toy.ipynb: its answer is not the one of results" in line for line in found(published))
    page.unlink()
    again = "`replicate run toy --profile standard --publish` makes it"
    assert found(published) == [f"results/standard/toy.ipynb is not there, or no notebook; {again}."]
    publish.publish(published.store, leave(published, "standard"))
    assert "1 of 1 at smoke; 1 of 1 at standard" in (published.root / "README.md").read_text()


def test_only_a_whole_run_of_a_profile_as_it_stands_is_published(toy: Toy, claims: Path) -> None:
    with pytest.raises(RefusedError, match="parameters of its own"):
        publish.publish(toy.store, leave(toy, seeds=4))
    with pytest.raises(RefusedError, match="not finished"):
        publish.publish(toy.store, toy.store.plan(Spec("toy", "smoke", {})))
    with pytest.raises(RefusedError, match="without some of its data, so it is not published"):
        publish.publish(toy.store, leave(toy, missing={"toys": "fetch them"}))
    assert not toy.project.results.exists()


def test_runs_in_the_store_play_no_part(published: Toy) -> None:
    run = leave(published, value=9.0)
    results = published.store.results(run)
    assert results is not None
    assert results["verdicts"][0]["verdict"] == "not reproduced"
    assert found(published) == []
    leave(published, value=9.0, missing={"toys": "fetch them"})
    assert found(published) == []


# --- results and claims ----------------------------------------------------------------------------------------------


def test_changed_verdict_in_results_is_found(published: Toy) -> None:
    edit(published.root / RESULTS, lambda results: results["verdicts"][0].update(verdict="not reproduced"))
    text = "\n".join(found(published))
    assert f"{RESULTS}: claim double is 'not reproduced', by today's claims 'reproduced'." in text
    assert f"{PAGE}: its table of claims is not the one of {RESULTS}; `replicate render` writes it anew." in text
    assert f"{PAGE}: its answer is not the one of {RESULTS}; `replicate render` writes it anew." in text


def test_changed_answer_in_results_is_found_also_by_the_board(published: Toy) -> None:
    edit(published.root / RESULTS, lambda results: results["tests"][0].update(answer="no"))
    text = "\n".join(found(published))
    assert f"{RESULTS}: test T1 is 'no', by today's claims 'yes'." in text
    assert f"{PAGE}: test T1 is not as in {RESULTS}; `replicate render` writes it anew." in text
    assert "README.md: what it says was found is not what results/ say" in text


def test_changed_number_in_results_is_found(published: Toy) -> None:
    edit(published.root / RESULTS, lambda results: results["tests"][0].update(estimate=1.7))
    assert f"{RESULTS}: test T1, estimate is 1.7, by today's claims 1.5." in found(published)


def test_changed_details_in_results_are_found(published: Toy) -> None:
    edit(published.root / RESULTS, lambda results: results["tests"][0].update(reason="because"))
    line = "a reason, a comparison or a number's last digits are others by today's claims."
    assert f"{RESULTS}: {line}" in found(published)
    assert f"{PAGE}: test T1 is not as in {RESULTS}; `replicate render` writes it anew." in found(published)


def test_another_machines_rounding_is_no_disagreement_with_the_claims(published: Toy) -> None:
    def nudge(of: Any) -> None:
        of.update(estimate=of["estimate"] * (1 + 1e-12))

    edit(published.root / RESULTS, lambda results: nudge(results["tests"][0]))
    page = published.project.notebook_file("toy")
    edit(page, lambda node: nudge(node["cells"][4]["outputs"][0]["metadata"]["replication"]["tests"][0]))
    assert found(published) == []


def test_changed_records_are_found(published: Toy) -> None:
    edit(published.root / RESULTS, lambda results: results["records"].update(value=[9.0, 9.0, 9.0, 0.0]))
    assert f"{RESULTS}: test T1 is 'yes', by today's claims 'no'." in found(published)


def test_changed_claim_is_found(published: Toy, claims: Path) -> None:
    claims.write_text(claims.read_text().replace("paper_value: 1.5", "paper_value: 9.5"))
    assert any("is 'reproduced', by today's claims 'not reproduced'" in line for line in found(published))


def test_verdict_whose_claim_is_gone_is_found_everywhere(published: Toy, claims: Path) -> None:
    claims.write_text(claims.read_text().replace("id: double", "id: triple").replace("id: T1", "id: T2"))
    text = "\n".join(found(published))
    for one in ("claim double", "test T1"):
        assert f"{RESULTS}: {one} is missing by today's claims." in text
    for one in ("claim triple", "test T2"):
        assert f"{RESULTS}: {one} is missing." in text
    assert "the stored test 'T1' is not among today's" in text


def test_malformed_claims_are_told_once_a_file(published: Toy, claims: Path) -> None:
    claims.write_text("paper: toy\n")
    assert all("claims" in line for line in found(published))


def test_results_that_nothing_stands_behind_are_found(published: Toy) -> None:
    path = published.root / RESULTS
    edit(path, lambda results: results["parameters"].update(seeds=7))
    assert found(published) == [f"{RESULTS}: seeds was 7, but profile smoke says 3."]
    edit(path, lambda results: results["missing"].update(toys="fetch them"))
    assert f"{RESULTS}: data were missing. toys: fetch them" in found(published)
    edit(path, lambda results: results.update(profile="paper"))
    lines = found(published)
    assert f"{RESULTS} holds results of toy at profile paper." in lines
    assert any("has no profile 'paper'" in line for line in lines)
    edit(path, lambda results: results.update(notebook="gone", profile="smoke"))
    assert f"{RESULTS}: there is no notebook 'gone'; remove the file." in found(published)


@pytest.mark.parametrize("text", ["{", '{"verdicts": []}'], ids=["damaged", "older form"])
def test_damaged_results_are_told_so(published: Toy, text: str) -> None:
    (published.root / RESULTS).write_text(text)
    with pytest.raises(ReplicationError, match="is not a results file"):
        found(published)


# --- pages and the README --------------------------------------------------------------------------------------------


def raw(node: Any, cell: int, output: int) -> Any:
    return node["cells"][cell]["outputs"][output]["metadata"]["replication"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda node: node["cells"][1]["outputs"][0]["data"].update({"text/markdown": "**Answer.** 7 reproduced."}),
            f"its answer is not the one of {RESULTS}; `replicate render` writes it anew.",
        ),
        (
            lambda node: node["cells"][1]["outputs"].pop(0),
            f"its answer is not the one of {RESULTS}; `replicate render` writes it anew.",
        ),
        (
            lambda node: raw(node, 1, 1)["verdicts"][0].update(verdict="inconclusive"),
            f"its table of claims is not the one of {RESULTS}; `replicate render` writes it anew.",
        ),
        (lambda node: node["cells"][1]["outputs"].pop(1), "its answer shows no table of claims."),
        (
            # within the test's tolerance; but a page and its results are of one run
            lambda node: raw(node, 4, 0)["tests"][0].update(estimate=1.5 + 1e-9),
            f"test T1 is not as in {RESULTS}; `replicate render` writes it anew.",
        ),
        (lambda node: raw(node, 4, 0)["tests"].pop(1), "no table shows K1."),
        (lambda node: node["cells"][4].update(outputs=[]), "no table shows K1, T1."),
    ],
)
def test_changed_page_is_found(published: Toy, change: Callable[[Any], object], line: str) -> None:
    edit(published.project.notebook_file("toy"), change)
    assert found(published) == [f"{PAGE}: {line}"]


def test_tests_may_stand_in_several_tables(published: Toy) -> None:
    def split(node: Any) -> None:
        (output,) = node["cells"][4]["outputs"]
        other = json.loads(json.dumps(output))
        output["metadata"]["replication"]["tests"].pop(0)
        other["metadata"]["replication"]["tests"].pop(1)
        node["cells"][4]["outputs"].append(other)

    edit(published.project.notebook_file("toy"), split)
    assert found(published) == []


def test_page_without_results_is_found(published: Toy) -> None:
    (published.root / RESULTS).unlink()
    publish.refresh_readme(published.project)
    assert any(f"there is no {RESULTS}" in line for line in found(published))


def test_changed_readme_is_found(published: Toy) -> None:
    readme = published.root / "README.md"
    readme.write_text(readme.read_text().replace("**Reproduced**", "**Not reproduced**"))
    (line,) = found(published)
    assert line.startswith("README.md")


def test_a_picture_of_other_verdicts_is_found(published: Toy) -> None:
    picture = publish.picture_file(published.project)
    before = picture.read_bytes()
    edit(published.root / RESULTS, lambda node: node["verdicts"][0].update(verdict="inconclusive"))
    edit(published.root / RESULTS, lambda node: [one.update(answer="open") for one in node["tests"]])
    publish.refresh_readme(published.project)
    assert picture.read_bytes() != before
    picture.write_bytes(before)
    line = "results/scoreboard.png: it does not show the verdicts of results/; `replicate report --readme` writes it."
    assert line in found(published)
    picture.unlink()
    assert line in found(published)


def test_readme_without_markers_is_told_so(toy: Toy) -> None:
    (toy.root / "README.md").write_text("# Toy\n")
    with pytest.raises(ReplicationError, match="verdicts:begin"):
        publish.refresh_readme(toy.project)


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
    output = display(Board.of(results for _, results in publish.committed(toy.project)))
    edit(toy.project.notebook_file("00_board"), lambda node: node["cells"][4].update(outputs=[output]))


def test_scoreboard_that_shows_something_else_is_found(board: Toy) -> None:
    line = "notebooks/00_board.ipynb: its board is not the one of results/; `replicate run 00_board --publish` "
    assert found(board) == [f"{line}makes it anew."]
    show_board(board)
    assert found(board) == []
    publish.publish(board.store, leave(board, "standard"))
    publish.refresh_readme(board.project)
    assert found(board) == [f"{line}makes it anew."]


def test_page_of_no_profile_is_published_at_any(board: Toy) -> None:
    board.profile("standard", "00_board", "")
    run = board.store.plan(Spec("00_board", "standard", {}))
    work = board.store.open_work(run)
    (work / "notebook.ipynb").write_bytes(board.project.notebook_file("00_board").read_bytes())
    board.store.finish(run, {"verdicts": []})
    assert publish.publish(board.store, run) == [board.project.notebook_file("00_board")]


EXPERIMENT = (
    CONFIG
    + """
import time

def measured(config):
    rows = [{"quantity": "value", "seed": seed, "value": config.seeds * config.peak} for seed in range(3)]
    return [*rows, {"quantity": "seconds", "value": time.perf_counter()}]

def checked(config, may_fail):
    if may_fail and config.fail:
        raise ValueError("asked to fail")
    return [{"quantity": "error", "value": 0.0}]

def parts(config):
    return [
        evidence.Part("value", measured, config.only("seeds", "peak")),
        evidence.Part("no error", checked, config.only(), {"may_fail": False}),
        evidence.Part("error", checked, config.only("fail"), {"may_fail": True}),
    ]
"""
)

FINISH = """\
from matplotlib import pyplot
outcomes = run.evaluate(records)
run.show(outcomes, pyplot.figure(), caption="A toy", scale="three seeds")
run.tests_table(outcomes)
run.finish(records, outcomes)\
"""


def real_page(toy: Toy) -> None:
    """A notebook that does what the project's do."""
    start = (
        'run = evidence.start("toy", notebook="toy", profile=profile)\n'
        "from replication.toy.experiments import real\n"
        "config = run.configure(real, globals())\nrecords = run.records()"
    )
    show, _, end = FINISH.rpartition("\n")
    room = toy.package / "toy" / "experiments"
    room.mkdir()
    (room / "__init__.py").touch()
    (room / "real.py").write_text(EXPERIMENT)
    cells = toy_cells(run=start, finish=show)
    toy.add("toy", [*cells, *toy_cells(finish=end)[-1:]], paper="toy", experiment="real")


@pytest.mark.slow
def test_what_is_published_shows_itself_everywhere_and_is_verified(tmp_path: Path) -> None:
    """Whichever way a result is published, the scoreboard is executed after it; papermill fills in the answer."""
    toy = build(tmp_path, real_evidence=True)
    real_page(toy)
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
    assert "1 of 1 at smoke; 1 of 1 at standard" in text
    verified = toy.replicate("verify")
    assert verified.stdout == "2 published results checked: no disagreements.\n", verified.stderr
    # a claim in other words: pages and results follow without computing
    parts = sorted(toy.project.store.glob("parts/*/*"))
    claims = toy.package / "toy" / "claims.yaml"
    claims.write_text(claims.read_text().replace("The value is seeds times peak.", "It is seeds times peak."))
    assert toy.replicate("verify").returncode == 1
    for path in parts:
        path.unlink()
    rendered = toy.replicate("render", "toy")
    assert rendered.returncode == 0, rendered.stderr
    assert toy.replicate("run", "00_board", "--publish").returncode == 0
    assert "It is seeds times peak." in toy.project.notebook_file("toy").read_text()
    assert toy.replicate("verify").returncode == 0
    assert not list(toy.project.store.glob("parts/*/*"))
    # and a run of the same on this machine agrees, whatever its clock says
    again = toy.replicate("batch", "--force")
    assert again.returncode == 0, again.stderr
    assert "Volatile, compared with nothing: time of a step (toy at smoke)." in again.stdout
    assert "Agreement: 1 of 1 notebooks ran; 1 of 1 verdicts, 1 of 1 checks and 1 of 1 other answers" in again.stdout


@pytest.mark.slow
def test_a_part_that_fails_leaves_the_others_and_is_tried_again(tmp_path: Path) -> None:
    toy = build(tmp_path, real_evidence=True)
    real_page(toy)
    source = toy.package / "toy" / "experiments" / "real.py"
    broken = toy.replicate("run", "toy", "-p", "fail", "true", "--workers", "2")
    assert broken.returncode == 1
    assert "1 parts failed, the others are kept: error: ValueError: asked to fail" in broken.stderr
    (folder,) = toy.project.store.glob("toy/*")
    page = (folder / "notebook.failed.ipynb").read_text()
    assert "Part error failed, and nothing that needs it is decided" in page
    assert "- double: reproduced" in page
    assert "asked to fail" in (folder / "log.txt").read_text()
    assert 'raise ValueError("asked to fail")' in json.loads((folder / "failed.json").read_text())["traceback"]
    kept = {path.name: path.stat().st_mtime_ns for path in toy.project.store.glob("parts/*/*.json")}
    assert len([name for name in kept if name.endswith(".failed.json")]) == 1
    # another value of the parameter: the part that does not read it is there already
    mended = toy.replicate("run", "toy")
    assert mended.returncode == 0, mended.stderr
    after = {path.name: path.stat().st_mtime_ns for path in toy.project.store.glob("parts/*/*.json")}
    assert len(after) == len(kept) + 1
    assert all(after[name] == stamp for name, stamp in kept.items())
    # a source that no part reads computes nothing; one that both read computes both
    (toy.package / "toy" / "figures.py").write_text("x = 1\n")
    assert "re-evaluated" in toy.replicate("run", "toy").stdout
    source.write_text(f"{EXPERIMENT}\n# changed\n")
    assert " computed (" in toy.replicate("run", "toy").stdout

"""The page about a batch, over results that were never executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from toys import CLAIMS, Toy, leave

from replication.cli import cli
from replication.runs import report
from replication.runs.page import write as write_page
from replication.runs.profiles import Project
from replication.runs.report import Matrix
from replication.runs.store import Run, Spec


@pytest.fixture(autouse=True)
def _claims(claims: Path) -> None:
    """The toy paper has a claim that two profiles decide, and one that none does."""
    head, start, claim = CLAIMS.partition("  - id: double\n")
    decided, checks, rest = claim.replace("at: [smoke]", "at: [smoke, standard]").partition("checks:\n")
    beyond = "  - id: beyond\n" + decided.replace("T1", "T9").replace("[smoke, standard]", "[paper]")
    claims.write_text(head + start + decided + beyond + checks + rest)


def finish(toy: Toy, profile: str = "smoke", started: str = "now", **overrides: Any) -> Run:
    """Leave a finished run whose value is its seeds times its peak."""
    run = toy.store.plan(Spec("toy", profile, overrides))
    value = run.parameters["seeds"] * run.parameters["peak"]
    values = [value + 0.01 * seed for seed in range(3)]
    return leave(toy, profile, value=values, started=started, provenance={"cpu": {}}, **overrides)


def fail(toy: Toy, **overrides: Any) -> Run:
    run = toy.store.plan(Spec("toy", "smoke", overrides))
    work = toy.store.open_work(run)
    (work / "notebook.ipynb").write_text("{}")
    traceback = "\n".join([*(f"line {n}" for n in range(40)), f"in {toy.root}/notebooks", "ValueError: a < b"])
    toy.store.fail(run, {"message": "cell 4 raised", "status": "failed", "cell": 4, "traceback": traceback})
    return run


def write(toy: Toy, runs: list[Run]) -> tuple[BeautifulSoup, str]:
    page, text = write_page(toy.store, "A <title>", runs, toy.project.store / "reports" / "x")
    return BeautifulSoup(page.read_text(), "html.parser"), text.read_text()


def matrix(toy: Toy, runs: list[Run]) -> Matrix:
    (made,) = report.matrices(list(report.sections(toy.store, runs, toy.project.store)))
    return made


def test_report_shows_verdicts_failures_and_relative_links(toy: Toy) -> None:
    good, bad = finish(toy), fail(toy, label="<b>", fail=True)
    page, text = write_page(toy.store, "A <title>", [good, bad], toy.project.store / "reports" / "x")
    html, markdown = page.read_text(), text.read_text()
    for shown in (html, markdown):
        assert "2 runs: 1 finished, 1 failed." in shown
        assert f"../toy/{good.run_id}/notebook.ipynb" in shown
        assert f"../toy/{bad.run_id}/notebook.failed.ipynb" in shown
        assert "line 39" in shown
        assert "line 20" not in shown
        assert str(toy.root) not in shown
    assert "<strong>✓ reproduced</strong>" in html
    assert "ValueError: a &lt; b" in html
    assert "<b>" not in html
    assert "**✓ reproduced**" in markdown
    soup = BeautifulSoup(html, "html.parser")
    heads = [head.text for head in soup.find_all("h2")]
    assert heads == ["toy", "Failures", "Runs", "Provenance"]
    assert soup.select_one("details:has(> div#run-2) > summary").text.endswith("smoke – failed: cell 4 raised")  # type: ignore[union-attr]
    for link in soup.find_all("a", href=True):
        if not str(link["href"]).startswith("#"):
            assert (page.parent / str(link["href"])).is_file(), link


def test_only_what_varies_names_the_columns_the_slowest_first(toy: Toy) -> None:
    runs = [finish(toy, seeds=seeds, peak=peak) for peak in (0.25, 0.5) for seeds in (3, 4, 5)]
    made = matrix(toy, runs)
    assert made.varying == ("peak", "seeds")
    assert [made.label(column) for column in made.columns][:2] == ["peak 0.25, seeds 3", "peak 0.25, seeds 4"]
    assert ([row.name for row in made.rows], made.untouched) == (["double", "double T1", "check K1"], ("beyond",))
    claim, test, _ = made.rows
    assert [report.word(claim, one) for one in made.columns] == (
        ["not reproduced"] * 3 + ["reproduced"] + ["not reproduced"] * 2
    )
    assert [report.word(test, one) for one in made.columns] == ["no"] * 3 + ["yes"] + ["no"] * 2
    assert made.counts(claim) == "1 reproduced, 5 not reproduced"
    assert made.counts(test) == "1 yes, 5 no"


def test_what_follows_from_the_profile_is_not_said_again(toy: Toy) -> None:
    # the profiles differ in seeds and budgets as well
    assert matrix(toy, [finish(toy), finish(toy, "standard")]).varying == ("profile",)
    runs = [finish(toy, profile, peak=peak) for profile in ("smoke", "standard") for peak in (0.1, 0.2)]
    assert matrix(toy, runs).varying == ("profile", "peak")


def test_few_runs_have_words_and_many_have_signs_with_words_beside(toy: Toy) -> None:
    def cells(runs: list[Run], row: int = 0) -> list[str]:
        soup, _ = write(toy, runs)
        return [cell.text for cell in soup.select("table.matrix tbody tr")[row].find_all("td")]

    runs = [finish(toy, peak=peak) for peak in (0.5, 0.9)]
    numbers = "1.510 [1.485, 1.535] points", "2.710 [2.685, 2.735] points"
    told = [f"✓ reproduced {numbers[0]}", f"✗ not reproduced {numbers[1]}", "! failed"]
    assert cells([*runs, fail(toy, peak=0.1)]) == told
    assert cells([*runs, fail(toy, peak=0.1)], 1) == [f"✓ yes {numbers[0]}", f"✗ no {numbers[1]}", "! failed"]
    assert f"| double | reproduced: {numbers[0]} | not reproduced: {numbers[1]} |" in write(toy, runs)[1]
    runs += [finish(toy, peak=peak) for peak in (1.0, 1.1, 1.2)]
    assert cells(runs) == ["1 reproduced, 4 not reproduced", "✓", "✗", "✗", "✗", "✗"]


def test_a_test_that_a_profile_does_not_ask_is_left_blank(toy: Toy, claims: Path) -> None:
    claims.write_text(claims.read_text().replace("at: [smoke, standard]", "at: [smoke]"))
    runs = [finish(toy), finish(toy, "standard")]
    soup, text = write(toy, runs)
    rows = [[cell.text for cell in row.find_all("td")] for row in soup.select("table.matrix tbody tr")]
    number = "1.510 [1.485, 1.535] points"
    assert rows == [[f"✓ reproduced {number}", "– not attempted"], [f"✓ yes {number}", ""], ["✓ yes ≤ 1e-09", ""]]
    assert f"| double T1 | yes: {number} |  |" in text


def test_numeric_parameters_are_plotted_and_nothing_is_fetched(toy: Toy) -> None:
    soup, _ = write(toy, [finish(toy, peak=peak, label=label) for peak in (0.25, 0.5) for label in ("a", "b")])
    drawn = [figure.img["alt"] for figure in soup.find_all("figure") if figure.img]
    assert drawn == ["double T1: estimate against peak"]
    assert "The same whatever peak is: check K1." in soup.text
    sources = [str(tag.get("src") or "") for tag in soup.find_all(["img", "script", "iframe", "link"])]
    assert sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert soup.find("meta", attrs={"name": "viewport"}) is not None
    # one run, or parameters without numbers: nothing to plot
    assert not write(toy, [finish(toy)])[0].find_all("figure")
    assert not write(toy, [finish(toy, label=label) for label in "ab"])[0].find_all("figure")


def test_equal_runs_give_an_equal_page(toy: Toy) -> None:
    runs = [finish(toy, peak=peak) for peak in (0.25, 0.5)]
    assert write(toy, runs)[0] == write(toy, runs)[0]


def test_a_wide_batch_is_folded(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.runs.page._COLUMNS", 3)
    soup, text = write(toy, [finish(toy, peak=0.1 * n) for n in range(1, 9)] + [fail(toy, peak=0.9)])
    tables = soup.select("table.matrix")
    assert [len(table.select("tbody tr")[0].find_all("td", class_=["v0", "v2", "none"])) for table in tables] == [3] * 3
    assert ["open" in table.find_parent("details").attrs for table in tables] == [True, False, False]
    heads = [[head.text for head in table.select("thead tr")[-1].find_all("a")] for table in tables]
    assert heads == [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"]]
    targets = {str(tag["id"]) for tag in soup.find_all(id=True)}
    assert {str(link["href"])[1:] for link in soup.find_all("a", href=True) if link["href"][0] == "#"} <= targets
    assert "| double | The value is seeds times peak. | 1 reproduced, 7 not reproduced |" in text
    assert "| double T1 | Is the value 1.5? | 1 yes, 7 no |" in text


def test_provenance_is_told_once_where_it_is_shared(toy: Toy) -> None:
    found = list(report.sections(toy.store, [finish(toy), finish(toy, started="later", seeds=4)], toy.root))
    assert report.shared(found) == {"device": "cpu", "packages.numpy": "2.0", "wall_seconds": "2"}
    _, text = write(toy, [section.run for section in found])
    assert text.count("packages.numpy: 2.0") == 1
    assert "- started: later" in text


def test_a_notebook_of_no_paper_has_no_matrix(toy: Toy) -> None:
    toy.add("board", [])
    run = Run("board", "smoke", {}, "", "0" * 16, {})
    toy.store.open_work(run)
    toy.store.finish(run, {"verdicts": []})
    soup, _ = write(toy, [run])
    assert not soup.select("table.matrix")
    assert "finished: no claims." in soup.text


def test_profiles_are_compared_by_the_newest_run_of_each_setting(toy: Toy) -> None:
    old, standard = finish(toy), finish(toy, "standard")
    (toy.package / "toy" / "experiment.py").write_text("x = 1\n")
    new = finish(toy)
    fail(toy, seeds=9)
    assert report.newest(toy.store, ["smoke"]) == [new]
    assert report.newest(toy.store, ["smoke", "standard"]) == [new, standard]
    assert old.run_id != new.run_id


def test_command_writes_both_pages(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "find", classmethod(lambda cls: toy.project))
    finish(toy)
    finish(toy, "standard")
    arguments = ["report", "--profile", "smoke", "--profile", "standard", "--out", str(tmp_path / "both.html")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.glob("both*")) == ["both.html", "both.md"]
    assert "Finished runs at smoke and standard" in (tmp_path / "both.md").read_text()

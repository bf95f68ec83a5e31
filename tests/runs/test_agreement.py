"""Local runs beside the published results, over results that were never executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from toys import Toy, leave

from replication import evidence
from replication.cli import cli
from replication.runs import publish
from replication.runs.agreement import Agreement, agreement, changes, close
from replication.runs.page import write as write_page
from replication.runs.profiles import Project
from replication.runs.store import Run, Spec


@pytest.fixture(autouse=True)
def published(toy: Toy, claims: Path) -> Toy:
    """A project whose results were published from another machine's store."""
    run = leave(toy)
    publish.publish(toy.store, run)
    toy.project.store.rename(toy.root / "elsewhere")
    return toy


def agreed(toy: Toy, *runs: Run) -> Agreement:
    return agreement(toy.store, runs)


def test_all_equal(toy: Toy) -> None:
    # the last digits of a sum, and rounding errors within an identity's tolerance
    found = agreed(toy, leave(toy, value=1.5 * (1 + 3e-14), error=7e-11))
    assert str(found) == (
        "1 of 1 notebooks ran; 1 of 1 verdicts, 1 of 1 checks and 1 of 1 other answers agree with the published ones; "
        "largest relative difference of a number 3e-14; volatile: 1 (listed)."
    )
    assert list(found.lines()) == ["Volatile, compared with nothing: time of a step (toy at smoke)."]
    assert [row[1:] for row in found.table().rows] == [
        ("claim double", "reproduced", "reproduced", "agrees"),
        ("gates and checks", "1 of 1 checks hold", "1 of 1 checks hold", "agrees"),
    ]


def test_one_verdict_changed(toy: Toy) -> None:
    found = agreed(toy, leave(toy, value=9.0, provenance={"cpu": {"model": "B"}}))
    assert str(found).startswith("1 of 1 notebooks ran; 0 of 1 verdicts, 1 of 1 checks and 0 of 1 other answers agree")
    assert "; 3 numbers beyond tolerance (listed); largest relative difference of a number 0.8; " in str(found)
    lines = list(found.lines())
    assert lines[0] == "toy at smoke, claim double: verdict reproduced published, not reproduced here."
    assert lines[1] == "toy at smoke, test T1: answer yes published, no here."
    assert lines[5] == "toy at smoke, probable cause: another processor (model A published, B here)."
    rows = [row[1:] for row in found.table().rows]
    assert rows[0] == ("claim double", "reproduced", "not reproduced", "differs")
    assert ("test T1, estimate", "1.5", "9", "differs") in rows


@pytest.mark.parametrize(
    ("provenance", "cause"),
    [
        ({"packages": {"numpy": "2.1"}}, "other versions (numpy 2.0 published, 2.1 here)"),
        ({"data": {"toys": "sha256:1"}}, "other data (toys none published, sha256:1 here)"),
        (
            {"device": "cuda", "packages": {"numpy": "2.1"}},
            "another device (device cpu published, cuda here); other versions (numpy 2.0 published, 2.1 here)",
        ),
        (
            {"numerics": {"variables": {"ATEN_CPU_CAPABILITY": "default"}}},
            "other settings of the numerical libraries (ATEN_CPU_CAPABILITY none published, default here)",
        ),
        ({"git": {"revision": "1"}, "threads": 7}, "nothing known differs"),
    ],
)
def test_one_number_changed_beyond_tolerance(toy: Toy, provenance: dict[str, Any], cause: str) -> None:
    path = toy.root / "results" / "smoke" / "toy.json"
    results = json.loads(path.read_text())
    results["tests"][0]["high"] = 1.9
    path.write_text(json.dumps(results))
    found = agreed(toy, leave(toy, provenance=provenance))
    assert "1 of 1 other answers agree" in str(found)
    assert "; 1 number beyond tolerance (listed); largest relative difference of a number 0.2; " in str(found)
    first, second, _ = found.lines()
    assert first == "toy at smoke, test T1: high 1.9 published, 1.5 here."
    assert second == f"toy at smoke, probable cause: {cause}."


def test_numbers_within_the_tests_tolerance_agree(toy: Toy) -> None:
    # the mean stays, and its interval grows by less than 0.1
    found = agreed(toy, leave(toy, value=[1.46, 1.5, 1.54]))
    assert "1 of 1 verdicts, 1 of 1 checks and 1 of 1 other answers agree" in str(found)
    assert "beyond tolerance" not in str(found)
    assert "largest relative difference of a number 0.06" in str(found)


def test_rounding_is_relative_to_the_tests_largest_number(toy: Toy) -> None:
    results = json.loads((toy.root / "results" / "smoke" / "toy.json").read_text())

    def found(low: float) -> list[str]:
        near, far = ({**results["tests"][1], "estimate": 0.5, "low": end, "high": 1.0} for end in (1e-6, low))
        sides = ({**results, "tests": [test]} for test in (near, far))
        return [change.what for change in changes(*sides, evidence.load_claims("toy"))]

    assert found(3e-6) == []
    assert found(3e-4) == ["low"]


def test_run_of_another_id_had_other_sources(toy: Toy) -> None:
    (toy.package / "toy" / "experiment.py").write_text("x = 1\n")
    found = agreed(toy, leave(toy, value=9.0))
    assert any("probable cause: other sources, versions or data (run_id " in line for line in found.lines())


def test_timing_changed(toy: Toy) -> None:
    same, slow = (str(agreed(toy, leave(toy, seconds=seconds))) for seconds in (2.0, 900.0))
    assert same == slow
    assert "largest relative difference of a number 0; volatile: 1 (listed)" in slow


def test_missing_data(toy: Toy) -> None:
    found = agreed(toy, leave(toy, value=9.0, missing={"toys": "`get_toys()` fetches them."}))
    assert str(found) == "1 of 1 notebooks ran; 1 without its data, not compared (listed)."
    assert list(found.lines()) == ["Not compared, data missing: toy at smoke. toys: `get_toys()` fetches them."]
    assert found.table().rows == ()


def test_what_is_compared(toy: Toy) -> None:
    assert not agreed(toy, leave(toy, seeds=4), leave(toy, "standard"))
    asked = toy.store.plan(Spec("toy", "smoke", {}))
    assert str(agreed(toy, asked)) == "0 of 1 notebooks ran."
    assert str(agreement(toy.store, [], ["smoke"])) == "0 of 1 notebooks ran."
    # the newest of two
    (toy.package / "toy" / "experiment.py").write_text("x = 1\n")
    old, new = leave(toy, value=9.0), leave(toy)
    assert "1 of 1 verdicts" in str(agreed(toy, old, new))


def test_verdicts_of_older_claims_are_not_compared(toy: Toy, claims: Path) -> None:
    run = leave(toy, value=9.0)
    claims.write_text(claims.read_text() + "# a change\n")
    found = agreed(toy, run)
    assert str(found) == "1 of 1 notebooks ran."
    (line,) = found.lines()
    assert "verdicts of older claims: toy at smoke; `replicate run toy --profile smoke` brings them" in line


def test_test_that_is_new_is_counted_against(toy: Toy) -> None:
    path = toy.root / "results" / "smoke" / "toy.json"
    results = json.loads(path.read_text())
    results["tests"].pop(1)
    path.write_text(json.dumps(results))
    found = agreed(toy, leave(toy))
    assert "0 of 1 checks" in str(found)
    assert "toy at smoke, test K1: answer none published, yes here." in list(found.lines())


def test_damaged_published_results_are_told_and_stop_nothing(toy: Toy) -> None:
    (toy.root / "results" / "smoke" / "toy.json").write_text("{")
    found = agreed(toy, leave(toy))
    assert str(found) == "Nothing is compared."
    (line,) = found.lines()
    assert "is not a results file" in line


def test_report_begins_with_it(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "find", classmethod(lambda cls: toy.project))
    leave(toy, value=9.0)
    done = CliRunner().invoke(cli, ["report", "--profile", "smoke", "--out", str(tmp_path / "page")])
    assert done.exit_code == 0, done.output
    assert "Agreement: 1 of 1 notebooks ran; 0 of 1 verdicts" in done.output
    html = BeautifulSoup((tmp_path / "page.html").read_text(), "html.parser")
    assert [head.text for head in html.find_all("h2")][:2] == ["Agreement with the published results", "toy"]
    text = (tmp_path / "page.md").read_text()
    assert text.index("## Agreement with the published results") < text.index("## toy")
    for shown in (html.text, text):
        assert "0 of 1 verdicts" in shown
        assert "claim double: verdict reproduced published, not reproduced here." in shown
    assert "| toy at smoke | claim double | reproduced | **not reproduced** | differs |" in text


def test_page_without_published_results_has_no_such_part(toy: Toy, tmp_path: Path) -> None:
    (toy.root / "results" / "smoke" / "toy.json").unlink()
    html, text = write_page(toy.store, "x", [leave(toy)], tmp_path / "page", agreed(toy, leave(toy)))
    assert "Agreement" not in html.read_text() + text.read_text()


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "same"),
    [
        (1.0, 1.00009, 0.0, True),
        (1.0, 1.0002, 0.0, False),
        (1.0, 1.0002, 0.001, True),
        (0.0, 1e-13, 0.0, True),
        (None, None, 0.0, True),
        (None, 1.0, 9.0, False),
    ],
)
def test_numbers_are_the_same_up_to_rounding_and_tolerance(a: Any, b: Any, tolerance: float, same: bool) -> None:
    assert close(a, b, tolerance) == same

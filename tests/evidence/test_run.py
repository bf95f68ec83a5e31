from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from evidence_cases import content, entry, grid

from replication.evidence import ClaimError, Run, evidence_key, load_records, page, reevaluate, start, tidy
from replication.evidence import claims as claims_module
from replication.evidence import run as run_module

MEANS = {"uba": 0.0, "linear": 2.0, "step": 3.0}


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one paper, ``test``, that has three tests in one notebook and one in another."""
    room = tmp_path / "package" / "test"
    room.mkdir(parents=True)
    shutil.copytree(Path(claims_module.__file__).parent, room.parent / "evidence")
    tests = [
        entry("direction"),
        entry("interval", id="T2", where={"schedule": "uba"}, at=["paper"]),
        entry("interval", id="T3", notebook="11_test"),
    ]
    checks = [entry("identity", id="K", at=["smoke"])]
    (room / "claims.yaml").write_text(yaml.safe_dump(content(*tests, checks=checks)), encoding="utf-8")

    def files(name: str) -> Path:
        return room.parent.joinpath(*name.split(".")[1:])

    monkeypatch.setattr(claims_module.resources, "files", files)
    monkeypatch.setattr(run_module.provenance, "pin_numerics", lambda: {"pinned": True, "reason": "", "variables": {}})
    monkeypatch.delenv("REPLICATION_RUN_DIR", raising=False)
    monkeypatch.delenv("REPLICATION_RUN_ID", raising=False)
    return room


@pytest.fixture
def folder(paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run, not made yet."""
    made = tmp_path / "runs" / "one"
    monkeypatch.setenv("REPLICATION_RUN_DIR", str(made))
    monkeypatch.setenv("REPLICATION_RUN_ID", "id-1")
    return made


def begin() -> Run:
    return start("test", notebook="10_test", profile="smoke")


def finish(run: Run, records: pd.DataFrame) -> None:
    run.provenance(parameters={"seeds": [0], "grid": (1, 2)}, data={"digits": "sha256:0"}, device="cpu")
    run.finish(records, run.evaluate(records))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("tset", "10_test", "smoke"), "paper: must be one of test, got 'tset'; did you mean 'test'?"),
        (
            ("test", "10_tset", "smoke"),
            "notebook: must be one of 10_test, 11_test, got '10_tset'; did",
        ),
        (
            ("test", "10_test", "standart"),
            "profile: must be one of smoke, standard, paper, got 'standart'; did",
        ),
    ],
)
def test_misspelt_names_are_refused_with_the_nearest(paper: Path, names: tuple[str, str, str], says: str) -> None:
    with pytest.raises(ClaimError) as error:
        start(names[0], notebook=names[1], profile=names[2])
    assert str(error.value).startswith(says)


def test_a_run_without_a_folder_writes_nothing(paper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    run = begin()
    finish(run, run.records(lambda: grid(MEANS)))
    assert capsys.readouterr().out == (
        "10_test, profile smoke: 1 reproduced.\nApart: 0 of 1 checks hold (not K).\n- C1: reproduced\n"
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_shows_its_own_tests_only(paper: Path) -> None:
    run = begin()
    assert [row[0] for row in run.rules_table().rows] == ["C1 T1", "K"]
    outcomes = run.evaluate(grid(MEANS))
    assert [row[5] for row in run.tests_table(outcomes).rows] == ["yes", "fails"]
    assert [row[0] for row in run.tests_table(outcomes, "check").rows] == ["K"]
    assert len(run.comparisons_table(outcomes[0]).rows) == 2
    assert [(one.claim_id, one.verdict) for one in run.verdicts(outcomes)] == [("C1", "reproduced")]
    shown = run.provenance(parameters={}, device="cpu")
    assert dict(shown.rows)["numerics"] == "pinned"


def test_the_top_of_the_page_is_filled_in_when_the_answer_is_known(
    paper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import IPython.display as ipython
    import matplotlib.pyplot as plt

    shown: dict[str, Any] = {}
    monkeypatch.setattr(ipython, "display", lambda what, display_id: shown.update({display_id: what}))

    def update(what: Any, display_id: str) -> None:
        assert display_id in shown
        shown[display_id] = what

    monkeypatch.setattr(ipython, "update_display", update)
    page()
    assert "Run the notebook" in shown["answer"].data
    run = begin()
    figure = plt.figure()
    run.show(run.evaluate(grid(MEANS)), figure, caption="What it shows.", scale="ten seeds")
    assert list(shown) == ["answer", "figure", "claims", "scale"]
    assert shown["answer"].data.startswith("**Answer.** Something holds. **Reproduced** at the smoke scale")
    assert shown["figure"] is figure
    assert not plt.fignum_exists(figure.number)
    assert shown["claims"].raw["verdicts"][0]["claim_id"] == "C1"
    assert shown["scale"].data == "*What it shows.*\n\n**Scale.** smoke: ten seeds"


def test_what_depends_on_the_machine_is_shown_and_kept_apart(folder: Path) -> None:
    timed = tidy([*grid(MEANS).to_dict("records"), {"quantity": "seconds", "seed": 0, "value": 1.5}])
    run = begin()
    records = run.records(lambda: timed)
    label, number, n = run.volatile_table(records).rows[0]
    assert (label, number, n) == ("time", "1.500 s", "1")
    finish(run, records)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert "seconds" not in load_records(results["records"])["quantity"].tolist()
    assert load_records(results["provenance"]["volatile"])["value"].tolist() == [1.5]


def test_missing_data_are_told_in_the_results_and_on_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin()
    records = run.records(lambda: grid(MEANS))
    run.provenance(parameters={}, missing={"tables": "Get them with `fetch`."})
    run.finish(records, run.evaluate(records))
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["missing"] == {
        "tables": "Get them with `fetch`."
    }
    assert capsys.readouterr().out.endswith("Missing data: tables. Get them with `fetch`.\n")


def test_results_are_whole_and_say_where_they_come_from(folder: Path) -> None:
    run = begin()
    records = run.records(lambda: grid(MEANS))
    finish(run, records)
    assert sorted(path.name for path in folder.iterdir()) == ["records.json", "results.json"]
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert list(results) == [
        "schema", "notebook", "paper", "profile", "run_id", "parameters", "missing", "verdicts", "tests", "records",
        "provenance", "evidence_key",
    ]  # fmt: skip
    assert (results["schema"], results["run_id"], results["profile"]) == (2, "id-1", "smoke")
    assert results["parameters"] == {"seeds": [0], "grid": [1, 2]}
    assert results["evidence_key"] == evidence_key("test")
    assert results["provenance"]["wall_seconds"] >= 0
    assert results["provenance"]["started"].endswith("+00:00")
    assert results["provenance"]["data"] == {"digits": "sha256:0"}
    pd.testing.assert_frame_equal(load_records(results["records"]), records, check_exact=True)
    assert [outcome.to_dict() for outcome in reevaluate(results)] == results["tests"]


def test_records_of_the_same_run_are_reused_and_give_the_same_bytes(folder: Path) -> None:
    first = begin()
    finish(first, first.records(lambda: grid(MEANS)))
    before = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    again = begin()
    finish(again, again.records(lambda: pytest.fail("records of the same run were computed again")))
    after = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for results in (before, after):
        del results["provenance"]["started"], results["provenance"]["wall_seconds"]
    assert json.dumps(after) == json.dumps(before)


@pytest.mark.parametrize(
    "spoil", ["cut off", "other id", "no id", "other schema", "other notebook", "bad column", "list"]
)
def test_records_that_are_stale_or_spoilt_are_computed_again(
    folder: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin().records(lambda: grid(MEANS))
    path = folder / "records.json"
    text = path.read_text(encoding="utf-8")
    content: Any = json.loads(text)
    if spoil == "other id":
        monkeypatch.setenv("REPLICATION_RUN_ID", "id-2")
    elif spoil == "no id":
        monkeypatch.delenv("REPLICATION_RUN_ID")
    elif spoil == "cut off":
        path.write_text(text[: len(text) // 2], encoding="utf-8")
    else:
        if spoil == "list":
            content = [content]
        else:
            key = {"other schema": "schema", "other notebook": "notebook"}.get(spoil, "records")
            content[key] = {"quantity": {"levels": [], "codes": [3]}, "value": [1.0]} if spoil == "bad column" else "x"
        path.write_text(json.dumps(content), encoding="utf-8")
    calls = []
    made = begin().records(lambda: calls.append(1) or [{"quantity": "error", "value": 7.0}])
    assert calls == [1]
    assert made["value"].tolist() == [7.0]
    assert json.loads(path.read_text(encoding="utf-8"))["records"]["value"] == [7.0]


def test_an_experiment_that_fails_leaves_no_records(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        begin().records(lambda: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(ValueError, match="must be a number"):
        begin().records(lambda: [{"quantity": "error", "value": "x"}])
    assert not folder.exists()


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_litter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin()
    records = run.records(lambda: grid(MEANS))
    finish(run, records)
    before = (folder / "results.json").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        finish(run, records)
    assert (folder / "results.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["records.json", "results.json"]


def test_finish_takes_all_answers_and_asks_for_provenance(folder: Path) -> None:
    run = begin()
    records = grid(MEANS)
    outcomes = run.evaluate(records)
    with pytest.raises(RuntimeError, match=r"run\.provenance"):
        run.finish(records, outcomes)
    run.provenance(parameters={})
    for wrong in (outcomes[:1], outcomes[::-1], []):
        with pytest.raises(ValueError, match=r"the tests of 10_test at smoke are \['T1', 'K'\]"):
            run.finish(records, wrong)
    assert not folder.exists()


def test_the_key_changes_with_claims_and_with_rules_but_not_with_colours(paper: Path) -> None:
    def touch(path: Path) -> str:
        path.write_text(path.read_text() + "\n# a comment\n")
        return evidence_key("test")

    first = evidence_key("test")
    rooms = paper.parent / "evidence"
    for name in ("scoreboard.py", "power.py", "provenance.py"):
        assert touch(rooms / name) == first
    keys = {first, *(touch(rooms / name) for name in ("claims.py", "samples.py", "statistics.py", "verdicts.py"))}
    assert len({*keys, touch(paper / "claims.yaml")}) == 6

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pandas as pd
import pytest
import yaml
from evidence_cases import content, entry, grid
from pydantic import Field, PositiveInt, model_validator

from replication.evidence import (
    ClaimError,
    Part,
    Settings,
    evidence_key,
    load_records,
    page,
    reevaluate,
    start,
    tidy,
)
from replication.evidence import claims as claims_module
from replication.evidence import run as run_module
from replication.evidence.run import Run

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
    monkeypatch.setenv("REPLICATION_RUNS", str(tmp_path / "runs"))
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


class Config(Settings):
    seeds: PositiveInt = 1


def computed(run: Run, compute: Callable[[Config], Any], **more: Any) -> pd.DataFrame:
    """The records of an experiment of one part."""
    experiment: Any = SimpleNamespace(Config=Config, parts=lambda _config: [Part("all", compute, Config())], **more)
    run.configure(experiment, {"seeds": 1})
    return run.records()


def finish(run: Run, records: pd.DataFrame) -> None:
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


def test_a_run_without_a_folder_leaves_its_parts_alone(
    paper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.rglob("*"))
    run = begin()
    finish(run, computed(run, lambda _config: grid(MEANS)))
    assert capsys.readouterr().out.endswith(
        "10_test, profile smoke: 1 reproduced.\nApart: 0 of 1 checks hold (not K).\n- C1: reproduced\n"
    )
    assert {path.parent.parent.name for path in set(tmp_path.rglob("*")) - before if path.is_file()} == {"parts"}


def test_a_run_shows_its_own_tests_only(paper: Path) -> None:
    run = begin()
    assert [row[0] for row in run.rules_table().rows] == ["C1 T1", "K"]
    outcomes = run.evaluate(grid(MEANS))
    assert [row[5] for row in run.tests_table(outcomes).rows] == ["yes", "fails"]
    assert [row[0] for row in run.tests_table(outcomes, "check").rows] == ["K"]
    assert len(run.comparisons_table(outcomes[0]).rows) == 2
    assert [(one.claim_id, one.verdict) for one in run.verdicts(outcomes)] == [("C1", "reproduced")]


def test_a_run_shows_what_it_depends_on(paper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    computed(begin(), lambda _config: grid(MEANS))
    shown = capsys.readouterr().out
    assert re.search(r"numerics +pinned", shown)
    assert re.search(r"device +cpu", shown)


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
    records = computed(run, lambda _config: timed)
    label, number, n = run.volatile_table(records).rows[0]
    assert (label, number, n) == ("time", "1.500 s", "1")
    finish(run, records)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert "seconds" not in load_records(results["records"])["quantity"].tolist()
    assert results["rows"] == {key: [len(records) - 1, 1] for key in results["parts"]}
    assert load_records(results["provenance"]["volatile"])["value"].tolist() == [1.5]


def test_missing_data_are_told_in_the_results_and_on_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin()
    records = computed(run, lambda _config: grid(MEANS), missing=lambda _config: {"tables": "Get them with `fetch`."})
    run.finish(records, run.evaluate(records))
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["missing"] == {
        "tables": "Get them with `fetch`."
    }
    assert capsys.readouterr().out.endswith("Missing data: tables. Get them with `fetch`.\n")


def test_results_are_whole_and_say_where_they_come_from(folder: Path) -> None:
    run = begin()
    records = computed(run, lambda _config: grid(MEANS), inputs=lambda _config: {"digits": "sha256:0"})
    finish(run, records)
    assert sorted(path.name for path in folder.iterdir()) == ["parts.json", "results.json"]
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert list(results) == [
        "schema", "notebook", "paper", "profile", "run_id", "parameters", "missing", "failed", "parts", "rows",
        "verdicts", "tests", "records", "provenance", "evidence_key",
    ]  # fmt: skip
    assert (results["schema"], results["run_id"], results["profile"]) == (2, "id-1", "smoke")
    assert results["parameters"] == {"seeds": 1}
    assert results["evidence_key"] == evidence_key("test")
    assert results["provenance"]["wall_seconds"] >= 0
    assert results["provenance"]["started"].endswith("+00:00")
    assert results["provenance"]["data"] == {"digits": "sha256:0"}
    pd.testing.assert_frame_equal(load_records(results["records"]), records, check_exact=True)
    assert [outcome.to_dict() for outcome in reevaluate(results)] == results["tests"]


def test_parts_of_the_same_settings_are_reused_and_give_the_same_bytes(folder: Path) -> None:
    first = begin()
    finish(first, computed(first, lambda _config: grid(MEANS)))
    before = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    again = begin()
    finish(again, computed(again, lambda _config: pytest.fail("the same part was computed again")))
    after = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert (before["provenance"].pop("reused"), after["provenance"].pop("reused")) == (0, 1)
    for results in (before, after):
        del results["provenance"]["started"], results["provenance"]["wall_seconds"]
    assert json.dumps(after) == json.dumps(before)


def test_published_records_are_shown_again_without_computing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(_config: Config) -> list[dict[str, Any]]:
        return [*grid(MEANS).to_dict("records"), {"quantity": "seconds", "seed": 0, "value": 1.5}]

    run = begin()
    before = computed(run, rows)
    run.finish(before, run.evaluate(before))
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results["machine"] = {"volatile": results["provenance"]["volatile"], "parts": results["provenance"]["parts"]}
    published = tmp_path / "results" / "smoke" / "10_test.json"
    published.parent.mkdir(parents=True)
    published.write_text(json.dumps(results), encoding="utf-8")
    monkeypatch.setenv("REPLICATION_RECORDS", str(tmp_path / "results"))
    again = begin()
    after = computed(again, lambda _config: pytest.fail("what is published was computed again"))
    pd.testing.assert_frame_equal(before, after)
    assert [one.to_dict() for one in again.evaluate(after)] == results["tests"]
    monkeypatch.setenv("REPLICATION_ANEW", "1")
    anew: list[Config] = []
    computed(begin(), lambda config: anew.append(config) or rows(config))
    assert len(anew) == 1
    monkeypatch.setattr("replication.provenance.cpu_model", lambda: "of another maker")
    computed(begin(), lambda _config: pytest.fail("what another processor computed was computed again"))
    other: Any = SimpleNamespace(Config=Config, parts=lambda _config: [])
    with pytest.raises(ValueError, match=r"10_test\.json is of other parameters than this page"):
        begin().configure(other, {"seeds": 2})


def test_an_experiment_of_which_every_part_fails_is_no_run(folder: Path) -> None:
    with pytest.raises(RuntimeError, match=r"every part failed: all: RuntimeError: out of memory"):
        computed(begin(), lambda _config: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match=r"value must be a number"):
        computed(begin(), lambda _config: [{"quantity": "error", "value": "x"}])
    assert not (folder / "results.json").exists()
    with pytest.raises(RuntimeError, match="call run"):
        begin().records()


def test_a_part_that_fails_leaves_open_what_needs_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def measured(_config: Config, name: str) -> pd.DataFrame:
        if name == "linear":
            raise ValueError("no such schedule")
        rows = grid(MEANS)
        return rows[rows["schedule"].isin([name, "uba"])] if name == "step" else rows

    run = begin()
    made = [Part(name, measured, Config(), {"name": name}) for name in ("step", "linear")]
    run.configure(SimpleNamespace(Config=Config, parts=lambda _config: made), {"seeds": 1})
    records = run.records()
    outcomes = run.evaluate(records)
    # the grid of both parts is one quantity: to judge it by one of them would be another question
    assert [outcome.answer for outcome in outcomes if outcome.role == "primary"] == ["not run"]
    run.finish(records, outcomes)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["failed"] == {"linear": "ValueError: no such schedule"}
    assert "Part linear failed, and nothing that needs it is decided" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": 0}, "seeds: input should be greater than 0, got 0"),
        ({"seeds": "x"}, r"seeds: input should be a valid integer.*got 'x'"),
    ],
)
def test_values_are_refused_by_name(paper: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        begin().configure(SimpleNamespace(Config=Config, parts=lambda _config: []), values)


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_litter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin()
    records = computed(run, lambda _config: grid(MEANS))
    finish(run, records)
    before = (folder / "results.json").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        finish(run, records)
    assert (folder / "results.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["parts.json", "results.json"]


def test_finish_takes_all_answers_and_asks_for_provenance(folder: Path) -> None:
    run = begin()
    records = grid(MEANS)
    outcomes = run.evaluate(records)
    with pytest.raises(RuntimeError, match=r"run\.configure"):
        run.finish(records, outcomes)
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
    for name in ("scoreboard.py", "power.py"):
        assert touch(rooms / name) == first
    keys = {first, *(touch(rooms / name) for name in ("claims.py", "samples.py", "statistics.py", "verdicts.py"))}
    assert len({*keys, touch(paper / "claims.yaml")}) == 6


def test_numbers_of_a_config_are_finite_and_rules_that_stumble_refuse() -> None:
    class Odd(Settings):
        rates: list[float] = Field([1.0])
        last: float = 1.0

        @model_validator(mode="after")
        def _rule(self) -> Self:
            if self.rates[-1] > 5:
                raise ValueError("rates: must be at most 5")
            return self

    experiment: Any = SimpleNamespace(Config=Odd)
    assert run_module.checked(experiment, {"rates": [2.0]}) == Odd(rates=[2.0])
    for values, why in (
        ({"rates": [1.0, float("nan")]}, r"rates\.1: input should be a finite number, got nan"),
        ({"last": float("inf")}, "last: input should be a finite number, got inf"),
        ({"rates": [7.0]}, "rates: must be at most 5"),
        ({"rates": []}, r"make no sense together \(IndexError: list index out of range\): \{'rates': \[\]\}"),
    ):
        with pytest.raises(ValueError, match=why):
            run_module.checked(experiment, values)

"""Parts: keys, the store, resuming, several processes, failures."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from pydantic import Field, PositiveInt

from replication import evidence, sources
from replication.evidence import Part, Settings, parts

CALLS: list[str] = []


class Config(Settings):
    methods: list[str] = Field(["a", "b"])
    seeds: PositiveInt = 2
    folder: str = ""


def train(config: Config, method: str) -> Iterator[dict[str, Any]]:
    CALLS.append(method)
    if method == "broken":
        raise ValueError("no such method")
    for seed in range(config.seeds):
        yield {"quantity": "loss", "method": method, "seed": seed, "value": seed / 3}


def best(_config: Config, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    CALLS.append("best")
    yield {"quantity": "best", "value": rows["value"].min()}


def apart(_config: Config) -> Iterator[dict[str, Any]]:
    yield {"quantity": "other", "value": 1.0}


def trained(config: Config) -> list[Part]:
    made = [Part(method, train, config.only("seeds"), {"method": method}) for method in config.methods]
    return [*made, Part("best", best, config.only(), needs=tuple(part.name for part in made))]


EXPERIMENT: Any = SimpleNamespace(Config=Config, parts=trained, __name__="a.room.experiments.toy")


@pytest.fixture(autouse=True)
def _no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.delenv("REPLICATION_FRESH", raising=False)


def compute(folder: Path, **values: Any) -> tuple[parts.Plan, pd.DataFrame, dict[str, str]]:
    plan = parts.Plan.of(EXPERIMENT, Config(**values), folder)
    parts.sweep(plan)
    found = parts.collect(plan)
    assert found.finished.keys() | found.failures.keys() == {part.name for part in plan.parts}
    return plan, found.records, found.failures


def test_rows_stand_in_the_order_of_the_parts_and_are_those_of_one_function(tmp_path: Path) -> None:
    _, records, failures = compute(tmp_path)
    assert not failures
    assert records["quantity"].tolist() == ["loss"] * 4 + ["best"]
    assert records["method"].tolist()[:4] == ["a", "a", "b", "b"]
    pd.testing.assert_frame_equal(records, evidence.gather(EXPERIMENT, Config()), check_exact=True)


def test_only_what_is_new_is_computed(tmp_path: Path) -> None:
    compute(tmp_path)
    CALLS.clear()
    compute(tmp_path)
    assert CALLS == []
    compute(tmp_path, methods=["a", "b", "c"])
    assert CALLS == ["c", "best"]
    CALLS.clear()
    compute(tmp_path, seeds=3)
    assert CALLS == ["a", "b", "best"]


def test_a_profile_is_extended_from_its_published_rows(tmp_path: Path) -> None:
    """Of the parts that would be computed alike; rows that depend on the machine are published apart."""
    plan, records, _ = compute(tmp_path / "there")
    results: dict[str, Any] = {
        "parts": {part.name: key for part, key in plan.listed()},
        "rows": {"a": [1, 1], "b": [2, 0], "best": [1, 0]},
        "records": evidence.dump_records(records.drop(index=0)),
        "machine": {
            "started": "2026-01-01T00:00:00+00:00",
            "parts": {key: [1.5, 1.25, "a processor"] for key in ("a", "b", "best")},
            "volatile": evidence.dump_records(records.loc[[0]]),
        },
    }
    extended = parts.Plan.of(EXPERIMENT, Config(methods=["a", "b", "c"]), tmp_path / "here")
    assert parts.restore(extended, results) == ["a", "b"]
    assert parts.restore(extended, results) == []
    told = extended.stored(extended.keys[0]) or {}
    assert (told["cpu_seconds"], told["processor"], told["machine"]) == (1.25, "a processor", "published")
    # published as floats, since the last part has no seed
    assert str(told["rows"]["seed"]) == "[1, 0]"
    CALLS.clear()
    _, found, _ = compute(tmp_path / "here", methods=["a", "b", "c"])
    assert CALLS == ["c", "best"]
    whole = evidence.gather(EXPERIMENT, Config(methods=["a", "b", "c"]))
    pd.testing.assert_frame_equal(found.loc[[1, 0, *range(2, 7)]].reset_index(drop=True), whole, check_exact=True)
    assert parts.restore(parts.Plan.of(EXPERIMENT, Config(seeds=3), tmp_path / "here"), results) == []
    assert parts.restore(extended, {**results, "rows": {}}) == []


def test_force_computes_what_is_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute(tmp_path)
    monkeypatch.setenv("REPLICATION_FRESH", str(time.time() + 0.001))
    time.sleep(0.01)
    CALLS.clear()
    compute(tmp_path)
    assert CALLS == ["a", "b", "best"]


@pytest.mark.parametrize("spoil", ["cut", "list", "schema", "edited", "empty"])
def test_what_is_damaged_is_computed_again(tmp_path: Path, spoil: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan, before, _ = compute(tmp_path)
    file = plan.file(plan.keys[0])
    text = file.read_text()
    content = json.loads(text)
    edited = {**content["rows"], "value": [0.0, 0.5]}
    spoilt = {
        "cut": text[:50],
        "list": "[]",
        "schema": json.dumps({**content, "schema": -1}),
        "edited": json.dumps({**content, "rows": edited}),
        "empty": json.dumps({name: value for name, value in content.items() if name not in ("rows", "digest")}),
    }[spoil]
    file.write_text(spoilt)
    CALLS.clear()
    _, after, _ = compute(tmp_path)
    assert CALLS == ["a"]
    pd.testing.assert_frame_equal(before, after)
    # rows of another schema are whole, and only old
    assert (f"part a: {file} is damaged, so it is computed again" in capsys.readouterr().err) == (spoil != "schema")


def test_rows_that_were_stored_without_a_digest_are_taken_as_they_are(tmp_path: Path) -> None:
    plan, before, _ = compute(tmp_path)
    for file in map(plan.file, plan.keys):
        content = json.loads(file.read_text())
        del content["digest"]
        file.write_text(json.dumps(content))
    CALLS.clear()
    _, after, _ = compute(tmp_path)
    assert CALLS == []
    pd.testing.assert_frame_equal(before, after)


def test_a_failing_part_leaves_the_others_and_what_needs_it_fails_too(tmp_path: Path) -> None:
    plan, records, failures = compute(tmp_path, methods=["a", "broken", "b"])
    assert records["method"].unique().tolist() == ["a", "b"]
    assert failures == {"broken": "ValueError: no such method", "best": "it needs broken, which failed"}
    assert [plan.state(key) for key in plan.keys] == ["done", "failed", "done", "failed"]
    assert "no such method" in plan.failure(plan.keys[1])["traceback"]
    # the siblings' quantity lacks a method; `best` has no finished sibling, so nothing can be vouched for
    assert parts.collect(plan).undecidable == {"loss"}
    other = Part("other", apart, Config().only())
    both = dataclasses.replace(plan, parts=(*plan.parts, other), keys=(*plan.keys, "other"))
    parts.sweep(both)
    assert parts.collect(both).undecidable == {"loss", "other"}
    # a later run tries again
    CALLS.clear()
    compute(tmp_path, methods=["a", "broken", "b"])
    assert CALLS == ["broken"]


def test_what_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    plan = parts.Plan.of(EXPERIMENT, Config(), tmp_path)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=parts.sweep, args=(plan,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    found = parts.collect(plan)
    assert not found.failures
    pd.testing.assert_frame_equal(found.records, evidence.gather(EXPERIMENT, Config()))


def test_a_helper_leaves_what_measures_time(tmp_path: Path) -> None:
    def timed(config: Config) -> list[Part]:
        first = Part("timed", train, config.only("seeds"), {"method": "t"}, alone=True)
        return [first, *trained(config)[:-1], Part("after", best, config.only(), needs=("timed", "a"))]

    plan = parts.Plan.of(SimpleNamespace(Config=Config, parts=timed), Config(), tmp_path)  # type: ignore[arg-type]
    parts.sweep(plan, helping=True)
    assert CALLS == ["a", "b"]
    parts.sweep(plan)
    assert CALLS == ["a", "b", "t", "best"]


def test_a_part_cannot_read_what_it_does_not_depend_on() -> None:
    narrowed = Config().only("seeds")
    assert (narrowed.seeds, narrowed.methods, narrowed.folder) == (2, None, None)
    with pytest.raises(ValueError, match="only: got sedes, but the fields are methods, seeds, folder"):
        Config().only("sedes")


def test_names_and_needs_are_checked(tmp_path: Path) -> None:
    def twice(config: Config) -> list[Part]:
        return [Part("a", train, config, {"method": "a"})] * 2

    def early(config: Config) -> list[Part]:
        return trained(config)[::-1]

    for made, message in ((twice, "the name 'a' stands twice"), (early, "'best' needs a, b, which must stand before")):
        experiment: Any = SimpleNamespace(Config=Config, parts=made)
        with pytest.raises(ValueError, match=message):
            parts.Plan.of(experiment, Config(), tmp_path)


def test_a_part_of_one_data_set_does_not_depend_on_the_others(tmp_path: Path) -> None:
    def both(config: Config) -> list[Part]:
        return [Part(name, apart, config.only(), {"dataset": name}) for name in ("digits", "cifar10")] + [
            Part("best", best, config.only())
        ]

    def keys(**checksums: str) -> tuple[str, ...]:
        experiment: Any = SimpleNamespace(Config=Config, parts=both, inputs=lambda _config: checksums)
        return parts.Plan.of(experiment, Config(), tmp_path).keys

    before, after = keys(digits="1", cifar10="2"), keys(digits="1", cifar10="3")
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, False]


def test_relative_imports_are_followed(tmp_path: Path) -> None:
    package = tmp_path / "replication"
    for name, text in {
        "x/experiments/toy.py": "from .. import law\nfrom . import near\nfrom ...checks import whole\n",
        "x/experiments/near.py": "",
        "x/law.py": "from .theory import bound\n",
        "x/theory.py": "",
        "checks.py": "",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    for folder in ("", "x", "x/experiments"):
        (package / folder / "__init__.py").touch()
    found = {file.relative_to(package).as_posix() for file in sources.closure("replication.x.experiments.toy", package)}
    expected = {"x/experiments/toy.py", "x/experiments/near.py", "x/law.py", "x/theory.py", "checks.py"}
    assert {name for name in found if not name.endswith("__init__.py")} == expected


def test_what_is_computed_by_force_counts_where_clocks_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATION_FRESH", str(time.time() + 600))
    plan = parts.Plan.of(EXPERIMENT, Config(), tmp_path)
    parts.sweep(plan)
    assert not parts.collect(plan).failures
    parts.sweep(plan)
    assert CALLS == ["a", "b", "best"]


def test_the_closure_of_an_experiment_holds_its_sources_and_no_figures() -> None:
    package = Path(evidence.__file__).parents[1]
    files = {
        file.relative_to(package).as_posix() for file in sources.closure("replication.uba.experiments.vision", package)
    }
    assert {
        "uba/experiments/vision.py",
        "uba/experiments/protocol.py",
        "uba/schedule.py",
        "training/population.py",
    } <= files
    assert not [name for name in files if "figures" in name or name.startswith(("runs", "adcm"))]
    # rows may be made with its statistics, none with its claims and pages
    assert [name for name in files if name.startswith("evidence")] == ["evidence/statistics.py"]
    assert "uba/experiments/theory.py" not in files
    linear = {file.name for file in sources.closure("replication.metalearning.experiments.linear", package)}
    assert "reference_linear.yaml" in linear
    assert "claims.yaml" not in linear


def test_data_device_and_numerics_decide_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(**more: Any) -> tuple[str, ...]:
        experiment: Any = SimpleNamespace(Config=Config, parts=trained, **more)
        return parts.Plan.of(experiment, Config(), tmp_path).keys

    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    first = keys()
    assert keys() == first
    assert not set(keys(inputs=lambda _config: {"digits": "1"})) & set(first)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert not set(keys()) & set(first)

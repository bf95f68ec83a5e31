from __future__ import annotations

from pathlib import Path

import pytest
from toys import Toy, toy_cells

from replication.runs.batch import Batch, Grid, Sweep
from replication.runs.errors import RefusedError
from replication.runs.store import Spec


def load(folder: Path, text: str) -> Grid:
    path = folder / "grid.yaml"
    path.write_text(text)
    return Grid.load(path)


def test_grid_is_a_product(toy: Toy) -> None:
    text = "runs: [{notebook: toy, parameters: {label: x}, grid: {seeds: 1..2, peak: [0.1, 0.2]}}]"
    specs = load(toy.root, text).specs(toy.project)
    assert len({toy.store.plan(spec).run_id for spec in specs}) == len(specs) == 4
    assert specs[1].overrides == {"label": "x", "seeds": 1, "peak": 0.2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs: [{notebook: toy, gird: {seeds: [1]}}]", "did you mean 'grid'"),
        ("profil: smoke", "did you mean 'profile'"),
        ("runs: [{notebook: toy, grid: {seeds: []}}]", "'seeds' has no values"),
        ("runs: [{notebook: toy, grid: {seeds: [1]}, parameters: {seeds: 2}}]", "'seeds' is set twice"),
        ("runs: [{notebook: toy, grid: {seeds: 3}}]", r"runs\.0\.grid\.seeds"),
        ("runs: [{notebook: toy, groups: {a: {seeds: 1}, b: {peak: 1.0}}}]", "group 'a' does not set peak"),
        ("runs: [{notebook: toy, parameters: {seeds: 1}, groups: {a: {seeds: 1}}}]", "'seeds' is set twice"),
        ("runs: [{notebook: toy}]\nruns: [{notebook: toy, parameters: {seeds: 1}}]", "'runs' stands twice.*line 2"),
        ("runs: [{notebook: toy, grid: {seeds: [1], seeds: [2]}}]", "'seeds' stands twice"),
        ("runs: [{notebook: toy, parameters: {fail: no}}]", "no means two things.*line 1"),
        ("runs: [{notebook: toy, grid: {seeds: [010]}}]", "010 means two things"),
        ("runs: []", "asks for no run"),
        ("notebooks: []", "asks for no run"),
        ("{runs: null, notebooks: []}", "asks for no run"),
        ("- a list", "must have the keys"),
        ("runs: [", "is not YAML"),
    ],
)
def test_wrong_grid_file_is_refused_saying_where(toy: Toy, text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        load(toy.root, text)


def test_groups_are_named_sets(toy: Toy) -> None:
    groups = "groups: {small: {budgets: [1], label: s}, large: {budgets: [9], label: l}}"
    text = f"runs: [{{notebook: toy, grid: {{seeds: 1..3}}, {groups}}}]"
    specs = load(toy.root, text).specs(toy.project)
    assert [(s.overrides["seeds"], s.overrides["label"], s.overrides["budgets"]) for s in specs] == [
        (seeds, label, budgets) for seeds in (1, 2, 3) for label, budgets in (("s", [1]), ("l", [9]))
    ]


def test_grid_without_entries_is_every_notebook_of_the_profile(toy: Toy) -> None:
    toy.add("later", toy_cells(), paper="toy")
    toy.profile("standard", "later", "")
    # every notebook's own values are of the smoke profile
    assert [spec.notebook for spec in Grid(profile="smoke").specs(toy.project)] == ["later", "toy"]
    toy.profile("standard", "toy", "")
    assert [spec.notebook for spec in Grid(profile="standard").specs(toy.project)] == ["later", "toy"]
    with pytest.raises(RefusedError, match="no notebook has a profile 'paper'"):
        Grid(profile="paper").specs(toy.project)


def test_everything_is_checked_before_anything_starts(toy: Toy) -> None:
    with pytest.raises(RefusedError, match="'peek'"):
        Batch(toy.store, [Spec("toy", "smoke", {}), Spec("toy", "smoke", {"peek": 1.0})])
    assert not toy.project.store.exists()


def test_equal_runs_are_one_and_notebooks_of_no_paper_come_last(toy: Toy) -> None:
    toy.add("board", toy_cells())
    toy.profile("smoke", "board", "")
    batch = Batch(toy.store, [Spec("board", "smoke", {}), Spec("toy", "smoke", {}), Spec("toy", "smoke", {"seeds": 3})])
    assert [run.notebook for run in batch.runs] == ["toy", "board"]


def test_newest_or_named_batch_is_remembered(toy: Toy) -> None:
    first, second = (Batch(toy.store, [Spec("toy", "smoke", {"seeds": n})]) for n in (1, 2))
    with pytest.raises(RefusedError, match="no batch was started"):
        Batch.remembered(toy.store)
    for batch in (first, second):
        batch.remember()
    assert first.name != second.name
    assert Batch.remembered(toy.store).runs == second.runs
    assert Batch.remembered(toy.store, first.name[:6]).runs == first.runs
    first.remember()
    assert Batch.remembered(toy.store).runs == first.runs
    # what was executed is reported as it was; what is resumed is what it is today
    (toy.package / "toy" / "experiment.py").write_text("x = 1\n")
    assert Batch.executed(toy.store) == (first.name, first.runs)
    assert Batch.remembered(toy.store).runs != first.runs
    with pytest.raises(RefusedError, match="no one batch 'zzz'"):
        Batch.remembered(toy.store, "zzz")


def test_sweep_without_lists_is_one_run() -> None:
    assert list(Sweep(notebook="toy", parameters={"a": 1}).overrides()) == [{"a": 1}]


def test_numbers_are_read_as_people_write_them(toy: Toy) -> None:
    (sweep, other) = load(toy.root, "runs: [{notebook: toy, grid: {peak: [1e-3, 1_000]}}]").specs(toy.project)
    assert [toy.store.plan(spec).parameters["peak"] for spec in (sweep, other)] == [0.001, 1000.0]

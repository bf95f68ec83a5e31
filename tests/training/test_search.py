from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from pydantic import ValidationError

import replication
from replication.training.search import TUNING_SEED, Grid, candidates, tune

EXPERIMENTS = sorted(Path(replication.__file__).parent.glob("*/experiments/*.py"))
# UBA's tune by their protocol
TUNED = [path for path in EXPERIMENTS if re.search("TUNING_SEED|import protocol", path.read_text())]
TUNED = [path for path in TUNED if "class Config" in path.read_text()]


@pytest.mark.parametrize("path", TUNED, ids=lambda path: path.stem)
def test_an_experiment_refuses_evaluation_seeds_that_meet_those_of_its_tuning(path: Path) -> None:
    module = importlib.import_module(f"replication.{path.parts[-3]}.experiments.{path.stem}")
    fields = [name for name in module.Config.model_fields if re.fullmatch("(other_|cifar_|adamw_)?seeds", name)]
    assert fields
    for name in fields:
        with pytest.raises(ValidationError, match=name):
            module.Config(**{name: TUNING_SEED + 1})


def test_the_best_mean_comes_first_and_every_resamples_winner_follows() -> None:
    # seed 0 alone prefers setting 2, seed 1 alone setting 0, both together setting 1
    assert candidates([[5.0, 0.0], [2.0, 2.0], [0.0, 9.0]]) == [1, 0, 2]


def test_a_clear_winner_is_alone() -> None:
    assert candidates([[1.0, 1.1], [0.1, 0.2], [3.0, 2.0]]) == [1]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_run_never_wins(bad: float) -> None:
    assert candidates([[bad, 0.0], [1.0, 1.0]]) == [1, 0]  # the resample of the second seed alone is finite
    assert candidates([[bad, bad], [1.0, 1.0]]) == [1]


def test_a_tie_goes_to_the_first() -> None:
    assert candidates([[1.0, 1.0], [1.0, 1.0 - 1e-13]]) == [0]


def test_many_seeds_are_resampled_alike_every_time() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 8))
    assert candidates(scores) == candidates(scores)
    assert candidates(scores)[0] == scores.mean(axis=1).argmin()


class Run(NamedTuple):
    kind: str
    lr: float


def bowl(best: float, asked: list[Run]) -> Callable[[Sequence[Run]], list[list[float]]]:
    """Scores of two seeds that are least at a rate."""

    def score(runs: Sequence[Run]) -> list[list[float]]:
        asked.extend(runs)
        return [[abs(np.log2(run.lr / best)), abs(np.log2(run.lr / best)) + 0.1] for run in runs]

    return score


@pytest.mark.parametrize(("best", "lowest", "highest"), [(1.0, 0.5, 4.0), (0.25, 0.125, 4.0), (16.0, 1.0, 32.0)])
def test_a_grid_is_widened_until_its_best_is_inside(best: float, lowest: float, highest: float) -> None:
    asked: list[Run] = []
    grid = Grid([Run("a", lr) for lr in (1.0, 2.0, 4.0)])
    found = tune(bowl(best, asked), {"a": grid}, rate="lr", widen=3)["a"]
    assert found.best == Run("a", best)
    assert found.inside
    rates = [run.lr for run in found.settings]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (lowest, highest)
    assert len(asked) == len(set(asked)) == len(found.settings) == found.scores.size / 2


def test_it_is_widened_no_oftener_than_allowed() -> None:
    for widen, last in ((0, 4.0), (1, 8.0), (3, 32.0)):
        grid = Grid([Run("a", lr) for lr in (1.0, 2.0, 4.0)])
        found = tune(bowl(1000.0, []), {"a": grid}, rate="lr", widen=widen)["a"]
        assert found.best.lr == last
        assert not found.inside


def test_arms_share_what_they_have_in_common_and_are_widened_apart() -> None:
    asked: list[Run] = []
    both = [Run(kind, lr) for kind in "ab" for lr in (1.0, 2.0)]

    def score(runs: Sequence[Run]) -> list[list[float]]:
        asked.extend(runs)
        return [[-run.lr if run.kind == "a" else run.lr] for run in runs]

    found = tune(score, {"a": Grid(both[:2], block=2), "both": Grid(both)}, rate="lr", widen=1)
    assert [run.lr for run in found["a"].settings] == [1.0, 2.0, 4.0, 8.0]
    # each kind of the other arm got the further rate, in the order of the grid
    assert found["both"].settings == [Run(kind, lr) for kind in "ab" for lr in (1.0, 2.0, 4.0)]
    assert len(asked) == len(set(asked))


def test_a_single_rate_is_widened_by_two() -> None:
    found = tune(bowl(2.0, []), {"a": Grid([Run("a", 1.0)])}, rate="lr", widen=3)["a"]
    assert found.best.lr == 2.0
    assert found.inside


def test_nothing_is_trained_where_another_arm_has_tried_it() -> None:
    asked: list[Run] = []
    arms = {"few": Grid([Run("a", lr) for lr in (1.0, 2.0)]), "many": Grid([Run("a", lr) for lr in (1.0, 2.0, 4.0)])}

    def score(runs: Sequence[Run]) -> list[list[float]]:
        assert runs
        return bowl(2.0, asked)(runs)

    found = tune(score, arms, rate="lr", widen=1)
    assert [run.lr for run in found["few"].settings] == [1.0, 2.0, 4.0]
    assert len(asked) == 3

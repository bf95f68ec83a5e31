from __future__ import annotations

import numpy as np
import pytest

from replication.training.search import candidates


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

"""The slow form of DiSF against the paper's formulas, written out once more in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from replication.disf.reference import EPS, correlation, greedy, objective, score, standardise

U = np.random.default_rng(0).standard_normal((7, 5)) * [1, 10, 0.1, 3, 1e-3]


def test_correlation_is_numpys_but_for_epsilon():
    np.testing.assert_allclose(correlation(torch.from_numpy(U), eps=0.0), np.corrcoef(U.T), atol=1e-12)


def test_epsilon_stands_inside_the_root():
    expected = (U - U.mean(0)) / np.sqrt(U.var(0, ddof=1) + 0.5)
    np.testing.assert_allclose(standardise(torch.from_numpy(U), eps=0.5), expected)


def test_objective_and_score_differ_by_the_diagonal():
    R = np.corrcoef(U.T)
    rows = torch.from_numpy(U)
    assert objective(rows, eps=0.0) == pytest.approx(-np.linalg.norm(R))
    assert float(score(rows, eps=0.0)) == pytest.approx(np.linalg.norm(R) ** 2 - 5)


def test_two_rows_have_a_constant_score_and_epsilon_alone_decides():
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 9)))
    assert float(score(rows, eps=0.0)) == pytest.approx(9 * 8)
    assert float(score(rows, EPS)) < 9 * 8
    assert float(score(rows[[0, 0]], EPS)) == 0


def test_greedy_minimises_the_score_step_by_step_and_prefers_the_lowest_row():
    X = torch.from_numpy(np.random.default_rng(2).standard_normal((9, 4)))
    X = torch.cat([X, X])  # each row twice: the first of the two wins
    picks = greedy(X, 4, first=3)
    for n in (2, 3):
        values = [math.inf if row in picks[:n] else float(score(X[[*picks[:n], row]])) for row in range(len(X))]
        assert picks[n] == int(np.argmin(values))
    assert picks[:2] == [3, 12]  # the degenerate second pick: the copy of the first


def test_greedy_takes_no_more_rows_than_there_are():
    X = torch.from_numpy(U)
    assert sorted(greedy(X, 7, first=3)) == list(range(7))
    for k in (0, 8):
        with pytest.raises(ValueError, match=f"k: must be from 1 to the 7 rows of the batch, got {k}"):
            greedy(X, k, first=3)

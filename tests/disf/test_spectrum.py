"""Spectra and the numbers drawn from them, against closed forms."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication.disf import reference
from replication.disf.spectrum import dominance, effective_rank, eigenvalues, objective, participation_ratio


@given(st.integers(2, 20), st.integers(1, 20), st.integers(0, 2**32))
def test_eigenvalues_are_those_of_the_correlation_matrix(n, d, seed):
    X = np.random.default_rng(seed).standard_normal((n, d)) * 100
    found = eigenvalues(X)
    assert found.shape == (min(n, d),)
    expected = np.linalg.eigvalsh(reference.correlation(torch.from_numpy(X)).numpy())[::-1]
    np.testing.assert_allclose(found, expected[: min(n, d)], atol=1e-9)
    assert expected[min(n, d) :] == pytest.approx(0, abs=1e-9)
    # each dimension adds 1, but for the objective's epsilon, which counts where two rows are nearly equal in it
    variance = X.var(axis=0, ddof=1)
    assert found.sum() == pytest.approx((variance / (reference.EPS + variance)).sum(), rel=1e-6)
    assert objective(X) == pytest.approx(reference.objective(torch.from_numpy(X)))


def planted(spectrum):
    """Rows with exactly this correlation spectrum: as many equal dimensions as each eigenvalue says."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(np.column_stack([np.ones(40), rng.standard_normal((40, len(spectrum)))]))[0][:, 1:]
    return np.repeat(directions * 100, spectrum, axis=1)


def test_an_epsilon_that_decides_is_told():
    X = np.random.default_rng(0).standard_normal((10, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eigenvalues(np.column_stack([X, X * 1e-9]))  # some dimension counts
        eigenvalues(np.full((4, 3), 0.1))
    with pytest.warns(UserWarning, match="no dimension has a variance above the objective's epsilon, 1e-08"):
        eigenvalues(X * 1e-5)


def test_planted_spectrum_is_found():
    X = planted([5, 3, 2])
    np.testing.assert_allclose(eigenvalues(X), [5, 3, 2, 0, 0, 0, 0, 0, 0, 0], atol=1e-6)
    assert dominance(X, 1) == pytest.approx(0.5)
    assert dominance(X, [1, 2, 3, 10, 100]) == pytest.approx([0.5, 0.8, 1, 1, 1])
    assert dominance(X) == pytest.approx(1)  # k = 10
    p = np.array([0.5, 0.3, 0.2])
    assert effective_rank(X) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert participation_ratio(X) == pytest.approx(100 / (25 + 9 + 4))
    assert objective(X) == pytest.approx(-np.sqrt(25 + 9 + 4))


def test_extremes():
    one = planted([6])
    assert (effective_rank(one), participation_ratio(one)) == pytest.approx((1, 1))
    even = planted([1] * 6)
    assert (effective_rank(even), participation_ratio(even)) == pytest.approx((6, 6))


def test_dimensions_without_variance_add_nothing_and_libraries_agree():
    X = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    padded = np.insert(X, 2, 7.0, axis=1)
    np.testing.assert_allclose(eigenvalues(padded)[:4], eigenvalues(X), rtol=1e-12)
    assert (eigenvalues(torch.from_numpy(X)) == eigenvalues(X)).all()
    half = torch.from_numpy(X).bfloat16()
    assert (eigenvalues(half) == eigenvalues(half.float())).all()
    assert eigenvalues(X).dtype == np.float64


@pytest.mark.parametrize("features", [np.zeros(3), np.zeros((1, 3)), np.zeros((3, 0))])
def test_shapes_without_a_spectrum_are_named(features):
    with pytest.raises(ValueError, match="features: must have shape"):
        eigenvalues(features)


def test_other_errors_are_named():
    with pytest.raises(ValueError, match="features: NaN or infinite"):
        eigenvalues(np.array([[1.0, np.inf], [0.0, 1.0]]))
    for number in (dominance, effective_rank, participation_ratio):
        with pytest.raises(ValueError, match="features: no dimension varies"):
            number(np.ones((5, 3)))
        with pytest.raises(ValueError, match="features: no dimension varies"):
            number(np.full((3, 2), 0.1))  # whose mean is 0.10000000000000002
    for k in (0, [3, 0], 1.5):
        with pytest.raises(ValueError, match="k: must be integers of at least 1"):
            dominance(planted([2]), k)

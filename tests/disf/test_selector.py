"""The estimator: scikit-learn's habits over `select`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from replication.disf import DiSFSelector, select

X = np.random.default_rng(0).standard_normal((300, 6))


def test_fit_selects_what_select_does():
    options = {"k": 5, "batch_size": 100, "second": "farthest", "criterion": "participation", "on_duplicates": "keep"}
    selector = DiSFSelector(**options, random_state=3).fit(X)
    assert selector.indices_.tolist() == select(X, **options, seed=3).tolist()
    assert (selector.n_samples_in_, selector.n_features_in_) == (300, 6)
    assert len(DiSFSelector().fit(X).indices_) == 5  # 1.5 %, rounded half up
    assert len(DiSFSelector(ratio=0.1).fit(X).indices_) == 30


def test_support_is_a_mask_or_sorted_rows():
    selector = DiSFSelector(ratio=0.05).fit(X)
    assert sorted(selector.indices_) == selector.get_support(indices=True).tolist()
    assert np.flatnonzero(selector.get_support()).tolist() == sorted(selector.indices_)
    assert selector.indices_.tolist() != sorted(selector.indices_)


def test_transform_takes_the_rows_of_anything_in_their_order():
    selector = DiSFSelector(ratio=0.05).fit(X)
    rows = selector.get_support(indices=True)
    texts = [f"document {row}" for row in range(300)]
    assert selector.transform(texts) == [texts[row] for row in rows]
    assert (selector.transform(X) == X[rows]).all()
    assert (selector.fit_transform(X) == X[rows]).all()
    assert selector.transform(pd.DataFrame({"text": texts}))["text"].tolist() == [texts[row] for row in rows]
    assert (selector.transform(sparse.csr_matrix(X)) != X[rows]).sum() == 0
    assert (selector.transform(torch.from_numpy(X)) == torch.from_numpy(X)[rows]).all()
    with pytest.raises(ValueError, match="X: must have the 300 rows that were fitted, got 299"):
        selector.transform(texts[:-1])


def test_it_can_be_cloned_and_says_when_it_is_not_fitted():
    selector = DiSFSelector(k=3, batch_size=50)
    copy = clone(selector.fit(X))
    assert copy.get_params() == selector.get_params()
    for call in (copy.get_support, lambda: copy.transform(X)):
        with pytest.raises(NotFittedError):
            call()


def test_errors_are_selects():
    with pytest.raises(ValueError, match="k and ratio: exactly one"):
        DiSFSelector(k=3, ratio=0.1).fit(X)

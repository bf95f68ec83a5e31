"""The estimator: scikit-learn's and imbalanced-learn's habits over `select`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from imblearn.pipeline import make_pipeline
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from replication.disf import DiSFSelector, gains, select

X = np.random.default_rng(0).standard_normal((300, 6))


def test_it_is_an_estimator_as_scikit_learn_has_them():
    """All of scikit-learn's checks, none excepted; what it skips needs an option of SciPy's."""
    for selector in (
        DiSFSelector(),
        DiSFSelector(ratio=0.5, batch_size=7, second="farthest", criterion="participation"),
    ):
        found = check_estimator(selector, on_skip=None, on_fail=None)
        assert {check["check_name"] for check in found if check["status"] == "skipped"} <= {"check_array_api_input"}
        assert {check["check_name"]: check["exception"] for check in found if check["status"] == "failed"} == {}
        assert len(found) > 30


def test_fit_selects_what_select_does():
    options = {"k": 15, "batch_size": 100, "second": "farthest", "criterion": "participation", "on_duplicates": "keep"}
    selector = DiSFSelector(**options, random_state=3).fit(X)
    assert selector.indices_.tolist() == select(X, **options, seed=3).tolist()
    assert (selector.n_samples_in_, selector.n_features_in_) == (300, 6)
    assert len(DiSFSelector().fit(X).indices_) == 5  # 1.5 %, rounded half up
    assert len(DiSFSelector().fit(X[:9]).indices_) == 1  # not none
    assert len(DiSFSelector(ratio=0.1).fit(X).indices_) == 30
    assert len(DiSFSelector(k_per_batch=5, batch_size=100).fit(X).indices_) == 15


def test_support_is_a_mask_or_sorted_rows():
    selector = DiSFSelector(ratio=0.05).fit(X)
    assert sorted(selector.indices_) == selector.get_support(indices=True).tolist()
    assert np.flatnonzero(selector.get_support()).tolist() == sorted(selector.indices_)
    assert selector.indices_.tolist() != sorted(selector.indices_)


def test_subset_takes_the_rows_of_anything_in_their_order():
    selector = DiSFSelector(ratio=0.05).fit(X)
    rows = selector.get_support(indices=True)
    texts = [f"document {row}" for row in range(300)]
    assert selector.subset(texts) == [texts[row] for row in rows]
    assert (selector.subset(X) == X[rows]).all()
    assert selector.subset(pd.DataFrame({"text": texts}))["text"].tolist() == [texts[row] for row in rows]
    assert (selector.subset(sparse.csr_matrix(X)) != X[rows]).sum() == 0
    assert (selector.subset(torch.from_numpy(X)) == torch.from_numpy(X)[rows]).all()
    with pytest.raises(ValueError, match="rows: must be the 300 that were fitted, got 299"):
        selector.subset(texts[:-1])


SPARSE = (sparse.csr_matrix, sparse.coo_array, sparse.bsr_matrix)


@pytest.mark.parametrize("convert", [np.asarray, pd.DataFrame, *SPARSE, torch.from_numpy])
def test_fit_resample_takes_rows_and_labels_together(convert):
    labels = np.arange(300) // 30
    rows = DiSFSelector(k=40).fit(X).get_support(indices=True)
    found, theirs = DiSFSelector(k=40).fit_resample(convert(X), labels)
    assert type(found) is type(convert(X))
    assert (np.asarray(found.todense() if sparse.issparse(found) else found) == X[rows]).all()
    assert theirs.tolist() == labels[rows].tolist()
    assert DiSFSelector(k=40).fit_resample(convert(X), list(labels))[1] == labels[rows].tolist()
    assert DiSFSelector(k=40).fit_resample(convert(X))[1] is None
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        DiSFSelector(k=40).fit_resample(convert(X), labels[:-1])


def test_it_stands_in_a_pipeline_of_imbalanced_learn():
    """Which takes no step that both transforms and resamples."""
    assert not hasattr(DiSFSelector, "transform")
    assert not hasattr(DiSFSelector, "fit_transform")
    labels = (X[:, 0] > 0).astype(int)
    made = make_pipeline(StandardScaler(), DiSFSelector(k=60), LogisticRegression()).fit(X, labels)
    rows = DiSFSelector(k=60).fit(StandardScaler().fit_transform(X)).get_support(indices=True)
    alone = LogisticRegression().fit(StandardScaler().fit(X).transform(X[rows]), labels[rows])
    np.testing.assert_allclose(made[-1].coef_, alone.coef_)


def test_columns_are_known_by_their_names():
    selector = DiSFSelector(k=5).fit(pd.DataFrame(X, columns=list("abcdef")))
    assert selector.feature_names_in_.tolist() == list("abcdef")
    assert not hasattr(selector.fit(torch.from_numpy(X)), "feature_names_in_")


def test_random_state_is_that_of_scikit_learn():
    def found(state):
        return tuple(DiSFSelector(k=5, random_state=state).fit(X).indices_.tolist())

    assert found(None) != found(None)
    for make in (np.random.RandomState, np.random.default_rng):
        assert found(make(0)) == found(make(0)) != found(make(1))
    for state in (1.0, True, "0"):
        with pytest.raises(TypeError, match="seed: must be an integer"):
            found(state)


def test_it_begins_with_the_rows_that_it_is_given_and_tells_what_each_adds():
    selector = DiSFSelector(k=9, batch_size=200, first=[11, 4, 250]).fit(X)
    assert selector.indices_[:2].tolist() == [11, 4]
    assert selector.indices_[6] == 250
    np.testing.assert_array_equal(selector.gains_, gains(X, selector.indices_, batch_size=200))


def test_it_can_be_cloned_and_says_when_it_is_not_fitted():
    selector = DiSFSelector(k=3, batch_size=50)
    copy = clone(selector.fit(X))
    assert copy.get_params() == selector.get_params()
    for call in (copy.get_support, lambda: copy.subset(X)):
        with pytest.raises(NotFittedError):
            call()


def test_errors_are_selects():
    with pytest.raises(ValueError, match="k, ratio and k_per_batch: exactly one"):
        DiSFSelector(k=3, ratio=0.1).fit(X)

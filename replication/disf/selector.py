"""DiSF in scikit-learn's manner: an estimator that selects rows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
from torch import Tensor

from replication.disf.selection import Criterion, Features, OnDuplicates, Second, Seed, gains, quota, select

__all__ = ["DiSFSelector"]


class DiSFSelector(BaseEstimator):  # type: ignore[misc]
    """Select rows whose features are decorrelated, with scikit-learn's habits.

    It does what :func:`replication.disf.selection.select` does. Other than scikit-learn's feature selectors it selects
    rows, not columns: it is a sampler of imbalanced-learn, with :meth:`fit_resample`, and a step of its ``Pipeline``.

    Parameters
    ----------
    ratio, k, k_per_batch, batch_size, random_state, first, second, criterion, on_duplicates
        As for :func:`~replication.disf.selection.select`, ``random_state`` being its ``seed``. If none of the first
        three is given, the ratio is the paper's 1.5 %, and at least one row is selected.

    Attributes
    ----------
    indices_ : ndarray of int64
        Selected rows, in order of selection.
    gains_ : ndarray of float64
        What each of them added to the objective: :func:`~replication.disf.selection.gains`.
    n_samples_in_ : int
        Rows of the features seen in :meth:`fit`.
    n_features_in_ : int
        Their columns.
    feature_names_in_ : ndarray of str
        The columns' names, of a data frame that has some.

    Examples
    --------
    >>> features = np.random.default_rng(0).standard_normal((1000, 16))
    >>> texts = [f"document {row}" for row in range(1000)]
    >>> selector = DiSFSelector(ratio=0.003).fit(features)
    >>> len(selector.subset(texts)), selector.get_support().sum()
    (3, np.int64(3))
    """

    def __init__(
        self,
        *,
        ratio: float | Fraction | None = None,
        k: int | None = None,
        k_per_batch: int | None = None,
        batch_size: int = 1024,
        random_state: Seed = 0,
        first: int | Sequence[int] | None = None,
        second: Second = "random",
        criterion: Criterion = "correlation",
        on_duplicates: OnDuplicates = "drop",
    ) -> None:
        self.ratio = ratio
        self.k = k
        self.k_per_batch = k_per_batch
        self.batch_size = batch_size
        self.random_state = random_state
        self.first = first
        self.second = second
        self.criterion = criterion
        self.on_duplicates = on_duplicates

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Features, y: Any = None) -> Self:  # noqa: ARG002
        """Select from the rows of ``X``.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor, shape (n_samples, n_features)
            Features, one row per document.
        y : ignored

        Returns
        -------
        DiSFSelector
            Itself.

        Raises
        ------
        TypeError, ValueError
            As for :func:`~replication.disf.selection.select`.
        """
        if isinstance(X, Tensor):
            features: Any = X
            # those of a data frame that was fitted before
            self.__dict__.pop("feature_names_in_", None)
        else:
            kinds = (np.float64, np.float32)
            features = validate_data(self, X, accept_sparse="csr", dtype=kinds, ensure_all_finite=False)
        options = self.get_params()
        seed = options.pop("random_state")
        if self.k is None and self.ratio is None and self.k_per_batch is None:
            options["k"] = max(1, quota(0, features.shape[0], 0.015))
        self.indices_ = select(features, seed=seed, **options)
        self.gains_ = gains(features, self.indices_, batch_size=self.batch_size)
        self.n_samples_in_, self.n_features_in_ = int(features.shape[0]), int(features.shape[1])
        return self

    def get_support(self, indices: bool = False) -> npt.NDArray[np.bool_] | npt.NDArray[np.int64]:
        """Return the selected rows, as a mask of shape (n_samples,) or as sorted row numbers.

        The order of selection is in ``indices_``.
        """
        check_is_fitted(self)
        if indices:
            return np.sort(self.indices_)
        mask = np.zeros(self.n_samples_in_, dtype=bool)
        mask[self.indices_] = True
        return mask

    def subset(self, rows: Any) -> Any:
        """Return what belongs to the selected rows, in the order of the rows.

        Parameters
        ----------
        rows : array, tensor, sparse matrix, data frame or list, of n_samples rows
            The features, or anything with a row per document: texts, labels, paths.

        Raises
        ------
        ValueError
            If there is another number of rows than the features had.
        """
        support = self.get_support(indices=True)
        found = rows.shape[0] if hasattr(rows, "shape") else len(rows)
        if found != self.n_samples_in_:
            raise ValueError(f"rows: must be the {self.n_samples_in_} that were fitted, got {found}")
        matrix: Any = rows if sparse.issparse(rows) else None
        # these formats have no rows to take
        if matrix is not None and matrix.format in ("bsr", "coo", "dia"):
            return _safe_indexing(matrix.tocsr(), support).asformat(matrix.format)
        return _safe_indexing(rows, support)

    def fit_resample(self, X: Features, y: Any = None) -> tuple[Any, Any]:
        """Select from the rows of ``X``, and return these and their labels, in the order of the rows.

        In the manner of imbalanced-learn. Labels are carried along; they do not change what is selected.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor, shape (n_samples, n_features)
            Features, one row per document.
        y : array-like, shape (n_samples,) or (n_samples, n_outputs), or None
            Labels.

        Returns
        -------
        tuple
            The selected rows of ``X`` and of ``y``, of the types that these have; None if ``y`` is None.
        """
        if y is not None:
            check_consistent_length(X, y)
        self.fit(X)
        return self.subset(X), None if y is None else self.subset(y)

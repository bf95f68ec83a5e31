"""DiSF in scikit-learn's manner: an estimator that selects rows."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from replication.disf.selection import Criterion, Features, OnDuplicates, Second, select

__all__ = ["DiSFSelector"]


class DiSFSelector(BaseEstimator):  # type: ignore[misc]
    """Select rows whose features are decorrelated, with scikit-learn's habits.

    It does what :func:`replication.disf.selection.select` does. Other than scikit-learn's feature selectors it selects
    rows, not columns, so it cannot be a step of a ``Pipeline``.

    Parameters
    ----------
    ratio, k, batch_size, random_state, second, criterion, on_duplicates
        As for :func:`~replication.disf.selection.select`, ``random_state`` being its ``seed``. If neither ``ratio``
        nor ``k`` is given, the ratio is the paper's 1.5 %.

    Attributes
    ----------
    indices_ : ndarray of int64
        Selected rows, in order of selection.
    n_samples_in_ : int
        Rows of the features seen in :meth:`fit`.
    n_features_in_ : int
        Their columns.

    Examples
    --------
    >>> features = np.random.default_rng(0).standard_normal((1000, 16))
    >>> texts = [f"document {row}" for row in range(1000)]
    >>> selector = DiSFSelector(ratio=0.003).fit(features)
    >>> len(selector.transform(texts)), selector.get_support().sum()
    (3, np.int64(3))
    """

    def __init__(
        self,
        *,
        ratio: float | Fraction | None = None,
        k: int | None = None,
        batch_size: int = 1024,
        random_state: int = 0,
        second: Second = "random",
        criterion: Criterion = "correlation",
        on_duplicates: OnDuplicates = "drop",
    ) -> None:
        self.ratio = ratio
        self.k = k
        self.batch_size = batch_size
        self.random_state = random_state
        self.second = second
        self.criterion = criterion
        self.on_duplicates = on_duplicates

    def fit(self, X: Features, y: Any = None) -> Self:  # noqa: ARG002
        """Select from the rows of ``X``.

        Parameters
        ----------
        X : array or tensor of float32 or float64, shape (n_samples, n_features)
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
        self.indices_ = select(
            X,
            k=self.k,
            ratio=0.015 if self.ratio is None and self.k is None else self.ratio,
            batch_size=self.batch_size,
            seed=self.random_state,
            second=self.second,
            criterion=self.criterion,
            on_duplicates=self.on_duplicates,
        )
        self.n_samples_in_, self.n_features_in_ = int(X.shape[0]), int(X.shape[1])
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

    def transform(self, X: Any) -> Any:
        """Return the selected rows of ``X``, in the order of its rows.

        Parameters
        ----------
        X : array, sparse matrix, data frame or list, of n_samples rows
            The features, or anything with a row per document: texts, labels, paths.

        Raises
        ------
        ValueError
            If ``X`` has another number of rows than the features had.
        """
        rows = self.get_support(indices=True)
        found = X.shape[0] if hasattr(X, "shape") else len(X)
        if found != self.n_samples_in_:
            raise ValueError(f"X: must have the {self.n_samples_in_} rows that were fitted, got {found}")
        return _safe_indexing(X, rows)

    def fit_transform(self, X: Features, y: Any = None) -> Any:
        """Select from the rows of ``X`` and return them, in the order of its rows."""
        return self.fit(X, y).transform(X)

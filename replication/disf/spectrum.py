r"""How evenly features fill their dimensions: the spectrum of their correlation matrix, and numbers drawn from it.

Collapse means that few eigenvalues hold most of the trace. The matrix of n rows has at most n - 1 non-zero eigenvalues,
so each of these numbers depends on n: **compare sets of equal size only**.
"""

from __future__ import annotations

import warnings
from typing import overload

import numpy as np
import numpy.typing as npt
from torch import Tensor

from replication.disf.reference import EPS

__all__ = ["dominance", "effective_rank", "eigenvalues", "objective", "participation_ratio"]

Float = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32] | npt.NDArray[np.float64] | Tensor


def eigenvalues(features: Features) -> Float:
    r"""Eigenvalues of the correlation matrix of the rows, in descending order.

    Each dimension is z-scored by its own mean and sample variance with the ε of the authors' code, in float64:
    :math:`C = Z^\top Z / (n - 1)`. A dimension without variance adds nothing.

    Parameters
    ----------
    features : array or tensor, shape (n, d)
        At least two rows.

    Returns
    -------
    ndarray of float64, shape (min(n, d),)
        The d - n others of n < d rows are 0. Their sum is d, but for ε and dimensions without variance. Where ε is more
        than every variance, a warning says so.

    Raises
    ------
    ValueError
        If there are fewer than two rows, or a value is NaN or infinite.

    Examples
    --------
    >>> eigenvalues(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 1.0]])).round(3)
    array([1.866, 0.134])
    """
    # in double on torch's side, too: NumPy has no bfloat16
    rows = features.detach().double().cpu().numpy() if isinstance(features, Tensor) else np.asarray(features)
    rows = rows.astype(np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not rows.shape[1]:
        raise ValueError(f"features: must have shape (n, d) with n at least 2, got {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("features: NaN or infinite values; remove or repair such rows")
    variance, equal = rows.var(0, ddof=1), (rows == rows[0]).all(0)
    if not equal.all() and variance[~equal].max() < EPS:
        warnings.warn(
            f"features: no dimension has a variance above the objective's epsilon, {EPS:g}, so that it decides; scale "
            "them up",
            stacklevel=2,
        )
    Z = (rows - rows.mean(0)) / np.sqrt(EPS + variance)
    Z[:, equal] = 0  # the mean of equal numbers may differ from them in its last bit
    n, d = Z.shape
    # the two have the same non-zero eigenvalues
    gram = (Z.T @ Z if d <= n else Z @ Z.T) / (n - 1)
    spectrum: Float = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0)
    return spectrum


@overload
def dominance(features: Features, k: int = ...) -> float: ...
@overload
def dominance(features: Features, k: npt.NDArray[np.int64] | list[int]) -> Float: ...
def dominance(features: Features, k: int | npt.NDArray[np.int64] | list[int] = 10) -> float | Float:
    """Dominance score D_k: the share of the trace that the k largest eigenvalues hold (Fig. 3 of the paper).

    Parameters
    ----------
    features : array or tensor, shape (n, d)
        As for :func:`eigenvalues`.
    k : int or sequence of int
        How many eigenvalues, at least 1; the paper shows k = 10, 20, …, 100.

    Returns
    -------
    float, or ndarray of float64 of the shape of ``k``
        In [0, 1]; higher is more collapsed.

    Raises
    ------
    ValueError
        As for :func:`eigenvalues`; if some ``k`` is below 1; if no dimension varies.

    Examples
    --------
    >>> dominance(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 1.0]]), [1, 2]).round(3)
    array([0.933, 1.   ])
    """
    counts = np.asarray(k)
    if counts.dtype.kind not in "iu" or (counts < 1).any():
        raise ValueError(f"k: must be integers of at least 1, got {k!r}")
    shares = np.cumsum(_shares(features))
    found: Float = shares[np.minimum(counts, len(shares)) - 1]
    return found if counts.ndim else float(found)


def effective_rank(features: Features) -> float:
    """Exponential of the entropy (in nats) of the eigenvalues over their sum: from 1, one direction, to n - 1 or d.

    Parameters
    ----------
    features : array or tensor, shape (n, d)
        As for :func:`eigenvalues`.

    Raises
    ------
    ValueError
        As for :func:`eigenvalues`; if no dimension varies.

    Examples
    --------
    >>> round(effective_rank(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])), 6)
    2.0
    """
    shares = _shares(features)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def participation_ratio(features: Features) -> float:
    """Square of the sum of the eigenvalues over the sum of their squares: from 1, one direction, to n - 1 or d.

    Parameters
    ----------
    features : array or tensor, shape (n, d)
        As for :func:`eigenvalues`.

    Raises
    ------
    ValueError
        As for :func:`eigenvalues`; if no dimension varies.

    Examples
    --------
    >>> round(participation_ratio(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])), 6)
    2.0
    """
    return float(1 / np.square(_shares(features)).sum())


def objective(features: Features) -> float:
    r"""DiSF's objective :math:`F(U) = -\lVert C(U) \rVert_F`, from :math:`-d` (one direction) upwards.

    Parameters
    ----------
    features : array or tensor, shape (n, d)
        As for :func:`eigenvalues`.

    Raises
    ------
    ValueError
        As for :func:`eigenvalues`.

    Examples
    --------
    >>> round(objective(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])) ** 2, 6)
    2.0
    """
    return -float(np.linalg.norm(eigenvalues(features)))


def _shares(features: Features) -> Float:
    spectrum = eigenvalues(features)
    total = spectrum.sum()
    if not total:
        raise ValueError("features: no dimension varies, so there is no spectrum")
    shares: Float = spectrum / total
    return shares

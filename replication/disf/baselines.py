"""What DiSF is compared with: one function a method, each returning k row numbers of the pool.

DSIR, top cosine and the classifier select for a *target* domain; the others do not. All are small, offline forms of
their methods, defined here in full; where a method has settings of its own, the defaults are those of its paper or, if
these presume billions of documents, of this project. A greedy method that needs all pairs works on a random partition
into batches, as DiSF does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils import check_array

from replication.checks import generator, positive, whole, within
from replication.disf.selection import quota

__all__ = [
    "classifier",
    "d4",
    "dsir",
    "facility_location",
    "log_det",
    "many_targets",
    "random",
    "top_cosine",
]

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def random(n: int, k: int, seed: int) -> Indices:
    """Uniform choice of ``k`` of ``n`` documents, without replacement.

    Examples
    --------
    >>> len(set(random(100, 7, seed=0)))
    7
    """
    return generator(seed).permutation(n)[: _count(k, n)]


def dsir(
    texts: Sequence[str],
    target_texts: Sequence[str],
    k: int,
    seed: int,
    *,
    buckets: int = 10_000,
    smoothing: float = 1e-2,
) -> Indices:
    r"""DSIR: importance resampling on hashed words and pairs of words (Xie et al. 2023, arXiv 2302.03169).

    A bag of n-grams is fitted to the target, p, and to the pool, q; documents are drawn without replacement with
    weights :math:`w = \prod_b (p_b / q_b)^{c_b}`, c the document's counts, by adding Gumbel noise to log w and taking
    the k highest.

    Parameters
    ----------
    texts, target_texts : sequence of str
        The pool, and documents of the target domain.
    k, seed : int
        Documents to select; seed of the noise.
    buckets : int
        Buckets that n-grams are hashed into.
    smoothing : float
        Added to every bucket's count; above 0.

    Returns
    -------
    ndarray of int64, shape (k,)
        By descending noisy weight.

    Examples
    --------
    >>> pool = ["the cat sat on the mat", "def f(x): return x", "a dog and the cat", "import os, sys"]
    >>> sorted(dsir(pool, ["the dog sat", "a cat on a mat"], k=2, seed=0).tolist())
    [0, 2]
    """
    _count(k, len(texts))
    if not len(target_texts):
        raise ValueError("target_texts: must hold at least one document, got none")
    positive("smoothing", smoothing)
    # words and runs of punctuation, as in DSIR
    counter = HashingVectorizer(
        ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]+", n_features=buckets, norm=None, alternate_sign=False
    )
    counts = counter.transform(texts)
    pool = np.asarray(counts.sum(0)).ravel() + smoothing
    target = np.asarray(counter.transform(target_texts).sum(0)).ravel() + smoothing
    log_weights = counts @ (np.log(target / target.sum()) - np.log(pool / pool.sum()))
    noise = generator(seed).gumbel(size=len(texts))
    return _highest(log_weights + noise, k, seed)


def top_cosine(features: Features, target_features: Features, k: int, seed: int) -> Indices:
    """The ``k`` documents whose features have the highest cosine to the mean of the target's.

    Parameters
    ----------
    features : ndarray, shape (N, d)
        The pool.
    target_features : ndarray, shape (n, d)
        Documents of the target domain; each is scaled to unit length before the mean.
    k, seed : int
        Documents to select; the seed decides ties only.

    Returns
    -------
    ndarray of int64, shape (k,)
        By descending similarity.

    Examples
    --------
    >>> top_cosine(np.eye(3), np.array([[0.0, 3.0, 1.0]]), k=2, seed=0).tolist()
    [1, 2]
    """
    rows, target = _units("features", features), _units("target_features", target_features)
    return _highest(rows @ target.mean(0), k, seed)


def many_targets(features: Features, targets: Sequence[Features], k: int, seed: int) -> Indices:
    """The ``k`` documents that rank highest by cosine for any of many targets (BETR's rule, arXiv 2507.12466).

    A small form of it: BETR's targets are examples of benchmarks, and a classifier trained on its ranks scores the
    corpus. Here the documents themselves are ranked.

    Parameters
    ----------
    features : ndarray, shape (N, d)
        The pool.
    targets : sequence of ndarray, shapes (n, d)
        Documents of each target, as for :func:`top_cosine`; at least one target.
    k, seed : int
        Documents to select; the seed decides among equal ranks.

    Returns
    -------
    ndarray of int64, shape (k,)
        By best rank.

    Examples
    --------
    >>> rows = np.array([[1.0, 0.0], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0]])
    >>> sorted(many_targets(rows, [rows[:1], rows[3:]], k=2, seed=0).tolist())
    [0, 3]
    """
    if not len(targets):
        raise ValueError("targets: must hold at least one target, got none")
    ranks = [np.argsort(top_cosine(features, target, len(features), seed)) for target in targets]
    return _highest(-np.min(ranks, axis=0).astype(float), k, seed)


def classifier(features: Features, target_features: Features, k: int, seed: int) -> Indices:
    """Stand-in for QuRating: the ``k`` documents that a logistic regression finds most like the target.

    **Not QuRating itself**, whose 1.3B rater was trained on pairwise judgements of quality by a language model: here
    the target documents stand for quality, and the regression on z-scored features tells them from the pool.

    Parameters
    ----------
    features, target_features : ndarray, shapes (N, d) and (n, d)
        The pool, the negative class; documents of the target domain, the positive class of equal weight.
    k, seed : int
        Documents to select; the seed decides ties only.

    Returns
    -------
    ndarray of int64, shape (k,)
        By descending probability.
    """
    rows, target = _matrix("features", features), _matrix("target_features", target_features)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    model.fit(np.concatenate([rows, target]), np.repeat([0, 1], [len(rows), len(target)]))
    return _highest(model.decision_function(rows), k, seed)


def d4(
    features: Features,
    k: int,
    seed: int,
    *,
    clusters: int = 32,
    similarity: float = 0.95,
    keep: float = 0.5,
) -> Indices:
    """D4: semantic de-duplication, then diversification by prototypes (Tirumala et al. 2023, arXiv 2308.12284).

    1. SemDeDup: k-means on features of unit length; inside a cluster a document goes if an earlier one has a cosine
       to it above ``similarity``.
    2. Prototypes: k-means again on what is left; only the share ``keep`` farthest from its centroids stays.
    3. ``k`` of these at random.

    Parameters
    ----------
    features : ndarray, shape (N, d)
        The pool.
    k, seed : int
        Documents to select; seed of k-means and of the draw.
    clusters : int
        Clusters of both k-means (at most as many as there are documents).
    similarity : float
        Cosine above which two documents are duplicates.
    keep : float
        Share that step 2 keeps, in (0, 1]; it keeps more where k needs more.

    Returns
    -------
    ndarray of int64, shape (k,)
        In random order.

    Raises
    ------
    ValueError
        If de-duplication leaves fewer than ``k``, or an argument is not valid.
    """
    rows = _units("features", features)
    _count(k, len(rows))
    within("keep", keep, "(0, 1]")
    whole("seed", seed, 0)
    labels = _kmeans(rows, clusters, seed)[0]
    left = np.ones(len(rows), dtype=bool)
    for cluster in np.unique(labels):
        members = np.flatnonzero(labels == cluster)
        # cosine to each earlier member
        earlier = np.triu(rows[members] @ rows[members].T, 1)
        left[members[(earlier > similarity).any(0)]] = False
    distinct = np.flatnonzero(left)
    if len(distinct) < k:
        raise ValueError(
            f"k: cannot select {k}, since only {len(distinct)} of {len(rows)} documents have no earlier one with a "
            f"cosine above similarity={similarity}; lower k or raise similarity"
        )
    distance = _kmeans(rows[distinct], clusters, seed)[1]
    kept = max(k, round(keep * len(distinct)))
    diverse = distinct[np.argsort(-distance, kind="stable")[:kept]]
    return np.random.default_rng(seed).permutation(diverse)[:k]


def facility_location(features: Features, k: int, seed: int, *, batch_size: int = 1024) -> Indices:
    r"""Greedy facility location, the objective of INGENIOUS (Renduchintala et al. 2023, arXiv 2305.06677).

    Maximises :math:`\sum_i \max_{j \in S} s_{ij}` over the documents i of a batch, with s = (cosine + 1) / 2, exactly
    greedily (INGENIOUS samples candidates, and selects again during training).

    Parameters
    ----------
    features : ndarray, shape (N, d)
        The pool.
    k, seed : int
        Documents to select in all; seed of the partition.
    batch_size : int
        Documents per batch of a random partition, each of which gives its share of k.

    Returns
    -------
    ndarray of int64, shape (k,)
        In order of selection within a batch; on a tie the lowest row number wins.
    """
    rows = _units("features", features)

    def greedy(batch: Indices, count: int) -> list[int]:
        similar = (rows[batch] @ rows[batch].T + 1) / 2
        covered = np.zeros(len(batch))
        found: list[int] = []
        for _ in range(count):
            gains = np.maximum(similar - covered, 0).sum(1)
            gains[found] = -np.inf
            found.append(int(gains.argmax()))
            np.maximum(covered, similar[found[-1]], out=covered)
        return found

    return _by_batch(len(rows), k, seed, batch_size, greedy)


def log_det(features: Features, k: int, seed: int, *, batch_size: int = 1024) -> Indices:
    r"""Greedy determinant: maximises :math:`\log\det(I + Z_S Z_S^\top / d)`, Z the d features z-scored over the pool.

    By incremental Cholesky factorisation, O(N k (d + k)) per batch. Other than DiSF's objective it rewards length as
    well as direction.

    Parameters
    ----------
    features : ndarray, shape (N, d)
        The pool.
    k, seed : int
        Documents to select in all; seed of the partition.
    batch_size : int
        Documents per batch of a random partition, each of which gives its share of k.

    Returns
    -------
    ndarray of int64, shape (k,)
        In order of selection within a batch; on a tie the lowest row number wins.
    """
    rows = StandardScaler().fit_transform(_matrix("features", features))
    rows /= np.sqrt(rows.shape[1])  # a typical row has length 1

    def greedy(batch: Indices, count: int) -> list[int]:
        Z = rows[batch]
        factor = np.zeros((count, len(batch)))  # rows of L^T: what each chosen row explains of every row
        rest = 1 + np.square(Z).sum(1)  # the determinant's factor if a row were added
        found: list[int] = []
        for step in range(count):
            open_rest = rest.copy()
            open_rest[found] = -np.inf
            best = int(open_rest.argmax())
            found.append(best)
            kernel = Z @ Z[best]
            kernel[best] += 1
            factor[step] = (kernel - factor[:step].T @ factor[:step, best]) / np.sqrt(rest[best])
            rest -= np.square(factor[step])
        return found

    return _by_batch(len(rows), k, seed, batch_size, greedy)


def _by_batch(n: int, k: int, seed: int, batch_size: int, greedy: Callable[[Indices, int], list[int]]) -> Indices:
    """Select greedily from each batch of a random partition; batches keep the order of the rows."""
    share = Fraction(_count(k, n), n)
    whole("batch_size", batch_size)
    order = generator(seed).permutation(n)
    found = []
    for start in range(0, n, batch_size):
        batch = np.sort(order[start : start + batch_size])
        found.append(batch[greedy(batch, quota(start, start + len(batch), share))])
    return np.concatenate(found)


def _kmeans(rows: Floats, clusters: int, seed: int) -> tuple[npt.NDArray[np.int32], Floats]:
    """Label of each row, and its distance to its centroid."""
    model = KMeans(min(clusters, len(rows)), n_init=1, random_state=seed).fit(rows)
    return model.labels_, np.linalg.norm(rows - model.cluster_centers_[model.labels_], axis=1)


def _highest(scores: Floats, k: int, seed: int) -> Indices:
    """The k highest, in descending order, ties in random order."""
    _count(k, len(scores))
    order = generator(seed).permutation(len(scores))
    return order[np.argsort(-scores[order], kind="stable")[:k]]


def _matrix(name: str, rows: Any) -> Floats:
    checked: Floats = check_array(rows, dtype=np.float64, input_name=name)
    return checked


def _units(name: str, rows: Any) -> Floats:
    units: Floats = normalize(_matrix(name, rows))
    return units


def _count(k: int, n: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n:
        raise ValueError(f"k: must be an integer from 1 to the {n} documents of the pool, got {k!r}")
    return int(k)

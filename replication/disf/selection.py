r"""DiSF's selection, exact and fast: what the authors' loop chooses, at a few tenths of a per cent of its cost.

Notation. U is the set chosen so far, n its size, m its mean, A its scatter matrix and a the diagonal of A. Adding x,
with :math:`\delta = x - m` and :math:`c = n / (n + 1)`, makes the scatter :math:`A + c\,\delta\delta^\top` and the
sample variance of dimension j :math:`(a_j + c\,\delta_j^2) / n`. So with
:math:`g_j = 1 / (a_j + c\,\delta_j^2 + n\varepsilon)` the sum of squared off-diagonal entries of the correlation matrix
of U + x, which the authors' code minimises, is exactly

.. math::
    f(x) = g^\top (A \circ A)\, g + 2c \lVert V (g \circ \delta) \rVert^2
         + c^2 \Bigl( \sum_j g_j \delta_j^2 \Bigr)^2 - \sum_j (1 - n \varepsilon g_j)^2 .

V has n - 1 rows and :math:`V^\top V = A`: each new member appends :math:`\sqrt{c}\,\delta`, and no earlier row changes.
Hence :math:`g^\top (A \circ A) g = \sum_{u \le u'} w_{uu'} (\sum_j v_{uj} v_{u'j} g_j)^2`, with w = 1 on the diagonal
and 2 off it: for all candidates at once one product of their g with the pairs of rows of V, to which n - 1 pairs are
appended per step. No d × d matrix is needed until there are more pairs than that matrix has work.
"""

from __future__ import annotations

import contextlib
import math
import operator
import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.linalg import vecdot, vector_norm

from replication.checks import one_of
from replication.disf.reference import EPS
from replication.training.seeding import stream_seed

__all__ = ["CRITERIA", "Features", "Seed", "batch_seed", "candidate_scores", "gains", "quota", "select", "select_batch"]

#: NumPy or torch, or what can be converted: lists, data frames, sparse matrices.
Features = Any
#: An integer, None for a fresh one, or a generator of NumPy's that one is drawn from.
Seed = int | np.random.Generator | np.random.RandomState | None
Indices = npt.NDArray[np.int64]
Second = Literal["random", "farthest", "authors"]
Criterion = Literal["correlation", "participation", "covariance"]
OnDuplicates = Literal["drop", "keep", "error"]

# candidates evaluated together on a CPU, so that their intermediate results stay in its cache
_ROWS = 512
# batches evaluated together, by device; any other device: as a GPU
_GROUP = {"cpu": 1, "cuda": 32}
# column blocks of A∘A; being symmetric, it needs only the blocks on and below the diagonal, (1 + 1 / 4) / 2 of all
_BLOCKS = 4


class _Chosen:
    """The sets chosen so far, one of each of B batches, all of the same size."""

    def __init__(self, batches: Tensor, first: Tensor, k: int, eps: float) -> None:
        self.batches = batches  # (B, N, d), prepared
        self._every = torch.arange(len(batches), device=batches.device)
        self.n, self.eps = 1, eps
        self.mean = batches[self._every, first]  # (B, d)
        self._V = batches.new_empty(len(batches), k, batches.shape[-1])

    @staticmethod
    def prepare(centred: Tensor) -> Tensor:
        """What the criterion works on, of centred batches: it does not depend on the origin, but its rounding does."""
        return centred

    @property
    def c(self) -> float:
        return self.n / (self.n + 1)

    @property
    def V(self) -> Tensor:
        return self._V[:, : self.n - 1]

    def add(self, rows: Tensor) -> Tensor:
        """Add one row, of number (B,), to each set; return the row that V has gained, (B, d)."""
        delta = self.batches[self._every, rows] - self.mean
        v = self._V[:, self.n - 1] = math.sqrt(self.c) * delta
        self.mean += delta / (self.n + 1)
        self.n += 1
        return v

    def scores(self) -> Tensor:
        """What the criterion would be with each row added, (B, N); lower is better."""
        raise NotImplementedError


class _Correlation(_Chosen):
    """f of the module's docstring."""

    def __init__(self, batches: Tensor, first: Tensor, k: int, eps: float) -> None:
        super().__init__(batches, first, k, eps)
        d = batches.shape[-1]
        # beyond so many pairs a product with the blocks of A∘A is cheaper
        self._limit = (1 + 1 / _BLOCKS) / 2 * d
        most = min(k * (k - 1) // 2, int(self._limit))
        # all that multiplies g: 1, a + nε, then the pairs of rows of V
        self._factors = batches.new_empty(len(batches), 2 + most, d)
        self._factors[:, 0] = 1
        self._factors[:, 1] = eps
        self._a = torch.zeros_like(self.mean)
        self._pairs = 0
        self._A: Tensor | None = None
        self._blocks: list[tuple[slice, slice, Tensor]] = []

    def add(self, rows: Tensor) -> Tensor:
        v = super().add(rows)
        self._a += v * v
        self._factors[:, 1] = self._a + self.n * self.eps
        if self.n * (self.n - 1) // 2 <= self._limit:
            gained = self._factors[:, 2 + self._pairs : 2 + self._pairs + self.n - 1]
            torch.mul(self.V, math.sqrt(2) * v[:, None], out=gained)
            gained[:, -1] = v * v
            self._pairs += self.n - 1
        else:
            self._A = self.V.mT @ self.V if self._A is None else self._A.baddbmm_(v[:, :, None], v[:, None, :])
            self._pairs = 0
            d, width = len(v[0]), -(-len(v[0]) // _BLOCKS)
            self._blocks = []
            for start in range(0, d, width):
                below, columns = slice(start, d), slice(start, start + width)
                block = self._A[:, below, columns].square()
                block[:, width:] *= 2  # stands for its mirror image, too
                self._blocks.append((below, columns, block))
        return v

    def scores(self) -> Tensor:
        if self.batches.device.type != "cpu":
            return self.scores_of(self.batches)
        return torch.cat([self.scores_of(rows) for rows in torch.split(self.batches, _ROWS, dim=1)], dim=1)

    def diagonal(self) -> float:
        """Sum of the squared diagonal entries of the correlation matrix of one set, as it is."""
        return float((self._a / (self._a + (self.n - 1) * self.eps)).square().sum())

    def scores_of(self, X: Tensor) -> Tensor:
        """Values of some candidates, (B, R, d)."""
        d, n_eps, c = X.shape[-1], self.n * self.eps, self.c
        delta = X - self.mean[:, None]
        g = torch.addcmul(self._factors[:, 1:2], delta, delta, value=c).reciprocal_()
        # candidates as columns: BLAS kernels are slow on few or oddly many columns, not on such rows
        products = self._factors[:, : 2 + self._pairs] @ g.mT
        along = self.V @ delta.mul_(g).mT
        sum_g, sum_ag = products[:, 0], products[:, 1]
        # g^T (A∘A) g
        value: Tensor = products[:, 2:].square_().sum(1)
        for below, columns, block in self._blocks:
            value += vecdot(g[..., below] @ block, g[..., columns])
        value.add_(along.square_().sum(1), alpha=2 * c)
        # c sum_j g_j delta_j^2 = d - sum_j g_j (a_j + n eps)
        value += (d - sum_ag).square_()
        # sum_j (1 - n eps g_j)^2 = d - 2 n eps sum_j g_j + (n eps)^2 sum_j g_j^2
        value.sub_(d).add_(sum_g, alpha=2 * n_eps)
        return value.sub_(vector_norm(g, dim=-1).square_(), alpha=n_eps**2)


class _Covariance(_Chosen):
    r"""Squared norm of the scatter with x added, :math:`\lVert A \rVert_F^2 + 2c \lVert V\delta \rVert^2 + c^2 r^2`.

    :math:`r = \lVert \delta \rVert^2`. There is no z-score, so the products of the rows with V never change: a step
    costs one more of them.
    """

    def __init__(self, batches: Tensor, first: Tensor, k: int, eps: float) -> None:
        super().__init__(batches, first, k, eps)
        self._norm = batches.new_zeros(len(batches), 1)  # ||A||_F^2
        self._trace = batches.new_zeros(len(batches), 1)
        self._lengths = vecdot(batches, batches)
        self._along_mean = self._products(self.mean)
        self._along = batches.new_empty(len(batches), k, batches.shape[1])  # V x of each row x

    def add(self, rows: Tensor) -> Tensor:
        v = super().add(rows)
        overlaps = (self.V @ v[..., None])[..., 0]
        squared = overlaps[:, -1:]  # of v with itself
        self._norm += 2 * overlaps.square().sum(1, keepdim=True) - squared.square()
        self._trace += squared
        gained = self._along[:, self.n - 2] = self._products(v)
        # the mean has moved by delta / n = v / sqrt(n (n - 1))
        self._along_mean += gained / math.sqrt(self.n * (self.n - 1))
        return v

    def _products(self, x: Tensor) -> Tensor:
        return (self.batches @ x[..., None])[..., 0]

    def _grown(self) -> tuple[Tensor, Tensor]:
        """||A||_F^2 and tr A with each row added."""
        along = self._along[:, : self.n - 1] - self.V @ self.mean[..., None]
        r = (self._lengths - 2 * self._along_mean + vecdot(self.mean, self.mean)[:, None]).clamp_(min=0)
        norm = self._norm + 2 * self.c * along.square_().sum(1) + (self.c * r).square()
        return norm, self._trace + self.c * r

    def scores(self) -> Tensor:
        return self._grown()[0]


class _Participation(_Covariance):
    """||A'||_F^2 / (tr A')^2, the inverse participation ratio of the covariance of features z-scored over the batch."""

    @staticmethod
    def prepare(centred: Tensor) -> Tensor:
        variance = centred.square().sum(1, keepdim=True) / max(1, centred.shape[1] - 1)
        return centred / (EPS + variance).sqrt()

    def scores(self) -> Tensor:
        norm, trace = self._grown()
        # copies of one point have no spectrum: the last resort
        return torch.where(trace > 0, norm / trace.square(), torch.finfo(trace.dtype).max)


#: What can be minimised: the authors' objective, our extension, and the covariance objective as a baseline.
CRITERIA: dict[str, type[_Chosen]] = {
    "correlation": _Correlation,
    "participation": _Participation,
    "covariance": _Covariance,
}


def batch_seed(seed: int, batch_id: int) -> int:
    """Seed of one batch's random picks: a function of the two numbers only, so no order of the work can change it.

    Examples
    --------
    >>> batch_seed(0, 0) == batch_seed(0, 0), batch_seed(0, 0) == batch_seed(0, 1), batch_seed(0, 1) == batch_seed(1, 0)
    (True, False, False)
    """
    return stream_seed(seed, f"disf batch {batch_id}")


def quota(start: int, stop: int, ratio: float | Fraction) -> int:
    """Rows to select from rows ``start`` to ``stop`` of a corpus, so that the quotas of any prefix add up to its share.

    The share of the first n rows is ``ratio * n``, rounded half up (0.015 is taken as 15/1000 exactly); a batch's
    quota is the difference of two of these. So the total is as near to ``ratio`` of the corpus as an integer can be,
    and a quota depends on its place only.

    Raises
    ------
    ValueError
        If ``ratio`` is no number in (0, 1].

    Examples
    --------
    >>> [quota(start, start + 1024, 0.015) for start in range(0, 4096, 1024)]
    [15, 16, 15, 15]
    """
    share = _ratio(ratio)
    half = Fraction(1, 2)
    return math.floor(share * stop + half) - math.floor(share * start + half)


def select(
    features: Features,
    *,
    k: int | None = None,
    ratio: float | Fraction | None = None,
    k_per_batch: int | None = None,
    batch_size: int = 1024,
    seed: Seed = 0,
    first: int | Sequence[int] | Indices | None = None,
    second: Second = "random",
    criterion: Criterion = "correlation",
    on_duplicates: OnDuplicates = "drop",
) -> Indices:
    r"""Select decorrelated rows, batch by batch: Algorithm 1 of the paper.

    Each batch begins with a random row and then takes, one at a time, the row that maximises
    :math:`F(U) = -\lVert C(U) \rVert_F`, C(U) the correlation matrix of the rows taken (section 3 of the paper). The
    choice is that of :func:`replication.disf.reference.greedy`, which recomputes the matrix for each candidate, with
    ``second="authors"`` and ``on_duplicates="keep"``; by default the second pick is mended.

    Parameters
    ----------
    features : array-like, sparse matrix or tensor, shape (N, d)
        One row per document. Batches are cut in the order of the rows: shuffle a corpus that is sorted. NumPy (a memory
        map is read one batch at a time) or torch, on any device. float32 and float64 are computed with as they are.
        float16, bfloat16, integers, lists, data frames and sparse matrices are converted, their sums are in float64.
        Exact ties go to the lowest row number.
    k : int, optional
        Rows to select in all. Each batch gives its fair share (:func:`quota`).
    ratio : float or Fraction, optional
        Share of all rows to select, in (0, 1]; the paper uses 1.5 %.
    k_per_batch : int, optional
        Rows to select from each whole batch, a smaller last one giving its fair share. Exactly one of ``k``, ``ratio``
        and ``k_per_batch`` is needed.
    batch_size : int
        Rows per batch, b in the paper. Fewer rows than that are one batch.
    seed : int, Generator, RandomState or None
        Fixes the random picks, each batch by :func:`batch_seed`. None is a fresh seed.
    first : int or sequence of int, optional
        Rows to begin with, which count as selected. A batch begins with those that lie in it, in this order. A batch
        without one begins with a random row, as in the paper.
    second : {"random", "farthest", "authors"}
        How the second row is picked. With two rows every correlation is ±1 and the objective is a constant, which the
        paper leaves open; the authors' code lets ε = 1e-8 decide, so that a copy of the first row always wins.
        ``"farthest"`` is by Euclidean distance; ``"authors"`` is what the authors' code does.
    criterion : {"correlation", "participation", "covariance"}
        ``"correlation"`` is the paper's. ``"participation"`` is **our extension, not the paper's**: it maximises the
        participation ratio of the covariance of features z-scored once per batch. It is several times as fast, the more
        so the larger k, and can be less even than a random selection, as it is on TF-IDF features in the standard run
        of the notebook on collapse.
        ``"covariance"``, the covariance without any z-score, is for reference only: it collects near-copies.
    on_duplicates : {"drop", "keep", "error"}
        What to do with rows of a batch that equal an earlier one byte for byte: never select them, treat them as any
        other row (the authors' behaviour), or refuse.

    Returns
    -------
    ndarray of int64
        Row numbers, in order of selection within a batch, batches in file order; :func:`gains` tells what each added.
        A batch with fewer distinct rows than its quota gives all of them, and a warning says how many are missing.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, a feature is NaN or infinite, ``ratio`` is so small that it selects nothing, or
        features are so large that sums overflow.

    Notes
    -----
    Deviations from the authors' code: the second pick, duplicates, seeds per batch, and no row is left out where N is
    not a multiple of the batch size. ``second="authors", on_duplicates="keep"`` is their choice in every batch.

    The objective adds ε = 1e-8 to each variance. Where no dimension of a batch has a larger variance, ε would decide
    and not the features: they are multiplied by a power of two first, and a warning names it.

    Examples
    --------
    >>> features = np.random.default_rng(0).standard_normal((2500, 32))
    >>> picks = select(features, k=25)
    >>> len(picks), np.bincount(picks // 1024).tolist()
    (25, [10, 10, 5])
    """
    features = _matrix(features)
    check_options(second, criterion, on_duplicates)
    count, width = features.shape
    size = min(_integer("batch_size", batch_size, 1), count)
    share = share_of(count, size, k, ratio, k_per_batch)
    begin = _first(first, count)
    seed = _seed(seed)
    whole, rest = divmod(count, size)
    group = _GROUP.get(features.device.type if isinstance(features, Tensor) else "cpu", _GROUP["cuda"])
    groups = [range(i, min(i + group, whole)) for i in range(0, whole, group)] + (
        [range(whole, whole + 1)] if rest else []
    )
    found: list[Indices] = []
    wanted = 0
    for ids in groups:
        start, stop = ids[0] * size, min((ids[-1] + 1) * size, count)
        quotas = [quota(i * size, min((i + 1) * size, stop), share) for i in ids]
        batches = _block(features[start:stop], range(start, stop)).reshape(len(ids), -1, width)
        seeds = [batch_seed(seed, i) for i in ids]
        firsts = [[row - i * size for row in begin if row // size == i] for i in ids]
        picks = _select(batches, quotas, seeds, firsts, second, criterion, on_duplicates, start)
        found += [start + i * size + rows for i, rows in enumerate(picks)]
        wanted += sum(quotas)
    selected = np.concatenate(found)
    _warn_if_short(wanted, len(selected))
    return selected


def select_batch(
    features: Features,
    k: int,
    *,
    seed: Seed = 0,
    first: int | Sequence[int] | Indices | None = None,
    second: Second = "random",
    criterion: Criterion = "correlation",
    on_duplicates: OnDuplicates = "drop",
) -> Indices:
    """Select ``k`` rows of one batch: a unit of work that depends on its arguments only.

    A batch of a corpus, with :func:`batch_seed` as its seed and :func:`quota` as ``k``, gives what :func:`select`
    gives for it, wherever and in whatever order the batches are computed.

    Parameters
    ----------
    features : array-like, sparse matrix or tensor, shape (N, d)
        The batch.
    k : int
        Rows to select, from 0 to N.
    seed : int, Generator, RandomState or None
        Seed of this batch.
    first, second, criterion, on_duplicates
        As for :func:`select`.

    Returns
    -------
    ndarray of int64
        Row numbers within the batch, in order of selection; fewer than ``k``, and a warning, only where there are fewer
        distinct rows.

    Raises
    ------
    TypeError, ValueError
        As for :func:`select`.

    Examples
    --------
    >>> corpus = np.random.default_rng(0).standard_normal((300, 8))
    >>> parts = [i * 100 + select_batch(corpus[i * 100 :][:100], 4, seed=batch_seed(7, i)) for i in range(3)]
    >>> bool((np.concatenate(parts) == select(corpus, k=12, batch_size=100, seed=7)).all())
    True
    """
    features = _matrix(features)
    check_options(second, criterion, on_duplicates)
    count = features.shape[0]
    if _integer("k", k, 0) > count:
        raise ValueError(f"k: cannot select {k} of {count} rows")
    batch = _block(features, range(count))[None]
    firsts = [_first(first, count)]
    (picks,) = _select(batch, [int(k)], [_seed(seed)], firsts, second, criterion, on_duplicates, 0)
    _warn_if_short(k, len(picks))
    return picks


def gains(features: Features, picks: Sequence[int] | Indices, *, batch_size: int = 1024) -> npt.NDArray[np.float64]:
    r"""How much each row adds to the paper's :math:`F(U) = -\lVert C(U) \rVert_F`: what to look at to choose ``k``.

    Along a greedy order gains fall, but for a little noise at the end. Where those of a random order become as large,
    the lead over it is largest, and it shrinks from there on.

    Parameters
    ----------
    features : array-like, sparse matrix or tensor, shape (N, d)
        What was selected from.
    picks : sequence of int
        Rows in any order, such as that of :func:`select`.
    batch_size : int
        As it was for :func:`select`: each batch is a set U of its own.

    Returns
    -------
    ndarray of float64, of the length of ``picks``
        Whatever the criterion was. NaN for the first two rows of a batch: F of one row is not defined, and that of two
        is a constant.

    Examples
    --------
    >>> features = np.random.default_rng(0).standard_normal((500, 32))
    >>> found, random = gains(features, select(features, k=100)), gains(features, range(100))
    >>> bool(found[2:12].sum() > random[2:12].sum()), bool(found[90:].sum() < random[90:].sum())
    (True, True)
    """
    features = _matrix(features)
    count = features.shape[0]
    rows = _row_numbers("picks", picks, count)
    size = min(_integer("batch_size", batch_size, 1), count)
    found = np.full(len(rows), np.nan)
    for number in np.unique(rows // size):
        places = np.flatnonzero(rows // size == number)  # of its picks, in their order
        batch = np.arange(number * size, min((number + 1) * size, count))
        whole = _block(features[batch[0] : batch[-1] + 1], batch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of their scale: the selection has warned
            # as the batch was when they were selected: those chosen alone may be nearly equal
            chosen = _scaled(whole[None].double())[:, torch.from_numpy(rows[places] - batch[0]).to(whole.device)]
        every = torch.arange(len(places), device=chosen.device)[:, None]
        state = _Correlation(chosen, every[0], len(places), EPS)
        values = []
        for n in range(1, len(places)):
            off_diagonal = float(state.scores_of(chosen[:, n : n + 1]))
            state.add(every[n])
            values.append(-math.sqrt(max(0.0, off_diagonal) + state.diagonal()))
        found[places[2:]] = np.diff(values)
    return found


def candidate_scores(
    features: Features, chosen: Sequence[int] | Indices, *, criterion: Criterion = "correlation", eps: float = EPS
) -> npt.NDArray[Any]:
    """What the criterion would be with each row added to the rows already chosen; the greedy step takes the lowest.

    Parameters
    ----------
    features : array-like, sparse matrix or tensor, shape (N, d)
        The batch.
    chosen : sequence of int
        Rows chosen so far, at least one.
    criterion : {"correlation", "participation", "covariance"}
        As for :func:`select`. For ``"correlation"``: the authors' sum of squared off-diagonal correlations.
    eps : float
        The ε added to a variance, for ``"correlation"``.

    Returns
    -------
    ndarray of the features' dtype, shape (N,)
        The value at a row that is itself chosen is that of taking a copy of it.

    Examples
    --------
    >>> candidate_scores(np.array([[0.0, 0.0], [1.0, 1.0], [1.0, -1.5]]), [0, 1]).round(3)
    array([2.   , 2.   , 0.026])
    """
    features = _matrix(features)
    check_options("random", criterion, "keep")
    rows = _row_numbers("chosen", chosen, features.shape[0])
    kind = CRITERIA[criterion]
    batches = _block(features, range(features.shape[0]))[None]
    batches = kind.prepare(batches - batches.mean(1, keepdim=True))
    members = torch.from_numpy(rows).to(batches.device)
    state = kind(batches, members[:1], len(rows) + 1, eps)
    for step in range(1, len(rows)):
        state.add(members[step : step + 1])
    scores: npt.NDArray[Any] = state.scores()[0].cpu().numpy()
    return scores


def _select(
    batches: Tensor,
    quotas: list[int],
    seeds: list[int],
    firsts: list[list[int]],
    second: Second,
    criterion: Criterion,
    on_duplicates: OnDuplicates,
    start: int,
) -> list[Indices]:
    """Select from batches of equal size, (B, N, d), which begin at row ``start`` of the whole."""
    size = batches.shape[1]
    copies = np.stack([first_copies(rows) for rows in batches.cpu().numpy()])
    if on_duplicates == "error" and (copies != np.arange(size)).any():
        batch, row = np.argwhere(copies != np.arange(size))[0]
        original = start + batch * size + copies[batch, row]
        raise ValueError(
            f"features: row {start + batch * size + row} is an exact copy of row {original}; "
            "on_duplicates='drop' selects only one of them"
        )
    barred = np.zeros(copies.shape, dtype=bool)
    orders = []
    for batch, (k, seed, first) in enumerate(zip(quotas, seeds, firsts, strict=True)):
        if len(first) > k:
            raise ValueError(
                f"first: {len(first)} rows lie in the batch of rows {start + batch * size} to "
                f"{start + (batch + 1) * size - 1}, from which only {k} are selected"
            )
        if on_duplicates == "drop":
            barred[batch] = copies[batch] != np.arange(size)
            if len(set(copies[batch, first].tolist())) < len(first):
                raise ValueError("first: some rows are exact copies of each other; on_duplicates='keep' takes them all")
            barred[batch, copies[batch, first]] = True  # that copy of its row is the one to take
            barred[batch, first] = False
        order = np.random.default_rng(seed).permutation(np.flatnonzero(~barred[batch]))
        orders.append(np.concatenate([np.array(first, dtype=np.int64), order[~np.isin(order, first)]]))
    counts = [min(k, len(order)) for k, order in zip(quotas, orders, strict=True)]
    # the rows that are not picked by their value, -1 for the others
    given = np.full((len(batches), max(counts)), -1)
    for row, order, first in zip(given, orders, firsts, strict=True):
        # a batch of copies of one row has no second: its pick is cut off below
        known = order[: max(len(first), 1 + (second == "random"))]
        row[: len(known)] = known[: len(row)]
        row[len(known) : 1 + (second == "random")] = known[-1]
    picks, lowest = _greedy(batches, given, CRITERIA[criterion], second == "farthest", copies, barred)
    for batch, (values, count) in enumerate(zip(lowest, counts, strict=True)):
        if not np.isfinite(values[:count]).all():
            raise ValueError(
                f"features: sums over the batch that begins at row {start + batch * size} overflow {batches.dtype}; "
                "scale the features down"
            )
    return [rows[:count] for rows, count in zip(picks, counts, strict=True)]


def _greedy(
    batches: Tensor,
    given: Indices,
    kind: type[_Chosen],
    farthest: bool,
    copies: Indices,
    barred: npt.NDArray[np.bool_],
) -> tuple[Indices, npt.NDArray[Any]]:
    """Row numbers, (B, k), and the value at which each was taken (0 where it was not by value)."""
    if not given.size:
        return given, np.empty(given.shape)
    device = batches.device
    every = torch.arange(len(batches), device=device)
    batches = kind.prepare(_scaled(batches))
    # exact copies have the score of the first of them, so that rounding cannot choose between them
    same = None if (copies == np.arange(copies.shape[1])).all() else torch.from_numpy(copies).to(device)
    taken = torch.from_numpy(barred).to(device)
    picks = torch.from_numpy(given).to(device, copy=True)
    lowest = batches.new_zeros(given.shape)
    state = kind(batches, picks[:, 0], given.shape[1], EPS)
    for step, is_given in enumerate((given >= 0).T[1:], start=1):
        taken[every, picks[:, step - 1]] = True
        if not is_given.all():
            apart = step == 1 and farthest
            scores = -(batches - state.mean[:, None]).square().sum(-1) if apart else state.scores()
            if same is not None:
                scores = scores.gather(1, same)
            scores = scores.masked_fill(taken, math.inf)
            best = scores.argmin(1)  # the first of equals; a NaN, if there is one
            values = scores[every, best]
            if is_given.any():  # in some of the batches
                fixed = torch.from_numpy(is_given).to(device)
                best, values = torch.where(fixed, picks[:, step], best), values.masked_fill(fixed, 0)
            picks[:, step], lowest[:, step] = best, values
        state.add(picks[:, step])
    return picks.cpu().numpy(), lowest.cpu().numpy()


def _scaled(batches: Tensor) -> Tensor:
    """Centre batches, (B, N, d), and scale up those that the objective's ε would decide, with a warning."""
    mean = batches.mean(1, keepdim=True)
    centred = batches - mean
    deviation = vector_norm(centred, dim=1) / math.sqrt(max(1, batches.shape[1] - 1))  # (B, d)
    largest = deviation.amax(1)
    # what the rounding of equal numbers leaves is no variance
    noise = 8 * torch.finfo(batches.dtype).eps * (mean.abs().amax((1, 2)) + largest)
    small = largest < math.sqrt(EPS)
    if small.any():
        reach = centred.abs().amax((1, 2))
        small &= reach > noise
        # by a power of two, which changes no digit and is a number of this type
        most = math.log2(torch.finfo(batches.dtype).max) - 8
        power = torch.where(small, -reach.log2().floor().clamp(-most, 0), 0).to(torch.int32)
        if small.any():
            warnings.warn(
                f"features: no dimension has a variance above the objective's epsilon, {EPS:g}, so that it would "
                f"decide; they are multiplied by 2**{int(power.max())} first",
                stacklevel=5,
            )
        centred = torch.ldexp(centred, power[:, None, None])
    ignored = (deviation < math.sqrt(EPS)) & (deviation > noise[:, None]) & ~small[:, None]
    if ignored.any():
        warnings.warn(
            f"features: dimensions with a variance below the objective's epsilon, {EPS:g}, count as constant beside "
            "the others; scale them up if they should count",
            stacklevel=5,
        )
    return centred


def first_copies(rows: npt.NDArray[Any]) -> Indices:
    """For each row, the number of the first row with the same bytes."""
    rows = np.ascontiguousarray(rows)
    keys = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    _, index, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return index[inverse].astype(np.int64)


def _matrix(features: Any) -> Any:
    """Features as a NumPy array, a tensor or a sparse matrix of rows, all of numbers, of shape (N, d)."""
    if isinstance(features, Tensor):
        found = features.detach()
        found = found if found.layout == torch.strided else found.to_dense()
        numbers = not found.dtype.is_complex
    else:
        try:
            found = features.tocsr() if hasattr(features, "tocsr") else np.asanyarray(features)
        except ValueError as error:
            raise ValueError(f"features: must have rows of equal length: {error}") from error
        if found.dtype.kind == "O":  # a data frame of several types
            with contextlib.suppress(TypeError, ValueError):
                found = found.astype(np.float64)
        numbers = found.dtype.kind in "fiub"
    if not numbers:
        raise TypeError(f"features: must be numbers, got {found.dtype}")
    if len(found.shape) != 2 or 0 in found.shape:
        raise ValueError(f"features: must have shape (documents, dimensions), got {tuple(found.shape)}")
    return found


def _block(rows: Any, numbers: Sequence[int] | Indices) -> Tensor:
    """Some rows, of these numbers, as a tensor of float32 or float64, checked for finiteness."""
    if not isinstance(rows, Tensor):
        rows = rows.toarray() if hasattr(rows, "toarray") else rows
        rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes
            rows = torch.from_numpy(np.ascontiguousarray(rows))
    if rows.dtype not in (torch.float32, torch.float64):
        rows = rows.double()
    if not all(torch.isfinite(end) for end in torch.aminmax(rows)):  # a NaN is both; one pass
        bad = int((~torch.isfinite(rows).all(1)).nonzero()[0, 0])
        raise ValueError(f"features: row {numbers[bad]} has NaN or infinite values; remove or repair such rows")
    found: Tensor = rows
    return found


def check_options(second: Any, criterion: Any, on_duplicates: Any) -> None:
    """Refuse choices that there are not, and those that do not go together; arguments as for :func:`select`."""
    one_of("second", second, get_args(Second))
    one_of("criterion", criterion, CRITERIA)
    one_of("on_duplicates", on_duplicates, get_args(OnDuplicates))
    if criterion == "participation" and second == "authors":
        raise ValueError("second: the participation ratio of any two rows is 1; use 'random' or 'farthest'")


def share_of(count: int, size: int, k: Any, ratio: Any, k_per_batch: Any) -> Fraction:
    """What share to select of `count` rows in batches of `size`; arguments as for :func:`select`."""
    if sum(given is not None for given in (k, ratio, k_per_batch)) != 1:
        raise ValueError(
            f"k, ratio and k_per_batch: exactly one of them is needed, got k={k!r}, ratio={ratio!r} and "
            f"k_per_batch={k_per_batch!r}"
        )
    if k is not None:
        if _integer("k", k, 1) > count:
            raise ValueError(f"k: cannot select {k} of {count} rows")
        return Fraction(int(k), count)
    if k_per_batch is not None:
        if _integer("k_per_batch", k_per_batch, 1) > size:
            raise ValueError(f"k_per_batch: cannot select {k_per_batch} of the {size} rows of a batch")
        return Fraction(int(k_per_batch), size)
    share = _ratio(ratio)
    if not quota(0, count, share):
        raise ValueError(f"ratio: {ratio} of {count} rows selects none; ask for at least {1 / count:.2g}")
    return share


def _first(first: Any, count: int) -> list[int]:
    if first is None:
        return []
    rows: list[int] = _row_numbers("first", [first] if np.ndim(first) == 0 else first, count).tolist()
    if len(set(rows)) < len(rows):
        raise ValueError(f"first: must be different rows, got {first!r}")
    return rows


def _row_numbers(name: str, rows: Any, count: int) -> Indices:
    found = np.asarray(rows)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= count:
        raise ValueError(f"{name}: must be row numbers from 0 to {count - 1}, at least one, got {rows!r}")
    return found.astype(np.int64)


def _seed(seed: Any) -> int:
    """An integer, of what people give as a seed."""
    if seed is None:
        seed = np.random.default_rng()
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**63))
    if isinstance(seed, np.random.RandomState):
        return int(seed.randint(2**63, dtype=np.int64))
    return _integer("seed", seed, 0)


def _integer(name: str, value: Any, least: int) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: must be an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: must be at least {least}, got {number}")
    return number


def _ratio(ratio: Any) -> Fraction:
    if isinstance(ratio, bool) or not isinstance(ratio, int | float | Fraction | np.floating) or not 0 < ratio <= 1:
        raise ValueError(f"ratio: must be a share in (0, 1], got {ratio!r}")
    # by its decimal digits, which are what a person means
    return ratio if isinstance(ratio, Fraction) else Fraction(repr(float(ratio)))


def _warn_if_short(wanted: int, found: int) -> None:
    if found < wanted:
        warnings.warn(
            f"features: {wanted - found} of {wanted} rows could not be selected, since their batches have too few "
            "distinct rows",
            stacklevel=3,
        )

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

__all__ = ["CRITERIA", "Features", "batch_seed", "candidate_scores", "quota", "select", "select_batch"]

Features = npt.NDArray[np.float32] | npt.NDArray[np.float64] | Tensor
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
    def prepare(batches: Tensor) -> Tensor:
        """Centre each batch: the criteria do not depend on the origin, but the rounding of their sums does."""
        return batches - batches.mean(1, keepdim=True)

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
            return self._values(self.batches)
        return torch.cat([self._values(rows) for rows in torch.split(self.batches, _ROWS, dim=1)], dim=1)

    def _values(self, X: Tensor) -> Tensor:
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
    def prepare(batches: Tensor) -> Tensor:
        centred = batches - batches.mean(1, keepdim=True)
        variance = centred.square().sum(1, keepdim=True) / max(1, batches.shape[1] - 1)
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

    Examples
    --------
    >>> [quota(start, start + 1024, 0.015) for start in range(0, 4096, 1024)]
    [15, 16, 15, 15]
    """
    share = _fraction(ratio)
    half = Fraction(1, 2)
    return math.floor(share * stop + half) - math.floor(share * start + half)


def select(
    features: Features,
    *,
    k: int | None = None,
    ratio: float | Fraction | None = None,
    batch_size: int = 1024,
    seed: int = 0,
    first: int | None = None,
    second: Second = "random",
    criterion: Criterion = "correlation",
    on_duplicates: OnDuplicates = "drop",
) -> Indices:
    r"""Select decorrelated rows, batch by batch: Algorithm 1 of the paper.

    Each batch begins with a random row and then takes, one at a time, the row that maximises
    :math:`F(U) = -\lVert C(U) \rVert_F`, C(U) the correlation matrix of the rows taken (section 3 of the paper). The
    choice is that of :func:`replication.disf.reference.greedy`, which recomputes the matrix for each candidate.

    Parameters
    ----------
    features : array or tensor of float32 or float64, shape (N, d)
        One row per document, in file order: NumPy (a memory map is read one batch at a time) or torch, on any device.
        Selection is computed in this dtype; exact ties go to the lowest row number.
    k : int, optional
        Rows to select from each whole batch. A smaller last batch gives its fair share (:func:`quota`).
    ratio : float or Fraction, optional
        Share of all rows to select, in (0, 1]; exactly one of ``k`` and ``ratio`` is needed. The paper uses 1.5 %.
    batch_size : int
        Rows per batch, b in the paper. Fewer rows than that are one batch.
    seed : int
        Fixes the random picks, each batch by :func:`batch_seed`.
    first : int, optional
        First pick, as row number within each batch. By default it is random, as in the paper.
    second : {"random", "farthest", "authors"}
        How the second row is picked. With two rows every correlation is ±1 and the objective is a constant, which the
        paper leaves open; the authors' code lets ε = 1e-8 decide, so that a copy of the first row always wins.
        ``"farthest"`` is by Euclidean distance; ``"authors"`` is what the authors' code does.
    criterion : {"correlation", "participation", "covariance"}
        ``"correlation"`` is the paper's. ``"participation"`` is **our extension, not the paper's**: it maximises the
        participation ratio of the covariance of features z-scored once per batch, at a fraction of the cost.
        ``"covariance"``, the covariance without any z-score, is for reference only: it collects near-copies.
    on_duplicates : {"drop", "keep", "error"}
        What to do with rows of a batch that equal an earlier one byte for byte: never select them, treat them as any
        other row (the authors' behaviour), or refuse.

    Returns
    -------
    ndarray of int64
        Row numbers, in order of selection within a batch, batches in file order. A batch with fewer distinct rows
        than its quota gives all of them, and a warning says how many are missing.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, a feature is NaN or infinite, or features are so large that sums overflow.

    Notes
    -----
    Deviations from the authors' code: the second pick, duplicates, seeds per batch, and no row is left out where N is
    not a multiple of the batch size. ``second="authors", on_duplicates="keep"`` is their choice in every batch.

    Examples
    --------
    >>> features = np.random.default_rng(0).standard_normal((2500, 32))
    >>> picks = select(features, ratio=0.01)
    >>> len(picks), np.bincount(picks // 1024).tolist()
    (25, [10, 10, 5])
    """
    _check_features(features)
    _check_options(second, criterion, on_duplicates)
    size = min(_integer("batch_size", batch_size, 1), len(features))
    if (k is None) == (ratio is None):
        raise ValueError(f"k and ratio: exactly one of them is needed, got k={k!r} and ratio={ratio!r}")
    if k is not None:
        if _integer("k", k, 1) > size:
            raise ValueError(f"k: cannot select {k} of the {size} rows of a batch; lower k or raise batch_size")
        share = Fraction(int(k), size)
    else:
        share = _ratio(ratio)
    whole, rest = divmod(len(features), size)
    group = _GROUP.get(features.device.type if isinstance(features, Tensor) else "cpu", _GROUP["cuda"])
    groups = [range(i, min(i + group, whole)) for i in range(0, whole, group)] + (
        [range(whole, whole + 1)] if rest else []
    )
    found: list[Indices] = []
    wanted = 0
    for ids in groups:
        start, stop = ids[0] * size, min((ids[-1] + 1) * size, len(features))
        quotas = [quota(i * size, min((i + 1) * size, stop), share) for i in ids]
        batches = _tensor(features[start:stop], start).reshape(len(ids), -1, features.shape[1])
        seeds = [batch_seed(seed, i) for i in ids]
        picks = _select(batches, quotas, seeds, first, second, criterion, on_duplicates, start)
        found += [start + i * size + rows for i, rows in enumerate(picks)]
        wanted += sum(quotas)
    selected = np.concatenate(found)
    _warn_if_short(wanted, len(selected))
    return selected


def select_batch(
    features: Features,
    k: int,
    *,
    seed: int = 0,
    first: int | None = None,
    second: Second = "random",
    criterion: Criterion = "correlation",
    on_duplicates: OnDuplicates = "drop",
) -> Indices:
    """Select ``k`` rows of one batch: the unit of work of :func:`select`, whose other parameters it shares.

    Batch i of a corpus, with ``seed=batch_seed(seed, i)`` and its :func:`quota` as ``k``, gives what :func:`select`
    gives for it, wherever and in whatever order the batches are computed.

    Parameters
    ----------
    features : array or tensor of float32 or float64, shape (N, d)
        The batch.
    k : int
        Rows to select, from 0 to N.
    seed : int
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
    >>> bool((np.concatenate(parts) == select(corpus, k=4, batch_size=100, seed=7)).all())
    True
    """
    _check_features(features)
    _check_options(second, criterion, on_duplicates)
    if _integer("k", k, 0) > len(features):
        raise ValueError(f"k: cannot select {k} of {len(features)} rows")
    batch = _tensor(features, 0)[None]
    (picks,) = _select(batch, [int(k)], [seed], first, second, criterion, on_duplicates, 0)
    _warn_if_short(k, len(picks))
    return picks


def candidate_scores(
    features: Features, chosen: Sequence[int] | Indices, *, criterion: Criterion = "correlation", eps: float = EPS
) -> npt.NDArray[Any]:
    """What the criterion would be with each row added to the rows already chosen; the greedy step takes the lowest.

    Parameters
    ----------
    features : array or tensor of float32 or float64, shape (N, d)
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
    _check_features(features)
    _check_options("random", criterion, "keep")
    rows = np.asarray(chosen)
    if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= len(features):
        raise ValueError(f"chosen: must be at least one row number below {len(features)}, got {chosen!r}")
    kind = CRITERIA[criterion]
    batches = kind.prepare(_tensor(features, 0)[None])
    members = torch.from_numpy(rows.astype(np.int64)).to(batches.device)
    state = kind(batches, members[:1], len(rows) + 1, eps)
    for step in range(1, len(rows)):
        state.add(members[step : step + 1])
    scores: npt.NDArray[Any] = state.scores()[0].cpu().numpy()
    return scores


def _select(
    batches: Tensor,
    quotas: list[int],
    seeds: list[int],
    first: int | None,
    second: Second,
    criterion: Criterion,
    on_duplicates: OnDuplicates,
    start: int,
) -> list[Indices]:
    """Select from batches of equal size, (B, N, d), which begin at row ``start`` of the whole."""
    size = batches.shape[1]
    if first is not None and _integer("first", first, 0) >= size:
        raise ValueError(f"first: row {first} is not in a batch of {size} rows")
    copies = np.stack([_first_copies(rows) for rows in batches.cpu().numpy()])
    if on_duplicates == "error" and (copies != np.arange(size)).any():
        batch, row = np.argwhere(copies != np.arange(size))[0]
        original = start + batch * size + copies[batch, row]
        raise ValueError(
            f"features: row {start + batch * size + row} is an exact copy of row {original}; "
            "on_duplicates='drop' selects only one of them"
        )
    barred = np.zeros(copies.shape, dtype=bool)
    if on_duplicates == "drop":
        barred = copies != np.arange(size)
        if first is not None:  # that copy of its row is the one to take
            barred[np.arange(len(copies)), copies[:, first]] = True
            barred[:, first] = False
    counts = [min(k, int(n)) for k, n in zip(quotas, (~barred).sum(1), strict=True)]
    orders = [np.random.default_rng(s).permutation(np.flatnonzero(~b)) for s, b in zip(seeds, barred, strict=True)]
    if first is not None:
        orders = [np.concatenate([[first], order[order != first]]) for order in orders]
    starts = np.array([order[0] for order in orders])
    # a batch of copies of one row has no second: its pick is cut off below
    seconds = np.array([order[min(1, len(order) - 1)] for order in orders]) if second == "random" else None
    picks, lowest = _greedy(
        batches, max(counts), starts, seconds, CRITERIA[criterion], second == "farthest", copies, barred
    )
    for batch, (values, count) in enumerate(zip(lowest, counts, strict=True)):
        if not np.isfinite(values[:count]).all():
            raise ValueError(
                f"features: sums over the batch that begins at row {start + batch * size} overflow {batches.dtype}; "
                "scale the features down"
            )
    return [rows[:count] for rows, count in zip(picks, counts, strict=True)]


def _greedy(
    batches: Tensor,
    k: int,
    first: Indices,
    second: Indices | None,
    kind: type[_Chosen],
    farthest: bool,
    copies: Indices,
    barred: npt.NDArray[np.bool_],
) -> tuple[Indices, npt.NDArray[Any]]:
    """Row numbers, (B, k), and the value at which each was taken (0 where it was not by value)."""
    if k == 0:
        return np.empty((len(batches), 0), dtype=np.int64), np.empty((len(batches), 0))
    device = batches.device
    every = torch.arange(len(batches), device=device)
    batches = kind.prepare(batches)
    # exact copies have the score of the first of them, so that rounding cannot choose between them
    same = None if (copies == np.arange(copies.shape[1])).all() else torch.from_numpy(copies).to(device)
    taken = torch.from_numpy(barred).to(device)
    picks = torch.empty(len(batches), k, dtype=torch.int64, device=device)
    lowest = batches.new_zeros(len(batches), k)
    picks[:, 0] = torch.from_numpy(first)
    state = kind(batches, picks[:, 0], k, EPS)
    for step in range(1, k):
        taken[every, picks[:, step - 1]] = True
        if step == 1 and second is not None:
            picks[:, 1] = torch.from_numpy(second)
        else:
            apart = step == 1 and farthest
            scores = -(batches - state.mean[:, None]).square().sum(-1) if apart else state.scores()
            if same is not None:
                scores = scores.gather(1, same)
            scores = scores.masked_fill(taken, math.inf)
            picks[:, step] = scores.argmin(1)  # the first of equals; a NaN, if there is one
            lowest[:, step] = scores[every, picks[:, step]]
        state.add(picks[:, step])
    return picks.cpu().numpy(), lowest.cpu().numpy()


def _first_copies(rows: npt.NDArray[Any]) -> Indices:
    """For each row, the number of the first row with the same bytes."""
    rows = np.ascontiguousarray(rows)
    keys = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    _, index, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return index[inverse].astype(np.int64)


def _tensor(features: Features, start: int) -> Tensor:
    """Return the rows as a tensor, checked for finiteness; ``start`` is the number of the first."""
    if isinstance(features, Tensor):
        rows = features.detach()
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes
            rows = torch.from_numpy(np.ascontiguousarray(features))
    if not all(torch.isfinite(end) for end in torch.aminmax(rows)):  # a NaN is both; one pass
        bad = int((~torch.isfinite(rows).all(1)).nonzero()[0, 0])
        raise ValueError(f"features: row {start + bad} has NaN or infinite values; remove or repair such rows")
    return rows


def _check_features(features: Any) -> None:
    if not isinstance(features, np.ndarray | Tensor):
        raise TypeError(f"features: must be a NumPy array or a torch tensor, got {type(features).__name__}")
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features: must have shape (documents, dimensions), got {tuple(features.shape)}")
    if features.dtype not in (np.float32, np.float64, torch.float32, torch.float64):
        raise TypeError(f"features: must be float32 or float64, got {features.dtype}; convert them first")


def _check_options(second: Any, criterion: Any, on_duplicates: Any) -> None:
    one_of("second", second, get_args(Second))
    one_of("criterion", criterion, CRITERIA)
    one_of("on_duplicates", on_duplicates, get_args(OnDuplicates))
    if criterion == "participation" and second == "authors":
        raise ValueError("second: the participation ratio of any two rows is 1; use 'random' or 'farthest'")


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
    return _fraction(ratio)


def _fraction(ratio: float | np.floating[Any] | Fraction) -> Fraction:
    # by its decimal digits, which are what a person means
    return ratio if isinstance(ratio, Fraction) else Fraction(repr(float(ratio)))


def _warn_if_short(wanted: int, found: int) -> None:
    if found < wanted:
        warnings.warn(
            f"features: {wanted - found} of {wanted} rows could not be selected, since their batches have too few "
            "distinct rows",
            stacklevel=3,
        )

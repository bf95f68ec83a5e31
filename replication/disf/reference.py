r"""DiSF as the paper writes it and as the authors' code computes it: slow, plain, and what the fast form is held to.

With :math:`U` a set of :math:`n \ge 2` documents whose features are the rows of a matrix (section 3 of the paper),

.. math::
    z = \frac{x - \mu_U}{\sqrt{\varepsilon + \sigma_U^2}}, \qquad
    C(U) = \frac{1}{n - 1} \sum_{i \in U} z_i z_i^\top, \qquad
    F(U) = -\lVert C(U) \rVert_F .

Mean and variance are those of the set under evaluation, so :math:`C(U)` is its correlation matrix. Greedy selection
maximises F; the authors' code minimises the sum of the squared off-diagonal entries, which differs from
:math:`\lVert C \rVert_F^2` by the diagonal only (exactly d, but for ε). Every candidate costs a d × d matrix here;
:mod:`replication.disf.selection` finds the same documents without one.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["EPS", "correlation", "greedy", "objective", "score", "standardise"]

#: ε of the authors' code. With two documents it alone decides what is chosen, so parity needs this value.
EPS = 1e-8


def standardise(U: Tensor, eps: float = EPS) -> Tensor:
    """Centre and scale each dimension of the rows by their own mean and sample variance (ddof = 1)."""
    return (U - U.mean(0)) / (eps + U.var(0, correction=1)).sqrt()


def correlation(U: Tensor, eps: float = EPS) -> Tensor:
    """C(U), of shape (d, d), of the rows of ``U``, of shape (n, d) with n at least 2."""
    Z = standardise(U, eps)
    return Z.T @ Z / (len(U) - 1)


def objective(U: Tensor, eps: float = EPS) -> float:
    """F(U) = -||C(U)||_F, which the paper maximises."""
    return -float(torch.linalg.matrix_norm(correlation(U, eps)))


def score(U: Tensor, eps: float = EPS) -> Tensor:
    """Sum of squared off-diagonal entries of C(U), which the authors' code minimises (after a division by 10⁴)."""
    off_diagonal = correlation(U, eps).clone().fill_diagonal_(0)
    return off_diagonal.square().sum()


def greedy(batch: Tensor, k: int, first: int, eps: float = EPS) -> list[int]:
    """Choose ``k`` rows of one batch, beginning with ``first``: the inner loop of Algorithm 1.

    One candidate after the other, each with the whole matrix; on a tie the lowest row number wins. With two documents
    every correlation is 1 but for ε, so the second choice is decided by ε (an exact copy of the first scores 0).

    Raises
    ------
    ValueError
        If ``k`` is not from 1 to the number of rows.

    Examples
    --------
    >>> greedy(torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.1], [1.0, -1.0]]), 3, first=0)
    [0, 1, 3]
    """
    if not 1 <= k <= len(batch):
        raise ValueError(f"k: must be from 1 to the {len(batch)} rows of the batch, got {k!r}")
    chosen = [first]
    while len(chosen) < k:
        values = {
            candidate: float(score(torch.cat([batch[chosen], batch[candidate : candidate + 1]]), eps))
            for candidate in range(len(batch))
            if candidate not in chosen
        }
        chosen.append(min(values, key=values.__getitem__))
    return chosen

"""How far the gradients of MAML's and DRS's objectives can be apart, for any smooth risks.

Let every task's risk R have an L-Lipschitz gradient g with Jacobian H, and let the inner step see g itself. MAML's
gradient at theta is the mean over tasks of (I - alpha H(theta)) g(theta - alpha g(theta)), DRS's that of g(theta),
and ::

    |grad F_maml - grad F_drs| <= alpha L (2 + alpha L) E |g|,

because `|g(theta - alpha g) - g| <= alpha L |g|` and `|alpha H g(theta - alpha g)| <= alpha L (1 + alpha L) |g|`. This
is derived here from standard estimates; it is not quoted from the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from replication.checks import positive
from replication.metalearning.linear import Float


class Risks(NamedTuple):
    """The risks of several tasks.

    Parameters
    ----------
    gradient, hessian
        From points (tasks, d), one per task, or (1, d), the same for all: shapes (tasks, d) and (tasks, d, d).
    L
        Bounds every eigenvalue of every Hessian in size.
    """

    gradient: Callable[[Float], Float]
    hessian: Callable[[Float], Float]
    L: float


def quadratic(H: Float, centres: Float) -> Risks:
    """Risks (theta - c)' H (theta - c) / 2.

    Parameters
    ----------
    H : ndarray, shape (tasks, d, d)
        Symmetric; need not be positive.
    centres : ndarray, shape (tasks, d)
    """
    largest = float(np.abs(np.linalg.eigvalsh(H)).max())
    return Risks(lambda theta: (H @ (theta - centres)[..., None])[..., 0], lambda _: H, largest)


def logistic(X: Float, y: Float) -> Risks:
    """Mean logistic losses.

    Parameters
    ----------
    X : ndarray, shape (tasks, n, d)
    y : ndarray, shape (tasks, n)
        Labels 0 and 1.
    """
    n = X.shape[1]

    def chances(theta: Float) -> Float:
        return np.asarray(expit((X @ theta[..., None])[..., 0]))

    def gradient(theta: Float) -> Float:
        return np.asarray(np.einsum("tni,tn->ti", X, chances(theta) - y) / n)

    def hessian(theta: Float) -> Float:
        p = chances(theta)
        return np.asarray(np.einsum("tni,tn,tnj->tij", X, p * (1 - p), X) / n)

    # p (1 - p) is at most a quarter
    return Risks(gradient, hessian, float(np.linalg.eigvalsh(np.einsum("tni,tnj->tij", X, X) / n).max()) / 4)


def bound_ratio(risks: Risks, theta: Float, alpha: float) -> float:
    """Distance of both objectives' gradients over its bound; never above 1.

    Parameters
    ----------
    risks : Risks
        Of all tasks, each with the same weight.
    theta : ndarray, shape (d,)
        Where the gradients are taken.
    alpha : float
        Size of the inner step; positive.

    Examples
    --------
    A risk of curvature -L everywhere attains the bound:

    >>> bound_ratio(quadratic(-np.ones((1, 1, 1)), np.zeros((1, 1))), np.ones(1), alpha=0.5)
    1.0
    """
    size = float(positive("alpha", alpha))
    g = risks.gradient(theta[None])
    inner = risks.gradient(theta - size * g)
    adapted = inner - size * np.einsum("tij,tj->ti", risks.hessian(theta[None]), inner)
    bound = size * risks.L * (2 + size * risks.L) * np.linalg.norm(g, axis=1).mean()
    return float(np.linalg.norm((adapted - g).mean(0)) / bound)

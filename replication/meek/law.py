"""Scaling laws: loss over compute, and the compute-optimal frontier of a parametric fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replication.checks import finite, positive

Float = NDArray[np.float64]
Real = float | Float

FLOP_PER_TOKEN = 6.0
"""Training compute is C = 6 N D: parameters times tokens times this."""


@dataclass(frozen=True)
class ScalingLaw:
    """Loss of compute-optimal training, L(C) = A C^-alpha + L0 (the paper's training-loss curve).

    Parameters
    ----------
    A : float or ndarray
        Scale in nats, for C in FLOP; positive.
    alpha : float or ndarray
        Exponent; positive.
    L0 : float or ndarray
        Irreducible loss in nats per token.

    Raises
    ------
    ValueError
        A or alpha is not positive, or L0 is not finite.

    Examples
    --------
    >>> law = ScalingLaw(1070, 0.154, 1.7)
    >>> law.loss([1e20, 1e24]).round(3).tolist()
    [2.59, 1.915]
    """

    A: Real
    alpha: Real
    L0: Real

    def __post_init__(self) -> None:
        positive("A", self.A)
        positive("alpha", self.alpha)
        finite("L0", self.L0)

    def reducible(self, C: ArrayLike) -> Float:
        """Loss above the irreducible one, A C^-alpha, in nats per token; C in FLOP, broadcast against the law."""
        return np.asarray(np.asarray(self.A) * positive("C", C) ** -np.asarray(self.alpha))

    def loss(self, C: ArrayLike) -> Float:
        """Loss in nats per token; C in FLOP, broadcast against the law."""
        return np.asarray(self.reducible(C) + self.L0)


@dataclass(frozen=True)
class ParametricLaw:
    """Loss over parameters and tokens, L(N, D) = E + A N^-alpha + B D^-beta (Hoffmann et al. 2022, approach 3).

    Parameters
    ----------
    A, B, alpha, beta : float or ndarray
        Scales and exponents; positive. Arrays broadcast, so that one object can hold every resample of a bootstrap.
    E : float or ndarray
        Irreducible loss in nats per token.

    Raises
    ------
    ValueError
        A scale or an exponent is not positive, or E is not finite.
    """

    A: Real
    B: Real
    E: Real
    alpha: Real
    beta: Real

    def __post_init__(self) -> None:
        for name in ("A", "B", "alpha", "beta"):
            positive(name, getattr(self, name))
        finite("E", self.E)

    def loss(self, N: ArrayLike, D: ArrayLike) -> Float:
        """Loss in nats per token of N parameters trained on D tokens."""
        of_size = np.asarray(self.A) * positive("N", N) ** -np.asarray(self.alpha)
        of_data = np.asarray(self.B) * positive("D", D) ** -np.asarray(self.beta)
        return np.asarray(self.E + of_size + of_data)

    def allocation(self, C: ArrayLike) -> tuple[Float, Float]:
        """Compute-optimal parameters and tokens for a budget of C = 6 N D FLOP.

        Returns
        -------
        tuple of ndarray
            N* = G (C/6)^(beta/(alpha+beta)) and D* = (C/6)^(alpha/(alpha+beta)) / G, with
            G = (alpha A / (beta B))^(1/(alpha+beta)).
        """
        alpha, beta = np.asarray(self.alpha, dtype=np.float64), np.asarray(self.beta, dtype=np.float64)
        budget = positive("C", C) / FLOP_PER_TOKEN
        N = self._balance() * budget ** (beta / (alpha + beta))
        return N, np.asarray(budget / N)

    def frontier(self) -> ScalingLaw:
        """The compute-optimal law, L*(C) = E + K C^-gamma.

        gamma = alpha beta / (alpha + beta) and K = (A G^-alpha + B G^beta) 6^gamma, by minimising over N at C = 6 N D.
        """
        alpha, beta = np.asarray(self.alpha, dtype=np.float64), np.asarray(self.beta, dtype=np.float64)
        G, gamma = self._balance(), alpha * beta / (alpha + beta)
        K = (self.A * G**-alpha + self.B * G**beta) * FLOP_PER_TOKEN**gamma
        return ScalingLaw(K, gamma, self.E)

    def _balance(self) -> Float:
        alpha, beta = np.asarray(self.alpha, dtype=np.float64), np.asarray(self.beta, dtype=np.float64)
        return np.asarray((alpha * np.asarray(self.A) / (beta * np.asarray(self.B))) ** (1 / (alpha + beta)))


def frontier(A: Real, B: Real, E: Real, alpha: Real, beta: Real) -> ScalingLaw:
    """Compute-optimal law of a parametric fit (see `ParametricLaw.frontier`).

    Parameters
    ----------
    A, B, E, alpha, beta : float or ndarray
        Of L(N, D) = E + A N^-alpha + B D^-beta.

    Returns
    -------
    ScalingLaw
        With C = 6 N D in FLOP.

    Examples
    --------
    >>> law = frontier(406.4, 410.7, 1.69, 0.34, 0.28)
    >>> round(float(law.A), 1), round(float(law.alpha), 5)
    (1071.4, 0.15355)
    """
    return ParametricLaw(A, B, E, alpha, beta).frontier()


PAPER = ScalingLaw(1070.0, 0.154, 1.7)
"""The law behind every main curve: the rounded frontier of `HOFFMANN`. The paper's text rounds alpha to 0.155."""

HOFFMANN = ParametricLaw(406.4, 410.7, 1.69, 0.34, 0.28)
"""Hoffmann et al. 2022, approach 3, as printed."""

HOFFMANN_UNROUNDED = ParametricLaw(
    float(np.exp(6.0073404)), float(np.exp(6.0179186)), float(np.exp(0.5267228)), 0.33917084, 0.2849083
)
"""The same fit with the digits in the paper's source."""

BESIROGLU = ParametricLaw(482.01, 2085.43, 1.8172, 0.3478, 0.3658)
"""The refit of Besiroglu et al. 2024 (arXiv 2404.10102), as printed."""

"""Scaling laws: loss over compute, and the compute-optimal frontier of a parametric fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replication.checks import finite, positive, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

        Examples
        --------
        >>> law = ParametricLaw(406.4, 410.7, 1.69, 0.34, 0.28).frontier()
        >>> round(float(law.A), 1), round(float(law.alpha), 5)
        (1071.4, 0.15355)
        """
        alpha, beta = np.asarray(self.alpha, dtype=np.float64), np.asarray(self.beta, dtype=np.float64)
        G, gamma = self._balance(), alpha * beta / (alpha + beta)
        K = (self.A * G**-alpha + self.B * G**beta) * FLOP_PER_TOKEN**gamma
        return ScalingLaw(K, gamma, self.E)

    def plot(self, N: ArrayLike, D: ArrayLike, loss: ArrayLike, *, budgets: int = 6, axis: Axes | None = None) -> Axes:
        """Draw training runs and the law: loss over size, a curve per budget of compute, and the frontier.

        Parameters
        ----------
        N, D, loss : array_like, shape (n,)
            Training runs, in the units of the law.
        budgets : int
            Curves of equal compute; they stand at the middles of as many groups of runs, by compute. A run's colour is
            that of its group.
        axis : Axes, optional
            Where to draw; a new figure by default.

        Raises
        ------
        ValueError
            The runs are not positive or not equally long, the law is of several fits, or there is no budget.
        """
        from replication.evidence import plots

        whole("budgets", budgets)
        if shape := np.broadcast_shapes(*(np.shape(getattr(self, name)) for name in ("A", "B", "E", "alpha", "beta"))):
            raise ValueError(f"plot: draws one law, got arrays of shape {shape}")
        N, D, loss = (np.atleast_1d(positive(name, of)) for name, of in (("N", N), ("D", D), ("loss", loss)))
        if not N.shape == D.shape == loss.shape or N.ndim != 1:
            raise ValueError(f"N, D, loss: must be equally long, got shapes {N.shape}, {D.shape}, {loss.shape}")
        C = FLOP_PER_TOKEN * N * D
        edges = np.geomspace(C.min(), C.max(), budgets + 1)
        group = np.clip(np.searchsorted(edges, C, side="right") - 1, 0, budgets - 1)
        levels = {int(i): float(np.exp(np.log(C[group == i]).mean())) for i in np.unique(group)}
        if axis is None:
            _, (axis,) = plots.panels(height=3.6, xlabel="parameters", ylabel="loss", log="x")
        looks = plots.ordered(levels)
        for i, level in levels.items():
            own, colour = group == i, looks[i]["color"]
            size = np.geomspace(N[own].min() / 1.3, N[own].max() * 1.3, 100)
            axis.plot(size, self.loss(size, level / FLOP_PER_TOKEN / size), color=colour, label=f"{level:.1e} FLOP")
            axis.plot(N[own], loss[own], "o", color=colour, ms=3, alpha=0.7)
        best = np.geomspace(min(levels.values()), max(levels.values()), 100)
        size, tokens = self.allocation(best)
        axis.plot(size, self.loss(size, tokens), color="0.2", ls="--", label="compute-optimal")
        axis.legend(frameon=False, fontsize=plots.SIZE - 1.5)
        return axis

    def _balance(self) -> Float:
        alpha, beta = np.asarray(self.alpha, dtype=np.float64), np.asarray(self.beta, dtype=np.float64)
        return np.asarray((alpha * np.asarray(self.A) / (beta * np.asarray(self.B))) ** (1 / (alpha + beta)))


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

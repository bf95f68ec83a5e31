"""A ring of Gaussians in the plane: exact denoiser, exact consistency map by a Runge-Kutta method of order 8."""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy  # its parts are loaded where they are first used
import torch
from torch import Tensor

from replication.adcm.schedules import Model, Schedule, over


@dataclass(frozen=True)
class GaussianMixture2d:
    """Equal-weight normal modes on a circle, mode k at radius (cos 2 pi k / modes, sin 2 pi k / modes).

    Parameters
    ----------
    sigma : float
        Standard deviation of a mode. With 8 modes at radius 0.7, .2 makes a connected ring and .05 separate islands,
        between which the consistency map has ridges.
    modes : int
        Number of modes.
    radius : float
        Radius of the circle.

    Raises
    ------
    ValueError
        A parameter is not positive.

    Examples
    --------
    >>> from replication.adcm.schedules import VE
    >>> ring, x, t = GaussianMixture2d(0.05), torch.tensor([[0.5, 0.1]]).double(), torch.tensor([0.3]).double()
    >>> ring.denoiser(VE())(x, t).round(decimals=6)
    tensor([[0.5868, 0.1153]], dtype=torch.float64)
    """

    sigma: float = 0.2
    modes: int = 8
    radius: float = 0.7

    def __post_init__(self) -> None:
        if not (0 < self.sigma < math.inf and self.modes >= 1 and 0 < self.radius < math.inf):
            got = f"{self.sigma}, {self.modes} and {self.radius}"
            raise ValueError(f"sigma, modes and radius: must be positive and finite, got {got}")

    @property
    def means(self) -> Tensor:
        """Centres of the modes, float64, shape (modes, 2)."""
        angle = 2 * torch.pi * torch.arange(self.modes, dtype=torch.float64) / self.modes
        return self.radius * torch.stack([angle.cos(), angle.sin()], -1)

    @property
    def scale(self) -> float:
        """Root of the largest eigenvalue of the data's covariance, sqrt(radius^2 / 2 + sigma^2) for 3 modes or more."""
        return float(torch.linalg.eigvalsh(self.means.T.cov(correction=0))[-1].add(self.sigma**2).sqrt())

    def sample(self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Draw n data, shape (n, 2)."""
        mode = torch.randint(self.modes, (n,), generator=generator)
        return self.means.to(dtype)[mode] + self.sigma * torch.randn(n, 2, generator=generator, dtype=dtype)

    def denoiser(self, schedule: Schedule) -> Model:
        """The Bayes denoiser E[x0 | x_t].

        With y = x / alpha and q = sigma^2 + tau^2 it is sigma^2 / q y + (1 - sigma^2 / q) m, m the posterior mean of
        the modes' centres.
        """

        def model(x: Tensor, t: Tensor) -> Tensor:
            y, q = x / over(schedule.alpha(t), x), self.sigma**2 + over(schedule.ratio(t), x) ** 2
            own = self.sigma**2 / q
            return own * y + (1 - own) * self._centre(y, q)

        return model

    def consistency_map(self, schedule: Schedule, *, end: float = 0.0, steps: int = 32) -> Model:
        """The map along the probability-flow ODE from (x, t) to the ratio tau = `end`.

        dy / dtau = (y - D(y, tau)) / tau becomes dy / dl = y - m(y, e^(2l)) in l = ln(sigma^2 + tau^2) / 2, which is
        smooth down to tau = 0. It is solved with fixed steps of Dormand and Prince's method of order 8 (SciPy's
        DOP853 coefficients), written in torch so that points with different t are one batch and `torch.func.jvp` runs
        through it.

        Parameters
        ----------
        schedule : Schedule
            Noise schedule of x and t.
        end : float
            Ratio at which to stop; 0 is the data.
        steps : int
            Number of steps, 12 evaluations each.

        Returns
        -------
        callable(x, t) -> Tensor of x's shape
            The map; use float64.

        Raises
        ------
        ValueError
            ``end`` is negative or there is no step.
        """
        if not (0 <= end < math.inf and steps >= 1):
            raise ValueError(f"end and steps: need end >= 0 and at least one step, got {end} and {steps}")
        stop = 0.5 * math.log(self.sigma**2 + end**2)
        table = scipy.integrate.DOP853
        A, B, C = table.A.tolist(), table.B.tolist(), table.C.tolist()

        def model(x: Tensor, t: Tensor) -> Tensor:
            y, level = x / over(schedule.alpha(t), x), 0.5 * (self.sigma**2 + over(schedule.ratio(t), x) ** 2).log()
            h = (stop - level) / steps
            for _ in range(steps):
                slopes: list[Tensor] = []
                for row, c in zip(A, C, strict=False):
                    at = y + h * _combine(row, slopes)
                    slopes.append(at - self._centre(at, (2 * (level + c * h)).exp()))
                y = y + h * _combine(B, slopes)
                level = level + h
            return y

        return model

    def _centre(self, y: Tensor, q: Tensor) -> Tensor:
        """Posterior mean of the centres given y of variance q about them; the centres' equal norms cancel."""
        means = self.means.to(y.device, y.dtype)
        return torch.softmax(y @ means.T / q, -1) @ means


def _combine(weights: list[float], slopes: list[Tensor]) -> Tensor | float:
    """Weighted sum of slopes; one fused operation a slope keeps a forward derivative through it quick."""
    total: Tensor | None = None
    for weight, slope in zip(weights, slopes, strict=False):
        if weight:
            total = weight * slope if total is None else torch.add(total, slope, alpha=weight)
    return 0.0 if total is None else total

"""Gaussian data: denoiser, consistency map, error and step rate in closed form, on every schedule.

All of it is a function of x / alpha = x0 + tau z and tau; R in another time variable is R_tau / tau'(t).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from replication.adcm.schedules import Model, Schedule, over

Exact = Literal["denoiser", "map"]
"""The Bayes denoiser E[x0 | x_t], or the consistency map of the probability-flow ODE."""


class Gaussian:
    """Centred normal data with independent coordinates.

    Parameters
    ----------
    std : sequence of float, length d
        Standard deviations.

    Raises
    ------
    ValueError
        There is none, or one is not positive and finite.

    Examples
    --------
    >>> from replication.adcm.schedules import VE
    >>> data, t = Gaussian([0.5, 0.5]), torch.tensor([1.0])
    >>> data.rate(t, VE(), "denoiser").item(), round(data.rate(t, VE(), "map").item(), 6)
    (1.0, 2.236068)
    """

    def __init__(self, std: Sequence[float] | Tensor) -> None:
        self.std = torch.as_tensor(std, dtype=torch.float64)
        if self.std.dim() != 1 or not len(self.std) or not bool(((self.std > 0) & self.std.isfinite()).all()):
            raise ValueError(f"std: need at least one, positive and finite, on one axis; got {std}")

    def sample(self, n: int, *, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
        """Draw n data, shape (n, d)."""
        return torch.randn(n, len(self.std), generator=generator, dtype=dtype) * self.std.to(dtype)

    def denoiser(self, schedule: Schedule) -> Model:
        """The Bayes denoiser, s^2 / (s^2 + tau^2) x / alpha by coordinate."""
        return self._linear(schedule, lambda s, tau: s**2 / (s**2 + tau**2))

    def consistency_map(self, schedule: Schedule) -> Model:
        """The map along the probability-flow ODE to t = 0, s / sqrt(s^2 + tau^2) x / alpha by coordinate."""
        return self._linear(schedule, lambda s, tau: s / (s**2 + tau**2).sqrt())

    def mse(self, t: Tensor, schedule: Schedule, of: Exact) -> Tensor:
        """E||f(x_t) - x0||^2, summed over coordinates, of t's shape.

        Of the map it is 2 sum s^2 (1 - s / sqrt(s^2 + tau^2)): above zero, although the map is perfect.
        """
        s, tau = self.std, schedule.ratio(t)[..., None]
        error = s**2 * tau**2 / (s**2 + tau**2) if of == "denoiser" else 2 * s**2 * (1 - s / (s**2 + tau**2).sqrt())
        return error.sum(-1)

    def rate(self, t: Tensor, schedule: Schedule, of: Exact) -> Tensor:
        """R(t) = E[v.e] / E[v.v], the Gauss-Newton step per unit of kappa, of t's shape.

        Of the denoiser R_tau = tau, whatever the standard deviations are; of the map
        R_tau = sum s^3 tau / (s^2 + tau^2)^(3/2) / sum s^4 / (s^2 + tau^2)^2.
        """
        s, tau = self.std, schedule.ratio(t)[..., None]
        if of == "denoiser":
            rate = tau[..., 0]
        else:
            variance = s**2 + tau**2
            rate = (s**3 * tau / (variance * variance.sqrt())).sum(-1) / (s**4 / variance**2).sum(-1)
        return rate / schedule.ratio_dot(t)

    def _linear(self, schedule: Schedule, gain: Callable[[Tensor, Tensor], Tensor]) -> Model:
        def model(x: Tensor, t: Tensor) -> Tensor:
            s = self.std.to(x.device, x.dtype)
            return gain(s, over(schedule.ratio(t), x)) * x / over(schedule.alpha(t), x)

        return model

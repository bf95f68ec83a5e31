"""Noise schedules: x_t = alpha_t x0 + beta_t z, its derivative, and the preconditioning of the network.

One convention of shapes holds in this room: data and noise have shape `(*replicas, n, *event)` and times
`(*replicas, n)`, so that a time's axes are the leading axes of the data's shape. The last axis of a time runs over the
samples, the axes before it over replicas (none for one model). Coefficients are computed in the time's dtype and
applied in the data's.

The ratio tau = beta / alpha is the noise level that schedules have in common. The paper calls it "SNR" but means its
inverse; time steps, sampling and the baselines are carried from one schedule to another through it.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
from torch import Tensor

from replication.checks import positive

Network = Callable[..., Tensor]
"""A raw network F(c_in x, c_noise, **conditioning) of the data's shape."""
Model = Callable[..., Tensor]
"""A preconditioned model f(x, t, **conditioning): an estimate of x0, of x's shape."""

Real = TypeVar("Real", float, Tensor)

P_MEAN, P_STD = -1.1, 2.0
"""Mean and standard deviation of ln tau in training on CIFAR-10, as iCT and ECM have them."""


class Schedule(ABC):
    """A noise schedule on [t_min, t_max].

    Attributes
    ----------
    t_min : float
        The paper's epsilon.
    t_max : float
        The paper's T.
    """

    t_min: float
    t_max: float

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Weight of the data."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Weight of the noise."""

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """Derivative of `alpha` with respect to t."""

    @abstractmethod
    def beta_dot(self, t: Tensor) -> Tensor:
        """Derivative of `beta` with respect to t."""

    # the walk along a segmentation takes thousands of steps one after another, so these three take numbers as well

    @abstractmethod
    def ratio(self, t: Real) -> Real:
        """Noise over data, tau = beta / alpha."""

    @abstractmethod
    def ratio_dot(self, t: Real) -> Real:
        """Derivative of `ratio` with respect to t."""

    @abstractmethod
    def time(self, ratio: Real) -> Real:
        """The time at which beta / alpha is `ratio`; inverse of `ratio`."""

    @abstractmethod
    def c_skip(self, t: Tensor) -> Tensor:
        """Weight of the input in f = c_skip x + c_out F(c_in x, c_noise)."""

    @abstractmethod
    def c_out(self, t: Tensor) -> Tensor:
        """Weight of the network's output; zero at the boundary."""

    @abstractmethod
    def c_in(self, t: Tensor) -> Tensor:
        """Scale of the network's input."""

    @abstractmethod
    def c_noise(self, t: Tensor) -> Tensor:
        """What the network is told of the time."""

    def perturb(self, x0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return x_t = alpha_t x0 + beta_t z.

        Parameters
        ----------
        x0, z : Tensor, shape `(*replicas, n, *event)`
            Data and standard normal noise.
        t : Tensor, shape `(*replicas, n)`
            Times.

        Raises
        ------
        ValueError
            The shapes do not fit together.
        """
        check_shapes(x0, z, t)
        return over(self.alpha(t), x0) * x0 + over(self.beta(t), z) * z

    def velocity(self, x0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return dx_t/dt = alpha'_t x0 + beta'_t z along the path of one pair (x0, z); arguments as of `perturb`."""
        check_shapes(x0, z, t)
        return over(self.alpha_dot(t), x0) * x0 + over(self.beta_dot(t), z) * z

    def denoise(self, network: Network, x: Tensor, t: Tensor, **conditioning: Tensor) -> Tensor:
        """Precondition a network: f(x, t) = c_skip x + c_out F(c_in x, c_noise).

        Parameters
        ----------
        network : callable(Tensor, Tensor, **conditioning) -> Tensor
            F, from scaled inputs of x's shape and `c_noise` of t's shape to x's shape.
        x : Tensor, shape `(*replicas, n, *event)`
            Noisy data.
        t : Tensor, shape `(*replicas, n)`
            Its times.
        **conditioning : Tensor
            Handed on to the network.

        Returns
        -------
        Tensor of x's shape
            The estimate of x0.
        """
        output = network(over(self.c_in(t), x) * x, self.c_noise(t).to(x.dtype), **conditioning).to(x.dtype)
        return over(self.c_skip(t), x) * x + over(self.c_out(t), x) * output

    def prior(self, z: Tensor) -> Tensor:
        """Where sampling starts: beta(t_max) z, which leaves out what is left of the data there (T z on VE)."""
        return z * float(self.beta(torch.tensor(self.t_max, dtype=torch.float64)))

    def levels(self, number: int) -> Tensor:
        """Times from t_min to t_max, evenly spaced in ln tau; float64, shape (number,).

        Examples
        --------
        >>> VE(t_min=0.1, t_max=10.0).levels(3)
        tensor([ 0.1000,  1.0000, 10.0000], dtype=torch.float64)
        """
        low, high = (math.log(self.ratio(t)) for t in (self.t_min, self.t_max))
        times = self.time(torch.linspace(low, high, number, dtype=torch.float64).exp())
        times[0], times[-1] = self.t_min, self.t_max
        return times

    def spanning(self, low: float, high: float) -> Self:
        """The same schedule from the ratio `low` to the ratio `high`, so that two schedules cover the same noise.

        Examples
        --------
        >>> FlowMatching().spanning(0.25, 1.0)
        FlowMatching(t_min=0.2, t_max=0.5)
        """
        return dataclasses.replace(self, t_min=self.time(low), t_max=self.time(high))  # type: ignore[type-var]


@dataclass(frozen=True)
class VE(Schedule):
    """Variance exploding, x_t = x0 + t z, with EDM's preconditioning (Karras et al. 2022, Table 1).

    Parameters
    ----------
    sigma_data : float
        Standard deviation of the data that the preconditioning assumes.
    t_min, t_max : float
        EDM's range. The paper does not print its own; ``t_max`` well above the data's scale makes the steps of a good
        model degenerate, see `replication.adcm.segmentation`.
    exact_boundary : bool
        False: f(x, 0) = x, as EDM and ECM have it. True: f(x, t_min) = x exactly, as iCT shifts c_skip and c_out.

    Raises
    ------
    ValueError
        Not 0 < t_min < t_max < infinity, or ``sigma_data`` is not positive.

    Examples
    --------
    >>> t = torch.tensor([0.5])
    >>> VE().c_skip(t), VE().ratio(t)
    (tensor([0.5000]), tensor([0.5000]))
    """

    sigma_data: float = 0.5
    t_min: float = 0.002
    t_max: float = 80.0
    exact_boundary: bool = False

    def __post_init__(self) -> None:
        positive("sigma_data", self.sigma_data)
        _check_range(self.t_min, self.t_max, math.inf, "infinity")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def beta(self, t: Tensor) -> Tensor:
        return t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def beta_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def ratio(self, t: Real) -> Real:
        return t

    def ratio_dot(self, t: Real) -> Real:
        return 0 * t + 1

    def time(self, ratio: Real) -> Real:
        return ratio

    def c_skip(self, t: Tensor) -> Tensor:
        # EDM, Table 1: sigma_d^2 / (t^2 + sigma_d^2)
        return self.sigma_data**2 / (self._from_boundary(t) ** 2 + self.sigma_data**2)

    def c_out(self, t: Tensor) -> Tensor:
        # EDM, Table 1: sigma_d t / sqrt(t^2 + sigma_d^2)
        return self._from_boundary(t) * self.sigma_data * self.c_in(t)

    def c_in(self, t: Tensor) -> Tensor:
        return (t**2 + self.sigma_data**2).rsqrt()

    def c_noise(self, t: Tensor) -> Tensor:
        return t.log() / 4

    def _from_boundary(self, t: Tensor) -> Tensor:
        return t - self.t_min if self.exact_boundary else t


@dataclass(frozen=True)
class FlowMatching(Schedule):
    """Rectified flow, x_t = (1 - t) x0 + t z, data at t = 0; the network estimates x0 - z.

    c_skip = c_in = 1 and c_noise = t; c_out = t follows from x_t + t (x0 - z) = x0.

    Parameters
    ----------
    t_min, t_max : float
        Range. The default begins at VE's lowest ratio and ends just before the paper's 1, where beta / alpha is
        infinite and the sampling rule in ln tau has no meaning.

    Raises
    ------
    ValueError
        Not 0 < t_min < t_max < 1.

    Examples
    --------
    >>> FlowMatching().ratio(torch.tensor([0.5, 0.8]))
    tensor([1.0000, 4.0000])
    """

    t_min: float = 0.002 / 1.002
    t_max: float = 0.999

    def __post_init__(self) -> None:
        _check_range(self.t_min, self.t_max, 1.0, "1")

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        return t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def beta_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def ratio(self, t: Real) -> Real:
        return t / (1 - t)

    def ratio_dot(self, t: Real) -> Real:
        return 1 / (1 - t) ** 2

    def time(self, ratio: Real) -> Real:
        return ratio / (1 + ratio)

    def c_skip(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def c_out(self, t: Tensor) -> Tensor:
        return t

    def c_in(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def c_noise(self, t: Tensor) -> Tensor:
        return t


def over(coefficient: Tensor, x: Tensor) -> Tensor:
    """Broadcast a coefficient of a time's shape over the event axes of x, in x's dtype."""
    return coefficient.reshape(coefficient.shape + (1,) * (x.dim() - coefficient.dim())).to(x.dtype)


def standard_normal(x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw noise of the shape, dtype and device of data."""
    return torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)


def interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Interpolate linearly along the last axis, constant beyond the ends.

    Parameters
    ----------
    x : Tensor, shape (k,)
        Nodes, ascending.
    y : Tensor, shape (k,) or `(*replicas, k)`
        Values at the nodes.
    at : Tensor, shape `(*replicas, n)`
        Where to interpolate.

    Returns
    -------
    Tensor, shape `(*replicas, n)`
        Values there.

    Examples
    --------
    >>> interpolate(torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 2.0], [5.0, 6.0]]), torch.tensor([[0.5], [9.0]]))
    tensor([[1.],
            [6.]])
    """
    at = at.clamp(x[0], x[-1])
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    y = y.expand(*at.shape[:-1], len(x))
    return torch.lerp(y.gather(-1, right - 1), y.gather(-1, right), share)


def check_shapes(x0: Tensor, z: Tensor, t: Tensor) -> None:
    """Refuse data, noise and times whose shapes do not fit together.

    Raises
    ------
    ValueError
        ``z`` has another shape than ``x0``, or the shape of ``t`` is not what the shape of ``x0`` begins with.
    """
    if z.shape != x0.shape:
        raise ValueError(f"z: must have x0's shape {tuple(x0.shape)}, got {tuple(z.shape)}")
    if t.shape != x0.shape[: t.dim()]:
        raise ValueError(
            f"t: must have the leading axes of x0, (*replicas, n), e.g. {tuple(x0.shape[:1])} for one model on data of "
            f"shape {tuple(x0.shape)}; got {tuple(t.shape)}"
        )


def _check_range(t_min: float, t_max: float, limit: float, name: str) -> None:
    if not 0 < t_min < t_max < limit:
        raise ValueError(f"t_min and t_max: need 0 < t_min < t_max < {name}, got {t_min} and {t_max}")

"""Few-shot sinusoid regression (Finn et al. 2017), and a population that trains on it with DRS or MAML.

A task is y = a sin(x + φ) on [−5, 5]. The population trains many replicas of one small network in one program. Its
inner step is never written into weights: with the hidden values h and the errors δ of the N inner examples, an adapted
layer maps h' to

    h' (W − α hᵀδ) + (b − α 1ᵀδ)  =  h' W + b − α (h' hᵀ + 1) δ,

a correction of rank N beside one product that all tasks share. Derivatives through h and δ give MAML's gradient. A test
holds it equal to `replication.metalearning.adaptation`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor

from replication.checks import at_least, one_of, within
from replication.training import MLP, AdamW, stream_seed
from replication.training.replicas import Replicas, gradients, stack

Method = Literal["DRS", "MAML", "MAML train-train"]
METHODS: tuple[Method, ...] = get_args(Method)

RANGE = 5.0
"""Inputs are drawn from [−RANGE, RANGE]."""
GRADIENT_CALLS: dict[Method, float] = {"DRS": 2.0, "MAML": 4.0, "MAML train-train": 8.0}
"""Gradients of one example that a step takes, per N: a Hessian-vector product counts as two gradients on N."""


class Sinusoids(NamedTuple):
    """A batch of tasks of any shape.

    Examples
    --------
    >>> tasks = Sinusoids.draw(seed=0, stream="test", shape=(3,), width=0.0)
    >>> tasks(torch.zeros(3, 4, 1)).shape, tasks.amplitude.tolist()
    (torch.Size([3, 4, 1]), [2.549999952316284, 2.549999952316284, 2.549999952316284])
    """

    amplitude: Tensor
    phase: Tensor
    """Both of shape (…)."""

    @classmethod
    def draw(cls, seed: int, stream: str, shape: tuple[int, ...], width: float) -> Self:
        """Draw tasks: amplitude 2.55 ± 2.45 τ and phase π/2 ± τ π/2, uniform; float32.

        Parameters
        ----------
        seed, stream
            Fix the draw (`replication.training.stream_seed`).
        shape : tuple of int
            Shape of the batch.
        width : float
            τ in [0, 1]: how different the tasks are.

        Raises
        ------
        ValueError
            If the width is outside [0, 1].
        """
        within("width", width, "[0, 1]")
        generator = torch.Generator().manual_seed(stream_seed(seed, f"{stream} tasks"))
        u = 2 * torch.rand(*shape, 2, generator=generator) - 1
        return cls(2.55 + 2.45 * width * u[..., 0], math.pi / 2 * (1 + width * u[..., 1]))

    def __call__(self, x: Tensor) -> Tensor:
        """Values at inputs of shape (…, N, 1)."""
        return self.amplitude[..., None, None] * torch.sin(x + self.phase[..., None, None])

    def sample(self, seed: int, stream: str, points: int, noise: float) -> tuple[Tensor, Tensor]:
        """Draw examples of every task.

        Parameters
        ----------
        seed, stream
            Fix the draw.
        points : int
            Examples per task, N.
        noise : float
            Standard deviation of the Gaussian noise on the values.

        Returns
        -------
        x, y : Tensor, float32, shape (…, N, 1)
        """
        generator = torch.Generator().manual_seed(stream_seed(seed, f"{stream} points"))
        shape = (*self.amplitude.shape, points, 1)
        x = RANGE * (2 * torch.rand(shape, generator=generator) - 1)
        return x, self(x) + noise * torch.randn(shape, generator=generator)


class MetaPopulation(Replicas):
    """R replicas of one ReLU perceptron, trained by one of the methods with squared error and Adam.

    Parameters
    ----------
    method : {"DRS", "MAML", "MAML train-train"}
        The objective. The last is MAML without a split (Bai et al. 2021): all examples both adapt and judge.
    sizes : sequence of int
        Layer sizes from input to output.
    seeds : sequence of int, length R
        Replicas with the same seed start from the same weights (`replication.training.MLP` under that seed).
    lr : Tensor, shape (R,)
        Adam's step size of every replica.
    inner_rate : float
        α of the inner step in training; DRS has none.
    dtype : torch.dtype
        Of the parameters.
    device : str or torch.device
        Where the population lives.

    Attributes
    ----------
    parameters : dict of str to Tensor
        ``weight0``, shape (R, in, out), ``bias0``, shape (R, 1, out), and so on.

    Raises
    ------
    ValueError
        If the method is unknown, there is no seed, the rates do not fit the seeds, or the inner rate is negative.
    """

    def __init__(
        self,
        method: Method,
        sizes: Sequence[int],
        seeds: Sequence[int],
        lr: Tensor,
        inner_rate: float,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        one_of("method", method, METHODS)
        if not len(seeds) or lr.shape != (len(seeds),):
            raise ValueError(
                f"seeds and lr: need one rate for each of at least one seed, got {len(seeds)} and {tuple(lr.shape)}"
            )
        at_least("inner_rate", inner_rate, 0)
        self.method, self.inner_rate, self.seeds = method, inner_rate, tuple(map(int, seeds))
        linear = iter(stack(lambda: MLP(sizes), seeds, device)[1].values())
        parameters: dict[str, Tensor] = {}
        for i, (weight, bias) in enumerate(zip(linear, linear, strict=True)):
            parameters[f"weight{i}"] = weight.mT.to(dtype)
            parameters[f"bias{i}"] = bias[:, None].to(dtype)
        super().__init__(parameters, AdamW(weight_decay=0.0))
        self._lr = lr.to(device, dtype)

    def gradient(self, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Gradient of the method's objective.

        Parameters
        ----------
        x, y : Tensor, shapes (R, T, 2N, in) and (R, T, 2N, out)
            Examples of T tasks per replica. DRS and train-train take all; MAML adapts on the first N and is judged on
            the rest.

        Returns
        -------
        gradients : dict of str to Tensor
            Like `parameters`.
        loss : Tensor, shape (R,)
            The objective.

        Raises
        ------
        ValueError
            If MAML, which splits them, gets an odd number of examples.
        """
        splits = self.method == "MAML"
        if splits and x.shape[2] % 2:
            raise ValueError(f"x: needs an even number of examples per task to split, got {x.shape[2]}")
        half = x.shape[2] // 2
        inner_half, outer_half = (slice(half), slice(half, None)) if splits else (slice(None), slice(None))

        def losses(parameters: dict[str, Tensor]) -> Tensor:
            layers = _layers(parameters)
            if self.method == "DRS":
                return (_forward(layers, x) - y).square().mean((1, 2, 3))
            inner = _backprop(layers, x[:, :, inner_half], y[:, :, inner_half])
            out = _forward(layers, x[:, :, outer_half], inner, self.inner_rate)
            return (out - y[:, :, outer_half]).square().mean((1, 2, 3))

        return gradients(losses, self.parameters)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Take one Adam step; arguments and result as `gradient` has them."""
        found, losses = self.gradient(x, y)
        self._descend(self._flatten(found), self._lr)
        return losses

    def _settings(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "seeds": list(self.seeds),
            "lr": self._lr.tolist(),
            "inner_rate": self.inner_rate,
            "dtype": str(self._lr.dtype),
        }

    @torch.no_grad()
    def errors(
        self, replica: int, support: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor], rates: Sequence[float]
    ) -> Tensor:
        """Mean squared error of one replica on new tasks after one step of adaptation, for several test rates.

        Parameters
        ----------
        replica : int
            Which.
        support, query : (x, y), shapes (T, N, in) and (T, N, out)
            Examples to adapt on, and where the adapted model is judged.
        rates : sequence of float
            Test rates; 0 is the model before adaptation.

        Returns
        -------
        Tensor, shape (len(rates),)
        """
        layers = [(w[replica, None], b[replica, None]) for w, b in _layers(self.parameters)]
        inner = _backprop(layers, support[0][None], support[1][None])
        found = [(_forward(layers, query[0][None], inner, rate) - query[1]).square().mean() for rate in rates]
        return torch.stack(found)


Layers = list[tuple[Tensor, Tensor]]
Inner = list[tuple[Tensor, Tensor]]


def _layers(parameters: dict[str, Tensor]) -> Layers:
    return [(parameters[f"weight{i}"], parameters[f"bias{i}"]) for i in range(len(parameters) // 2)]


def _affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """All tasks of a replica in one product: (R, T, N, in) to (R, T, N, out)."""
    return torch.baddbmm(bias, h.flatten(1, 2), weight).view(*h.shape[:-1], weight.shape[-1])


def _forward(layers: Layers, x: Tensor, inner: Inner | None = None, rate: float = 0.0) -> Tensor:
    """Outputs of the model, or of the model adapted on the inner examples."""
    h = x
    for i, (weight, bias) in enumerate(layers):
        z = _affine(h, weight, bias)
        if inner is not None:
            inputs, errors = inner[i]
            z = z - rate * ((h @ inputs.mT + 1) @ errors)
        h = z if i == len(layers) - 1 else z.relu()
    return h


def _backprop(layers: Layers, x: Tensor, y: Tensor) -> Inner:
    """Each layer's inputs h, and the derivative δ of a task's mean squared error by its outputs, per inner example."""
    hidden = [x]
    for weight, bias in layers[:-1]:
        hidden.append(_affine(hidden[-1], weight, bias).relu())
    out = _affine(hidden[-1], *layers[-1])
    delta = 2 * (out - y) / y[0, 0].numel()
    errors = [delta]
    for (weight, _), h in zip(layers[:0:-1], hidden[:0:-1], strict=True):
        delta = (delta.flatten(1, 2) @ weight.mT).view_as(h) * (h > 0)
        errors.append(delta)
    return list(zip(hidden, errors[::-1], strict=True))

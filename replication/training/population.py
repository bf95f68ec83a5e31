"""Train R replicas of one architecture through one interface, by the faster of two back ends.

The experiments of this project are many small runs (schedule × peak × seed). Run one after another, a tiny model spends
most of its time on per-operation overhead; stacked and mapped with ``torch.func.vmap``, the same arithmetic becomes a
few large batched products. A larger model, or one of convolutions, is quicker as an ordinary module, one replica after
another in each step. A replica computes what it would compute alone (a test holds both equal to ``torch.optim``),
because replicas share nothing but the program.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from replication.training.models import count_parameters
from replication.training.optimizers import Optimizer
from replication.training.progress import track
from replication.training.replicas import Parameters, Replicas, gradients, stack

Batches = Callable[[int], tuple[Tensor, Tensor]]
Stacked = Callable[[Parameters, Tensor], Tensor]
Backend = Literal["population", "plain"]

MAPPED_WEIGHTS: Final = 50_000
"""Weights up to which a dense model is mapped; ``benchmarks/bench_training.py`` measures both sides."""


class Scores(NamedTuple):
    """Loss and error of every replica on one data set."""

    loss: Tensor
    """Mean cross-entropy in nats, float32, shape (R,)."""
    error: Tensor
    """Share of wrong predictions in [0, 1], float32, shape (R,); 1 where the replica has diverged (non-finite loss)."""


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats over all leading dimensions: images (B, C), bytes (B, T, C)."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def faster(model: nn.Module, replicas: int) -> Backend:
    """Name the back end that trains this many replicas of a model faster.

    Convolutions of a population are one grouped convolution, which is slow on a CPU. Dense layers become batched
    products, which save overhead, but pass all weights through the memory several times. On an accelerator a small
    replica alone leaves it idle.
    """
    weights = next(model.parameters())
    if replicas == 1:
        return "plain"
    if weights.is_cuda:
        return "population"
    return "plain" if _convolves(model) or count_parameters(model) > MAPPED_WEIGHTS else "population"


class Population(Replicas):
    """R replicas of one model, each with its own seed, learning rate and data.

    Parameters
    ----------
    build : callable() -> Module
        Builds one model with torch's default generator; called once per distinct seed, under that seed.
    seeds : sequence of int, length R
        Seed of every replica. Replicas with the same seed start from the same weights.
    optimizer : SGD, AdamW or RAdam of this package
        The update rule, shared by all replicas.
    device : str or torch.device
        Where the population lives.
    clip_norm : float, optional
        Largest global gradient norm of a replica, as ``torch.nn.utils.clip_grad_norm_`` applies it.
    stacked : callable(parameters, x) -> logits, optional
        The forward pass of all replicas at once, from stacked parameters and inputs of shape (R, B, …) to logits of
        shape (R, B, …, C), in place of the model's own mapped by ``vmap``. A network so small that a step is mostly the
        mapping's overhead is quicker with its few batched products written out.
    backend : {"auto", "population", "plain"}
        For tests and benchmarks; by default `faster` decides, or ``stacked`` if it is given.

    Attributes
    ----------
    parameters : dict of str to Tensor, float32, shape (R, …)
        Stacked parameters.
    backend : {"population", "plain"}
        How the replicas are trained.

    Raises
    ------
    ValueError
        If there is no seed, ``clip_norm`` is not positive, or the model cannot be a replica (`stack`).

    Examples
    --------
    >>> from replication.training import MLP, SGD
    >>> population = Population(lambda: MLP([2, 8, 2]), seeds=[0, 1, 2], optimizer=SGD(momentum=0.9))
    >>> x, y = torch.randn(3, 16, 2), torch.zeros(3, 16, dtype=torch.long)
    >>> population.step(x, y, lr=torch.tensor([0.1, 0.1, 0.01])).shape
    torch.Size([3])
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        seeds: Sequence[int],
        optimizer: Optimizer,
        device: str | torch.device = "cpu",
        *,
        clip_norm: float | None = None,
        stacked: Stacked | None = None,
        backend: Backend | Literal["auto"] = "auto",
    ) -> None:
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm: must be positive, got {clip_norm}")
        if backend not in ("auto", *get_args(Backend)):
            raise ValueError(f"backend: must be auto, population or plain, got {backend!r}")
        self._skeleton, parameters = stack(build, seeds, device)
        if backend == "auto":
            backend = "population" if stacked else faster(self._skeleton, len(seeds))
        self.backend: Backend = backend
        self.seeds = tuple(seeds)
        self._clip_norm = clip_norm
        super().__init__(parameters, optimizer)
        one = partial(functional_call, self._skeleton)
        mapped = vmap(grad_and_value(lambda p, x, y: cross_entropy(one(p, (x,)), y)))
        self._stacked = stacked
        self._gradients = partial(_written, stacked) if stacked else mapped
        self._forward = vmap(lambda p, x: one(p, (x,)), in_dims=(0, None))
        self._models: list[nn.Module] = []
        if self.backend == "plain":
            self._models = [self._bound(index) for index in range(len(self))]
            self._slopes = {part: torch.empty_like(p) for part, p in self._flat.items()}
        # a CPU convolves faster where the channels of a pixel lie together; without convolutions nothing does
        self._last = _convolves(self._skeleton) and torch.device(device).type == "cpu"

    def _bound(self, index: int) -> nn.Module:
        """A module whose parameters are a replica's row of the stacked ones, not a copy."""
        model = copy.deepcopy(self._skeleton).requires_grad_()
        for name, p in model.named_parameters():
            p.data = self.parameters[name][index]
        return model

    def _call(self, model: nn.Module, x: Tensor) -> Tensor:
        if self._last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        outputs: Tensor = model(x)
        return outputs

    def _one_by_one(self, x: Tensor, y: Tensor) -> tuple[Parameters, Tensor]:
        """Gradients of one ordinary module after another, laid side by side, and the losses."""
        losses = []
        for index, model in enumerate(self._models):
            named = dict(model.named_parameters())
            loss = cross_entropy(self._call(model, x[index]), y[index])
            # as a mapped gradient: zero where the loss does not depend on a parameter
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
            slopes = dict(zip(named, found, strict=True))
            for part, names in self._names.items():
                torch.cat([slopes[name].flatten() for name in names], out=self._slopes[part][index])
            losses.append(loss.detach())
        return self._slopes, torch.stack(losses)

    @property
    def bytes_per_replica(self) -> int:
        """Bytes of parameters, gradients and optimiser state that one replica holds (activations come on top)."""
        tensors = [*self.parameters.values(), *self._tensors().values()]
        return sum(t.numel() * t.element_size() for t in tensors) // len(self)

    def step(self, x: Tensor, y: Tensor, lr: Tensor) -> Tensor:
        """Take one optimiser step.

        Parameters
        ----------
        x, y : Tensor, shapes (R, B, …) and (R, B) or (R, B, T)
            A mini-batch for every replica; ``y`` int64 classes.
        lr : Tensor, float32, shape (R,)
            Learning rate of every replica.

        Returns
        -------
        Tensor, float32, shape (R,)
            Losses before the step, in nats.
        """
        if len(x) != len(self) or lr.shape != (len(self),):
            raise ValueError(
                f"x and lr: need {len(self)} replicas along the first axis, got {len(x)} and {tuple(lr.shape)}"
            )
        if self._models:
            slopes, losses = self._one_by_one(x, y)
        else:
            named, losses = self._gradients(self.parameters, x, y)
            slopes = self._flatten(named)
        if self._clip_norm is not None:
            squares = [g.flatten(1).square().sum(1) for g in self._views(slopes).values()]
            norms = torch.stack(squares).sum(0).sqrt()
            scale = (self._clip_norm / (norms + 1e-6)).clamp(max=1.0)
            slopes = {part: g * scale[:, None] for part, g in slopes.items()}
        self._descend(slopes, lr)
        detached: Tensor = losses.detach()
        return detached

    def fit(self, batches: Batches, lr: Tensor, *, description: str = "training") -> Tensor:
        """Train through a whole table of learning rates.

        Parameters
        ----------
        batches : callable(step) -> (x, y)
            The mini-batch of step 0, 1, …, as ``step`` takes it.
        lr : Tensor, shape (T, R)
            Learning rate of every step and replica; T is the number of steps.
        description : str
            Label of the progress bar (shown on a terminal only).

        Returns
        -------
        Tensor, float32, shape (T, R)
            Training losses before each step, in nats.
        """
        table = lr.to(next(iter(self._flat.values())))
        return torch.stack([self.step(*batches(t), table[t]) for t in track(range(len(table)), description)])

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Outputs of every replica on the same inputs: x of shape (N, …), result of shape (R, N, …, C)."""
        if self._models:
            return torch.stack([self._call(model, x) for model in self._models])
        if self._stacked is not None:
            return self._stacked(self.parameters, x.expand(len(self), *x.shape))
        outputs: Tensor = self._forward(self.parameters, x)
        return outputs

    @torch.no_grad()
    def evaluate(self, x: Tensor, y: Tensor, *, batch_size: int = 1024) -> Scores:
        """Score every replica on the same data.

        Parameters
        ----------
        x, y : Tensor, shapes (N, …) and (N,) or (N, T)
            Data shared by all replicas.
        batch_size : int
            Examples per forward pass.

        Returns
        -------
        Scores
            Mean loss (nats) and error of every replica, each of shape (R,).
        """
        loss, wrong = torch.zeros(2, len(self), device=x.device)
        for xs, ys in zip(torch.split(x, batch_size), torch.split(y, batch_size), strict=True):
            logits = self.logits(xs).flatten(1, -2)
            targets = ys.reshape(1, -1).expand(len(self), -1)
            loss += F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").sum(1)
            wrong += (logits.argmax(-1) != targets).sum(1)
        loss, wrong = loss / y.numel(), wrong / y.numel()
        return Scores(loss, torch.where(loss.isfinite(), wrong, 1.0))

    def replica(self, index: int) -> nn.Module:
        """Return a copy of one replica as an ordinary module."""
        model = copy.deepcopy(self._skeleton)
        model.load_state_dict({name: p[index] for name, p in self.parameters.items()}, strict=False)
        return model

    def _settings(self) -> dict[str, Any]:
        return {"seeds": list(self.seeds), "clip_norm": self._clip_norm}


def _convolves(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def _written(stacked: Stacked, parameters: Parameters, x: Tensor, y: Tensor) -> tuple[Parameters, Tensor]:
    """Gradients and losses of all replicas from their forward pass in one."""

    def losses(parameters: Parameters) -> Tensor:
        logits = stacked(parameters, x)
        each = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1), reduction="none")
        return each.view(len(x), -1).mean(1)

    return gradients(losses, parameters)

"""Train R replicas of one architecture in one batched program.

The experiments of this project are many small runs (schedule × peak × seed). Run one after another, a small model
spends most of its time on per-operation overhead; stacked and mapped with ``torch.func.vmap``, the same arithmetic
becomes a few large batched products. A replica computes what it would compute alone (a test holds it equal to
``torch.optim``), because replicas share nothing but the program.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from replication.training.optimizers import Optimizer, per_replica
from replication.training.progress import track
from replication.training.seeding import seeded

Batches = Callable[[int], tuple[Tensor, Tensor]]
Stacked = Callable[[dict[str, Tensor], Tensor], Tensor]


class Scores(NamedTuple):
    """Loss and error of every replica on one data set."""

    loss: Tensor
    """Mean cross-entropy in nats, float32, shape (R,)."""
    error: Tensor
    """Share of wrong predictions in [0, 1], float32, shape (R,); 1 where the replica has diverged (non-finite loss)."""


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats over all leading dimensions: images (B, C), bytes (B, T, C)."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


class Population:
    """R replicas of one model, each with its own seed, learning rate and data.

    Parameters
    ----------
    build : callable() -> Module
        Builds one model with torch's default generator; called once per distinct seed, under that seed.
    seeds : sequence of int, length R
        Seed of every replica. Replicas with the same seed start from the same weights.
    optimizer : SGD or AdamW of this package
        The update rule, shared by all replicas.
    device : str or torch.device
        Where the population lives.
    clip_norm : float, optional
        Largest global gradient norm of a replica, as ``torch.nn.utils.clip_grad_norm_`` applies it.
    stacked : callable(parameters, x) -> logits, optional
        The forward pass of all replicas at once, from stacked parameters and inputs of shape (R, B, …) to logits of
        shape (R, B, …, C), in place of the model's own mapped by ``vmap``. A network so small that a step is mostly the
        mapping's overhead is quicker with its few batched products written out.

    Attributes
    ----------
    parameters : dict of str to Tensor, float32, shape (R, …)
        Stacked parameters.

    Raises
    ------
    ValueError
        If there is no seed, ``clip_norm`` is not positive, or the model couples the examples of a batch or draws random
        numbers in its forward pass (batch norm, dropout): a replica would not compute what it computes alone.

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
    ) -> None:
        if not seeds:
            raise ValueError("seeds: need at least one replica, got an empty sequence")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm: must be positive, got {clip_norm}")
        models: dict[int, nn.Module] = {}
        for seed in seeds:
            if seed not in models:
                with seeded(seed):
                    models[seed] = build()
        self._skeleton = copy.deepcopy(models[seeds[0]]).to(device)
        for module in self._skeleton.modules():
            if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)):
                raise ValueError(
                    f"build: the model holds a {type(module).__name__}, which couples examples or draws random "
                    "numbers; use GroupNorm or LayerNorm, and no dropout"
                )
        named = {seed: dict(model.named_parameters()) for seed, model in models.items()}
        self.parameters = {
            name: torch.stack([named[seed][name].detach() for seed in seeds]).to(device) for name in named[seeds[0]]
        }
        self.seeds = tuple(seeds)
        self._optimizer = optimizer
        self._state = optimizer.init(self.parameters)
        self._clip_norm = clip_norm
        self._count = 0
        self._stacked = stacked
        self._gradients = self._stacked_gradients if stacked else vmap(grad_and_value(self._loss))
        self._forward = vmap(lambda p, x: functional_call(self._skeleton, p, (x,)), in_dims=(0, None))

    def _loss(self, parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(self._skeleton, parameters, (x,)), y)

    def _stacked_gradients(
        self, parameters: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        assert self._stacked is not None
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        logits = self._stacked(leaves, x)
        each = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1), reduction="none")
        losses = each.view(len(self), -1).mean(1)
        # replicas share no parameter: the gradient of the sum of their losses holds each one's own
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True)), losses

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def bytes_per_replica(self) -> int:
        """Bytes of parameters, gradients and optimiser state that one replica holds (activations come on top)."""
        tensors = [*self.parameters.values(), *self.parameters.values()]
        tensors += [t for moment in self._state.values() for t in moment.values()]
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
        gradients, losses = self._gradients(self.parameters, x, y)
        if self._clip_norm is not None:
            squares = [g.flatten(1).square().sum(1) for g in gradients.values()]
            norms = torch.stack(squares).sum(0).sqrt()
            scale = (self._clip_norm / (norms + 1e-6)).clamp(max=1.0)
            gradients = {name: g * per_replica(scale, g) for name, g in gradients.items()}
        self._count += 1
        self._optimizer.step(self.parameters, gradients, self._state, lr, self._count)
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
        table = lr.to(next(iter(self.parameters.values())))
        return torch.stack([self.step(*batches(t), table[t]) for t in track(range(len(table)), description)])

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Outputs of every replica on the same inputs: x of shape (N, …), result of shape (R, N, …, C)."""
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

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
from torch.utils.flop_counter import FlopCounterMode

from replication.checks import one_of, positive
from replication.training.models import count_parameters
from replication.training.optimizers import Optimizer, Parameters, State, per_replica
from replication.training.progress import track
from replication.training.replicas import Replicas, check_function, gradients, stack

Stacked = Callable[[Parameters, Tensor], Tensor]
Backend = Literal["population", "plain"]

FEW: Final = 6
"""Least number of replicas for which mapping pays on a CPU."""
LAYER_WORK: Final = 1_200_000
"""Work a parameter tensor, in multiply-adds of a forward pass, up to which overhead decides."""
WEIGHT_WORK: Final = 64
"""Multiply-adds in whose time a step takes a weight, its gradient and its state through the memory."""
BLOCK: Final = 16
"""Steps that plain modules take one replica at a time, so that its weights and state stay in the processor's caches."""
BLOCK_BYTES: Final = 2**25
"""Largest size of the inputs that are held for a block."""


class Scores(NamedTuple):
    """Loss and error of every replica on one data set."""

    loss: Tensor
    """Mean cross-entropy in nats, float32, shape (R,)."""
    error: Tensor
    """Share of wrong predictions in [0, 1], float32, shape (R,); 1 where the replica has diverged (non-finite loss)."""


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats over all leading dimensions: images (B, C), bytes (B, T, C)."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def faster(model: nn.Module, replicas: int, x: Tensor) -> Backend:
    """Name the back end that trains this many replicas of a model faster on batches like ``x``, shape (B, …).

    A step of a plain module costs some overhead a layer, which a population pays once for all replicas. Against it
    stands that batched and grouped products are slower than single ones, and that all replicas' weights pass through
    the memory at every operation. So a population pays where there are several replicas and little work a layer. The
    limits are fitted to the measurements of ``benchmarks/bench_training.py`` on a CPU; the choice depends on nothing
    but the arguments, so that a run repeats to the bit. An accelerator is left idle by one small replica.
    """
    if x.is_cuda:
        return "population" if replicas > 1 else "plain"
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    layers = list(model.parameters())
    work = counter.get_total_flops() / 2 + WEIGHT_WORK * count_parameters(model)
    return "population" if replicas >= FEW and work <= LAYER_WORK * len(layers) else "plain"


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
    parameters : dict of str to Tensor, shape (R, …)
        Stacked parameters, of the model's own type.
    backend : {"auto", "population", "plain"}
        How the replicas are trained; decided at the first step.

    Raises
    ------
    ValueError
        If there is no seed, ``clip_norm`` is not positive, nothing of the model is trained, or what is trained is not
        of one floating-point type (`stack`); at the first step, if the input or a gradient is sparse or the forward
        pass is no function of parameters and input (`check_function`).

    Notes
    -----
    A replica computes what it would compute alone: frozen parameters stay, and so does, as in ``torch.optim``, one that
    the loss of the first batch does not depend on.

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
        if clip_norm is not None:
            positive("clip_norm", clip_norm)
        one_of("backend", backend, ("auto", *get_args(Backend)))
        self._skeleton, parameters, self._constants = stack(build, seeds, device)
        super().__init__(parameters, optimizer)
        self.backend: Backend | Literal["auto"] = "population" if stacked and backend == "auto" else backend
        self.seeds = tuple(map(int, seeds))
        self._clip_norm = clip_norm
        self._stacked = stacked

        def one(p: Parameters, constants: Parameters, x: Tensor) -> Tensor:
            outputs: Tensor = functional_call(self._skeleton, {**p, **constants}, (x,))
            return outputs

        mapped = vmap(grad_and_value(lambda p, constants, x, y: cross_entropy(one(p, constants, x), y)))
        self._gradients = partial(_written, stacked) if stacked else mapped
        self._forward = vmap(one, in_dims=(0, 0, None))
        self._checked = stacked is not None
        self._idle: set[str] = set()
        # a CPU convolves faster where the channels of a pixel lie together; but the gradient of a strided 1 × 1
        # convolution of 2 to 7 channels is then written beyond its memory on AVX2 (uxlfoundation/oneDNN#6035)
        layers = [module for module in self._skeleton.modules() if isinstance(module, nn.Conv2d)]
        overruns = any(max(layer.kernel_size) == 1 < max(layer.stride) and layer.in_channels < 8 for layer in layers)
        self._channels_last = bool(layers) and not overruns and torch.device(device).type == "cpu"
        self._modules: list[_Module] = []
        if backend == "plain":
            self._bind()

    def _bind(self) -> None:
        """Make the modules whose parameters are rows of the stacked ones, not copies."""
        for index in range(len(self)):
            module = copy.deepcopy(self._skeleton)
            named = dict(module.named_parameters())
            for name, stacked in self.parameters.items():
                named[name].data = stacked[index]
            self._fill(module, index)
            leaves = {part: [named[name] for name in names] for part, names in self._names.items()}
            row = slice(index, index + 1)
            state = {moment: _rows(of, row) for moment, of in self._state.items()}
            self._modules.append(_Module(module, leaves, _rows(self._flat, row), state))
        # one gradient for all, which stays in the caches
        self._slopes = {part: torch.empty_like(p[:1]) for part, p in self._flat.items()}

    def _fill(self, module: nn.Module, index: int) -> None:
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        for name, constant in self._constants.items():
            own[name].data = constant[index].clone()

    def _check(self, x: Tensor, y: Tensor) -> None:
        """Look at the first batch: refuse what is no replica, and find what the loss does not depend on."""
        self._checked = True
        if x.layout != torch.strided:
            raise ValueError(f"x: must be dense, got {x.layout}; call x.to_dense()")
        check_function(self._skeleton, lambda model: self._call(model, x[0]))
        named = {name: p for name, p in self._skeleton.named_parameters() if name in self.parameters}
        with torch.enable_grad():
            loss = cross_entropy(self._call(self._skeleton, x[0]), y[0])
            slopes = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        for name, slope in zip(named, slopes, strict=True):
            if slope is not None and slope.is_sparse:
                raise ValueError(f"build: the gradient of {name} is sparse; set sparse=False in its layer")
        self._idle = {name for name, slope in zip(named, slopes, strict=True) if slope is None}

    def _prepare(self, x: Tensor, y: Tensor) -> None:
        """Check the first batch, then choose the back end by it."""
        if not self._checked:
            self._check(x, y)
        if self.backend == "auto":
            self.backend = faster(self._skeleton, len(self), x[0])
            if self.backend == "plain":
                self._bind()

    def _call(self, module: nn.Module, x: Tensor) -> Tensor:
        if self._channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        outputs: Tensor = module(x)
        return outputs

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
        return self._advance([(x, y, lr)])[0]

    def _advance(self, steps: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """Take steps with these batches and rates; their losses, shape (len(steps), R)."""
        for x, _, lr in steps:
            if len(x) != len(self) or lr.shape != (len(self),):
                raise ValueError(
                    f"x and lr: need {len(self)} replicas along the first axis, got {len(x)} and {tuple(lr.shape)}"
                )
        self._prepare(*steps[0][:2])
        with self._resting(self._idle):
            if self.backend == "population":
                return torch.stack([self._together(*step) for step in steps])
            losses = torch.stack([self._alone(index, steps) for index in range(len(self))], 1)
            self.steps += len(steps)
            return losses

    def _together(self, x: Tensor, y: Tensor, lr: Tensor) -> Tensor:
        found, losses = self._gradients(self.parameters, self._constants, x, y)
        self._descend(self._clipped(self._flatten(found)), lr)
        detached: Tensor = losses.detach()
        return detached

    def _alone(self, index: int, steps: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        one, losses = self._modules[index], []
        leaves = [p for part in one.leaves.values() for p in part]
        for count, (x, y, lr) in enumerate(steps, self.steps + 1):
            loss = cross_entropy(self._call(one.module, x[index]), y[index])
            # zero where the loss does not depend on a parameter, as a mapped gradient
            found = iter(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))
            for part, of in one.leaves.items():
                torch.cat([next(found).flatten() for _ in of], out=self._slopes[part][0])
            self._update.step(one.flat, self._clipped(self._slopes), one.state, lr[index : index + 1], count)
            losses.append(loss.detach())
        return torch.stack(losses)

    def _clipped(self, slopes: Parameters) -> Parameters:
        if self._clip_norm is None:
            return slopes
        squares = [g.reshape(len(g), -1).square().sum(1) for g in self._views(slopes).values()]
        norms = torch.stack(squares).sum(0).sqrt()
        scale = (self._clip_norm / (norms + 1e-6)).clamp(max=1.0)
        return {part: g * per_replica(scale, g) for part, g in slopes.items()}

    def fit(
        self, batches: Callable[[int], tuple[Tensor, Tensor]], lr: Tensor, *, description: str = "training"
    ) -> Tensor:
        """Train through a whole table of learning rates.

        Parameters
        ----------
        batches : Batches or callable(step) -> (x, y)
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
        losses, waiting = [], []
        for t in track(range(len(table)), description):
            x, y = batches(t)
            self._prepare(x, y)
            waiting.append((x, y, table[t]))
            enough = 1 if self.backend == "population" else min(BLOCK, BLOCK_BYTES // x.nbytes)
            if len(waiting) >= enough or t == len(table) - 1:
                losses.append(self._advance(waiting))
                waiting = []
        return torch.cat(losses)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Outputs of every replica on the same inputs: x of shape (N, …), result of shape (R, N, …, C)."""
        if self._modules:
            return torch.stack([self._call(one.module, x) for one in self._modules])
        if self._stacked is not None:
            return self._stacked(self.parameters, x.expand(len(self), *x.shape))
        outputs: Tensor = self._forward(self.parameters, self._constants, x)
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
        self._fill(model, index)
        return model

    def _settings(self) -> dict[str, Any]:
        return {"seeds": list(self.seeds), "clip_norm": self._clip_norm}


class _Module(NamedTuple):
    """An ordinary module that is one replica, and its rows of what the optimiser works on."""

    module: nn.Module
    leaves: dict[str, list[nn.Parameter]]
    flat: Parameters
    state: State


def _rows(flat: Parameters, row: slice) -> Parameters:
    return {part: p[row] for part, p in flat.items()}


def _written(
    stacked: Stacked, parameters: Parameters, constants: Parameters, x: Tensor, y: Tensor
) -> tuple[Parameters, Tensor]:
    """Gradients and losses of all replicas from their forward pass in one."""
    del constants

    def losses(parameters: Parameters) -> Tensor:
        logits = stacked(parameters, x)
        each = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1), reduction="none")
        return each.view(len(x), -1).mean(1)

    return gradients(losses, parameters)

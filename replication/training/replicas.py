"""What every trainer of replicas shares: initial weights, gradients, the optimiser and its state, checkpoints."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from replication.atomic import replacing
from replication.training.optimizers import SGD, AdamW, Optimizer, Parameters
from replication.training.seeding import distinct, seeded


class Stack(NamedTuple):
    """The models of R replicas."""

    skeleton: nn.Module
    """A model to call with a replica's parameters and constants; its own are of no meaning."""
    parameters: Parameters
    """What is trained, each of shape (R, …)."""
    constants: Parameters
    """Frozen parameters (``requires_grad=False``) and buffers that are not the same in all models, shape (R, …)."""


def built(build: Callable[[], nn.Module], seeds: Sequence[int]) -> dict[int, nn.Module]:
    """Build one model per distinct seed, each under its own seed and with torch's default generator.

    Raises
    ------
    ValueError
        If there is no seed, one is no integer of at least 0, nothing of the model is trained, or what is trained is not
        of one floating-point type, or has no values.
    """
    models: dict[int, nn.Module] = {}
    for seed in distinct(seeds):
        with seeded(seed):
            models[seed] = build()
    trained = _trained(models[int(seeds[0])])
    if not trained:
        raise ValueError("build: the model has no parameter with requires_grad=True, so nothing can be trained")
    kinds = {p.device.type if p.is_meta else str(p.dtype): name for name, p in trained.items()}
    # they are laid side by side, and the optimisers square a gradient where torch's take its modulus
    if len(kinds) > 1 or not all(p.is_floating_point() and not p.is_meta for p in trained.values()):
        got = ", ".join(f"{name} ({kind})" for kind, name in kinds.items())
        raise ValueError(f"build: all parameters must have values of one floating-point type, got {got}")
    return models


def initial(models: dict[int, nn.Module], seeds: Sequence[int]) -> Parameters:
    """What is trained of every replica's model, each of shape (R, …)."""
    return _stacked({seed: _trained(model) for seed, model in models.items()}, seeds)


def _trained(model: nn.Module) -> Parameters:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _stacked(named: dict[int, Parameters], seeds: Sequence[int]) -> Parameters:
    return {name: torch.stack([named[int(seed)][name].detach() for seed in seeds]) for name in named[int(seeds[0])]}


def stack(build: Callable[[], nn.Module], seeds: Sequence[int], device: str | torch.device = "cpu") -> Stack:
    """Build one model per distinct seed and stack their parameters.

    Parameters
    ----------
    build : callable() -> Module
        Builds one model with torch's default generator; called once per distinct seed, under that seed.
    seeds : sequence of int, length R
        Seed of every replica. Replicas with the same seed start from the same weights.
    device : str or torch.device
        Where the parameters live.

    Raises
    ------
    ValueError
        As `built` says.
    """
    models = built(build, seeds)
    skeleton = models[int(seeds[0])]
    fixed = {
        seed: {n: p for n, p in model.named_parameters() if not p.requires_grad} | dict(model.named_buffers())
        for seed, model in models.items()
    }
    differs = [
        n for n, of in fixed[int(seeds[0])].items() if not all(torch.equal(own[n], of) for own in fixed.values())
    ]
    own = {seed: {name: named[name] for name in differs} for seed, named in fixed.items()}
    parameters, constants = (
        {name: p.to(device) for name, p in found.items()} for found in (initial(models, seeds), _stacked(own, seeds))
    )
    return Stack(skeleton.to(device), parameters, constants)


def check_function(model: nn.Module, forward: Callable[[nn.Module], object]) -> None:
    """Refuse a model whose forward pass is more than a function of its parameters and its input.

    Parameters
    ----------
    model : Module
        A copy of it is called.
    forward : callable(Module)
        Calls the copy as training will.

    Raises
    ------
    ValueError
        If it draws random numbers (dropout), or changes a buffer (the statistics of batch norm): a replica would not
        compute what it computes alone, nor the same again.
    """
    model = copy.deepcopy(model)
    held = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = sorted({p.get_device() for p in model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        before = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]
        forward(model)
        after = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)]
    if not all(map(torch.equal, before, after)):
        raise ValueError(
            "build: the model draws random numbers in its forward pass; set the probability of its dropout to 0"
        )
    changed = [name for name, buffer in model.named_buffers() if not torch.equal(buffer, held[name])]
    if changed:
        raise ValueError(
            f"build: the model changes its buffer {changed[0]} in its forward pass, as batch norm does; "
            "use GroupNorm or LayerNorm"
        )


def gradients(
    losses: Callable[[Parameters], Tensor], parameters: Parameters, idle: set[str] | None = None
) -> tuple[Parameters, Tensor]:
    """Return every replica's gradient, and the losses, from the losses (R,) of all replicas as one function.

    With ``idle``, the names of the parameters that the losses do not depend on go into it; their gradients are zero.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    values = losses(leaves)
    # replicas share no parameter: the gradient of the sum of their losses holds each one's own
    found = torch.autograd.grad(values.sum(), list(leaves.values()), allow_unused=idle is not None)
    if idle is not None:
        idle |= {name for name, g in zip(leaves, found, strict=True) if g is None}
    slopes = {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(leaves.items(), found, strict=True)}
    return slopes, values.detach()


class Replicas:
    """R replicas of one network, their optimiser and its state, kept in one file.

    The parameters lie side by side in at most two tensors of shape (R, n), those that decay and those that do not, so
    that an optimiser's step is a few operations however many layers there are.

    Parameters
    ----------
    parameters : dict of str to Tensor, shape (R, …)
        Stacked parameters, copied.
    optimizer : Optimizer
        The update rule, shared by all replicas.

    Attributes
    ----------
    parameters : dict of str to Tensor, shape (R, …)
        Views of what is trained, in place.
    steps : int
        Optimiser steps done.
    """

    def __init__(self, parameters: Parameters, optimizer: Optimizer) -> None:
        self.steps = 0
        self._optimizer = self._update = optimizer
        self._shapes = {name: p.shape[1:] for name, p in parameters.items()}
        decayed = list(parameters)
        if isinstance(optimizer, SGD | AdamW):
            decayed = [name for name, shape in self._shapes.items() if optimizer.decays(name, len(shape))]
            self._update = replace(optimizer, decays=lambda part, _: part == "decayed")
        rest = [name for name in parameters if name not in decayed]
        self._names = {part: names for part, names in (("decayed", decayed), ("rest", rest)) if names}
        self._flat = self._flatten(parameters)
        self._state = self._update.init(self._flat)
        self.parameters = self._views(self._flat)

    def __len__(self) -> int:
        return len(next(iter(self._flat.values())))

    def _flatten(self, named: Parameters) -> Parameters:
        """Lay named tensors of shape (R, …) side by side."""
        return {
            part: torch.cat([named[name].reshape(len(named[name]), -1) for name in names], 1)
            for part, names in self._names.items()
        }

    def _views(self, flat: Parameters) -> Parameters:
        """Name what `_flatten` laid side by side, without a copy."""
        found = {}
        for part, names in self._names.items():
            widths = [self._shapes[name].numel() for name in names]
            for name, columns in zip(names, torch.split(flat[part], widths, 1), strict=True):
                found[name] = columns.view(-1, *self._shapes[name])
        return {name: found[name] for name in self._shapes}

    def _descend(self, slopes: Parameters, lr: Tensor) -> None:
        """Take an optimiser's step down these gradients, laid side by side; ``lr`` has shape (R,)."""
        self.steps += 1
        self._update.step(self._flat, slopes, self._state, lr, self.steps)

    @contextmanager
    def _resting(self, idle: Iterable[str]) -> Iterator[None]:
        """Put parameters back after the block: what the loss does not depend on stays, as in `torch.optim`."""
        held = {name: self.parameters[name].clone() for name in idle}
        yield
        # their gradient is zero, but weight decay has moved them
        for name, p in held.items():
            self.parameters[name].copy_(p)

    def checkpoint(self, path: Path) -> None:
        """Save the whole state, by one rename: a safetensors file that carries counters and settings in its header."""
        tensors, state = self._more()
        tensors = self._tensors() | tensors
        whole = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        # settings may be numbers of NumPy's
        header = json.dumps(
            {"settings": self._all_settings(), "step": self.steps, **state}, default=lambda number: number.item()
        )
        with replacing(path) as temporary:
            save_file(whole, temporary, metadata={"state": header})

    def resume(self, path: Path) -> None:
        """Take over a state that `checkpoint` saved; on a CPU, training goes on bit for bit as if never interrupted.

        Raises
        ------
        ValueError
            The file is none that a trainer saved, or of a trainer with other settings; the message names the first that
            differs.
        """
        device = next(iter(self._flat.values())).device
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if "state" not in header:
                raise ValueError(f"path: must be a state that a trainer saved, got {path}, which holds none")
            state = json.loads(header["state"])
            tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118
        for name, ours in self._all_settings().items():
            if (theirs := state["settings"].get(name)) != ours:
                raise ValueError(f"path: {path} was saved with {name} = {theirs}, this trainer has {ours}")
        for name, tensor in self._tensors().items():
            tensor.copy_(tensors[name])
        self.steps = state["step"]
        self._restore(tensors, state)

    def _parts(self) -> dict[str, Parameters]:
        """All tensors of shape (R, …) that training changes, by part and by the parameter's name."""
        return {"parameters": self.parameters, **{moment: self._views(of) for moment, of in self._state.items()}}

    def _tensors(self) -> dict[str, Tensor]:
        return {f"{part}/{name}": p for part, of in self._parts().items() for name, p in of.items()}

    def _all_settings(self) -> dict[str, Any]:
        shapes = {name: [len(self), *shape] for name, shape in self._shapes.items()}
        decayed = self._names.get("decayed", [])
        return {**self._settings(), "optimizer": repr(self._optimizer), "decayed": decayed, "shapes": shapes}

    def _settings(self) -> dict[str, Any]:
        """What must agree for a state to be taken over, as JSON keeps it."""
        return {}

    def _more(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Further tensors and JSON of the state."""
        return {}, {}

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Take over what `_more` gave."""

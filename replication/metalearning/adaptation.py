"""Adaptation, and the gradients of both objectives, for any model that is a function of its parameters.

The risk of task γ is R(θ; γ). Domain randomised search (DRS) minimises E R(θ; γ) and leaves adaptation to the test.
MAML (Finn et al. 2017) minimises the risk after an inner step, E R(θ − α ∇R(θ; γ); γ), the step taken on one half of a
task's data and judged on the other. FOMAML leaves out the inner step's Hessian. Written with ``torch.func`` they read
like that; `replication.metalearning.sinusoid` holds a faster program for one network.

Second derivatives of torch's fused normalisations are silently wrong under ``vmap`` (layer norm with a scale, batch
and instance norm; measured with torch 2.13: up to a percent of the meta-gradient), so is that of an embedding with a
padding index, those of weight norm are wrong without it too, and fused attention has none. While a model is called
here, these are computed from their formulas, by operations whose derivatives are right. The same operations called by
their inner names (``torch.native_layer_norm``) are refused. Tests hold every kind of layer equal to finite differences
in float64, and to ordinary automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from replication.checks import whole

Parameters = dict[str, Tensor]
Data = tuple[Tensor, Any]
"""Inputs, and targets: a tensor, or tensors in tuples and dicts."""
Model = Callable[[Parameters, Tensor], Tensor]
Loss = Callable[[Tensor, Any], Tensor]


class MetaGradient(NamedTuple):
    """The gradient of an objective, and its value."""

    gradients: Parameters
    loss: Tensor
    """Mean over the tasks, shape ()."""


def adapt(
    model: Model, parameters: Parameters, loss: Loss, data: Data, rate: float | Tensor, steps: int = 1
) -> Parameters:
    """Take gradient steps on one task's data.

    The result is a differentiable function of the parameters; the given ones are not changed.

    Parameters
    ----------
    model : callable(parameters, inputs) -> outputs
        For a module ``functools.partial(torch.func.functional_call, module)``. It must not draw random numbers or keep
        running statistics: dropout and batch norm in evaluation mode, or batch norm with
        ``track_running_stats=False``, where it normalises by the task's own examples. Recurrent layers of
        ``torch.nn``, and spectral norm in training mode, do not work under ``vmap`` and are refused.
    parameters : dict of str to Tensor
        For a module ``dict(module.named_parameters())``.
    loss : callable(outputs, targets) -> Tensor, shape ()
        The task's risk on these data.
    data : (inputs, targets)
        Of one task.
    rate : float or Tensor, shape ()
        Inner rate α ≥ 0; the value of a tensor is not checked.
    steps : int
        Number of steps; 0 leaves the parameters as they are.

    Returns
    -------
    dict of str to Tensor
        θ − α ∇R(θ), repeated.

    Raises
    ------
    ValueError
        If the rate is negative, the steps are no integer of at least 0, or the model has dropout or would change
        running statistics.

    Examples
    --------
    >>> from functools import partial
    >>> import torch
    >>> from torch.func import functional_call
    >>> from torch.nn.functional import mse_loss
    >>> module = torch.nn.Linear(3, 1)
    >>> model, parameters = partial(functional_call, module), dict(module.named_parameters())
    >>> x, y = torch.ones(5, 3), torch.zeros(5, 1)
    >>> adapted = adapt(model, parameters, mse_loss, (x, y), rate=0.1, steps=20)
    >>> bool(mse_loss(model(adapted, x), y) < 1e-6)
    True
    """
    if not isinstance(rate, Tensor) and not rate >= 0:
        raise ValueError(f"rate: must not be negative, got {rate}")
    for _ in range(whole("steps", steps, 0)):
        slope = grad(_risk)(parameters, model, loss, data)
        parameters = {name: p - rate * slope[name] for name, p in parameters.items()}
    return parameters


def drs_gradient(model: Model, parameters: Parameters, loss: Loss, data: Data) -> MetaGradient:
    """Gradient of the mean risk over tasks, without adaptation.

    Parameters
    ----------
    model, parameters, loss
        As `adapt` takes them.
    data : (inputs, targets)
        Stacked over tasks: every tensor has shape (T, …).

    Returns
    -------
    MetaGradient
        Of F_drs(θ) = mean R(θ; γ).
    """
    _count(data=data)

    def objective(p: Parameters) -> Tensor:
        risks: Tensor = vmap(lambda d: _risk(p, model, loss, d))(data)
        return risks.mean()

    return MetaGradient(*grad_and_value(objective)(parameters))


def maml_gradient(
    model: Model, parameters: Parameters, loss: Loss, inner: Data, outer: Data, rate: float | Tensor, steps: int = 1
) -> MetaGradient:
    """Gradient of the mean risk after adaptation, through the inner steps.

    Parameters
    ----------
    model, parameters, loss, rate, steps
        As `adapt` takes them.
    inner, outer : (inputs, targets)
        Data of the inner steps and of the objective, stacked over the same tasks: every tensor has shape (T, …).

    Returns
    -------
    MetaGradient
        Of F_maml(θ) = mean R(θ − α ∇R(θ; inner); outer).

    Raises
    ------
    ValueError
        If the numbers of tasks differ, a tensor is sparse, or an argument of `adapt` is refused.
    """
    _count(inner=inner, outer=outer)

    def objective(p: Parameters) -> Tensor:
        def risk(first: Data, second: Data) -> Tensor:
            return _risk(adapt(model, p, loss, first, rate, steps), model, loss, second)

        risks: Tensor = vmap(risk)(inner, outer)
        return risks.mean()

    return MetaGradient(*grad_and_value(objective)(parameters))


def fomaml_gradient(
    model: Model, parameters: Parameters, loss: Loss, inner: Data, outer: Data, rate: float | Tensor, steps: int = 1
) -> MetaGradient:
    """First-order MAML: the mean of the gradients at the adapted parameters, the inner steps' Hessians left out.

    Parameters, Returns and Raises as `maml_gradient`; the gradient is not that of the returned loss.
    """
    _count(inner=inner, outer=outer)

    def one(first: Data, second: Data) -> tuple[Parameters, Tensor]:
        adapted = adapt(model, parameters, loss, first, rate, steps)
        found: tuple[Parameters, Tensor] = grad_and_value(_risk)(adapted, model, loss, second)
        return found

    gradients, risks = vmap(one)(inner, outer)
    return MetaGradient({name: g.mean(0) for name, g in gradients.items()}, risks.mean())


def _risk(parameters: Parameters, model: Model, loss: Loss, data: Data) -> Tensor:
    inputs, targets = data
    state = torch.get_rng_state()
    # fused attention cannot be differentiated twice
    with _Plain(), sdpa_kernel(SDPBackend.MATH):
        risk = loss(model(parameters, inputs), targets)
    # of another random layer than `_Plain` knows, or inside of attention
    if not torch.equal(state, torch.get_rng_state()):
        raise ValueError(_RANDOM.format("a model that did"))
    return risk


_RANDOM = "model: must not draw random numbers, got {}; put it into evaluation mode"
_STATISTICS = (
    "model: a normalisation changes its running statistics in the forward pass; set track_running_stats=False, or put "
    "it into evaluation mode"
)


class _Plain(TorchFunctionMode):
    """Computes normalisations from their formulas."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        if plain := _PLAIN.get(func):
            return plain(*args, **kwargs)
        name = getattr(func, "__name__", "").partition(".")[0]
        if name.endswith("dropout") and kwargs.get("training") and kwargs.get("p"):
            raise ValueError(_RANDOM.format(f"{name} in training mode"))
        if name in _WRONG:
            raise ValueError(
                f"model: the second derivative of torch's {name} is wrong under vmap; call {_WRONG[name]}, which is "
                "computed from its formula"
            )
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            if name in _RECURRENT:
                raise ValueError(
                    f"model: torch's recurrent layers do not work under vmap, got {name}; write the recurrence out"
                ) from error
            if name == "add_" and "in-place" in str(error):  # the number of batches of batch norm
                raise ValueError(_STATISTICS) from error
            raise


def _normalised(x: Tensor, axes: list[int], eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps)


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    return _scaled(_normalised(input, list(range(-len(normalized_shape), 0)), eps), weight, bias)


def _channels(input: Tensor, values: Tensor) -> Tensor:
    return values.view(-1, *[1] * (input.ndim - 2))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    axes: tuple[int, ...] = (0,),
) -> Tensor:
    del momentum
    if training and running_mean is not None:
        raise ValueError(_STATISTICS)
    if running_mean is None or running_var is None:
        found = _normalised(input, [*axes, *range(2, input.ndim)], eps)
    else:
        found = (input - _channels(input, running_mean)) * torch.rsqrt(_channels(input, running_var) + eps)
    return _scaled(found, *(None if of is None else _channels(input, of) for of in (weight, bias)))


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    # as batch norm, over the places of each example
    return _batch_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps, axes=())


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    axes = [axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim]
    return v * (g * torch.rsqrt(v.square().sum(axes, keepdim=True)))


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    del norm_type
    if max_norm is not None or scale_grad_by_freq or sparse:
        given = {"max_norm": max_norm, "scale_grad_by_freq": scale_grad_by_freq, "sparse": sparse}
        raise ValueError(f"model: an embedding must leave {', '.join(given)} at their defaults, got {given}")
    if padding_idx is not None:  # this row has no gradient
        row = torch.arange(len(weight), device=weight.device)[:, None] == padding_idx % len(weight)
        weight = torch.where(row, weight.detach(), weight)
    return F.embedding(input, weight)


_PLAIN: dict[Any, Callable[..., Tensor]] = {
    F.embedding: _embedding,
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    torch._weight_norm: _weight_norm,
}
_WRONG = {
    "layer_norm": "torch.nn.functional.layer_norm",
    "native_layer_norm": "torch.nn.functional.layer_norm",
    "batch_norm": "torch.nn.functional.batch_norm",
    "native_batch_norm": "torch.nn.functional.batch_norm",
    "instance_norm": "torch.nn.functional.instance_norm",
    "embedding": "torch.nn.functional.embedding",
    "_weight_norm": "torch.nn.utils.parametrizations.weight_norm",
    "_weight_norm_interface": "torch.nn.utils.parametrizations.weight_norm",
}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}


def _count(**halves: Data) -> None:
    """Refuse data that are not of the same tasks, or sparse, which `vmap` cannot take apart."""
    for name, data in halves.items():
        for t in pytree.tree_leaves(data):
            if isinstance(t, Tensor) and t.layout != torch.strided:
                raise ValueError(f"{name}: every tensor must be dense, got {t.layout}; call to_dense()")
    counts = {
        name: sorted({t.shape[0] if t.ndim else 0 for t in pytree.tree_leaves(data) if isinstance(t, Tensor)})
        for name, data in halves.items()
    }
    if any(len(found) != 1 or not found[0] for found in counts.values()) or len({*map(tuple, counts.values())}) > 1:
        got = ", ".join(f"{name}: {' and '.join(map(str, found)) or 'no tensor'}" for name, found in counts.items())
        raise ValueError(
            f"{' and '.join(halves)}: every tensor needs the same number of tasks as its first axis, got {got}"
        )

"""Networks with every kind of layer that people train, for the tests of what differentiates them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Lookup(nn.Module):
    """An embedding of what is computed from the inputs."""

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 6, **options)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.table((10 * x.detach().abs()).long() % 4).mean(-2)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.LSTM(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 6), nn.Linear(6, 6)
        self.down.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(x)))


class Calls(nn.Module):
    """A function of torch's, of the inputs and the scales of a norm over the last axis."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.scales = function, nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.scales)


def dense(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), layer, nn.Tanh(), nn.Linear(6, 1))


def conv(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), layer, nn.Tanh(), nn.Flatten(), nn.Linear(100, 1))


def tokens(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), layer, nn.Flatten(), nn.Linear(18, 1))


LAYERS = {
    **{
        f"{name}": lambda name=name: dense(getattr(nn, name)())
        for name in (
            "ELU",
            "GELU",
            "Hardswish",
            "LeakyReLU",
            "Mish",
            "PReLU",
            "ReLU",
            "SELU",
            "Sigmoid",
            "SiLU",
            "Softplus",
        )
    },
    "Softmax": lambda: dense(nn.Softmax(-1)),
    "LayerNorm": lambda: dense(nn.LayerNorm(6)),
    "LayerNorm without scale": lambda: dense(nn.LayerNorm(6, elementwise_affine=False)),
    "LayerNorm of two axes": lambda: conv(nn.LayerNorm((5, 5))),
    "LayerNorm without bias": lambda: dense(nn.LayerNorm(6, bias=False, eps=0.1)),
    "RMSNorm": lambda: dense(nn.RMSNorm(6)),
    "GroupNorm": lambda: conv(nn.GroupNorm(2, 4)),
    "InstanceNorm2d": lambda: conv(nn.InstanceNorm2d(4)),
    "InstanceNorm2d with scale": lambda: conv(nn.InstanceNorm2d(4, affine=True)),
    "BatchNorm1d of the task": lambda: dense(nn.BatchNorm1d(6, track_running_stats=False)),
    "BatchNorm2d of the task": lambda: conv(nn.BatchNorm2d(4, track_running_stats=False)),
    "BatchNorm1d, evaluation": lambda: dense(nn.BatchNorm1d(6)).eval(),
    "BatchNorm2d, evaluation": lambda: conv(nn.BatchNorm2d(4, affine=False)).eval(),
    "LocalResponseNorm": lambda: conv(nn.LocalResponseNorm(2)),
    "weight norm": lambda: dense(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))),
    "weight norm of all": lambda: dense(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6), dim=None)),
    "ConvTranspose2d": lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(147, 1)),
    "MaxPool2d": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 1)),
    "AvgPool2d": lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 1)),
    "Conv2d in groups": lambda: conv(nn.Conv2d(4, 4, 3, padding=1, groups=2)),
    "Embedding": lambda: dense(Lookup()),
    "Embedding with padding": lambda: dense(Lookup(padding_idx=1)),
    "tied weights": lambda: dense(Tied()),
    "spectral norm, evaluation": lambda: dense(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))).eval(),
    "torch.layer_norm": lambda: dense(Calls(lambda x, s: torch.layer_norm(x, (6,), s))),
    "attention called": lambda: tokens(Calls(lambda x, s: F.scaled_dot_product_attention(x * s, x, x))),
    "attention": lambda: tokens(Attention()),
    "encoder layer": lambda: tokens(nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)),
}


def shape_of(name: str, network: nn.Module) -> tuple[int, ...]:
    """The shape of an example that such a network takes."""
    if "attention" in name or "encoder" in name:
        return (3, 6)
    first = next(module for module in network.modules() if not isinstance(module, nn.Sequential))
    return (6,) if isinstance(first, nn.Linear) else (2, 5, 5)

"""Small models that train in seconds on a CPU, alone or as a population."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Sequential):
    """A perceptron with ReLU between its layers; inputs are flattened.

    Parameters
    ----------
    sizes : sequence of int
        Layer sizes from input to output, at least two.

    Examples
    --------
    >>> MLP([64, 128, 10])(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        if len(sizes) < 2:
            raise ValueError(f"sizes: need at least an input and an output size, got {list(sizes)}")
        layers: list[nn.Module] = [nn.Flatten()]
        for i, o in itertools.pairwise(sizes):
            layers += [nn.Linear(i, o), nn.ReLU()]
        super().__init__(*layers[:-1])


class _Block(nn.Module):
    """Two 3 × 3 convolutions with group norm and a shortcut (He et al. 2016, basic block)."""

    def __init__(self, channels: int, out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, out)
        self.shortcut = (
            nn.Identity() if stride == 1 and channels == out else nn.Conv2d(channels, out, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class ResNet8(nn.Module):
    """The 8-layer residual network of the CIFAR family (6n + 2 layers, n = 1), with group norm for batch norm.

    Batch norm couples the examples of a batch and carries running statistics; group norm does neither, so that a
    replica in a population computes what it computes alone.

    Parameters
    ----------
    channels : int
        Input channels.
    classes : int
        Output classes.
    width : int
        Channels of the first stage; the next two have twice and four times as many. The usual CIFAR width is 16.
    groups : int
        Groups of every group norm; must divide ``width``.

    Examples
    --------
    >>> ResNet8(1, 10, width=8)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, channels: int, classes: int, *, width: int = 16, groups: int = 2) -> None:
        super().__init__()
        if width % groups:
            raise ValueError(f"groups: must divide width, got groups={groups} and width={width}")
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(groups, width)
        self.stages = nn.Sequential(
            _Block(width, width, 1, groups),
            _Block(width, 2 * width, 2, groups),
            _Block(2 * width, 4 * width, 2, groups),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to logits (B, classes)."""
        x = self.stages(F.relu(self.norm(self.stem(x))))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class _Attention(nn.Module):
    """Causal self-attention, written as two matrix products so that it batches over replicas under vmap."""

    mask: Tensor

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.register_buffer("mask", torch.full((context, context), -math.inf).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) / math.sqrt(d // self.heads) + self.mask[:t, :t]
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d)
        projected: Tensor = self.out(mixed)
        return projected


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = _Attention(width, heads, context)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ByteTransformer(nn.Module):
    """A decoder-only transformer over bytes, pre-norm, with tied embeddings; about 0.2 M parameters by default.

    Parameters
    ----------
    width, layers, heads : int
        Model width, number of layers, attention heads; ``heads`` must divide ``width``.
    context : int
        Longest sequence, in bytes.

    Examples
    --------
    >>> ByteTransformer()(torch.zeros(2, 16, dtype=torch.long)).shape
    torch.Size([2, 16, 256])
    >>> count_parameters(ByteTransformer())
    219520
    """

    def __init__(self, width: int = 64, layers: int = 4, heads: int = 4, context: int = 64) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: must divide width, got heads={heads} and width={width}")
        self.tokens = nn.Embedding(256, width)
        self.positions = nn.Embedding(context, width)
        self.layers = nn.Sequential(*[_Layer(width, heads, context) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        # GPT-2's initialisation: normal 0.02 at width 768, here scaled to the width so that the logits start at the
        # same scale; the projections into the residual stream are smaller by sqrt(2 · layers)
        std = 0.02 * math.sqrt(768 / width)
        for name, p in self.named_parameters():
            if p.ndim >= 2:
                residual = name.endswith(("attention.out.weight", "mlp.2.weight"))
                nn.init.normal_(p, std=std / math.sqrt(2 * layers) if residual else std)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, x: Tensor) -> Tensor:
        """Map bytes (B, T) int64 to next-byte logits (B, T, 256)."""
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        logits: Tensor = self.norm(self.layers(h)) @ self.tokens.weight.T
        return logits


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters of one model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

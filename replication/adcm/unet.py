"""A small U-Net for images, trained alone or as a population of replicas in one program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES: Final = 4


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) with residual blocks, group norm, SiLU and an embedding of the noise level.

    One residual block per level on the way down and one on the way up, two at the lowest resolution; the skip
    connections are added, not concatenated, which halves the work of the blocks behind them; the norms have no scale of
    their own, since the embedding's follows. There is no dropout (the paper trains with 0.3) and no attention: the
    network is meant to be small. The last convolution of every block and of the network starts at zero, so that an
    untrained network is F = 0.

    Parameters
    ----------
    channels : int
        Channels of the images.
    widths : sequence of int
        Channels of every level, from the finest to the coarsest; each level halves the resolution of the one before.
    patch : int
        The finest level works on patches of ``patch`` × ``patch`` pixels (space to depth), 1 for pixels.
    groups : int
        Groups of every group norm; must divide every width.

    Raises
    ------
    ValueError
        If a size is not positive, or ``groups`` does not divide a width.

    Examples
    --------
    >>> network = UNet(1, [8, 16], patch=2)
    >>> network(torch.zeros(5, 1, 8, 8), torch.zeros(5)).shape
    torch.Size([5, 1, 8, 8])
    """

    def __init__(self, channels: int, widths: Sequence[int], *, patch: int = 1, groups: int = 4) -> None:
        super().__init__()
        if not widths or min(channels, patch, groups, *widths) < 1:
            raise ValueError(
                "channels, widths, patch and groups: must be positive, got "
                f"{channels}, {list(widths)}, {patch} and {groups}"
            )
        if bad := [width for width in widths if width % groups]:
            raise ValueError(f"groups: must divide every width, got groups={groups} and the width {bad[0]}")
        self.channels, self.patch, self.groups, self.levels = channels, patch, groups, len(widths)
        inside, embedding = channels * patch**2, 4 * widths[0]
        self.embed1 = nn.Linear(1 + 2 * FREQUENCIES, embedding)
        self.embed2 = nn.Linear(embedding, embedding)
        self.stem = nn.Conv2d(inside, widths[0], 3, padding=1)
        self.downs = nn.ModuleList(_Block(width, embedding) for width in widths)
        self.ups = nn.ModuleList(_Block(width, embedding) for width in widths)
        self.coarser = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))
        self.finer = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(widths))
        self.head = nn.Conv2d(widths[0], inside, 3, padding=1)
        _silence(self.head)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Map images (n, C, H, W) and their noise levels (n,) to F of the images' shape."""
        named = {name: parameter[None] for name, parameter in self.named_parameters()}
        return self.stacked(named, x[None], c_noise[None])[0]

    def stacked(self, parameters: Mapping[str, Tensor], x: Tensor, c_noise: Tensor) -> Tensor:
        """Run R replicas at once: their convolutions are the groups of one grouped convolution.

        Parameters
        ----------
        parameters : mapping of str to Tensor, shape (R, …)
            Stacked parameters, by the names of ``named_parameters``.
        x : Tensor, shape (R, n, C, H, W)
            Inputs c_in x; H and W must be multiples of ``patch`` · 2^(levels − 1).
        c_noise : Tensor, shape (R, n)
            Noise levels as the schedule encodes them.

        Returns
        -------
        Tensor, shape (R, n, C, H, W)
            F(c_in x, c_noise) of every replica.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        multiple = self.patch * 2 ** (self.levels - 1)
        if x.ndim != 5 or x.shape[2] != self.channels or x.shape[3] % multiple or x.shape[4] % multiple:
            raise ValueError(
                f"x: need images of {self.channels} channel(s) with sides that are multiples of {multiple} behind the "
                f"axis of the samples, got {tuple(x.shape[1:])}"
            )
        if c_noise.shape != x.shape[:2]:
            raise ValueError(f"c_noise: need one value per image, {tuple(x.shape[:2])}, got {tuple(c_noise.shape)}")
        run = _Stacked(parameters, len(x), self.groups)
        h = F.pixel_unshuffle(x, self.patch).transpose(0, 1).flatten(1, 2)
        e = F.silu(run.linear("embed2", F.silu(run.linear("embed1", _features(c_noise)))))
        h = run.conv("stem", h)
        skips = []
        for level in range(self.levels):
            if level:
                # the mean of 2 × 2 before the convolution: a quarter of a full convolution's work, no aliasing
                h = run.conv(f"coarser.{level - 1}", F.avg_pool2d(h, 2))
            h = run.block(f"downs.{level}", h, e)
            skips.append(h)
        for level in reversed(range(self.levels)):
            if level < self.levels - 1:
                fine = run.conv(f"finer.{level}", h).repeat_interleave(2, 2).repeat_interleave(2, 3)
                h = (skips[level] + fine) * math.sqrt(0.5)
            h = run.block(f"ups.{level}", h, e)
        h = run.conv("head", F.silu(run.norm(h)))
        return F.pixel_shuffle(h.view(len(h), len(x), -1, *h.shape[2:]).transpose(0, 1), self.patch)


class _Block(nn.Module):
    """Parameters of a residual block; ``_Stacked.block`` computes it."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        _silence(self.conv2)


def _silence(layer: nn.Conv2d) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class _Stacked:
    """The layers for R replicas: images lie as (n, R·C, H, W), vectors as (R, n, d)."""

    def __init__(self, parameters: Mapping[str, Tensor], replicas: int, groups: int) -> None:
        self._p, self._replicas, self._groups = parameters, replicas, groups

    def linear(self, name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(self._p[f"{name}.bias"][:, None], x, self._p[f"{name}.weight"].mT)

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self._p[f"{name}.weight"].flatten(0, 1), self._p[f"{name}.bias"].flatten()
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=self._replicas)

    def norm(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self._replicas * self._groups)

    def block(self, name: str, x: Tensor, e: Tensor) -> Tensor:
        """Norm, SiLU, convolution; then again with a scale and a shift from the embedding; plus the input."""
        h = self.conv(f"{name}.conv1", F.silu(self.norm(x)))
        modulation = self.linear(f"{name}.modulation", e).transpose(0, 1).chunk(2, -1)
        scale, shift = (m.flatten(1)[..., None, None] for m in modulation)
        h = torch.addcmul(shift, self.norm(h), 1 + scale)
        return x + self.conv(f"{name}.conv2", F.silu(h))


def _features(c_noise: Tensor) -> Tensor:
    """The noise level, and sine and cosine of 1, 2, 4, … times it; slow ones only, for the network is derived by t."""
    angles = c_noise[..., None] * 2.0 ** torch.arange(FREQUENCIES, device=c_noise.device, dtype=c_noise.dtype)
    return torch.cat([c_noise[..., None], angles.sin(), angles.cos()], -1)

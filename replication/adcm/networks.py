"""A small network of points and times, for one model and for a whole population."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TimeMLP(nn.Module):
    """A perceptron F(x, c) with SiLU between its layers, which sees the time as c and the sine and cosine of 1, 2, 4 c.

    Parameters
    ----------
    dim : int
        Coordinates of a point.
    width, depth : int
        Hidden units of a layer, and number of hidden layers.

    Raises
    ------
    ValueError
        A size is not positive.

    Examples
    --------
    >>> TimeMLP(2, width=16)(torch.zeros(5, 2), torch.zeros(5)).shape
    torch.Size([5, 2])
    """

    def __init__(self, dim: int, width: int = 64, depth: int = 3) -> None:
        if min(dim, width, depth) < 1:
            raise ValueError(f"dim, width and depth: need at least 1 each, got {dim}, {width}, {depth}")
        super().__init__()
        sizes = [dim + 7, *[width] * depth, dim]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Map points (n, dim) and times (n,) to points (n, dim)."""
        return self.stacked({name: p[None] for name, p in self.named_parameters()}, x[None], c[None])[0]

    def stacked(self, parameters: dict[str, Tensor], x: Tensor, c: Tensor) -> Tensor:
        """The same for R replicas at once, one batched product a layer.

        Parameters
        ----------
        parameters : dict of str to Tensor, shape (R, …)
            Stacked parameters by their names in this module, whose own are not used.
        x, c : Tensor, shapes (R, n, dim) and (R, n)
            Points and times of every replica.

        Returns
        -------
        Tensor, shape (R, n, dim)
        """
        # doubled by addition: a product with a constant costs forward-mode differentiation a slow path
        twice = c + c
        angles = [c, twice, twice + twice]
        times = torch.stack([c, *map(torch.sin, angles), *map(torch.cos, angles)], -1)
        h = torch.cat([x, times], -1)
        for i in range(len(self.layers)):
            h = F.silu(h) if i else h
            h = torch.baddbmm(parameters[f"layers.{i}.bias"][:, None], h, parameters[f"layers.{i}.weight"].mT)
        return h

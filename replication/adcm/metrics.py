"""How far samples are from where they should be: from the exact map, and from the data's distribution."""

from __future__ import annotations

import torch
from torch import Tensor


def rmse(a: Tensor, b: Tensor, *, batch_dims: int = 1) -> Tensor:
    """Root of the mean squared distance of paired points, sqrt(E||a - b||^2).

    Parameters
    ----------
    a, b : Tensor, shape `(*replicas, n, *event)`
        Paired points.
    batch_dims : int
        Number of leading axes that are no part of a point.

    Returns
    -------
    Tensor, shape `(*replicas,)`

    Examples
    --------
    >>> rmse(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(2, 2)) ** 2
    tensor(12.5000)
    """
    return (a - b).flatten(batch_dims).square().sum(-1).mean(-1).sqrt()


def energy_distance(a: Tensor, b: Tensor) -> Tensor:
    """Energy distance 2 E||A - B|| - E||A - A'|| - E||B - B'|| (Szekely and Rizzo 2013), without bias.

    Pairs of a point with itself are left out, so that equal distributions score zero in expectation; an estimate may
    be negative.

    Parameters
    ----------
    a, b : Tensor, shapes (n, d) and (m, d)
        Samples, at least two each.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        There are fewer than two points, or they are no vectors.
    """
    _check_two(a, b)
    within = torch.pdist(a).mean() + torch.pdist(b).mean()
    return 2 * torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").mean() - within


def sliced_wasserstein(
    a: Tensor, b: Tensor, *, projections: int = 128, generator: torch.Generator | None = None
) -> Tensor:
    """Sliced 2-Wasserstein distance: root mean, over random directions, of the squared distance of sorted projections.

    Parameters
    ----------
    a, b : Tensor, shape (n, d)
        Samples of the same size.
    projections : int
        Directions, uniform on the sphere.
    generator : torch.Generator, optional
        Draws them.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        The samples have different shapes.
    """
    if a.shape != b.shape or a.dim() != 2:
        raise ValueError(f"a and b: need the same shape (n, d), got {tuple(a.shape)} and {tuple(b.shape)}")
    directions = torch.randn(a.shape[1], projections, generator=generator, dtype=a.dtype, device=a.device)
    directions = directions / torch.linalg.vector_norm(directions, dim=0)
    gaps: Tensor = (a @ directions).sort(0).values - (b @ directions).sort(0).values
    return gaps.square().mean().sqrt()


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of two normal distributions with the samples' means and covariances.

    ||m_a - m_b||^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)). On features of an Inception network this is the FID; on any
    other features it is not comparable with one, so name the features.

    Parameters
    ----------
    a, b : Tensor, shapes (n, d) and (m, d)
        Features, at least two samples each.

    Returns
    -------
    Tensor, float64, scalar

    Raises
    ------
    ValueError
        There are fewer than two samples, or they are no vectors.
    """
    _check_two(a, b)
    a, b = a.double(), b.double()
    # of one feature the covariance is a number
    first, second = (sample.T.cov().reshape(sample.shape[1], -1) for sample in (a, b))
    values, vectors = torch.linalg.eigh(first)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # tr (C_a C_b)^(1/2) is that of the symmetric C_a^(1/2) C_b C_a^(1/2)
    cross: Tensor = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return (a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross


def _check_two(a: Tensor, b: Tensor) -> None:
    for name, sample in (("a", a), ("b", b)):
        if sample.dim() != 2 or len(sample) < 2:
            raise ValueError(f"{name}: need at least two points, shape (n, d), got {tuple(sample.shape)}")

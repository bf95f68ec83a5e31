"""What image samples are judged by: features of a classifier of our own, and distances to the training images.

Distances in these features are Fréchet distances in a feature space that has its own name, never an FID: the FID's
Inception features mean nothing on 8 × 8 digits, and numbers in different feature spaces do not compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from replication.checks import within
from replication.training import SGD, Batches, Population, ResNet8, matrices_only


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Features of images in a trained classifier.

    Attributes
    ----------
    name : str
        What it is, to stand beside every distance that is measured in it.
    network : Module
        From images (n, C, H, W) to features (n, d).
    error : float
        Share of held-out images that the classifier gets wrong.
    """

    name: str
    network: nn.Module
    error: float

    @torch.no_grad()
    def __call__(self, images: Tensor, *, batch_size: int = 1024) -> Tensor:
        """Return features, shape (n, d), of images of shape (n, C, H, W)."""
        return torch.cat([self.network(part) for part in torch.split(images, batch_size)])


def classifier_features(
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    *,
    data: str,
    width: int = 8,
    steps: int = 150,
    batch_size: int = 32,
    lr: float = 0.1,
    seed: int = 0,
) -> FeatureSpace:
    """Train a ResNet-8 to classify and return its pooled features, the input of its last layer.

    Parameters
    ----------
    train, held_out : (images, labels)
        float32 (n, C, H, W) and int64 (n,); the held-out ones only measure the error.
    data : str
        Name of the data, for the name of the features.
    width : int
        Width of the first stage; there are 4 · width features.
    steps, batch_size, lr, seed
        Training by SGD with momentum 0.9 and a cosine of the learning rate down to zero.

    Returns
    -------
    FeatureSpace
        The features, with their name and the classifier's error.

    Raises
    ------
    ValueError
        There are fewer training images than a batch holds.
    """
    images, labels = train
    classes = int(labels.max()) + 1
    population = Population(
        lambda: ResNet8(images.shape[1], classes, width=width),
        [seed],
        SGD(momentum=0.9, weight_decay=5e-4, decays=matrices_only),
        images.device,
    )
    rates = lr * (1 + torch.cos(math.pi * torch.arange(steps)[:, None] / steps)) / 2
    population.fit(Batches(images, labels, [seed], batch_size, steps), rates, description="classifier's steps")
    error = float(population.evaluate(*held_out).error)
    network = population.replica(0).requires_grad_(False)
    network.head = nn.Identity()
    return FeatureSpace(f"ResNet-8 (width {width}) trained on {data}, {4 * width} pooled features", network, error)


def nearest_distance(images: Tensor, others: Tensor, *, batch_size: int = 1024) -> Tensor:
    """Euclidean distance in pixel space of every image to the nearest of the others.

    Parameters
    ----------
    images, others : Tensor, shapes (n, …) and (m, …)
        Images of the same size.
    batch_size : int
        Images that are compared at once.

    Returns
    -------
    Tensor, shape (n,)

    Raises
    ------
    ValueError
        There are no others, or the images have different sizes.

    Examples
    --------
    >>> nearest_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.zeros(1, 2))
    tensor([0., 5.])
    """
    if len(others) == 0 or images.shape[1:] != others.shape[1:]:
        raise ValueError(
            f"others: need at least one image of shape {tuple(images.shape[1:])}, got {tuple(others.shape)}"
        )
    flat = others.flatten(1)
    centre, exact = flat.mean(0), "donot_use_mm_for_euclid_dist"
    centred = flat - centre
    squares, found = centred.square().sum(1), []
    for part in torch.split(images.flatten(1), batch_size):
        # a product finds the few that can be nearest, 20 times as fast as differences do
        near = torch.addmm(squares, part - centre, centred.T, alpha=-2).topk(min(8, len(flat)), largest=False).indices
        # differences tell how far they are: a copy must be at distance 0, not at the root of a rounding error
        found.append(torch.cdist(part[:, None], flat[near], compute_mode=exact).amin((1, 2)))
    return torch.cat(found)


def memorised_share(samples: Tensor, held_out: Tensor, *, level: float = 0.01) -> float:
    """Share of samples that lie closer to a training image than all but a share ``level`` of real new images do.

    A model that has learned the distribution scores about ``level``, one that copies its training images scores 1. A
    sample that resembles nothing scores 0, so this detects copies, not quality.

    Parameters
    ----------
    samples, held_out : Tensor, shapes (n,) and (k,)
        Distances to the nearest training image (`nearest_distance`) of generated images, and of images of the same
        distribution that were held out of training.
    level : float
        In (0, 1).

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        ``level`` is outside (0, 1).

    Examples
    --------
    >>> memorised_share(torch.tensor([0.0, 0.1, 5.0, 7.0]), torch.linspace(1, 10, 100))
    0.5
    """
    within("level", level, "(0, 1)")
    return float((samples < held_out.quantile(level)).float().mean())

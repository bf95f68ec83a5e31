"""Mini-batches of replicas: shuffled epochs, images as stored bytes, random flips and shifts, all fixed by seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from replication.checks import whole
from replication.training.seeding import data_order, distinct, stream_seed


class Batches:
    """The mini-batch of every step for every replica, as `Population.fit` takes it.

    A replica's examples and their augmentation depend on its seed and the step, not on its company, the number of
    steps or the back end.

    Parameters
    ----------
    x : Tensor, shape (N, …)
        Examples: floats as they are; bytes of images, uint8 (N, C, H, W), which become float32 in [0, 1] batch by
        batch; or tokens, any integers, which become int64.
    y : Tensor, int64, shape (N,), optional
        Classes. Default: ``x`` holds windows of T + 1 tokens, and each token but the first is a target.
    seeds : sequence of int, length R
        Seed of every replica.
    batch_size, steps : int
        Examples of a batch, and number of batches; see `data_order`.
    flip : bool
        Mirror each image left to right with probability 1/2.
    shift : int
        Move each image by up to this many pixels in each direction, uniformly; what comes in is zero in ``x``.
    mean, std : Tensor, broadcast over (C, H, W), optional
        Subtracted from an image of bytes in [0, 1], and divided by.

    Raises
    ------
    ValueError
        If ``x`` is sparse or not finite, there are targets for another number of examples, the shift is negative, what
        is not an image is to be augmented, what is not bytes is to be standardised, or as for `data_order`.

    Examples
    --------
    >>> images, labels = torch.zeros(100, 3, 8, 8, dtype=torch.uint8), torch.zeros(100, dtype=torch.long)
    >>> x, y = Batches(images, labels, seeds=[0, 1], batch_size=16, steps=10, flip=True, shift=1)(9)
    >>> x.shape, x.dtype, y.shape
    (torch.Size([2, 16, 3, 8, 8]), torch.float32, torch.Size([2, 16]))
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor | None,
        seeds: Sequence[int],
        batch_size: int,
        steps: int,
        *,
        flip: bool = False,
        shift: int = 0,
        mean: Tensor | None = None,
        std: Tensor | None = None,
    ) -> None:
        if y is not None and len(y) != len(x):
            raise ValueError(f"y: need one target for each of {len(x)} examples, got {len(y)}")
        if x.layout != torch.strided:
            raise ValueError(f"x: must be dense, got {x.layout}; call x.to_dense()")
        if x.is_floating_point() and not x.isfinite().all():
            raise ValueError("x: must be finite, got NaN or infinity: every replica would diverge")
        whole("shift", shift, 0)
        if (flip or shift) and x.ndim != 4:
            raise ValueError(f"flip and shift: need images of shape (N, C, H, W), got {tuple(x.shape)}")
        self._bytes = x.dtype == torch.uint8 and x.ndim == 4
        if (mean is not None or std is not None) and not self._bytes:
            raise ValueError(f"mean and std: need images of bytes, uint8 (N, C, H, W), got {x.dtype} {tuple(x.shape)}")
        self._x, self._y, self._batch_size, self._flip, self._shift = x, y, batch_size, flip, shift
        self._mean, self._std = (None if part is None else part.to(x.device) for part in (mean, std))
        self._seeds = distinct(seeds)
        self._order = data_order(self._seeds, len(x), batch_size, steps).to(x.device)
        self._row = torch.tensor([self._seeds.index(seed) for seed in seeds], device=x.device)
        self._epoch, self._draws = -1, torch.empty(0)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return x and y of a step, shapes (R, B, …) and (R, B) or (R, B, T)."""
        index = self._order[step][self._row]
        x = self._x.index_select(0, index.flatten())
        if self._flip or self._shift:
            x = self._augmented(x, step)
        if self._bytes:
            x = x.float().div_(255)
            x = x if self._mean is None else x.sub_(self._mean)
            x = x if self._std is None else x.div_(self._std)
        elif not x.is_floating_point():
            x = x.long()
        x = x.view(*index.shape, *x.shape[1:])
        return (x[..., :-1], x[..., 1:]) if self._y is None else (x, self._y[index])

    def _augmented(self, x: Tensor, step: int) -> Tensor:
        """Flip and shift images, shape (R · B, C, H, W), by the draws of their step."""
        per_epoch = len(self._x) // self._batch_size
        epoch, place = divmod(step, per_epoch)
        if epoch != self._epoch:
            drawn = []
            for seed in self._seeds:
                rng = np.random.default_rng(stream_seed(seed, f"augmentation {epoch}"))
                size = (per_epoch, self._batch_size)
                drawn.append([rng.integers(0, 2, size), *rng.integers(0, 2 * self._shift + 1, (2, *size))])
            self._epoch, self._draws = epoch, torch.from_numpy(np.array(drawn)).to(x.device)
        mirrored, down, right = self._draws[:, :, place][self._row].transpose(0, 1).flatten(1)
        if self._shift:
            _, _, height, width = x.shape
            windows = F.pad(x, (self._shift,) * 4).unfold(2, height, 1).unfold(3, width, 1)
            x = windows[torch.arange(len(x), device=x.device), :, down, right]
        return torch.where(mirrored.bool().view(-1, 1, 1, 1), x.flip(-1), x) if self._flip else x

"""Batches are the order of `data_order`, and augmentation is what its draws say."""

from __future__ import annotations

import pytest
import torch

from replication.training import Batches, data_order

N, B, STEPS = 20, 4, 12
"""Five batches an epoch: three epochs are begun."""


def pictures(dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Every pixel of every image is a number of its own, and none is zero."""
    return (torch.arange(N * 2 * 3 * 3).reshape(N, 2, 3, 3) % 250 + 1).to(dtype)


LABELS = torch.arange(N)


def test_without_augmentation_the_order_is_all():
    x = torch.randn(N, 5)
    batches, order = Batches(x, LABELS, [3, 1, 3], B, STEPS), data_order([3, 1, 3], N, B, STEPS)
    for step in range(STEPS):
        got, labels = batches(step)
        assert torch.equal(got, x[order[step]])
        assert torch.equal(labels, order[step])


def test_bytes_become_what_stored_floats_are():
    mean, std = torch.tensor([0.2, 0.5]).view(2, 1, 1), torch.tensor([0.3, 0.1]).view(2, 1, 1)
    stored = (pictures().float() / 255 - mean) / std
    as_bytes = Batches(pictures(), LABELS, [0], B, STEPS, mean=mean, std=std)
    as_floats = Batches(stored, LABELS, [0], B, STEPS)
    assert torch.equal(as_bytes(7)[0], as_floats(7)[0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_windows_of_tokens_give_the_next_token(dtype):
    windows = torch.arange(N * 6).reshape(N, 6).to(dtype)
    x, y = Batches(windows, None, [0, 1], B, STEPS)(0)
    assert x.dtype == y.dtype == torch.long
    assert x.shape == (2, B, 5)
    assert torch.equal(y, x + 1)


def moved(image: torch.Tensor, flip: bool, down: int, right: int) -> torch.Tensor:
    """One image by hand: the window of the zero-padded image that begins ``down`` and ``right``, then mirrored."""
    k, out = 1, torch.zeros_like(image)
    for i in range(3):
        for j in range(3):
            a, b = i + down - k, j + right - k
            if 0 <= a < 3 and 0 <= b < 3:
                out[:, i, j] = image[:, a, b]
    return out.flip(-1) if flip else out


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_augmented_image_is_the_image_moved(dtype):
    images = pictures(dtype)
    batches = Batches(images, LABELS, [0, 1], B, STEPS, flip=True, shift=1)
    seen = set()
    for step in range(STEPS):
        x, labels = batches(step)
        if dtype is torch.uint8:
            x = (x * 255).round().to(torch.uint8)
        for got, label in zip(x.flatten(0, 1), labels.flatten(), strict=True):
            ways = [(f, d, r) for f in (False, True) for d in range(3) for r in range(3)]
            found = [way for way in ways if torch.equal(got, moved(images[label], *way))]
            assert len(found) == 1, "an image must be one flip and one shift of its original, all channels alike"
            seen.add(found[0])
    assert len(seen) == 18, "96 images must show all flips and shifts"


def test_draws_depend_on_seed_and_epoch_only():
    def batch(seeds, steps, step):
        return Batches(pictures(), LABELS, seeds, B, steps, flip=True, shift=1)(step)[0]

    alone, crowd = batch([5], 12, 11), batch([2, 5, 5], 30, 11)
    assert torch.equal(alone[0], crowd[1])
    assert torch.equal(crowd[1], crowd[2])
    assert not torch.equal(crowd[0], crowd[1])
    again = Batches(pictures(), LABELS, [5], B, 12, flip=True, shift=1)
    forward = [again(step)[0] for step in range(12)]
    assert all(torch.equal(again(step)[0], forward[step]) for step in reversed(range(12))), "steps in any order"
    # the same images in all epochs, but not the same draws
    one = Batches(pictures()[:B], LABELS[:B], [5], B, 40, flip=True, shift=1)
    sums = {tuple(sorted(one(step)[0].sum((0, 2, 3, 4)).tolist())) for step in range(40)}
    assert len(sums) > 10


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="y: need one target for each of 20 examples, got 19"):
        Batches(pictures(), LABELS[1:], [0], B, 1)
    with pytest.raises(ValueError, match="shift: must be an integer of at least 0, got -1"):
        Batches(pictures(), LABELS, [0], B, 1, shift=-1)
    with pytest.raises(ValueError, match=r"flip and shift: need images .* got \(20, 5\)"):
        Batches(torch.zeros(N, 5), LABELS, [0], B, 1, flip=True)
    with pytest.raises(ValueError, match=r"mean and std: need images of bytes, .* got torch.float32"):
        Batches(pictures(torch.float32), LABELS, [0], B, 1, mean=torch.zeros(1))
    with pytest.raises(ValueError, match="x: must be finite, got NaN or infinity"):
        Batches(torch.full((N, 5), torch.nan), LABELS, [0], B, 1)
    with pytest.raises(ValueError, match=r"x: must be dense, got torch.sparse_coo; call x.to_dense\(\)"):
        Batches(torch.zeros(N, 5).to_sparse(), LABELS, [0], B, 1)

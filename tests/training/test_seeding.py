from __future__ import annotations

import pytest
import torch

from replication.training import data_order, resolve_device, seeded, use_deterministic
from replication.training.seeding import stream_seed


def test_an_epoch_visits_every_example_once():
    order = data_order([0, 1], examples=12, batch_size=4, steps=6)
    assert order.shape == (6, 2, 4)
    for s in range(2):
        for epoch in (order[:3, s], order[3:, s]):
            assert sorted(epoch.flatten().tolist()) == list(range(12))
    assert not torch.equal(order[:3, 0], order[3:, 0])


def test_a_seeds_order_depends_on_nothing_else():
    """Neither on the other seeds nor on the budget: otherwise paired comparisons would not be paired."""
    short, long = data_order([4], 50, 8, 5), data_order([9, 4], 50, 8, 40)
    assert torch.equal(short[:, 0], long[:5, 1])
    assert not torch.equal(long[:, 0], long[:, 1])


def test_seeded_is_repeatable_and_leaves_the_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with seeded(1):
        inside = torch.rand(1)
    assert torch.equal(torch.rand(1), expected)
    with seeded(1):
        assert torch.equal(torch.rand(1), inside)
    with seeded(1, "other"):
        assert not torch.equal(torch.rand(1), inside)
    assert 0 <= stream_seed(3, "init") < 2**63


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="batch_size: 8 is larger than the 5"):
        data_order([0], 5, 8, 1)
    with pytest.raises(ValueError, match="steps, batch_size and seeds"):
        data_order([], 5, 1, 1)
    with pytest.raises(ValueError, match="threads"):
        use_deterministic(0)
    with pytest.raises(ValueError, match="device: 'gpu' is not a device"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            resolve_device("cuda")
        assert resolve_device("auto").type == "cpu"
    beyond = f"cuda:{torch.cuda.device_count()}"
    for lacking in (beyond, *([] if torch.backends.mps.is_available() else ["mps"])):
        with pytest.raises(ValueError, match=f"device: .*'{lacking}'"):
            resolve_device(lacking)

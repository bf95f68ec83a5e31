from __future__ import annotations

import pytest
import torch

from replication.training import MLP, ByteTransformer, ResNet8, count_parameters


def test_resnet8_has_eight_weighted_layers():
    """6n + 2 with n = 1: seven 3 × 3 convolutions and the head; shortcuts do not count."""
    model = ResNet8(3, 10, width=16)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) + 1 == 8
    assert [c.out_channels for c in convolutions] == [16, 16, 16, 32, 32, 64, 64]


def test_resnet8_treats_every_image_alone():
    model = ResNet8(3, 10, width=8)
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model(x)[:1], model(x[:1]))


def test_transformer_is_causal_and_uses_its_context():
    model = ByteTransformer(32, 2, 2, 16)
    x = torch.randint(0, 256, (1, 16))
    changed = x.clone()
    changed[0, 9] = (changed[0, 9] + 1) % 256
    difference = (model(x) - model(changed)).abs().amax(-1)[0]
    assert (difference[:9] == 0).all()
    assert (difference[9:] > 0).all()


def test_transformer_size_is_as_documented():
    assert 0.15e6 < count_parameters(ByteTransformer()) < 0.25e6


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="sizes"):
        MLP([3])
    with pytest.raises(ValueError, match="groups"):
        ResNet8(1, 10, width=3, groups=2)
    with pytest.raises(ValueError, match="heads"):
        ByteTransformer(10, 1, 3)

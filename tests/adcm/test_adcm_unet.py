"""The U-Net: a replica computes what it computes alone, derivatives are right, and bad shapes are refused by name."""

from __future__ import annotations

import pytest
import torch
from torch.func import jvp

from replication.adcm.schedules import VE
from replication.adcm.unet import UNet


def randomised(network: UNet, seed: int = 0) -> UNet:
    """Move every parameter off its start, where the last convolutions are zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return network


def inputs(replicas, n, channels=1, side=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(replicas, n, channels, side, side, generator=generator, dtype=dtype)
    return x, torch.randn(replicas, n, generator=generator, dtype=dtype)


@pytest.mark.parametrize(
    ("widths", "patch", "channels", "side"), [([8, 12], 2, 1, 8), ([4, 8, 8], 1, 3, 16), ([4], 2, 1, 4)]
)
def test_a_population_computes_what_each_network_computes_alone(widths, patch, channels, side):
    networks = [randomised(UNet(channels, widths, patch=patch).double(), seed) for seed in range(3)]
    stacked = {
        name: torch.stack([dict(network.named_parameters())[name].detach() for network in networks])
        for name, _ in networks[0].named_parameters()
    }
    x, c = inputs(3, 5, channels, side)
    together = networks[0].stacked(stacked, x, c)
    assert together.shape == x.shape
    for i, network in enumerate(networks):
        torch.testing.assert_close(together[i], network(x[i], c[i]), rtol=1e-10, atol=1e-12)


def test_an_untrained_network_is_zero_and_can_learn():
    network = UNet(1, [8, 8], patch=2)
    x, c = inputs(1, 4, dtype=torch.float32)
    assert not network(x[0], c[0]).any()
    network(x[0], c[0]).sum().backward()
    assert network.head.weight.grad.abs().sum() > 0


def test_images_of_a_batch_do_not_see_each_other_and_the_noise_level_is_seen():
    network = randomised(UNet(1, [8, 8], patch=2).double())
    x, c = (part[0] for part in inputs(1, 6))
    torch.testing.assert_close(network(x, c)[:2], network(x[:2], c[:2]))
    assert (network(x, c + 0.3) - network(x, c)).abs().max() > 1e-3


def test_every_level_reaches_the_output():
    network = randomised(UNet(1, [4, 8, 8], groups=2).double())
    x, c = (part[0] for part in inputs(1, 2))
    before = network(x, c)
    for name, parameter in network.named_parameters():
        kept = parameter.data.clone()
        parameter.data += torch.randn(parameter.shape, dtype=parameter.dtype)
        assert not torch.allclose(network(x, c), before), name
        parameter.data = kept


def test_the_jvp_is_the_total_derivative():
    """Along the path of one pair (x0, z), against central differences."""
    schedule, network = VE(t_max=10.0), randomised(UNet(1, [8, 8], patch=2).double())
    x0, z = inputs(2, 4)[0]
    t = torch.tensor([0.05, 0.4, 1.5, 6.0], dtype=torch.float64)

    def f(s):
        return schedule.denoise(network, schedule.perturb(x0, z, s), s)

    with torch.no_grad():
        _, v = jvp(
            lambda x, s: schedule.denoise(network, x, s),
            (schedule.perturb(x0, z, t), t),
            (schedule.velocity(x0, z, t), torch.ones_like(t)),
        )
        h = 1e-4 * t
        numeric = (f(t + h) - f(t - h)) / (2 * h)[:, None, None, None]
    torch.testing.assert_close(v, numeric, rtol=1e-5, atol=1e-6 * float(v.abs().max()))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((1, []), "widths"), ((1, [8, 0]), "widths"), ((0, [8]), "channels"), ((1, [8, 6]), "groups")],
)
def test_bad_sizes_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        UNet(*arguments)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 6, 8), (2, 1, 8, 6), (2, 64)])
def test_bad_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"^x: .*multiples of 4"):
        UNet(1, [8, 8], patch=2)(torch.zeros(shape), torch.zeros(2))


def test_one_noise_level_for_all_images_is_refused():
    with pytest.raises(ValueError, match=r"^c_noise: "):
        UNet(1, [8])(torch.zeros(3, 1, 8, 8), torch.zeros(1))

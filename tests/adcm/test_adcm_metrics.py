"""Metrics against SciPy, closed forms and by hand; one- and two-step sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adcm_targets import generator
from scipy import linalg
from scipy.spatial import distance

from replication.adcm.gaussian import Gaussian
from replication.adcm.metrics import energy_distance, frechet_distance, rmse, sliced_wasserstein
from replication.adcm.sampling import sample_one_step, sample_two_step
from replication.adcm.schedules import VE, FlowMatching


def normal(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def test_rmse_is_of_distances_not_of_coordinates():
    a = torch.zeros(3, 2, 1, 2, 2)
    b = a + 0.5
    assert rmse(a, b, batch_dims=2).tolist() == [1.0, 1.0, 1.0]
    assert rmse(a[0], b[0]).item() == 1.0


def test_energy_distance_against_scipy():
    a, b = normal(40, 3), normal(50, 3, seed=1) + 0.3
    within = distance.pdist(a.numpy()).mean() + distance.pdist(b.numpy()).mean()
    expected = 2 * distance.cdist(a.numpy(), b.numpy()).mean() - within
    assert energy_distance(a, b).item() == pytest.approx(expected)


def test_energy_distance_has_no_bias_and_sees_a_shift():
    found = [energy_distance(normal(20, 2, seed=i), normal(20, 2, seed=1000 + i)).item() for i in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20
    assert min(found) < 0
    assert energy_distance(normal(200, 2), normal(200, 2, seed=1) + 1).item() > 0.2


def test_sliced_wasserstein_of_a_shift():
    """A shift by m moves a projection by its cosine: the mean square over the sphere is ||m||^2 / d."""
    a = normal(50, 3)
    found = sliced_wasserstein(a, a[torch.randperm(50)] + 2.0, projections=20_000, generator=generator())
    assert found.item() == pytest.approx((12 / 3) ** 0.5, rel=0.02)
    assert sliced_wasserstein(a, a.flip(0)).item() == pytest.approx(0, abs=1e-12)


def test_frechet_distance_against_a_matrix_square_root():
    a, b = normal(100, 4) @ normal(4, 4, seed=2), normal(80, 4, seed=1) * 1.5 + 0.4
    first, second = np.cov(a.numpy().T), np.cov(b.numpy().T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(
        first + second - 2 * linalg.sqrtm(first @ second).real
    )
    assert frechet_distance(a, b).item() == pytest.approx(expected)
    assert frechet_distance(a, a).item() == pytest.approx(0, abs=1e-9)
    # fewer samples than features: a singular covariance is no trouble
    assert frechet_distance(normal(3, 8), normal(3, 8, seed=4)).isfinite()
    # of one feature it is the squared difference of means and of deviations
    expected = (a[:, 0].mean() - b[:, 0].mean()) ** 2 + (a[:, 0].std() - b[:, 0].std()) ** 2
    assert frechet_distance(a[:, :1], b[:, :1]).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("distance_of", [energy_distance, frechet_distance])
def test_one_sample_has_no_distribution(distance_of):
    with pytest.raises(ValueError, match=r"b: need at least two points, shape \(n, d\), got \(1, 3\)"):
        distance_of(normal(5, 3), normal(1, 3))


@pytest.mark.parametrize("schedule", [VE(), FlowMatching()], ids=["VE", "FM"])
def test_samples_of_the_exact_map_have_the_scale_of_the_data(schedule):
    data = Gaussian([2.0, 0.5])
    model = data.consistency_map(schedule)
    one = sample_one_step(model, normal(20_000, 2), schedule)
    two = sample_two_step(model, normal(20_000, 2), normal(20_000, 2, seed=1), schedule)
    for samples in (one, two):
        assert samples.std(0).tolist() == pytest.approx([2.0, 0.5], rel=0.02)


def test_two_steps_go_through_the_middle():
    seen = []

    def model(x, t):
        seen.append((x.clone(), t.clone()))
        return 0 * x + len(seen)

    z, z_mid = torch.ones(2, 3, 4), torch.full((2, 3, 4), 2.0)
    assert torch.equal(sample_two_step(model, z, z_mid, VE(), batch_dims=2), torch.full_like(z, 2.0))
    (first, start), (second, middle) = seen
    assert torch.equal(first, 80 * z)
    assert torch.equal(start, torch.full((2, 3), 80.0))
    assert torch.equal(middle, torch.full((2, 3), 0.42))
    torch.testing.assert_close(second, torch.full_like(z, 1 + 0.84))
    seen.clear()
    sample_two_step(model, z, z_mid, FlowMatching(), batch_dims=2)
    torch.testing.assert_close(seen[1][1], torch.full((2, 3), 0.42 / 1.42))
    torch.testing.assert_close(seen[1][0], (1 / 1.42) * torch.ones_like(z) + 0.42 / 1.42 * z_mid)


def test_refusals():
    with pytest.raises(ValueError, match=r"t_mid: must lie in \[0.002, 80.0\], got 100"):
        sample_two_step(lambda x, t: x, torch.zeros(2, 2), torch.zeros(2, 2), VE(), t_mid=100.0)
    with pytest.raises(ValueError, match=r"a: need at least two points, shape \(n, d\), got \(1, 2\)"):
        energy_distance(torch.zeros(1, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="a and b: need the same shape"):
        sliced_wasserstein(torch.zeros(2, 2), torch.zeros(3, 2))

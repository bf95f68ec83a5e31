"""Noise schedules: derivatives, ratios, preconditioning, boundary, sampling of times, shapes, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.adcm.schedules import VE, FlowMatching

SCHEDULES = [VE(), VE(sigma_data=1.3, t_max=10.0, exact_boundary=True), FlowMatching()]


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@settings(deadline=None)
@given(share=st.floats(0.01, 0.99))
def test_derivatives_are_those_of_the_coefficients(schedule, share):
    t = double(schedule.t_min + share * (schedule.t_max - schedule.t_min))
    for function, derivative in (
        (schedule.alpha, schedule.alpha_dot),
        (schedule.beta, schedule.beta_dot),
        (schedule.ratio, schedule.ratio_dot),
    ):
        _, expected = torch.func.jvp(function, (t,), (torch.ones_like(t),))
        torch.testing.assert_close(derivative(t), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_time_inverts_the_ratio(schedule):
    t = torch.linspace(schedule.t_min, schedule.t_max, 50, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.ratio(t)), t, rtol=1e-12, atol=0)


def test_the_two_schedules_are_one_in_the_ratio():
    ve = VE(t_max=10.0)
    fm = FlowMatching().spanning(ve.t_min, ve.t_max)
    assert fm.t_max == pytest.approx(10 / 11)
    x0, z, tau = torch.randn(2, 3).double(), torch.randn(2, 3).double(), double(0.3, 4.0)
    t = fm.time(tau)
    scaled = fm.perturb(x0, z, t) / fm.alpha(t)[:, None]
    torch.testing.assert_close(scaled, ve.perturb(x0, z, tau))


def test_velocity_is_the_derivative_of_the_path():
    for schedule in SCHEDULES:
        x0, z, t = torch.randn(3, 2).double(), torch.randn(3, 2).double(), double(0.1, 0.3, 0.7)
        _, expected = torch.func.jvp(lambda t, s=schedule, x0=x0, z=z: s.perturb(x0, z, t), (t,), (torch.ones_like(t),))
        torch.testing.assert_close(schedule.velocity(x0, z, t), expected)


def test_edm_preconditioning():
    """Karras et al. 2022, Table 1, at t = sigma_data = 0.5 and t = 1.2."""
    t, ve = double(0.5, 1.2), VE()
    torch.testing.assert_close(ve.c_skip(t), double(0.5, 0.25 / 1.69))
    torch.testing.assert_close(ve.c_out(t), double(0.25 / 0.5**0.5, 0.6 / 1.3))
    torch.testing.assert_close(ve.c_in(t), double(1 / 0.5**0.5, 1 / 1.3))
    torch.testing.assert_close(ve.c_noise(t), t.log() / 4)


def test_edm_preconditioning_makes_input_and_target_of_unit_variance():
    """What c_in and c_out are for: var(c_in x_t) = 1 and var((x0 - c_skip x_t) / c_out) = 1 with data of sigma_data."""
    ve, t = VE(sigma_data=0.7), torch.logspace(-2, 1, 7, dtype=torch.float64)
    torch.testing.assert_close(ve.c_in(t) ** 2 * (0.49 + t**2), torch.ones_like(t))
    target = (0.49 * (1 - ve.c_skip(t)) ** 2 + ve.c_skip(t) ** 2 * t**2) / ve.c_out(t) ** 2
    torch.testing.assert_close(target, torch.ones_like(t))


def test_boundary():
    x, t = torch.randn(4, 2).double(), torch.full((4,), 0.002, dtype=torch.float64)
    shifted = VE(exact_boundary=True)
    assert torch.equal(shifted.denoise(lambda x, c: 1e3 * torch.ones_like(x), x, t), x)
    # EDM's and flow matching's boundary lies at t = 0: at t_min the network still has a weight of the order of t_min
    for schedule in (VE(), FlowMatching()):
        moved = schedule.denoise(lambda x, c: torch.ones_like(x), x, t) - x
        assert 0 < moved.abs().max() < 3e-3


def test_flow_matching_recovers_the_data_from_the_exact_output():
    fm, x0, z, t = FlowMatching(), torch.randn(5, 3).double(), torch.randn(5, 3).double(), torch.rand(5).double()
    torch.testing.assert_close(fm.denoise(lambda x, c: x0 - z, fm.perturb(x0, z, t), t), x0)


def test_denoise_feeds_scaled_input_and_noise_level_over_replicas_and_images():
    ve, seen = VE(), {}

    def network(x, noise):
        seen.update(x=x, noise=noise)
        return torch.zeros_like(x)

    x, t = torch.randn(3, 4, 1, 8, 8), torch.rand(3, 4, dtype=torch.float64) + 0.1
    out = ve.denoise(network, x, t)
    assert out.dtype == torch.float32
    assert seen["noise"].shape == (3, 4)
    assert seen["noise"].dtype == torch.float32
    torch.testing.assert_close(seen["x"][2, 1], x[2, 1] * float(ve.c_in(t)[2, 1]))
    torch.testing.assert_close(out[2, 1], x[2, 1] * float(ve.c_skip(t)[2, 1]))


def test_prior():
    z = torch.randn(3, 2)
    torch.testing.assert_close(VE(t_max=10.0).prior(z), 10 * z)
    torch.testing.assert_close(FlowMatching().prior(z), 0.999 * z)


def test_refusals():
    with pytest.raises(ValueError, match=r"t_min and t_max: need 0 < t_min < t_max < infinity, got 0.002 and nan"):
        VE(t_max=float("nan"))
    with pytest.raises(ValueError, match=r"t_max < 1, got 0.5 and 1.0"):
        FlowMatching(0.5, 1.0)
    with pytest.raises(ValueError, match="sigma_data: must be positive"):
        VE(sigma_data=0.0)
    x0 = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"z: must have x0's shape \(3, 2\), got \(2, 2\)"):
        VE().perturb(x0, torch.zeros(2, 2), torch.ones(3))
    with pytest.raises(ValueError, match=r"t: must have the leading axes of x0.*\(3,\) for one model.*got \(3, 1\)"):
        VE().velocity(x0, x0, torch.ones(3, 1))

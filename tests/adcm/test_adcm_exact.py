"""Exact test beds: closed forms of Gaussian data, denoiser and consistency map of a ring of Gaussians."""

from __future__ import annotations

import pytest
import torch
from adcm_targets import TARGETS, antithetic, double, generator, printed
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from replication.adcm.gaussian import Gaussian
from replication.adcm.mixture import GaussianMixture2d
from replication.adcm.schedules import VE, FlowMatching
from replication.adcm.segmentation import step_rate, tangent

SCHEDULES = {"VE": VE(), "FM": FlowMatching(t_max=0.9995)}
ISO, ANISO, MIXTURE = TARGETS["isotropic"], TARGETS["anisotropic"], TARGETS["mixture"]


# --- Gaussian data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("dimension", [1, 3])
def test_closed_forms_of_isotropic_data(name, dimension):
    case, schedule, data = ISO[name], SCHEDULES[name], Gaussian([ISO["std"]] * dimension)
    t = double(*case["t"])
    for of in ("denoiser", "map"):
        assert data.rate(t, schedule, of).tolist() == [printed(value) for value in case[of]]
    x = torch.ones(len(t), dimension, dtype=torch.float64)
    assert data.consistency_map(schedule)(x, t)[:, 0].tolist() == [printed(value) for value in case["gain"]]
    if "mse" in case:
        assert (data.mse(t, schedule, "map") / dimension).tolist() == [printed(value) for value in case["mse"]]


@pytest.mark.parametrize("name", SCHEDULES)
def test_estimated_rates_of_isotropic_data(name):
    case, schedule, data = ISO[name], SCHEDULES[name], Gaussian([ISO["std"]] * 2)
    x0, z = antithetic(data, 4096)
    for i, t in enumerate(case["t"]):
        denoiser = step_rate(data.denoiser(schedule), x0, z, t, schedule).item()
        assert denoiser == pytest.approx(float(case["denoiser"][i]), rel=case["denoiser tolerance"][i])
        exact = step_rate(data.consistency_map(schedule), x0, z, t, schedule).item()
        assert exact == pytest.approx(float(case["map"][i]), rel=0.001 if t == 80 else 0.02)


def test_anisotropic_data():
    data, t = Gaussian(ANISO["std"]), double(*ANISO["t"])
    assert data.rate(t, VE(), "map").tolist() == [printed(value) for value in ANISO["map"]]
    assert data.mse(t, VE(), "map").tolist() == [printed(value) for value in ANISO["mse"]]
    torch.testing.assert_close(data.rate(t, VE(), "denoiser"), t)
    x0 = data.sample(200_000, generator=generator(1))
    z = torch.randn(x0.shape, generator=generator(2), dtype=torch.float64)
    for i, time in enumerate(ANISO["t"][:3]):
        value, v = tangent(data.consistency_map(VE()), x0, z, time, VE())
        e = value - x0
        assert ((v * e).sum() / (v * v).sum()).item() == pytest.approx(float(ANISO["map"][i]), rel=0.005)
        assert e.square().sum(-1).mean().item() == pytest.approx(float(ANISO["mse"][i]), rel=0.005)
    assert step_rate(data.denoiser(VE()), x0, z, 0.5, VE()).item() == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("of", ["denoiser", "map"])
@settings(deadline=None, max_examples=20)
@given(tau=st.floats(0.01, 30), std=st.lists(st.floats(0.05, 3), min_size=1, max_size=3))
def test_error_and_rate_belong_together(of, tau, std):
    """E[v.e] is half the derivative of E||e||^2, so R times E[v.v] must be; checked with E[v.v] from the map's gain."""
    data, t = Gaussian(std), double(tau)
    _, slope = torch.func.jvp(lambda t: data.mse(t, VE(), of), (t,), (torch.ones_like(t),))
    model = data.denoiser(VE()) if of == "denoiser" else data.consistency_map(VE())
    one = torch.ones(1, len(std), dtype=torch.float64)
    # v is linear in (x0, z): its coefficients are the derivatives of the gain, and of the gain times t
    _, by_x0 = torch.func.jvp(lambda t: model(one, t), (t,), (torch.ones_like(t),))
    _, by_z = torch.func.jvp(lambda t: model(one * t[:, None], t), (t,), (torch.ones_like(t),))
    square = (by_x0.square() * data.std**2 + by_z.square()).sum()
    assert (data.rate(t, VE(), of) * square).item() == pytest.approx(slope.item() / 2, rel=1e-9)


def test_gaussian_refuses():
    for std in ([], [1.0, 0.0], [float("nan")]):
        with pytest.raises(ValueError, match="std: need at least one, positive and finite"):
            Gaussian(std)


# --- a ring of Gaussians ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "t", "expected"), MIXTURE["denoiser"]["values"])
def test_denoiser_of_the_mixture(sigma, t, expected):
    x = torch.tensor(MIXTURE["denoiser"]["x"], dtype=torch.float64)
    found = GaussianMixture2d(sigma).denoiser(VE())(x, torch.full((3,), t, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("sigma", [0.05, 0.15, 0.2])
def test_map_of_the_mixture(sigma):
    x = torch.tensor(MIXTURE["map"]["x"], dtype=torch.float64)
    t = torch.full((len(x),), float(MIXTURE["map"]["t"]), dtype=torch.float64)
    ring, expected = GaussianMixture2d(sigma), torch.tensor(MIXTURE["map"][str(sigma)], dtype=torch.float64)
    found = ring.consistency_map(VE(), end=MIXTURE["map"]["end"])(x, t)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_map_of_the_mixture_against_the_flow_as_it_is_usually_written():
    """dx/dt = (x - D(x, t)) / t, by SciPy's adaptive solver."""
    ring, x = GaussianMixture2d(0.15), double(2.0, -1.0)
    denoiser = ring.denoiser(VE())

    def flow(t, y):
        return ((torch.tensor(y) - denoiser(torch.tensor(y)[None], double(t))[0]) / t).numpy()

    expected = solve_ivp(flow, (10.0, 0.01), x.numpy(), rtol=1e-10, atol=1e-12).y[:, -1]
    found = ring.consistency_map(VE(), end=0.01)(x[None], double(10.0))[0]
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-8)


def test_order_of_convergence_of_the_map():
    """Halving the step of a method of order 8 divides the error by 2^8; asymptotically, so the bound is lower."""
    ring = GaussianMixture2d(0.15)
    x = torch.tensor(MIXTURE["map"]["x"], dtype=torch.float64)
    t = torch.full((len(x),), 10.0, dtype=torch.float64)
    exact = ring.consistency_map(VE(), steps=128)(x, t)
    errors = [(ring.consistency_map(VE(), steps=n)(x, t) - exact).abs().max().item() for n in (16, 32)]
    assert 2**7 < errors[0] / errors[1] < 2**10
    assert errors[1] < 1e-9


def test_map_is_constant_along_a_trajectory_and_the_identity_at_its_end():
    ring = GaussianMixture2d(0.2)
    x = torch.tensor(MIXTURE["map"]["x"], dtype=torch.float64)
    t = torch.full((len(x),), 10.0, dtype=torch.float64)
    f = ring.consistency_map(VE())
    on_the_way = ring.consistency_map(VE(), end=1.0)(x, t)
    torch.testing.assert_close(f(on_the_way, torch.ones_like(t)), f(x, t), rtol=0, atol=1e-8)
    torch.testing.assert_close(f(x, torch.full_like(t, 1e-9)), x, rtol=0, atol=1e-8)


def test_flow_matching_has_the_same_denoiser_and_map():
    ring, fm = GaussianMixture2d(0.2), FlowMatching()
    x, tau = torch.randn(6, 2, generator=generator(), dtype=torch.float64), double(0.05, 0.2, 0.5, 1.0, 3.0, 9.0)
    t = fm.time(tau)
    for make in (ring.denoiser, ring.consistency_map):
        torch.testing.assert_close(make(fm)(x * fm.alpha(t)[:, None], t), make(VE())(x, tau))


def test_one_mode_is_gaussian():
    """One mode is normal about its centre, where the closed forms of Gaussian data hold."""
    ring, data = GaussianMixture2d(0.3, modes=1), Gaussian([0.3, 0.3])
    x, t = torch.randn(5, 2, generator=generator(), dtype=torch.float64), double(0.1, 0.5, 1.0, 3.0, 10.0)
    torch.testing.assert_close(ring.denoiser(VE())(x, t), data.denoiser(VE())(x - ring.means, t) + ring.means)
    exact = data.consistency_map(VE())(x - ring.means, t) + ring.means
    torch.testing.assert_close(ring.consistency_map(VE())(x, t), exact, rtol=1e-9, atol=1e-9)


def test_derivative_runs_through_the_map():
    ring = GaussianMixture2d(0.2)
    x0, z = antithetic(ring, 50)
    f = ring.consistency_map(VE(), steps=8)
    _, v = tangent(f, x0, z, 1.0, VE())
    torch.testing.assert_close(v, tangent(f, x0, z, 1.0, VE(), relative_step=1e-4)[1], rtol=1e-5, atol=1e-6)


def test_samples_of_the_mixture():
    ring = GaussianMixture2d(0.05)
    x = ring.sample(20_000, generator=generator())
    nearest = torch.cdist(x, ring.means)
    share = torch.bincount(nearest.argmin(-1), minlength=8) / len(x)
    assert share.tolist() == pytest.approx([1 / 8] * 8, abs=0.01)
    assert nearest.min(-1).values.square().mean().item() == pytest.approx(2 * 0.05**2, rel=0.03)
    assert ring.scale == pytest.approx((0.7**2 / 2 + 0.05**2) ** 0.5)
    assert x.T.cov()[0, 0].sqrt().item() == pytest.approx(ring.scale, rel=0.02)


@pytest.mark.parametrize("row", TARGETS["mixture"]["sigma 0.05"]["rows"], ids=lambda row: f"t={row[0]}")
def test_rate_and_error_of_separate_modes(row):
    """Monte Carlo of 3000 antithetic pairs, within 4 standard deviations of a draw plus the rounding."""
    t, rate, rate_sd, mse, mse_sd, floor, floor_sd = row
    ring = GaussianMixture2d(0.05)
    x0, z = antithetic(ring, 3000, seed=5)
    assert step_rate(ring.denoiser(VE()), x0, z, t, VE()).item() / t == pytest.approx(rate, abs=4 * rate_sd)
    times = torch.full((len(x0),), float(t), dtype=torch.float64)
    x = VE().perturb(x0, z, times)
    rounding = 5e-6 if mse < 0.005 else 5e-5
    for model, value, sd in (
        (ring.denoiser(VE()), mse, mse_sd),
        (ring.consistency_map(VE(), steps=12), floor, floor_sd),
    ):
        error = (model(x, times) - x0).square().sum(-1).mean().item()
        assert error == pytest.approx(value, abs=4 * sd + rounding)


def test_ridges_between_separate_modes_make_the_steps_of_the_map_tiny():
    ring = GaussianMixture2d(0.05)
    x0, z = antithetic(ring, 1500, seed=5)
    f = ring.consistency_map(VE(), steps=12)
    for t in (0.4, 1.5):
        v = tangent(f, x0, z, t, VE(), relative_step=1e-3)[1]
        e = f(VE().perturb(x0, z, torch.full((3000,), t, dtype=torch.float64)), torch.full((3000,), t).double()) - x0
        assert (v * e).sum() / (v * v).sum() / t < 0.1


def test_mixture_refuses():
    with pytest.raises(ValueError, match=r"sigma, modes and radius: must be positive and finite, got 0.0, 8 and 0.7"):
        GaussianMixture2d(0.0)
    with pytest.raises(ValueError, match="end and steps: need end >= 0"):
        GaussianMixture2d().consistency_map(VE(), end=-1.0)

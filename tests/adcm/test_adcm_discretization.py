"""Pairs of times: the baselines' formulas by hand, and what every discretisation keeps."""

from __future__ import annotations

import functools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from replication.adcm.discretization import (
    ECM,
    ICT,
    NEVER,
    ConstantLocal,
    Discretization,
    Grid,
    constant_local,
    log_grid,
    log_normal_times,
)
from replication.adcm.gaussian import Gaussian
from replication.adcm.schedules import VE, FlowMatching, Schedule
from replication.adcm.segmentation import consistency, kappa

SCHEDULES = [VE(), FlowMatching()]
RULES = ["grid", "log", "ict", "ict-naive", "ecm2", "ecm256", "ecm2-naive"]


@functools.cache
def rule(name: str, schedule: Schedule) -> Discretization:
    match name.removesuffix("-naive"):
        case "grid":
            return Grid(torch.linspace(schedule.t_min, schedule.t_max, 7, dtype=torch.float64), schedule)
        case "log":
            return log_grid(schedule, 0.05)
        case "ict":
            return ICT(80, schedule, naive=name.endswith("naive"))
        case other:
            doubling = 20 if other == "ecm2" else None
            return ECM(schedule, float(other.removeprefix("ecm")), doubling, naive=name.endswith("naive"))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@settings(max_examples=25, deadline=None)
@given(u=st.floats(2**-54, 1 - 2**-53), step=st.integers(0, 300))
def test_pairs_descend_within_the_schedule(name: str, schedule: Schedule, u: float, step: int) -> None:
    t, r = rule(name, schedule).pairs(torch.tensor([u], dtype=torch.float64), step)
    assert t.dtype == r.dtype == torch.float64
    assert schedule.t_min * (1 - 1e-12) <= r <= t <= schedule.t_max * (1 + 1e-12)
    if u > 1e-3:
        assert r < t


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_until_is_the_first_step_at_which_the_pairs_change(name: str, schedule: Schedule) -> None:
    own, u = rule(name, schedule), torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    for step in range(79):
        same = all(torch.equal(a, b) for a, b in zip(own.pairs(u, step), own.pairs(u, step + 1), strict=True))
        assert same == (own.until(step) > step + 1), step


def test_a_grid_draws_neighbours_by_the_discretised_log_normal() -> None:
    times = torch.tensor([0.002, 0.1, 0.5, 2.0, 80.0], dtype=torch.float64)
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    t, r = Grid(times, VE(), p_mean=-0.5, p_std=1.3).pairs(u, 0)
    masses = np.diff(norm.cdf(np.log(times.numpy()), -0.5, 1.3))
    for i in range(4):
        chosen = r == times[i]
        assert bool((t[chosen] == times[i + 1]).all())
        assert float(chosen.double().mean()) == pytest.approx(masses[i] / masses.sum(), abs=2e-5)


def test_naive_grids_draw_by_the_time_and_others_by_the_ratio() -> None:
    flow, u = FlowMatching(), torch.tensor([0.5], dtype=torch.float64)
    times = torch.linspace(flow.t_min, flow.t_max, 2001, dtype=torch.float64)
    for naive in (False, True):
        t = Grid(times, flow, naive=naive).pairs(u, 0)[0]
        ends = np.array([flow.t_min, flow.t_max])
        low, high = norm.cdf(np.log(ends if naive else ends / (1 - ends)), -1.1, 2.0)
        median = math.exp(norm.ppf((low + high) / 2, -1.1, 2.0))
        assert float(t) == pytest.approx(median if naive else median / (1 + median), abs=1e-3)


def test_single_times_have_the_truncated_log_normal_distribution() -> None:
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    flow = FlowMatching()
    ratios = flow.ratio(log_normal_times(u, flow)).numpy()
    low, high = norm.cdf(np.log([0.002, 999]), -1.1, 2.0)
    np.testing.assert_allclose(norm.cdf(np.log(ratios), -1.1, 2.0), low + u.numpy() * (high - low), atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_log_grid_is_geometric_in_the_ratio(schedule: Schedule) -> None:
    grid = log_grid(schedule, kappa(0.01))
    ratios = schedule.ratio(grid.times)
    assert grid.times[0] == schedule.t_min
    assert grid.times[-1] == schedule.t_max
    steps = 1 - ratios[:-1] / ratios[1:]
    torch.testing.assert_close(steps[1:], torch.full_like(steps[1:], kappa(0.01)), rtol=1e-6, atol=0)
    assert 0 < steps[0] <= kappa(0.01) * (1 + 1e-6)


def test_ict_doubles_and_has_a_rho_grid() -> None:
    # K' = floor(100 / (log2 4 + 1)) = 33
    ict = ICT(100, VE(), s0=10, s1=40)
    assert [ict.segments(step) for step in (0, 32, 33, 65, 66, 99, 10**9)] == [10, 10, 20, 20, 40, 40, 40]
    u = torch.linspace(0.0001, 0.9999, 20_000, dtype=torch.float64)
    t, r = ict.pairs(u, 0)
    expected = (0.002 ** (1 / 7) + np.arange(11) / 10 * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7
    np.testing.assert_allclose(sorted(set(t.tolist()) | set(r.tolist())), expected, rtol=1e-12)


def test_ict_caps_the_number_of_segments() -> None:
    ict = ICT(100, VE(), s0=10, s1=50)
    assert max(ict.segments(step) for step in range(1000)) == 50
    assert ict.until(500) == NEVER


def test_ecm_by_hand() -> None:
    u, ecm = torch.tensor([0.3, 0.6, 0.99], dtype=torch.float64), ECM(VE(), q=2, doubling_every=10)
    for step, power in ((0, 1), (9, 1), (10, 2), (35, 4)):
        t, r = ecm.pairs(u, step)
        n = 1 + 8 / (1 + np.exp(t.numpy()))
        np.testing.assert_allclose(r.numpy(), np.maximum(t.numpy() * (1 - n / 2**power), 0.002), rtol=1e-12)


def test_ecm_takes_the_data_as_target_where_its_rule_says_zero() -> None:
    t, r = ECM(VE(), q=2).pairs(torch.tensor([0.2, 0.5], dtype=torch.float64), 0)
    assert bool((t > 0.02).all())
    assert bool((r == 0.002).all())


def test_naive_and_rewritten_agree_on_ve_only() -> None:
    u = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    for schedule, same in ((VE(), True), (FlowMatching(), False)):
        pairs = [ECM(schedule, 256, naive=naive).pairs(u, 0)[1] for naive in (False, True)]
        assert torch.allclose(*pairs) is same
    flow, ve = FlowMatching(), VE(t_max=999.0)
    rewritten = ECM(flow, 256).pairs(u, 0)
    for own, other in zip(rewritten, ECM(ve, 256).pairs(u, 0), strict=True):
        torch.testing.assert_close(flow.ratio(own), other, rtol=1e-6, atol=0)


@pytest.mark.parametrize("schedule", [VE(t_max=5.0), FlowMatching().spanning(0.002, 5.0)], ids=repr)
def test_constant_local_makes_local_consistency_constant(schedule: Schedule) -> None:
    data, generator = Gaussian([0.5, 0.3]), torch.Generator().manual_seed(0)
    model = data.denoiser(schedule)
    sample, rule = partial(data.sample, generator=generator), ConstantLocal(200, nodes=48)
    times = constant_local(model, sample, schedule, rule, generator=generator)
    assert times[0] == schedule.t_min
    assert times[-1] == schedule.t_max
    x0, z = data.sample(20_000, generator=generator), torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    steps = [(times[i + 1], times[i]) for i in range(5, 200, 15)]
    local = np.array([float(consistency(model, x0, z, float(t), float(r), schedule)[0]) for t, r in steps])
    np.testing.assert_allclose(local, local.mean(), rtol=0.2)


def test_constant_local_of_a_population_is_that_of_its_replicas() -> None:
    data, schedule = Gaussian([0.5, 0.3]), VE(t_max=5.0)
    model = data.denoiser(schedule)
    x0 = data.sample(64, generator=torch.Generator().manual_seed(1))
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rule = ConstantLocal(20, nodes=8, batch_size=64)
    alone = constant_local(model, lambda n: x0, schedule, rule, noise=lambda x: z)
    both = constant_local(
        lambda x, t: torch.stack([model(x[0], t[0]), 2 * model(x[1], t[1])]),
        lambda n: torch.stack([x0, x0]),
        schedule,
        rule,
        noise=lambda x: torch.stack([z, z]),
        batch_dims=2,
    )
    torch.testing.assert_close(both, torch.stack([alone, alone]))


def data(n: int) -> torch.Tensor:
    return torch.zeros(n, 2)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Grid(torch.tensor([1.0]), VE()), "times"),
        (lambda: Grid(torch.tensor([2.0, 1.0]), VE()), "times"),
        (lambda: Grid(torch.tensor([0.0, 1.0]), VE()), "times"),
        (lambda: Grid(torch.tensor([0.5, math.nan]), VE()), "times"),
        (lambda: Grid(torch.tensor([0.5, 1.0]), VE(), p_std=0.0), "p_std"),
        (lambda: Grid(torch.tensor([50.0, 80.0]), VE(), p_std=0.1), "p_mean and p_std: .* got -1.1 and 0.1 on times"),
        (lambda: Grid(torch.tensor([0.5, 1.0]), VE(), math.nan), "p_mean and p_std: .* must have mass"),
        (lambda: ECM(VE(), p_std=math.nan), "p_std"),
        (lambda: ECM(VE(), p_mean=math.inf), "p_mean"),
        (lambda: ECM(VE(), q=math.inf), "q: must lie in"),
        (lambda: log_grid(VE(), 1.0), "kappa"),
        (lambda: ICT(0, VE()), "total_steps"),
        (lambda: ECM(VE(), q=1.0), "q"),
        (lambda: ECM(VE(), doubling_every=0), "doubling_every"),
        (lambda: ECM(VE(), k=-1.0), "k and b"),
        (lambda: ConstantLocal(0), "segments"),
        (
            lambda: constant_local(
                lambda x, t: x * math.nan, lambda n: torch.zeros(n, 2), VE(), ConstantLocal(5, nodes=2)
            ),
            "model",
        ),
    ],
)
def test_bad_arguments_are_named(make, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()

"""The Gauss-Newton step and the segmentation: optimality, identities, lengths, safeguards, replicas, refusals."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from adcm_targets import TARGETS, antithetic, double, generator, printed
from layers import LAYERS, shape_of

from replication.adcm.gaussian import Gaussian
from replication.adcm.mixture import GaussianMixture2d
from replication.adcm.schedules import VE, FlowMatching
from replication.adcm.segmentation import (
    SAFEGUARDS,
    Adaptive,
    consistency,
    gauss_newton_step,
    kappa,
    segment,
    step_rate,
    tangent,
    walk,
)
from replication.training import seeded

LENGTH = TARGETS["length"]
DATA = Gaussian([0.5, 0.5])


def random_model(schedule, seed=0):
    """A random perceptron of three inputs and two outputs under the schedule's preconditioning, in float64."""
    with seeded(seed):
        layers = [
            torch.nn.Linear(3, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 64),
            torch.nn.SiLU(),
            torch.nn.Linear(64, 2),
        ]
        network = torch.nn.Sequential(*layers).double().requires_grad_(False)
    return lambda x, t: schedule.denoise(lambda x, c: network(torch.cat([x, c[..., None]], -1)), x, t)


# --- one step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [VE(), FlowMatching()], ids=["VE", "FM"])
@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_jvp_equals_finite_differences(schedule, t):
    x0, z = antithetic(GaussianMixture2d(0.05), 200)
    model = random_model(schedule)
    value, v = tangent(model, x0, z, t, schedule)
    times = torch.full((len(x0),), t, dtype=torch.float64)
    assert torch.equal(value, model(schedule.perturb(x0, z, times), times))
    difference = tangent(model, x0, z, t, schedule, relative_step=1e-4)[1]
    assert (v - difference).norm() / v.norm() < 1e-6
    step = gauss_newton_step(model, x0, z, t, schedule, 0.01).item()
    # Eq. 10 term by term
    means = [
        torch.stack([part @ row for part, row in zip(difference, of, strict=True)]).mean()
        for of in (value - x0, difference)
    ]
    assert step == pytest.approx(0.01 / 1.01 * (means[0] / means[1]).item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore:model. a JVP cannot pass it")  # kernels of attention
@pytest.mark.parametrize("name", LAYERS)
def test_the_derivative_is_that_of_differences_through_every_kind_of_layer(name):
    with seeded(7):
        network = LAYERS[name]().double().requires_grad_(False)
        x0, z = torch.randn(2, 4, *shape_of(name, network), dtype=torch.float64)

    def model(x, t):
        return x * network(x).reshape(-1, *[1] * (x.dim() - 1))

    found, expected = (tangent(model, x0, z, 0.7, VE(), relative_step=step)[1] for step in (None, 1e-5))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("call", [torch.Tensor.scatter_reduce, torch.scatter_reduce, torch.ops.aten.scatter_reduce.two])
def test_differences_take_the_place_of_a_derivative_that_torch_has_wrong(call):
    x0, z = torch.randn(2, 5, 3, generator=generator(1), dtype=torch.float64)
    places = torch.tensor([0, 0, 1]).expand(5, 3)
    with pytest.warns(UserWarning, match=r"a JVP cannot pass it \(torch's .* scatter_reduce with 'prod' is zero\)"):
        v = tangent(lambda x, t: call(torch.ones_like(x), -1, places, x, "prod"), x0, z, 0.7, VE())[1]
    x = x0 + 0.7 * z
    expected = torch.stack([x[:, 0] * z[:, 1] + x[:, 1] * z[:, 0], z[:, 2], torch.zeros(5).double()], -1)
    torch.testing.assert_close(v, expected, rtol=1e-8, atol=1e-10)
    summed = tangent(lambda x, t: call(torch.zeros_like(x), -1, places, x, "sum"), x0, z, 0.7, VE())[1]
    torch.testing.assert_close(summed[:, 0], z[:, 0] + z[:, 1])


@pytest.mark.parametrize("t", [0.2, 1.0])
@pytest.mark.parametrize("lam", [1.0, 0.1, 0.01, 0.001])
def test_step_minimises_the_objective(t, lam):
    """Eq. 10 against a scan of Eq. 9, linearised (to a grid spacing) and true (to 2.5 % where lambda is small)."""
    ve, model = VE(), random_model(VE())
    x0, z = antithetic(GaussianMixture2d(0.05), 200)
    step = gauss_newton_step(model, x0, z, t, ve, lam).item()
    value, v = tangent(model, x0, z, t, ve)
    e, scan = value - x0, torch.linspace(-0.99 * t, 0.99 * t, 801, dtype=torch.float64)
    linear = [((v * dt).square().sum() + lam * (e - v * dt).square().sum()).item() for dt in scan]
    assert abs(step - scan[linear.index(min(linear))].item()) <= scan.diff()[0].item()
    if lam <= 0.01:
        scan = step + torch.linspace(-1.5, 1.5, 121, dtype=torch.float64) * abs(step)
        parts = [consistency(model, x0, z, t, t - dt, ve) for dt in scan.tolist()]
        true = [(local + lam * whole).item() for local, whole in parts]
        assert scan[true.index(min(true))].item() == pytest.approx(step, rel=0.0251)


@pytest.mark.parametrize("t", [0.05, 0.5, 3.0])
def test_numerator_is_half_the_derivative_of_the_error(t):
    ve, model = VE(), random_model(VE())
    x0, z = antithetic(GaussianMixture2d(0.05), 500)
    value, v = tangent(model, x0, z, t, ve)
    h = 1e-4 * t
    after, before = (consistency(model, x0, z, t, s, ve)[1].item() for s in (t + h, t - h))
    assert (v * (value - x0)).sum(-1).mean().item() == pytest.approx((after - before) / (4 * h), rel=1e-4)


@pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
def test_step_is_covariant_under_a_change_of_time(tau):
    """R_VE(tau) = R_FM(t) dtau/dt for one function in both coordinates: f_FM(x, t) = f_VE(x / (1 - t), t / (1 - t))."""
    ve, fm, model = VE(), FlowMatching(), random_model(VE())
    x0, z = antithetic(GaussianMixture2d(0.05), 500)
    t = fm.time(tau)
    other = step_rate(lambda x, s: model(x / (1 - s)[:, None], s / (1 - s)), x0, z, t, fm).item()
    assert step_rate(model, x0, z, tau, ve).item() == pytest.approx(other / (1 - t) ** 2, rel=1e-5)


def test_step_is_a_ratio_of_means_over_samples_per_replica():
    """Two replicas at their own times give what each gives alone; the expectation runs over the sample axis only."""
    x0, z = (part.reshape(2, 100, 2) for part in antithetic(DATA, 100))
    t = double(0.2, 3.0)[:, None].expand(2, 100)
    model = random_model(VE())
    both = gauss_newton_step(model, x0, z, t, VE(), 0.1)
    assert both.shape == (2,)
    for i, time in enumerate((0.2, 3.0)):
        assert both[i].item() == pytest.approx(gauss_newton_step(model, x0[i], z[i], time, VE(), 0.1).item())
    v = tangent(model, x0[0], z[0], 0.2, VE())
    ratio = (v[1] * (v[0] - x0[0])).sum(-1).mean() / v[1].square().sum(-1).mean()
    assert both[0].item() == pytest.approx(0.1 / 1.1 * ratio.item())


@pytest.mark.parametrize(("dimension", "batch", "t", "batches"), [(2, 256, 10.0, 2000), (3072, 32, 40.0, 200)])
def test_noise_of_a_mini_batch(dimension, batch, t, batches):
    """Mean over standard deviation of E[v.e] is (s/t) sqrt(d B): hopeless in the plane, fine for images.

    A quarter of the paper's batch at half its t_max has the same ratio.
    """
    data, g, found = Gaussian([0.5] * dimension), generator(3), []
    model = data.denoiser(VE())
    chunk = 200 if dimension == 2 else 25
    for _ in range(batches // chunk):
        x0 = data.sample(chunk * batch, generator=g, dtype=torch.float32).reshape(chunk, batch, dimension)
        z = torch.randn(x0.shape, generator=g)
        value, v = tangent(model, x0, z, torch.full((chunk, batch), t), VE())
        found.append((v * (value - x0)).sum((1, 2)))
    numerators = torch.cat(found)
    theory = 0.5 / t * math.sqrt(dimension * batch)
    assert (numerators.mean() / numerators.std()).item() == pytest.approx(theory, rel=0.2)
    negative = (numerators < 0).double().mean().item()
    assert negative == pytest.approx(0.13, abs=0.03) if dimension == 2 else negative == 0


# --- the length of the walk -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("column", "of", "t_max", "cap"), [
    ("denoiser", "denoiser", 80.0, 1.0),
    ("map", "map", 80.0, 1.0),
    ("map, cap", "map", 80.0, 0.5),
    ("map, T = 10", "map", 10.0, 1.0),
])  # fmt: skip
def test_length_with_exact_rates(column, of, t_max, cap):
    schedule, data = VE(t_max=t_max), Gaussian([0.5])
    factors = double(*map(kappa, LENGTH["lambda"]))
    times, counts = walk(
        lambda at: (factors * data.rate(double(*at), schedule, of)).tolist(),
        schedule,
        len(factors),
        floor=1e-6,
        cap=cap,
    )
    for grid, count, expected, lam in zip(times, counts, LENGTH[column], LENGTH["lambda"], strict=True):
        assert abs(len(grid) - 1 - expected) <= 1
        assert (grid[0], grid[-1]) == (schedule.t_min, t_max)
        assert bool((grid.diff() > 0).all())
        assert count["floored"] == count["nonpositive"] == count["nonfinite"] == 0
        if of == "denoiser":
            assert expected == pytest.approx(math.log(t_max / 0.002) / -math.log1p(-kappa(lam)), abs=1)


def test_length_with_the_spectrum_of_images():
    """d = 3072, variance of coordinate k proportional to k^-1.5, 0.25 on average."""
    spectrum = torch.arange(1, 3073, dtype=torch.float64) ** -1.5
    data, schedule, case = Gaussian((spectrum * 3072 * 0.25 / spectrum.sum()).sqrt()), VE(), LENGTH["image-like"]
    assert data.std[0].item() == pytest.approx(17.3, abs=0.05)
    times, counts = walk(lambda at: (kappa(0.01) * data.rate(double(*at), schedule, "map")).tolist(), schedule)
    assert abs(len(times[0]) - 1 - case["N"]) <= 1
    assert counts[0]["capped"] == 0
    t = double(*case["t"])
    share = kappa(0.01) * data.rate(t, schedule, "map") / t
    for found, expected in zip(share.tolist(), case["share"], strict=True):
        assert found == pytest.approx(float(expected), abs=1.01 * 10 ** -(len(expected) - 1))


def test_kappa():
    assert kappa(0.01) == printed(".00990099")


# --- the segmentation -------------------------------------------------------------------------------------------------


def sampler(data, seed=0, dtype=torch.float64):
    g = generator(seed)
    return lambda n: data.sample(n, generator=g, dtype=dtype)


@pytest.mark.parametrize("schedule", [VE(t_max=10.0), FlowMatching().spanning(0.002, 10.0)], ids=["VE", "FM"])
def test_interpolated_segmentation_of_the_denoiser_is_uniform_in_log_tau(schedule):
    grid = segment(
        DATA.denoiser(schedule),
        sampler(DATA),
        schedule,
        Adaptive(0.01, nodes=12, batch_size=4096),
        generator=generator(1),
    )
    expected = math.log(10 / 0.002) / -math.log1p(-kappa(0.01))
    assert len(grid) == pytest.approx(expected, rel=0.05)
    assert set(grid.counts) == set(SAFEGUARDS)
    assert sum(grid.counts.values()) == grid.counts["remainder"] <= 1
    assert (grid.times[0], grid.times[-1]) == (schedule.t_min, schedule.t_max)
    shares = (grid.steps * schedule.ratio_dot(grid.times[1:]) / schedule.ratio(grid.times[1:]))[1:]
    assert shares.min() > 0.8 * kappa(0.01)
    assert shares.max() < 1.2 * kappa(0.01)
    torch.testing.assert_close(grid.rates, DATA.rate(grid.nodes, schedule, "denoiser"), rtol=0.2, atol=0)


def test_both_modes_agree():
    """With data enough that a single estimate is good, Algorithm 1 and the interpolated walk give the same grid."""
    schedule, data = VE(t_max=2.0), Gaussian([0.5] * 64)
    grids = [
        segment(
            data.consistency_map(schedule),
            sampler(data),
            schedule,
            Adaptive(0.1, mode=mode, nodes=24, batch_size=256, antithetic=mode == "interpolated"),
            generator=generator(1),
        )
        for mode in ("paper", "interpolated")
    ]
    assert len(grids[0]) == pytest.approx(len(grids[1]), rel=0.03)
    # of Algorithm 1 the rates belong to the upper ends of the segments
    paper = grids[0]
    torch.testing.assert_close(paper.nodes, paper.times[1:])
    torch.testing.assert_close(kappa(0.1) * paper.rates[1:], paper.steps[1:], rtol=1e-6, atol=0)
    same = torch.linspace(0, 1, 8, dtype=torch.float64)
    torch.testing.assert_close(grids[0].times.quantile(same), grids[1].times.quantile(same), rtol=0.1, atol=0)


def test_paper_mode_survives_mini_batches_that_are_too_small():
    """In the plane at T = 10 estimates come out negative: the walk still ends, and says how often it was saved."""
    schedule = VE(t_max=10.0)
    grid = segment(
        DATA.denoiser(schedule),
        sampler(DATA),
        schedule,
        Adaptive(0.1, mode="paper", batch_size=16, antithetic=False, floor=0.01),
        generator=generator(1),
    )
    assert grid.counts["nonpositive"] > 0
    assert grid.counts["nonpositive"] == int((grid.rates <= 0).sum())
    at_floor = grid.steps / grid.times[1:] < 0.01 * 1.0001
    assert int(at_floor[1:].sum()) >= grid.counts["nonpositive"] + grid.counts["floored"] - 1
    assert bool((grid.steps > 0).all())


def test_a_range_too_large_for_the_data_is_capped_and_said():
    """A good consistency model at t far above the data's scale asks for a step beyond t itself."""
    schedule, model = VE(t_max=80.0), DATA.consistency_map(VE())
    free = segment(model, sampler(DATA), schedule, Adaptive(0.01, cap=1.0, nodes=16), generator=generator(1))
    assert len(free) == 1
    capped = segment(model, sampler(DATA), schedule, Adaptive(0.01, nodes=16), generator=generator(1))
    assert capped.counts["capped"] > 0
    assert bool((capped.steps <= 0.5 * capped.times[1:] * (1 + 1e-12)).all())


def test_a_model_that_improves_with_noise_is_floored_and_said():
    """f = x0 in the limit of large t, x for small: the error falls with t, so every wanted step is negative."""
    schedule = VE(t_max=10.0)

    def model(x, t):
        return x * 0 + 1 / t[:, None]

    zero = Gaussian([1e-6, 1e-6])
    grid = segment(model, sampler(zero), schedule, Adaptive(0.1, nodes=8, batch_size=8, floor=0.05))
    assert grid.counts["nonpositive"] == 8
    torch.testing.assert_close(grid.steps[1:] / grid.times[2:], torch.full((len(grid) - 1,), 0.05, dtype=torch.float64))


def test_estimates_that_are_no_numbers_are_counted_and_refused_when_there_is_nothing_else():
    schedule = VE(t_max=10.0)
    denoiser = DATA.denoiser(schedule)

    def broken_above_one(x, t):
        return denoiser(x, t) / (t[:, None] < 1)

    grid = segment(broken_above_one, sampler(DATA), schedule, Adaptive(0.1, nodes=16, batch_size=64))
    assert 0 < grid.counts["nonfinite"] < 16
    assert grid.times.isfinite().all()
    for mode in ("interpolated", "paper"):
        rule = Adaptive(0.1, mode=mode, nodes=4, batch_size=8, floor=0.05)
        with pytest.raises(ValueError, match=r"model: no estimate of the time step is finite"):
            segment(lambda x, t: x / 0, sampler(DATA), schedule, rule)


@pytest.mark.parametrize("mode", ["interpolated", "paper"])
def test_population_segments_every_replica_as_if_alone(mode):
    """Replica 0 is the denoiser, replica 1 the map; they stop at different times."""
    schedule = VE(t_max=5.0)
    denoiser, exact = DATA.denoiser(schedule), DATA.consistency_map(schedule)
    shape = {"mode": mode, "nodes": 8, "batch_size": 64, "floor": 0.01}

    def model(x, t):
        return torch.stack([denoiser(x[0], t[0]), exact(x[1], t[1])])

    def noise(seed):
        g = generator(seed)
        return lambda x0: torch.randn(x0.shape, generator=g, dtype=x0.dtype)

    draws, noises = [sampler(DATA, seed) for seed in (1, 2)], [noise(seed) for seed in (3, 4)]
    together = segment(
        model,
        lambda n: torch.stack([draw(n) for draw in draws]),
        schedule,
        Adaptive(0.1, **shape),
        replicas=2,
        noise=lambda x0: torch.stack([draw(x) for draw, x in zip(noises, x0, strict=True)]),
    )
    assert len(together) == 2
    assert len(together[0]) != len(together[1])
    draws = [sampler(DATA, seed) for seed in (1, 2)]
    for i, single in enumerate((denoiser, exact)):
        alone = segment(single, draws[i], schedule, Adaptive(0.1, **shape), noise=noise(i + 3))
        torch.testing.assert_close(alone.times, together[i].times)
        torch.testing.assert_close(alone.rates, together[i].rates)
        assert alone.counts == together[i].counts


def test_central_differences_give_the_same_grid():
    schedule = FlowMatching()
    grids = [
        segment(
            DATA.consistency_map(schedule),
            sampler(DATA),
            schedule,
            Adaptive(0.1, nodes=8, batch_size=32, relative_step=relative_step),
            generator=generator(1),
        )
        for relative_step in (None, 1e-4)
    ]
    torch.testing.assert_close(grids[0].rates, grids[1].rates, rtol=1e-5, atol=0)
    assert not torch.equal(grids[0].rates, grids[1].rates)


def test_float32_gives_nearly_the_same_grid():
    schedule = FlowMatching()
    lengths = [
        len(
            segment(
                DATA.denoiser(schedule), sampler(DATA, dtype=dtype), schedule, Adaptive(0.1, nodes=16, batch_size=4096)
            )
        )
        for dtype in (torch.float32, torch.float64)
    ]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.1)


def test_refusals():
    schedule, model = VE(), DATA.denoiser(VE())
    for lam in (0.0, -0.01, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"lam: must be positive and finite, got"):
            segment(model, sampler(DATA), schedule, Adaptive(lam))
        with pytest.raises(ValueError, match="lam: must be positive"):
            gauss_newton_step(model, *antithetic(DATA, 4), 1.0, schedule, lam)
    for bad, message in (
        ({"mode": "fast"}, "mode: must be one of interpolated, paper, got 'fast'"),
        ({"nodes": 1}, "nodes and batch_size: need at least 2 and 1"),
        ({"batch_size": 0}, "nodes and batch_size"),
        ({"floor": 0.0}, "floor and cap: need 0 < floor < cap <= 1"),
        ({"cap": 1e-4}, "floor and cap"),
        ({"cap": math.nan}, "floor and cap"),
    ):
        with pytest.raises(ValueError, match=message):
            segment(model, sampler(DATA), schedule, Adaptive(0.01, **{"nodes": 4, "batch_size": 8} | bad))
    with pytest.raises(ValueError, match=r"sample: must return shape \(n, \*event\) with n = 8, got \(9, 2\)"):
        segment(model, lambda n: torch.zeros(n + 1, 2), schedule, Adaptive(batch_size=8))
    with pytest.raises(ValueError, match=r"sample: must return shape \(R, n, \*event\)"):
        segment(model, lambda n: torch.zeros(n, 2), schedule, Adaptive(batch_size=8), replicas=2)
    for data, message in (
        (torch.full((8, 2), math.nan), "sample: must return finite data, got NaN or infinity"),
        (torch.ones(8, 2).to_sparse(), r"sample: must return dense data, got torch.sparse_coo; call to_dense"),
    ):
        with pytest.raises(ValueError, match=message):
            segment(model, lambda n, data=data: data, schedule, Adaptive(batch_size=8))
    with pytest.raises(ValueError, match=r"model: must return the shape it is given, \(16, 2\), got \(16, 1\)"):
        segment(lambda x, t: x[:, :1], sampler(DATA), schedule, Adaptive(batch_size=8))
    with pytest.warns(UserWarning, match=r"floor: got 0.001, not below kappa\(lam\) = 0.00049975"):
        Adaptive(0.0005)
    x0 = torch.zeros(4, 2)
    for call in (tangent, step_rate):
        with pytest.raises(ValueError, match="z: must have x0's shape"):
            call(model, x0, torch.zeros(4, 3), 1.0, schedule)
        with pytest.raises(ValueError, match="t: must have the leading axes of x0"):
            call(model, x0, x0, torch.ones(3), schedule)


def test_grids_are_finer_where_lambda_is_smaller():
    schedule = VE(t_max=5.0)
    lengths = [
        len(segment(DATA.denoiser(schedule), sampler(DATA), schedule, Adaptive(lam, nodes=8, batch_size=256)))
        for lam in (1.0, 0.1, 0.01)
    ]
    assert all(a < b for a, b in itertools.pairwise(lengths))

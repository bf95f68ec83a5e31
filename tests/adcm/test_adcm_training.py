"""The trainer: a step by hand, replicas that do not touch each other, and a kill that nothing shows of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import killed, on_posix
from safetensors.torch import save_file
from torch import Tensor, nn

from replication.adcm.discretization import ECM, ICT, ConstantLocal, log_grid
from replication.adcm.draws import BLOCK, Batch
from replication.adcm.loss import adaptive_loss, huber_constant, pseudo_huber
from replication.adcm.networks import TimeMLP
from replication.adcm.objectives import tangent_loss
from replication.adcm.schedules import VE, FlowMatching, Schedule
from replication.adcm.segmentation import Adaptive, Derivative, kappa, tangent
from replication.adcm.training import ConsistencyTrainer, Replica
from replication.training import seeded, stream_seed

VE5, FLOW5 = VE(t_max=5.0), FlowMatching().spanning(0.002, 5.0)
BATCH = 16
SMALL = {"batch_size": BATCH, "nodes": 6, "weight_batch": 32}


def adaptive(lam: float) -> Adaptive:
    return Adaptive(lam, nodes=6, batch_size=32)


def sample(generator: torch.Generator, n: int) -> Tensor:
    return 0.5 * torch.randn(n, 2, generator=generator)


def network() -> TimeMLP:
    return TimeMLP(2, width=8, depth=2)


def trainer(replicas: Sequence[Replica], schedule: Schedule = VE5, build=network, **options) -> ConsistencyTrainer:
    return ConsistencyTrainer(build, replicas, schedule, sample, **{**SMALL, **options})


def mixed(schedule: Schedule = VE5) -> list[Replica]:
    """One of every kind, at rates of their own, on two seeds."""
    return [
        Replica(seed, lr, rule, weight, c)
        for seed in (0, 3)
        for lr, rule, weight, c in (
            (1e-3, adaptive(0.3), "w_t", None),
            (2e-3, adaptive(0.3), "per_sample", None),
            (3e-3, ConstantLocal(20, nodes=6, batch_size=32), "inverse_t", 0.0),
            (1e-3, ECM(schedule, 2, 7), "inverse_step", None),
            (2e-3, ICT(40, schedule), "one", 10.0),
        )
    ]


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor], **tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("schedule", [VE5, FLOW5], ids=["VE", "FM"])
@pytest.mark.parametrize("weight", ["inverse_step", "per_sample"])
def test_steps_by_hand(schedule: Schedule, weight: str) -> None:
    """The loss of Eq. 11, torch's RAdam and the moving average, over the draws that the seed fixes."""
    steps, rule, c = BLOCK + 3, ECM(schedule, 256), huber_constant(2)
    own = trainer([Replica(7, 1e-2, rule, weight)], schedule, ema=0.9)
    own.fit(steps * BATCH)

    with seeded(7):
        net = network()
    average = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.RAdam(net.parameters(), lr=1e-2)
    for step in range(steps):
        if step % BLOCK == 0:
            generator = torch.Generator().manual_seed(stream_seed(7, f"block {step // BLOCK}"))
            x0 = sample(generator, BLOCK * BATCH)
            z = torch.randn(x0.shape, generator=generator)
            u = torch.rand(len(x0), generator=generator, dtype=torch.float64)
        at = slice(step % BLOCK * BATCH, (step % BLOCK + 1) * BATCH)
        t, r = (part.float() for part in rule.pairs(u[at], step))
        student = schedule.denoise(net, schedule.perturb(x0[at], z[at], t), t)
        with torch.no_grad():
            target = schedule.denoise(net, schedule.perturb(x0[at], z[at], r), r)
        ratios = {"t": schedule.ratio(t), "r": schedule.ratio(r)}
        loss = adaptive_loss(student, target, x0[at], c, weight, **ratios).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, p in net.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * p.detach()
    expected = {name: p.detach()[None] for name, p in net.named_parameters()}
    assert_same(own.parameters, expected, rtol=1e-3, atol=2e-5)
    assert_same(own.ema, {name: p[None] for name, p in average.items()}, rtol=1e-3, atol=2e-5)


def test_a_replica_computes_what_it_computes_alone() -> None:
    whole = trainer(mixed(), segment_every=5)
    whole.fit(12 * BATCH)
    for i, replica in enumerate(whole.replicas):
        alone = trainer([replica], segment_every=5)
        alone.fit(12 * BATCH)
        assert_same(alone.ema, {name: p[i : i + 1] for name, p in whole.ema.items()}, rtol=1e-4, atol=1e-6)


class Plain(nn.Module):
    """A network without a forward pass of its own for stacked parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = torch.cat([x, c[:, None], *(f(k * c)[:, None] for f in (torch.sin, torch.cos) for k in (1, 2, 4))], -1)
        for i, layer in enumerate(self.inner.layers):
            h = layer(torch.nn.functional.silu(h) if i else h)
        return h


@pytest.mark.parametrize("chosen", [[0], [0, 5]], ids=["one", "two"])
def test_any_network_trains_as_the_stacked_one(chosen: list[int]) -> None:
    replicas = [mixed()[i] for i in chosen]
    stacked, other = trainer(replicas), trainer(replicas, build=Plain)
    for own in (stacked, other):
        own.fit(6 * BATCH)
    renamed = {name.removeprefix("inner."): p for name, p in other.parameters.items()}
    assert_same(renamed, stacked.parameters, rtol=1e-4, atol=1e-6)


def test_methods_of_a_seed_share_their_draws_and_start() -> None:
    twins = trainer([Replica(1, 1e-3, adaptive(0.3)), Replica(1, 1e-3, adaptive(0.3)), Replica(2, 1e-3, adaptive(0.3))])
    twins.fit(8 * BATCH)
    for p in twins.parameters.values():
        assert torch.equal(p[0], p[1])
        assert not torch.equal(p[0], p[2])


def test_the_grid_is_made_anew_every_m_steps_from_the_present_model() -> None:
    own = trainer([Replica(0, 1e-2, adaptive(0.1)), Replica(0, 1e-2, log_grid(VE5, kappa(0.1)))], segment_every=5)
    own.fit(5 * BATCH)
    first = own.grid(0)
    own.fit(16 * BATCH)
    assert [(one.step, one.replica) for one in own.segmentations] == [(0, 0), (5, 0), (10, 0), (15, 0)]
    assert own.segmentations[-1].segments == len(own.grid(0))
    assert own.segmentations[0].counts.keys() == {"nonpositive", "nonfinite", "floored", "capped", "remainder"}
    assert repr(first) != repr(own.grid(0))
    with pytest.raises(ValueError, match="replica: 1 has no adaptive grid"):
        own.grid(1)


def test_w_t_is_the_inverse_of_the_expected_error() -> None:
    """The weight of the first step against a direct estimate with the untrained model."""
    own = trainer([Replica(0, 1e-3, ECM(VE5, 256))], weight_batch=20_000, nodes=32)
    own.fit(BATCH)
    t, r, weight = (part[0].float() for part in own._pairs.at(0))
    assert bool((r < t).all())
    model = trainer([Replica(0, 1e-3, ECM(VE5, 256))]).model(0)
    x0 = sample(torch.Generator().manual_seed(5), 20_000)
    z = torch.randn(x0.shape, generator=torch.Generator().manual_seed(6))
    for time, own_weight in zip(r[:4], weight[:4], strict=True):
        times = time.expand(len(x0))
        error = pseudo_huber(model(VE5.perturb(x0, z, times), times), x0, huber_constant(2)).mean()
        assert float(own_weight * error) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("schedule", [VE5, FLOW5], ids=["VE", "FM"])
def test_the_tangent_is_that_of_sCM(schedule: Schedule) -> None:
    """||g / (||g|| + 0.1)||^2 / D with g = -sqrt(tau^2 + sigma_d^2) df/dtau, by central differences in float64."""
    own = trainer([Replica(0, 1e-3)], schedule, objective="tangent", build=lambda: network().double())
    generator = torch.Generator().manual_seed(0)
    x0, z = torch.randn(2, 1, 9, 2, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.1, 0.7, 9, dtype=torch.float64)[None]
    model = own.model(ema=False)
    losses = tangent_loss(model, schedule, Batch(x0, z, t, {}), t, frozen=model, derivative=Derivative())
    v = tangent(own.model(ema=False), x0, z, t, schedule, relative_step=1e-5)[1]
    g = -v * ((schedule.ratio(t) ** 2 + 0.25).sqrt() / schedule.ratio_dot(t))[..., None]
    norm = g.norm(dim=-1)
    torch.testing.assert_close(losses, (norm / (norm + 0.1)) ** 2 / 2, rtol=1e-5, atol=1e-8)


def test_the_tangent_step_lowers_the_change_along_the_path() -> None:
    """Its gradient is that of f . df/dt up to a positive factor of each sample, the limit of Eq. 3."""
    own = trainer([Replica(0, 1e-3)], objective="tangent", build=lambda: network().double())
    x0, z = torch.randn(2, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor([[0.6]], dtype=torch.float64)
    leaves = {name: p.clone().requires_grad_() for name, p in own.parameters.items()}
    model, frozen = own._ensemble.model(leaves), own.model(ema=False)
    losses = tangent_loss(model, VE5, Batch(x0, z, t, {}), t, frozen=frozen, derivative=Derivative())
    ours = torch.autograd.grad(losses.sum(), list(leaves.values()))
    v = tangent(own.model(ema=False), x0, z, t, VE5, relative_step=1e-3)[1]
    f = model(VE5.perturb(x0, z, t), t)
    limit = torch.autograd.grad((f * v).sum(), list(leaves.values()))
    a, b = (torch.cat([g.flatten() for g in gradients]) for gradients in (ours, limit))
    assert float(torch.cosine_similarity(a, b, dim=0)) == pytest.approx(1, abs=1e-6)


def test_pre_training_approaches_the_exact_denoiser() -> None:
    own = trainer([Replica(0, 1e-2)], objective="denoising", batch_size=128, ema=0.99)
    t = torch.tensor([1.0]).expand(500)
    x = 1.1 * torch.randn(500, 2, generator=torch.Generator().manual_seed(9))

    def error() -> float:
        return float((own.model(0)(x, t) - x * 0.25 / 1.25).square().mean())

    before = error()
    own.fit(400 * 128)
    assert error() < before / 10


def test_weights_to_start_from_are_taken_as_they_are_and_stay() -> None:
    first = trainer([Replica(0, 1e-2)], objective="denoising")
    first.fit(3 * BATCH)
    start = {name: p.clone() for name, p in first.ema.items()}
    own = trainer([Replica(5, 1e-2, adaptive(0.3))], start=start)
    assert_same(own.parameters, first.ema)
    assert_same(own.ema, first.ema)
    own.fit(2 * BATCH)
    assert_same(start, first.ema)
    assert not any(torch.equal(own.parameters[name], p) for name, p in start.items())


def test_a_diverged_replica_leaves_the_others_alone() -> None:
    calm, wild = Replica(0, 1e-3, adaptive(0.3)), Replica(0, 1e30, adaptive(0.3))
    both, alone = (trainer(replicas, segment_every=4) for replicas in ([calm, wild], [calm]))
    for own in (both, alone):
        own.fit(10 * BATCH)
    assert not bool(both.parameters["layers.0.weight"][1].isfinite().all())
    assert_same({name: p[:1] for name, p in both.ema.items()}, alone.ema, rtol=1e-4, atol=1e-6)
    assert [one.step for one in both.segmentations if one.replica == 1] == [0]


def test_a_replica_whose_outputs_overflow_leaves_the_others_their_grids() -> None:
    """Its weights are still finite when grids and w(t) are made anew after the first step."""
    for rule in (adaptive(0.3), ConstantLocal(20, nodes=6, batch_size=32)):
        calm, wild = Replica(0, 1e-3, rule), Replica(0, 1e12, rule)
        both, alone = (trainer(replicas, segment_every=1) for replicas in ([calm, wild], [calm]))
        for own in (both, alone):
            own.fit(4 * BATCH)
        assert not bool(both.parameters["layers.0.weight"][1].isfinite().all())
        assert_same({name: p[:1] for name, p in both.ema.items()}, alone.ema, rtol=1e-4, atol=1e-6)
        made = [one.step for one in both.segmentations if one.replica == 0]
        assert made == [one.step for one in alone.segmentations] == [0, 1, 2, 3]


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, BLOCK - 1, BLOCK + 6])
def test_resumes_bit_for_bit_from_any_step(tmp_path: Path, stop: int) -> None:
    path, budget = tmp_path / "state.safetensors", (BLOCK + 10) * BATCH
    undisturbed, first, second = (trainer(mixed(), segment_every=5) for _ in range(3))
    undisturbed.fit(budget)
    first.fit(stop * BATCH, checkpoint=path)
    second.resume(path)
    assert second.images == stop * BATCH
    second.fit(budget)
    for ours, theirs in zip(second._parts().values(), undisturbed._parts().values(), strict=True):
        assert_same(ours, theirs)
    strip = [(one.step, one.replica, one.segments, one.counts) for one in second.segmentations]
    assert strip == [(one.step, one.replica, one.segments, one.counts) for one in undisturbed.segmentations]


@pytest.mark.slow  # three processes import torch
@pytest.mark.faults
@on_posix
def test_a_killed_run_resumes_as_if_it_had_never_been_killed(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    killed("test_adcm_training", "trainer(mixed(), segment_every=20)", path)
    resumed, undisturbed = trainer(mixed(), segment_every=20), trainer(mixed(), segment_every=20)
    resumed.resume(path)
    assert resumed.step >= 1
    budget = (resumed.step + 25) * BATCH
    for own in (resumed, undisturbed):
        own.fit(budget)
    for ours, theirs in zip(resumed._parts().values(), undisturbed._parts().values(), strict=True):
        assert_same(ours, theirs)


def test_an_interrupted_segmentation_is_made_again() -> None:
    """As after Ctrl-C in a notebook: the next call of `fit` goes on as if nothing had been."""
    replicas, stops = [mixed()[i] for i in (0, 2)], [False]

    def draw(generator: torch.Generator, n: int) -> Tensor:
        # the grids' examples are 32, drawn node by node; stop in the middle of the second segmentation
        if stops[0] and n == 32:
            seen.append(n)
            if len(seen) == 9:
                stops[0] = False
                raise KeyboardInterrupt
        return sample(generator, n)

    seen: list[int] = []
    own = ConsistencyTrainer(network, replicas, VE5, draw, segment_every=4, **SMALL)
    undisturbed = trainer(replicas, segment_every=4)
    undisturbed.fit(6 * BATCH)
    for done in (0, 4):
        own.fit(done * BATCH)
        stops[0], seen[:] = True, []
        with pytest.raises(KeyboardInterrupt):
            own.fit(6 * BATCH)
        assert own.step == done
    own.fit(6 * BATCH)
    assert_same(own.parameters, undisturbed.parameters)
    made, expected = ([(one.step, one.replica) for one in of.segmentations] for of in (own, undisturbed))
    assert made == expected


def test_settings_may_be_numbers_of_numpy(tmp_path: Path) -> None:
    path, lr = tmp_path / "state.safetensors", np.float32(1e-3)
    for rate in (lr, float(lr)):
        replicas = [Replica(seed, rate, ECM(VE5), "one") for seed in np.arange(2)]
        own = trainer(replicas, batch_size=np.int64(BATCH))
        own.fit(BATCH, checkpoint=path)
        trainer(replicas).resume(path)


def test_weights_to_start_from_take_the_networks_precision() -> None:
    replica = Replica(0, 1e-2, ECM(VE5), "one")
    start = trainer([replica]).parameters
    exact, own = trainer([replica], start=start), trainer([replica], start={k: p.double() for k, p in start.items()})
    for one in (exact, own):
        one.fit(2 * BATCH)
    assert_same(own.parameters, exact.parameters)
    start["layers.0.weight"][0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"start: layers\.0\.weight must be finite, got NaN or infinity in replica 0"):
        trainer([replica], start=start)


def test_replicas_are_counted_from_the_end_too() -> None:
    own, x, t = trainer(mixed()), torch.ones(3, 2), torch.ones(3)
    assert torch.equal(own.model(-1)(x, t), own.model(9)(x, t))
    with pytest.raises(IndexError, match="index 10 is out of bounds"):
        own.model(10)


def test_refuses_a_state_of_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    trainer(mixed()).fit(BATCH, checkpoint=path)
    others = [
        (trainer(mixed()[::-1]), "replicas"),
        (trainer(mixed(), ema=0.5), "ema"),
        (trainer(mixed(), batch_size=8), "batch_size"),
        (trainer(mixed(), build=lambda: TimeMLP(2, width=9, depth=2)), "shapes"),
        (trainer(mixed(FLOW5), FLOW5), "schedule"),
    ]
    for other, named in others:
        with pytest.raises(ValueError, match=f"path: .* was saved with {named} ="):
            other.resume(path)
    drawn = [trainer([Replica(0, 1e-3, log_grid(VE5, 0.1, p_mean=mean), "one")]) for mean in (-1.1, 1.0)]
    drawn[0].fit(BATCH, checkpoint=path)
    with pytest.raises(ValueError, match=r"path: .* was saved with replicas ="):
        drawn[1].resume(path)
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"path: must be a state that a trainer saved, got .*, which holds none"):
        drawn[0].resume(path)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: trainer([]), "replicas"),
        (lambda: trainer(mixed(), batch_size=0), "batch_size"),
        (lambda: trainer(mixed(), objective="guessing"), "objective"),
        (lambda: trainer(mixed(), ema=1.0), "ema"),
        (lambda: trainer(mixed(), nodes=1), "nodes: must be an integer of at least 2, got 1"),
        (lambda: trainer(mixed(), batch_size=8.0), "batch_size: must be an integer of at least 1, got 8.0"),
        (lambda: trainer([Replica(0, 1e-3)], objective="denoising", p_std=math.nan), "p_std: must be positive"),
        (lambda: trainer([Replica(0, 1e-3)], objective="denoising", p_mean=math.nan), "p_mean: must be finite"),
        (lambda: trainer(mixed()).fit(BATCH, every=0), "every: must be an integer of at least 1, got 0"),
        (lambda: trainer([Replica(0, 1e-3)]), "discretization of replica 0"),
        (lambda: trainer(mixed(), objective="denoising"), "discretization of replica 0"),
        (lambda: trainer([Replica(0, -1.0, ECM(VE5))]), "lr of replica 0"),
        (lambda: trainer([Replica(0, math.nan, ECM(VE5))]), "lr of replica 0"),
        (lambda: trainer([Replica(0, 1e-3, ECM(VE5), "guess")]), "weight"),
        (lambda: trainer(mixed(), start={"w": torch.zeros(1)}), "start"),
        (lambda: trainer(mixed(), start=trainer(mixed()[:1]).ema), "start"),
        (lambda: ConsistencyTrainer(network, mixed(), VE5, lambda g, n: sample(g, n) / 0, **SMALL), "sample.*finite"),
        (lambda: ConsistencyTrainer(network, mixed(), VE5, lambda g, n: sample(g, n).to_sparse(), **SMALL), "dense"),
        (lambda: trainer(mixed(), build=lambda: nn.BatchNorm1d(2)), "BatchNorm1d.*use GroupNorm or LayerNorm"),
        (lambda: trainer(mixed(), autocast=torch.float16), "autocast"),
        (lambda: TimeMLP(2, width=0), "width"),
    ],
)
def test_bad_arguments_are_named(make, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()

"""A replica computes what it would compute alone through torch.optim, by both back ends."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from layers import LAYERS, shape_of
from torch import nn
from torch.nn import functional as F

from replication.training import MLP, SGD, AdamW, ByteTransformer, Population, ResNet8, matrices_only, use_deterministic
from replication.training.population import BLOCK, cross_entropy, faster
from replication.training.seeding import seeded, stream_seed

REPLICAS, BATCH, STEPS = 3, 16, 100

both = pytest.mark.parametrize("backend", ["population", "plain"])


def name(value: object) -> str:
    """A test's name without the addresses of functions, which differ from process to process."""
    return repr(value).split(", decays=")[0]


SGDS = [
    SGD(),
    SGD(momentum=0.9),
    SGD(momentum=0.9, nesterov=True, weight_decay=1e-2),
    SGD(momentum=0.8, weight_decay=5e-2, decays=matrices_only),
]
ADAMS = [AdamW(), AdamW(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.2), AdamW(weight_decay=0.5, decays=matrices_only)]


def peer(optimizer: SGD | AdamW, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The same optimiser from torch, decay masked through parameter groups."""
    groups = [
        {
            "params": [p for n, p in model.named_parameters() if optimizer.decays(n, p.ndim) is yes],
            "weight_decay": optimizer.weight_decay if yes else 0.0,
        }
        for yes in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(groups, lr=lr, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    return torch.optim.AdamW(groups, lr=lr, betas=optimizer.betas, eps=optimizer.eps)


def alone(build, seed, optimizer, x, y, rates, dtype=torch.float32, clip=None):
    """Losses and final model of one run through torch.optim; x and y of shape (T, B, …)."""
    with seeded(seed):
        model = build().to(dtype)
    torch_optimizer = peer(optimizer, model, float(rates[0]))
    losses = []
    for t, rate in enumerate(rates):
        for group in torch_optimizer.param_groups:
            group["lr"] = float(rate)
        torch_optimizer.zero_grad()
        loss = cross_entropy(model(x[t]), y[t])
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        torch_optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), model


@both
@pytest.mark.parametrize("optimizer", [*SGDS, *ADAMS], ids=name)
def test_equals_torch_optim_step_by_step(optimizer, backend):
    """float64, so that a wrong rule cannot hide behind rounding: decay, bias correction, Nesterov's look-ahead."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS, REPLICAS, BATCH, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (STEPS, REPLICAS, BATCH), generator=generator)
    rates = torch.rand(STEPS, REPLICAS, generator=generator) * (0.2 if isinstance(optimizer, SGD) else 0.02)
    seeds = [5, 6, 5]
    population = Population(lambda: MLP([6, 8, 4]).double(), seeds, optimizer, backend=backend)
    losses = population.fit(lambda t: (x[t], y[t]), rates)
    for r in range(REPLICAS):
        expected, model = alone(
            lambda: MLP([6, 8, 4]), seeds[r], optimizer, x[:, r], y[:, r], rates[:, r].float(), torch.float64
        )
        torch.testing.assert_close(losses[:, r], expected, rtol=1e-9, atol=1e-9)
        for name, p in model.named_parameters():
            torch.testing.assert_close(population.parameters[name][r], p.detach(), rtol=1e-8, atol=1e-9)


@both
@pytest.mark.parametrize(
    ("build", "shape"),
    [(lambda: MLP([64, 128, 128, 10]), (1, 8, 8)), (lambda: ResNet8(1, 10, width=4), (1, 8, 8))],
    ids=["mlp", "resnet8"],
)
@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9, weight_decay=5e-4), AdamW(weight_decay=0.1)], ids=name)
def test_same_losses_as_alone_over_100_steps(build, shape, optimizer, backend):
    """The promise made to users: float32 losses within 1e-5 of the runs one after another.

    Where training itself amplifies rounding by more than that (AdamW divides by gradients that can be tiny), the
    yardstick is what a run alone does when its inputs are changed by one unit in the last place.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, REPLICAS, 32, *shape, generator=generator)
    y = torch.randint(0, 10, (STEPS, REPLICAS, 32), generator=generator)
    rates = torch.tensor([0.002, 0.005, 0.01]) * torch.linspace(1, 0, STEPS)[:, None]
    losses = Population(build, range(REPLICAS), optimizer, backend=backend).fit(lambda t: (x[t], y[t]), rates)
    for r in range(REPLICAS):
        expected, _ = alone(build, r, optimizer, x[:, r], y[:, r], rates[:, r])
        nudged, _ = alone(build, r, optimizer, x[:, r] * (1 + 2**-23), y[:, r], rates[:, r])
        sensitivity = float((nudged - expected).abs().max())
        assert sensitivity < 1e-2, "the runs are too chaotic to compare"
        assert (losses[:, r] - expected).abs().max() < max(1e-5, 3 * sensitivity)


@both
def test_clipping_equals_torch(backend):
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randint(0, 256, (20, 2, 4, 8), generator=generator), torch.randint(0, 256, (20, 2, 4, 8))
    rates = torch.full((20, 2), 0.01)
    build = lambda: ByteTransformer(16, 1, 2, 8)  # noqa: E731
    losses = Population(build, [0, 1], AdamW(), clip_norm=0.1, backend=backend).fit(lambda t: (x[t], y[t]), rates)
    unclipped = Population(build, [0, 1], AdamW(), backend=backend).fit(lambda t: (x[t], y[t]), rates)
    for r in range(2):
        expected, _ = alone(build, r, AdamW(), x[:, r], y[:, r], rates[:, r], clip=0.1)
        torch.testing.assert_close(losses[:, r], expected, rtol=1e-4, atol=1e-5)
    assert (losses - unclipped).abs().max() > 1e-3


class Scaled(nn.Module):
    """A network with a parameter that is one number."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.scale = nn.Linear(3, 2), nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.body(x)


@both
def test_clipping_takes_a_parameter_that_is_one_number(backend):
    x, y = torch.randn(4, 2, 5, 3), torch.randint(0, 2, (4, 2, 5))
    rates = torch.full((4, 2), 0.1)
    losses = Population(Scaled, [0, 1], SGD(), clip_norm=0.01, backend=backend).fit(lambda t: (x[t], y[t]), rates)
    expected, _ = alone(Scaled, 0, SGD(), x[:, 0], y[:, 0], rates[:, 0], clip=0.01)
    torch.testing.assert_close(losses[:, 0], expected, rtol=1e-4, atol=1e-5)


@both
def test_a_replica_does_not_depend_on_its_company(backend):
    """Neither on the others' seeds and rates, nor on a neighbour that diverges."""
    x, y = torch.randn(10, 1, 8, 6), torch.randint(0, 3, (10, 1, 8))

    def final(seeds, rates):
        n = len(seeds)
        population = Population(lambda: MLP([6, 5, 3]), seeds, SGD(momentum=0.9), backend=backend)
        population.fit(lambda t: (x[t].expand(n, -1, -1), y[t].expand(n, -1)), torch.tensor(rates).expand(10, n))
        return population

    solo, crowd = final([7], [0.1]), final([1, 7, 2], [0.3, 0.1, 1e20])
    assert not crowd.evaluate(x[0, 0], y[0, 0]).loss.isfinite().all()
    for name, p in solo.parameters.items():
        torch.testing.assert_close(crowd.parameters[name][1], p[0], rtol=1e-5, atol=1e-6)


@both
def test_evaluate_is_the_mean_over_all_batches(backend):
    population = Population(lambda: MLP([6, 5, 3]), [0, 1], SGD(), backend=backend)
    x, y = torch.randn(23, 6), torch.randint(0, 3, (23,))
    scores = population.evaluate(x, y, batch_size=7)
    for r in range(2):
        logits = population.replica(r)(x)
        torch.testing.assert_close(scores.loss[r], F.cross_entropy(logits, y).detach())
        torch.testing.assert_close(scores.error[r], (logits.argmax(1) != y).float().mean())


@both
def test_a_diverged_replica_counts_as_all_wrong(backend):
    population = Population(lambda: MLP([2, 2]), [0, 1], SGD(), backend=backend)
    for p in population.parameters.values():
        p[1] = torch.nan
    scores = population.evaluate(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
    assert scores.error[1] == 1
    assert scores.error[0] in (0.0, 1.0)
    assert scores.loss[0].isfinite()


def test_seeds_fix_the_initial_weights():
    population = Population(lambda: MLP([6, 5, 3]), [3, 4, 3], SGD())
    weights = population.parameters["1.weight"]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])
    with seeded(4):
        assert torch.equal(weights[1], MLP([6, 5, 3])[1].weight)


class Functional(nn.Module):
    """Dropout called as a function, which no list of layers shows."""

    def __init__(self, p):
        super().__init__()
        self.p, self.linear = p, nn.Linear(2, 3)

    def forward(self, x):
        return F.dropout(self.linear(x), self.p)


@both
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), "changes its buffer 1.running_mean"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1)), "draws random numbers"),
        (lambda: Functional(0.1), "draws random numbers"),
    ],
)
def test_a_forward_pass_that_is_no_function_is_refused(build, message, backend):
    population = Population(build, [0, 1], SGD(), backend=backend)
    before = {name: p.clone() for name, p in population.parameters.items()}
    with pytest.raises(ValueError, match=f"build: the model {message}"):
        population.step(torch.randn(2, 4, 2), torch.zeros(2, 4, dtype=torch.long), torch.ones(2))
    assert all(torch.equal(population.parameters[name], p) for name, p in before.items())


@both
@pytest.mark.parametrize("build", [lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.0)), lambda: Functional(0.0)])
def test_dropout_that_drops_nothing_is_taken(build, backend):
    state = torch.get_rng_state()
    Population(build, [0, 1], SGD(), backend=backend).step(
        torch.ones(2, 4, 2), torch.zeros(2, 4, dtype=torch.long), torch.ones(2)
    )
    assert torch.equal(torch.get_rng_state(), state)


class Partly(nn.Module):
    """A frozen body, drawn anew for every seed, a buffer of its own, a parameter without a part in the loss."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 4).requires_grad_(False)
        self.register_buffer("shift", torch.randn(4))
        self.head, self.spare = nn.Linear(4, 3), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.head(torch.tanh(self.body(x) + self.shift))


@both
@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9, weight_decay=0.1), AdamW(weight_decay=0.1)], ids=name)
def test_what_is_not_trained_is_each_replicas_own_and_stays(optimizer, backend):
    seeds, steps = [3, 5, 3], 6
    population = Population(Partly, np.array(seeds), optimizer, backend=backend)
    assert set(population.parameters) == {"head.weight", "head.bias", "spare"}
    x, y = torch.randn(steps, 3, 8, 2), torch.randint(0, 3, (steps, 3, 8))
    for t in range(steps):
        population.step(x[t], y[t], torch.full((3,), 0.05))
    for index, seed in enumerate(seeds):
        with seeded(seed):
            model = Partly()
        alone = peer(optimizer, model, 0.05)
        for t in range(steps):
            alone.zero_grad()
            F.cross_entropy(model(x[t, index]), y[t, index]).backward()
            alone.step()
        ours = population.replica(index)
        for key, value in model.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)
        torch.testing.assert_close(population.logits(x[0, 0])[index], model(x[0, 0]), rtol=1e-4, atol=1e-6)


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="build: the model has no parameter with requires_grad=True"):
        Population(lambda: nn.Linear(2, 2).requires_grad_(False), [0], SGD())


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(2, 3, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(self.w.dtype) @ self.w).abs()


@pytest.mark.parametrize(
    ("build", "got"),
    [
        (Complex, "w (torch.complex64)"),
        (lambda: nn.Linear(2, 3, device="meta"), "bias (meta)"),
        (
            lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3).double()),
            "0.bias (torch.float32), 1.bias (torch.float64)",
        ),
    ],
)
def test_parameters_of_no_common_floating_type_are_refused(build, got):
    """AdamW squares a gradient where torch takes the modulus, so it would train complex parameters otherwise."""
    with pytest.raises(ValueError, match=re.escape(f"one floating-point type, got {got}")):
        Population(build, [0, 1], AdamW())


@both
def test_sparse_gradients_and_inputs_are_refused_by_name(backend):
    population = Population(lambda: nn.EmbeddingBag(5, 3, sparse=True), [0, 1], SGD(), backend=backend)
    with pytest.raises(ValueError, match="build: the gradient of weight is sparse"):
        population.step(torch.zeros(2, 4, 2, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long), torch.ones(2))
    population = Population(lambda: MLP([2, 3]), [0, 1], SGD(), backend=backend)
    with pytest.raises(ValueError, match=r"x: must be dense, got torch.sparse_coo; call x.to_dense\(\)"):
        population.step(torch.zeros(2, 4, 2).to_sparse(), torch.zeros(2, 4, dtype=torch.long), torch.ones(2))


def test_the_first_batch_is_looked_at_before_a_back_end_is_chosen_by_it():
    population = Population(lambda: nn.EmbeddingBag(5, 3), [0, 1], SGD())
    with pytest.raises(ValueError, match="x: must be dense"):
        population.fit(
            lambda _: (torch.zeros(2, 4, 2).to_sparse(), torch.zeros(2, 4, dtype=torch.long)), torch.ones(1, 2)
        )


@both
def test_what_has_no_part_in_the_loss_is_taken_from_a_checkpoint_too(backend, tmp_path):
    def build(value):
        model = Partly()
        nn.init.constant_(model.spare, value)
        return model

    one, other = (
        Population(lambda v=value: build(v), [0], AdamW(weight_decay=0.1), backend=backend) for value in (2, 3)
    )
    batch = torch.randn(1, 4, 2), torch.zeros(1, 4, dtype=torch.long), torch.full((1,), 0.1)
    for population in (one, other):
        population.step(*batch)
    other.checkpoint(tmp_path / "state")
    one.resume(tmp_path / "state")
    one.step(*batch)
    assert one.parameters["spare"].item() == 3


@pytest.mark.parametrize("seed", [np.random.RandomState(0), True, 1.0, -1, "0"])
def test_seeds_are_integers_and_not_how_they_print(seed):
    with pytest.raises(ValueError, match="seeds: must be an integer of at least 0"):
        Population(lambda: MLP([2, 2]), [seed], SGD())
    with pytest.raises(ValueError, match="seed: must be an integer of at least 0"):
        stream_seed(seed, "init")


MODELS = {
    "resnet8": (lambda: ResNet8(3, 10, width=4), lambda shape: torch.randn(*shape, 3, 8, 8), (10, ())),
    "transformer": (
        lambda: ByteTransformer(16, 1, 2, 8),
        lambda shape: torch.randint(0, 256, (*shape, 8)),
        (256, (8,)),
    ),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "optimizer",
    [SGD(momentum=0.9, weight_decay=5e-2, decays=matrices_only), AdamW(weight_decay=0.5, decays=matrices_only)],
    ids=name,
)
@pytest.mark.parametrize("clip", [None, 0.1])
def test_back_ends_agree_step_by_step(model, optimizer, clip):
    """Each step from the same float32 parameters and state, so that nothing but one step's rounding differs."""
    build, draw, (classes, per_example) = MODELS[model]
    torch.manual_seed(4)
    mapped, plain = (
        Population(build, [0, 1, 0], optimizer, clip_norm=clip, backend=backend) for backend in ("population", "plain")
    )
    begin = {name: p.clone() for name, p in plain.parameters.items()}
    for _ in range(10):
        x, y = draw((REPLICAS, BATCH)), torch.randint(0, classes, (REPLICAS, BATCH, *per_example))
        lr = torch.tensor([0.0, 0.01, 0.02])
        torch.testing.assert_close(plain.step(x, y, lr), mapped.step(x, y, lr), rtol=1e-5, atol=1e-5)
        ours, theirs = plain._tensors(), mapped._tensors()
        assert ours.keys() == theirs.keys()
        for name, p in ours.items():
            # Adam turns a gradient that is rounding alone into a whole step: compare where gradients are not
            error = (p - theirs[name]).norm() / theirs[name].norm().clamp(min=1e-12)
            assert error < 2e-5, f"{name}: relative error {error}"
            p.copy_(theirs[name])
    for name, p in plain.parameters.items():
        assert torch.equal(p[0], begin[name][0]), "a replica with rate 0 must not move"
        assert not torch.equal(p[1], begin[name][1])


@both
@pytest.mark.parametrize("model", MODELS)
def test_training_reads_nothing_that_nobody_wrote(model, backend, monkeypatch):
    """Runs do not fill fresh memory: with NaN in it they must come out the same to the bit."""
    use_deterministic()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    build, draw, (classes, per_example) = MODELS[model]
    torch.manual_seed(8)
    x, y = draw((4, 2, BATCH)), torch.randint(0, classes, (4, 2, BATCH, *per_example))
    ended = []
    for filled in (True, False):
        monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", filled)
        population = Population(build, [0, 1], SGD(momentum=0.9, weight_decay=5e-2), clip_norm=0.1, backend=backend)
        population.fit(lambda t: (x[t], y[t]), torch.full((4, 2), 0.01))
        ended.append(population.logits(x[0, 0]))
    assert ended[0].isfinite().all()
    assert torch.equal(*ended)


@pytest.mark.parametrize("name", LAYERS)
def test_back_ends_agree_through_every_kind_of_layer(name):
    """Those of torch's transforms, and ordinary automatic differentiation."""

    def build():
        return nn.Sequential(LAYERS[name](), nn.Linear(1, 3)).double()

    generator = torch.Generator().manual_seed(6)
    x = torch.randn(2, 5, *shape_of(name, build()), generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (2, 5), generator=generator)
    mapped, plain = (Population(build, [0, 1], SGD(momentum=0.9), backend=which) for which in ("population", "plain"))
    begin = {key: p.clone() for key, p in plain.parameters.items()}
    for population in (mapped, plain):
        for _ in range(2):
            population.step(x, y, torch.tensor([0.1, 0.5], dtype=torch.float64))
    assert any(not torch.equal(plain.parameters[key], p) for key, p in begin.items())
    for key, p in plain.parameters.items():
        torch.testing.assert_close(mapped.parameters[key], p, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("width", "last"), [(2, False), (6, False), (8, True)])
def test_channels_lie_together_only_where_gradients_stay_in_their_memory(width, last):
    """On AVX2 oneDNN overruns its buffer in narrow strided 1 × 1 convolutions; the process dies at some later time."""
    found = []

    def build():
        model = ResNet8(2, 3, width=width)
        model.stages[1].shortcut.register_forward_pre_hook(
            lambda module, inputs: found.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        return model

    population = Population(build, [0], SGD(), "cpu", backend="plain")
    population.step(torch.randn(1, 4, 2, 8, 8), torch.zeros(1, 4, dtype=torch.long), torch.tensor([0.1]))
    assert set(found) == {last}


def test_plain_modules_train_alike_in_blocks_and_in_steps():
    """More steps than a block and not a multiple of it: the same to the bit."""
    steps = 2 * BLOCK + 3
    x, y = torch.randn(steps, 2, 4, 1, 8, 8), torch.randint(0, 3, (steps, 2, 4))
    rates = torch.rand(steps, 2) * 0.01

    def fresh():
        return Population(lambda: ResNet8(1, 3, width=4), [0, 1], AdamW(), clip_norm=1.0, backend="plain")

    blocks, single = fresh(), fresh()
    losses = blocks.fit(lambda t: (x[t], y[t]), rates)
    assert torch.equal(losses, torch.stack([single.step(x[t], y[t], rates[t]) for t in range(steps)]))
    assert blocks.steps == single.steps == steps
    for name, p in single.parameters.items():
        assert torch.equal(blocks.parameters[name], p)
    assert torch.equal(blocks.replica(1)(x[0, 0]), blocks.logits(x[0, 0])[1])


@pytest.mark.parametrize(
    ("build", "batch", "replicas", "chosen"),
    [
        (lambda: MLP([64, 128, 128, 10]), torch.zeros(32, 64), 64, "population"),
        (lambda: MLP([64, 128, 128, 10]), torch.zeros(32, 64), 4, "plain"),
        (lambda: MLP([64, 512, 512, 10]), torch.zeros(8, 64), 32, "plain"),
        (lambda: ResNet8(1, 10, width=4), torch.zeros(16, 1, 8, 8), 64, "population"),
        (lambda: ResNet8(3, 10, width=16), torch.zeros(64, 3, 16, 16), 8, "plain"),
        (lambda: ByteTransformer(64, 2, 4, 64), torch.zeros(16, 64, dtype=torch.long), 16, "plain"),
    ],
)
def test_the_rule_takes_what_was_faster_when_measured(build, batch, replicas, chosen):
    assert faster(build(), replicas, batch) == chosen
    population = Population(build, range(replicas), SGD())
    assert population.backend == "auto"
    y = torch.zeros(batch.shape if batch.dtype == torch.long else len(batch), dtype=torch.long)
    population.step(batch.expand(replicas, *batch.shape), y.expand(replicas, *y.shape), torch.zeros(replicas))
    assert population.backend == chosen


@pytest.mark.parametrize("second", ["population", "plain"])
def test_a_resumed_population_goes_on_as_if_never_interrupted(tmp_path, second):
    """By the same back end to the bit; a state may be taken over by the other one."""
    x, y = torch.randn(20, 2, 4, 6), torch.randint(0, 3, (20, 2, 4))
    rates = torch.full((20, 2), 0.01)

    def fresh(backend="plain", seeds=(0, 1), optimizer=None):
        optimizer = optimizer or AdamW(weight_decay=0.5, decays=matrices_only)
        return Population(lambda: MLP([6, 5, 3]), seeds, optimizer, backend=backend)

    whole, first, resumed = fresh(), fresh(), fresh(second)
    whole.fit(lambda t: (x[t], y[t]), rates)
    first.fit(lambda t: (x[t], y[t]), rates[:8])
    first.checkpoint(tmp_path / "state")
    resumed.resume(tmp_path / "state")
    assert resumed.steps == 8
    resumed.fit(lambda t: (x[8 + t], y[8 + t]), rates[8:])
    for name, p in whole.parameters.items():
        if second == "plain":
            assert torch.equal(resumed.parameters[name], p)
        torch.testing.assert_close(resumed.parameters[name], p, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="was saved with seeds ="):
        fresh(seeds=(0, 2)).resume(tmp_path / "state")
    with pytest.raises(ValueError, match="was saved with optimizer ="):
        fresh(optimizer=AdamW(weight_decay=0.1)).resume(tmp_path / "state")
    with pytest.raises(ValueError, match="was saved with decayed ="):
        fresh(optimizer=AdamW(weight_decay=0.5)).resume(tmp_path / "state")
    assert list(tmp_path.iterdir()) == [tmp_path / "state"]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="seeds"):
        Population(lambda: MLP([2, 2]), [], SGD())
    with pytest.raises(ValueError, match="clip_norm"):
        Population(lambda: MLP([2, 2]), [0], SGD(), clip_norm=0.0)
    with pytest.raises(ValueError, match="backend: must be one of auto, population, plain, got 'fast'"):
        Population(lambda: MLP([2, 2]), [0], SGD(), backend="fast")
    population = Population(lambda: MLP([2, 2]), [0, 1], SGD())
    with pytest.raises(ValueError, match="x and lr: need 2 replicas"):
        population.step(torch.zeros(3, 1, 2), torch.zeros(3, 1, dtype=torch.long), torch.zeros(3))
    for wrong in ({"momentum": 1.0}, {"nesterov": True}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SGD(**wrong)
    for wrong in ({"betas": (1.0, 0.9)}, {"eps": 0.0}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AdamW(**wrong)


def test_a_forward_pass_written_out_for_all_replicas_changes_nothing():
    def stacked(p, x):
        hidden = torch.baddbmm(p["1.bias"].unsqueeze(1), x.flatten(2), p["1.weight"].mT).relu()
        return torch.baddbmm(p["3.bias"].unsqueeze(1), hidden, p["3.weight"].mT)

    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(20, REPLICAS, BATCH, 8, generator=generator), torch.randint(0, 3, (20, REPLICAS, BATCH))
    rates = torch.tensor([0.0, 0.01, 0.03]).expand(20, -1)
    mapped, written = (
        Population(lambda: MLP([8, 16, 3]), range(REPLICAS), AdamW(), clip_norm=0.5, stacked=forward, backend=backend)
        for forward, backend in ((None, "population"), (stacked, "auto"))
    )
    expected = mapped.fit(lambda t: (x[t], y[t]), rates)
    torch.testing.assert_close(written.fit(lambda t: (x[t], y[t]), rates), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(written.logits(x[0, 0]), mapped.logits(x[0, 0]), rtol=1e-4, atol=1e-4)
    assert not torch.equal(expected[0], expected[-1])
    assert written.backend == "population", "a forward pass that was written out is what its author wants run"

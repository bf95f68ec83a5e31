"""In somebody's own training: EDM's networks, attention, labels, dropout, modes, precision, ranks, the docs' loop."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kills import killed, on_posix
from torch import multiprocessing, nn

from replication.adcm import (
    VE,
    Adaptive,
    ConsistencyTrainer,
    ConstantLocal,
    EDMModel,
    FlowMatching,
    Gaussian,
    Preconditioned,
    Replica,
    TimeMLP,
    constant_local,
    sample_one_step,
    sample_two_step,
    segment,
    student_and_target,
    target_error,
)
from replication.adcm.draws import Draws
from replication.adcm.segmentation import step_rate, tangent
from replication.training import AdamW, seeded, stream_seed

VE5, BATCH = VE(t_max=5.0), 8
RULE = Adaptive(0.3, nodes=4, batch_size=16)
PAGE = (Path(__file__).parents[2] / "docs" / "adcm.md").read_text(encoding="utf-8")


class Attention(torch.autograd.Function):
    """As EDM has it: a function of its own that no functorch transform can pass."""

    @staticmethod
    def forward(ctx, q, k):
        w = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        ctx.save_for_backward(q, k, w)
        return w

    @staticmethod
    def backward(ctx, dw):
        q, k, w = ctx.saved_tensors
        db = w * (dw - (w * dw).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
        return db @ k, db.transpose(-1, -2) @ q


class Net(nn.Module):
    """A network of EDM's kind with attention over pixels, labels and, as in EDM, a functional dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.inside, self.label, self.out = nn.Linear(2, 6), nn.Linear(3, 6), nn.Linear(2, 1)

    def forward(self, x, sigma, class_labels=None, augment_labels=None):
        assert sigma.shape == (len(x), 1, 1, 1)
        assert augment_labels is None
        noise = (sigma.log() / 4).flatten()[:, None, None].expand(-1, x[0].numel(), 1)
        h = self.inside(torch.cat([x.flatten(1)[..., None], noise], -1))
        if class_labels is not None:
            h = h + self.label(class_labels)[:, None]
        q, k, v = torch.nn.functional.dropout(h, self.dropout, self.training).chunk(3, -1)
        f = self.out(Attention.apply(q, k) @ v).reshape(x.shape)
        return x * 0.25 / (sigma**2 + 0.25) + f * 0.5 * sigma * (sigma**2 + 0.25).rsqrt()


def draw(generator, n):
    x0 = 0.5 * torch.randn(n, 1, 2, 2, generator=generator)
    return x0, {"class_labels": torch.eye(3)[torch.randint(3, (n,), generator=generator)]}


def trainer(dropout: float = 0.0, seeds=(0,), **options) -> ConsistencyTrainer:
    replicas = [Replica(seed, 1e-2, RULE, "per_sample") for seed in seeds]
    options = {"batch_size": BATCH, "segment_every": 5, **options}
    return ConsistencyTrainer(lambda: EDMModel(Net(dropout)), replicas, VE5, draw, **options)


def test_the_readme_loop_is_the_trainer() -> None:
    """Labels, attention and the fallback to differences in both; the same draws, so the same weights."""
    code = next(one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def train(" in one)
    body = code[code.index("def train(") : code.index("class Net(")].replace("VE()", "VE(t_max=5.0)")
    assert len(body.strip().splitlines()) <= 20
    scope: dict = {}
    exec(code[: code.index("def train(")] + body, scope)
    steps = 4
    own = trainer()
    with pytest.warns(UserWarning, match="a JVP cannot pass it"):
        own.fit(steps * BATCH)
    with seeded(0):
        net = Net()
    batches = [Draws(draw, [0], BATCH, torch.device("cpu")).batch(step) for step in range(steps)]
    loop = [(b.x0[0], b.z[0], b.u[0], {name: c[0] for name, c in b.conditioning.items()}) for b in batches]
    torch.manual_seed(stream_seed(0, "segment 0"))
    with pytest.warns(UserWarning, match="a JVP cannot pass it"):
        grid = scope["train"](net, lambda n: draw(torch.default_generator, n), loop, lr=1e-2, rule=RULE)
    assert torch.equal(grid.times, own.grid(0).times)
    for name, p in net.named_parameters():
        torch.testing.assert_close(own.parameters[f"net.{name}"][0], p.detach(), rtol=1e-4, atol=1e-6)


def test_differences_take_the_place_of_a_jvp_with_one_warning() -> None:
    model = EDMModel(Net()).eval()
    sample = lambda n: draw(None, n)  # noqa: E731
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.manual_seed(0)
        grid = segment(model, sample, VE5, RULE)
    assert [str(one.message)[:30] for one in caught if "JVP" in str(one.message)] == ["model: a JVP cannot pass it (I"]
    assert grid.relative_step == 1e-3
    torch.manual_seed(0)
    asked = segment(model, sample, VE5, Adaptive(0.3, nodes=4, batch_size=16, relative_step=1e-3))
    assert torch.equal(grid.times, asked.times)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):  # the model's own error, not the JVP's
        segment(lambda x, t, **labels: nn.Linear(7, 1)(x.flatten(1)), sample, VE5, RULE)


class Attending(nn.Module):
    """A raw network with attention of torch's, whose kernels a JVP cannot pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(2, 4), nn.Linear(4, 1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x, c):
        h = self.inside(torch.stack([x, c[:, None].expand_as(x)], -1))
        return self.out(h + self.attention(h, h, h, need_weights=False)[0])[..., 0]


@pytest.mark.parametrize("objective", ["consistency", "tangent"])
def test_attention_of_torch_trains_with_every_objective(objective: str) -> None:
    def own(rule: Adaptive) -> ConsistencyTrainer:
        replica = Replica(0, 1e-2, rule, "per_sample") if objective == "consistency" else Replica(0, 1e-2)
        options = {"batch_size": BATCH, "objective": objective}
        return ConsistencyTrainer(Attending, [replica], VE5, lambda g, n: draw(g, n)[0].flatten(1), **options)

    told = own(RULE)
    before = {name: p.clone() for name, p in told.parameters.items() if name.endswith("weight")}
    with pytest.warns(UserWarning, match="a JVP cannot pass it"):
        told.fit(3 * BATCH)
    assert not any(torch.equal(told.parameters[name], p) for name, p in before.items())
    if objective == "tangent":  # what failed once is not tried again
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.func, "jvp", None)
            told.fit(5 * BATCH)
    if objective == "consistency":
        asked = own(replace(RULE, relative_step=1e-3))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            asked.fit(3 * BATCH)
        assert torch.equal(asked.grid(0).times, told.grid(0).times)


def test_labels_reach_the_model_with_their_own_example() -> None:
    """The label scales its own x0: with another order, or without the copy for -z, the rate would be another."""
    labels = torch.arange(1.0, 6.0)
    x0 = labels[:, None] * torch.ones(5, 2)

    def model(x, t, scale=None):
        return scale[:, None] * torch.ones_like(x) + 0.1 * t[:, None] * x

    rule = Adaptive(0.3, nodes=4, batch_size=5, antithetic=True)
    grid = segment(model, lambda n: (x0, {"scale": labels}), VE5, rule, noise=torch.zeros_like)
    # without noise f - x0 = 0.1 t x0 and v = 0.1 x0: the rate is t, if every label is with its own x0
    torch.testing.assert_close(grid.rates, grid.nodes, rtol=1e-3, atol=0)
    z = torch.randn(5, 2)
    given = step_rate(model, x0, z, 1.0, VE5, conditioning={"scale": labels})
    torch.testing.assert_close(given, step_rate(lambda x, t: model(x, t, scale=labels), x0, z, 1.0, VE5))
    error = target_error(model, lambda n: (x0, {"scale": labels}), VE5, VE5.levels(3), 0.0, batch_size=5)
    assert float(error(torch.tensor([0.002]))) < 0.01


@pytest.mark.filterwarnings("ignore:model")
def test_a_grid_of_constant_consistency_is_made_like_any_other() -> None:
    """In evaluation mode, put back; by a JVP that is tried once; on a schedule that fits."""
    model, rule, tried = EDMModel(Net(0.5)).train(), ConstantLocal(5, nodes=4, batch_size=8), []
    data, z = draw(None, 8), torch.randn(8, 1, 2, 2)
    jvp = torch.func.jvp
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.func, "jvp", lambda *given: tried.append(1) or jvp(*given))
        with pytest.warns(UserWarning, match="is in train mode and holds Net"):
            first = constant_local(model, lambda n: data, VE5, rule, noise=lambda x: z)
    assert len(tried) == 1
    assert model.net.training
    again = constant_local(model.eval(), lambda n: data, VE5, rule, noise=lambda x: z)
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="schedule: must be VE for an EDMModel"):
        constant_local(model, lambda n: data, FlowMatching(), rule)


def test_modes_are_put_back_and_dropout_is_said() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    network[0].eval()
    model = Preconditioned(network, VE5)
    model.network.forward = lambda x, c: network[1](network[0](x))
    sample = lambda n: 0.5 * torch.randn(n, 2)  # noqa: E731
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="is in train mode and holds Dropout; evaluated in eval mode"):
        grid = segment(model, sample, VE5, RULE)
    assert [one.training for one in network.modules()] == [True, False, True]
    torch.manual_seed(0)
    assert torch.equal(grid.times, segment(model.eval(), sample, VE5, RULE).times)
    model.train()
    with pytest.warns(UserWarning, match="model: draws random numbers"):
        segment(lambda x, t: model(x, t), sample, VE5, RULE)


def test_student_and_target_share_the_dropout_mask() -> None:
    """With t = r the two passes are the same function of the same input, under the same mask."""
    model = EDMModel(Net(0.5)).train()
    x0, labels = draw(None, 16)
    t = torch.full((16,), 0.7)
    for _ in range(2):
        student, target = student_and_target(model, VE5, x0, torch.randn_like(x0), t, t, **labels)
        assert torch.equal(student.detach(), target)
        assert student.requires_grad
        assert not target.requires_grad
    again, _ = student_and_target(model, VE5, x0, torch.randn_like(x0), t, t, **labels)
    assert not torch.equal(student, again)


@pytest.mark.filterwarnings("ignore:model")
def test_samples_take_labels_and_are_drawn_in_evaluation_mode() -> None:
    model, z = EDMModel(Net(0.5)).train(), torch.randn(4, 1, 2, 2)
    labels = {"class_labels": torch.eye(3)[[0, 1, 2, 0]]}
    for sample in (
        lambda **given: sample_one_step(model, z, VE5, **given),
        lambda **given: sample_two_step(model, z, z, VE5, **given),
    ):
        first = sample(**labels)
        assert torch.equal(first, sample(**labels))
        assert not torch.allclose(first, sample())
    assert model.net.training


def test_a_network_that_casts_itself_is_differentiated_in_full_precision() -> None:
    class Half(Net):
        use_fp16 = True

        def forward(self, x, sigma, class_labels=None, augment_labels=None):
            x = x.half().float() if self.use_fp16 else x
            return super().forward(x, sigma, class_labels)

    torch.manual_seed(0)
    model = EDMModel(Half()).eval()
    grids = []
    for model.net.use_fp16 in (False, True):
        generator = torch.Generator().manual_seed(0)
        with pytest.warns(UserWarning, match="a JVP cannot pass it"):
            grids.append(segment(model, lambda n, g=generator: draw(g, n), VE5, RULE, generator=generator))
    assert torch.equal(grids[0].times, grids[1].times)
    assert model.net.use_fp16
    with pytest.raises(ValueError, match=r"build: the network casts itself to float16"):
        ConsistencyTrainer(lambda: model, [Replica(0, 1e-2, RULE)], VE5, draw, batch_size=BATCH)


def test_what_a_schedule_or_two_passes_do_not_fit_is_refused(tmp_path: Path) -> None:
    flow, model = FlowMatching(), EDMModel(Net())
    x0, labels = draw(None, 4)
    t = torch.full((4,), 0.7)
    for call in (
        lambda: segment(model.eval(), lambda n: draw(None, n), flow, RULE),
        lambda: student_and_target(model, flow, x0, x0, t, t, **labels),
        lambda: sample_one_step(model, x0, flow),
        lambda: ConsistencyTrainer(lambda: EDMModel(Net()), [Replica(0, 1e-2, RULE)], flow, draw, batch_size=BATCH),
    ):
        with pytest.raises(ValueError, match="schedule: must be VE for an EDMModel"):
            call()
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="schedule: must be VE for an EDMModel"):
            segment(nn.parallel.DistributedDataParallel(model), lambda n: draw(None, n), flow, RULE)
    finally:
        torch.distributed.destroy_process_group()
    normed = Preconditioned(nn.BatchNorm1d(2), VE5)
    with pytest.raises(ValueError, match=r"model: the network holds a BatchNorm1d.*use GroupNorm or LayerNorm"):
        student_and_target(normed, VE5, x0, x0, t, t)


def test_dropout_trains_with_masks_of_its_own_seed() -> None:
    """Replicas of a population have the masks that they have alone; dropout makes a difference; sampling has none."""
    both, alone, none = trainer(0.5, (0, 1)), trainer(0.5, (1,)), trainer(0.0, (1,))
    for own in (both, alone, none):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own.fit(4 * BATCH)
    x, t, labels = torch.ones(1, 1, 2, 2), torch.ones(1), {"class_labels": torch.eye(3)[:1]}
    a, b, c = (own.model(i)(x, t, **labels) for own, i in ((both, 1), (alone, 0), (none, 0)))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(b, c)
    assert torch.equal(b, alone.model(0)(x, t, **labels))


def test_bfloat16_trains_and_leaves_weights_and_grids_in_full_precision() -> None:
    full, half = trainer(), trainer(autocast=torch.bfloat16)
    for own in (full, half):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own.fit(3 * BATCH)
    assert torch.equal(full.grid(0).times, half.grid(0).times)
    p, q = full.parameters["net.out.weight"], half.parameters["net.out.weight"]
    assert q.dtype == torch.float32
    assert not torch.equal(p, q)
    torch.testing.assert_close(p, q, atol=0.05, rtol=0)
    x0, z = torch.randn(2, 16, 2)
    model = Preconditioned(TimeMLP(2, 8), VE5)
    expected = tangent(model, x0, z, 1.0, VE5)[1]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tangent(model, x0, z, 1.0, VE5)[1], expected)
    with pytest.raises(ValueError, match=r"sample: must return float32 or float64, got torch\.bfloat16"):
        segment(model, lambda n: torch.zeros(n, 2, dtype=torch.bfloat16), VE5, RULE)


@pytest.fixture(params=["allow_tf32", "fp32_precision"])
def tf32(request):
    """TF32 allowed in either of torch's two ways."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (getattr(cuda, request.param), getattr(cudnn, request.param))
    setattr(cuda, request.param, True if request.param == "allow_tf32" else "tf32")
    setattr(cudnn, request.param, True if request.param == "allow_tf32" else "tf32")
    yield request.param
    setattr(cuda, request.param, before[0])
    setattr(cudnn, request.param, before[1])


def broken(x, t):
    raise RuntimeError("broken")


@pytest.mark.parametrize("relative_step", [None, 1e-3])
def test_a_derivative_is_taken_without_tf32_which_is_put_back(tf32: str, relative_step: float | None) -> None:
    """A difference over a thousandth is below what TF32 resolves."""
    cuda, cudnn, network, seen = torch.backends.cuda.matmul, torch.backends.cudnn, TimeMLP(2, 8), []
    kinds = (cuda, cudnn.conv, cudnn.rnn)

    def model(x, t):
        seen.append([kind.fp32_precision for kind in kinds])
        return network(x, t)

    x0, z = torch.randn(2, 16, 2)
    assert [kind.fp32_precision for kind in kinds] == ["tf32"] * 3
    tangent(model, x0, z, 1.0, VE5, relative_step=relative_step)
    segment(model, lambda n: torch.randn(n, 2), VE5, replace(RULE, relative_step=relative_step))
    with pytest.raises(RuntimeError, match="broken"):
        tangent(broken, x0, z, 1.0, VE5, relative_step=relative_step)
    assert seen == [["ieee"] * 3] * ((1 + RULE.nodes) * (1 if relative_step is None else 3))
    assert [kind.fp32_precision for kind in kinds] == ["tf32"] * 3
    if tf32 == "allow_tf32":
        assert cuda.allow_tf32
        assert cudnn.allow_tf32


# --- ranks ------------------------------------------------------------------------------------------------------------


def rank(number: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=number, world_size=2)
    data, generator = Gaussian([0.5, 0.5]), torch.Generator().manual_seed(number)
    sample = lambda n: data.sample(n, generator=generator, dtype=torch.float32)  # noqa: E731
    found = {}
    for mode in ("interpolated", "paper"):
        rule = Adaptive(0.3, mode=mode, nodes=6, batch_size=64)
        found[mode] = segment(data.denoiser(VE5), sample, VE5, rule, generator=generator).times
    found["alone"] = segment(data.denoiser(VE5), sample, VE5, RULE, generator=generator, across_ranks=False).times
    found["error"] = target_error(data.denoiser(VE5), sample, VE5, VE5.levels(3), 0.0, generator=generator).values
    torch.save(found, f"{folder}/{number}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # two processes import torch
def test_two_ranks_with_different_data_get_the_same_grid(tmp_path: Path) -> None:
    multiprocessing.spawn(rank, (str(tmp_path),), nprocs=2)
    one, other = (torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in range(2))
    for name in ("interpolated", "paper", "error"):
        assert torch.equal(one[name], other[name]), name
    assert one["alone"].shape != other["alone"].shape or not torch.equal(one["alone"], other["alone"])


# --- a kill, with dropout on ------------------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:model")
@on_posix
def test_a_killed_run_with_dropout_resumes_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    killed("test_adcm_own_training", "trainer(0.5, (0, 1))", path)
    resumed, undisturbed = trainer(0.5, (0, 1)), trainer(0.5, (0, 1))
    resumed.resume(path)
    torch.rand(3)  # torch's own generator has no part in it
    budget = (resumed.step + 7) * BATCH
    for own in (resumed, undisturbed):
        own.fit(budget)
    for ours, theirs in zip(resumed._parts().values(), undisturbed._parts().values(), strict=True):
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name


def test_a_frozen_part_is_each_seeds_own_and_stays() -> None:
    def build() -> EDMModel:
        model = EDMModel(Net(0.0))
        next(model.parameters()).requires_grad_(False)
        return model

    first = next(name for name, _ in build().named_parameters())
    replicas = [Replica(seed, 1e-2, RULE, "per_sample") for seed in (0, 1)]
    own = ConsistencyTrainer(build, replicas, VE5, draw, batch_size=BATCH)
    networks = {seed: own._ensemble._networks[seed] for seed in (0, 1)}
    before = {seed: dict(network.named_parameters())[first].clone() for seed, network in networks.items()}
    assert first not in own.parameters
    assert not torch.equal(before[0], before[1])
    trained = {name: p.clone() for name, p in own.parameters.items()}
    with pytest.warns(UserWarning, match="a JVP cannot pass it"):
        own.fit(3 * BATCH)
    assert all(not torch.equal(own.parameters[name], p) for name, p in trained.items() if name.endswith("weight"))
    for seed, network in networks.items():
        assert torch.equal(dict(network.named_parameters())[first], before[seed])


def test_what_the_loss_does_not_depend_on_stays() -> None:
    """As in `torch.optim`: here the layer of the labels, of which there are none, though weights decay."""
    options = {"batch_size": BATCH, "optimizer": AdamW(weight_decay=0.5)}
    replicas = [Replica(seed, 1e-2, RULE, "per_sample") for seed in (0, 1)]
    own = ConsistencyTrainer(lambda: EDMModel(Net()), replicas, VE5, lambda g, n: draw(g, n)[0], **options)
    before = {name: p.clone() for name, p in own.parameters.items()}
    with pytest.warns(UserWarning, match="a JVP cannot pass it"):
        own.fit(3 * BATCH)
    stayed = {name for name, p in own.parameters.items() if torch.equal(p, before[name])}
    assert {name for name in stayed if name.endswith("weight")} == {"net.label.weight"}
    assert torch.equal(own.ema["net.label.weight"], before["net.label.weight"])

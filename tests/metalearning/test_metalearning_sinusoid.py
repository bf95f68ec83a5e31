"""The task family, and the fast population against the reference written with torch.func, in float64."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import mse_loss

from replication.metalearning.adaptation import adapt, drs_gradient, maml_gradient
from replication.metalearning.sinusoid import METHODS, RANGE, MetaPopulation, Sinusoids
from replication.training import MLP, seeded

SIZES = [1, 7, 6, 1]
TASKS, SHOTS, RATE = 3, 4, 0.05


def test_tasks_span_the_family_and_are_common_over_widths():
    wide, narrow = (Sinusoids.draw(seed=1, stream="train", shape=(4000,), width=width) for width in (1.0, 0.5))
    assert 0.1 <= wide.amplitude.min() < 0.15
    assert 4.95 < wide.amplitude.max() <= 5
    assert 0 <= wide.phase.min() < 0.01
    assert math.pi - 0.01 < wide.phase.max() <= math.pi
    torch.testing.assert_close(2 * (narrow.amplitude - 2.55), wide.amplitude - 2.55)
    torch.testing.assert_close(2 * (narrow.phase - math.pi / 2), wide.phase - math.pi / 2)
    assert abs(torch.corrcoef(torch.stack([wide.amplitude, wide.phase]))[0, 1]) < 0.05


def test_values_are_those_of_the_sinusoid():
    tasks = Sinusoids(torch.tensor([2.0, 3.0]), torch.tensor([0.0, math.pi / 2]))
    x = torch.tensor([[0.5], [1.0]]).expand(2, 2, 1)
    expected = torch.tensor([[2 * math.sin(0.5), 2 * math.sin(1)], [3 * math.cos(0.5), 3 * math.cos(1)]])
    torch.testing.assert_close(tasks(x)[..., 0], expected)


def test_examples_have_the_noise_that_was_asked_for():
    tasks = Sinusoids.draw(0, "test", (500,), 0.5)
    x, clean = tasks.sample(0, "test", 20, 0.0)
    assert x.shape == clean.shape == (500, 20, 1)
    assert x.abs().max() <= RANGE
    torch.testing.assert_close(clean, tasks(x))
    again, noisy = tasks.sample(0, "test", 20, 0.3)
    assert torch.equal(x, again)
    assert float((noisy - clean).std()) == pytest.approx(0.3, rel=0.03)
    assert not torch.equal(x, tasks.sample(0, "validation", 20, 0.0)[0])


def examples(replicas: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, replicas, TASKS, 2 * SHOTS, 1, generator=generator, dtype=torch.float64)
    return x, y


def population(method: str, seeds: list[int], lr: list[float]) -> MetaPopulation:
    return MetaPopulation(method, SIZES, seeds, torch.tensor(lr), RATE, dtype=torch.float64)  # type: ignore[arg-type]


def reference(method: str, model, parameters, x, y):
    """One replica's gradient by the definitions."""
    if method == "DRS":
        return drs_gradient(model, parameters, mse_loss, (x, y))
    if method == "MAML train-train":
        return maml_gradient(model, parameters, mse_loss, (x, y), (x, y), RATE)
    halves = ((x[:, :SHOTS], y[:, :SHOTS]), (x[:, SHOTS:], y[:, SHOTS:]))
    return maml_gradient(model, parameters, mse_loss, *halves, RATE)


def module(seed: int) -> MLP:
    with seeded(seed):
        return MLP(SIZES).double()


def test_a_resumed_population_goes_on_as_if_never_interrupted(tmp_path):
    x, y = examples(2)
    whole, first, second = (population("MAML", [3, 4], [0.01, 0.02]) for _ in range(3))
    for _ in range(6):
        whole.step(x, y)
    for _ in range(4):
        first.step(x, y)
    first.checkpoint(tmp_path / "state")
    second.resume(tmp_path / "state")
    for _ in range(2):
        second.step(x, y)
    assert all(torch.equal(second.parameters[name], p) for name, p in whole.parameters.items())
    with pytest.raises(ValueError, match="was saved with method = MAML, this trainer has DRS"):
        population("DRS", [3, 4], [0.01, 0.02]).resume(tmp_path / "state")


@pytest.mark.parametrize("method", METHODS)
def test_a_population_trains_each_replica_as_the_reference_does(method):
    seeds, lr = [4, 0, 4], [0.01, 0.03, 0.02]
    x, y = examples(len(seeds))
    together = population(method, seeds, lr)
    losses = [together.step(x, y) for _ in range(3)]
    for r, seed in enumerate(seeds):
        alone = module(seed)
        named = dict(alone.named_parameters())
        model = partial(functional_call, alone)
        # the population's rates pass through float32, as its argument did
        optimizer = torch.optim.Adam(named.values(), lr=float(torch.tensor(lr[r])))
        for loss in losses:
            found = reference(method, model, {name: p.detach() for name, p in named.items()}, x[r], y[r])
            assert float(loss[r]) == pytest.approx(float(found.loss), rel=1e-10)
            for name, p in named.items():
                p.grad = found.gradients[name]
            optimizer.step()
        for i, layer in enumerate(layer for layer in alone if isinstance(layer, torch.nn.Linear)):
            torch.testing.assert_close(together.parameters[f"weight{i}"][r].mT, layer.weight, rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(together.parameters[f"bias{i}"][r, 0], layer.bias, rtol=1e-9, atol=1e-10)


def test_the_three_methods_differ():
    x, y = examples(1)
    found = {method: population(method, [0], [0.1]).gradient(x, y)[0]["weight1"] for method in METHODS}
    assert not torch.allclose(found["MAML"], found["MAML train-train"], rtol=1e-2)
    assert not torch.allclose(found["DRS"], found["MAML"], rtol=1e-2)


def test_errors_are_those_of_the_adapted_model():
    x, y = examples(2)
    together = population("MAML", [3, 5], [0.1, 0.1])
    support, query = (x[0, :, :SHOTS], y[0, :, :SHOTS]), (x[1], y[1])
    found = together.errors(1, support, query, [0.0, 0.2])
    alone = module(5)
    model, parameters = partial(functional_call, alone), {name: p.detach() for name, p in alone.named_parameters()}
    for error, rate in zip(found, (0.0, 0.2), strict=True):
        expected = []
        for k in range(TASKS):
            adapted = adapt(model, parameters, mse_loss, (support[0][k], support[1][k]), rate)
            expected.append(mse_loss(model(adapted, query[0][k]), query[1][k]))
        torch.testing.assert_close(error, torch.stack(expected).mean())


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="method: must be one of DRS, MAML, MAML train-train, got 'Reptile'"):
        population("Reptile", [0], [0.1])
    with pytest.raises(ValueError, match="seeds and lr: need one rate for each"):
        population("MAML", [0, 1], [0.1])
    with pytest.raises(ValueError, match=r"inner_rate: must be at least 0, got -0\.1"):
        MetaPopulation("MAML", SIZES, [0], torch.tensor([0.1]), -0.1)
    with pytest.raises(ValueError, match=r"width: must lie in \[0, 1\], got 1.5"):
        Sinusoids.draw(0, "test", (1,), 1.5)
    x, y = examples(1)
    with pytest.raises(ValueError, match="x: needs an even number of examples per task to split, got 7"):
        population("MAML", [0], [0.1]).step(x[:, :, :7], y[:, :, :7])

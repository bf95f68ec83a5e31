"""The gradients of the objectives against finite differences, closed forms and identities, in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from layers import LAYERS, Calls, Lookup, Recurrent, dense, shape_of
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from replication.metalearning.adaptation import Data, Parameters, adapt, drs_gradient, fomaml_gradient, maml_gradient
from replication.training import seeded

TASKS, SHOTS, RATE = 3, 4, 0.2


@pytest.fixture
def problem() -> tuple[partial[Tensor], Parameters, Data, Data]:
    """A smooth network with random halves of data."""
    with seeded(3):
        module = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()
        halves = [
            (torch.randn(TASKS, SHOTS, 2, dtype=torch.float64), torch.randn(TASKS, SHOTS, 1, dtype=torch.float64))
            for _ in range(2)
        ]
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    return partial(functional_call, module), parameters, *halves


def by_differences(objective, parameters: Parameters, size: float = 1e-5) -> Parameters:
    """Central differences of an objective, one parameter at a time."""
    found = {}
    for name, p in parameters.items():
        slope = torch.zeros_like(p)
        for i in range(p.numel()):
            ends = []
            for sign in (1, -1):
                moved = p.clone()
                moved.view(-1)[i] += sign * size
                ends.append(objective({**parameters, name: moved}))
            slope.view(-1)[i] = (ends[0] - ends[1]) / (2 * size)
        found[name] = slope
    return found


def plain_step(model, parameters: Parameters, data: Data, rate: float) -> Parameters:
    """An inner step with ordinary autograd, one task."""
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    slopes = torch.autograd.grad(mse_loss(model(leaves, data[0]), data[1]), list(leaves.values()))
    return {name: p - rate * g for (name, p), g in zip(parameters.items(), slopes, strict=True)}


def after(model, inner: Data, outer: Data, rate: float, steps: int = 1):
    """The meta-objective, by brute force."""

    def objective(parameters: Parameters) -> float:
        risks = []
        for k in range(TASKS):
            adapted = parameters
            for _ in range(steps):
                adapted = plain_step(model, adapted, (inner[0][k], inner[1][k]), rate)
            risks.append(mse_loss(model(adapted, outer[0][k]), outer[1][k]))
        return float(torch.stack(risks).mean())

    return objective


def assert_equal(found: Parameters, expected: Parameters, **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **(tolerance or {"rtol": 1e-12, "atol": 1e-14}))


@pytest.mark.parametrize("steps", [1, 3])
def test_maml_is_the_gradient_of_the_risk_after_adaptation(problem, steps):
    model, parameters, inner, outer = problem
    objective = after(model, inner, outer, RATE, steps)
    found = maml_gradient(model, parameters, mse_loss, inner, outer, RATE, steps)
    assert float(found.loss) == pytest.approx(objective(parameters), rel=1e-12)
    assert_equal(found.gradients, by_differences(objective, parameters), rtol=1e-6, atol=1e-8)


def test_drs_is_the_gradient_of_the_mean_risk(problem):
    model, parameters, data, _ = problem
    objective = after(model, data, data, 0.0)
    found = drs_gradient(model, parameters, mse_loss, data)
    assert float(found.loss) == pytest.approx(objective(parameters), rel=1e-12)
    assert_equal(found.gradients, by_differences(objective, parameters), rtol=1e-6, atol=1e-8)


def test_fomaml_is_the_mean_gradient_at_the_adapted_parameters(problem):
    model, parameters, inner, outer = problem
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for k in range(TASKS):
        adapted = plain_step(model, parameters, (inner[0][k], inner[1][k]), RATE)
        moved = plain_step(model, adapted, (outer[0][k], outer[1][k]), 1.0)
        for name in expected:
            expected[name] += (adapted[name] - moved[name]) / TASKS
    found = fomaml_gradient(model, parameters, mse_loss, inner, outer, RATE)
    assert_equal(found.gradients, expected)
    exact = maml_gradient(model, parameters, mse_loss, inner, outer, RATE)
    assert float(found.loss) == pytest.approx(float(exact.loss), rel=1e-12)
    assert any(not torch.allclose(found.gradients[name], exact.gradients[name], rtol=1e-3) for name in expected)


def test_without_an_inner_step_all_three_are_drs_on_the_outer_data(problem):
    model, parameters, inner, outer = problem
    expected = drs_gradient(model, parameters, mse_loss, outer).gradients
    for method in (maml_gradient, fomaml_gradient):
        assert_equal(method(model, parameters, mse_loss, inner, outer, 0.0).gradients, expected)
        assert_equal(method(model, parameters, mse_loss, inner, outer, RATE, steps=0).gradients, expected)


def test_maml_of_a_quadratic_is_the_closed_form():
    """Risk q(θ − t)²/2: after one step the gradient is q(1 − αq)²(θ − t), FOMAML's has one factor less."""
    q, t = torch.tensor([[0.5], [2.0]]).double(), torch.tensor([[1.0], [-3.0]]).double()
    parameters = {"theta": torch.tensor(0.7).double()}

    def model(p: Parameters, curvature: Tensor) -> Tensor:
        return p["theta"] * curvature.sqrt()

    def loss(out: Tensor, target: Tensor) -> Tensor:
        return (out - target).square().sum() / 2

    data = (q, t * q.sqrt())
    left = (1 - 0.3 * q) * q * (0.7 - t)
    found = fomaml_gradient(model, parameters, loss, data, data, 0.3).gradients["theta"]
    torch.testing.assert_close(found, left.mean())
    found = maml_gradient(model, parameters, loss, data, data, 0.3).gradients["theta"]
    torch.testing.assert_close(found, (left * (1 - 0.3 * q)).mean())


def test_adaptation_repeats_plain_steps_and_leaves_the_parameters_alone(problem):
    model, parameters, inner, _ = problem
    before = {name: p.clone() for name, p in parameters.items()}
    one = (inner[0][0], inner[1][0])
    expected = plain_step(model, plain_step(model, parameters, one, RATE), one, RATE)
    assert_equal(adapt(model, parameters, mse_loss, one, torch.tensor(RATE, dtype=torch.float64), steps=2), expected)
    assert_equal(parameters, before, rtol=0, atol=0)


def test_bad_arguments_are_refused_by_name(problem):
    model, parameters, inner, outer = problem
    with pytest.raises(ValueError, match=r"rate: must not be negative, got -0\.1"):
        adapt(model, parameters, mse_loss, inner, rate=-0.1)
    with pytest.raises(ValueError, match="rate"):
        maml_gradient(model, parameters, mse_loss, inner, outer, rate=float("nan"))
    for steps in (-1, 1.5):
        with pytest.raises(ValueError, match=f"steps: must be an integer of at least 0, got {steps}"):
            fomaml_gradient(model, parameters, mse_loss, inner, outer, 0.1, steps=steps)
    fewer = (outer[0][:2], outer[1][:2])
    with pytest.raises(
        ValueError, match=r"inner and outer: every tensor needs the same number of tasks.*inner: 3, outer: 2"
    ):
        maml_gradient(model, parameters, mse_loss, inner, fewer, 0.1)
    with pytest.raises(ValueError, match="data: 2 and 3"):
        drs_gradient(model, parameters, mse_loss, (inner[0], outer[1][:2]))
    with pytest.raises(ValueError, match=r"outer: every tensor must be dense, got torch\.sparse_coo; call to_dense"):
        maml_gradient(model, parameters, mse_loss, inner, (outer[0].to_sparse(), outer[1]), 0.1)


# --- every kind of layer ---------------------------------------------------------------------------------------------


def layered(name: str) -> tuple[partial[Tensor], Parameters, Data, Data]:
    """A network with such a layer, away from its initial scales, and data of its shape."""
    with seeded(5):
        module = LAYERS[name]().double()
        for buffer in module.buffers():
            # statistics of an evaluation that are not those of nothing
            buffer.copy_(buffer + torch.rand_like(buffer.double()).to(buffer.dtype))
        parameters = {name: p.detach() + 0.1 * torch.randn_like(p) for name, p in module.named_parameters()}
        shape = shape_of(name, module)
        halves = [
            (torch.randn(TASKS, SHOTS, *shape, dtype=torch.float64), torch.randn(TASKS, SHOTS, 1, dtype=torch.float64))
            for _ in range(2)
        ]
    return partial(functional_call, module), parameters, *halves


def along(objective, parameters: Parameters, direction: Parameters, size: float = 1e-5) -> float:
    """Central difference of an objective in one direction."""
    ends = [objective({name: p + sign * size * direction[name] for name, p in parameters.items()}) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * size)


# the row of a padding index has no gradient, though the loss depends on it
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "Embedding with padding"])
def test_gradients_are_right_through_every_kind_of_layer(name):
    model, parameters, inner, outer = layered(name)
    with seeded(6):
        direction = {name: torch.randn_like(p) for name, p in parameters.items()}
    for found, objective in (
        (maml_gradient(model, parameters, mse_loss, inner, outer, RATE), after(model, inner, outer, RATE)),
        (drs_gradient(model, parameters, mse_loss, outer), after(model, outer, outer, 0.0)),
    ):
        # the objective itself is that of torch's own layers
        assert float(found.loss) == pytest.approx(objective(parameters), rel=1e-12)
        slope = sum(float((g * direction[name]).sum()) for name, g in found.gradients.items())
        assert slope == pytest.approx(along(objective, parameters, direction), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", [name for name in LAYERS if not name.startswith(("weight", "attention", "encoder"))])
def test_the_meta_gradient_is_that_of_ordinary_automatic_differentiation(name):
    """Except where torch's own second derivative is wrong (weight norm) or not there (attention)."""
    model, parameters, inner, outer = layered(name)
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    risks = []
    for k in range(TASKS):
        risk = mse_loss(model(leaves, inner[0][k]), inner[1][k])
        slopes = torch.autograd.grad(risk, list(leaves.values()), create_graph=True)
        adapted = {name: p - RATE * g for (name, p), g in zip(leaves.items(), slopes, strict=True)}
        risks.append(mse_loss(model(adapted, outer[0][k]), outer[1][k]))
    expected = torch.autograd.grad(torch.stack(risks).mean(), list(leaves.values()))
    found = maml_gradient(model, parameters, mse_loss, inner, outer, RATE).gradients
    assert_equal(found, dict(zip(leaves, expected, strict=True)), rtol=1e-10, atol=1e-13)


class Attends(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5 * self.training)


@pytest.mark.parametrize("layer", [nn.Dropout1d(0.5), nn.RReLU(), Attends()], ids=lambda layer: type(layer).__name__)
def test_whatever_draws_random_numbers_is_refused_of_one_task_too(layer):
    module = dense(layer)
    parameters, data = dict(module.named_parameters()), (torch.ones(SHOTS, 6), torch.zeros(SHOTS, 1))
    with pytest.raises(ValueError, match="model: must not draw random numbers, got a model that did"):
        adapt(partial(functional_call, module), parameters, mse_loss, data, RATE)
    adapt(partial(functional_call, module.eval()), parameters, mse_loss, data, RATE)


def test_dropout_is_refused_of_one_task_too():
    module = dense(nn.Dropout(0.5))
    parameters, data = dict(module.named_parameters()), (torch.ones(SHOTS, 6), torch.zeros(SHOTS, 1))
    with pytest.raises(ValueError, match="model: must not draw random numbers, got dropout in training mode"):
        adapt(partial(functional_call, module), parameters, mse_loss, data, RATE)
    assert adapt(partial(functional_call, module.eval()), parameters, mse_loss, data, RATE).keys() == parameters.keys()


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        (nn.BatchNorm1d(6), "running statistics"),
        (nn.InstanceNorm1d(6, track_running_stats=True), "running statistics"),
        (nn.Dropout(0.5), "random"),
        (Lookup(max_norm=1.0), "max_norm"),
        (Lookup(scale_grad_by_freq=True), "scale_grad_by_freq"),
        (Lookup(sparse=True), "sparse"),
        (nn.GRUCell(6, 6), "recurrent layers do not work under vmap, got gru_cell"),
        (Recurrent(), "recurrent layers do not work under vmap, got lstm"),
        # silently wrong in torch, and not known by the names that are computed from their formulas
        *(
            (Calls(function), "second derivative of torch's .* is wrong")
            for function in (
                lambda x, s: torch.native_layer_norm(x, (6,), s, None, 1e-5)[0],
                lambda x, s: torch.ops.aten.layer_norm(x, (6,), s),
                lambda x, s: torch.ops.aten.native_layer_norm.default(x, (6,), s, None, 1e-5)[0],
                lambda x, s: torch.batch_norm(x, s, None, None, None, True, 0.1, 1e-5, False),
                lambda x, s: torch.instance_norm(x[None], None, None, None, None, True, 0.1, 1e-5, False)[0] * s,
            )
        ),
    ],
)
def test_what_cannot_be_right_is_refused(layer, error):
    module = dense(layer).double()
    x, y = torch.randn(TASKS, SHOTS, 6, dtype=torch.float64), torch.zeros(TASKS, SHOTS, 1, dtype=torch.float64)
    if isinstance(layer, nn.InstanceNorm1d):
        module, x = (
            nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 1)).double(),
            x[:, :, :, None].expand(-1, -1, -1, 4),
        )
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    with pytest.raises((RuntimeError, ValueError), match=error):
        maml_gradient(partial(functional_call, module), parameters, mse_loss, (x, y), (x, y), RATE)

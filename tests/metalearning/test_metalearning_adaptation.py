"""The gradients of the objectives against finite differences, closed forms and identities, in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
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
    with pytest.raises(ValueError, match="steps: must not be negative, got -1"):
        fomaml_gradient(model, parameters, mse_loss, inner, outer, 0.1, steps=-1)
    fewer = (outer[0][:2], outer[1][:2])
    with pytest.raises(
        ValueError, match=r"inner and outer: every tensor needs the same number of tasks.*inner: 3, outer: 2"
    ):
        maml_gradient(model, parameters, mse_loss, inner, fewer, 0.1)
    with pytest.raises(ValueError, match="data: 2 and 3"):
        drs_gradient(model, parameters, mse_loss, (inner[0], outer[1][:2]))

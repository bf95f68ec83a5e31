"""The environment, the policy gradient and its second derivative, and one iteration of both methods."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev, vmap

from replication.metalearning.adaptation import adapt
from replication.metalearning.experiments.navigation import meta_gradient, returns
from replication.metalearning.navigation import (
    REACH,
    SPREAD,
    Policy,
    Rollouts,
    advantages,
    draw_goals,
    draw_noise,
    initial,
    policy_loss,
    rollout,
)


def still(hidden: int = 3) -> tuple[Policy, dict[str, Tensor]]:
    """A policy that stays where it is, for one replica and task."""
    policy = Policy(hidden)
    return policy, {name: torch.zeros(1, 1, *p.shape) for name, p in policy.named_parameters()}


def test_moves_add_up_and_are_at_most_the_reach():
    policy, parameters = still()
    noise = torch.tensor([[1.0, 0.0], [30.0, 40.0], [0.0, -1.0]]).view(1, 1, 1, 3, 2)
    played = rollout(policy, parameters, torch.tensor([[[1.0, 1.0]]]), noise)
    path = torch.tensor([[0.0, 0.0], [SPREAD, 0.0], [SPREAD + 0.6 * REACH, 0.8 * REACH]])
    torch.testing.assert_close(played.states.squeeze(), path)
    torch.testing.assert_close(played.actions, SPREAD * noise)  # what the policy did, not what became of it
    after = torch.stack([path[1], path[2], path[2] - torch.tensor([0.0, SPREAD])])
    torch.testing.assert_close(played.rewards.squeeze(), -(after - 1).square().sum(-1))
    torch.testing.assert_close(played.returns.squeeze(), played.rewards.sum())


def test_log_probabilities_are_those_of_the_actions_under_the_policy():
    policy = Policy(4)
    parameters = {name: p[:, None] for name, p in initial(4, [0, 1]).items()}
    played = rollout(policy, parameters, torch.zeros(2, 1, 2), draw_noise(0, "test", (2, 1, 3, 5, 2)))
    for r in range(2):
        mean = functional_call(policy, {name: p[r, 0] for name, p in parameters.items()}, (played.states[r, 0],))
        exact = torch.distributions.Normal(mean, SPREAD).log_prob(played.actions[r, 0]).sum(-1)
        constant = torch.distributions.Normal(0.0, SPREAD).log_prob(torch.tensor(0.0)) * 2
        torch.testing.assert_close(played.log_probabilities[r, 0], exact - constant, rtol=1e-4, atol=1e-4)


def test_the_baseline_is_the_mean_of_the_others():
    rewards = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    found = advantages(rewards)
    for task in range(2):
        for k in range(4):
            for h in range(3):
                to_go = rewards[task, :, h:].sum(-1)
                others = (to_go.sum() - to_go[k]) / 3
                assert float(found[task, k, h]) == pytest.approx(float((to_go[k] - others) / 3), abs=1e-6)


def test_the_gradient_is_that_of_the_expected_return():
    """Against the derivative along simulated paths, for the last layer's bias."""
    horizon, goal = 3, torch.tensor([0.5, -0.3])
    policy, parameters = still()
    noise = draw_noise(0, "test", (1, 1, 40_000, horizon, 2))

    def simulated(bias: Tensor) -> Tensor:
        position, total = torch.zeros(2), torch.tensor(0.0)
        for h in range(horizon):
            action = bias + SPREAD * noise[0, 0, :, h]
            position = position + action * (REACH / action.norm(dim=-1, keepdim=True).clamp(min=REACH))
            total = total - (position - goal).square().sum(-1)
        return total.mean()

    inputs, targets = rollout(policy, parameters, goal.view(1, 1, 2), noise).data
    own = {name: p[0, 0] for name, p in parameters.items()}
    slope = grad(lambda p: policy_loss(functional_call(policy, p, (inputs,)), targets))(own)["4.bias"]
    # the loss averages over times and divides by the horizon
    torch.testing.assert_close(-slope * horizon**2, grad(simulated)(torch.zeros(2)), rtol=0.05, atol=0.02)


def test_the_second_derivative_holds_the_squared_score():
    """Of a mean action m: minus the mean of A (s s' − I/spread²) with the score s = (a − m)/spread²."""
    noise = draw_noise(1, "test", (50, 2)).double()
    weights = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actions, mean = SPREAD * noise + 0.3, torch.full((2,), 0.3, dtype=torch.float64)
    targets = (actions, -noise.square().sum(-1) / 2, weights)
    found = jacrev(grad(lambda m: policy_loss(m.expand(50, 2), targets)))(mean)
    scores = noise / SPREAD
    expected = -(weights[:, None, None] * (scores[:, :, None] * scores[:, None] - torch.eye(2) / SPREAD**2)).mean(0)
    torch.testing.assert_close(found, expected)


@pytest.fixture
def iteration() -> tuple[Policy, dict[str, Tensor], Tensor, Tensor]:
    parameters = {name: 20 * p for name, p in initial(4, [0, 1, 2]).items()}
    goals = torch.stack([draw_goals(seed, "train", (3,)) for seed in range(3)])
    noise = torch.stack([draw_noise(seed, "train", (3, 8, 4, 2)) for seed in range(3)])
    return Policy(4), parameters, goals, noise


def test_without_an_inner_step_maml_is_drs_on_the_second_rollouts(iteration):
    policy, parameters, goals, noise = iteration
    found = meta_gradient("MAML", policy, parameters, goals, noise, 0.0)
    expected = meta_gradient("DRS", policy, parameters, goals, noise[:, :, 4:], 0.0)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    adapted = meta_gradient("MAML", policy, parameters, goals, noise, 0.1)
    assert not torch.allclose(adapted["4.bias"], found["4.bias"], rtol=1e-2)


@pytest.mark.parametrize("method", ["DRS", "MAML"])
def test_replicas_do_not_mix(iteration, method):
    policy, parameters, goals, noise = iteration
    together = meta_gradient(method, policy, parameters, goals, noise, 0.1)
    one = {name: p[1:2] for name, p in parameters.items()}
    alone = meta_gradient(method, policy, one, goals[1:2], noise[1:2], 0.1)
    for name, value in alone.items():
        torch.testing.assert_close(together[name][1:2], value, rtol=1e-4, atol=1e-6)


def test_returns_follow_the_updates_of_each_task(iteration):
    policy, parameters, goals, _ = iteration
    noise = draw_noise(9, "test", (2, 3, 3, 6, 4, 2))
    rates = torch.tensor([0.0, 0.01, 0.05])
    found = returns(policy, parameters, goals, noise, rates)
    assert found.shape == (2, 3)
    model = partial(functional_call, policy)
    for r in range(3):
        after = []
        for task in range(3):
            own = {name: p[r, None, None] for name, p in parameters.items()}
            where = goals[r : r + 1, task : task + 1]
            played = rollout(policy, own, where, noise[0, r : r + 1, task : task + 1])
            (inputs, targets) = played.data
            data = (inputs[0, 0], tuple(target[0, 0] for target in targets))
            adapted = adapt(model, {name: p[0, 0] for name, p in own.items()}, policy_loss, data, float(rates[r]))
            own = {name: p[None, None] for name, p in adapted.items()}
            after.append(rollout(policy, own, where, noise[1, r : r + 1, task : task + 1]).returns)
        torch.testing.assert_close(found[1, r], torch.stack(after).mean(), rtol=1e-4, atol=1e-5)


def test_goals_fill_the_square_and_streams_differ():
    goals = draw_goals(0, "test", (2000,))
    assert goals.abs().max() <= 1
    assert goals.abs().max(0).values.min() > 0.99
    assert not torch.equal(goals, draw_goals(0, "validation", (2000,)))


def test_initial_policies_are_those_of_their_seeds_and_hardly_move():
    found = initial(5, [3, 1, 3])
    assert all(torch.equal(p[0], p[2]) for p in found.values())
    assert not torch.equal(found["0.weight"][0], found["0.weight"][1])
    positions = draw_goals(0, "test", (3, 7))
    policy = Policy(5)
    moves = vmap(lambda p, s: functional_call(policy, p, (s,)))(found, positions)
    assert moves.abs().max() < REACH / 10


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="hidden: must be at least 1, got 0"):
        Policy(0)
    with pytest.raises(ValueError, match="rewards: the baseline needs at least 2 rollouts of a task, got 1"):
        advantages(torch.zeros(3, 1, 4))
    policy, parameters = still()
    with pytest.raises(ValueError, match=r"goals and noise: need shapes .* got \(1, 2, 2\) and \(1, 1, 3, 4, 2\)"):
        rollout(policy, parameters, torch.zeros(1, 2, 2), torch.zeros(1, 1, 3, 4, 2))


def test_data_keep_the_shapes_of_the_rollouts():
    played = Rollouts(*torch.zeros(2, 3, 4, 2), torch.zeros(3, 4), torch.zeros(3, 4))
    inputs, (actions, before, weights) = played.data
    assert inputs.shape == actions.shape == (3, 4, 2)
    assert before.shape == weights.shape == (3, 4)

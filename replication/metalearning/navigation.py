"""Point navigation in the plane: a small reinforcement-learning problem with one goal per task, written in torch.

A point starts at the origin and pays its squared distance from a goal that it is never told; what it knows of the goal
it learns from the returns of its rollouts, by policy gradient steps. That is a stand-in for the paper's locomotion
tasks, not a replication of them. All tasks of all replicas are simulated side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from replication.checks import at_least
from replication.metalearning.adaptation import Data, Parameters
from replication.training import seeded, stream_seed

REACH = 0.2
"""Longest move of one environment step."""
SPREAD = 0.1
"""Standard deviation of the policy's actions around their mean, per coordinate."""


class Policy(nn.Sequential):
    """Mean action by position: a perceptron with tanh between its layers.

    Parameters
    ----------
    hidden : int
        Units of each of the two hidden layers.

    Examples
    --------
    >>> Policy(16)(torch.zeros(5, 2)).shape
    torch.Size([5, 2])
    """

    def __init__(self, hidden: int) -> None:
        at_least("hidden", hidden, 1)
        super().__init__(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2))


class Rollouts(NamedTuple):
    """What K rollouts of H steps met."""

    states: Tensor
    """Positions before each move, shape (…, K, H, 2)."""
    actions: Tensor
    """Shape (…, K, H, 2)."""
    rewards: Tensor
    """Minus the squared distance after each move, shape (…, K, H)."""
    log_probabilities: Tensor
    """Of the actions, up to a constant, shape (…, K, H)."""

    @property
    def returns(self) -> Tensor:
        """Mean over rollouts of the sum of rewards, shape (…)."""
        return self.rewards.sum(-1).mean(-1)

    @property
    def data(self) -> Data:
        """Inputs and targets of `policy_loss`, for `replication.metalearning.adaptation`."""
        return self.states, (self.actions, self.log_probabilities, advantages(self.rewards))


def draw_goals(seed: int, stream: str, shape: tuple[int, ...]) -> Tensor:
    """Goals uniform in the square [−1, 1]²; float32, shape `(*shape, 2)`."""
    generator = torch.Generator().manual_seed(stream_seed(seed, f"{stream} goals"))
    return 2 * torch.rand(*shape, 2, generator=generator) - 1


@torch.no_grad()
def rollout(policy: nn.Module, parameters: Parameters, goals: Tensor, noise: Tensor) -> Rollouts:
    """Play K rollouts for every replica and task.

    Parameters
    ----------
    policy : Module
        Maps positions (…, 2) to mean actions (…, 2).
    parameters : dict of str to Tensor, shape (R, T, …)
        Of the policy, for each replica and task.
    goals : Tensor, shape (R, T, 2)
        One per task.
    noise : Tensor, shape (R, T, K, H, 2)
        Standard normal; H is the horizon.

    Returns
    -------
    Rollouts
        Of shape (R, T, K, H, …). A move longer than `REACH` is shortened to it.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """
    if noise.ndim != 5 or goals.shape != (*noise.shape[:2], 2):
        raise ValueError(
            f"goals and noise: need shapes (R, T, 2) and (R, T, K, H, 2), got {tuple(goals.shape)} and "
            f"{tuple(noise.shape)}"
        )
    mean = vmap(vmap(lambda p, s: functional_call(policy, p, (s,))))
    position = torch.zeros_like(noise[..., 0, :])
    states, actions, rewards = [], [], []
    for step in range(noise.shape[-2]):
        states.append(position)
        action = mean(parameters, position) + SPREAD * noise[..., step, :]
        actions.append(action)
        length = action.norm(dim=-1, keepdim=True)
        position = position + action * (REACH / length.clamp(min=REACH))
        rewards.append(-(position - goals[:, :, None]).square().sum(-1))
    log_probabilities = -noise.square().sum(-1) / 2
    return Rollouts(torch.stack(states, 3), torch.stack(actions, 3), torch.stack(rewards, 3), log_probabilities)


def advantages(rewards: Tensor) -> Tensor:
    """Reward to go, less the mean of the task's other rollouts at the same time, divided by the horizon.

    Parameters
    ----------
    rewards : Tensor, shape (…, K, H)
        K ≥ 2 rollouts of one task.

    Returns
    -------
    Tensor, shape (…, K, H)
        The baseline holds no reward of the rollout itself, so the gradient stays unbiased.

    Raises
    ------
    ValueError
        If there is a single rollout.

    Examples
    --------
    >>> advantages(torch.tensor([[1.0, 1.0], [0.0, 4.0]]))
    tensor([[-1.0000, -1.5000],
            [ 1.0000,  1.5000]])
    """
    rollouts, horizon = rewards.shape[-2:]
    if rollouts < 2:
        raise ValueError(f"rewards: the baseline needs at least 2 rollouts of a task, got {rollouts}")
    to_go = rewards.flip(-1).cumsum(-1).flip(-1)
    # leaving oneself out of the mean scales the distance from it
    return (to_go - to_go.mean(-2, keepdim=True)) * (rollouts / (rollouts - 1) / horizon)


def policy_loss(mean: Tensor, targets: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Surrogate of minus the return, whose gradient at the policy that acted is the policy gradient.

    The ratio of probabilities in it, in place of their logarithm, makes its second derivative an estimate of the
    return's Hessian too (up to products of different times), which MAML differentiates through (Rothfuss et al. 2019).

    Parameters
    ----------
    mean : Tensor, shape (…, 2)
        The policy's mean actions.
    targets : (actions, log-probabilities when acting, advantages), shapes (…, 2), (…), (…)
        From `Rollouts.data`.

    Returns
    -------
    Tensor, shape ()
        Averaged over rollouts and times.
    """
    actions, before, weights = targets
    now = -(actions - mean).square().sum(-1) / (2 * SPREAD**2)
    return -(torch.exp(now - before) * weights).mean()


def initial(hidden: int, seeds: Sequence[int]) -> Parameters:
    """Stacked initial parameters of `Policy`, one per seed; the last layer starts a hundred times smaller."""
    stacked: dict[str, list[Tensor]] = {}
    for seed in seeds:
        with seeded(seed):
            for name, p in Policy(hidden).named_parameters():
                stacked.setdefault(name, []).append(p.detach() / 100 if name.startswith("4.") else p.detach())
    return {name: torch.stack(values) for name, values in stacked.items()}


def draw_noise(seed: int, stream: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal draws for `rollout`; float32."""
    generator = torch.Generator().manual_seed(stream_seed(seed, f"{stream} noise"))
    return torch.randn(shape, generator=generator)

"""Policy gradients for DRS and MAML: PPO (Schulman et al. 2017) and ProMP (Rothfuss et al. 2019), the paper's pair.

Both methods play, estimate advantages and descend in the same way. They differ in the objective alone: DRS clips the
ratio of the policy itself, ProMP that of the policy after an inner policy gradient step. Tensors of a batch have the
axes (R, T, K, H): replica, task, rollout and time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from scipy.signal import lfilter
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from replication.checks import one_of, whole
from replication.metalearning.adaptation import Data, Parameters, adapt, drs_gradient
from replication.metalearning.environments import Environment
from replication.training import AdamW, stream_seed
from replication.training.replicas import Replicas, stack

Method = Literal["DRS", "MAML"]
METHODS: tuple[Method, ...] = get_args(Method)
BATCHES: dict[Method, int] = {"DRS": 1, "MAML": 2}
"""Batches of rollouts that an iteration plays: MAML's before and after the inner step."""
GRADIENT_CALLS: dict[Method, float] = {"DRS": 1.0, "MAML": 2.0}
"""Gradients of one sample per epoch and sample played: MAML's iteration of two batches takes the inner gradient, the
outer one, and a Hessian-vector product, which counts as two."""
CLIP, KL = 0.3, 5e-4
"""PPO's clipping range, and the weight of ProMP's penalty on the distance from the policy that played."""
DISCOUNT = 0.99


class GaussianPolicy(nn.Module):
    """A tanh perceptron for the mean action, and a spread that does not depend on what is seen.

    Parameters
    ----------
    observations, actions : int
        Sizes of both spaces.
    hidden : int
        Units of each of the two hidden layers.

    Examples
    --------
    >>> GaussianPolicy(3, 2, 16)(torch.zeros(5, 3)).shape
    torch.Size([5, 4])
    """

    def __init__(self, observations: int, actions: int, hidden: int) -> None:
        super().__init__()
        whole("hidden", hidden)
        last = nn.Linear(hidden, actions)
        with torch.no_grad():
            # at first what is seen hardly matters
            last.weight.div_(100)
            last.bias.div_(100)
        self.mean = nn.Sequential(
            nn.Linear(observations, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last
        )
        self.log_spread = nn.Parameter(torch.zeros(actions))

    def forward(self, observed: Tensor) -> Tensor:
        """Mean and logarithm of the spread of the actions, side by side: (…, observations) to (…, 2 actions)."""
        mean: Tensor = self.mean(observed)
        return torch.cat([mean, self.log_spread.expand_as(mean)], -1)


class Draws(NamedTuple):
    """All that is random in a batch."""

    tasks: Tensor
    """Shape (R, T, G)."""
    starts: Tensor
    """Shape (R, T, K, S)."""
    noise: Tensor
    """Standard normal, of the actions, shape (R, T, K, H, actions)."""


def draw(
    environment: Environment,
    seeds: Sequence[int],
    stream: str,
    *,
    tasks: int,
    rollouts: int,
    horizon: int,
    batch: int = 0,
) -> Draws:
    """Draw a batch for every seed; replicas with the same seed get the same.

    Parameters
    ----------
    environment : Environment
        The family of tasks.
    seeds, stream, batch
        Fix the draw. Batches of one stream have the same tasks.
    tasks, rollouts, horizon : int
        T, K and H.
    """

    def one(seed: int) -> Draws:
        generator = torch.Generator().manual_seed(stream_seed(seed, f"{stream} tasks"))
        goals = environment.draw_tasks(generator, tasks)
        generator = torch.Generator().manual_seed(stream_seed(seed, f"{stream} batch {batch}"))
        starts = environment.draw_starts(generator, (tasks, rollouts))
        return Draws(goals, starts, torch.randn(tasks, rollouts, horizon, environment.actions, generator=generator))

    drawn = {seed: one(seed) for seed in set(seeds)}
    return Draws(*(torch.stack(values) for values in zip(*(drawn[seed] for seed in seeds), strict=True)))


class Rollouts(NamedTuple):
    """What was met; axes (R, T, K, H, …)."""

    observed: Tensor
    actions: Tensor
    rewards: Tensor
    outputs: Tensor
    """Of the policy, when it acted."""

    @property
    def returns(self) -> Tensor:
        """Sum of the rewards, mean over rollouts, shape (R, T)."""
        return self.rewards.sum(-1).mean(-1)

    def data(self, gae_lambda: float = 1.0) -> Data:
        """Inputs and targets of the losses: what was seen; actions, outputs and advantages."""
        return self.observed, (self.actions, self.outputs, advantages(self.observed, self.rewards, gae_lambda))


@torch.no_grad()
def play(
    environment: Environment,
    policy: nn.Module,
    parameters: Parameters,
    draws: Draws,
    watch: Callable[[int], None] | None = None,
) -> Rollouts:
    """Play K rollouts of every task, each task with parameters of its own: shape (R, T, …).

    `watch` is called after every step with its number.
    """
    act = vmap(vmap(lambda p, seen: functional_call(policy, p, (seen,))))
    observed = environment.reset(draws.starts)
    kept: list[tuple[Tensor, ...]] = []
    for time, noise in enumerate(draws.noise.unbind(3)):
        outputs = act(parameters, observed)
        mean, log_spread = outputs.chunk(2, -1)
        actions = mean + log_spread.exp() * noise
        following, rewards = environment.step(actions, draws.tasks)
        if watch is not None:
            watch(time)
        kept.append((observed, actions, rewards, outputs))
        observed = following
    return Rollouts(*(torch.stack(values, 3) for values in zip(*kept, strict=True)))


def advantages(observed: Tensor, rewards: Tensor, gae_lambda: float = 1.0) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016), standardised within each task.

    The baseline is linear in features of observation and time (Duan et al. 2016), fitted to each task's own rollouts.

    Parameters
    ----------
    observed : Tensor, shape (…, K, H, observations)
    rewards : Tensor, shape (…, K, H)
    gae_lambda : float
        1 is the return less the baseline; smaller values trust the baseline more.

    Returns
    -------
    Tensor, shape (…, K, H)
        Of mean 0 and standard deviation 1 within a task.
    """
    returns = _discounted(rewards, DISCOUNT)
    values = _baseline(observed, returns)
    following = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], -1)
    found = _discounted(rewards + DISCOUNT * following - values, DISCOUNT * gae_lambda)
    mean, spread = found.mean((-2, -1), keepdim=True), found.std((-2, -1), keepdim=True)
    return ((found - mean) / (spread + 1e-8)).to(rewards.dtype)


def _discounted(values: Tensor, factor: float) -> Tensor:
    """Discounted sums from each time on."""
    backwards = lfilter([1.0], [1.0, -factor], values.double().flip(-1).numpy(), axis=-1)
    found: Tensor = torch.from_numpy(backwards.copy()).flip(-1)
    return found


def _baseline(observed: Tensor, returns: Tensor) -> Tensor:
    """Ridge regression of the returns on the observations, their squares, and powers of time."""
    seen = observed.double().clamp(-10, 10)
    time = torch.arange(observed.shape[-2], dtype=torch.float64).expand(returns.shape)[..., None] / 100
    x = torch.cat([seen, seen**2, time, time**2, time**3, torch.ones_like(time)], -1).flatten(-3, -2)
    normal = x.mT @ x + 1e-5 * torch.eye(x.shape[-1], dtype=torch.float64)
    # without its check: a diverged policy must not end the run
    weights = torch.linalg.solve_ex(normal, x.mT @ returns.flatten(-2)[..., None]).result
    values: Tensor = (x @ weights).view_as(returns)
    return values


# --- losses ----------------------------------------------------------------------------------------------------------

Targets = tuple[Tensor, Tensor, Tensor]
"""Actions, the policy's outputs when it acted, advantages."""


def ratio(outputs: Tensor, targets: Targets) -> Tensor:
    """Probability of the actions over that when they were taken."""
    actions, before, _ = targets
    return torch.exp(_log_probability(outputs, actions) - _log_probability(before, actions))


def _log_probability(outputs: Tensor, actions: Tensor) -> Tensor:
    """Of the actions, up to a constant."""
    mean, log_spread = outputs.chunk(2, -1)
    return (-((actions - mean) * torch.exp(-log_spread)).square() / 2 - log_spread).sum(-1)


def policy_loss(outputs: Tensor, targets: Targets) -> Tensor:
    """Surrogate of minus the return, whose gradient at the policy that acted is the policy gradient.

    The ratio of probabilities in it, in place of their logarithm, makes its second derivative an estimate of the
    return's Hessian too, up to products of different times (Rothfuss et al. 2019, their low-variance curvature).

    Parameters
    ----------
    outputs : Tensor, shape (…, 2 actions)
        Of the policy.
    targets : tuple of Tensor
        From `Rollouts.data`.

    Returns
    -------
    Tensor, shape ()
        Averaged over rollouts and times.
    """
    return -(ratio(outputs, targets) * targets[2]).mean()


def clipped_loss(outputs: Tensor, targets: Targets) -> Tensor:
    """PPO's loss: as `policy_loss`, without reward for moving a ratio out of 1 ± `CLIP`."""
    now, weights = ratio(outputs, targets), targets[2]
    return -torch.minimum(now * weights, now.clamp(1 - CLIP, 1 + CLIP) * weights).mean()


def divergence(outputs: Tensor, targets: Targets) -> Tensor:
    """Mean Kullback-Leibler divergence of the present policy from the one that acted."""
    (mean, log_spread), (old, old_log) = outputs.chunk(2, -1), targets[1].chunk(2, -1)
    variance = (2 * old_log).exp() + (old - mean).square()
    return (log_spread - old_log + variance / (2 * (2 * log_spread).exp()) - 0.5).sum(-1).mean()


def promp_gradient(
    policy: nn.Module, parameters: Parameters, inner: Data, outer: Data, rate: float | Tensor
) -> Parameters:
    """Gradient of ProMP's objective for one replica, through the inner step.

    Parameters
    ----------
    policy : Module
        The network.
    parameters : dict of str to Tensor
        Its parameters.
    inner, outer : (inputs, targets)
        What was played before and after the inner step, stacked over tasks.
    rate : float or Tensor
        Inner rate.

    Returns
    -------
    dict of str to Tensor
        Of the mean over tasks of `clipped_loss` after the step plus `KL` times `divergence` before it.
    """
    model = partial(functional_call, policy)

    def objective(p: Parameters) -> Tensor:
        def risk(first: Data, second: Data) -> Tensor:
            adapted = adapt(model, p, policy_loss, first, rate)
            return clipped_loss(model(adapted, second[0]), second[1]) + KL * divergence(model(p, first[0]), first[1])

        risks: Tensor = vmap(risk)(inner, outer)
        return risks.mean()

    found: Parameters = grad(objective)(parameters)
    return found


def update(policy: nn.Module, parameters: Parameters, data: Data, rates: Tensor) -> Parameters:
    """One policy gradient step of every replica and task: parameters of shape (R, T, …), rates of shape (R,)."""

    def one(p: Parameters, of: Data, rate: Tensor) -> Parameters:
        return adapt(partial(functional_call, policy), p, policy_loss, of, rate)

    updated: Parameters = vmap(vmap(one, in_dims=(0, 0, None)))(parameters, data, rates)
    return updated


class PolicyPopulation(Replicas):
    """R policies, trained by DRS with PPO or by ProMP, with Adam.

    Parameters
    ----------
    environment : Environment
        What is played.
    method : {"DRS", "MAML"}
        The objective; MAML is ProMP's.
    seeds : sequence of int, length R
        Replicas with the same seed start from the same weights.
    lr, inner_rates : Tensor, shape (R,)
        Adam's step size, and the rate of the inner step; DRS has none.
    hidden : int
        Units of a layer.
    epochs, minibatches : int
        Passes over a batch, and the parts that each is split into (1 for MAML).
    gae_lambda : float
        Of `advantages`.

    Raises
    ------
    ValueError
        If the method is unknown, the rates do not fit the seeds, there is no epoch or minibatch, or MAML's batch is to
        be split.
    """

    def __init__(
        self,
        environment: Environment,
        method: Method,
        seeds: Sequence[int],
        lr: Tensor,
        inner_rates: Tensor,
        *,
        hidden: int,
        epochs: int,
        minibatches: int = 1,
        gae_lambda: float = 1.0,
    ) -> None:
        one_of("method", method, METHODS)
        if not seeds or lr.shape != (len(seeds),) or inner_rates.shape != (len(seeds),):
            got = f"{len(seeds)}, {tuple(lr.shape)} and {tuple(inner_rates.shape)}"
            raise ValueError(f"seeds, lr and inner_rates: need one rate for each of at least one seed, got {got}")
        whole("epochs", epochs)
        whole("minibatches", minibatches)
        if method == "MAML" and minibatches != 1:
            raise ValueError(f"minibatches: MAML takes its batches whole, got {minibatches}")
        self.environment, self.method, self.seeds = environment, method, tuple(seeds)
        self.policy, parameters, _ = stack(
            lambda: GaussianPolicy(environment.observations, environment.actions, hidden), seeds, "cpu"
        )
        super().__init__(parameters, AdamW(weight_decay=0.0))
        self._lr, self._inner = lr, inner_rates
        self._epochs, self._minibatches, self.gae_lambda = epochs, minibatches, gae_lambda
        self.rows: list[dict[str, Any]] = []
        """What has been measured on the way; kept with the state."""

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return self.steps // (self._epochs * self._minibatches)

    def shared(self, tasks: int) -> Parameters:
        """The parameters, as those of every task: shape (R, T, …)."""
        return {name: p[:, None].expand(-1, tasks, *p.shape[1:]) for name, p in self.parameters.items()}

    def iterate(self, batches: Sequence[Draws]) -> list[Tensor]:
        """Play and learn once.

        Parameters
        ----------
        batches : sequence of Draws
            One for DRS; two of the same tasks for MAML.

        Returns
        -------
        list of Tensor, shape (R,)
            Mean return in each batch.
        """
        shared = self.shared(batches[0].noise.shape[1])
        first = play(self.environment, self.policy, shared, batches[0])
        data = first.data(self.gae_lambda)
        if self.method == "DRS":
            model = partial(functional_call, self.policy)

            def slope(p: Parameters, of: Data) -> Parameters:
                return drs_gradient(model, p, clipped_loss, of).gradients

            generator = torch.Generator().manual_seed(stream_seed(self.seeds[0], f"minibatches {self.steps}"))
            for _ in range(self._epochs):
                for part in _split(data, self._minibatches, generator):
                    self._descend(self._flatten(vmap(slope)(self.parameters, part)), self._lr)
            return [first.returns.mean(1)]
        adapted = update(self.policy, shared, data, self._inner)
        second = play(self.environment, self.policy, adapted, batches[1])
        outer = second.data(self.gae_lambda)
        for _ in range(self._epochs):
            slopes = vmap(partial(promp_gradient, self.policy))(self.parameters, data, outer, self._inner)
            self._descend(self._flatten(slopes), self._lr)
        return [first.returns.mean(1), second.returns.mean(1)]

    def _settings(self) -> dict[str, Any]:
        rates = {"lr": self._lr.tolist(), "inner_rates": self._inner.tolist()}
        of = [type(self.environment).__name__, getattr(self.environment, "kind", "")]
        play = {"environment": of, "gae_lambda": self.gae_lambda}
        updates = {"epochs": self._epochs, "minibatches": self._minibatches}
        return {"method": self.method, "seeds": list(self.seeds), **rates, **play, **updates}

    def _more(self) -> tuple[Parameters, dict[str, Any]]:
        return {}, {"rows": self.rows}

    def _restore(self, tensors: Parameters, state: dict[str, Any]) -> None:
        del tensors
        self.rows = state["rows"]


def _split(data: Data, parts: int, generator: torch.Generator) -> list[Data]:
    """Random parts of a batch's samples, the same in every replica and task."""
    if parts == 1:
        return [data]
    flat = [values.flatten(2, 3) for values in (data[0], *data[1])]
    if parts > (count := flat[0].shape[2]):
        raise ValueError(f"minibatches: must be at most the {count} samples of a task, got {parts}")
    order = torch.randperm(count, generator=generator)
    pieces = [[values[:, :, chosen] for values in flat] for chosen in order.tensor_split(parts)]
    return [(inputs, tuple(targets)) for inputs, *targets in pieces]


@torch.no_grad()
def returns(
    population: PolicyPopulation, draws: Sequence[Draws], rates: Tensor, start: Rollouts | None = None
) -> Tensor:
    """Mean return on tasks after 0, 1, … policy gradient updates.

    Parameters
    ----------
    population : PolicyPopulation
        The policies before any update.
    draws : sequence of Draws, length U + 1
        Of the same tasks. The rollouts that show the return after u updates are those that the next is computed from.
    rates : Tensor, shape (R,)
        Rate of the updates.
    start : Rollouts, optional
        What the first draws gave, if it is known.

    Returns
    -------
    Tensor, shape (U + 1, R)
    """
    current = population.shared(draws[0].noise.shape[1])
    found = []
    for i, of in enumerate(draws):
        played = start if start is not None and not i else play(population.environment, population.policy, current, of)
        found.append(played.returns.mean(1))
        if i + 1 < len(draws):
            current = update(population.policy, current, played.data(population.gae_lambda), rates)
    return torch.stack(found)

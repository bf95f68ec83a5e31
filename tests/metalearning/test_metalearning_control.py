"""Meta-RL: environments, policy gradient and meta-gradient, and the experiment at a tiny size."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from mutation import flips
from torch import Tensor
from torch.func import functional_call, grad, jacrev

from replication import evidence
from replication.metalearning import environments, figures_control
from replication.metalearning.environments import PointMass
from replication.metalearning.experiments import control
from replication.metalearning.policy_gradient import (
    CLIP,
    DISCOUNT,
    KL,
    GaussianPolicy,
    PolicyPopulation,
    Rollouts,
    _baseline,
    _split,
    advantages,
    clipped_loss,
    divergence,
    draw,
    play,
    policy_loss,
    promp_gradient,
    returns,
    update,
)

PATH = control.Config(
    seeds=2,
    tuning_seeds=2,
    batches=[2, 4],
    tuning_batches=2,
    meta_batch=2,
    rollouts=2,
    horizon=3,
    hidden=3,
    epochs=2,
    learning_rates=[0.01],
    inner_rates=[0.1],
    test_rates=[0.1, 0.2, 0.4],
    widenings=1,
    validation_tasks=3,
    test_tasks=4,
)
SIZES = {"tasks": 3, "rollouts": 4, "horizon": 5}
STANDARD = ("cheetah velocity", "cheetah direction")


@pytest.fixture(scope="module")
def paths() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as absent:  # smoke does without the extra rl
        for name in ("gymnasium", "mujoco"):
            absent.setitem(sys.modules, name, None)
        return evidence.gather(control, PATH)


def population(method="DRS", seeds=(0, 1), **more) -> PolicyPopulation:
    ones = torch.ones(len(seeds))
    return PolicyPopulation(PointMass(), method, seeds, 0.01 * ones, 0.1 * ones, hidden=4, epochs=2, **more)


def of(records: pd.DataFrame, quantity: str, **levels: object) -> pd.DataFrame:
    return evidence.rows_of(records, quantity, **levels)


# --- environments ----------------------------------------------------------------------------------------------------


def test_the_point_mass_is_pushed_slows_down_and_pays_its_distance_from_the_target():
    mass = PointMass()
    mass.reset(torch.tensor([[[[1.0, -1.0], [0.0, 0.0]]]]))
    seen, reward = mass.step(torch.tensor([[[[3.0, 4.0], [0.2, 0.0]]]]), torch.tensor([[[1.1, 0.0]]]))
    expected = torch.tensor([[[[0.8 + 0.3, -0.8 + 0.4], [0.1, 0.0]]]])
    torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(reward, -torch.tensor([[[0.4, 1.0]]]))
    torch.testing.assert_close(mass.velocity(), seen)


def test_targets_fill_their_range_and_batches_share_them():
    goals = PointMass().draw_tasks(torch.Generator().manual_seed(0), 2000)
    assert goals.min() >= 0
    assert goals.max() <= 2
    assert (goals.amax(0) > 1.99).all()
    one, other = (draw(PointMass(), [3, 3, 4], "train", batch=i, **SIZES) for i in (0, 1))
    assert torch.equal(one.tasks, other.tasks)
    assert not torch.equal(one.noise, other.noise)
    assert torch.equal(one.noise[0], one.noise[1])
    assert not torch.equal(one.noise[0], one.noise[2])


def test_a_diverged_policy_gets_a_bad_return_and_no_crash():
    actions = torch.tensor([[[[float("nan"), float("inf")]]]])
    mass = PointMass()
    mass.reset(torch.zeros(1, 1, 1, 2))
    assert mass.step(actions, torch.ones(1, 1, 2))[1].isfinite().all()


def test_without_mujoco_it_is_told_what_to_install_and_nothing_is_imported(monkeypatch):
    monkeypatch.setattr(environments.importlib.util, "find_spec", lambda name: None)
    config = control.Config(environments=["cheetah velocity"], forward_seeds=1)
    assert control.missing(config) == {"MuJoCo": "pip install 'replication-notebooks[rl]'"}
    assert control.parts(config) == []
    records = evidence.gather(control, config)
    for draw_it in (figures_control.adapted, figures_control.lead, figures_control.frames, figures_control.alone):
        assert "pip install" in "".join(text.get_text() for text in draw_it(records).findobj(match=has_text))
    assert figures_control.chosen(records).rows == ()
    with pytest.raises(ImportError, match=r"pip install 'replication-notebooks\[rl\]'"):
        environments.make("cheetah velocity")
    assert control.missing(control.Config()) == {}


def has_text(artist) -> bool:
    return hasattr(artist, "get_text")


@pytest.fixture
def cheetah(tmp_path, monkeypatch):
    import gymnasium

    monkeypatch.chdir(tmp_path)
    yield lambda kind: environments.make(f"cheetah {kind}"), gymnasium
    # MuJoCo's warnings do not become files
    assert not list(tmp_path.iterdir())


def test_the_half_cheetah_is_gymnasiums_bit_for_bit(cheetah):
    make, gymnasium = cheetah
    ours = make("forward")
    theirs = gymnasium.make("HalfCheetah-v5").unwrapped
    theirs.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):  # from a reset of used simulations too
        starts = ours.draw_starts(generator, (1, 2, 2))
        first = ours.reset(starts)
        noise = starts[0, 1, 0].double().numpy()
        assert np.abs(noise[:9]).max() <= 0.1
        theirs.reset(seed=0)
        theirs.set_state(theirs.init_qpos + noise[:9], theirs.init_qvel + noise[9:])
        np.testing.assert_array_equal(first[0, 1, 0], theirs._get_obs().astype(np.float32))
        for _ in range(30):
            actions = 1.5 * torch.randn(1, 2, 2, 6, generator=generator)
            seen, rewards = ours.step(actions, torch.zeros(1, 2, 1))
            expected, reward, *_ = theirs.step(actions[0, 1, 0].numpy())
            np.testing.assert_array_equal(seen[0, 1, 0], expected.astype(np.float32))
            assert float(rewards[0, 1, 0]) == pytest.approx(float(reward), rel=1e-5, abs=1e-5)


def test_simulations_of_a_half_cheetah_that_is_gone_serve_the_next(cheetah):
    """And no other while it is there; what was done to them changes nothing."""
    make, _ = cheetah
    generator = torch.Generator().manual_seed(0)
    starts, actions = 0.1 * torch.randn(1, 2, 2, 18, generator=generator), torch.ones(1, 2, 2, 6)

    def played(one):
        one.reset(starts)
        return torch.stack([one.step(actions, torch.zeros(1, 2, 1))[0] for _ in range(5)])

    first, second = make("forward"), make("forward")
    found = played(first)
    assert torch.equal(played(second), found)
    held = list(first._data)
    assert not any(one is other for one in held for other in second._data)
    del first
    third = make("forward")
    assert torch.equal(played(third), found)
    assert all(any(one is other for other in third._data) for one in held)


def test_the_rewards_of_the_half_cheetahs_tasks(cheetah):
    make, _ = cheetah
    starts = torch.zeros(1, 2, 1, 18)
    rewards = {}
    for kind, tasks in {"velocity": [[2.0], [0.5]], "direction": [[1.0], [-1.0]], "forward": [[0.0], [0.0]]}.items():
        one = make(kind)
        one.reset(starts)
        # a tenth of an action pushes, where there is a task
        actions = torch.full((1, 2, 1, 6), 0.5 if kind == "forward" else 5.0)
        rewards[kind] = one.step(actions, torch.tensor([tasks]))[1][0, :, 0]
        speed = one.velocity()[0, :, 0, 0]
    cost = 6 * 0.25
    torch.testing.assert_close(rewards["velocity"], -(speed - torch.tensor([2.0, 0.5])).abs() - 0.05 * cost)
    torch.testing.assert_close(rewards["direction"], speed * torch.tensor([1.0, -1.0]) - 0.05 * cost)
    torch.testing.assert_close(rewards["forward"], speed - 0.1 * cost)
    generator = torch.Generator().manual_seed(0)
    assert 2.9 < make("velocity").draw_tasks(generator, 500).max() <= 3
    assert set(make("direction").draw_tasks(generator, 50).flatten().tolist()) == {-1.0, 1.0}
    assert one.pose(0).shape == (8, 2, 2)
    most = make("velocity")
    most.reset(starts)
    reward = most.step(torch.full((1, 2, 1, 6), 50.0), torch.zeros(1, 2, 1))[1]
    torch.testing.assert_close(reward, -most.velocity()[..., 0].abs() - 0.05 * 6)


# --- advantages and losses -------------------------------------------------------------------------------------------


def test_advantages_are_what_the_definition_gives(monkeypatch):
    """Against a loop over GAE's sum of discounted residuals, before they are standardised."""
    values = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rewards = torch.randn(3, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    monkeypatch.setattr("replication.metalearning.policy_gradient._baseline", lambda seen, returns: values)
    found = advantages(torch.zeros(3, 6, 2), rewards, 0.9)
    expected = torch.zeros(3, 6, dtype=torch.float64)
    for k in range(3):
        for h in range(6):
            for j in range(h, 6):
                following = values[k, j + 1] if j < 5 else 0.0
                residual = rewards[k, j] + DISCOUNT * following - values[k, j]
                expected[k, h] += (DISCOUNT * 0.9) ** (j - h) * residual
    torch.testing.assert_close(found, (expected - expected.mean()) / expected.std(), rtol=1e-6, atol=1e-6)


def test_the_baseline_explains_what_is_linear_in_its_features_and_tasks_do_not_mix():
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(2, 8, 10, 2, generator=generator, dtype=torch.float64)
    time = torch.arange(10.0, dtype=torch.float64) / 100
    returns_ = 3 * seen[..., 0] - seen[..., 1] ** 2 + time + 2
    returns_[1] *= -5
    torch.testing.assert_close(_baseline(seen, returns_), returns_, rtol=1e-3, atol=1e-2)


def test_the_policy_gradient_is_that_of_the_expected_return(monkeypatch):
    """Against the derivative along simulated paths, of the mean action and of the spread."""
    monkeypatch.setattr("replication.metalearning.policy_gradient.DISCOUNT", 1.0)
    monkeypatch.setattr(PointMass, "PUSH", 0.2)
    horizon, count, goal = 3, 60_000, torch.tensor([[[1.5, 0.4]]])
    policy = GaussianPolicy(2, 2, 3)
    parameters = {name: torch.zeros_like(p) for name, p in policy.named_parameters()}
    parameters["log_spread"] = torch.full((2,), -1.2)
    drawn = draw(PointMass(), [0], "test", tasks=1, rollouts=count, horizon=horizon)._replace(tasks=goal)
    shared = {name: p[None, None] for name, p in parameters.items()}

    def simulated(bias: Tensor, log_spread: Tensor) -> Tensor:
        mass, total = PointMass(), torch.tensor(0.0)
        mass.reset(drawn.starts)
        for h in range(horizon):
            total = total + mass.step(bias + log_spread.exp() * drawn.noise[..., h, :], goal)[1]
        return total.mean()

    inputs, (actions, before, weights) = play(PointMass(), policy, shared, drawn).data()
    scale = play(PointMass(), policy, shared, drawn)
    raw = _unstandardised(scale)
    targets = (actions, before, raw)
    slope = grad(lambda p: policy_loss(functional_call(policy, p, (inputs,)), targets))(parameters)
    expected = grad(simulated, argnums=(0, 1))(torch.zeros(2), parameters["log_spread"])
    # the loss averages over times
    torch.testing.assert_close(-slope["mean.4.bias"] * horizon, expected[0], rtol=0.05, atol=0.02)
    torch.testing.assert_close(-slope["log_spread"] * horizon, expected[1], rtol=0.1, atol=0.02)
    # standardised advantages change its length alone
    standard = grad(lambda p: policy_loss(functional_call(policy, p, (inputs,)), (actions, before, weights)))(
        parameters
    )
    cosine = torch.cosine_similarity(standard["mean.4.bias"], slope["mean.4.bias"], dim=0)
    assert cosine > 0.99


def _unstandardised(played: Rollouts) -> Tensor:
    to_go = played.rewards.flip(-1).cumsum(-1).flip(-1)
    return to_go - to_go.mean(-2, keepdim=True)


def test_the_policy_gradient_of_the_batch_is_that_of_finite_differences():
    """The loss itself, in float64, parameter by parameter."""
    policy = GaussianPolicy(2, 2, 3).double()
    parameters = {name: p.detach() for name, p in policy.named_parameters()}
    data = _data(policy, parameters, 0)
    for loss in (policy_loss, clipped_loss, divergence):
        # away from the policy that acted, where the clip and the divergence have something to say
        moved = {name: p + 0.3 * torch.sin(torch.arange(p.numel()).view(p.shape)) for name, p in parameters.items()}
        found = grad(lambda p, loss=loss: loss(functional_call(policy, p, (data[0],)), data[1]))(moved)
        for name, p in moved.items():
            for i in range(p.numel()):
                ends = []
                for sign in (1, -1):
                    at = p.clone()
                    at.view(-1)[i] += sign * 1e-6
                    ends.append(float(loss(functional_call(policy, {**moved, name: at}, (data[0],)), data[1])))
                assert float(found[name].view(-1)[i]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-7)


def _data(policy, parameters, seed, tasks=()):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(*tasks, 4, 5, 2, generator=generator, dtype=torch.float64)
    outputs = functional_call(policy, parameters, (inputs,)).detach()
    mean, log_spread = outputs.chunk(2, -1)
    actions = mean + log_spread.exp() * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(actions.shape[:-1], generator=generator, dtype=torch.float64)
    return inputs, (actions, outputs, weights)


def test_log_probabilities_are_those_of_the_normal_distribution():
    policy = GaussianPolicy(2, 2, 3).double()
    parameters = {name: p.detach() for name, p in policy.named_parameters()}
    _, (actions, before, weights) = _data(policy, parameters, 0)
    now = before + 0.2
    distributions = [torch.distributions.Normal(m, s.exp()) for m, s in (now.chunk(2, -1), before.chunk(2, -1))]
    log_ratio = distributions[0].log_prob(actions).sum(-1) - distributions[1].log_prob(actions).sum(-1)
    torch.testing.assert_close(policy_loss(now, (actions, before, weights)), -(log_ratio.exp() * weights).mean())
    exact = torch.distributions.kl_divergence(distributions[1], distributions[0]).sum(-1).mean()
    torch.testing.assert_close(divergence(now, (actions, before, weights)), exact)


def test_the_clip_takes_away_the_reward_for_going_too_far():
    before = torch.zeros(1, 2)
    actions, up, down = torch.ones(1, 1), torch.ones(1), -torch.ones(1)
    far = torch.tensor([[0.9, 0.0]])  # a ratio above 1.3
    slope = {
        sign: grad(lambda out, w=weights: clipped_loss(out, (actions, before, w)))(far)
        for sign, weights in (("better", up), ("worse", down))
    }
    assert slope["better"].abs().max() == 0
    assert slope["worse"].abs().max() > 0
    assert float(clipped_loss(far, (actions, before, up))) == pytest.approx(-1 - CLIP)


def test_the_second_derivative_holds_the_squared_score():
    """Of a mean action m with spread 1: minus the mean of A (s s' − I) with the score s = a − m."""
    generator = torch.Generator().manual_seed(0)
    noise, weights = torch.randn(50, 2, generator=generator).double(), torch.randn(50, generator=generator).double()
    mean = torch.full((2,), 0.3, dtype=torch.float64)

    def loss(m: Tensor) -> Tensor:
        outputs = torch.cat([m.expand(50, 2), torch.zeros(50, 2, dtype=torch.float64)], -1)
        fixed = torch.cat([mean.expand(50, 2), torch.zeros(50, 2, dtype=torch.float64)], -1)
        return policy_loss(outputs, (noise + mean, fixed, weights))

    expected = -(weights[:, None, None] * (noise[:, :, None] * noise[:, None] - torch.eye(2))).mean(0)
    torch.testing.assert_close(jacrev(grad(loss))(mean), expected)


def test_the_meta_gradient_is_that_of_autograd_through_the_inner_step():
    policy = GaussianPolicy(2, 2, 3).double()
    parameters = {name: p.detach() for name, p in policy.named_parameters()}
    inner, outer = (_data(policy, parameters, seed, (3,)) for seed in (0, 1))
    found = promp_gradient(policy, parameters, inner, outer, 0.1)
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    total = torch.tensor(0.0, dtype=torch.float64)
    for k in range(3):
        first, second = ((data[0][k], tuple(values[k] for values in data[1])) for data in (inner, outer))
        outputs = functional_call(policy, leaves, (first[0],))
        slopes = torch.autograd.grad(policy_loss(outputs, first[1]), list(leaves.values()), create_graph=True)
        adapted = {name: p - 0.1 * g for (name, p), g in zip(leaves.items(), slopes, strict=True)}
        total = total + clipped_loss(functional_call(policy, adapted, (second[0],)), second[1])
        total = total + KL * divergence(outputs, first[1])
    expected = torch.autograd.grad(total / 3, list(leaves.values()))
    for name, value in zip(leaves, expected, strict=True):
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12)
    # the inner step matters
    flat = promp_gradient(policy, parameters, inner, outer, 0.0)
    assert not torch.allclose(flat["mean.4.weight"], found["mean.4.weight"], rtol=1e-2)


# --- training --------------------------------------------------------------------------------------------------------


def batches(seeds, i, count):
    return [draw(PointMass(), seeds, f"train {i}", batch=stage, **SIZES) for stage in range(count)]


@pytest.mark.parametrize(("method", "count"), [("DRS", 1), ("MAML", 2)])
def test_replicas_do_not_mix(method, count):
    together, alone = population(method, (0, 1)), population(method, (1,))
    for i in range(2):
        both, one = together.iterate(batches([0, 1], i, count)), alone.iterate(batches([1], i, count))
        for a, b in zip(both, one, strict=True):
            torch.testing.assert_close(a[1:], b, rtol=1e-4, atol=1e-4)
    for name, p in alone.parameters.items():
        torch.testing.assert_close(together.parameters[name][1:], p, rtol=1e-3, atol=1e-4)


def test_minibatches_hold_every_sample_once():
    data = (torch.arange(24.0).view(1, 1, 4, 6, 1), tuple(torch.arange(24.0).view(1, 1, 4, 6) for _ in range(3)))
    pieces = _split(data, 5, torch.Generator().manual_seed(0))
    assert sorted(torch.cat([piece[0].flatten() for piece in pieces]).tolist()) == list(range(24))
    assert all(torch.equal(inputs[..., 0], targets[0]) for inputs, targets in pieces)
    split = population("DRS", minibatches=4)
    split.iterate(batches([0, 1], 0, 1))
    assert (split.steps, split.iterations) == (8, 1)
    assert len(_split(data, 5, torch.Generator())) == 5
    with pytest.raises(ValueError, match="minibatches: must be at most the 24 samples of a task, got 25"):
        _split(data, 25, torch.Generator())


def test_returns_follow_the_updates_of_each_task():
    one = population()
    draws = [draw(PointMass(), [0, 1], "test", batch=u, **SIZES) for u in (0, 1)]
    rates = torch.tensor([0.05, 0.2])
    found = returns(one, draws, rates)
    assert found.shape == (2, 2)
    played = play(one.environment, one.policy, one.shared(3), draws[0])
    torch.testing.assert_close(found[0], played.returns.mean(1))
    moved = update(one.policy, one.shared(3), played.data(), rates)
    inputs, targets = played.data()
    for r, t in ((0, 2), (1, 0)):
        own = {name: p[r] for name, p in one.parameters.items()}
        data = (inputs[r, t], tuple(target[r, t] for target in targets))
        slope = grad(lambda p, d=data: policy_loss(functional_call(one.policy, p, (d[0],)), d[1]))(own)
        for name, p in own.items():
            torch.testing.assert_close(moved[name][r, t], p - rates[r] * slope[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1], play(one.environment, one.policy, moved, draws[1]).returns.mean(1))
    torch.testing.assert_close(returns(one, draws, rates, played), found)


@pytest.mark.parametrize("method", ["DRS", "MAML"])
def test_a_killed_training_goes_on_to_the_same_curves(method, tmp_path, monkeypatch):
    monkeypatch.setattr(control, "SAVE_SECONDS", 0.0)
    settings = [(control.Setting(0.01, 0.1), seed) for seed in (0, 1)]

    def judge(population, batches):
        return [{"quantity": "judged", "batches": batches, "value": float(population.parameters["log_spread"].sum())}]

    whole = control.fit(PATH, "point mass", method, settings, [2, 8], judge, None)
    iterate, calls = PolicyPopulation.iterate, []

    def killed(self, drawn):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return iterate(self, drawn)

    monkeypatch.setattr(PolicyPopulation, "iterate", killed)
    with pytest.raises(KeyboardInterrupt):
        control.fit(PATH, "point mass", method, settings, [2, 8], judge, tmp_path)
    for _ in range(2):  # the second finds it at its end
        assert control.fit(PATH, "point mass", method, settings, [2, 8], judge, tmp_path) == whole
        assert len(calls) == 4 + {"DRS": 8, "MAML": 4}[method] - 3  # what was done was not done again


def test_a_population_is_resumed_with_its_own_settings_only(tmp_path):
    population().checkpoint(tmp_path / "state")
    population().resume(tmp_path / "state")
    for changes, named in (({"gae_lambda": 0.5}, "gae_lambda = "), ({"minibatches": 2}, "minibatches = 1")):
        with pytest.raises(ValueError, match=f"was saved with {named}"):
            population(**changes).resume(tmp_path / "state")


def test_what_is_saved_is_of_its_own_settings(tmp_path, monkeypatch):
    def folder(config, **cell):
        with control.states(config, **cell) as found:
            return found

    monkeypatch.setattr(control.places, "runs", lambda: tmp_path)
    one = folder(PATH, seed=0)
    assert one != folder(PATH, seed=1)
    assert one != folder(PATH.model_copy(update={"hidden": 5}), seed=0)
    assert one == folder(PATH.model_copy(), seed=0)
    monkeypatch.setattr(control.places, "runs", lambda: None)
    assert folder(PATH, seed=0) is None


def test_a_part_that_is_killed_keeps_its_trainings_and_one_that_ends_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(control.places, "runs", lambda: tmp_path)
    config, fitted, fit = PATH.model_copy(update={"side_by_side": 1}), [], control.fit

    def killed(*args):
        if len(fitted) == 1:
            raise KeyboardInterrupt
        fitted.append(fit(*args))
        return fitted[-1]

    monkeypatch.setattr(control, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        list(control.tuning(config, "point mass", "DRS"))
    monkeypatch.setattr(control, "fit", fit)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert list(control.tuning(config, "point mass", "DRS"))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_grid_of_the_inner_rate_is_widened_at_the_best_of_adams(monkeypatch):
    """Scores that are planted: the best is Adam's 0.02 with an inner rate of 0.8."""

    def planted(config, name, method, replicas, *_):
        best = [abs(np.log(one.learning_rate / 0.02)) + abs(np.log(one.inner_rate / 0.8)) for one, _ in replicas]
        return [{"quantity": "score", "value": value} for value in best]

    monkeypatch.setattr(control, "fit", planted)
    config = PATH.model_copy(update={"learning_rates": [0.01, 0.02, 0.04], "inner_rates": [0.1, 0.2], "widenings": 3})
    rows = evidence.tidy(control.tuning(config, "point mass", "MAML"))
    found = {name: of(rows, name)["value"].item() for name in ("chosen_learning_rate", "chosen_inner_rate")}
    assert found == {"chosen_learning_rate": 0.02, "chosen_inner_rate": pytest.approx(0.8)}
    assert of(rows, "training_rate_inside")["value"].item() == 1
    assert len(of(rows, "tuning_score")) == 2 * (6 + 3)
    narrow = evidence.tidy(control.tuning(config.model_copy(update={"widenings": 1}), "point mass", "MAML"))
    assert of(narrow, "training_rate_inside")["value"].item() == 0


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="hidden: must be an integer of at least 1, got 0"):
        GaussianPolicy(2, 2, 0)
    with pytest.raises(ValueError, match="environment: must be one of point mass"):
        environments.make("cart")
    for epochs in (0, 1.5):
        with pytest.raises(ValueError, match=f"epochs: must be an integer of at least 1, got {epochs}"):
            PolicyPopulation(PointMass(), "DRS", [0], torch.ones(1), torch.ones(1), hidden=3, epochs=epochs)
    with pytest.raises(ValueError, match="minibatches: MAML takes its batches whole, got 2"):
        population("MAML", minibatches=2)
    with pytest.raises(ValueError, match=r"seeds, lr and inner_rates: .* got 1, \(2,\) and \(1,\)"):
        PolicyPopulation(PointMass(), "DRS", [0], torch.ones(2), torch.ones(1), hidden=3, epochs=1)
    for change, message in (
        ({"batches": [3, 6]}, "batches: must be even"),
        ({"batches": [4, 6]}, "batches: the half of the last"),
        ({"tuning_batches": 3}, "tuning_batches: must be even"),
        ({"environments": ["cheetah forward"]}, "environments: must be one of"),
        ({"first_seed": 990}, "seeds: must end before 1000"),
        ({"first_seed": 970, "forward_seeds": 31}, "forward_seeds: must end before 1000"),
        ({"device": "cuda"}, "device: must be cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            control.Config(**change)


# --- the experiment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "standard"])
def test_every_test_can_be_answered_and_flips(paths, scale):
    first, last = (20, 40) if scale == "smoke" else (50, 100)
    records = paths.replace({"batches": {2: first, 4: last}})
    if scale == "standard":
        mass = records["environment"] == "point mass"
        both = [records.assign(environment=records["environment"].mask(mass, name)) for name in STANDARD]
        both[1] = both[1][both[1]["quantity"] != "training_rate_inside"]  # rates are tuned in the first
        rows = [{"quantity": "forward_return", "seed": seed, "value": 1500.0 + seed} for seed in range(8)]
        records = evidence.tidy(pd.concat([*both, pd.DataFrame(rows)]))
    claims = evidence.load_claims("metalearning")
    tests = claims.at("52_metalearning_control", scale)
    assert tests
    for test, outcome in zip(tests, evidence.evaluate(records, claims, "52_metalearning_control", scale), strict=True):
        assert outcome.answer != "not run"
        assert flips(test, records)


def test_both_methods_get_equal_environment_steps(paths):
    rows = of(paths, "return")
    assert set(rows["method"]) == {"DRS", "MAML"}
    assert PATH.batch_steps == 2 * 2 * 3
    assert (rows["steps"] == rows["batches"] * 12).all()
    curve = of(paths, "training_return", seed=PATH.first_seed)
    assert curve[curve["method"] == "DRS"]["batches"].tolist() == [1, 2, 3, 4]
    assert curve[curve["method"] == "MAML"]["batches"].tolist() == [2, 2, 4, 4]


def test_leads_are_paired_and_over_what_training_gains(paths):
    wide = of(paths, "return").pivot_table(index=["batches", "updates", "seed"], columns="method", values="value")
    start = of(paths, "untrained_return", updates=1).set_index("seed")["value"]
    gains = [wide.loc[4, 1][method] - start for method in ("DRS", "MAML")]
    found = of(paths, "gain", method="DRS").set_index("seed")["value"]
    pd.testing.assert_series_equal(found, gains[0][found.index], check_names=False)
    lead = of(paths, "advantage", budget=control.STEPS).set_index(["batches", "updates", "seed"])["value"]
    np.testing.assert_allclose((wide["MAML"] - wide["DRS"])[lead.index], lead)
    calls = of(paths, "advantage", budget=control.CALLS)
    assert set(calls["batches"]) == {4}
    last = calls[calls["updates"] == 1].set_index("seed")["value"]
    expected = wide.loc[2, 1]["MAML"] - wide.loc[4, 1]["DRS"]
    np.testing.assert_allclose(last, expected[last.index])
    relative = of(paths, "relative_advantage", budget=control.CALLS).set_index("seed")["value"]
    np.testing.assert_allclose(relative, last / np.mean([gain.mean() for gain in gains]))


def test_the_test_rate_is_the_best_on_validation_tasks():
    one = population("DRS", (0, 1))
    chosen = control.choose(PATH, one)
    draws = [draw(PointMass(), [0, 1], "validation", batch=u, tasks=3, rollouts=2, horizon=3) for u in (0, 1)]
    rates = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
    tried = torch.stack([returns(one, draws, torch.full((2,), rate))[1] for rate in rates])
    for r in range(2):
        score = float(tried[rates.index(pytest.approx(float(chosen.rates[r]))), r])
        assert -chosen.scores[r] == pytest.approx(score, rel=1e-5)
        assert score >= float(tried[2:5, r].max()) - 1e-6


def test_evaluation_does_not_depend_on_how_seeds_are_grouped(paths):
    apart = evidence.gather(control, PATH.model_copy(update={"side_by_side": 1}))
    for quantity in ("return", "untrained_return", "test_rate"):
        by = ["method", "batches", "updates", "seed"] if quantity == "return" else ["seed"]
        found, expected = (of(rows, quantity).sort_values([*by, "value"])["value"] for rows in (apart, paths))
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_figures_draw_what_the_runs_give(paths):
    for draw_it in (
        figures_control.adapted,
        figures_control.learning,
        figures_control.lead,
        figures_control.behaviour,
        figures_control.frames,
        figures_control.alone,
    ):
        assert isinstance(draw_it(paths), Figure)
    assert len(figures_control.chosen(paths).rows) == 2


def test_policies_of_a_seed_start_alike_and_hardly_act():
    one = population("DRS", (3, 1, 3))
    assert all(torch.equal(p[0], p[2]) for p in one.parameters.values())
    mean = partial(functional_call, one.policy)({name: p[0] for name, p in one.parameters.items()}, (torch.ones(5, 2),))
    assert mean[:, :2].abs().max() < 0.05
    assert (mean[:, 2:] == 0).all()


def test_ppo_alone_is_judged_by_its_mean_action(monkeypatch):
    monkeypatch.setattr(control, "PLAIN", {**control.PLAIN, "rollouts": 2, "horizon": 4, "epochs": 1, "minibatches": 2})
    monkeypatch.setattr(control.places, "runs", lambda: None)
    rows = evidence.tidy(control.forward(control.Config(hidden=3, forward_batches=2), [3, 4]))
    assert of(rows, "forward_curve")["steps"].tolist() == [8, 8, 16, 16]
    assert of(rows, "forward_return")["seed"].tolist() == [3, 4]

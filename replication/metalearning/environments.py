"""Families of control tasks: a point mass, and MuJoCo's half-cheetah, with a target velocity per task.

All rollouts of all tasks of all replicas are simulated side by side. Where a rollout starts is drawn by the caller, so
that replicas do not mix. MuJoCo is imported when a half-cheetah is made, and not before; it comes with the extra
``rl`` (``pip install 'replication-notebooks[rl]'``).
"""

from __future__ import annotations

import importlib.util
import logging
import weakref
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from replication.checks import install, one_of

_LOG = logging.getLogger(__name__)

NAMES = ("point mass", "cheetah velocity", "cheetah direction", "cheetah forward")
"""The families. The last is one task: HalfCheetah-v5 as it is."""
INSTALL = install("rl")
_FREE: list[Any] = []
"""Simulations of half-cheetahs that are gone, to be taken up again. Given back, their memory would lie in pieces
between tensors, and a process would grow with every training."""


class Environment(Protocol):
    """A family of tasks with one space of observations and actions."""

    observations: int
    actions: int

    def draw_tasks(self, generator: Generator, count: int) -> Tensor:
        """Draw tasks, shape (count, G)."""
        ...

    def draw_starts(self, generator: Generator, shape: tuple[int, ...]) -> Tensor:
        """Draw what varies in the initial state, shape (*shape, S)."""
        ...

    def reset(self, starts: Tensor) -> Tensor:
        """Begin rollouts, shape (R, T, K, S); the first observations, shape (R, T, K, observations)."""
        ...

    def step(self, actions: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Act, shape (R, T, K, actions), on tasks of shape (R, T, G); observations and rewards, shape (R, T, K)."""
        ...

    def velocity(self) -> Tensor:
        """The velocity that the last step reached and that tasks ask for, shape (R, T, K, G)."""
        ...


def make(name: str) -> Environment:
    """Make a family by its name.

    Raises
    ------
    ValueError
        If there is no such family.
    ImportError
        If it needs MuJoCo, which is not installed.
    """
    one_of("environment", name, NAMES)
    return PointMass() if name == "point mass" else HalfCheetah(name.removeprefix("cheetah "))


def lacking(name: str) -> bool:
    """Whether a family needs packages that are not installed; nothing is imported."""
    return name != "point mass" and any(importlib.util.find_spec(one) is None for one in ("gymnasium", "mujoco"))


def bounded(actions: Tensor) -> Tensor:
    """Actions within ±10: a policy that has diverged gets a bad return, and the simulation no infinite forces."""
    return actions.nan_to_num(nan=10.0).clamp(-10, 10)


class PointMass:
    """A point in the plane, pushed to a velocity that it is not told.

    The push is shortened to length 1. The velocity loses a fifth a step by friction and gains half of the push. The
    reward is minus the distance from the target velocity, which is uniform in [0, 2]². The policy sees the velocity.

    Examples
    --------
    >>> mass = PointMass()
    >>> mass.reset(torch.zeros(1, 1, 1, 2)).tolist()
    [[[[0.0, 0.0]]]]
    >>> seen, reward = mass.step(torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[0.5, 1.0]]]))
    >>> seen.tolist(), reward.tolist()
    ([[[[0.5, 0.0]]]], [[[-1.0]]])
    """

    observations, actions = 2, 2
    FRICTION, PUSH, SPREAD = 0.2, 0.5, 0.1

    def draw_tasks(self, generator: Generator, count: int) -> Tensor:
        """Target velocities, shape (count, 2)."""
        return 2 * torch.rand(count, 2, generator=generator)

    def draw_starts(self, generator: Generator, shape: tuple[int, ...]) -> Tensor:
        """Initial velocities, normal around 0."""
        return self.SPREAD * torch.randn(*shape, 2, generator=generator)

    def reset(self, starts: Tensor) -> Tensor:
        """Begin at these velocities."""
        self._velocity = starts
        return starts

    def step(self, actions: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """Push once."""
        actions = bounded(actions)
        push = actions / actions.norm(dim=-1, keepdim=True).clamp(min=1)
        self._velocity = (1 - self.FRICTION) * self._velocity + self.PUSH * push
        return self._velocity, -(self._velocity - tasks[:, :, None]).norm(dim=-1)

    def velocity(self) -> Tensor:
        """The point's velocity."""
        return self._velocity


class HalfCheetah:
    """HalfCheetah-v5 of gymnasium, many side by side, with the rewards of the meta-learning benchmarks.

    Model, initial states, observations and steps are gymnasium's own; a test holds them equal, bit for bit. Many
    simulations share one model, and need no wrappers: they never end before their horizon.

    Parameters
    ----------
    kind : {"velocity", "direction", "forward"}
        ``velocity``: minus the distance of the forward velocity from a target uniform in [0, 3]. ``direction``: the
        forward velocity times 1 or −1. Both less 0.05 times the squared push (as in Finn et al. 2017), which is a tenth
        of the action, at most 1 (as the paper's code wraps its environments). ``forward``: HalfCheetah-v5's own reward,
        the forward velocity less 0.1 times the squared action, which is the push; the task says nothing.

    Raises
    ------
    ImportError
        If gymnasium or MuJoCo is not installed.
    """

    observations, actions = 17, 6

    def __init__(self, kind: str) -> None:
        if lacking("cheetah"):
            raise ImportError(f"the half-cheetah needs gymnasium and MuJoCo: {INSTALL}")
        import gymnasium
        import mujoco

        # by default they go to a file in the current folder
        mujoco.set_mju_user_warning(_LOG.info)
        made: Any = gymnasium.make("HalfCheetah-v5").unwrapped
        self._mujoco, self._model, self._skip, self._dt = mujoco, made.model, made.frame_skip, made.dt
        self._initial = np.concatenate([made.init_qpos, made.init_qvel])
        self._noise: float = made._reset_noise_scale
        self.kind = kind
        self._cost, self._scale = (0.1, 1.0) if kind == "forward" else (0.05, 0.1)
        self._data: list[Any] = []
        weakref.finalize(self, _FREE.extend, self._data).atexit = False

    def draw_tasks(self, generator: Generator, count: int) -> Tensor:
        """Target velocities, or directions, shape (count, 1)."""
        drawn = torch.rand(count, 1, generator=generator)
        return 3 * drawn if self.kind == "velocity" else 1.0 - 2.0 * (drawn < 0.5)

    def draw_starts(self, generator: Generator, shape: tuple[int, ...]) -> Tensor:
        """Noise of positions (uniform) and velocities (normal) around the initial state."""
        uniform = 2 * torch.rand(*shape, 9, generator=generator) - 1
        return self._noise * torch.cat([uniform, torch.randn(*shape, 9, generator=generator)], -1)

    def reset(self, starts: Tensor) -> Tensor:
        """Begin at the initial state plus this noise."""
        self._shape = starts.shape[:-1]
        states = self._initial + starts.flatten(0, 2).double().numpy()
        while len(self._data) < len(states):
            self._data.append(_FREE.pop() if _FREE else self._mujoco.MjData(self._model))
        for data, state in zip(self._data, states, strict=False):
            self._mujoco.mj_resetData(self._model, data)
            data.qpos[:], data.qvel[:] = state[:9], state[9:]
            self._mujoco.mj_forward(self._model, data)
        self._x = states[:, 0]
        return self._observed(len(states))

    def step(self, actions: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
        """One step of 0.05 s in every simulation; a push of ``forward`` beyond ±1 acts as ±1 and costs what it is."""
        actions = self._scale * bounded(actions)
        pushes = actions.flatten(0, 2).double().numpy()
        step, model, skip = self._mujoco.mj_step, self._model, self._skip
        for data, push in zip(self._data, pushes, strict=False):
            data.ctrl[:] = push
            step(model, data, nstep=skip)
        x = np.array([data.qpos[0] for data in self._data[: len(pushes)]])
        self._speed, self._x = (x - self._x) / self._dt, x
        velocity, target = self.velocity()[..., 0], tasks
        if self.kind == "velocity":
            forward = -(velocity - target).abs()
        else:
            forward = velocity * (target if self.kind == "direction" else 1.0)
        return self._observed(len(pushes)), forward - self._cost * actions.square().sum(-1)

    def velocity(self) -> Tensor:
        """The forward velocity."""
        return torch.from_numpy(self._speed).float().view(*self._shape, 1)

    def pose(self, index: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The ends of the capsules that the body is made of, in the plane of motion, shape (capsules, 2, 2)."""
        data, model = self._data[index], self._model
        capsules = np.flatnonzero(model.geom_type == self._mujoco.mjtGeom.mjGEOM_CAPSULE)
        axis = data.geom_xmat[capsules].reshape(-1, 3, 3)[:, :, 2] * model.geom_size[capsules, 1, None]
        ends = np.stack([data.geom_xpos[capsules] - axis, data.geom_xpos[capsules] + axis], 1)
        return np.asarray(ends[:, :, [0, 2]])

    def _observed(self, count: int) -> Tensor:
        seen = np.array([[*data.qpos[1:], *data.qvel] for data in self._data[:count]], dtype=np.float32)
        return torch.from_numpy(seen).view(*self._shape, -1)

r"""The UBA learning-rate schedule, as a function, as a ``torch.optim`` scheduler and as a lambda factory.

With :math:`\theta = \pi (t - t_w) / (T - t_w)` for step :math:`t` of :math:`T`, after :math:`t_w` steps of warm-up,

.. math::
    \eta_t = \eta_{\min} + (\eta_{\max} - \eta_{\min}) \,
             \frac{2 (1 + \cos\theta)}{2 \varphi + (2 - \varphi)(1 + \cos\theta)}
           = \eta_{\min} + \frac{\eta_{\max} - \eta_{\min}}{1 + \frac{\varphi}{2} \tan^2\frac{\theta}{2}} .

Where this comes from. The paper is A. Tang et al., "Stepsize anything" (arXiv 2505.24452, NeurIPS 2025); its full text
was not available to this project. The formula is its Eqs. 5 and 17, second-hand: from auditors who cite its source.
The official file (Ttt-answer/UBA) could not be obtained. With :math:`\varphi = 2\kappa` the formula is the exact
solution of the natural min-max problem over a spectrum of condition number :math:`\kappa` (see
:mod:`replication.uba.theory`). The sampling of :math:`\theta` (one value per step, zero-based, the last one short of
:math:`\pi`), the linear warm-up inside the budget and the reading of several phases are ours.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.optim.optimizer import Optimizer

from replication.checks import one_of, whole

__all__ = ["UBALR", "get_uba_schedule_with_warmup", "uba"]

Float = NDArray[np.float64]
Scalar = int | float


def _term(t: float, total: float, phi: float, floor: float, warmup: float, cycles: int) -> tuple[float, float, float]:
    """Return (low, up, down) such that the value at step ``t`` is low + (peak - low) * up / down."""
    if t < warmup:
        # a place between the last two steps, where `extend` may begin, would lie above the peak
        return 0.0, min(t + 1, warmup), warmup
    local, span = t - warmup, total - warmup
    if local >= span:
        # f(pi): 0 for every phi > 0, and 1 for the constant schedule phi = 0 (where the formula reads 0 / 0)
        return (floor, 0.0, 1.0) if phi > 0 else (floor, 1.0, 1.0)
    theta = math.pi * (local * cycles % span) / span
    if phi == 2:
        # the same operations as the closed form of cosine annealing, so that the two agree bit for bit
        return floor, 1 + math.cos(theta), 2.0
    # f = 1 / (1 + a tan^2(theta / 2)), a = phi / 2: no cancellation, monotone and in (0, 1] for every phi
    tangent = math.tan(theta / 2)
    return floor, 1.0, 1 + 0.5 * phi * tangent * tangent


def _rate(t: float, total: float, phi: float, peak: float, floor: float, warmup: float, cycles: int = 1) -> float:
    low, up, down = _term(t, total, phi, floor, warmup, cycles)
    return low + (peak - low) * up / down


# step by step: numpy's own sine and tangent differ in the last bit between CPUs (SIMD paths), the C library's do not
_rates = np.frompyfunc(_rate, 6, 1)


@overload
def uba(
    step: Scalar,
    total: Scalar,
    phi: Scalar,
    *,
    peak: Scalar = ...,
    floor: Scalar = ...,
    warmup: Scalar = ...,
) -> float: ...


@overload
def uba(
    step: ArrayLike,
    total: ArrayLike,
    phi: ArrayLike,
    *,
    peak: ArrayLike = ...,
    floor: ArrayLike = ...,
    warmup: ArrayLike = ...,
) -> Float | float: ...


def uba(
    step: ArrayLike,
    total: ArrayLike,
    phi: ArrayLike,
    *,
    peak: ArrayLike = 1.0,
    floor: ArrayLike = 0.0,
    warmup: ArrayLike = 0,
) -> Float | float:
    r"""Learning rate of UBA at ``step`` of a budget of ``total`` steps.

    .. math::
        \eta_t = \eta_{\min} + \frac{\eta_{\max} - \eta_{\min}}{1 + \frac{\varphi}{2} \tan^2\frac{\theta}{2}}, \qquad
        \theta = \pi \frac{t - t_w}{T - t_w}

    Arguments broadcast.

    Parameters
    ----------
    step : float or array
        Zero-based step :math:`t \ge 0`. Fractions are allowed: ``t - 1/2`` for t = 1…T are the theory's mid-points.
    total : float or array
        Budget :math:`T > 0` in steps, warm-up included.
    phi : float or array
        Shape :math:`\varphi \ge 0`. 2 is cosine annealing; smaller stays high for longer; 0 is constant at the peak.
    peak : float or array
        :math:`\eta_{\max}`, the learning rate after warm-up.
    floor : float or array
        :math:`\eta_{\min}`, from 0 to ``peak``: the limit at ``step = total``.
    warmup : float or array
        Steps of linear warm-up :math:`t_w < T`: :math:`\eta_t = \eta_{\max} (t + 1) / t_w` for :math:`t < t_w`, and
        no more than the peak at fractions of the last step.

    Returns
    -------
    float, or ndarray of float64 with the broadcast shape
        Non-increasing after warm-up. From ``step = total`` on the last value is held: ``floor`` for every ``phi > 0``,
        ``peak`` for ``phi = 0``. At ``phi = 2`` and without warm-up equal, bit for bit, to
        ``floor + (peak - floor) * (1 + cos(pi * t / T)) / 2``. After warm-up values lie in [floor, peak]; with a
        non-zero ``floor`` the last bit may round past an end, as in cosine annealing.

    Raises
    ------
    ValueError
        If an argument is out of its range or not finite; the message names it.

    Examples
    --------
    >>> [round(uba(t, 4, phi=5), 3) for t in range(5)]
    [1.0, 0.7, 0.286, 0.064, 0.0]
    >>> uba([0, 50, 100], 100, 0.5, peak=0.1).round(3)
    array([0.1 , 0.08, 0.  ])
    """
    t, T, shape, top, low, start = (np.asarray(v, dtype=np.float64) for v in (step, total, phi, peak, floor, warmup))
    for name, value, valid, allowed in (
        ("step", t, t >= 0, "at least 0"),
        ("total", T, T > 0, "positive"),
        ("phi", shape, shape >= 0, "at least 0 (the formula has a pole for phi < 0)"),
        ("warmup", start, (start >= 0) & (start < T), "at least 0 and less than total"),
        ("peak", top, top >= 0, "at least 0"),
        ("floor", low, (low >= 0) & (low <= top), "from 0 to peak"),
    ):
        if not (np.isfinite(value).all() and np.all(valid)):
            raise ValueError(f"{name}: must be finite and {allowed}, got {_show(value)}")
    rates = _rates(t, T, shape, top, low, start)
    return rates if isinstance(rates, float) else np.asarray(rates, dtype=np.float64)


def _show(value: Float) -> str:
    return str(value.item()) if value.size == 1 else np.array2string(value, threshold=6)


def _number(name: str, value: float, allowed: str = "at least 0") -> float:
    """Return ``value`` as a finite float ≥ 0, or refuse it by name."""
    try:
        if isinstance(value, (str, bool)):  # float() would take "5" and True
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: must be a number, got {value!r} ({type(value).__name__})") from None
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name}: must be finite and {allowed}, got {value!r}")
    return number


def _budget(total: object, warmup: object, cycles: object, names: tuple[str, str, str]) -> list[int]:
    """Validate a budget, its warm-up and its cycles together; ``names`` are the caller's argument names."""
    budget = [whole(*of) for of in zip(names, (total, warmup, cycles), (1, 0, 1), strict=True)]
    if budget[1] >= budget[0]:
        raise ValueError(f"{names[1]}: must be less than {names[0]} ({budget[0]}), got {budget[1]}")
    if budget[2] > budget[0] - budget[1]:
        raise ValueError(
            f"{names[2]}: each cycle needs a step; at most {budget[0] - budget[1]} fit after warm-up, got {budget[2]}"
        )
    return budget


class UBALR(LRScheduler):
    r"""Set the learning rate of each parameter group by the UBA schedule over a budget of iterations.

    .. math::
        \eta_t = \eta_{\min} + (\eta_{\max} - \eta_{\min}) \,
                 \frac{2 (1 + \cos\theta_t)}{2 \varphi + (2 - \varphi)(1 + \cos\theta_t)}, \qquad
        \theta_t = \pi \frac{t - t_w}{T - t_w}

    :math:`\eta_{\max}` is the group's own initial learning rate. Warm-up inside the budget and equal cycles are this
    project's reading.

    Call ``step()`` once per iteration, after ``optimizer.step()``.

    Parameters
    ----------
    optimizer : Optimizer
        Wrapped optimizer.
    total_iters : int
        Budget :math:`T \ge 1` in calls of ``step()``, warm-up included. Beyond it the last value is held: ``eta_min``
        for every ``phi > 0``, the peak for ``phi = 0``.
    phi : float
        Shape :math:`\varphi \ge 0`; 2 is cosine annealing, smaller stays high for longer, 0 is constant. Keep 2 unless
        you can tune: the notebooks of this project measure what another value gains over it, once its peak is tuned.
    eta_min : float
        Lowest learning rate :math:`\eta_{\min}`, from 0 to the smallest initial learning rate of the groups.
    warmup_iters : int
        Steps of linear warm-up :math:`t_w < T`: :math:`\eta_{\max} (t + 1) / t_w` for :math:`t < t_w`.
    num_cycles : int
        Number of equal phases after warm-up, each a whole curve from peak to floor. Our reading of the paper's phases.
    last_epoch : int
        Index of the last step done, when restoring without a state dict; -1 starts afresh.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range; the message names it.

    Notes
    -----
    *Exactness.* While nothing else changes the learning rates they follow the closed form: no drift, however many
    steps. At ``phi = 2`` they equal the closed form of :class:`~torch.optim.lr_scheduler.CosineAnnealingLR` bit for bit
    (its ``step()`` is a recursion that agrees with that up to rounding).

    *Other schedulers.* In ``SequentialLR`` it starts from the initial learning rate at its milestone. In
    ``ChainedScheduler``, or beside any scheduler that *multiplies* (``LinearLR``, ``ConstantLR``, ``StepLR``,
    ``ExponentialLR``), the factors multiply, in either order and up to rounding, as for torch's own recursive
    schedulers. A scheduler that *overwrites* (``LambdaLR``, ``OneCycleLR``, ``CyclicLR``) cannot be chained with this
    one. For the same reason a learning rate that you set by hand stays in force as a factor. To start anew on a used
    optimizer, set ``group["lr"]`` and ``group["initial_lr"]`` to the peak first (for a group left at 0 the latter is
    enough).

    *Resuming.* Load the optimizer's state and the scheduler's state, in any order; the continuation is exact. A state
    brings its own budget and shape, with a warning if they differ from the constructor's. For another budget call
    :meth:`extend`.

    *Parameter groups* that are added later go on from the rate that they come with, down the same curve, as with
    torch's cosine. In warm-up, and with several cycles, that rate is their peak, and they join where the others are.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> scheduler = UBALR(optimizer, total_iters=100, phi=5, warmup_iters=10)
    >>> x, y = torch.randn(100, 32, 2), torch.randn(100, 32, 1)
    >>> for step in range(100):
    ...     loss = torch.nn.functional.mse_loss(model(x[step]), y[step])
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int,
        phi: float = 2.0,
        *,
        eta_min: float = 0.0,
        warmup_iters: int = 0,
        num_cycles: int = 1,
        last_epoch: int = -1,
    ) -> None:
        self.total_iters, self.warmup_iters, self.num_cycles = _budget(
            total_iters, warmup_iters, num_cycles, ("total_iters", "warmup_iters", "num_cycles")
        )
        self.phi = _number("phi", phi, "at least 0 (the formula has a pole for phi < 0)")
        self.eta_min = _number("eta_min", eta_min)
        whole("last_epoch", last_epoch, -1)
        # `extend` moves these: from step _start on, the curve of _curve steps is run from _position to its end
        self._curve, self._start, self._position = self.total_iters, 0, 0.0
        for i, group in enumerate(getattr(optimizer, "param_groups", ())):
            peak = float(group.get("initial_lr", group["lr"]))
            if self.eta_min > peak:
                raise ValueError(
                    f"eta_min: must not exceed any group's initial rate, got {eta_min!r}; group {i} has {peak!r}"
                )
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Compute the learning rate of each group at ``last_epoch``; to read it, use :meth:`get_last_lr`."""
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate, use `get_last_lr()`.", UserWarning, stacklevel=2)
            return list(self._last_lr)
        t = self.last_epoch
        self._join(t)
        if not self._is_initial:
            before = self._plain if self._plain_epoch == t - 1 else self._closed_form(t - 1)
        elif t == 0:  # a group left at 0, by a schedule that has ended, starts anew
            groups = self.optimizer.param_groups
            before = [peak if group["lr"] else group["lr"] for peak, group in zip(self.base_lrs, groups, strict=True)]
        else:  # restored by last_epoch: the checkpoint's learning rate says nothing about other schedulers
            return self._get_closed_form_lr()
        plain = self._get_closed_form_lr()
        now = [group["lr"] for group in self.optimizer.param_groups]
        if isinstance(now[0], float) and now == before:  # nearly always so, and quicker asked at once
            return plain
        return [_scaled(*rates) for rates in zip(plain, before, now, strict=True)]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        """Closed form at ``last_epoch``; torch calls this by name for a step to a given epoch (``SequentialLR``)."""
        self._plain_epoch = self.last_epoch
        self._plain = self._closed_form(self.last_epoch)
        return self._plain

    def _closed_form(self, t: int) -> list[float | Tensor]:
        low, up, down = self._terms(t)
        return [low + (peak - low) * up / down for peak in self.base_lrs]

    def _terms(self, t: int) -> tuple[float, float, float]:
        return _term(self._place(t), self._curve, self.phi, self.eta_min, self.warmup_iters, self.num_cycles)

    def _place(self, t: int) -> float:
        """Where on the curve step ``t`` lies; exactly ``t`` if the budget was never changed."""
        left = self.total_iters - self._start
        return self._position + (t - self._start) * (self._curve - self._position) / left

    def _join(self, t: int) -> None:
        """Take in the parameter groups that were added since the last step."""
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            rate, (low, up, down) = float(group["lr"]), self._terms(t - 1)
            group.setdefault("initial_lr", rate)
            self._plain_epoch = -1
            # on the ramp, before another peak (which from near the floor would be a huge one), or after the end
            if self._place(t - 1) < self.warmup_iters or self.num_cycles > 1 or not up:
                self.base_lrs.append(group["initial_lr"])
                _set(group, self._closed_form(t - 1)[-1])
            else:  # the peak of the curve that is at this rate now
                self.base_lrs.append(low + (rate - low) * down / up)

    def extend(self, total_iters: int, how: Literal["stretch", "anneal"] = "stretch") -> None:
        """Go on with another budget.

        Parameters
        ----------
        total_iters : int
            The new budget in calls of ``step()``, counted from the beginning; more than the steps done. It may also be
            smaller than the old one.
        how : {"stretch", "anneal"}
            "stretch" keeps the place on the curve: what is left of it is run in the steps that are left, so that the
            rate goes on without a jump, only slower. "anneal" runs one whole curve without warm-up from the present
            rate to ``eta_min`` in the steps that are left; ``num_cycles`` is then 1.

        Raises
        ------
        ValueError
            If no step is left, or no curve: after the last step of the budget a rate of ``eta_min`` is all there is. To
            train on from there, set ``lr`` and ``initial_lr`` of the groups to a new rate and start a new schedule.
            If "anneal" finds no rate above ``eta_min``, as early in warm-up.

        Examples
        --------
        >>> import torch
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1)
        >>> scheduler = UBALR(optimizer, total_iters=100)
        >>> for _ in range(50):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.extend(150)  # half the curve is left, for 100 steps
        >>> [round(rate, 3) for rate in scheduler.get_last_lr()], scheduler.total_iters
        ([0.05], 150)
        """
        done = self.last_epoch
        total = whole("total_iters", total_iters)
        one_of("how", how, ("stretch", "anneal"))
        if total <= done:
            raise ValueError(f"total_iters: must be more than the {done} steps done, got {total}")
        rates = self._closed_form(done)
        if done >= self.total_iters:
            raise ValueError(
                f"total_iters: nothing of the curve is left after {done} of {self.total_iters} steps; set lr and "
                "initial_lr of the groups to a new rate and start a new schedule"
            )
        if how == "anneal":
            if all(rate <= self.eta_min for rate in rates):
                raise ValueError(
                    f"how: anneal goes down to eta_min ({self.eta_min:g}), above which no rate is after {done} steps, "
                    f"got {', '.join(f'{rate:g}' for rate in rates)}; stretch goes on from any rate"
                )
            self.base_lrs, self._position, self._plain_epoch = rates, float(self.warmup_iters), -1
            self.num_cycles = 1
        else:
            self._position = self._place(done)
        self.total_iters, self._start = total, done

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the scheduler's state, and its learning rates into an optimizer that has not been restored.

        A budget and a shape that are not the constructor's replace those, with a warning; see :meth:`extend`.

        Parameters
        ----------
        state_dict : dict
            What :meth:`state_dict` returned.

        Raises
        ------
        ValueError
            If the state is of another scheduler, or of more parameter groups than the optimizer has.
        """
        own = ("total_iters", "phi", "eta_min", "warmup_iters", "num_cycles")
        if lacking := [name for name in own if name not in state_dict]:
            raise ValueError(f"state_dict: must be of a UBALR, got one without {', '.join(lacking)}")
        groups = self.optimizer.param_groups
        if len(state_dict["base_lrs"]) > len(groups):
            raise ValueError(
                f"state_dict: must be of at most the optimizer's {len(groups)} parameter groups, "
                f"got one of {len(state_dict['base_lrs'])}"
            )
        for name in own:
            if (ours := getattr(self, name)) != (stored := state_dict[name]):
                do = f"; to go on with {ours}, call extend({ours}) after loading" if name == "total_iters" else ""
                warnings.warn(f"{name}: the state's {stored} replaces {ours}{do}", UserWarning, stacklevel=2)
        untouched = all(group["lr"] == lr for group, lr in zip(groups, self._last_lr, strict=False))
        super().load_state_dict(state_dict)
        if untouched:
            for group, lr in zip(groups, self._last_lr, strict=False):
                _set(group, lr)

    def __repr__(self) -> str:
        shown = ("total_iters", "phi", "eta_min", "warmup_iters", "num_cycles", "last_epoch")
        return f"UBALR({', '.join(f'{name}={getattr(self, name)}' for name in shown)})"


def _scaled(value: float | Tensor, was: float | Tensor, lr: float | Tensor) -> float | Tensor:
    """A rate that is not what this schedule left has been scaled by something else: keep that factor."""
    if isinstance(lr, Tensor):  # without asking for its value, so that a GPU need not be waited for
        return torch.where((lr == was) | (was == 0), value, value / was * lr)
    return value if lr == was or was == 0 else value / was * lr


def _set(group: dict[str, Any], lr: float | Tensor) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def get_uba_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    phi: float = 2.0,
    num_cycles: int = 1,
    eta_min_ratio: float = 0.0,
    last_epoch: int = -1,
) -> LambdaLR:
    """Build the UBA schedule as a :class:`~torch.optim.lr_scheduler.LambdaLR`, in the manner of ``transformers``.

    For trainers that expect a lambda schedule; otherwise use :class:`UBALR`, which computes the same values. Unlike the
    schedules of ``transformers`` the warm-up does not waste its first step: it is ``(step + 1) / num_warmup_steps``.

    Parameters
    ----------
    optimizer : Optimizer
        Wrapped optimizer.
    num_warmup_steps : int
        Steps of linear warm-up, less than ``num_training_steps``.
    num_training_steps : int
        Budget in steps, warm-up included.
    phi : float
        Shape, at least 0; 2 is cosine annealing.
    num_cycles : int
        Number of equal phases after warm-up (our reading of the paper's phases).
    eta_min_ratio : float
        Lowest learning rate as a fraction of each group's peak, from 0 to 1.
    last_epoch : int
        Index of the last step done, when resuming; -1 starts afresh.

    Returns
    -------
    LambdaLR
        Scheduler whose factor is ``uba(step, num_training_steps, phi, floor=eta_min_ratio, warmup=num_warmup_steps)``.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or range; the message names it.

    Examples
    --------
    >>> import torch
    >>> optimizer = torch.optim.AdamW(torch.nn.Linear(2, 1).parameters(), lr=1e-3)
    >>> get_uba_schedule_with_warmup(optimizer, 10, 100, phi=0.5).get_last_lr()
    [0.0001]
    """
    total, warmup, cycles = _budget(
        num_training_steps, num_warmup_steps, num_cycles, ("num_training_steps", "num_warmup_steps", "num_cycles")
    )
    phi = _number("phi", phi, "at least 0 (the formula has a pole for phi < 0)")
    floor = _number("eta_min_ratio", eta_min_ratio)
    if floor > 1:
        raise ValueError(f"eta_min_ratio: must be a fraction of the peak, from 0 to 1, got {eta_min_ratio!r}")
    # a partial of a module-level function, so that the scheduler can be pickled to other processes
    factor = functools.partial(_rate, total=total, phi=phi, peak=1.0, floor=floor, warmup=warmup, cycles=cycles)
    return LambdaLR(optimizer, factor, last_epoch)

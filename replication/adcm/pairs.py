"""Which pairs of times, and with which weights, the replicas of a population train on as their models change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from replication.adcm.discretization import ConstantLocal, Discretization, Grid, constant_local
from replication.adcm.draws import BLOCK, Draws
from replication.adcm.loss import TargetError, Weight, loss_weight, target_error
from replication.adcm.schedules import Model, Schedule
from replication.adcm.segmentation import Adaptive, segment

Rule = Discretization | Adaptive | ConstantLocal


@dataclass
class Segmented:
    """One segmentation of a training run.

    Parameters
    ----------
    step, replica, segments : int
        When, for which replica, and how many segments the grid has.
    counts : dict of str to int
        How often each safeguard acted.
    seconds : float
        CPU time that it took; replicas that are segmented together share it evenly.
    """

    step: int
    replica: int
    segments: int
    counts: dict[str, int]
    seconds: float


@dataclass
class _Ahead:
    """Pairs and weights of the steps from `begin` to before `end`, shapes (L, R, B)."""

    begin: int = 0
    end: int = 0
    parts: tuple[Tensor, ...] = field(default_factory=tuple)


class Pairs:
    """Pairs (t, r) and weights of every replica; grids and w(t) are made anew from the model every so many steps.

    Parameters
    ----------
    rules : sequence of Discretization, Adaptive or ConstantLocal
        One a replica.
    weights : sequence of str
        As `loss_weight` takes them; ``per_sample`` is 1 here, since it is known only once the target is.
    constants : sequence of float
        Constant of the distance in the weights.
    schedule : Schedule
        Noise schedule.
    draws : Draws
        Of the population.
    every : int, optional
        The paper's m; default: at the start only.
    nodes, weight_batch : int
        Times at which w(t) is estimated, and examples of each estimate.
    ln_tau : (float, float)
        Mean and standard deviation of ln tau on the grids.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        weights: Sequence[Weight],
        constants: Sequence[float],
        schedule: Schedule,
        draws: Draws,
        *,
        every: int | None,
        nodes: int,
        weight_batch: int,
        ln_tau: tuple[float, float],
    ) -> None:
        self._rules, self._weights, self._constants = list(rules), list(weights), list(constants)
        self._schedule, self._draws, self._every = schedule, draws, every
        self._nodes, self._weight_batch, self._ln_tau = nodes, weight_batch, ln_tau
        self.segmentations: list[Segmented] = []
        self.weight_seconds = 0.0
        self.grids: dict[int, Grid] = {}
        self._errors: dict[int, TargetError] = {}
        self._made_at = -1
        self._ahead = _Ahead()

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """t, r and weight of a step, shapes (R, B); computed as far ahead as nothing changes."""
        if not self._ahead.begin <= step < self._ahead.end:
            rules = [self._now(i) for i in range(len(self._rules))]
            ends = [(step // BLOCK + 1) * BLOCK, *(rule.until(step) for rule in rules)]
            end = min(ends if self._every is None else [*ends, (step // self._every + 1) * self._every])
            parts = [self._weighted(i, rule, step, end) for i, rule in enumerate(rules)]
            self._ahead = _Ahead(step, end, tuple(torch.stack(part, 1) for part in zip(*parts, strict=True)))
        t, r, weight = (part[step - self._ahead.begin] for part in self._ahead.parts)
        return t, r, weight

    def _now(self, replica: int) -> Discretization:
        rule = self._rules[replica]
        return self.grids[replica] if isinstance(rule, Adaptive | ConstantLocal) else rule

    def _weighted(self, replica: int, rule: Discretization, step: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        t, r = rule.pairs(self._draws.uniforms(step, replica)[: end - step], step)
        kind = self._weights[replica]
        if kind == "per_sample":
            return t, r, torch.ones_like(t)
        if kind == "w_t":
            return t, r, loss_weight(kind, t=t, r=r, error=self._errors[replica])
        ends = (t, r) if rule.naive else (self._schedule.ratio(t), self._schedule.ratio(r))
        return t, r, loss_weight(kind, t=ends[0], r=ends[1])

    def due(self, step: int) -> bool:
        """Whether what depends on the model is to be made anew before a step."""
        return self._made_at != step and (step == 0 if self._every is None else step % self._every == 0)

    @torch.no_grad()
    def refresh(self, step: int, model_of: Callable[[Sequence[int]], Model], alive: Sequence[bool]) -> None:
        """Make grids and weights w(t) anew from the present models (theta^-).

        A replica that has diverged keeps what it has; its score says what became of it.
        """
        self._made_at, self._ahead = step, _Ahead()
        adaptive = {i: rule for i, rule in enumerate(self._rules) if isinstance(rule, Adaptive | ConstantLocal)}
        for rule in dict.fromkeys(rule for i, rule in adaptive.items() if alive[i]):
            rows = [i for i, other in adaptive.items() if other == rule and alive[i]]
            begin = time.process_time()
            made = self._segment(rule, model_of(rows), rows, step)
            seconds = (time.process_time() - begin) / len(rows)
            for i, (times, counts) in zip(rows, made, strict=True):
                self.grids[i] = Grid(times, self._schedule, *self._ln_tau)
                self.segmentations.append(Segmented(step, i, len(self.grids[i]), counts, seconds))
        begin = time.process_time()
        weighted = [i for i, kind in enumerate(self._weights) if kind == "w_t" and alive[i]]
        for c, rows in grouped(self._constants, weighted):
            sample, noise = self._draws.streams(rows, f"weight {step}")
            errors = target_error(
                model_of(rows),
                sample,
                self._schedule,
                self._schedule.levels(self._nodes),
                c,
                batch_size=self._weight_batch,
                noise=noise,
                batch_dims=2,
                across_ranks=False,
            )
            self._errors |= {i: replace(errors, values=row) for i, row in zip(rows, errors.values, strict=True)}
        self.weight_seconds += time.process_time() - begin

    def _segment(
        self, rule: Adaptive | ConstantLocal, model: Model, rows: Sequence[int], step: int
    ) -> list[tuple[Tensor, dict[str, int]]]:
        """Grids of these replicas, and how often each safeguard acted."""
        sample, noise = self._draws.streams(rows, f"segment {step}")
        if isinstance(rule, ConstantLocal):
            times = constant_local(model, sample, self._schedule, rule, noise=noise, batch_dims=2)
            return [(one, {}) for one in times]
        made = segment(
            model, sample, self._schedule, rule, replicas=len(rows), noise=noise, across_ranks=False
        )  # every rank trains replicas of its own
        return [(one.times, one.counts) for one in made]

    # --- state -------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        kept = {f"grid/{i}": grid.times for i, grid in self.grids.items()}
        return kept | {f"error/{i}": error.values for i, error in self._errors.items()}

    def restore(self, tensors: dict[str, Tensor], made_at: int, segmentations: Sequence[dict[str, Any]]) -> None:
        """Take over what a checkpoint kept."""
        self.grids = {i: Grid(of.cpu(), self._schedule, *self._ln_tau) for i, of in _numbered(tensors, "grid/")}
        nodes = self._schedule.levels(self._nodes)
        self._errors = {i: TargetError(self._schedule, nodes.to(of), of) for i, of in _numbered(tensors, "error/")}
        self._made_at, self._ahead = made_at, _Ahead()
        self.segmentations = [Segmented(**one) for one in segmentations]

    @property
    def made_at(self) -> int:
        """The step before which grids and weights were made last; -1 if never."""
        return self._made_at


def grouped(constants: Sequence[float], rows: Sequence[int]) -> list[tuple[float, list[int]]]:
    """Rows by their constant."""
    distinct = dict.fromkeys(constants[i] for i in rows)
    return [(c, [i for i in rows if constants[i] == c]) for c in distinct]


def _numbered(tensors: dict[str, Tensor], prefix: str) -> list[tuple[int, Tensor]]:
    return [(int(name.removeprefix(prefix)), one) for name, one in tensors.items() if name.startswith(prefix)]

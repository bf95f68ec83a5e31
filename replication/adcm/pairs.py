"""Which pairs of times, and with which weights, the replicas of a population train on as their models change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from replication.adcm.discretization import ConstantLocal, Discretization, Grid, constant_local
from replication.adcm.draws import BLOCK, Draws
from replication.adcm.loss import TargetError, Weight, loss_weight, target_error
from replication.adcm.schedules import Model, Schedule
from replication.adcm.segmentation import Adaptive, Diverged, segment

Rule = Discretization | Adaptive | ConstantLocal
ModelOf = Callable[[Sequence[int]], Model]
"""The present model of some replicas."""

Made = TypeVar("Made")


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

    def rows(self, labels: dict[str, Any]) -> list[dict[str, Any]]:
        """Tidy records of it: how many segments, and how often each safeguard acted."""
        at = {**labels, "step": self.step}
        acted = [{"quantity": "safeguard", "safeguard": kind, "value": n, **at} for kind, n in self.counts.items()]
        return [{"quantity": "segments", "value": self.segments, **at}, *acted]


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

    Attributes
    ----------
    made_at : int
        The step before which grids and weights were made last; -1 if never.
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
        self.made_at = -1
        # the steps whose pairs and weights are there, and these, shapes (L, R, B)
        self._ahead = range(0)
        self._parts: tuple[Tensor, ...] = ()

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """t, r and weight of a step, shapes (R, B); computed as far ahead as nothing changes."""
        if step not in self._ahead:
            rules = [self._now(i) for i in range(len(self._rules))]
            ends = [(step // BLOCK + 1) * BLOCK, *(rule.until(step) for rule in rules)]
            end = min(ends if self._every is None else [*ends, (step // self._every + 1) * self._every])
            parts = [self._weighted(i, rule, step, end) for i, rule in enumerate(rules)]
            self._parts = tuple(torch.stack(part, 1) for part in zip(*parts, strict=True))
            self._ahead = range(step, end)
        t, r, weight = (part[step - self._ahead.start] for part in self._parts)
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
        return self.made_at != step and (step == 0 if self._every is None else step % self._every == 0)

    @torch.no_grad()
    def refresh(self, step: int, model_of: ModelOf, alive: Sequence[bool]) -> None:
        """Make grids and weights w(t) anew from the present models (theta^-).

        A replica that has diverged keeps what it has; its score says what became of it. Nothing is taken over before
        all is made, so that what was interrupted is due again.
        """
        grids: dict[int, Grid] = {}
        segmentations: list[Segmented] = []
        errors: dict[int, TargetError] = {}
        adaptive = {i: rule for i, rule in enumerate(self._rules) if isinstance(rule, Adaptive | ConstantLocal)}
        for rule in dict.fromkeys(rule for i, rule in adaptive.items() if alive[i]):
            rows = [i for i, other in adaptive.items() if other == rule and alive[i]]
            begin = time.process_time()
            made = self._each(rows, partial(self._segment, rule, model_of, step))
            seconds = (time.process_time() - begin) / len(rows)
            for i, (times, counts) in made.items():
                grids[i] = Grid(times, self._schedule, *self._ln_tau)
                segmentations.append(Segmented(step, i, len(grids[i]), counts, seconds))
        begin = time.process_time()
        weighted = [i for i, kind in enumerate(self._weights) if kind == "w_t" and alive[i]]
        for c, rows in grouped(self._constants, weighted):
            errors |= self._each(rows, partial(self._weigh, c, model_of, step))
        self.weight_seconds += time.process_time() - begin
        self.grids |= grids
        self.segmentations += segmentations
        self._errors |= errors
        self.made_at, self._ahead = step, range(0)

    def _each(self, rows: Sequence[int], make: Callable[[Sequence[int]], Sequence[Made]]) -> dict[int, Made]:
        """What is made for replicas together; if some model of theirs has diverged, for each of the others alone."""
        try:
            return dict(zip(rows, make(rows), strict=True))
        except Diverged:
            # before anything was made there is nothing to keep
            if self.made_at < 0:
                raise
        return {i: own for row in rows for i, own in self._each([row], make).items()} if len(rows) > 1 else {}

    def _weigh(self, c: float, model_of: ModelOf, step: int, rows: Sequence[int]) -> list[TargetError]:
        """What the weights w(t) of these replicas are the inverse of."""
        sample, noise = self._draws.streams(rows, f"weight {step}")
        found = target_error(
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
        return [replace(found, values=row) for row in found.values]

    def _segment(
        self, rule: Adaptive | ConstantLocal, model_of: ModelOf, step: int, rows: Sequence[int]
    ) -> list[tuple[Tensor, dict[str, int]]]:
        """Grids of these replicas, and how often each safeguard acted."""
        model, (sample, noise) = model_of(rows), self._draws.streams(rows, f"segment {step}")
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
        self.made_at, self._ahead = made_at, range(0)
        self.segmentations = [Segmented(**one) for one in segmentations]


def grouped(constants: Sequence[float], rows: Sequence[int]) -> list[tuple[float, list[int]]]:
    """Rows by their constant."""
    distinct = dict.fromkeys(constants[i] for i in rows)
    return [(c, [i for i in rows if constants[i] == c]) for c in distinct]


def _numbered(tensors: dict[str, Tensor], prefix: str) -> list[tuple[int, Tensor]]:
    return [(int(name.removeprefix(prefix)), one) for name, one in tensors.items() if name.startswith(prefix)]

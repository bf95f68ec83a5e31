"""How schedules are compared: peaks tuned for every schedule on a validation split, then paired runs on the test split.

1. Every schedule is tuned over the same grid of peak learning rates on ``tuning_seeds`` seeds of its own; the peak with
   the smallest mean validation score wins.
2. Every winner is trained on the evaluation seeds, which no tuning run has used. A seed fixes the initial weights and
   the data order for all schedules, so that differences are paired.
3. UBA has one more knob. Two views keep the comparison fair. *fixed*: φ is fixed beforehand, and UBA and each baseline
   are tuned over the same P peaks. *equal trials*: φ is chosen from a grid of K values, and each baseline is tuned
   over K · P peaks in the same range.
4. Mean-rate control (claim U8): UBA at cosine's own peak, and at the peak that gives UBA cosine's mean rate,
   (1 + sqrt(φ/2))/2 times as high.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from replication.training import Optimizer, Population, data_order
from replication.uba.baselines import factors

BASELINES = ("step", "cosine", "cyclic", "onecycle", "linear", "rex")
"""The schedules that the paper is believed to compare with (its own list could not be verified)."""

CONTROLS = ("wsd", "constant")
"""Controls that the list lacks: warm-up–stable–decay with a 1−√ cooldown, and a constant rate."""


class Setting(NamedTuple):
    """A schedule, its φ (UBA only) and its peak learning rate."""

    schedule: str
    phi: float | None
    peak: float


class Trial(NamedTuple):
    """One training run: a setting, and the seed of its weights and data order."""

    schedule: str
    phi: float | None
    peak: float
    seed: int

    def rates(self, steps: int) -> npt.NDArray[np.float64]:
        """Return the learning rates of a run of ``steps`` steps, float64, shape (steps,)."""
        options = {} if self.phi is None else {"phi": self.phi}
        return self.peak * factors(self.schedule, steps, **options)


Split = Literal["validation", "test"]

Train = Callable[[Sequence[Trial], int, Split], Sequence[float]]
"""Trains all trials for a number of steps and scores them on a split, in order; lower is better."""


def compare(
    train: Train,
    *,
    steps: int,
    peaks: Sequence[float],
    phis: Sequence[float],
    fixed_phi: float,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int],
    equal_trials: bool,
    mean_rate_control: bool,
    quantity: str,
    labels: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Compare UBA with every baseline and control at one budget.

    Parameters
    ----------
    train : callable
        Trains and scores a list of trials.
    steps : int
        The budget.
    peaks : sequence of float
        Grid of P peak learning rates, increasing by a constant factor.
    phis : sequence of float
        Grid of K values of φ; must contain ``fixed_phi``.
    fixed_phi : float
        The φ that was fixed before the run.
    seeds, tuning_seeds : sequence of int
        Seeds of the evaluation and of the tuning runs; disjoint.
    equal_trials : bool
        Whether to tune every baseline over K · P peaks too.
    mean_rate_control : bool
        Whether to train UBA at cosine's peak and at cosine's mean rate too.
    quantity : str
        Name of the test score in the records.
    labels : mapping
        Factors of this comparison (model, optimizer, budget, …), copied to every row.

    Returns
    -------
    list of dict
        Tidy rows: ``quantity`` for every (view, schedule, seed); ``phi_score`` for every φ at its own peak;
        ``best_phi_log2`` per seed; ``tuning_score`` per schedule and peak (mean over the tuning seeds).
    """
    if fixed_phi not in phis:
        raise ValueError(f"fixed_phi: {fixed_phi} must be one of phis {list(phis)}")
    if overlap := set(seeds) & set(tuning_seeds):
        raise ValueError(f"tuning_seeds: must not share seeds with the evaluation, both hold {sorted(overlap)}")

    others = (*BASELINES, *CONTROLS)
    fine = _refine(peaks, len(phis)) if equal_trials else list(peaks)
    grid = [Setting("uba", phi, peak) for phi in phis for peak in peaks]
    grid += [Setting(name, None, peak) for name in others for peak in fine]
    runs = [Trial(*setting, seed) for setting in grid for seed in tuning_seeds]
    scores = np.reshape(train(runs, steps, "validation"), (len(grid), len(tuning_seeds)))
    tuned = dict(zip(grid, scores.mean(axis=1).tolist(), strict=True))

    def best(schedule: str, allowed: Sequence[float], phis: Sequence[float | None] = (None,)) -> Setting:
        return min((Setting(schedule, phi, peak) for phi in phis for peak in allowed), key=tuned.__getitem__)

    fixed, cosine = best("uba", peaks, [fixed_phi]), best("cosine", peaks).peak
    by_phi = {phi: best("uba", peaks, [phi]) for phi in phis}
    entries: list[tuple[str, str, Setting]] = [
        ("fixed", "uba-fixed", fixed),
        *(("fixed", name, best(name, peaks)) for name in others),
        *(("phi", "uba", setting) for setting in by_phi.values()),
    ]
    if mean_rate_control:
        matched = cosine * (1 + math.sqrt(fixed_phi / 2)) / 2
        entries.append(("fixed", "uba-shared-peak", Setting("uba", fixed_phi, cosine)))
        entries.append(("fixed", "uba-mean-matched", Setting("uba", fixed_phi, matched)))
    if equal_trials:
        entries.append(("equal trials", "uba-best", best("uba", peaks, phis)))
        entries += [("equal trials", name, best(name, fine)) for name in others]
    distinct = list(dict.fromkeys(setting for _, _, setting in entries))
    runs = [Trial(*setting, seed) for setting in distinct for seed in seeds]
    tests = np.reshape(train(runs, steps, "test"), (len(distinct), len(seeds)))
    test = dict(zip(distinct, tests, strict=True))

    rows: list[dict[str, Any]] = [
        {"quantity": "phi_score" if view == "phi" else quantity, "view": view, "schedule": label, "seed": seed}
        | {"phi": setting.phi, "peak": setting.peak, "value": value, **labels}
        for view, label, setting in entries
        for seed, value in zip(seeds, test[setting].tolist(), strict=True)
    ]
    favourites = _tied_argmin(np.log2(phis), np.stack([test[setting] for setting in by_phi.values()]))
    rows += [
        {"quantity": "best_phi_log2", "seed": seed, "value": value, **labels}
        for seed, value in zip(seeds, favourites.tolist(), strict=True)
    ]
    rows += [
        {"quantity": "tuning_score", "schedule": schedule, "phi": phi, "peak": peak, "value": score, **labels}
        for (schedule, phi, peak), score in tuned.items()
    ]
    return rows


def populations(
    trials: Sequence[Trial],
    steps: int,
    *,
    build: Callable[[], nn.Module],
    optimizer: Optimizer,
    batch: Callable[[Tensor], tuple[Tensor, Tensor]],
    examples: int,
    batch_size: int,
    replicas: int,
    device: torch.device,
    clip_norm: float | None = None,
) -> Iterator[Population]:
    """Train trials for a number of steps, in populations of limited size, and yield each when it is trained.

    Parameters
    ----------
    trials : sequence of Trial
        What to train; the populations hold them in order.
    steps : int
        Steps of every trial.
    build, optimizer, clip_norm, device
        As for ``Population``.
    batch : callable(index) -> (x, y)
        The examples with these indices, int64 of shape (R, B), as ``Population.step`` takes them.
    examples, batch_size : int
        Size of the training set and of a batch.
    replicas : int
        Largest population.
    """
    for begin in range(0, len(trials), replicas):
        chunk = trials[begin : begin + replicas]
        seeds = sorted({trial.seed for trial in chunk})
        row = torch.tensor([seeds.index(trial.seed) for trial in chunk])
        order = data_order(seeds, examples, batch_size, steps)[:, row].to(device)
        rates = torch.from_numpy(np.stack([trial.rates(steps) for trial in chunk], axis=1))
        population = Population(build, [trial.seed for trial in chunk], optimizer, device, clip_norm=clip_norm)
        population.fit(lambda step, order=order: batch(order[step]), rates, description="steps")  # type: ignore[misc]
        yield population


def _refine(peaks: Sequence[float], times: int) -> list[float]:
    """Put ``times`` − 1 further peaks around each peak, evenly on a log scale; the peaks themselves stay, exactly."""
    ratio = peaks[1] / peaks[0] if len(peaks) > 1 else 2.0
    return [
        peak if j == times // 2 else peak * ratio ** ((j - times // 2) / times) for peak in peaks for j in range(times)
    ]


def _tied_argmin(x: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return, per column of ``scores`` (K, S), the mean ``x`` (K,) of its smallest entries."""
    winners = scores == scores.min(axis=0, keepdims=True)
    return np.asarray((x[:, None] * winners).sum(axis=0) / winners.sum(axis=0))

"""How schedules are compared: peaks tuned for every schedule on a validation split, then paired runs on the test split.

1. Every schedule is tuned over the same grid of peak learning rates on ``tuning_seeds`` seeds of its own
   (`replication.training.search.tune`): the peak with the smallest mean validation score wins, of equal ones the
   smallest, and a grid whose best peak is an end of it is widened.
2. Every winner is trained on the evaluation seeds, which no tuning run has used. A seed fixes the initial weights and
   the data order for all schedules, so that differences are paired.
3. The settings that another draw of the tuning seeds would have chosen are trained on the evaluation seeds too, so that
   an interval can carry the uncertainty of the choice.
4. UBA has one more knob. Two views keep the comparison fair. *fixed*: φ is fixed beforehand, and UBA and each baseline
   are tuned over the same P peaks. *equal trials*: φ is chosen from a grid of K values, and each baseline is tuned
   over K · P peaks in the same range.
5. Mean-rate control: UBA at cosine's own peak, and at the peak that gives UBA cosine's mean rate, (1 + sqrt(φ/2))/2
   times as high.
6. Regret of a φ: its score minus that of the best φ of the grid, each at its own peak. The best φ is chosen on the
   other evaluation seeds, so that no seed both chooses and scores.
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
from replication.training.search import Grid, Tuned, tune
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


class Arm(NamedTuple):
    """One side of a comparison: the view that it belongs to, and its name there."""

    view: str
    label: str


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


Scores = npt.NDArray[np.float64]

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
    widen: int,
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
    widen : int
        How often a grid may be widened by a factor of its spacing.
    mean_rate_control : bool
        Whether to train UBA at cosine's peak and at cosine's mean rate too.
    quantity : str
        Name of the test score in the records.
    labels : mapping
        Factors of this comparison (model, optimizer, budget, …), copied to every row.

    Returns
    -------
    list of dict
        Tidy rows, each with the columns of `labels`:

        - ``quantity`` per view, schedule and seed;
        - ``quantity`` + ``_at``, per schedule tuned over the peaks alone, setting and seed: the chosen setting, and
          those that another draw of the tuning seeds would have chosen;
        - ``tuning_score`` per view, schedule, setting and tuning seed, but for ``uba-best``;
        - ``peak_on_edge`` per view and schedule (in the view ``phi``, per φ): 1 if the chosen peak is an end of its
          grid, else 0; ``trials``, the number of models that its tuning trained;
        - ``phi_score`` per φ and seed, and ``best_phi_log2`` per seed;
        - ``phi_regret`` per φ and seed if there are two seeds; its view is ``fixed`` at the φ fixed beforehand.
    """
    if fixed_phi not in phis:
        raise ValueError(f"fixed_phi: {fixed_phi} must be one of phis {list(phis)}")
    if overlap := set(seeds) & set(tuning_seeds):
        raise ValueError(f"tuning_seeds: must not share seeds with the evaluation, both hold {sorted(overlap)}")

    def score(settings: Sequence[Setting]) -> Scores:
        runs = [Trial(*setting, seed) for setting in settings for seed in tuning_seeds]
        return np.reshape(train(runs, steps, "validation"), (len(settings), len(tuning_seeds)))

    tuned = tune(score, _arms(peaks, phis, fixed_phi, equal_trials), rate="peak", widen=widen)
    entries = [(arm.view, arm.label, of.best) for arm, of in tuned.items()]
    if mean_rate_control:
        cosine = next(setting.peak for view, label, setting in entries if (view, label) == ("fixed", "cosine"))
        matched = cosine * (1 + math.sqrt(fixed_phi / 2)) / 2
        entries.append(("fixed", "uba-shared-peak", Setting("uba", fixed_phi, cosine)))
        entries.append(("fixed", "uba-mean-matched", Setting("uba", fixed_phi, matched)))
    single = {arm: of for arm, of in tuned.items() if arm.view == "fixed" and arm.label != "uba-best"}
    rivals = [(arm, one) for arm, of in single.items() for one in of.settings if one in of.chosen]
    wanted = [*(setting for _, _, setting in entries), *(setting for _, setting in rivals)]
    distinct = list(dict.fromkeys(wanted))
    runs = [Trial(*setting, seed) for setting in distinct for seed in seeds]
    tests = np.reshape(train(runs, steps, "test"), (len(distinct), len(seeds)))
    test = dict(zip(distinct, tests, strict=True))

    rows = [
        row
        for view, label, setting in entries
        for row in (
            _rows("phi_score", view, "uba", setting, seeds, test[setting])
            if view == "phi"
            else _rows(quantity, view, label, setting, seeds, test[setting])
        )
    ]
    for arm, setting in rivals:
        rows += _rows(f"{quantity}_at", arm.view, arm.label, setting, seeds, test[setting])
    rows += _tuning(tuned, tuning_seeds)
    rows += _curve({setting: test[setting] for view, _, setting in entries if view == "phi"}, fixed_phi, seeds)
    return [{**row, **labels} for row in rows]


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


def _arms(
    peaks: Sequence[float], phis: Sequence[float], fixed_phi: float, equal_trials: bool
) -> dict[Arm, Grid[Setting]]:
    """Everything that is tuned; in each grid a smaller peak comes first."""
    others = (*BASELINES, *CONTROLS)

    def uba(of: Sequence[float]) -> Grid[Setting]:
        return Grid([Setting("uba", phi, peak) for phi in of for peak in peaks])

    def plain(name: str, allowed: Sequence[float], block: int = 1) -> Grid[Setting]:
        return Grid([Setting(name, None, peak) for peak in allowed], block)

    arms = {Arm("fixed", "uba-fixed"): uba([fixed_phi]), **{Arm("fixed", name): plain(name, peaks) for name in others}}
    # φ chosen on validation, the baselines with no more peaks than before: what a knob gives, not a fair comparison
    arms |= {Arm("fixed", "uba-best"): uba(phis), **{Arm("phi", f"uba at {phi:g}"): uba([phi]) for phi in phis}}
    if equal_trials:
        # wider by one φ × peak column of UBA is wider by as many fine peaks
        fine, k = _refine(peaks, len(phis)), len(phis)
        arms[Arm("equal trials", "uba-best")] = uba(phis)
        arms |= {Arm("equal trials", name): plain(name, fine, k) for name in others}
    return arms


def _least(scores: Scores) -> int:
    """Place of the least score; rounded, so that equal ones stay equal on every machine, and the first is taken."""
    return int(np.round(scores, 9).argmin())


def _regrets(scores: Scores) -> Scores:
    """Per column: score minus that of the row which is best in the mean of the other columns; shape (K, S), S > 1."""
    columns = range(scores.shape[1])
    best = [_least(np.delete(scores, column, axis=1).mean(axis=1)) for column in columns]
    return np.asarray(scores - scores[best, columns])


def _tuning(tuned: Mapping[Arm, Tuned[Setting]], tuning_seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of every score by which a setting was chosen, of how many, and of whether the choice is an end."""
    for arm, of in tuned.items():
        at = {"view": arm.view, "schedule": arm.label, "phi": of.best.phi, "peak": of.best.peak}
        yield {"quantity": "peak_on_edge", **at, "value": float(not of.inside)}
        yield {"quantity": "trials", "view": arm.view, "schedule": arm.label, "value": of.scores.size}
        # the best φ is chosen by the scores of the view of each φ
        for setting, scores in zip(of.settings, of.scores, strict=True) if arm.label != "uba-best" else ():
            label = "uba" if arm.view == "phi" else arm.label
            yield from _rows("tuning_score", arm.view, label, setting, tuning_seeds, scores)


def _curve(by_phi: Mapping[Setting, Scores], fixed_phi: float, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of what each φ loses to the best one, and of the best φ of each seed."""
    scores = np.stack(list(by_phi.values()))
    if len(seeds) > 1:
        for setting, regret in zip(by_phi, _regrets(scores), strict=True):
            view = "fixed" if setting.phi == fixed_phi else "phi"
            yield from _rows("phi_regret", view, "uba", setting, seeds, regret)
    best = _tied_argmin(np.log2([setting.phi for setting in by_phi if setting.phi]), scores)
    for seed, value in zip(seeds, best.tolist(), strict=True):
        yield {"quantity": "best_phi_log2", "seed": seed, "value": value}


def _rows(
    quantity: str, view: str, label: str, setting: Setting, seeds: Sequence[int], values: Scores
) -> list[dict[str, Any]]:
    at = {"quantity": quantity, "view": view, "schedule": label, "phi": setting.phi, "peak": setting.peak}
    return [{**at, "seed": seed, "value": value} for seed, value in zip(seeds, values.tolist(), strict=True)]


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

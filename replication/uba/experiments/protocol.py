"""How schedules are compared: each with its own tuned peak, then paired runs on seeds that no tuning has used.

1. Every schedule is tuned over the same grid of peak learning rates on tuning seeds of its own
   (`replication.training.search.tune`): the peak with the smallest mean validation score wins, of equal ones the
   smallest, and a grid whose best peak is an end of it is widened.
2. The chosen setting is trained on the evaluation seeds and scored on the test split. A seed fixes the initial weights
   and the data order for all schedules, so that differences are paired.
3. The models of the tuning are scored on the test split too. That chooses nothing: it says what the test score would be
   at a peak that another draw of the tuning seeds would have chosen, for the interval of a comparison.
4. Regret of a schedule: its score minus that of the best φ among those compared. Of even and odd evaluation seeds, each
   half chooses the best for the other, so that no seed both chooses and scores. Leaving out one seed at a time would
   choose anew for each where two φ are close, and the seeds would not be independent. Cosine is φ = 2, trained once.
5. Controls choose on validation: the best φ (what having a knob gives), the best of all schedules (what choosing a
   shape can give), and the best decay by a power of the time left.
6. Mean-rate control: UBA at the peak that gives it the mean rate of cosine, (1 + sqrt(φ/2))/2 times cosine's.

A tuning and a block of evaluation seeds is a part each, so that a kill costs little.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from replication.evidence import Part, Settings, rows_of
from replication.training.search import TUNING_SEED, Grid, apart, tune
from replication.uba.baselines import SCHEDULES, factors

BEST_PHI, BEST_SHAPE, BEST_POWER, MEAN_RATE = "best φ", "best shape", "best power", "mean rate of cosine"
"""Levels of ``schedule`` that are chosen on validation, and that of the mean-rate control."""

Row = dict[str, Any]
Train = Callable[[Sequence["Trial"]], npt.NDArray[np.float64]]
"""Trains trials and scores each on the validation and on the test split, shape (N, 2); lower is better."""


class Arm(NamedTuple):
    """A schedule with its shape, as the records name it."""

    schedule: str
    options: dict[str, float]
    finer: int

    @classmethod
    def of(cls, name: str) -> Arm:
        """Read ``"cosine"``, ``"uba 5"`` (φ), ``"power 2"`` (exponent), ``"linear x3"`` (a grid three times as fine).

        Raises
        ------
        ValueError
            If there is no such schedule, or its number is missing, not positive or too many.

        Examples
        --------
        >>> Arm.of("uba 0.5"), Arm.of("cosine x3")
        (Arm(schedule='uba', options={'phi': 0.5}, finer=1), Arm(schedule='cosine', options={}, finer=3))
        """
        schedule, *rest = name.split() or [""]
        finer = int(rest.pop()[1:]) if rest and re.fullmatch("x[1-9][0-9]*", rest[-1]) else 1
        option = {"uba": "phi", "power": "exponent"}.get(schedule)
        try:
            numbers = [float(part) for part in rest]
        except ValueError:
            numbers = [math.nan]
        positive = all(0 < number < math.inf for number in numbers)
        if schedule not in SCHEDULES or len(numbers) != (option is not None) or not positive:
            shapes = ", ".join(one for one in SCHEDULES if one not in ("uba", "power"))
            raise ValueError(f'schedules: must be {shapes}, "uba φ" or "power p" with a positive number, got {name!r}')
        return cls(schedule, {option: numbers[0]} if option else {}, finer)


def phi_of(name: str) -> float | None:
    """The φ of a schedule of UBA's family; cosine's is 2."""
    arm = Arm.of(name)
    return None if arm.finer > 1 else 2.0 if arm.schedule == "cosine" else arm.options.get("phi")


class Trial(NamedTuple):
    """One training run: a schedule, its peak, and the seed of its weights and data order."""

    schedule: str
    peak: float
    seed: int

    def rates(self, steps: int, warmup: int = 0) -> npt.NDArray[np.float64]:
        """Learning rates of a run, float64, shape (steps,): linear up for ``warmup`` steps, then the schedule."""
        arm = Arm.of(self.schedule)
        rise = (np.arange(warmup) + 1) / max(warmup, 1)
        return self.peak * np.concatenate([rise, factors(arm.schedule, steps - warmup, **arm.options)])


class Setting(NamedTuple):
    """What is tuned of a schedule."""

    peak: float


class Functions(NamedTuple):
    """The functions of an experiment that its parts call: of a module each, so that their sources are known."""

    tuning: Callable[..., list[Row]]
    evaluation: Callable[..., list[Row]]
    choice: Callable[..., list[Row]]


def check(schedules: Sequence[str], peaks: Mapping[str, Sequence[float]], **among: Sequence[str]) -> None:
    """Refuse lists of schedules that cannot be compared, and grids of peaks that cannot be refined or widened.

    The lists in `among`, by argument as the grids are, must be of the first.
    """
    arms = [Arm.of(name) for name in schedules]
    for name, arm in zip(schedules, arms, strict=True):
        if arm.options.get("phi") == 2:
            raise ValueError(f'schedules: UBA at φ = 2 is cosine and is trained as "cosine", got "{name}"')
        if arms.count(arm) > 1:
            raise ValueError(f"schedules: each must stand once, got {list(schedules)}")
    for argument, names in among.items():
        if unknown := [name for name in names if name not in schedules]:
            raise ValueError(f"{argument}: must be among the schedules, got {', '.join(unknown)}")
    for argument, grid in peaks.items():
        ratios = np.diff(np.log(grid))
        # as far as 1, 3, 10 does
        if not (ratios > 0).all() or not np.allclose(ratios, ratios[0], rtol=0.1):
            raise ValueError(f"{argument}: must increase by a constant factor, got {list(grid)}")


def cell_parts(
    functions: Functions,
    *,
    tuning: Settings,
    training: Settings,
    at: Mapping[str, Any],
    seeds: Mapping[str, int],
    block: int,
    mean_rate: str = "",
) -> list[Part]:
    """Parts of one cell: per schedule its tuning and its blocks of evaluation seeds, and what is chosen from them.

    Parameters
    ----------
    functions : Functions
        What the parts call.
    tuning, training : Settings
        What a tuning, and a training of a chosen setting, read.
    at : mapping
        The cell, such as its budget.
    seeds : mapping
        The schedules with their numbers of evaluation seeds.
    block : int
        Evaluation seeds of a part.
    mean_rate : str
        UBA's schedule that is also trained at the mean rate of cosine; empty for none.
    """
    where = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in at.values())
    tunings = {name: f"tuning, {where}, {name}" for name in seeds}
    made = [Part(tunings[name], functions.tuning, tuning, {**at, "schedule": name}) for name in seeds]
    runs = [(name, count, tunings[name], "") for name, count in seeds.items()]
    if mean_rate:
        runs.append((mean_rate, seeds[mean_rate], tunings["cosine"], MEAN_RATE))
    for name, count, needed, label in runs:
        for begin in range(0, count, block):
            of = list(range(begin, min(begin + block, count)))
            cell = {**at, "schedule": name, "label": label, "seeds": of}
            told = f"{label or name}, {where}, seeds {of[0]} to {of[-1]}"
            made.append(Part(told, functions.evaluation, training, cell, needs=(needed,)))
    everything = tuple(part.name for part in made)
    return [*made, Part(f"choice, {where}", functions.choice, training.only(), dict(at), needs=everything)]


def tuned(train: Train, schedule: str, *, peaks: Sequence[float], seeds: int, widen: int, quantity: str) -> list[Row]:
    """Tune the peak of one schedule.

    Parameters
    ----------
    train : callable
        Trains and scores trials.
    schedule : str
        See `Arm.of`.
    peaks : sequence of float
        Peak learning rates, increasing by a constant factor.
    seeds : int
        Number of tuning seeds.
    widen : int
        How often the grid may be widened.
    quantity : str
        Name of the test score in the records.

    Returns
    -------
    list of dict
        ``tuning_score`` and ``quantity`` + ``_at`` per peak and tuning seed, on the validation and the test split;
        ``peak_on_edge``, 1 if the chosen peak is an end of the grid, else 0, and ``trials``, the number of models.
    """
    finer = Arm.of(schedule).finer
    found: dict[Setting, npt.NDArray[np.float64]] = {}
    numbers = range(TUNING_SEED, TUNING_SEED + seeds)

    def score(settings: Sequence[Setting]) -> npt.NDArray[np.float64]:
        scores = train([Trial(schedule, setting.peak, seed) for setting in settings for seed in numbers])
        found.update(zip(settings, scores.reshape(len(settings), seeds, 2), strict=True))
        return np.stack([found[setting][:, 0] for setting in settings])

    grid = Grid([Setting(peak) for peak in refined(peaks, finer)], finer)
    of = tune(score, {schedule: grid}, rate="peak", widen=widen)[schedule]
    about = {"schedule": schedule, "phi": phi_of(schedule)}
    rows = [
        {"quantity": name, **about, "peak": setting.peak, "seed": seed, "value": float(value)}
        for name, column in (("tuning_score", 0), (f"{quantity}_at", 1))
        for setting in of.settings
        for seed, value in zip(numbers, found[setting][:, column], strict=True)
    ]
    rows.append({"quantity": "peak_on_edge", **about, "peak": of.best.peak, "value": float(not of.inside)})
    return [*rows, {"quantity": "trials", **about, "value": of.scores.size}]


def evaluated(
    train: Train, tuning: pd.DataFrame, schedule: str, *, label: str, seeds: Sequence[int], quantity: str
) -> list[Row]:
    """Test scores of a schedule at its tuned peak, or, with the label `MEAN_RATE`, at the mean rate of cosine.

    Raises
    ------
    ValueError
        If a seed is one of the tuning's.
    """
    apart(seeds)
    peak = float(rows_of(tuning, "peak_on_edge")["peak"].item())
    if label:
        peak *= (1 + math.sqrt(Arm.of(schedule).options["phi"] / 2)) / 2
    scores = train([Trial(schedule, peak, seed) for seed in seeds])[:, 1]
    about = {"quantity": quantity, "schedule": label or schedule, "phi": phi_of(schedule), "peak": peak}
    return [{**about, "seed": seed, "value": float(value)} for seed, value in zip(seeds, scores, strict=True)]


def chosen(rows: pd.DataFrame, *, quantity: str) -> list[Row]:
    """What follows from a cell's tuning and evaluation rows: what validation chooses, and every schedule's regret.

    Returns
    -------
    list of dict
        ``quantity`` of the schedules `BEST_PHI`, `BEST_SHAPE` and `BEST_POWER` per seed; ``phi_regret`` per schedule
        and seed. What is of no schedule, such as the best φ without UBA and cosine, is left out.
    """
    scores = rows_of(rows, "tuning_score").groupby(["schedule", "peak"])["value"].mean().groupby("schedule").min()
    table = rows_of(rows, quantity).pivot_table(index="seed", columns="schedule", values="value")
    shapes = [name for name in scores.index if Arm.of(name).finer == 1]
    family = [name for name in shapes if phi_of(name) is not None]
    made = []
    powers = [name for name in shapes if Arm.of(name).schedule in ("linear", "power")]
    groups = {BEST_PHI: family, BEST_SHAPE: shapes, BEST_POWER: powers if len(powers) > 1 else []}
    for label, among in ((label, among) for label, among in groups.items() if among):
        best = str(scores[among].round(9).idxmin())
        made += [
            {"quantity": quantity, "schedule": label, "choice": best, "seed": seed, "value": value}
            for seed, value in table[best].dropna().to_dict().items()
        ]
    paired = table[family].dropna()
    halves = {half: paired[paired.index % 2 != half] for half in (0, 1)}
    for seed in paired.index.tolist() if family and all(map(len, halves.values())) else ():
        best = str(halves[seed % 2].mean().round(9).idxmin())
        made += [
            {
                "quantity": "phi_regret",
                "schedule": name,
                "phi": phi_of(name),
                "seed": seed,
                "value": table.loc[seed, name] - paired.loc[seed, best],
            }
            for name in shapes
            if not math.isnan(table.loc[seed, name])
        ]
    return made


def labelled(rows: Sequence[Row], **labels: Any) -> list[Row]:
    """Rows with further columns."""
    return [{**row, **labels} for row in rows]


def refined(peaks: Sequence[float], times: int) -> list[float]:
    """Put ``times`` − 1 further peaks around each peak, evenly on a log scale; the peaks themselves stay, exactly."""
    ratio = peaks[1] / peaks[0]
    return [
        peak if j == times // 2 else peak * ratio ** ((j - times // 2) / times)
        for peak, j in itertools.product(peaks, range(times))
    ]

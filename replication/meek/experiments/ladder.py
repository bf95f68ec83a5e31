"""Ladder: the gap measured on language models trained here, on a source of known entropy (claims M1 and M5).

Small neural language models are trained at several budgets C = 6 N D, several sizes a budget, and several seeds. The
law is fitted to them as Hoffmann et al. fit theirs. Then two actors climb the ladder, the leader faster than the meek,
and the gap between their best models is compared with the formula inside the measured range; and sequential tests are
run on text to see how many tokens it takes to tell their models apart.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from scipy.interpolate import PchipInterpolator

from replication import evidence
from replication.evidence import Part
from replication.meek.fit import bootstrap_chinchilla, fit_chinchilla
from replication.meek.gap import Growth, peak_gap, peak_time, training_gap
from replication.meek.language import MarkovSource, NeuralNgram, stacked_logits
from replication.meek.law import FLOP_PER_TOKEN, Float, ScalingLaw
from replication.meek.sprt import drift_tokens, run_sprt, sprt_tokens
from replication.training import AdamW, Population, resolve_device, search, stream_seed, use_deterministic
from replication.training.search import TUNING_SEED, Grid, Seeds

Row = dict[str, Any]

PEAK = 0.4
"""A run's peak learning rate is one of `Config.peaks` times this over sqrt(N)."""


class Config(evidence.Settings):
    """What the ladder notebook runs; every field is a parameter of the notebook."""

    vocabulary: int = Field(32, ge=2, description="tokens of the source")
    budgets: int = Field(5, ge=3, description="rungs of the ladder")
    smallest_budget: PositiveFloat = Field(
        20000000.0, description="FLOP of the lowest rung, six times parameters times tokens"
    )
    budget_ratio: float = Field(3.2, gt=1, description="ratio of neighbouring budgets; the meek climb one rung a year")
    widths: list[PositiveInt] = Field(
        [4, 8, 16, 32, 64, 128],
        min_length=3,
        description="hidden units; a budget takes those within the two limits below",
    )
    least_tokens: PositiveFloat = Field(0.5, description="fewest training tokens per parameter")
    most_tokens: PositiveFloat = Field(200.0, description="most training tokens per parameter")
    peaks: list[PositiveFloat] = Field(
        [1.0, 2.5, 6.0], min_length=1, description="tried peak learning rates, times 0.4/sqrt(N)"
    )
    seeds: Seeds = Field(5, ge=2, description="evaluation seeds: initial weights and text")
    lead: float = Field(0.5, gt=0, description="rungs a year that the leader climbs beyond the meek's one")
    resamples: PositiveInt = Field(1000, description="bootstrap resamples of the runs")
    tests: PositiveInt = Field(1000, description="sequential tests for each pair of models and seed")
    error: float = Field(0.05, gt=0, lt=0.5, description="error rate of the sequential tests")
    widenings: int = Field(0, ge=0, le=3, description="times that a grid of rates is widened where its best is an end")
    device: str = Field("auto", description="auto, cpu or cuda")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sorted(set(self.widths)) != self.widths:
            raise ValueError(f"widths: must increase, got {self.widths}")
        if self.least_tokens >= self.most_tokens:
            raise ValueError(f"least_tokens: {self.least_tokens} must be below most_tokens = {self.most_tokens}")
        for budget in self.compute:
            if len(cells(self, budget)) < 3:
                raise ValueError(
                    f"widths: fewer than three sizes have {self.least_tokens} to {self.most_tokens} tokens per "
                    f"parameter at {budget:.1e} FLOP; add widths, or widen the limits"
                )
        return self

    @property
    def compute(self) -> list[float]:
        """The budgets, FLOP."""
        return [self.smallest_budget * self.budget_ratio**rung for rung in range(self.budgets)]

    @property
    def growth(self) -> Growth:
        """The meek's and the leader's growth along the ladder; hardware is counted into the meek's."""
        return Growth(g_alg=self.budget_ratio, g_h=1.0, g_i=self.budget_ratio**self.lead)

    @property
    def years(self) -> float:
        """When the leader reaches the highest rung."""
        return (self.budgets - 1) / (1 + self.lead)


class Cell(NamedTuple):
    """One size at one budget."""

    budget: float
    width: int
    size: int
    steps: int
    batch: int

    @property
    def tokens(self) -> int:
        """Training tokens D."""
        return self.steps * self.batch


def cells(config: Config, budget: float) -> list[Cell]:
    """The sizes trained at a budget; the batch grows with the square root of the tokens."""
    made = []
    for width in config.widths:
        size = NeuralNgram(config.vocabulary, width).size
        tokens = budget / (FLOP_PER_TOKEN * size)
        if config.least_tokens <= tokens / size <= config.most_tokens:
            batch = 2 ** max(2, round(math.log2(math.sqrt(tokens) / 4)))
            made.append(Cell(budget, width, size, max(2, round(tokens / batch)), batch))
    return made


class Peak(NamedTuple):
    """A peak learning rate, in units of `PEAK` over sqrt(N)."""

    multiple: float


class Measured(NamedTuple):
    """The losses of one cell's models."""

    cell: Cell
    loss: Float
    """Expected loss of every seed, nats per token, exact."""


class Trained(NamedTuple):
    """The evaluated models of one cell."""

    cell: Cell
    peak: float
    loss: Float
    """Expected loss of every seed, nats per token, exact."""
    log_probabilities: Float
    """ln q(w | u, v) of every seed, shape (seeds, V^2, V)."""


def train(config: Config, source: MarkovSource, cell: Cell) -> Trained:
    """Choose the cell's peak on a seed of its own, then train every evaluation seed with it."""
    base = PEAK / math.sqrt(cell.size)

    def score(tried: Sequence[Peak]) -> Float:
        peaks = [base * one.multiple for one in tried]
        return _losses(config, source, cell, [TUNING_SEED] * len(tried), peaks)[0][:, None]

    grid = Grid([Peak(multiple) for multiple in config.peaks])
    best = search.tune(score, {"peak": grid}, rate="multiple", widen=config.widenings)["peak"].best.multiple
    loss, log_q = _losses(config, source, cell, range(config.seeds), [base * best] * config.seeds)
    return Trained(cell, best, loss, log_q)


def _losses(
    config: Config, source: MarkovSource, cell: Cell, seeds: Sequence[int], peaks: Sequence[float]
) -> tuple[Float, Float]:
    """Train a model for each seed and peak, side by side; their exact losses and log-probabilities."""
    device = resolve_device(config.device)
    population = Population(
        lambda: NeuralNgram(config.vocabulary, cell.width),
        list(seeds),
        AdamW(betas=(0.9, 0.95), weight_decay=0.0),
        device,
        stacked=stacked_logits,
    )
    drawn = {
        seed: source.examples(np.random.default_rng(stream_seed(seed, "text")), cell.tokens) for seed in set(seeds)
    }
    x = torch.stack([drawn[seed][0].view(cell.steps, cell.batch, -1) for seed in seeds], dim=1).to(device)
    y = torch.stack([drawn[seed][1].view(cell.steps, cell.batch) for seed in seeds], dim=1).to(device)
    # a twentieth of the steps of warm-up, then a cosine to zero
    done = torch.arange(cell.steps) / cell.steps
    shape = torch.minimum((done + 1 / cell.steps) / 0.05, (1 + torch.cos(math.pi * done)) / 2)
    population.fit(lambda step: (x[step], y[step]), shape[:, None] * torch.tensor(peaks))
    log_q = torch.log_softmax(population.logits(source.contexts.to(device)).double(), dim=-1).cpu().numpy()
    return source.loss(log_q), log_q


def parts(config: Config) -> list[Part]:
    """One part for each size at each budget, and what is made of all of them.

    Their rows: ``loss`` of every cell and seed, ``chosen_peak``; ``frontier_size`` of every budget, ``frontier_loss``
    of every budget and seed; per ``law`` ``predicted_loss`` over ``compute`` and ``predicted_gap`` over ``t``; per seed
    ``measured_gap`` over ``t``; per pair of models and seed what sequential tests did; and what tests judge.
    """
    use_deterministic()
    only = config.only
    ladder = ("budgets", "smallest_budget", "budget_ratio", "widths", "least_tokens", "most_tokens")
    own = only("vocabulary", "peaks", "widenings", "seeds", "device")
    trained = [
        Part(f"{cell.budget:.2e} FLOP, width {cell.width}", cell_losses, own, {"cell": list(cell)})
        for budget in config.compute
        for cell in cells(config, budget)
    ]
    names = tuple(part.name for part in trained)
    compared = only("vocabulary", "seeds", "lead", "resamples", *ladder)
    tested = only("vocabulary", "peaks", "widenings", "seeds", "device", "tests", "error", *ladder)
    return [
        *trained,
        Part("comparison", comparison, compared, needs=names),
        Part("sequential tests", sequential_tests, tested, needs=names),
    ]


_source = cache(MarkovSource)


@cache
def _trained(config: str, cell: Cell) -> Trained:
    settings = Config.model_construct(**json.loads(config))
    return train(settings, _source(settings.vocabulary), cell)


def trained(config: Config, cell: Cell) -> Trained:
    """The models of a cell, trained once in a process: the sequential tests need more of them than their losses."""
    own = config.only("vocabulary", "peaks", "widenings", "seeds", "device")
    return _trained(own.model_dump_json(), cell)


def cell_losses(config: Config, cell: Sequence[Any]) -> Iterator[Row]:
    """Train the models of a cell, and give their exact losses."""
    one = trained(config, Cell(*cell))
    at = {"budget": one.cell.budget, "size": one.cell.size, "tokens": one.cell.tokens}
    yield {"quantity": "chosen_peak", **at, "value": one.peak}
    for seed, loss in enumerate(one.loss):
        yield {"quantity": "loss", **at, "seed": seed, "value": float(loss)}


def _ladder(config: Config, rows: pd.DataFrame) -> list[list[Measured]]:
    """The measured cells, by budget."""
    losses = rows[rows["quantity"] == "loss"].sort_values("seed")
    of = {key: cell["value"].to_numpy() for key, cell in losses.groupby(["budget", "size"])}
    return [[Measured(cell, of[cell.budget, cell.size]) for cell in cells(config, budget)] for budget in config.compute]


def comparison(config: Config, rows: pd.DataFrame) -> Iterator[Row]:
    """The frontier, the law fitted to the runs, the gap that it predicts and the measured one."""
    source, rungs = _source(config.vocabulary), _ladder(config, rows)
    best = [_frontier(rung) for rung in rungs]
    yield {"quantity": "entropy", "value": source.entropy}
    yield from _frontiers(config, best)
    yield from _assay(source, rungs, best)
    yield from _gaps(config, source, [one for rung in rungs for one in rung], np.array([one.loss for one in best]))


class Frontier(NamedTuple):
    """The compute-optimal model of one budget."""

    size: float
    """Parameters N, the same for every seed."""
    loss: Float
    """Loss of every seed, nats per token."""


def _frontier(rung: Sequence[Measured]) -> Frontier:
    """Vertex of the parabola in ln N through the best size and its two neighbours; the best size itself at an end."""
    sizes = np.log([one.cell.size for one in rung])
    losses = np.array([one.loss for one in rung])
    best = int(losses.mean(axis=1).argmin())
    if not 0 < best < len(rung) - 1:
        return Frontier(rung[best].cell.size, losses[best])
    near = slice(best - 1, best + 2)
    a, b, c = np.polyfit(sizes[near] - sizes[best], losses[near], 2)
    # one size for all seeds: a seed that chose its own would choose by its own noise
    vertex = -b.mean() / (2 * a.mean())
    return Frontier(math.exp(sizes[best] + vertex), a * vertex**2 + b * vertex + c)


def _frontiers(config: Config, best: Sequence[Frontier]) -> Iterator[Row]:
    for budget, one in zip(config.compute, best, strict=True):
        yield {"quantity": "frontier_size", "budget": budget, "value": one.size}
        for seed, loss in enumerate(one.loss):
            yield {"quantity": "frontier_loss", "budget": budget, "seed": seed, "value": float(loss)}


def _assay(source: MarkovSource, rungs: Sequence[Sequence[Measured]], best: Sequence[Frontier]) -> Iterator[Row]:
    """Whether there is a frontier to speak of: models that use their context, and sizes on both sides of the best."""
    inside = [0 < int(np.argmin([one.loss.mean() for one in rung])) < len(rung) - 1 for rung in rungs]
    yield {"quantity": "bracketed", "value": float(np.mean(inside))}
    for table, rung, entropy in (
        ("unigram", best[0], source.unigram_entropy),
        ("bigram", best[-1], source.bigram_entropy),
    ):
        for seed, loss in enumerate(rung.loss):
            yield {"quantity": "loss_minus_table", "table": table, "seed": seed, "value": float(loss - entropy)}


def _gaps(config: Config, source: MarkovSource, runs: Sequence[Measured], frontier: Float) -> Iterator[Row]:
    """The two laws, the gaps that they predict, and the gap between two actors who climb the measured frontier."""
    N = np.repeat([one.cell.size for one in runs], config.seeds)
    D = np.repeat([one.cell.tokens for one in runs], config.seeds)
    losses = np.concatenate([one.loss for one in runs])
    fit = fit_chinchilla(N, D, losses)
    yield {"quantity": "fit_condition", "value": float(fit.condition)}
    fitted = fit.frontier()
    draws = bootstrap_chinchilla(N, D, losses, resamples=config.resamples).frontier()
    rungs = np.log(config.compute)
    slope, level = np.polyfit(rungs, np.log(frontier.mean(axis=1) - source.entropy), 1)
    known = ScalingLaw(math.exp(level), -slope, source.entropy)
    start, growth, t = config.compute[0], config.growth, np.linspace(0, config.years, 121)
    # predictions go on beyond the ladder, to show what each law makes of it; claims are decided within
    compute, ahead = np.geomspace(start, config.compute[-1] ** 2 / start, 61), np.linspace(0, 1.5 * config.years, 91)
    each = ScalingLaw(*(np.asarray(value)[:, None] for value in (draws.A, draws.alpha, draws.L0)))

    def predict(law: ScalingLaw) -> tuple[Float, Float, Float]:
        return law.loss(compute), training_gap(ahead, law, growth, start), peak_time(law, growth)

    low, high = zip(*(np.quantile(part, (0.025, 0.975), axis=0) for part in predict(each)), strict=True)
    predictions = {"fit": predict(fitted), "fit, low": low, "fit, high": high, "known entropy": predict(known)}
    for law, (loss, gap, time) in predictions.items():
        yield {"quantity": "predicted_peak_time", "law": law, "value": time.item()}
        yield from _curve("predicted_loss", "compute", compute, loss, law=law)
        yield from _curve("predicted_gap", "t", ahead, gap, law=law)
    for law, one in (("fit", fitted), ("known entropy", known)):
        yield {"quantity": "gamma", "law": law, "value": float(one.alpha)}
        yield {"quantity": "irreducible_loss", "law": law, "value": float(one.L0)}
    for draw, error in enumerate(np.asarray(draws.L0) - source.entropy):
        yield {"quantity": "entropy_error", "seed": draw, "value": float(error)}

    # between rungs the measured loss follows a monotone curve in logarithms
    curves = PchipInterpolator(rungs, np.log(frontier - source.entropy))
    meek, leader = (np.exp(curves(rungs[0] + t * np.log(g))) for g in (growth.meek, growth.sota))
    measured = (meek - leader).T
    predicted, top = training_gap(t, fitted, growth, start), float(peak_gap(fitted, growth, start))
    for seed, gap in enumerate(measured):
        yield {"quantity": "end_over_peak", "seed": seed, "value": float(gap[-1] / gap.max())}
        yield {"quantity": "gap_error", "seed": seed, "value": float(np.abs(gap - predicted).max() / top)}
        yield from _curve("measured_gap", "t", t, gap, seed=seed)
    # each resample of the runs that determines a law beside one of the seeds
    again = np.random.default_rng(1).integers(0, config.seeds, (np.size(draws.alpha), config.seeds))
    times = t[measured[again].mean(axis=1).argmax(axis=1)]
    for draw, ratio in enumerate(peak_time(draws, growth) / times):
        yield {"quantity": "peak_time_ratio", "draw": draw, "value": float(ratio)}


def _curve(quantity: str, axis: str, at: Float, values: Float, **labels: Any) -> Iterator[Row]:
    for x, value in zip(at, values, strict=True):
        yield {"quantity": quantity, **labels, axis: float(x), "value": float(value)}


def sequential_tests(config: Config, rows: pd.DataFrame) -> Iterator[Row]:
    """Sequential tests between the best models of neighbouring rungs, and of the lowest and the highest one.

    Raises
    ------
    ValueError
        A seed's best model at a budget is no better than at the budget below, so nothing tells the two apart.
    """
    source = _source(config.vocabulary)
    rungs = [min(rung, key=lambda one: float(one.loss.mean())) for rung in _ladder(config, rows)]
    best = [trained(config, one.cell) for one in rungs]
    pairs = [*itertools.pairwise(best), (best[0], best[-1])]
    bound = math.log((1 - config.error) / config.error)
    for seed in range(config.seeds):
        deltas = [float(worse.loss[seed] - better.loss[seed]) for worse, better in pairs]
        if min(deltas) <= 0:
            worse, better = pairs[int(np.argmin(deltas))]
            raise ValueError(
                f"budget_ratio: with seed {seed} the best model of {better.cell.budget:.1e} FLOP is no better than "
                f"that of {worse.cell.budget:.1e}; put the rungs further apart"
            )
        expected = sprt_tokens(deltas, config.error)
        # one test for each stream of text; a slow one reads on in the next, and the last have some left to read
        length = 4 * math.ceil(expected.max())
        text = source.text(np.random.default_rng(stream_seed(seed, "tests")), config.tests + 50, length)
        context, following = text[:, :-2] * config.vocabulary + text[:, 1:-1], text[:, 2:]
        starts = np.arange(config.tests) * length
        for (worse, better), delta, wald in zip(pairs, deltas, expected, strict=True):
            ratio = (better.log_probabilities[seed] - worse.log_probabilities[seed])[context, following]
            stopped = run_sprt(ratio.ravel(), config.error, starts=starts)
            mean = float(stopped.tokens.mean())
            paths = np.concatenate([[0.0], np.cumsum(ratio)])
            reached = np.abs(paths[starts + stopped.tokens] - paths[starts])
            # the variance of a token's ratio in the long run: that of sums over whole streams
            variance = float(ratio.sum(axis=1).var(ddof=1) / length)
            found = {
                "delta_loss": delta,
                "stopping_tokens": mean,
                "wrong_decisions": float(1 - stopped.correct.mean()),
                "stopping_ratio": mean / float(wald),
                "drift_ratio": mean / float(drift_tokens(delta, variance, config.error)),
                "variance_over_walds": variance / (2 * delta),
                "reached_over_bound": float(reached.mean() / bound),
            }
            pair = f"{worse.cell.budget:.1e} against {better.cell.budget:.1e}"
            for quantity, value in found.items():
                yield {"quantity": quantity, "pair": pair, "seed": seed, "value": value}

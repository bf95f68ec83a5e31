"""The ladder, small: sizes, training, the frontier, planted laws, and records that claims can be decided from."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from meek_targets import follows
from pydantic import ValidationError

from replication import evidence
from replication.meek.experiments import ladder
from replication.meek.experiments.ladder import TUNING_SEED, Cell, Config, Measured, Trained, cells
from replication.meek.fit import CONDITION, bootstrap_chinchilla
from replication.meek.gap import peak_time, training_gap
from replication.meek.language import MarkovSource, NeuralNgram
from replication.meek.law import ScalingLaw
from replication.training import AdamW, Population, stream_seed

CLAIMS = evidence.load_claims("meek")
TINY = {
    "vocabulary": 8, "budgets": 3, "smallest_budget": 1e5, "budget_ratio": 4.0, "widths": [2, 4, 8],
    "least_tokens": 0.3, "most_tokens": 400.0, "peaks": [2.0, 5.0], "seeds": 3, "resamples": 20, "tests": 200,
    "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def config():
    return Config(**TINY)


@pytest.fixture(scope="module")
def records(config):
    return evidence.gather(ladder, config)


def of(records, quantity):
    return records[records["quantity"] == quantity]


# --- sizes, budgets and time -----------------------------------------------------------------------------------------


def test_cells_spend_the_budget_within_the_limits():
    config = Config()
    assert config.compute[1] / config.compute[0] == pytest.approx(config.budget_ratio)
    for budget in config.compute:
        found = cells(config, budget)
        assert len(found) >= 3
        for cell in found:
            assert cell.size == NeuralNgram(config.vocabulary, cell.width).size
            assert 6 * cell.size * cell.tokens == pytest.approx(budget, rel=0.01)
            assert config.least_tokens <= budget / (6 * cell.size**2) <= config.most_tokens
        left_out = {NeuralNgram(32, width).size for width in config.widths} - {cell.size for cell in found}
        for size in left_out:
            assert not config.least_tokens <= budget / (6 * size**2) <= config.most_tokens


def test_the_leader_stands_on_the_highest_rung_at_the_end(config):
    start, end = config.compute[0], config.compute[-1]
    assert start * config.growth.sota**config.years == pytest.approx(end)
    assert config.growth.meek == pytest.approx(config.budget_ratio)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"widths": [8, 4, 16]}, "widths: must increase"),
        ({"widths": [4, 8, 16], "most_tokens": 20.0}, "widths: fewer than three sizes"),
        ({"least_tokens": 400.0}, "least_tokens"),
        ({"error": 0.5}, "error"),
        ({"seeds": 1}, "seeds"),
        ({"rungs": 3}, "rungs"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        Config(**TINY | changes)


# --- training --------------------------------------------------------------------------------------------------------


def test_training_is_the_populations(config):
    """The same seeds, text and rates through vmap: the losses agree to rounding."""
    source, cell, peaks = MarkovSource(8), Cell(1e5, 4, 56, 30, 8), [0.02, 0.05]
    loss, log_q = ladder._losses(config, source, cell, [3, 4], peaks)
    population = Population(lambda: NeuralNgram(8, 4), [3, 4], AdamW(betas=(0.9, 0.95), weight_decay=0.0))
    text = [source.examples(np.random.default_rng(stream_seed(seed, "text")), 240) for seed in (3, 4)]

    def batch(t):
        rows = slice(8 * t, 8 * t + 8)
        return torch.stack([x[rows] for x, _ in text]), torch.stack([y[rows] for _, y in text])

    # a twentieth of warm-up is a step and a half
    shape = torch.tensor([min((t + 1) / 1.5, (1 + math.cos(math.pi * t / 30)) / 2) for t in range(30)])
    population.fit(batch, shape[:, None] * torch.tensor(peaks))
    reference = torch.log_softmax(population.logits(source.contexts).double(), dim=-1).numpy()
    np.testing.assert_allclose(log_q, reference, atol=1e-4)
    np.testing.assert_allclose(loss, source.loss(reference), atol=1e-5)


def test_the_peak_is_chosen_on_a_seed_of_its_own(monkeypatch, config):
    asked = []

    def losses(config, source, cell, seeds, peaks):
        asked.append((list(seeds), list(peaks)))
        # the first peak diverges; among the evaluation seeds the third would be the best
        return np.array([np.nan, 1.0, 2.0]), np.zeros(0)

    monkeypatch.setattr(ladder, "_losses", losses)
    config = config.model_copy(update={"peaks": [1.0, 2.0, 3.0]})
    cell = Cell(1e5, 4, 100, 30, 8)
    assert ladder.train(config, MarkovSource(8), cell).peak == 2.0
    (tuned, tried), (seeds, used) = asked
    assert tuned == [TUNING_SEED] * 3
    np.testing.assert_allclose(tried, [0.04, 0.08, 0.12])
    assert seeds == [0, 1, 2]
    assert TUNING_SEED not in seeds
    np.testing.assert_allclose(used, 0.08)


# --- the frontier ----------------------------------------------------------------------------------------------------


def rung(sizes, losses):
    """One budget's runs; losses of shape (sizes, seeds)."""
    return [Measured(Cell(1e6, 1, size, 1, 1), np.asarray(loss)) for size, loss in zip(sizes, losses, strict=True)]


def test_frontier_finds_the_vertex_of_a_parabola():
    sizes = np.array([50, 120, 300, 800])
    heights, best = np.array([2.0, 2.1]), math.log(200)
    losses = 0.3 * (np.log(sizes)[:, None] - best) ** 2 + heights
    # 300 is best; the smallest size is no neighbour of it, and its loss does not matter
    losses[0] += 5
    found = ladder._frontier(rung(sizes, losses))
    assert found.size == pytest.approx(200)
    np.testing.assert_allclose(found.loss, heights)


def test_frontier_takes_one_size_for_all_seeds():
    sizes = np.array([100, 200, 400])
    vertices = np.log([160.0, 250.0])
    found = ladder._frontier(rung(sizes, (np.log(sizes)[:, None] - vertices) ** 2))
    assert found.size == pytest.approx(200)
    np.testing.assert_allclose(found.loss, (math.log(200) - vertices) ** 2)


@pytest.mark.parametrize("losses", [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
def test_frontier_at_an_end_is_measured_not_extrapolated(losses):
    found = ladder._frontier(rung([100, 200, 400], np.array(losses)[:, None]))
    assert found.size == (100 if losses[0] == 1 else 400)
    assert found.loss == [1.0]


# --- records ---------------------------------------------------------------------------------------------------------


def test_records_hold_every_cell_and_seed(config, records):
    plan = [cell for budget in config.compute for cell in cells(config, budget)]
    losses = of(records, "loss")
    assert len(losses) == len(plan) * config.seeds
    assert (losses["value"] > of(records, "entropy")["value"].item()).all()
    assert set(losses["size"]) == {cell.size for cell in plan}
    assert set(of(records, "chosen_peak")["value"]) <= set(config.peaks)
    frontier = of(records, "frontier_loss")
    assert frontier.groupby("budget")["seed"].nunique().to_dict() == dict.fromkeys(config.compute, config.seeds)
    # more compute is better, and the frontier is never worse than the best size
    means = frontier.groupby("budget")["value"].mean()
    assert means.is_monotonic_decreasing
    best = losses.groupby(["budget", "size"])["value"].mean().groupby("budget").min()
    assert (means <= best + 1e-12).all()


def test_gap_starts_at_zero_and_ends_at_the_frontiers_difference(config, records):
    gaps = of(records, "measured_gap")
    frontier = of(records, "frontier_loss").pivot_table(index="seed", columns="budget", values="value")
    for seed, gap in gaps.groupby("seed"):
        assert gap["value"].iloc[0] == 0
        assert gap["t"].iloc[-1] == config.years
        # the leader is on the highest rung; with half a rung of lead the meek are a third of the way below it
        meek = gap["value"].iloc[-1] + frontier.loc[seed].iloc[-1]
        assert frontier.loc[seed].iloc[2] < meek < frontier.loc[seed].iloc[1]
        ends = of(records, "end_over_peak").set_index("seed")["value"]
        assert ends[seed] == pytest.approx(gap["value"].iloc[-1] / gap["value"].max())
    for _, gap in of(records, "predicted_gap").groupby("law"):
        assert gap["value"].iloc[0] == pytest.approx(0)


def test_predictions_are_the_formulas(config, records):
    entropy = of(records, "entropy")["value"].item()
    frontier = of(records, "frontier_loss").groupby("budget")["value"].mean()
    slope, level = np.polyfit(np.log(frontier.index), np.log(frontier - entropy), 1)
    law = ScalingLaw(math.exp(level), -slope, entropy)
    known = of(records, "predicted_gap")
    known = known[known["law"] == "known entropy"]
    expected = training_gap(known["t"].to_numpy(), law, config.growth, config.compute[0])
    np.testing.assert_allclose(known["value"], expected, atol=1e-12)
    times = of(records, "predicted_peak_time").set_index("law")["value"]
    assert times["known entropy"] == pytest.approx(float(peak_time(law, config.growth)))
    assert times["fit, low"] <= times["fit"] <= times["fit, high"]
    errors = of(records, "entropy_error")
    assert len(errors) == config.resamples
    fitted = of(records, "irreducible_loss").set_index("law")["value"]["fit"]
    assert errors["value"].min() <= fitted - entropy <= errors["value"].max()


def planted(config, A, alpha):
    """A ladder whose runs lie on L = H + A N^-alpha + A (D / 10)^-alpha exactly, and its frontier at every budget."""
    source = MarkovSource(8)
    sizes = np.array([30, 60, 120, 240, 480, 960])
    trained = []
    for budget in config.compute:
        for size in sizes:
            tokens = round(budget / (6 * size))
            loss = source.entropy + A * size**-alpha + A * (tokens / 10) ** -alpha
            trained.append(Measured(Cell(budget, 1, int(size), tokens, 1), np.full(config.seeds, loss)))
    optimum = 2 * A * (np.array(config.compute) / 60) ** (-alpha / 2)
    return source, trained, np.tile(source.entropy + optimum[:, None], config.seeds)


def test_a_planted_law_is_found_again_with_the_gap_that_it_implies():
    config = Config(**TINY | {"budgets": 5, "smallest_budget": 2e6, "resamples": 5, "most_tokens": 1e5})
    source, trained, frontier = planted(config, A=5.0, alpha=0.6)
    rows = evidence.tidy(ladder._gaps(config, source, trained, frontier))
    gammas = of(rows, "gamma").set_index("law")["value"]
    assert gammas["known entropy"] == pytest.approx(0.3, rel=1e-6)
    assert gammas["fit"] == pytest.approx(0.3, rel=0.02)
    np.testing.assert_allclose(of(rows, "entropy_error")["value"], 0, atol=0.02)
    time = float(peak_time(ScalingLaw(1.0, 0.3, 0.0), config.growth))
    assert 0 < time < config.years
    np.testing.assert_allclose(of(rows, "peak_time_ratio")["value"], 1, atol=0.05)
    assert len(of(rows, "peak_time_ratio")) == config.resamples
    assert 1 < of(rows, "fit_condition")["value"].item() < CONDITION
    assert (of(rows, "gap_error")["value"] < 0.03).all()
    assert (of(rows, "end_over_peak")["value"] < 0.995).all()


def test_resamples_without_a_law_have_no_peak_to_compare(monkeypatch):
    """The bootstrap leaves such resamples out, so that it has fewer draws than were asked for."""
    fewer = {"resamples": 3}
    monkeypatch.setattr(ladder, "bootstrap_chinchilla", lambda *runs, **_: bootstrap_chinchilla(*runs, **fewer))
    config = Config(**TINY | {"budgets": 5, "smallest_budget": 2e6, "resamples": 5, "most_tokens": 1e5})
    rows = evidence.tidy(ladder._gaps(config, *planted(config, A=5.0, alpha=0.6)))
    assert len(of(rows, "peak_time_ratio")) == len(of(rows, "entropy_error")) == 3


def sequential(config, source, models, monkeypatch):
    """Sequential tests between planted models, one a rung."""
    monkeypatch.setattr(ladder, "_source", lambda _vocabulary: source)
    monkeypatch.setattr(ladder, "_ladder", lambda _config, _rows: [[Measured(one.cell, one.loss)] for one in models])
    monkeypatch.setattr(ladder, "trained", lambda _config, cell: next(one for one in models if one.cell == cell))
    return evidence.tidy(ladder.sequential_tests(config, pd.DataFrame()))


def test_sequential_tests_are_those_of_wald_when_the_better_model_wrote_the_text(monkeypatch):
    """The source itself against a flatter copy: few errors, and the formula up to the overshoot."""
    config = Config(**TINY | {"seeds": 2, "tests": 2000})
    source = MarkovSource(8)
    true = np.log(source.transition.reshape(64, 8))
    models = []
    for temper in (0.5, 0.7, 1.0):
        log_q = temper * true
        log_q -= np.log(np.exp(log_q).sum(axis=-1, keepdims=True))
        loss = np.full(2, source.loss(log_q))
        models.append(Trained(Cell(temper, 1, 1, 1, 1), 1.0, loss, np.stack([log_q, log_q])))
    rows = sequential(config, source, models, monkeypatch)
    found = rows[rows["pair"] == "7.0e-01 against 1.0e+00"].groupby("quantity")["value"].mean()
    assert found["delta_loss"] == pytest.approx(float(models[1].loss[0]) - source.entropy)
    assert found["wrong_decisions"] < 0.05
    assert found["variance_over_walds"] == pytest.approx(1, abs=0.25)
    assert 1 < found["stopping_ratio"] < 1.35
    # Wald's identity: the mean final sum is the drift times the mean time
    final = (1 - 2 * found["wrong_decisions"]) * found["reached_over_bound"] / 0.9
    assert found["stopping_ratio"] == pytest.approx(final, rel=0.05)
    assert set(rows["pair"]) == {f"{a} against {b}" for a, b in (
        ("5.0e-01", "7.0e-01"), ("7.0e-01", "1.0e+00"), ("5.0e-01", "1.0e+00"),
    )}  # fmt: skip
    assert rows.equals(sequential(config, source, models, monkeypatch))


def test_a_rung_that_is_no_better_is_refused(monkeypatch):
    config, source = Config(**TINY), MarkovSource(8)
    same = [Trained(Cell(budget, 1, 1, 1, 1), 1.0, np.full(3, 2.0), np.zeros((3, 64, 8))) for budget in (1e5, 1e6)]
    with pytest.raises(ValueError, match=r"budget_ratio: with seed 0 .* 1\.0e\+06 FLOP is no better"):
        sequential(config, source, same, monkeypatch)


def test_tests_can_be_answered_from_the_records(records):
    found = {one.test_id: one for one in evidence.evaluate(records, CLAIMS, "42_meek_ladder", "standard")}
    gates = {"bracketed", "learned", "ladder-identified"}
    assert set(found) == gates | {
        "M11-inside",
        "M11-time",
        "M11-size",
        "M11-entropy",
        "M5-stopping",
        "M5-each",
        "M5-error",
    }
    assert "not run" not in {one.answer for one in found.values()}
    for test in CLAIMS.at("42_meek_ladder", "standard"):
        assert follows(test, records), test.id


def test_gates_see_models_that_learned_nothing_and_sizes_that_bracket_nothing():
    source = MarkovSource(8)
    rows = [rung([100, 200, 400], np.array(losses)[:, None]) for losses in ([2.0, 1.0, 3.0], [3.0, 2.0, 1.0])]
    best = [ladder.Frontier(1.0, np.full(3, level)) for level in (source.unigram_entropy, source.bigram_entropy)]
    found = evidence.tidy(ladder._assay(source, rows, best))
    assert of(found, "bracketed")["value"].item() == 0.5
    assert of(found, "loss_minus_table")["value"].tolist() == [0.0] * 6
    better = evidence.tidy(ladder._assay(source, rows[:1], [ladder.Frontier(1.0, one.loss - 0.1) for one in best]))
    assert of(better, "bracketed")["value"].item() == 1.0
    assert (of(better, "loss_minus_table")["value"] < 0).all()


def test_a_choice_beyond_the_configured_grid_is_counted():
    from replication.meek.figures_ladder import chosen_peaks

    rows = evidence.tidy([{"quantity": "chosen_peak", "size": n, "value": peak} for n, peak in enumerate([2.5, 6.0])])
    assert chosen_peaks(rows, [1.0, 2.5]).rows == (("1", "0"), ("2.5", "1"), ("6", "1"))


def test_same_configuration_gives_the_same_records(config, records):
    assert records.equals(evidence.gather(ladder, config))

"""The pre-training experiment, small: equal budgets, paired seeds, held-out documents, the promised records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from corpus_toys import DOMAINS, write_corpus
from pydantic import ValidationError

from replication import data, evidence
from replication.disf.experiments import pretraining as p
from replication.evidence.claims import DirectionTest
from replication.evidence.samples import samples
from replication.training.population import Scores

ROOT = Path(__file__).parents[2]
TINY = {
    "document_bytes": 120, "pieces": 3, "pool": 40, "test_documents": 4, "validation_documents": 3,
    "target_documents": 3, "left_out": "tables", "features": ["tfidf", "bytes"], "dimension": 8,
    "methods": ["full", "random", "disf", "dsir", "top cosine", "many targets", "d4", "within", "matched"],
    "ratio": 0.25, "ratios": [0.5], "batch_sizes": [20, 30], "batch_size": 40, "width": 8, "context": 8, "windows": 4,
    "steps": 5, "peaks": [0.003, 0.01], "widenings": 0, "seeds": 4, "other_seeds": 2, "block": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return p.Config(text=str(write_corpus(tmp_path_factory.mktemp("corpus"))), **TINY)


@pytest.fixture(scope="module")
def records(config):
    return evidence.gather(p, config)


def rows(records, quantity, **where):
    found = records[records["quantity"] == quantity]
    for column, level in where.items():
        found = found[found[column] == level]
    return found


def test_a_domain_without_a_window_is_refused_not_scored(config):
    with pytest.raises(ValueError, match=r"context: no test document of 'code' has a window of 121 bytes"):
        p.held_out(config.model_copy(update={"context": 120}), "test")


def test_records_hold_every_arm_and_seed(records, config):
    for quantity in ("macro_bits_per_byte", "macro_without_bits_per_byte", "worst_bits_per_byte", "passes"):
        main = rows(records, quantity, view="main").groupby("method")["seed"].agg(sorted)
        assert set(main.index) == set(config.methods)
        for method, seeds in main.items():
            assert seeds == list(range(4 if method in p.CONTRASTED else 2))
    macro = rows(records, "macro_bits_per_byte")
    varied = macro.groupby("view")[["method", "ratio", "batch_size", "features"]].agg(set)
    assert varied.loc["ratio", "method"] == {"disf", "random"}
    assert varied.loc["ratio", "ratio"] == {0.5}
    assert varied.loc["batch size", "batch_size"] == {20, 30}
    assert varied.loc["features", "features"] == {"bytes"}
    assert macro["value"].between(3, 9).all()
    for quantity in ("domain_bits_per_byte", "domain_share"):
        assert (rows(records, quantity).groupby(["method", "seed"])["domain"].agg(set) == set(DOMAINS)).all()


@pytest.mark.parametrize(
    "test", evidence.load_claims("disf").at("31_disf_pretraining", "standard"), ids=lambda test: test.id
)
def test_records_hold_what_each_test_needs(records, test):
    """Every column, level and arm is there, so that only the number of seeds is missing from an answer."""
    if getattr(test, "factor", "") == "batch_size":
        test = test.model_copy(update={"ours": 30, "baselines": (20,)})
    found = samples(records, test)
    assert found
    assert not any(sample.note for sample in found)
    assert all(getattr(test, "tuned", None) is None or sample.tuning is not None for sample in found)


def test_the_standard_profile_has_the_arms_and_seeds_that_its_tests_ask_for():
    profile = yaml.safe_load(
        (ROOT / "notebooks/profiles/standard/31_disf_pretraining.yaml").read_text(encoding="utf-8")
    )
    config = p.Config(**{name: value for name, value in profile.items() if name != "profile"})
    for test in evidence.load_claims("disf").at("31_disf_pretraining", "standard"):
        asked = {test.ours, *test.baselines} if isinstance(test, DirectionTest) else set()
        assert asked <= {*config.methods, *config.batch_sizes, "domain"}, test.id
        if asked:
            assert test.min_seeds <= (config.seeds if asked <= set(p.CONTRASTED) else config.other_seeds), test.id
    assert config.ratios
    assert config.batch_sizes
    assert len(config.features) > 1


def test_scores_are_summaries_of_the_domains(records):
    bits = rows(records, "domain_bits_per_byte").pivot_table(index=["method", "seed"], columns="domain", values="value")
    for quantity, expected in (
        ("macro_bits_per_byte", bits.mean(axis=1)),
        ("macro_without_bits_per_byte", bits.drop(columns="tables").mean(axis=1)),
        ("worst_bits_per_byte", bits.max(axis=1)),
        ("target_bits_per_byte", bits["prose"]),
    ):
        found = rows(records, quantity, view="main").set_index(["method", "seed"])["value"]
        np.testing.assert_allclose(found[expected.index], expected, rtol=1e-12)
    shares = rows(records, "domain_share").groupby(["method", "seed"])["value"].sum()
    np.testing.assert_allclose(shares, 1)


def test_derived_rows_are_paired_differences_of_the_losses(records):
    macro = rows(records, "macro_bits_per_byte").set_index(["view", "method", "ratio", "seed"])["value"].sort_index()
    over = rows(records, "over_random").set_index(["view", "ratio", "seed"])["value"]
    gap = rows(records, "gap_to_full").set_index(["view", "method", "ratio", "seed"])["value"]
    for seed in (0, 1):
        full = macro["main", "full", 0.25, seed].item()
        assert over["ratio", 0.5, seed].item() == pytest.approx(
            (macro["ratio", "disf", 0.5, seed] - macro["ratio", "random", 0.5, seed]).item()
        )
        random = macro["main", "random", 0.25, seed].item()
        for view in ("main", "batch size", "features"):
            np.testing.assert_allclose(over[view, 0.25, seed], macro[view, "disf", 0.25, seed] - random, atol=1e-12)
        for view, method, ratio in (("main", "random", 0.25), ("ratio", "random", 0.5), ("ratio", "disf", 0.5)):
            assert gap[view, method, ratio, seed].item() == pytest.approx(
                macro[view, method, ratio, seed].item() - full
            )
    assert set(rows(records, "over_random")["method"]) == {"disf"}
    assert set(rows(records, "over_random")["setting"]) == {
        "disf",
        "disf 0.5 of the pool",
        "disf b = 20",
        "disf b = 30",
        "disf bytes",
    }
    random = rows(records, "random_over_full").set_index("seed")["value"]
    np.testing.assert_allclose(random, macro["main", "random", 0.25] - macro["main", "full", 0.25])


def test_the_share_of_the_gap_is_one_for_the_full_pool_and_zero_for_random():
    """Planted losses: DiSF closes a quarter of the gap with every seed, so with every resample."""

    def planted(share):
        level = {"full": 3.0, "random": 4.0, "disf": 4.0 - share}
        return pd.DataFrame(
            [
                {
                    "quantity": "macro_bits_per_byte", "view": "main", "method": method, "ratio": 0.25,
                    "batch_size": 40, "features": "tfidf", "seed": seed, "value": value + 0.1 * seed,
                }
                for method, value in level.items()
                for seed in range(3)
            ]
        )  # fmt: skip

    for share in (0.0, 0.25, 1.0):
        found = pd.DataFrame(p.comparison(p.Config(), planted(share)))
        draws = found[found["quantity"] == "share_of_gap"]
        assert len(draws) == p.DRAWS
        np.testing.assert_allclose(draws["value"], share, atol=1e-12)
        assert (found[found["quantity"] == "over_random"]["value"] + share).abs().max() < 1e-12


def test_domain_is_the_method_with_a_target_that_tuning_found_better(records):
    tuned = rows(records, "tuning_target")
    best = rows(records, "peak_on_edge").set_index("method")["peak"]
    at_best = {
        method: tuned[(tuned["method"] == method) & (tuned["peak"] == best[method])]["value"].mean()
        for method in ("dsir", "top cosine")
    }
    target = rows(records, "target_bits_per_byte", view="main").set_index(["method", "seed"])["value"]
    for seed in (0, 1):
        assert target["domain", seed] == target[min(at_best, key=at_best.get), seed]


def test_same_configuration_gives_the_same_records(records, config):
    assert records.equals(evidence.gather(p, config))


def test_each_method_is_trained_at_its_own_best_peak_and_controls_at_the_borrowed_one(records, config):
    scores = rows(records, "tuning_score").pivot_table(index="method", columns="peak", values="value")
    assert set(scores.index) == set(config.methods) - set(p.BORROWED)
    assert scores.notna().all(axis=None)  # as many trials for each
    assert set(rows(records, "tuning_score")["seed"]) == {1000, 1001}
    assert len(rows(records, "macro_at")) == len(rows(records, "tuning_score"))
    used = rows(records, "macro_bits_per_byte").groupby("method")["peak"].unique()
    for method, peaks in used.items():
        assert peaks.tolist() == [scores.loc[p.BORROWED.get(method, method)].idxmin()]


def test_tuning_is_widened_until_the_best_is_inside(config, monkeypatch):
    monkeypatch.setattr(p, "train", lambda config, trials: trials)

    def losses(config, trials, part):
        return pd.DataFrame({name: [abs(np.log(trial.peak / 0.05)) for trial in trials] for name in DOMAINS})

    monkeypatch.setattr(p, "score", losses)
    arm = next(arm for arm in p.arms(config) if arm.method == "random")
    found = pd.DataFrame(p.tuning(config.model_copy(update={"peaks": [0.0125, 0.025], "widenings": 3}), arm))
    edge = found[found["quantity"] == "peak_on_edge"].iloc[0]
    assert (edge["peak"], edge["value"]) == (0.05, 0.0)
    narrow = pd.DataFrame(p.tuning(config.model_copy(update={"peaks": [0.0125, 0.025]}), arm))
    assert narrow[narrow["quantity"] == "peak_on_edge"]["value"].item() == 1.0


def test_an_evaluation_seed_of_the_tuning_is_refused(config):
    with pytest.raises(ValueError, match="seeds: must be below 1000"):
        p.evaluation(config, pd.DataFrame(), p.arms(config)[0], [0, 1000]).__next__()


def test_with_everything_selected_all_methods_are_the_full_pool(config):
    """All train on the same windows in the same order: the pairing is exact."""
    everything = config.model_copy(update={"ratio": 1.0})
    full, *others = (
        p.select(everything, p.Arm("main", method, 1.0, 40, "tfidf"), 0)
        for method in ("full", "random", "disf", "dsir", "many targets", "within", "matched")
    )
    for other in others:
        assert torch.equal(other.windows, full.windows)
        np.testing.assert_array_equal(other.rows, full.rows)


def test_windows_are_those_of_the_selected_documents_and_of_no_held_out_source(config):
    material, parts = p.load(config), p.divided(config, 1)

    def cut(documents):
        return b"".join(material.texts[i].encode()[: 120 // 9 * 9] for i in documents)

    for arm in p.arms(config):
        found = p.select(config, arm, 1)
        assert found.windows.dtype == torch.uint8
        assert bytes(found.windows.flatten().tolist()) == cut(found.rows)
        assert set(found.rows) <= set(parts.pool)
        assert found.domains.tolist() == material.domains[found.rows].tolist()
        assert len(found.rows) == (40 if arm.method == "full" else round(arm.ratio * 40))
    for part in ("validation", "test"):
        held = getattr(parts, part)
        assert not set(material.sources[held]) & set(material.sources[parts.pool])
        for name, windows in p.held_out(config, part).items():
            assert bytes(windows.flatten().tolist()) == cut(held[material.domains[held] == name])


def test_the_same_documents_are_held_out_for_every_seed(config):
    one, other = (p.divided(config, seed) for seed in (0, 1))
    for part in ("validation", "test"):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    assert {name: rows.tolist() for name, rows in one.targets.items()} == {
        name: rows.tolist() for name, rows in other.targets.items()
    }


def test_every_run_reads_the_same_number_of_bytes_of_its_own_selection(config, monkeypatch):
    seen = []
    original = p.Population.fit

    def fit(self, batches, lr):
        seen.extend((*batches(step), rate) for step, rate in enumerate(lr))
        return original(self, batches, lr)

    monkeypatch.setattr(p.Population, "fit", fit)
    trials = [p.Trial(p.select(config, arm, 0), 0.01 * (i + 1), 0) for i, arm in enumerate(p.arms(config)[:4])]
    p.train(config, trials)
    assert [tuple(x.shape) for x, _, _ in seen] == [(4, 4, 8)] * 5
    for i, trial in enumerate(trials):
        allowed = {bytes(window.tolist()) for window in trial.selection.windows}
        for x, y, _ in seen:
            for window, target in zip(x[i], y[i], strict=True):
                assert torch.equal(window[1:], target[:-1])
                assert bytes([*window.tolist(), int(target[-1])]) in allowed
        np.testing.assert_allclose([lr[i] for _, _, lr in seen], p.rates(trial.peak, 5), rtol=1e-6)


def test_the_company_of_a_trial_does_not_change_its_scores(config):
    trials = [p.Trial(p.select(config, arm, seed), 0.01, seed) for seed, arm in enumerate(p.arms(config)[:3])]
    together = p.score(config, p.train(config, trials), "test")
    alone = [p.score(config, p.train(config, [trial]), "test") for trial in trials]
    np.testing.assert_allclose(together, pd.concat(alone), rtol=1e-4)


def test_the_bigram_table_is_counted_on_the_full_pool(records, config):
    over = rows(records, "bits_over_bigram").set_index("seed")["value"]
    full = rows(records, "macro_bits_per_byte", method="full").set_index("seed")["value"]
    counted = p.windows(config, np.sort(p.divided(config, 3).pool)).numpy().astype(np.int64)
    tables = [data.table_bits(counted, w.numpy())["bigram"] for w in p.held_out(config, "test").values()]
    assert over[3] == pytest.approx(full[3] - np.mean(tables))


def test_rates_warm_up_and_decay_to_a_tenth():
    table = p.rates(0.02, 1000)
    assert table.max() <= 0.02
    assert table[0] == pytest.approx(0.02 / 100)
    assert table[99] == pytest.approx(0.02, rel=0.03)
    assert table[-1] == pytest.approx(0.002, rel=0.01)
    assert (np.diff(table[100:]) < 0).all()


def test_a_diverged_run_counts_as_one_that_knows_nothing(config):
    class Diverged:
        def evaluate(self, x, y, batch_size):
            return Scores(torch.tensor([1.0, torch.nan, torch.inf, 9.0]), torch.ones(4))

    scores = p.score(config, Diverged(), "test")
    np.testing.assert_allclose(scores.loc[0], 1 / np.log(2))
    assert (scores.loc[1:2] == p.IGNORANT).all(axis=None)
    # worse than knowing nothing, and measured
    np.testing.assert_allclose(scores.loc[3], 9 / np.log(2))


def test_the_scale_says_what_was_read_and_how_far_pools_overlap(records, config):
    # of the records, whatever features this machine could compute
    said = p.scale(config.model_copy(update={"features": ["bytes"]}), records)
    assert "40 documents of at most 120 bytes, 0.25 of them selected by tfidf" in said
    passes = rows(records, "passes", view="main", method="random")["value"].mean()
    assert f"{passes:.1f} passes" in said
    assert f"have {rows(records, 'pool_overlap')['value'].item():.0%} of" in said


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"methods": ["full", "random"]}, "methods: must hold"),
        ({"methods": ["full", "random", "disf", "best"]}, "methods"),
        ({"ratios": [0.125]}, "ratios: must lie in"),
        ({"ratios": [1.5]}, "ratios: must lie in"),
        ({"batch_sizes": [1024]}, "batch_sizes: must differ"),
        ({"document_bytes": 16}, "document_bytes: must be more than context"),
        ({"features": ["words"]}, "features"),
        ({"features": []}, "features"),
        ({"sedes": 3}, "sedes"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        p.Config(**changes)


@pytest.mark.parametrize("name", ["left_out", "target"])
def test_a_domain_that_is_not_in_the_corpus_is_refused_before_any_training(config, name):
    with pytest.raises(ValueError, match=f"{name}: must be one of code, prose, tables, got 'tabels'"):
        p.inputs(config.model_copy(update={name: "tabels"}))

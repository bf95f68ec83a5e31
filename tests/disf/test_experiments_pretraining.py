"""The pre-training experiment, small: equal budgets, paired seeds, held-out documents, the promised records."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from corpus_toys import DOMAINS, write_corpus
from pydantic import ValidationError

from replication import evidence
from replication.disf.experiments import pretraining as p
from replication.training.population import Scores

TINY = {
    "document_bytes": 120, "pieces": 3, "pool": 60, "held_out_documents": 4, "target_documents": 6, "dimension": 8,
    "ratio": 0.2, "ratios": [0.5], "selection_batches": [20, 60], "selection_batch": 60, "width": 8, "context": 8,
    "windows": 4, "steps": 5, "peaks": [0.003, 0.01], "seeds": 2,
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


def test_records_hold_every_arm_and_seed(records, config):
    for quantity in ("macro_bits_per_byte", "worst_bits_per_byte", "passes"):
        main = rows(records, quantity, view="main")
        assert (main.groupby("method")["seed"].agg(sorted).map(tuple) == (0, 1)).all()
        assert set(main["method"]) == set(config.methods)
    assert set(rows(records, "macro_bits_per_byte", view="batch size")["batch_size"]) == {20, 60}
    assert rows(records, "macro_bits_per_byte")["value"].between(3, 9).all()
    for quantity in ("domain_bits_per_byte", "domain_share"):
        assert (rows(records, quantity).groupby(["method", "seed"])["domain"].agg(set) == set(DOMAINS)).all()


def test_scores_are_summaries_of_the_domains(records):
    bits = rows(records, "domain_bits_per_byte").pivot_table(index=["method", "seed"], columns="domain", values="value")
    for quantity, expected in (
        ("macro_bits_per_byte", bits.mean(axis=1)),
        ("worst_bits_per_byte", bits.max(axis=1)),
        ("target_bits_per_byte", bits["prose"]),
    ):
        found = rows(records, quantity, view="main").set_index(["method", "seed"])["value"]
        np.testing.assert_allclose(found[expected.index], expected, rtol=1e-12)
    shares = rows(records, "domain_share").groupby(["method", "seed"])["value"].sum()
    np.testing.assert_allclose(shares, 1)


def test_gap_to_full_is_disf_minus_full_of_the_same_seed(records, config):
    macro = rows(records, "macro_bits_per_byte").set_index(["view", "method", "ratio", "batch_size", "seed"])["value"]
    gap = rows(records, "gap_to_full").set_index(["ratio", "seed"])["value"]
    assert set(gap.index) == {(ratio, seed) for ratio in (0.2, 0.5) for seed in (0, 1)}
    for seed in (0, 1):
        full = macro["main", "full", 0.2, 60, seed]
        assert gap[0.2, seed] == pytest.approx(macro["main", "disf", 0.2, 60, seed] - full, abs=1e-12)
        assert gap[0.5, seed] == pytest.approx(macro["ratio", "disf", 0.5, 60, seed] - full, abs=1e-12)


def test_domain_is_one_of_the_two_methods_with_a_target_and_the_same_one_for_every_seed(records):
    target = rows(records, "target_bits_per_byte", view="main").set_index(["method", "seed"])["value"]
    matches = [
        method for method in ("dsir", "top cosine") if all(target["domain", s] == target[method, s] for s in (0, 1))
    ]
    assert len(matches) >= 1


def test_same_configuration_gives_the_same_records(records, config):
    assert records.equals(evidence.gather(p, config))


def test_each_method_is_trained_at_its_own_best_peak(records, config):
    scores = rows(records, "tuning_score").pivot_table(index="method", columns="peak", values="value")
    assert set(scores.index) == set(config.methods)
    assert scores.notna().all(axis=None)  # as many trials for each
    used = rows(records, "macro_bits_per_byte", view="main").groupby("method")["peak"].unique()
    for method, peaks in used.items():
        assert peaks.tolist() == [scores.loc[method].idxmin()]
    assert set(rows(records, "passes", view="ratio")["peak"]) == set(used["disf"])


def test_full_at_a_ratio_of_one_is_what_every_method_is(config):
    """With everything selected, all methods train on the same windows in the same order: the pairing is exact."""
    methods = [method for method in config.methods if method != "d4"]  # which leaves near-duplicates out
    changes = {"ratio": 1.0, "ratios": [], "selection_batches": [], "peaks": [0.01], "methods": methods}
    everything = config.model_copy(update=changes)
    found = rows(evidence.gather(p, everything), "macro_bits_per_byte", view="main")
    wide = found.pivot_table(index="seed", columns="method", values="value")
    for method in wide.columns:
        np.testing.assert_allclose(wide[method], wide["full"], rtol=1e-5)
    assert wide["full"].nunique() == 2


@pytest.fixture(scope="module")
def prepared(config):
    return p.prepare(config, p.load(config), 0, p.arms(config))


def test_windows_are_those_of_the_documents_of_their_part(config, prepared):
    material = p.load(config)

    def cut(rows):
        return [material.texts[i].encode()[: 120 // 9 * 9] for i in rows]

    for i in (0, 31, 59):
        windows = prepared.train[np.flatnonzero(prepared.owner == i)]
        assert bytes(windows.flatten().tolist()) == cut(prepared.parts.pool[[i]])[0]
    for part in ("validation", "test"):
        rows = getattr(prepared.parts, part)
        assert set(prepared.held_out[part]) == set(DOMAINS)
        for domain, windows in prepared.held_out[part].items():
            assert bytes(windows.flatten().tolist()) == b"".join(cut(rows[material.domains[rows] == domain]))
        assert not set(material.sources[rows]) & set(material.sources[prepared.parts.pool])


def test_every_run_reads_the_same_number_of_bytes_of_its_own_selection(config, prepared, monkeypatch):
    seen = []
    original = p.Population.fit

    def fit(self, batches, lr):
        seen.extend((*batches(step), rate) for step, rate in enumerate(lr))
        return original(self, batches, lr)

    monkeypatch.setattr(p.Population, "fit", fit)
    trials = [(arm, 0.01 * (i + 1)) for i, arm in enumerate(p.arms(config))]
    small = config.model_copy(update={"replicas": 5})
    p.train(small, prepared, trials, 0)
    assert {tuple(x.shape[1:]) for x, _, _ in seen} == {(4, 8)}
    assert len(seen) == 5 * -(-len(trials) // 5)  # steps × populations: every trial takes all steps
    first = [step for step in seen if len(step[0]) == 5][:5]
    for i, (arm, peak) in enumerate(trials[:5]):
        allowed = {
            bytes(w.tolist()) for w in prepared.train[np.isin(prepared.owner, prepared.picked[arm])].to(torch.uint8)
        }
        for x, y, _ in first:
            for window, target in zip(x[i], y[i], strict=True):
                assert torch.equal(window[1:], target[:-1])
                assert bytes([*window.tolist(), int(target[-1])]) in allowed
        np.testing.assert_allclose([lr[i] for _, _, lr in first], p.rates(peak, 5), rtol=1e-6)


def test_rates_warm_up_and_decay_to_a_tenth():
    table = p.rates(0.02, 1000)
    assert table.max() <= 0.02
    assert table[0] == pytest.approx(0.02 / 100)
    assert table[99] == pytest.approx(0.02, rel=0.03)
    assert table[-1] == pytest.approx(0.002, rel=0.01)
    assert (np.diff(table[100:]) < 0).all()


def test_a_diverged_run_never_wins(prepared):
    class Diverged:
        def evaluate(self, x, y, batch_size):
            return Scores(torch.tensor([1.0, torch.nan]), torch.ones(2))

    scores = p.score(prepared, [Diverged()], "test")
    assert np.isfinite(scores.loc[0]).all()
    assert np.isposinf(scores.loc[1]).all()
    assert scores.loc[0, "code"] == pytest.approx(1 / np.log(2))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"methods": ["full", "random"]}, "methods: must hold"),
        ({"ratios": [0.0625]}, "ratios: must lie in"),
        ({"ratios": [1.5]}, "ratios: must lie in"),
        ({"document_bytes": 16}, "document_bytes: must be more than context"),
        ({"features": "words"}, "features"),
        ({"sedes": 3}, "sedes"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        p.Config(**changes)

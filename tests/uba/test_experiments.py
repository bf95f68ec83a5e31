"""The vision and language experiments, small: right data, right runs, right records."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from replication import evidence
from replication.data import DataNotFound
from replication.evidence.samples import samples
from replication.uba import uba
from replication.uba.experiments import language, vision
from replication.uba.experiments.protocol import Trial

TINY = {
    "budgets": [0.5, 1.0], "phis": [0.5, 2.0, 5.0], "mlp_hidden": [8], "mlp_steps": 4, "mlp_seeds": 2,
    "mlp_tuning_seeds": 1, "mlp_peaks_sgd": [0.05, 0.1], "mlp_peaks_adamw": [0.01, 0.02], "resnet8_steps": 4,
    "resnet8_seeds": 2, "resnet8_tuning_seeds": 1, "resnet8_peaks_sgd": [0.1],
}  # fmt: skip


@pytest.fixture(scope="module")
def records():
    return evidence.gather(vision, vision.Config(**TINY))


def test_records_hold_every_cell(records):
    errors = records[(records["quantity"] == "test_error") & (records["view"] == "fixed")]
    cells = errors.groupby(["model", "optimizer", "budget"])["schedule"].nunique()
    assert set(cells.index) == {
        (m, o, b) for m, o in (("mlp", "sgd"), ("mlp", "adamw"), ("resnet8", "sgd")) for b in (0.5, 1.0)
    }
    assert (cells == 4 + 6 + 2).all()  # UBA at the fixed φ, at the best φ, and twice for its mean rate
    assert errors["value"].between(0, 100).all()
    assert (records["quantity"] == "overhead_percent").sum() == 20


@pytest.mark.parametrize("test", evidence.load_claims("uba").at("11_uba_vision", "smoke"), ids=lambda test: test.id)
def test_records_hold_what_each_vision_test_needs(records, test):
    """Every column, level and arm is there, so that only the number of seeds is missing from an answer."""
    found = samples(records, test)
    assert found
    assert not any(sample.note for sample in found)
    tuned = getattr(test, "tuned", None)
    assert all(tuned is None or sample.tuning is not None for sample in found)


def test_same_configuration_gives_the_same_records(records):
    again = evidence.gather(vision, vision.Config(**TINY))
    stable = records["quantity"] != "overhead_percent"
    assert records[stable].equals(again[stable])


def test_population_size_does_not_change_the_comparison(records):
    """Trials are trained in chunks; where a chunk ends must not matter beyond rounding."""
    config = vision.Config(**TINY)
    split = vision.load(config)
    trials = [Trial("linear", None, 0.05 * (i + 1), i % 2) for i in range(5)]
    whole = vision.train(config, split, "mlp", "sgd", trials, 4, "test")
    chunked = vision.train(config.model_copy(update={"mlp_replicas": 2}), split, "mlp", "sgd", trials, 4, "test")
    np.testing.assert_allclose(whole, chunked, atol=0.3)


def test_digits_split_is_disjoint_and_noise_stays_in_training():
    clean, noisy = (vision.load(vision.Config(label_noise=noise)) for noise in (0.0, 0.2))
    assert [len(part[1]) for part in (clean.train, clean.validation, clean.test)] == [1000, 300, 497]
    for part in ("validation", "test"):
        assert torch.equal(getattr(clean, part)[1], getattr(noisy, part)[1])
    changed = (clean.train[1] != noisy.train[1]).float().mean()
    assert 0.14 < changed < 0.22  # a tenth of the 20 % noisy labels falls on the right class
    rows = torch.cat([part[0].flatten(1) for part in (clean.train, clean.validation, clean.test)])
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert abs(float(clean.train[0].mean())) < 1e-4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"phi_sgd": 3.0}, "phi_sgd"),
        ({"budgets": [0.5, 1.5]}, "budgets"),
        ({"label_noise": 1.0}, "label_noise"),
        ({"models": ["vgg"]}, "models"),
        ({"mlp_seeds": 0}, "mlp_seeds"),
        ({"sedes": 3}, "sedes"),
    ],
)
def test_bad_vision_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        vision.Config(**changes)


def test_validation_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="validation: 1300 images"):
        vision.load(vision.Config(validation=1300))


def test_cifar10_without_data_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path))
    with pytest.raises(DataNotFound):
        vision.load(vision.Config(dataset="cifar10"))


@pytest.mark.skipif("REPLICATION_DATA" not in os.environ, reason="REPLICATION_DATA is not set")
def test_the_same_code_runs_on_a_slice_of_cifar10():
    """The standard profile's data through the same functions: 2,000 training images, both networks."""
    config = vision.Config(
        **TINY | {"dataset": "cifar10", "limit": 2000, "validation": 400, "budgets": [1.0], "mlp_optimizers": ["sgd"]}
    )
    split = vision.load(config)
    assert split.train[0].shape == (1600, 3, 32, 32)
    assert "CIFAR-10" in split.name
    records = evidence.gather(vision, config)
    assert set(records["model"].dropna()) == {"mlp", "resnet8"}
    assert records.loc[records["quantity"] == "test_error", "value"].between(0, 100).all()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for domain in ("code", "prose"):
        (tmp_path / domain).mkdir()
        for i in range(60):
            words = rng.integers(0, 500, size=120)
            (tmp_path / domain / f"{i}.txt").write_text(f"{domain} {i} " + " ".join(f"w{w}" for w in words))
    return tmp_path


def test_language_runs_on_a_folder_of_ones_own(folder):
    config = language.Config(
        text=str(folder), width=8, context=16, batch_size=4, steps=4, budgets=[0.5, 1.0], held_out_bytes=2000,
        seeds=2, phis=[0.5, 2.0], peaks=[0.01],
    )  # fmt: skip
    records = evidence.gather(language, config)
    scores = records[(records["quantity"] == "test_bits_per_byte") & (records["view"] == "fixed")]
    assert (scores.groupby("budget")["schedule"].nunique() == 10).all()
    assert scores["value"].between(3, 9).all()
    for test in evidence.load_claims("uba").at("12_uba_language", "smoke"):
        found = samples(records, test)
        assert found, test.id
        assert not any(sample.note for sample in found), test.id
    best = scores.groupby(["budget", "schedule"])["value"].mean().groupby("budget").min()
    bits = language.table_bits(language.load(config))
    for name in ("unigram", "bigram"):
        over = records[records["quantity"] == f"bits_over_{name}"].groupby("budget")["value"]
        assert (over.size() == config.seeds).all()
        np.testing.assert_allclose(over.mean(), best - bits[name])


def test_tables_are_counted_on_the_training_bytes():
    """Two bytes that take turns: a unigram table needs one bit, a bigram table next to none, up to the added counts."""
    turns = torch.tensor([[0, 1] * 8 + [0]] * 4000)
    text = language.Text(turns, turns[:2], turns[:3], "")
    bits = language.table_bits(text)
    assert bits["unigram"] == pytest.approx(1, abs=0.01)
    assert bits["bigram"] == pytest.approx(-np.log2(32001 / 32256), rel=1e-9)
    strange = language.Text(turns, turns[:2], torch.full((1, 17), 7), "")
    assert language.table_bits(strange)["bigram"] == pytest.approx(8)  # a row without counts knows nothing


def test_language_splits_share_no_document(folder):
    text = language.load(language.Config(text=str(folder), width=8, context=16, held_out_bytes=2000))
    assert text.validation.shape == text.test.shape == (118, 17)

    # documents begin with their domain and number: no held-out beginning is found in training
    def beginnings(windows):
        decoded = (bytes(w.tolist()) for w in windows.to(torch.uint8))
        return {w for w in decoded if w.startswith((b"code ", b"prose "))}

    train, validation, test = map(beginnings, (text.train, text.validation, text.test))
    assert train
    assert validation
    assert test
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"phi": 3.0}, "phi"), ({"budgets": [0.0]}, "budgets"), ({"held_out_bytes": 40}, "held_out_bytes")],
)
def test_bad_language_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        language.Config(**changes)


def test_too_little_text_is_refused(folder):
    with pytest.raises(ValueError, match=r"text: .* bytes are too few"):
        language.load(language.Config(text=str(folder), held_out_bytes=10**6))


def test_overhead_leaves_each_scheduler_to_itself(monkeypatch):
    """On a shared optimiser UBALR would find the other's rate and take its slower path: not what is asked."""
    seen = []
    original = vision.UBALR.step
    monkeypatch.setattr(vision.UBALR, "step", lambda self: (original(self), seen.append(self.get_last_lr()[0])))
    config = vision.Config(**TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = vision.overhead(config, config.models[0], repeats=2, steps=5)
    assert len(rows) == 2
    assert seen[-10:] == [uba(t, 10, 5.0, peak=0.01) for t in range(1, 11)]

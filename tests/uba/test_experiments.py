"""The vision and language experiments, small: right data, right runs, right records."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from replication import evidence
from replication.data import DataNotFound
from replication.evidence.samples import samples
from replication.uba import uba
from replication.uba.experiments import language, vision
from replication.uba.experiments.protocol import Trial

ROOT = Path(__file__).parents[2]
TINY = {
    "budgets": [2.0, 8.0], "hidden": [8], "batch_size": 250, "seeds": 2, "other_seeds": 2, "tuning_seeds": 2,
    "sgd_peaks": [0.05, 0.1], "widenings": 0, "adamw_budgets": [2.0], "adamw_peaks": [0.01, 0.02], "adamw_seeds": 2,
    "block": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def records():
    return evidence.gather(vision, vision.Config(**TINY))


def test_records_hold_every_cell(records):
    errors = records[records["quantity"] == "test_error"]
    cells = errors.groupby(["optimizer", "budget"])["schedule"].unique()
    config = vision.Config(**TINY)
    assert set(cells.index) == {("sgd", 2.0), ("sgd", 8.0), ("adamw", 2.0)}
    picked = {"best φ", "best shape"}
    assert set(cells["sgd", 2.0]) == {*config.schedules, *picked, "best power", "mean rate of cosine"}
    assert set(cells["adamw", 2.0]) == {*config.adamw_schedules, *picked}
    assert (errors.groupby(["optimizer", "budget", "schedule"])["seed"].nunique() == 2).all()
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


@pytest.mark.parametrize("notebook", ["11_uba_vision", "12_uba_language"])
def test_the_standard_profile_has_the_schedules_that_its_tests_ask_for(notebook):
    module = vision if "vision" in notebook else language
    profile = yaml.safe_load((ROOT / "notebooks/profiles/standard" / f"{notebook}.yaml").read_text(encoding="utf-8"))
    config = module.Config(**{name: value for name, value in profile.items() if name != "profile"})
    have = {*config.schedules, "best φ", "best shape"}
    for test in evidence.load_claims("uba").at(notebook, "standard"):
        asked = {test.ours, *test.baselines} if getattr(test, "ours", None) else set()
        assert asked <= have, test.id
        if (
            test.quantity in ("test_error", "test_bits_per_byte", "phi_regret")
            and test.where.get("optimizer") != "adamw"
        ):
            contrasts = asked <= {*config.replicated, "best φ"}
            assert test.min_seeds <= (config.seeds if contrasts else config.other_seeds), test.id
        if "budget" in test.where:
            assert test.where["budget"] == max(config.budgets)


def test_same_configuration_gives_the_same_records(records):
    again = evidence.gather(vision, vision.Config(**TINY))
    stable = records["quantity"] != "overhead_percent"
    assert records[stable].equals(again[stable])


def test_the_company_of_a_trial_does_not_change_its_score():
    config = vision.Config(**TINY)
    trials = [Trial("linear", 0.05 * (i + 1), i % 2) for i in range(3)]
    whole = vision.train(config, "sgd", 2.0, trials)
    alone = np.concatenate([vision.train(config, "sgd", 2.0, [trial]) for trial in trials])
    np.testing.assert_allclose(whole, alone, atol=0.4)


def test_images_are_averaged_to_bytes():
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    half = vision.averaged(images, 2)
    assert half.dtype == np.uint8
    assert half[1, 2, 1, 0] == round(images[1, 2, 2:, :2].mean())
    assert vision.averaged(images, 0) is images
    with pytest.raises(ValueError, match="side: must divide"):
        vision.averaged(images, 3)


def test_digits_split_is_disjoint_and_noise_stays_in_training():
    clean, noisy = (vision.load(vision.Config(label_noise=noise)) for noise in (0.0, 0.2))
    assert [len(part[1]) for part in (clean.train, clean.validation, clean.test)] == [1000, 300, 497]
    for part in ("validation", "test"):
        assert torch.equal(getattr(clean, part)[1], getattr(noisy, part)[1])
    changed = (clean.train[1] != noisy.train[1]).float().mean()
    assert 0.14 < changed < 0.22  # a tenth of the 20 % noisy labels falls on the right class
    assert clean.train[0].dtype == torch.uint8
    training = (clean.train[0].float() / 255 - clean.mean) / clean.std
    assert abs(float(training.mean())) < 1e-4
    rows = torch.cat([part.flatten(1) for part in (training, clean.validation[0], clean.test[0])])
    assert len(torch.unique(rows, dim=0)) == len(rows)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schedules": ["uba 2"]}, "schedules"),
        ({"replicated": ["rex"]}, "replicated"),
        ({"schedules": ["uba 0.5", "cosine", "linear"]}, "replicated"),
        ({"adamw_schedules": ["rex"]}, "adamw_schedules: must be among the schedules, got rex"),
        ({"budgets": [0.0]}, "budgets"),
        ({"label_noise": 1.0}, "label_noise"),
        ({"model": "vgg"}, "model"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": 1001}, "seeds"),
        ({"other_seeds": 1001}, "other_seeds"),
        ({"adamw_seeds": 1001}, "adamw_seeds"),
        ({"sgd_peaks": [0.2, 0.1]}, "sgd_peaks: must increase by a constant factor"),
        ({"adamw_peaks": [0.1, 0.2, 0.3]}, "adamw_peaks: must increase by a constant factor"),
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
    """The standard profile's data and network through the same functions: 1,600 training images at 16 pixels."""
    config = vision.Config(
        dataset="cifar10", limit=2000, validation=400, side=16, flip=True, shift=2, model="resnet8", batch_size=128
    )
    split = vision.load(config)
    assert split.train[0].shape == (1600, 3, 16, 16)
    assert split.train[0].dtype == torch.uint8
    assert "CIFAR-10" in split.name
    errors = vision.train(config, "sgd", 1.0, [Trial("uba 5", 0.05, 0), Trial("linear", 0.05, 0)])
    assert errors.shape == (2, 2)
    assert ((errors > 40) & (errors < 95)).all()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for domain in ("code", "prose"):
        (tmp_path / domain).mkdir()
        for i in range(60):
            words = rng.integers(0, 500, size=120)
            (tmp_path / domain / f"{i}.txt").write_text(f"{domain} {i} " + " ".join(f"w{w}" for w in words))
    return tmp_path


@pytest.mark.slow  # trains transformers
def test_language_runs_on_a_folder_of_ones_own(folder):
    config = language.Config(
        text=str(folder), width=8, context=16, batch_size=4, budgets=[300], held_out_bytes=2000, peaks=[0.01, 0.02],
        widenings=0, seeds=2, other_seeds=2, block=2,
    )  # fmt: skip
    records = evidence.gather(language, config)
    scores = records[records["quantity"] == "test_bits_per_byte"]
    assert set(scores["schedule"]) == {*config.schedules, "best φ", "best shape"}
    assert scores["value"].between(1, 8).all()
    for test in evidence.load_claims("uba").at("12_uba_language", "smoke"):
        found = samples(records, test)
        assert found, test.id
        assert not any(sample.note for sample in found), test.id
    bits = language.table_bits(language.load(config))
    best = scores[scores["schedule"] == "best shape"]["value"]
    for name in ("unigram", "bigram"):
        over = records[records["quantity"] == f"bits_over_{name}"]["value"]
        np.testing.assert_allclose(over, best - bits[name])


def test_a_text_that_is_edited_is_read_anew(folder):
    config = language.Config(text=str(folder), context=16, held_out_bytes=2000)
    before = language.load(config)
    assert language.load(config) is before
    file = next(folder.rglob("*.txt"))
    file.write_text(file.read_text() + " and more")
    after = language.load(config)
    assert {"text": after.checksum} == language.inputs(config) != {"text": before.checksum}


def test_a_diverged_language_model_counts_as_one_that_knows_nothing(folder):
    config = language.Config(text=str(folder), width=8, context=16, batch_size=4, held_out_bytes=2000)
    bits = language.train(config, 20, [Trial("constant", 1e6, 0), Trial("constant", 0.01, 0)])
    assert (bits[0] == language.IGNORANT).all()
    assert (bits[1] < language.IGNORANT).all()


def test_tables_are_counted_on_the_training_bytes():
    """Two bytes that take turns: a unigram table needs one bit, a bigram table next to none, up to the added counts."""
    turns = torch.tensor([[0, 1] * 8 + [0]] * 4000)
    text = language.Text(turns, turns[:2], turns[:3], "", (1, 1, 1))
    bits = language.table_bits(text)
    assert bits["unigram"] == pytest.approx(1, abs=0.01)
    assert bits["bigram"] == pytest.approx(-np.log2(32001 / 32256), rel=1e-9)
    strange = language.Text(turns, turns[:2], torch.full((1, 17), 7), "", (1, 1, 1))
    assert language.table_bits(strange)["bigram"] == pytest.approx(8)  # a row without counts knows nothing


def test_language_splits_share_no_document(folder):
    text = language.load(language.Config(text=str(folder), width=8, context=16, held_out_bytes=2000))
    assert all(2000 <= part.numel() < 4000 for part in (text.validation, text.test))
    assert sum(text.documents) == 120

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
    # every domain is held out
    assert {start[:4] for start in validation} == {start[:4] for start in test} == {b"code", b"pros"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schedules": ["uba"]}, "schedules"),
        ({"budgets": [0]}, "budgets"),
        ({"budgets": [300, 1]}, "budgets: must leave two steps after warm-up, got 1"),
        ({"budgets": [2], "warmup": 0.3}, "budgets: must leave two steps after warm-up, got 2"),
        ({"held_out_bytes": 31}, "held_out_bytes"),
        ({"seeds": 1001}, "seeds"),
        ({"other_seeds": 1001}, "other_seeds"),
        ({"peaks": [0.02, 0.01]}, "peaks: must increase by a constant factor"),
    ],
)
def test_bad_language_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        language.Config(**changes)


def test_too_little_text_is_refused(folder):
    with pytest.raises(ValueError, match=r"text: the 60 documents of 'code' are too few"):
        language.load(language.Config(text=str(folder), held_out_bytes=10**6))


def test_overhead_leaves_each_scheduler_to_itself(monkeypatch):
    """On a shared optimiser UBALR would find the other's rate and take its slower path: not what is asked."""
    seen = []
    original = vision.UBALR.step
    monkeypatch.setattr(vision.UBALR, "step", lambda self: (original(self), seen.append(self.get_last_lr()[0])))
    config = vision.Config(**TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = vision.overhead(config, repeats=2, steps=5)
    assert len(rows) == 2
    assert seen[-10:] == [uba(t, 10, 5.0, peak=0.01) for t in range(1, 11)]

"""The images experiment, small: right data, every record there, paired, and colour images through the same path."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from replication import evidence
from replication.adcm import figures_images
from replication.adcm.experiments import images, mixtures
from replication.adcm.schedules import VE
from replication.adcm.segmentation import Adaptive
from replication.evidence import evaluate, load_claims
from replication.evidence.samples import samples

PROFILES = Path(__file__).parents[2] / "notebooks" / "profiles"
TINY = {
    "widths": [4, 4], "images": 64, "pretraining_images": 64, "batch_size": 8, "seeds": 2,
    "rates": [1e-3, 2e-3], "segmentations": 2, "nodes": 3, "segment_batch": 8, "samples": 100,
    "feature_width": 2, "feature_steps": 5, "shown": 2, "timings": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def both():
    """Digits, and a few random images of CIFAR-10's shape through the standard profile's network, narrow."""
    text = (PROFILES / "standard" / "22_adcm_images.yaml").read_text(encoding="utf-8")
    standard = {name: value for name, value in yaml.safe_load(text).items() if name != "profile"}
    images.Config(**standard)
    small = {"cifar_widths": [4, 4, 4], "cifar_images": 64, "cifar_pretraining_images": 8, "cifar_seeds": 2}
    config = images.Config(**(standard | TINY | small | {"replicas": 2, "widenings": 0}))
    load, rng = images.load, np.random.default_rng(0)
    pixels, labels = rng.random((160, 3, 16, 16), dtype=np.float32), rng.integers(0, 10, 160)
    noise = images.prepare(pixels, labels, 60, "noise", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "load", lambda config, dataset: load(config, dataset) if dataset == "digits" else noise)
        patch.setattr(images, "inputs", lambda config: dict.fromkeys(config.datasets, "here"))
        return evidence.gather(images, config)


@pytest.fixture(scope="module")
def records(both):
    return both[(both["dataset"] == "digits") | both["dataset"].isna()]


def test_colour_images_are_scored_too(both):
    own = both[both["dataset"] == "cifar10"]
    assert set(of(own, "log_frechet", share=1.0)["method"]) == {"adcm-wt", "log-wt", "ecm2", "training images"}
    assert of(own, "frechet", share=1.0)["value"].gt(0).all()
    assert len(of(own, "pixel", method="adcm-wt")) == 2 * 3 * 16 * 16


def of(records, quantity, **levels):
    rows = records[records["quantity"] == quantity]
    for column, level in levels.items():
        rows = rows[rows[column] == level]
    return rows


def test_every_method_is_scored_at_every_share_and_seed(records):
    for quantity in ("frechet", "log_frechet", "energy"):
        rows = of(records, quantity)
        rows = rows[rows["method"].isin(images.METHODS)]
        counted = rows.groupby(["method", "sampling_steps", "share"]).size()
        assert (counted == 2).all()
        assert {key[1:] for key in counted.index} == {(1, 0.25), (1, 0.5), (1, 1.0), (2, 1.0)}
        assert set(counted.index.get_level_values("method")) == set(images.METHODS)
    np.testing.assert_allclose(
        np.exp(of(records, "log_frechet")["value"].to_numpy()), of(records, "frechet")["value"].to_numpy()
    )
    assert set(of(records, "memorised_share")["method"]) == {*images.METHODS, "held-out images"}
    assert of(records, "memorised_share", method="held-out images")["value"].item() == pytest.approx(0.01, abs=0.005)


def test_the_chosen_rate_is_the_best_of_the_tuning_seed(records):
    scores, chosen = of(records, "tuning_score"), of(records, "chosen_rate").set_index("method")["value"]
    for method in images.METHODS:
        own = scores[scores["method"] == method].set_index("lr")["value"]
        assert sorted(own.index) == TINY["rates"]
        assert chosen[method] == own.idxmin()


def test_quarter_against_full_is_adcm_early_minus_ecm_late(records):
    for seed in range(2):
        rows = of(records, "log_frechet", seed=seed, sampling_steps=1).set_index(["method", "share"])["value"]
        for method in ("adcm-sample", "adcm-wt"):
            found = of(records, "quarter_against_full", seed=seed, method=method)["value"].item()
            assert found == pytest.approx(rows[method, 0.25] - rows["ecm2", 1.0])


def test_the_quarter_is_the_one_that_mixtures_asks_about(records, monkeypatch):
    assert images.QUARTER is mixtures.QUARTER
    monkeypatch.setattr(images, "QUARTER", 0.5)
    rows = images.derived(images.Config(), records, "digits")
    found = {(row["method"], row["seed"]): row["value"] for row in rows if row["quantity"] == "quarter_against_full"}
    scores = of(records, "log_frechet", sampling_steps=1).set_index(["method", "share", "seed"])["value"]
    for (method, seed), value in found.items():
        assert value == scores[method, 0.5, seed] - scores["ecm2", 1.0, seed]
    assert len(found) == 4
    with pytest.raises(ValidationError, match=r"shares: must ascend to 1 and hold 0\.5"):
        images.Config(shares=[0.25, 1.0])


def test_the_gate_is_the_distance_over_that_of_training_images(records):
    floor = of(records, "frechet", method="training images")["value"].item()
    assert len(of(records, "log_floor_ratio")) == 2 * len(images.METHODS)
    for method in images.METHODS:
        own = of(records, "frechet", method=method, share=1.0, sampling_steps=1).sort_values("seed")["value"]
        found = of(records, "log_floor_ratio", method=method).sort_values("seed")["value"]
        np.testing.assert_allclose(np.exp(found), own / floor)


def test_the_control_grids_spread_is_noise(records):
    """The exact grid is logarithmic: with many samples of each estimate nothing is left of the spread."""
    assert sorted(of(records, "log_step_spread", method="gaussian")["seed"]) == [0, 1]
    spreads = [
        [row["value"] for row in images.control_grids(images.Config(segment_batch=batch, nodes=6), "digits", 2)]
        for batch in (4, 2000)
    ]
    assert max(spreads[1]) < 0.05 < min(spreads[0])
    assert images.spread(torch.tensor([1.0, 10.0, 20.0, 60.0, 200.0])) == pytest.approx(math.log(0.9 / 0.5))


def test_grid_and_weight_are_the_rules(records):
    study = object.__new__(images.Study)
    study.config, study.schedule = images.Config(**TINY), VE(sigma_data=0.5, t_max=10.0)
    names = {"per_sample": "per sample", "w_t": "w(t)", "inverse_step": "1/Δt"}
    for method in images.METHODS:
        rule, weight = study.rule(method, 10)
        label = images.DESIGN[method]
        assert label["weight"] == names[weight]
        assert (label["grid"] == "adaptive") == isinstance(rule, Adaptive)
        assert {(row.grid, row.weight) for row in of(records, "log_frechet", method=method).itertuples()} == {
            (label["grid"], label["weight"])
        }


def test_the_overhead_is_the_formula_of_its_parts(records):
    segments = of(records, "segments")["value"].mean()
    for repeat in range(2):
        estimate, step = (of(records, part, seed=repeat)["value"].item() for part in ("estimate_ms", "step_ms"))
        expected = 100 * segments * estimate / (25_000 * step)
        assert of(records, "overhead_paper", seed=repeat)["value"].item() == pytest.approx(expected)
        assert of(records, "difference_ms", seed=repeat)["value"].item() > 0


def test_the_curves_are_the_rules(records):
    """Δt/t of the fixed rules at the end: kappa for the log grid, n(t)/256 for ECM's q = 256."""
    curve = of(records, "relative_step", method="log-wt", share=1.0)
    assert len(curve) == 48
    inside = curve[curve["t"] > 0.01]["value"]
    np.testing.assert_allclose(inside, 0.01 / 1.01, rtol=1e-6)
    curve = of(records, "relative_step", method="ecm256-wt", share=1.0)
    np.testing.assert_allclose(curve["value"], (1 + 8 / (1 + np.exp(curve["t"]))) / 256, rtol=1e-6)
    late = of(records, "relative_step", method="ecm2", share=1.0)["value"]
    assert late.max() < of(records, "relative_step", method="ecm2", share=0.25)["value"].min()


def test_every_test_finds_its_records(both):
    claims, notebook = load_claims("adcm"), "22_adcm_images"
    for test in claims.at(notebook, "standard"):
        found = samples(both, test)
        assert found, test.id
        each = 1 if test.exact else 2
        assert all(len(sample.numbers) == each and not sample.note for sample in found), test.id
    answers = {one.test_id: one.answer for one in evaluate(both, claims, notebook, "standard")}
    # of two rates the best is an end
    inside = ("G-inside-images", "G-inside-images-sample", "G-inside-cifar")
    assert [answers.pop(gate) for gate in inside] == ["no"] * 3
    # two seeds are too few, and a gate that is open makes what it guards blind
    gated = {test.id for test in claims.at(notebook, "standard") if test.gates}
    assert answers == {test_id: "blind" if test_id in gated else "open" for test_id in answers}
    # a few dozen steps make no images: at smoke nothing is asked
    assert not claims.at(notebook, "smoke")
    # FIDs are of the paper's scale
    assert all(one.answer == "not run" for one in evaluate(both, claims, notebook, "paper"))


def test_every_figure_is_drawn(both):
    for dataset in images.trained(both):
        records = figures_images.of(both, dataset)
        for draw in ("samples", "steps", "closeness", "tuning"):
            figure = getattr(figures_images, draw)(records)
            assert all(axis.has_data() for axis in figure.axes)
            plt.close(figure)
    for draw in (figures_images.quality, figures_images.differences):
        figure = draw(both)
        assert [axis.get_title() for axis in figure.axes] == list(figures_images.DATASETS.values())
        plt.close(figure)
    records = figures_images.of(both, "digits")
    assert [row[0] for row in figures_images.scores(records).rows][1:-1] == [
        figures_images.NAMES[m] for m in images.METHODS
    ]
    assert len(figures_images.grids(records).rows) == 4  # two methods, two segmentations


def test_draws_are_common_to_the_methods_of_a_seed_and_shares_continue_one_run():
    config = images.Config(**TINY)
    study = images.Study(config, "digits", images.load(config, "digits"))
    trials = [images.Trial(method, 1e-3, seed) for seed in (0, 1) for method in ("ecm256-wt", "log-wt")]
    first = [t.parameters["stem.weight"].clone() for _, _, t in study.train(trials, [1.0])]
    again = [t.parameters["stem.weight"].clone() for _, _, t in study.train(trials, [0.25, 0.5, 1.0])]
    torch.testing.assert_close(first[-1], again[-1], rtol=0, atol=0)
    alone = [t.parameters["stem.weight"].clone() for _, _, t in study.train(trials[2:3], [1.0])]
    torch.testing.assert_close(first[-1][2], alone[-1][0], rtol=1e-3, atol=1e-5)
    drawn = study.draw(lambda x, t: x, [0, 1, 0])
    torch.testing.assert_close(drawn[0], drawn[2], rtol=0, atol=0)
    assert not torch.allclose(drawn[0], drawn[1])
    assert float(drawn.std()) == pytest.approx(config.t_max, rel=0.05)


def test_a_diverged_run_scores_infinity():
    config = images.Config(**TINY)
    study = images.Study(config, "digits", images.load(config, "digits"))
    broken = torch.full((100, 1, 8, 8), math.nan)
    assert study.frechet(broken) == study.energy(broken) == math.inf


def test_digits_are_scaled_and_split_without_overlap():
    found = images.load(images.Config(), "digits")
    assert (len(found.train[0]), len(found.held_out[0])) == (1297, 500)
    assert float(found.train[0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(found.train[0].std()) == pytest.approx(0.5, abs=1e-3)
    both = torch.cat([found.train[0], found.held_out[0]]).flatten(1)
    assert len(torch.unique(both, dim=0)) == len(both)
    pixels = found.pixels(found.train[0])
    assert 0 <= float(pixels.min()) < float(pixels.max()) <= 1
    torch.testing.assert_close((pixels * 16).round() / 16, pixels, atol=1e-5, rtol=0)


def test_a_data_set_that_is_not_here_is_named_and_its_parts_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path))
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path))
    config = images.Config(datasets=["digits", "cifar10"])
    assert list(images.missing(config)) == ["cifar10"]
    assert "download_cifar10" in images.missing(config)["cifar10"]
    assert list(images.inputs(config)) == ["digits"]
    assert not [part.name for part in images.parts(config) if "cifar" in part.name]


def test_more_seeds_leave_the_parts_of_the_others_as_they_are():
    few, many = (images.parts(images.Config(seeds=seeds)) for seeds in (2, 3))
    same = {part.name: (part.settings, part.cell) for part in many if part.name.startswith(("tuning", "digits, seed"))}
    assert len(same) == 6 + 3
    for part in few:
        if part.name in same:
            assert (part.settings, part.cell) == same[part.name]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shares": [0.5, 1.0]}, "shares"),
        ({"shares": [0.25, 0.5]}, "shares"),
        ({"shares": []}, "shares: must"),
        ({"images": 100}, "images"),
        ({"lam": 0.0}, "lam"),
        ({"widths": []}, "widths"),
        ({"datasets": ["mnist"]}, "datasets"),
        ({"methods": ["sct"]}, "methods"),
        ({"sedes": 3}, "sedes"),
    ],
)
def test_bad_parameters_are_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        images.Config(**changes)


def test_methods_have_names():
    assert set(images.METHODS) == set(figures_images.METHODS) == set(images.DESIGN)

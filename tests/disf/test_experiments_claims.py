"""Claims, figures and profiles of DiSF fit together: every claim finds its rows, and every figure draws."""

from __future__ import annotations

import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

from replication import evidence
from replication.disf import figures
from replication.disf.experiments import collapse, cost, pretraining
from replication.disf.experiments.material import TARGETED
from replication.evidence import load_claims, tidy
from replication.evidence.samples import samples
from replication.evidence.verdicts import answer

CLAIMS = load_claims("disf")
CONFIGS = {"30_disf_collapse": collapse.Config, "31_disf_pretraining": pretraining.Config, "32_disf_cost": cost.Config}


def test_every_number_of_the_specification_is_asked_at_smoke_or_says_where():
    asked = [test for test in CLAIMS.tests if test.role != "gate"]
    numbers = {int(re.match(r"D(\d+)", test.id)[1]) for test in asked}
    # D10 and half of D8 and D13 are times and memory
    assert numbers == set(range(1, 14)) - {10}
    smoke = {int(re.match(r"D(\d+)", test.id)[1]) for test in asked if test.scale == "smoke"}
    # six arms and the sweeps are trained at standard only
    assert smoke == numbers - {4, 6, 7}
    assert set(CLAIMS.notebooks) == set(CONFIGS)


def test_unread_parts_of_the_paper_stay_second_hand():
    for claim in CLAIMS.claims:
        if "reviews" in claim.source:
            assert claim.read == "second-hand", claim.id
    assert not any(test.comparison == "value" for test in CLAIMS.tests)


def test_timings_and_memory_are_volatile_and_nothing_else():
    assert set(CLAIMS.volatile) == {"least_cost_ratio", "speed_ratio", "memory_growth"}


@pytest.fixture(scope="module")
def records():
    """Made-up records with the columns of the experiments: DiSF a little better than everything, twice as fast."""
    rng = np.random.default_rng(0)
    rows = []

    def add(quantity, value, **factors):
        rows.append({"quantity": quantity, "value": float(value + 0.001 * rng.standard_normal()), **factors})

    for seed in range(12):
        for a in ("tfidf", "bytes"):
            for b in ("tfidf", "bytes"):
                for method in ("random", "disf", "d4", "dsir", "top cosine", "classifier"):
                    for target in ("prose", "code") if method in TARGETED else ("none",):
                        where = {"measured_on": b, "selected_on": a, "method": method, "target": target, "seed": seed}
                        where["view"] = "own" if a == b else "other"
                        level = {"random": 0.3, "disf": 0.2}.get(method, 0.4)
                        for k in (10, 20):
                            add("dominance", level + k / 100, k=k, **where)
                        add("effective_rank", 90 - 100 * level, **where)
                        if method in TARGETED:
                            for metric in ("dominance", "effective rank"):
                                add("collapse", 9, metric=metric, **where)
        for data in ("documents", "Gaussian"):
            add("second_pick_spread", 3, data=data, seed=seed)
            for rule in ("authors", "random", "farthest"):
                add("second_pick_rank", 0.5, data=data, rule=rule, seed=seed)
        for rule in ("authors", "random", "farthest"):
            rows.append({"quantity": "duplicate_deviation", "rule": rule, "seed": seed, "value": 0.0})
        for quantity in ("pick_mismatches", "score_error", "cost_pick_mismatches", "worker_mismatches"):
            rows.append({"quantity": quantity, "seed": seed, "value": 0.0})
        for order, level in (("greedy", -10), ("random", -20)):
            for size in (2, 4):
                add("objective", level / size, order=order, size=size, seed=seed)
    for seed in range(24):
        arms = ("full", "random", "disf", "dsir", "top cosine", "d4", "many targets", "within", "matched", "domain")
        for method in arms:
            where = {"method": method, "view": "main", "seed": seed, "ratio": 0.125, "batch_size": 1024}
            for quantity in ("macro", "macro_without", "worst", "target"):
                own = quantity == "target" and method == "domain"
                level = 3 if own else {"disf": 4, "within": 4, "random": 5.5, "full": 4.9}.get(method, 5)
                add(f"{quantity}_bits_per_byte", level, **where)
            add("passes", 3, **where)
            for domain in ("code", "prose"):
                add("domain_share", 0.5, domain=domain, **where)
                add("domain_bits_per_byte", 4, domain=domain, **where)
        for view, ratio, size, setting in (
            ("main", 0.125, 1024, "disf"),
            ("ratio", 0.25, 1024, "disf 0.25 of the pool"),
            ("batch size", 0.125, 128, "disf b = 128"),
            ("features", 0.125, 1024, "disf tfidf"),
        ):
            where = {"view": view, "seed": seed, "ratio": ratio, "batch_size": size}
            add("over_random", -1.5 - size / 1e4, method="disf", setting=setting, **where)
            add("gap_to_full", -0.9, method="disf", **where)
            if view in ("main", "ratio"):
                add("gap_to_full", 0.6, method="random", **where)
            add("passes", 1 / ratio, method="random", **where)
        for size, level in ((128, 4.2), (3072, 4)):
            add("macro_bits_per_byte", level, method="disf", view="batch size", seed=seed, batch_size=size)
        add("random_over_full", 0.6, seed=seed)
        add("bits_over_bigram", -1, seed=seed)
    for draw in range(600):
        add("share_of_gap", 2.5, draw=draw)
    for seed in range(12):
        for quantity, level in (("least_cost_ratio", 200), ("speed_ratio", 300), ("memory_growth", 1)):
            add(quantity, level, seed=seed)
        for n in (1024, 10240):
            add("peak_memory", 300, rows=n, seed=seed)
            add("cost_ratio", 200, rows=n, dimension=768, picks=16, seed=seed)
    for method in ("full", "random", "disf", "d4", "dsir"):
        rows.append({"quantity": "peak_on_edge", "method": method, "peak": 0.01, "value": 0.0})
        for peak in (0.01, 0.03):
            for seed in (1000, 1001):
                for quantity in ("tuning_score", "macro_at"):
                    add(quantity, 4 + peak, method=method, peak=peak, seed=seed, view="main")
        if method == "full":
            continue
        for rank in (1, 2, 3):
            add("eigenvalue", 5 - rank, method=method, target="none", rank=rank)
        if method != "dsir":
            for point in range(5):
                for axis in (1, 2):
                    add("pca", point, method=method, target="none", point=point, axis=axis)
    for sweep in ("rows", "dimension", "picks"):
        for factor in (1, 2):
            size = {"rows": 512, "dimension": 64, "picks": 8}
            size[sweep] *= factor
            for program in figures.PROGRAMS:
                add("seconds", factor, sweep=sweep, program=program, **size)
    return tidy(rows)


@pytest.mark.parametrize("test", CLAIMS.tests, ids=lambda test: f"{test.id}-{test.scale}")
def test_every_test_finds_its_rows_and_says_what_they_say(records, test):
    """Also those that only larger scales ask; nine tasks' accuracies exist nowhere yet."""
    outcome = answer(test, samples(records, test))
    if test.quantity == "mean_accuracy":
        assert outcome.answer == "not run"
        return
    assert outcome.answer == "yes", outcome.reason


def test_one_collapsed_method_less_shows_in_every_cell_and_not_in_the_mean(records):
    rows = (records["quantity"] == "collapse") & (records["method"] == "dsir") & (records["target"] == "code")
    broken = records.assign(value=records["value"].where(~rows, records["value"] - 8))
    said = {o.test_id: o.answer for o in evidence.evaluate(broken, CLAIMS, "30_disf_collapse", "smoke")}
    assert (said["D1"], said["D1-mean"]) == ("no", "yes")


def test_the_mechanism_is_not_asked_where_there_is_no_gain(records):
    ours = (records["method"] == "disf") & records["quantity"].isin(["macro_bits_per_byte", "over_random"])
    worse = records["value"].where(~ours, records["value"] + 3)
    of = {
        o.test_id: o for o in evidence.evaluate(records.assign(value=worse), CLAIMS, "31_disf_pretraining", "standard")
    }
    assert (of["D3"].answer, of["D6"].answer, of["D6"].blind) == ("no", "blind", ("disf-gains",))


@pytest.mark.parametrize(
    ("quantity", "value", "gate", "blind"),
    [
        (
            "bits_over_bigram",
            0.5,
            "beats-bigram",
            {"D3", "D3-methods", "D4", "D5", "D5-without", "D5-half", "D6", "D7"},
        ),
        ("random_over_full", 0.02, "data-matter", {"D3", "D3-without", "D5-half", "D7"}),
        ("peak_on_edge", 1.0, "inside", {"D3", "D3-without", "D5", "D5-without", "D5-half", "D7"}),
    ],
)
def test_what_a_gate_guards_is_not_asked_when_it_fails(records, quantity, value, gate, blind):
    """A model below the bigram table, data that do not matter, or peaks on an edge: the assay cannot see."""
    broken = records.assign(value=records["value"].where(records["quantity"] != quantity, value))
    of = {o.test_id: o for o in evidence.evaluate(broken, CLAIMS, "31_disf_pretraining", "standard")}
    for name in blind:
        assert (of[name].answer, gate in of[name].blind) == ("blind", True), name
    for name in {"D3", "D4", "D6"} - blind:
        assert of[name].answer == "yes", name


@pytest.mark.parametrize("scale", ["smoke", "standard"])
@pytest.mark.parametrize(("by", "said"), [(-0.1, "yes"), (0.0, "no"), (0.1, "no")])
def test_the_primary_contrast_follows_disf_and_a_tie_is_a_no(records, scale, by, said):
    rows = (records["quantity"] == "macro_bits_per_byte") & (records["method"] == "disf")
    random = records[(records["quantity"] == "macro_bits_per_byte") & (records["method"] == "random")]
    moved = records.assign(value=records["value"].where(~rows, random["value"].mean() + by))
    for name in ("macro_at", "tuning_score"):  # the same peaks and scores for all
        moved = moved[moved["quantity"] != name]
    test = CLAIMS.test("D3", scale).model_copy(update={"tuned": None})
    assert answer(test, samples(moved, test)).answer == said


DRAWN = {
    "dominance": figures.dominance,
    "separation": lambda records: figures.separation(records, threshold=2),
    "ranks": figures.ranks,
    "spectra": figures.spectra,
    "projection": figures.projection,
    "orders": figures.orders,
    "second_picks": figures.second_picks,
    "contrasts": lambda records: figures.contrasts(records, CLAIMS.test("D3", "standard"), "tables"),
    "levels": lambda records: figures.levels(records, "prose"),
    "mechanism": figures.mechanism,
    "domains": lambda records: figures.domains(records[records["method"] != "domain"]),
    "ratio_sweep": figures.ratio_sweep,
    "settings": lambda records: figures.settings(records, margin=0.01),
    "tuning": figures.tuning,
    "cost": figures.cost,
    "ratios": lambda records: figures.ratios(records, threshold=100),
    "memory": figures.memory,
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_draw_without_warnings_and_label_their_axes(records, name, monkeypatch):
    monkeypatch.setattr(plt, "get_backend", lambda: "agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = DRAWN[name](records)
        figure.canvas.draw()
    assert any(axis.get_xlabel() or axis.get_ylabel() or axis.get_title() for axis in figure.axes)
    plt.close(figure)


def test_the_key_figure_says_the_number_that_is_judged(records):
    test = CLAIMS.test("D3", "standard")
    judged = answer(test, samples(records, test))
    title = figures.contrasts(records, test, "tables").axes[0].get_title().replace("\n", " ")
    assert f"minus random: {evidence.rounded(judged.estimate, judged.low, judged.high)} bits" in title


def test_a_figure_says_what_it_lacks(records):
    with pytest.raises(ValueError, match="no rows of 'objective'"):
        figures.orders(records[records["quantity"] != "objective"])

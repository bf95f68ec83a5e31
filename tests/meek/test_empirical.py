"""The empirical part: cleaning of tables, planted checks, claims; against the published tables where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from meek_targets import printed

from replication import data, evidence
from replication.meek.benchmark import PAPER
from replication.meek.boards import first_new_bests, monthly_gap
from replication.meek.experiments import empirical
from replication.meek.experiments.empirical import Config
from replication.meek.law import HOFFMANN

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "meek_empirical.json").read_text(encoding="utf-8"))
CLAIMS = evidence.load_claims("meek").of("41_meek_empirical")
SMALL = Config(planted_boards=10, planted_models=60, planted_fits=100, random_bands=20, resamples=10)


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return empirical.run(SMALL, {})


def test_planted_claims_are_decided_and_the_others_are_not_attempted(planted):
    assert set(planted["origin"].dropna()) == {"planted"}
    verdicts = evidence.evaluate(planted, CLAIMS, "smoke")
    words = {verdict.claim_id: verdict.verdict for verdict in verdicts}
    methods = {"M7-method", "M7-method-closing", "M7-method-widening", "M3-method"}
    assert {name for name, word in words.items() if word == "reproduced"} == methods
    assert {word for name, word in words.items() if name not in methods} == {"not attempted"}
    for claim in CLAIMS:
        if claim.id in methods:
            assert evidence.flips(claim, planted, "smoke")


def test_without_tables_nothing_is_attempted_at_standard_but_nothing_fails(planted):
    for verdict, claim in zip(evidence.evaluate(planted, CLAIMS, "standard"), CLAIMS, strict=True):
        assert (verdict.verdict == "not attempted") == ("smoke" not in claim.profiles)


def test_the_same_config_gives_the_same_records():
    tiny = SMALL.model_copy(update={"planted_boards": 2, "planted_fits": 2})
    pd.testing.assert_frame_equal(empirical.run(tiny, {}), empirical.run(tiny, {}))


def test_a_budget_stands_once():
    with pytest.raises(ValueError, match="budgets: a value stands twice"):
        Config(budgets=[1.0, 1.0])


def test_a_wrong_method_would_be_seen(monkeypatch):
    """The authors' rule in the place of the running maximum fails on the planted boards."""
    monkeypatch.setattr(empirical, "new_bests", first_new_bests)
    rows = evidence.tidy(empirical.planted_boards(SMALL))
    verdict = evidence.evaluate(rows, [claim for claim in CLAIMS if claim.id == "M7-method"], "smoke")[0]
    assert verdict.verdict == "not reproduced"


def test_difference_of_running_maxima():
    found = pd.Series([40.0, 50.0], index=pd.to_datetime(["2024-01-01", "2024-03-01"]))
    assert empirical.difference(found, pd.Series({"2024-01": 40.0, "2024-03": 50.0})) == 0
    assert empirical.difference(found, pd.Series({"2024-01": 40.0, "2024-03": 47.0})) == 3
    assert empirical.difference(found, pd.Series({"2024-01": 40.0, "2024-04": 50.0})) == np.inf
    assert empirical.difference(found, pd.Series({"2024-01": 40.0})) == np.inf


def toy_scrape() -> pd.DataFrame:
    rows = [
        ("Gemini 1.5 Pro (Sep)", "9/1/25", "75%", "1301", "$5.00 ", "", "Proprietary"),
        ("small", "4/1/25", "57%", "", "$0.00 ", "8", "Open"),
        ("big", "12/1/24", "84%", "1,361", "$1,060.00 ", "405", "Open"),
        ("undated", None, "83%", None, "$0.50 ", None, "Open"),
    ]
    columns = ["Model", "Release Date", "MMLU-Pro (Reasoning & Knowledge)", "Chatbot Arena"]
    columns += ["Output Price USD/1M Tokens", "Parameter Count", "License"]
    return pd.DataFrame(rows, columns=columns)


def test_the_scrape_is_cleaned():
    rows = empirical.scrape(toy_scrape()).set_index("model")
    assert rows["date"].dropna().dt.strftime("%Y-%m").to_dict() == {
        "Gemini 1.5 Pro (Sep)": "2024-09",  # corrected
        "small": "2025-04",
        "big": "2024-12",
    }
    assert rows["mmlu_pro"].tolist() == [75, 57, 84, 83]
    assert rows["price"].fillna(-1).tolist() == [5, -1, 1060, 0.5]  # a price of $0.00 is no price
    assert rows["arena"].fillna(-1).tolist() == [1301, -1, 1361, -1]
    assert rows["parameters"].fillna(-1).tolist() == [-1, 8, 405, -1]


def test_an_unknown_cost_is_no_low_cost():
    table = pd.DataFrame(
        {
            "model": ["a", "b", "c"],
            "date": ["2025-01-02"] * 3,
            "pass_rate_2": [50, 60, 70],
            "total_cost": [0, None, 0.5],
        }
    )
    rows = empirical.aider(table)
    assert rows["cost"].isna().tolist() == [True, True, False]
    assert rows["score"].tolist() == [50, 60, 70]
    (found,) = empirical.boards({"aider_polyglot": table}, Config(budgets=[1.0]))
    assert found.bands[0].of(found.table)["model"].tolist() == ["c"]


def test_models_given_as_ranges_are_left_out():
    table = pd.DataFrame(
        {
            "Architecture": ["a", "b", "c", "d"],
            "Model size": ["7e9", "4.4e+07-2.8e+11", None, "7e10"],
            "Dataset size": [1e12, 3e11, 1e12, 1.4e12],
            "MMLU": [0.3, 0.4, 0.5, None],
        }
    )
    rows = empirical.models({"meek_benchmarks": table})
    assert rows.to_dict("records") == [{"model": "a", "N": 7e9, "D": 1e12, "score": 0.3}]


def test_head_starts_follow_their_definition():
    compute = [1e20, 3e20, 5e20, 7e20, 9e20, 1e24, 1e22, 1e22, 2e22, 4e22, 5e22, 9e30]
    table = pd.DataFrame(
        {
            "Domain": [*["Language"] * 8, "Multimodal,Language", *["Language"] * 2, "Vision"],
            "Training compute (FLOP)": compute,
            "Publication date": [*["2023-05-01"] * 6, *["2024-05-01"] * 6],
        }
    )
    rows = evidence.tidy(empirical.head_starts(table, Config(first_year=2023)))
    found = rows[rows["quantity"] == "head_start"].set_index(["year", "meek"])["value"]
    assert found[2023, "median model"] == pytest.approx(1e24 / 6e20)
    assert found[2024, "median model"] == pytest.approx(1e24 / 2e22)  # the frontier is that of the year before
    assert found[2024, "$1,000"] == pytest.approx(1e4)
    times = rows[rows["quantity"] == "head_start_peak_time"].set_index(["year", "meek"])["value"]
    assert times[2023, "median model"] < 0 < times[2024, "median model"]  # 71.9 lies between
    drawn = rows[(rows["quantity"] == "head_start_draw") & (rows["year"] == 2024)]["value"]
    assert len(drawn) == Config().resamples
    assert drawn.between(1e24 / 5e22, 1e24 / 1e22).all()


def test_planted_models_lie_around_their_sigmoid():
    rows = empirical.plant_models(3, PAPER, noise=1e-9)
    assert rows["score"].to_numpy() == pytest.approx(PAPER(HOFFMANN.loss(rows["N"], rows["D"])), abs=1e-6)
    assert len(rows) == 30


def test_a_planted_trend_must_be_known():
    with pytest.raises(ValueError, match="trend: must be one of closing, widening, came 'level'"):
        empirical.plant_board("level", 0)


def test_figures_say_what_is_planted(planted):
    import matplotlib.pyplot as plt

    from replication.meek import figures_empirical as figures

    made = [draw(planted) for draw in (figures.best, figures.gaps, figures.slopes, figures.lost_bests)]
    made.append(figures.mmlu(planted, empirical.models({})))
    for figure in made:
        figure.canvas.draw()
        titles = [axis.get_title() for axis in figure.axes] + [figure.get_suptitle()]
        assert any("planted data" in title for title in titles)
        plt.close(figure)
    with pytest.raises(ValueError, match="no rows of 'head_start'; give the records of"):
        figures.head_starts(planted)


# --- against the published tables ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    if not os.environ.get("REPLICATION_DATA"):
        pytest.skip("REPLICATION_DATA is not set")
    found = empirical.load(Config(tables=True))
    missing = data.TABLES.keys() - found.keys() - {"chinchilla"}
    if missing:
        pytest.skip(f"not here: {', '.join(sorted(missing))}")
    return found


@pytest.fixture(scope="module")
def observed(tables) -> pd.DataFrame:
    records = empirical.run(SMALL.model_copy(update={"tables": True, "random_bands": 100, "resamples": 100}), tables)
    return records[records["origin"] == "observed"]


def values(records: pd.DataFrame, quantity: str, *by: str) -> pd.Series:
    return records[records["quantity"] == quantity].set_index(list(by))["value"]


def test_the_scrape_has_the_known_size(tables):
    rows = empirical.scrape(tables["art_analysis"])
    known = {name: rows[column].notna().sum() for name, column in (("scored", "mmlu_pro"), ("dated", "date"))}
    assert known == {name: GOLDEN["scrape"][name] for name in known}
    assert tables["art_analysis"]["Output Price USD/1M Tokens"].notna().sum() == GOLDEN["scrape"]["priced"]


def test_running_maxima_and_gaps_are_the_known_ones(tables, observed):
    assert (values(observed, "maxima_difference", "board", "series") == 0).all()
    counts = values(observed, "models_in_band", "board", "band")
    for band, count in GOLDEN["models"]["MMLU-Pro"].items():
        assert counts["MMLU-Pro", band] == count
    for board in empirical.boards(tables, Config()):
        for band in board.bands:
            gap = monthly_gap(board.table, band)
            for month, expected in GOLDEN["gaps"].get(board.name, {}).get(band.name, {}).items():
                assert gap[month] == pytest.approx(expected, abs=1e-9), (board.name, band.name, month)


def test_the_authors_figure_is_explained(observed):
    assert (values(observed, "authors_difference", "date") == 0).all()


def test_the_sigmoid_is_the_known_one(observed):
    golden, law = GOLDEN["sigmoid"], "Hoffmann, rounded"
    for quantity, numbers in (("sigmoid", golden["values"]), ("sigmoid_error", golden["errors"])):
        found = values(observed, quantity, "law", "parameter")
        for name, number in numbers.items():
            assert found[law, name] == printed(number)
    for name in ("rmse", "r_squared", "ceiling"):
        assert values(observed, name, "law")[law] == printed(golden[name])
    for law, expected in GOLDEN["one law"].items():
        at = (law, "the same law")
        assert values(observed, "points_peak", "law", "projection")[at] == printed(expected["points"])
        number, tolerance = expected["time"]
        found = values(observed, "points_peak_time", "law", "projection")[at]
        assert found == pytest.approx(float(number), abs=tolerance)
        for name in expected.keys() & {"A", "k", "x0", "b"}:
            assert values(observed, "sigmoid", "law", "parameter")[law, name] == printed(expected[name])


def test_price_declines_are_the_known_ones(observed):
    found = values(observed, "price_decline", "statistic")
    assert {name: found[name] for name in found.index} == {
        name: printed(number) for name, number in GOLDEN["price decline"].items()
    }


def test_claims_about_the_tables_are_decided(observed):
    for claim in CLAIMS:
        if "smoke" in claim.profiles:
            continue
        verdict = evidence.evaluate(observed, [claim], "standard")[0]
        assert verdict.verdict != "not attempted", claim.id
        assert evidence.flips(claim, observed, "standard"), claim.id


def test_each_absent_table_leaves_only_its_own_claims(tables):
    few = SMALL.model_copy(update={"tables": True, "planted_fits": 2, "planted_boards": 2})
    for name in tables:
        records = empirical.run(few, {other: table for other, table in tables.items() if other != name})
        words = {v.claim_id: v.verdict for v in evidence.evaluate(records, CLAIMS, "standard")}
        gone = {
            "meek_benchmarks": "M3-sigmoid-A",
            "art_analysis": "M7-maxima",
            "aider_polyglot": None,
            "price_trends": "M4-prices-lowest",
            "ml_systems": "M9-real",
        }[name]
        assert gone is None or words[gone] == "not attempted"
        assert sum(word == "not attempted" for word in words.values()) < 10

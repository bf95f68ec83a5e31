"""The empirical part: cleaning of tables, planted checks, claims; against the published tables where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from meek_targets import follows, printed

from replication import data, evidence
from replication.meek.benchmark import PAPER, fit_sigmoid, peak_score_gap
from replication.meek.boards import Band, first_new_bests, gap_slopes, monthly_gap, resampled_gaps
from replication.meek.experiments import empirical
from replication.meek.experiments.empirical import Config
from replication.meek.law import HOFFMANN

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "meek_empirical.json").read_text(encoding="utf-8"))
CLAIMS, NOTEBOOK = evidence.load_claims("meek"), "41_meek_empirical"
METHODS = {"M7-method", "M7-method-closing", "M7-method-widening", "M7-method-interval", "M3-method"}
LATER = {
    *("M7-later", "M7-mmlu", "M7-gpqa", "M7-mmlu-since", "M7-gpqa-since", "M10-data", "M10-elo", "M10-elo-since"),
}
"""Asked of the later tables."""
SMALL = Config(planted_boards=10, planted_models=120, planted_fits=100, random_bands=20, resamples=40)


def run(config: Config, tables: dict[str, pd.DataFrame] | None = None) -> pd.DataFrame:
    """The experiment on these tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(empirical, "load", lambda _config: tables or {})
        patch.setattr(empirical, "inputs", lambda _config: {})
        return evidence.gather(empirical, config)


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return run(SMALL)


def answers(records: pd.DataFrame, scale: str = "standard") -> dict[str, str]:
    return {found.test_id: found.answer for found in evidence.evaluate(records, CLAIMS, NOTEBOOK, scale)}


def test_planted_tables_answer_the_checks_of_the_methods_and_nothing_else(planted):
    assert set(planted["origin"].dropna()) == {"planted"}
    assert answers(planted, "smoke") == dict.fromkeys(METHODS, "yes")
    for name in METHODS:
        assert follows(CLAIMS.test(name, "smoke"), planted)


def test_without_tables_nothing_is_asked_of_them_at_standard_and_nothing_fails(planted):
    found = answers(planted)
    assert {name for name, answer in found.items() if answer != "not run"} == METHODS
    outcomes = evidence.evaluate(planted, CLAIMS, NOTEBOOK, "standard")
    decided = evidence.verdicts(CLAIMS, outcomes, NOTEBOOK, "standard")
    assert {(one.verdict, one.reason) for one in decided} == {("not attempted", "no data")}


def test_tables_that_are_asked_for_and_not_here_are_named_with_what_brings_them(monkeypatch, tmp_path):
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path))
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path))
    config = Config(tables=True)
    here = {"art_analysis": pd.DataFrame()}
    monkeypatch.setattr(empirical, "load", lambda _config: here)
    found = empirical.missing(config)
    assert set(found) == {"meek tables"}
    assert "aider_polyglot" in found["meek tables"]
    assert "art_analysis" not in found["meek tables"]
    assert "download_tables()" in found["meek tables"]
    assert empirical.missing(Config()) == {}
    here |= {name: pd.DataFrame() for name in empirical.READ}
    assert empirical.missing(config) == {}


def test_tables_that_come_while_a_kernel_lives_are_read(monkeypatch):
    here = {}

    def checksum(_name):
        if not here:
            raise data.DataNotFound("none of the tables was found")
        return "tables of this test: " + ", ".join(here)

    def read_table(name):
        if name not in here:
            raise data.DataNotFound(name)
        return here[name]

    monkeypatch.setattr(data, "checksum", checksum)
    monkeypatch.setattr(data, "read_table", read_table)
    config = Config(tables=True)
    assert empirical.load(config) == {}
    assert empirical.inputs(config) == {}
    for name in ("art_analysis", "llm_elo"):
        here[name] = pd.DataFrame()
        assert empirical.load(config).keys() == here.keys()
        assert name not in empirical.missing(config)["meek tables"]


def test_the_same_config_gives_the_same_records():
    tiny = SMALL.model_copy(update={"planted_boards": 2, "planted_fits": 2})
    pd.testing.assert_frame_equal(run(tiny), run(tiny))


def test_a_budget_stands_once():
    with pytest.raises(ValueError, match="budgets: a value stands twice"):
        Config(budgets=[1.0, 1.0])


def test_a_wrong_method_would_be_seen(monkeypatch):
    """The authors' rule in the place of the running maximum fails on the planted boards."""
    monkeypatch.setattr(empirical, "new_bests", first_new_bests)
    assert answers(evidence.tidy(empirical.planted_boards(SMALL)), "smoke")["M7-method"] == "no"


def test_an_interval_that_looks_away_would_be_seen(monkeypatch):
    """Slopes of the wrong sign say closing where it widens."""
    slopes = empirical.gap_slopes
    monkeypatch.setattr(empirical, "gap_slopes", lambda gaps: -slopes(gaps))
    assert answers(evidence.tidy(empirical.planted_boards(SMALL)), "smoke")["M7-method-interval"] == "no"


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


def toy_prices() -> pd.DataFrame:
    columns = ["Model", "Release Date", "MMLU-Pro (Reasoning & Knowledge)", "GPQA Diamond (Scientific Reasoning)"]
    columns += ["4/1/2024 output price", "6/1/2024 output price", "4/1/2024 input price", "Output Price USD/1M Tokens"]
    rows = [
        ("leader", "3/15/24", "80%", "0.5", 30.0, 15.0, 0.1, "$9.00 "),
        ("cheap", "2/1/24", "0.6", "40%", 2.0, 0.8, 0.1, "$0.10 "),
        ("new", "5/20/24", "70%", None, 0.5, 0.5, 0.1, None),
        ("free", "4/2/24", "75%", "45%", 0.0, None, 0.1, "$0.00 "),
        ("listed", "5/1/24", "76%", None, None, None, 0.1, "$0.90 "),
        ("late", "5/1/25", "77%", None, 0.2, None, 0.1, "$1.00 "),
        ("undated", None, "90%", "90%", 0.1, 0.1, 0.1, "$0.10 "),
        (None, "4/2/24", "95%", "95%", 0.1, 0.1, 0.1, "$0.10 "),
    ]
    return pd.DataFrame(rows, columns=columns)


def test_a_model_is_affordable_from_the_month_of_its_price(monkeypatch):
    table = toy_prices()
    rows = empirical.monthly_prices(table)
    names = ["leader", "cheap", "new", "free", "listed", "late", "undated"]
    assert rows[rows["kind"] == "release"]["model"].tolist() == names
    assert rows.loc[rows["model"] == "cheap", "mmlu_pro"].unique().tolist() == [60]  # a share of 1 is a percentage
    priced = rows.dropna(subset=["price"])
    found = {name: of["date"].dt.strftime("%Y-%m").tolist() for name, of in priced.groupby("model")}
    assert found == {
        "leader": ["2024-04", "2024-06"],
        "cheap": ["2024-04", "2024-06"],
        "new": ["2024-06"],  # its price of April is older than itself
        "listed": ["2025-04"],  # without any month's price
        "late": ["2025-05"],
    }
    first, second = (board for board in empirical.boards({"api_prices": table}, Config()) if board.dated_prices)
    gap = monthly_gap(first.table, first.bands[0])
    assert {str(month): gap[month] for month in ("2024-06", "2025-04", "2025-05")} == {
        "2024-06": 10, "2025-04": 4, "2025-05": 3,
    }  # fmt: skip
    assert monthly_gap(second.table, second.bands[0]).iloc[0] == 10
    monkeypatch.setattr(empirical, "load", lambda _config: {"api_prices": table})
    rows = evidence.tidy(empirical.prices(Config()))
    assert values(rows, "affordable_prices", "date").to_dict() == {"2024-06": 2}
    assert [values(rows, name, "quantity").item() for name in ("list_prices", "prices_before_release")] == [2, 2]


def test_ratings_are_read_by_launch_month():
    table = pd.DataFrame(
        {
            "model": ["a", "b", "c", "gpt-4-0314"],
            "overall": [1300.0, 1250.0, None, 1200.0],
            "launch": ["2024-05?", "2024-06-13", None, "2024-03"],
            "cpmi": [5.0, 0.3, 0.1, 30.0],
        }
    )
    rows = empirical.elo(table)
    assert rows["date"].dt.strftime("%Y-%m").fillna("").tolist() == ["2024-05", "2024-06", "", "2023-03"]
    (found,) = empirical.boards({"llm_elo": table}, Config())
    assert monthly_gap(found.table, found.bands[0]).to_dict() == {pd.Period("2024-06"): 50}


def test_relative_closing_is_compared_over_common_months(monkeypatch):
    """Two bounded boards that close by half a year, and ratings that keep their distance."""
    months = pd.date_range("2024-01-01", periods=12, freq="MS")

    def planted(name, gaps, dated):
        sides = {"best": (1, 9.0), "cheap": (0, 0.5)}
        rows = [
            (f"{name} {side} {i}", month, 50.0 + i + above * gap, price)
            for i, (month, gap) in enumerate(zip(months, gaps, strict=False))
            for side, (above, price) in sides.items()
        ]
        table = pd.DataFrame(rows, columns=["model", "date", "score", "price"])
        return empirical.Board(name, table, (Band("at most $1", "price", 0.0, 1.0),), dated_prices=dated)

    closing = planted("closing", np.linspace(20, 4, 12), dated=True)
    steady = planted(empirical.ELO, np.full(10, 40.0), dated=False)
    boards = [closing, steady]
    monkeypatch.setattr(empirical, "boards", lambda _tables, _config: boards)
    rows = evidence.tidy(empirical.together(Config(resamples=200)))
    slopes, rows = (rows[rows["quantity"] == name] for name in ("monthly_slope_draw", "closing_difference"))
    assert set(rows["board"]) == {"closing"}
    assert len(rows) == len(slopes) == 200
    # over the ten months that both have, and of other draws of the other board
    gaps = [resampled_gaps(closing.table, closing.bands[0], 200), resampled_gaps(steady.table, steady.bands[0], 200, 1)]
    np.testing.assert_allclose(slopes["value"], gap_slopes(gaps[0]), rtol=1e-5)
    mine, other = (gap_slopes(found.iloc[:, :10]) / found.iloc[:, :10].mean(axis=1) for found in gaps)
    np.testing.assert_allclose(rows["value"], mine - other, rtol=1e-5)
    assert rows["value"].median() < -0.5
    del boards[1]
    assert {row["quantity"] for row in empirical.together(Config())} == {"monthly_slope_draw"}
    del boards[0]
    assert list(empirical.together(Config())) == []


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


def test_head_starts_follow_their_definition(monkeypatch):
    compute = [1e20, 3e20, 5e20, 7e20, 9e20, 1e24, 1e22, 1e22, 2e22, 4e22, 5e22, 9e30]
    table = pd.DataFrame(
        {
            "Domain": [*["Language"] * 8, "Multimodal,Language", *["Language"] * 2, "Vision"],
            "Training compute (FLOP)": compute,
            "Publication date": [*["2023-05-01"] * 6, *["2024-05-01"] * 6],
        }
    )
    monkeypatch.setattr(empirical, "load", lambda _config: {"ml_systems": table})
    rows = evidence.tidy(empirical.head_starts(Config(first_year=2023)))
    found = rows[rows["quantity"] == "head_start"].set_index(["year", "series"])["value"]
    assert found[2023, "median model"] == pytest.approx(1e24 / 6e20)
    assert found[2024, "median model"] == pytest.approx(1e24 / 2e22)  # the frontier is that of the year before
    assert found[2024, "$1,000"] == pytest.approx(1e4)
    drawn = rows[(rows["quantity"] == "head_start_draw") & (rows["year"] == 2024)]["value"]
    assert len(drawn) == Config().resamples
    assert drawn.between(1e24 / 5e22, 1e24 / 1e22).all()


def test_planted_models_lie_around_their_sigmoid():
    rows = empirical.plant_models(3, PAPER, noise=1e-9)
    assert rows["score"].to_numpy() == pytest.approx(PAPER(HOFFMANN.loss(rows["N"], rows["D"])), abs=1e-6)
    assert len(rows) == 30


def test_a_planted_trend_must_be_known():
    with pytest.raises(ValueError, match="trend: must be one of closing, widening, steady, got 'level'"):
        empirical.plant_board("level", 0)


def test_figures_say_what_is_planted(planted):
    import matplotlib.pyplot as plt

    from replication.meek import figures_empirical as figures

    made = [draw(planted) for draw in (figures.later, figures.best, figures.gaps, figures.slopes, figures.lost_bests)]
    made.append(figures.mmlu(planted))
    for figure in made:
        figure.canvas.draw()
        titles = [axis.get_title() for axis in figure.axes] + [figure.get_suptitle()]
        assert any("planted data" in title for title in titles)
        plt.close(figure)
    with pytest.raises(ValueError, match="no rows of 'head_start'; give the records of"):
        figures.head_starts(planted)


def test_the_top_says_what_the_tests_of_the_later_boards_do(planted):
    """Levels from the gaps, words from the answers; without a table nothing is said of models."""
    from replication.meek import figures_empirical as figures

    assert figures.told(planted, [], CLAIMS, "smoke").startswith("No published table was read")
    assert figures.shown(planted).startswith("Planted boards")
    # a table of the paper's time alone
    early = pd.concat([planted, planted[planted["quantity"] == "gap"].assign(origin="observed", board="MMLU-Pro")])
    assert figures.told(early, [], CLAIMS, "smoke") == "No table that reaches beyond the paper's data was read."
    assert figures.shown(early) == "Boards of the paper's time"
    gaps = {board: [(1, 30.0), (2, 8.0), (3, 5.0)] for board in empirical.LATER}
    months = {1: "2024-04", 2: "2025-04", 3: "2025-10"}
    rows = [
        {"quantity": "gap", "origin": "observed", "board": board, "date": months[at], "value": value, "seed": 0}
        for board, line in gaps.items()
        for at, value in line
    ]
    band = {"origin": "observed", "board": "MMLU-Pro", "band": "price band"}
    rows += [{"quantity": name, **band, "bound": bound, "value": value} for name, bound, value in (
        ("gap_slope", None, -14.0), ("random_slope", "low", -20.0), ("random_slope", "high", -6.0))]  # fmt: skip
    rows += [
        {"quantity": "head_start", "series": "median model", "year": 2024 + at, "value": 90.0 + at} for at in (0, 1)
    ]
    names = [name + end for name in ("M7-mmlu", "M7-gpqa", "M10-elo") for end in ("", "-since")]
    names += ["M7-control", "M9-real"]
    answered = ["yes", "open", "no", "no", "open", "yes", "open", "yes"]
    outcomes = [
        evidence.Outcome(name, "control", "M7", answer, -3.0, -5.0, -1.0, 400)
        for name, answer in zip(names, answered, strict=True)
    ]
    found = figures.told(evidence.tidy(rows), outcomes, CLAIMS, "standard").split("\n")
    assert found[1].startswith(
        "- **MMLU-Pro**, output prices of each month: 30 (2024-04), 8 (2025-04), 5 (2025-10) points."
    )
    assert "it closes (-3.0 [-5.0, -1.0] points a year); after the paper's data undecided since" in found[1]
    assert "it does not close" in found[2]
    assert "it is not smaller since" in found[2]
    assert "undecided whether it closes" in found[3]
    assert "it is smaller since (-3.0 [-5.0, -1.0] rating points)" in found[3]
    assert "-14 points a year, that of as many random models released in the same months by -20 to -6" in found[4]
    assert "the band cannot be told from these (difference -3.0 [-5.0, -1.0])" in found[4]
    assert "90 times (2024) and 91 times (2025)" in found[5]
    assert "the gap in loss only shrinks from there" in found[5]


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
    records = run(SMALL.model_copy(update={"tables": True, "random_bands": 100, "resamples": 100}), tables)
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


def test_the_sigmoid_is_the_known_one(tables, observed):
    golden, rows = GOLDEN["sigmoid"], empirical.models(tables)
    fits = {name: fit_sigmoid(law.loss(rows["N"], rows["D"]), rows["score"]) for name, law in empirical.LAWS.items()}
    rounded = fits["Hoffmann, rounded"]
    for name, number in golden["values"].items():
        assert [getattr(rounded, name), rounded.errors[name]] == [printed(number), printed(golden["errors"][name])]
    assert [rounded.rmse, rounded.r_squared, rounded.ceiling] == [
        printed(golden[name]) for name in ("rmse", "r_squared", "ceiling")
    ]
    for law, expected in GOLDEN["one law"].items():
        assert values(observed, "points_peak", "law", "projection")[law, "the same law"] == printed(expected["points"])
        number, tolerance = expected["time"]
        peak = peak_score_gap(fits[law], empirical.LAWS[law].frontier())
        assert peak.time == pytest.approx(float(number), abs=tolerance)
        for name in expected.keys() & {"A", "k", "x0", "b"}:
            assert getattr(fits[law], name) == printed(expected[name])


def test_price_declines_are_the_known_ones(observed):
    found = values(observed, "price_decline", "statistic")
    assert {name: found[name] for name in found.index} == {
        name: printed(number) for name, number in GOLDEN["price decline"].items()
    }


def test_tests_of_the_tables_are_answered_and_follow_them(tables, observed):
    absent = LATER if not {"api_prices", "llm_elo"} <= tables.keys() else set()
    found = answers(observed)
    for test in CLAIMS.at(NOTEBOOK, "standard"):
        if test.id in METHODS:
            continue
        assert (found[test.id] == "not run") == (test.id in absent), test.id
        if test.id not in absent:
            assert follows(test, observed), test.id
    # one board is one sample: what hangs on few models is open
    assert found["M7-convergence"] == "yes"
    assert {found[name] for name in ("M7-aider", "M7-parameters", "M7-arena", "M7-control")} == {"open"}


def test_maxima_that_are_not_the_known_ones_blind_what_rests_on_them(observed):
    rows = observed.assign(value=observed["value"].mask(observed["quantity"] == "maxima_difference", 1.0))
    found = answers(rows)
    assert found["M7-maxima"] == "no"
    gated = {test.id for test in CLAIMS.at(NOTEBOOK, "standard") if test.gates}
    assert {found[name] for name in gated} == {"blind"}
    assert found["M7-aider"] == "open"


def test_each_absent_table_leaves_only_its_own_tests(tables):
    few = SMALL.model_copy(update={"tables": True, "planted_fits": 2, "planted_boards": 2})
    own = {
        "meek_benchmarks": {"M3-sigmoid", "M3-determined", "M3-consistent"},
        "art_analysis": {"M7-maxima", "M7-convergence", "M7-half", "M7-control", "M7-parameters",
                         "M7-parameters-half", "M7-arena", "M7-price", "M7-figure"},
        "aider_polyglot": {"M7-aider"},
        "price_trends": {"M4-prices-lowest", "M4-prices-highest"},
        "ml_systems": {"M9-real"},
        "api_prices": {"M7-later", "M7-mmlu", "M7-gpqa", "M7-mmlu-since", "M7-gpqa-since", "M10-data"},
        "llm_elo": {"M10-data", "M10-elo", "M10-elo-since"},
    }  # fmt: skip
    absent = set().union(*(own[name] for name in own.keys() - tables.keys()))
    for name in tables:
        found = answers(run(few, {other: table for other, table in tables.items() if other != name}))
        assert {test for test, answer in found.items() if answer == "not run"} == own[name] | absent

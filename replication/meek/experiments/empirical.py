"""Empirical part: what leaderboards, prices and published models say of the convergence (claims M1, M3, M7, M10).

The tables are other people's and are looked for on this machine (`replication.data.TABLES`); a part whose table is
absent gives no records. What the methods do is decided on planted tables, whose running maxima and sigmoid are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import Field, PositiveFloat, field_validator

from replication import data, evidence
from replication.checks import one_of
from replication.evidence import Part
from replication.meek.benchmark import NAMES, Sigmoid, SigmoidFit, fit_sigmoid, peak_score_gap
from replication.meek.benchmark import PAPER as PAPER_SIGMOID
from replication.meek.boards import (
    Band,
    Order,
    block_slopes,
    first_new_bests,
    gap_slope,
    gap_slopes,
    monthly_gap,
    new_bests,
    random_band_slopes,
    resampled_gaps,
    slopes_left_out,
    years,
)
from replication.meek.gap import C0
from replication.meek.law import BESIROGLU, HOFFMANN, HOFFMANN_UNROUNDED, PAPER, Float, ParametricLaw

Row = dict[str, Any]
Tables = Mapping[str, pd.DataFrame]
Trend = Literal["closing", "widening", "steady"]

READ = ("meek_benchmarks", "art_analysis", "aider_polyglot", "price_trends", "ml_systems", "api_prices", "llm_elo")
"""The tables that are read, of those that `replication.data.TABLES` knows."""
KEPT = 400
"""Draws that are kept one by one, for the tests; intervals in figures are of all of them."""
LAST_OF_PAPER = pd.Period("2025-04", "M")
"""The last month of the paper's data; what follows is out of sample."""
PLANTED_GAPS: dict[str, tuple[float, float]] = {"closing": (30, 3), "widening": (5, 30), "steady": (15, 15)}
"""The gap of a planted board in its first and in its last month, points."""
FIGURE_SIGMOID = {"A": 0.556686, "k": -23.7749, "x0": 1.973948, "b": 0.254043}
"""The sigmoid of the authors' MMLU figure."""

ELO = "LMArena Elo"
"""The board of an unbounded rating."""
LATER = ("MMLU-Pro, monthly prices", "GPQA, monthly prices", ELO)
"""The boards that reach beyond the paper's data."""

MMLU_PRO, GPQA = "MMLU-Pro (Reasoning & Knowledge)", "GPQA Diamond (Scientific Reasoning)"

LAWS: dict[str, ParametricLaw] = {
    "Hoffmann, rounded": HOFFMANN,
    "Hoffmann": HOFFMANN_UNROUNDED,
    "Besiroglu": BESIROGLU,
}
"""Laws that turn a model's parameters and tokens into its loss; the paper takes the first."""

CORRECTED_DATES = {
    # September 2025 in a table scraped in spring 2025; its name says September, its forerunner is of May
    "art_analysis": {"Gemini 1.5 Pro (Sep)": "2024-09"},
    # all whose names carry a month three or more from the table's: 2024-03, 2024-06, 2024-09 and 2023-11
    "llm_elo": {
        "gpt-4-0314": "2023-03",
        "gpt-4-0613": "2023-06",
        "gpt-4o-2024-05-13": "2024-05",
        "mistral-large-2402": "2024-02",
    },
}
"""Months of release that cannot be right, by table: those taken instead."""
LISTED = LAST_OF_PAPER.to_timestamp()
"""Month of the list prices in the table of monthly prices: that of the scrape."""

MAXIMA: dict[tuple[str, str], dict[str, float]] = {
    ("MMLU-Pro", "overall"): {
        "2023-07": 49,
        "2023-11": 69,
        "2024-03": 70,
        "2024-05": 74,
        "2024-06": 75,
        "2024-10": 77,
        "2024-12": 84,
        "2025-04": 86,
    },
    ("MMLU-Pro", "price band"): {
        "2023-12": 39,
        "2024-04": 57,
        "2024-07": 68,
        "2024-12": 71,
        "2025-01": 80,
        "2025-02": 83,
    },
    ("MMLU-Pro", "parameter band"): {"2023-07": 16, "2023-09": 25, "2023-12": 31, "2024-04": 41, "2024-05": 57},
    ("Chatbot Arena", "overall"): {"2023-03": 1186, "2023-11": 1256, "2024-05": 1285, "2024-08": 1337, "2024-11": 1361},
    ("Chatbot Arena", "price band"): {
        "2023-12": 1114,
        "2024-02": 1165,
        "2024-03": 1179,
        "2024-04": 1206,
        "2024-06": 1219,
        "2024-07": 1273,
    },
}
"""Running maxima of the scrape by board and series, found independently of this package; month of each new best."""

AUTHORS_GAP = {
    **{"2023-07": 25, "2023-09": 16, "2023-11": 44},
    **dict.fromkeys(("2024-12", "2025-01", "2025-02", "2025-03"), 21),
    "2025-04": 29,
}
"""Gap of the parameter band in the authors' joint figure, in the months that are known of it."""


class Config(evidence.Settings):
    """What the empirical notebook runs; every field is a parameter of the notebook."""

    tables: bool = Field(False, description="whether to read the published tables, those that are on this machine")
    planted_boards: int = Field(20, ge=2, description="planted leaderboards of each trend (closing, widening)")
    planted_months: int = Field(24, ge=12, description="months that each of them spans")
    planted_models: int = Field(120, ge=60, description="models on each of them")
    planted_fits: int = Field(200, ge=2, description="planted tables that a sigmoid is fitted to")
    planted_noise: PositiveFloat = Field(0.07, description="standard deviation of a planted score around the sigmoid")
    price_low: PositiveFloat = Field(0.5, description="price band of MMLU-Pro: dollars per million output tokens, from")
    price_high: PositiveFloat = Field(1.0, description="price band of MMLU-Pro: to")
    parameters_low: PositiveFloat = Field(6.9, description="parameter band: billions of parameters, from")
    parameters_high: PositiveFloat = Field(8.1, description="parameter band: to")
    arena_low: PositiveFloat = Field(
        0.49, description="price band on Chatbot Arena: dollars per million output tokens, from"
    )
    arena_high: PositiveFloat = Field(1.5, description="price band on Chatbot Arena: to")
    budgets: list[PositiveFloat] = Field(
        [1.0, 3.0, 5.0], min_length=1, description="dollars for one run of the Aider polyglot benchmark"
    )
    random_bands: int = Field(100, ge=2, description="random bands that a band is compared with")
    resamples: int = Field(100, ge=2, description="bootstrap resamples of models")
    later_price: PositiveFloat = Field(
        1.0, description="later boards (prices of each month, Elo): dollars per million tokens, at most"
    )
    first_year: int = Field(2018, description="first year in which head starts are measured")

    @field_validator("budgets")
    @classmethod
    def _check_budgets(cls, budgets: list[float]) -> list[float]:
        if len(set(budgets)) < len(budgets):
            raise ValueError("budgets: a value stands twice")
        return budgets


class Board(NamedTuple):
    """A leaderboard with the bands that are looked at."""

    name: str
    table: pd.DataFrame
    bands: tuple[Band, ...]
    dated_prices: bool = False
    """Whether a model has a row for each month's price, so that a single row is no model."""


def load(config: Config) -> dict[str, pd.DataFrame]:
    """The published tables that are on this machine, by name; none if the config does not ask for them.

    Raises
    ------
    ChecksumMismatch
        A table is there, but damaged or another version.
    """
    if not config.tables:
        return {}
    try:
        # by their checksum: a table that comes while a kernel lives is read
        return _tables(data.checksum("meek"))
    except data.DataNotFound:
        return {}


@cache
def _tables(_checksum: str) -> dict[str, pd.DataFrame]:
    found = {}
    for name in READ:
        with suppress(data.DataNotFound):
            found[name] = data.read_table(name)
    return found


def missing(config: Config) -> dict[str, str]:
    """What the config asks for and is not on this machine, with what brings it."""
    here = load(config)
    absent = [name for name in READ if name not in here]
    if not config.tables or not absent:
        return {}
    command = 'python -c "from replication import data; data.download_tables()"'
    return {"meek tables": f"Not here: {', '.join(absent)}. To get them: {command}, or set REPLICATION_DATA."}


def sizes(config: Config) -> Iterator[Row]:
    """Rows of each published table that is here."""
    for name, table in load(config).items():
        yield {"quantity": "table_rows", "table": name, "value": len(table)}


def read(records: pd.DataFrame) -> dict[str, int]:
    """The published tables that were read, with their numbers of rows."""
    rows = records[records["quantity"] == "table_rows"]
    return dict(zip(rows["table"], rows["value"].astype(int), strict=True)) if len(rows) else {}


def inventory(records: pd.DataFrame) -> evidence.Table:
    """What is read, from whom, under which licence, and whether it is here."""
    tables, rows = read(records), []
    for name, source in data.TABLES.items():
        if name != "chinchilla":
            here = f"{tables[name]} rows" if name in tables else "not read"
            rows.append((name, source.about, f"{source.repository} at {source.commit[:7]}", source.licence, here))
    return evidence.Table(("table", "content", "source", "licence", "this run"), tuple(rows))


def inputs(config: Config) -> dict[str, str]:
    """Checksums of the data, by name."""
    return {"meek": data.checksum("meek")} if load(config) else {}


def parts(config: Config) -> list[Part]:
    """One part for each table that is here, and the checks on planted tables; ``origin`` is "planted" or "observed"."""
    only, here = config.only, load(config)
    bands = ("price_low", "price_high", "parameters_low", "parameters_high", "arena_low", "arena_high")
    board = only("tables", *bands, "budgets", "random_bands", "resamples", "later_price")
    found = [Part("tables", sizes, only("tables"))] if here else []
    found += [
        Part("planted boards", planted_boards, only(*PLANTED, "random_bands", "resamples")),
        Part("planted sigmoids", planted_sigmoids, only("planted_fits", "planted_noise")),
        Part("sigmoids", sigmoids, only("tables", "resamples")),
        *(Part(f"board {one.name}", board_part, board, {"board": one.name}) for one in boards(here, config)),
        Part("boards at monthly prices together", together, board),
    ]
    if "api_prices" in here:
        found.append(Part("monthly prices", prices, only("tables", "later_price")))
    if "art_analysis" in here:
        found.append(Part("the authors' figure", authors_figure, only("tables", *bands)))
    if "price_trends" in here:
        found.append(Part("price trends", price_trends, only("tables")))
    if "ml_systems" in here:
        found.append(Part("head starts", head_starts, only("tables", "first_year", "resamples")))
    return found


PLANTED = ("planted_boards", "planted_months", "planted_models")


def board_part(config: Config, board: str) -> Iterator[Row]:
    """What a leaderboard says."""
    found = next(one for one in boards(load(config), config) if one.name == board)
    cell = {"origin": "observed", "board": board}
    yield from board_records(found, config, cell)
    known = {series: pd.Series(best, dtype=np.float64) for (name, series), best in MAXIMA.items() if name == board}
    yield from maxima(found, known, cell)


# --- the tables, cleaned ---------------------------------------------------------------------------------------------


def scrape(table: pd.DataFrame) -> pd.DataFrame:
    """The Artificial Analysis scrape with numbers as numbers; its dates are months, one of them corrected.

    A price of $0.00 means free or unknown, so it counts as missing. Prices are those of the day of the scrape.
    """
    dates = _corrected(pd.to_datetime(table["Release Date"], format="%m/%d/%y"), table["Model"], "art_analysis")
    price = _number(table["Output Price USD/1M Tokens"])
    return pd.DataFrame(
        {
            "model": table["Model"],
            "date": dates,
            "mmlu_pro": _number(table[MMLU_PRO]),
            "arena": _number(table["Chatbot Arena"]),
            "price": price.where(price > 0),
            "parameters": _number(table["Parameter Count"]),
        }
    )


def aider(table: pd.DataFrame) -> pd.DataFrame:
    """Aider's polyglot board: the share solved at the second try, by test date; a cost of 0 is unknown."""
    cost = _number(table["total_cost"])
    return pd.DataFrame(
        {
            "model": table["model"],
            "date": pd.to_datetime(table["date"]),
            "score": _number(table["pass_rate_2"]),
            "cost": cost.where(cost > 0),
        }
    )


def monthly_prices(table: pd.DataFrame) -> pd.DataFrame:
    """Models at the output price of each month: a row without a price for the release, and one for each known price.

    A price of a month before the release counts as missing. A model without any price of a month has its list price,
    from `LISTED` or the release on, whichever is later. The column ``kind`` says which of these a row is.
    """
    known = table[table["Model"].notna()]
    released = pd.to_datetime(known["Release Date"], format="%m/%d/%y").dt.to_period("M").dt.start_time
    scores = {"mmlu_pro": _percent(known[MMLU_PRO]), "gpqa": _percent(known[GPQA])}
    rows = pd.DataFrame({"model": known["Model"], "date": released, "price": np.nan, "kind": "release", **scores})
    prices = known[known.columns[known.columns.str.fullmatch(r"\d+/1/\d{4} output price")]].apply(_number)
    prices.columns = pd.to_datetime(prices.columns.str.split().str[0], format="%m/%d/%Y")
    parts, listed = [rows], _number(known["Output Price USD/1M Tokens"])
    without = released.notna() & (listed > 0)
    for month in pd.DatetimeIndex(prices.columns):
        price = prices[month]
        dated, early = (price > 0) & (released <= month), (price > 0) & (released > month)
        parts += [rows.assign(price=price, date=month, kind="month")[dated], rows.assign(kind="before release")[early]]
        without &= ~dated
    parts.append(rows.assign(price=listed, date=released.where(released > LISTED, LISTED), kind="listed")[without])
    return pd.concat(parts, ignore_index=True)


def prices(config: Config) -> Iterator[Row]:
    """How many prices within the limit each month has, and how many are list prices or precede the release."""
    table = monthly_prices(load(config)["api_prices"])
    scored, affordable = table[["mmlu_pro", "gpqa"]].notna().any(axis=1), table["price"] <= config.later_price
    for month, value in table[scored & affordable & (table["kind"] == "month")].groupby("date").size().items():
        yield {"quantity": "affordable_prices", "date": f"{month:%Y-%m}", "value": int(value)}
    listed = table[scored & affordable & (table["kind"] == "listed")]
    yield {"quantity": "list_prices", "value": len(listed)}
    yield {"quantity": "prices_before_release", "value": int((table["kind"] == "before release").sum())}


def elo(table: pd.DataFrame) -> pd.DataFrame:
    """Ratings of LMArena on one day, by launch month, four of them corrected, and today's input price."""
    months = pd.to_datetime(table["launch"].astype("string").str[:7], format="%Y-%m")
    return pd.DataFrame(
        {
            "model": table["model"],
            "date": _corrected(months, table["model"], "llm_elo"),
            "score": table["overall"].astype("float64"),
            "price": table["cpmi"].astype("float64"),
        }
    )


def models(tables: Tables) -> pd.DataFrame:
    """Models with numeric parameters ``N``, tokens ``D`` and MMLU ``score``; a planted table if there is no other."""
    if "meek_benchmarks" not in tables:
        return plant_models(0, PAPER_SIGMOID)
    table = tables["meek_benchmarks"]
    columns = {"N": "Model size", "D": "Dataset size", "score": "MMLU"}
    # sizes given as a range are no numbers; those models are left out, as the paper does
    numbers = {name: pd.to_numeric(table[column], errors="coerce") for name, column in columns.items()}
    return pd.DataFrame({"model": table["Architecture"], **numbers}).dropna(ignore_index=True)


def boards(tables: Tables, config: Config) -> list[Board]:
    """The leaderboards that are here: the scrape's two scores, Aider's independent board, and later ones."""
    found = []
    if "art_analysis" in tables:
        rows = scrape(tables["art_analysis"])
        price = Band("price band", "price", config.price_low, config.price_high)
        found.append(Board("MMLU-Pro", rows.assign(score=rows["mmlu_pro"]), (price, _parameter_band(config))))
        price = Band("price band", "price", config.arena_low, config.arena_high)
        found.append(Board("Chatbot Arena", rows.assign(score=rows["arena"]), (price,)))
    if "aider_polyglot" in tables:
        budgets = tuple(Band(f"at most ${budget:g}", "cost", 0.0, budget) for budget in config.budgets)
        found.append(Board("Aider polyglot", aider(tables["aider_polyglot"]), budgets))
    later = Band(f"at most ${config.later_price:g}", "price", 0.0, config.later_price)
    if "api_prices" in tables:
        rows = monthly_prices(tables["api_prices"])
        for name, column in zip(LATER, ("mmlu_pro", "gpqa"), strict=False):
            found.append(Board(name, rows.assign(score=rows[column]), (later,), dated_prices=True))
    if "llm_elo" in tables:
        found.append(Board(ELO, elo(tables["llm_elo"]), (later,)))
    return found


def _corrected(dates: pd.Series[Any], models: pd.Series[Any], table: str) -> pd.Series[Any]:
    return dates.mask(models.isin(CORRECTED_DATES[table]), pd.to_datetime(models.map(CORRECTED_DATES[table])))


def _percent(column: pd.Series[Any]) -> pd.Series[float]:
    """Percentages, of which some lack the sign and are shares of 1."""
    return _number(column).where(column.astype("string").str.contains("%", na=False), 100 * _number(column))


def _number(column: pd.Series[Any]) -> pd.Series[float]:
    """Numbers with a dollar or a per cent sign, thousands' commas or blanks."""
    return pd.to_numeric(column.astype("string").str.replace(r"[$%,\s]", "", regex=True)).astype("float64")


def _parameter_band(config: Config) -> Band:
    return Band("parameter band", "parameters", config.parameters_low, config.parameters_high)


# --- M7: the best overall and the best in a band ---------------------------------------------------------------------


def board_records(board: Board, config: Config, cell: Row) -> Iterator[Row]:
    """Running maxima, monthly gaps and their slopes: as they are, of models drawn anew, and of random bands."""
    yield from _bests(board.table, **cell, series="overall")
    rng = np.random.default_rng(0)
    for band in board.bands:
        at = {**cell, "band": band.name}
        yield from _bests(band.of(board.table), **cell, series=band.name)
        gap = monthly_gap(board.table, band)
        yield from _gap(gap, **at)
        slope = gap_slope(gap)
        yield {"quantity": "gap_slope", **at, "value": slope}
        yield {"quantity": "gap_closed", **at, "value": float(gap.iloc[0] - gap.iloc[-1])}
        members = band.of(board.table).dropna(subset=["date", "score"])
        count = members["model"].nunique() if board.dated_prices else len(members)
        yield {"quantity": "models_in_band", **at, "value": count}
        for model, value in slopes_left_out(board.table, band).items():
            yield {"quantity": "gap_slope_without", **at, "model": model, "value": value}
        if len(gap) >= 6:
            yield from _ends("block_slope", block_slopes(gap, config.resamples), **at)
        if board.dated_prices:
            continue
        random = slope - random_band_slopes(board.table, band, config.random_bands, rng)
        yield from _ends("random_slope", slope - random, **at)
        if (board.name, band.name) == ("MMLU-Pro", "price band"):
            for draw, value in enumerate(random):
                yield {"quantity": "slope_minus_random", **at, "draw": draw, "value": float(value)}
    drawn = {band.name: resampled_gaps(board.table, band, config.resamples) for band in board.bands}
    # a draw without a slope in some band is left out of all, so that the draws of a board stay paired
    whole = np.isfinite([gap_slopes(gaps) for gaps in drawn.values()]).all(axis=0)
    for name, gaps in drawn.items():
        at = {**cell, "band": name}
        slopes = gap_slopes(gaps)[whole]
        yield from _ends("drawn_slope", slopes, **at)
        if cell["origin"] != "observed":
            continue
        kept = {"gap_slope_draw": slopes}
        if board.name == "MMLU-Pro":
            kept["later_slope_draw"] = gap_slopes(gaps.iloc[:, gaps.shape[1] // 2 :])[whole]
        if board.name in LATER:
            kept["change_draw"] = (gaps.iloc[:, -1] - gaps[LAST_OF_PAPER]).to_numpy()[whole]
            for month, column in gaps.items():
                yield from _ends("gap_of_draws", column.dropna().to_numpy(), **at, date=str(month))
        for quantity, values in kept.items():
            yield from _draws(quantity, values, **at)


def _ends(quantity: str, values: Float, **cell: Any) -> Iterator[Row]:
    """The ends of the 95 % interval between percentiles."""
    found = evidence.percentile_interval(values[np.isfinite(values)])
    for bound, value in (("low", found.low), ("high", found.high)):
        yield {"quantity": quantity, **cell, "bound": bound, "value": _short(value)}


def _draws(quantity: str, values: Float, **cell: Any) -> Iterator[Row]:
    """The draws that are kept."""
    for draw, value in enumerate(values[:KEPT]):
        yield {"quantity": quantity, **cell, "draw": draw, "value": _short(value)}


def _short(value: float) -> float:
    """Of a draw six digits are kept."""
    return float(f"{value:.6g}")


def together(config: Config) -> Iterator[Row]:
    """The mean slope of the boards at monthly prices, and their closing minus that of the unbounded board.

    Closing is the gap's slope over its mean, over the months that all have, so that points and ratings compare; models
    are drawn anew.
    """
    found_here = boards(load(config), config)
    later = {board.name: board for board in found_here if board.dated_prices}
    unbounded = next((board for board in found_here if board.name == ELO), None)
    if not later:
        return
    gaps = [resampled_gaps(board.table, board.bands[0], config.resamples) for board in later.values()]
    mean = np.mean([gap_slopes(found) for found in gaps], axis=0)
    yield from _draws("monthly_slope_draw", mean[np.isfinite(mean)], origin="observed")
    if unbounded is None:
        return
    gaps.append(resampled_gaps(unbounded.table, unbounded.bands[0], config.resamples, seed=1))
    months = sorted(set.intersection(*(set(found.columns) for found in gaps)))
    *closing, other = [gap_slopes(found[months]) / found[months].mean(axis=1).to_numpy() for found in gaps]
    for name, found in zip(later, closing, strict=True):
        yield from _draws("closing_difference", found - other, origin="observed", board=name)


def maxima(board: Board, known: Mapping[str, pd.Series[float]], cell: Row) -> Iterator[Row]:
    """Differences of a board's running maxima from those that are known, by series."""
    for series, rows in [("overall", board.table), *((band.name, band.of(board.table)) for band in board.bands)]:
        if series in known:
            value = difference(new_bests(rows), known[series])
            yield {"quantity": "maxima_difference", **cell, "series": series, "value": value}


def difference(found: pd.Series[float], expected: pd.Series[float]) -> float:
    """Largest difference between two running maxima, `expected` by month; infinite if they rise in other months."""
    months = pd.DatetimeIndex(found.index).strftime("%Y-%m")
    if list(months) != list(expected.index):
        return float("inf")
    return float(np.abs(found.to_numpy() - expected.to_numpy()).max())


def authors_figure(config: Config) -> Iterator[Row]:
    """The gap of the parameter band by the authors' rule, in two orders of the rows, against their figure."""
    rows = scrape(load(config)["art_analysis"])
    board, band = rows.assign(score=rows["mmlu_pro"]), _parameter_band(config)
    cell = {"origin": "observed", "board": "MMLU-Pro"}
    yield from _two_orders(board, band, cell)
    gap = monthly_gap(board, band, first_new_bests)
    for month, expected in AUTHORS_GAP.items():
        found = gap.get(pd.Period(month, "M"), np.nan)
        yield {"quantity": "authors_difference", **cell, "date": month, "value": float(found - expected)}


def _two_orders(board: pd.DataFrame, band: Band, cell: Row) -> Iterator[Row]:
    for order in get_args(Order):
        gap = monthly_gap(board, band, partial(first_new_bests, order=order))
        yield from _gap(gap, quantity="gap_by_first", **cell, band=band.name, bound=order)


def _bests(rows: pd.DataFrame, **cell: Any) -> Iterator[Row]:
    for date, score in new_bests(rows).items():
        yield {"quantity": "best", **cell, "date": f"{date:%Y-%m-%d}", "value": float(score)}


def _gap(gap: pd.Series[float], quantity: str = "gap", **cell: Any) -> Iterator[Row]:
    months = pd.PeriodIndex(gap.index)
    for month, year, value in zip(months.astype(str), years(months), gap, strict=True):
        yield {"quantity": quantity, **cell, "date": month, "year": round(float(year), 6), "value": float(value)}


class Planted(NamedTuple):
    """A planted leaderboard and what is known of it."""

    board: Board
    truth: dict[str, pd.Series[float]]
    """Its running maxima by series, indexed by month."""


def plant_board(trend: Trend, seed: int, months: int = 24, models: int = 120) -> Planted:
    """Plant a leaderboard whose running maxima are known.

    The best overall rises at random; the band's best follows it at the distance of `PLANTED_GAPS`. Most new bests come
    with a lesser new best in the same month, ties and weaker models fill the board, some have no score or no price, and
    the rows are shuffled.

    Parameters
    ----------
    trend : {"closing", "widening", "steady"}
        What the gap does.
    seed : int
        Of everything.
    months, models : int
        Size of the board.
    """
    one_of("trend", trend, get_args(Trend))
    rng = np.random.default_rng([seed, get_args(Trend).index(trend)])
    dates = pd.date_range("2023-01-01", periods=months, freq="MS")
    rises = rng.integers(1, 6, months) * (rng.random(months) < 0.5)
    rises[0] = 0
    overall = 40 + np.cumsum(rises)
    distance = np.linspace(*PLANTED_GAPS[trend], months) + rng.integers(-1, 2, months)
    inside = np.maximum.accumulate(np.round(overall - distance)).astype(int)
    rows: list[tuple[int, float, bool]] = []  # month, score, whether in the band
    truth = {}
    for name, path in (("overall", overall), ("planted band", inside)):
        rose = np.diff(path, prepend=path[0] - 2) > 0
        truth[name] = pd.Series(path[rose].astype(np.float64), index=dates[rose].strftime("%Y-%m"))
        for month in np.flatnonzero(rose).tolist():
            rows.append((month, float(path[month]), path is inside))
            if month and path[month] - path[month - 1] > 1:
                rows.append((month, float(rng.integers(path[month - 1] + 1, path[month])), path is inside))
    while len(rows) < models:
        month, in_band = int(rng.integers(months)), bool(rng.random() < 0.3)
        top = int((inside if in_band else overall)[month])
        rows.append((month, float(rng.integers(top - 20, top + 1)) if rng.random() < 0.9 else np.nan, in_band))
    at, score, member = (np.array(column) for column in zip(*rows, strict=True))
    outside = np.where(rng.random(len(rows)) < 0.3, np.nan, rng.uniform(1.01, 60, len(rows)))
    table = pd.DataFrame({"model": [f"model {i}" for i in range(len(rows))], "date": dates[at], "score": score})
    table["price"] = np.where(member, rng.uniform(0.5, 1, len(rows)), outside)
    table = table.sample(frac=1, random_state=seed, ignore_index=True)
    return Planted(Board(trend, table, (Band("planted band", "price", 0.5, 1.0),)), truth)


def planted_boards(config: Config) -> Iterator[Row]:
    """What the methods find on planted boards; the first board of each trend in full, for the figures."""
    for trend in get_args(Trend):
        for seed in range(config.planted_boards):
            board, truth = plant_board(trend, seed, config.planted_months, config.planted_models)
            cell = {"origin": "planted", "board": trend, "seed": seed}
            (band,) = board.bands
            yield from maxima(board, truth, cell)
            if seed == 0:
                yield from board_records(board, config, cell)
                yield from _two_orders(board.table, band, cell)
            else:
                yield from _gap(monthly_gap(board.table, band), **cell, band=band.name)
            yield from _said(board, trend, config, cell)


def _said(board: Board, trend: Trend, config: Config, cell: Row) -> Iterator[Row]:
    """Whether the interval over models drawn anew says what was planted: below 0, above 0, or neither."""
    slopes = gap_slopes(resampled_gaps(board.table, board.bands[0], config.resamples))
    found = evidence.percentile_interval(slopes[np.isfinite(slopes)])
    right = {"closing": found.high < 0, "widening": found.low > 0, "steady": found.low <= 0 <= found.high}
    yield {"quantity": "said_right", **cell, "value": float(right[trend])}


# --- M3: from loss to MMLU -------------------------------------------------------------------------------------------


def plant_models(seed: int, sigmoid: Sigmoid, noise: float = 0.07, count: int = 30) -> pd.DataFrame:
    """Plant models whose score is a known sigmoid of the loss by Hoffmann's law, plus Gaussian noise.

    Unlike the published models they reach the sigmoid's ceiling, so that a fit can determine all of it.
    """
    rng = np.random.default_rng(seed)
    N = np.exp(rng.uniform(np.log(1e8), np.log(1e12), count))
    D = np.exp(rng.uniform(np.log(1e11), np.log(1e14), count))
    score = sigmoid(HOFFMANN.loss(N, D)) + noise * rng.standard_normal(count)
    return pd.DataFrame({"model": [f"planted {i}" for i in range(count)], "N": N, "D": D, "score": score})


def planted_sigmoids(config: Config) -> Iterator[Row]:
    """Whether the 95 % interval of each parameter covers the planted one; a table that determines none covers none."""
    for seed in range(config.planted_fits):
        rows = plant_models(seed, PAPER_SIGMOID, config.planted_noise)
        fit = _fitted(HOFFMANN.loss(rows["N"], rows["D"]), rows["score"])
        for name in NAMES:
            low, high = fit.interval(name) if fit else (np.inf, -np.inf)
            covered = low <= getattr(PAPER_SIGMOID, name) <= high
            yield {"quantity": "covered", "parameter": name, "seed": seed, "value": float(covered)}


def sigmoids(config: Config) -> Iterator[Row]:
    """The sigmoid by each law, and the largest gap in points that it projects: one law throughout, or the paper's.

    The paper fits with one law (L0 = 1.69) and projects with another (L0 = 1.7); here both readings are taken, and the
    models are resampled to see how well 30 of them determine the projection.
    """
    tables = load(config)
    rows, origin = models(tables), "observed" if "meek_benchmarks" in tables else "planted"
    for name, law in LAWS.items():
        for model, loss, value in zip(rows["model"], law.loss(rows["N"], rows["D"]), rows["score"], strict=True):
            at = {"origin": origin, "law": name, "model": model, "loss": float(loss)}
            yield {"quantity": "model_score", **at, "value": float(value)}
    grid = np.linspace(1.6, 2.9, 66)
    score = rows["score"].to_numpy()
    losses = {name: law.loss(rows["N"], rows["D"]) for name, law in LAWS.items()}
    # the same models are drawn for every law; draws that determine no sigmoid by some law are left out of all
    fits = {name: _resampled(loss, score, config.resamples) for name, loss in losses.items()}
    whole = [draw for draw in range(config.resamples) if all(found[draw] for found in fits.values())]
    for name, law in LAWS.items():
        cell = {"origin": origin, "law": name}
        fit, drawn = fit_sigmoid(losses[name], score), fits[name]
        for parameter, known in FIGURE_SIGMOID.items():
            if origin == "observed" and name == "Hoffmann, rounded":
                deviation = float(getattr(fit, parameter)) / known - 1
                yield {"quantity": "sigmoid_deviation", **cell, "parameter": parameter, "value": deviation}
        for projection, frontier in (("the same law", law.frontier()), ("the paper's law", PAPER)):
            at = {**cell, "projection": projection}
            yield {"quantity": "points_peak", **at, "value": 100 * peak_score_gap(fit, frontier).gap}
        for draw in whole[:KEPT]:
            if found := drawn[draw]:
                peak_gap = 100 * peak_score_gap(found, law.frontier()).gap
                yield {"quantity": "points_peak_draw", **cell, "draw": draw, "value": _short(peak_gap)}
        above = np.mean([found is None or float(found.ceiling) > 1 for found in drawn])
        yield {"quantity": "ceiling_above_one", **cell, "n": config.resamples, "value": float(above)}
        curves = np.array([found(grid) for found in drawn if found])
        low, high = np.quantile(curves, [0.025, 0.975], axis=0)
        for bound, curve in (("fit", fit(grid)), ("low", low), ("high", high)):
            for at_loss, value in zip(grid, curve, strict=True):
                yield {"quantity": "curve", **cell, "bound": bound, "loss": _short(at_loss), "value": _short(value)}


def _resampled(loss: Float, score: Float, draws: int) -> list[SigmoidFit | None]:
    rng = np.random.default_rng(0)
    return [_fitted(loss[index], score[index]) for index in rng.integers(0, len(loss), (draws, len(loss)))]


def _fitted(loss: Float, score: ArrayLike) -> SigmoidFit | None:
    try:
        return fit_sigmoid(loss, score)
    except ValueError:
        return None


# --- M4, M9: prices, and the head start of real systems --------------------------------------------------------------


def price_trends(config: Config) -> Iterator[Row]:
    """How fast the price of a fixed performance falls, over the regressions of Cottier et al. 2025."""
    table, column = load(config)["price_trends"], "price_reduction_factor_per_year"
    for at in table.to_dict("records"):
        cell = {"origin": "observed", "bench": at["bench"], "model": at["threshold_model"], "n": at["sample_size"]}
        ends = at[f"{column}_90_ci"].strip("[]").split(",")
        for level, value in zip(("fit", "low", "high"), (at[column], *ends), strict=True):
            yield {"quantity": "price_decline_of", **cell, "bound": level, "value": float(value)}
    factors = table[column]
    for statistic, value in (("minimum", factors.min()), ("median", factors.median()), ("maximum", factors.max())):
        cell = {"origin": "observed", "statistic": statistic, "n": len(factors)}
        yield {"quantity": "price_decline", **cell, "value": float(value)}


def head_starts(config: Config) -> Iterator[Row]:
    """kappa by year: the largest training compute of a language model so far over that of the meek.

    The meek are the median of the year's language models, or the paper's $1,000 at the price of its start. Resamples
    draw the year's models anew; the frontier is one model and stays. Every draw is kept for the last two years.
    """
    table = load(config)["ml_systems"]
    language = table[table["Domain"].str.contains("Language", na=False)]
    compute = language["Training compute (FLOP)"]
    year = pd.to_datetime(language["Publication date"], errors="coerce").dt.year
    rng = np.random.default_rng(0)
    last = int(year[compute.notna()].max())
    for at in range(config.first_year, last + 1):
        ours = compute[year == at].dropna().to_numpy()
        if len(ours) < 5:
            continue
        leader = float(compute[year <= at].max())
        cell = {"origin": "observed", "year": at}
        for meek, level in (("median model", float(np.median(ours))), ("$1,000", C0)):
            yield {"quantity": "head_start", **cell, "series": meek, "n": len(ours), "value": leader / level}
        drawn = leader / np.median(ours[rng.integers(0, len(ours), (config.resamples, len(ours)))], axis=1)
        for bound, share in (("low", 0.025), ("high", 0.975)):
            yield {"quantity": "head_start_bound", **cell, "bound": bound, "value": float(np.quantile(drawn, share))}
        if at > last - 2:
            yield from _draws("head_start_draw", drawn, **cell)

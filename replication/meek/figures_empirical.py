"""Figures of the empirical notebook; without the published tables they show planted data and say so."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import partial

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.evidence import Interval, percentile_interval, plots, rows_of
from replication.meek.experiments.empirical import LAWS

UNITS = {
    "MMLU-Pro": "MMLU-Pro, %",
    "Chatbot Arena": "rating",
    "Aider polyglot": "tasks solved, %",
    "MMLU-Pro, monthly prices": "MMLU-Pro, %",
    "GPQA, monthly prices": "GPQA, %",
    "LMArena Elo": "rating",
}
RATINGS = ("Chatbot Arena", "LMArena Elo")
"""Boards without a highest score."""
BLUE, DARK = plots.COLOURS[0], "0.15"


def best(records: pd.DataFrame) -> Figure:
    """Draw the best score so far, overall and within each band, one panel per board.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    rows = _shown(records, "best")
    count = _shown(records, "models_in_band").set_index(["board", "band"])["value"]
    last = _shown(records, "gap").groupby("board")["date"].max()
    figure, boards = _boards(rows)
    for axis, board in boards:
        part = rows[rows["board"] == board]
        for series, look in _bands(part["series"]).items():
            line = part[part["series"] == series].set_index("date")["value"]
            label = "overall" if series == "overall" else f"{series} (n = {count[board, series]:g})"
            dates = [*pd.to_datetime(line.index), *_months([last[board]])]
            axis.step(dates, [*line, line.iloc[-1]], where="post", **look, label=label)
        axis.set_ylabel(f"best so far: {UNITS.get(board, 'score, points')}")
        _dates(axis)
    return figure


def gaps(records: pd.DataFrame) -> Figure:
    """Draw the gap between the best overall and the best in each band, at the end of every month.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    rows = _shown(records, "gap")
    slopes = _shown(records, "gap_slope").set_index(["board", "band"])["value"]
    figure, boards = _boards(rows)
    for axis, board in boards:
        part = rows[rows["board"] == board]
        for band, look in _bands(part["band"]).items():
            line = part[part["band"] == band]
            label = f"{band}: {slopes[board, band]:+.0f} a year".replace("-", "−")
            axis.plot(_months(line["date"]), line["value"], **look, marker="o", ms=2.5, label=label)
        axis.axhline(0, **plots.RULE)
        axis.set_ylim(bottom=min(0, part["value"].min()) - 0.03 * part["value"].max())
        axis.set_ylabel("gap, rating points" if board in RATINGS else "gap, points")
        _dates(axis)
    return figure


def slopes(records: pd.DataFrame) -> Figure:
    """Draw each band's slope with its interval over models drawn anew, and the slopes of random bands.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    measured, drawn, minus, without = (
        dict(list(_shown(records, name).groupby(["board", "band"], sort=False)["value"]))
        for name in ("gap_slope", "gap_slope_draw", "slope_minus_random", "gap_slope_without")
    )
    series: dict[str, dict[str, Interval]] = {"band": {}, "random": {}}
    for (board, band), value in measured.items():
        row, here = f"{board}, {band}", value.item()
        ends = percentile_interval(drawn[board, band])
        series["band"][row] = Interval(here, ends.low, ends.high, ends.n)
        if (board, band) in minus:
            series["random"][row] = plots.transformed(
                percentile_interval(minus[board, band]), partial(operator.sub, here)
            )
    looks = {"band": {"color": BLUE}, "random": {"color": "0.6", "marker": "s"}}
    names = {"band": "the band, 95 % over models drawn anew", "random": "random bands, 95 %"}
    label = "slope of the gap, points (or rating points) a year; left of 0 it closes"
    figure, (axis,) = plots.panels(
        (_title(_shown(records, "gap_slope"), ""),), height=0.3 * len(measured) + 1, xlabel=label
    )
    places = plots.forest(axis, series, looks, label=names.__getitem__, at=0)
    for (board, band), left_out in without.items():
        y = places["band", f"{board}, {band}"]
        axis.plot(left_out, np.full(len(left_out), y), "|", color=DARK, ms=7, label="one record setter left out")
    return plots.legend(figure)


def lost_bests(records: pd.DataFrame) -> Figure:
    """Draw the gap by the running maxima and by the authors' rule, for two orders of the same rows.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    rows = _shown(records, "gap_by_first")
    board, band = rows[["board", "band"]].iloc[0]
    rows, right = (
        frame[(frame["board"] == board) & (frame["band"] == band)] for frame in (rows, _shown(records, "gap"))
    )
    theirs = "" if "planted" in _title(rows, "") else " (the authors' figure)"
    curves = {
        "running maxima": right,
        f"first new best, order of an unstable sort{theirs}": rows[rows["order"] == "heapsort"],
        "first new best, order of the table": rows[rows["order"] == "stable"],
    }
    figure, (axis,) = plots.panels((_title(rows, f"{board}, {band}"),), height=3.4, ylabel="gap, points")
    looks = zip((DARK, *plots.COLOURS[1::-1]), ("-", "--", ":"), strict=True)
    for (label, part), (colour, style) in zip(curves.items(), looks, strict=True):
        axis.plot(_months(part["date"]), part["value"], color=colour, ls=style, lw=2, label=label)
    axis.set_ylim(bottom=0)
    _dates(axis)
    return figure


def mmlu(records: pd.DataFrame) -> Figure:
    """Draw the models' MMLU over their loss with the fitted sigmoid, by the paper's law and by another.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    scores = _shown(records, "model_score")
    rows, above = _shown(records, "curve"), _shown(records, "ceiling_above_one").set_index("law")["value"]
    names = [name for name in LAWS if name != "Hoffmann"]
    titles = [f"{name}: ceiling above 1 in {100 * above[name]:.0f} % of resamples" for name in names]
    label = "loss by the law, nats per token\n(falls to the right)"
    figure, axes = plots.panels(titles, height=3.4, share="y", xlabel=label, ylabel="MMLU, share correct")
    for axis, name in zip(axes, names, strict=True):
        curve = rows[rows["law"] == name].pivot_table(index="loss", columns="bound", values="value").clip(upper=1.2)
        models = scores[scores["law"] == name]
        loss = models["loss"]
        found = {x: Interval(at["fit"], at["low"], at["high"], 0) for x, at in curve.iterrows()}
        plots.curves(axis, {"sigmoid; shade: 95 % over resampled models": found})
        axis.plot(loss, models["value"], "o", color=DARK, ms=4, label=f"{len(models)} models")
        axis.axvline(loss.min(), **plots.DOTTED, label="lowest loss among them")
        axis.axhline(1, **plots.DASHED, label="highest possible score")
        axis.set(xlim=(2.9, 1.6), ylim=(0, 1.2))
    figure.suptitle(_title(rows, ""), fontsize=plots.SIZE)
    return plots.legend(figure)


def head_starts(records: pd.DataFrame) -> Figure:
    """Draw the frontier's head start in training compute by year, and the level above which the gap only shrinks.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    rows, bounds = _shown(records, "head_start"), _shown(records, "head_start_bound")
    budget, ours = (rows[(rows["meek"] == "$1,000") == paper] for paper in (True, False))
    low, high = (bounds[bounds["bound"] == bound].set_index("year")["value"] for bound in ("low", "high"))
    years = ours["year"]
    median = {
        year: Interval(*of) for year, *of in zip(years, ours["value"], low[years], high[years], ours["n"], strict=True)
    }
    series = {
        "over the year's median model, 95 % interval": median,
        "over the paper's $1,000 (1e20 FLOP)": budget.set_index("year")["value"],
    }
    figure, (axis,) = plots.panels(
        height=3.4, xlabel="year", ylabel="frontier's training compute / the meek's", log="y"
    )
    plots.curves(axis, series)
    for year, one in median.items():
        plots.note(axis, f"n = {one.n:g}", year, one.high, xytext=(0, 3), ha="center")
    axis.axhline(71.9, **plots.DOTTED, label="71.9: above it the model's gap only shrinks")
    axis.axhline(1, **plots.RULE, label="1: the paper's start")
    axis.set_ylim(bottom=0.5)
    return plots.legend(figure)


def price_trends(records: pd.DataFrame) -> Figure:
    """Draw the yearly price decline of every regression of Cottier et al. 2025 with its 90 % interval.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    table = rows_of(records, "price_decline_of")
    wide = table.pivot_table(index=["bench", "model", "n"], columns="bound", values="value", sort=False)
    series: dict[str, dict[int, Interval]] = {bench: {} for bench in table["bench"]}
    rows: dict[int, str] = {}
    for at in wide.sort_values("fit", ascending=False).reset_index().to_dict("records"):
        series[at["bench"]][len(rows)] = Interval(at["fit"], at["low"], at["high"], int(at["n"]))
        rows[len(rows)] = f"{at['model']} (n = {at['n']:g})"
    label = "factor by which the price of a fixed performance falls in a year"
    figure, (axis,) = plots.panels(height=4.6, xlabel=label, ylabel="performance of (regression's points)", log="x")
    plots.forest(axis, series, rows=rows, at=1)
    axis.axvline(9, **plots.DOTTED, label="9: the paper's faster panel")
    axis.set_xlim(0.5, 5000)
    return plots.legend(figure)


def _shown(records: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Rows of a quantity: observed ones, else those of the first planted data."""
    rows = rows_of(records, quantity)
    observed = rows[rows["origin"] == "observed"]
    return observed if len(observed) else rows[rows["seed"].fillna(0) == 0]


def _title(rows: pd.DataFrame, name: str) -> str:
    planted = "planted data" if (rows["origin"] == "planted").all() else ""
    return ", ".join(part for part in (name, planted) if part)


def _months(months: Iterable[str]) -> pd.DatetimeIndex:
    """The ends of months."""
    return pd.PeriodIndex(list(months), freq="M").to_timestamp(how="end")


def _bands(names: Iterable[str]) -> dict[str, plots.Look]:
    """The look of each series; the best overall is dark and solid."""
    listed = list(dict.fromkeys(names))
    looks = plots.distinct(name for name in listed if name != "overall")
    drawn = {name: {"color": look["color"], "ls": look["ls"], "lw": 1.6} for name, look in looks.items()}
    return {name: drawn.get(name, {"color": DARK, "lw": 1.6}) for name in listed}


def _boards(rows: pd.DataFrame) -> tuple[Figure, list[tuple[Axes, str]]]:
    """A panel per board."""
    boards = list(rows["board"].unique())
    titles = [_title(rows, board) for board in boards]
    figure, axes = plots.panels(titles, height=2.9, columns=min(len(boards), 3))
    return figure, list(zip(axes, boards, strict=True))


def _dates(axis: Axes) -> None:
    """Ticks of dates, and the names of the series below them."""
    locator = mdates.AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, fontsize=plots.SIZE - 2)

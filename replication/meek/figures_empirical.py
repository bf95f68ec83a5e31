"""Figures of the empirical notebook; without the published tables they show planted data and say so."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.evidence import Interval, Outcome, PaperClaims, plots, rounded, rows_of
from replication.meek.experiments.empirical import LAST_OF_PAPER, LATER, LAWS
from replication.meek.gap import PAPER_GROWTH, peak_time

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


def later(records: pd.DataFrame) -> Figure:
    """Draw the gap on the boards that reach beyond the paper's data, or those that are there; no legend.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    rows = _shown(records, "gap")
    boards = [board for board in LATER if board in set(rows["board"])]
    if not boards:
        return gaps(records)
    ends = rows_of(records, "gap_of_draws").pivot_table(index=["board", "date"], columns="bound", values="value")
    slope = _shown(records, "drawn_slope").pivot_table(index="board", columns="bound", values="value")
    titles = []
    for board in boards:
        low, high = slope.loc[board, ["low", "high"]].to_numpy(dtype=float)
        said = "closes" if high < 0 else "widens" if low > 0 else "undecided"
        titles.append(f"{board.partition(',')[0]}: {said}")
    figure, axes = plots.panels(titles, height=2.9)
    for axis, board in zip(axes, boards, strict=True):
        line = rows[rows["board"] == board].set_index("date")["value"]
        band = ends.loc[board].loc[line.index]
        axis.xaxis_date()
        dates = mdates.date2num(_months(line.index))  # type: ignore[no-untyped-call]
        after = mdates.date2num(_months([str(LAST_OF_PAPER)]))[0]  # type: ignore[no-untyped-call]
        axis.axvspan(after, dates[-1], color="0.93", lw=0, zorder=0)
        axis.fill_between(dates, band["low"], band["high"], color=BLUE, alpha=0.18, lw=0)
        axis.plot(dates, line, color=BLUE, marker="o", ms=2.5, lw=1.6)
        axis.axhline(0, **plots.RULE)
        top = 1.12 * float(band["high"].max())
        axis.set_ylim(-0.03 * top, top)
        plots.note(axis, "after the\npaper", after, top, xytext=(2, -3), va="top")
        first, last = float(line.iloc[0]), float(line.iloc[-1])
        plots.note(axis, f"{first:.0f}", dates[0], first, xytext=(3, 3))
        plots.note(axis, f"{last:.0f}", dates[-1], last, xytext=(4, 0), va="center")
        axis.set_xlim(right=dates[-1] + 0.12 * (dates[-1] - dates[0]))
        axis.set_ylabel("gap, rating points" if board in RATINGS else "gap, points")
        _ticks(axis)
    return figure


def shown(records: pd.DataFrame) -> str:
    """Which boards the key figure shows."""
    rows = _shown(records, "gap")
    if set(LATER) & set(rows["board"]):
        return "Boards that reach beyond the paper's data"
    observed = (rows["origin"] == "observed").any()
    return "Boards of the paper's time" if observed else "Planted boards; no published table was read"


def told(records: pd.DataFrame, outcomes: Iterable[Outcome], claims: PaperClaims, scale: str) -> str:
    """Whether the gap went on closing beyond the paper's data, board by board, in sentences of Markdown.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    outcomes, claims, scale
        What the records say to the tests, the tests, and the profile.
    """
    rows, of = _shown(records, "gap"), {outcome.test_id: outcome for outcome in outcomes}
    if not set(LATER) & set(rows["board"]):
        if (rows["origin"] == "observed").any():
            return "No table that reaches beyond the paper's data was read."
        return (
            "No published table was read: what is shown are planted boards, which check the methods and say nothing of "
            "models."
        )
    said = ["**Did the gap keep closing after the paper?** Best of all models minus best at a low price:"]
    for board, name in zip(LATER, ("M7-mmlu", "M7-gpqa", "M10-elo"), strict=True):
        line = rows[rows["board"] == board].set_index("date")["value"]
        if line.empty:
            continue
        whole, since = of[name], of[f"{name}-since"]
        unit = claims.unit(claims.test(since.test_id, scale))
        slope, change = (rounded(one.estimate, one.low, one.high) for one in (whole, since))
        trend = {"yes": "it closes", "no": "it does not close"}.get(whole.answer, "undecided whether it closes")
        now = {"yes": "it is smaller since", "no": "it is not smaller since"}.get(since.answer, "undecided since")
        levels = [f"{line[at]:.0f} ({at})" for at in (line.index[0], str(LAST_OF_PAPER), line.index[-1])]
        prices = "input prices of one day" if board in RATINGS else "output prices of each month"
        said.append(
            f"- **{board.partition(',')[0]}**, {prices}: {', '.join(levels)} {unit}. Over all months {trend} "
            f"({slope} {unit} a year); after the paper's data {now} ({change} {unit})."
        )
    control = of.get("M7-control")
    if control is not None and control.estimate is not None:
        band = {"board": "MMLU-Pro", "band": "price band"}
        slope = rows_of(records, "gap_slope", **band)["value"].item()
        low, high = sorted(rows_of(records, "random_slope", **band)["value"])
        than = {"yes": "closes faster than", "no": "closes no faster than"}.get(control.answer, "cannot be told from")
        said.append(
            f"- **Is it the price?** On the authors' scrape the price band's gap changes by {slope:.0f} points a year, "
            f"that of as many random models released in the same months by {low:.0f} to {high:.0f}: the band {than} "
            f"these (difference {rounded(control.estimate, control.low, control.high)})."
        )
    if (real := of.get("M9-real")) is not None and real.estimate is not None:
        starts = rows_of(records, "head_start", series="median model").set_index("year")["value"].iloc[-2:]
        told = " and ".join(f"{value:,.0f} times ({year:g})" for year, value in starts.items())
        only = {"yes": "only shrinks", "no": "still rises"}.get(real.answer, "may still rise")
        said.append(
            f"- **Head start.** The largest language model had {told} the compute of the year's median one; given the "
            f"model, the gap in loss {only} from there."
        )
    return "\n".join(
        [
            *said,
            "",
            "Brackets hold 95 % of the draws when models are drawn anew. These tables had been looked at before the",
            "rules were written: a first reading said yes in MMLU-Pro, not clearly in GPQA, not in Elo since 2024.",
        ]
    )


def prices(records: pd.DataFrame) -> str:
    """How few the prices of a month are, and which are no month's, in Markdown; empty if their table was not read.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``empirical``.
    """
    if not (records["quantity"] == "affordable_prices").any():
        return ""
    months = rows_of(records, "affordable_prices").set_index("date")["value"]
    listed, early = (rows_of(records, name)["value"].item() for name in ("list_prices", "prices_before_release"))
    return (
        f"- Within the limit there are {months.iloc[:-1].min():g} to {months.iloc[:-1].max():g} prices a month before "
        f"{months.index[-1]}, and {months.iloc[-1]:g} then: part of what comes later is that more prices are known. "
        f"{listed:g} models have a list price only, which counts from {LAST_OF_PAPER} or their release on; {early:g} "
        "prices of months before a model's release are left out."
    )


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
    measured = _shown(records, "gap_slope").set_index(["board", "band"])["value"]
    looks = {
        "drawn_slope": ("95 %, models drawn anew", {"color": BLUE}),
        "block_slope": ("95 %, months drawn anew in blocks", {"color": plots.COLOURS[1], "marker": "none"}),
        "random_slope": ("random bands, 95 %", {"color": "0.6", "marker": "none"}),
    }
    series: dict[str, dict[str, Interval]] = {name: {} for name in looks}
    for name in looks:
        rows = _shown(records, name)
        ends = rows.pivot_table(index=["board", "band"], columns="bound", values="value", sort=False)
        for (board, band), low, high in zip(ends.index, ends["low"], ends["high"], strict=True):
            here = measured[board, band] if name != "random_slope" else (low + high) / 2
            series[name][f"{board}, {band}"] = Interval(float(here), low, high, 0)
    without = dict(list(_shown(records, "gap_slope_without").groupby(["board", "band"], sort=False)["value"]))
    label = "slope of the gap, points (or rating points) a year; left of 0 it closes"
    figure, (axis,) = plots.panels(
        (_title(_shown(records, "gap_slope"), ""),), height=0.42 * len(measured) + 1, xlabel=label
    )
    styles = {name: look for name, (_, look) in looks.items()}
    rows_shown = {f"{board}, {band}": f"{board},\n{band}" for board, band in measured.index}
    places = plots.forest(axis, series, styles, label=lambda name: looks[name][0], rows=rows_shown, at=0)
    for (board, band), left_out in without.items():
        y = places["drawn_slope", f"{board}, {band}"]
        axis.plot(left_out, np.full(len(left_out), y), "|", color=DARK, ms=7, label="one model left out")
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
        f"first new best, order of an unstable sort{theirs}": rows[rows["bound"] == "heapsort"],
        "first new best, order of the table": rows[rows["bound"] == "stable"],
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
    budget, ours = (rows[(rows["series"] == "$1,000") == paper] for paper in (True, False))
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
    # the head start with which the peak lies at the start
    level = float(PAPER_GROWTH.g_i ** peak_time())
    axis.axhline(level, **plots.DOTTED, label=f"{level:.1f}: above it the model's gap only shrinks")
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
    _ticks(axis)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, fontsize=plots.SIZE - 2)


def _ticks(axis: Axes) -> None:
    locator = mdates.AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]

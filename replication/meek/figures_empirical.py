"""Figures of the empirical notebook; without the published tables they show planted data and say so."""

from __future__ import annotations

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.meek.experiments.empirical import LAWS

OVERALL = "0.15"
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
STYLES = ("-", "--", ":", "-.")


def best(records: pd.DataFrame) -> Figure:
    """Draw the best score so far, overall and within each band, one panel per board.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``empirical.run``.
    """
    rows = _shown(records, "best")
    count = _shown(records, "models_in_band").set_index(["board", "band"])["value"]
    ends = _ends(records)
    figure, axes = _panels(rows)
    for axis, board in zip(axes, rows["board"].unique(), strict=True):
        part = rows[rows["board"] == board]
        for series, colour, style in _series(part["series"]):
            line = part[part["series"] == series]
            label = "overall" if series == "overall" else f"{series} (n = {count[board, series]:g})"
            dates = [*pd.to_datetime(line["date"]), ends[board]]
            values = [*line["value"], line["value"].iloc[-1]]
            axis.step(dates, values, where="post", color=colour, ls=style, lw=2, label=label)
        axis.set_ylabel(f"best so far: {UNITS.get(board, 'score, points')}")
        _finish(axis, _title(rows, board))
    return figure


def gaps(records: pd.DataFrame) -> Figure:
    """Draw the gap between the best overall and the best in each band, at the end of every month.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``empirical.run``.
    """
    rows = _shown(records, "gap")
    slopes = _shown(records, "gap_slope").set_index(["board", "band"])["value"]
    figure, axes = _panels(rows)
    for axis, board in zip(axes, rows["board"].unique(), strict=True):
        part = rows[rows["board"] == board]
        for band, colour, style in _series(part["band"]):
            line = part[part["band"] == band]
            dates = pd.PeriodIndex(line["date"], freq="M").to_timestamp(how="end")
            label = f"{band}: {slopes[board, band]:+.0f} a year".replace("-", "−")
            axis.plot(dates, line["value"], color=colour, ls=style, marker="o", ms=3.5, lw=1.8, label=label)
        axis.axhline(0, color="0.6", lw=0.8)
        axis.set_ylim(bottom=min(0, part["value"].min()) - 0.03 * part["value"].max())
        axis.set_ylabel("gap, rating points" if board in RATINGS else "gap, points")
        _finish(axis, _title(rows, board))
    return figure


def slopes(records: pd.DataFrame) -> Figure:
    """Draw each band's slope with its interval over models drawn anew, and the slopes of random bands.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``empirical.run``.
    """
    rows = _shown(records, "gap_slope").iloc[::-1].reset_index(drop=True)
    drawn, minus, without = (
        _shown(records, name) for name in ("gap_slope_draw", "slope_minus_random", "gap_slope_without")
    )
    figure, axis = plt.subplots(figsize=(8.5, 1.2 + 0.55 * len(rows)), layout="constrained")
    blue = sns.color_palette("colorblind")[0]
    for y, row in enumerate(rows.to_dict("records")):
        again, random, left_out = (_values(frame, row["board"], row["band"]) for frame in (drawn, minus, without))
        if len(random):
            axis.plot(
                row["value"] - np.quantile(random, [0.025, 0.975]), [y, y], color="0.8", lw=11, solid_capstyle="butt"
            )
        axis.plot(np.quantile(again, [0.025, 0.975]), [y, y], color=blue, lw=2.5, solid_capstyle="butt")
        axis.plot(left_out, np.full(len(left_out), y), "|", color="0.35", ms=9)
        axis.plot(row["value"], y, "o", color=blue, ms=7)
    axis.plot([], [], "o-", color=blue, lw=2.5, label="the band, 95 % over models drawn anew")
    axis.plot([], [], "|", color="0.35", ms=9, label="one record setter left out")
    axis.plot([], [], color="0.8", lw=11, label="random bands, 95 %")
    axis.axvline(0, color="black", lw=1)
    axis.set_yticks(range(len(rows)), rows["board"] + ", " + rows["band"])
    axis.set(
        xlabel="slope of the gap, points (or rating points) a year; left of 0 it closes", ylim=(-0.6, len(rows) - 0.4)
    )
    axis.set_title(_title(rows, ""), fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def lost_bests(records: pd.DataFrame) -> Figure:
    """Draw the gap by the running maxima and by the authors' rule, for two orders of the same rows.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``empirical.run``.
    """
    rows = _shown(records, "gap_by_first")
    board, band = rows[["board", "band"]].iloc[0]
    rows, right = (
        frame[(frame["board"] == board) & (frame["band"] == band)] for frame in (rows, _shown(records, "gap"))
    )
    figure, axis = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
    palette = sns.color_palette("colorblind")
    theirs = "" if "planted" in _title(rows, "") else " (the authors' figure)"
    curves = (
        ("running maxima", right, OVERALL, "-"),
        (f"first new best, order of an unstable sort{theirs}", rows[rows["order"] == "heapsort"], palette[1], "--"),
        ("first new best, order of the table", rows[rows["order"] == "stable"], palette[0], ":"),
    )
    for label, part, colour, style in curves:
        dates = pd.PeriodIndex(part["date"], freq="M").to_timestamp(how="end")
        axis.plot(dates, part["value"], color=colour, ls=style, lw=2, label=label)
    axis.set(ylabel="gap, points", ylim=(0, None))
    _finish(axis, _title(rows, f"{board}, {band}"))
    return figure


def mmlu(records: pd.DataFrame, models: pd.DataFrame) -> Figure:
    """Draw the models' MMLU over their loss with the fitted sigmoid, by the paper's law and by another.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``empirical.run``.
    models : DataFrame
        From ``empirical.models``.
    """
    rows, above = _shown(records, "curve"), _shown(records, "ceiling_above_one").set_index("law")["value"]
    names = [name for name in LAWS if name != "Hoffmann"]
    figure, axes = plt.subplots(1, len(names), figsize=(11, 4), sharey=True, layout="constrained")
    blue = sns.color_palette("colorblind")[0]
    for axis, name in zip(axes, names, strict=True):
        curve = rows[rows["law"] == name].pivot_table(index="loss", columns="bound", values="value")
        loss = LAWS[name].loss(models["N"], models["D"])
        axis.fill_between(curve.index, curve["low"], curve["high"].clip(upper=1.2), color=blue, alpha=0.2, lw=0)
        axis.plot(curve.index, curve["fit"], color=blue, lw=2, label="sigmoid; shade: 95 % over resampled models")
        axis.plot(loss, models["score"], "o", color=OVERALL, ms=5, label=f"{len(models)} models")
        axis.axvline(loss.min(), color="0.5", lw=1, ls=":", label="lowest loss among them")
        axis.axhline(1, color="0.5", lw=1, ls="--", label="highest possible score")
        axis.set(xlim=(2.9, 1.6), ylim=(0, 1.2), xlabel="loss by the law, nats per token (falls to the right)")
        axis.set_title(f"{name}: ceiling above 1 in {100 * above[name]:.0f} % of resamples", fontsize=11)
    axes[0].set_ylabel("MMLU, share correct")
    figure.suptitle(_title(rows, ""), fontsize=11)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def head_starts(records: pd.DataFrame) -> Figure:
    """Draw the frontier's head start in training compute by year, and the level above which the gap only shrinks.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``empirical.run``.
    """
    rows, bounds = _shown(records, "head_start"), _shown(records, "head_start_bound")
    figure, axis = plt.subplots(figsize=(8.5, 4), layout="constrained")
    blue, orange = sns.color_palette("colorblind")[0:2]
    budget = rows[rows["meek"] == "$1,000"]
    axis.plot(budget["year"], budget["value"], "s--", color=orange, lw=1.5, label="over the paper's $1,000 (1e20 FLOP)")
    ours = rows[rows["meek"] != "$1,000"]
    low, high = (bounds.loc[bounds["bound"] == bound, "value"].to_numpy() for bound in ("low", "high"))
    axis.plot(ours["year"], ours["value"], "o-", color=blue, lw=2, label="over the year's median model, 95 % interval")
    axis.vlines(ours["year"], low, high, color=blue, lw=1.5)
    for year, count, top in zip(ours["year"], ours["n"], high, strict=True):
        axis.annotate(f"n = {count:g}", (year, top), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=8)
    axis.axhline(71.9, color="black", lw=1, ls=":", label="71.9: above it the model's gap only shrinks")
    axis.axhline(1, color="0.6", lw=1, label="1: the paper's start")
    axis.set(yscale="log", xlabel="year", ylabel="frontier's training compute / the meek's", ylim=(0.5, None))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def price_trends(table: pd.DataFrame) -> Figure:
    """Draw the yearly price decline of every regression of Cottier et al. 2025 with its 90 % interval.

    Parameters
    ----------
    table : DataFrame
        ``price_trends`` of ``empirical.load``.
    """
    column = "price_reduction_factor_per_year"
    rows = table.sort_values(column, ignore_index=True)
    ends = rows[f"{column}_90_ci"].str.strip("[]").str.split(",", expand=True).astype(float)
    figure, axis = plt.subplots(figsize=(8.5, 5.6), layout="constrained")
    benches = list(dict.fromkeys(rows["bench"]))
    for bench, colour, marker in zip(benches, sns.color_palette("colorblind"), "osD^vP", strict=False):
        part = rows.index[rows["bench"] == bench]
        axis.hlines(part, ends.loc[part, 0], ends.loc[part, 1], color=colour, lw=1.4)
        axis.plot(rows.loc[part, column], part, marker, color=colour, ms=6, label=bench)
    axis.axvline(9, color="black", lw=1, ls=":", label="9: the paper's faster panel")
    axis.axvline(1, color="0.6", lw=0.8)
    axis.set_yticks(rows.index, [f"{row.threshold_model} (n = {row.sample_size})" for row in rows.itertuples()])
    axis.tick_params(axis="y", labelsize=8)
    axis.set(xscale="log", xlim=(0.5, 5000), xlabel="factor by which the price of a fixed performance falls in a year")
    axis.set_ylabel("performance of (regression's points)")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _shown(records: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Rows of a quantity: observed ones, else those of the first planted data."""
    rows = records[records["quantity"] == quantity]
    if rows.empty:
        raise ValueError(
            f"records: no rows of {quantity!r}; give the records of replication.meek.experiments.empirical.run"
        )
    observed = rows[rows["origin"] == "observed"]
    return observed if len(observed) else rows[rows["seed"].fillna(0) == 0]


def _values(rows: pd.DataFrame, board: str, band: str) -> pd.Series[float]:
    return rows.loc[(rows["board"] == board) & (rows["band"] == band), "value"]


def _title(rows: pd.DataFrame, name: str) -> str:
    planted = "planted data" if (rows["origin"] == "planted").all() else ""
    return ", ".join(part for part in (name, planted) if part)


def _ends(records: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """The end of the last month of each board."""
    last = _shown(records, "gap").groupby("board")["date"].max()
    return pd.Series(pd.PeriodIndex(last, freq="M").to_timestamp(how="end"), index=last.index)


def _series(names: pd.Series[str]) -> list[tuple[str, object, object]]:
    """Each series with its colour and line style; the best overall is dark and solid."""
    listed = list(dict.fromkeys(names))
    bands = [name for name in listed if name != "overall"]
    palette = sns.color_palette("colorblind")
    looks: dict[str, tuple[object, object]] = {"overall": (OVERALL, "-")}
    looks |= {name: (palette[i], STYLES[i]) for i, name in enumerate(bands)}
    return [(name, *looks[name]) for name in listed]


def _panels(rows: pd.DataFrame) -> tuple[Figure, list[Axes]]:
    count = rows["board"].nunique()
    across, down = min(count, 3), -(-count // 3)
    size = (1 + 4.2 * across, 4.2 * down)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for spare in axes.flat[count:]:
        spare.set_visible(False)
    return figure, list(axes.flat[:count])


def _finish(axis: Axes, title: str) -> None:
    locator = mdates.AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axis.set_title(title, fontsize=11)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, fontsize=9)

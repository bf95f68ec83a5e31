"""Figures and tables of the ladder notebook; each answers one question and takes the tidy records of its experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

from replication.evidence import Table, rows_of
from replication.meek.law import Float
from replication.meek.sprt import sprt_tokens

MEASURED = (0.15, 0.15, 0.15)
FIT, KNOWN = sns.color_palette("colorblind")[:2]
"""Colours of what was measured, of the fitted law, and of the law with the entropy known."""


def isoflop(records: pd.DataFrame) -> Figure:
    """Draw the loss over model size for every budget, the chosen frontier, and the source's entropy.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``ladder.run``.
    """
    losses, sizes = rows_of(records, "loss"), rows_of(records, "frontier_size").set_index("budget")["value"]
    frontier = rows_of(records, "frontier_loss").groupby("budget")["value"].mean()
    figure, axis = plt.subplots(figsize=(8, 4.4), layout="constrained")
    budgets = sorted(losses["budget"].unique())
    for budget, colour in zip(budgets, sns.color_palette("viridis", len(budgets)), strict=True):
        curve = _intervals(losses[losses["budget"] == budget], "size")
        axis.errorbar(curve.x, curve.mean, curve.half, fmt="o-", ms=4, lw=1.4, color=colour, label=_flop(budget))
    axis.plot(
        sizes,
        frontier[sizes.index],
        "*--",
        ms=11,
        lw=0.9,
        color="0.15",
        mec="white",
        mew=0.6,
        label="least loss, by parabola",
    )
    axis.axhline(_entropy(records), color=KNOWN, lw=1.4, ls=":", label="entropy: no model\ncan be better")
    axis.set(xscale="log", xlabel="model size N, parameters outside the embedding", ylabel="loss, nats per token")
    axis.legend(title="training compute, FLOP", loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.grid(alpha=0.3)
    return figure


def frontier(records: pd.DataFrame) -> Figure:
    """Draw the best loss over compute beside the fitted law and the law with the entropy known, beyond the ladder too.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``ladder.run``.
    """
    points = _intervals(rows_of(records, "frontier_loss"), "budget")
    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    _laws(axis, records, "predicted_loss", "compute")
    axis.errorbar(points.x, points.mean, points.half, fmt="o", ms=5, color=MEASURED, label="measured frontier")
    axis.axhline(_entropy(records), color="0.35", lw=1.2, ls=":", label="entropy of the source")
    _beyond(axis, points.x[-1], rows_of(records, "predicted_loss")["compute"].max())
    axis.set(xscale="log", xlabel="training compute, FLOP", ylabel="loss, nats per token")
    axis.margins(x=0.02)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.grid(alpha=0.3)
    return figure


def gap(records: pd.DataFrame) -> Figure:
    """Draw the gap between the two actors over time, measured and predicted; dotted where each is largest.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``ladder.run``.
    """
    rows, times = rows_of(records, "measured_gap"), rows_of(records, "predicted_peak_time").set_index("law")["value"]
    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    _laws(axis, records, "predicted_gap", "t")
    for _, line in rows.groupby("seed"):
        axis.plot(line["t"], line["value"], color=MEASURED, lw=0.7, alpha=0.6)
    mean = rows.groupby("t")["value"].mean()
    axis.plot(mean.index, mean, color=MEASURED, lw=2.6, label="measured: mean,\nand each seed (thin)")
    years = float(rows["t"].max())
    for time, colour in (
        (float(mean.index.to_numpy()[mean.argmax()]), MEASURED),
        (times["fit"], FIT),
        (times["known entropy"], KNOWN),
    ):
        axis.axvline(time, color=colour, lw=1.6, ls=":")
    axis.axvspan(times["fit, low"], times["fit, high"], color=FIT, alpha=0.1, lw=0, label="95 % interval of its peak")
    _beyond(axis, years, rows_of(records, "predicted_gap")["t"].max())
    axis.set(xlabel="years from equal compute", ylabel="loss of the meek minus loss of the leader,\nnats per token")
    axis.margins(x=0)
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.grid(alpha=0.3)
    return figure


def stopping(records: pd.DataFrame, *, error: float) -> Figure:
    """Draw the tokens that sequential tests took against the two formulas, and how often they chose wrongly.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``ladder.run``.
    error : float
        Error rate that the tests were asked for.
    """
    table = _tests(records)
    mean = table.groupby("pair").mean().sort_values("delta_loss")
    figure, (tokens, wrong) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1.2, 1), layout="constrained")
    grid = np.geomspace(mean["delta_loss"].min() / 1.3, mean["delta_loss"].max() * 1.3, 50)
    wald = sprt_tokens(grid, error)
    tokens.plot(grid, wald, color=FIT, lw=1.8, label=f"the paper: {wald[0] * grid[0]:.2f} / difference")
    drift = mean["stopping_tokens"] / mean["drift_ratio"]
    hollow = {"fmt": "D", "ms": 7, "mfc": "none", "color": KNOWN, "label": "random walk with the measured variance"}
    tokens.errorbar(mean["delta_loss"], drift, **hollow)
    measured = {"fmt": "o", "ms": 5, "color": MEASURED, "label": "measured"}
    half = _half(table, "stopping_tokens")[mean.index]
    tokens.errorbar(mean["delta_loss"], mean["stopping_tokens"], half, **measured)
    tokens.set(xscale="log", yscale="log", xlabel="difference of the two models' losses, nats per token")
    tokens.set_ylabel("tokens until the decision")
    _plain_ticks(tokens)
    tokens.legend(frameon=False)

    rows = np.arange(len(mean))
    bound = np.log((1 - error) / error)
    walk = (1 - np.tanh(bound / (2 * mean["variance_over_walds"]))) / 2
    wrong.axvline(100 * error, color=FIT, lw=1.8)
    wrong.errorbar(100 * walk, rows, **hollow)
    half = _half(table, "wrong_decisions")[mean.index]
    wrong.errorbar(100 * mean["wrong_decisions"], rows, xerr=100 * half, **measured)
    wrong.set(xlabel="wrong decisions, % (line: what was asked for)")
    _pairs(wrong, mean.index)
    for axis in (tokens, wrong):
        axis.grid(alpha=0.3)
    return figure


def wald_factors(records: pd.DataFrame, *, error: float) -> Figure:
    """Draw why the stopping time is close to Wald's: errors shorten it, the overshoot of the boundary lengthens it.

    By Wald's identity the mean stopping time is the mean of the final sum over the drift. Against Wald's formula that
    is a factor (1 - 2 w)/(1 - 2 eps) for a share w of wrong decisions, times one for how far the sum ends beyond the
    bound.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``ladder.run``.
    error : float
        Error rate eps that the tests were asked for.
    """
    table = _tests(records)
    table["errors"] = (1 - 2 * table["wrong_decisions"]) / (1 - 2 * error)
    table["product"] = table["errors"] * table["reached_over_bound"]
    mean = table.groupby("pair").mean().sort_values("delta_loss")
    figure, axis = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
    colours = sns.color_palette("colorblind")
    marks = {
        "errors": ("<", colours[4], "share of wrong decisions"),
        "reached_over_bound": (">", colours[2], "the sum ends beyond the bound"),
        "product": ("D", KNOWN, "both together"),
        "stopping_ratio": ("o", MEASURED, "measured stopping time"),
    }
    for shift, (column, (marker, colour, label)) in zip((0.24, 0.08, -0.08, -0.24), marks.items(), strict=True):
        half = _half(table, column)[mean.index]
        rows = np.arange(len(mean)) + shift
        axis.errorbar(mean[column], rows, xerr=half, fmt=marker, ms=6, lw=1.2, color=colour, label=label)
    axis.axvline(1, color=FIT, lw=1.8)
    axis.set_xlabel("factor on Wald's stopping time (line: no change)")
    _pairs(axis, mean.index)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    axis.grid(axis="x", alpha=0.3)
    return figure


def chosen_peaks(records: pd.DataFrame, peaks: Sequence[float]) -> Table:
    """How often each peak learning rate was chosen, over all sizes and budgets.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``ladder.run``.
    peaks : sequence of float
        What was tried, in units of 0.4/sqrt(N).
    """
    chosen = rows_of(records, "chosen_peak")["value"]
    rows = tuple((f"{peak:g}", str((chosen == peak).sum())) for peak in peaks)
    return Table(("peak", "times chosen"), rows)


def laws(records: pd.DataFrame) -> Table:
    """The two laws side by side: irreducible loss, exponent, and when the gap is largest.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``ladder.run``.
    """
    names = {
        "irreducible_loss": "irreducible loss, nats per token",
        "gamma": "exponent of the frontier",
        "predicted_peak_time": "gap is largest, years",
    }
    columns = ("fit", "known entropy")
    found = records.pivot_table(index="quantity", columns="law", values="value").loc[list(names), list(columns)]
    rows = tuple((names[str(quantity)], *(f"{value:.2f}" for value in row)) for quantity, row in found.iterrows())
    return Table(("", "fitted law", "entropy known"), rows, {"laws": found.to_dict()})


def ratios(records: pd.DataFrame) -> Table:
    """What the log-likelihood ratios do that Wald's formula does not know of, as means over seeds.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``ladder.run``.
    """
    found = _tests(records).groupby("pair").mean().sort_values("delta_loss", ascending=False)
    found = found[["variance_over_walds", "wrong_decisions", "reached_over_bound"]]
    rows = tuple(
        (str(pair), f"{variance:.2f}", f"{100 * wrong:.0f} %", f"{reached:.2f}")
        for pair, (variance, wrong, reached) in zip(found.index, found.to_numpy(), strict=True)
    )
    heads = ("training compute of the two models, FLOP", "variance / Wald's", "wrong decisions", "final sum / bound")
    return Table(heads, rows, {"ratios": found.to_dict()})


class _Curve(NamedTuple):
    x: Float
    mean: Float
    half: Float
    """Half width of the 95 % t interval over seeds."""


def _intervals(rows: pd.DataFrame, by: str) -> _Curve:
    groups = rows.groupby(by)["value"]
    half = groups.sem() * stats.t.ppf(0.975, groups.size() - 1)
    mean = groups.mean()
    return _Curve(mean.index.to_numpy(), mean.to_numpy(), np.asarray(half))


def _half(table: pd.DataFrame, column: str) -> pd.Series:
    groups = table.groupby("pair")[column]
    return groups.sem() * stats.t.ppf(0.975, groups.size() - 1)


def _laws(axis: Axes, records: pd.DataFrame, quantity: str, x: str) -> None:
    rows = rows_of(records, quantity)
    low, fit, high, known = (rows[rows["law"] == law] for law in ("fit, low", "fit", "fit, high", "known entropy"))
    axis.plot(fit[x], fit["value"], color=FIT, lw=1.8, label="law fitted to all runs")
    axis.fill_between(low[x], low["value"], high["value"], color=FIT, alpha=0.2, lw=0, label="its 95 % band")
    axis.plot(known[x], known["value"], color=KNOWN, lw=1.8, ls="--", label="law through the frontier,\nentropy known")


def _beyond(axis: Axes, end: float, last: float) -> None:
    axis.axvspan(end, last, color="0.94", zorder=0)
    axis.annotate(" beyond the ladder", (end, 0.03), xycoords=("data", "axes fraction"), color="0.35", zorder=1)


def _tests(records: pd.DataFrame) -> pd.DataFrame:
    """What the sequential tests did: a row per pair and seed, a column per quantity."""
    rows = records[records["pair"].notna()]
    return rows.pivot_table(index=["pair", "seed"], columns="quantity", values="value").reset_index("seed", drop=True)


def _pairs(axis: Axes, pairs: pd.Index) -> None:
    labels = [" against ".join(_flop(float(budget)) for budget in str(pair).split(" against ")) for pair in pairs]
    axis.set_yticks(range(len(pairs)), labels)
    axis.set_ylabel("training compute of the two models, FLOP")
    axis.set_ylim(-0.6, len(pairs) - 0.4)


def _plain_ticks(axis: Axes) -> None:
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(subs=(1, 2, 5)))
        side.set_major_formatter(lambda value, _: f"{value:g}")
        side.set_minor_formatter(NullFormatter())


def _flop(budget: float) -> str:
    digits, power = f"{budget:.1e}".split("e")
    return rf"${digits}\times10^{{{int(power)}}}$"


def _entropy(records: pd.DataFrame) -> float:
    return float(rows_of(records, "entropy")["value"].item())

"""Figures and tables of the ladder notebook; each answers one question and takes the tidy records of its experiment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.evidence import Interval, Table, mean_interval, plots, rows_of
from replication.meek.sprt import sprt_tokens

FIT, KNOWN = plots.COLOURS[:2]
"""Colours of the fitted law, and of the law with the entropy known."""
MEASURED: plots.Look = {"color": "0.15", "marker": "o"}
WALK: plots.Look = {"color": KNOWN, "marker": "D", "mfc": "none", "ms": 7}
LOSS = "loss, nats per token"
COMPUTE = "training compute, FLOP"


def isoflop(records: pd.DataFrame) -> Figure:
    """Draw the loss over model size for every budget, the chosen frontier, and the source's entropy.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``ladder``.
    """
    sizes = rows_of(records, "frontier_size").set_index("budget")["value"]
    frontier = rows_of(records, "frontier_loss").groupby("budget")["value"].mean()
    label = "model size N, parameters outside the embedding"
    figure, (axis,) = plots.panels(height=3.8, xlabel=label, ylabel=LOSS, log="x")
    found = plots.intervals(rows_of(records, "loss"), "budget", "size")
    plots.curves(axis, found, plots.ordered(found), label=lambda budget: f"{_flop(budget)} FLOP")
    star: plots.Look = {"marker": "*", "ms": 10, "color": "0.15", "mec": "white", "mew": 0.6}
    axis.plot(sizes, frontier[sizes.index], "--", lw=0.9, **star, label="least loss, by parabola")
    axis.axhline(_entropy(records), color=KNOWN, lw=1.4, ls=":", label="entropy: no model can be better")
    return plots.legend(figure)


def frontier(records: pd.DataFrame) -> Figure:
    """Draw the best loss over compute beside the fitted law and the law with the entropy known, beyond the ladder too.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``ladder``.
    """
    points = plots.intervals(rows_of(records, "frontier_loss"), "budget")
    figure, (axis,) = plots.panels(height=3.6, xlabel=COMPUTE, ylabel=LOSS, log="x")
    _laws(axis, records, "predicted_loss", "compute", max(points))
    plots.curves(axis, {"measured frontier": points}, {"measured frontier": {**MEASURED, "ls": ""}}, bars=True)
    axis.axhline(_entropy(records), **plots.DOTTED, label="entropy of the source")
    axis.margins(x=0.02)
    return plots.legend(figure)


def gap(records: pd.DataFrame) -> Figure:
    """Draw the gap between the two actors over time, measured and predicted; dotted where each is largest.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``ladder``.
    """
    rows, times = rows_of(records, "measured_gap"), rows_of(records, "predicted_peak_time").set_index("law")["value"]
    mean = rows.groupby("t")["value"].mean()
    largest = {MEASURED["color"]: mean.idxmax(), FIT: times["fit"], KNOWN: times["known entropy"]}
    title = f"The measured gap is largest after {mean.idxmax():.1f} years; the fitted law says {times['fit']:.1f}"
    label = "loss of the meek minus loss of the leader,\nnats per token"
    figure, (axis,) = plots.panels((title,), height=3.6, xlabel="years from equal compute", ylabel=label)
    _laws(axis, records, "predicted_gap", "t", float(rows["t"].max()))
    each = plots.means(rows, "seed", "t")
    plots.curves(axis, each, plots.alike(each, color=MEASURED["color"], lw=0.7, alpha=0.6), label="_{}".format)
    axis.plot(mean, color=MEASURED["color"], lw=2.6, label="measured: mean, and each seed (thin)")
    for colour, time in largest.items():
        axis.axvline(time, color=colour, lw=1.6, ls=":")
    axis.axvspan(times["fit, low"], times["fit, high"], color=FIT, alpha=0.1, lw=0, label="95 % interval of its peak")
    axis.margins(x=0)
    axis.set_ylim(bottom=0)
    return plots.legend(figure)


def stopping(records: pd.DataFrame, *, error: float) -> Figure:
    """Draw the tokens that sequential tests took against the two formulas, and how often they chose wrongly.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``ladder``.
    error : float
        Error rate that the tests were asked for.
    """
    table = _tests(records)
    mean = table.groupby("pair").mean().sort_values("delta_loss")
    labels = ("difference of the two models' losses,\nnats per token", "tokens until the decision")
    figure, (tokens, wrong) = plots.panels(("", ""), height=3.4, xlabel=labels[0], ylabel=labels[1])
    grid = np.geomspace(mean["delta_loss"].min() / 1.3, mean["delta_loss"].max() * 1.3, 50)
    wald = sprt_tokens(grid, error)
    tokens.plot(grid, wald, color=FIT, lw=1.8, label=f"the paper: {wald[0] * grid[0]:.2f} / difference")
    drift = mean["stopping_tokens"] / mean["drift_ratio"]
    tokens.plot(mean["delta_loss"], drift, ls="", **WALK)
    taken = {mean["delta_loss"][pair]: one for pair, one in _by_pair(table["stopping_tokens"]).items()}
    plots.curves(tokens, {"measured": taken}, {"measured": {**MEASURED, "ls": ""}}, label="_{}".format, bars=True)
    plots.log_ticks(tokens, "xy")

    bound = np.log((1 - error) / error)
    walk = 100 * (1 - np.tanh(bound / (2 * mean["variance_over_walds"]))) / 2
    series = {"random walk with the measured variance": walk, "measured": _by_pair(100 * table["wrong_decisions"])}
    plots.forest(wrong, series, dict(zip(series, (WALK, MEASURED), strict=True)), rows=_pairs(mean.index))
    wrong.axvline(100 * error, color=FIT, lw=1.8)
    wrong.set(xlabel="wrong decisions, %\n(line: what was asked for)", ylabel="FLOP of the two models")
    return plots.legend(figure)


def wald_factors(records: pd.DataFrame, *, error: float) -> Figure:
    """Draw why the stopping time is close to Wald's: errors shorten it, the overshoot of the boundary lengthens it.

    By Wald's identity the mean stopping time is the mean of the final sum over the drift. Against Wald's formula that
    is a factor (1 - 2 w)/(1 - 2 eps) for a share w of wrong decisions, times one for how far the sum ends beyond the
    bound.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``ladder``.
    error : float
        Error rate eps that the tests were asked for.
    """
    table = _tests(records)
    pairs = table.groupby("pair")["delta_loss"].mean().sort_values().index
    errors = (1 - 2 * table["wrong_decisions"]) / (1 - 2 * error)
    factors: dict[str, tuple[pd.Series[float], plots.Look]] = {
        "share of wrong decisions": (errors, {"marker": "<", "color": plots.COLOURS[4]}),
        "the sum ends beyond the bound": (table["reached_over_bound"], {"marker": ">", "color": plots.COLOURS[2]}),
        "both together": (errors * table["reached_over_bound"], {"marker": "D", "color": KNOWN}),
        "measured stopping time": (table["stopping_ratio"], MEASURED),
    }
    label = "factor on Wald's stopping time (line: no change)"
    figure, (axis,) = plots.panels(height=3.2, xlabel=label, ylabel="FLOP of the two models")
    found = {name: _by_pair(values) for name, (values, _) in factors.items()}
    plots.forest(axis, found, {name: look for name, (_, look) in factors.items()}, rows=_pairs(pairs))
    axis.axvline(1, color=FIT, lw=1.8)
    return plots.legend(figure)


def chosen_peaks(records: pd.DataFrame, peaks: Sequence[float]) -> Table:
    """How often each peak learning rate was chosen, over all sizes and budgets.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``ladder``.
    peaks : sequence of float
        What was tried first, in units of 0.4/sqrt(N); a widened grid has more.
    """
    chosen = rows_of(records, "chosen_peak")["value"]
    rows = tuple((f"{peak:g}", str((chosen == peak).sum())) for peak in sorted({*peaks, *chosen}))
    return Table(("peak", "times chosen"), rows)


def laws(records: pd.DataFrame) -> Table:
    """The two laws side by side: irreducible loss, exponent, and when the gap is largest.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``ladder``.
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
        Tidy records of the experiment ``ladder``.
    """
    found = _tests(records).groupby("pair").mean().sort_values("delta_loss", ascending=False)
    found = found[["variance_over_walds", "wrong_decisions", "reached_over_bound"]]
    rows = tuple(
        (str(pair), f"{variance:.2f}", f"{100 * wrong:.0f} %", f"{reached:.2f}")
        for pair, (variance, wrong, reached) in zip(found.index, found.to_numpy(), strict=True)
    )
    heads = ("training compute of the two models, FLOP", "variance / Wald's", "wrong decisions", "final sum / bound")
    return Table(heads, rows, {"ratios": found.to_dict()})


def _laws(axis: Axes, records: pd.DataFrame, quantity: str, x: str, end: float) -> None:
    """Both laws, and where nothing is measured any more."""
    laws = plots.means(rows_of(records, quantity), "law", x)
    axis.plot(laws["fit"], color=FIT, lw=1.8, label="law fitted to all runs")
    low, high = laws["fit, low"], laws["fit, high"]
    axis.fill_between(low.index, low, high, color=FIT, alpha=0.2, lw=0, label="its 95 % band")
    axis.plot(laws["known entropy"], color=KNOWN, lw=1.8, ls="--", label="law through the frontier, entropy known")
    axis.axvspan(end, low.index.max(), color="0.94", zorder=0)
    plots.note(axis, "beyond the ladder", end, 0.03, xycoords=("data", "axes fraction"))


def _tests(records: pd.DataFrame) -> pd.DataFrame:
    """What the sequential tests did: a row per pair and seed, a column per quantity."""
    rows = records[records["pair"].notna()]
    return rows.pivot_table(index=["pair", "seed"], columns="quantity", values="value").reset_index("seed", drop=True)


def _by_pair(values: pd.Series[float]) -> dict[str, Interval]:
    return {str(pair): mean_interval(of) for pair, of in values.groupby("pair")}


def _pairs(pairs: pd.Index) -> dict[str, str]:
    """Names of the pairs, the smallest difference of their losses at the bottom."""
    return {pair: "\nagainst ".join(_flop(float(one)) for one in pair.split(" against ")) for pair in pairs[::-1]}


def _flop(budget: float) -> str:
    digits, power = f"{budget:.1e}".split("e")
    return rf"${digits}\times10^{{{int(power)}}}$"


def _entropy(records: pd.DataFrame) -> float:
    return float(rows_of(records, "entropy")["value"].item())

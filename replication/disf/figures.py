"""Figures of DiSF's notebooks; each answers one question and takes the tidy records."""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from scipy import stats

from replication.evidence import mean_interval, rows_of

NAMES = {
    "full": "full pool",
    "random": "random",
    "disf": "DiSF",
    "participation": "DiSF-PR (ours)",
    "within": "DiSF within domains",
    "matched": "random, DiSF's mix",
    "dsir": "DSIR",
    "top cosine": "top cosine",
    "classifier": "classifier",
    "d4": "D4",
    "facility location": "facility location",
    "log det": "log det",
    "covariance": "plain covariance",
    "tfidf": "TF-IDF + SVD",
    "bytes": "byte n-grams + SVD",
    "minilm": "MiniLM",
    "none": "",
}
"""How methods and feature sets are written in figures."""

PALETTE = sns.color_palette("colorblind")
COLOURS = {
    "random": (0.25, 0.25, 0.25),
    "disf": PALETTE[0],
    "dsir": PALETTE[3],
    "top cosine": PALETTE[1],
    "classifier": PALETTE[5],
    "d4": PALETTE[2],
    "facility location": PALETTE[4],
    # of each pair only one stands in a figure
    **dict.fromkeys(("participation", "within"), PALETTE[9]),
    **dict.fromkeys(("log det", "matched"), PALETTE[6]),
    **dict.fromkeys(("covariance", "full"), PALETTE[7]),
}
"""Colour-blind-safe colours of the methods, the same in every figure."""

TARGETED = ("dsir", "top cosine", "classifier")


def _means(rows: pd.DataFrame, by: str) -> tuple[pd.Series[float], pd.Series[float]]:
    """Mean of each group and half of its 95 % t interval, over the seeds (a seed's rows are averaged first)."""
    groups = rows.groupby([by, "seed"])["value"].mean().groupby(by)
    half = groups.sem() * stats.t.ppf(0.975, groups.size() - 1)
    return groups.mean(), half


def _order(present: Iterable[str]) -> list[str]:
    found = set(present)
    return [name for name in NAMES if name in found]


def _legend(figure: Figure, axis: Axes, columns: int) -> None:
    """Put one panel's legend below the figure."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


# --- 30_disf_collapse -------------------------------------------------------------------------------------------------


def dominance(records: pd.DataFrame) -> Figure:
    """Draw the dominance score over k per method with the seeds' 95 % t interval; one panel per feature set.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``collapse.run``.
    """
    rows = rows_of(records, "dominance", view="own")
    sets = _order(rows["measured_on"])
    figure, axes = plt.subplots(
        1, len(sets), figsize=(5.2 * len(sets), 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], sets, strict=True):
        for index, method in enumerate(_order(rows["method"])):
            part = rows[(rows["measured_on"] == name) & (rows["method"] == method)]
            mean, half = _means(part, "k")
            style = "--" if method in TARGETED else "-"
            width = 2.4 if method in ("disf", "random") else 1.2
            axis.plot(
                mean.index,
                mean,
                style,
                marker="os^Dv"[index % 5],
                ms=4,
                lw=width,
                color=COLOURS[method],
                label=NAMES[method],
            )
            axis.fill_between(mean.index, mean - half, mean + half, color=COLOURS[method], alpha=0.15, lw=0)
        axis.set(title=NAMES[name], xlabel="k")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("share of the k largest eigenvalues, $D_k$")
    _legend(figure, axes[0, 0], 5)
    return figure


def separation(records: pd.DataFrame, *, threshold: float) -> Figure:
    """Draw how far D₁₀ of the methods with a target is above random, in the latter's standard deviations.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``collapse.run``.
    threshold : float
        The standard deviations that the claim asks for.
    """
    rows = rows_of(records, "collapse", metric="dominance", view="own")
    sets, methods, targets = _order(rows["measured_on"]), _order(rows["method"]), sorted(rows["target"].unique())
    figure, axes = plt.subplots(
        1, len(sets), figsize=(5.2 * len(sets), 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], sets, strict=True):
        for shift, target, marker in zip(np.linspace(-0.22, 0.22, len(targets)), targets, "osD^vP*X", strict=False):
            mean, half = _means(rows[(rows["measured_on"] == name) & (rows["target"] == target)], "method")
            colour = PALETTE[targets.index(target)]
            axis.errorbar(
                mean[methods],
                np.arange(len(methods)) + shift,
                xerr=half[methods],
                fmt=marker,
                ms=5,
                color=colour,
                label=f"target: {target}",
            )
        axis.axvline(0, color="0.35", lw=0.8)
        axis.axvline(threshold, color="0.35", lw=1.2, ls="--")
        axis.set_yticks(range(len(methods)), [NAMES[method] for method in methods])
        axis.set(title=NAMES[name], xlabel="$D_{10}$ above random (s.d. of random; dashed: claim)")
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].invert_yaxis()
    _legend(figure, axes[0, 0], len(targets))
    return figure


def ranks(records: pd.DataFrame) -> Figure:
    """Draw the effective rank of every method, on the features that it selected by and on the others.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``collapse.run``.
    """
    rows = rows_of(records, "effective_rank")
    methods, sets = _order(rows["method"]), _order(rows["measured_on"])
    figure, axes = plt.subplots(
        1,
        len(sets),
        figsize=(5.2 * len(sets), 0.34 * len(methods) + 1.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, name in zip(axes[0], sets, strict=True):
        for shift, view, marker in ((-0.15, "own", "o"), (0.15, "other", "s")):
            part = rows[(rows["measured_on"] == name) & (rows["view"] == view)]
            mean, half = _means(part, "method")
            label = "selected by these features" if view == "own" else "selected by other features"
            colour = PALETTE[0 if view == "own" else 1]
            axis.errorbar(
                mean[methods],
                np.arange(len(methods)) + shift,
                xerr=half[methods],
                fmt=marker,
                ms=5,
                color=colour,
                label=label,
            )
        baseline = rows[(rows["measured_on"] == name) & (rows["method"] == "random")]["value"].mean()
        axis.axvline(baseline, color="0.35", lw=0.8, ls="--", label="random")
        axis.set_yticks(range(len(methods)), [NAMES[method] for method in methods])
        axis.set(title=f"measured on {NAMES[name]}", xlabel="effective rank exp(H)")
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].invert_yaxis()
    _legend(figure, axes[0, 0], 3)
    return figure


def spectra(records: pd.DataFrame) -> Figure:
    """Draw the eigenvalues of one selection per method, largest first.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``collapse.run``.
    """
    rows = rows_of(records, "eigenvalue")
    figure, axis = plt.subplots(figsize=(7.5, 4), layout="constrained")
    for method in _order(rows["method"]):
        part = rows[rows["method"] == method].sort_values("rank")
        width = 2.4 if method in ("disf", "random") else 1.2
        style = "--" if method in TARGETED else "-"
        axis.plot(part["rank"], part["value"], style, lw=width, color=COLOURS[method], label=NAMES[method])
    axis.set(xscale="log", yscale="log", xlabel="rank of the eigenvalue", ylabel="eigenvalue of the correlation matrix")
    axis.set_ylim(bottom=1e-2)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


def projection(records: pd.DataFrame) -> Figure:
    """Draw one selection per method on the pool's two first principal axes.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``collapse.run``.
    """
    rows = rows_of(records, "pca")
    methods = _order(rows["method"])
    figure, axes = plt.subplots(
        1, len(methods), figsize=(3.4 * len(methods), 3.6), sharex=True, sharey=True, layout="constrained"
    )
    for axis, method in zip(axes, methods, strict=True):
        part = rows[rows["method"] == method].pivot_table(index="point", columns="axis", values="value")
        target = rows.loc[rows["method"] == method, "target"].iloc[0]
        axis.plot(part[1], part[2], "o", ms=4, alpha=0.6, mec="none", color=COLOURS[method])
        axis.set_title(NAMES[method] + ("" if target == "none" else f" ({target})"))
        axis.set_xlabel("first principal axis")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("second principal axis")
    return figure


def orders(records: pd.DataFrame) -> Figure:
    """Draw the objective along the greedy order and along random orders.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``collapse.run``.
    """
    rows = rows_of(records, "objective")
    figure, axis = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for order, colour in zip(("greedy", "random"), PALETTE, strict=False):
        mean, half = _means(rows[rows["order"] == order], "size")
        axis.plot(mean.index, mean, "o-", ms=4, color=colour, label=f"{order} order")
        axis.fill_between(mean.index, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
    sizes = sorted(rows["size"].unique())
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.minorticks_off()
    axis.set(xlabel="documents selected, |U|", ylabel="objective F(U) = −‖C‖")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def second_picks(records: pd.DataFrame) -> Figure:
    """Draw how near the second pick is to the first, by rule.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``collapse.run``.
    """
    rows = rows_of(records, "second_pick_rank")
    sets = sorted(rows["data"].unique())
    rules = {"authors": "authors' rule", "random": "repair: random", "farthest": "repair: farthest"}
    figure, axes = plt.subplots(1, len(sets), figsize=(5.2 * len(sets), 3.4), sharey=True, layout="constrained")
    bins = np.linspace(0, 1, 11)
    for axis, name in zip(axes, sets, strict=True):
        values = [rows[(rows["data"] == name) & (rows["rule"] == rule)]["value"] for rule in rules]
        axis.hist(values, bins=bins, label=list(rules.values()), color=PALETTE[: len(rules)])
        axis.set(
            title="features of documents" if name == "documents" else f"{name} features",
            xlabel="distance rank of the second pick (0 nearest, 1 farthest)",
        )
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("trials")
    _legend(figure, axes[0], len(rules))
    return figure


# --- 31_disf_pretraining ----------------------------------------------------------------------------------------------


def differences(records: pd.DataFrame, quantities: dict[str, str], *, ours: str = "disf") -> Figure:
    """Draw DiSF minus every other method with 95 % paired t intervals; left of zero DiSF is better.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``pretraining.run``.
    quantities : dict of str to str
        A panel for each quantity, with its title.
    ours : str
        The method that the others are subtracted from.
    """
    figure, axes = plt.subplots(
        1, len(quantities), figsize=(4.6 * len(quantities), 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (quantity, title) in zip(axes[0], quantities.items(), strict=True):
        wide = rows_of(records, quantity, view="main").pivot_table(index="seed", columns="method", values="value")
        others = [method for method in _order(wide.columns) if method != ours]
        for i, method in enumerate(others):
            found = mean_interval((wide[ours] - wide[method]).to_numpy())
            axis.errorbar(found.estimate, i, xerr=found.half_width, fmt="o", ms=5, color=COLOURS[method])
        axis.axvline(0, color="0.3", lw=0.8)
        axis.set_yticks(range(len(others)), [NAMES[method] for method in others])
        axis.set(title=title, xlabel=f"{NAMES[ours]} minus method (bits per byte)")
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].invert_yaxis()
    return figure


def domains(records: pd.DataFrame) -> Figure:
    """Draw each domain's share of each selection, and its held-out loss relative to random selection.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``pretraining.run``.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12.5, 5.2), sharey=True, layout="constrained")
    share = rows_of(records, "domain_share").pivot_table(index="domain", columns="method", values="value")
    bits = rows_of(records, "domain_bits_per_byte").pivot_table(index="domain", columns="method", values="value")
    methods = _order(share.columns)
    sns.heatmap(
        100 * share[methods], ax=axes[0], annot=True, fmt=".0f", cmap="cividis", linewidths=0.5, annot_kws={"size": 8},
        cbar_kws={"label": "% of the selected documents"},
    )  # fmt: skip
    relative = bits[methods].sub(bits["random"], axis=0).drop(columns="random")
    limit = float(relative.abs().quantile(0.95).max())
    sns.heatmap(
        relative, ax=axes[1], annot=True, fmt=".2f", cmap="RdBu_r", norm=TwoSlopeNorm(0, -limit, limit), linewidths=0.5,
        annot_kws={"size": 8}, cbar_kws={"label": "bits per byte above random", "extend": "both"},
    )  # fmt: skip
    for axis, title in zip(axes, ("what is selected", "what is learnt"), strict=True):
        axis.set(title=title, xlabel="", ylabel="")
        axis.set_xticklabels(
            [NAMES[label.get_text()] for label in axis.get_xticklabels()],
            rotation=35,
            ha="right",
            rotation_mode="anchor",
        )
    return figure


def mechanism(records: pd.DataFrame) -> Figure:
    """Draw the paired differences that tell diversity inside domains from another mix of domains.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``pretraining.run``.
    """
    wide = rows_of(records, "macro_bits_per_byte", view="main").pivot_table(
        index="seed", columns="method", values="value"
    )
    pairs = [("disf", "random", "both"), ("matched", "random", "mix of domains alone")]
    pairs += [("disf", "matched", "choice at DiSF's mix"), ("within", "random", "choice at the pool's mix")]
    figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
    for i, (a, b, _) in enumerate(pairs):
        found = mean_interval((wide[a] - wide[b]).to_numpy())
        axis.errorbar(found.estimate, i, xerr=found.half_width, fmt="o", ms=6, color=PALETTE[i])
    axis.axvline(0, color="0.3", lw=0.8)
    axis.set_yticks(range(len(pairs)), [f"{NAMES[a]} − {NAMES[b]}\n({what})" for a, b, what in pairs])
    axis.set_ylim(len(pairs) - 0.5, -0.5)
    axis.set_xlabel("difference in macro bits per byte (left: the first is better)")
    axis.grid(axis="x", alpha=0.3)
    return figure


def ratio_sweep(records: pd.DataFrame) -> Figure:
    """Draw DiSF minus full pool over the selected share, with 95 % paired t intervals.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``pretraining.run``.
    """
    gap = rows_of(records, "gap_to_full")
    read = rows_of(records, "passes", method="disf")
    ratios = sorted(gap["ratio"].unique().tolist())
    passes = [float(read.loc[read["ratio"] == ratio, "value"].mean()) for ratio in ratios]
    found = [mean_interval(gap.loc[gap["ratio"] == ratio, "value"].to_numpy()) for ratio in ratios]
    percent = [100 * ratio for ratio in ratios]
    figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    axis.errorbar(
        percent, [f.estimate for f in found], yerr=[f.half_width for f in found], fmt="o-", color=COLOURS["disf"]
    )
    axis.axhline(0, color="0.3", lw=0.8)
    axis.set_xscale("log")
    axis.set_xticks(percent, [f"{x:.3g} %\n({times:.1f} passes)" for x, times in zip(percent, passes, strict=True)])
    axis.minorticks_off()
    axis.set(xlabel="share of the pool that DiSF selects", ylabel="DiSF minus full pool\n(macro bits per byte)")
    axis.grid(alpha=0.3)
    return figure


def batch_sweep(records: pd.DataFrame) -> Figure:
    """Draw the held-out loss over DiSF's batch size with the seeds' 95 % t interval.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``pretraining.run``, with batch sizes to compare.
    """
    mean, half = _means(rows_of(records, "macro_bits_per_byte", view="batch size"), "batch_size")
    sizes = mean.index.to_numpy()
    figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    axis.errorbar(sizes, mean, yerr=half, fmt="o-", color=COLOURS["disf"])
    axis.set_xscale("log")
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.minorticks_off()
    axis.set(xlabel="documents of a batch, b", ylabel="macro bits per byte")
    axis.grid(alpha=0.3)
    return figure


def tuning(records: pd.DataFrame) -> Figure:
    """Draw the validation loss over the peak learning rate, so that a peak on the grid's edge is seen.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``pretraining.run``.
    """
    rows = rows_of(records, "tuning_score")
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for index, method in enumerate(_order(rows["method"])):
        part = rows[rows["method"] == method].groupby("peak")["value"].mean()
        peaks, scores, best = part.index.to_numpy(), part.to_numpy(), int(part.to_numpy().argmin())
        axis.plot(peaks, scores, ("-", "--", ":")[index % 3], color=COLOURS[method], label=NAMES[method])
        axis.plot(peaks[best], scores[best], "o", ms=6, color=COLOURS[method], mec="white", mew=0.6, zorder=3)
    ticks = sorted(rows["peak"].unique())
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{peak:g}" for peak in ticks])
    axis.minorticks_off()
    axis.set(xlabel="peak learning rate (dot: chosen)", ylabel="validation, macro bits per byte")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return figure


# --- 32_disf_cost -----------------------------------------------------------------------------------------------------

PROGRAMS = {
    "loop": "loop over candidates (estimated)",
    "fast float64": "fast selection, float64",
    "fast float32": "fast selection, float32",
    "participation": "DiSF-PR, float32 (ours; another objective)",
    "GPU": "fast selection, GPU, float32",
}
AXES = {"rows": "documents of a batch, N", "dimension": "features, d", "picks": "documents selected, k"}


def cost(records: pd.DataFrame) -> Figure:
    """Draw the time of one batch over its size, the features and the picks.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``cost.run``.
    """
    rows = rows_of(records, "seconds")
    figure, axes = plt.subplots(1, len(AXES), figsize=(4.4 * len(AXES), 4.2), sharey=True, layout="constrained")
    for axis, (column, label) in zip(axes, AXES.items(), strict=True):
        part = rows[rows["sweep"] == column]
        for index, (program, name) in enumerate(PROGRAMS.items()):
            groups = part[part["program"] == program].groupby(column)["value"]
            if len(groups):
                colour = PALETTE[index]
                axis.plot(groups.median().index, groups.median(), marker="os^Dv"[index], ms=5, color=colour, label=name)
        ticks = sorted(part[column].unique())
        fixed = ", ".join(f"{name[-1]} = {part[other].iloc[0]:g}" for other, name in AXES.items() if other != column)
        axis.set(xscale="log", yscale="log", xlabel=label, title=fixed)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds per batch, one thread")
    _legend(figure, axes[0], 3)
    return figure


def ratios(records: pd.DataFrame, *, threshold: float) -> Figure:
    """Draw how many times less time the fast selection takes, at every size of the table.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``cost.run``.
    threshold : float
        The ratio that the claim asks for.
    """
    rows = rows_of(records, "cost_ratio")
    sizes = rows[["rows", "dimension", "picks"]].drop_duplicates().sort_values(["picks", "dimension", "rows"])
    figure, axis = plt.subplots(figsize=(7, 0.45 * len(sizes) + 1.4), layout="constrained")
    for i, size in enumerate(sizes.itertuples(index=False)):
        part = rows[(rows["rows"] == size.rows) & (rows["dimension"] == size.dimension) & (rows["picks"] == size.picks)]
        axis.plot(part["value"], [i] * len(part), "o", ms=6, alpha=0.7, color="C0")
    axis.axvline(threshold, color="0.35", ls="--", lw=1.2)
    labels = [
        f"N = {size.rows:g}, d = {size.dimension:g}, k = {size.picks:g}" for size in sizes.itertuples(index=False)
    ]
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xscale("log")
    low, high = min(threshold, rows["value"].min()) / 1.3, 1.3 * max(threshold, rows["value"].max())
    ticks = [tick for tick in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low < tick < high]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlim(low, high)
    axis.set_xlabel("time of the loop / time of the fast selection (dots: repetitions; dashed: claim)")
    axis.grid(axis="x", alpha=0.3)
    return figure


def memory(records: pd.DataFrame) -> Figure:
    """Draw the peak memory of a worker over the rows of the corpus.

    Parameters
    ----------
    records : DataFrame
        Tidy records of ``cost.run``.
    """
    rows = rows_of(records, "peak_memory")
    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for _, part in rows.groupby("seed"):
        part = part.sort_values("rows")
        axis.plot(part["rows"], part["value"], "o-", ms=5, alpha=0.7, color="C0")
    ticks = sorted(rows["rows"].unique())
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.minorticks_off()
    axis.set_ylim(0, 1.2 * rows["value"].max())
    axis.set(xlabel="rows of the corpus", ylabel="peak memory of a worker (MB)")
    axis.grid(alpha=0.3)
    return figure

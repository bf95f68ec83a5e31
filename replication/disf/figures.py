"""Figures of DiSF's notebooks; each answers one question and takes the tidy records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from replication.disf.experiments.material import TARGETED
from replication.evidence import plots, rounded, rows_of
from replication.evidence.claims import DirectionTest, Test, load_claims
from replication.evidence.samples import pool, samples
from replication.evidence.statistics import Interval

NAMES = load_claims("disf").levels

# of each pair of the same colour only one stands in a figure
_COLOURS = {
    "disf": 0, "dsir": 3, "top cosine": 1, "classifier": 5, "d4": 2, "facility location": 4, "participation": 9,
    "within": 9, "log det": 6, "matched": 6, "covariance": 7, "full": 7,
    "many targets": 8,
}  # fmt: skip
LOOKS: dict[str, plots.Look] = {
    method: {
        "color": plots.COLOURS[_COLOURS[method]] if method in _COLOURS else "0.25",
        "ls": "--" if method in TARGETED else "-",
        "lw": 2.4 if method in ("disf", "random") else 1.2,
        "marker": "os^Dv"[index % 5],
    }
    for index, method in enumerate(NAMES)
}
"""How methods are drawn, the same in every figure."""


def _order(present: Iterable[str]) -> dict[str, str]:
    found = set(present)
    return {name: shown for name, shown in NAMES.items() if name in found}


# --- 30_disf_collapse -------------------------------------------------------------------------------------------------


def dominance(records: pd.DataFrame) -> Figure:
    """Draw the dominance score over k per method with the seeds' 95 % t interval; one panel per feature set.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``collapse``.
    """
    found = plots.intervals(rows_of(records, "dominance", view="own"), "measured_on", "method", "k")
    sets = _order(found)
    label = "share of the k largest eigenvalues, $D_k$"
    figure, axes = plots.panels([*sets.values()], height=3.6, share="y", xlabel="k", ylabel=label)
    for axis, name in zip(axes, sets, strict=True):
        plots.curves(axis, found[name], LOOKS, label=NAMES.__getitem__)
    return plots.legend(figure)


def separation(records: pd.DataFrame, *, threshold: float) -> Figure:
    """Draw how far D₁₀ of the methods with a target is above random, in the latter's standard deviations.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``collapse``.
    threshold : float
        The standard deviations that the claim asks for.
    """
    rows = rows_of(records, "collapse", metric="dominance", view="own")
    found = plots.intervals(rows, "measured_on", "target", "method")
    sets = _order(found)
    label = "$D_{10}$ above random\n(s.d.; dashed: claim)"
    figure, axes = plots.panels([*sets.values()], share="y", xlabel=label)
    for axis, name in zip(axes, sets, strict=True):
        plots.forest(axis, found[name], label="target: {}".format, rows=_order(rows["method"]), at=0)
        axis.axvline(threshold, **plots.DASHED)
    return plots.legend(figure)


def ranks(records: pd.DataFrame) -> Figure:
    """Draw the effective rank of every method, on the features that it selected by and on the others.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``collapse``.
    """
    rows = rows_of(records, "effective_rank")
    found = plots.intervals(rows, "measured_on", "view", "method")
    sets, methods = _order(found), _order(rows["method"])
    views = {"own": "selected by these features", "other": "selected by other features"}
    titles = [f"measured on {shown}" for shown in sets.values()]
    height = 0.28 * len(methods) + 1.2
    figure, axes = plots.panels(titles, height=height, share="y", xlabel="effective rank exp(H)")
    for axis, name in zip(axes, sets, strict=True):
        plots.forest(axis, found[name], plots.distinct(views), label=views.__getitem__, rows=methods)
        random = rows[(rows["measured_on"] == name) & (rows["method"] == "random")]
        axis.axvline(random["value"].mean(), **plots.DASHED, label="random")
    return plots.legend(figure)


def spectra(records: pd.DataFrame) -> Figure:
    """Draw the eigenvalues of one selection per method, largest first.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``collapse``.
    """
    label = "eigenvalue of the\ncorrelation matrix"
    figure, (axis,) = plots.panels(height=3.2, xlabel="rank of the eigenvalue", ylabel=label, log="xy")
    plots.curves(axis, plots.means(rows_of(records, "eigenvalue"), "method", "rank"), LOOKS, label=NAMES.__getitem__)
    axis.set_ylim(bottom=1e-2)
    return plots.legend(figure)


def projection(records: pd.DataFrame) -> Figure:
    """Draw one selection per method on the pool's two first principal axes.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``collapse``.
    """
    rows = rows_of(records, "pca")
    methods = _order(rows["method"])
    targets = rows.groupby("method")["target"].first().to_dict()
    titles = [shown if targets[name] == "none" else f"{shown} ({targets[name]})" for name, shown in methods.items()]
    labels = ("first principal axis", "second principal axis")
    figure, axes = plots.panels(titles, height=2.4, share="xy", xlabel=labels[0], ylabel=labels[1])
    for axis, method in zip(axes, methods, strict=True):
        part = rows[rows["method"] == method].pivot_table(index="point", columns="axis", values="value")
        axis.plot(part[1], part[2], "o", ms=3, alpha=0.6, mec="none", color=LOOKS[method]["color"])
    return figure


def orders(records: pd.DataFrame) -> Figure:
    """Draw the objective along the greedy order and along random orders.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``collapse``.
    """
    rows = rows_of(records, "objective")
    figure, (axis,) = plots.panels(xlabel="documents selected, |U|", ylabel="objective F(U) = −‖C‖")
    plots.curves(axis, plots.intervals(rows, "order", "size"), label="{} order".format)
    plots.log_ticks(axis, "x", sorted(rows["size"].unique()))
    return plots.name_ends(figure)


def second_picks(records: pd.DataFrame) -> Figure:
    """Draw how near the second pick is to the first, by rule.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``collapse``.
    """
    rows = rows_of(records, "second_pick_rank")
    sets = sorted(rows["data"].unique())
    rules = {"authors": "authors' rule", "random": "repair: random", "farthest": "repair: farthest"}
    titles = ["features of documents" if name == "documents" else f"{name} features" for name in sets]
    label = "distance rank of the second pick\n(0 nearest, 1 farthest)"
    figure, axes = plots.panels(titles, share="y", xlabel=label, ylabel="trials")
    for axis, name in zip(axes, sets, strict=True):
        values = [rows[(rows["data"] == name) & (rows["rule"] == rule)]["value"] for rule in rules]
        axis.hist(
            values, bins=np.linspace(0, 1, 11).tolist(), label=list(rules.values()), color=plots.COLOURS[: len(rules)]
        )
    return plots.legend(figure)


# --- 31_disf_pretraining ----------------------------------------------------------------------------------------------


def contrasts(records: pd.DataFrame, test: Test, left_out: str) -> Figure:
    """Draw DiSF minus every other selection, over all domains and without one.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``pretraining``.
    test : Test
        The direction test whose number stands in the title; its intervals carry the choice of the peaks.
    left_out : str
        The domain that the second mean leaves out.
    """
    assert isinstance(test, DirectionTest)
    methods = _order(rows_of(records, test.quantity, view="main")["method"])
    others = {name: methods[name] for name in ("random", *methods) if name != test.ours}
    asked: dict[str, dict[str, Any]] = {
        "all domains": {},
        f"without {left_out}": {"quantity": "macro_without_bits_per_byte", "tuned": None},
    }
    assert test.tuned is not None
    tuned = set(rows_of(records, test.tuned.tests)["method"])

    def against(name: str, **changes: Any) -> Interval:
        borrowed = {} if name in tuned else {"tuned": None}  # the controls take another's peak
        return pool(samples(records, test.model_copy(update={**borrowed, **changes, "baselines": (name,)}))).interval()

    found = {view: {name: against(name, **changes) for name in others} for view, changes in asked.items()}
    told = [
        f"minus {NAMES[name]}: {rounded(one.estimate, one.low, one.high)}"
        for name, one in found["all domains"].items()
        if name in ("random", "full")
    ]
    title = f"DiSF {' bits per byte, '.join(told)}"
    label = "DiSF minus selection, held-out bits per byte (left of zero DiSF is better)"
    figure, (axis,) = plots.panels((title,), height=1.2 + 0.3 * len(others), xlabel=label)
    plots.forest(axis, found, plots.distinct(found), rows=others, at=0, band=(-test.margin, test.margin))
    return plots.legend(figure)


def levels(records: pd.DataFrame, target: str) -> Figure:
    """Draw the held-out loss of every selection, over all domains, in the worst one and in the target domain.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``pretraining``.
    target : str
        The target domain.
    """
    quantities = {
        "macro_bits_per_byte": "all domains",
        "worst_bits_per_byte": "worst domain",
        "target_bits_per_byte": f"target domain ({target})",
    }
    methods = _order(rows_of(records, "macro_bits_per_byte", view="main")["method"])
    height = 1.2 + 0.28 * len(methods)
    figure, axes = plots.panels([*quantities.values()], height=height, share="y", xlabel="bits per byte")
    for axis, quantity in zip(axes, quantities, strict=True):
        found = plots.intervals(rows_of(records, quantity, view="main"), "method")
        plots.forest(axis, {"": found}, rows=methods)
    return figure


def domains(records: pd.DataFrame) -> Figure:
    """Draw each domain's share of each selection, and its held-out loss relative to random selection.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``pretraining``.
    """
    both = records[records["quantity"].isin(["domain_share", "domain_bits_per_byte"])]
    # differences are of the seeds that all methods have
    common = set.intersection(*both.groupby("method")["seed"].agg(set))
    both = both[both["seed"].isin(common)]
    share, bits = (
        rows_of(both, quantity).pivot_table(index="domain", columns="method", values="value")
        for quantity in ("domain_share", "domain_bits_per_byte")
    )
    methods = _order(share.columns)
    share = 100 * share[list(methods)].rename(columns=methods)
    relative = bits[list(methods)].sub(bits["random"], axis=0).drop(columns="random").rename(columns=methods)
    limit = float(relative.abs().quantile(0.95).max()) or 1.0  # where everything is selected nothing differs
    figure, axes = plots.panels(("what is selected", "what is learnt"), height=4.6, columns=2)
    norms = (None, TwoSlopeNorm(0, -limit, limit))
    shown = (
        (share, "%.0f", "cividis", "% of the selected documents"),
        (relative, "%.2f", "RdBu_r", "bits per byte above random"),
    )
    for axis, norm, (grid, form, cmap, label) in zip(axes, norms, shown, strict=True):
        text = [[form % value for value in row] for row in grid.to_numpy()]
        plots.heatmap(axis, grid, text, norm=norm, cmap=cmap, bar=label)
        axis.tick_params(axis="x", rotation=90)
    axes[1].set_yticklabels([])
    return figure


def mechanism(records: pd.DataFrame) -> Figure:
    """Draw the paired differences that tell diversity inside domains from another mix of domains.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``pretraining``.
    """
    rows = rows_of(records, "macro_bits_per_byte", view="main")
    pairs = [("disf", "random", "both"), ("matched", "random", "mix of domains alone")]
    pairs += [("disf", "matched", "choice at DiSF's mix"), ("within", "random", "choice at the pool's mix")]
    found = {f"{NAMES[a]} − {NAMES[b]}\n({what})": plots.paired(rows, "method", a)[b] for a, b, what in pairs}
    figure, (axis,) = plots.panels(xlabel="difference in macro bits per byte (left: the first is better)")
    plots.forest(axis, {"": found}, at=0)
    return figure


def ratio_sweep(records: pd.DataFrame) -> Figure:
    """Draw how far DiSF and random selections are from the full pool, over the selected share.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``pretraining``.
    """
    rows = rows_of(records, "gap_to_full")
    rows = rows[rows["view"].isin(["main", "ratio"])]
    found = plots.intervals(rows, "method", "ratio")
    passes = rows_of(records, "passes", method="random").groupby("ratio")["value"].mean()
    label = "selection minus full pool\n(macro bits per byte)"
    figure, (axis,) = plots.panels(xlabel="share of the pool that is selected", ylabel=label)
    plots.curves(axis, found, LOOKS, label=NAMES.__getitem__, bars=True)
    axis.axhline(0, **plots.RULE)
    shares = sorted(rows["ratio"].unique())
    plots.log_ticks(axis, "x", shares)
    axis.set_xticks(shares, [f"{ratio:.3g}\n({passes[ratio]:.1f} passes)" for ratio in shares])
    return plots.name_ends(figure)


def settings(records: pd.DataFrame, *, margin: float) -> Figure:
    """Draw DiSF minus random at every share, batch size and feature set.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``pretraining``.
    margin : float
        What is too little to matter.
    """
    rows = rows_of(records, "over_random")
    found = plots.intervals(rows, "setting")
    shown = {"disf": "as in the main comparison"} | {
        name: str(name).removeprefix("disf ") for name in rows["setting"].unique() if name != "disf"
    }
    label = "DiSF minus random, macro bits per byte (left of zero DiSF is better)"
    figure, (axis,) = plots.panels(height=1 + 0.28 * len(shown), xlabel=label)
    plots.forest(axis, {"": found}, rows=shown, at=0, band=(-margin, margin))
    return figure


def tuning(records: pd.DataFrame) -> Figure:
    """Draw the validation loss over the peak learning rate, so that a peak on the grid's edge is seen.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``pretraining``.
    """
    figure, (axis,) = plots.panels(height=3.2, ylabel="validation, macro bits per byte")
    found = plots.means(rows_of(records, "tuning_score"), "method", "peak")
    chosen = rows_of(records, "peak_on_edge").set_index("method")["peak"].to_dict()
    plots.tuning(axis, found, LOOKS, label=NAMES.__getitem__, chosen=chosen)
    return plots.name_ends(figure)


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
        Tidy records of the experiment ``cost``.
    """
    rows = rows_of(records, "seconds")
    figure, axes = plots.panels([""] * len(AXES), height=3.2, share="y", ylabel="seconds per batch, one thread")
    for axis, (column, label) in zip(axes, AXES.items(), strict=True):
        part = rows[rows["sweep"] == column]
        middle = part.groupby(["program", column])["value"].median().reset_index()
        plots.curves(axis, plots.means(middle, "program", column), plots.distinct(PROGRAMS), label=PROGRAMS.__getitem__)
        fixed = ", ".join(f"{name[-1]} = {part[other].iloc[0]:g}" for other, name in AXES.items() if other != column)
        axis.set_title(fixed, fontsize=plots.SIZE)
        axis.set_xlabel(label)
        plots.log_ticks(axis, "y")
        plots.log_ticks(axis, "x", sorted(part[column].unique()))
    return plots.legend(figure)


def ratios(records: pd.DataFrame, *, threshold: float) -> Figure:
    """Draw how many times less time the fast selection takes, at every size of the table.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``cost``.
    threshold : float
        A ratio to compare with.
    """
    rows = rows_of(records, "cost_ratio").sort_values(["picks", "dimension", "rows"])
    sizes = zip(rows["rows"], rows["dimension"], rows["picks"], strict=True)
    rows = rows.assign(size=[f"N = {n:g}, d = {d:g}, k = {k:g}" for n, d, k in sizes])
    label = f"time of the loop / time of the fast selection (dots: repetitions; dashed: {threshold:g})"
    figure, (axis,) = plots.panels(height=0.3 * rows["size"].nunique() + 0.8, xlabel=label, log="x")
    found = {seed: part.set_index("size")["value"] for seed, part in rows.groupby("seed")}
    plots.forest(axis, found, plots.alike(found, color=plots.COLOURS[0], alpha=0.7))
    axis.axvline(threshold, **plots.DASHED)
    return figure


def memory(records: pd.DataFrame) -> Figure:
    """Draw the peak memory of a worker over the rows of the corpus.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``cost``.
    """
    rows = rows_of(records, "peak_memory")
    figure, (axis,) = plots.panels(xlabel="rows of the corpus", ylabel="peak memory of a worker (MB)")
    found = plots.means(rows, "seed", "rows")
    plots.curves(axis, found, plots.alike(found, color=plots.COLOURS[0], marker="o", alpha=0.7))
    plots.log_ticks(axis, "x", sorted(rows["rows"].unique()))
    axis.set_ylim(0, 1.2 * rows["value"].max())
    return figure

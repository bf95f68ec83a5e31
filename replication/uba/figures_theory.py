"""Figures of the theory notebook; each answers one question and takes the tidy records of its experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from replication.evidence import plots, rows_of
from replication.uba import theory
from replication.uba.baselines import factors
from replication.uba.experiments.theory import STABILITY
from replication.uba.schedule import uba

PHIS = (0.1, 0.5, 1, 2, 5, 20)
BASELINES = {"linear": "linear", "rex": "REX", "step": "step", "onecycle": "one-cycle"}
STYLES = ("--", ":", "-.", (0, (1, 1)))
_KAPPA: Callable[[float], str] = "κ = {:g}".format
_PHI: Callable[[float], str] = "φ = {:g}".format
STEPS = "budget T, steps"


def shapes() -> Figure:
    """Draw the schedule for several phi beside the usual schedules, and the mean rate over phi."""
    figure, (curves, means) = plots.panels(("", ""), widths=(1.4, 1), ylabel="learning rate / peak")
    steps = 400
    t = np.arange(steps)
    own = {phi: pd.Series(uba(t, steps, phi), t / steps) for phi in PHIS}
    plots.curves(curves, own, plots.ordered(PHIS), label=lambda phi: _PHI(phi) + (" (cosine)" if phi == 2 else ""))
    others = {name: pd.Series(factors(name, steps), t / steps) for name in BASELINES}
    plots.curves(curves, others, _grey(BASELINES), label=BASELINES.__getitem__)
    curves.set_xlabel("share of the budget, t/T")
    grid, measured = np.geomspace(0.02, 200, 200), np.geomspace(0.05, 100, 12)
    means.plot(grid, theory.mean_factor(grid), color=plots.GREY, lw=1.2, label=r"$1/(1+\sqrt{\varphi/2})$")
    table = np.asarray(uba(t, steps, measured[:, None])).mean(axis=1)
    means.plot(measured, table, "o", color=plots.COLOURS[0], ms=4, label=f"mean over {steps} steps")
    means.axvline(2, **plots.DOTTED)
    plots.log_ticks(means, "x")
    means.set(xlabel="φ", ylabel="mean learning rate / peak", ylim=(0, 1))
    return plots.legend(figure)


def kappa(records: pd.DataFrame) -> Figure:
    """Draw both sides of the link between phi and kappa: the min-max problem, and noisy descent with a usable peak.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``theory``.
    """
    rows, noise, budget = _little_noise(records)
    titles = ("Min-max problem: where is φ best?", f"Noisy descent: s² = {noise:g}, T = {budget:g}")
    figure, (left, right) = plots.panels(titles, height=3.4)
    excess = rows_of(records, "excess_log_contraction")
    found = plots.means(excess[excess["steps"] == excess["steps"].max()], "kappa", "phi_over_2kappa")
    plots.curves(left, found, plots.ordered(found), label=_KAPPA)
    left.axvline(1, **plots.DOTTED)
    plots.log_ticks(left, "x", [0.5, 0.7, 1, 1.4, 2])
    left.set(xlabel="φ / (2κ)", ylabel="ln(worst contraction) − ln(bound)")
    found = plots.means(rows, "kappa", "phi")
    looks = {kappa: {**look, "marker": None} for kappa, look in plots.ordered(found).items()}
    plots.curves(right, found, looks, label=_KAPPA)
    for kappa, look in looks.items():
        curve = found[kappa]
        right.plot(curve.index[int(curve.argmin())], 1, "o", color=look["color"], ms=6, zorder=3, clip_on=False)
        right.plot(2 * kappa, curve[2 * kappa], "o", mec=look["color"], mfc="white", ms=6, zorder=3)
    plots.log_ticks(right, "xy")
    right.set(xlabel="φ  (filled: best; open: φ = 2κ)", ylabel="final loss / that of the best φ")
    right.set_ylim(1, min(rows["value"].max(), 1000))
    return plots.legends(figure)


def reversal(records: pd.DataFrame) -> str:
    """Say what φ = 2κ is exact for, and how the best φ follows κ with little and with much noise."""
    rows, noise, budget = _little_noise(records)
    found = plots.means(rows, "kappa", "phi")
    low, high = min(found), max(found)
    ranks = rows_of(records, "kappa_rank_correlation", budget=budget).set_index("noise")["value"]
    little, most = ranks[noise], ranks.index.max()
    turned = "is reversed" if little < 0 else "is kept"
    back = "it returns" if ranks[most] > 0 > little else f"it is {'kept' if ranks[most] > 0 else 'reversed'}"
    return (
        f"φ = 2κ is exact for the min-max problem. With little noise (s² = {noise:g}) and a peak limited by stability "
        f"the order {turned}: from κ = {low:g} to {high:,.0f} the best φ goes from {found[low].idxmin():g} to "
        f"{found[high].idxmin():g}, while 2κ goes from {2 * low:g} to {2 * high:,.0f} (rank correlation {little:.2f}). "
        f"With much noise (s² = {most:g}) {back} ({ranks[most]:.2f})."
    )


def _little_noise(records: pd.DataFrame) -> tuple[pd.DataFrame, float, float]:
    """What each phi loses on the quadratic with the least noise and the middle budget, and these two."""
    rows = rows_of(records, "loss_over_best", problem="quadratic")
    budgets = sorted(rows["budget"].unique())
    noise, budget = float(rows["noise"].min()), float(budgets[len(budgets) // 2])
    return rows_of(rows, "loss_over_best", noise=noise, budget=budget), noise, budget


def regret(records: pd.DataFrame, problem: str) -> Figure:
    """Draw what each phi loses to the best one of its budget, peak tuned, for the least and the largest noise.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``theory``.
    problem : {"quadratic", "logistic"}
        Which problem.
    """
    rows = rows_of(records, "loss_over_best", problem=problem)
    kappas = sorted(rows["kappa"].unique())
    shown = [
        (noise, kappa) for noise in (rows["noise"].min(), rows["noise"].max()) for kappa in kappas[:: len(kappas) - 1]
    ]
    titles = [f"noise s² = {noise:g}, {_KAPPA(kappa)}" for noise, kappa in shown]
    figure, axes = plots.panels(titles, height=2.3, columns=2, xlabel="φ", ylabel="loss / best φ's")
    looks = plots.ordered(sorted(rows["budget"].unique()))
    for axis, (noise, kappa) in zip(axes, shown, strict=True):
        part = rows[(rows["noise"] == noise) & (rows["kappa"] == kappa)]
        plots.curves(axis, plots.means(part, "budget", "phi"), looks, label="T = {:g}".format)
        axis.axvline(2, **plots.DOTTED)
        plots.log_ticks(axis, "xy")
        axis.set_ylim(0.97, min(part["value"].max(), 10) * 1.05)
    return plots.legend(figure)


def step_order(records: pd.DataFrame) -> Figure:
    """Draw the error of gradient descent with the min-max steps in three orders.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``theory``.
    """
    rows = rows_of(records, "error")
    names = {
        "decreasing": "decreasing, as scheduled",
        "increasing": "increasing",
        "fractal": "fractal\n(Lebedev–Finogenov)",
    }
    kappa, steps = rows["kappa"].iloc[0], int(rows["step"].max())
    figure, (axis,) = plots.panels((f"κ = {kappa:g}, {steps} steps",), log="y")
    plots.curves(axis, plots.means(rows, "order", "step"), plots.distinct(names), label=names.__getitem__)
    bound = theory.chebyshev_bound(1 / kappa, 1.0, steps)
    axis.axhline(bound, **plots.DOTTED, label="bound for exact\narithmetic")
    axis.set(xlabel="step", ylabel="‖error‖ / ‖initial error‖")
    return plots.name_ends(figure)


def last_iterate(records: pd.DataFrame) -> Figure:
    """Draw the convex last-iterate bound over phi, beside those of other schedules.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``theory``.
    """
    rows = rows_of(records, "last_iterate_bound")
    rows = rows[rows["budget"] == rows["budget"].max()]
    curve = rows[rows["schedule"] == "uba"].set_index("phi")["value"].sort_index()
    best = curve.idxmin()
    figure, (axis,) = plots.panels((f"T = {rows['budget'].max():g}, peak tuned",), log="x")
    axis.plot(curve, color=plots.COLOURS[0], lw=2, label="UBA")
    others = {"linear": "linear", "rex": "REX", "step": "step, ×0.1 at\n50 % and 75 %"}
    for name, look in _grey(others).items():
        axis.axhline(rows.loc[rows["schedule"] == name, "value"].item(), **look, label=others[name])
    axis.plot(best, curve[best], "o", color=plots.COLOURS[0])
    plots.note(axis, f"best: φ = {best:.2g}", best, curve[best], ha="center", xytext=(0, 6))
    axis.set(xlabel="φ", ylabel=r"bound, in units of $DG/\sqrt{T}$")
    axis.margins(y=0.12)
    return plots.name_ends(figure)


def best_phi(records: pd.DataFrame, problem: str) -> Figure:
    """Map the best phi over condition number, budget and noise; in brackets its loss relative to tuned cosine.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``theory``.
    problem : {"quadratic", "logistic"}
        Which problem.
    """
    records = records[records["problem"] == problem]
    rows, losses = rows_of(records, "best_phi"), rows_of(records, "loss_over_best")
    noises = sorted(rows["noise"].unique())
    figure, axes = plots.panels([f"noise s² = {noise:g}" for noise in noises], height=2.2)
    norm = LogNorm(float(losses["phi"].min()), float(losses["phi"].max()))
    for axis, noise in zip(axes, noises, strict=True):
        table = {"index": "budget", "columns": "kappa", "values": "value"}
        grid = rows[rows["noise"] == noise].pivot_table(**table)
        gain = 1 / losses[(losses["noise"] == noise) & (losses["phi"] == 2)].pivot_table(**table)
        text = [
            [f"{phi:g}\n({gain.loc[row, column]:.2f})" for column, phi in of.items()] for row, of in grid.iterrows()
        ]
        plots.heatmap(axis, grid, text, norm=norm, cmap="cividis")
        axis.set_xlabel("condition number κ")
    axes[0].set_ylabel(STEPS)
    plots.colour_bar(axes, axes[0].collections[0], "best φ")
    return figure


def capped(records: pd.DataFrame) -> Figure:
    """Draw the best phi of the min-max problem when the peak may not exceed a cap.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``theory``.
    """
    rows = rows_of(records, "best_phi_capped")
    figure, (axis,) = plots.panels(height=3, log="xy")
    found = plots.means(rows, "kappa", "peak")
    looks = {key: {**look, "marker": "osD^vP*X"[i]} for i, (key, look) in enumerate(plots.ordered(found).items())}
    plots.curves(axis, found, looks, label=lambda key: f"best φ, {_KAPPA(key)}")
    for key, look in looks.items():
        axis.plot(key, 2 * key, **{**look, "ms": 11, "mfc": "none", "ls": ""}, label=f"φ = 2κ = {2 * key:g}")
    left = STABILITY * 0.8
    axis.axvspan(left, STABILITY, color="0.9", zorder=0, label="stable at every step")
    axis.set(xlabel="largest peak allowed, in units of 1/λᵤ", ylabel="φ of least contraction")
    axis.set_xlim(left=left)
    return plots.legend(figure)


def noise_sweep(records: pd.DataFrame) -> Figure:
    """Draw the rank correlation of the best phi with kappa over the noise level, one line per budget.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``theory``.
    """
    figure, (axis,) = plots.panels(log="x")
    found = plots.means(rows_of(records, "kappa_rank_correlation"), "budget", "noise")
    plots.curves(axis, found, label="T = {:g}".format)
    axis.axhline(0, **plots.RULE)
    axis.set(xlabel="noise level s²", ylabel="rank correlation of best φ with κ", ylim=(-1.05, 1.05))
    return plots.name_ends(figure)


def stationarity(records: pd.DataFrame) -> Figure:
    """Draw the least squared gradient over the budget for every phi, and its largest share of the bound.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``theory``.
    """
    gradients, ratios = rows_of(records, "min_gradient"), rows_of(records, "gradient_over_bound")
    looks = plots.ordered(sorted(gradients["phi"].unique()))
    problems = {"quadratic": "-", "logistic": "--"}
    titles = [*(f"{problem}, peak 1/(L√T)" for problem in problems), "largest share of the bound"]
    figure, axes = plots.panels(titles, height=2.7, xlabel=STEPS)
    for axis, problem in zip(axes, problems, strict=False):
        of = gradients[gradients["problem"] == problem]
        found = plots.means(of.assign(value=np.log(of["value"])), "phi", "budget", np.exp)
        plots.curves(axis, found, looks, label=_PHI)
        budgets = next(iter(found.values())).index.to_numpy(dtype=float)
        top = 3 * np.mean([curve.iloc[0] for curve in found.values()])
        axis.plot(budgets, top * np.sqrt(budgets[0] / budgets), **plots.DASHED, label=r"slope of $T^{-1/2}$")
    axes[0].set_ylabel("min E‖∇f‖²\n(mean over κ and noise)")
    axes[2].set_ylabel("min E‖∇f‖² / bound")
    for problem, style in problems.items():
        largest = ratios[ratios["problem"] == problem].groupby(["phi", "budget"])["value"].max().reset_index()
        styled = {phi: {**look, "ls": style} for phi, look in looks.items()}
        plots.curves(axes[2], plots.means(largest, "phi", "budget"), styled, label="_{}".format)
        axes[2].plot([], [], style, color=plots.GREY, label=f"{problem} (right)")
    axes[2].axhline(1, **plots.RULE)
    for axis in axes:
        plots.log_ticks(axis, "y")
        plots.log_ticks(axis, "x", sorted(ratios["budget"].unique()))
    axes[2].set_ylim(ratios["value"].min() / 2, 1.4)
    return plots.legend(figure)


def _grey(names: Sequence[str] | dict[str, str]) -> dict[str, plots.Look]:
    return {name: {"color": plots.GREY, "ls": style, "lw": 1.2} for name, style in zip(names, STYLES, strict=False)}

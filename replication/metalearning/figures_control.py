"""Figures and tables of the control notebook; each answers one question and takes the records of its experiment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from replication.evidence import Table, plots, rows_of
from replication.evidence.claims import load_claims
from replication.evidence.verdicts import limits
from replication.metalearning.environments import INSTALL
from replication.metalearning.figures_sinusoid import LOOKS

CLAIMS = load_claims("metalearning")
UPDATES = "updates on a new task"
STEPS = "environment steps of training"
UNTRAINED: plots.Look = {"color": "0.45", "marker": "x", "ls": ":"}


def adapted(records: pd.DataFrame) -> Figure:
    """Draw the return on new tasks over the updates, at every checkpoint of every environment.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``control``.
    """
    if (empty := _absent(records, "return")) is not None:
        return empty
    rows = rows_of(records, "return")
    found = plots.intervals(rows, "environment", "steps", "method", "updates")
    untrained = plots.intervals(rows_of(records, "untrained_return"), "environment", "updates")
    # in the order of the run: what decides comes first
    places = [(name, steps) for name in rows["environment"].unique() for steps in found[name]]
    titles = [f"{name}, {steps:,.0f} steps" for name, steps in places]
    figure, axes = plots.panels(titles, columns=2, height=2.6, xlabel=UPDATES, ylabel="return on new tasks")
    for axis, (name, steps) in zip(axes, places, strict=True):
        looks = {"untrained": UNTRAINED, **LOOKS}
        plots.curves(axis, {"untrained": untrained[name], **found[name][steps]}, looks, bars=True)
        axis.set_xticks(sorted(found[name][steps]["DRS"]))
    for i in range(0, len(axes) - 1, 2):
        axes[i + 1].sharey(axes[i])
        axes[i].autoscale_view()
    return plots.legend(figure)


def learning(records: pd.DataFrame) -> Figure:
    """Draw the return in training over the environment steps.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``control``.
    """
    if (empty := _absent(records, "training_return")) is not None:
        return empty
    rows = rows_of(records, "training_return")
    rows = rows.assign(curve=rows["method"] + rows["stage"].map({0: "", 1: ", after its inner step"}))
    found = plots.intervals(rows, "environment", "curve", "steps")
    names = list(rows["environment"].unique())
    after = {"color": plots.COLOURS[1], "ls": "-"}
    looks = {name: {**look, "marker": None} for name, look in LOOKS.items()} | {"MAML, after its inner step": after}
    figure, axes = plots.panels(names, height=2.8, xlabel=STEPS, ylabel="return on tasks of training")
    for axis, name in zip(axes, names, strict=True):
        plots.curves(axis, found[name], {curve: look for curve, look in looks.items() if curve in found[name]})
    return plots.legend(figure)


def lead(records: pd.DataFrame) -> Figure:
    """Draw MAML's lead after one update over what training gains, under both budgets.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``control``.
    """
    if (empty := _absent(records, "relative_advantage")) is not None:
        return empty
    rows = rows_of(records, "relative_advantage")
    rows = rows.assign(where=rows["budget"] + rows["steps"].map(", {:,.0f} steps".format))
    found = plots.intervals(rows, "environment", "where")
    label = "lead of MAML\n(grey: comparable)"
    names = list(rows["environment"].unique())
    figure, axes = plots.panels(names, height=2.2, share="y", xlabel=label)
    comparable = limits(CLAIMS.test("T13"))[1]
    for axis, name in zip(axes, names, strict=True):
        plots.forest(axis, {"": found[name]}, plots.alike([""], color="0.2"), at=0, band=(-comparable, comparable))
    return figure


def behaviour(records: pd.DataFrame) -> Figure:
    """Draw the velocity that the first seed's policies take on a few new tasks, before and after one update.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``control``.
    """
    if (empty := _absent(records, "velocity")) is not None:
        return empty
    rows, targets = rows_of(records, "velocity"), rows_of(records, "target")
    cells = [(name, method) for name in rows["environment"].unique() for method in rows["method"].unique()]
    figure, axes = plots.panels([f"{name}, {method}" for name, method in cells], columns=2, height=2.9)
    for axis, (name, method) in zip(axes, cells, strict=True):
        own = rows[(rows["environment"] == name) & (rows["method"] == method)]
        asked = targets[(targets["environment"] == name) & (targets["method"] == method)]
        plane = own["axis"].max() == 1
        axis.set(
            xlabel="velocity to the right" if plane else "step of the rollout",
            ylabel="velocity upwards" if plane else "forward velocity",
        )
        for (task, updates), of in own.groupby(["task", "updates"]):
            wide = of.pivot_table(index="time", columns="axis", values="value")
            colour = plots.COLOURS[int(task)]
            wanted = asked[asked["task"] == task].sort_values("axis")["value"].tolist()
            style: dict[str, Any] = {"color": colour, "ls": "-" if updates else ":", "lw": 1.3}
            x, y = (wide[0], wide[1]) if plane else (wide.index, wide[0])
            axis.plot(x, y, label="after one update" if updates else "before", **style)
            if updates and plane:
                axis.plot(*wanted, "*", color=colour, ms=11, label="asked for")
            elif updates:
                axis.axhline(wanted[0], color=colour, lw=0.9, ls="--", label="asked for")
    return plots.legend(figure)


def frames(records: pd.DataFrame) -> Figure:
    """Draw the half-cheetah on one new task, a strip of moments before and one after an update.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``control``.
    """
    if (empty := _absent(records, "pose", "There is no body to draw in these environments.")) is not None:
        return empty
    name = rows_of(records, "pose")["environment"].iloc[0]
    rows = rows_of(records, "pose", environment=name)
    asked = rows_of(records, "target", environment=name, task=0)["value"].iloc[0]
    cells = [(method, updates) for method in rows["method"].unique() for updates in (0, 1)]
    titles = [
        f"{name} {asked:.1f}: {method}, {'after one update' if updates else 'before any update'}"
        for method, updates in cells
    ]
    figure, axes = plots.panels(titles, columns=1, height=1.25)
    for axis, (method, updates) in zip(axes, cells, strict=True):
        own = rows[(rows["method"] == method) & (rows["updates"] == updates)]
        for place, (now, of) in enumerate(own.groupby("time")):
            ends = of.pivot_table(index=["capsule", "end"], columns="axis", values="value").to_numpy().reshape(-1, 2, 2)
            middle = ends[:, :, 0].mean()
            shifted = ends - np.array([middle - 2.4 * place, 0])
            axis.add_collection(LineCollection(list(shifted), colors="0.25", linewidths=3, capstyle="round"))
            # never minus nothing
            told = f"step {now:g}\n{round(middle, 1) + 0.0:+.1f} m"
            axis.annotate(told, (2.4 * place, -0.12), ha="center", va="top", fontsize=plots.SIZE - 2)
        axis.axhline(0, **plots.RULE)
        axis.set(xlim=(-1.3, 2.4 * own["time"].nunique() - 1.1), ylim=(-1.0, 1.3), aspect="equal")
        axis.set_axis_off()
    return figure


def alone(records: pd.DataFrame) -> Figure:
    """Draw the return of PPO alone on HalfCheetah-v5, over environment steps, beside the bound of its gate.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``control``.
    """
    if (empty := _absent(records, "forward_curve", "PPO alone is not run at this profile.")) is not None:
        return empty
    found = plots.means(rows_of(records, "forward_curve"), "seed", "steps")
    figure, (axis,) = plots.panels(height=2.4, xlabel="environment steps", ylabel="return of a rollout")
    plots.curves(axis, found, plots.alike(found, color="0.3", lw=1), label="one seed".format)
    axis.axhline(limits(CLAIMS.test("ppo"))[0], **plots.DASHED, label="the gate")
    return plots.legend(figure)


def chosen(records: pd.DataFrame) -> Table:
    """The rates of training that the tuning seeds chose, and the median of those of the updates at test.

    Parameters
    ----------
    records : DataFrame
        Tidy records of the experiment ``control``.
    """
    rows = []
    tuned = records[records["quantity"].str.startswith("chosen_")]
    for method, of in tuned.groupby("method") if len(tuned) else ():
        rate = of.set_index("quantity")["value"]
        tried = len(rows_of(records, "tuning_score", method=method))
        inner = f"{rate['chosen_inner_rate']:g}" if rate["chosen_inner_rate"] else "none"
        test = rows_of(records, "test_rate", method=method).groupby(["environment", "batches"])["value"].median()
        told = ", ".join(
            f"{one.environment} after {one.batches:g} batches: {one.value:g}" for one in test.reset_index().itertuples()
        )
        rows.append((str(method), f"{rate['chosen_learning_rate']:g}", inner, str(tried), told))
    return Table(
        ("method", "Adam's rate", "inner rate", "policies trained", "rate of updates at test (median)"), tuple(rows)
    )


def _absent(records: pd.DataFrame, quantity: str, told: str = "") -> Figure | None:
    """A figure that says why there is nothing to draw, if there is nothing; without any record MuJoCo is missing."""
    if (records["quantity"] == quantity).any():
        return None
    figure, (axis,) = plots.panels(height=0.8)
    axis.set_axis_off()
    text = told if told and len(records) else f"Not run: these environments need MuJoCo. {INSTALL}"
    plots.note(axis, text, 0.5, 0.5, ha="center")
    return figure

"""Figures of the mixtures notebook; each answers one question and takes the tidy records."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from replication.adcm.experiments.mixtures import PAPER_LAMBDA
from replication.evidence import Interval, Table, plots, rows_of
from replication.evidence.claims import load_claims

CLAIMS = load_claims("adcm")

MAIN = ("adcm-wt", "ecm2", "ict", "ecm256", "log-wt")
LOOKS = plots.distinct(MAIN)
SCHEDULES = {"VE": "VE", "FM": "flow matching"}
OF_SCHEDULE = plots.distinct(SCHEDULES)
DISTANCE = "distance to the exact map (RMSE)"


def attribution(records: pd.DataFrame) -> Figure:
    """Draw the distance to the exact map for three grids with two weights; beside them iCT, ECM and Eq. 11's weight.

    One panel for every range of noise, 95 % intervals over seeds, small dots for seeds.
    """
    grids = {
        "adaptive": "ADCM's grid",
        "log": "log grid",
        "ecm256": "ECM's grid, q = 256",
        "ecm2": "ECM's grid, q = 2, doubling",
        "ict": "iCT's grid",
    }
    looks = plots.distinct(("w(t)", "1/Δt", "per sample"))
    rows = rows_of(records, "log_rmse", schedule="VE", budget=1.0)
    rows = rows[rows["weight"].isin(looks) & rows["grid"].isin(grids)]
    ranges = sorted(rows["range"].unique(), reverse=True)
    titles = [f"noise up to τ = {end:g}" for end in ranges]
    figure, axes = plots.panels(titles, height=3, share="y", xlabel=DISTANCE + "\nsmall dots: seeds", log="x")
    for axis, end in zip(axes, ranges, strict=True):
        own = rows[rows["range"] == end]
        found = plots.intervals(own, "weight", "grid", transform=np.exp)
        places = plots.forest(axis, found, looks, label="weight {}".format, rows=grids)
        for (weight, grid), y in places.items():
            seeds = np.exp(own.loc[(own["weight"] == weight) & (own["grid"] == grid), "value"])
            axis.plot(seeds, np.full(len(seeds), y + 0.1), ".", ms=3, color=looks[weight]["color"])
    return plots.legend(figure)


def efficiency(records: pd.DataFrame) -> Figure:
    """Draw the distance to the exact map on VE against images, with 95 % intervals over seeds."""
    found = _distances(records)
    figure = _efficiency(found, "share of the budget of images", [])
    shares = sorted(found[MAIN[0]])
    figure.axes[0].set_xticks(shares, [f"{share:.0%}" for share in shares])
    return figure


def cpu_time(records: pd.DataFrame) -> Figure:
    """Draw the same against the CPU time of a run on this machine, its segmentations included."""
    times = plots.means(_at_first(records, "cpu_seconds"), "method", "budget")
    found = {
        method: {times[method][share]: one for share, one in of.items()} for method, of in _distances(records).items()
    }
    return _efficiency(found, "CPU time of a run on this machine (s), its segmentations included", [0.0])


def _at_first(records: pd.DataFrame, quantity: str, **levels: object) -> pd.DataFrame:
    """Rows of a quantity on VE at the first range, where everything is compared."""
    return rows_of(records, quantity, range=_first(records), **({"schedule": "VE"} | levels))


def _first(records: pd.DataFrame) -> float:
    """The first range that was run; its parts come first."""
    return float(records["range"].dropna().iloc[0])


def _distances(records: pd.DataFrame) -> dict[str, dict[float, Interval]]:
    rows = _at_first(records, "log_rmse")
    found: dict[str, dict[float, Interval]] = plots.intervals(
        rows[rows["method"].isin(MAIN)], "method", "budget", transform=np.exp
    )
    return found


def _efficiency(found: dict[str, dict[float, Interval]], xlabel: str, include: list[float]) -> Figure:
    figure, (axis,) = plots.panels(height=3.4, xlabel=xlabel, ylabel=DISTANCE, log="y")
    plots.curves(axis, found, LOOKS, label=CLAIMS.named, bars=True)
    axis.update_datalim([(x, axis.dataLim.y0) for x in include])
    return plots.name_ends(figure)


def against(records: pd.DataFrame) -> Figure:
    """Draw every method on VE against ADCM with w(t) at the full budget: paired differences in percent."""
    rows = _at_first(records, "log_rmse", budget=1.0)
    found = plots.paired(rows, "method", "adcm-wt", lambda less: 100 * np.expm1(-less))
    names = [name for name in CLAIMS.levels if name in found] + sorted(
        name for name in found if name not in CLAIMS.levels
    )
    label = "farther from the exact map than ADCM with w(t) (%); grey: within 5 %"
    figure, (axis,) = plots.panels(height=0.24 * len(names) + 0.9, xlabel=label)
    plots.forest(axis, {"": found}, rows={name: _name(name) for name in names}, at=0, band=(-5, 5))
    axis.set_xscale("symlog", linthresh=20)
    axis.set_xticks([-50, -20, 0, 20, 50, 100, 200, 500], ["−50", "−20", "0", "20", "50", "100", "200", "500"])
    axis.minorticks_off()
    return figure


def transfer(records: pd.DataFrame) -> Figure:
    """Draw the distance to the exact map under VE and under flow matching, baselines rewritten and naive."""
    names = {
        "adcm-wt": "ADCM with w(t)",
        "ict": "iCT, rewritten",
        "ict-naive": "iCT, naive",
        "ecm2": "ECM (q = 2), rewritten",
        "ecm2-naive": "ECM (q = 2), naive",
    }
    rows = rows_of(records, "log_rmse", budget=1.0, range=_first(records))
    found = plots.intervals(rows, "schedule", "method", transform=np.exp)
    # on VE there is nothing to rewrite
    found["VE"] |= {name: found["VE"][name.removesuffix("-naive")] for name in names}
    figure, (axis,) = plots.panels(height=2.8, xlabel=DISTANCE, log="x")
    plots.forest(axis, found, OF_SCHEDULE, label=SCHEDULES.__getitem__, rows=names)
    return plots.legend(figure)


def trade_off(records: pd.DataFrame) -> Figure:
    """Draw early and final distance to the exact map against lambda, with 95 % intervals over seeds."""
    rows = _at_first(records, "log_rmse")
    # the paper's lambda has no name of its own
    named = rows["method"].replace("adcm-wt", f"adcm-lambda-{PAPER_LAMBDA:g}")
    rows = rows.assign(lam=named.str.extract("^adcm-lambda-(.+)$")[0].astype(float))
    figure, (axis,) = plots.panels(height=3, xlabel="λ", ylabel=DISTANCE, log="xy")
    found = plots.intervals(rows, "budget", "lam", transform=np.exp)
    plots.curves(axis, found, label="after {:.0%} of the images".format, bars=True)
    return plots.legend(figure)


def segments(records: pd.DataFrame) -> Figure:
    """Draw how long the adaptive grid is in the course of training, one line a seed."""
    figure, (axis,) = plots.panels(height=2.6, xlabel="training step of the segmentation", ylabel="segments N")
    rows = rows_of(records, "segments", method="adcm-wt", range=_first(records))
    for schedule, own in rows.groupby("schedule", sort=False):
        each = plots.means(own, "seed", "step")
        plots.curves(axis, each, plots.alike(each, **OF_SCHEDULE[schedule]), label=SCHEDULES[str(schedule)].format)
    axis.set_ylim(0, None)
    return plots.legend(figure)


def safeguards(records: pd.DataFrame) -> Table:
    """How many steps of ADCM's first and last grid a safeguard made, for every lambda: means over seeds."""
    at = records[(records["range"] == _first(records)) & records["quantity"].isin(["segments", "safeguard"])]
    at = at[at["method"].str.fullmatch("adcm-wt|adcm-lambda-.*")].fillna({"safeguard": "segments"})
    means = at.pivot_table("value", ["schedule", "method", "step"], "safeguard")
    lines = []
    for (schedule, method), rows in means.groupby(level=["schedule", "method"]):
        for _, mean in rows.iloc[[0, -1]].reset_index("step").iterrows():
            steps = (f"{mean[kind]:,.0f} ({mean[kind] / mean['segments']:.0%})" for kind in ("floored", "capped"))
            nodes = (f"{mean[kind]:.2g}" for kind in ("nonpositive", "nonfinite"))
            name = f"{_name(str(method))}, {SCHEDULES[str(schedule)]}"
            lines.append((name, f"{mean['step']:.0f}", f"{mean['segments']:,.0f}", *steps, *nodes))
    heads = ("grid", "training step", "segments", "made by the floor", "by the cap", "estimates ≤ 0", "not finite")
    return Table(heads, tuple(lines))


def samples(records: pd.DataFrame) -> Figure:
    """Draw one-step samples from the same noise: the exact map's, and those of three methods joined to them."""
    titles = {"exact": "exact map"} | {name: CLAIMS.named(name) for name in ("adcm-wt", "ecm2", "adcm-sample")}
    points = {
        method: np.stack([rows_of(records, f"sample_{axis}", method=method)["value"].to_numpy() for axis in "xy"], -1)
        for method in titles
    }
    figure, axes = plots.panels([*titles.values()], height=2.2, share="xy", xlabel="x₁", ylabel="x₂")
    for axis, method in zip(axes, titles, strict=True):
        ends, own = points["exact"], points[method]
        if method != "exact":
            axis.plot(*np.stack([ends, own]).transpose(2, 0, 1), color="0.75", lw=0.6)
        axis.plot(own[:, 0], own[:, 1], ".", ms=3, color=plots.COLOURS[method != "exact"])
        axis.set(aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
    return figure


def tuning(records: pd.DataFrame) -> Figure:
    """Draw the mean tuning score against the learning rate on both schedules; dots mark the chosen rates."""
    label = "distance to the exact map\n(RMSE, geometric mean)"
    rows = rows_of(records, "tuning_score", range=_first(records))
    trained = [name for name in SCHEDULES if name in set(rows["schedule"])]
    figure, axes = plots.panels([SCHEDULES[name] for name in trained], height=3.2, share="y", ylabel=label, log="y")
    looks = plots.distinct((*MAIN, "ict-naive", "ecm2-naive", "ecm256-wt", "adcm-sample"))
    for axis, schedule in zip(axes, trained, strict=True):
        scores = plots.means(rows[rows["schedule"] == schedule], "method", "lr", np.exp)
        plots.tuning(axis, scores, looks, label=CLAIMS.named)
    return plots.legend(figure)


def _name(method: str) -> str:
    if method.startswith("adcm-lambda-"):
        return f"ADCM with w(t), λ = {method.removeprefix('adcm-lambda-')}"
    return CLAIMS.named(method)

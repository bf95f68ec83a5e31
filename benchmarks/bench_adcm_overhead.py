"""What the adaptive discretization costs at the paper's cadence, N c_step / (m c_train), with its parts.

The peer is the plain training step of the same network (target, loss, gradient, ``torch.optim.RAdam``, moving average).
A step of the segmentation is Eq. 10 on one mini-batch by one JVP, as Algorithm 1 has it; beside it stands the finite
difference of three forward passes. N is measured: a U-Net is trained as a denoiser on the digits, then by ADCM, and
segmented several times. CPU time of the process, one thread; the parts alternate, each repeat takes the least of eight
calls, and the median over the repeats is printed.

    python benchmarks/bench_adcm_overhead.py [--repeats 10] [--widths 16,16 --patch 2]
"""

from __future__ import annotations

import statistics

import click
import numpy as np
import pandas as pd
import torch

from replication.adcm.experiments.images import PAPER_BATCH, PAPER_PERIOD, Config, Trial, overhead, study_of


@click.command()
@click.option("--repeats", default=10, show_default=True, help="Repeats of eight alternating calls.")
@click.option("--widths", default="16,16", show_default=True, help="Channels of the U-Net's levels.")
@click.option("--patch", default=2, show_default=True, help="Side of the finest level's patches.")
def main(repeats: int, widths: str, patch: int) -> None:
    torch.set_num_threads(1)
    config = Config(widths=[int(width) for width in widths.split(",")], patch=patch, timings=repeats)
    study = study_of(config, "digits")
    trials = [Trial("adcm-wt", config.rates[0], seed) for seed in range(config.seeds)]
    *_, (_, _, trainer) = study.train(trials, [1.0])
    lengths = [one.segments for one in trainer.segmentations]
    rows = overhead(config, pd.DataFrame({"quantity": "segments", "value": lengths}))

    def median(quantity: str) -> float:
        return statistics.median(r["value"] for r in rows if r["quantity"] == quantity)

    jvp, difference, step = (median(quantity) for quantity in ("estimate_ms", "difference_ms", "step_ms"))
    parameters = sum(p[0].numel() for p in trainer.ema.values())
    print(
        f"U-Net {widths}, patch {patch}, {parameters:,} parameters, batch {PAPER_BATCH}, torch {torch.__version__}, "
        f"1 thread; median of {repeats} repeats"
    )
    print(
        f"training step {step:.1f} ms; Eq. 10 by JVP {jvp:.1f} ms = {jvp / step:.2f} of it, by finite difference "
        f"{difference:.1f} ms = {difference / step:.2f} of it"
    )
    each = ", ".join(map(str, lengths))
    print(f"N = {np.mean(lengths):.0f} (segmentations: {each}; lambda {config.lam}, t up to {config.t_max:g})")
    print(f"overhead at m = {PAPER_PERIOD:,}: {median('overhead_paper'):.1f} % (the paper: about 4 %)")


if __name__ == "__main__":
    main()

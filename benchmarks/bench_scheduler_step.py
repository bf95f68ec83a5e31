"""Time of one ``UBALR.step()`` against ``torch.optim.lr_scheduler.CosineAnnealingLR.step()``.

Three parameter groups, alternating blocks of steps in one process, median over blocks; prints the ratio.

    python benchmarks/bench_scheduler_step.py [--blocks 200] [--steps 500]
"""

from __future__ import annotations

import statistics
import time

import click
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from replication.uba.schedule import UBALR

TOTAL = 10_000_000  # longer than any run of the benchmark: no step falls past the budget


def optimizer() -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.03, 0.01)]
    return torch.optim.SGD(groups, lr=0.1)


def block(scheduler: LRScheduler, steps: int) -> float:
    """Seconds per step over ``steps`` steps."""
    step = scheduler.step
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


@click.command()
@click.option("--blocks", default=200, show_default=True, help="Alternating blocks per scheduler.")
@click.option("--steps", default=500, show_default=True, help="Steps per block.")
def main(blocks: int, steps: int) -> None:
    torch.set_num_threads(1)
    peer = "CosineAnnealingLR"
    schedulers: dict[str, LRScheduler] = {peer: CosineAnnealingLR(optimizer(), TOTAL)}
    schedulers |= {f"UBALR(phi={phi})": UBALR(optimizer(), TOTAL, phi) for phi in (0.5, 2, 5)}
    schedulers["UBALR(phi=5, warm-up)"] = UBALR(optimizer(), TOTAL, 5, warmup_iters=TOTAL - 1)
    times: dict[str, list[float]] = {name: [] for name in schedulers}
    for scheduler in schedulers.values():
        scheduler.optimizer.step()
        block(scheduler, steps)
    for _ in range(blocks):
        for name, scheduler in schedulers.items():
            times[name].append(block(scheduler, steps))
    base = times[peer]
    print(f"median over {blocks} alternating blocks of {steps} steps, 3 parameter groups, torch {torch.__version__}")
    for name, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(own, base, strict=True))
        print(f"{name:24s} {statistics.median(own) * 1e6:7.2f} us/step   ratio to {peer}: {ratio:.3f}")


if __name__ == "__main__":
    main()

"""CPU time of `replication.disf.select_batch` against the loop that recomputes a d × d matrix for each candidate.

The peer is `replication.disf.reference.greedy`: per candidate it joins, centres and z-scores the rows, forms the
correlation matrix, copies its off-diagonal, squares and sums, as the authors' code does. It runs in full at the paper's
size (b = 1024, d = 768, k = 16), where its picks are compared with those of the fast form. At the other sizes (marked
e) its time is extrapolated from samples of its evaluations at set sizes between 2 and k, so that its picks are not
known; there the picks in float32 are compared with those in float64. `participation` (ours) has another objective,
which the loop does not compute: its time only.

One thread, CPU time of the process, median of the repeats; the first pick is given, and the second is the authors'.

    python benchmarks/bench_disf_selection.py [--repeats 5] [--samples 20]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch

from replication.disf import reference, select_batch
from replication.disf.experiments.cost import loop_seconds

Rows = npt.NDArray[Any]

PAPER = (1024, 768, 16)
SIZES = (PAPER, (1024, 384, 16), (1024, 768, 128), (8192, 768, 16), (8192, 768, 128))


def seconds(program: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = program()
    return time.process_time() - start, result


def timed(repeats: int, rows: Rows, k: int, **options: Any) -> tuple[float, list[int]]:
    """Median time of the fast form, and its picks."""
    runs = [seconds(partial(select_batch, rows, k, first=0, **options)) for _ in range(repeats)]
    return statistics.median(time for time, _ in runs), runs[0][1].tolist()


@click.command()
@click.option("--repeats", default=5, show_default=True, help="Runs of the fast form per size.")
@click.option("--samples", default=20, show_default=True, help="Sampled evaluations of the loop per set size.")
def main(repeats: int, samples: int) -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread, CPU time; fast: median of {repeats}; e: extrapolated from samples")
    print("    N    d    k  dtype         loop        fast   ratio  participation  picks")
    for N, d, k in SIZES:
        wide = np.random.default_rng(0).standard_normal((N, d)) * 0.04
        expected: list[int] = []
        for rows in (wide, wide.astype(np.float32)):
            fast, picks = timed(repeats, rows, k, second="authors", on_duplicates="keep")
            ours, _ = timed(repeats, rows, k, criterion="participation")
            if (N, d, k) == PAPER:
                loop, expected = seconds(partial(reference.greedy, torch.from_numpy(rows), k, 0))
                mark, peer = " ", "the loop's"
            else:
                loop, mark, peer = loop_seconds(rows, np.array(picks), samples), "e", "float64's"
            verdict = f"{'identical to' if picks == expected else 'DIFFER FROM'} {peer}" if expected else ""
            print(
                f"{N:5d} {d:4d} {k:4d}  {rows.dtype!s:7s} {loop:8.2f} s{mark} {fast * 1e3:8.1f} ms {loop / fast:6.0f}x"
                f"  {ours * 1e3:10.1f} ms  {verdict}",
                flush=True,
            )
            expected = expected or picks


if __name__ == "__main__":
    main()

"""The maps of MAML against DRS, beside a plain reference that draws every sample and solves least squares per trial.

The reference reads like the definition: per trial it draws M tasks of 2N samples (vectorised over the tasks), forms
the normal equations of both estimators for each of 21 step sizes, and compares the exact risks. It is timed on a part
of the grid, and its time per trial, task and sample is extrapolated to all cells by least squares. Printed: seconds of
the processor for the full 12 x 12 x 21 grid at 1,000 trials, their ratio, and how far apart the fractions of wins are,
in standard errors.

    OMP_NUM_THREADS=1 python benchmarks/bench_metalearning_maps.py
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from replication.metalearning import optimum_maml, win_fraction
from replication.metalearning.experiments.linear import ALPHAS, BETA, SAMPLES, TASKS

Float = NDArray[np.float64]
TRIALS, TIMED, SEED = 1000, 200, 0
CELLS = ((1, 10), (1, 400), (25, 10), (25, 100), (100, 25), (100, 200), (400, 100), (400, 400))
"""(N, M) on which the reference is timed."""


def plain(N: int, M: int, trials: int, rng: np.random.Generator) -> Float:
    """Fraction of trials won by MAML after the update for every step size, sample by sample."""
    won = np.zeros(len(ALPHAS))
    best = optimum_maml(ALPHAS, N, BETA)
    for _ in range(trials):
        q, s = rng.uniform(0, BETA, (M, 1)), rng.uniform(0, BETA, (M, 1))
        X = rng.standard_normal((M, 2 * N)) * np.sqrt(q)
        Y = X * q + np.sqrt(s) * rng.standard_normal((M, 2 * N))
        X1, X2, Y1, Y2 = X[:, :N], X[:, N:], Y[:, :N], Y[:, N:]
        drs = (X * Y).sum() / (X * X).sum()
        a1, b1 = (X1 * X1).mean(1), (X1 * Y1).mean(1)
        for i, alpha in enumerate(ALPHAS.tolist()):
            S = 1 - alpha * a1
            A = (S * (X2 * X2).sum(1) * S).sum()
            b = (S * (X2 * (Y2 - alpha * X2 * b1[:, None])).sum(1)).sum()
            won[i] += abs(b / A - best[i]) < abs(drs - best[i])
    return won / trials


def main() -> None:
    begin = time.process_time()
    ours = win_fraction(ALPHAS, SAMPLES, TASKS, BETA, TRIALS, SEED).after
    seconds = time.process_time() - begin

    costs, sizes, scores = [], [], []
    for N, M in CELLS:
        begin = time.process_time()
        theirs = plain(N, M, TIMED, np.random.default_rng((SEED, N, M)))
        costs.append((time.process_time() - begin) / TIMED)
        sizes.append((1.0, M, M * N))
        mine = ours[:, SAMPLES.index(N), TASKS.index(M)]
        p = np.clip((mine + theirs) / 2, 0.005, 0.995)
        scores.append((mine - theirs) / np.sqrt(p * (1 - p) * (1 / TRIALS + 1 / TIMED)))
    # seconds per trial, per task, and per sample; weighted so that every cell counts by its relative error
    weight = 1 / np.array(costs)
    per = nnls(np.array(sizes) * weight[:, None], np.ones(len(costs)))[0]
    peer = TRIALS * sum(per @ (1.0, M, M * N) for N in SAMPLES for M in TASKS)
    z = np.array(scores)
    print(
        f"12 x 12 x {len(ALPHAS)} grid at {TRIALS:,} trials: {seconds:.1f} s of one processor; sample by sample "
        f"{peer:.0f} s, extrapolated from {TIMED} trials of {len(CELLS)} cells: {peer / seconds:.0f} x. The "
        f"fractions of wins differ by at most {np.abs(z).max():.1f} standard errors (mean {z.mean():.2f}, s.d. "
        f"{z.std():.2f})"
    )


if __name__ == "__main__":
    main()

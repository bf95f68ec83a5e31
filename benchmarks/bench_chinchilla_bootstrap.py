"""Bootstrap of the Chinchilla law against SciPy's BFGS, one resample after another; one thread, one process.

Both fit the same 4,000 resamples of 240 synthetic runs from the same five starts (the default four and the solution of
all runs) and keep the best. The peer is ``scipy.optimize.minimize(method="BFGS")`` with the analytic gradient, on the
objective times 1e4 in the natural parameters. It is timed on every hundredth resample and extrapolated to all. Printed:
seconds of the processor (other programs may be running), their ratio, and how often either ends at a lower objective.

    OMP_NUM_THREADS=1 python benchmarks/bench_chinchilla_bootstrap.py
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from replication.meek.fit import DEFAULT_STARTS, bootstrap_chinchilla, fit_chinchilla
from replication.meek.law import BESIROGLU

Float = NDArray[np.float64]
RUNS, RESAMPLES, EVERY, SEED, DELTA, SCALE = 240, 4000, 100, 0, 1e-3, 1e4


def synthetic() -> tuple[Float, Float, Float]:
    """Sizes, tokens and losses in the ranges of Hoffmann et al., with one percent of noise."""
    rng = np.random.default_rng(SEED)
    N = np.exp(rng.uniform(np.log(6e7), np.log(1.6e10), RUNS))
    D = np.clip(np.exp(rng.uniform(np.log(6e18), np.log(3e21), RUNS)) / 6 / N, 8e8, 3e11)
    return N, D, BESIROGLU.loss(N, D) * np.exp(rng.normal(0, 0.01, RUNS))


def one_after_another(N: Float, D: Float, loss: Float, counts: Float, starts: Float) -> Float:
    """Lowest objective of each resample by SciPy, shape (len(counts),)."""
    x, y, target = np.log(N), np.log(D), np.log(loss)

    def objective(theta: Float, weight: Float) -> tuple[float, Float]:
        a, b, e, alpha, beta = theta
        p, q, s = np.exp(a - alpha * x), np.exp(b - beta * y), np.exp(e)
        total = p + q + s
        r = np.log(total) - target
        clipped = np.clip(r, -DELTA, DELTA)
        slope = weight * clipped / total
        gp, gq = slope * p, slope * q
        return float(weight @ (clipped * (r - clipped / 2))), np.array(
            [gp.sum(), gq.sum(), s * slope.sum(), -gp @ x, -gq @ y]
        )

    best = np.empty(len(counts))
    for i, row in enumerate(counts):
        found = [minimize(objective, start, args=(SCALE * row,), jac=True, method="BFGS") for start in starts]
        best[i] = min(one.fun for one in found) / SCALE
    return best


def main() -> None:
    torch.set_num_threads(1)
    data = synthetic()
    whole = fit_chinchilla(*data)
    solution = [np.log(whole.A), np.log(whole.B), np.log(whole.E), whole.alpha, whole.beta]
    starts = np.concatenate([DEFAULT_STARTS, [solution]])
    # the resamples that `bootstrap_chinchilla` draws
    counts = np.random.default_rng(SEED).multinomial(RUNS, np.full(RUNS, 1 / RUNS), size=RESAMPLES).astype(np.float64)

    begin = time.process_time()
    ours = bootstrap_chinchilla(*data, resamples=RESAMPLES, seed=SEED)
    seconds = time.process_time() - begin

    begin = time.process_time()
    with np.errstate(over="ignore", invalid="ignore"):
        peer = one_after_another(*data, counts[::EVERY], starts)
    peer_seconds = (time.process_time() - begin) * RESAMPLES / len(peer)

    difference = peer / np.asarray(ours.objective)[::EVERY] - 1
    worse, better = int((difference > 1e-9).sum()), int((difference < -1e-9).sum())
    print(
        f"{RESAMPLES:,} resamples of {RUNS} runs, {len(starts)} starts each: {seconds:.1f} s of one processor, all "
        f"converged: {bool(np.all(ours.converged))}; SciPy's BFGS {peer_seconds:.0f} s, extrapolated from {len(peer)} "
        f"resamples: {peer_seconds / seconds:.0f} x. Of these {len(peer)}, SciPy ends more than 1e-9 higher in {worse} "
        f"(at most {max(0.0, difference.max()):.1e}) and lower in {better}"
    )


if __name__ == "__main__":
    main()

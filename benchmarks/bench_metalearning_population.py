"""Population of the sinusoid study against the same replicas one after another, one thread, one process.

For each method: R replicas of a 1-40-40-1 perceptron on 5 tasks of 10 examples, both ways in alternating blocks.
Printed: the largest difference of their losses over the steps, and the ratio of times (peer: the gradients of
``replication.metalearning.adaptation`` by ``torch.func`` and ``torch.optim.Adam``, one replica at a time).

    python benchmarks/bench_metalearning_population.py
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

from replication.metalearning.adaptation import drs_gradient, fomaml_gradient, maml_gradient
from replication.metalearning.sinusoid import METHODS, MetaPopulation, Method, Sinusoids
from replication.training import MLP, seeded

SIZES, RATE, LR = [1, 40, 40, 1], 0.01, 1e-3
REPLICAS, TASKS, SHOTS, STEPS, ROUNDS = 64, 5, 5, 5, 5


def one_after_another(method: Method, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """Losses (STEPS, R) of ordinary loops, and their seconds."""
    losses = torch.empty(STEPS, REPLICAS)
    seconds = 0.0
    for r in range(REPLICAS):
        with seeded(r):
            module: nn.Module = MLP(SIZES)
        model, named = partial(functional_call, module), dict(module.named_parameters())
        optimizer = torch.optim.Adam(named.values(), lr=LR)
        halves = ((x[r, :, :SHOTS], y[r, :, :SHOTS]), (x[r, :, SHOTS:], y[r, :, SHOTS:]))
        begin = time.perf_counter()
        for t in range(STEPS):
            parameters = {name: p.detach() for name, p in named.items()}
            if method == "DRS":
                found = drs_gradient(model, parameters, mse_loss, (x[r], y[r]))
            else:
                meta = maml_gradient if method == "MAML" else fomaml_gradient
                found = meta(model, parameters, mse_loss, *halves, RATE)
            for name, p in named.items():
                p.grad = found.gradients[name]
            optimizer.step()
            losses[t, r] = found.loss
        seconds += time.perf_counter() - begin
    return losses, seconds


def together(method: Method, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """The same losses from one population."""
    population = MetaPopulation(method, SIZES, range(REPLICAS), torch.full((REPLICAS,), LR), RATE)
    begin = time.perf_counter()
    losses = torch.stack([population.step(x, y) for _ in range(STEPS)])
    return losses, time.perf_counter() - begin


def main() -> None:
    torch.set_num_threads(1)
    x, y = Sinusoids.draw(0, "bench", (REPLICAS, TASKS), 1.0).sample(0, "bench", 2 * SHOTS, 1.0)
    for method in METHODS:
        pairs = [(one_after_another(method, x, y), together(method, x, y)) for _ in range(ROUNDS)]
        (alone, _), (population, _) = pairs[0]
        ratio = statistics.median(a / p for (_, a), (_, p) in pairs)
        print(
            f"{method}, R = {REPLICAS}: {ratio:.0f} x torch.func one after another (median of {ROUNDS} pairs); losses "
            f"over {STEPS} steps differ by at most {(alone - population).abs().max():.1e}"
        )


if __name__ == "__main__":
    main()

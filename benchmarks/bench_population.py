"""Population trainer against the same runs one after another through torch.optim, one thread, one process.

For each model: R replicas with their own seed, peak and data order, trained both ways for the same steps in alternating
blocks. Printed: the largest difference of the losses over 100 steps, the ratio of times (peer: ``torch.optim.SGD`` in a
plain training loop), and the memory per replica.

    python benchmarks/bench_population.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor, nn

from replication.data import digits
from replication.training import MLP, SGD, Population, ResNet8, data_order
from replication.training.population import cross_entropy
from replication.training.seeding import seeded

BATCH, STEPS, LOSS_STEPS, ROUNDS = 32, 10, 100, 5


def one_after_another(build: Callable[[], nn.Module], x: Tensor, y: Tensor, order: Tensor, rates: Tensor) -> Tensor:
    """Losses (T, R) of R ordinary training loops."""
    losses = torch.empty(order.shape[:2])
    for r in range(order.shape[1]):
        with seeded(r):
            model = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t, r=r: float(rates[min(t, len(rates) - 1), r]))
        for t, index in enumerate(order[:, r]):
            optimizer.zero_grad()
            loss = cross_entropy(model(x[index]), y[index])
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses[t, r] = loss.detach()
    return losses


def together(build: Callable[[], nn.Module], x: Tensor, y: Tensor, order: Tensor, rates: Tensor) -> Tensor:
    """The same losses from one population."""
    population = Population(build, range(order.shape[1]), SGD(momentum=0.9, weight_decay=5e-4))
    return population.fit(lambda t: (x[order[t]], y[order[t]]), rates)


def timed(train: Callable[..., Tensor], *arguments: object) -> float:
    begin = time.perf_counter()
    train(*arguments)
    return time.perf_counter() - begin


def main() -> None:
    torch.set_num_threads(1)
    images = digits()
    x, y = torch.from_numpy(images.images), torch.from_numpy(images.labels)
    cases: list[tuple[str, Callable[[], nn.Module], int]] = [
        ("MLP 64-128-128-10", lambda: MLP([64, 128, 128, 10]), 256),
        ("ResNet-8 width 4, 8 x 8", lambda: ResNet8(1, 10, width=4), 64),
        ("ResNet-8 width 8, 8 x 8", lambda: ResNet8(1, 10, width=8), 64),
    ]
    for name, build, replicas in cases:
        peaks = torch.logspace(-3, -2, replicas)
        order = data_order(range(replicas), len(x), BATCH, LOSS_STEPS)
        rates = peaks * torch.linspace(1, 0, LOSS_STEPS)[:, None]
        few = 4  # replicas whose whole loss curves are compared
        difference = together(build, x, y, order, rates)[:, :few] - one_after_another(
            build, x, y, order[:, :few], rates[:, :few]
        )
        arguments = (build, x, y, order[:STEPS], rates[:STEPS])
        before = psutil.Process().memory_info().rss
        timed(together, *arguments)
        grown = psutil.Process().memory_info().rss - before
        pairs = [(timed(one_after_another, *arguments), timed(together, *arguments)) for _ in range(ROUNDS)]
        ratio = statistics.median(alone / population for alone, population in pairs)
        speed = replicas * STEPS / statistics.median(population for _, population in pairs)
        held = Population(build, [0], SGD(momentum=0.9)).bytes_per_replica
        print(
            f"{name}, batch {BATCH}, R = {replicas}: {ratio:.2f} x torch.optim one after another "
            f"(median of {ROUNDS} pairs); {speed:,.0f} replica-steps/s; losses over {LOSS_STEPS} steps differ by at "
            f"most {difference.abs().max():.1e}; parameters, gradients and state {held / 1024:.0f} KiB per replica, "
            f"process grew by {max(0, grown) / replicas / 1024:.0f} KiB per replica"
        )


if __name__ == "__main__":
    main()

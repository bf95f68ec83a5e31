"""Both back ends of ``Population`` against hand-written loops, and whether its rule takes the faster; one thread.

For each model R replicas with their own seed, rate and data are trained three ways: mapped as a population, as plain
modules, and by a loop that a researcher would write, one run after another through ``torch.optim`` (``foreach``) on the
same model and batches. The three take turns; the least CPU time of each counts, so that a busy machine does not decide.
Printed per model: examples per second of each, the ratio of plain modules to the loop (the peer; at least 0.9 is
wanted), and the back end that the rule takes, with a word if it is more than 5 % slower than the other.

    python benchmarks/bench_training.py [rounds, 5]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from replication.provenance import pin_numerics

pin_numerics()  # before torch is imported: as every experiment runs

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from replication.adcm.unet import UNet  # noqa: E402
from replication.training import MLP, SGD, AdamW, ByteTransformer, Population, ResNet8, count_parameters  # noqa: E402
from replication.training.population import Backend, Stacked, cross_entropy, faster  # noqa: E402
from replication.training.seeding import seeded  # noqa: E402

WANTED = 0.9


class Pixels(nn.Module):
    """A U-Net as a classifier of pixels, whose classes are its channels."""

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.network = UNet(channels, widths)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.network(x, x.new_zeros(len(x)))
        return outputs.movedim(1, -1)

    def stacked(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        """The same for all replicas in one grouped convolution a layer."""
        own = {name.removeprefix("network."): p for name, p in parameters.items()}
        return self.network.stacked(own, x, x.new_zeros(x.shape[:2])).movedim(2, -1)


@dataclass(frozen=True)
class Case:
    """A model, and what it is trained on."""

    name: str
    build: Callable[[], nn.Module]
    draw: Callable[[tuple[int, int]], tuple[Tensor, Tensor]]
    """Inputs and targets of (replicas, batch)."""
    optimizer: SGD | AdamW
    replicas: int
    batch: int
    steps: int = 8
    stacked: Stacked | None = None


def images(channels: int, side: int) -> Callable[[tuple[int, int]], tuple[Tensor, Tensor]]:
    return lambda shape: (torch.randn(*shape, channels, side, side), torch.randint(0, 10, shape))


def pixels(channels: int, side: int) -> Callable[[tuple[int, int]], tuple[Tensor, Tensor]]:
    return lambda shape: (torch.randn(*shape, channels, side, side), torch.randint(0, channels, (*shape, side, side)))


def tokens(context: int) -> Callable[[tuple[int, int]], tuple[Tensor, Tensor]]:
    return lambda shape: (torch.randint(0, 256, (*shape, context)), torch.randint(0, 256, (*shape, context)))


MOMENTUM, ADAM = SGD(momentum=0.9, weight_decay=5e-4), AdamW(betas=(0.9, 0.95), weight_decay=0.1)
CASES = [
    Case("MLP 64-128-128-10", lambda: MLP([64, 128, 128, 10]), images(1, 8), MOMENTUM, 64, 32),
    Case("ResNet-8 width 4, 8 x 8", lambda: ResNet8(1, 10, width=4), images(1, 8), MOMENTUM, 64, 16),
    Case("ResNet-8 width 8, 16 x 16", lambda: ResNet8(3, 10, width=8), images(3, 16), MOMENTUM, 8, 64),
    Case("ResNet-8 width 16, 16 x 16", lambda: ResNet8(3, 10, width=16), images(3, 16), MOMENTUM, 8, 64),
    Case("transformer 2 x width 64", lambda: ByteTransformer(64, 2, 4, 64), tokens(64), ADAM, 8, 16),
    Case(
        "U-Net 24-48-96, 16 x 16",
        lambda: Pixels(3, [24, 48, 96]),
        pixels(3, 16),
        ADAM,
        4,
        32,
        steps=2,
        stacked=Pixels(3, [24, 48, 96]).stacked,
    ),
]


def ours(case: Case, x: Tensor, y: Tensor, backend: Backend) -> Callable[[], object]:
    stacked = case.stacked if backend == "population" else None
    trained = Population(case.build, range(case.replicas), case.optimizer, stacked=stacked, backend=backend)
    rates = torch.full((case.steps, case.replicas), 1e-3)
    return lambda: trained.fit(lambda step: (x[step], y[step]), rates)


def by_hand(case: Case, x: Tensor, y: Tensor) -> Callable[[], object]:
    models = []
    for seed in range(case.replicas):
        with seeded(seed):
            models.append(case.build())
    of = case.optimizer
    optimizers: list[torch.optim.Optimizer]
    if isinstance(of, SGD):
        optimizers = [
            torch.optim.SGD(model.parameters(), 1e-3, of.momentum, weight_decay=of.weight_decay, foreach=True)
            for model in models
        ]
    else:
        optimizers = [
            torch.optim.AdamW(model.parameters(), 1e-3, of.betas, weight_decay=of.weight_decay, foreach=True)
            for model in models
        ]

    def train() -> None:
        for index, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            for step in range(case.steps):
                optimizer.zero_grad()
                cross_entropy(model(x[step, index]), y[step, index]).backward()
                optimizer.step()

    return train


def measure(case: Case, rounds: int) -> dict[str, float]:
    """Examples per second of each way, from the least CPU time of all rounds."""
    torch.manual_seed(0)
    drawn = [case.draw((case.replicas, case.batch)) for _ in range(case.steps)]
    x, y = (torch.stack(part) for part in zip(*drawn, strict=True))
    ways = {
        "population": ours(case, x, y, "population"),
        "plain": ours(case, x, y, "plain"),
        "by hand": by_hand(case, x, y),
    }
    least = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds + 1):
        for name, train in ways.items():
            begin = time.process_time()
            train()
            if turn:  # the first warms caches up
                least[name] = min(least[name], time.process_time() - begin)
    return {name: case.steps * case.replicas * case.batch / seconds for name, seconds in least.items()}


def main() -> None:
    torch.set_num_threads(1)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    columns = f"{'population':>12}{'plain':>9}{'loop':>9}  plain/loop  rule"
    print(f"{'examples/s per core':28}{'weights':>8}{'R x B':>9}{columns}")
    for case in CASES:
        speed = measure(case, rounds)
        chosen = faster(case.build(), case.replicas, case.draw((1, case.batch))[0][0])
        ratio = speed["plain"] / speed["by hand"]
        slower = speed[chosen] < 0.95 * max(speed["population"], speed["plain"])
        print(
            f"{case.name:28}{count_parameters(case.build()):>8,}{f'{case.replicas} x {case.batch}':>9}"
            f"{speed['population']:>12,.0f}{speed['plain']:>9,.0f}{speed['by hand']:>9,.0f}"
            f"{ratio:>12.2f}  {chosen}{', the slower' if slower else ''}{', below the loop' if ratio < WANTED else ''}",
            flush=True,
        )


if __name__ == "__main__":
    main()

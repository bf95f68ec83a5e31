"""UBALR in other people's loops: it moves as torch's cosine does there, and ends where the training ends."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from replication.uba import UBALR, uba

FLOOR = 0.01
# torchvision beside torch's CPU build, for the packages that import it
needs_torchvision = pytest.mark.usefixtures("importable_torchvision")


@pytest.fixture
def importable_torchvision() -> None:
    pytest.importorskip("replication.compat")


def rate(scheduler: LRScheduler) -> float:
    return float(scheduler.optimizer.param_groups[0]["lr"])


def expected(steps: int) -> list[float]:
    """Rates in force after each of so many steps: UBA at phi 5, with two steps of warm-up."""
    return [uba(t + 1, steps, 5, peak=0.1, floor=FLOOR, warmup=2) for t in range(steps)]


def build(name: str, optimizer: torch.optim.Optimizer, steps: int, repeated: int = 1) -> LRScheduler:
    if name == "cosine":
        return CosineAnnealingLR(optimizer, steps * repeated, FLOOR)
    shape = {"phi": 5, "warmup_iters": 2 * repeated} if name == "phi 5" else {}
    return UBALR(optimizer, total_iters=steps * repeated, eta_min=FLOOR, **shape)


# --- torch alone ------------------------------------------------------------------------------------------------------


def test_gradients_may_be_accumulated():
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scheduler = build("phi 5", optimizer, 6)
    for batch in range(24):
        (weight.sum() / 4).backward()
        if batch % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
    # the first rate of the ramp is half the peak; the last one comes into force after the training
    assert -weight.item() == pytest.approx(0.05 + sum(expected(6)[:-1]))
    assert rate(scheduler) == FLOOR


@pytest.mark.parametrize("skipped", [{0}, {1, 4}, {5}])
@pytest.mark.parametrize("name", ["cosine", "phi 2", "phi 5"])
def test_a_step_that_the_scaler_skips_is_no_step_of_the_schedule(name: str, skipped: set[int]):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scheduler = build(name, optimizer, 8 - len(skipped))
    scaler = torch.amp.GradScaler("cpu")
    found = []
    for step in range(8):
        optimizer.zero_grad()
        scaler.scale(weight.sum() * (math.inf if step in skipped else 1.0)).backward()
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() >= scale:
            scheduler.step()
            found.append(rate(scheduler))
        else:
            assert step in skipped
    steps = 8 - len(skipped)
    curve = expected(steps) if name == "phi 5" else [uba(t + 1, steps, 2, peak=0.1, floor=FLOOR) for t in range(steps)]
    assert found == pytest.approx(curve, rel=1e-12)
    assert rate(scheduler) == pytest.approx(FLOOR, abs=1e-15)


@pytest.mark.parametrize("what", ["optimizer", "both"])
def test_a_tensor_rate_moves_without_recompilation(what: str):
    import torch._dynamo as dynamo
    from torch._dynamo.utils import counters

    def train(compiled: bool) -> tuple[list[float], list[int], Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1, dtype=torch.float64))
        scheduler, x = build("phi 5", optimizer, 12), torch.randn(8, 4)

        def update() -> None:
            optimizer.step()
            if what == "both":
                scheduler.step()

        # "eager" traces and guards as the default does, without a C++ compiler
        step = torch.compile(update, backend="eager") if compiled else update
        found, graphs = [], []
        for _ in range(12):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            step()
            if what == "optimizer":
                scheduler.step()
            found.append(rate(scheduler))
            graphs.append(counters["stats"]["unique_graphs"])
        return found, graphs, model.weight.detach()

    dynamo.reset()
    counters.clear()
    found, graphs, weight = train(compiled=True)
    dynamo.reset()
    assert graphs[0] > 0
    assert graphs == [graphs[0]] * 12
    assert found == pytest.approx(expected(12), rel=1e-12)
    torch.testing.assert_close(weight, train(compiled=False)[2])


# --- transformers -----------------------------------------------------------------------------------------------------


@needs_torchvision
@pytest.mark.parametrize("tensor", [False, True])
def test_in_transformers_trainer_as_torchs_cosine(tmp_path: Path, tensor: bool):
    import transformers

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": self.layer(x).square().mean()}

    class Rates(transformers.TrainerCallback):
        def __init__(self) -> None:
            self.found: list[float] = []

        def on_step_end(self, *args: object, lr_scheduler: LRScheduler, **kwargs: object) -> None:
            self.found.append(rate(lr_scheduler))

    def train(name: str, resume: bool = False) -> list[float]:
        model, rates = Model(), Rates()
        optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.1) if tensor else 0.1)
        settings = transformers.TrainingArguments(
            str(tmp_path / name),
            max_steps=12,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            save_steps=5,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        transformers.Trainer(
            model,
            settings,
            train_dataset=[{"x": torch.ones(4)}] * 64,
            optimizers=(optimizer, build(name, optimizer, 12)),
            callbacks=[rates],
        ).train(resume_from_checkpoint=str(tmp_path / name / "checkpoint-5") if resume else None)
        return rates.found

    found = {name: train(name) for name in ("cosine", "phi 2", "phi 5")}
    tolerance = 1e-6 if tensor else 1e-12
    assert found["phi 2"] == pytest.approx(found["cosine"], rel=tolerance)
    assert found["phi 5"] == pytest.approx(expected(12), rel=tolerance)
    assert found["phi 5"][-1] == pytest.approx(FLOOR, rel=tolerance)
    assert train("phi 5", resume=True) == found["phi 5"][5:]


# --- Accelerate -------------------------------------------------------------------------------------------------------

TWO_PROCESSES = """
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.utils import DataLoaderConfiguration
from test_trainers import build, rate

def train(name, split):
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=2, dataloader_config=DataLoaderConfiguration(split_batches=split)
    )
    assert accelerator.num_processes == 2
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(torch.randn(64 if split else 128, 4), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    scheduler = accelerator.prepare(build(name, optimizer, 8, 1 if split else accelerator.num_processes))
    for x in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(x).square().mean())
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients and accelerator.is_main_process:
            print("rate", name, split, rate(scheduler.scheduler), flush=True)

def all():
    for name, split in (("cosine", False), ("phi 2", False), ("phi 5", False), ("phi 5", True)):
        train(name, split)

debug_launcher(all, num_processes=2)
"""


def test_in_accelerate_each_process_counts_as_a_step():
    start = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
    done = subprocess.run([sys.executable, "-c", start + TWO_PROCESSES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, list[float]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("rate "):
            _, *key, value = line.split()
            found.setdefault(" ".join(key), []).append(float(value))
    assert found["phi 2 False"] == pytest.approx(found["cosine False"], rel=1e-12)
    assert found["phi 5 True"] == pytest.approx(expected(8), rel=1e-12)
    # two steps of the schedule for each of the optimiser
    every = [uba(2 * t, 16, 5, peak=0.1, floor=FLOOR, warmup=4) for t in range(1, 9)]
    assert found["phi 5 False"] == pytest.approx(every, rel=1e-12)
    assert found["phi 5 False"][-1] == found["phi 5 True"][-1] == FLOOR


# --- Lightning --------------------------------------------------------------------------------------------------------


@needs_torchvision
@pytest.mark.filterwarnings("ignore")
def test_in_lightning_as_torchs_cosine():
    import lightning

    class Model(lightning.LightningModule):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.layer, self.name, self.found = torch.nn.Linear(4, 1), name, []

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return self.layer(batch[0]).square().mean()

        def on_train_batch_end(self, outputs: object, batch: object, index: int) -> None:
            if index % 2:  # of two accumulated batches the second
                self.found.append(rate(self.lr_schedulers()))

        def configure_optimizers(self) -> dict[str, object]:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = build(self.name, optimizer, self.trainer.estimated_stepping_batches)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(32, 4)), batch_size=4)

    def train(name: str) -> list[float]:
        off = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
        trainer = lightning.Trainer(
            max_epochs=3, accelerator="cpu", accumulate_grad_batches=2, **dict.fromkeys(off, False)
        )
        model = Model(name)
        trainer.fit(model, data)
        return model.found

    found = {name: train(name) for name in ("cosine", "phi 2", "phi 5")}
    assert found["phi 2"] == pytest.approx(found["cosine"], rel=1e-12)
    assert found["phi 5"] == pytest.approx(expected(12), rel=1e-12)

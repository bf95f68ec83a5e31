"""Cost: the loop over candidates against the fast selection, and selection by several workers (claims D8, D10, D13).

Times are processor time of one thread. The loop's time at a size is estimated from a sample of its evaluations, and
measured in whole once, at the paper's size.
"""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveInt, model_validator

from replication import evidence
from replication.disf import reference
from replication.disf.experiments import worker
from replication.disf.selection import Features, select, select_batch
from replication.evidence import Part
from replication.training import use_deterministic

Floats32 = npt.NDArray[np.float32]
Row = dict[str, Any]

LOOP_SIZES = 6  # set sizes at which the loop's evaluations are sampled; in between, its cost is interpolated
ALLOCATOR_BYTES = 2**24  # more than twice a d × d matrix, less than the 32 MB up to which glibc adapts
MEMORY_REPEATS = 3  # new processes are slow to start
CORPUS_FILES = 590_000_000  # files of SlimPajama, as the paper has it


class Config(evidence.Settings):
    """What the cost notebook runs; every field is a parameter of the notebook."""

    rows: PositiveInt = Field(1024, description="documents of a batch at the paper's size")
    dimension: PositiveInt = Field(768, description="features of a document at the paper's size")
    picks: PositiveInt = Field(16, description="documents selected from a batch at the paper's size")
    table_rows: list[PositiveInt] = Field(
        [1024, 4096], min_length=1, description="documents of a batch in the table of ratios"
    )
    table_dimensions: list[PositiveInt] = Field([384, 768], min_length=1, description="features in the table")
    table_picks: list[PositiveInt] = Field([16], min_length=1, description="documents selected in the table")
    sweep_rows: list[PositiveInt] = Field(
        [256, 1024, 4096], min_length=1, description="documents of a batch in the first figure"
    )
    sweep_dimensions: list[PositiveInt] = Field(
        [96, 192, 384, 768], min_length=1, description="features in the first figure"
    )
    sweep_picks: list[PositiveInt] = Field(
        [4, 8, 16, 32, 64], min_length=1, description="documents selected in the first figure"
    )
    samples: PositiveInt = Field(4, description="evaluations of the loop that are timed at each of six set sizes")
    repeats: int = Field(5, ge=3, description="repetitions of every ratio")
    corpus_rows: PositiveInt = Field(
        4096, description="rows of the small corpus on disk; the large one has ten times as many"
    )
    corpus_dimension: PositiveInt = Field(384, description="features of the corpus")
    workers: list[PositiveInt] = Field([2, 3], min_length=1, description="numbers of worker processes")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.corpus_rows < self.rows:
            raise ValueError(f"corpus_rows: must hold a batch of {self.rows} rows at least, got {self.corpus_rows}")
        for name in ("picks", "table_picks", "sweep_picks"):
            if np.min(getattr(self, name)) < 2:
                raise ValueError(f"{name}: must be at least 2, as one pick needs no loop, got {getattr(self, name)}")
        return self


def parts(config: Config) -> list[Part]:
    """The measurements, each alone, since all measure time or memory.

    Their rows: ``seconds`` per program and size; ``cost_ratio`` per size of the table, ``least_cost_ratio`` per
    repetition, ``speed_ratio`` and ``cost_pick_mismatches`` at the paper's size; ``worker_mismatches`` per number of
    workers and order, ``peak_memory`` (MB) and ``memory_growth`` (%) of a worker, ``days`` extrapolated.
    """
    use_deterministic()
    # until glibc has seen a large block freed it gives the memory of every d × d matrix back to the system and takes it
    # again, which would make the loop several times as slow for no reason of its own
    torch.empty(ALLOCATOR_BYTES, dtype=torch.uint8)
    only = config.only
    size = only("rows", "dimension", "picks", "repeats")
    ratios = only("table_rows", "table_dimensions", "table_picks", "samples", "repeats")
    sizes = only("rows", "dimension", "picks", "sweep_rows", "sweep_dimensions", "sweep_picks", "samples")
    return [
        Part("corpus", corpora, only("rows", "picks", "corpus_rows", "corpus_dimension", "workers"), alone=True),
        Part("whole loop", whole_loop, size, alone=True),
        Part("table", table, ratios, alone=True),
        Part("sweeps", sweeps, sizes, alone=True),
    ]


def _features(rows: int, dimension: int, seed: int) -> Floats32:
    return np.random.default_rng([seed, rows, dimension]).standard_normal((rows, dimension), dtype=np.float32)


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    done = work()
    return time.process_time() - begin, done


def _least(work: Callable[[], Any]) -> float:
    """Time of the quickest of three runs: what comes on top is other programs' doing."""
    return min(_seconds(work)[0] for _ in range(3))


def _authors(x: Features, k: int) -> npt.NDArray[np.int64]:
    return select_batch(x, k, first=0, second="authors", on_duplicates="keep")


def whole_loop(config: Config) -> Iterator[Row]:
    """Select one batch of the paper's size by the loop, once, and by the fast selection, several times (D10)."""
    x = _features(config.rows, config.dimension, 0)
    slow, expected = _seconds(lambda: reference.greedy(torch.from_numpy(x), config.picks, 0))
    for repeat in range(config.repeats):
        fast, picked = _seconds(partial(_authors, x, config.picks))
        yield {"quantity": "speed_ratio", "seed": repeat, "value": slow / fast}
        yield {"quantity": "cost_pick_mismatches", "seed": repeat, "value": float(np.sum(picked != expected))}


def loop_seconds(x: npt.NDArray[Any], picked: npt.NDArray[np.int64], samples: int) -> float:
    """Estimate the loop's time from a sample of its evaluations at several set sizes.

    Parameters
    ----------
    x : ndarray, shape (N, d)
        One batch.
    picked : ndarray, int64, shape (k,)
        Its selection: at set size n the first n of it are the set.
    samples : int
        Candidates evaluated at each sampled set size.
    """
    sizes = np.unique(np.geomspace(1, len(picked) - 1, LOOP_SIZES).round().astype(int))
    batch = torch.from_numpy(x)
    candidates = np.setdiff1d(np.arange(len(x)), picked)[:samples]

    def evaluate(n: int) -> None:
        for candidate in candidates:
            reference.score(torch.cat([batch[picked[:n]], batch[candidate : candidate + 1]]))

    each = [_least(partial(evaluate, n)) / len(candidates) for n in sizes.tolist()]
    n = np.arange(1, len(picked))
    return float(np.sum((len(x) - n) * np.interp(n, sizes, each)))


def table(config: Config) -> Iterator[Row]:
    """Measure the ratio of times at every size of the table (D8)."""
    sizes = list(itertools.product(config.table_rows, config.table_dimensions, config.table_picks))
    for repeat in range(config.repeats):
        ratios = []
        for rows, dimension, picks in sizes:
            x = _features(rows, dimension, repeat)
            ratios.append(loop_seconds(x, _authors(x, picks), config.samples) / _least(partial(_authors, x, picks)))
            label = {"rows": rows, "dimension": dimension, "picks": picks, "seed": repeat}
            yield {**label, "quantity": "cost_ratio", "value": ratios[-1]}
        yield {"quantity": "least_cost_ratio", "seed": repeat, "value": min(ratios)}


def sweeps(config: Config) -> Iterator[Row]:
    """Time every program over N, d and k, around the paper's size."""
    base = {"rows": config.rows, "dimension": config.dimension, "picks": config.picks}
    points = [("rows", n) for n in config.sweep_rows]
    points += [("dimension", d) for d in config.sweep_dimensions]
    points += [("picks", k) for k in config.sweep_picks]
    for sweep, value in points:
        size = {**base, sweep: value}
        x, k = _features(size["rows"], size["dimension"], 0), size["picks"]
        picked = _authors(x, k)
        wide = x.astype(np.float64)
        programs: dict[str, Callable[[], Any]] = {
            "fast float32": partial(_authors, x, k),
            "fast float64": partial(_authors, wide, k),
            "participation": partial(select_batch, x, k, first=0, criterion="participation"),
        }
        seconds = {name: _seconds(program)[0] for name, program in programs.items()}
        seconds["loop"] = loop_seconds(x, picked, config.samples)
        if torch.cuda.is_available():
            seconds["GPU"] = _gpu_seconds(x, k)
        for program, spent in seconds.items():
            yield {**size, "quantity": "seconds", "sweep": sweep, "program": program, "value": spent}


def _gpu_seconds(x: Floats32, k: int) -> float:
    features = torch.from_numpy(x).cuda()
    _authors(features, k)  # the first call loads the kernels
    torch.cuda.synchronize()
    begin = time.perf_counter()
    _authors(features, k)
    torch.cuda.synchronize()
    return time.perf_counter() - begin


# --- D13: a corpus on disk, one batch a task --------------------------------------------------------------------------


def corpora(config: Config) -> Iterator[Row]:
    """Select from a corpus on disk with several workers, and from one of ten times the rows (D13)."""
    small = config.corpus_rows // config.rows
    shape = (10 * small * config.rows, config.corpus_dimension)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "features.npy")
        corpus = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for batch_id in range(10 * small):
            begin = batch_id * config.rows
            corpus[begin : begin + config.rows] = _features(config.rows, config.corpus_dimension, batch_id)
        corpus.flush()
        started = time.perf_counter()
        alone = select(corpus[: small * config.rows], k_per_batch=config.picks, batch_size=config.rows)
        seconds = (time.perf_counter() - started) / small
        yield {"quantity": "days", "value": seconds * CORPUS_FILES / config.rows / 86_400}
        del corpus
        yield from _workers(config, path, small, alone)
        yield from _memory(config, path, [small, 10 * small])


def _processes() -> Any:
    """Where new processes come from: a server that has imported what they need, or else from scratch."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker.__name__])
    return context


def _workers(config: Config, path: str, batches: int, alone: npt.NDArray[np.int64]) -> Iterator[Row]:
    """Compare the picks of several worker processes with those of one process."""
    orders = {"file": list(range(batches)), "shuffled": np.random.default_rng(0).permutation(batches).tolist()}
    for workers in config.workers:
        with ProcessPoolExecutor(workers, mp_context=_processes()) as pool:
            for order, ids in orders.items():
                tasks = {pool.submit(worker.batch, path, i, config.rows, config.picks): i for i in ids}
                found = {tasks[task]: task.result() for task in as_completed(tasks)}
                different = np.sum(np.concatenate([found[i] for i in range(batches)]) != alone)
                label = {"workers": workers, "order": order}
                yield {**label, "quantity": "worker_mismatches", "value": float(different)}


def _memory(config: Config, path: str, counts: list[int]) -> Iterator[Row]:
    """Peak memory of new processes after the first of so many batches, and its growth."""
    # a pool of multiprocessing's, because ProcessPoolExecutor can hang where a process is replaced (cpython 115634)
    with _processes().Pool(2, maxtasksperchild=1) as pool:
        tasks = [(path, counts, config.rows, config.picks)] * MEMORY_REPEATS
        for repeat, peaks in enumerate(pool.starmap(worker.peaks, tasks, chunksize=1)):
            for count, peak in zip(counts, peaks, strict=True):
                yield {"quantity": "peak_memory", "seed": repeat, "rows": count * config.rows, "value": peak}
            yield {"quantity": "memory_growth", "seed": repeat, "value": 100 * (peaks[1] / peaks[0] - 1)}

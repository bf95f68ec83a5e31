"""`select_corpus` on a million rows: peak memory, rows per second, and a kill half-way, from which it goes on.

Writes ROWS x DIMENSIONS float32 features (synthetic, clustered, in files of 100,000 rows) to a temporary folder and
selects 1.5 % of them, in a process of its own whose memory is watched. Printed: the peak of its resident memory, rows
per second, and the ratio of the whole command's CPU time (imports, checksums, selection, output) to that of two named
peers in the same run: the paper's loop (`replication.disf.reference.greedy`, a correlation matrix per candidate), one
batch of it times the number of batches, and a random choice of as many rows, which only has to read them. Then the
same again, killed by SIGKILL half-way and called again, with the same output byte for byte. Fails if the memory
exceeds 1.5 GB or the outputs differ.

    python benchmarks/bench_disf_corpus.py [--rows 1000000] [--dimensions 384] [--workers 1]
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import psutil
import torch

from replication.disf import reference, select_batch
from replication.disf.corpus import rows

RATIO, BATCH, FILE_ROWS, CLUSTERS = 0.015, 1024, 100_000, 200
LIMIT = 1.5e9  # bytes


def write_features(folder: Path, count: int, width: int) -> None:
    """Clusters of unequal size in a space with a decaying spectrum, as embeddings of text have."""
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(1 + np.arange(width))).astype(np.float32)
    centres = rng.standard_normal((CLUSTERS, width), dtype=np.float32) * scale
    weights = rng.dirichlet(np.full(CLUSTERS, 0.5))
    for start in range(0, count, FILE_ROWS):
        size = min(FILE_ROWS, count - start)
        block = rng.standard_normal((size, width), dtype=np.float32) * scale
        block += centres[rng.choice(CLUSTERS, size=size, p=weights)]
        np.save(folder / f"{start:09d}.npy", block)


def command(features: Path, out: Path, workers: int) -> list[str]:
    arguments = ["--features", features, "--ratio", RATIO, "--batch-size", BATCH, "--out", out, "--workers", workers]
    return [sys.executable, "-m", "replication", "select", *map(str, arguments)]


def watched(arguments: list[str], stop: Callable[[], bool] = lambda: False) -> int:
    """Run a command, killing it when `stop` says so; return the peak of its and its children's resident memory."""
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            try:
                whole = psutil.Process(process.pid)
                peak = max(peak, sum(p.memory_info().rss for p in [whole, *whole.children(recursive=True)]))
            except psutil.Error:
                continue
            if stop():
                process.kill()
            time.sleep(0.02)
    if process.returncode not in (0, -9):
        raise SystemExit(f"{' '.join(arguments)} ended with status {process.returncode}")
    return peak


def lines_in(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("picks-*"))


def peers(features: Path) -> tuple[float, float, float]:
    """CPU seconds, one thread: the paper's loop and ours on one batch, and a random choice from all rows."""
    first = next(iter(sorted(features.glob("*.npy"))))
    batch = np.load(first, mmap_mode="r")[:BATCH].copy()
    k = round(RATIO * BATCH)
    torch.set_num_threads(1)
    begin = time.process_time()
    ours = select_batch(batch, k, second="authors", on_duplicates="keep")
    middle = time.process_time()
    theirs = reference.greedy(torch.from_numpy(batch), k, int(ours[0]))
    end = time.process_time()
    if theirs != ours.tolist():
        raise SystemExit("the paper's loop picks other rows")
    files = [(str(path), len(np.load(path, mmap_mode="r"))) for path in sorted(features.glob("*.npy"))]
    rng = np.random.default_rng(0)
    start = time.process_time()
    for pieces in rows.batches(files, rows.groups(sum(count for _, count in files), BATCH)):
        rng.choice(len(rows.read(pieces)), size=k, replace=False)
    random = time.process_time() - start
    return end - middle, middle - begin, random


@click.command()
@click.option("--rows", "count", default=1_000_000)
@click.option("--dimensions", default=384)
@click.option("--workers", default=1)
def main(count: int, dimensions: int, workers: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-disf-"))
    try:
        features = folder / "features"
        features.mkdir()
        write_features(features, count, dimensions)
        out = folder / "whole.jsonl"
        begin = time.perf_counter()
        peak = watched(command(features, out, workers))
        elapsed = time.perf_counter() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        manifest = json.loads((folder / "whole.jsonl.manifest.json").read_text())
        seconds, selected = manifest["seconds"], manifest["counts"]["selected"]
        cpu = used.ru_utime + used.ru_stime
        print(
            f"{count:,} x {dimensions} float32, {selected:,} selected, {workers} worker(s): {elapsed:.0f} s in all "
            f"(index {seconds['index']:.0f} s, selection {seconds['selection']:.0f} s), {cpu:.0f} s of CPU = "
            f"{count / cpu:,.0f} rows per CPU second; peak memory {peak / 1e9:.2f} GB (limit {LIMIT / 1e9} GB)"
        )
        theirs, ours, random = peers(features)
        print(
            f"CPU: {theirs * count / BATCH / cpu:,.0f} x as fast as the paper's loop (one batch of {BATCH}: "
            f"{theirs:.1f} s against {ours * 1000:.0f} ms, same picks); {cpu / random:.0f} x the time of a random "
            f"choice ({random:.1f} s)"
        )
        again = folder / "killed.jsonl"
        work = folder / "killed.jsonl.work"
        watched(command(features, again, workers), lambda: lines_in(work) > count / BATCH / 2)
        kept = lines_in(work)
        if again.exists():
            raise SystemExit("it ended before it could be killed; take more rows")
        begin = time.perf_counter()
        watched(command(features, again, workers))
        same = again.read_bytes() == out.read_bytes()
        result = "the same byte for byte" if same else "DIFFERENT"
        print(
            f"killed after {kept} of {-(-count // BATCH)} batches, then called again: "
            f"{time.perf_counter() - begin:.0f} s, output {result}"
        )
        if not same or peak > LIMIT:
            raise SystemExit(1)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

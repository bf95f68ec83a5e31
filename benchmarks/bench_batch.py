"""A batch of 24 equal CPU-bound runs: two workers against one after another; the overhead of a run; 200 finished runs.

Peer: the same batch by one worker. Each run computes for the same CPU time, in a process of its own as every run
does; what a run takes beyond that is overhead, shown by its parts.

    python benchmarks/bench_batch.py [CPU seconds of a run, 8]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from replication.runs.batch import Batch, Grid
from replication.runs.store import RunStore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from toys import Toy, build, cluster, toy_cells  # a project with the real runner and a toy paper

BUSY = """\
import json, os, pathlib, time
folder = pathlib.Path(os.environ["REPLICATION_RUN_DIR"])
run_id = os.environ["REPLICATION_RUN_ID"]
end = time.process_time() + peak
while time.process_time() < end:
    sum(range(1000))
value = seeds * 0.5\
"""


def seconds(toy: Toy, store: str, *arguments: str) -> float:
    begin = time.perf_counter()
    done = toy.replicate("batch", *arguments, REPLICATION_RUNS=str(toy.root / store), timeout=3600)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - begin


def python(code: str, toy: Toy) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=toy.environment(), check=True)
    return time.perf_counter() - begin


def finish(toy: Toy, store: str) -> None:
    """Make every run of the grid a finished one, from one that was executed."""
    seconds(toy, store, "--profile", "smoke")
    project = replace(toy.project, store=toy.root / store)
    stored = RunStore(project)
    (source,) = project.store.glob("toy/*/results.json")
    results = json.loads(source.read_text())
    for run in Batch(stored, Grid.load(toy.root / "grid.yaml").specs(project)).runs:
        folder = stored.folder(run)
        shutil.copytree(source.parent, folder)
        (folder / "results.json").write_text(json.dumps(results | {"run_id": run.run_id, "parameters": run.parameters}))


def main() -> None:
    work = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
    with tempfile.TemporaryDirectory() as folder:
        toy = build(Path(folder))
        toy.add("toy", toy_cells(run=BUSY), paper="toy")
        grid = toy.root / "grid.yaml"
        grid.write_text(f"runs: [{{notebook: toy, parameters: {{peak: {work}}}, grid: {{seeds: 1..24}}}}]")
        serial = seconds(toy, "one", str(grid))
        print(f"24 runs of {work:g} CPU seconds, one after another: {serial:.1f} s")
        with cluster(toy, workers=2) as address:
            for name, where in (("processes", ("--workers", "2")), ("dask", ("--scheduler", address))):
                both = seconds(toy, name, str(grid), *where)
                print(f"  2 workers, {name}: {both:.1f} s, {both / serial:.2f} of the serial time")
        print(f"overhead of a run: {serial / 24 - work:.2f} s, of which alone on this machine")
        bare = python("", toy)
        for what, code in (
            ("the run's process: papermill", "import replication.runs.notebook, papermill"),
            ("the kernel's process: ipykernel", "import ipykernel.kernelapp, IPython"),
            ("and in a real notebook: evidence", "import replication.evidence, scipy.stats"),
            ("torch", "import torch"),
        ):
            print(f"  {what}: {python(code, toy) - bare:.2f} s beyond Python's own {bare:.2f} s")
        grid.write_text("runs: [{notebook: toy, parameters: {peak: 0.0}, grid: {seeds: 1..200}}]")
        finish(toy, "many")
        again = seconds(toy, "many", str(grid), "--workers", "2")
        share = again / (200 * (serial / 24 - work))
        print(f"a batch of 200 runs that are all finished: {again:.1f} s, {share:.4f} of 200 overheads")


if __name__ == "__main__":
    main()

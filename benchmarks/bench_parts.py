"""Parts on two processes against one, and against the experiment as one function.

The notebook is the ladder of language models at its standard profile, shortened; 17 parts of unequal size. Each way has
a store of its own and computes everything. Two processes on two hardware threads of one core cannot be twice as fast:
CPU use, in cores, says whether both were busy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NOTEBOOK, SHORT = "42_meek_ladder", {"budgets": "5", "resamples": "200", "tests": "200", "seeds": "5"}
ALONE = """
import sys, time
from replication import evidence
evidence.pin_numerics()
from replication.meek.experiments import ladder
from replication.runs.profiles import Project, resolve
values = resolve(Project.find(), sys.argv[1], "standard", {k: int(v) for k, v in (p.split("=") for p in sys.argv[2:])})
values.pop("profile")
begin = time.perf_counter()
evidence.gather(ladder, ladder.Config(**values))
print(time.perf_counter() - begin)
"""


def run(workers: int, store: str) -> tuple[float, float, float]:
    """Wall seconds of a run with so many workers, those of its parts together, and their CPU seconds."""
    pairs = [text for name, value in SHORT.items() for text in ("-p", name, value)]
    command = [sys.executable, "-m", "replication", "run", NOTEBOOK, "--profile", "standard", *pairs]
    begin = time.perf_counter()
    subprocess.run(
        [*command, "--workers", str(workers)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "REPLICATION_RUNS": store},
    )
    wall = time.perf_counter() - begin
    (path,) = Path(store).glob(f"{NOTEBOOK}/*/provenance.json")
    told = json.loads(path.read_text())["machine"]["parts"].values()
    return wall, sum(seconds for seconds, _, _ in told), sum(cpu for _, cpu, _ in told)


def main() -> None:
    arguments = [f"{name}={value}" for name, value in SHORT.items()]
    command = [sys.executable, "-c", ALONE, NOTEBOOK, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    alone = float(done.stdout)
    found = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as store:
            found[workers] = run(workers, store)
    print(f"one function: {alone:.1f} s")
    for workers, (wall, seconds, cpu) in found.items():
        print(f"{workers} workers: {wall:.1f} s in all, parts {seconds:.1f} s, CPU use {cpu / wall:.2f} cores")
    print(f"overhead of parts over one function: {100 * (found[1][1] / alone - 1):.1f} % (one run each)")
    print(f"two workers against one: {found[1][0] / found[2][0]:.2f} times as fast")


if __name__ == "__main__":
    main()

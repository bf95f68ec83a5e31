"""Commands that run notebooks: one, many, and the rest of many."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from replication.cli import CLOSED, INTERRUPTED, close_output, common
from replication.runs import batch as batches
from replication.runs import profiles, publish
from replication.runs.agreement import Agreement, agreement
from replication.runs.display import Display, JsonLines, write_line
from replication.runs.engines import Engine, ProcessEngine
from replication.runs.errors import RefusedError
from replication.runs.files import yaml_value
from replication.runs.notebook import Options, Outcome, missing
from replication.runs.profiles import Project
from replication.runs.store import RunStore, Spec

#: Starts an engine, given what to call with what a person should know.
Start = Callable[[Callable[[str], None]], Engine]

_WITHOUT_DATA = 3

_publish = click.option(
    "--publish",
    "publishing",
    is_flag=True,
    help="Then replace results/, the notebooks' pages and the README's findings.",
)


def _executing(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of how and where runs execute, as `options` and `start`; and `as_json`."""

    @click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Processes that compute, each on one core: runs, and parts of a run.",
    )
    @common.scheduler
    @click.option("--resources", metavar="NAME=AMOUNT,…", help="What a cluster's worker must offer, e.g. GPU=1.")
    @click.option("--force", is_flag=True, help="Compute again, even if results are there.")
    @click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Stop a run after this many seconds.")
    @click.option(
        "--start-timeout",
        type=click.IntRange(min=1),
        default=Options.start_timeout,
        show_default=True,
        help="Seconds that a kernel has to start.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for machines.")
    @functools.wraps(command)
    def told(
        *arguments: Any,
        workers: int,
        scheduler: str | None,
        resources: str | None,
        force: bool,
        timeout: float | None,
        start_timeout: int,
        **more: Any,
    ) -> None:
        wanted = _resources(resources) if resources else {}
        if wanted and scheduler is None:
            raise RefusedError("--resources is for the workers of a cluster; give its --scheduler too.")
        if wanted.get("GPU"):
            # such a worker computes on it, whatever the machine has on which the run is planned
            os.environ["REPLICATION_DEVICE"] = "cuda"

        def start(say: Callable[[str], None]) -> Engine:
            if scheduler is None:
                return ProcessEngine(workers)
            from replication.runs.cluster import DaskEngine

            return DaskEngine(scheduler, wanted, say=say)

        options = Options(force, timeout, start_timeout, elsewhere=scheduler is not None)
        command(*arguments, options=options, start=start, **more)

    return told


@click.command("run")
@click.argument("notebook")
@common.profile
@click.option("-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Set one parameter; repeat for more.")
@click.option("-y", "mapping", metavar="YAML", help="Set parameters by a YAML mapping, e.g. '{seeds: 50, model: mlp}'.")
@_publish
@_executing
def run_command(
    notebook: str,
    profile: str,
    pairs: tuple[tuple[str, str], ...],
    mapping: str | None,
    publishing: bool,
    options: Options,
    start: Start,
    as_json: bool,
) -> None:
    """Run one NOTEBOOK of the project: a name, the start of one, or its file.

    \b
    replicate run 10_uba_theory
    replicate run 11 --profile standard --workers 2
    replicate run 11_uba_vision -p seeds 50 -p label_noise 0.1
    replicate run notebooks/11_uba_vision.ipynb -y '{seeds: 50, model: mlp}'

    `replicate show NOTEBOOK` lists the parameters. A wrong name, type or value is refused before anything starts.

    An experiment consists of parts, and each is kept when it ends: several workers share them, and a run that was
    stopped goes on with those that are left.

    The exit status is 0 if the run is finished, 1 if it failed, 2 if it was refused, and 3 if it is finished but did
    not find some of its data: its last line says what brings them, and it is neither compared nor published.
    """
    store = RunStore(Project.find())
    name = store.project.notebook(notebook)
    declared = profiles.parameters(store.project, name)
    overrides = _mapping(mapping)
    for key, text in pairs:
        if key in overrides:
            raise RefusedError(f"parameter {key!r} is set twice; give it once, by -p or by -y.")
        overrides[key] = profiles.from_text(declared.get(key), text)
    if publishing and overrides:
        raise RefusedError("--publish is for a profile as it stands; leave out -p and -y.")
    boards = publish.scoreboards(store.project) if publishing else []
    made = batches.Batch(store, [Spec(name, profile, overrides), *boards])
    _run_all(made, start, options, publishing, resumable=False, as_json=as_json)


def _mapping(text: str | None) -> dict[str, Any]:
    found = yaml_value(text or "{}", "-y")
    if not isinstance(found, dict):
        raise RefusedError(f"-y must be a mapping such as '{{seeds: [0, 1]}}', got {text!r}.")
    return found


@click.command("batch")
@click.argument("grid", required=False, type=click.Path(path_type=Path))
@click.option("--profile", help="Parameter set: smoke or standard  [default: the grid's, else smoke]")
@_publish
@_executing
def batch_command(
    grid: Path | None,
    profile: str | None,
    publishing: bool,
    options: Options,
    start: Start,
    as_json: bool,
) -> None:
    """Run many: those of a GRID file, or every notebook that has the profile.

    \b
    replicate batch --profile smoke --workers 2
    replicate batch grid.yaml --workers 8 --timeout 3600
    replicate batch grid.yaml --scheduler tcp://10.0.0.1:8786 --resources GPU=1

    \b
    A grid file:
      profile: smoke
      runs:
        - notebook: 11_uba_vision
          parameters: {model: mlp}      # the same in each
          grid: {label_noise: [0.0, 0.2]}  # every combination
          groups: {short: {budgets: [1.0]}, long: {budgets: [8.0]}}

    Everything is checked before anything starts. A notebook that fails never stops the rest; it is kept as
    notebook.failed.ipynb, listed at the end, and the exit status is 1. If all are finished but some did not find their
    data, what brings them is listed, and the exit status is 3.

    At the end the runs are compared with the published results, where there are some of the same notebook, profile and
    parameters. That they disagree is told and changes no exit status.

    With --scheduler the workers are those of a dask cluster that sees this project's folder (see REPRODUCING.md). The
    results are the same to the byte.
    """
    store = RunStore(Project.find())
    asked = batches.Grid.load(grid, profile) if grid else batches.Grid(profile=profile or "smoke")
    specs = asked.specs(store.project)
    made = batches.Batch(store, [*specs, *publish.scoreboards(store.project)] if publishing else specs)
    if publishing and any(spec.overrides for spec in made.specs):
        raise RefusedError("--publish is for profiles as they stand; this grid sets parameters.")
    _run_all(made, start, options, publishing, as_json=as_json)


def _resources(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        name, sign, amount = part.partition("=")
        with contextlib.suppress(ValueError):
            found[name.strip()] = float(amount) if sign else 1.0
        if not name.strip() or not 0 < found.get(name.strip(), 0) < math.inf:
            raise RefusedError(f"--resources must be positive amounts, as GPU=1 or GPU=1,MEMORY=8, got {text!r}.")
    return found


@click.command("resume")
@click.argument("name", metavar="[BATCH]", required=False)
@_executing
def resume_command(name: str | None, options: Options, start: Start, as_json: bool) -> None:
    """Finish the newest batch, or the one named BATCH: what is finished is kept, the rest is run.

    \b
    replicate resume --workers 2
    replicate resume 3f2a9c1e
    """
    made = batches.Batch.remembered(RunStore(Project.find()), name)
    _run_all(made, start, options, publishing=False, as_json=as_json)


def _run_all(
    made: batches.Batch,
    start: Start,
    options: Options,
    publishing: bool,
    *,
    resumable: bool = True,
    as_json: bool = False,
) -> None:
    store = made.store
    store.prepare()
    outcomes: list[Outcome] = []
    published: list[Path] = []
    without: dict[str, str] = {}
    lines = JsonLines(click.echo) if as_json else None
    watcher: Display | JsonLines = lines or Display(made.runs, Console())
    engine = start(watcher.note)
    try:
        with watcher, closing(made.execute(engine, options, watcher.event, remember=resumable)) as stream:
            for outcome in stream:
                outcomes.append(outcome)
                watcher.outcome(outcome)
                lacking = missing(store.results(outcome.run) or {}) if outcome.ok else ""
                if lacking:
                    without[outcome.run.name] = lacking
                elif publishing and outcome.ok:
                    # at once: a notebook that shows the published results is executed after the others
                    published += publish.publish(store, outcome.run)
    except (KeyboardInterrupt, BrokenPipeError, SystemExit) as stopped:
        # a reader that goes away (`| head`) ends the batch as Ctrl-C does; rich makes a SystemExit of it
        done = sum(outcome.ok for outcome in outcomes)
        again = f"`replicate resume {made.name}` does the rest" if resumable else "the same command starts it again"
        closed = not isinstance(stopped, KeyboardInterrupt)
        if closed:
            close_output()
        why = " Nobody reads what it prints any more." if closed else ""
        click.echo(f"Stopped.{why} {done} of {len(made.runs)} runs are finished and kept; {again}.", err=True)
        sys.exit(CLOSED if closed else INTERRUPTED)
    good = [outcome.run for outcome in outcomes if outcome.ok]
    bad = [outcome for outcome in outcomes if not outcome.ok]
    terminal = not as_json and Console().is_terminal
    said = functools.partial(write_line, Console()) if terminal else functools.partial(click.echo, err=as_json)
    if publishing:
        for path in [*published, *(publish.refresh_readme(store.project) if published else [])]:
            said(f"published {common.shown(path)}")
    elif len(made.runs) == 1 and good:
        said(f"Results are in {common.shown(store.folder(good[0]))}")
    if len(outcomes) > 1:
        some = f", {len(without)} of them without some of their data" if without else ""
        said(f"{len(good)} of {len(outcomes)} runs are finished{some} (batch {made.name}).")
    for outcome in bad:
        log = store.folder(outcome.run) / "log.txt"
        more = f" (see {common.shown(log)})" if log.is_file() else ""
        click.echo(f"{outcome.status}: {outcome.run.name}: {outcome.message}{more}", err=True)
    for name, lacking in without.items():
        click.echo(f"data missing: {name}: {lacking}", err=True)
    if resumable and not publishing:
        _tell(agreement(store, made.runs), said)
    if lines is not None:
        lines.finished(made.name, str(store.root), outcomes)
    if bad or without:
        sys.exit(1 if bad else _WITHOUT_DATA)


def _tell(agreed: Agreement, said: Callable[[str], None]) -> None:
    """Say how runs agree with what is published: what is listed first, the one sentence last."""
    for line in agreed.lines():
        said(line)
    if agreed.asked:
        said(f"Agreement: {agreed}")

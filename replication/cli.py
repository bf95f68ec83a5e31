"""The command line: `replicate …`, or `python -m replication …`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import math
import os
import re
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from replication import __version__, places
from replication.runs import batch as batches
from replication.runs import collect, diff, parts, profiles, publish, report, verify
from replication.runs.agreement import Agreement, agreement
from replication.runs.display import Display, JsonLines, Watcher
from replication.runs.engines import Engine, ProcessEngine, SerialEngine
from replication.runs.errors import RefusedError, ReplicationError
from replication.runs.files import yaml_value
from replication.runs.notebook import Options, Outcome, missing, sentence
from replication.runs.profiles import Project
from replication.runs.store import Run, RunStore, Spec
from replication.sources import canonical

# as shells tell of SIGINT and SIGPIPE
_INTERRUPTED, _CLOSED, _WITHOUT_DATA = 130, 141, 3


class _Refused(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Turns errors for people into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ReplicationError as error:
            shown = _Refused if isinstance(error, RefusedError) else click.ClickException
            raise shown(str(error)) from error
        except BrokenPipeError:
            raise  # of `replicate list | head`; click ends in silence
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'the system'}: {error.strerror or error}") from error
        except ValueError as error:
            # the package's own (a malformed claim, say) are written for people; others are defects and keep their trace
            if not type(error).__module__.startswith("replication."):
                raise
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("Stopped. Nothing finished is lost.", err=True)
            ctx.exit(_INTERRUPTED)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        # in the order in which one needs them
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Re-run the replications: one notebook, or hundreds, with your own parameters.

    \b
    Look around:        replicate list
                        replicate show 11_uba_vision
    Run a notebook:     replicate run 11_uba_vision
    With your values:   replicate run 11_uba_vision -p seeds 50 -y '{model: mlp}'
    Run them all:       replicate batch --workers 2
    A grid of runs:     replicate batch grid.yaml --workers 2
    After a Ctrl-C:     replicate resume
    What came out:      replicate report
    What changed:       replicate diff HEAD~1 HEAD
    What a rule sees:   replicate power uba
    Use a method:       replicate select corpus/ --ratio 0.015 --out selected.jsonl

    A run that is already there is not computed again: its folder under runs/ is named by a hash of the notebook,
    its parameters, the code, the versions and the data. Commands do the same in whatever folder you give them.
    """
    if other := places.elsewhere():
        click.echo(
            f"replicate works on {places.home() or 'no project'}, but the current folder is in another clone, {other}: "
            f"use its own .venv/bin/replicate, or set REPLICATION_HOME={other}",
            err=True,
        )


_profile = click.option(
    "--profile", default="smoke", show_default=True, help="Parameter set: smoke, standard or paper."
)
_force = click.option("--force", is_flag=True, help="Compute again, even if results are there.")
_timeout = click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Stop a run after this many seconds."
)
_start_timeout = click.option(
    "--start-timeout",
    type=click.IntRange(min=1),
    default=Options.start_timeout,
    show_default=True,
    help="Seconds that a kernel has to start.",
)
_workers = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that compute, each on one core: runs, and parts of a run.",
)
_engine = click.option(
    "--engine",
    type=click.Choice(["serial", "processes", "dask"]),
    help="Where runs execute  [default: serial; dask on this machine with several workers]",
)
_scheduler = click.option(
    "--scheduler", metavar="ADDRESS", help="Take the workers of this dask cluster, e.g. tcp://10.0.0.1:8786."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, for machines.")
_publish = click.option(
    "--publish", "publishing", is_flag=True, help="Then replace results/, the notebooks' pages and the README's table."
)


@cli.command()
@click.argument("notebook")
@_profile
@click.option("-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Set one parameter; repeat for more.")
@click.option("-y", "mapping", metavar="YAML", help="Set parameters by a YAML mapping, e.g. '{seeds: 50, model: mlp}'.")
@_workers
@_engine
@_scheduler
@_force
@_timeout
@_start_timeout
@_publish
def run(
    notebook: str,
    profile: str,
    pairs: tuple[tuple[str, str], ...],
    mapping: str | None,
    workers: int,
    engine: str | None,
    scheduler: str | None,
    force: bool,
    timeout: float | None,
    start_timeout: int,
    publishing: bool,
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
    where = _where(workers, engine or ("processes" if workers > 1 and not scheduler else None), scheduler)
    _run_all(made, where, Options(force, timeout, start_timeout), publishing, resumable=False)


def _mapping(text: str | None) -> dict[str, Any]:
    found = yaml_value(text or "{}", "-y")
    if not isinstance(found, dict):
        raise RefusedError(f"-y must be a mapping such as '{{seeds: [0, 1]}}', got {text!r}.")
    return found


@cli.command()
@click.argument("grid", required=False, type=click.Path(path_type=Path))
@click.option("--profile", help="Parameter set: smoke, standard or paper  [default: the grid's, else smoke]")
@_workers
@_engine
@_scheduler
@click.option("--resources", metavar="NAME=AMOUNT,…", help="What a worker must offer for each run, e.g. GPU=1.")
@_force
@_timeout
@_start_timeout
@_publish
@_json
def batch(
    grid: Path | None,
    profile: str | None,
    workers: int,
    engine: str | None,
    scheduler: str | None,
    resources: str | None,
    force: bool,
    timeout: float | None,
    start_timeout: int,
    publishing: bool,
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
          zip: {flip: [false, true], shift: [0, 1]} # side by side
          groups: {short: {budgets: [1.0]}, long: {budgets: [8.0]}}
          resources: {GPU: 1}              # of a worker

    Everything is checked before anything starts. A notebook that fails never stops the rest; it is kept as
    notebook.failed.ipynb, listed at the end, and the exit status is 1. If all are finished but some did not find their
    data, what brings them is listed, and the exit status is 3.

    At the end the runs are compared with the published results, where there are some of the same notebook, profile and
    parameters. That they disagree is told and changes no exit status.

    Several workers are a dask cluster on this machine, with a dashboard; with --scheduler they are those of a cluster
    that is there already and sees this project's folder (see REPRODUCING.md). The results are the same to the byte.
    """
    store = RunStore(Project.find())
    asked = batches.Grid.load(grid, profile) if grid else batches.Grid(profile=profile or "smoke")
    specs = asked.specs(store.project)
    if resources:
        wanted = _resources(resources)
        specs = [replace(spec, resources={**wanted, **spec.resources}) for spec in specs]
    made = batches.Batch(store, [*specs, *publish.scoreboards(store.project)] if publishing else specs)
    if publishing and any(spec.overrides for spec in made.specs):
        raise RefusedError("--publish is for profiles as they stand; this grid sets parameters.")
    options = Options(force, timeout, start_timeout)
    _run_all(made, _where(workers, engine, scheduler), options, publishing, as_json=as_json)


def _resources(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(","):
        name, sign, amount = part.partition("=")
        with contextlib.suppress(ValueError):
            found[name.strip()] = float(amount) if sign else 1.0
        if not name.strip() or not 0 < found.get(name.strip(), 0) < math.inf:
            raise RefusedError(f"--resources must be positive amounts, as GPU=1 or GPU=1,MEMORY=8, got {text!r}.")
    return found


def _where(workers: int, engine: str | None, scheduler: str | None) -> _Where:
    if scheduler is not None and engine not in {None, "dask"}:
        raise RefusedError(f"--scheduler is for the dask engine, not for {engine!r}; leave out --engine.")
    if engine == "serial" and workers > 1:
        raise RefusedError(f"the serial engine has one worker, got --workers {workers}; take processes or dask.")
    if scheduler is not None:
        engine = "dask"
    return _Where(engine or ("serial" if workers == 1 else "dask"), workers, scheduler)


class _Where(NamedTuple):
    """Where runs execute."""

    engine: str
    workers: int
    scheduler: str | None

    def start(self, say: Callable[[str], None]) -> Engine:
        if self.engine == "serial":
            return SerialEngine()
        if self.engine == "processes":
            return ProcessEngine(self.workers)
        from replication.runs.cluster import DaskEngine

        return DaskEngine(self.workers, self.scheduler, say=say)


@cli.command()
@click.argument("name", metavar="[BATCH]", required=False)
@_workers
@_engine
@_scheduler
@_timeout
@_start_timeout
@_json
def resume(
    name: str | None,
    workers: int,
    engine: str | None,
    scheduler: str | None,
    timeout: float | None,
    start_timeout: int,
    as_json: bool,
) -> None:
    """Finish the newest batch, or the one named BATCH: what is finished is kept, the rest is run.

    \b
    replicate resume --workers 2
    replicate resume 3f2a9c1e
    """
    made = batches.Batch.remembered(RunStore(Project.find()), name)
    options = Options(timeout=timeout, start_timeout=start_timeout)
    _run_all(made, _where(workers, engine, scheduler), options, publishing=False, as_json=as_json)


def _run_all(
    made: batches.Batch,
    where: _Where,
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
    watcher: Watcher = lines or Display(made.runs, Console())
    engine = where.start(watcher.note)
    if where.scheduler is not None:
        options = replace(options, elsewhere=True)
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
            with contextlib.suppress(OSError):  # else what is left in the buffer is an error at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        why = " Nobody reads what it prints any more." if closed else ""
        click.echo(f"Stopped.{why} {done} of {len(made.runs)} runs are finished and kept; {again}.", err=True)
        sys.exit(_CLOSED if closed else _INTERRUPTED)
    good = [outcome.run for outcome in outcomes if outcome.ok]
    bad = [outcome for outcome in outcomes if not outcome.ok]
    said = functools.partial(click.echo, err=as_json)
    if publishing:
        for path in [*published, *(publish.refresh_readme(store.project) if published else [])]:
            said(f"published {_shown(path)}")
    elif len(made.runs) == 1 and good:
        said(f"Results are in {_shown(store.folder(good[0]))}")
    if len(outcomes) > 1:
        some = f", {len(without)} of them without some of their data" if without else ""
        said(f"{len(good)} of {len(outcomes)} runs are finished{some} (batch {made.name}).")
    for outcome in bad:
        log = store.folder(outcome.run) / "log.txt"
        more = f" (see {_shown(log)})" if log.is_file() else ""
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


def _shown(path: Path) -> str:
    """A path as short as it can be and still be opened from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


@cli.command("report")
@click.argument("name", metavar="[BATCH]", required=False)
@click.option(
    "--profile",
    "wanted",
    multiple=True,
    help="Of the finished runs of this profile, instead of a batch; repeat to compare profiles.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where to write, without suffix  [default: runs/reports/…]"
)
@click.option("--readme", is_flag=True, help="Only write the README's findings and their picture, from results/.")
def report_(name: str | None, wanted: tuple[str, ...], out: Path | None, readme: bool) -> None:
    """Write one page about the newest batch, a named BATCH, or profiles: as HTML and as Markdown.

    \b
    replicate report
    replicate report --profile smoke --profile standard --out ~/both
    replicate report --readme

    The page shows first whether the runs agree with the published results, claim by claim; then each verdict and each
    answer at each setting, estimates against the numeric parameters that vary, failures with their tracebacks, and what
    the runs depend on. The HTML file needs no other and no network. That runs disagree changes no exit status.
    """
    from replication.runs import page

    store = RunStore(Project.find())
    if readme:
        for path in publish.refresh_readme(store.project):
            click.echo(f"wrote {_shown(path)}")
        return
    if name and wanted:
        raise RefusedError("give a batch or --profile, not both.")
    if wanted:
        runs = report.newest(store, wanted)
        title = f"Finished runs at {' and '.join(wanted)}"
    else:
        name, runs = batches.Batch.executed(store, name)
        title = f"Batch {name}"
    stem = out.expanduser().absolute() if out else store.root / "reports" / ("-".join(wanted) or f"batch-{name}")
    agreed = agreement(store, runs, wanted)
    for path in page.write(store, title, runs, stem, agreed):
        click.echo(f"wrote {_shown(path)}")
    if agreed.asked:
        click.echo(f"Agreement: {agreed}")


@cli.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the difference as JSON.")
def diff_(before: str, after: str | None, as_json: bool) -> None:
    """Say which verdicts, answers, numbers and figures changed from A to B.

    \b
    replicate diff HEAD~1 HEAD                      commits
    replicate diff HEAD                             a commit, and the files as they are now
    replicate diff 4be1c07d 91d0aa35                runs, by the start of their ids
    replicate diff 3f2a9c1e HEAD                    a batch and a commit
    replicate diff results/smoke ~/theirs/smoke     folders or single files of results

    Numbers count as changed beyond their test's tolerance and rounding; timings never do, nor do figures of cells
    tagged nbval-ignore-output but the answer's. Parameters, versions, machine and sources that differ are listed too,
    but only what came out decides the exit status: 0 the same, 1 different, 2 trouble.
    """
    store = RunStore(Project.find())
    found = diff.compare(diff.side(store, before), diff.side(store, after) if after else diff.here(store))
    if as_json:
        click.echo(json.dumps({"same": found.same} | asdict(found)))
    else:
        for line in found.lines():
            click.echo(line)
    if not found.same:
        sys.exit(1)


@cli.command("verify")
def verify_() -> None:
    """Check that what is committed is consistent; nothing is executed, which takes seconds.

    Verdicts and answers in results/ follow from the stored records by today's claims; the README's table and the
    notebooks' answers and tables are those of results/. Every disagreement is printed, and then the exit status is 1.
    Runs in the store play no part: `replicate report` and `replicate diff` compare those.
    """
    project = Project.find()
    found = list(verify.disagreements(project))
    for line in found:
        click.echo(line)
    files = sum(1 for _ in publish.committed(project))
    click.echo(f"{files} published results checked: {len(found) or 'no'} disagreement{'' if len(found) == 1 else 's'}.")
    if found:
        sys.exit(1)


@cli.command()
@click.option("--yes", is_flag=True, help="Remove them; without it they are only listed.")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Only what was not written to since.")
@click.option(
    "--keep-last", type=click.IntRange(min=0), default=0, metavar="N", help="Spare the newest N of each notebook."
)
@click.option("--in-batches", is_flag=True, help="Also runs of the newest state of a batch that can be resumed.")
def gc(yes: bool, older_than: float | None, keep_last: int, in_batches: bool) -> None:
    """Remove runs that nobody can use any more; lists them, and removes with --yes only.

    \b
    replicate gc
    replicate gc --older-than 30 --yes

    \b
    What goes:   failed, and unfinished that nobody works on;
                 stale: verdicts of older claims, which today's sources cannot bring up to date;
                 superseded: there is a newer finished run of the same notebook, profile and parameters;
                 parts of experiments, a day old or more, that no run needs, finished or not.
    What stays:  runs that results/ were published from; runs that are being computed; runs of a batch as it was last
                 started, unless --in-batches; every finished run that is the newest of its parameters.
    """
    store = RunStore(Project.find())
    found = list(collect.removable(store, older_than=older_than, keep_last=keep_last, in_batches=in_batches))
    gone = 0
    for one in found:
        if yes and not collect.remove(store, one):
            click.echo(f"kept     {one.name}: somebody works on it or has finished it")
            continue
        gone += one.size
        click.echo(
            f"{'removed ' if yes else 'would go'} {one.name}: {one.reason}, {one.age}, {collect.in_words(one.size)}"
        )
    # a run that was killed goes on with its parts, also if its folder is gone: they are given a day
    loose = list(collect.loose_parts(store, older_than=1.0 if older_than is None else older_than))
    gone += sum(file.stat().st_size for file in loose)
    for file in loose if yes else ():
        file.unlink(missing_ok=True)
    what = "were freed" if yes else "would be freed; --yes removes them" if found or loose else "to free"
    rows = sum(file.suffix == ".json" for file in loose)
    click.echo(f"{len(found)} runs and {rows} parts of no run, {collect.in_words(gone)} {what}.")


@cli.command("list")
def list_() -> None:
    """List notebooks with their profiles, and the runs in the store with their states."""
    store = RunStore(Project.find())
    console = Console()
    table = Table("notebook", "profiles", title="Notebooks", title_justify="left")
    for name in store.project.notebooks():
        table.add_row(name, ", ".join(store.project.profiles(name)))
    console.print(table)
    # on a narrow terminal the state stays whole, and all of the rest is there in more lines
    columns = (Column("run", overflow="fold"), "profile", Column("state", no_wrap=True), "verdicts")
    table = Table(*columns, title="Runs", title_justify="left")
    for run in store.runs():
        results = store.results(run)
        table.add_row(run.name, run.profile, store.state(run), sentence(results) if results else "")
    console.print(table if table.row_count else "No runs yet; `replicate run NOTEBOOK` starts one.")


@cli.command("parts")
@click.argument("notebook")
@_profile
def parts_(notebook: str, profile: str) -> None:
    """List the parts of a NOTEBOOK's experiment: done, running, failed (with the traceback) or waiting."""
    store = RunStore(Project.find())
    asked = store.plan(Spec(store.project.notebook(notebook), profile, {}))
    if not asked.experiment:
        raise RefusedError(f"{asked.notebook} has no experiment.")
    plan = parts.plan(asked.experiment, asked.config, store.project.store)
    columns = (Column("part", overflow="fold"), Column("state", no_wrap=True), Column("seconds", justify="right"), "on")
    table = Table(*columns, title=asked.notebook, title_justify="left")
    for part, key in plan.listed():
        told, state = plan.stored(key) or {}, plan.state(key)
        table.add_row(escape(part.name), state, f"{told['seconds']:.0f}" if told else "", told.get("machine", ""))
    console = Console()
    console.print(table)
    for part, key in plan.listed():
        if plan.state(key) == "failed":
            console.print(f"{part.name}: {(plan.failure(key) or {})['traceback']}", highlight=False, markup=False)


@cli.command("parameters")
def parameters_() -> None:
    """Write each notebook's parameters cell anew from its experiment's Config, where it differs."""
    project = Project.find()
    for name in project.notebooks():
        if publish.refresh_parameters(project, name):
            click.echo(f"written: notebooks/{name}.ipynb; `replicate run {name} --publish` executes it")


@cli.command()
@click.argument("what", metavar="NOTEBOOK|RUN")
def show(what: str) -> None:
    """Show a notebook's parameters, or a run's verdicts and answers.

    \b
    replicate show 11_uba_vision
    replicate show 4be1c07d
    """
    store = RunStore(Project.find())
    console = Console()
    try:
        name = store.project.notebook(what)
    except RefusedError as error:
        try:
            found = store.find(what)
        except RefusedError:
            raise error from None
        _show_run(store, found, console)
        return
    names = store.project.profiles(name)
    values = {profile: profiles.resolve(store.project, name, profile, {}) for profile in names}
    columns: tuple[Column | str, ...] = (
        Column("parameter", no_wrap=True),
        Column("type", no_wrap=True),
        *names,
        "meaning",
    )
    table = Table(*columns, title=name, title_justify="left", caption="-p and -y set them for one run")
    for parameter in profiles.parameters(store.project, name).values():
        cells = [str(values[profile][parameter.name]) for profile in names]
        row = (parameter.name, parameter.type_name, *cells, parameter.help)
        table.add_row(*map(escape, row))
    console.print(table)


def _show_run(store: RunStore, found: Run, console: Console) -> None:
    console.print(f"{found.name}, profile {found.profile}: {store.state(found)}", highlight=False)
    console.print(f"parameters: {canonical(found.parameters)}", highlight=False, markup=False)
    (section,) = report.sections(store, [found], store.root)
    console.print(section.summary, highlight=False, markup=False)
    for shown in section.tables:
        console.print(f"\n{shown}", highlight=False, markup=False, soft_wrap=True)
    if section.trouble:
        console.print(section.trouble, highlight=False, markup=False)


@cli.command("power")
@click.argument("papers", metavar="[PAPER]...", nargs=-1)
def power_(papers: tuple[str, ...]) -> None:
    """Print what the rules of the named papers, or of all, can see.

    \b
    replicate power
    replicate power uba disf

    For each primary test: the replicates at which it may decide, the effect claimed and the spread between replicates,
    how often it then says yes, how often it errs at worst, and the replicates with which 80 % of runs would say yes.
    """
    from replication.evidence import load_claims
    from replication.evidence.power import power_table

    known = sorted(path.parent.name for path in Project.find().package.glob("*/claims.yaml"))
    # a paper's rules take seconds: show each paper's as soon as they are there
    for claims in [load_claims(paper) for paper in papers or known]:
        click.echo(f"{power_table([claims])}\n")


class _Select(click.Command):
    """Has the settings of `select_corpus` as options, made when asked for: no other command waits for torch."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        corpus, *others = super().get_params(ctx)
        return [corpus, *_settings(), *others]


def integer_or_none(value: str | int) -> int | None:
    """The value of an option that is an integer or the word none; the help shows this name."""
    if value == "none":
        return None
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"must be an integer or none, got {value!r}") from None


@functools.cache
def _settings() -> list[click.Option]:
    from replication.evidence import pin_numerics

    # the order of a sum decides between nearly equal documents; torch reads these when it is imported
    pin_numerics()
    from replication.disf.corpus.pipeline import select_corpus
    from replication.disf.corpus.settings import Settings

    hints = get_type_hints(Settings)
    section = (inspect.getdoc(select_corpus) or "").split("Parameters\n----------\n")[1].split("\n\n")[0]
    made = []
    for paragraph in re.split(r"\n(?=\w)", section):
        name, _, meaning = paragraph.partition("\n")
        if name in {"corpus", "progress"}:
            continue
        kinds = get_args(hints[name]) or (hints[name],)
        default = inspect.signature(Settings).parameters[name].default
        given: dict[str, Any] = {"required": True} if default is inspect.Parameter.empty else {"default": default}
        kind = click.Path(path_type=Path) if kinds[0] is Path else kinds[0]
        if type(None) in kinds and default is not None:
            kind = integer_or_none
        made.append(
            click.Option(
                [f"--{name.replace('_', '-')}"],
                type=click.Choice(kinds) if get_origin(hints[name]) is Literal else kind,
                is_flag=kinds[0] is bool,
                show_default=True,
                help=re.split(r"(?<=\.)\s+(?=[A-Z])", " ".join(meaning.split()), maxsplit=1)[0].replace("`", ""),
                **given,
            )
        )
    return made


@cli.command(cls=_Select)
@click.argument("corpus", required=False, type=click.Path(path_type=Path))
@_scheduler
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def select(corpus: Path | None, out: Path, as_json: bool, scheduler: str | None, **settings: Any) -> None:
    """Select the documents of a CORPUS that are least correlated (DiSF), with memory bounded by a batch.

    \b
    replicate select corpus/ --ratio 0.015 --features minilm --out selected.jsonl
    replicate select crawl.jsonl.zst --ratio 0.015 --out selected.jsonl.zst --workers 8
    replicate select --features embeddings.npy --ratio 0.015 --out picks.jsonl
    replicate select crawl/ --ratio 0.015 --out selected.jsonl.zst --scheduler tcp://10.0.0.1:8786

    CORPUS is a file or a folder of .jsonl, .json (an object a line), .parquet, .txt or .md; all but .parquet may be
    compressed as .gz or .zst. Features that you have already can do without it; then rows are selected.

    After a Ctrl-C or a crash the same command goes on where it was; when all is done, it says so and does nothing.
    The output is a function of the inputs and the parameters, whatever the number of workers. OUT.manifest.json tells
    what it was made of. With --scheduler the workers are those of a dask cluster that sees the same files.
    """
    from replication.disf.corpus import select_corpus
    from replication.disf.corpus.progress import Stages

    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        if scheduler is not None:
            from replication.runs.cluster import connect

            client = stack.enter_context(connect(1, scheduler, say=console.print))
            settings["workers"] = client.get_executor(pure=False)
        progress = stack.enter_context(Stages(console))
        done = select_corpus(corpus, out, progress=progress, **settings)
    counts = done.counts
    if as_json:
        click.echo(json.dumps(asdict(done), default=str))
        return
    for fault in done.faults:
        click.echo(f"left out: {fault}", err=True)
    if done.ignored:
        more = counts["ignored"] - len(done.ignored)
        click.echo(f"ignored: {', '.join(done.ignored)}{f' and {more:,} more' if more else ''}", err=True)
    for note in done.notes:
        click.echo(f"warning: {note}", err=True)
    left = ", ".join(f"{counts[name]:,} {name}" for name in ("empty", "broken", "copies") if counts[name])
    files = f"{counts['files']:,} file{'' if counts['files'] == 1 else 's'}" + "".join(
        f" ({counts[name]:,} {name})" for name in ("unreadable", "ignored") if counts[name]
    )
    click.echo(f"{counts['documents']:,} documents in {files}{f'; left out: {left}' if left else ''}.")
    if counts["missing"]:
        click.echo(f"{counts['missing']:,} fewer than asked for: some batches have too few distinct documents.")
    verb = "were selected before; nothing was done" if done.reused else "selected"
    click.echo(f"{counts['selected']:,} {verb}: {_shown(done.output)}, described in {_shown(done.manifest)}")
    if len(done.mix) > 1:
        click.echo(_mix(done.mix))


def _mix(mix: dict[str, list[int]], most: int = 20) -> str:
    """The largest files or folders of a corpus, with their shares of it and of the selection."""
    parts = sorted(mix.items(), key=lambda part: -part[1][0])
    shown = parts if len(parts) <= most else parts[: most - 1]
    if others := parts[len(shown) :]:
        shown = [*shown, (f"{len(others)} others", [sum(counts[i] for _, counts in others) for i in (0, 1)])]
    whole = [max(1, sum(counts[i] for _, counts in parts)) for i in (0, 1)]
    width = max(len("share of the"), *(len(name) for name, _ in shown))
    lines = [f"{'share of the':{width}}  corpus  selection"]
    lines += [f"{name:{width}}  {n / whole[0]:6.1%}  {k / whole[1]:9.1%}" for name, (n, k) in shown]
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal or a log that takes ASCII only shows ? for a letter that it has not
            stream.reconfigure(errors="replace")
    cli(prog_name="replicate")


if __name__ == "__main__":
    main()

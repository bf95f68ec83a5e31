"""Commands that show what there is and what came out; none computes a run."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from replication.checks import near_of
from replication.cli import common
from replication.runs import batch as batches
from replication.runs import diff, profiles, publish, report
from replication.runs.agreement import agreement, shown
from replication.runs.display import fitted, room, say
from replication.runs.errors import RefusedError
from replication.runs.profiles import Project
from replication.runs.store import Run, RunStore, Spec, plan_of
from replication.sources import canonical

# how the list counts verdicts
_WORDS = {
    "reproduced": "reproduced",
    "partly reproduced": "partly",
    "not reproduced": "not",
    "inconclusive": "?",
    "not attempted": "not attempted",
}


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    console = Console()
    console.print(fitted(columns, rows, room(console)), markup=False, highlight=False, emoji=False, soft_wrap=True)


@click.command("list")
@click.argument("notebook", required=False)
def list_command(notebook: str | None) -> None:
    """List the notebooks with what the newest run of each profile says, or all runs of one NOTEBOOK.

    \b
    replicate list
    replicate list 11_uba_vision

    A run counts its claims: `6 reproduced, 3 not, 1 ?`, the last being inconclusive. `replicate show RUN` has more.
    """
    store = RunStore(Project.find())
    runs = list(store.runs())
    if notebook is not None:
        name = store.project.notebook(notebook)
        rows = [
            (run.run_id[:8], run.profile, _said(store, run), _listed(_changed(store.project, run)))
            for run in reversed(runs)
            if run.notebook == name
        ]
        if not rows:
            say(f"No runs of {name} yet; `replicate run {name}` starts one.")
        else:
            _table(("run", "profile", "says", "parameters of its own"), rows)
        return
    newest = {(run.notebook, run.profile): run for run in runs}
    names = dict.fromkeys([*store.project.notebooks(), *sorted(run.notebook for run in runs)])
    rows = []
    for name in names:
        there = store.project.profiles(name) if store.project.notebook_file(name).is_file() else []
        for profile in dict.fromkeys([*there, *(at for of, at in newest if of == name)]):
            run = newest.get((name, profile))
            rows.append((name, profile, *((run.run_id[:8], _said(store, run)) if run else ("–", ""))))
    _table(("notebook", "profile", "run", "newest run says"), rows)
    if not runs:
        say("No runs yet; `replicate run NOTEBOOK` starts one.")


def _said(store: RunStore, run: Run) -> str:
    """A run's verdicts, counted; its state too, unless it is finished."""
    state, results = store.state(run), store.results(run) or {}
    counts = Counter(one["verdict"] for one in results.get("verdicts", []))
    told = ", ".join(f"{counts[verdict]} {word}" for verdict, word in _WORDS.items() if counts[verdict])
    return told or state if state == "finished" else ": ".join(filter(None, (state, told)))


def _changed(project: Project, run: Run) -> dict[str, Any]:
    """The parameters of a run that are not its profile's."""
    try:
        asked: Mapping[str, Any] = profiles.resolve(project, run.notebook, run.profile, {})
    except RefusedError:  # the notebook or its profile is gone
        asked = {}
    return {name: value for name, value in run.parameters.items() if canonical(asked.get(name)) != canonical(value)}


def _listed(parameters: Mapping[str, Any], most: int = 4) -> str:
    told = [f"{name} = {shown(value)}" for name, value in parameters.items()]
    return ", ".join(told[:most] + [f"and {len(told) - most} more"] * (len(told) > most))


@click.command("parts")
@click.argument("notebook")
@common.profile
@click.option("--restore", is_flag=True, help="First take over what published results hold of them.")
def parts_command(notebook: str, profile: str, restore: bool) -> None:
    """List the parts of a NOTEBOOK's experiment: done, running, failed (with the traceback) or waiting.

    \b
    replicate parts 22_adcm_images --profile standard --restore

    After a profile got more seeds, methods or data sets, --restore spares the next run the parts that are published,
    as long as these would be computed alike: same settings, sources, packages, data and kind of device.
    """
    store = RunStore(Project.find())
    asked = store.plan(Spec(store.project.notebook(notebook), profile, {}))
    if not asked.experiment:
        raise RefusedError(f"{asked.notebook} has no experiment.")
    plan = plan_of(asked.experiment, asked.config, store.project.store)
    if restore:
        say(f"{len(publish.restore(store.project, plan, asked))} parts restored.")
    rows = []
    for part, key in plan.listed():
        told = plan.stored(key) or {}
        seconds = f"{told['seconds']:.0f}" if told else ""
        rows.append((part.name, plan.state(key), seconds, told.get("machine", "")))
    _table(("part", "state", "seconds", "on"), rows)
    for part, key in plan.listed():
        if plan.state(key) == "failed":
            say(f"{part.name}: {(plan.failure(key) or {})['traceback']}")


@click.command("show")
@click.argument("what", metavar="NOTEBOOK|RUN")
def show_command(what: str) -> None:
    """Show a notebook's parameters, or a run's verdicts and answers.

    \b
    replicate show 11_uba_vision
    replicate show 4be1c07d
    """
    store = RunStore(Project.find())
    try:
        name = store.project.notebook(what)
    except RefusedError as error:
        try:
            found = store.find(what)
        except RefusedError:
            raise error from None
        _show_run(store, found)
        return
    first, *others = store.project.profiles(name)
    values = {profile: profiles.resolve(store.project, name, profile, {}) for profile in (first, *others)}
    rows = []
    for key, parameter in profiles.parameters(store.project, name).items():
        own = values[first][key]
        other = (str(values[profile][key]) if values[profile][key] != own else "" for profile in others)
        rows.append((f"{key}: {parameter.type_name}", str(own), *other, parameter.help))
    _table(("parameter", first, *others, "meaning"), rows)
    say("\n-p and -y set them for one run. A profile shows what differs from the first.")


def _show_run(store: RunStore, found: Run) -> None:
    own = _changed(store.project, found)
    say(f"{found.name}, profile {found.profile}: {store.state(found)}")
    if own:
        say(f"With {_listed(own, len(own))}.")
    (section,) = report.sections(store, [found], store.root)
    say(section.summary)
    for table in section.tables:
        say("")
        _table(table.columns, table.rows)
    if section.trouble:
        say(section.trouble)


@click.command("report")
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
def report_command(name: str | None, wanted: tuple[str, ...], out: Path | None, readme: bool) -> None:
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
            click.echo(f"wrote {common.shown(path)}")
        return
    if name and wanted:
        raise RefusedError("give a batch or --profile, not both.")
    if wanted:
        known = {*store.project.profiles(), *(run.profile for run in store.runs())}
        if unknown := [profile for profile in wanted if profile not in known]:
            raise RefusedError(f"no notebook has a profile {unknown[0]!r}{near_of(unknown[0], known)}")
        runs = report.newest(store, wanted)
        title = f"Finished runs at {' and '.join(wanted)}"
    else:
        name, runs = batches.Batch.executed(store, name)
        title = f"Batch {name}"
    stem = out.expanduser().absolute() if out else store.root / "reports" / ("-".join(wanted) or f"batch-{name}")
    agreed = agreement(store, runs, wanted)
    for path in page.write(store, title, runs, stem, agreed):
        click.echo(f"wrote {common.shown(path)}")
    if agreed.asked:
        click.echo(f"Agreement: {agreed}")


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="[B]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the difference as JSON.")
def diff_command(before: str, after: str | None, as_json: bool) -> None:
    """Say which verdicts, answers, numbers and figures changed from A to B.

    \b
    replicate diff HEAD~1 HEAD                   commits
    replicate diff HEAD                          a commit, and the files of now
    replicate diff 4be1c07d 91d0aa35             runs, by the start of their ids
    replicate diff 3f2a9c1e HEAD                 a batch and a commit
    replicate diff results/smoke ~/theirs/smoke  folders or files of results

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


@click.command("power")
@click.argument("papers", metavar="[PAPER]...", nargs=-1)
def power_command(papers: tuple[str, ...]) -> None:
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
        table = power_table([claims])
        _table(table.columns, table.rows)
        click.echo()

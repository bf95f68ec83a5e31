"""Commands that keep the project consistent and small, and extend it."""

from __future__ import annotations

import sys

import click

from replication.cli import common
from replication.cli.running import run_command
from replication.runs import collect, new, publish, verify
from replication.runs.profiles import Project
from replication.runs.store import RunStore


@click.command("verify")
def verify_command() -> None:
    """Check that what is committed is consistent; nothing is executed, which takes seconds.

    Verdicts and answers in results/ follow from the stored records by today's claims; the README's findings and the
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


@click.command("gc")
@click.option("--yes", is_flag=True, help="Remove them; without it they are only listed.")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Only what was not written to since.")
def gc_command(yes: bool, older_than: float | None) -> None:
    """Remove runs that nobody can use any more; lists them, and removes with --yes only.

    \b
    replicate gc
    replicate gc --older-than 30 --yes

    What goes: failed runs, and unfinished ones that nobody works on; superseded ones, of whose notebook, profile and
    parameters there is a newer finished run; and parts of experiments, a day old or more, that no run needs.

    What stays: runs that results/ were published from; runs that are being computed; runs of a batch as it was last
    started; every finished run that is the newest of its parameters.
    """
    store = RunStore(Project.find())
    found = list(collect.removable(store, older_than=older_than))
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


@click.command("parameters")
def parameters_command() -> None:
    """Write each notebook's parameters cell anew from its experiment's Config, where it differs."""
    project = Project.find()
    for name in project.notebooks():
        if publish.refresh_parameters(project, name):
            click.echo(f"written: notebooks/{name}.ipynb; `replicate run {name} --publish` executes it")


@click.command("render")
@click.argument("notebooks", nargs=-1, metavar="[NOTEBOOK]...")
def render_command(notebooks: tuple[str, ...]) -> None:
    """Execute published pages anew from their records, after a change of claims, figures or prose.

    Nothing is computed, which takes seconds a page. Without a name, all pages of the larger profiles.

    \b
    replicate render
    replicate render 40_meek_convergence
    """
    project = Project.find()
    names = [project.notebook(name) for name in notebooks]
    for path, results in list(publish.committed(project)):
        if path.stem in names or (not names and path.with_suffix(".ipynb").exists()):
            for written in publish.render(project, results):
                click.echo(f"rendered {common.shown(written)}")
    for written in publish.refresh_readme(project):
        click.echo(f"wrote {common.shown(written)}")


@click.command("new")
@click.argument("paper")
@click.argument("experiment", default="example")
@click.pass_context
def new_command(ctx: click.Context, paper: str, experiment: str) -> None:
    """Lay out a new PAPER around a toy EXPERIMENT: room, claims, notebook, profile and test.

    \b
    replicate new my_paper
    replicate new my_paper vision

    Then its notebook is run and its verdict published, which takes seconds, so that all tests pass from the start.
    docs/adding-a-paper.md goes on from there. A name that is taken is refused.
    """
    notebook, files = new.lay_out(Project.find(), paper, experiment)
    for path in files:
        click.echo(f"wrote {common.shown(path)}")
    ctx.invoke(run_command, notebook=notebook, publishing=True)

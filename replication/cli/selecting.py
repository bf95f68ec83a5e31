"""The command that selects from a corpus; it needs the extra `disf` only."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click
from rich.console import Console

from replication.cli import common
from replication.provenance import pin_numerics


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


@click.command("select", cls=_Select)
@click.argument("corpus", required=False, type=click.Path(path_type=Path))
@common.scheduler
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def select_command(corpus: Path | None, out: Path, as_json: bool, scheduler: str | None, **settings: Any) -> None:
    """Select the documents of a CORPUS that are least correlated (DiSF), with memory bounded by a batch.

    \b
    replicate select corpus/ --ratio 0.015 --features minilm --out selected.jsonl
    replicate select crawl.jsonl.zst --ratio 0.015 --out out.jsonl.zst --workers 8
    replicate select --features embeddings.npy --ratio 0.015 --out picks.jsonl
    replicate select crawl/ --k 5000 --out o.jsonl --scheduler tcp://10.0.0.1:8786

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

            client = stack.enter_context(connect(scheduler, say=console.print))
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
    click.echo(
        f"{counts['selected']:,} {verb}: {common.shown(done.output)}, described in {common.shown(done.manifest)}"
    )
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

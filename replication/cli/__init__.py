"""The command line: `replicate …`, or `python -m replication …`.

Commands lie in modules of their own, one a section of the help, which are imported when a command is called: `replicate
select` needs none of what runs notebooks.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EPERM, EROFS
from types import FrameType
from typing import Any

import click

from replication import __version__, places
from replication.checks import extra
from replication.runs.errors import RefusedError, ReplicationError

#: Exit statuses as shells tell of SIGINT and SIGPIPE.
INTERRUPTED, CLOSED = 130, 141

#: What the help lists, in the order of need: each section's module, and its commands with what they do.
SECTIONS = {
    "Run notebooks": (
        "running",
        {
            "run": "Run one notebook, at a profile or with your own values.",
            "batch": "Run many: every notebook, or a grid of parameters.",
            "resume": "Finish a batch after a Ctrl-C or a crash.",
        },
    ),
    "See what came out": (
        "looking",
        {
            "list": "List notebooks with what their newest runs say.",
            "show": "Show a notebook's parameters, or a run's verdicts.",
            "parts": "List the parts of a notebook's experiment.",
            "report": "Write one page about a batch: HTML and Markdown.",
            "diff": "Say what changed between runs, batches or commits.",
            "power": "Print what the rules of papers can see.",
        },
    ),
    "Keep and extend the project": (
        "keeping",
        {
            "verify": "Check that what is committed is consistent.",
            "gc": "Remove runs that nobody can use any more.",
            "render": "Show published records anew, after a change of claims.",
            "parameters": "Write parameters cells anew from the experiments.",
            "new": "Lay out a new paper that runs at once.",
        },
    ),
    "Use a method": ("selecting", {"select": "Select the least correlated documents of a corpus."}),
}

# what to do where a file cannot be written
_ADVICE = {
    **dict.fromkeys((ENOSPC, EDQUOT, EFBIG), "make room and give the same command again; nothing finished is lost"),
    **dict.fromkeys((EACCES, EPERM, EROFS), "choose a place that you may read and write"),
}


class _Refused(click.ClickException):
    exit_code = 2


class _Commands(click.Group):
    """Imports a command when it is called; turns errors for people into one line and an exit status."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [name for _, commands in SECTIONS.values() for name in commands]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        for module, commands in SECTIONS.values():
            if cmd_name in commands:
                with extra("disf" if cmd_name == "select" else "notebooks"):
                    found: click.Command = getattr(
                        importlib.import_module(f"{__name__}.{module}"), f"{cmd_name}_command"
                    )
                return found
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        wide = max(map(len, self.list_commands(ctx)))
        for section, (_, commands) in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(wide), about) for name, about in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        with _noting_interrupts() as interrupts:
            try:
                return self._invoke(ctx)
            except (click.exceptions.Exit, SystemExit):
                raise
            except BaseException:
                # an interrupt may come out as anything: extensions make an ImportError of it, a lock its own error
                if not interrupts:
                    raise
        click.echo("Stopped. Nothing finished is lost.", err=True)
        raise click.exceptions.Exit(INTERRUPTED)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ReplicationError as error:
            shown = _Refused if isinstance(error, RefusedError) else click.ClickException
            raise shown(str(error)) from error
        except ModuleNotFoundError as error:
            if "pip install" not in str(error):  # not one that `extra` tells of
                raise
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            # of `replicate list | head`
            close_output()
            ctx.exit(CLOSED)
        except OSError as error:
            advice = f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
            said = f"{error.filename or 'the system'}: {error.strerror or error}{advice}"
            raise click.ClickException(said) from error
        except ValueError as error:
            # the package's own (a malformed claim, say) are written for people; others are defects and keep their trace
            if not type(error).__module__.startswith("replication."):
                raise
            raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at Ctrl-C as Python does, and note that it came."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    # a background job of a shell ignores Ctrl-C, and other threads cannot set handlers
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours := ours and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def close_output() -> None:
    """Drop buffered output: the reader has closed the pipe."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    subcommand_metavar="COMMAND …",
    epilog="replicate COMMAND -h has examples, such as: replicate run 11_uba_vision -p seeds 50",
)
@click.version_option(f"{__version__}, works on {places.home() or 'no project'}")
def cli() -> None:
    """Re-run the replications: one notebook, or hundreds, with your own parameters."""
    if other := places.elsewhere():
        click.echo(
            f"replicate works on {places.home() or 'no project'}, but the current folder is in another clone, {other}: "
            f"use its own .venv/bin/replicate, or set REPLICATION_HOME={other}",
            err=True,
        )


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal or a log that takes ASCII only shows ? for a letter that it has not
            stream.reconfigure(errors="replace")
    try:
        cli(prog_name="replicate")
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # all is done, and a trace of how Python closes down is of no use
            signal.signal(signal.SIGINT, signal.SIG_DFL)

"""Help with the parts of a run that is executed elsewhere: same list, same store, a process of its own.

``python -m replication.runs.parts`` reads a request from its standard input, which then is its lifeline, and computes
parts until none is left that nobody works on.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from replication.runs import notebook
from replication.runs.notebook import Options
from replication.runs.profiles import Project
from replication.runs.store import Run, RunStore, plan_of


def help_with(run: Run, project: Project, options: Options) -> None:
    """Compute parts of a run beside whoever executes it, and return when none is left.

    A store at an address is copied by runs, not by parts: there is nothing to help with.
    """
    if not run.experiment or project.shared or (not options.force and RunStore(project).current(run)):
        return
    request = {"experiment": run.experiment, "config": run.config, "store": str(project.store)}
    notebook.run_child(helper(run), __name__, request, notebook.environment(run, project, options))


def helper(run: Run) -> str:
    """The name by which `notebook.stop` knows the process that helps with a run."""
    return f"{run.name} (parts)"


def main() -> int:
    """Compute the parts that standard input asks for."""
    request: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=notebook.die_with_caller, daemon=True).start()
    from replication.evidence import parts

    asked = plan_of(**request)
    os.dup2(2, 1)
    parts.sweep(asked, helping=True, started=float(os.environ["REPLICATION_SINCE"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

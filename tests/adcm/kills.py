"""A training that is killed at a moment that nobody chose, after it has saved its state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from {module} import *
own = {trainer}
print("ready", flush=True)
own.fit(10**6 * BATCH, checkpoint=Path(sys.argv[1]), every=1)
"""

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX")


def killed(module: str, trainer: str, path: Path) -> None:
    """Train in a process of its own, by an expression in a module of tests, and kill it once it has saved its state."""
    code = CHILD.format(module=module, trainer=trainer)
    arguments = [sys.executable, "-c", code, str(path), str(Path(__file__).parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            while not path.exists():
                assert child.poll() is None
            # somewhere within the next steps, a save among them
            child.stdout.close()
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.3)
        finally:
            child.send_signal(signal.SIGKILL)

"""Ctrl-C and the processes that this one starts. Every room may import this module, as it knows none of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def deferring_interrupts() -> Iterator[None]:
    """Let Ctrl-C wait until the end of the block, and never reach the processes and threads that are started in it.

    A terminal sends Ctrl-C to all of them. The first process answers it and ends the others; those that are still
    importing would print a traceback each.

    Examples
    --------
    >>> with deferring_interrupts():
    ...     signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    True
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # it would be started with the first process, and lets interrupts through when it has
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

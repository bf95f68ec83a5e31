"""Where a run computes, and how to make it repeatable."""

from __future__ import annotations

import os

import torch


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    name : str
        ``"auto"`` (a CUDA device if there is one, else the CPU; ``$REPLICATION_DEVICE`` overrides), or any name that
        ``torch.device`` takes.

    Raises
    ------
    ValueError
        If the name is not a device, or names one that this machine lacks.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = os.environ.get("REPLICATION_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: {name!r} is not a device; allowed are 'auto', 'cpu', 'cuda', 'cuda:0', …") from error
    if device.type == "cuda" and (device.index or 0) >= (found := torch.cuda.device_count()):
        there = f"{found} CUDA device(s)" if found else "no CUDA device"
        raise ValueError(f"device: {name!r} was asked for, but torch finds {there} here; use 'cpu' or 'auto'")
    if device.type not in ("cpu", "cuda"):
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device: torch cannot use {name!r} here; use 'cpu' or 'auto'") from error
    return device


def use_deterministic(threads: int = 1) -> None:
    """Use deterministic kernels and a fixed number of CPU threads in this process.

    The order of a floating-point sum depends on the number of threads, so a fixed count is part of the result.

    Parameters
    ----------
    threads : int
        Threads for torch's CPU kernels, at least 1.
    """
    if threads < 1:
        raise ValueError(f"threads: must be at least 1, got {threads}")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # or torch fills each new tensor with NaN, a tenth of a training step's time; only what nobody wrote would differ
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False

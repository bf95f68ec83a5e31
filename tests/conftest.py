"""What all tests share: one thread per process, and a toy project."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
import toys
from pins import skipping_without_the_pins
from toys import Toy

# before anything imports torch, so that its sums have one order
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """A toy project with a light evidence room."""
    return toys.build(tmp_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    with skipping_without_the_pins():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    with skipping_without_the_pins():
        return (yield)

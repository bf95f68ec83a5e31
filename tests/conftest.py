"""What all tests share: the numerics of the runs, and a toy project."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
import toys
from pins import skipping_without_the_pins
from toys import Toy

from replication.provenance import pin_numerics

# before anything imports torch, and not halfway by the first test that plans a run: no answer depends on the order of
# the tests, and hardly any on the processor
pin_numerics()


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

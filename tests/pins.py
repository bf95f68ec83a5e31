"""Tests that read the embedded text need its packages at the versions of the lock; elsewhere they are skipped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def skipping_without_the_pins() -> Iterator[None]:
    """Turn the error that the packages of the embedded text have other versions into a skip."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "DataNotFound":  # to import it takes as long as torch
            raise
        from replication.data import DataNotFound, wheels

        try:
            wheels.check_versions()
        except DataNotFound as wanting:
            pytest.skip(str(wanting))
        raise

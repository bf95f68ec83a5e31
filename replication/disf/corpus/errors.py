"""Errors of the corpus tool that end at a person."""

from __future__ import annotations


class CorpusError(ValueError):
    """A corpus, its features or an output cannot be used as asked; the message says why and what to do."""


class DamagedFile(Exception):
    """One file cannot be read to its end, or holds no such column."""

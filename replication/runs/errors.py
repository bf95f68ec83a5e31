"""Errors that end at a person."""

from __future__ import annotations


class ReplicationError(Exception):
    """Something a person can mend; the message says what is wrong and what to do (exit status 1)."""


class RefusedError(ReplicationError):
    """What was asked for makes no sense: a wrong name, type or file (exit status 2)."""

"""Replications of training-budget papers: their methods as a library, their claims as computed verdicts."""

__version__ = "0.1.0"

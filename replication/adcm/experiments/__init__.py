"""The experiments, a module for each notebook, and what several of them ask about."""

QUARTER = 0.25
"""The share of ECM's images with which ADCM is said to be as good."""

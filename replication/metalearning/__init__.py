"""Meta-learning trade-off: MAML against domain randomised search.

Gao, Sener, "Modeling and Optimization Trade-off in Meta-learning" (arXiv 2010.12916, NeurIPS 2020). Linear
regression over tasks in closed form and by simulation: what either method aims at, what a finite budget costs it, and
how many tasks it takes for MAML to be the better one.
"""

from replication.metalearning.adaptation import adapt, drs_gradient, fomaml_gradient, maml_gradient
from replication.metalearning.estimators import Estimates, Wins, estimates, win_fraction, wins
from replication.metalearning.linear import (
    Tasks,
    adapted_risk,
    crossover_tasks,
    curvature,
    modelling_error,
    neutral_alpha,
    optimum_drs,
    optimum_maml,
    variances,
)

__all__ = [
    "Estimates",
    "Tasks",
    "Wins",
    "adapt",
    "adapted_risk",
    "crossover_tasks",
    "curvature",
    "drs_gradient",
    "estimates",
    "fomaml_gradient",
    "maml_gradient",
    "modelling_error",
    "neutral_alpha",
    "optimum_drs",
    "optimum_maml",
    "variances",
    "win_fraction",
    "wins",
]

"""Meek Models: when the gap between a leader and a fixed budget peaks and closes.

H. Gundlach, J. Lynch, N. Thompson, "Meek Models Shall Inherit the Earth" (arXiv 2507.07931). Scaling laws and the
compute-optimal frontier, the training and inference gaps over time, the sequential test behind the claim that losses
tell models apart, and a batched fit of the Chinchilla law with its bootstrap.
"""

from replication.meek.benchmark import Sigmoid, fit_sigmoid, multi_step_gap, score_gap
from replication.meek.fit import (
    ChinchillaFit,
    IllConditionedWarning,
    bootstrap_chinchilla,
    drop_largest,
    fit_chinchilla,
)
from replication.meek.gap import (
    Growth,
    inference_compute,
    inference_crossing,
    inference_gap,
    lag,
    peak_gap,
    peak_time,
    time_below,
    training_gap,
)
from replication.meek.law import ParametricLaw, ScalingLaw
from replication.meek.sprt import drift_tokens, run_sprt, sprt_tokens

__all__ = [
    "ChinchillaFit",
    "Growth",
    "IllConditionedWarning",
    "ParametricLaw",
    "ScalingLaw",
    "Sigmoid",
    "bootstrap_chinchilla",
    "drift_tokens",
    "drop_largest",
    "fit_chinchilla",
    "fit_sigmoid",
    "inference_compute",
    "inference_crossing",
    "inference_gap",
    "lag",
    "multi_step_gap",
    "peak_gap",
    "peak_time",
    "run_sprt",
    "score_gap",
    "sprt_tokens",
    "time_below",
    "training_gap",
]

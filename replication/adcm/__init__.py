"""ADCM: adaptive discretization for consistency models.

Bai, Feng, Deng, Hou, Qiu, Ling, "Adaptive Discretization for Consistency Models" (arXiv 2510.17266, NeurIPS 2025).
Noise schedules, the Gauss-Newton segmentation of time, the consistency loss, a trainer of one model or of many at once,
the discretisations that it is compared with, and test beds whose answers are exact.
"""

from replication.adcm.discretization import (
    ECM,
    ICT,
    ConstantLocal,
    Grid,
    constant_local,
    log_grid,
    log_normal_times,
)
from replication.adcm.features import FeatureSpace, classifier_features, memorised_share, nearest_distance
from replication.adcm.gaussian import Gaussian
from replication.adcm.loss import adaptive_loss, huber_constant, loss_weight, pseudo_huber, target_error
from replication.adcm.metrics import energy_distance, frechet_distance, rmse, sliced_wasserstein
from replication.adcm.mixture import GaussianMixture2d
from replication.adcm.models import EDMModel, Preconditioned, student_and_target
from replication.adcm.networks import TimeMLP
from replication.adcm.sampling import sample_one_step, sample_two_step
from replication.adcm.schedules import VE, FlowMatching, Schedule
from replication.adcm.segmentation import Adaptive, Segmentation, gauss_newton_step, segment
from replication.adcm.training import ConsistencyTrainer, Replica
from replication.adcm.unet import UNet

__all__ = [
    "ECM",
    "ICT",
    "VE",
    "Adaptive",
    "ConsistencyTrainer",
    "ConstantLocal",
    "EDMModel",
    "FeatureSpace",
    "FlowMatching",
    "Gaussian",
    "GaussianMixture2d",
    "Grid",
    "Preconditioned",
    "Replica",
    "Schedule",
    "Segmentation",
    "TimeMLP",
    "UNet",
    "adaptive_loss",
    "classifier_features",
    "constant_local",
    "energy_distance",
    "frechet_distance",
    "gauss_newton_step",
    "huber_constant",
    "log_grid",
    "log_normal_times",
    "loss_weight",
    "memorised_share",
    "nearest_distance",
    "pseudo_huber",
    "rmse",
    "sample_one_step",
    "sample_two_step",
    "segment",
    "sliced_wasserstein",
    "student_and_target",
    "target_error",
]

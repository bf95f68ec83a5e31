"""Many small training runs at once: trainers of replicas, batches, optimisers, small models, seeding and devices."""

from replication.training.batches import Batches
from replication.training.device import resolve_device, use_deterministic
from replication.training.models import MLP, ByteTransformer, ResNet8, count_parameters
from replication.training.optimizers import SGD, AdamW, Optimizer, RAdam, matrices_only
from replication.training.population import Population
from replication.training.progress import track
from replication.training.seeding import data_order, seeded, stream_seed

__all__ = [
    "MLP",
    "SGD",
    "AdamW",
    "Batches",
    "ByteTransformer",
    "Optimizer",
    "Population",
    "RAdam",
    "ResNet8",
    "count_parameters",
    "data_order",
    "matrices_only",
    "resolve_device",
    "seeded",
    "stream_seed",
    "track",
    "use_deterministic",
]

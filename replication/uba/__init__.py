"""UBA: a unified budget-aware learning-rate schedule (A. Tang et al., "Stepsize anything", arXiv 2505.24452).

The schedule as a function, as a ``torch.optim`` scheduler and as a lambda factory; the schedules that it is compared
with are in :mod:`~replication.uba.baselines`, its theory in :mod:`~replication.uba.theory`.
"""

from replication.uba.schedule import UBALR, get_uba_schedule_with_warmup, uba
from replication.uba.theory import chebyshev_steps, worst_case_contraction

__all__ = ["UBALR", "chebyshev_steps", "get_uba_schedule_with_warmup", "uba", "worst_case_contraction"]

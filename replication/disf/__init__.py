"""DiSF: diversified file selection (Fan et al., "Combatting Dimensional Collapse …", arXiv 2504.20644, ICLR 2025).

Selection as a function and in scikit-learn's manner; what it is compared with is in
:mod:`~replication.disf.baselines`, features of texts in :mod:`~replication.disf.features`, and how even a selection is
in :mod:`~replication.disf.spectrum`.
"""

from replication.checks import extra

with extra("disf"):
    from replication.disf.selection import batch_seed, gains, quota, select, select_batch
    from replication.disf.selector import DiSFSelector

__all__ = ["DiSFSelector", "batch_seed", "gains", "quota", "select", "select_batch"]

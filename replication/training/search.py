"""The choice of a setting by tuning runs, and what is needed to say how sure that choice is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# the draws by which the interval judges the choice
from replication.evidence.statistics import resamples


def candidates(scores: ArrayLike) -> list[int]:
    """The best setting, then those that another draw of the tuning seeds would have chosen.

    Evaluating all of them lets an interval carry the uncertainty of the choice (``tuned`` in ``claims.yaml``).

    Parameters
    ----------
    scores : array_like, shape (K, m)
        Score of each setting with each tuning seed; lower is better, a diverged run (NaN, infinite) never wins, and a
        tie goes to the first setting, so put the smaller rate first.

    Returns
    -------
    list of int
        Indices of settings, the one with the best mean first, the others in their order.

    Examples
    --------
    >>> candidates([[1.0, 3.0], [2.0, 1.5], [9.0, 9.0]])
    [1, 0]
    """
    table = np.asarray(scores, dtype=float)
    table = np.where(np.isfinite(table), table, np.inf)
    # rounded, so that a tie goes to the first on every machine
    best = np.round(table.mean(axis=1), 9).argmin()
    chosen = np.round(table[:, resamples(table.shape[1])].mean(axis=2), 9).argmin(axis=0)
    return [int(best), *(int(k) for k in np.unique(chosen) if k != best)]

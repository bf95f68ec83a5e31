"""Telling two models apart by their losses: Wald's sequential probability ratio test, in expectation and run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replication.checks import at_least, finite, positive, within
from replication.meek.law import Float


def sprt_tokens(delta_loss: ArrayLike, error: ArrayLike, slowdown: ArrayLike = 1.0) -> Float:
    """Expected number of tokens until a sequential test tells two models apart.

    E[n] = s (1 - 2 eps) ln((1 - eps) / eps) / Delta L, with both error rates eps (Wald 1945, without overshoot). It
    takes tokens as independent and the data as drawn from the better model; the paper uses it for data from neither,
    where Delta L is a drift, so there it is a heuristic.

    Parameters
    ----------
    delta_loss : array_like
        Difference of the models' losses, nats per token, not negative; 0 gives infinity.
    error : array_like
        eps, in (0, 0.5).
    slowdown : array_like
        s, by how much a reader is slower than the ideal test; at least 1.

    Raises
    ------
    ValueError
        An argument lies outside its range.

    Examples
    --------
    >>> round(float(sprt_tokens(1.0, 0.05)), 6)
    2.649995
    """
    delta, eps, s = finite("delta_loss", delta_loss), _error(error), finite("slowdown", slowdown)
    if (delta < 0).any():
        raise ValueError(
            f"delta_loss: must not be negative, got {delta[delta < 0].flat[0]:g}; take the worse minus the better"
        )
    at_least("slowdown", s, 1)
    with np.errstate(divide="ignore"):
        return np.asarray(s * (1 - 2 * eps) * np.log((1 - eps) / eps) / delta)


def drift_tokens(mean: ArrayLike, variance: ArrayLike, error: ArrayLike) -> Float:
    """Expected stopping time of a random walk with any drift and variance: (b / mu) tanh(b mu / sigma^2).

    Brownian motion between +-b, b = ln((1 - eps) / eps). Where the data come from the better model, sigma^2 = 2 mu and
    this is `sprt_tokens`; where they come from neither model it is not, and the walk leaves by chance long before its
    drift carries it. Ours, not the paper's.

    Parameters
    ----------
    mean, variance : array_like
        Of the log-likelihood ratio per token (the variance in the long run, if tokens depend on each other); positive.
    error : array_like
        eps, in (0, 0.5).

    Examples
    --------
    >>> round(float(drift_tokens(0.1, 0.2, 0.05) / sprt_tokens(0.1, 0.05)), 6)
    1.0
    """
    mu, sigma2, eps = positive("mean", mean), positive("variance", variance), _error(error)
    bound = np.log((1 - eps) / eps)
    return np.asarray(bound / mu * np.tanh(bound * mu / sigma2))


class Stopping(NamedTuple):
    """What sequential tests did."""

    tokens: NDArray[np.int64]
    """Tokens read until the decision, shape (n,)."""
    correct: NDArray[np.bool_]
    """Whether the better model was chosen, shape (n,)."""


def run_sprt(log_ratios: ArrayLike, error: float, *, starts: ArrayLike) -> Stopping:
    """Run the test along a stream of log-likelihood ratios, once from each starting point.

    The sum of the ratios is followed until it leaves (-b, b), b = ln((1 - eps) / eps).

    Parameters
    ----------
    log_ratios : array_like, shape (T,)
        ln p_better(token) - ln p_worse(token) for the tokens of a text, in their order.
    error : float
        eps, in (0, 0.5).
    starts : array_like of int
        Where tests begin.

    Returns
    -------
    Stopping
        Of the tests in the order of `starts`.

    Raises
    ------
    ValueError
        A test reaches the end of the text without a decision (dropping it would bias the mean); the message says which.
        Or the ratios are not one finite row, a start is no token of the text, or the error lies outside its range.
    """
    ratios, bound = finite("log_ratios", log_ratios), float(np.log((1 - _error(error)) / error))
    if ratios.ndim != 1:
        raise ValueError(f"log_ratios: must be one-dimensional, got shape {ratios.shape}")
    paths = np.concatenate([[0.0], np.cumsum(ratios)])
    begin = np.asarray(starts, dtype=np.float64)
    outside = begin[(begin < 0) | (begin >= len(ratios)) | (begin != np.floor(begin))]
    if outside.size:
        raise ValueError(f"starts: must be tokens of the text, whole numbers in [0, {len(ratios)}), got {outside[0]:g}")
    tokens, correct = np.empty(len(begin), np.int64), np.empty(len(begin), np.bool_)
    for i, start in enumerate(begin.astype(np.int64)):
        window = 64
        while True:
            moved = paths[start + 1 : start + 1 + window] - paths[start]
            out = np.flatnonzero(np.abs(moved) >= bound)
            if out.size:
                tokens[i], correct[i] = out[0] + 1, moved[out[0]] > 0
                break
            if start + window >= len(ratios):
                raise ValueError(
                    f"starts: the test that begins at {start} reaches the end of {len(ratios)} tokens undecided"
                )
            window *= 4
    return Stopping(tokens, correct)


def _error(error: ArrayLike) -> Float:
    return within("error", error, "(0, 0.5)")

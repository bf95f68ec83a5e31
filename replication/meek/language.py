"""A language whose entropy is known, and small neural language models that learn it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from replication.checks import generator, whole
from replication.meek.law import Float

CONTEXT = 2
"""Tokens that the next one depends on."""


class MarkovSource:
    """A second-order Markov chain over a small vocabulary, its entropy known exactly.

    The next token's logits are a Zipf law over the vocabulary plus Gaussian terms that depend on the last token, on
    the one before, and on both: what a model can learn early, later, and last.

    Parameters
    ----------
    vocabulary : int
        Number of tokens V, at least 2.
    scales : tuple of three floats
        Standard deviations of the terms of the last token, of the one before, and of the pair.
    zipf : float
        Exponent of the Zipf law.
    seed : int
        Of the Gaussian terms.

    Attributes
    ----------
    transition : ndarray, float64, shape (V, V, V)
        P(w | u, v) for the tokens u, v before w.
    stationary : ndarray, float64, shape (V, V)
        P(u, v) in the long run.
    entropy : float
        Entropy rate in nats per token: the loss of a perfect model.
    unigram_entropy : float
        Loss of the best model that ignores the context.
    bigram_entropy : float
        Loss of the best one that knows only the last token.

    Raises
    ------
    ValueError
        The vocabulary is no integer of at least 2, a scale is negative, or the seed is no integer of at least 0.

    Examples
    --------
    >>> source = MarkovSource(8)
    >>> bool(0 < source.entropy < source.bigram_entropy < source.unigram_entropy < np.log(8))
    True
    """

    def __init__(
        self,
        vocabulary: int = 32,
        scales: tuple[float, float, float] = (1.5, 1.0, 0.5),
        zipf: float = 1.0,
        seed: int = 0,
    ) -> None:
        if min(scales) < 0:
            raise ValueError(f"scales: must not be negative, got {scales}")
        V, rng = whole("vocabulary", vocabulary, 2), generator(seed)
        shapes = ((1, V, V), (V, 1, V), (V, V, V))
        logits = -zipf * np.log(np.arange(1.0, V + 1)) + sum(
            scale * rng.standard_normal(shape) for scale, shape in zip(scales, shapes, strict=True)
        )
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        self.transition: Float = odds / odds.sum(axis=-1, keepdims=True)
        self.stationary = self._stationary()
        joint = self.joint
        self.entropy = _cross_entropy(joint, self.transition)
        single, pairs = self.stationary.sum(axis=0), joint.sum(axis=0)
        self.unigram_entropy = _cross_entropy(single, single)
        with np.errstate(invalid="ignore"):  # a token that never comes
            self.bigram_entropy = _cross_entropy(pairs, pairs / single[:, None])
        self._cumulative = np.cumsum(joint)

    @property
    def vocabulary(self) -> int:
        """Number of tokens V."""
        return len(self.transition)

    @property
    def joint(self) -> Float:
        """P(u, v, w), shape (V, V, V)."""
        return np.asarray(self.stationary[..., None] * self.transition)

    @property
    def contexts(self) -> Tensor:
        """All V² contexts (u, v), int64, shape (V², 2); the first token changes slowest."""
        return torch.cartesian_prod(*[torch.arange(self.vocabulary)] * CONTEXT)

    def loss(self, log_probabilities: Float) -> Float:
        """Expected cross-entropy of models, exact: no text is sampled.

        Parameters
        ----------
        log_probabilities : ndarray, shape (…, V², V)
            ln q(w | u, v) in the order of `contexts`.

        Returns
        -------
        ndarray, shape (…)
            Nats per token.
        """
        V = self.vocabulary
        joint = self.joint.reshape(V * V, V)
        return -np.asarray(np.sum(joint * np.where(joint > 0, log_probabilities, 0.0), axis=(-2, -1)))

    def examples(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Draw contexts and next tokens, independent of each other: int64, shapes (count, 2) and (count,)."""
        V = self.vocabulary
        drawn = np.searchsorted(self._cumulative, rng.random(count) * self._cumulative[-1], side="right")
        u, v, w = np.unravel_index(np.minimum(drawn, V**3 - 1), (V, V, V))
        return torch.from_numpy(np.stack([u, v], axis=1)), torch.from_numpy(w)

    def text(self, rng: np.random.Generator, streams: int, length: int) -> NDArray[np.int64]:
        """Draw running text: independent streams, shape (streams, length + 2), the first two tokens being context."""
        V = self.vocabulary
        first = rng.choice(V * V, size=streams, p=self.stationary.ravel())
        tokens = np.empty((streams, length + CONTEXT), np.int64)
        tokens[:, 0], tokens[:, 1] = first // V, first % V
        cumulative = np.cumsum(self.transition, axis=-1)
        for t in range(CONTEXT, length + CONTEXT):
            rows = cumulative[tokens[:, t - 2], tokens[:, t - 1]]
            below = rows < rng.random((streams, 1)) * rows[:, -1:]
            tokens[:, t] = below.sum(axis=1)
        return tokens

    def _stationary(self) -> Float:
        pairs = np.full(self.transition.shape[:2], 1 / self.vocabulary**2)
        while True:
            following = np.einsum("uv,uvw->vw", pairs, self.transition)
            if np.abs(following - pairs).max() < 1e-15:
                return np.asarray(following / following.sum())
            # half a step: a chain that cycles would otherwise never settle
            pairs = (pairs + following) / 2


def _cross_entropy(p: Float, q: Float) -> float:
    """-sum p ln q in nats, where 0 ln 0 is 0."""
    return -float(np.sum(p * np.log(np.where(p > 0, q, 1.0))))


class NeuralNgram(nn.Module):
    """A neural n-gram language model (Bengio et al. 2003): embeddings of the context, one hidden layer, a softmax.

    Parameters
    ----------
    vocabulary : int
        Number of tokens.
    width : int
        Hidden units; embeddings have half as many dimensions, at least four.

    Examples
    --------
    >>> NeuralNgram(32, 16)(torch.zeros(5, 2, dtype=torch.long)).shape
    torch.Size([5, 32])
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        dimension = max(4, width // 2)
        self.tokens = nn.Embedding(vocabulary, dimension)
        self.hidden = nn.Linear(CONTEXT * dimension, width)
        self.out = nn.Linear(width, vocabulary)

    @property
    def size(self) -> int:
        """N of C = 6 N D: the parameters outside the embedding, whose look-up multiplies nothing."""
        return sum(p.numel() for p in self.parameters()) - self.tokens.weight.numel()

    def forward(self, x: Tensor) -> Tensor:
        """Map contexts (B, 2) int64 to next-token logits (B, V)."""
        logits: Tensor = self.out(F.gelu(self.hidden(self.tokens(x).flatten(-2))))
        return logits


def stacked_logits(parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Logits of R neural n-grams at once, in a handful of batched products.

    What ``Population.logits`` computes for any model through ``vmap``, written out for this one: so small a network
    spends most of a step on the mapping's overhead.

    Parameters
    ----------
    parameters : mapping of str to Tensor
        Of `NeuralNgram`, stacked along a first axis R, as ``Population.parameters`` holds them.
    x : Tensor, int64, shape (R, B, 2)
        Contexts for every replica.

    Returns
    -------
    Tensor, shape (R, B, V)
        Next-token logits.
    """
    table = parameters["tokens.weight"]
    replicas, vocabulary, _ = table.shape
    # one table of all replicas' embeddings, in which each finds its own rows
    rows = x + vocabulary * torch.arange(replicas, device=x.device)[:, None, None]
    embedded = F.embedding(rows, table.flatten(0, 1)).flatten(-2)
    hidden = torch.baddbmm(parameters["hidden.bias"].unsqueeze(1), embedded, parameters["hidden.weight"].mT)
    return torch.baddbmm(parameters["out.bias"].unsqueeze(1), F.gelu(hidden), parameters["out.weight"].mT)

"""The source against its definition and against sampled text; the models against the population trainer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.meek.language import MarkovSource, NeuralNgram, stacked_logits
from replication.training import AdamW, Population


@pytest.fixture(scope="module")
def source():
    return MarkovSource(8)


@pytest.fixture(scope="module")
def text(source):
    return source.text(np.random.default_rng(0), streams=400, length=1000)


@settings(max_examples=25, deadline=None)
@given(
    vocabulary=st.integers(2, 7),
    scales=st.tuples(*[st.floats(0, 3)] * 3),
    zipf=st.floats(0, 2),
    seed=st.integers(0, 5),
)
def test_entropy_and_stationary_law_are_those_of_the_definition(vocabulary, scales, zipf, seed):
    source = MarkovSource(vocabulary, scales, zipf, seed)
    np.testing.assert_allclose(source.transition.sum(axis=-1), 1)
    # the chain of pairs as one matrix: (u, v) goes to (v, w)
    V = vocabulary
    chain = np.zeros((V, V, V, V))
    for u, v, w in np.ndindex(V, V, V):
        chain[u, v, v, w] = source.transition[u, v, w]
    values, vectors = np.linalg.eig(chain.reshape(V * V, V * V).T)
    pairs = np.real(vectors[:, np.argmax(np.real(values))])
    np.testing.assert_allclose(source.stationary.ravel(), pairs / pairs.sum(), atol=1e-9)
    rows = [-(p * np.log(p)).sum() for p in source.transition.reshape(V * V, V)]
    assert source.entropy == pytest.approx(source.stationary.ravel() @ rows)
    assert source.entropy <= source.bigram_entropy + 1e-12
    assert source.bigram_entropy <= source.unigram_entropy + 1e-12 <= np.log(V) + 2e-12
    # what a table of the next token after each single one reaches
    table = source.joint.sum(axis=0)
    table /= table.sum(axis=1, keepdims=True)
    known = source.loss(np.log(np.broadcast_to(table, (V, V, V)).reshape(V * V, V)))
    assert source.bigram_entropy == pytest.approx(float(known))


def test_without_terms_of_the_context_it_is_zipfs_law():
    source = MarkovSource(5, scales=(0, 0, 0), zipf=1.5)
    zipf = np.arange(1, 6) ** -1.5
    np.testing.assert_allclose(source.transition, np.broadcast_to(zipf / zipf.sum(), (5, 5, 5)))
    assert source.entropy == pytest.approx(source.unigram_entropy)


@pytest.mark.parametrize("term", [0, 1, 2])
def test_each_scale_is_that_of_its_own_context(term):
    scales = [0.0, 0.0, 0.0]
    scales[term] = 1.0
    transition = MarkovSource(6, tuple(scales)).transition
    of_last, of_first = (np.ptp(transition, axis=axis).max() > 0.1 for axis in (1, 0))
    assert (of_last, of_first) == [(True, False), (False, True), (True, True)][term]


def test_a_chain_that_almost_cycles_has_a_stationary_law():
    source = MarkovSource(2, scales=(60, 0, 0), seed=1)
    # after one token almost surely the other, so that a law of pairs does not settle by itself
    assert source.transition[0, 0, 1] > 0.99
    assert source.transition[0, 1, 0] > 0.99
    np.testing.assert_allclose(source.stationary.sum(axis=0), source.stationary.sum(axis=1), atol=1e-12)


def test_tokens_that_never_follow_have_no_share_in_the_entropy():
    source = MarkovSource(4, scales=(900, 300, 0))
    assert (source.transition == 0).any()
    assert 0 <= source.entropy <= source.bigram_entropy <= source.unigram_entropy <= np.log(4)
    with np.errstate(divide="ignore"):
        perfect = np.log(source.transition.reshape(16, 4))
    assert source.loss(perfect) == pytest.approx(source.entropy, abs=1e-12)


def test_text_has_the_entropy_and_follows_the_transition(source, text):
    u, v, w = text[:, :-2], text[:, 1:-1], text[:, 2:]
    surprise = -np.log(source.transition[u, v, w]).mean(axis=1)
    assert surprise.mean() == pytest.approx(source.entropy, abs=4 * surprise.std() / np.sqrt(len(surprise)))
    counts = np.zeros((8, 8, 8))
    np.add.at(counts, (u, v, w), 1)
    seen = counts.sum(axis=-1, keepdims=True)
    # of 512 standardised frequencies none is far out
    deviation = (counts - seen * source.transition) / np.sqrt(seen * source.transition * (1 - source.transition))
    assert np.abs(deviation).max() < 5
    assert 0.9 < deviation.std() < 1.1
    # running text starts in the long run's law: its first pairs are no different from later ones
    first = np.histogram(text[:, 0] * 8 + text[:, 1], bins=np.arange(65))[0] / len(text)
    assert np.abs(first - source.stationary.ravel()).max() < 0.06


def test_examples_follow_the_joint_law_and_fewer_are_a_prefix_of_more(source):
    x, y = source.examples(np.random.default_rng(1), 200_000)
    counts = np.zeros((8, 8, 8))
    np.add.at(counts, (x[:, 0].numpy(), x[:, 1].numpy(), y.numpy()), 1)
    error = np.sqrt(source.joint * (1 - source.joint) / 200_000)
    assert (np.abs(counts / 200_000 - source.joint) / error).max() < 5
    fewer = source.examples(np.random.default_rng(1), 1000)
    assert torch.equal(x[:1000], fewer[0])
    assert torch.equal(y[:1000], fewer[1])


def test_exact_loss_is_the_mean_over_text(source, text):
    torch.manual_seed(0)
    model = NeuralNgram(8, 6)
    with torch.no_grad():
        log_q = torch.log_softmax(3 * model(source.contexts).double(), dim=-1).numpy()
    losses = -log_q[text[:, :-2] * 8 + text[:, 1:-1], text[:, 2:]].mean(axis=1)
    assert losses.mean() == pytest.approx(source.loss(log_q), abs=4 * losses.std() / np.sqrt(len(losses)))
    assert source.loss(log_q) > source.entropy
    # a perfect model's loss is the entropy; two models at once are two losses
    perfect = np.log(source.transition.reshape(64, 8))
    np.testing.assert_allclose(source.loss(np.stack([perfect, log_q])), [source.entropy, source.loss(log_q)])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vocabulary": 1}, "vocabulary"),
        ({"vocabulary": 2.5}, "vocabulary: must be an integer of at least 2"),
        ({"scales": (1, -1, 0)}, "scales"),
        ({"seed": True}, "seed: must be an integer"),
    ],
)
def test_bad_sources_are_refused_by_name(changes, named):
    with pytest.raises(ValueError, match=named):
        MarkovSource(**changes)


@pytest.mark.parametrize(("width", "dimension"), [(4, 4), (16, 8)])
def test_size_counts_everything_but_the_embedding(width, dimension):
    model = NeuralNgram(32, width)
    assert model.size == (2 * dimension + 1) * width + (width + 1) * 32
    assert sum(p.numel() for p in model.parameters()) == model.size + 32 * dimension


def test_stacked_models_compute_what_the_mapped_model_does():
    population = Population(lambda: NeuralNgram(8, 6), [0, 1, 1], AdamW())
    contexts = MarkovSource(8).contexts
    stacked = stacked_logits(population.parameters, contexts.expand(3, -1, -1))
    torch.testing.assert_close(stacked, population.logits(contexts))
    # replicas read texts of their own
    shuffled = torch.stack([contexts, contexts.flip(0), contexts])
    torch.testing.assert_close(stacked_logits(population.parameters, shuffled)[1].flip(0), stacked[1])

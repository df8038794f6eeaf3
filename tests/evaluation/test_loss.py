"""The loss of documents is minus their log-probability, computed the slow way: one token at a time."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.strategies import generic_model
from tinyslm import ops
from tinyslm.errors import DataError
from tinyslm.evaluation import loss as module
from tinyslm.evaluation import measure_loss
from tinyslm.evaluation.loss import document_nats
from tinyslm.models import DecoderConfig
from tinyslm.ops import Rope
from tinyslm.text.loss_estimate import estimate_loss

CONTEXT = 12
MODEL = generic_model(DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, CONTEXT, ropes=(Rope(100.0, 6),) * 2))
RNG = np.random.default_rng(0)
DOCUMENTS = [np.array([0, *RNG.integers(1, 23, n), 0], np.int32) for n in (3, 9, 1, 10, 5, 11, 30, 2, 10)]


def one_token_at_a_time(model, document):
    """Nats of each token but the first, from those before it in its piece of the document."""
    nats = []
    for position in range(1, len(document)):
        start = (position - 1) // (CONTEXT - 1) * (CONTEXT - 1)
        logits = model(document[None, start:position])[0, -1]
        nats.append(-log_softmax(logits)[document[position]])
    return nats


def test_a_document_costs_the_sum_of_its_tokens_however_long_it_is():
    totals, tokens = document_nats(MODEL, DOCUMENTS)
    expected = [one_token_at_a_time(MODEL, document) for document in DOCUMENTS]
    np.testing.assert_allclose(totals, [sum(nats) for nats in expected], rtol=1e-12)
    np.testing.assert_array_equal(tokens, [len(nats) for nats in expected])


def test_the_nats_of_a_model_in_float32_are_summed_in_float64():
    """The sum of float32 log-probabilities is no float32 itself."""
    model = generic_model(MODEL.config, dtype=np.float32)
    totals, tokens = document_nats(model, DOCUMENTS[:1] + DOCUMENTS[3:4], 1)
    assert totals.dtype == np.float64 and tokens.dtype.kind == "i"
    for document, total in zip((DOCUMENTS[0], DOCUMENTS[3]), totals, strict=True):
        log_probabilities = ops.log_softmax(model(document[None, :-1]))[0]  # (T, V) float32
        chosen = [log_probabilities[t, token] for t, token in enumerate(document[1:])]
        assert total == pytest.approx(-math.fsum(map(float, chosen)), rel=3e-7)
        assert total != np.float32(total)


@pytest.mark.parametrize("tokens_per_batch", [1, 13, 40, 10_000])
def test_the_loss_depends_neither_on_batches_nor_on_order(tokens_per_batch):
    totals, tokens = document_nats(MODEL, DOCUMENTS)
    order = np.random.default_rng(1).permutation(len(DOCUMENTS))
    moved = document_nats(MODEL, [DOCUMENTS[i] for i in order], tokens_per_batch)
    np.testing.assert_allclose(moved[0], totals[order], rtol=1e-12)
    np.testing.assert_array_equal(moved[1], tokens[order])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_loss_does_not_depend_on_threads(monkeypatch, threads):
    usual, in_threads = document_nats(MODEL, DOCUMENTS), module.map_in_threads
    monkeypatch.setattr(module, "map_in_threads", lambda function, items: in_threads(function, items, threads))
    np.testing.assert_array_equal(document_nats(MODEL, DOCUMENTS, 2048)[0], usual[0])


def test_batches_hold_as_many_tokens_as_allowed():
    """Twelve pieces in order of length: 2 3 4 5, 7 10, 11 12, 12 12, 12 12."""
    shapes = []

    def hidden_states(token_ids):
        shapes.append(token_ids.shape)
        return MODEL.hidden_states(token_ids)

    spying = SimpleNamespace(config=MODEL.config, hidden_states=hidden_states, predict=MODEL.predict)
    document_nats(spying, DOCUMENTS, 24)
    assert sorted(shapes) == [(2, 10), (2, 12), (2, 12), (2, 12), (4, 5)]


@pytest.mark.parametrize("numbers", [1, 23, 23 * 5, 23 * 24, 23 * 25])
def test_no_more_logits_are_in_memory_than_allowed(monkeypatch, numbers):
    """At least those of one position of a batch. The loss does not depend on how many there are."""
    sizes, shapes = [], []

    def hidden_states(token_ids):
        shapes.append(token_ids.shape)
        return MODEL.hidden_states(token_ids)

    def predict(states):
        sizes.append((states.shape[0] * 23, states.shape[1]))
        return MODEL.predict(states)

    usual = document_nats(MODEL, DOCUMENTS, 24)[0]
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", numbers)
    spying = SimpleNamespace(config=MODEL.config, hidden_states=hidden_states, predict=predict)
    np.testing.assert_allclose(document_nats(spying, DOCUMENTS, 24)[0], usual, rtol=1e-12)
    assert all(length == 1 or row * length <= numbers for row, length in sizes)
    assert sum(row * length for row, length in sizes) == 23 * sum(rows * (length - 1) for rows, length in shapes)
    assert numbers < 23 * 24 or len(sizes) == len(shapes)


def test_the_mean_and_its_error_are_those_of_the_documents():
    assert measure_loss(MODEL, DOCUMENTS) == estimate_loss(*document_nats(MODEL, DOCUMENTS))


def test_a_model_that_knows_nothing_loses_the_logarithm_of_the_vocabulary():
    empty = MODEL.replace(embedding=MODEL.embedding.replace(table=np.zeros((23, 10))), head=None)
    result = measure_loss(empty, DOCUMENTS)
    assert result.nats == pytest.approx(np.log(23))
    assert result.perplexity == pytest.approx(23)
    assert result.tokens == sum(1 for document in DOCUMENTS for _ in pairwise(document))


@pytest.mark.parametrize("documents", [[], [[0]]])
def test_nothing_to_predict(documents):
    with pytest.raises(DataError, match="no token to predict"):
        measure_loss(MODEL, documents)

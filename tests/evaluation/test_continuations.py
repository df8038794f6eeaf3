"""Log-probabilities of continuations are those of whole passes, however the passes are cut and shared."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from tests.strategies import decoder_configs, generators, generic_model
from tinyslm.errors import DataError
from tinyslm.evaluation import continuations as module
from tinyslm.evaluation.continuations import continuation_log_probabilities, encode_pair, score_pairs
from tinyslm.generation import KeyValueCache
from tinyslm.models import DecoderConfig
from tinyslm.ops import Rope

CONTEXT = 12
CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, CONTEXT, ropes=(Rope(100.0, 6),) * 2)
MODEL = generic_model(CONFIG)


def by_definition(model, context, continuation):
    """(sum of log-probabilities, whether each token is the most probable one) by one pass over as much as fits."""
    whole = [*context, *continuation][-model.config.max_position_embeddings - 1 :]
    log_probabilities = log_softmax(model(np.array([whole[:-1]]))[0], axis=-1)[-len(continuation) :]  # (n, V)
    greedy = np.argmax(log_probabilities, axis=-1).tolist() == list(continuation)
    return log_probabilities[np.arange(len(continuation)), continuation].sum(), greedy


def assert_scores(model, pairs):
    found = score_pairs(model, pairs)
    wanted = [by_definition(model, *pair) for pair in pairs]
    np.testing.assert_allclose([score for score, _ in found], [score for score, _ in wanted], rtol=1e-9)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in wanted]
    assert all(type(score) is float and type(greedy) is bool for score, greedy in found)


@given(decoder_configs(max_position_embeddings=CONTEXT), generators())
def test_pairs_score_as_in_one_pass(config, rng):
    """Contexts that fit and that do not, with equal beginnings or none, for every kind of model."""
    model = generic_model(config)
    beginning, pairs = rng.integers(0, config.vocab_size, 3).tolist(), []
    for _ in range(3):
        context = beginning + rng.integers(0, config.vocab_size, rng.integers(1, 14)).tolist()
        for _ in range(2):
            pairs.append((context, rng.integers(0, config.vocab_size, rng.integers(1, 7)).tolist()))
    assert_scores(model, pairs)


@pytest.mark.parametrize(("rows", "cached"), [(1, 10**9), (4, 10**9), (10**9, 1), (3, 20)])
def test_pairs_score_as_in_one_pass_however_they_are_cut(monkeypatch, rows, cached):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(module, "CACHED_AT_ONCE", cached)
    monkeypatch.setattr(module, "PROMPT_CHUNK", 2)
    rng = np.random.default_rng(0)
    context = rng.integers(0, 23, 5).tolist()
    assert_scores(MODEL, [(context, rng.integers(0, 23, n).tolist()) for n in (1, 7, 3, 8, 2)])


@pytest.mark.parametrize("scaling", ["longrope", "dynamic"])
@pytest.mark.parametrize("lengths", [(1, 2, 3), (1, 5, 9), (7, 7), (6, 6)])
def test_rotations_that_depend_on_the_length_of_a_text(scaling, lengths):
    """Below 8 inputs, around them and above: contexts of three and four tokens, and continuations of these lengths."""
    factors = {"short_factors": (1.0, 1.5, 2.0), "long_factors": (2.0, 3.0, 5.0)} if scaling == "longrope" else {}
    rope = Rope(100.0, 6, scaling, factor=3.0, original_length=8, **factors)
    model = generic_model(replace(CONFIG, ropes=(rope,) * 2))
    rng = np.random.default_rng(0)
    assert_scores(
        model, [(context, rng.integers(0, 23, n).tolist()) for context in ([1, 2, 3], [1, 2, 3, 4]) for n in lengths]
    )


def test_greedy_continuations_are_known():
    context, greedy = [1, 2], []
    for _ in range(6):
        greedy.append(int(np.argmax(MODEL(np.array([context + greedy]))[0, -1])))
    others = [(token + 1) % 23 for token in greedy]
    continuations = [greedy, greedy[:1], greedy[:3], others[:1], [*greedy[:5], others[5]], [others[0], *greedy[1:]]]
    _, is_greedy = continuation_log_probabilities(MODEL, context, continuations)
    assert is_greedy.tolist() == [True, True, True, False, False, False]


class Watched:
    """MODEL, with a list of the token ids that it read."""

    config, predict = CONFIG, MODEL.predict

    def __init__(self):
        self.read = []

    def hidden_states(self, token_ids, **options):
        self.read.append(token_ids.tolist())
        return MODEL.hidden_states(token_ids, **options)


def test_a_common_beginning_is_read_once():
    """Without the last token of any context, whose logits are needed. A context that is cut shares nothing."""
    model = Watched()
    score_pairs(model, [([1, 2, 3], [4]), ([1, 2, 3], [5]), ([1, 2, 3, 6], [7]), ([1, 2, 9, 8], [7])])
    assert sorted(model.read) == [[[1, 2]], [[3]], [[3, 6]], [[9, 8]]]
    model.read.clear()
    score_pairs(model, [([1, 2, 3], [4]), ([1, 2, 3, *range(9)], [5, 6]), ([1, 2], [7])])
    assert sorted(model.read) == sorted([[[1]], [[2, 3]], [[2, 3, *range(9)]], [[5]], [[2]]])
    model.read.clear()
    score_pairs(model, [([1, 2, 3], [4])])
    assert model.read == [[[1, 2, 3]]]


def test_progress_counts_contexts():
    calls = []
    score_pairs(MODEL, [([1], [2]), ([1], [3]), ([4], [2]), ([1], [2])], lambda: calls.append(1))
    assert len(calls) == 3


def test_a_continuation_longer_than_the_context_of_the_model():
    assert_scores(MODEL, [([1, 2], list(range(CONTEXT)))])
    with pytest.raises(DataError, match="continuation of 13 tokens does not fit in the model's context of 12"):
        score_pairs(MODEL, [([1, 2], list(range(CONTEXT + 1)))])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_logits_that_are_not_finite_are_refused():
    broken = generic_model(CONFIG)
    broken.layers[1].attention.query.weight[0, 0] = np.nan
    with pytest.raises(DataError, match=r"tensor .* holds nan or infinity"):
        score_pairs(broken, [([1, 2], [3])])


class Characters:
    """A tokenizer whose tokens are characters; "th" is one token, and so is a space with the letter after it."""

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        ids, rest = [], text
        while rest:
            size = 2 if rest[:2] == "th" or (rest[0] == " " and len(rest) > 1) else 1
            ids.append(ord(rest[0]) + (1000 * ord(rest[1]) if size == 2 else 0))
            rest = rest[size:]
        return SimpleNamespace(ids=ids)


def codes(text):
    return Characters().encode(text, False).ids


@pytest.mark.parametrize(
    ("context", "continuation", "read", "scored"),
    [
        ("ab", " c", "ab", codes(" c")),
        ("ab ", "c", "ab", codes(" c")),
        ("ab  ", "c", "ab", codes("  c")),
        ("at", "h", "at", []),  # the token of "th" takes the place of "t"
        ("at", "ho", "at", codes("o")),
        ("", "c", "", codes("c")),
        ("  ", "c", "", codes("  c")),
    ],
)
@pytest.mark.parametrize("begin", [(), (7,), (7, 8)])
def test_tokens_at_the_border_are_those_of_the_whole_text(begin, context, continuation, read, scored):
    found = encode_pair(Characters(), begin, context, continuation)
    assert found == ([*begin, *codes(read)], scored)


def test_a_text_that_begins_as_texts_begin_is_left_as_it_is():
    assert encode_pair(Characters(), (ord("<"),), "<ab", " c") == (codes("<ab"), codes(" c"))
    with pytest.raises(DataError, match=r"outside the vocabulary of 99"):
        encode_pair(Characters(), (), "ab", "z", 99)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 3))
def test_a_repeated_cache_can_have_another_capacity(length, capacity, times):
    cache = KeyValueCache(9)
    cache.extend(0, *np.random.default_rng(0).standard_normal((2, 2, length, 2, 3)))
    cache.advance(length)
    larger = cache.repeat(times, length + capacity)
    assert (larger.length, larger.capacity, cache.repeat(times).capacity) == (length, length + capacity, 9)
    rows = np.repeat(np.arange(2), times)
    np.testing.assert_array_equal(larger.keys[0][..., :length], cache.keys[0][rows, ..., :length])
    np.testing.assert_array_equal(larger.values[0][:, :, :length], cache.values[0][rows, :, :length])
    assert larger.values[0].shape == (2 * times, 2, length + capacity, 3)

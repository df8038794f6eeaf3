"""The whole encoder, for any combination of its choices: who sees whom, padding, gradients, dtypes and bad input."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import encoder_configs, generic_model, seeds
from tinyslm.autodiff import value_and_grad
from tinyslm.errors import ConfigError, DataError
from tinyslm.models import EncoderConfig, masked_token_loss, random_model, sentence_embeddings, shape_model
from tinyslm.ops import IGNORED, Rope, cross_entropy
from tinyslm.tree import map_parameters, named_arrays

CONFIG = EncoderConfig("test", 23, 10, 14, 2, 3, 4, 20, type_vocab_size=3, norm_eps=1e-2, pooler=True)
dtypes = st.sampled_from([np.float32, np.float64])


def tokens(seed, B, T, V=23):
    return np.random.default_rng(seed).integers(0, V, (B, T))


def types(config, seed, B, T):
    """Token types where the model has them."""
    return {} if config.type_vocab_size is None else {"token_type_ids": tokens(seed + 1, B, T, config.type_vocab_size)}


@given(encoder_configs(windows=()), seeds, st.integers(0, 7))
def test_every_token_sees_every_other_one(config, seed, t):
    """To the left and to the right."""
    model, token_ids = generic_model(config, seed), tokens(seed, 2, 8)
    changed = token_ids.copy()
    changed[:, t] = (changed[:, t] + 1) % 23
    assert (np.abs(model.hidden_states(token_ids) - model.hidden_states(changed)).max(axis=-1) > 1e-12).all()


@given(encoder_configs(), seeds, st.integers(1, 5))
def test_padding_changes_nothing_at_real_tokens(config, seed, right):
    """On the right, whatever the padding tokens and their types are."""
    model, token_ids, further = generic_model(config, seed), tokens(seed, 2, 7), types(config, seed, 2, 7)
    padded = np.concatenate([token_ids, tokens(seed + 2, 2, right)], axis=1)
    mask = np.arange(7 + right)[None] < np.array([[7], [7]])
    longer = {name: np.concatenate([ids, tokens(seed + 3, 2, right, 3)], axis=1) for name, ids in further.items()}
    found = model(padded, mask, **longer)
    np.testing.assert_allclose(found[:, :7], model(token_ids, **further), rtol=1e-9, atol=1e-9)
    states, shorter = model.hidden_states(padded, mask, **longer), model.hidden_states(token_ids, **further)
    np.testing.assert_allclose(sentence_embeddings(states, mask), sentence_embeddings(shorter), atol=1e-10)


@given(encoder_configs(), seeds)
def test_what_stands_in_padding_on_the_left_changes_nothing(config, seed):
    """Positions count from the left, padding or not: only the padding's own content is without effect."""
    model, token_ids = generic_model(config, seed), tokens(seed, 2, 9)
    mask = np.array([[1] * 9, [0] * 3 + [1] * 6])
    other = np.where(mask, token_ids, (token_ids + 1) % 23)
    found, wanted = model(other, mask), model(token_ids, mask)
    np.testing.assert_allclose(found[mask == 1], wanted[mask == 1], rtol=1e-9, atol=1e-9)
    shifted = model(token_ids[1:, 3:])
    if config.learned_positions:
        assert np.abs(wanted[1, 3:] - shifted[0]).max() > 1e-6
    else:  # only distances matter; the rotary angles are float32
        np.testing.assert_allclose(wanted[1, 3:], shifted[0], rtol=1e-5, atol=1e-5)


PADDING = 4
counted = encoder_configs(padding_idx=PADDING, learned_positions=True, max_position_embeddings=9)


@given(counted, seeds, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_positions_that_count_no_padding(config, seed, T, left, right):
    """Padding on the left, on the right and inside changes only the slots of tokens, which learned positions ignore."""
    model = generic_model(replace(config, relative_attention_num_buckets=0, ropes=(), windows=()), seed)
    token_ids = tokens(seed, 1, T)
    token_ids[token_ids == PADDING] = PADDING + 1
    padded = np.pad(np.insert(token_ids, T // 2, PADDING, axis=1), [(0, 0), (left, right)], constant_values=PADDING)
    real = padded != PADDING
    found, wanted = model(padded, real.astype(int)), model(token_ids)
    np.testing.assert_allclose(found[real][None], wanted, rtol=1e-9, atol=1e-9)


@given(counted, seeds)
def test_the_token_decides_whether_it_has_a_position_and_not_the_mask(config, seed):
    """As in transformers. The first position is the row behind the padding token's."""
    model = generic_model(config, seed)
    assert len(model.position_embedding.table) == PADDING + 1 + 9
    token_ids = np.array([[1, 2, PADDING, PADDING, 3], [0, 0, 7, 8, 9]])
    wanted = [[5, 6, 4, 4, 7], [5, 6, 7, 8, 9]]
    np.testing.assert_array_equal(model._position_ids(token_ids), wanted)
    mask = np.array([[1] * 5, [0, 0, 1, 1, 1]])
    seen = {}
    model(token_ids, mask, observe=seen.__setitem__)
    embedded = model.embedding(token_ids) + model.position_embedding.table[wanted]  # (B, T, C)
    if config.type_vocab_size is not None:
        embedded = embedded + model.token_type_embedding.table[0]
    np.testing.assert_allclose(seen["hidden_states.0"], model.embedding_norm(embedded), rtol=1e-12)


def test_padding_does_not_count_for_the_longest_sequence():
    config = replace(CONFIG, padding_idx=PADDING, max_position_embeddings=3)
    model = random_model(config)
    assert model([[PADDING, 1, 2, PADDING, 3]], [[0, 1, 1, 0, 1]]).shape == (1, 5, 23)
    with pytest.raises(DataError, match="a sequence of 4 tokens is longer than the model's context of 3; shorten"):
        model([[PADDING, 1, 2, 5, 3], [1, 1, 1, PADDING, PADDING]])


@given(encoder_configs(), seeds)
def test_rows_of_a_batch_do_not_meet(config, seed):
    model, token_ids, further = generic_model(config, seed), tokens(seed, 3, 6), types(config, seed, 3, 6)
    together = model(token_ids, **further)
    for row in range(3):
        alone = model(token_ids[row : row + 1], **{name: ids[row : row + 1] for name, ids in further.items()})
        np.testing.assert_allclose(together[row : row + 1], alone, rtol=1e-9, atol=1e-9)


@given(encoder_configs(), seeds, dtypes)
def test_intermediates_have_the_documented_shapes_and_dtype(config, seed, dtype):
    B, T, C, D, H = 2, 9, config.hidden_size, config.head_dim, config.num_attention_heads
    seen = {}
    model = generic_model(config, seed, dtype)
    output = model(tokens(seed, B, T), observe=seen.__setitem__)
    expected = {f"hidden_states.{i}": (B, T, C) for i in range(config.num_hidden_layers + 1)}
    for i in range(config.num_hidden_layers):
        expected |= {f"layers.{i}.attention.{name}": (B, T, H, D) for name in ("queries", "keys", "values")}
        expected[f"layers.{i}.attention.probabilities"] = (B, H, T, T)
        expected |= {
            f"layers.{i}.{part}.{name}": (B, T, C)
            for part in ("attention", "feed_forward")
            for name in ("input", "output")
        }
        expected[f"layers.{i}.attention.mixed"] = (B, T, H * D)
        expected[f"layers.{i}.feed_forward.neurons"] = (B, T, config.intermediate_size)
    if config.masked_head:
        expected["logits"] = (B, T, config.vocab_size)
    assert {name: value.shape for name, value in seen.items()} == expected
    assert {value.dtype for value in seen.values()} == {np.dtype(dtype)}
    np.testing.assert_array_equal(output, list(seen.values())[-1])
    np.testing.assert_array_equal(output, model(tokens(seed, B, T)))  # without an observer


@given(encoder_configs(masked_head=True), seeds, dtypes)
def test_dtype_in_is_dtype_out(config, seed, dtype):
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2])
    for model in (random_model(config, seed, dtype), generic_model(config, seed, dtype)):
        assert {array.dtype for array in named_arrays(model).values()} == {np.dtype(dtype)}
        states = model.hidden_states(tokens(seed, 2, 6), mask)
        assert states.dtype == dtype and sentence_embeddings(states, mask).dtype == dtype
        if config.pooler:
            assert model.pooled(states).dtype == dtype
        loss, gradients = value_and_grad(masked_token_loss)(model, tokens(seed, 2, 6), tokens(seed, 2, 6))
        assert loss.dtype == dtype
        assert {array.dtype for array in named_arrays(gradients).values()} == {np.dtype(dtype)}


def test_without_token_types_all_are_of_the_first_type():
    model, token_ids = generic_model(CONFIG), tokens(0, 2, 6)
    np.testing.assert_array_equal(model(token_ids), model(token_ids, token_type_ids=np.zeros((2, 6), int)))


@given(encoder_configs())
def test_shapes_without_numbers(config):
    wanted = {path: array.shape for path, array in named_arrays(random_model(config)).items()}
    assert {path: array.shape for path, array in named_arrays(shape_model(config)).items()} == wanted


def slopes(model, loss, direction):
    """Slope of the loss along a direction {path: array}: (<gradients, direction>, finite difference, fourth order)."""
    _, gradients = value_and_grad(loss)(model)
    slope = sum(np.sum(gradient * direction[path]) for path, gradient in named_arrays(gradients).items())

    def difference(step):
        up, down = (
            loss(map_parameters(lambda path, array, s=sign: array + s * step * direction[path], model))
            for sign in (1, -1)
        )
        return (up - down) / (2 * step)

    return slope, (4 * difference(1e-5) - difference(2e-5)) / 3


def batch_loss(config, seed):
    """The loss of a batch as a function of the model: masked tokens, or a direction of pooled states and states."""
    rng, mask = np.random.default_rng(seed), np.ones((2, 8), int)
    mask[1, 6:] = 0
    token_ids, further = tokens(seed, 2, 8), {"attention_mask": mask, **types(config, seed, 2, 8)}
    labels = np.where((rng.random((2, 8)) < 0.4) & (mask == 1), tokens(seed + 5, 2, 8), IGNORED)
    labels[0, 3] = 4

    def loss(model):
        if config.masked_head:
            return masked_token_loss(model, token_ids, labels, **further)
        states = model.hidden_states(token_ids, **further)  # (B, T, C)
        scores = model.pooled(states) if config.pooler else states[:, 2]  # (B, C)
        return cross_entropy(scores, np.array([1, 4]))

    return loss


@given(encoder_configs(), seeds)
def test_whole_model_gradient(config, seed):
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    direction = {path: rng.standard_normal(array.shape) for path, array in named_arrays(model).items()}
    slope, difference = slopes(model, batch_loss(config, seed), direction)
    assert slope == pytest.approx(difference, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("path", list(named_arrays(generic_model(CONFIG))))
def test_every_array_alone(path):
    """Those of the pooler have no part in the loss of masked tokens, and a gradient of zero."""
    model = generic_model(CONFIG)
    arrays = named_arrays(model)
    direction = dict.fromkeys(arrays, 0.0) | {path: np.random.default_rng(2).standard_normal(arrays[path].shape)}
    slope, difference = slopes(model, batch_loss(CONFIG, 0), direction)
    assert slope == pytest.approx(difference, rel=1e-6, abs=1e-9)
    if not path.endswith("key.bias"):  # which adds the same to all scores of a query
        assert bool(slope) is not path.startswith("pooler")


class TestMaskedTokenLoss:
    model = generic_model(CONFIG)
    token_ids, labels = tokens(5, 2, 8), tokens(6, 2, 8)

    def test_position_t_predicts_its_own_label(self):
        expected = cross_entropy(self.model(self.token_ids), self.labels)
        assert masked_token_loss(self.model, self.token_ids, self.labels.tolist()) == expected

    def test_it_is_a_mean_over_predicted_tokens(self):
        labels = np.full((2, 8), IGNORED)
        labels[0, 2], labels[1, 5], labels[1, 7] = 3, 9, 1
        logits = self.model(self.token_ids)
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        expected = -(log_p[0, 2, 3] + log_p[1, 5, 9] + log_p[1, 7, 1]) / 3
        assert masked_token_loss(self.model, self.token_ids, labels) == pytest.approx(expected, rel=1e-9)

    def test_further_inputs_reach_the_model(self):
        further = {"attention_mask": np.array([[1] * 8, [1] * 5 + [0] * 3]), "token_type_ids": tokens(7, 2, 8, 3)}
        expected = cross_entropy(self.model(self.token_ids, **further), self.labels)
        assert masked_token_loss(self.model, self.token_ids, self.labels, **further) == expected


@given(st.integers(1, 4), st.integers(1, 6), seeds)
def test_sentence_embeddings_by_hand(B, T, seed):
    rng = np.random.default_rng(seed)
    states = rng.standard_normal((B, T, 5))
    mask = rng.integers(0, 2, (B, T))
    mask[:, 0] = 1
    means = [
        np.mean([state for state, real in zip(*row, strict=True) if real], axis=0)
        for row in zip(states, mask, strict=True)
    ]
    wanted = [mean / np.sqrt(mean @ mean) for mean in means]
    np.testing.assert_allclose(sentence_embeddings(states, mask), wanted, atol=1e-12)
    np.testing.assert_allclose(sentence_embeddings(states), sentence_embeddings(states, np.ones((B, T))), atol=1e-12)


@given(st.integers(1, 4), st.integers(1, 6), seeds)
def test_the_first_token_and_vectors_that_are_not_normalized(B, T, seed):
    """Padding on the left or between the tokens is not the first token."""
    rng = np.random.default_rng(seed)
    states, mask = rng.standard_normal((B, T, 5)), rng.integers(0, 2, (B, T))
    mask[:, -1] = 1
    first = [next(state for state, real in zip(*row, strict=True) if real) for row in zip(states, mask, strict=True)]
    np.testing.assert_array_equal(sentence_embeddings(states, mask, "cls", normalize=False), first)
    np.testing.assert_array_equal(sentence_embeddings(states, pooling="cls", normalize=False), states[:, 0])
    for pooling in ("mean", "cls", "max"):
        vectors = sentence_embeddings(states, mask, pooling, normalize=False)
        unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        np.testing.assert_array_equal(sentence_embeddings(states, mask, pooling), unit)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ConfigError, match="pooling is 'last', expected one of mean, cls, max"):
        sentence_embeddings(np.ones((1, 2, 3)), pooling="last")


@given(st.integers(1, 4), st.integers(1, 6), seeds, st.sampled_from([np.float32, np.float64]))
def test_the_maximum_of_each_channel_over_the_tokens(B, T, seed, dtype):
    """Padding counts for nothing, whatever its states are. All states can be negative."""
    rng = np.random.default_rng(seed)
    states, mask = rng.standard_normal((B, T, 5)).astype(dtype) - 2, rng.integers(0, 2, (B, T))
    mask[:, -1] = 1
    wanted = [row[real != 0].max(axis=0) for row, real in zip(states, mask, strict=True)]
    states[mask == 0] = np.nan
    found = sentence_embeddings(states, mask, "max", normalize=False)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == dtype


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_a_text_without_tokens_has_a_finite_embedding(pooling):
    states = np.ones((2, 3, 4), np.float32)
    with np.errstate(all="raise"):
        found = sentence_embeddings(states, [[0, 0, 0], [1, 0, 0]], pooling)
        np.testing.assert_array_equal(found, [[0] * 4, [0.5] * 4])


@given(seeds, st.sampled_from([np.float32, np.float64]))
def test_sentence_embeddings_to_the_last_bit(seed, dtype):
    """Sums of small integers are exact. The mean is rounded once, before its norm is computed."""
    rng = np.random.default_rng(seed)
    states, mask = rng.integers(-9, 10, (40, 7, 5)).astype(dtype), rng.integers(0, 2, (40, 7))
    mask[:, 0] = 1
    means = np.sum(states * mask[..., None], axis=1) / mask.sum(axis=1, keepdims=True)
    means = means.astype(dtype)
    wanted = means / np.linalg.norm(means, axis=-1, keepdims=True)
    for form in (mask, mask.astype(bool), mask.astype(np.float64), mask.tolist()):
        found = sentence_embeddings(states, form)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(sentence_embeddings(np.array([[[3, 4]]], dtype).tolist()), [[0.6, 0.8]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_norm_that_underflows_is_replaced_by_the_smallest_normal_number(dtype):
    tiny = np.finfo(dtype).tiny
    np.testing.assert_array_equal(sentence_embeddings(np.array([[[tiny, 0, -tiny]]], dtype)), [[1, 0, -1]])


@pytest.mark.parametrize("states", [np.ones((2, 3)), np.ones((1, 2, 3, 4)), np.ones((2, 3, 4), int), [[["a"]]]])
def test_states_of_another_kind_are_refused(states):
    with pytest.raises(DataError, match=r"states must be \(B, T, C\) floating-point numbers"):
        sentence_embeddings(states)


def test_lists_are_accepted_and_types_at_both_ends():
    model, token_ids = generic_model(CONFIG), tokens(0, 2, 3)
    types = np.array([[0, 2, 1], [2, 0, 0]])
    wanted = model(token_ids, np.ones((2, 3), int), token_type_ids=types)
    found = model(token_ids.tolist(), [[1] * 3] * 2, token_type_ids=types.tolist())
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(model(token_ids, token_type_ids=types.astype(np.uint8)), wanted)


@given(encoder_configs(), seeds)
def test_the_pooled_output_is_that_of_the_first_token(config, seed):
    model, token_ids = generic_model(config, seed), tokens(seed, 2, 5)
    assert model.tied_head is (config.masked_head and config.tie_word_embeddings)
    if config.pooler:
        states = model.hidden_states(token_ids)
        wanted = np.tanh(states[:, 0] @ model.pooler.weight.T + model.pooler.bias)
        np.testing.assert_allclose(model.pooled(states), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("token_ids", "options", "message"),
    [
        ([[1, 23]], {}, r"token id 23 is outside the vocabulary of 23"),
        ([1, 2], {}, r"must be \(B, T\) integers, found int64\(2,\)"),
        (np.zeros((2, 0), int), {}, r"empty"),
        ([[1] * 21], {}, r"a sequence of 21 tokens is longer than the model's context of 20"),
        ([[1, 2]], {"attention_mask": [[1, 1, 1]]}, r"attention_mask is \(1, 3\), expected \(1, 2\)"),
        ([[1, 2]], {"token_type_ids": [[0, 3]]}, r"token_type_ids must be 0 to 2"),
        ([[1, 2]], {"token_type_ids": [[0, -1]]}, r"token_type_ids must be 0 to 2"),
        ([[1, 2]], {"token_type_ids": [[-1, 3]]}, r"token_type_ids must be 0 to 2"),
        ([[1, 2]], {"token_type_ids": [[0, 1, 1]]}, r"token_type_ids are int64\(1, 3\), expected \(1, 2\) integers"),
        ([[1, 2]], {"token_type_ids": [[0.0, 1.0]]}, r"token_type_ids are float64\(1, 2\), expected \(1, 2\) integers"),
    ],
)
def test_bad_input_is_named(token_ids, options, message):
    with pytest.raises(DataError, match=message):
        random_model(CONFIG)(token_ids, **options)


def test_what_an_encoder_has_not_is_named():
    config = EncoderConfig("bert", 23, 10, 14, 2, 3, 4, 20, masked_head=False)
    model = random_model(config)
    states = model(tokens(0, 1, 3))
    with pytest.raises(ConfigError, match="this bert model has no masked head"):
        model.predict(states)
    with pytest.raises(ConfigError, match="this bert model has no pooler"):
        model.pooled(states)
    with pytest.raises(DataError, match="token_type_ids are given, but this bert model has no token types"):
        model(tokens(0, 1, 3), token_type_ids=[[0, 0, 0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0, expected an integer from 1 to"),
        ({"head_dim": None}, "head_dim is None"),
        ({"activation": "swish"}, "activation 'swish' is not one of silu, "),
        ({"type_vocab_size": 0}, "type_vocab_size is 0, expected an integer from 1 to"),
        ({"padding_idx": -1}, "padding_idx is -1, expected an integer from 0 to"),
        ({"relative_attention_num_buckets": 3}, "relative_attention_num_buckets is 3, expected an integer from 4"),
        ({"relative_attention_num_buckets": None}, "relative_attention_num_buckets is None, expected"),
        ({"relative_attention_max_distance": 0}, "relative_attention_max_distance is 0"),
        ({"windows": (3,)}, "windows has 1 entries for 2 layers"),
        ({"windows": (3, 0)}, "a window of 0 tokens, expected an integer from 1"),
        ({"ropes": (Rope(1e4, 6), None)}, "rope rotates 6 dimensions, expected an even number up to head_dim 4"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ConfigError, match=f"configuration of a test model: {message}"):
        replace(CONFIG, **changes)


def test_another_number_of_layers_needs_no_other_settings_without_windows_and_rotation():
    longer = replace(CONFIG, num_hidden_layers=5)
    assert longer.ropes == longer.windows == (None,) * 5
    with pytest.raises(ConfigError, match="windows has 2 entries for 5 layers"):
        replace(replace(CONFIG, windows=(None, 3)), num_hidden_layers=5)

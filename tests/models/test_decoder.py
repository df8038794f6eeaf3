"""The whole decoder, for any combination of its choices: who sees whom, padding, shapes, dtypes and bad input."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import decoder_configs, generic_model, seeds
from tinyslm.autodiff import value_and_grad
from tinyslm.errors import DataError
from tinyslm.models import DecoderConfig, next_token_loss, random_model, shape_model
from tinyslm.ops import IGNORED, Rope, choose_experts, cross_entropy
from tinyslm.tree import named_arrays

dtypes = st.sampled_from([np.float32, np.float64])
CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, max_position_embeddings=20, ropes=(Rope(100.0, 6),) * 2)
MODEL = generic_model(CONFIG)


def tokens(seed, B, T, V=23):
    return np.random.default_rng(seed).integers(0, V, (B, T))


@given(decoder_configs(num_experts=0, experts_per_token=0), seeds, st.integers(0, 11), dtypes)
def test_a_token_changes_nothing_before_it(config, seed, t, dtype):
    """Bit for bit, and it does change its own position."""
    model, token_ids = generic_model(config, seed, dtype), tokens(seed, 2, 12)
    changed = token_ids.copy()
    changed[:, t] = (changed[:, t] + 1) % 23
    before, after = model(token_ids), model(changed)
    np.testing.assert_array_equal(before[:, :t], after[:, :t])
    assert (before[:, t] != after[:, t]).any()


@given(decoder_configs(num_experts=3, experts_per_token=2), seeds, st.integers(0, 11))
def test_a_token_changes_nothing_before_it_with_experts(config, seed, t):
    """Not bit for bit: an expert may multiply another number of rows together, and BLAS rounds that differently."""
    model, token_ids = generic_model(config, seed), tokens(seed, 2, 12)
    changed = token_ids.copy()
    changed[:, t] = (changed[:, t] + 1) % 23
    np.testing.assert_allclose(model(token_ids)[:, :t], model(changed)[:, :t], rtol=1e-9, atol=1e-9)


@given(decoder_configs(), seeds, st.integers(0, 4), st.integers(0, 4))
def test_padding_changes_nothing_at_real_tokens(config, seed, left, right):
    """On either side, whatever the padding tokens are; positions, windows and longrope count real tokens."""
    model, token_ids = generic_model(config, seed), tokens(seed, 2, 7)
    padded = tokens(seed + 1, 2, left + 7 + right)
    padded[:, left : left + 7] = token_ids
    mask = np.zeros(padded.shape, int)
    mask[:, left : left + 7] = 1
    # the last bit of cos and sin (float32) may depend on the length of the array
    np.testing.assert_allclose(model(padded, mask)[:, left : left + 7], model(token_ids), rtol=1e-5, atol=1e-5)


@given(decoder_configs(), seeds)
def test_rows_of_a_batch_do_not_meet(config, seed):
    model, token_ids = generic_model(config, seed), tokens(seed, 3, 6)
    together = model(token_ids)
    for row in range(3):
        np.testing.assert_allclose(together[row : row + 1], model(token_ids[row : row + 1]), rtol=1e-9, atol=1e-9)


@given(decoder_configs(), seeds)
def test_a_window_hides_what_is_far(config, seed):
    """With windows of W in L layers, a logit depends on the last L (W - 1) + 1 tokens only (Beltagy et al. 2020)."""
    model = generic_model(config, seed)
    for layer in model.layers:
        layer.attention.window = 3
    reach = 2 * len(model.layers)
    token_ids = tokens(seed, 1, 12)
    changed = token_ids.copy()
    changed[:, 2] = (changed[:, 2] + 1) % 23
    moved = np.abs(model(token_ids) - model(changed)).max(axis=(0, 2)) > 1e-9  # (T,)
    assert not moved[2 + reach + 1 :].any()


@given(decoder_configs(), seeds, dtypes)
def test_intermediates_have_the_documented_shapes_and_dtype(config, seed, dtype):
    B, T = 2, 9
    C, D, V = config.hidden_size, config.head_dim, config.vocab_size
    H, G, E = config.num_attention_heads, config.num_key_value_heads, config.num_experts
    seen = {}
    logits = generic_model(config, seed, dtype)(tokens(seed, B, T), observe=seen.__setitem__)
    expected = {f"hidden_states.{i}": (B, T, C) for i in range(config.num_hidden_layers + 1)} | {"logits": (B, T, V)}
    for i in range(config.num_hidden_layers):
        expected |= {
            f"layers.{i}.attention.input": (B, T, C),
            f"layers.{i}.attention.queries": (B, T, H, D),
            f"layers.{i}.attention.keys": (B, T, G, D),
            f"layers.{i}.attention.values": (B, T, G, D),
            f"layers.{i}.attention.probabilities": (B, H, T, T),
            f"layers.{i}.attention.mixed": (B, T, H * D),
            f"layers.{i}.attention.output": (B, T, C),
            f"layers.{i}.feed_forward.input": (B, T, C),
            f"layers.{i}.feed_forward.output": (B, T, C),
        }
        if config.has_experts(i):
            F = config.expert_intermediate_size or config.intermediate_size
            expected[f"layers.{i}.feed_forward.router_logits"] = (B * T, E)
            chosen = choose_experts(seen[f"layers.{i}.feed_forward.router_logits"], config.experts_per_token)
            for e in range(E):
                tokens_of_expert = np.count_nonzero(chosen == e)
                expected[f"layers.{i}.feed_forward.experts.{e}.input"] = (tokens_of_expert, C)
                expected[f"layers.{i}.feed_forward.experts.{e}.neurons"] = (tokens_of_expert, F)
        else:
            expected[f"layers.{i}.feed_forward.neurons"] = (B, T, config.intermediate_size)
    assert {name: value.shape for name, value in seen.items()} == expected
    assert {value.dtype for value in seen.values()} == {np.dtype(dtype)}
    np.testing.assert_array_equal(seen["logits"], logits)


@given(decoder_configs(logit_softcap=None, logits_scaling=1.0, head_bias=False), seeds)
def test_the_last_hidden_state_is_what_the_head_reads(config, seed):
    """It is taken after the final norm, as transformers counts hidden states."""
    model, seen = generic_model(config, seed), {}
    logits = model(tokens(seed, 2, 6), observe=seen.__setitem__)
    last = seen[f"hidden_states.{config.num_hidden_layers}"]
    head = model.embedding.table if model.head is None else model.head.weight
    np.testing.assert_allclose(last @ head.T, logits, rtol=1e-9, atol=1e-9)


@given(decoder_configs(), seeds)
def test_observing_changes_nothing(config, seed):
    model, token_ids = generic_model(config, seed), tokens(seed, 2, 6)
    np.testing.assert_array_equal(model(token_ids, observe=lambda name, value: None), model(token_ids))


@given(decoder_configs(), seeds, dtypes)
def test_dtype_in_is_dtype_out(config, seed, dtype):
    """Logits, loss and every gradient have the dtype of the weights, for both kinds of initial weights."""
    for model in (random_model(config, seed, dtype), generic_model(config, seed, dtype)):
        assert {array.dtype for array in named_arrays(model).values()} == {np.dtype(dtype)}
        mask = np.array([[1] * 6, [1] * 4 + [0] * 2])
        assert model(tokens(seed, 2, 6), mask).dtype == dtype
        loss, gradients = value_and_grad(next_token_loss)(model, tokens(seed, 2, 6))
        assert loss.dtype == dtype
        assert {array.dtype for array in named_arrays(gradients).values()} == {np.dtype(dtype)}


@given(decoder_configs(), seeds)
def test_float32_is_close_to_float64(config, seed):
    """The same weights in both precisions agree to about what float32 can do after three layers."""
    token_ids = tokens(seed, 2, 9)
    narrow, wide = (random_model(config, seed, dtype, deviation=0.3)(token_ids) for dtype in (np.float32, np.float64))
    np.testing.assert_allclose(narrow, wide, rtol=1e-3, atol=2e-4)


@given(decoder_configs(), seeds)
def test_last_only_is_the_last_position(config, seed):
    model, token_ids = generic_model(config, seed), tokens(seed, 2, 6)
    last = model(token_ids, last_only=True)
    assert last.shape == (2, 1, 23)
    np.testing.assert_allclose(last, model(token_ids)[:, -1:], rtol=1e-9, atol=1e-9)


def test_last_only_can_be_differentiated():
    """The gradient reaches the embedding: the cut is an operation like any other."""
    model, token_ids = generic_model(CONFIG), tokens(0, 2, 6)
    label = np.array([[3], [5]])
    ignored = np.concatenate([np.full((2, 5), IGNORED), label], axis=1)
    last = value_and_grad(lambda model: cross_entropy(model(token_ids, last_only=True), label))(model)
    whole = value_and_grad(lambda model: cross_entropy(model(token_ids), ignored))(model)
    assert last[0] == pytest.approx(whole[0], rel=1e-12)
    np.testing.assert_allclose(last[1].embedding.table, whole[1].embedding.table, atol=1e-12)


def test_given_positions_replace_counted_ones():
    """With learned positions the third row of the table is added, not the first."""
    config = DecoderConfig("test", 23, 10, 14, 1, 2, 1, 6, 20, learned_positions=True)
    model, seen = generic_model(config), {}
    model(np.array([[4]]), position_ids=np.array([2]), observe=seen.__setitem__)
    np.testing.assert_array_equal(
        seen["hidden_states.0"][0, 0], model.embedding.table[4] + model.position_embedding.table[2]
    )


def test_a_new_model_knows_nothing():
    """random_model starts with logits of variance 1, hence at log V + 1/2; its residual weights shrink with depth."""
    config = DecoderConfig("test", 64, 32, 64, 8, 4, 2, 8, 128, ropes=(Rope(100.0, 8),) * 8)
    model = random_model(config, seed=0)
    assert next_token_loss(model, tokens(0, 4, 60, 64)) == pytest.approx(np.log(64) + 0.5, abs=0.1)
    first = model.layers[0]
    assert first.feed_forward.up.weight.std() == pytest.approx(32**-0.5, rel=0.1)
    assert first.feed_forward.down.weight.std() == pytest.approx(32**-0.5 / 4, rel=0.1)
    np.testing.assert_array_equal(random_model(config, seed=0).norm.weight, model.norm.weight)


@given(decoder_configs())
def test_shapes_without_numbers(config):
    """shape_model has the shapes of the real model."""
    wanted = {path: array.shape for path, array in named_arrays(random_model(config)).items()}
    assert {path: array.shape for path, array in named_arrays(shape_model(config)).items()} == wanted


class TestNextTokenLoss:
    model = generic_model(CONFIG)
    token_ids = tokens(5, 2, 8)

    def test_position_t_predicts_token_t_plus_one(self):
        shifted = np.pad(self.token_ids[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORED)
        expected = cross_entropy(self.model(self.token_ids), shifted)
        assert next_token_loss(self.model, self.token_ids) == expected

    def test_it_is_a_mean_over_predicted_tokens(self):
        """The loss of a batch with ignored labels is the mean over the labels that are left, not over all positions."""
        labels = self.token_ids.copy()
        labels[0, 3:] = IGNORED
        rows = [next_token_loss(self.model, self.token_ids[:1, :3]), next_token_loss(self.model, self.token_ids[1:])]
        expected = (2 * rows[0] + 7 * rows[1]) / 9
        assert next_token_loss(self.model, self.token_ids, labels) == pytest.approx(expected, rel=1e-6)

    def test_further_inputs_reach_the_model(self):
        mask = np.array([[0, 0, 1, 1, 1, 1, 1, 1]] * 2)
        labels = np.where(np.arange(8) < 3, IGNORED, self.token_ids)
        padded = next_token_loss(self.model, self.token_ids, labels, attention_mask=mask)
        assert padded == pytest.approx(next_token_loss(self.model, self.token_ids[:, 2:]), rel=1e-6)


@pytest.mark.parametrize(
    ("token_ids", "options", "message"),
    [
        ([[1, 23]], {}, r"token id 23 is outside the vocabulary of 23"),
        ([[-1, 2]], {}, r"token id -1 is outside"),
        ([1, 2], {}, r"must be \(B, T\) integers, found int64\(2,\)"),
        ([[1.0]], {}, r"must be \(B, T\) integers, found float64\(1, 1\)"),
        (np.zeros((2, 0), int), {}, r"empty"),
        ([[1] * 21], {}, r"a sequence of 21 tokens is longer than the model's context of 20"),
        ([[1, 2]], {"attention_mask": [[1, 1, 1]]}, r"attention_mask is \(1, 3\), expected \(1, 2\)"),
        ([[1, 2]], {"attention_mask": [1, 1]}, r"attention_mask is \(2,\), expected \(1, 2\)"),
        ([[0, 23, 0], [1, 0, 2]], {}, r"token id 23 is outside"),
        ([[0, -2, 24]], {}, r"token id -2 is outside"),
        ([[1, 2], [3]], {}, r"token ids have rows of different lengths"),
        ([[1, 2]], {"attention_mask": [[1, 1], [1]]}, r"the rows of attention_mask have rows of different lengths"),
        ([[1, 2, 3]], {"attention_mask": [[1, 0, 2]]}, r"must hold 1 for tokens and 0 for padding"),
        ([[1, 2, 3]], {"attention_mask": [[0, -1, 1]]}, r"must hold 1 for tokens and 0 for padding"),
        ([[1, 2, 3]], {"attention_mask": [[1, 0, 1j]]}, r"must hold 1 for tokens and 0 for padding"),
        ([[1, 2]], {"attention_mask": [["1", "0"]]}, r"must hold 1 for tokens and 0 for padding"),
        ([[1, 2]], {"position_ids": [0.0, 1.0]}, r"position ids are float64\(2,\), expected integers of \(2,\) or"),
        ([[1, 2]], {"position_ids": [[0.0, 1.0]]}, r"position ids are float64\(1, 2\), expected integers of"),
        ([[1, 2]], {"position_ids": [0, 1, 2]}, r"position ids are int64\(3,\), expected integers of \(2,\) or"),
        ([[1, 2]], {"position_ids": [[0, 1], [0, 1]]}, r"position ids are int64\(2, 2\), expected integers"),
        ([[1, 2]], {"position_ids": [0, -1]}, r"position ids must be 0 to 19"),
        ([[1, 2]], {"position_ids": [20, 0]}, r"position ids must be 0 to 19"),
    ],
)
def test_bad_input_is_named(token_ids, options, message):
    with pytest.raises(DataError, match=message):
        random_model(CONFIG)(token_ids, **options)


def test_lists_are_accepted():
    model = random_model(CONFIG)
    lists = model([[1, 2, 3]], [[0, 1, 1]])
    np.testing.assert_array_equal(lists, model(np.array([[1, 2, 3]]), np.array([[0, 1, 1]])))
    shifted = model([[1, 2, 3]], position_ids=[[19, 0, 0]])
    np.testing.assert_array_equal(shifted, model([[1, 2, 3]], position_ids=np.array([19, 0, 0], np.uint8)))
    assert next_token_loss(model, [[1, 2, 3]], [[1, 2, 3]]) == next_token_loss(model, np.array([[1, 2, 3]]))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_a_mask_may_have_any_type_of_number(dtype):
    mask = np.array([[0, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(MODEL(tokens(0, 2, 3), mask.astype(dtype)), MODEL(tokens(0, 2, 3), mask))


def test_the_first_and_the_last_token_of_the_vocabulary_and_the_whole_context_are_valid():
    assert MODEL(np.resize([0, 22], (1, 20))).shape == (1, 20, 23)


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.5])
def test_every_embedding_scale_multiplies_the_embeddings(scale):
    """2.0 and 0.5 too: the numbers beside the one that changes nothing."""
    model, seen = generic_model(replace(CONFIG, embedding_scale=scale)), {}
    model.hidden_states([[4, 0]], observe=seen.__setitem__)
    np.testing.assert_array_equal(seen["hidden_states.0"][0], scale * model.embedding.table[[4, 0]])


def test_labels_of_another_shape_are_refused():
    for labels in ([[1, 2]], [1, 2, 3], [[1], [2], [3]]):
        with pytest.raises(DataError, match=r"labels are .*, expected the shape of the token ids, \(1, 3\)"):
            next_token_loss(MODEL, [[1, 2, 3]], labels)

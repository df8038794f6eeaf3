"""The encoder-decoder against its definition, and what padding, order and position must not or must change."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from scipy import special

from tests.ops.formulas import FORMULAS, exact_buckets
from tests.strategies import encoder_decoder_configs, generic_model, seeds
from tinyslm import trace, value_and_grad
from tinyslm.errors import ConfigError, DataError
from tinyslm.models import DecoderConfig, EncoderDecoderConfig, random_model, sequence_to_sequence_loss
from tinyslm.models.losses import preceding_tokens
from tinyslm.modules import Linear
from tinyslm.ops import ACTIVATIONS, IGNORED, log_softmax
from tinyslm.tree import map_parameters, named_arrays

CONFIG = EncoderDecoderConfig("test", 23, 10, 14, 2, 3, 3, 4, 8, 9, norm_eps=1e-2, activation="gelu_new", gated=True)


def inputs(seed, B=2, S=9, T=7, vocab_size=23):
    """(source, its mask with padding on either side, target tokens)."""
    rng = np.random.default_rng(seed)
    mask = np.ones((B, S), int)
    mask[0, 6:], mask[1, :2] = 0, 0
    return rng.integers(0, vocab_size, (B, S)), mask, rng.integers(0, vocab_size, (B, T))


class PlainEncoderDecoder:
    """`config` says what to compute, `arrays` are the weights under their paths. One sequence, one head, one query."""

    def __init__(self, config, arrays):
        self.config, self.arrays = config, arrays

    def norm(self, path, x):
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + self.config.norm_eps) * self.arrays[f"{path}.weight"]

    def bias(self, stack, head, distance):
        """What the distance (slot of the key minus slot of the query) adds to a score."""
        config = self.config
        n, first, length = config.relative_attention_num_buckets, 0, max(-distance, 0)
        if stack == "encoder":
            n, length = n // 2, abs(distance)
            first = n if distance > 0 else 0
        (low, high) = exact_buckets(length, n, config.relative_attention_max_distance)
        assert low == high
        return self.arrays[f"{stack}.relative_positions.table"][first + low, head]

    def attention(self, path, x, source, stack=None, causal=False):
        """With a stack's relative positions, or with none."""
        H, D = self.config.num_attention_heads, self.config.head_dim
        query = (x @ self.arrays[f"{path}.query.weight"].T).reshape(len(x), H, D)
        key, value = ((source @ self.arrays[f"{path}.{kind}.weight"].T).reshape(-1, H, D) for kind in ("key", "value"))
        mixed = np.zeros(query.shape)
        for t, h in np.ndindex(len(x), H):
            seen = range(t + 1 if causal else len(source))
            scores = [key[s, h] @ query[t, h] + (self.bias(stack, h, s - t) if stack else 0) for s in seen]
            mixed[t, h] = special.softmax(scores) @ value[seen, h]
        return mixed.reshape(len(x), -1) @ self.arrays[f"{path}.output.weight"].T

    def feed_forward(self, path, x):
        weight = {name: self.arrays.get(f"{path}.{name}.weight") for name in ("gate", "up", "down")}
        activation = FORMULAS[ACTIVATIONS[self.config.activation]]
        up = x @ weight["up"].T
        return (activation(x @ weight["gate"].T) * up if self.config.gated else activation(up)) @ weight["down"].T

    def stack(self, stack, layers, token_ids, source=None):
        x = self.arrays["embedding.table"][token_ids]
        for i in range(layers):
            path = f"{stack}.layers.{i}"
            normed = self.norm(f"{path}.attention_norm", x)
            x = x + self.attention(f"{path}.attention", normed, normed, stack, causal=stack == "decoder")
            if stack == "decoder":
                normed = self.norm(f"{path}.cross_attention_norm", x)
                x = x + self.attention(f"{path}.cross_attention", normed, source)
            x = x + self.feed_forward(f"{path}.feed_forward", self.norm(f"{path}.feed_forward_norm", x))
        return self.norm(f"{stack}.norm", x)

    def __call__(self, source_ids, token_ids):
        config = self.config
        source = self.stack("encoder", config.num_hidden_layers, source_ids)
        states = self.stack("decoder", config.num_decoder_layers, token_ids, source)
        head = self.arrays["embedding.table" if config.tie_word_embeddings else "head.weight"]
        return config.output_scale * states @ head.T


@given(encoder_decoder_configs(), seeds)
def test_the_encoder_decoder_is_its_definition(config, seed):
    """Every field of the configuration arrives where it belongs; padding of the source on either side is not there."""
    model = generic_model(config, seed)
    source, mask, target = inputs(seed)
    plain = PlainEncoderDecoder(config, named_arrays(model))
    wanted = [plain(row[seen != 0], text) for row, seen, text in zip(source, mask, target, strict=True)]
    found = model(source, mask, decoder_token_ids=target)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-8)
    whole = model(source, decoder_token_ids=target)
    np.testing.assert_allclose(whole[0], plain(source[0], target[0]), rtol=1e-8, atol=1e-8)


@given(encoder_decoder_configs(), seeds)
def test_padding_changes_nothing(config, seed):
    """What is behind the mask may be any token, and so may what comes later in the target."""
    model = generic_model(config, seed)
    source, mask, target = inputs(seed)
    logits = model(source, mask, decoder_token_ids=target)
    other_source, other_target = np.where(mask, source, (source + 1) % 23), target.copy()
    other_target[:, 4:] = (target[:, 4:] + 1) % 23
    np.testing.assert_array_equal(model(other_source, mask, decoder_token_ids=target), logits)
    np.testing.assert_allclose(model(source, mask, decoder_token_ids=other_target)[:, :4], logits[:, :4], atol=1e-12)


@given(encoder_decoder_configs(), seeds)
def test_the_loss_is_that_of_each_label_after_those_before_it(config, seed):
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    source, mask, labels = inputs(seed)
    labels = np.where(rng.random(labels.shape) < 0.3, IGNORED, labels)
    nats = []
    for b, t in zip(*np.nonzero(labels != IGNORED), strict=True):
        read = [config.decoder_start_token_id, *np.where(labels[b] == IGNORED, config.pad_token_id, labels[b])][: t + 1]
        logits = model(source[b : b + 1], mask[b : b + 1], decoder_token_ids=[read])
        nats.append(-log_softmax(logits)[0, -1, labels[b, t]])
    loss = sequence_to_sequence_loss(model, source, labels, mask)
    assert loss == pytest.approx(np.mean(nats) if nats else 0.0, rel=1e-10)


def test_lists_are_accepted_and_a_scale_of_two_multiplies_too():
    model = generic_model(replace(CONFIG, output_scale=2.0))
    source, mask, labels = inputs(0)
    labels[1, 5:] = IGNORED
    lists = sequence_to_sequence_loss(model, source.tolist(), labels.tolist(), mask.tolist())
    assert lists == sequence_to_sequence_loss(model, source, labels, mask)
    states = model.hidden_states(source, mask, decoder_token_ids=inputs(0)[2])
    logits = model(source, mask, decoder_token_ids=inputs(0)[2].tolist())
    np.testing.assert_allclose(logits, 2 * states @ model.embedding.table.T, rtol=1e-12, atol=1e-12)


def test_only_an_encoder_decoder_has_this_loss():
    model = random_model(DecoderConfig("llama", 23, 10, 14, 2, 4, 2, 6, 20))
    with pytest.raises(ConfigError, match="needs an encoder-decoder, found a llama model"):
        sequence_to_sequence_loss(model, [[1, 2]], [[1, 2]])


def test_without_target_tokens_there_is_nothing_to_decode():
    for call in (random_model(CONFIG), random_model(CONFIG).hidden_states):
        with pytest.raises(DataError, match="decoder_token_ids are missing"):
            call([[1, 2]])


def test_observing_hidden_states_alone_reports_both_stacks_without_logits():
    model, source, mask, target = generic_model(CONFIG), *inputs(0)
    seen, all_seen = {}, {}
    states = model.hidden_states(source, mask, decoder_token_ids=target, observe=seen.__setitem__)
    model(source, mask, decoder_token_ids=target, observe=all_seen.__setitem__)
    assert all_seen.keys() - seen.keys() == {"logits"}
    np.testing.assert_array_equal(seen["decoder.hidden_states.3"], states)


def test_what_the_decoder_reads():
    labels = np.array([[5, IGNORED, 7, 8], [9, 3, IGNORED, IGNORED]])
    np.testing.assert_array_equal(preceding_tokens(labels, 4, 2), [[4, 5, 2, 7], [4, 9, 3, 2]])
    assert labels[0, 1] == IGNORED  # the labels themselves are not changed


def slopes(model, direction, seed):
    """Slope of the loss along a direction {path: array}: (<gradients, direction>, finite difference, fourth order)."""
    source, mask, labels = inputs(seed)
    labels[1, 5:] = IGNORED
    _, gradients = value_and_grad(sequence_to_sequence_loss)(model, source, labels, mask)
    slope = sum(np.sum(gradient * direction[path]) for path, gradient in named_arrays(gradients).items())

    def difference(step):
        ends = [
            sequence_to_sequence_loss(
                map_parameters(lambda path, array, by=sign * step: array + by * direction[path], model),
                source,
                labels,
                mask,
            )
            for sign in (1, -1)
        ]
        return (ends[0] - ends[1]) / (2 * step)

    return slope, (4 * difference(1e-5) - difference(2e-5)) / 3


@given(encoder_decoder_configs(activation="gelu_new"), seeds)
def test_whole_model_gradient(config, seed):
    """Without relu, whose kink a finite difference may cross."""
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    direction = {path: rng.standard_normal(array.shape) for path, array in named_arrays(model).items()}
    slope, difference = slopes(model, direction, seed)
    assert slope == pytest.approx(difference, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("path", list(named_arrays(generic_model(CONFIG))))
def test_every_array_alone(path):
    """A direction that moves one array only: the tables of relative positions among them."""
    model = generic_model(CONFIG)
    arrays = named_arrays(model)
    direction = dict.fromkeys(arrays, 0.0) | {path: np.random.default_rng(2).standard_normal(arrays[path].shape)}
    slope, difference = slopes(model, direction, 0)
    assert abs(slope) > 1e-7
    assert slope == pytest.approx(difference, rel=1e-6, abs=1e-9)


def test_a_tied_table_receives_the_gradients_of_all_its_uses():
    tied = generic_model(CONFIG)
    separate = tied.replace(head=Linear(tied.embedding.table.copy()))
    source, mask, labels = inputs(3)
    _, one = value_and_grad(sequence_to_sequence_loss)(tied, source, labels, mask)
    _, two = value_and_grad(sequence_to_sequence_loss)(separate, source, labels, mask)
    np.testing.assert_allclose(one.embedding.table, two.embedding.table + two.head.weight, atol=1e-12)
    assert (tied.tied_head, separate.tied_head) == (True, False)


def test_float32_stays_float32():
    for scale in (1.0, 10**-0.5):
        model = random_model(EncoderDecoderConfig("test", 23, 10, 14, 2, 3, 3, 4, 8, 9, output_scale=scale))
        source, mask, labels = inputs(0)
        seen = trace(model, source, attention_mask=mask, decoder_token_ids=labels)
        assert {array.dtype for array in seen.values()} == {np.dtype(np.float32)}
        loss, gradients = value_and_grad(sequence_to_sequence_loss)(model, source, labels, mask)
        assert {loss.dtype, *(g.dtype for g in named_arrays(gradients).values())} == {np.dtype(np.float32)}


def test_names_and_shapes_of_what_is_traced():
    source, mask, target = inputs(0)  # 9 and 7 tokens
    seen = trace(generic_model(CONFIG), source, attention_mask=mask, decoder_token_ids=target)
    shapes = {name: array.shape for name, array in seen.items() if not re.match(r"(en|de)coder\.", name)}
    assert shapes == {
        **{f"encoder_hidden_states.{i}": (2, 9, 10) for i in range(3)},
        **{f"encoder_attentions.{i}": (2, 3, 9, 9) for i in range(2)},
        **{f"decoder_hidden_states.{i}": (2, 7, 10) for i in range(4)},
        **{f"decoder_attentions.{i}": (2, 3, 7, 7) for i in range(3)},
        **{f"cross_attentions.{i}": (2, 3, 7, 9) for i in range(3)},
        "logits": (2, 7, 23),
    }
    assert seen["decoder.layers.2.cross_attention.keys"].shape == (2, 9, 3, 4)
    assert seen["decoder.layers.2.cross_attention.input"].shape == (2, 7, 10)
    assert seen["decoder.layers.2.cross_attention.source"].shape == (2, 9, 10)
    assert seen["decoder.layers.2.cross_attention.mixed"].shape == (2, 7, 12)
    assert seen["encoder.layers.1.feed_forward.neurons"].shape == (2, 9, 14)
    for i in range(3):
        np.testing.assert_allclose(seen[f"cross_attentions.{i}"].sum(axis=-1), 1)
        assert (seen[f"cross_attentions.{i}"][0, :, :, 6:] == 0).all()  # the padding of the first source
        assert (np.triu(seen[f"decoder_attentions.{i}"], 1) == 0).all()
    assert (np.triu(seen["encoder_attentions.0"][1, :, 2:], 3) > 0).any()  # an encoder looks ahead


def test_the_scores_of_a_new_model_are_of_order_1():
    """Though they are not scaled: the queries of a new model are smaller instead."""
    model = random_model(EncoderDecoderConfig("test", 50, 128, 64, 1, 1, 1, 64, 32, 128))
    attention, x = model.encoder.layers[0].attention, np.random.default_rng(0).standard_normal((100, 128))
    assert (attention.query(x) @ attention.key(x).T).std() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(
    ("source", "mask", "target", "message"),
    [
        ([[23]], None, [[1]], "token id 23 is outside the vocabulary of 23"),
        ([[1]], None, [[1, -1]], "token id -1 is outside"),
        ([[1]], None, [1, 2], "token ids must be"),
        ([[]], None, [[1]], "token ids"),
        ([[1]], None, [[]], "token ids"),
        ([[1, 2]], [[1]], [[1]], r"attention_mask is \(1, 1\), expected \(1, 2\)"),
        ([[1, 2]], None, [[1], [2]], r"decoder token ids are \(2, 1\), but there are 1 sources"),
    ],
)
def test_bad_inputs(source, mask, target, message):
    with pytest.raises(DataError, match=message):
        random_model(CONFIG)(source, mask, decoder_token_ids=target)


@pytest.mark.parametrize("labels", [[[1, 23]], [1, 2], [[0.5]], [[1, -5, 1]]])
def test_bad_labels(labels):
    with pytest.raises(DataError):
        sequence_to_sequence_loss(random_model(CONFIG), [[1, 2]], labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_decoder_layers": 0}, "num_decoder_layers is 0"),
        ({"head_dim": -1}, "head_dim is -1"),
        ({"activation": "swish"}, "activation 'swish'"),
        ({"relative_attention_num_buckets": 3}, "relative_attention_num_buckets is 3, expected at least 4"),
        ({"relative_attention_max_distance": 4}, "relative_attention_max_distance is 4, expected more than the 4"),
        ({"decoder_start_token_id": 23}, "decoder_start_token_id is 23"),
        ({"pad_token_id": None}, "pad_token_id is None"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ConfigError, match=message):
        EncoderDecoderConfig(**vars(CONFIG) | changes)

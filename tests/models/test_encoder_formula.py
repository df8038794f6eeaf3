"""The encoder against its definition, written again from the configuration alone: one sequence, one head at a time."""

import numpy as np
from hypothesis import given
from scipy import special

from tests.ops.formulas import FORMULAS, exact_buckets, rotated
from tests.strategies import encoder_configs, generic_model, seeds
from tinyslm.models import trace
from tinyslm.ops import ACTIVATIONS
from tinyslm.tree import named_arrays


class PlainEncoder:
    """`config` says what to compute, `arrays` are the weights under their paths."""

    def __init__(self, config, arrays):
        self.config, self.arrays = config, arrays
        self.activation = FORMULAS[ACTIVATIONS[config.activation]]

    def linear(self, path, x, bias=True):
        y = x @ self.arrays[f"{path}.weight"].T
        return y + self.arrays[f"{path}.bias"] if bias else y

    def norm(self, path, x):
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + self.config.norm_eps)
        x = x * self.arrays[f"{path}.weight"]
        return x + self.arrays[f"{path}.bias"] if self.config.norm_bias else x

    def bias(self, head, distance):
        """What the distance, slot of the key minus slot of the query, adds to a score."""
        if not self.config.relative_attention_num_buckets:
            return 0.0
        n = self.config.relative_attention_num_buckets // 2
        low, high = exact_buckets(abs(distance), n, self.config.relative_attention_max_distance)
        assert low == high
        return self.arrays["relative_positions.table"][low + (n if distance > 0 else 0), head]

    def attention(self, layer, x):
        """(the output (T, C), the probabilities (H, T, T))."""
        config, path, T = self.config, f"layers.{layer}.attention", len(x)
        H, D, rope, window = config.num_attention_heads, config.head_dim, config.ropes[layer], config.windows[layer]
        query, key, value = (
            self.linear(f"{path}.{name}", x, config.attention_bias).reshape(T, H, D)
            for name in ("query", "key", "value")
        )
        if rope is not None:
            query, key = (rotated(each[None], rope, np.arange(T))[0] for each in (query, key))
        probabilities, mixed = np.zeros((H, T, T)), np.zeros((T, H, D))
        for h, t in np.ndindex(H, T):
            seen = [s for s in range(T) if window is None or abs(s - t) < window]
            scores = [query[t, h] @ key[s, h] / np.sqrt(D) + self.bias(h, s - t) for s in seen]
            probabilities[h, t, seen] = special.softmax(scores)
            mixed[t, h] = probabilities[h, t] @ value[:, h]
        return self.linear(f"{path}.output", mixed.reshape(T, -1), config.attention_bias), probabilities

    def feed_forward(self, layer, x):
        path, bias = f"layers.{layer}.feed_forward", self.config.feed_forward_bias
        up = self.linear(f"{path}.up", x, bias)
        neurons = (
            self.activation(self.linear(f"{path}.gate", x, bias)) * up if self.config.gated else self.activation(up)
        )
        return self.linear(f"{path}.down", neurons, bias)

    def hidden_states(self, token_ids, token_type_ids):
        """(the states (T, C) of every depth, the probabilities (H, T, T) of every layer)."""
        arrays = self.arrays
        x = arrays["embedding.table"][token_ids]
        if self.config.learned_positions:
            x = x + arrays["position_embedding.table"][: len(token_ids)]
        if self.config.type_vocab_size is not None:
            x = x + arrays["token_type_embedding.table"][token_type_ids]
        hidden, seen = [self.norm("embedding_norm", x)], []
        for i in range(self.config.num_hidden_layers):
            x, probabilities = (self.pre_norm_block if self.config.pre_norm else self.post_norm_block)(i, hidden[-1])
            hidden.append(x)
            seen.append(probabilities)
        if self.config.pre_norm:
            hidden[-1] = self.norm("norm", hidden[-1])
        return hidden, seen

    def post_norm_block(self, layer, x):
        branch, probabilities = self.attention(layer, x)
        x = self.norm(f"layers.{layer}.attention_norm", x + branch)
        return self.norm(f"layers.{layer}.feed_forward_norm", x + self.feed_forward(layer, x)), probabilities

    def pre_norm_block(self, layer, x):
        read = x if layer == 0 else self.norm(f"layers.{layer}.attention_norm", x)
        branch, probabilities = self.attention(layer, read)
        x = x + branch
        return x + self.feed_forward(layer, self.norm(f"layers.{layer}.feed_forward_norm", x)), probabilities

    def logits(self, states):
        config = self.config
        activation = FORMULAS[ACTIVATIONS[config.transform_activation or config.activation]]
        x = activation(self.linear("masked_lm_head.transform", states, config.transform_bias))
        x = self.norm("masked_lm_head.norm", x)
        if not config.tie_word_embeddings:
            return self.linear("head", x, config.decoder_bias)
        logits = x @ self.arrays["embedding.table"].T
        return logits + self.arrays["masked_lm_head.bias"] if config.decoder_bias else logits

    def pooled(self, states):
        return np.tanh(self.linear("pooler", states[0]))


@given(encoder_configs(), seeds)
def test_the_encoder_is_its_definition(config, seed):
    """Every field of the configuration arrives where it belongs, and so does every name of `trace`; as exact as cos and
    sin in float32 allow."""
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    token_ids = rng.integers(0, config.vocab_size, (2, 11))
    types = {} if config.type_vocab_size is None else {"token_type_ids": rng.integers(0, 3, (2, 11))}
    plain = PlainEncoder(config, named_arrays(model))
    seen = trace(model, token_ids, **types)
    of_states, of_logits = (1e-3, 1e-3) if any(config.ropes) else (1e-9, 1e-8)
    for row in range(2):
        hidden, probabilities = plain.hidden_states(token_ids[row], types["token_type_ids"][row] if types else None)
        for i, wanted in enumerate(hidden):
            np.testing.assert_allclose(seen[f"hidden_states.{i}"][row], wanted, rtol=of_states, atol=of_states)
        for i, wanted in enumerate(probabilities):
            np.testing.assert_allclose(seen[f"attentions.{i}"][row], wanted, rtol=of_states, atol=of_states)
        if config.masked_head:
            np.testing.assert_allclose(seen["logits"][row], plain.logits(hidden[-1]), rtol=of_logits, atol=of_logits)
        if config.pooler:
            pooled = model.pooled(model.hidden_states(token_ids, **types))[row]
            np.testing.assert_allclose(pooled, plain.pooled(hidden[-1]), rtol=of_states, atol=of_states)

"""The decoder against its definition, written again from the configuration alone: one sequence, one head at a time."""

import numpy as np
from hypothesis import given
from scipy import special

from tests.ops.formulas import FORMULAS, rotated
from tests.strategies import decoder_configs, generic_model, seeds
from tinyslm.ops import ACTIVATIONS
from tinyslm.tree import named_arrays


class PlainDecoder:
    """`config` says what to compute, `arrays` are the weights under their paths. No caching, no batch, no speed."""

    def __init__(self, config, arrays):
        self.config, self.arrays = config, arrays

    def linear(self, path, x):
        return x @ self.arrays[f"{path}.weight"].T + self.arrays.get(f"{path}.bias", 0)

    def norm(self, path, x):
        if self.config.norm == "layer":
            x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + self.config.norm_eps)
        return x * (self.config.norm_offset + self.arrays[f"{path}.weight"]) + self.arrays.get(f"{path}.bias", 0)

    def before(self, path, x):
        return self.norm(path, x) if self.config.pre_norm else x

    def after(self, path, x):
        return self.norm(path, x) if self.config.sublayer_output_norm else x

    def attention(self, layer, path, x):
        config, T = self.config, len(x)
        D, r = config.head_dim, config.num_attention_heads // config.num_key_value_heads
        query, key, value = (self.linear(f"{path}.{name}", x) for name in ("query", "key", "value"))
        if not config.joint_query_key_norm:  # head by head
            query, key = query.reshape(T, -1, D), key.reshape(T, -1, D)
        if config.query_key_norm:
            query, key = self.norm(f"{path}.query_norm", query), self.norm(f"{path}.key_norm", key)
        query, key, value = (each.reshape(T, -1, D) for each in (query, key, value))
        if config.ropes[layer] is not None:
            rope = config.ropes[layer]
            query, key = (rotated(heads, rope, np.arange(T)) for heads in (query, key))
            if rope.query_scale_beta:
                growth = [1 + rope.query_scale_beta * np.log(1 + t // rope.original_length) for t in range(T)]
                query = query * np.reshape(growth, (T, 1, 1))
        scale = 1 / np.sqrt(D) if config.attention_scale is None else config.attention_scale
        mixed = np.zeros(query.shape)
        for t, h in np.ndindex(T, config.num_attention_heads):
            first = 0 if config.windows[layer] is None else max(0, t + 1 - config.windows[layer])
            seen = slice(first, t + 1)
            scores = scale * key[seen, h // r] @ query[t, h]
            if config.attention_softcap is not None:
                scores = config.attention_softcap * np.tanh(scores / config.attention_softcap)
            mixed[t, h] = special.softmax(scores) @ value[seen, h // r]
        return self.linear(f"{path}.output", mixed.reshape(T, -1))

    def neurons(self, path, x):
        activation = FORMULAS[ACTIVATIONS[self.config.activation]]
        up = self.linear(f"{path}.up", x)
        hidden = activation(self.linear(f"{path}.gate", x)) * up if self.config.gated else activation(up)
        return self.linear(f"{path}.down", hidden)

    def feed_forward(self, layer, path, x):
        if not self.config.num_experts or self.config.dense_layers[layer]:
            return self.neurons(path, x)
        y = np.zeros_like(x)
        for t, p in enumerate(special.softmax(self.linear(f"{path}.router", x), axis=-1)):
            best = np.argsort(-p)[: self.config.experts_per_token]
            whole = p[best].sum() if self.config.normalized_routing else 1
            y[t] = sum(p[e] / whole * self.neurons(f"{path}.experts.{e}", x[t]) for e in best)
        return y

    def __call__(self, token_ids):
        config = self.config
        x = config.embedding_scale * self.arrays["embedding.table"][token_ids]  # (T, C)
        if config.learned_positions:
            x = x + self.arrays["position_embedding.table"][: len(x)]
        for i in range(config.num_hidden_layers):
            path, block_input = f"layers.{i}", x
            branch = self.attention(i, f"{path}.attention", self.before(f"{path}.attention_norm", x))
            x = x + config.residual_multiplier * self.after(f"{path}.attention_output_norm", branch)
            source = block_input if config.parallel_blocks else x
            name = "attention_norm" if config.shared_norm else "feed_forward_norm"
            branch = self.feed_forward(i, f"{path}.feed_forward", self.before(f"{path}.{name}", source))
            x = x + config.residual_multiplier * self.after(f"{path}.feed_forward_output_norm", branch)
        head = self.arrays["embedding.table" if config.tie_word_embeddings else "head.weight"]
        logits = (self.norm("norm", x) @ head.T + self.arrays.get("head.bias", 0)) / config.logits_scaling
        return logits if config.logit_softcap is None else config.logit_softcap * np.tanh(logits / config.logit_softcap)


@given(decoder_configs(), seeds)
def test_the_decoder_is_its_definition(config, seed):
    """Every field of the configuration arrives where it belongs; as exact as cos and sin in float32 allow."""
    model = generic_model(config, seed)
    token_ids = np.random.default_rng(seed).integers(0, config.vocab_size, (2, 11))
    plain = PlainDecoder(config, named_arrays(model))
    np.testing.assert_allclose(model(token_ids), [plain(row) for row in token_ids], rtol=1e-3, atol=1e-3)
    if not any(config.ropes):
        np.testing.assert_allclose(model(token_ids), [plain(row) for row in token_ids], rtol=1e-8, atol=1e-8)

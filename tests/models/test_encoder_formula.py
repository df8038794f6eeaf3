"""The encoder against its definition, written again from the configuration alone: one sequence, one head at a time."""

import numpy as np
from hypothesis import given
from scipy import special

from tests.ops.formulas import FORMULAS
from tests.strategies import encoder_configs, generic_model, seeds
from tinyslm.models import trace
from tinyslm.ops import ACTIVATIONS
from tinyslm.tree import named_arrays


class PlainEncoder:
    """`config` says what to compute, `arrays` are the weights under their paths. Post-norm; every token sees all."""

    def __init__(self, config, arrays):
        self.config, self.arrays = config, arrays
        self.activation = FORMULAS[ACTIVATIONS[config.activation]]

    def linear(self, path, x):
        return x @ self.arrays[f"{path}.weight"].T + self.arrays[f"{path}.bias"]

    def norm(self, path, x):
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + self.config.norm_eps)
        return x * self.arrays[f"{path}.weight"] + self.arrays[f"{path}.bias"]

    def attention(self, path, x):
        """(the output (T, C), the probabilities (H, T, T))."""
        H, D = self.config.num_attention_heads, self.config.head_dim
        query, key, value = (
            self.linear(f"{path}.{name}", x).reshape(-1, H, D).swapaxes(0, 1) for name in ("query", "key", "value")
        )
        probabilities = [special.softmax(query[h] @ key[h].T / np.sqrt(D), axis=-1) for h in range(H)]
        mixed = np.concatenate([probabilities[h] @ value[h] for h in range(H)], axis=-1)  # (T, H D)
        return self.linear(f"{path}.output", mixed), np.array(probabilities)

    def hidden_states(self, token_ids, token_type_ids):
        """(the states (T, C) of every depth, the probabilities (H, T, T) of every layer)."""
        arrays = self.arrays
        x = arrays["embedding.table"][token_ids] + arrays["position_embedding.table"][: len(token_ids)]
        if self.config.type_vocab_size is not None:
            x = x + arrays["token_type_embedding.table"][token_type_ids]
        hidden, seen = [self.norm("embedding_norm", x)], []
        for i in range(self.config.num_hidden_layers):
            branch, probabilities = self.attention(f"layers.{i}.attention", hidden[-1])
            x = self.norm(f"layers.{i}.attention_norm", hidden[-1] + branch)
            neurons = self.activation(self.linear(f"layers.{i}.feed_forward.up", x))
            x = self.norm(f"layers.{i}.feed_forward_norm", x + self.linear(f"layers.{i}.feed_forward.down", neurons))
            hidden.append(x)
            seen.append(probabilities)
        return hidden, seen

    def logits(self, states):
        x = self.norm("masked_lm_head.norm", self.activation(self.linear("masked_lm_head.transform", states)))
        if self.config.tie_word_embeddings:
            return x @ self.arrays["embedding.table"].T + self.arrays["masked_lm_head.bias"]
        return self.linear("head", x)

    def pooled(self, states):
        return np.tanh(self.linear("pooler", states[0]))


@given(encoder_configs(), seeds)
def test_the_encoder_is_its_definition(config, seed):
    """Every field of the configuration arrives where it belongs, and so does every name of `trace`."""
    model, rng = generic_model(config, seed), np.random.default_rng(seed)
    token_ids = rng.integers(0, config.vocab_size, (2, 11))
    types = {} if config.type_vocab_size is None else {"token_type_ids": rng.integers(0, 3, (2, 11))}
    plain = PlainEncoder(config, named_arrays(model))
    seen = trace(model, token_ids, **types)
    for row in range(2):
        hidden, probabilities = plain.hidden_states(token_ids[row], types["token_type_ids"][row] if types else None)
        for i, wanted in enumerate(hidden):
            np.testing.assert_allclose(seen[f"hidden_states.{i}"][row], wanted, rtol=1e-9, atol=1e-9)
        for i, wanted in enumerate(probabilities):
            np.testing.assert_allclose(seen[f"attentions.{i}"][row], wanted, rtol=1e-9, atol=1e-9)
        if config.masked_head:
            np.testing.assert_allclose(seen["logits"][row], plain.logits(hidden[-1]), rtol=1e-8, atol=1e-8)
        if config.pooler:
            pooled = model.pooled(model.hidden_states(token_ids, **types))[row]
            np.testing.assert_allclose(pooled, plain.pooled(hidden[-1]), rtol=1e-9, atol=1e-9)

"""Cross attention: queries from one sequence, keys and values from another."""

from typing import Any

from tinyslm import ops
from tinyslm.autodiff import value_of
from tinyslm.modules.forward_context import Context
from tinyslm.modules.linear import Linear
from tinyslm.tree import Array, Module


class CrossAttention(Module):
    """Queries from the decoder's sequence, keys and values from the source. Only padding of the source is masked.

    query: (C -> H D);  key, value: (C -> G D);  output: (H D -> C).
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    head_dim: int
    scale: float

    def __call__(self, x: Array, context: Context) -> Array:
        """x: (B, T, C) -> (B, T, C). Keys and values come from context.source (B, S, C)."""
        context.observe("cross_attention.input", x)
        context.observe("cross_attention.source", context.source)
        B, T, _ = x.shape
        query = self.query(x).reshape(B, T, -1, self.head_dim)  # (B, T, H, D)
        if context.cache is None:
            key, value = self.keys_and_values(context.source)
        else:
            key, value = context.cache.keep(context.layer, lambda: self.keys_and_values(context.source))
        settings: dict[str, Any] = {"scale": self.scale, "causal": False, "attention_mask": context.source_mask}
        context.observe("cross_attention.queries", query)
        context.observe("cross_attention.keys", key)
        context.observe("cross_attention.values", value)
        if context.observes("cross_attention.probabilities"):
            probabilities = ops.attention_probabilities(value_of(query), value_of(key), **settings)
            context.observe("cross_attention.probabilities", probabilities)
        mixed = ops.chunked_attention(query, key, value, **settings)  # (B, T, H, D)
        mixed = mixed.reshape(B, T, -1)  # (B, T, H D)
        context.observe("cross_attention.mixed", mixed)
        return self.output(mixed)

    def keys_and_values(self, source: Array) -> tuple[Array, ...]:
        """Keys and values of the source: (B, S, C) -> twice (B, S, G, D)."""
        B, S, _ = source.shape
        return tuple(linear(source).reshape(B, S, -1, self.head_dim) for linear in (self.key, self.value))

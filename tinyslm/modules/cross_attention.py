"""Cross attention: the tokens of one sequence look at those of another."""

from tinyslm import ops
from tinyslm.autodiff import value_of
from tinyslm.modules.context import Context, ignore
from tinyslm.modules.linear import Linear
from tinyslm.tree import Module


class CrossAttention(Module):
    """Queries from this sequence, keys and values from the source; everything there may be seen, at any distance.

    query: (C -> H D);  key, value: (C -> G D);  output: (H D -> C).
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    head_dim: int
    scale: float

    def __call__(self, x, context: Context, layer: int, observe=ignore):
        """x: (B, T, C) -> (B, T, C), looking at context.source (B, S, C). `layer` is the place in the cache."""
        B, T, _ = x.shape
        query = self.query(x).reshape(B, T, -1, self.head_dim)  # (B, T, H, D)
        if context.cache is None:
            key, value = self.keys_and_values(context.source)
        else:
            key, value = context.cache.keep(layer, lambda: self.keys_and_values(context.source))
        settings = {"scale": self.scale, "causal": False, "attention_mask": context.source_mask}
        if observe is not ignore:
            observe("queries", query)
            observe("keys", key)
            observe("values", value)
            observe("probabilities", ops.attention_probabilities(value_of(query), value_of(key), **settings))
        mixed = ops.attention(query, key, value, **settings)  # (B, T, H, D)
        return self.output(mixed.reshape(B, T, -1))

    def keys_and_values(self, source):
        """What all queries look at: (B, S, C) -> twice (B, S, G, D)."""
        B, S, _ = source.shape
        return tuple(linear(source).reshape(B, S, -1, self.head_dim) for linear in (self.key, self.value))

"""Self-attention with its four projections."""

from typing import Any

from tinyslm import ops
from tinyslm.autodiff import value_of
from tinyslm.modules.forward_context import Context
from tinyslm.modules.linear import Linear
from tinyslm.tree import Array, Module


class Attention(Module):
    """Grouped-query attention: H query heads share G key/value heads; H and G follow from the projections' sizes.

    query: (C -> H D);  key, value: (C -> G D);  output: (H D -> C).
    window: sliding window in tokens, the query's own position included (None: no limit);
    lookahead: number of later positions that a query may attend to (None: no limit but `causal`);
    rope: None for a layer without rotary positions;
    causal: whether a query attends only to its own and earlier positions (decoders), or to all (encoders);
    query_norm, key_norm: over the D features of each head, or with joint_norms over all heads together (OLMo 2).
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    head_dim: int
    scale: float
    rope: ops.Rope | None = None
    window: int | None = None
    causal: bool = True
    softcap: float | None = None
    query_norm: Any = None
    key_norm: Any = None
    joint_norms: bool = False
    lookahead: int | None = None

    def __call__(self, x: Array, context: Context) -> Array:
        """x: (B, T, C) -> (B, T, C)."""
        context.observe("attention.input", x)
        B, T, _ = x.shape
        D = self.head_dim
        query, key, value = self.query(x), self.key(x), self.value(x)  # (B, T, H D), (B, T, G D), (B, T, G D)
        if self.joint_norms:
            query, key = self.query_norm(query), self.key_norm(key)
        query = query.reshape(B, T, -1, D)  # (B, T, H, D)
        key = key.reshape(B, T, -1, D)  # (B, T, G, D)
        value = value.reshape(B, T, -1, D)  # (B, T, G, D)
        if self.query_norm is not None and not self.joint_norms:
            query, key = self.query_norm(query), self.key_norm(key)
        if self.rope is not None:
            cos, sin = context.rotary_tables(self.rope)
            query, key = ops.rotary(query, cos=cos, sin=sin), ops.rotary(key, cos=cos, sin=sin)
            if self.rope.query_scale_beta:
                query = query * ops.query_scales(self.rope, context.positions).astype(query.dtype, copy=False)
        if context.cache is not None:
            key, value = context.cache.extend(context.layer, key, value)  # (B, S, G, D)
        settings: dict[str, Any] = {
            "scale": self.scale,
            "causal": self.causal,
            "window": self.window,
            "lookahead": self.lookahead,
            "softcap": self.softcap,
            "attention_mask": context.attention_mask,
        }
        context.observe("attention.queries", query)
        context.observe("attention.keys", key)
        context.observe("attention.values", value)
        if context.observes("attention.probabilities"):
            arrays = [value_of(query), value_of(key), value_of(context.position_bias)]
            context.observe("attention.probabilities", ops.attention_probabilities(*arrays, **settings))
        mixed = ops.chunked_attention(query, key, value, context.position_bias, **settings)  # (B, T, H, D)
        mixed = mixed.reshape(B, T, -1)  # (B, T, H D)
        context.observe("attention.mixed", mixed)
        return self.output(mixed)

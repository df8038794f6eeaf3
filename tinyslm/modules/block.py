"""Transformer block: attention and feed-forward, each added to the residual stream, with norms before or after them."""

from typing import Any

from tinyslm.modules.attention import Attention
from tinyslm.modules.cross_attention import CrossAttention
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.forward_context import Context
from tinyslm.modules.mixture_of_experts import MixtureOfExperts
from tinyslm.tree import Array, Module


class Block(Module):
    """Pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x)).

    Gemma 2 and 3 also normalize each sublayer output. OLMo 2 normalizes only the sublayer outputs: the norms of the
    inputs are then None. Granite multiplies each sublayer output by `residual_multiplier`.

    In the decoder of an encoder-decoder, x + cross_attention(norm(x)) comes between the two.
    """

    attention_norm: Any
    attention: Attention
    feed_forward_norm: Any
    feed_forward: FeedForward | MixtureOfExperts
    attention_output_norm: Any = None
    feed_forward_output_norm: Any = None
    cross_attention_norm: Any = None
    cross_attention: CrossAttention | None = None
    residual_multiplier: float = 1.0

    def __call__(self, x: Array, context: Context) -> Array:
        """x: (B, T, C) -> (B, T, C)."""
        output = self.attention(normalized(x, self.attention_norm), context)
        output = scaled(normalized(output, self.attention_output_norm), self.residual_multiplier)
        context.observe("attention.output", output)
        x = x + output
        if self.cross_attention is not None:
            output = self.cross_attention(self.cross_attention_norm(x), context)
            context.observe("cross_attention.output", output)
            x = x + output
        output = self.feed_forward(normalized(x, self.feed_forward_norm), context)
        output = scaled(normalized(output, self.feed_forward_output_norm), self.residual_multiplier)
        context.observe("feed_forward.output", output)
        return x + output


def normalized(x: Array, norm: Any) -> Array:
    """norm(x), or x without a norm."""
    return x if norm is None else norm(x)


def scaled(x: Array, factor: float) -> Array:
    """x * factor, in the dtype of x."""
    return x if factor == 1.0 else x * x.dtype.type(factor)

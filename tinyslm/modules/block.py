"""Pre-norm transformer block: attention and feed-forward, each added to the residual stream."""

from typing import Any

from tinyslm.modules.attention import Attention
from tinyslm.modules.cross_attention import CrossAttention
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.forward_context import Context
from tinyslm.modules.mixture_of_experts import MixtureOfExperts
from tinyslm.tree import Array, Module


class Block(Module):
    """Pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x)).

    Gemma 2 and 3 also normalize each sublayer output.

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

    def __call__(self, x: Array, context: Context) -> Array:
        """x: (B, T, C) -> (B, T, C)."""
        output = self.attention(self.attention_norm(x), context)
        if self.attention_output_norm is not None:
            output = self.attention_output_norm(output)
        context.observe("attention.output", output)
        x = x + output
        if self.cross_attention is not None:
            output = self.cross_attention(self.cross_attention_norm(x), context)
            context.observe("cross_attention.output", output)
            x = x + output
        output = self.feed_forward(self.feed_forward_norm(x), context)
        if self.feed_forward_output_norm is not None:
            output = self.feed_forward_output_norm(output)
        context.observe("feed_forward.output", output)
        return x + output

"""Post-norm transformer block: each sum of input and sublayer output is normalized (BERT)."""

from tinyslm.modules.attention import Attention
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.forward_context import Context
from tinyslm.modules.normalization import LayerNorm
from tinyslm.tree import Array, Module


class PostNormBlock(Module):
    """Post-norm block: norm(x + attention(x)), then norm(x + feed_forward(x)).

    Source: Vaswani et al. 2017, section 3.1.
    """

    attention: Attention
    attention_norm: LayerNorm
    feed_forward: FeedForward
    feed_forward_norm: LayerNorm

    def __call__(self, x: Array, context: Context) -> Array:
        """x: (B, T, C) -> (B, T, C)."""
        output = self.attention(x, context)
        context.observe("attention.output", output)
        x = self.attention_norm(x + output)
        output = self.feed_forward(x, context)
        context.observe("feed_forward.output", output)
        return self.feed_forward_norm(x + output)

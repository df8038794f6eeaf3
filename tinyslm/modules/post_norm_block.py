"""One layer of an encoder of the first kind: normalized after each addition, not before."""

from tinyslm.modules.attention import Attention
from tinyslm.modules.context import Context, ignore, under
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.normalization import LayerNorm
from tinyslm.tree import Module


class PostNormBlock(Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)). Source: Vaswani et al. 2017, section 3.1."""

    attention: Attention
    attention_norm: LayerNorm
    feed_forward: FeedForward
    feed_forward_norm: LayerNorm

    def __call__(self, x, context: Context, layer: int, observe=ignore):
        """x: (B, T, C) -> (B, T, C)."""
        branch = self.attention(x, context, layer, under(observe, "attention"))
        observe("attention.output", branch)
        x = self.attention_norm(x + branch)
        branch = self.feed_forward(x, under(observe, "feed_forward"))
        observe("feed_forward.output", branch)
        return self.feed_forward_norm(x + branch)

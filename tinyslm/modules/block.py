"""One layer of a transformer: attention, then feed-forward, each read from and added to the residual stream."""

from typing import Any

from tinyslm.modules.attention import Attention
from tinyslm.modules.context import Context, ignore, under
from tinyslm.modules.cross_attention import CrossAttention
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.mixture import MixtureOfExperts
from tinyslm.tree import Module


class Block(Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); Gemma 2 and 3 also normalize what is added.

    In the decoder of an encoder-decoder, x + cross_attention(norm(x)) stands between the two.
    """

    attention_norm: Any
    attention: Attention
    feed_forward_norm: Any
    feed_forward: FeedForward | MixtureOfExperts
    attention_output_norm: Any = None
    feed_forward_output_norm: Any = None
    cross_attention_norm: Any = None
    cross_attention: CrossAttention | None = None

    def __call__(self, x, context: Context, layer: int, observe=ignore):
        """x: (B, T, C) -> (B, T, C)."""
        branch = self.attention(self.attention_norm(x), context, layer, under(observe, "attention"))
        if self.attention_output_norm is not None:
            branch = self.attention_output_norm(branch)
        observe("attention.output", branch)
        x = x + branch
        if self.cross_attention is not None:
            normed = self.cross_attention_norm(x)
            branch = self.cross_attention(normed, context, layer, under(observe, "cross_attention"))
            observe("cross_attention.output", branch)
            x = x + branch
        branch = self.feed_forward(self.feed_forward_norm(x), under(observe, "feed_forward"))
        if self.feed_forward_output_norm is not None:
            branch = self.feed_forward_output_norm(branch)
        observe("feed_forward.output", branch)
        return x + branch

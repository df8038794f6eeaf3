"""Parallel transformer block: attention and feed-forward read the same hidden state (GPT-NeoX, Phi)."""

from typing import Any

from tinyslm.modules.attention import Attention
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.forward_context import Context
from tinyslm.modules.mixture_of_experts import MixtureOfExperts
from tinyslm.tree import Array, Module


class ParallelBlock(Module):
    """Parallel block: x + attention(norm(x)) + feed_forward(norm(x)).

    feed_forward_norm: the norm before the feed-forward layer; None if it reads the output of attention_norm (Phi).
    Source: Wang & Komatsuzaki 2021 (GPT-J); Black et al. 2022 (GPT-NeoX-20B), section 2.1.2.
    """

    attention_norm: Any
    attention: Attention
    feed_forward_norm: Any
    feed_forward: FeedForward | MixtureOfExperts

    def __call__(self, x: Array, context: Context) -> Array:
        """x: (B, T, C) -> (B, T, C)."""
        normalized = self.attention_norm(x)
        attended = self.attention(normalized, context)
        context.observe("attention.output", attended)
        if self.feed_forward_norm is not None:
            normalized = self.feed_forward_norm(x)
        output = self.feed_forward(normalized, context)
        context.observe("feed_forward.output", output)
        return x + attended + output

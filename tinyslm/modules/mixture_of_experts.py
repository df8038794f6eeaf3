"""Mixture of experts: E feed-forward layers and a router that selects a few of them for each token."""

import numpy as np

from tinyslm import ops
from tinyslm.autodiff import value_of
from tinyslm.modules.feed_forward import FeedForward
from tinyslm.modules.forward_context import Context
from tinyslm.modules.linear import Linear
from tinyslm.tree import Array, Module


class MixtureOfExperts(Module):
    """Mixture of experts: each token uses the `experts_per_token` experts with the largest router logits.

    router: (C -> E);  experts: E feed-forward layers.
    normalized: whether the weights of a token's experts sum to 1. Otherwise they are probabilities of all experts.
    """

    router: Linear
    experts: list[FeedForward]
    experts_per_token: int
    normalized: bool = True

    def __call__(self, x: Array, context: Context | None = None) -> Array:
        """x: (..., C) -> (..., C)."""
        if context is not None:
            context.observe("feed_forward.input", x)
        shape = x.shape
        x = x.reshape(-1, shape[-1])  # (N, C)
        router_logits = self.router(x)  # (N, E)
        if context is not None:
            context.observe("feed_forward.router_logits", router_logits)
        chosen = ops.choose_experts(value_of(router_logits), self.experts_per_token)  # (N, k)
        weights = self.weights(router_logits, chosen)  # (N, k)
        rows, slots = zip(*(np.nonzero(chosen == expert) for expert in range(len(self.experts))), strict=True)
        outputs = [
            expert(ops.take_rows(x, rows=row), context, f"feed_forward.experts.{e}")
            for e, (expert, row) in enumerate(zip(self.experts, rows, strict=True))
        ]
        return ops.combine_experts(weights, *outputs, rows=rows, slots=slots).reshape(*shape)

    def weights(self, router_logits: Array, chosen: Array) -> Array:
        """Weights of the chosen experts: logits (N, E) and indices (N, k) -> (N, k)."""
        operation = ops.routing_weights if self.normalized else ops.routing_probabilities
        return operation(router_logits, chosen=chosen)

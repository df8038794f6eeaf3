"""Sorted tuples, and the softmax of all logits divided by the sum of the chosen ones."""

import numpy as np

from tinyslm.autodiff import differentiable


def choose_experts(router_logits, count):
    return np.array([sorted(range(len(row)), key=lambda e: (-row[e], e))[:count] for row in router_logits])


@differentiable
def routing_weights(router_logits, *, chosen):
    logits = np.take_along_axis(router_logits, chosen, axis=-1)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)

    def vjp(dy):
        gradient = np.zeros_like(router_logits)
        for n, row in enumerate(chosen):
            jacobian = np.diag(weights[n]) - np.outer(weights[n], weights[n])
            gradient[n, row] = dy[n] @ jacobian
        return (gradient,)

    return weights, vjp

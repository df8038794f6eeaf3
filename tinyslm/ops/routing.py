"""Mixture of experts: a router sends each token to a few of many feed-forward layers.

Source: Shazeer et al. 2017, section 2.1, in the form of Jiang et al. 2024 (Mixtral), section 2.1: the weights are the
softmax over the chosen logits only.
"""

import numpy as np

from tinyslm.autodiff import differentiable


def choose_experts(router_logits, count):
    """Indices of the `count` largest logits of each token, largest first.

    router_logits: (N, E);  returns (N, count) integers. Equal logits: the lower index first.
    """
    return np.argsort(-router_logits, axis=-1, kind="stable")[:, :count]


@differentiable
def routing_weights(router_logits, *, chosen):
    """softmax over the chosen logits of each token.

    router_logits: (N, E);  chosen: (N, k) integers;  returns (N, k), rows sum to 1.
    """
    logits = np.take_along_axis(router_logits, chosen, axis=-1)  # (N, k)
    weights = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    weights /= np.sum(weights, axis=-1, keepdims=True)

    def vjp(dweights):
        dlogits = weights * (dweights - np.sum(dweights * weights, axis=-1, keepdims=True))  # (N, k)
        drouter_logits = np.zeros_like(router_logits)
        np.put_along_axis(drouter_logits, chosen, dlogits, axis=-1)  # a token chooses an expert at most once
        return (drouter_logits,)

    return weights, vjp


@differentiable
def take_rows(x, *, rows):
    """x[rows]: the tokens that go to one expert. x: (N, C);  rows: (n,) different integers;  returns (n, C)."""

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[rows] = dy
        return (dx,)

    return x[rows], vjp


@differentiable
def combine_experts(weights, *outputs, rows, slots):
    """y[n] = sum over the experts e of token n of weight[n, e] * output_e[n].

    weights: (N, k);  outputs: one (n_e, C) per expert;  rows, slots: per expert, which tokens it received and as
    which of their k choices;  returns (N, C).
    """
    y = np.zeros((weights.shape[0], outputs[0].shape[-1]), weights.dtype)
    for output, row, slot in zip(outputs, rows, slots, strict=True):
        y[row] += weights[row, slot, None] * output

    def vjp(dy):
        dweights = np.zeros_like(weights)
        doutputs = []
        for output, row, slot in zip(outputs, rows, slots, strict=True):
            dweights[row, slot] = np.vecdot(dy[row], output)  # (n_e,)
            doutputs.append(dy[row] * weights[row, slot, None])  # (n_e, C)
        return dweights, *doutputs

    return y, vjp

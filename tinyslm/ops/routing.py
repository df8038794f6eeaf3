"""Routing of a mixture of experts: each token is processed by a few of E feed-forward layers.

Source: Shazeer et al. 2017, section 2.1. The weights are the softmax over the chosen logits only, as in Jiang et al.
2024 (Mixtral), section 2.1, or the softmax over all logits, at the chosen ones.
"""

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.errors import ConfigError, DataError
from tinyslm.ops.argument_checks import require_floating
from tinyslm.tree import Array


def choose_experts(router_logits: Array, count: int) -> Array:
    """Indices of the `count` largest logits of each token, largest first.

    Parameters
    ----------
    router_logits : ndarray, shape (N, E)
    count
        Experts per token, k.

    Returns
    -------
    ndarray of integers, shape (N, k)
        Of equal logits, the lower index comes first.

    Raises
    ------
    DataError
        If `router_logits` is not float32 or float64, or holds nan or infinity: indices would hide it.
    ConfigError
        If `count` is not from 1 to E.

    References
    ----------
    Shazeer et al. 2017 (arXiv 1701.06538), section 2.1.

    Examples
    --------
    >>> choose_experts(np.array([[0.1, 3.0, 2.0]]), 2)
    array([[1, 2]])
    """
    require_floating(router_logits=router_logits)
    if not np.all(np.isfinite(router_logits)):
        raise DataError("router_logits must be finite, found nan or infinity")
    if not 1 <= count <= router_logits.shape[-1]:
        raise ConfigError(f"count must be from 1 to {router_logits.shape[-1]} experts, found {count}")
    return np.argsort(-router_logits, axis=-1, kind="stable")[:, :count]


@differentiable
def routing_weights(router_logits: Array, *, chosen: Array) -> Array:
    """Softmax over the chosen logits of each token.

    Parameters
    ----------
    router_logits : ndarray, shape (N, E)
    chosen : ndarray of integers, shape (N, k)
        From `choose_experts`.

    Returns
    -------
    ndarray, shape (N, k)
        Rows sum to 1, dtype of `router_logits`.

    Raises
    ------
    DataError
        If `router_logits` is not float32 or float64, or no expert is chosen.

    References
    ----------
    Jiang et al. 2024, "Mixtral of Experts" (arXiv 2401.04088), section 2.1.

    Examples
    --------
    >>> routing_weights(np.log([[5.0, 3.0, 1.0]]), chosen=np.array([[1, 2]]))
    array([[0.75, 0.25]])
    """
    require_floating(router_logits=router_logits)
    if not chosen.shape[-1]:
        raise DataError("chosen must have at least one expert per token")
    logits = np.take_along_axis(router_logits, chosen, axis=-1)  # (N, k)
    weights = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    weights /= np.sum(weights, axis=-1, keepdims=True)

    def vjp(dweights):
        dlogits = weights * (dweights - np.sum(dweights * weights, axis=-1, keepdims=True))  # (N, k)
        drouter_logits = np.zeros_like(router_logits)
        np.put_along_axis(drouter_logits, chosen, dlogits, axis=-1)  # the k experts of a token differ
        return (drouter_logits,)

    return weights, vjp


@differentiable
def routing_probabilities(router_logits: Array, *, chosen: Array) -> Array:
    """Softmax over all logits of each token, at the chosen experts.

    `routing_weights` are these numbers divided by their sum.

    Parameters
    ----------
    router_logits : ndarray, shape (N, E)
    chosen : ndarray of integers, shape (N, k)
        From `choose_experts`.

    Returns
    -------
    ndarray, shape (N, k)
        Rows sum to at most 1, dtype of `router_logits`.

    Raises
    ------
    DataError
        If `router_logits` is not float32 or float64.

    References
    ----------
    Yang et al. 2025, "Qwen3 Technical Report" (arXiv 2505.09388), with `norm_topk_prob` false in config.json.

    Examples
    --------
    >>> routing_probabilities(np.log([[5.0, 3.0, 2.0]]), chosen=np.array([[0, 1]]))
    array([[0.5, 0.3]])
    """
    require_floating(router_logits=router_logits)
    probabilities = np.exp(router_logits - np.max(router_logits, axis=-1, keepdims=True))  # (N, E)
    probabilities /= np.sum(probabilities, axis=-1, keepdims=True)

    def vjp(dweights):
        dprobabilities = np.zeros_like(router_logits)  # (N, E)
        np.put_along_axis(dprobabilities, chosen, dweights, axis=-1)
        mean = np.sum(dprobabilities * probabilities, axis=-1, keepdims=True)
        return (probabilities * (dprobabilities - mean),)

    return np.take_along_axis(probabilities, chosen, axis=-1), vjp


@differentiable
def take_rows(x: Array, *, rows: Array) -> Array:
    """Rows of a matrix, x[rows]: the tokens of one expert.

    Parameters
    ----------
    x : ndarray, shape (N, C)
    rows : ndarray of integers, shape (n,)
        Row indices without duplicates.

    Returns
    -------
    ndarray, shape (n, C)

    Examples
    --------
    >>> take_rows(np.eye(3), rows=np.array([2, 0]))
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """

    require_floating(x=x)

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[rows] = dy
        return (dx,)

    return x[rows], vjp


@differentiable
def combine_experts(weights: Array, *outputs: Array, rows: list[Array], slots: list[Array]) -> Array:
    """Weighted sum of the outputs of each token's experts.

    Parameters
    ----------
    weights : ndarray, shape (N, k)
        From `routing_weights`.
    outputs : ndarray, shape (n_e, C), one per expert
        Output of expert e for its n_e tokens.
    rows, slots : sequence of ndarray of integers, shape (n_e,), one per expert
        For each expert: the indices of its tokens, and for each of these tokens the column of `weights` that holds the
        expert's weight.

    Returns
    -------
    ndarray, shape (N, C)

    References
    ----------
    Shazeer et al. 2017 (arXiv 1701.06538), eq. 1.

    Examples
    --------
    >>> rows, slots = [np.array([0])] * 2, [np.array([0]), np.array([1])]
    >>> combine_experts(np.array([[0.75, 0.25]]), np.array([[4.0]]), np.array([[8.0]]), rows=rows, slots=slots)
    array([[5.]])
    """
    require_floating(weights=weights, **{f"outputs[{i}]": output for i, output in enumerate(outputs)})
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

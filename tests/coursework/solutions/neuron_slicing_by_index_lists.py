"""Lists of indices, and new layers."""

import numpy as np

from tinyslm.modules import Linear


def neuron_importance(up, down, gate=None, *, method="magnitude", mean_activation=None):
    readers = [up] if gate is None else [up, gate]
    scores = []
    for i in range(len(up)):
        if method == "magnitude":
            scores.append(sum(np.sum(w[i] ** 2) for w in readers) + np.sum(down[:, i] ** 2))
        elif method == "peak_to_peak":
            scores.append(sum(w[i].max() + abs(w[i].min()) for w in readers))
        else:
            scores.append(np.linalg.norm(down[:, i]) * mean_activation[i])
    return np.sqrt(scores) if method == "magnitude" else np.array(scores)


def slice_neurons(up, down, gate, keep):
    keep = [int(i) for i in keep]
    return [rows(up, keep), columns(down, keep), None if gate is None else rows(gate, keep)]


def rows(layer, keep):
    if isinstance(layer, np.ndarray):
        return layer[keep]
    return Linear(layer.weight[keep], None if layer.bias is None else layer.bias[keep])


def columns(layer, keep):
    if isinstance(layer, np.ndarray):
        return np.stack([layer[:, i] for i in keep], axis=1)
    return layer.replace(weight=columns(layer.weight, keep))

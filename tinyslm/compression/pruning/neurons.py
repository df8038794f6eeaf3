"""Structured pruning of feed-forward layers: whole neurons go, and the arrays really become smaller.

Neuron i of down(activation(gate(x)) * up(x)) is row i of up and gate together with column i of down: what it reads and
what it writes. up, gate: (F, C);  down: (C, F).
"""

import numpy as np
import scipy

from tinyslm.compression.argument_checks import require_finite, require_matrix, require_same_shape
from tinyslm.compression.pruning.selection import require_ascending
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear


def neuron_importance(up, down, gate=None, *, method="magnitude", mean_activation=None):
    """How much each neuron matters: (F,), larger is more important.

    up, gate: (F, C) weights (gate None if the layer has none);  down: (C, F) weight. Biases are not looked at. Methods:
    "magnitude": sqrt(|up_i|^2 + |gate_i|^2 + |down_:i|^2), the L2 norm of all weights of the neuron.
        Source: Li et al. 2017, section 3.1, with the L2 norm over the coupled group as in Fang et al. 2023 (DepGraph).
    "peak_to_peak": (max_j gate_ij + |min_j gate_ij|) + (max_j up_ij + |min_j up_ij|). Source: Martra 2025
        (arXiv 2512.22671), there also "maximum absolute weight", which it is not; down is not used.
    "activation": |down_:i| * mean_activation_i, where mean_activation: (F,) is the mean over calibration tokens of the
        magnitude of what enters down. Source: the independent channel contribution of NVIDIA Model Optimizer.
    The first two change if up_i is multiplied and down_:i divided by the same number, although the layer does not.
    """
    _require_coupled(up, down, gate)
    readers = [up] if gate is None else [gate, up]
    if method == "magnitude":
        squares = [np.sum(np.square(weight), axis=1) for weight in readers] + [np.sum(np.square(down), axis=0)]
        return np.sqrt(sum(squares))  # (F,)
    if method == "peak_to_peak":
        return sum(np.max(weight, axis=1) + np.abs(np.min(weight, axis=1)) for weight in readers)  # (F,)
    if method == "activation":
        if mean_activation is None:
            raise ConfigError('method "activation" needs mean_activation: (F,), the mean magnitude of each neuron')
        require_same_shape("mean_activation", mean_activation, up.shape[:1])
        return np.linalg.norm(down, axis=0) * mean_activation  # (F,)
    raise ConfigError(f'method must be "magnitude", "peak_to_peak" or "activation", found {method!r}')


def _require_coupled(up, down, gate):
    require_matrix("up", up)
    require_matrix("down", down)
    if down.shape[1] != up.shape[0]:
        raise DataError(f"up (F, C) and down (C, F) must share F neurons, found {up.shape} and {down.shape}")
    if gate is not None:
        require_same_shape("gate", gate, up.shape)
        require_matrix("gate", gate)


def slice_neurons(up, down, gate, keep):
    """(up, down, gate) with the neurons `keep` only: rows of up and gate, their biases, and columns of down.

    up, down, gate: each a `Linear` or a bare weight array; gate may be None.  keep: (k,) ascending indices. The bias of
    down belongs to no neuron and stays. New arrays: nothing refers to the larger ones.
    """
    keep = require_ascending(keep, weight_of(up).shape[0])
    _require_coupled(weight_of(up), weight_of(down), None if gate is None else weight_of(gate))
    return take_outputs(up, keep), take_inputs(down, keep), None if gate is None else take_outputs(gate, keep)


def refit_down(down, gram, keep):
    """The columns (C, k) of down for the neurons `keep` with the smallest error ||h_keep D'^T - h D^T|| of the outputs.

    down: (C, F) weight;  gram: (F, F), h^T h of what enters down on calibration text;  keep: (k,) ascending indices.
    D' = D G[:, keep] G[keep, keep]^-1, the normal equations; of many solutions the nearest to the slice. So no other
    choice, slicing among them, has a smaller error on this text. Computed in float64, dtype of down.
    """
    require_matrix("down", down)
    require_same_shape("gram", gram, (down.shape[1],) * 2)
    require_finite("gram", gram)
    keep = require_ascending(keep, down.shape[1])
    gone = np.setdiff1d(np.arange(down.shape[1]), keep)
    wanted = gram[np.ix_(keep, gone)] @ down[:, gone].T.astype(np.float64)  # (k, C)
    move = scipy.linalg.lstsq(gram[np.ix_(keep, keep)], wanted, lapack_driver="gelsy")[0]  # (k, C)
    return (down[:, keep] + move.T).astype(down.dtype)


def weight_of(layer):
    """The weight of a `Linear`, or a bare weight itself. Raises ConfigError for any other layer."""
    if isinstance(layer, Linear):
        return layer.weight
    if isinstance(layer, np.ndarray):
        return layer
    raise ConfigError(f"only a Linear or an array can be sliced, found {type(layer).__name__}: slice first")


def take_outputs(layer, keep):
    """These outputs of a `Linear` or bare weight: rows, and entries of the bias."""
    if not isinstance(layer, Linear):
        return np.take(layer, keep, axis=0)
    bias = None if layer.bias is None else np.take(layer.bias, keep)
    return layer.replace(weight=np.take(layer.weight, keep, axis=0), bias=bias)


def take_inputs(layer, keep):
    """A `Linear` or bare weight for these of its inputs: columns."""
    if not isinstance(layer, Linear):
        return np.take(layer, keep, axis=1)
    return layer.replace(weight=np.take(layer.weight, keep, axis=1))

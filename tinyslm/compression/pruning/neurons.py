"""Structured pruning of feed-forward layers: importance of whole neurons, and smaller arrays without some of them.

The weights of neuron i of down(activation(gate(x)) * up(x)) are row i of up and gate, and column i of down.
up, gate: (F, C);  down: (C, F).
Step: `SliceNeurons` in `tinyslm/recipes/pruning/neurons.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, matrix, one_of
from tinyslm.compression.pruning.slicing import ascending, linear_or_matrix, take_inputs, take_outputs
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear


@checked(
    up=matrix("F", "C"),
    down=matrix("out", "F"),
    gate=matrix("F", "C"),
    mean_activation=array("F"),
    method=one_of("magnitude", "peak_to_peak", "activation"),
)
def neuron_importance(
    up: np.ndarray,
    down: np.ndarray,
    gate: np.ndarray | None = None,
    *,
    method: str = "magnitude",
    mean_activation: np.ndarray | None = None,
) -> np.ndarray:
    """Importance of each neuron of a feed-forward layer; larger is more important. Biases are ignored.

    Methods:

    - "magnitude": sqrt(|up_i|^2 + |gate_i|^2 + |down_:i|^2), the L2 norm of all weights of the neuron.
    - "peak_to_peak": (max_j gate_ij + |min_j gate_ij|) + (max_j up_ij + |min_j up_ij|); down is not used.
    - "activation": |down_:i| * mean_activation_i.

    "magnitude" and "peak_to_peak" change if up_i is multiplied and down_:i is divided by the same positive number,
    although the output of a gated layer, or of a layer with ReLU, does not change.

    Parameters
    ----------
    up : ndarray, shape (F, C)
        Weight of the up projection.
    down : ndarray, shape (C, F)
        Weight of the down projection.
    gate : ndarray, shape (F, C), optional
        Weight of the gate projection of a gated layer.
    method : {"magnitude", "peak_to_peak", "activation"}
        The formula.
    mean_activation : ndarray, shape (F,), optional
        For "activation": mean absolute value of each input of the down projection over the calibration tokens.

    Returns
    -------
    ndarray, shape (F,)
        Importance of each neuron. Computed in float64, dtype of the weights.

    Raises
    ------
    DataError
        If shapes do not match, or values are not finite.
    ConfigError
        If the method is unknown, or needs `mean_activation`.

    References
    ----------
    "magnitude": Li et al. 2017, section 3.1, with the L2 norm over the coupled weights as in Fang et al. 2023
    (DepGraph). "peak_to_peak": Martra 2025 (arXiv 2512.22671), also called "maximum absolute weight" there, although it
    is not the largest magnitude. "activation": independent channel contribution of NVIDIA Model Optimizer.

    Examples
    --------
    >>> neuron_importance(np.array([[3.0], [0.0]]), np.array([[4.0, 1.0]]))
    array([5., 1.])
    """
    dtype = up.dtype
    readers = [weight.astype(np.float64) for weight in ([up] if gate is None else [gate, up])]
    down = down.astype(np.float64)
    if method == "magnitude":
        squares = [np.sum(np.square(weight), axis=1) for weight in readers] + [np.sum(np.square(down), axis=0)]
        return np.sqrt(sum(squares)).astype(dtype)  # (F,)
    if method == "peak_to_peak":
        return sum(np.max(weight, axis=1) + np.abs(np.min(weight, axis=1)) for weight in readers).astype(dtype)  # (F,)
    if mean_activation is None:
        raise ConfigError('method "activation" needs mean_activation: (F,), the mean magnitude of each neuron')
    return (np.linalg.norm(down, axis=0) * mean_activation).astype(dtype)  # (F,)


@checked(
    up=linear_or_matrix("F", "C"),
    down=linear_or_matrix("out", "F"),
    gate=linear_or_matrix("F", "C"),
    keep=ascending("F"),
)
def slice_neurons(
    up: Linear | np.ndarray, down: Linear | np.ndarray, gate: Linear | np.ndarray | None, keep: np.ndarray
) -> tuple:
    """The up, down and gate projections with the neurons `keep` only.

    Rows of up and gate, their biases, and columns of down are copied. The bias of down belongs to no neuron and does
    not change.

    Parameters
    ----------
    up : Linear or ndarray, shape (F, C)
        Up projection, a layer or its bare weight.
    down : Linear or ndarray, shape (C, F)
        Down projection.
    gate : Linear or ndarray, shape (F, C), or None
        Gate projection of a gated layer.
    keep : ndarray of int, shape (k,)
        Ascending indices of the neurons to keep.

    Returns
    -------
    tuple
        (up (k, C), down (C, k), gate (k, C) or None), each of the type given.

    Raises
    ------
    DataError
        If `keep` is not ascending, shapes do not match, or values are not finite.
    ConfigError
        If a layer is not a `Linear`, for example already pruned or quantized.

    Examples
    --------
    >>> up, down = np.array([[1.0], [2.0], [3.0]]), np.array([[4.0, 5.0, 6.0]])
    >>> slice_neurons(up, down, None, np.array([0, 2]))
    (array([[1.],
           [3.]]), array([[4., 6.]]), None)
    """
    return take_outputs(up, keep), take_inputs(down, keep), None if gate is None else take_outputs(gate, keep)

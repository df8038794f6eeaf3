"""Slicing of linear layers: choose the units to keep, and remove the other rows or columns of the weights.

Steps: `neurons.py`, `heads.py`, `channels.py` and `experts.py` in `tinyslm/recipes/pruning/`.
Lesson: `lessons/08_pruning_structure.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, integer, matrix
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear


@checked(importance=array("n"), count=integer(1, "n"))
def most_important(importance: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` most important units, in ascending order, so that the kept units stay in order.

    Of two equally important units, the unit with the lower index is kept.

    Parameters
    ----------
    importance : ndarray, shape (n,)
        Importance of each unit (neuron, head, channel, layer or expert); larger is more important.
    count : int
        Number of units to keep, from 1 to n.

    Returns
    -------
    ndarray of int, shape (count,)
        Indices of the units to keep.

    Raises
    ------
    ConfigError
        If `count` is not a whole number from 1 to n.
    DataError
        If importances are not finite.

    Examples
    --------
    >>> most_important(np.array([3.0, 1.0, 2.0, 5.0]), 2)
    array([0, 3])
    """
    return np.sort(np.argsort(-importance, kind="stable")[:count])


def require_ascending(keep, parts: int) -> np.ndarray:
    """`keep` as an array of indices.

    Raises DataError unless it has at least one index, and the indices are ascending and from 0 to parts - 1.
    """
    keep = np.asarray(keep)
    valid = keep.ndim == 1 and keep.size > 0 and np.issubdtype(keep.dtype, np.integer)
    if not (valid and np.all(np.diff(keep) > 0) and keep[0] >= 0 and keep[-1] < parts):
        raise DataError(f"keep must be ascending indices from 0 to {parts - 1}, at least one, found {keep!r}")
    return keep


def ascending(axis: str):
    """Argument check for `checked`: ascending indices of the named axis."""
    return lambda name, keep, sizes: require_ascending(keep, sizes[axis])


def linear_or_matrix(rows: str, columns: str):
    """Argument check for `checked`: a `Linear` or a weight matrix with two named axes."""
    check_weight = matrix(rows, columns)

    def check(name, layer, sizes):
        check_weight(name, weight_of(layer), sizes)
        return layer

    return check


def weight_of(layer: Linear | np.ndarray) -> np.ndarray:
    """The weight matrix (out, in) of a `Linear`, or the matrix itself. Raises ConfigError for other layers."""
    if isinstance(layer, Linear):
        return layer.weight
    if isinstance(layer, np.ndarray):
        return layer
    raise ConfigError(
        f"only a Linear or an array can be sliced, found {type(layer).__name__}: slice before other compression steps"
    )


def take_outputs(layer: Linear | np.ndarray, keep: np.ndarray) -> Linear | np.ndarray:
    """A `Linear` or weight matrix with only the outputs `keep`: rows of the weight and entries of the bias."""
    if not isinstance(layer, Linear):
        return np.take(layer, keep, axis=0)
    bias = None if layer.bias is None else np.take(layer.bias, keep)
    return layer.replace(weight=np.take(layer.weight, keep, axis=0), bias=bias)


def take_inputs(layer: Linear | np.ndarray, keep: np.ndarray) -> Linear | np.ndarray:
    """A `Linear` or weight matrix with only the inputs `keep`: columns of the weight."""
    if not isinstance(layer, Linear):
        return np.take(layer, keep, axis=1)
    return layer.replace(weight=np.take(layer.weight, keep, axis=1))

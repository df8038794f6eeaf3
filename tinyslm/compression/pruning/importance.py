"""Importance of units of any kind: neurons, heads, channels or layers.

A unit is a group of weights that are removed together. `weights` is a list of its coupled arrays (n, ...), with units
along the first axis: for neurons up, gate and the transpose of down. Larger importance is more important.
Steps: `tinyslm/recipes/pruning/importance.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

from collections.abc import Sequence

import numpy as np

from tinyslm.compression.argument_checks import checked, finite_real, integer, one_of, real, require_finite
from tinyslm.errors import ConfigError, DataError

TAYLOR = ("taylor_vector", "taylor_element", "taylor_second")


def coupled(name, arrays, sizes):
    """Argument check for `checked`: list of finite coupled arrays, with the same shapes in all arguments of a call."""
    arrays = [finite_real(name, each) for each in arrays]
    shapes = [each.shape for each in arrays]
    if not arrays or () in shapes or len({shape[0] for shape in shapes}) > 1:
        raise DataError(
            f"{name} must be arrays with the same number of units along the first axis, found shapes {shapes}"
        )
    if shapes != sizes.setdefault("shapes", shapes):
        raise DataError(f"{name} must have shapes {sizes['shapes']}, found {shapes}")
    return arrays


@checked(weights=coupled)
def magnitude_importance(weights: list[np.ndarray]) -> np.ndarray:
    """L2 norm of all weights of each unit.

    The norm is not invariant to function-preserving rescaling of the weights. Sums of squares are computed in float64.

    Parameters
    ----------
    weights : list of ndarray, shape (n, ...)
        Coupled arrays, units along the first axis.

    Returns
    -------
    ndarray, shape (n,)
        Importance of each unit, dtype of the weights.

    Raises
    ------
    DataError
        If the arrays do not have the same number of units, at least one, or are not finite.

    References
    ----------
    Li et al. 2017, section 3.1, with the norm over all coupled weights as in Fang et al. 2023 (DepGraph).

    Examples
    --------
    >>> magnitude_importance([np.array([[3.0], [0.0]]), np.array([4.0, 1.0])])
    array([5., 1.])
    """
    squares = sum(_per_unit(np.square(weight, dtype=np.float64)) for weight in weights)  # (n,)
    return np.sqrt(squares).astype(np.result_type(*weights))


@checked(weights=coupled, gradients=coupled, fishers=coupled, method=one_of(*TAYLOR))
def taylor_importance(
    weights: list[np.ndarray],
    gradients: list[np.ndarray],
    fishers: list[np.ndarray] | None = None,
    *,
    method: str = "taylor_vector",
) -> np.ndarray:
    """Estimated change of the loss if a unit is removed, from the Taylor series at the weights w with gradient g.

    Sums run over all weights of the unit, in all coupled arrays:

    - "taylor_vector": |sum g w|. First order: exact if the loss is linear in the weights of the unit.
    - "taylor_element": sum |g w|. Terms of opposite sign do not cancel: never less than "taylor_vector".
    - "taylor_second": |sum(1/2 F w^2 - g w)|. Second order, with the diagonal F of the empirical Fisher information in
      place of the Hessian.

    LLM-Pruner takes absolute values earlier. Its vector score is the sum, over the rows (or columns) of the coupled
    matrices, of the absolute value of the sum of g w in the row. So terms of different rows do not cancel. Its mixed
    score is sum |g w - 1/2 F w^2|, with one absolute value per weight; "taylor_second" has one per unit.

    Parameters
    ----------
    weights : list of ndarray, shape (n, ...)
        Coupled arrays, units along the first axis.
    gradients : list of ndarray
        Mean gradients of the loss on calibration documents, with the shapes of `weights`.
    fishers : list of ndarray, optional
        For "taylor_second": mean squared gradients, with the shapes of `weights`.
    method : {"taylor_vector", "taylor_element", "taylor_second"}
        The formula.

    Returns
    -------
    ndarray, shape (n,)
        Importance of each unit, in the unit of the loss. Computed in float64, dtype of the weights.

    Raises
    ------
    DataError
        If shapes do not match, or values are not finite.
    ConfigError
        If the method is unknown, or needs `fishers`.

    References
    ----------
    Ma, Fang & Wang 2023, "LLM-Pruner" (arXiv 2305.11627), section 3.2, with the differences above.

    Examples
    --------
    >>> weights, gradients = [np.array([[1.0, 2.0]])], [np.array([[3.0, -1.0]])]
    >>> taylor_importance(weights, gradients), taylor_importance(weights, gradients, method="taylor_element")
    (array([1.]), array([5.]))
    """
    dtype = np.result_type(*weights)
    weights = [weight.astype(np.float64) for weight in weights]
    first = [weight * gradient for weight, gradient in zip(weights, gradients, strict=True)]
    if method == "taylor_element":
        return sum(_per_unit(np.abs(products)) for products in first).astype(dtype)  # (n,)
    change = -sum(_per_unit(products) for products in first)  # (n,)
    if method == "taylor_second":
        if fishers is None:
            raise ConfigError('method "taylor_second" needs fishers: the mean squared gradients, like weights')
        second = [np.square(weight) * fisher for weight, fisher in zip(weights, fishers, strict=True)]
        change += sum(_per_unit(products) for products in second) / 2
    return np.abs(change).astype(dtype)


@checked(count=integer(1, 2**31))
def random_importance(count: int, seed: int | Sequence[int]) -> np.ndarray:
    """Random importance, the baseline for all other methods; the same for the same seed.

    Parameters
    ----------
    count : int
        Number n of units.
    seed : int or sequence of int
        Seed of `numpy.random.default_rng`.

    Returns
    -------
    ndarray, shape (n,)
        Numbers from 0 to 1.

    Raises
    ------
    ConfigError
        If `count` is not a whole number of at least 1.

    Examples
    --------
    >>> np.array_equal(random_importance(3, seed=0), random_importance(3, seed=0))
    True
    """
    return np.random.default_rng(seed).random(count)


def minitron_square(activations: np.ndarray) -> np.ndarray:
    """(mean over tokens of |a|)^2 of one document: (T, n) -> (n,); 0 if T is 0. Squares of documents are added."""
    if len(activations) == 0:
        return np.zeros(activations.shape[1])
    return np.square(np.mean(np.abs(activations), axis=0, dtype=np.float64))


def activations_of_documents(name, documents, sizes):
    """Argument check for `checked`: a list of finite matrices (T, n) with the same number n of units, at least one."""
    documents = [real(name, each) for each in documents]
    if not documents:
        raise DataError("importance needs the activations of at least one document")
    shapes = [each.shape for each in documents]
    if any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) > 1 or shapes[0][1] == 0:
        raise DataError(f"{name} must be matrices (T, n) with the same number of units, found shapes {shapes}")
    for each in documents:
        require_finite(name, each)
    return documents


@checked(documents=activations_of_documents)
def minitron_importance(documents: list[np.ndarray]) -> np.ndarray:
    """Minitron importance: sqrt(sum over documents of (mean over tokens of |a|)^2) for activations a of each unit.

    The activations are: for neurons the inputs of the down projection, for heads the L2 norm of the head's output at
    each token, for channels the outputs of the norms. The order of aggregation (mean over tokens, then L2 over
    documents) matters: other orders rank units differently.

    Parameters
    ----------
    documents : list of ndarray, shape (T, n)
        Activations of n units, one array per calibration document; T can differ.

    Returns
    -------
    ndarray of float64, shape (n,)
        Importance of each unit.

    Raises
    ------
    DataError
        If there is no document, shapes do not match, or values are not finite.

    References
    ----------
    Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation" (Minitron, arXiv
    2407.14679), section 2.2. Aggregation: NVIDIA Model Optimizer (for heads see `head_importance`).

    Examples
    --------
    >>> minitron_importance([np.array([[3.0, 0.0], [-3.0, 2.0]]), np.array([[4.0, 0.0]])])
    array([5., 1.])
    """
    return np.sqrt(sum(minitron_square(activations) for activations in documents))


def _per_unit(array):
    """The sum over all entries of each unit: (n, ...) -> (n,)."""
    return np.sum(array.reshape(len(array), -1), axis=1)

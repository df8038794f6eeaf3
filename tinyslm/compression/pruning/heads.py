"""Structured pruning of attention: importance and slicing of query heads and of key/value groups.

H query heads share G key/value heads: query head h uses key/value head h // (H / G). A group is a key/value head with
its H / G query heads. The weights of head h are D rows of query and D columns of output. The weights of key/value head
g are D rows of key and D rows of value.
query: (H D, C);  key, value: (G D, C);  output: (C, H D). The head size D does not change: rotary positions rotate its
dimensions in pairs, and the scale of the scores depends on it.
Steps: `SliceHeads` and `SliceGroups` in `tinyslm/recipes/pruning/heads.py`. Lesson: `lessons/08_pruning_structure.py`.
"""

import numpy as np

from tinyslm.compression.argument_checks import array, checked, integer, matrix, one_of, require_same_shape
from tinyslm.compression.pruning.importance import magnitude_importance, minitron_importance
from tinyslm.compression.pruning.slicing import most_important, require_ascending, take_inputs, take_outputs, weight_of
from tinyslm.errors import ConfigError, DataError
from tinyslm.modules import Linear

LARGEST = 2**31  # no head size and no number of groups is larger


@checked(
    query=matrix("H D", "C"),
    output=matrix("out", "H D"),
    head_dim=integer(1, "H D"),
    method=one_of("magnitude", "minitron"),
)
def head_importance(
    query: np.ndarray,
    output: np.ndarray,
    *,
    head_dim: int,
    method: str = "magnitude",
    mixed: list[np.ndarray] | None = None,
) -> np.ndarray:
    """Importance of each query head; larger is more important.

    Methods:

    - "magnitude": L2 norm of the head's rows of query and columns of output.
    - "minitron": `minitron_importance` of the L2 norm of the head's D outputs at each token. The norm over D at each
      token is the paper's. NVIDIA Model Optimizer aggregates each of the D outputs over tokens and documents before it
      takes the norm over D, so its scores differ.

    Parameters
    ----------
    query : ndarray, shape (H * head_dim, C)
        Weight of the query projection.
    output : ndarray, shape (C, H * head_dim)
        Weight of the output projection.
    head_dim : int
        Head size D.
    method : {"magnitude", "minitron"}
        The formula.
    mixed : list of ndarray, shape (T, H * head_dim), optional
        For "minitron": inputs of the output projection, one array per calibration document.

    Returns
    -------
    ndarray, shape (H,)
        Importance of each query head, computed in float64. dtype of the weights ("magnitude"), or float64 ("minitron").

    Raises
    ------
    DataError
        If shapes do not match, values are not finite, or the rows of query are not a whole number of heads.
    ConfigError
        If `head_dim` is out of range, the method is unknown, or needs `mixed`.

    References
    ----------
    Muralidharan et al. 2024 (Minitron, arXiv 2407.14679), section 2.2.

    Examples
    --------
    >>> head_importance(np.array([[3.0], [0.0]]), np.array([[4.0, 1.0]]), head_dim=1)
    array([5., 1.])
    """
    if method == "magnitude":
        return magnitude_importance(by_head([query, output.T], head_dim))
    if mixed is None:
        raise ConfigError('method "minitron" needs mixed: inputs of the output projection, (T, H D) per document')
    for document in mixed:
        require_same_shape("mixed", np.asarray(document), (len(document), len(query)))
    return minitron_importance([head_norms(document, head_dim) for document in mixed])


def head_norms(mixed: np.ndarray, head_dim: int) -> np.ndarray:
    """L2 norm of each head's output at each token, in float64: (T, H D) -> (T, H)."""
    mixed = np.asarray(mixed, np.float64)
    return np.linalg.norm(mixed.reshape(len(mixed), mixed.shape[1] // head_dim, head_dim), axis=-1)


def by_head(weights: list[np.ndarray], head_dim: int) -> list[np.ndarray]:
    """Arrays with D rows per head as arrays with heads along the first axis: (H D, ...) -> (H, D, ...)."""
    return [weight.reshape(count_heads(weight, head_dim), head_dim, *weight.shape[1:]) for weight in weights]


@checked(importance=array("H"))
def group_importance(importance: np.ndarray, groups: int) -> np.ndarray:
    """Importance of each group: the sum over its query heads.

    Parameters
    ----------
    importance : ndarray, shape (H,)
        Importance of each query head.
    groups : int
        Number G of key/value heads; it divides H.

    Returns
    -------
    ndarray, shape (G,)
        Importance of each group.

    Raises
    ------
    ConfigError
        If `groups` is not a whole number from 1 to H.
    DataError
        If `groups` does not divide H, or importances are not finite.

    Examples
    --------
    >>> group_importance(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    array([3., 7.])
    """
    return np.sum(_in_groups(importance, groups), axis=1)


def most_important_heads(importance: np.ndarray, groups: int, count: int) -> np.ndarray:
    """Indices of the `count` most important query heads of each group, in ascending order.

    Parameters
    ----------
    importance : ndarray, shape (H,)
        Importance of each query head.
    groups : int
        Number G of key/value heads; it divides H.
    count : int
        Number of query heads to keep in each group, from 1 to H / G.

    Returns
    -------
    ndarray of int, shape (G * count,)
        Indices of the query heads to keep.

    Raises
    ------
    ConfigError
        If `groups` or `count` is out of range.
    DataError
        If `groups` does not divide H, or importances are not finite.

    Examples
    --------
    >>> most_important_heads(np.array([1.0, 2.0, 4.0, 3.0]), groups=2, count=1)
    array([1, 2])
    """
    by_group = _in_groups(importance, groups)  # (G, H / G)
    return np.concatenate([most_important(row, count) + g * len(row) for g, row in enumerate(by_group)])


@checked(importance=array("H"), groups=integer(1, "H"))
def _in_groups(importance, groups):
    """(H,) -> (G, H / G)."""
    if importance.size % groups:
        raise DataError(f"the number of query heads, {importance.size}, is not a multiple of groups, {groups}")
    return importance.reshape(groups, -1)


@checked(head_dim=integer(1, LARGEST), groups=integer(1, LARGEST))
def slice_heads(
    query: Linear | np.ndarray, output: Linear | np.ndarray, keep: np.ndarray, *, groups: int, head_dim: int
) -> tuple:
    """The query and output projections with the query heads `keep` only.

    Each group must keep the same number of query heads, because the index of a query head determines its group.

    Parameters
    ----------
    query : Linear or ndarray, shape (H * head_dim, C)
        Query projection, a layer or its bare weight.
    output : Linear or ndarray, shape (C, H * head_dim)
        Output projection.
    keep : ndarray of int, shape (k,)
        Ascending indices of the query heads to keep, as of `most_important_heads`.
    groups : int
        Number of key/value heads.
    head_dim : int
        Head size D.

    Returns
    -------
    tuple
        (query (k * head_dim, C), output (C, k * head_dim)), each of the type given.

    Raises
    ------
    DataError
        If `keep` is not ascending, or the rows of query are not a whole number of heads in each group.
    ConfigError
        If groups keep different numbers of query heads, or a layer is not a `Linear`.

    Examples
    --------
    >>> slice_heads(np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]]), np.array([1]), groups=1, head_dim=1)
    (array([[2.]]), array([[4.]]))
    """
    heads = count_heads(query, head_dim)
    if heads % groups:
        raise DataError(f"the number of query heads, {heads}, is not a multiple of groups, {groups}")
    keep = require_ascending(keep, heads)
    kept = np.bincount(keep // (heads // groups), minlength=groups)  # (G,)
    if np.any(kept != kept[0]):
        raise ConfigError(f"every key/value head must keep the same number of query heads, found {kept.tolist()}")
    features = head_features(keep, head_dim)
    return take_outputs(query, features), take_inputs(output, features)


@checked(head_dim=integer(1, LARGEST))
def slice_groups(
    query: Linear | np.ndarray,
    key: Linear | np.ndarray,
    value: Linear | np.ndarray,
    output: Linear | np.ndarray,
    keep: np.ndarray,
    *,
    head_dim: int,
) -> tuple:
    """The four projections of attention with the groups `keep` only: key/value heads and their query heads.

    Parameters
    ----------
    query : Linear or ndarray, shape (H * head_dim, C)
        Query projection, a layer or its bare weight.
    key, value : Linear or ndarray, shape (G * head_dim, C)
        Key and value projections.
    output : Linear or ndarray, shape (C, H * head_dim)
        Output projection.
    keep : ndarray of int, shape (k,)
        Ascending indices of the key/value heads to keep.
    head_dim : int
        Head size D.

    Returns
    -------
    tuple
        (query, key, value, output), each of the type given, with k key/value heads and k * H / G query heads.

    Raises
    ------
    DataError
        If `keep` is not ascending, or the rows of query or key are not a whole number of heads.
    ConfigError
        If a layer is not a `Linear`.

    Examples
    --------
    Four query heads share two key/value heads; the second group is kept.

    >>> query, key = np.arange(4.0)[:, None], np.arange(2.0)[:, None]
    >>> query, key, value, output = slice_groups(query, key, key, query.T, np.array([1]), head_dim=1)
    >>> query.tolist(), key.tolist(), output.tolist()
    ([[2.0], [3.0]], [[1.0]], [[2.0, 3.0]])
    """
    heads, groups = (count_heads(layer, head_dim) for layer in (query, key))
    keep = require_ascending(keep, groups)
    per_group = heads // groups
    query_features = head_features(keep, per_group * head_dim)  # (k D H / G,)
    group_features = head_features(keep, head_dim)  # (k D,)
    return (
        take_outputs(query, query_features),
        take_outputs(key, group_features),
        take_outputs(value, group_features),
        take_inputs(output, query_features),
    )


def count_heads(layer: Linear | np.ndarray, head_dim: int) -> int:
    """Number of heads of a query or key projection."""
    rows = len(weight_of(layer))
    if rows % head_dim:
        raise DataError(f"the number of rows, {rows}, is not a multiple of the head size {head_dim}")
    return rows // head_dim


def head_features(heads, size: int) -> np.ndarray:
    """Feature indices of heads with `size` features each: (k,) -> (k size,)."""
    return (np.asarray(heads)[:, None] * size + np.arange(size)).reshape(-1)

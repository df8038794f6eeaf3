"""Relative position bias (T5): a learned number per head and distance, added to the attention scores.

Small distances get their own bucket. Larger ones share logarithmic buckets. All distances of `max_distance` or more
share the last one. So the table is small, and distances longer than any in training have an entry.
"""

import math

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.errors import ConfigError
from tinyslm.ops.argument_checks import require_integers
from tinyslm.ops.embedding import embedding
from tinyslm.tree import Array


def relative_position_buckets(distance: Array, *, buckets: int, max_distance: int, bidirectional: bool) -> Array:
    """Bucket of each distance, position of the key minus position of the query.

    With n buckets for one direction, distances below n // 2 have one bucket each. The width of the others grows with
    the distance, so that buckets are equally wide on a logarithmic scale. The logarithm is computed in float32, as in
    Hugging Face transformers: its rounding can matter at the border of two buckets.

    Parameters
    ----------
    distance : ndarray of integers, shape (...)
    buckets
        Number of buckets.
    max_distance
        This and all larger distances are in the last bucket of their direction.
    bidirectional
        True: keys after the query use the upper half of the buckets, all others the lower half. False: keys after the
        query, which the causal mask excludes, count as distance 0.

    Returns
    -------
    ndarray of integers, shape (...)
        From 0 to `buckets` - 1.

    Raises
    ------
    DataError
        If `distance` does not hold integers.
    ConfigError
        If a direction has fewer than 2 buckets, or half of its buckets reach `max_distance`.

    References
    ----------
    Raffel et al. 2020, "T5" (arXiv 1910.10683), section 2.1; formula from their code (Mesh TensorFlow).

    Examples
    --------
    >>> relative_position_buckets(np.array([0, -1, -5, -9, -500]), buckets=8, max_distance=16, bidirectional=False)
    array([0, 1, 4, 6, 7])
    """
    distance = np.asarray(distance)
    require_integers("distance", distance)
    n = buckets // 2 if bidirectional else buckets
    if not 2 <= n < 2 * max_distance:
        raise ConfigError(
            f"a direction must have at least 2 buckets, and half of them less than max_distance = {max_distance}, "
            f"found {n}"
        )
    first = np.where(distance > 0, n, 0) if bidirectional else 0
    length = np.abs(distance) if bidirectional else np.maximum(-distance, 0)
    exact = n // 2
    ratio = np.maximum(length, exact).astype(np.float32) / np.float32(exact)  # at least 1
    steps = np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(n - exact)
    far = np.minimum(exact + steps.astype(np.int64), n - 1)
    return first + np.where(length < exact, length, far)


@differentiable
def relative_position_bias(buckets: Array, table: Array) -> Array:
    """Position bias of every head, bias[h, t, s] = table[buckets[t, s], h].

    Parameters
    ----------
    buckets : ndarray of integers, shape (T, S)
        From `relative_position_buckets`.
    table : ndarray, shape (number of buckets, H)

    Returns
    -------
    ndarray, shape (H, T, S)
        Gradients: None for `buckets`, the shape of `table` for `table`.

    Examples
    --------
    >>> relative_position_bias(np.array([[0, 1], [1, 0]]), np.array([[0.5], [-0.5]]))
    array([[[ 0.5, -0.5],
            [-0.5,  0.5]]])
    """
    rows, rows_vjp = embedding.with_vjp(buckets, table)  # (T, S, H)
    return rows.transpose(2, 0, 1), lambda dy: rows_vjp(dy.transpose(1, 2, 0))

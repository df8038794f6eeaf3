"""Relative positions: what the distance of two tokens adds to the score of one for the other (T5).

Near distances have a number of their own, far ones share one with others, and those beyond `max_distance` share one
with each other: so the table is small, and every distance has an entry, also those longer than any of training.
"""

import math

import numpy as np

from tinyslm.autodiff import differentiable
from tinyslm.ops.embedding import embedding


def relative_position_buckets(distance, *, buckets, max_distance, bidirectional):
    """The bucket of each distance (slot of the key minus slot of the query).

    distance: (...) integers;  returns (...) integers from 0 to buckets - 1. bidirectional: keys after the query use the
    upper half of the buckets, all others the lower; otherwise keys after the query, which a causal mask hides, count
    as distance 0. With n buckets for one direction, distances below n // 2 have one each; the others grow in width
    with the logarithm of the distance, and what is max_distance or more away is in the last. The logarithm is that of
    float32, as in Hugging Face transformers: at the border of two buckets its last bit may decide.
    Source: Raffel et al. 2020, section 2.1; the formula is that of their code (Mesh TensorFlow).
    """
    distance = np.asarray(distance)
    n = buckets // 2 if bidirectional else buckets
    first = np.where(distance > 0, n, 0) if bidirectional else 0
    length = np.abs(distance) if bidirectional else np.maximum(-distance, 0)
    exact = n // 2
    ratio = np.maximum(length, exact).astype(np.float32) / np.float32(exact)  # at least 1
    steps = np.log(ratio) / np.float32(math.log(max_distance / exact)) * np.float32(n - exact)
    far = np.minimum(exact + steps.astype(np.int64), n - 1)
    return first + np.where(length < exact, length, far)


@differentiable
def relative_position_bias(buckets, table):
    """bias[h, t, s] = table[buckets[t, s], h].

    buckets: (T, S) integers;  table: (number of buckets, H);  returns (H, T, S).
    """
    rows, rows_vjp = embedding.with_vjp(buckets, table)  # (T, S, H)
    return rows.transpose(2, 0, 1), lambda dy: rows_vjp(dy.transpose(1, 2, 0))

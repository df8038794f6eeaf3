"""N:M pruning: in every M consecutive inputs of a row, N weights stay. Hardware can skip the others.

Source: Mishra et al. 2021 (Accelerating sparse deep neural networks, arXiv 2104.08378); general N and M: Zhou et al.
2021. The groups lie along the inputs, over which a product adds up, not along the outputs.
"""

from typing import NamedTuple

import numpy as np

from tinyslm.compression.argument_checks import require_integer, require_matrix, require_same_shape
from tinyslm.errors import ConfigError, DataError


def largest_in_rows(scores, count):
    """True for all but the `count` smallest scores of every row (last axis): exactly that many go from each.

    Of equal scores the one further left goes first, so that masks of growing counts are nested.
    """
    order = np.argsort(scores, axis=-1, kind="stable")
    kept = np.ones(scores.shape, bool)
    np.put_along_axis(kept, order[..., :count], False, axis=-1)
    return kept


def n_m_mask(scores, n, m):
    """True for the n largest scores in every m consecutive ones of a row; exactly n, also where scores are equal.

    scores: (out, in), such as |W| or those of Wanda, with in a multiple of m;  returns booleans of the same shape.
    """
    scores = np.asarray(scores)
    require_matrix("scores", scores)
    require_groups(scores.shape[1], n, m)
    groups = scores.reshape(scores.shape[0], -1, m)  # (out, in / m, m)
    return largest_in_rows(groups, m - n).reshape(scores.shape)


def require_groups(columns, n, m):
    """ConfigError or DataError unless n of every m columns can stay."""
    require_integer("m", m, 1, 2**15)
    require_integer("n", n, 0, m)
    if columns % m:
        raise DataError(f"a pattern {n}:{m} needs a number of inputs that {m} divides, found {columns}")


def parse_pattern(pattern):
    """(n, m) of a pattern such as "2:4", (0 < n < m). Raises ConfigError for anything else."""
    first, colon, second = str(pattern).partition(":")
    if not (colon and first.isdecimal() and second.isdecimal() and 0 < int(first) < int(second)):
        raise ConfigError(f'pattern is {pattern!r}, expected one like "2:4" (n of every m weights stay)')
    return int(first), int(second)


class PackedNM(NamedTuple):
    """A matrix of which n of every m weights of a row stay: those weights, and their places in as few bits as possible.

    values: (out, in / m, n);  places: (bytes,) uint8, ceil(log2 m) bits for each value, the lowest bit first: its place
    in its group, ascending in the group. For 2:4 that is 2 bits, so of 16-bit weights 36 of 64 bits are left. (The
    C(m, n) choices of a group could be numbered instead, in 3 bits instead of 4 for 2:4. Hardware does not.)
    """

    values: np.ndarray
    places: np.ndarray
    m: int

    def unpack(self):
        """The (out, in) matrix with its zeros. Raises DataError for places that are none."""
        rows, groups, _ = self.values.shape
        bits = place_bits(self.m)
        if self.places.size != packed_bytes(self.values.size, self.m):
            raise DataError(f"{self.values.size} places of {bits} bits do not fill {self.places.size} bytes")
        planes = np.unpackbits(self.places, count=self.values.size * bits).reshape(*self.values.shape, bits)
        indices = planes.astype(np.int64) @ (1 << np.arange(bits))  # (out, in / m, n)
        if np.any(indices >= self.m):
            raise DataError(f"a place in a group of {self.m} is {np.max(indices)}")
        dense = np.zeros((rows, groups, self.m), self.values.dtype)
        np.put_along_axis(dense, indices, self.values, axis=-1)
        return dense.reshape(rows, groups * self.m)  # (out, in)


def place_bits(m) -> int:
    """The bits of a place in a group of m."""
    return (m - 1).bit_length()


def packed_bytes(count, m) -> int:
    """The bytes of `count` packed places in groups of m."""
    return -(-count * place_bits(m) // 8)


def pack_n_m(weight, mask, n, m):
    """The `PackedNM` of the weights that an N:M mask keeps. weight, mask: (out, in). Each group must keep exactly n."""
    weight, mask = np.asarray(weight), np.asarray(mask)
    require_matrix("weight", weight)
    require_same_shape("mask", mask, weight.shape)
    require_groups(weight.shape[1], n, m)
    groups = mask.reshape(mask.shape[0], -1, m)  # (out, in / m, m)
    counts = np.count_nonzero(groups, axis=-1)
    if np.any(counts != n):
        raise DataError(f"every {m} weights must keep {n}, found {counts[counts != n][0]} in a group")
    indices = np.argsort(~groups, axis=-1, kind="stable")[..., :n]  # (out, in / m, n)
    values = np.take_along_axis(weight.reshape(groups.shape), indices, axis=-1)
    planes = (indices[..., None] >> np.arange(place_bits(m))) & 1  # (out, in / m, n, bits)
    return PackedNM(values, np.packbits(planes.astype(np.uint8)), m)

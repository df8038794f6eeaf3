"""N:M pruning: keep N of every M consecutive weights of a row. Hardware can skip the others.

Sources: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv 2104.08378), for 2:4; Zhou et al. 2021
for general N and M. A group is M weights of one output, for consecutive inputs.
Steps: the `pattern` of `PruneMagnitude`, `PruneWanda` and `PruneSparseGPT` in `tinyslm/recipes/pruning/`.
Lesson: `lessons/07_pruning_weights.py`.
"""

from typing import NamedTuple

import numpy as np

from tinyslm.compression.argument_checks import array, checked, matrix, require_integer
from tinyslm.compression.pruning.masks import largest_in_rows
from tinyslm.errors import ConfigError, DataError


@checked(scores=matrix("out", "in"))
def n_m_mask(scores: np.ndarray, n: int, m: int) -> np.ndarray:
    """N:M mask: keeps the n largest scores in every m consecutive entries of a row.

    Every group keeps exactly n weights. Of equal scores, the score with the lower index is removed first.

    Parameters
    ----------
    scores : ndarray, shape (out, in)
        Importance of each weight, for example ``abs(weight)`` or `wanda_scores`; m divides in.
    n : int
        Number of weights kept per group, from 0 to m.
    m : int
        Size of a group.

    Returns
    -------
    ndarray of bool, shape (out, in)
        True where a weight is kept.

    Raises
    ------
    DataError
        If `scores` is not a finite matrix, or m does not divide in.
    ConfigError
        If `n` or `m` is out of range.

    References
    ----------
    Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv 2104.08378).

    Examples
    --------
    >>> n_m_mask(np.array([[4.0, 1.0, 3.0, 2.0]]), 2, 4)
    array([[ True, False,  True, False]])
    """
    require_groups(scores.shape[1], n, m)
    groups = scores.reshape(scores.shape[0], -1, m)  # (out, in / m, m)
    return largest_in_rows(groups, m - n).reshape(scores.shape)


def require_groups(columns: int, n: int, m: int):
    """Raise ConfigError for an invalid pattern n:m, or DataError if m does not divide `columns` (length of a row)."""
    require_integer("m", m, 1, 2**15)
    require_integer("n", n, 0, m)
    if columns % m:
        raise DataError(f"pattern {n}:{m} needs a number of inputs divisible by {m}, found {columns}")


def parse_pattern(pattern: str) -> tuple[int, int]:
    """The numbers (n, m) of a pattern such as "2:4".

    Parameters
    ----------
    pattern : str
        "n:m" with 0 < n < m: n of every m weights are kept.

    Returns
    -------
    (int, int)
        n and m.

    Raises
    ------
    ConfigError
        If the text is not a pattern.

    Examples
    --------
    >>> parse_pattern("2:4")
    (2, 4)
    """
    first, colon, second = str(pattern).partition(":")
    if not (colon and first.isdecimal() and second.isdecimal() and 0 < int(first) < int(second)):
        raise ConfigError(f'pattern is {pattern!r}, expected one like "2:4" (n of every m weights are kept)')
    return int(first), int(second)


class PackedNM(NamedTuple):
    """A matrix with an N:M pattern, stored as its kept weights and their bit-packed indices.

    In a 2:4 group of 16-bit weights, an index has 2 bits: the group has 36 bits instead of 64. (One number for the
    C(4, 2) = 6 possible pairs of indices would need 3 bits instead of 4, but hardware does not use this form.)

    Parameters
    ----------
    values : ndarray, shape (out, in / m, n)
        Kept weights, in the order of their indices.
    places : ndarray of uint8
        Indices of the kept weights in their groups, ascending in each group, ceil(log2 m) bits each, lowest bit first.
    m : int
        Size of a group.

    Examples
    --------
    >>> mask = np.array([[True, False, False, True]])
    >>> pack_n_m(np.array([[5.0, 0.0, 0.0, 7.0]]), mask, 2, 4).unpack()
    array([[5., 0., 0., 7.]])
    """

    values: np.ndarray
    places: np.ndarray
    m: int

    def unpack(self) -> np.ndarray:
        """The dense (out, in) matrix. Raises DataError for invalid indices."""
        rows, groups, _ = self.values.shape
        bits = index_bits(self.m)
        if self.places.size != index_bytes(self.values.size, self.m):
            raise DataError(f"places: {self.values.size} indices of {bits} bits do not fit in {self.places.size} bytes")
        planes = np.unpackbits(self.places, count=self.values.size * bits).reshape(*self.values.shape, bits)
        indices = planes.astype(np.int64) @ (1 << np.arange(bits))  # (out, in / m, n)
        if np.any(indices >= self.m):
            raise DataError(f"indices in a group must be 0 to {self.m - 1}, found {np.max(indices)}")
        dense = np.zeros((rows, groups, self.m), self.values.dtype)
        np.put_along_axis(dense, indices, self.values, axis=-1)
        return dense.reshape(rows, groups * self.m)  # (out, in)


def index_bits(m: int) -> int:
    """Number of bits of an index in a group of m weights."""
    return (m - 1).bit_length()


def index_bytes(count: int, m: int) -> int:
    """Number of bytes of `count` packed indices in groups of m weights."""
    return -(-count * index_bits(m) // 8)


@checked(weight=matrix("out", "in", any_dtype=True), mask=array("out", "in", boolean=True))
def pack_n_m(weight: np.ndarray, mask: np.ndarray, n: int, m: int) -> PackedNM:
    """Pack the weights that an N:M mask keeps.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix, of any dtype.
    mask : ndarray of bool, shape (out, in)
        True for exactly n of every m consecutive weights of a row.
    n, m : int
        The pattern.

    Returns
    -------
    PackedNM
        Kept weights and their indices.

    Raises
    ------
    DataError
        If shapes do not match, if a group does not keep exactly n weights, or if m does not divide in.
    ConfigError
        If `n` or `m` is out of range.

    Examples
    --------
    >>> pack_n_m(np.array([[5.0, 0.0, 0.0, 7.0]]), np.array([[True, False, False, True]]), 2, 4).values
    array([[[5., 7.]]])
    """
    require_groups(weight.shape[1], n, m)
    groups = mask.reshape(mask.shape[0], -1, m)  # (out, in / m, m)
    counts = np.count_nonzero(groups, axis=-1)
    if np.any(counts != n):
        raise DataError(f"mask must keep {n} of every {m} weights, found a group with {counts[counts != n][0]}")
    indices = np.argsort(~groups, axis=-1, kind="stable")[..., :n]  # (out, in / m, n)
    values = np.take_along_axis(weight.reshape(groups.shape), indices, axis=-1)
    planes = (indices[..., None] >> np.arange(index_bits(m))) & 1  # (out, in / m, n, bits)
    return PackedNM(values, np.packbits(planes.astype(np.uint8)), m)

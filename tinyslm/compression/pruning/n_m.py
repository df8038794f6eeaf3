"""N:M pruning: in every M consecutive weights of a row, N are kept, so that hardware can skip the others.

Sources: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv 2104.08378), for 2:4; Zhou et al. 2021
for general N and M. The groups lie along the inputs, the axis over which a product is summed, not along the outputs.
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

    The count is exact: of equal scores the one with the lower index is removed first.

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
    """Raise ConfigError or DataError unless rows with `columns` weights can have the pattern n:m."""
    require_integer("m", m, 1, 2**15)
    require_integer("n", n, 0, m)
    if columns % m:
        raise DataError(f"a pattern {n}:{m} needs a number of inputs that {m} divides, found {columns}")


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

    For 2:4 an index takes 2 bits, so 16-bit weights take 36 of 64 bits per group. (Numbering the C(m, n) choices of a
    group would take 3 bits per group of 2:4 in place of 4; hardware does not use that form.)

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
        bits = place_bits(self.m)
        if self.places.size != packed_bytes(self.values.size, self.m):
            raise DataError(f"{self.values.size} indices of {bits} bits do not fill {self.places.size} bytes")
        planes = np.unpackbits(self.places, count=self.values.size * bits).reshape(*self.values.shape, bits)
        indices = planes.astype(np.int64) @ (1 << np.arange(bits))  # (out, in / m, n)
        if np.any(indices >= self.m):
            raise DataError(f"an index in a group of {self.m} is {np.max(indices)}")
        dense = np.zeros((rows, groups, self.m), self.values.dtype)
        np.put_along_axis(dense, indices, self.values, axis=-1)
        return dense.reshape(rows, groups * self.m)  # (out, in)


def place_bits(m: int) -> int:
    """Bits of an index in a group of m."""
    return (m - 1).bit_length()


def packed_bytes(count: int, m: int) -> int:
    """Bytes of `count` packed indices in groups of m."""
    return -(-count * place_bits(m) // 8)


@checked(weight=matrix("out", "in"), mask=array("out", "in", boolean=True))
def pack_n_m(weight: np.ndarray, mask: np.ndarray, n: int, m: int) -> PackedNM:
    """The weights that an N:M mask keeps, in packed form.

    Parameters
    ----------
    weight : ndarray, shape (out, in)
        Weight matrix.
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
        If shapes do not match, a group does not keep n weights, or m does not divide in.
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
        raise DataError(f"every {m} weights must keep {n}, found {counts[counts != n][0]} in a group")
    indices = np.argsort(~groups, axis=-1, kind="stable")[..., :n]  # (out, in / m, n)
    values = np.take_along_axis(weight.reshape(groups.shape), indices, axis=-1)
    planes = (indices[..., None] >> np.arange(place_bits(m))) & 1  # (out, in / m, n, bits)
    return PackedNM(values, np.packbits(planes.astype(np.uint8)), m)

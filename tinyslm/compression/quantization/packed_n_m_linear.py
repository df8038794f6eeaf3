"""Linear layer with an N:M pattern and packed codes: joint pruning and quantization.

Of every m weights of a row, the codes of n are stored with their indices. A 2:4 pattern with 4 bits needs 12 bits for
four weights: 3 per weight, where dense codes need 4.
Applied to models: `StoreSparse` in `tinyslm/recipes/pruning/masked_layers.py`. Lesson: `lessons/09_quantization.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm.compression.argument_checks import require_integer
from tinyslm.compression.pruning.n_m import PackedNM, index_bytes, n_m_mask, pack_n_m, parse_pattern
from tinyslm.compression.quantization.affine import QuantizedArray
from tinyslm.compression.quantization.bit_packing import pack_codes, packed_length, unpack_codes
from tinyslm.compression.quantization.quantized_linear import CodesLinear
from tinyslm.errors import ConfigError, DataError
from tinyslm.tree import Array, constant


class PackedNMLinear(CodesLinear):
    """`Linear` that stores the packed codes of n of every m weights, and their indices. The other weights are 0.

    Each call dequantizes the whole matrix: the layer saves memory, but no time.

    Parameters
    ----------
    codes : ndarray of uint8, shape (out, ceil(in / m * n * bits / 8))
        Codes of the kept weights, packed by `pack_codes`.
    scale : ndarray, shape () or (out, groups)
        One scale per in / groups consecutive weights of a row, or one for the whole matrix.
    places : ndarray of uint8
        Bit-packed indices of the kept weights in their groups of m, as in `PackedNM`.
    zero_point : ndarray of int32, the shape of scale, optional
        None means 0.
    bias : ndarray, shape (out,), optional
        The only array that can be trained.
    in_features : int
        Number of inputs.
    n, m : int
        The pattern.
    bits : int
        Bits per code, 2 to 8.

    Examples
    --------
    >>> from tinyslm.compression.quantization import linear_from_codes, quantize
    >>> weight = quantize(np.array([[7.0, 0.0, 0.0, -7.0]]), bits=4)
    >>> layer = PackedNMLinear.from_codes(linear_from_codes(weight), "2:4")
    >>> layer.codes.nbytes, layer.places.nbytes, layer.dense_weight()
    (1, 1, array([[ 7.,  0.,  0., -7.]]))
    """

    storage: ClassVar[str] = "packed codes of n of every m weights, and their indices"

    places: Array = constant()
    zero_point: Array | None = constant(default=None)
    bias: Array | None = None
    in_features: int = 0
    n: int = 2
    m: int = 4
    bits: int = 4

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Packed codes, indices, bias, and scales and zero points: one of each per group, or one for the matrix."""
        n, m, bits = (settings.get(name, default) for name, default in (("n", 2), ("m", 4), ("bits", 4)))
        require_integer("bits", bits, 2, 8)
        if settings.get("in_features") != shape[1]:
            raise ConfigError(f"in_features is {settings.get('in_features')!r}, expected {shape[1]}")
        if not 2 <= m <= shape[1] or shape[1] % m or not 0 < n < m:
            raise ConfigError(f"the pattern is {n}:{m}, expected n < m, and m a divisor of the {shape[1]} inputs")
        kept = shape[1] // m * n  # weights of a row
        found = np.shape(arrays.get("scale"))
        groups = found[1] if len(found) == 2 and found[1] > 0 and shape[1] % found[1] == 0 else 1
        scales = () if found == () else (shape[0], groups)
        return {
            "codes": (np.uint8, (shape[0], packed_length(kept, bits))),
            "scale": (np.floating, scales),
            "places": (np.uint8, (index_bytes(shape[0] * kept, m),)),
            "zero_point": (np.int32, scales),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_codes(cls, layer: CodesLinear, pattern: str) -> "PackedNMLinear":
        """The layer with the codes of another one. Raises DataError unless its weights have the pattern."""
        weight, (n, m) = layer.quantized_weight(), parse_pattern(pattern)
        dense = weight.dequantize()
        mask = n_m_mask(np.abs(dense), n, m)  # a group with fewer than n non-zero weights keeps zeros
        if np.any(dense[~mask]):
            raise DataError(f"the weights do not have the pattern {pattern}: prune with it first")
        kept = pack_n_m(weight.codes, mask, n, m)
        codes = pack_codes(kept.values.reshape(len(dense), -1), weight.bits)
        zero_point = weight.zero_point if weight.zero_point is not None and np.any(weight.zero_point) else None
        return cls(codes, weight.scale, kept.places, zero_point, layer.bias, dense.shape[1], n=n, m=m, bits=weight.bits)

    def quantized_weight(self) -> QuantizedArray:
        """The weight with unpacked codes (one per byte), scales and zero points. Removed weights have the code of 0."""
        groups = self.in_features // self.m
        kept = unpack_codes(self.codes, self.bits, groups * self.n).reshape(-1, groups, self.n)
        codes = PackedNM(kept, self.places, self.m).unpack()  # (out, in)
        per_row = self.scale.shape[1] if self.scale.ndim == 2 else 1
        if self.zero_point is not None:
            is_kept = PackedNM(np.ones(kept.shape, bool), self.places, self.m).unpack()
            zeros = (
                self.zero_point
                if self.scale.ndim == 0
                else np.repeat(self.zero_point, self.in_features // per_row, axis=1)
            )
            codes = np.where(is_kept, codes, zeros).astype(np.int8)
        group_size = self.in_features // per_row if per_row > 1 else None
        return QuantizedArray(codes, self.scale, self.zero_point, self.bits, group_size)

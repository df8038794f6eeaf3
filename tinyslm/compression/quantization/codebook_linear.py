"""Linear layer with 4-bit weights whose codes are indices of 16 non-uniform levels (NormalFloat-4, FP4).

Formats and rounding: `tinyslm/compression/quantization/nf4.py`. Applied to models:
`tinyslm/recipes/quantization/nf4.py`. Lesson: `lessons/09_quantization.py`.
"""

from typing import ClassVar

import numpy as np

from tinyslm.compression.quantization.affine import QuantizedArray
from tinyslm.compression.quantization.bit_packing import pack_codes
from tinyslm.compression.quantization.nf4 import DoubleQuantized, double_quantize, quantize_to_levels
from tinyslm.compression.quantization.packed_linear import packed_shape
from tinyslm.compression.quantization.quantized_linear import dequantized_linear
from tinyslm.errors import ConfigError
from tinyslm.modules import LinearLayer
from tinyslm.tree import Array, constant

BITS = 4
SCALES_PER_STEP = 256  # scales that share one step size


class CodebookLinear(LinearLayer):
    """`Linear` with 4-bit weights: each weight is a level times the scale of its block.

    The scales are stored in 8 bits each ("double quantization"). Products dequantize a tile of rows at a time.

    Parameters
    ----------
    codes : ndarray of uint8, shape (out, ceil(in / 2))
        Index of a level minus 8, packed by `pack_codes`.
    levels : ndarray, shape (16,)
        The last one is repeated if the format has fewer.
    scale_codes : ndarray of int8
        Codes of all scales, padded to a multiple of `SCALES_PER_STEP`.
    scale_steps : ndarray
        One step size per `SCALES_PER_STEP` scales.
    scale_mean : ndarray, shape ()
        Mean of the scales.
    bias : ndarray, shape (out,), optional
        The only array that can be trained.
    in_features : int
        Number of inputs.
    block_size : int
        Number of neighbouring weights that share a scale. The last block of a row can be shorter.

    References
    ----------
    Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs" (arXiv 2305.14314), section 3.

    Examples
    --------
    >>> from tinyslm.compression.quantization import normal_float4_levels
    >>> from tinyslm.modules import Linear
    >>> linear = Linear(np.array([[3.0, 0.0, -3.0, 1.0]]))
    >>> layer = CodebookLinear.from_linear(linear, normal_float4_levels(), block_size=4)
    >>> layer.codes.nbytes, layer.dense_weight().round(2)
    (2, array([[ 3.  ,  0.  , -3.  ,  1.01]]))
    """

    storage: ClassVar[str] = "4 bits per weight, with 16 levels"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    levels: Array = constant()
    scale_codes: Array = constant()
    scale_steps: Array = constant()
    scale_mean: Array = constant()
    bias: Array | None = None
    in_features: int = 0
    block_size: int = 64

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Packed codes, 16 levels, the scales of the blocks in 8 bits, and the bias."""
        codes = packed_shape(shape, settings, BITS)
        blocks = shape[0] * _blocks_per_row(shape[1], settings.get("block_size", 64))
        steps = -(-blocks // SCALES_PER_STEP)
        return {
            "codes": (np.uint8, codes),
            "levels": (np.floating, (2**BITS,)),
            "scale_codes": (np.int8, (steps * SCALES_PER_STEP,)),
            "scale_steps": (np.floating, (steps,)),
            "scale_mean": (np.floating, ()),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear: LinearLayer, levels: Array, *, block_size: int = 64) -> "CodebookLinear":
        """The layer with every weight rounded to the nearest level.

        levels: at most 16, ascending from -1 to 1. The nearest level is determined with the exact scales. They are
        rounded afterwards, as in the authors' code.
        """
        weight = linear.dense_weight()
        found = quantize_to_levels(weight, levels, block_size)
        scales = double_quantize(found.absmax, SCALES_PER_STEP)
        steps = scales.differences
        codes, levels = _packed_indices(found.codes), _all_levels(levels, weight.dtype)
        return cls(codes, levels, steps.codes, steps.scale, scales.mean, linear.bias, weight.shape[1], block_size)

    def scales(self) -> Array:
        """Scale of every block: (out, ceil(in / block_size))."""
        differences = QuantizedArray(self.scale_codes, self.scale_steps, group_size=SCALES_PER_STEP)
        blocks = (self.out_features, -(-self.in_features // self.block_size))
        return DoubleQuantized(differences, self.scale_mean, blocks).dequantize()

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        return _product(self, x, self.scales())

    def dense_weight(self) -> Array:
        """The dequantized weight (out, in)."""
        return _rows_of(self, self.scales())(slice(None))


class AbsmaxCodebookLinear(LinearLayer):
    """`Linear` with 4-bit weights, as `CodebookLinear`, with the scales of the blocks in floating point.

    Parameters
    ----------
    codes : ndarray of uint8, shape (out, ceil(in / 2))
        Index of a level minus 8, packed by `pack_codes`.
    levels : ndarray, shape (16,)
        In any order.
    absmax : ndarray, shape (out, ceil(in / block_size))
        Scale of each block.
    bias : ndarray, shape (out,), optional
        The only array that can be trained.
    in_features : int
        Number of inputs.
    block_size : int
        Number of neighbouring weights that share a scale. The last block of a row can be shorter.

    References
    ----------
    Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs" (arXiv 2305.14314), section 2.

    Examples
    --------
    >>> from tinyslm.compression.quantization import normal_float4_levels
    >>> from tinyslm.modules import Linear
    >>> linear = Linear(np.array([[3.0, 0.0, -3.0, 1.0]]))
    >>> layer = AbsmaxCodebookLinear.from_linear(linear, normal_float4_levels(), block_size=4)
    >>> layer.absmax, layer.dense_weight().round(2)
    (array([[3.]]), array([[ 3.  ,  0.  , -3.  ,  1.01]]))
    """

    storage: ClassVar[str] = "4 bits per weight, with 16 levels"
    matrix: ClassVar[str] = "codes"

    codes: Array = constant()
    levels: Array = constant()
    absmax: Array = constant()
    bias: Array | None = None
    in_features: int = 0
    block_size: int = 64

    @staticmethod
    def array_forms(shape, settings, arrays):
        """Packed codes, 16 levels, a scale per block, and the bias."""
        return {
            "codes": (np.uint8, packed_shape(shape, settings, BITS)),
            "levels": (np.floating, (2**BITS,)),
            "absmax": (np.floating, (shape[0], _blocks_per_row(shape[1], settings.get("block_size", 64)))),
            "bias": (np.floating, shape[:1]),
        }

    @classmethod
    def from_linear(cls, linear: LinearLayer, levels: Array, *, block_size: int = 64) -> "AbsmaxCodebookLinear":
        """The layer with every weight rounded to the nearest level. levels: at most 16, ascending from -1 to 1."""
        weight = linear.dense_weight()
        found = quantize_to_levels(weight, levels, block_size)
        codes, levels = _packed_indices(found.codes), _all_levels(levels, weight.dtype)
        return cls(codes, levels, found.absmax, linear.bias, weight.shape[1], block_size)

    def __call__(self, x: Array) -> Array:
        """x: (..., in) -> (..., out)."""
        return _product(self, x, self.absmax)

    def dense_weight(self) -> Array:
        """The dequantized weight (out, in)."""
        return _rows_of(self, self.absmax)(slice(None))


def _packed_indices(indices):
    """Indices of levels (out, in), each less 8, packed by `pack_codes`: (out, ceil(in / 2)) uint8.

    A byte then holds two indices, the first one in its lower half.
    """
    return pack_codes((indices.astype(np.int16) - 2 ** (BITS - 1)).astype(np.int8), BITS)


def _product(layer, x, scales):
    """Product of a layer's weight with x, and the bias. scales: (out, ceil(in / block_size))."""
    rows_of = _rows_of(layer, scales)
    return dequantized_linear(x, layer.bias, num_outputs=layer.out_features, rows_of=rows_of, product_of_one=None)


def _rows_of(layer, scales):
    """A function: slice of rows -> these rows of a layer's weight, dequantized as `BlockCodes.dequantize` defines.

    Two neighbouring levels are looked up at once, as the two parts of a complex number.
    """
    levels = layer.levels.astype(scales.dtype)
    both = np.arange(2 ** (2 * BITS))  # all bytes
    pairs = np.stack([levels[both % 2**BITS], levels[both >> BITS]], axis=1)  # (256, 2)
    pairs = pairs.view(np.result_type(levels, np.complex64))[:, 0]  # (256,)

    def rows_of(rows):
        weight = np.take(pairs, layer.codes[rows]).view(levels.dtype)[:, : layer.in_features]  # (n, in)
        weight *= np.repeat(scales[rows], layer.block_size, axis=1)[:, : layer.in_features]
        return weight

    return rows_of


def _all_levels(levels, dtype):
    """16 levels: the last one is repeated if the format has fewer."""
    return np.pad(levels.astype(dtype), (0, 2**BITS - len(levels)), mode="edge")


def _blocks_per_row(columns, block_size):
    if block_size < 1:
        raise ConfigError(f"block_size must be at least 1, found {block_size}")
    return -(-columns // block_size)

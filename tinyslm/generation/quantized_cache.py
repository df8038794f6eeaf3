"""Key/value cache in 8 bits, with one scale per token and head."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyslm.compression.quantization import QuantizedArray, quantize
from tinyslm.generation.cache import KeyValueCache
from tinyslm.tree import Array


class QuantizedKeyValueCache:
    """Same methods as `KeyValueCache`, with integer codes: the error is at most half a quantization step.

    codes: int8, scale and, if asymmetric, zero_point: one number per token and head, each in a separate
    `KeyValueCache`, as keys and values of size D or 1. It returns the dequantized codes for new tokens too, so a text
    that is processed in pieces gives the same numbers as in one pass.
    symmetric: zero point 0. Otherwise the range of each head is used in full, with one more byte per token and head.
    Source: Sheng et al. 2023 (FlexGen), section 5; there in 4 bits, in groups of 64 numbers.
    """

    def __init__(self, capacity: int, *, symmetric=True):
        self.capacity = capacity
        names = ("codes", "scale") if symmetric else ("codes", "scale", "zero_point")
        self.parts = {name: KeyValueCache(capacity) for name in names}

    @property
    def length(self) -> int:
        """Number of stored tokens. A smaller value discards the tokens after it."""
        return self.parts["codes"].length

    @length.setter
    def length(self, length):
        for part in self.parts.values():
            part.length = length

    def extend(self, layer: int, key: Array, value: Any) -> tuple[Array, ...]:
        """As `KeyValueCache.extend`: (B, T, G, D) twice -> (B, S, G, D) twice, rounded."""
        key, value = self._quantize(key), self._quantize(value)
        return self._dequantize({name: part.extend(layer, key[name], value[name]) for name, part in self.parts.items()})

    def keep(self, layer: int, compute: Callable) -> tuple[Array, ...]:
        """As `KeyValueCache.keep`: keys and values of the source, computed once and rounded."""
        if layer not in self.parts["codes"].source:
            key, value = (self._quantize(array) for array in compute())
            for name, part in self.parts.items():
                part.source[layer] = key[name], value[name]
        return self._dequantize({name: part.source[layer] for name, part in self.parts.items()})

    def advance(self, count: int) -> None:
        """Add `count` to the length."""
        self.length += count

    def repeat(self, times: int, capacity: int | None = None) -> "QuantizedKeyValueCache":
        """As `KeyValueCache.repeat`."""
        repeated = QuantizedKeyValueCache(capacity or self.capacity)
        repeated.parts = {name: part.repeat(times, capacity) for name, part in self.parts.items()}
        return repeated

    def num_bytes(self) -> int:
        """Bytes in memory, including the scales."""
        return sum(part.num_bytes() for part in self.parts.values())

    def _quantize(self, array):
        """{name of a part: array} of keys or values (..., D). A zero point is a code too, so it fits in a byte."""
        rounded = quantize(array, symmetric="zero_point" not in self.parts, group_size=array.shape[-1])
        return {"codes": rounded.codes, "scale": rounded.scale, "zero_point": rounded.zero_point.astype(np.int8)}

    def _dequantize(self, pairs):
        """Keys and values from {name of a part: (its keys, its values)}."""
        return tuple(
            QuantizedArray(codes, scale, zero_point).dequantize()
            for codes, scale, zero_point in zip(
                pairs["codes"], pairs["scale"], pairs.get("zero_point", (None, None)), strict=True
            )
        )

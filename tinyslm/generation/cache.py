"""Key/value cache: keys and values of past tokens are constant, so they are computed once.

A pass over T new tokens then computes T rows of attention instead of S.
Source: Shazeer 2019 (Fast Transformer Decoding), section 2.4.
"""

from collections.abc import Callable

import numpy as np

from tinyslm.errors import DataError
from tinyslm.tree import Array


class KeyValueCache:
    """Keys (after the rotation) and values of the first `length` tokens, for every layer.

    keys: {layer: (B, G, D, capacity)};  values: {layer: (B, G, capacity, D)}. In this order the products of a query
    with all keys, and of its probabilities with all values, read rows of memory. The arrays are allocated in the first
    pass with the sizes and dtype of the layer's keys, also after pruning or quantization. A smaller value of `length`
    discards the tokens after it.
    source: {layer: (keys, values)} of cross attention (encoder-decoders), which does not grow.
    For passes without gradients only.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        self.keys = {}
        self.values = {}
        self.source = {}

    def extend(self, layer: int, key: Array, value: Array) -> tuple[Array, Array]:
        """Store the keys and values of T new tokens of one layer; returns the keys and values of all S tokens.

        key, value: (B, T, G, D);  returns two views (B, S, G, D) with S = length + T.
        """
        start, stop = self.length, self.length + key.shape[1]
        self.check_space(key.shape[1])
        keys, values = self._stored(layer, key, value)
        keys, values = keys.transpose(0, 3, 1, 2), values.transpose(0, 2, 1, 3)  # views (B, capacity, G, D)
        keys[:, start:stop], values[:, start:stop] = key, value
        return keys[:, :stop], values[:, :stop]

    def append(self, layer: int, key: Array, value: Array) -> tuple[Array, Array]:
        """Store the key and the value of one new token of one layer; returns all S of them in the order of the storage.

        key, value: (B, G, D);  returns two views (B, G, D, S) and (B, G, S, D) with S = length + 1. The caller has
        called `check_space`.
        """
        length, stop = self.length, self.length + 1
        keys, values = self._stored(layer, key, value)
        keys[..., length] = key
        values[:, :, length] = value
        return keys[..., :stop], values[:, :, :stop]

    def check_space(self, count: int) -> None:
        """Raise DataError unless `count` more tokens fit."""
        if self.length + count > self.capacity:
            raise DataError(
                f"a sequence of {self.length + count} tokens does not fit in a cache made for {self.capacity}"
            )

    def _stored(self, layer, key, value):
        """The arrays of one layer. key, value: (B, ..., G, D), new ones."""
        if layer not in self.keys:
            (B, *_, G, D), capacity = key.shape, self.capacity
            self.keys[layer] = np.zeros((B, G, D, capacity), key.dtype)
            self.values[layer] = np.zeros((B, G, capacity, value.shape[-1]), value.dtype)
        return self.keys[layer], self.values[layer]

    def keep(self, layer: int, compute: Callable) -> tuple[Array, Array]:
        """Keys and values of the source: `compute()` in the first pass, the stored result in all later ones."""
        if layer not in self.source:
            self.source[layer] = compute()
        return self.source[layer]

    def advance(self, count: int) -> None:
        """Add `count` to the length: called once per pass, after every layer stored its new tokens."""
        self.length += count

    def num_bytes(self) -> int:
        """Bytes in memory, for the full capacity."""
        pairs = [array for pair in self.source.values() for array in pair]
        return sum(array.nbytes for array in [*self.keys.values(), *self.values.values(), *pairs])

    def repeat(self, times: int, capacity: int | None = None) -> "KeyValueCache":
        """A cache for `times` continuations of each sequence: row b becomes rows b * times to (b + 1) * times - 1.

        capacity: of the new cache, by default the same.
        """

        repeated = KeyValueCache(capacity or self.capacity)
        for layer in self.keys:
            keys, values = self.keys[layer].transpose(0, 3, 1, 2), self.values[layer].transpose(0, 2, 1, 3)
            repeated.extend(layer, *(np.repeat(array[:, : self.length], times, axis=0) for array in (keys, values)))
        repeated.length = self.length
        repeated.source = {
            layer: tuple(np.repeat(array, times, axis=0) for array in pair) for layer, pair in self.source.items()
        }
        return repeated

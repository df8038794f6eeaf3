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

    keys, values: {layer: (B, capacity, G, D)}, allocated in the first pass with the sizes and dtype of the layer's
    keys, also after pruning or quantization. A smaller value of `length` discards the tokens after it.
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
        if stop > self.capacity:
            raise DataError(f"a sequence of {stop} tokens does not fit in a cache made for {self.capacity}")
        for store, new in ((self.keys, key), (self.values, value)):
            if layer not in store:
                store[layer] = np.zeros((new.shape[0], self.capacity, *new.shape[2:]), new.dtype)
            store[layer][:, start:stop] = new
        return self.keys[layer][:, :stop], self.values[layer][:, :stop]

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

        def copies(stored):  # (B, capacity, G, D) -> (B * times, new capacity, G, D)
            array = np.zeros((len(stored) * times, repeated.capacity, *stored.shape[2:]), stored.dtype)
            array[:, : self.length] = np.repeat(stored[:, : self.length], times, axis=0)
            return array

        repeated = KeyValueCache(capacity or self.capacity)
        repeated.length = self.length
        repeated.keys = {layer: copies(key) for layer, key in self.keys.items()}
        repeated.values = {layer: copies(value) for layer, value in self.values.items()}
        repeated.source = {
            layer: tuple(np.repeat(array, times, axis=0) for array in pair) for layer, pair in self.source.items()
        }
        return repeated

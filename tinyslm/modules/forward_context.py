"""Context of one forward pass: positions, masks, key/value cache and observer, shared by all layers."""

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

from tinyslm import ops
from tinyslm.autodiff import Traced
from tinyslm.runtime import release_after_long_pass
from tinyslm.tree import Array


@dataclass(frozen=True)
class SelectiveObserver:
    """Observer that passes only the intermediates in `names` to `receive(name, value)`."""

    names: Container[str]
    receive: Callable[[str, Any], Any]

    def __call__(self, name: str, value: Any) -> None:
        if name in self.names:
            self.receive(name, value)


@dataclass
class Context:
    """Inputs and state that the blocks of a stack share during one forward pass.

    positions: (T,) or (B, T) integers of the tokens being computed.
    attention_mask: (B, S) over all S slots, cached ones included, 0 for padding; None if there is no padding.
    cache: a `generation.KeyValueCache`, or an object with the same methods, or None.
    position_bias: (H, T, S), added to the attention scores (T5's relative positions), or None.
    source: (B, S, C), the sequence that cross attention reads; None without cross attention.
    source_mask: (B, S) over the source, 0 for padding, or None.
    observer: called as observer(name, value) with every named intermediate, or None.
    stack: prefix of the names of this stack's intermediates: "", "encoder." or "decoder.".
    layer: index of the block being computed, which is also its index in the cache.
    length: tokens of the longest sequence, if later passes read more of it (longrope, dynamic), or None.
    """

    positions: Array
    attention_mask: Array | None = None
    cache: Any = None
    position_bias: Any = None
    source: Any = None
    source_mask: Array | None = None
    observer: Callable[[str, Any], Any] | None = None
    stack: str = ""
    layer: int = 0
    length: int | None = None
    _tables: dict = field(default_factory=dict)

    def rotary_tables(self, rope: ops.Rope) -> tuple[Array, Array]:
        """cos and sin of this pass's positions for one `Rope`. Layers with equal settings share the tables."""
        if rope not in self._tables:
            self._tables[rope] = ops.rotary_tables(rope, self.positions, self.length)
        return self._tables[rope]

    def observe(self, name: str, value: Any) -> None:
        """Pass an intermediate of the current block to the observer, as "layers.{layer}.{name}"."""
        if self.observer is not None:
            self.observer(f"{self.stack}layers.{self.layer}.{name}", value)

    def observes(self, name: str) -> bool:
        """Whether the observer receives this intermediate of the current block. If not, the block can skip it."""
        if isinstance(self.observer, SelectiveObserver):
            return f"{self.stack}layers.{self.layer}.{name}" in self.observer.names
        return self.observer is not None

    def run_blocks(self, blocks: list, x: Array) -> Array:
        """Apply the blocks in order: (B, T, C) -> (B, T, C), before the final norm.

        The observer receives the input of block i as "hidden_states.{i}". After the last block, the length of the cache
        increases by T.
        """
        for self.layer, block in enumerate(blocks):
            self.observe_hidden_state(self.layer, x)
            x = block(x, self)
        if self.cache is not None:
            self.cache.advance(x.shape[1])
        if not isinstance(x, Traced):  # a tape keeps its arrays
            release_after_long_pass(x.shape[1])
        return x

    def observe_hidden_state(self, index: int, x: Array) -> None:
        """Pass the residual stream (B, T, C) to the observer, as "hidden_states.{index}"."""
        if self.observer is not None:
            self.observer(f"{self.stack}hidden_states.{index}", x)

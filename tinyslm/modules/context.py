"""What the layers of one pass share: positions, padding, and the key/value cache."""

from dataclasses import dataclass, field
from typing import Any

from tinyslm import ops
from tinyslm.tree import Array


def ignore(name, value):
    """The observer that looks at nothing."""


def under(observe, prefix):
    """The same observer for names below a prefix."""
    return observe if observe is ignore else lambda name, value: observe(f"{prefix}.{name}", value)


@dataclass
class Context:
    """One pass through a model.

    positions: (T,) or (B, T) integers of the tokens being computed.
    attention_mask: (B, S) over all S slots, cached ones included, 0 for padding; None if there is no padding.
    cache: a `generation.KeyValueCache`, or what behaves like one, or None.
    position_bias: (H, T, S), what the distance of two tokens adds to their scores (T5), or None.
    source: (B, S, C), what cross attention looks at: another sequence, with another S; None without cross attention.
    source_mask: (B, S) over the source, 0 for padding, or None.
    """

    positions: Array
    attention_mask: Array | None = None
    cache: Any = None
    position_bias: Any = None
    source: Any = None
    source_mask: Array | None = None
    _tables: dict = field(default_factory=dict)

    def rotary_tables(self, rope):
        """cos and sin of this pass for one kind of rotation, computed once for all layers that share it."""
        if rope not in self._tables:
            self._tables[rope] = ops.rotary_tables(rope, self.positions)
        return self._tables[rope]

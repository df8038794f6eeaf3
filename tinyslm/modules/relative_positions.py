"""Relative position bias (T5) as a module. All layers of a stack share its table."""

from tinyslm import ops
from tinyslm.tree import Array, Module


class RelativePositions(Module):
    """Relative position bias. table: (buckets, H), added to the attention scores by bucket of distances and head."""

    table: Array
    max_distance: int
    bidirectional: bool

    def __call__(self, query_slots: Array, key_slots: Array) -> Array:
        """query_slots: (T,);  key_slots: (S,);  returns (H, T, S)."""
        distance = key_slots[None, :] - query_slots[:, None]  # (T, S)
        buckets = ops.relative_position_buckets(
            distance, buckets=self.table.shape[0], max_distance=self.max_distance, bidirectional=self.bidirectional
        )
        return ops.relative_position_bias(buckets, self.table)

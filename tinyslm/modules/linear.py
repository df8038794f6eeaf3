"""Linear layer. The compressed layers that can replace it have the same call."""

from typing import ClassVar

import numpy as np

from tinyslm.modules.weight_layers import LinearLayer
from tinyslm.tree import Array


class Linear(LinearLayer):
    """Linear layer y = x W^T + b. weight: (out, in);  bias: (out,) or None."""

    is_dense: ClassVar[bool] = True

    weight: Array
    bias: Array | None = None

    @staticmethod
    def array_forms(shape, settings, arrays):
        """The weight and the bias."""
        return {"weight": (np.floating, shape), "bias": (np.floating, shape[:1])}

    def dense_weight(self) -> Array:
        """The weight matrix W, (out, in)."""
        return self.weight

"""GPTQ applied to a model (Frantar et al. 2023).

Mathematics: `tinyslm/compression/quantization/gptq.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import asdict, dataclass

import numpy as np

from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.compression.pruning import MaskedLinear
from tinyslm.compression.quantization import gptq, linear_from_codes
from tinyslm.recipes.block_by_block import compress_block_by_block
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.statistics import gram
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module


@dataclass(frozen=True)
class QuantizeGPTQ:
    """GPTQ, block by block: each block is calibrated on the outputs of the quantized blocks before it.

    Weights that a mask removed stay 0, and the weights that are left compensate for them. An expert without calibration
    tokens is rounded to the nearest code. Layers outside the blocks get 8-bit weights. Routers are unchanged.

    Parameters
    ----------
    bits : int, default 4
        Bits per weight in the blocks, 2 to 8.
    symmetric : bool, default True
        Whether the zero point is 0.
    group_size : int, optional
        One scale per `group_size` neighbouring weights of a row, whose length it must divide.
    damping : float, default 0.01
        At least 0: this fraction of the mean of H's diagonal is added to the diagonal.
    act_order : bool, default False
        Round the columns with the largest diag H first. With `group_size` it needs `static_groups`.
    static_groups : bool, default False
        Whether the range of a group is computed from its original weights, see `gptq`.

    Raises
    ------
    ConfigError
        If a setting is out of range, or a layer in the blocks is already compressed.
    DataError
        If a damped Hessian is not positive definite, or `group_size` does not divide the length of a row.

    References
    ----------
    Frantar et al. 2023 (arXiv 2210.17323), section 5, "Setup".

    Examples
    --------
    >>> QuantizeGPTQ(bits=3)
    QuantizeGPTQ(bits=3, symmetric=True, group_size=None, damping=0.01, act_order=False, static_groups=False)
    """

    reads_mapped = True  # see `Step`

    bits: int = 4
    symmetric: bool = True
    group_size: int | None = None
    damping: float = 0.01
    act_order: bool = False
    static_groups: bool = False

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_dense(model, allowed=MaskedLinear | MappedLayer)
        settings = asdict(self)

        def quantize(linear, products, tokens):
            hessian = products if tokens else np.eye(len(products))  # the identity means rounding to the nearest code
            mask = linear.mask if isinstance(linear, MaskedLinear) else None
            return linear_from_codes(gptq(linear.weight, hessian, mask=mask, **settings), linear.bias)

        def show(block):
            progress(f"QuantizeGPTQ, {block}")

        return quantize_others(compress_block_by_block(model, calibration.sample(), gram, quantize, show))

"""GPTQ applied to a model (Frantar et al. 2023).

Mathematics: `tinyslm/compression/quantization/gptq.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import asdict, dataclass

import numpy as np

from tinyslm.compression.quantization import gptq, linear_from_codes
from tinyslm.recipes.block_by_block import compress_block_by_block
from tinyslm.recipes.linear_layers import require_dense
from tinyslm.recipes.quantization.affine import quantize_others
from tinyslm.recipes.statistics import input_grams
from tinyslm.recipes.step import ignore_progress


@dataclass(frozen=True)
class QuantizeGPTQ:
    """GPTQ, block after block: every layer is rounded for the inputs that it gets from the blocks rounded before it.

    bits, symmetric, group_size, damping, act_order, static_groups: as in `gptq`. Outside the blocks there are 8 bits,
    and routers stay exact. Source: Frantar et al. 2023, section 5, "Setup".
    """

    bits: int = 4
    symmetric: bool = True
    group_size: int | None = None
    damping: float = 0.01
    act_order: bool = False
    static_groups: bool = False

    def __call__(self, model, calibration=None, progress=ignore_progress):
        require_dense(model)
        tasks, settings = calibration.sample(), asdict(self)

        def gather(current, paths):
            return input_grams(current, tasks, paths)

        def quantize(linear, gram, tokens):
            hessian = gram if tokens else np.eye(len(gram))  # an expert that no token reached: plain rounding
            return linear_from_codes(gptq(linear.weight, hessian, **settings), linear.bias)

        compressed = compress_block_by_block(model, gather, quantize, lambda block: progress(f"QuantizeGPTQ, {block}"))
        return quantize_others(compressed)

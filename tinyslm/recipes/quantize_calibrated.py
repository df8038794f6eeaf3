"""Quantization that looks at calibration documents: at outlier features, or at the Hessian of each layer."""

from dataclasses import asdict, dataclass

import numpy as np

from tinyslm.compression.quantization import OutlierLinear, gptq, linear_in_bits
from tinyslm.modules import Linear
from tinyslm.recipes.calibration import is_compressible, require_dense
from tinyslm.recipes.quantize import quantize_others
from tinyslm.recipes.statistics import input_grams, input_maxima
from tinyslm.tree import map_modules, named_modules


@dataclass(frozen=True)
class QuantizeOutlierAware:
    """LLM.int8(): integer products in the blocks, but for features that exceed `threshold`; see `OutlierLinear`.

    Columns whose input exceeds it on the calibration documents are stored as they are. Embeddings and the layers
    outside the blocks get 8-bit weights, routers stay exact. Source: Dettmers et al. 2022, section 3. As published, a
    feature is an outlier for all tokens that are read together: a token's result depends on the others, later ones too.
    """

    threshold: float = 6.0

    def __call__(self, model, calibration, progress=None):
        require_dense(model)
        maxima = input_maxima(model, calibration.sample())

        def decompose(path, linear):
            if path not in maxima:
                return linear
            return OutlierLinear.from_linear(linear, maxima[path], threshold=self.threshold)

        return quantize_others(map_modules(decompose, model, Linear))


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

    def __call__(self, model, calibration, progress=lambda text: None):
        require_dense(model)
        tasks = calibration.sample()
        settings = asdict(self)
        for block, paths in linears_by_block(model).items():
            progress(f"QuantizeGPTQ, {block}")
            grams = input_grams(model, tasks, paths)

            def quantize(path, linear, grams=grams):
                if path not in grams:
                    return linear
                gram, tokens = grams[path]
                hessian = gram if tokens else np.eye(len(gram))  # an expert that no token reached: plain rounding
                return linear_in_bits(gptq(linear.weight, hessian, **settings), linear.bias)

            model = map_modules(quantize, model, Linear)
        return quantize_others(model)


def linears_by_block(model) -> dict[str, list[str]]:
    """{path of a block: paths of its linear layers without routers}, in the order in which they are computed."""
    found = {}
    for path in filter(is_compressible, named_modules(model, Linear)):
        parts = path.split(".")
        block = ".".join(parts[: parts.index("layers") + 2])
        found.setdefault(block, []).append(path)
    return found

"""Quantization that looks at calibration documents: at outlier features, or at the Hessian of each layer."""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.quantization import OutlierLinear, QuantizedEmbedding, QuantizedLinear, gptq
from tinyslm.modules import Embedding, Linear
from tinyslm.recipes.calibration import is_compressible, require_dense
from tinyslm.recipes.statistics import input_grams, input_maxima
from tinyslm.tree import map_modules, named_modules


@dataclass(frozen=True)
class QuantizeOutlierAware:
    """LLM.int8(): integer products in the blocks, but for features that exceed `threshold`; see `OutlierLinear`.

    Columns whose input exceeds it on the calibration documents are stored as they are. Embeddings and the layers
    outside the blocks get 8-bit weights, routers stay exact. Source: Dettmers et al. 2022, section 3.
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

    bits, symmetric, damping, act_order: as in `gptq`, with one scale per row. Outside the blocks there are 8 bits, and
    routers stay exact. Source: Frantar et al. 2023, section 4, "Setup".
    """

    bits: int = 4
    symmetric: bool = True
    damping: float = 0.01
    act_order: bool = False

    def __call__(self, model, calibration, progress=lambda text: None):
        require_dense(model)
        tasks = calibration.sample()
        settings = {
            "bits": self.bits,
            "symmetric": self.symmetric,
            "damping": self.damping,
            "act_order": self.act_order,
        }
        for block, paths in linears_by_block(model).items():
            progress(f"QuantizeGPTQ, {block}")
            grams = input_grams(model, tasks, paths)

            def quantize(path, linear, grams=grams):
                if path not in grams:
                    return linear
                gram, tokens = grams[path]
                hessian = gram if tokens else np.eye(len(gram))  # an expert that no token reached: plain rounding
                return as_layer(gptq(linear.weight, hessian, **settings), linear.bias)

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


def as_layer(weight, bias, integer_products=False):
    """The layer of a `QuantizedArray`."""
    zero_point = weight.zero_point if np.any(weight.zero_point) else None
    return QuantizedLinear(weight.codes, weight.scale, zero_point, bias, integer_products)


def quantize_others(model):
    """8-bit weights for embeddings and for linear layers that are still dense: those outside the blocks."""

    def quantize(path, layer):
        if isinstance(layer, Embedding):
            return QuantizedEmbedding.from_embedding(layer)
        return layer if path.endswith(".router") else QuantizedLinear.from_linear(layer)

    return map_modules(quantize, model, Linear | Embedding)

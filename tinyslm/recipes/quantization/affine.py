"""Affine quantization of a model: weights rounded to the nearest code, without calibration (Jacob et al. 2018).

Mathematics: `tinyslm/compression/quantization/affine.py`. Lesson: `lessons/09_quantization.py`.
"""

from dataclasses import dataclass

from tinyslm.checkpoints.mapped_layers import MappedLayer
from tinyslm.checkpoints.temporary_arrays import moved_to_file
from tinyslm.checkpoints.weight_formats import quantized_rows
from tinyslm.compression.quantization import QuantizedEmbedding, QuantizedLinear, linear_from_codes, quantize
from tinyslm.errors import ConfigError
from tinyslm.models.layer_stacks import map_blocks
from tinyslm.modules import Embedding, Linear, LinearLayer
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import dense_in_memory, is_compressible, naming_layer, require_dense, stored_like
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, map_modules, named_modules


@dataclass(frozen=True)
class Quantize:
    """Quantize the weights of linear layers and embeddings to the nearest code.

    Norms, biases and routers are unchanged.

    Parameters
    ----------
    bits : int, default 8
        Bits per weight of the linear layers in the blocks, 2 to 8. Layers outside the blocks always have 8.
    symmetric : bool, default True
        Whether the zero point is 0. Otherwise the codes cover exactly the range of each row.
    per_channel : bool, default True
        One scale per output row, otherwise one per matrix.
    group_size : int, optional
        In the blocks: one scale per `group_size` neighbouring weights of a row, whose length it must divide.
    dynamic_activations : bool, default False
        Dynamic activation quantization (W8A8): activations are rounded to 8 bits per token at run time, and the linear
        layers multiply integers. Otherwise each product dequantizes the weights.

    Raises
    ------
    ConfigError
        If a setting is out of range, `dynamic_activations` is combined with `group_size`, or a layer in the blocks is
        already compressed.
    DataError
        If `group_size` does not divide the length of a row.

    References
    ----------
    Jacob et al. 2018 (arXiv 1712.05877), section 2 and 3.

    Examples
    --------
    >>> Quantize(bits=4, group_size=32)
    Quantize(bits=4, symmetric=True, per_channel=True, group_size=32, dynamic_activations=False)
    """

    reads_mapped = True  # see `Step`

    bits: int = 8
    symmetric: bool = True
    per_channel: bool = True
    group_size: int | None = None
    dynamic_activations: bool = False

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        require_dense(model, allowed=MappedLayer)
        if self.dynamic_activations and self.group_size is not None:
            raise ConfigError("dynamic activation quantization needs one scale per row: leave out group_size")

        def quantize_linear(path, linear):
            if not isinstance(linear, LinearLayer):  # a mapped embedding
                return linear
            if path.endswith(".router"):
                return dense_in_memory(linear)
            bits, group_size = (self.bits, self.group_size) if is_compressible(path) else (8, None)
            axis = 0 if self.per_channel and not group_size else None
            with naming_layer(path):
                weight = quantize(
                    linear.dense_weight(), bits=bits, symmetric=self.symmetric, axis=axis, group_size=group_size
                )
            return linear_from_codes(weight, linear.bias, dynamic_activations=self.dynamic_activations)

        def quantize_module(path, module):
            if not named_modules(module, LinearLayer):
                return module
            return stored_like(module, map_modules(quantize_linear, module, Linear | MappedLayer, path))

        in_blocks = map_blocks(quantize_module, model)
        return quantize_others(map_modules(quantize_module, in_blocks, Linear | MappedLayer))


def quantize_others(model: Module) -> Module:
    """The model with 8-bit weights in embeddings and in linear layers that are still dense (outside the blocks)."""

    def quantize_dense(path, layer):
        if isinstance(layer, Embedding):
            return QuantizedEmbedding.from_embedding(layer)
        if path.endswith(".router"):
            return layer
        if isinstance(layer, MappedLayer):
            codes, scale = quantized_rows(layer.tiles(), layer.shapes()[0])
            is_linear = isinstance(layer, LinearLayer)
            quantized = (
                QuantizedLinear(codes, scale, bias=layer.bias) if is_linear else QuantizedEmbedding(codes, scale)
            )
            return moved_to_file(quantized)
        return QuantizedLinear.from_linear(layer)

    return map_modules(quantize_dense, model, Linear | Embedding | MappedLayer)

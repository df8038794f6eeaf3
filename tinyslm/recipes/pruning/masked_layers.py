"""Masked layers of a model: creation from masks, conversion to dense layers, and sparse storage.

Layers: `tinyslm/compression/pruning/masked_linear.py` and `sparse_linear.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

from tinyslm.checkpoints.temporary_arrays import moved_to_file
from tinyslm.checkpoints.upcasting import is_mapped
from tinyslm.compression.pruning import BitmapLinear, CsrLinear, MaskedLinear, NMLinear, parse_pattern
from tinyslm.compression.quantization import PackedLinear, PackedNMLinear, QuantizedLinear
from tinyslm.errors import ConfigError
from tinyslm.models.layer_stacks import map_blocks
from tinyslm.modules import Linear, LinearLayer
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.linear_layers import compressible_layers, naming_layer, replace_layers
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module, map_modules, named_modules


@dataclass(frozen=True)
class FoldMasks:
    """Replace masked layers by dense layers with zeros, after training. Later training would change the zeros.

    Examples
    --------
    >>> FoldMasks()
    FoldMasks()
    """

    reads_mapped = True  # see `Step`

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        def fold(path, module):
            folded = map_modules(lambda path, masked: masked.to_linear(), module, MaskedLinear)
            in_file = any(is_mapped(masked.weight) for masked in named_modules(module, MaskedLinear).values())
            return moved_to_file(folded) if in_file else folded

        return map_modules(fold, map_blocks(fold, model), MaskedLinear)


@dataclass(frozen=True)
class StoreSparse:
    """Store the linear layers of the blocks in a sparse format, after training.

    The layers can be dense or masked, and for an N:M pattern also quantized (with dense activations): then the codes of
    the kept weights are stored. Layers compressed in other ways do not change.

    Parameters
    ----------
    form : str
        "csr" (values and their columns), "bitmap" (default: values and one bit per weight), or an N:M pattern such as
        "2:4", which the weights must have.

    Raises
    ------
    ConfigError
        When applied: for an unknown format.
    DataError
        When applied: if the weights do not have the pattern.

    Examples
    --------
    >>> StoreSparse(form="2:4")
    StoreSparse(form='2:4')
    """

    form: str = "bitmap"

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        forms = {"csr": CsrLinear.from_linear, "bitmap": BitmapLinear.from_linear}
        if self.form not in forms:
            parse_pattern(self.form)

        def store(layer):
            if isinstance(layer, Linear | MaskedLinear):
                return forms[self.form](layer) if self.form in forms else NMLinear.from_linear(layer, self.form)
            has_codes = isinstance(layer, PackedLinear | QuantizedLinear) and not layer.dynamic_activations
            return PackedNMLinear.from_codes(layer, self.form) if has_codes and self.form not in forms else layer

        stored = {}
        for path, layer in compressible_layers(model).items():
            with naming_layer(path):
                stored[path] = store(layer)
        return replace_layers(model, stored)


def pattern_of(step):
    """(n, m) of a step's pattern, or None without one. ConfigError if the step has another sparsity."""
    if not step.pattern:
        return None
    n, m = parse_pattern(step.pattern)
    if step.sparsity != 1 - n / m:
        raise ConfigError(f"a pattern {step.pattern} has sparsity {1 - n / m}, found {step.sparsity!r}")
    return n, m


def with_masks(model, masks):
    """The model with a `MaskedLinear` in place of each layer that has a mask. masks: {path: (out, in) booleans}."""
    layers = named_modules(model, LinearLayer)
    return replace_layers(model, {path: MaskedLinear.from_linear(layers[path], mask) for path, mask in masks.items()})

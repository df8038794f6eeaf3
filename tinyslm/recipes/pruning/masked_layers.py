"""Masked layers of a model: masks put in place, folded into dense weights, or stored in a sparse format.

Layers: `tinyslm/compression/pruning/masked_linear.py` and `sparse_linear.py`. Lesson: `lessons/07_pruning_weights.py`.
"""

from dataclasses import dataclass

from tinyslm.compression.pruning import BitmapLinear, CsrLinear, MaskedLinear, NMLinear, parse_pattern
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear, LinearLayer
from tinyslm.recipes.linear_layers import is_compressible
from tinyslm.recipes.step import ignore_progress
from tinyslm.tree import map_modules


@dataclass(frozen=True)
class FoldMasks:
    """Turn masked layers into dense ones with zeros, when training is over and the masks have done their work."""

    def __call__(self, model, calibration=None, progress=ignore_progress):
        return map_modules(lambda path, masked: masked.to_linear(), model, MaskedLinear)


@dataclass(frozen=True)
class StoreSparse:
    """Store the linear layers in the blocks without their zeros, when training is over.

    form: "csr" (values and their columns), "bitmap" (values and one bit per weight) or a pattern such as "2:4", which
    the weights must have.
    """

    form: str = "bitmap"

    def __call__(self, model, calibration=None, progress=ignore_progress):
        store = {"csr": CsrLinear.from_linear, "bitmap": BitmapLinear.from_linear}.get(self.form)
        if store is None:
            parse_pattern(self.form)

        def convert(path, layer):
            if not is_compressible(path) or not isinstance(layer, Linear | MaskedLinear):
                return layer
            return store(layer) if store else NMLinear.from_linear(layer, self.form)

        return map_modules(convert, model, LinearLayer)


def pattern_of(step):
    """(n, m) of a step with a pattern, None without. ConfigError where its sparsity is another one."""
    if not step.pattern:
        return None
    n, m = parse_pattern(step.pattern)
    if step.sparsity != 1 - n / m:
        raise ConfigError(f"a pattern {step.pattern} has sparsity {1 - n / m}, found {step.sparsity!r}")
    return n, m


def with_masks(model, masks):
    """The model with a `MaskedLinear` in place of each layer that has a mask: {path: (out, in) booleans}."""

    def mask(path, layer):
        return MaskedLinear.from_linear(layer, masks[path]) if path in masks else layer

    return map_modules(mask, model, LinearLayer)

"""Pruning single weights of a model: masks on the linear layers in its blocks, chosen at once, without training."""

from dataclasses import dataclass

import numpy as np

from tinyslm.compression.pruning import (
    BitmapLinear,
    CsrLinear,
    MaskedLinear,
    NMLinear,
    global_magnitude_masks,
    least_squares_refit,
    magnitude_mask,
    n_m_mask,
    parse_pattern,
    sparsegpt,
    wanda_mask,
    wanda_scores,
)
from tinyslm.errors import ConfigError
from tinyslm.modules import Linear, LinearLayer
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.calibration import is_compressible, require_dense
from tinyslm.recipes.statistics import input_grams, input_statistics
from tinyslm.tree import map_modules, named_modules


@dataclass(frozen=True)
class PruneMagnitude:
    """Remove the fraction `sparsity` of the smallest weights, in each linear layer or by one threshold for all.

    pattern: such as "2:4", which keeps 2 of every 4 weights of a row and belongs to sparsity 0.5.
    Embeddings, head and norms are left alone. The masks hold through later training.
    """

    sparsity: float
    scope: str = "layer"  # or "global"
    pattern: str = ""

    def __call__(self, model, calibration, progress=None):
        require_scope(self.scope)
        pattern = pattern_of(self)
        if pattern and self.scope == "global":
            raise ConfigError(f"a pattern {self.pattern} has the same sparsity everywhere: scope must be 'layer'")
        require_dense(model)
        if pattern:
            weights = {path: layer.dense_weight() for path, layer in compressible_layers(model).items()}
            return with_masks(model, {path: n_m_mask(np.abs(weight), *pattern) for path, weight in weights.items()})
        return with_masks(model, magnitude_masks(model, self.sparsity, self.scope))


@dataclass(frozen=True)
class PruneWanda:
    """Remove the fraction `sparsity` of the weights of every output row, those whose weight times input is smallest.

    pattern: such as "2:4", with sparsity 0.5. The blocks are pruned in their order: the inputs of a block are those
    that it gets from the pruned blocks before it. Source: Sun et al. 2024, section 3 and algorithm 1.
    """

    sparsity: float
    pattern: str = ""

    def __call__(self, model, calibration, progress=lambda text: None):
        pattern = pattern_of(self)
        require_dense(model)

        def squares(rows):
            return np.sum(np.square(rows, dtype=np.float64), axis=0)  # (in,)

        def prune(linear, squared_norms, tokens):
            norms = np.sqrt(squared_norms) if tokens else np.ones(linear.in_features)
            if pattern:
                mask = n_m_mask(wanda_scores(linear.weight, norms), *pattern)
            else:
                mask = wanda_mask(linear.weight, norms, self.sparsity)
            return MaskedLinear.from_linear(linear, mask)

        def gather(current, paths):
            return input_statistics(current, calibration.sample(), squares, paths=paths)

        return block_by_block(model, gather, prune, progress)


@dataclass(frozen=True)
class PruneSparseGPT:
    """Remove the fraction `sparsity` of the weights of every linear layer, and move the others to make up for it.

    pattern: such as "2:4", with sparsity 0.5. The blocks are pruned in their order, as by `PruneWanda`.
    Source: Frantar & Alistarh 2023, algorithm 1.
    """

    sparsity: float
    pattern: str = ""
    damping: float = 0.01

    def __call__(self, model, calibration, progress=lambda text: None):
        pattern = pattern_of(self)
        require_dense(model)

        def prune(linear, gram, tokens):
            hessian = gram if tokens else np.eye(linear.in_features)
            weight = sparsegpt(linear.weight, hessian, self.sparsity, pattern=pattern, damping=self.damping)
            return MaskedLinear.from_linear(linear.replace(weight=weight), weight != 0)

        def gather(current, paths):
            return input_grams(current, calibration.sample(), paths=paths)

        return block_by_block(model, gather, prune, progress)


@dataclass(frozen=True)
class RepairWeights:
    """Choose the weights that masks have kept anew, so that every layer computes what the teacher's does on the
    teacher's inputs, as far as those weights can: least squares. For a model pruned from the teacher, not yet trained.
    """

    def __call__(self, model, calibration, progress=lambda text: None):
        masked = named_modules(model, MaskedLinear)
        if not masked:
            raise ConfigError("there are no masks: put a step that prunes weights before RepairWeights")
        teacher = compressible_layers(calibration.teacher)
        for path, layer in masked.items():
            if path not in teacher or teacher[path].dense_weight().shape != layer.weight.shape:
                raise ConfigError(f"{path} has no counterpart of the same shape in the teacher")
        grams = input_grams(calibration.teacher, calibration.sample(), paths=set(masked))

        def repair(path):
            progress(f"RepairWeights, {path}")
            weight = least_squares_refit(teacher[path].dense_weight(), grams[path][0], masked[path].mask)
            return masked[path].replace(weight=weight)

        repaired = dict(zip(masked, map_in_threads(repair, masked), strict=True))
        return map_modules(lambda path, layer: repaired[path], model, MaskedLinear)


@dataclass(frozen=True)
class FoldMasks:
    """Turn masked layers into dense ones with zeros, when training is over and the masks have done their work."""

    def __call__(self, model, calibration=None, progress=None):
        return map_modules(lambda path, masked: masked.to_linear(), model, MaskedLinear)


@dataclass(frozen=True)
class StoreSparse:
    """Store the linear layers in the blocks without their zeros, when training is over.

    form: "csr" (values and their columns), "bitmap" (values and one bit per weight) or a pattern such as "2:4", which
    the weights must have.
    """

    form: str = "bitmap"

    def __call__(self, model, calibration=None, progress=None):
        store = {"csr": CsrLinear.from_linear, "bitmap": BitmapLinear.from_linear}.get(self.form)
        if store is None:
            parse_pattern(self.form)

        def convert(path, layer):
            if not is_compressible(path) or not isinstance(layer, Linear | MaskedLinear):
                return layer
            return store(layer) if store else NMLinear.from_linear(layer, self.form)

        return map_modules(convert, model, LinearLayer)


def require_scope(scope):
    """ "layer" or "global", or ConfigError."""
    if scope not in ("layer", "global"):
        raise ConfigError(f"scope is {scope!r}, expected 'layer' or 'global'")


def pattern_of(step):
    """(n, m) of a step with a pattern, None without. ConfigError where its sparsity is another one."""
    if not step.pattern:
        return None
    n, m = parse_pattern(step.pattern)
    if step.sparsity != 1 - n / m:
        raise ConfigError(f"a pattern {step.pattern} has sparsity {1 - n / m}, found {step.sparsity!r}")
    return n, m


def compressible_layers(model) -> dict:
    """{path: layer} of the linear layers in the blocks, masked ones too."""
    return {path: layer for path, layer in named_modules(model, LinearLayer).items() if is_compressible(path)}


def magnitude_masks(model, sparsity, scope) -> dict:
    """{path: mask} by magnitude, in each layer or by one threshold for all. What was removed goes first: it is 0."""
    weights = {path: layer.dense_weight() for path, layer in compressible_layers(model).items()}
    if scope == "global":
        return global_magnitude_masks(weights, sparsity)
    return {path: magnitude_mask(weight, sparsity) for path, weight in weights.items()}


def with_masks(model, masks):
    """The model with a `MaskedLinear` in place of each layer that has a mask: {path: (out, in) booleans}."""

    def mask(path, layer):
        return MaskedLinear.from_linear(layer, masks[path]) if path in masks else layer

    return map_modules(mask, model, LinearLayer)


def block_by_block(model, gather, prune, progress):
    """The model with prune(linear, statistic, tokens) in place of each linear layer, one block after another.

    gather(model, paths) -> {path: (statistic, tokens)} is called for every block, with the blocks before it pruned. An
    expert that no token reached has 0 tokens.
    """
    blocks = {}
    for path in compressible_layers(model):
        parts = path.split(".")
        blocks.setdefault(tuple(parts[: parts.index("layers") + 2]), []).append(path)
    for block, paths in blocks.items():
        progress(f"pruning {'.'.join(block)}")
        found = gather(model, set(paths))
        model = map_modules(
            lambda path, layer, found=found: prune(layer, *found[path]) if path in found else layer, model, LinearLayer
        )
    return model

"""Parameter counts by part of a model, and memory by dtype. Computed from shapes."""

from collections import Counter

from tinyslm.errors import ConfigError
from tinyslm.modules import Embedding, Linear, MixtureOfExperts, WeightLayer
from tinyslm.tree import Array, named_arrays, named_modules

PARTS = ("embedding", "attention", "feed-forward", "norms", "head")
BYTES = {"float32": 4, "bfloat16": 2}  # per number


def replaced_layers(model) -> dict[str, WeightLayer]:
    """{path: layer} of compressed layers, whose methods return their numbers of parameters, bits and bytes."""
    return {
        path: layer
        for path, layer in named_modules(model, WeightLayer).items()
        if type(layer) not in (Linear, Embedding)
    }


def other_arrays(model) -> dict[str, Array]:
    """{path: array} of all arrays outside of compressed layers; an array that occurs twice is listed once."""
    inside = tuple(f"{path}." for path in replaced_layers(model))
    outside = {path: array for path, array in named_arrays(model).items() if not path.startswith(inside)}
    return dict({id(array): (path, array) for path, array in outside.items()}.values())


def parameter_counts(model) -> dict[str, int]:
    """{path of an array or of a compressed layer: its number of parameters}."""
    counts = {path: array.size for path, array in other_arrays(model).items()}
    return counts | {path: layer.num_parameters() for path, layer in replaced_layers(model).items()}


def count_parameters(model) -> int:
    """Number of parameters of a model, including all experts of a mixture of experts."""
    return sum(parameter_counts(model).values())


def parameters_by_part(model) -> dict[str, int]:
    """{part: parameters} for all PARTS. A tied head is counted in the embedding."""
    counts = dict.fromkeys(PARTS, 0)
    for path, count in parameter_counts(model).items():
        counts[part_of(path)] += count
    return counts


def part_of(path: str) -> str:
    """The part of a model that contains the array or module at a path. The pooler belongs to the head."""
    if "norm" in path:
        return "norms"
    if "attention" in path or "relative_positions" in path:
        return "attention"
    if "feed_forward" in path:
        return "feed-forward"
    return "embedding" if "embedding" in path else "head"


def active_parameters(model) -> int:
    """Number of parameters that one token uses: only the selected experts of a mixture of experts are counted."""
    return sum_per_token(model, parameter_counts(model))


def sum_per_token(model, counts: dict[str, int]) -> int:
    """The sum of counts by path, where experts that a token does not use are left out."""
    total, of_experts = sum(counts.values()), Counter[str]()  # {path of a mixture: sum of its experts}
    for name, count in counts.items():
        path, separator, _ = name.partition(".experts.")
        of_experts[path] += count if separator else 0
    for path, mixture in named_modules(model, MixtureOfExperts).items():
        total -= of_experts[path] * (len(mixture.experts) - mixture.experts_per_token) // len(mixture.experts)
    return total


def bytes_as(model, dtype: str) -> int:
    """Memory of a dense model's parameters as "float32", "bfloat16" or "int8".

    int8: one byte per number of a weight matrix or embedding and one float32 scale per row, as in `recipes.Quantize`;
    routers, norms, biases and relative position tables remain float32. Raises ConfigError for another dtype.
    """
    if dtype in BYTES:
        return BYTES[dtype] * count_parameters(model)
    if dtype != "int8":
        raise ConfigError(f"dtype is {dtype!r}, expected float32, bfloat16 or int8")
    matrices = {
        path: next(iter(named_arrays(module).values()))  # the weight or table
        for path, module in named_modules(model, Linear | Embedding).items()
        if not path.endswith(".router")
    }
    as_bytes = {id(array) for array in matrices.values()}
    arrays = other_arrays(model).values()
    return sum(array.size + 4 * len(array) if id(array) in as_bytes else 4 * array.size for array in arrays)

"""How many numbers a model computes with, where they are, and what they take in memory. Shapes are enough to count."""

from tinyslm.errors import ConfigError
from tinyslm.modules import Embedding, Linear, MixtureOfExperts, WeightLayer
from tinyslm.tree import Array, named_arrays, named_modules

PARTS = ("embedding", "attention", "feed-forward", "norms", "head")
BYTES = {"float32": 4, "bfloat16": 2}  # of one number


def replaced_layers(model) -> dict[str, WeightLayer]:
    """{path: layer} of what stands in the place of a Linear or Embedding, and knows itself what it consists of."""
    return {
        path: layer
        for path, layer in named_modules(model, WeightLayer).items()
        if type(layer) not in (Linear, Embedding)
    }


def other_arrays(model) -> dict[str, Array]:
    """{path: array} of everything outside of the replaced layers; an array that occurs twice once."""
    inside = tuple(f"{path}." for path in replaced_layers(model))
    outside = {path: array for path, array in named_arrays(model).items() if not path.startswith(inside)}
    return dict({id(array): (path, array) for path, array in outside.items()}.values())


def parameter_counts(model) -> dict[str, int]:
    """{path of an array, or of a replaced layer: how many numbers it is that the model computes with}."""
    counts = {path: array.size for path, array in other_arrays(model).items()}
    return counts | {path: layer.num_parameters() for path, layer in replaced_layers(model).items()}


def count_parameters(model) -> int:
    """The numbers that a model computes with; of a mixture, those of all experts."""
    return sum(parameter_counts(model).values())


def parameters_by_part(model) -> dict:
    """{part: parameters} for all PARTS. Their sum is the whole: a tied head is in the embedding."""
    counts = dict.fromkeys(PARTS, 0)
    for path, count in parameter_counts(model).items():
        counts[part_of(path)] += count
    return counts


def part_of(path) -> str:
    """The part of a model that an array or module belongs to, by its path. The pooler counts as a head."""
    if "norm" in path:
        return "norms"
    if "attention" in path or "relative_positions" in path:
        return "attention"
    if "feed_forward" in path:
        return "feed-forward"
    return "embedding" if "embedding" in path else "head"


def active_parameters(model) -> int:
    """The parameters that one token uses: of a mixture only the experts it is sent to, of the rest all."""
    counts, total = parameter_counts(model), count_parameters(model)
    for path, mixture in named_modules(model, MixtureOfExperts).items():
        experts = sum(count for name, count in counts.items() if name.startswith(f"{path}.experts."))
        total -= experts * (len(mixture.experts) - mixture.experts_per_token) // len(mixture.experts)
    return total


def bytes_as(model, dtype) -> int:
    """What the parameters of a dense model take in memory as "float32", "bfloat16" or "int8".

    int8: one byte for each number of a weight matrix or embedding, and one float32 scale for each of their rows, as
    `recipes.Quantize` does it; routers, norms, biases and tables of distances stay float32. Raises ConfigError for
    another dtype.
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

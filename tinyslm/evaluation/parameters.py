"""How many numbers a model computes with, where they are, and what they take in memory. Shapes are enough to count."""

from tinyslm.errors import ConfigError
from tinyslm.modules import Embedding, Linear, MixtureOfExperts
from tinyslm.tree import named_arrays, named_modules

NOT_PARAMETERS = ("mask", "scale", "zero_point")  # arrays that say how to read the parameters
PARTS = ("embedding", "attention", "feed-forward", "norms", "head")
BYTES = {"float32": 4, "bfloat16": 2}  # of one number


def parameter_arrays(model) -> dict:
    """{path: array} of everything that a model computes with; an array that occurs twice once."""
    once = {id(array): (path, array) for path, array in named_arrays(model).items()}
    return {path: array for path, array in once.values() if path.rpartition(".")[2] not in NOT_PARAMETERS}


def count_parameters(model) -> int:
    """The numbers that a model computes with; of a mixture, those of all experts."""
    return sum(array.size for array in parameter_arrays(model).values())


def parameters_by_part(model) -> dict:
    """{part: parameters} for all PARTS. Their sum is the whole: a tied head is in the embedding."""
    counts = dict.fromkeys(PARTS, 0)
    for path, array in parameter_arrays(model).items():
        counts[part_of(path)] += array.size
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
    arrays, total = parameter_arrays(model), count_parameters(model)
    for path, mixture in named_modules(model, MixtureOfExperts).items():
        experts = sum(array.size for name, array in arrays.items() if name.startswith(f"{path}.experts."))
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
    arrays = parameter_arrays(model).values()
    return sum(array.size + 4 * len(array) if id(array) in as_bytes else 4 * array.size for array in arrays)

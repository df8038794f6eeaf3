"""Summary of a model from its shapes: sizes, costs and attention patterns."""

from collections import Counter

from tinyslm.evaluation.context_cost import attention_multiply_adds, cached_numbers
from tinyslm.evaluation.footprint import multiply_adds
from tinyslm.evaluation.parameters import (
    BYTES,
    active_parameters,
    bytes_as,
    count_parameters,
    parameter_counts,
    parameters_by_part,
    replaced_layers,
)
from tinyslm.modules import Attention, FeedForward, RelativePositions
from tinyslm.tree import named_arrays, named_modules


def inspect_model(model, context: int) -> dict:
    """Sizes and costs as JSON values; no weight is read.

    context: tokens for attention and the bfloat16 cache. `memory` is in bytes: of the parameters in each dtype, or of
    the arrays of a compressed model.
    """
    config = model.config
    parts = parameters_by_part(model)
    inside = sum(count for path, count in parameter_counts(model).items() if "layers" in path.split("."))
    return {
        "kind": type(model).__name__,
        "family": config.family,
        "layers": config.num_hidden_layers,
        "decoder_layers": config.num_decoder_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "feed_forward_sizes": sorted({layer.down.in_features for layer in named_modules(model, FeedForward).values()}),
        "vocab_size": config.vocab_size,
        "heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "longest_context": config.max_position_embeddings,
        "tied_head": model.tied_head,
        "parameters": count_parameters(model),
        "active_parameters": active_parameters(model),
        "parts": parts,
        "feed_forward_share_of_layers": parts["feed-forward"] / inside,
        "memory": _memory(model),
        "multiply_adds": multiply_adds(model),
        "context": context,
        "attention_multiply_adds": attention_multiply_adds(model, context),
        "cache_bytes_per_token": BYTES["bfloat16"] * cached_numbers(model, 1),
        "cache_bytes": BYTES["bfloat16"] * cached_numbers(model, context),
        "positions": _positions(model),
        "attention": [_attention(path, module) for path, module in named_modules(model, Attention).items()],
    }


def inspect_stored(tensors, model) -> dict:
    """Contents of the weight files. tensors: {name: StoredTensor or EncodedTensor};  model: that of these tensors."""
    dtypes, groups = Counter(), {}
    for name, tensor in tensors.items():
        dtypes[tensor.storage.format] += tensor.nbytes
        groups.setdefault(tensor.storage, {})[name] = tensor.nbytes
    return {
        "forms": [
            storage._asdict() | {"tensors": len(sizes), "bytes": sum(sizes.values()), "names": _last_names(sizes)}
            for storage, sizes in groups.items()
        ],
        "files": len({tensor.file for tensor in tensors.values()}),
        "tensors": len(tensors),
        "dtypes": dict(dtypes),
        "replaced": dict(Counter(type(layer).__name__ for layer in replaced_layers(model).values())),
    }


def _last_names(names):
    """The different names without their modules, such as "q_proj", in order."""
    return list(dict.fromkeys(name.removesuffix(".weight").rpartition(".")[2] for name in names))


def _positions(model):
    """The kinds of position encoding, or None for rotary positions or none."""
    learned = getattr(model, "position_embedding", None) is not None
    kinds = ["learned position embeddings"] if learned else []
    kinds += ["relative position biases"] if named_modules(model, RelativePositions) else []
    return " and ".join(kinds) or None


def _memory(model):
    if replaced_layers(model):
        return {"as stored": sum(array.nbytes for array in named_arrays(model).values())}
    return {dtype: bytes_as(model, dtype) for dtype in ("float32", "bfloat16", "int8")}


def _attention(path, attention):
    """Window and rotary embedding of one layer. Without a causal mask the window is on both sides."""
    rope = attention.rope
    return {
        "path": path,
        "causal": attention.causal,
        "window": attention.window,
        "rope": rope and {"theta": rope.theta, "scaling": rope.scaling, "dimension": rope.dimension},
    }

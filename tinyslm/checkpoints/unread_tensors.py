"""Tensors of a file that the model does not have: heads of other tasks, and parts of quantized weights."""

import warnings
from fnmatch import fnmatchcase

from tinyslm.checkpoints.families import Family
from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.safetensors import StoredTensor
from tinyslm.errors import CheckpointError, CheckpointWarning

TASK_HEADS = ("classifier", "pre_classifier", "qa_outputs", "score", "v_head")  # first parts of names in transformers
MOST_SHOWN = 6  # names in a warning
QUANTIZED = {  # {pattern of a name: the format of quantized weights}
    "*_scale": "compressed-tensors or FP8",
    "*_scale_inv": "FP8",
    "*.scales": "GPTQ or AWQ",
    "*.qweight": "GPTQ or AWQ",
    "*.qzeros": "GPTQ or AWQ",
    "*.g_idx": "GPTQ",
    "*.weight_packed": "compressed-tensors",
    "*.weight_zero_point": "compressed-tensors",
    "*.absmax": "bitsandbytes",
    "*.quant_map": "bitsandbytes",
    "*.quant_state.*": "bitsandbytes",
    "*.SCB": "bitsandbytes",
}


def is_task_head(name: str) -> bool:
    """Whether a tensor of this name belongs to the head of another task."""
    return name.partition(".")[0] in TASK_HEADS


def check_not_quantized(tensors: dict[str, StoredTensor]):
    """Raise CheckpointError if a tensor is a part of a quantized weight that config.json does not describe."""
    for name, tensor in tensors.items():
        for pattern, library in QUANTIZED.items():
            if fnmatchcase(name, pattern):
                raise CheckpointError(
                    f"{tensor.file}: tensor {shown(name)} is a part of a weight quantized by {library}, but "
                    "config.json has no quantization_config for it; add the one of the quantized model (older ones "
                    "hold it in quantize_config.json or quant_config.json)"
                )


def check_unread(tensors: dict[str, StoredTensor], family: Family, architecture: str | None = None):
    """Warn about the head of another task, which is left out; raise CheckpointError for an unknown tensor.

    tensors: those that were not read.  architecture: the class of the model in config.json, for the message.
    """
    unread = [name for name in tensors if not any(fnmatchcase(name, pattern) for pattern in family.ignored)]
    has_task_head = any(map(is_task_head, unread))
    for name in unread:
        is_shared = has_task_head and family.shared_head and name.startswith(family.shared_head)
        if not is_task_head(name) and not is_shared:
            raise CheckpointError(
                f"{tensors[name].file}: unknown tensor {shown(name)}, which does not exist in this "
                f"{family.model_type} model"
            )
    if unread:
        whose = f" of {shown(architecture)}" if architecture else ""
        more = ", ..." if len(unread) > MOST_SHOWN else ""
        warnings.warn(
            f"{tensors[unread[0]].file.parent}: the head{whose} for another task is left out: "
            f"{', '.join(map(shown, unread[:MOST_SHOWN]))}{more}",
            CheckpointWarning,
            stacklevel=2,
        )

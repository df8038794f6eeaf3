"""What was done to a model, step by step, in words."""

from tinyslm.reporting import units


def step_sentence(step, layers) -> str:
    """What a step did. A step that is not known here is named; its settings stand beside it on the page anyway."""
    settings, name = step.get("settings", {}), step["step"]
    write = SENTENCES.get(name)
    return write(settings, layers) if write else f"{name} was applied."


def _keep_layers(settings, layers):
    kept = settings.get("layers", ())
    if not kept:
        return "Some of the layers were kept, the others dropped."
    numbers = ", ".join(str(layer + 1) for layer in kept)
    return f"Of the {layers} layers, number {numbers} (counted from 1) were kept as they are, the others dropped."


def _recover(settings, layers):
    share_of_teacher = settings.get("soft_weight", 1)
    teacher = "to predict what the dense model predicts (distillation)"
    target = teacher if share_of_teacher == 1 else "on the text itself" if share_of_teacher == 0 else (
        f"{teacher} and on the text itself")  # fmt: skip
    steps = settings.get("steps")
    return f"The model was trained{f' for {steps:,} steps' if isinstance(steps, int) else ''} {target}."


def _prune(settings, layers):
    return f"By magnitude, {_share(settings)} of the weights {_scope(settings)} were set to zero{_pattern(settings)}."


def _prune_by_inputs(settings, layers):
    return (
        f"{_share(settings).capitalize()} of the weights of every linear layer in the blocks were set to zero: those "
        f"whose product with the strength of their input is smallest (Wanda){_pattern(settings)}."
    )


def _prune_with_updates(settings, layers):
    return (
        f"{_share(settings).capitalize()} of the weights of every linear layer in the blocks were set to zero, and the "
        f"others changed to make up for it (SparseGPT){_pattern(settings)}."
    )


def _prune_gradually(settings, layers):
    return f"While the model was trained, {_share(settings)} of the weights {_scope(settings)} were set to zero."


def _prune_iteratively(settings, layers):
    rounds = settings.get("rounds")
    times = f"In {rounds} rounds" if isinstance(rounds, int) else "In several rounds"
    return f"{times} of pruning and training, {_share(settings)} of the weights {_scope(settings)} were set to zero."


def _prune_by_sensitivity(settings, layers):
    return (
        f"{_share(settings).capitalize()} of all weights in the blocks were set to zero, more in layers where the loss "
        "felt it less."
    )


def _share(settings):
    sparsity = settings.get("sparsity")
    return f"the smallest {units.percent(sparsity)}" if units.is_number(sparsity) else "the smallest"


def _scope(settings):
    together = settings.get("scope") == "global"
    return "of all linear layers together" if together else "of every linear layer in the blocks"


def _pattern(settings):
    kept, _, group = str(settings.get("pattern", "")).partition(":")
    return f", so that {kept} of every {group} neighbours stay" if group else ""


def _slice_heads(settings, layers):
    return f"The least important query heads of every group{_less(settings)} were cut out: the matrices became smaller."


def _slice_groups(settings, layers):
    return f"The least important key/value heads{_less(settings)} were cut out, with the query heads that use them."


def _slice_channels(settings, layers):
    return f"The least important channels of the residual stream{_less(settings)} were cut out, in the whole model."


def _less(settings):
    ratio = settings.get("ratio")
    return f" ({units.percent(1 - ratio)} of them)" if units.is_number(ratio) else ""


def _drop_layers(settings, layers):
    count = settings.get("count")
    return f"{count if isinstance(count, int) else 'Some'} of the {layers} layers, the least important, were dropped."


def _learn_ranks(settings, layers):
    return (
        f"Every linear layer in the blocks became two thin matrices{_of_parameters(settings)}; which components each "
        "keeps was learned from what their loss does to the model (LLRC)."
    )


def _of_parameters(settings):
    ratio = settings.get("ratio")
    return f" that together hold {units.percent(ratio)} of the parameters" if units.is_number(ratio) else ""


def _quantize_gptq(settings, layers):
    return (
        f"The weights of linear layers in the blocks were rounded to {_bits(settings)}, one column after the other, "
        "where the columns that follow make up for the error (GPTQ)."
    )


def _train_quantized(settings, layers):
    return f"The model was trained with its weights rounded to {_bits(settings)} in every pass, and stored so."


def _bits(settings):
    bits = settings.get("bits")
    return f"{bits}-bit integers" if isinstance(bits, int) else "integers"


def _slice(settings, layers):
    ratio = settings.get("ratio")
    some = units.percent(1 - ratio) if units.is_number(ratio) else "some"
    return (
        f"The least important neurons of every feed-forward layer, {some} of them, were cut out: "
        "the matrices became smaller."
    )


def _quantize(settings, layers):
    scale = "row of a matrix" if settings.get("per_channel", True) else "matrix"
    if settings.get("group_size"):
        scale = f"{settings['group_size']} neighbours in a row"
    bits = settings.get("bits", 8)
    text = (
        f"The matrices of linear layers were rounded to {bits}-bit integers, with one scale (a factor) for each {scale}"
    )
    text += ", embeddings too." if bits == 8 else "; embeddings to 8 bits."
    if settings.get("dynamic_activations"):
        text += " The inputs of the linear layers are rounded too, token by token, and integers are multiplied."
    return text


def _quantize_format(settings, layers):
    names = {"nf4": "NormalFloat-4", "fp4": "a 4-bit floating-point format"}
    return (
        "The weights of linear layers in the blocks were rounded to the 16 levels of "
        f"{names.get(settings.get('format'), 'a 4-bit format')}, with one scale for each "
        f"{settings.get('block_size', 64)} neighbours in a row."
    )


WEIGHTINGS = {
    "fisher": "where the loss is sensitive (Fisher information)",
    "activation": "where inputs are large",
    "whitened": "in what the layer computes on the calibration documents",
}


def _factorize(settings, layers):
    ratio = settings.get("ratio")
    some = f" that hold {units.percent(ratio)} of its parameters" if units.is_number(ratio) else ""
    text = (
        f"The weight matrix of every linear layer in the blocks was replaced by the product of two thin matrices{some}"
    )
    weighted = WEIGHTINGS.get(settings.get("weighting"))
    if weighted:
        return f"{text}, made so that the error is small {weighted}."
    return f"{text}, the closest to it that there are (singular value decomposition)."


SENTENCES = {
    "DropLayers": _drop_layers,
    "Factorize": _factorize,
    "FoldMasks": lambda settings, layers: "The masks were dropped: the zeros are now ordinary numbers of the matrices.",
    "FreshStudent": lambda settings, layers: "A smaller model with random weights took its place.",
    "KeepLayers": _keep_layers,
    "LearnRanks": _learn_ranks,
    "PruneBySensitivity": _prune_by_sensitivity,
    "PruneGradually": _prune_gradually,
    "PruneIteratively": _prune_iteratively,
    "PruneMagnitude": _prune,
    "PruneSparseGPT": _prune_with_updates,
    "PruneWanda": _prune_by_inputs,
    "Quantize": _quantize,
    "QuantizeGPTQ": _quantize_gptq,
    "QuantizeOutlierAware": lambda settings, layers: (
        "Weights and inputs of linear layers were rounded to 8-bit integers, but for the few features with very large "
        "inputs, which stay in floating point (LLM.int8())."
    ),
    "QuantizeFormat": _quantize_format,
    "QuantizeStatic": lambda settings, layers: (
        "Weights and inputs of linear layers were rounded to 8-bit integers, the inputs within a range that was "
        "measured beforehand, and integers are multiplied."
    ),
    "Distill": _recover,
    "RefitWeights": lambda settings, layers: (
        "The weights that were left were chosen anew, for the smallest error of each layer's outputs (least squares)."
    ),
    "SliceChannels": _slice_channels,
    "SliceExperts": lambda settings, layers: "The least important experts of every mixture were cut out.",
    "SliceGroups": _slice_groups,
    "SliceHeads": _slice_heads,
    "SliceNeurons": _slice,
    "Smooth": lambda settings, layers: (
        "Large features of the activations were moved into the weights, which changes nothing of what is computed "
        "(SmoothQuant)."
    ),
    "StoreSparse": lambda settings, layers: "Zeros are no longer stored.",
    "TrainQuantized": _train_quantized,
}

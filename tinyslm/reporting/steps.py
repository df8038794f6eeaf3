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
    sparsity = settings.get("sparsity")
    some = f"the smallest {units.percent(sparsity)}" if units.is_number(sparsity) else "the smallest"
    where = (
        "of all linear layers together" if settings.get("scope") == "global" else "of every linear layer in the blocks"
    )
    return f"By magnitude, {some} of the weights {where} were set to zero."


def _slice(settings, layers):
    ratio = settings.get("ratio")
    some = units.percent(1 - ratio) if units.is_number(ratio) else "some"
    return (
        f"The least important neurons of every feed-forward layer, {some} of them, were cut out: "
        "the matrices became smaller."
    )


def _quantize(settings, layers):
    scale = "row of a matrix" if settings.get("per_channel", True) else "matrix"
    text = (
        "The matrices of linear layers and embeddings were rounded to 8-bit integers, with one scale (a factor) for "
        f"each {scale}."
    )
    if settings.get("integer_products"):
        text += " The inputs of the linear layers are rounded too, token by token, and integers are multiplied."
    return text


def _factorize(settings, layers):
    ratio = settings.get("ratio")
    some = f" that hold {units.percent(ratio)} of its parameters" if units.is_number(ratio) else ""
    text = (
        f"The weight matrix of every linear layer in the blocks was replaced by the product of two thin matrices{some}"
    )
    if settings.get("weighting") == "fisher":
        return f"{text}, made so that the error is small where the loss is sensitive (Fisher information)."
    return f"{text}, the closest to it that there are (singular value decomposition)."


SENTENCES = {
    "KeepLayers": _keep_layers,
    "Recover": _recover,
    "PruneMagnitude": _prune,
    "FoldMasks": lambda settings, layers: "The masks were dropped: the zeros are now ordinary numbers of the matrices.",
    "SliceNeurons": _slice,
    "Quantize": _quantize,
    "Factorize": _factorize,
}

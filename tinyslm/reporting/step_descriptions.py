"""Descriptions of recipe steps in one sentence each."""

from tinyslm.reporting.number_format import is_number, percent

TWO_FACTORS = "The weight matrix of each linear layer in the blocks was replaced by a product of two thin matrices"
DESCRIPTIONS = {
    "Distill": "Distillation: the model was trained{steps} {target}.",
    "DropLayers": "The {count} least important of the {layers} layers were removed.",
    "Factorize": TWO_FACTORS + "{parameters_kept}, computed by {decomposition}.",
    "FoldMasks": "The pruning masks were removed; pruned weights are now stored as zeros.",
    "FreshStudent": "A smaller model with random weights replaced it.",
    "KeepLayers": "{kept_layers} were kept, the others removed.",
    "LearnRanks": TWO_FACTORS + "{parameters_kept}; training selected the components that each keeps (LLRC).",
    "PruneBySensitivity": "{sparsity} of all weights in the blocks were set to zero, more from layers to which the "
    "loss is less sensitive.",
    "PruneGradually": "During training, {sparsity} of the weights {scope}, the smallest, were set to zero.",
    "PruneIteratively": "In {rounds} rounds of pruning and training, {sparsity} of the weights {scope}, the smallest, "
    "were set to zero.",
    "PruneMagnitude": "Magnitude pruning: {sparsity} of the weights {scope}, the smallest, were set to zero{pattern}.",
    "PruneSparseGPT": "SparseGPT: {sparsity} of the weights of each linear layer in the blocks were set to zero, and "
    "the remaining weights updated to compensate for the error{pattern}.",
    "PruneWanda": "Wanda: {sparsity} of the weights of each linear layer in the blocks were set to zero, those with "
    "the smallest product of magnitude and input norm{pattern}.",
    "Quantize": "The matrices of linear layers were rounded to {bits}-bit integers, with one scale for each {group}"
    "{embeddings}{dynamic_activations}.",
    "QuantizeFormat": "The weights of linear layers in the blocks were rounded to the 16 levels of {format}, with one "
    "scale for each {block_size} consecutive weights of a row.",
    "QuantizeGPTQ": "GPTQ: the weights of linear layers in the blocks were rounded to {bits}-bit integers column by "
    "column, and the remaining columns updated to compensate for the error.",
    "QuantizeOutlierAware": "LLM.int8(): weights and inputs of linear layers were rounded to 8-bit integers, except "
    "for the few features with very large inputs, which stay in floating point.",
    "QuantizeStatic": "Weights and inputs of linear layers were rounded to 8-bit integers, the inputs within a range "
    "that was measured during calibration.",
    "RefitWeights": "The remaining weights were refit by least squares to minimize the error of each layer's outputs.",
    "SliceChannels": "{removed} channels of the residual stream were removed from the whole model.",
    "SliceExperts": "The least important experts of every mixture were removed.",
    "SliceGroups": "{removed} key/value heads were removed, with the query heads that use them.",
    "SliceHeads": "{removed} query heads of every group were removed, which makes the matrices smaller.",
    "SliceNeurons": "{removed} neurons of every feed-forward layer were removed, which makes the matrices smaller.",
    "Smooth": "SmoothQuant: large activation features were scaled down and the weights scaled up; the outputs of the "
    "model do not change.",
    "StoreSparse": "The zeros are no longer stored.",
    "TrainQuantized": "Quantization-aware training: the model was trained with its weights rounded to {bits}-bit "
    "integers in every pass, and stored in this form.",
}
DYNAMIC = "; inputs of linear layers are rounded token by token, and integers are multiplied (W8A8)"
DECOMPOSITIONS = {
    "none": "truncated singular value decomposition",
    "fisher": "SVD weighted by Fisher information (FWSVD)",
    "activation": "SVD weighted by the magnitude of the inputs (ASVD)",
    "whitened": "SVD of the whitened matrix, which minimizes the output error on the calibration documents (SVD-LLM)",
}
FORMATS = {"nf4": "NormalFloat-4", "fp4": "a 4-bit floating-point format"}


def describe_step(step: dict, layers: int) -> str:
    """One sentence on a step of a record, {"step": name, "settings": {...}}; layers: those of the dense model."""
    name = step["step"]
    if name not in DESCRIPTIONS:
        return f"{name} was applied."
    text = DESCRIPTIONS[name].format_map(_phrases(step.get("settings", {}), layers))
    return text[0].upper() + text[1:]


def _phrases(settings, layers):
    """The words that depend on settings; each has a form for a setting that is missing."""
    soft, steps, ratio = settings.get("soft_weight", 1), settings.get("steps"), settings.get("ratio")
    teacher, bits = "to reproduce the dense model's predictions", settings.get("bits", 8)
    kept, _, group = str(settings.get("pattern", "")).partition(":")
    kept_layers = settings.get("layers")  # of some steps, a number or a name
    numbers = ", ".join(str(layer + 1) for layer in kept_layers) if isinstance(kept_layers, list | tuple) else ""
    quantity = f"the {percent(1 - ratio)}" if is_number(ratio) else "the"
    per_row = "row of a matrix" if settings.get("per_channel", True) else "matrix"
    return {
        "steps": f" for {steps:,} steps" if isinstance(steps, int) else "",
        "target": "on text" if soft == 0 else teacher if soft == 1 else f"{teacher} and on text",
        "count": settings.get("count", "several"),
        "layers": layers,
        "parameters_kept": f" with {percent(ratio)} of its parameters" if is_number(ratio) else "",
        "decomposition": DECOMPOSITIONS.get(settings.get("weighting", "none"), "a weighted SVD"),
        "kept_layers": f"layers number {numbers} of {layers} (counted from 1)" if numbers else "some of the layers",
        "sparsity": percent(settings["sparsity"]) if is_number(settings.get("sparsity")) else "some",
        "scope": "of all linear layers together" if settings.get("scope") == "global" else "of each linear layer",
        "rounds": settings.get("rounds", "several"),
        "pattern": f", so that {kept} of every {group} consecutive weights remain" if group else "",
        "bits": bits,
        "group": f"{settings['group_size']} consecutive weights of a row" if settings.get("group_size") else per_row,
        "embeddings": ", embeddings included" if bits == 8 else "; embeddings to 8 bits",
        "dynamic_activations": DYNAMIC if settings.get("dynamic_activations") else "",
        "format": FORMATS.get(settings.get("format"), "a 4-bit format"),
        "block_size": settings.get("block_size", 64),
        "removed": f"{quantity} least important",
    }

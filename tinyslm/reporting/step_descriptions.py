"""Descriptions of recipe steps in one sentence each, from step_descriptions.toml."""

import tomllib
from importlib import resources

from tinyslm.reporting.number_format import is_number, percent

DESCRIPTIONS = tomllib.loads(resources.files("tinyslm.reporting").joinpath("step_descriptions.toml").read_text("utf-8"))
DYNAMIC = "; inputs of linear layers are rounded token by token, and integers are multiplied (W8A8)"
DECOMPOSITIONS = {
    "none": "truncated singular value decomposition",
    "fisher": "SVD weighted by Fisher information (FWSVD)",
    "activation": "SVD weighted by the magnitude of the inputs (ASVD)",
    "whitened": "SVD of the whitened matrix, which minimizes the output error on the calibration documents (SVD-LLM)",
}
FORMATS = {"nf4": "NormalFloat-4", "fp4": "a 4-bit floating-point format"}


def describe_step(step: dict, layers: int) -> str:
    """One sentence on a step of a record, {"step": name, "settings": {...}}; layers: number in the dense model."""
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

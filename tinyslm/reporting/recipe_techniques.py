"""Compression techniques of a recipe, from the names of its steps."""

AUXILIARY = ("Distill", "FoldMasks", "RefitWeights", "Smooth", "StoreSparse")  # steps before or after a technique
TRAINING = ("Distill", "PruneGradually", "PruneIteratively", "TrainQuantized")
TECHNIQUES = {  # by the beginning of the step's name
    "KeepLayers": "student",
    "FreshStudent": "student",
    "Prune": "pruned",
    "Slice": "sliced",
    "Drop": "sliced",
    "Quantize": "quantized",
    "TrainQuantized": "quantized",
    "Factorize": "factorized",
    "LearnRanks": "factorized",
}


def technique(row) -> str:
    """A value of TECHNIQUES, "dense", "combination" of several, or "other" for an unknown step."""
    found = set(techniques(row))
    if len(found) > 1:
        return "combination"
    return found.pop() if found else "dense"


def techniques(row) -> list[str]:
    """The techniques of all steps in order, without auxiliary steps."""
    names = [step["step"] for step in row["steps"] if step["step"] not in AUXILIARY]
    return [next((kind for start, kind in TECHNIQUES.items() if name.startswith(start)), "other") for name in names]


def setting(row, name):
    """The value of a setting in the first step that has it, or None."""
    return next((step["settings"][name] for step in row["steps"] if name in step.get("settings", {})), None)


def was_trained(row) -> bool:
    """Whether the recipe trained the model."""
    return any(step["step"] in TRAINING for step in row["steps"])

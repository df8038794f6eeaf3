"""Which technique a row shows, read off the names of its steps."""

RECOVERY = "Recover"
NOT_TECHNIQUES = (RECOVERY, "FoldMasks")  # they change nothing in what the model is made of
TECHNIQUES = {
    "KeepLayers": "student",
    "SliceNeurons": "sliced",
    "Quantize": "quantized",
    "Factorize": "factorized",
}


def technique(row) -> str:
    """ "dense", "student", "pruned", "sliced", "quantized", "factorized", "combination", or "other" for new steps."""
    found = set(techniques(row))
    if len(found) > 1:
        return "combination"
    return found.pop() if found else "dense"


def techniques(row) -> list[str]:
    """The techniques of all steps in their order, without the training that follows them."""
    names = [step["step"] for step in row["steps"] if step["step"] not in NOT_TECHNIQUES]
    return [TECHNIQUES.get(name, "pruned" if name.startswith("Prune") else "other") for name in names]


def setting(row, name):
    """The value of a setting in the first step that has it, or None."""
    return next((step["settings"][name] for step in row["steps"] if name in step.get("settings", {})), None)


def was_trained(row) -> bool:
    """Whether the recipe trained the model after compressing it."""
    return any(step["step"] == RECOVERY for step in row["steps"])

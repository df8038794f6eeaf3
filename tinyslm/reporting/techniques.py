"""Which technique a row shows, read off the names of its steps."""

RECOVERY = "Distill"
NOT_TECHNIQUES = (RECOVERY, "FoldMasks", "RefitWeights", "Smooth", "StoreSparse")  # they prepare or finish others
TRAINING = (RECOVERY, "PruneGradually", "PruneIteratively", "TrainQuantized")
TECHNIQUES = {
    "KeepLayers": "student",
    "FreshStudent": "student",
    "TrainQuantized": "quantized",
    "Factorize": "factorized",
    "LearnRanks": "factorized",
}
BEGINNINGS = {"Prune": "pruned", "Slice": "sliced", "Drop": "sliced", "Quantize": "quantized"}  # of names of steps


def technique(row) -> str:
    """ "dense", "student", "pruned", "sliced", "quantized", "factorized", "combination", or "other" for new steps."""
    found = set(techniques(row))
    if len(found) > 1:
        return "combination"
    return found.pop() if found else "dense"


def techniques(row) -> list[str]:
    """The techniques of all steps in their order, without the training that follows them."""
    names = [step["step"] for step in row["steps"] if step["step"] not in NOT_TECHNIQUES]
    return [TECHNIQUES.get(name) or _by_beginning(name) for name in names]


def _by_beginning(name):
    return next((kind for beginning, kind in BEGINNINGS.items() if name.startswith(beginning)), "other")


def setting(row, name):
    """The value of a setting in the first step that has it, or None."""
    return next((step["settings"][name] for step in row["steps"] if name in step.get("settings", {})), None)


def was_trained(row) -> bool:
    """Whether the recipe trained the model."""
    return any(step["step"] in TRAINING for step in row["steps"])

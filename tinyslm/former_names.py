"""Former names of steps and settings. Error messages for old files give the current name."""

FORMER_NAMES = {  # {former name: current name}
    "Recover": "Distill",
    "RepairWeights": "RefitWeights",
    "integer_products": "dynamic_activations",
    "repair": "refit",
    "inputs": "in_features",
}


def rename_hint(name: str) -> str:
    """Hint at the end of an error message about an unknown name: the current name of a former name, else ""."""
    return f"; {name} is now called {FORMER_NAMES[name]}" if name in FORMER_NAMES else ""

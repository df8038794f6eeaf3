"""Former names of steps, settings and layers, for files that were written with them."""

FORMER_NAMES = {
    "Recover": "Distill",
    "RepairWeights": "RefitWeights",
    "integer_products": "dynamic_activations",
    "repair": "refit",
    "inputs": "in_features",
}


def rename_hint(name) -> str:
    """What to add to a message about an unknown name: the name it has now, or nothing."""
    return f"; {name} is now called {FORMER_NAMES[name]}" if name in FORMER_NAMES else ""

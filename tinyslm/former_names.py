"""Former names of steps, settings and layers, for error messages about files that use them."""

FORMER_NAMES = {
    "Recover": "Distill",
    "RepairWeights": "RefitWeights",
    "integer_products": "dynamic_activations",
    "repair": "refit",
    "inputs": "in_features",
}


def rename_hint(name: str) -> str:
    """Hint for a message about an unknown name: the current name, or "" for other names."""
    return f"; {name} is now called {FORMER_NAMES[name]}" if name in FORMER_NAMES else ""

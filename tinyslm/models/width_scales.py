"""Scales that a family derives from the width: sqrt(C) of the embedding (Gemma), 1 / sqrt(C) of the output (T5)."""


def width_scales(config, hidden_size: int) -> dict[str, float]:
    """{field: value} of these scales in a model of another width.

    Fields of the configuration that are not derived from its own width are left out: they do not change.
    """
    derived = {"embedding_scale": 0.5, "output_scale": -0.5}  # exponents of C
    return {
        name: hidden_size**exponent
        for name, exponent in derived.items()
        if getattr(config, name, None) == config.hidden_size**exponent
    }

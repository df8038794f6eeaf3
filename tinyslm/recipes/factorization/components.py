"""What the linear layers of a model consist of, seen through its calibration documents."""

from dataclasses import replace

from tinyslm.compression.factorization import (
    activation_weighted_components,
    fisher_weighted_components,
    svd_components,
    whitened_components,
)
from tinyslm.errors import ConfigError
from tinyslm.parallel import map_in_threads
from tinyslm.recipes.linear_layers import compressible_layers
from tinyslm.recipes.statistics import fisher_information, input_grams, mean_input_magnitudes

WEIGHTINGS = ("none", "fisher", "activation", "whitened")


def model_components(model, calibration, weighting, documents=None) -> dict:
    """{path of a linear layer in the blocks: its `Components` in the norm of a weighting}.

    documents: how many to gather statistics from, by default what the calibration says. Raises ConfigError for an
    unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        raise ConfigError(f"weighting is {weighting!r}, expected one of {', '.join(WEIGHTINGS)}")
    if documents is not None:
        calibration = replace(calibration, statistics_documents=documents)
    layers = compressible_layers(model)
    tasks = [] if weighting == "none" else calibration.sample()
    if weighting == "fisher":
        fisher = fisher_information(model, tasks)
    elif weighting == "activation":
        magnitudes = mean_input_magnitudes(model, tasks)
    elif weighting == "whitened":
        grams = input_grams(model, tasks)

    def components_of(path):
        weight = layers[path].weight
        if weighting == "fisher":
            return fisher_weighted_components(weight, fisher[f"{path}.weight"])
        if weighting == "activation":
            return activation_weighted_components(weight, magnitudes[path])
        if weighting == "whitened":
            return whitened_components(weight, grams[path][0])
        return svd_components(weight)

    return dict(zip(layers, map_in_threads(components_of, layers), strict=True))

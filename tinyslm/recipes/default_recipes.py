"""The built-in recipes of `tinyslm compress`: every technique with usual settings, and one combination."""

from typing import Any

from tinyslm.compression.distillation import layer_map
from tinyslm.errors import ConfigError
from tinyslm.recipes.distillation import Distill, KeepLayers
from tinyslm.recipes.factorization import Factorize, LearnRanks
from tinyslm.recipes.pruning import FoldMasks, PruneSparseGPT, SliceNeurons
from tinyslm.recipes.quantization import Quantize, QuantizeGPTQ
from tinyslm.recipes.recipe import Recipe


def default_recipes(model: Any, *, thorough: bool = False) -> list[Recipe]:
    """The built-in recipes: every technique with usual settings, and one combination.

    Parameters
    ----------
    model : Decoder, Encoder or EncoderDecoder
        Its number of layers determines the layers of the distilled student.
    thorough : bool
        Whether to train ten times as many steps.

    Returns
    -------
    list of Recipe
        The first one, "dense", has no steps.

    Examples
    --------
    >>> from tinyslm.models import random_model
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> recipes = default_recipes(random_model(llama_shape(50, 16, 32, 4, 2, 2, 20)))
    >>> recipes[0].name, recipes[1].steps[0]
    ('dense', KeepLayers(layers=(0, 3), decoder_layers=None))
    """
    longer = 10 if thorough else 1
    distill = Distill(steps=40 * longer, learning_rate=5e-4)
    layers = len(model.layers)
    half = layer_map("spread", max(1, layers // 2), layers)
    return [
        Recipe("dense", (), "the model without compression, in 32-bit floating point"),
        Recipe(
            "distilled student",
            (KeepLayers(half), Distill(steps=90 * longer, learning_rate=1e-3)),
            f"{len(half)} of the {layers} layers, trained on the predictions of the dense model",
        ),
        Recipe(
            "SparseGPT 50 %",
            (PruneSparseGPT(sparsity=0.5), distill, FoldMasks()),
            "half of the weights of every linear layer set to zero, the others updated to compensate; short training",
        ),
        Recipe(
            "neurons 67 %",
            (SliceNeurons(ratio=2 / 3), distill),
            "a third of the neurons of every feed-forward layer removed; short training",
        ),
        Recipe("INT8 weights", (Quantize(),), "weights rounded to 8-bit integers, one scale per row; no training"),
        Recipe(
            "INT8 products",
            (Quantize(dynamic_activations=True),),
            "weights and activations rounded to 8-bit integers, multiplied as integers (W8A8); no training",
        ),
        Recipe(
            "GPTQ 4 bits",
            (QuantizeGPTQ(bits=4),),
            "weights rounded to 4-bit integers, later columns updated to compensate each rounding error; no training",
        ),
        Recipe(
            "SVD 0.7",
            (Factorize(ratio=0.7), distill),
            "every linear layer replaced by two low-rank factors with 70 % of its parameters; short training",
        ),
        Recipe(
            "learned ranks 0.7",
            (LearnRanks(ratio=0.7), distill),
            "the same total size, with a learned rank for each layer (LLRC); short training",
        ),
        Recipe(
            "slice, distil, INT8",
            (SliceNeurons(ratio=2 / 3), Distill(steps=60 * longer, learning_rate=5e-4), Quantize()),
            "a third of the neurons removed, distilled from the dense model, then rounded to 8-bit integers",
        ),
    ]


def select_recipes(recipes, names, others=()) -> list[Recipe]:
    """The dense model, the recipes with these names (or directories), and the recipes in `others`.

    Raises ConfigError for an unknown name, and for two recipes with the same directory.
    """
    known = {name: recipe for recipe in recipes for name in (recipe.name, recipe.directory)}
    for name in names:
        if name not in known:
            raise ConfigError(f"recipe {name!r} is not one of {', '.join(recipe.directory for recipe in recipes)}")
    named = [known[name] for name in names]
    chosen = [recipe for recipe in recipes if recipe in named or not recipe.steps] + list(others)
    directories = [recipe.directory for recipe in chosen]
    for directory in directories:
        if directories.count(directory) > 1:
            raise ConfigError(f"two recipes are called {directory!r}: give one of them another name")
    return chosen

"""The built-in recipes of `tinyslm compress`: techniques with usual settings, with and without training."""

from typing import Any

from tinyslm.compression.distillation import layer_map
from tinyslm.errors import ConfigError
from tinyslm.evaluation.parameters import count_parameters
from tinyslm.recipes.distillation import Distill, KeepLayers
from tinyslm.recipes.factorization import Factorize, LearnRanks
from tinyslm.recipes.pruning import FoldMasks, PruneMagnitude, PruneSparseGPT, PruneWanda, SliceNeurons
from tinyslm.recipes.quantization import Quantize, QuantizeGPTQ
from tinyslm.recipes.recipe import Recipe

LARGE_MODEL = 30_000_000  # parameters; a model with more takes hours to train on a processor
MAPPED_MODEL = 500_000_000  # parameters; a model with more is compressed from its files, if its recipes can do it

DENSE = Recipe("dense", (), "the model without compression, in 32-bit floating point")
ROUNDED = [
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
]


def is_large(model: Any) -> bool:
    """Whether a model has more than LARGE_MODEL parameters."""
    return count_parameters(model) > LARGE_MODEL


def default_recipes(model: Any, *, thorough: bool = False) -> list[Recipe]:
    """The recipes that `tinyslm compress` applies by default.

    A model of up to 30 million parameters gets every technique, some with a short training, and one combination. A
    larger model gets quantization, pruning and factorization without training. A model of more than 500 million
    parameters gets those that can leave its weights in their files.

    Parameters
    ----------
    model : Decoder, Encoder or EncoderDecoder
        Its size selects the recipes, and its number of layers determines the layers of the distilled student.
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
    return presets(model, thorough)["default"]


def presets(model, thorough=False) -> dict[str, list[Recipe]]:
    """{name: recipes} of the lists that `--recipe` accepts. Arguments as of `default_recipes`."""
    lists = {"training": _with_training(model, thorough), "no-training": _without_training()}
    default = lists["no-training" if is_large(model) else "training"]
    if count_parameters(model) > MAPPED_MODEL:
        default = [recipe for recipe in default if reads_mapped(recipe)]
    return {"default": default, **lists}


def reads_mapped(recipe: Recipe) -> bool:
    """Whether all steps of a recipe accept a model whose weights are mapped from its files."""
    return all(getattr(step, "reads_mapped", False) for step in recipe.steps)


def _without_training():
    """Recipes that only read calibration documents, or nothing."""
    return [
        DENSE,
        *ROUNDED,
        Recipe(
            "SparseGPT 2:4",
            (PruneSparseGPT(sparsity=0.5, pattern="2:4"), FoldMasks()),
            "two of every four weights set to zero, the others updated to compensate; no training",
        ),
        Recipe(
            "Wanda 2:4",
            (PruneWanda(sparsity=0.5, pattern="2:4"), FoldMasks()),
            "two of every four weights set to zero, by magnitude times input norm; no training",
        ),
        Recipe(
            "neurons 80 %, refit",
            (SliceNeurons(ratio=0.8, refit=True),),
            "a fifth of the neurons of every feed-forward layer removed, the rest refit by least squares; no training",
        ),
        Recipe(
            "SVD-LLM 0.8",
            (Factorize(ratio=0.8, weighting="whitened"),),
            "every linear layer replaced by two low-rank factors with 80 % of its parameters, which minimize the error "
            "of its outputs; no training",
        ),
    ]


def _with_training(model, thorough):
    """Plain and better forms of each technique, some with a short training, and one combination.

    The settings of the trainings were selected on validation documents of the town; the table measures test documents.
    """
    longer = 10 if thorough else 1
    recovery = Distill(steps=40 * longer, learning_rate=5e-4, batch_size=10)
    factor_recovery = Distill(steps=40 * longer, learning_rate=1e-3, batch_size=10)
    layers = len(model.layers)
    half = layer_map("spread", max(1, layers // 2), layers)
    return [
        DENSE,
        Recipe(
            "distilled student",
            (KeepLayers(half), Distill(steps=110 * longer, learning_rate=2e-3, batch_size=10)),
            f"{len(half)} of the {layers} layers, trained on the predictions of the dense model",
        ),
        Recipe(
            "magnitude 50 %",
            (PruneMagnitude(0.5), FoldMasks()),
            "the smaller half of the weights of every linear layer set to zero; no training",
        ),
        Recipe(
            "SparseGPT 50 %",
            (PruneSparseGPT(sparsity=0.5), FoldMasks()),
            "half of the weights of every linear layer set to zero, the others updated to compensate; no training",
        ),
        Recipe(
            "neurons 67 %",
            (SliceNeurons(ratio=2 / 3), recovery),
            "a third of the neurons of every feed-forward layer removed; short training",
        ),
        *ROUNDED,
        Recipe(
            "SVD 0.7",
            (Factorize(ratio=0.7), factor_recovery),
            "every linear layer replaced by two low-rank factors with 70 % of its parameters; short training",
        ),
        Recipe(
            "FWSVD 0.7",
            (Factorize(ratio=0.7, weighting="fisher"), factor_recovery),
            "the same ranks; the factors minimize an error weighted by Fisher information; short training",
        ),
        Recipe(
            "learned ranks 0.7",
            (LearnRanks(ratio=0.7, steps=60 * longer, batch_size=4), factor_recovery),
            "the same total size, with a learned rank for each layer (LLRC); short training",
        ),
        Recipe(
            "slice, distil, INT8",
            (SliceNeurons(ratio=2 / 3), recovery, Quantize()),
            "a third of the neurons removed, distilled from the dense model, then rounded to 8-bit integers",
        ),
    ]


def select_recipes(names, lists, others=()) -> list[Recipe]:
    """The dense model, the recipes with these names, and the recipes in `others`.

    names: of recipes or their directories, or of whole lists;  lists: as of `presets`.
    Raises ConfigError for an unknown name, and for two recipes with the same directory.
    """
    recipes = list({recipe.directory: recipe for recipes in lists.values() for recipe in recipes}.values())
    known = {name: [recipe] for recipe in recipes for name in (recipe.name, recipe.directory)} | lists
    for name in names:
        if name not in known:
            expected = ", ".join([recipe.directory for recipe in recipes] + list(lists))
            raise ConfigError(f"recipe {name!r} is not one of {expected}")
    named = [recipe for name in names for recipe in known[name]]
    chosen = [recipe for recipe in recipes if recipe in named or not recipe.steps] + list(others)
    directories = [recipe.directory for recipe in chosen]
    for directory in directories:
        if directories.count(directory) > 1:
            raise ConfigError(f"two recipes are called {directory!r}: give one of them another name")
    return chosen

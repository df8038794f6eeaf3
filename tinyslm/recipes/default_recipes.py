"""The recipes of the main command: every technique in its usual form, and one combination."""

from tinyslm.compression.distillation import layer_map
from tinyslm.errors import ConfigError
from tinyslm.recipes.distillation import Distill, KeepLayers
from tinyslm.recipes.factorization import Factorize, LearnRanks
from tinyslm.recipes.pruning import FoldMasks, PruneSparseGPT, SliceNeurons
from tinyslm.recipes.quantization import Quantize, QuantizeGPTQ
from tinyslm.recipes.recipe import Recipe


def default_recipes(model, *, thorough=False) -> list[Recipe]:
    """Dense, student, pruned, sliced, INT8 twice, 4 bits, SVD, learned ranks, and slice -> distil -> INT8.

    thorough: ten times the recovery training.
    """
    longer = 10 if thorough else 1
    recover = Distill(steps=40 * longer, learning_rate=5e-4)
    layers = len(model.layers)
    half = layer_map("spread", max(1, layers // 2), layers)
    return [
        Recipe("dense", (), "the model as it is, stored in 32-bit floating point"),
        Recipe(
            "distilled student",
            (KeepLayers(half), Distill(steps=90 * longer, learning_rate=1e-3)),
            f"{len(half)} of the {layers} layers, trained to predict what the dense model predicts",
        ),
        Recipe(
            "SparseGPT 50 %",
            (PruneSparseGPT(sparsity=0.5), recover, FoldMasks()),
            "half of the weights of every linear layer set to zero, the others changed to balance it, trained a little",
        ),
        Recipe(
            "neurons 67 %",
            (SliceNeurons(ratio=2 / 3), recover),
            "a third of the neurons of every feed-forward layer cut out, the rest trained a little",
        ),
        Recipe("INT8 weights", (Quantize(),), "weights rounded to 8-bit integers, one scale per row; no training"),
        Recipe(
            "INT8 products",
            (Quantize(dynamic_activations=True),),
            "weights and activations rounded to 8-bit integers and multiplied as integers; no training",
        ),
        Recipe(
            "GPTQ 4 bits",
            (QuantizeGPTQ(bits=4),),
            "weights rounded to 4-bit integers, the columns that follow making up for each error; no training",
        ),
        Recipe(
            "SVD 0.7",
            (Factorize(ratio=0.7), recover),
            "every linear layer replaced by two thin matrices with 70 % of its parameters, trained a little",
        ),
        Recipe(
            "learned ranks 0.7",
            (LearnRanks(ratio=0.7), recover),
            "the same size, but how much each layer keeps was learned from what its loss does to the model (LLRC)",
        ),
        Recipe(
            "slice, distil, INT8",
            (SliceNeurons(ratio=2 / 3), Distill(steps=60 * longer, learning_rate=5e-4), Quantize()),
            "a third of the neurons cut out, distilled from the dense model, then rounded to 8-bit integers",
        ),
    ]


def select_recipes(recipes, names, others=()) -> list[Recipe]:
    """The dense model, the recipes with these names (or directories), and others beside them.

    Raises ConfigError for an unknown name, and for two that would be written to the same place.
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

"""Small models of every family with fewer heads or channels, and which of them transformers does not load."""

from tests.checkpoints.models import CHOICES, small_model
from tests.recipes.families import calibrated
from tinyslm.recipes import FreshStudent, SliceChannels, SliceGroups, SliceHeads, compress

RECIPES = {
    "heads": [SliceHeads(0.5, "magnitude")],
    "groups": [SliceGroups(0.5, "magnitude")],
    "channels": [SliceChannels(2 / 3, "magnitude")],
    "uneven channels": [SliceChannels(0.6, "magnitude")],  # not a multiple of the number of heads
    "student": [FreshStudent(1, hidden_size=20, intermediate_size=12)],
}
WITHOUT_HEAD_DIM = (  # a config.json of these families has no key for the head size
    *("bert", "camembert", "distilbert", "mpnet", "roberta", "xlm-roberta", "modernbert"),
    *("gpt2", "gpt_neox", "stablelm"),
)
NOT_LOADED = (*WITHOUT_HEAD_DIM, "phi", "phi3")  # transformers derives sizes of their other parts from hidden_size
NOT_LOADED_UNEVEN = ("gemma2", "gemma3_text", "llama")
WHOLE_LONGROPE = {  # of heads of ten dimensions, as in Phi-3-mini-128k
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4],
    "long_factor": [1, 2, 3, 4, 5],
    "original_max_position_embeddings": 6,
}
LOADED_AS_MISTRAL = {  # {family: (name of a recipe, values of its config.json)}
    "llama": ("uneven channels", {"attention_bias": False, "mlp_bias": False}),
    "phi3": ("groups", {"rope_parameters": WHOLE_LONGROPE, "sliding_window": 5}),
}


def is_loaded(family, name):
    """Whether transformers loads the model of a family after a recipe."""
    return family not in NOT_LOADED and (family not in NOT_LOADED_UNEVEN or name != "uneven channels")


def sliced_cases():
    """[(family, name of a recipe)]. A model with one query head per key/value head has only groups to slice."""
    cases = []
    for family in CHOICES:
        config = small_model(family).config
        has_groups = config.num_attention_heads > config.num_key_value_heads
        cases += [(family, name) for name in RECIPES if name != "heads" or has_groups]
    return cases


def sliced_model(family, name, **values):
    """The small model of a family after a recipe. values: of its config.json."""
    model = small_model(family, **values)
    return compress(model, RECIPES[name], calibrated(model))[0]

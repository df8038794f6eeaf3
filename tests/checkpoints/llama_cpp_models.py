"""Small models of the families that llama.cpp has, of which tests/golden/llama_cpp.json holds its results.

`tests/golden/make_llama_cpp.py` makes that file.
"""

from pathlib import Path

import numpy as np

from tests.checkpoints.gguf_files import CHOICES, wide_model
from tests.checkpoints.rounded_inputs import BLOCK, RoundedInputs, codes_of, with_rounded_inputs
from tinyslm.checkpoints.gguf.writing import save_gguf
from tinyslm.compression.quantization import linear_from_codes, quantize
from tinyslm.modules import Linear
from tinyslm.tree import map_modules

RESULTS = Path(__file__).parents[1] / "golden" / "llama_cpp.json"
PROMPT = [3, 1, 4, 15, 9, 26, 5]
VOCAB_SIZE = 340
DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
SETTINGS = {  # {family: settings that llama.cpp requires of its models}
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16, "num_hidden_layers": 6},
    "gpt2": {},
    "granite": {},
    "llama": {"attention_bias": False, "mlp_bias": False},
    "mistral": {"sliding_window": 32},
    "olmo2": {},
    "phi3": {"rope_parameters": DEFAULT_ROPE, "hidden_size": 64},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
    "smollm3": {},
}
TYPES = ("Q8_0", "Q4_0", "Q4_1")
CASES = [*((family, "F32") for family in SETTINGS), *(("llama", kind) for kind in TYPES)]


def golden_model(family, kind, seed):
    """The model that is exported. For block types: one layer, whose matrices have codes of this type."""
    values = CHOICES.get(family, {}) | SETTINGS[family] | {"vocab_size": VOCAB_SIZE}
    if kind == "F32":
        return wide_model(family, seed=seed, **values)
    model = wide_model(family, seed=seed, **values, num_hidden_layers=1)

    def make(path, layer):
        bits = 8 if kind == "Q8_0" else 4
        weight = quantize(layer.weight, bits=bits, symmetric=kind != "Q4_1", group_size=BLOCK)
        return linear_from_codes(weight, layer.bias)

    return map_modules(make, model, Linear)


def export(path, model, kind, vocabulary=None):
    """Write the file. llama.cpp requires a vocabulary."""
    save_gguf(path, model, "F32" if kind == "F32" else None, vocabulary)


def smallest_distance(path, tokens):
    """How far the input of a matrix is at least from the boundary between two codes, in steps of the codes."""
    distances = []

    class Observed(RoundedInputs):
        def __call__(self, x):
            codes, _ = codes_of(x)
            distances.append(np.min(np.abs(np.abs(codes - np.floor(codes)) - 0.5)))
            return super().__call__(x)

    model = with_rounded_inputs(path)
    map_modules(lambda _, layer: Observed(layer.weight, layer.bias, layer.minima), model, RoundedInputs)(tokens)
    return min(distances)


def token_ids(kind):
    """The prompt, (1, T). Few tokens for block types."""
    return np.array([PROMPT if kind == "F32" else PROMPT[:2]])

"""config.json files of small models with a few odd values, and what must hold for a configuration that is accepted.

An accepted configuration can compute: a model with random weights of order 1 gives finite logits, without a warning.
"""

import math

import numpy as np

from tests.checkpoints.fuzz_json import Pairs, containers, json_bytes, odd_value, pairs_of
from tests.checkpoints.models import CHOICES, LONGROPE, SMALL, SMALL_GPT2
from tests.strategies import generic_model
from tinyslm.checkpoints.families import FAMILIES
from tinyslm.generation import generate
from tinyslm.models import Decoder, Encoder, shape_model
from tinyslm.tree import named_arrays

LLAMA3 = {"factor": 8, "low_freq_factor": 1.0, "high_freq_factor": 4, "original_max_position_embeddings": 8}
FACTORS = {name: LONGROPE[name] for name in ("short_factor", "long_factor", "original_max_position_embeddings")}
YARN = {"factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 2.0, "beta_slow": 0.5, "truncate": False}
YARN |= {"mscale": 1.0, "mscale_all_dim": 0.7, "llama_4_scaling_beta": 0.1}
ROPES = [  # for heads of six dimensions
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}},
    {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3}},
    {"rope_parameters": {"rope_type": "longrope", "rope_theta": 500.0, **FACTORS}},
    {"rope_parameters": {"rope_type": "longrope", "rope_theta": 500.0, "attention_factor": 1.2, **FACTORS}},
    {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}},
    {"rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, **YARN}},
    {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    {"rope_theta": 500.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    {"rope_theta": 500.0, "rope_scaling": {"type": "longrope", "factor": 4.0, **FACTORS}},
    {"rope_theta": 500.0, "partial_rotary_factor": 0.7},
]
GEMMA3_ROPES = {"full_attention": {"rope_theta": 1e6, "factor": 8.0, "rope_type": "linear"}}
GEMMA3_ROPES |= {"sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}
EDGES = [1e-320, 1e-45, 1.2e-38, 1e-31, 1e-30, 1e-12, 1e-7, 1e-6, 1e-3, 0.999, 1 - 2**-53, 1 + 2**-52, 1e6, 1e7]
EDGES += [1e15, 1.1e15, 1e30, 3.4e38, 3.5e38, 1e39, 1e308, -1e-30, -1.0, -0.0, 2**24 + 1, 2**29, 2**30, 2**30 + 1]
MOST_PARAMETERS = 300_000  # of a model that is built
MOST_PARTS = 60  # layers, each times its experts
TOKENS = 12


def valid_config(rng):
    """The values of a config.json as Pairs."""
    family = rng.choice(list(CHOICES))
    defaults = {key: default for key, _, default in FAMILIES[family].fields.values()} | FAMILIES[family].defaults
    small = SMALL | SMALL_GPT2 | {"num_hidden_layers": 2}
    values = {key: small[key] for key in small if key in defaults} | CHOICES[family]
    if "rope_theta" in defaults and family != "gemma3_text" and rng.random() < 0.7:
        values |= {"head_dim": 6, "rope_parameters": None, "original_max_position_embeddings": None} | rng.choice(ROPES)
    if family == "gemma3_text" and rng.random() < 0.5:
        values["rope_parameters"] = GEMMA3_ROPES
    if "head_dim" not in FAMILIES[family].fields and rng.random() < 0.4:
        values["tinyslm"] = {"head_dim": rng.choice([2, 6, 8])}
    others = sorted(defaults.keys() - values.keys())
    values |= {key: defaults[key] for key in rng.sample(others, rng.randrange(len(others) + 1))}
    return pairs_of({"model_type": family} | values)


def odd_setting(rng, value):
    """Another value for a setting: of its type but of another magnitude, at the edge of what is possible, or odd."""
    kind = rng.random()
    if kind < 0.5 and type(value) is int:
        return rng.choice([1, 2, 3, 4, 5, 6, 8, 12, 24, 50, value + 1, 2 * value])
    if kind < 0.7 and (value is None or type(value) in (int, float)):
        return rng.choice([*EDGES, 10 ** rng.uniform(-46, 40), 10 ** rng.uniform(-8, 8), 10 ** rng.uniform(-3, 3)])
    return (not value) if kind < 0.8 and type(value) is bool else odd_value(rng)


def damaged_config(rng):
    """The bytes of a config.json in which one to three values are odd or missing."""
    config = valid_config(rng)
    places = [config, config, *containers(config)]  # not within the odd values: they would grow exponentially
    for _ in range(rng.randrange(1, 4)):
        container = rng.choice(places)
        if not container:
            continue
        slots = list(range(len(container)))
        if isinstance(container, Pairs) and rng.random() < 0.4:
            slots = [slot for slot in slots if type(container[slot][1]) is float] or slots
        place = rng.choice(slots)
        entry, slot = (container[place], 1) if isinstance(container, Pairs) else (container, place)
        if entry[0] == "model_type" and rng.random() < 0.8:
            continue
        if rng.random() < 0.1:
            del container[place]
        else:
            entry[slot] = odd_setting(rng, entry[slot])
    return json_bytes(config)


def is_small(config):
    """Whether a model of this configuration can be built in little time and memory."""
    parts = (config.num_hidden_layers + config.num_decoder_layers) * max(config.num_experts, 1)  # or less
    return parts <= MOST_PARTS and (
        sum(math.prod(array.shape) for array in named_arrays(shape_model(config)).values()) <= MOST_PARAMETERS
    )


def check_config(config):
    """Raise AssertionError unless a model of this configuration computes finite logits; large models are not built."""
    if not is_small(config):
        return
    model = generic_model(config, dtype=np.float32)
    model.embedding.table[0] = 0  # as that of a padding token: its norm is a division by sqrt(eps)
    length = min(TOKENS, config.max_position_embeddings or TOKENS)
    token_ids = np.arange(2 * length).reshape(2, length) % config.vocab_size
    inputs = {"decoder_token_ids": token_ids} if config.num_decoder_layers else {}
    assert np.isfinite(model(token_ids, **inputs)).all(), "the logits are not finite"
    if isinstance(model, Decoder):
        last = np.arange(config.max_position_embeddings - length, config.max_position_embeddings)
        assert np.isfinite(model(token_ids, position_ids=last)).all(), "the logits of the last positions are not finite"
    if not isinstance(model, Encoder):
        found = generate(model, token_ids[:, : length // 2 + 1], max(1, length // 2 - 1))
        assert found.min() >= 0 and found.max() < config.vocab_size, "generated tokens are not in the vocabulary"

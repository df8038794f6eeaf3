"""Directories of models, valid ones and damaged ones, from a seeded `random.Random`.

A directory is {file name: bytes}; a Special in place of the bytes is something else than a file.
"""

import json
import os
import shutil
import tempfile
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.checkpoints.fuzz_files import damaged_content, damaged_file, parsed_file
from tests.checkpoints.fuzz_json import Pairs, Raw, damage_value, json_bytes, odd_value, pairs_of
from tests.checkpoints.models import FAMILY_NAMES, UNTIED_FAMILIES, small_model
from tests.strategies import generic_model
from tinyslm.checkpoints import save_model
from tinyslm.checkpoints.families import FAMILIES
from tinyslm.checkpoints.reading import CONFIG, INDEX, WEIGHTS
from tinyslm.compression.factorization.low_rank_linear import factorize_linear
from tinyslm.compression.pruning.masked_linear import MaskedLinear
from tinyslm.compression.quantization.quantized_embedding import QuantizedEmbedding
from tinyslm.compression.quantization.quantized_linear import QuantizedLinear
from tinyslm.errors import CheckpointWarning
from tinyslm.models import Decoder
from tinyslm.modules import Embedding, Linear
from tinyslm.tree import map_modules

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
FACTORS = {"short_factor": [1.5], "long_factor": [2.5], "original_max_position_embeddings": 8}
LLAMA3 = {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8}
OTHER_KEYS = {
    "rope_scaling": [{"type": "longrope", **FACTORS}, {"rope_type": "llama3", **LLAMA3}, {"type": "linear"}],
    "rope_parameters": [{"rope_type": "longrope", **FACTORS}, {"rope_type": "yarn", "factor": 2.0}, {}],
    "original_max_position_embeddings": [0, 1, 2],
    "partial_rotary_factor": [0.5, 1e30, 0.01],
    "layer_types": [["full_attention"] * 2, ["sliding_attention", "full_attention"]],
    "quantization_config": [{"bits": 4}],
    "head_dim": [1, 2, 4, 8, 2**29],
    "model_type": ["llama", "mistral", "mixtral", "gpt2", "mamba"],
    "tie_word_embeddings": [True, False],
    "sliding_window": [1, 4, None],
    "attention_bias": [True, False],
    "tinyslm": [{}, {"replaced": {}}, {"head_dim": 6}, {"head_dim": 2**29}, {"head_dim": 6, "replaced": {}}],
}
SIZES = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim"]
SIZES += ["num_key_value_heads", "max_position_embeddings", "num_local_experts", "num_experts_per_tok"]
SIZES += ["n_embd", "n_head", "n_layer", "n_inner", "n_positions"]
PLAUSIBLE = [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 16, 20, 24, 10_000, 2**20, 2**29, 2**30]
KINDS = ["Linear", "LowRankLinear", "MaskedLinear", "QuantizedEmbedding", "QuantizedLinear"]


class Special(NamedTuple):
    kind: str  # "directory", "link" or "pipe"
    target: str = ""


def write_directory(directory, files):
    """Make the directory hold these files and nothing else, and the one above it nothing but the directory."""
    shutil.rmtree(directory.parent, ignore_errors=True)
    os.makedirs(directory)
    for name, content in files.items():
        place = os.path.join(directory, name)
        if isinstance(content, bytes):
            Path(place).write_bytes(content)
        elif content.kind == "link":
            os.symlink(content.target, place)
        else:
            os.mkdir(place) if content.kind == "directory" else os.mkfifo(place)


def _compress(model):
    """The model with every kind of compressed module in turn."""
    count = iter(range(1000))

    def choose(path, module):
        if isinstance(module, Embedding):
            return QuantizedEmbedding.from_embedding(module) if path == "embedding" else module
        kind = next(count) % 6
        if kind == 0:
            return factorize_linear(module, 2)
        if kind == 1:
            return MaskedLinear.from_linear(module, np.arange(module.weight.size).reshape(module.weight.shape) % 3 == 0)
        if kind in (2, 3):
            return QuantizedLinear.from_linear(module, symmetric=kind == 2, per_channel=kind == 2)
        return QuantizedLinear.from_linear(module, dynamic_activations=True) if kind == 4 else module

    return map_modules(choose, model, Linear | Embedding)


def _files(model):
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore", CheckpointWarning)
        save_model(Path(place) / "saved", model)
        return {name: (Path(place) / "saved" / name).read_bytes() for name in (CONFIG, WEIGHTS)}


@cache
def decoder_families():
    """The families whose models continue a text."""
    return [family for family in FAMILY_NAMES if isinstance(small_model(family), Decoder)]


@cache
def valid_directories(family):
    """A family as it is, compressed, tied and with larger heads, each in one file and in two shards."""
    model = small_model(family, vocab_size=12)
    tied = model if family in UNTIED_FAMILIES else replace(model, head=None)
    found = [_files(each) for each in (model, _compress(model), tied)]
    if "head_dim" not in FAMILIES[family].fields:
        wider = generic_model(replace(model.config, head_dim=model.config.head_dim + 2), dtype=np.float32)
        found.append(_files(wider))
    return found + [_sharded(files) for files in found]


def _sharded(files):
    whole = parsed_file(files[WEIGHTS])
    parts, names = [(Pairs(), []), (Pairs(), [])], {}
    for number, (name, entry) in enumerate(pair for pair in whole.header if pair[0] != "__metadata__"):
        header, pieces = parts[number % 2]
        begin, end = entry.get("data_offsets")
        position = sum(map(len, pieces))
        fields = [["dtype", entry.get("dtype")], ["shape", entry.get("shape")]]
        header.append([name, Pairs([*fields, ["data_offsets", [position, position + end - begin]]])])
        pieces.append(whole.data[begin:end])
        names[name] = SHARDS[number % 2]
    shards = {}
    for name, (header, pieces) in zip(SHARDS, parts, strict=True):
        text = json_bytes(header)
        shards[name] = len(text).to_bytes(8, "little") + text + b"".join(pieces)
    index = json.dumps({"metadata": {}, "weight_map": names}).encode()
    return {CONFIG: files[CONFIG], INDEX: index, **shards}


def damage_config(rng, files):
    """One or several lies in config.json."""
    config = pairs_of(json.loads(files[CONFIG]))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = rng.choice(["value", "size", "size", "any", "key", "kind"])
        if kind == "value":
            rng.choice(config)[1] = odd_value(rng)
        elif kind == "size":
            config.set(rng.choice([name for name in config.names() if name in SIZES] or SIZES), rng.choice(PLAUSIBLE))
        elif kind == "any":
            damage_value(rng, config)
        elif kind == "key":
            name = rng.choice(list(OTHER_KEYS))
            config.set(name, pairs_of(rng.choice(OTHER_KEYS[name])))
        else:
            _damage_replaced(rng, config)
    files[CONFIG] = json_bytes(config, ascii_only=rng.random() < 0.9)


def _damage_replaced(rng, config):
    section = config.get("tinyslm")
    entries = section.get("replaced") if isinstance(section, Pairs) else None
    if isinstance(entries, Pairs) and entries:
        path, entry = rng.choice(entries)
        if isinstance(entry, Pairs) and rng.random() < 0.7:
            fields = [
                "kind",
                "weight",
                "bias",
                "mask",
                "codes",
                "scale",
                "zero_point",
                "dynamic_activations",
                "left",
            ]
            entry.set(rng.choice(fields), rng.choice([odd_value(rng), rng.choice(KINDS)]))
        else:
            entries.set(rng.choice([path, "embedding", "head", "layers.0", "norm", ""]), odd_value(rng))


def damage_weights(rng, files):
    """One weight file damaged, or something else in its place."""
    name = rng.choice([name for name in files if name.endswith(".safetensors")] or [WEIGHTS])
    content = files.get(name)
    if not isinstance(content, bytes) or rng.random() < 0.05:
        files[name] = damaged_file(rng)
        return
    try:
        file = parsed_file(content)
    except (ValueError, AttributeError):  # damaged before
        return
    if rng.random() < 0.3 and isinstance(file.header, Pairs) and file.header:
        _rename_tensors(rng, file.header)
        files[name] = file.content()
    else:
        files[name] = damaged_content(rng, file)


def _rename_tensors(rng, header):
    """Two tensors change their names, or one gets the last part of another's."""
    one, other = rng.choice(header), rng.choice(header)
    if rng.random() < 0.5:
        one[0], other[0] = other[0], one[0]
    else:
        one[0] = one[0].rpartition(".")[0] + "." + other[0].rpartition(".")[2]


def damage_index(rng, files):
    """The index points elsewhere, or is nonsense."""
    if INDEX not in files:
        files.pop(WEIGHTS, None) if rng.random() < 0.5 else None
        files[INDEX] = json_bytes(Pairs([["weight_map", odd_value(rng)]]))
        return
    if not isinstance(files[INDEX], bytes):
        return
    index = pairs_of(json.loads(files[INDEX]))
    names = index.get("weight_map")
    for _ in range(rng.choice([1, 1, 2])):
        kind = rng.choice(["target", "target", "any", "map", "all"])
        if kind == "target" and names:
            places = [*SHARDS, "../secret", "/etc/passwd", "/dev/zero", "..", ".", "", "a/b", "./" + SHARDS[0], CONFIG]
            places += [INDEX, WEIGHTS, "a\0b", "\ud800", "x" * 300, "x" * 5000, "~", "sub", "loop", "outside", "pipe"]
            rng.choice(names)[1] = rng.choice([*places, odd_value(rng)])
        elif kind == "map":
            index.set("weight_map", odd_value(rng))
        elif kind == "all" and names:
            target = rng.choice([SHARDS[0], CONFIG, INDEX, "..", "loop", 3])
            index.set("weight_map", Pairs([name, target] for name in names.names()))
        else:
            damage_value(rng, index)
        names = index.get("weight_map")
        names = names if isinstance(names, Pairs) else None
    for name, special in {"sub": "directory", "loop": "link", "outside": "link", "pipe": "pipe"}.items():
        files.setdefault(name, Special(special, {"loop": "loop", "outside": "../secret"}.get(name, "")))
    if SHARDS[0] in files:
        files["../secret"] = files[SHARDS[0]]  # a file that could be read, but is not of this directory
    files[INDEX] = json_bytes(index)


def damage_place(rng, files):
    """Something else in the place of a file, or nothing, or its bytes cut."""
    name = rng.choice(list(files))
    odd = ["", "cut", "random", Special("directory"), Special("pipe"), "gone", "json"]
    odd += [Special("link", target) for target in (name, "/dev/zero", "nowhere", "..", CONFIG, WEIGHTS, SHARDS[0])]
    chosen = rng.choice(odd)
    if chosen == "gone":
        del files[name]
    elif chosen == "cut" and isinstance(files[name], bytes):
        files[name] = files[name][: rng.randrange(len(files[name]) + 1)]
    elif chosen == "json":
        files[name] = json_bytes(odd_value(rng))
    else:
        files[name] = rng.randbytes(20) if isinstance(chosen, str) and not isinstance(chosen, Raw) else chosen


def damaged_directory(rng):
    """The files of a directory that may be a valid model, damaged or nonsense."""
    files = dict(rng.choice(valid_directories(rng.choice(decoder_families()))))
    kind = rng.random()
    if kind < 0.5:
        damage_config(rng, files)
    if 0.4 < kind < 0.75:
        damage_weights(rng, files)
    if 0.75 < kind < 0.92:
        damage_index(rng, files)
    if 0.9 < kind < 0.98:
        damage_place(rng, files)
    return files

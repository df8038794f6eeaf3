"""Writing a model as a directory that transformers loads; or only load_model, where parts of it are compressed."""

import json
from dataclasses import replace

import numpy as np

from tinyslm.checkpoints.atomic_write import atomic_directory, flush_to_disk
from tinyslm.checkpoints.compressed_modules import SECTION, describe
from tinyslm.checkpoints.families import find_family
from tinyslm.checkpoints.mapped_layers import MappedEmbedding, MappedLinear
from tinyslm.checkpoints.reading import CONFIG, WEIGHTS
from tinyslm.checkpoints.safetensors import write_safetensors
from tinyslm.checkpoints.tensor_mapping import places, replaced_modules
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.models import shape_model
from tinyslm.tree import named_arrays, named_modules

STORED_AS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def checkpoint_tensors(tree) -> dict:
    """{tensor name in the family's checkpoint: array}, for a model or for a tree of gradients of the same form.

    Arrays are joined and transposed as the file holds them. Compressed modules have no place in any family's file:
    their arrays are named by their paths. Arrays that are None (gradients of what is not trained) are left out.
    """
    _refuse_mapped(tree)
    family, skeleton = _family_and_skeleton(tree)
    arrays = named_arrays(tree)
    layout = places(family, arrays, tree.config.without_prefix, replaced_modules(tree, skeleton))
    return {name: place.join([arrays[path] for path in place.paths]) for name, place in layout.items()}


def save_model(path, model, tokenizer=None, dtype="float32", records=None):
    """Write a directory with config.json, model.safetensors and tokenizer.json, all of it or nothing.

    dtype: how the weights are stored: "float32", "float16" or "bfloat16"; compressed modules keep their own dtypes.
    tokenizer: anything with `save(path)`, or None.  records: {file name: JSON value} of further files, or None.
    Raises Error if `path` exists and is not empty or cannot be written, ConfigError or CheckpointError for a model that
    the files of its family cannot hold.
    """
    if dtype not in STORED_AS:
        raise ConfigError(f"dtype is {dtype!r}, expected one of {', '.join(STORED_AS)}")
    _refuse_mapped(model)
    family, skeleton = _family_and_skeleton(model)
    config = replace(model.config, tie_word_embeddings=model.head is None)
    values = family.write_config(config) | {"dtype": dtype}
    replaced = replaced_modules(model, skeleton)
    arrays = named_arrays(model)
    _check_shapes(arrays, named_arrays(skeleton), replaced)
    layout = places(family, arrays, config.without_prefix, replaced)
    dense = {name: place for name, place in layout.items() if not place.apart}
    tensors = {name: place.join([arrays[path] for path in place.paths]) for name, place in dense.items()}

    modules, entries = named_modules(model), {}
    apart = {path.rpartition(".")[0] for place in layout.values() if place.apart for path in place.paths}
    for module in sorted(apart):
        entries[module], fields = describe(module, modules[module])
        tensors |= {f"{module}.{field}": array for field, array in fields.items()}
    if entries:
        values[SECTION] = {"replaced": entries}

    with atomic_directory(path) as directory:
        write_safetensors(directory / WEIGHTS, tensors, dict.fromkeys(dense, STORED_AS[dtype]))
        (directory / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        flush_to_disk(directory / CONFIG)
        if tokenizer is not None:
            tokenizer.save(str(directory / "tokenizer.json"))
            flush_to_disk(directory / "tokenizer.json")
        for name, value in (records or {}).items():
            (directory / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
            flush_to_disk(directory / name)


def _refuse_mapped(tree):
    """A model whose weights stayed in their files is saved already, and to write it again would need them in memory."""
    for path, module in named_modules(tree, MappedLinear | MappedEmbedding).items():
        if named_arrays(module):  # in a tree of gradients there are none
            raise CheckpointError(
                f"{path} is mapped from the file that holds it: copy the directory that this model was loaded from, "
                'or load it with weights="float32" or "int8"'
            )


def _family_and_skeleton(tree):
    """The family of a model or its gradients, and a model of the family with all shapes but no memory."""
    family = find_family(tree.config.family, "the model's configuration").for_config(tree.config)
    return family, shape_model(replace(tree.config, tie_word_embeddings=tree.head is None))


def _check_shapes(arrays, expected, replaced):
    """A configuration that does not describe its model would make a directory that nobody can read."""
    for path in expected.keys() | arrays.keys():
        if path.rpartition(".")[0] in replaced:
            continue
        found, wanted = (np.shape(side[path]) if path in side else "nothing" for side in (arrays, expected))
        if found != wanted:
            raise CheckpointError(f"{path} is {found}, but the model's configuration says {wanted}")

"""Directories of every shape: complete, sharded, tied, damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.checkpoints.models import assert_same_model, change_config, change_tensors, small_model
from tinyslm.checkpoints import load_model, read_safetensors, save_model, write_safetensors
from tinyslm.errors import CheckpointError, ConfigError

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@pytest.fixture
def saved(tmp_path):
    """(a directory, the untied Llama in it)."""
    model = small_model("llama")
    save_model(tmp_path / "saved", model)
    return tmp_path / "saved", model


def split_into_shards(directory):
    """Two files with an index, the tensors of one layer spread over both."""
    whole = directory / "model.safetensors"
    arrays = {name: tensor.read() for name, tensor in read_safetensors(whole).items()}
    names = sorted(arrays)
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        write_safetensors(directory / file, {name: arrays[name] for name in names if files[name] == file})
    whole.unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return files


def test_shards(saved):
    directory, model = saved
    split_into_shards(directory)
    assert_same_model(load_model(directory), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("outside", r"index.json: names the file '../secret', expected one in the same directory"),
        ("absolute", r"names the file '/etc/passwd'"),
        ("missing", r"names the file .model-00002-of-00002.safetensors., but there is no such file"),
        ("twice", r"model-00002-of-00002.safetensors: tensor 'model.norm.weight' is also in model-00001-of-00002"),
        ("no map", r"weight_map is None, expected an object"),
        ("not names", r"weight_map is .*, expected an object of file names"),
        ("not JSON", r"index.json: is not JSON"),
    ],
)
def test_a_damaged_index(saved, change, message):
    directory, _ = saved
    files = split_into_shards(directory)
    index = directory / "model.safetensors.index.json"
    norm = "model.norm.weight"
    changed = {
        "outside": files | {norm: "../secret"},
        "absolute": files | {norm: "/etc/passwd"},
        "not names": [1],
    }
    index.write_text(json.dumps({"weight_map": changed.get(change, files)}))
    if change == "missing":
        (directory / "model-00002-of-00002.safetensors").unlink()
    elif change == "no map":
        index.write_text("{}")
    elif change == "not JSON":
        index.write_text("{")
    elif change == "twice":
        for number in (1, 2):
            path = directory / f"model-0000{number}-of-00002.safetensors"
            tensors = {name: tensor.read() for name, tensor in read_safetensors(path).items()}
            write_safetensors(path, tensors | {norm: np.ones(24, np.float32)})
    with pytest.raises(CheckpointError, match=message):
        load_model(directory)


@pytest.mark.parametrize("change", ["a name too many", "a name too few", "the wrong file"])
def test_an_index_that_disagrees_with_its_files(saved, change):
    """transformers reads the files that the index names, not its list of tensors."""
    directory, model = saved
    files = split_into_shards(directory)
    norm = "model.norm.weight"
    other = next(file for file in files.values() if file != files[norm])
    listed = {
        "a name too many": files | {"model.layers.9.mlp.up_proj.weight": other},
        "a name too few": {name: file for name, file in files.items() if name != norm},
        "the wrong file": files | {norm: other},
    }[change]
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    assert_same_model(load_model(directory), model)


def test_an_untied_head_is_read_whatever_the_config_says(saved):
    directory, model = saved
    for says in (False, True):
        change_config(directory, tie_word_embeddings=says)
        assert_same_model(load_model(directory), model)


def test_a_stored_copy_of_the_embedding_is_tied_if_the_config_says_so(saved):
    directory, model = saved
    change_tensors(directory, {HEAD: model.embedding.table})
    assert load_model(directory).head is not None
    change_config(directory, tie_word_embeddings=True)
    tied = load_model(directory)
    assert tied.head is None and tied.config.tie_word_embeddings


@pytest.mark.parametrize("missing", [HEAD, EMBEDDING])
def test_one_of_head_and_embedding_is_enough_if_tied(saved, missing):
    directory, model = saved
    wanted = model.head.weight if missing == EMBEDDING else model.embedding.table
    change_tensors(directory, {missing: None})
    with pytest.raises(CheckpointError, match=rf"tensor '{missing}' of shape \(50, 24\) is missing"):
        load_model(directory)
    change_config(directory, tie_word_embeddings=True)
    tied = load_model(directory)
    assert tied.head is None
    np.testing.assert_array_equal(tied.embedding.table, wanted)


def test_tensors_that_hold_nothing_to_learn_are_ignored(saved, tmp_path):
    directory, model = saved
    change_tensors(directory, {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4)})
    assert_same_model(load_model(directory), model)
    gpt2 = small_model("gpt2")
    save_model(tmp_path / "gpt2", gpt2)
    mask = np.tri(64, dtype=np.float32).reshape(1, 1, 64, 64)
    change_tensors(
        tmp_path / "gpt2", {"transformer.h.1.attn.bias": mask, "transformer.h.1.attn.masked_bias": np.array(-1e4)}
    )
    assert_same_model(load_model(tmp_path / "gpt2"), gpt2)


def test_half_precision_becomes_float32(saved):
    directory, model = saved
    half = model.norm.weight.astype(np.float16)
    change_tensors(directory, {"model.norm.weight": half})
    found = load_model(directory).norm.weight
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half)


DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({DOWN: None}, rf"tensor '{DOWN}' of shape \(24, 40\) is missing"),
        ({DOWN: np.ones((40, 24), np.float32)}, rf"tensor '{DOWN}': shape is \(40, 24\), expected \(24, 40\)"),
        ({DOWN: np.ones((24, 40), np.int32)}, rf"tensor '{DOWN}': dtype is I32, expected F64 F32 F16 BF16"),
        ({"model.layers.2.mlp.down_proj.weight": np.ones(3)}, r"unknown tensor 'model.layers.2.mlp.down_proj.weight'"),
        ({"extra\ud800": np.ones(3)}, r"unknown tensor 'extra\\ud800'"),
    ],
)
def test_tensors_that_do_not_fit_are_named(saved, changes, message):
    directory, _ = saved
    change_tensors(directory, changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(directory)
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 9999}, "has 9999 layers or experts, but the files have only"),
        ({"model_type": "mixtral", "num_local_experts": 9999}, "has 19998 layers or experts"),
        ({"model_type": "qwen3_moe", "num_experts": 9999, "mlp_only_layers": [0]}, "has 10000 layers or experts"),
        ({"model_type": "unknown"}, "model_type is 'unknown'"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"tinyslm": 3}, "tinyslm is 3, expected an object"),
        ({"tinyslm": {"replaced": [1]}}, "tinyslm is .*, expected an object"),
    ],
)
def test_a_config_that_lies(saved, changes, message):
    directory, _ = saved
    change_config(directory, **changes)
    with pytest.raises(ConfigError, match=rf"config.json: .*{message}"):
        load_model(directory)


def test_layers_without_experts_are_not_counted_as_if_they_had_them(tmp_path):
    model = small_model("qwen3_moe", num_hidden_layers=12, mlp_only_layers=list(range(11)), num_experts=16)
    save_model(tmp_path / "saved", model)
    assert len(read_safetensors(tmp_path / "saved" / "model.safetensors")) < 12 * 16
    assert_same_model(load_model(tmp_path / "saved"), model)


def test_a_config_with_other_sizes_is_found_out_without_memory(saved):
    directory, _ = saved
    change_config(directory, vocab_size=2**30, hidden_size=2**30, head_dim=2, intermediate_size=2**30)
    with pytest.raises(CheckpointError, match=r"shape is \(50, 24\), expected \(1073741824, 1073741824\)"):
        load_model(directory)


def test_missing_and_misplaced_files(saved, tmp_path):
    directory, _ = saved
    with pytest.raises(CheckpointError, match=r"missing: no such directory with config.json"):
        load_model(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=r"config.json: is a file, expected a directory"):
        load_model(directory / "config.json")
    (directory / "model.safetensors").rename(directory / "other")
    with pytest.raises(CheckpointError, match=r"model.safetensors: no such file"):
        load_model(directory)
    (directory / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"model.safetensors: is a directory"):
        load_model(directory)
    (directory / "config.json").write_bytes(b'{"model_type": "\xff"}')
    with pytest.raises(CheckpointError, match=r"config.json: is not JSON"):
        load_model(directory)
    (directory / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config.json: no such file"):
        load_model(directory)


def test_every_truncation_is_found(saved):
    directory, _ = saved
    path = directory / "model.safetensors"
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"model.safetensors"):
            load_model(directory)


def test_weight_files_without_their_index(saved):
    directory, _ = saved
    (directory / "model.safetensors").rename(directory / "model-00001-of-00001.safetensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors.index.json: no such file; it must list"):
        load_model(directory)


def test_dynamic_rope_is_the_plain_one_within_the_context(tmp_path):
    """Beyond it, the logits are those of the larger base, for a configuration with a larger context."""
    plain = small_model("llama", max_position_embeddings=8)
    save_model(tmp_path / "model", plain)
    parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    change_config(tmp_path / "model", rope_parameters=parameters)
    model = load_model(tmp_path / "model")
    tokens = np.arange(12)[None]
    np.testing.assert_array_equal(model(tokens[:, :8]), plain(tokens[:, :8]))
    longer, wider = (each.replace(config=replace(each.config, max_position_embeddings=12)) for each in (model, plain))
    assert np.abs(longer(tokens) - wider(tokens)).max() > 1e-3
    with pytest.raises(ConfigError, match="can only hold"):
        save_model(tmp_path / "longer", longer)
    save_model(tmp_path / "again", model)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["rope_parameters"] == parameters

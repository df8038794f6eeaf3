"""Directories that hold something other than a model in safetensors files: one line says what, and what to do."""

import json

import numpy as np
import pytest

import tinyslm
from tests.checkpoints.models import assert_same_model, change_config, change_tensors, small_model
from tinyslm.checkpoints import load_model, read_safetensors, save_model
from tinyslm.checkpoints.directory_contents import MOST_ENTRIES, file_names, instead_of_model, instead_of_tokenizer
from tinyslm.checkpoints.families import FAMILIES
from tinyslm.errors import CheckpointError, CheckpointWarning


@pytest.fixture
def saved(tmp_path):
    """(a directory, the Llama in it)."""
    model = small_model("llama")
    save_model(tmp_path / "saved", model)
    return tmp_path / "saved", model


def with_files(directory, *names):
    """The directory, created with empty files."""
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_bytes(b"")
    return directory


@pytest.mark.parametrize("has_config", [False, True])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pytorch_model.bin"], "holds 'pytorch_model.bin', pickled PyTorch weights, .* save it as safetensors"),
        (["consolidated.00.pth"], "holds 'consolidated.00.pth', pickled PyTorch weights"),
        (["model.pt"], "holds 'model.pt', pickled PyTorch weights"),
        (["b.gguf", "a.gguf"], "holds 2 GGUF files: give the path of one, such as '.*a.gguf'"),
        (["tf_model.h5"], "TensorFlow weights"),
        (["flax_model.msgpack"], "Flax weights"),
        (["model.onnx"], "ONNX graph"),
        (["adapter_config.json", "adapter_model.safetensors"], r"an adapter \(adapter_config.json\) and not a whole"),
    ],
)
def test_other_formats(tmp_path, names, message, has_config):
    directory = with_files(tmp_path / "model", *names)
    if has_config:
        (directory / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(CheckpointError, match=f"model: .*{message}"):
        tinyslm.load(directory)


@pytest.mark.parametrize(
    ("content", "base"),
    [('{"base_model_name_or_path": "org/base"}', " 'org/base'"), ("{", ""), ("[]", ""), ("{}", ""), ("[" * 10**5, "")],
)  # fmt: skip
def test_an_adapter_names_its_base(tmp_path, content, base):
    (tmp_path / "adapter_config.json").write_text(content)
    assert instead_of_model(tmp_path).endswith(f"merge it into its base model{base}")


def test_safetensors_beside_other_formats_are_read(saved):
    """Published directories often hold both."""
    directory, model = saved
    with_files(directory, "pytorch_model.bin", "model.onnx", "model.gguf")
    assert_same_model(load_model(directory), model)


def test_a_file_in_place_of_a_directory(tmp_path):
    file = with_files(tmp_path, "model.bin") / "model.bin"
    with pytest.raises(CheckpointError, match=r"model.bin: is a file, expected the directory of a model .*, or a GGUF"):
        tinyslm.load(file)


def test_a_directory_of_models_names_one(saved):
    directory, _ = saved
    with pytest.raises(CheckpointError, match=r"holds no model, but directories of models: .* such as 'saved'"):
        load_model(directory.parent)


def test_an_entry_of_the_cache_of_the_hub(tmp_path):
    """refs/main names the snapshot that is loaded."""
    model = small_model("llama")
    entry = tmp_path / "hub" / "models--org--name"
    save_model(entry / "snapshots" / "abc123", model)
    save_model(entry / "snapshots" / "0old", small_model("llama", seed=1))
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("abc123\n")
    assert_same_model(tinyslm.load(entry)[0], model)
    with pytest.raises(CheckpointError, match=r"is a cache of the hub with 1 entries: .* 'models--org--name'"):
        tinyslm.load(tmp_path / "hub")


@pytest.mark.parametrize("revision", ["gone", "", ".", "..", "../../outside", "a/b", "\xe9", None])
def test_a_revision_that_is_not_there(tmp_path, revision):
    entry = tmp_path / "models--org--name"
    save_model(entry / "snapshots" / "abc123", small_model("llama"))
    save_model(tmp_path / "outside", small_model("llama"))
    if revision is not None:
        (entry / "refs").mkdir()
        (entry / "refs" / "main").write_text(revision)
    with pytest.raises(CheckpointError, match=r"not among its 1 snapshots; .*'snapshots/abc123'"):
        tinyslm.load(entry)


def test_an_empty_entry_of_the_cache(tmp_path):
    (tmp_path / "snapshots").mkdir()
    with pytest.raises(CheckpointError, match="not among its 0 snapshots; load it again"):
        tinyslm.load(tmp_path)


def test_a_git_lfs_pointer(saved):
    directory, _ = saved
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 988097824\n"
    (directory / "model.safetensors").write_text(text)
    with pytest.raises(CheckpointError, match=r"model.safetensors: is a Git LFS pointer, .* `git lfs pull`"):
        load_model(directory)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_text_in_place_of_a_link(saved, name):
    """As in a cache of the hub that was copied without its links."""
    directory, _ = saved
    (directory / name).write_text(f"../../blobs/{'0' * 64}")
    with pytest.raises(CheckpointError, match=f"{name}: is the text of a link in a cache of the hub, .* its links$"):
        load_model(directory)


def put_prefix(directory, prefix):
    tensors = {name: tensor.read() for name, tensor in read_safetensors(directory / "model.safetensors").items()}
    change_tensors(directory, dict.fromkeys(tensors) | {prefix + name: array for name, array in tensors.items()})


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "models.", "a.b."])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "t5"])
def test_a_foreign_prefix_is_named(tmp_path, family, prefix):
    directory = tmp_path / "model"
    save_model(directory, small_model(family))
    put_prefix(directory, prefix)
    with pytest.raises(CheckpointError, match=f"has the prefix '{prefix}' before '"):
        load_model(directory)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_the_prefix_of_the_family_twice_is_read_as_once(tmp_path, family):
    """As in transformers. Only the names without it, such as of a head of its own, then lack their prefix."""
    directory, base = tmp_path / "model", FAMILIES[family].base
    model = small_model(family, tie_word_embeddings=True)
    save_model(directory, model)
    put_prefix(directory, base)
    with pytest.warns(CheckpointWarning, match=f"have the prefix '{base}' twice, such as '{base}{base}"):
        assert_same_model(load_model(directory), model)
    name = f"{base}norm.weight" if family != "gpt2" else f"{base}ln_f.weight"
    change_tensors(directory, {name: np.ones(3, np.float32)})
    with (
        pytest.warns(CheckpointWarning),
        pytest.raises(CheckpointError, match=f"'{base}{name}' is also stored with one prefix"),
    ):
        load_model(directory)


def test_a_head_behind_the_prefix_of_the_family_is_named(tmp_path):
    save_model(tmp_path / "model", small_model("llama", tie_word_embeddings=False))
    put_prefix(tmp_path / "model", "model.")
    with (
        pytest.warns(CheckpointWarning),
        pytest.raises(CheckpointError, match=r"has the prefix 'model\.' before 'lm_head\.weight'"),
    ):
        load_model(tmp_path / "model")


def test_activations_under_other_names(saved):
    directory, _ = saved
    for name, activation in {"swish": "silu", "gelu_python": "gelu", "gelu_fast": "gelu_new"}.items():
        change_config(directory, hidden_act=name)
        assert load_model(directory).config.activation == activation


def test_the_last_of_equal_keys_counts(saved):
    """As in Python's json, and so in transformers."""
    directory, _ = saved
    config = directory / "config.json"
    config.write_text('{"rms_norm_eps": 7, ' + config.read_text().strip()[1:-1] + ', "rms_norm_eps": 0.25}')
    assert load_model(directory).config.norm_eps == 0.25


def test_a_tokenizer_in_another_form(tmp_path):
    assert instead_of_tokenizer(tmp_path) == ""
    with_files(tmp_path, "vocab.json", "vocab.txt", "tokenizer.model")
    assert instead_of_tokenizer(tmp_path).startswith("only tokenizer.model of another form of tokenizer: load it with")


def test_names_of_a_large_or_missing_directory(tmp_path, monkeypatch):
    assert MOST_ENTRIES == 10_000 and file_names(tmp_path / "missing") == []
    monkeypatch.setattr("tinyslm.checkpoints.directory_contents.MOST_ENTRIES", 2)
    assert len(file_names(with_files(tmp_path, "a", "b", "c"))) == 2

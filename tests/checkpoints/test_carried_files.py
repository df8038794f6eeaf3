"""The files beside the weights survive loading and saving, also of a compressed model."""

from pathlib import PurePath

import pytest
from tokenizers import Tokenizer

import tinyslm
from tests.checkpoints.models import small_model
from tinyslm.checkpoints import load_model, save_model
from tinyslm.checkpoints.carried_files import CARRIED
from tinyslm.errors import Error
from tinyslm.models import random_model
from tinyslm.recipes import Quantize, compress

FILES = (
    "generation_config.json",
    "chat_template.jinja",
    "additional_chat_templates/tools.jinja",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
OTHERS = ("README.md", "pytorch_model.bin", "other.safetensors", "deep/1_Pooling/config.json", "training.json")


def add_files(directory, names):
    """Write files whose contents are their names."""
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)


def files_in(directory):
    """The paths of all files below a directory."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path):
    """A directory with a model, a tokenizer, and files of every kind."""
    tinyslm.save(tmp_path / "source", small_model("llama"), tinyslm.load("teacher")[1])
    add_files(tmp_path / "source", FILES + OTHERS)
    return tmp_path / "source"


def test_every_pattern_has_a_file():
    for pattern in CARRIED:
        assert any(PurePath(name).match(pattern) for name in FILES), pattern


def test_they_survive_loading_and_saving(source, tmp_path):
    model, tokenizer = tinyslm.load(source)
    tinyslm.save(tmp_path / "again", model, tokenizer)
    assert files_in(tmp_path / "again") == {*FILES, "config.json", "model.safetensors", "tokenizer.json"}
    for name in FILES:
        assert (tmp_path / "again" / name).read_text() == name
    assert tinyslm.load(tmp_path / "again")[0].config.source.directory == tmp_path / "again"


def test_a_compressed_and_a_changed_model_have_them_too(source, tmp_path):
    model, _ = compress(load_model(source), [Quantize()], None)
    save_model(tmp_path / "small", model, records={"generation_config.json": {}})
    assert set(FILES) < files_in(tmp_path / "small")
    assert (tmp_path / "small" / "generation_config.json").read_text() == "{}\n"  # what is given has priority


def test_a_new_model_has_none(source, tmp_path):
    tinyslm.save(tmp_path / "new", random_model(load_model(source).config))
    assert files_in(tmp_path / "new") == {"config.json", "model.safetensors"}


def test_where_a_model_came_from_is_not_a_part_of_its_configuration(source):
    loaded, new = load_model(source).config, small_model("llama").config
    assert loaded.source != new.source
    assert loaded == new and hash(loaded) == hash(new) and repr(loaded) == repr(new)


def test_a_source_that_is_gone_or_moved_is_no_error(source, tmp_path):
    model, tokenizer = tinyslm.load(source)
    source.rename(tmp_path / "moved")
    tinyslm.save(tmp_path / "again", model, tokenizer)
    assert files_in(tmp_path / "again") == {"config.json", "model.safetensors", "tokenizer.json"}


def test_links_are_followed_and_directories_are_not_files(tmp_path):
    """A snapshot in a cache of the hub consists of links."""
    save_model(tmp_path / "source", small_model("llama"))
    (tmp_path / "blob").write_text("{}")
    (tmp_path / "source" / "generation_config.json").symlink_to(tmp_path / "blob")
    (tmp_path / "source" / "vocab.json").mkdir()
    save_model(tmp_path / "again", load_model(tmp_path / "source"))
    assert files_in(tmp_path / "again") == {"config.json", "model.safetensors", "generation_config.json"}
    assert not (tmp_path / "again" / "generation_config.json").is_symlink()


def test_a_file_that_cannot_be_read_is_named(source, tmp_path, monkeypatch):
    model = load_model(source)

    def refuse(file, copy):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("shutil.copyfile", refuse)
    with pytest.raises(Error, match=r"generation_config\.json: cannot be copied .* \(Permission denied\)"):
        save_model(tmp_path / "again", model)
    assert not (tmp_path / "again").exists()


def test_the_tokenizer_is_the_one_that_is_given(source, tmp_path):
    model, tokenizer = tinyslm.load(source)
    tinyslm.save(tmp_path / "again", model, tokenizer)
    assert isinstance(tinyslm.load(tmp_path / "again")[1], Tokenizer)
    tinyslm.save(tmp_path / "bare", model)
    assert tinyslm.load(tmp_path / "bare")[1] is None

"""Every command that takes a model takes an id of the Hugging Face hub."""

import huggingface_hub.constants
import numpy as np
import pytest

from tests.checkpoints.hub_server import add_to_cache
from tests.commands.encoders import save_encoder
from tests.commands.files import QUICK, assert_one_line, run, write_text
from tinyslm.cli import main

COMMANDS = {  # arguments after which the id of a model follows
    "compress": ("--text", "text.txt", "--recipe", "INT8 weights", "--out", "out", "--"),
    "embed": ("--out", "vectors.npy"),
    "evaluate": ("--text", "text.txt", "--"),
    "fill": (),
    "generate": ("The cat", "--tokens", "3", "--model"),
    "inspect": (),
    "sweep": ("recipes.toml", "--text", "text.txt", "--out", "out", "--threads", "--model"),
    "trace": (),
    "train": ("--text", "text.txt", "--steps", "1", "--batch", "2", "--out", "out", "--from"),
}
AFTER = {"embed": ("text.txt",), "fill": ("the [MASK]",), "trace": ("The cat",)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with a decoder as org/decoder, and an encoder as org/encoder."""
    place = tmp_path_factory.mktemp("hub")
    assert run("train", "--text", write_text(place), "--out", place / "decoder", *QUICK) == 0
    save_encoder(place / "encoder")
    for kind in ("decoder", "encoder"):
        add_to_cache(place / "cache", f"org/{kind}", place / kind)
    return place / "cache"


@pytest.fixture
def place(cache, tmp_path, monkeypatch, capsys):
    """A working directory with a text and a recipe. The cache is that of `cache`, and there is no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    (tmp_path / "recipes.toml").write_text('[[recipe]]\nname = "8 bits"\nstep = [{use = "Quantize"}]\n')
    capsys.readouterr()
    return tmp_path


def of(command, model_id, *options):
    """The exit status of a command with this id."""
    return main([command, *options, *COMMANDS[command], model_id, *AFTER.get(command, ())])


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"compress"}))  # which the last test runs
def test_a_cached_id(place, command, capsys):
    kind = "encoder" if command in ("embed", "fill") else "decoder"
    assert of(command, f"org/{kind}") == 0
    if command == "embed":
        assert np.load(place / "vectors.npy").ndim == 2
    else:
        assert capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_an_id_that_is_not_cached(place, command, capsys):
    assert of(command, "org/other") == 2
    assert_one_line(
        capsys.readouterr(), "org/other: no such directory", "(", " has org/decoder, org/encoder)", "--download"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_download_is_tried_on_request_only(place, command, capsys):
    assert of(command, "org/decoder", "--download") == 2
    assert_one_line(capsys.readouterr(), "org/decoder: HF_HUB_OFFLINE forbids --download")
    directory = place / "directory"
    directory.mkdir()
    assert of(command, str(directory), "--download") == 2
    assert_one_line(capsys.readouterr(), "directory")


def test_a_run_is_resumed_in_another_directory(place, tmp_path, monkeypatch, capsys):
    """The id is recorded, not a path."""
    from tinyslm.commands import compress

    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compress, "measure_speeds", interrupt)
        assert of("compress", "org/decoder") == 130
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["compress", "--out", str(place / "out"), "--resume"]) == 0
    assert "INT8" in capsys.readouterr().out

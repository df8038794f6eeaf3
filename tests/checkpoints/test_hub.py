"""Models of the Hugging Face hub by id: in caches that the tests lay out, and from a small server on this machine."""

import os
import shutil
import subprocess
import sys

import huggingface_hub.constants
import pytest

import tinyslm
from tests.checkpoints.hub_server import COMMIT, add_to_cache, hub_server
from tests.checkpoints.models import assert_same_model, small_model
from tinyslm.checkpoints import save_model
from tinyslm.checkpoints.hub import find_model, parse_name
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.load_save import find_directory

OTHER = "f" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache. The working directory is another one."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "hub"


@pytest.fixture
def saved(tmp_path):
    """(a directory, the Llama in it)."""
    model = small_model("llama")
    save_model(tmp_path / "saved", model)
    return tmp_path / "saved", model


@pytest.fixture
def hub(saved, monkeypatch):
    """A server with the model of `saved` as org/name."""
    with hub_server({"org/name": saved[0]}) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gpt2", ("gpt2", None, None)),
        ("org/Na.me-1_2", ("org/Na.me-1_2", None, None)),
        ("org/name@v1.0", ("org/name", None, "v1.0")),
        ("org/name@refs/pr/3", ("org/name", None, "refs/pr/3")),
        ("org/name/a b.gguf", ("org/name", "a b.gguf", None)),
        ("org/name/Q4/a-00001.gguf@dev", ("org/name", "Q4/a-00001.gguf", "dev")),
        ("a" * 96, ("a" * 96, None, None)),
    ],
)
def test_names_of_models(name, parts):
    found = parse_name(name)
    assert (found.id, found.file, found.revision) == parts


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "./name", "../name", "/org/name", "org/name/", "org/name/more", "org//name", "org/name.git"),
        *("org/na--me", "org/na..me", "org/-name", "org/name.", "org/na me", "org/nam\xe9", "org/name@", "@main"),
        *("a" * 97, "models/x.gguf", "org/name@../../x", "org/name/../x.gguf", "org/name\n", "~/name", "C:\\name"),
    ],
)
def test_other_names_are_paths(name, cache):
    assert parse_name(name) is None and find_model(name) is None


def test_a_model_in_the_cache(cache, saved):
    directory, model = saved
    snapshot = add_to_cache(cache, "org/name", directory)
    loaded, tokenizer = tinyslm.load("org/name")
    assert_same_model(loaded, model)
    assert tokenizer is None and loaded.config.source.directory == snapshot
    add_to_cache(cache, "old", directory)
    assert_same_model(tinyslm.load("old")[0], model)


def test_a_revision(cache, saved, tmp_path):
    """Each name of a revision has its own snapshot, and a commit needs no name."""
    other = small_model("llama", seed=1)
    save_model(tmp_path / "other", other)
    add_to_cache(cache, "org/name", saved[0])
    add_to_cache(cache, "org/name", tmp_path / "other", OTHER, "v2")
    assert_same_model(tinyslm.load("org/name")[0], saved[1])
    for revision in ("v2", OTHER):
        assert_same_model(tinyslm.load(f"org/name@{revision}")[0], other)
    message = f"does not have its revision 'v3', only {COMMIT}, {OTHER}; get it with --download"
    with pytest.raises(CheckpointError, match=message):
        tinyslm.load("org/name@v3")


def test_a_path_is_preferred(cache, saved, tmp_path):
    other = small_model("llama", seed=1)
    add_to_cache(cache, "org/name", saved[0])
    save_model(tmp_path / "work" / "org" / "name", other)
    assert_same_model(tinyslm.load("org/name")[0], other)


def test_files_of_a_cached_model_are_carried(cache, saved, tmp_path):
    """They are links there, and files in the saved directory."""
    (saved[0] / "chat_template.jinja").write_text("{{ messages }}")
    add_to_cache(cache, "org/name", saved[0])
    tinyslm.save(tmp_path / "again", tinyslm.load("org/name")[0])
    copy = tmp_path / "again" / "chat_template.jinja"
    assert copy.read_text() == "{{ messages }}" and not copy.is_symlink()


def test_what_is_in_the_cache_instead(cache, saved):
    with pytest.raises(CheckpointError, match=r"^org/name: no such directory, .*hub has no model\); .* --download"):
        find_directory("org/name")
    for name in ("gpt2", "org/a", "org/b", "org/c"):
        add_to_cache(cache, name, saved[0])
    with pytest.raises(CheckpointError, match=r"hub has gpt2, org/a, org/b and 1 more\)"):
        find_directory("org/name")
    with pytest.raises(CheckpointError, match=r"^name: no such directory; built-in models are teacher$"):
        find_directory("name")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("is_unfinished", [False, True])
def test_a_missing_file(cache, saved, missing, is_link, is_unfinished):
    """Of a download that was interrupted, or that only fetched some files; or the blob of a link is gone."""
    link = add_to_cache(cache, "org/name", saved[0]) / missing
    blob = link.resolve()
    if is_unfinished:
        blob.with_name(f"{blob.name}.incomplete").touch()
    if is_link:
        blob.unlink()
    else:
        link.unlink()
    state = "is an unfinished download without" if is_unfinished else "lacks"
    message = f"^org/name: its entry in the cache {state} {missing}; complete it with --download"
    with pytest.raises(CheckpointError, match=message):
        tinyslm.load("org/name")


def test_a_download_that_was_interrupted_before_its_first_file(cache, saved):
    snapshot = add_to_cache(cache, "org/name", saved[0])
    shutil.rmtree(snapshot.parent)
    with pytest.raises(CheckpointError, match="only the beginning of a download of it; complete it with --download"):
        tinyslm.load("org/name")


def test_a_file_that_is_not_needed_may_be_missing(cache, saved):
    (saved[0] / "README.md").touch()
    link = add_to_cache(cache, "org/name", saved[0]) / "README.md"
    link.resolve().unlink()
    assert_same_model(tinyslm.load("org/name")[0], saved[1])


def test_a_missing_shard(cache, saved):
    directory, model = saved
    (directory / "model.safetensors").rename(directory / "model-00001-of-00001.safetensors")
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"x": "model-00001-of-00001.safetensors"}}')
    snapshot = add_to_cache(cache, "org/name", directory)
    assert_same_model(tinyslm.load("org/name")[0], model)
    (snapshot / "model-00001-of-00001.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"its entry in the cache lacks model-00001-of-00001.safetensors; compl"):
        tinyslm.load("org/name")


@pytest.mark.parametrize("index", ["[", "{}", '{"weight_map": []}', '{"weight_map": {"x": 1}}'])
def test_a_damaged_index_is_reported_as_elsewhere(cache, saved, index):
    (saved[0] / "model.safetensors").unlink()
    (saved[0] / "model.safetensors.index.json").write_text(index)
    add_to_cache(cache, "org/name", saved[0])
    with pytest.raises(CheckpointError, match=r"index.json: .*(JSON|weight_map)"):
        tinyslm.load("org/name")


def test_other_formats_are_reported_as_elsewhere(cache, saved):
    (saved[0] / "model.safetensors").rename(saved[0] / "pytorch_model.bin")
    add_to_cache(cache, "org/name", saved[0])
    with pytest.raises(CheckpointError, match=r"holds 'pytorch_model.bin', pickled PyTorch weights"):
        tinyslm.load("org/name")


def test_a_gguf_file_in_the_cache(cache, tmp_path):
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "a.gguf").write_bytes(b"GGUF")
    snapshot = add_to_cache(cache, "org/name", directory)
    for name in ("org/name", "org/name/a.gguf"):
        assert find_directory(name) == snapshot / "a.gguf"
    with pytest.raises(CheckpointError, match=r"its entry in the cache lacks b.gguf; complete it with --download"):
        find_model("org/name/b.gguf")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_damaged_entry(cache, saved, content):
    ref = add_to_cache(cache, "org/name", saved[0]).parents[1] / "refs" / "main"
    ref.unlink()
    if content is None:
        ref.mkdir()
    else:
        ref.write_bytes(content)
    with pytest.raises(CheckpointError, match="org/name: its entry in the cache of the hub is damaged"):
        tinyslm.load("org/name")


def test_without_the_package(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"org/name: no such directory; .* pip install \"tinyslm\[hub\]\"$"):
        tinyslm.load("org/name")
    with pytest.raises(CheckpointError, match="name: no such directory; built-in models are teacher"):
        tinyslm.load("name")
    with pytest.raises(ConfigError, match="pip install"):
        tinyslm.load("name", download=True)
    assert tinyslm.load("teacher", weights="mapped")[0].config.num_hidden_layers == 6


def test_a_download(cache, hub, saved):
    """Only the files that are needed, each once."""
    directory, model = saved
    carried = ("tokenizer_config.json", "1_Pooling/config.json", "chat_template.jinja")
    for name in (*carried, "README.md", "pytorch_model.bin", "model.fp16.safetensors", "onnx/model.onnx", "a.gguf"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(name)
    with pytest.raises(CheckpointError, match="no such model in the cache"):
        tinyslm.load("org/name")
    assert not hub.requests
    assert_same_model(tinyslm.load("org/name", download=True)[0], model)
    fetched = {request.partition(f"{COMMIT}/")[2] for request in hub.requests if request.startswith("GET org/name/res")}
    assert fetched == {"config.json", "model.safetensors", *carried}
    before = len(hub.requests)
    assert_same_model(tinyslm.load("org/name")[0], model)
    assert len(hub.requests) == before
    tinyslm.load("org/name", download=True)
    assert not any(request.startswith("GET org/name/resolve") for request in hub.requests[before:])


def test_a_download_completes_an_entry(cache, hub, saved):
    (add_to_cache(cache, "org/name", saved[0]) / "model.safetensors").unlink()
    assert_same_model(tinyslm.load("org/name", download=True)[0], saved[1])


def test_a_gguf_file_is_downloaded_alone(cache, hub, saved):
    for name in ("a.gguf", "b.gguf"):
        (saved[0] / name).write_text(name)
    assert find_model("org/name/b.gguf", download=True).read_text() == "b.gguf"
    assert [path.name for path in cache.glob("models--org--name/snapshots/*/*")] == ["b.gguf"]
    with pytest.raises(CheckpointError, match=r"hub has no file 'c.gguf' of org/name, but a.gguf, b.gguf$"):
        find_model("org/name/c.gguf", download=True)


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("org/other", (404, "RepoNotFound"), "org/other: the hub has no such model, or it is private; check the id"),
        ("org/other", (401, "RepoNotFound"), "the hub has no such model, or it is private"),
        ("other", (404, "RepoNotFound"), "^other: the hub has no such model"),
        ("org/other", (403, "GatedRepo"), "is gated: accept its conditions on its page"),
        (
            "org/other",
            (503, ""),
            "cannot be downloaded .*503 Service Unavailable.*; try again, or leave out --download",
        ),
        ("org/name@gone", None, "org/name@gone: the hub has no revision 'gone' of it"),
    ],
)
def test_a_refused_download(cache, hub, name, answer, message):
    hub.errors[name] = answer
    with pytest.raises(CheckpointError, match=message) as caught:
        tinyslm.load(name, download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["pytorch_model.bin"], "of it$"),
        (["b.gguf", "a.gguf"], r"of it; name one of its GGUF files, such as org/name/[ab].gguf$"),
    ],
)
def test_a_model_without_safetensors_at_the_hub(cache, hub, saved, names, advice):
    (saved[0] / "model.safetensors").unlink()
    for name in names:
        (saved[0] / name).touch()
    with pytest.raises(
        CheckpointError, match=f"the hub has no model.safetensors or model.safetensors.index.json {advice}"
    ):
        tinyslm.load("org/name", download=True)
    assert not cache.exists()


def test_without_a_network(cache, hub, saved, monkeypatch):
    """One line at once. Without the request for a download, the cache is used."""
    add_to_cache(cache, "org/name", saved[0])
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(CheckpointError, match=r"cannot be downloaded \(ConnectError: .* leave out --download"):
        tinyslm.load("org/name", download=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids --download; unset it, or leave out --download"):
        tinyslm.load("org/name", download=True)
    assert_same_model(tinyslm.load("org/name")[0], saved[1])


def test_a_server_that_does_not_answer(cache, hub, saved, monkeypatch):
    monkeypatch.setattr("tinyslm.checkpoints.hub.SECONDS", 0.05)
    hub.wait = 0.2
    with pytest.raises(CheckpointError, match=r"cannot be downloaded \(ReadTimeout: "):
        tinyslm.load("org/name", download=True)


def test_the_environment_variables_of_the_hub(saved, tmp_path):
    """In a process of its own: huggingface_hub reads them when it is imported."""
    add_to_cache(tmp_path / "home" / "hub", "org/name", saved[0])
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-m", "tinyslm", "inspect"]
    done = subprocess.run([*command, "org/name"], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("org/name: decoder, family llama") and done.returncode == 0 and done.stderr == ""
    environment["HF_HUB_CACHE"] = str(tmp_path / "nothing")
    done = subprocess.run([*command, "org/name"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"({tmp_path / 'nothing'} has no model)" in done.stderr

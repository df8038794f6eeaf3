"""tinyslm evaluate and tinyslm corpus: what they print is what the library measures."""

import json
import re
import shutil

import numpy as np
import pytest
from scipy.special import log_softmax
from tokenizers import processors

from tests.commands.files import assert_one_line, run
from tinyslm.checkpoints import save_model
from tinyslm.cli import main
from tinyslm.commands import text_options, training_inputs
from tinyslm.evaluation import measure_loss
from tinyslm.load_save import load
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.text import read_documents, town, train_tokenizer
from tinyslm.text.corpus import text_corpus, town_corpus


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluate") / "model"
    arguments = ["--shape", "smallest", "--town-documents", "200", "--steps", "2", "--batch", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_inputs, "TOKENIZER_DOCUMENTS", 300)
        patch.setattr(training_inputs, "VALIDATION_DOCUMENTS", 100)
        assert main(["train", "--out", str(out), *arguments]) == 0
    return out


def test_evaluate_prints_loss_floor_and_exam(model_directory, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(model_directory), "--town-documents", "40", "--questions", "2"]) == 0
    printed = capsys.readouterr().out
    model, tokenizer = load(model_directory)
    corpus = town_corpus(tokenizer, 0, validation=40)
    assert f"loss   {measure_loss(model, corpus.validation).nats:.4f}" in printed
    assert "counted: each text and its end '<|endoftext|>', after '<|endoftext|>'\n" in printed
    assert f"floor  {corpus.floor.nats:.4f}" in printed and "entropy of the text" in printed
    for family in town.FAMILIES:
        assert len(re.findall(rf"^ +{family} ", printed, re.MULTILINE)) == 2  # its loss, and its part of the exam
    assert "% of 2" in printed


def test_evaluate_measures_on_the_test_split(model_directory, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(model_directory), "--town-documents", "9", "--questions", "0", "--split", "test"]) == 0
    model, tokenizer = load(model_directory)
    corpus = town_corpus(tokenizer, 0, validation=9, split="test")
    assert f"loss   {measure_loss(model, corpus.validation).nats:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message", [(["--town-documents", "0"], "at least 1"), (["--questions", "-1"], "at least 0")]
)
def test_evaluate_refuses_odd_numbers(model_directory, capsys, arguments, message):
    capsys.readouterr()
    assert main(["evaluate", str(model_directory), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A directory with a text, a model that was trained on its lines in packed rows, and another text."""
    place = tmp_path_factory.mktemp("own")
    (place / "text.txt").write_text("\n".join(f"Anna has {n} apples, and Otto has {n + 1}." for n in range(90)))
    (place / "other.txt").write_text("\n".join(f"It is {n} o'clock.\nIs it?\n" for n in range(90)))
    shape = ("--shape", "smallest", "--vocabulary", "280", "--context", "32", "--steps", "2", "--batch", "2")
    options = ("--documents", "line", "--pack", *shape)
    assert run("train", "--text", place / "text.txt", "--out", place / "model", *options) == 0
    return place


def validation_loss(place, corpus):
    return measure_loss(load(place / "model")[0], corpus.validation)


def own_corpus(place, name, documents, pack_length=None):
    tokenizer = load(place / "model")[1]
    return text_corpus(tokenizer, 0, read_documents([place / name], documents), pack_length=pack_length)


def test_a_model_is_measured_on_the_text_it_was_trained_on(own, capsys):
    """With the same documents and packing: the loss that training has recorded."""
    capsys.readouterr()
    assert run("evaluate", own / "model") == 0
    printed = capsys.readouterr()
    loss = validation_loss(own, own_corpus(own, "text.txt", "line", 32))
    assert f"loss   {loss.nats:.4f} ± {loss.standard_error:.4f} nats per token ({loss.tokens:,}" in printed.out
    assert "floor" not in printed.out
    text = f"{own / 'text.txt'} (one document per line, packed in rows of 32 tokens)"
    assert printed.err == f"text of the model: {text}\n"
    assert json.loads((own / "model" / "training.json").read_text())["validation"]["nats"] == loss.nats


@pytest.mark.parametrize(
    ("options", "documents", "pack_length"),
    [((), "paragraph", None), (("--documents", "line"), "line", None), (("--pack",), "paragraph", 32)],
)
def test_another_text(own, capsys, options, documents, pack_length):
    capsys.readouterr()
    assert run("evaluate", own / "model", "--text", own / "other.txt", *options) == 0
    printed = capsys.readouterr()
    loss = validation_loss(own, own_corpus(own, "other.txt", documents, pack_length))
    assert f"loss   {loss.nats:.4f} ± " in printed.out and f"({loss.tokens:,} tokens)" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize("pack", [(), ("--pack",)])
def test_a_whole_text(own, capsys, pack):
    capsys.readouterr()
    assert run("evaluate", own / "model", "--text", own / "other.txt", *pack, "--split", "whole") == 0
    printed = capsys.readouterr().out
    model, tokenizer = load(own / "model")
    pack_length = 32 if pack else None
    documents = read_documents([own / "other.txt"], "paragraph")
    corpus = text_corpus(tokenizer, 0, documents, pack_length=pack_length, whole=True)
    loss = measure_loss(model, corpus.validation)
    assert f"loss   {loss.nats:.4f} ± " in printed and f"({loss.tokens:,} tokens)" in printed
    assert f"bits per byte ({sum(len(document) for document in documents):,} bytes)" in printed


@pytest.mark.parametrize(
    ("text", "split", "kind"), [("town", "whole", "your own text"), ("other.txt", "test", "the town")]
)
def test_a_split_of_the_other_kind_of_text_is_refused(own, capsys, monkeypatch, text, split, kind):
    monkeypatch.chdir(own)
    capsys.readouterr()
    assert run("evaluate", "model", "--text", text, "--split", split) == 2
    assert f"--split {split} is only for {kind}" in capsys.readouterr().err


def test_a_large_text_is_announced(own, capsys, monkeypatch):
    """Encoding it takes a while."""
    with open(own / "large.txt", "w") as file:
        file.write("It is ten o'clock.\n\n" * 60_000)
    monkeypatch.setattr(text_options, "LARGE_TEXT", 1_200_000)
    monkeypatch.setattr("tinyslm.commands.evaluate.open_corpus", lambda *arguments: own_corpus(own, "text.txt", "line"))
    capsys.readouterr()
    assert run("evaluate", own / "model", "--text", own / "large.txt") == 0
    assert capsys.readouterr().err == "encoding 1 MB of text\n"


def test_the_town_on_request(own, capsys, monkeypatch):
    monkeypatch.chdir(own)
    capsys.readouterr()
    assert run("evaluate", "model", "--text", "town", "--town-documents", 1, "--questions", 0) == 0
    printed = capsys.readouterr().out
    assert "± ? nats per token" in printed and "± ?, the entropy of the text" in printed  # of one document


TEXTS = [f"Anna has {n} apples, and Otto has {n + 1}." for n in range(600)]
BOS, EOS, FIRST = 5, 6, None


def of_others(directory, begin):
    """A model that was not trained here. begin: the token that its tokenizer puts before a text, or None."""
    tokenizer = train_tokenizer(TEXTS, 280)
    name = None if begin is None else tokenizer.id_to_token(begin)
    template = {"single": "$A"} if begin is None else {"single": f"{name} $A", "special_tokens": [(name, begin)]}
    tokenizer.post_processor = processors.TemplateProcessing(**template)
    model = random_model(llama_shape(280, 16, 32, 1, 2, 2, 64, end_id=EOS))
    save_model(directory, model, tokenizer)
    (directory / "text.txt").write_text("\n\n".join(TEXTS))
    return model, tokenizer


def loss_by_definition(model, tokenizer, texts, begin, end):
    """(nats per token, tokens, bits per byte, bytes): the first token of each document is not predicted."""
    total = tokens = size = 0
    for text in texts:
        document = [*begin, *tokenizer.encode(text, add_special_tokens=False).ids, *end]
        log_probabilities = log_softmax(model(np.array([document]))[0].astype(np.float64), axis=-1)
        total -= log_probabilities[np.arange(len(document) - 1), document[1:]].sum()
        tokens += len(document) - 1
        size += len(text) - (0 if begin else len(tokenizer.id_to_token(document[0])))
    return total / tokens, tokens, total / np.log(2) / size, size


@pytest.mark.parametrize(("begin", "counted"), [(BOS, "after '%'"), (FIRST, "after its first token")])
def test_documents_begin_as_the_tokenizer_begins_a_text(tmp_path, capsys, begin, counted):
    """Without an end mark, because nothing says that the model was trained with one. Compressed models too."""
    model, tokenizer = of_others(tmp_path, begin)
    capsys.readouterr()
    assert run("evaluate", tmp_path, "--text", tmp_path / "text.txt") == 0
    begins = [] if begin is None else [begin]
    nats, tokens, bits, size = loss_by_definition(model, tokenizer, TEXTS[9::10], begins, [])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"loss   {nats:.4f} ± ") and first.endswith(f"({tokens:,} tokens)")
    assert second == f"       {bits:.4f} bits per byte ({size:,} bytes)"
    assert third == f"       counted: each text, {counted.replace('%', tokenizer.id_to_token(BOS))}"
    out, recipe = tmp_path / "compressed", tmp_path / "recipe.toml"
    recipe.write_text('[[recipe]]\nname = "int8"\n[[recipe.step]]\nuse = "Quantize"\n')
    assert run("compress", tmp_path, "--text", tmp_path / "text.txt", "--recipe", recipe, "--out", out) == 0
    loss = json.loads((out / "results.json").read_text())["rows"][0]["loss"]
    assert loss["nats"] == pytest.approx(nats, rel=1e-5) and loss["tokens"] == tokens


def test_a_model_that_was_trained_further_here_learned_to_end_documents(tmp_path, capsys):
    _, tokenizer = of_others(tmp_path, BOS)
    out = tmp_path / "further"
    options = ("--text", tmp_path / "text.txt", "--steps", 2, "--batch", 2)
    assert run("train", "--from", tmp_path, *options, "--out", out) == 0
    capsys.readouterr()
    assert run("evaluate", out) == 0
    nats, tokens, bits, size = loss_by_definition(load(out)[0], tokenizer, TEXTS[9::10], [BOS], [EOS])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"loss   {nats:.4f} ± ") and first.endswith(f"({tokens:,} tokens)")
    assert second == f"       {bits:.4f} bits per byte ({size:,} bytes)"
    begin, end = map(tokenizer.id_to_token, (BOS, EOS))
    assert third == f"       counted: each text and its end '{end}', after '{begin}'"
    recorded = json.loads((out / "training.json").read_text())["validation"]
    assert recorded["tokens"] == tokens and recorded["nats"] == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("questions", [0, 1])
def test_the_town_without_an_end_mark_has_no_floor(tmp_path, capsys, questions):
    of_others(tmp_path, BOS)
    capsys.readouterr()
    assert run("evaluate", tmp_path, "--text", "town", "--town-documents", 20, "--questions", questions) == 0
    printed = capsys.readouterr().out
    assert "floor" not in printed and "bits" not in printed and ("exam" in printed) == (questions == 1)
    for family in town.FAMILIES:
        assert re.search(rf"^ +{family} +\d+\.\d{{4}}$", printed, re.MULTILINE)


@pytest.mark.parametrize("command", ["evaluate", "compress", "sweep"])
def test_a_text_that_is_unknown_or_changed(own, capsys, tmp_path, monkeypatch, command):
    (tmp_path / "recipes.toml").write_text('[[recipe]]\nname = "a"\n[[recipe.step]]\nuse = "Quantize"\n')
    shutil.copytree(own / "model", tmp_path / "model")
    (tmp_path / "text.txt").write_bytes((own / "text.txt").read_bytes())
    record = tmp_path / "model" / "corpus.json"
    record.write_text(record.read_text().replace(str(own), str(tmp_path)))
    out = ["--out", tmp_path / "out"]
    arguments = {
        "evaluate": [tmp_path / "model"],
        "compress": [tmp_path / "model", *out],
        "sweep": [tmp_path / "recipes.toml", "--model", tmp_path / "model", *out],
    }[command]

    def assert_refused(*parts, options=()):
        capsys.readouterr()
        assert run(command, *arguments, *options) == 2
        assert_one_line(capsys.readouterr(), *parts)
        assert not (tmp_path / "out").exists()

    assert_refused("--documents and --pack can only be used with --text FILE", options=["--pack"])
    assert_refused("--documents and --pack can only", options=["--documents", "line"])
    assert_refused("--documents and --pack can only", options=["--text", "town", "--documents", "line"])
    (tmp_path / "text.txt").write_text("another text")
    assert_refused(f"{tmp_path / 'text.txt'}: has changed", "give a text with --text FILE")
    (tmp_path / "text.txt").unlink()
    assert_refused(f"{tmp_path / 'text.txt'}: cannot be read", "give a text with --text FILE")
    record.write_text('{"name": "text"}')
    assert_refused("corpus.json: documents is missing; give a text with --text FILE")
    record.unlink()
    assert_refused(f"{tmp_path / 'model'}: no corpus.json says what text", "give a text with --text FILE")


def test_corpus_prints_documents_with_their_probability(capsys):
    assert main(["corpus", "--split", "test", "--start", "5", "--count", "2"]) == 0
    printed = capsys.readouterr().out
    for family, text, log_probability in town.documents("test", 5, 2):
        assert f"[{family}, {-log_probability:.1f} nats]\n{text}\n" in printed

"""tinyslm trace: what is printed is what `tinyslm.trace` says, for every kind of model."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.commands.files import TEXT, assert_one_line, run
from tests.strategies import generic_model
from tinyslm import generate, save, trace
from tinyslm.models import EncoderConfig, EncoderDecoderConfig, random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.reporting import terminal_table, trace_report
from tinyslm.reporting.plain_text import width
from tinyslm.text import train_tokenizer

BYTES = train_tokenizer(TEXT.split("\n\n"), 280)
WORDS = {word: i for i, word in enumerate(["the", "cat", "dog", "saw", "[MASK]", "[UNK]"])}
WHOLE_WORDS = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
WHOLE_WORDS.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
DECODER = random_model(llama_shape(280, 16, 24, 3, 4, 2, 40), seed=3, deviation=0.5)
ENCODER = EncoderConfig("bert", 40, 24, 36, 2, 3, 8, 20, type_vocab_size=2)
SENTENCES = EncoderConfig("bert", 40, 24, 36, 2, 3, 8, 20, type_vocab_size=2, masked_head=False)
ENCODER_DECODER = EncoderDecoderConfig("t5", 40, 24, 36, 2, 3, 3, 8, 8, 16, eos_token_id=1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    save(path / "decoder", DECODER, BYTES)
    for name, config in (("encoder", ENCODER), ("sentences", SENTENCES), ("both", ENCODER_DECODER)):
        save(path / name, generic_model(config, dtype=np.float32), WHOLE_WORDS)
    return path


def output(capsys, *arguments):
    assert run("trace", *arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def likely(logits, count=5):
    """(percentage, token id) of the most probable tokens, as they are printed."""
    probabilities = softmax(logits)
    return [f"{100 * probabilities[i]:.1f} %" for i in np.argsort(-probabilities)[:count]]


def test_a_decoder(directory, capsys):
    text = "The old cat"
    shown = output(capsys, directory / "decoder", text, "--layer", 1, "--head", 2)
    token_ids = BYTES.encode(text).ids
    steps = trace(DECODER, [token_ids])
    id_row = next(line for line in shown.splitlines() if line.startswith("  id "))
    assert [int(word) for word in id_row.split()[1:]] == token_ids
    for name, values in steps.items():
        other_layer = name.startswith(("layers.", "attentions.")) and ".1" not in name
        assert (f"  {name} " in shown) != other_layer
        if not other_layer:
            assert f"{values.std():.4f}" in shown
    assert "attentions.1, head 2:" in shown and "attentions.0, head" not in shown
    for percentage in likely(steps["logits"][0, -1]):
        assert percentage in shown.partition("Most probable next tokens:")[2]


def test_the_picture_is_that_of_the_chosen_head(directory, capsys):
    """In a decoder the first token attends to itself alone; the row of the last token has every probability."""
    text = "The old cat"
    token_ids = BYTES.encode(text).ids
    for head in range(4):
        shown = output(capsys, directory / "decoder", text, "--head", head)
        picture = shown.partition("blank: 0\n")[2].partition("\n\n")[0].splitlines()
        last = picture[-1].split()[-1]
        probabilities = trace(DECODER, [token_ids])["attentions.0"][0, head, -1]
        wanted = ["·░▒▓█"[sum(p >= bound for bound in (0.05, 0.2, 0.4, 0.7))] for p in probabilities]
        assert last == "".join(2 * letter for letter in wanted)


def test_all_layers(directory, capsys):
    shown = output(capsys, directory / "decoder", "The old cat", "--all")
    assert all(f"  {name} " in shown for name in trace(DECODER, [[1, 2]]))


def test_nothing_is_wider_than_a_terminal(directory, capsys, monkeypatch):
    text = "Quick zebras jump over lazy foxes."
    token_ids = BYTES.encode(text).ids
    assert len(token_ids) > 31
    for module in (terminal_table, trace_report):
        monkeypatch.setattr(module, "terminal_width", lambda: 80)
    shown = output(capsys, directory / "decoder", text)
    assert all(width(line) <= 80 for line in shown.splitlines())
    id_rows = [line.split()[1:] for line in shown.splitlines() if line.startswith("  id ")]
    assert [word for row in id_rows for word in row] == list(map(str, token_ids[:36]))
    assert f"(the first 31 and 31 of {len(token_ids)} and {len(token_ids)})" in shown


def test_the_built_in_teacher_is_the_default(capsys):
    assert "␣lantern" in output(capsys, "Mara took the lantern")


def test_an_encoder_fills_in_what_is_masked(directory, capsys):
    shown = output(capsys, directory / "encoder", "the [MASK] saw the [MASK]")
    logits = trace(generic_model(ENCODER, dtype=np.float32), [[0, 4, 3, 0, 4]])["logits"][0]
    for place in (1, 4):
        section = shown.partition(f"Most probable tokens at position {place}:")[2]
        for percentage in likely(logits[place]):
            assert percentage in section
    assert "at position 0" not in shown


def test_encoders_without_a_mask_or_without_a_head(directory, capsys):
    assert "Write [MASK] in the text" in output(capsys, directory / "encoder", "the cat")
    assert "predicts no tokens" in output(capsys, directory / "sentences", "the [MASK]")


@pytest.mark.parametrize("target", [None, "dog saw the"])
def test_an_encoder_decoder(directory, capsys, target):
    options = [] if target is None else ["--target", target]
    shown = output(capsys, directory / "both", "the cat saw", "--layer", 1, "--head", 2, *options)
    model = generic_model(ENCODER_DECODER, dtype=np.float32)
    if target is None:
        written = generate(model, [[0, 1, 3]], 8, stop_tokens=(1,))[0].tolist()
        written = written[: written.index(1)] if 1 in written else written
    else:
        written = [2, 3, 0]
    steps = trace(model, [[0, 1, 3]], decoder_token_ids=[[0, *written]])
    read = shown.partition("Decoder input:")[2]
    id_row = next(line for line in read.splitlines() if line.startswith("  id "))
    assert [int(word) for word in id_row.split()[1:]] == [0, *written]
    for name in ("encoder_attentions.1", "decoder_attentions.1", "cross_attentions.1"):
        assert f"{name}, head 2:" in shown
    for percentage in likely(steps["logits"][0, -1]):
        assert percentage in shown.partition("next tokens:")[2]


@pytest.mark.parametrize("place", [0, 3])
def test_what_an_encoder_decoder_ends_with_is_not_read(tmp_path, capsys, place):
    model = generic_model(ENCODER_DECODER, dtype=np.float32)
    written = generate(model, [[0, 1, 3]], 8)[0].tolist()
    end = written[place]
    save(tmp_path / "model", model.replace(config=replace(ENCODER_DECODER, eos_token_id=end)), WHOLE_WORDS)
    shown = output(capsys, tmp_path / "model", "the cat saw")
    id_row = next(line for line in shown.partition("Decoder input:")[2].splitlines() if line.startswith("  id "))
    assert [int(word) for word in id_row.split()[1:]] == [0, *written[: written.index(end)]]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["decoder", ""], ["'' has no tokens"]),
        (["decoder", "a", "--layer", "3"], ["--layer is 3, expected 0 to 2"]),
        (["decoder", "a", "--layer", "-1"], ["--layer is -1"]),
        (["decoder", "a", "--head", "4"], ["--head is 4, expected 0 to 3"]),
        (["decoder", "a", "--head", "one"], ["--head"]),
        (["decoder", TEXT], ["longer than the model's context of 40"]),
        (["decoder", "caf\udce9"], ["not UTF-8"]),
        (["decoder", "a", "--target", "b"], ["--target is for encoder-decoders"]),
        (["encoder", "the " * 21], ["longer than the model's context of 20"]),
        (["both", "the", "--layer", "2"], ["expected 0 to 1"]),  # the decoder has a third layer, the encoder not
        (["both", "the", "--target", ""], ["'' has no tokens"]),
    ],
)
def test_bad_input(directory, capsys, arguments, parts):
    assert run("trace", directory / arguments[0], *arguments[1:]) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, *parts)
    assert captured.out == ""


def test_bad_models(tmp_path, capsys):
    assert run("trace", tmp_path / "nothing", "a") == 2
    assert_one_line(capsys.readouterr(), "nothing: no such directory")
    save(tmp_path / "bare", DECODER)
    assert run("trace", tmp_path / "bare", "a") == 2
    assert_one_line(capsys.readouterr(), "bare: has no tokenizer.json")
    assert run("trace") == 2
    assert_one_line(capsys.readouterr(), "TEXT")

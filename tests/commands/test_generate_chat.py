"""tinyslm generate: --chat, --no-special-tokens and --logprobs."""

import numpy as np
import pytest

from tests.commands.chat_models import END, MODEL, TOKENIZER, prompt_of, save_chat_model
from tests.commands.encoders import save_encoder
from tests.commands.files import assert_one_line, output, run, write_text
from tests.text.rendering import render_here
from tinyslm import generate, generate_with_log_probabilities
from tinyslm.reporting.plain_text import width

QUESTION, OTHER = "The old cat", "dog"


@pytest.fixture(autouse=True)
def rendered_here(monkeypatch):
    monkeypatch.setattr("tinyslm.text.chat_template.render_template", render_here)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_chat_model(tmp_path_factory.mktemp("models") / "model")


def written(prompt, tokens=8, **options):
    return generate(MODEL, [prompt], tokens, **options)[0].tolist()


def test_only_the_answer_is_printed(directory, capsys):
    wanted = TOKENIZER.decode(written(prompt_of(QUESTION)))
    assert output(capsys, QUESTION, "--model", directory, "--tokens", 8, "--chat") == wanted + "\n"


def test_a_message_of_the_system(directory, capsys):
    text = f"<|system|>shy<|end|><|user|>{QUESTION}<|end|><|assistant|>"
    row = written(TOKENIZER.encode(text, add_special_tokens=False).ids)
    shown = output(capsys, QUESTION, "--model", directory, "--tokens", 8, "--chat", "--system", "shy")
    assert shown == TOKENIZER.decode(row) + "\n"


def test_several_messages_and_the_end_of_a_turn(directory, capsys):
    """Each is a conversation of its own. Rows are drawn one after the other, so they are those of a batch."""
    prompts = [prompt_of(QUESTION), prompt_of(OTHER)]
    longest = max(map(len, prompts))
    token_ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    options = {"temperature": 9.0, "seed": 43, "attention_mask": np.array(mask), "stop_tokens": (0, END)}
    rows = generate(MODEL, np.array(token_ids), 20, **options).tolist()
    assert END in rows[0][1:] and 0 not in rows[0]
    texts = [TOKENIZER.decode([token for token in row if token not in (0, END)]) for row in rows]
    options = ["--model", directory, "--tokens", 20, "--chat", "--temperature", 9, "--seed", 43]
    assert output(capsys, QUESTION, OTHER, *options) == "".join(f"{text}\n\n" for text in texts)


def test_a_template_of_a_file(directory, tmp_path, capsys):
    path = write_text(tmp_path, "{{ messages[-1].content }}", "mine.jinja")
    row = written(TOKENIZER.encode(QUESTION, add_special_tokens=False).ids)
    shown = output(capsys, QUESTION, "--model", directory, "--tokens", 8, "--chat", "--template", path)
    assert shown == TOKENIZER.decode(row) + "\n"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["a", "--system", "b"], ["--system and --template", "--chat"]),
        (["a", "--template", "b"], ["--system and --template", "--chat"]),
        (["bad", "--chat"], ["refuses the conversation: no bad"]),
        (["a", "--chat", "--template", "none"], ["none: cannot be read"]),
        (["a" * 200, "--chat"], ["longer than the model's context of 60"]),
        (["caf\udce9", "--chat"], ["not UTF-8"]),
    ],
)
def test_bad_input(directory, capsys, arguments, parts):
    assert run("generate", *arguments, "--model", directory) == 2
    captured = capsys.readouterr()
    assert_one_line(captured, *parts)
    assert captured.out == ""


def test_models_that_cannot_chat(tmp_path, capsys):
    assert run("generate", "a", "--chat") == 2
    assert_one_line(capsys.readouterr(), "teacher: has no chat template", "--template FILE")
    save_encoder(tmp_path / "encoder")
    assert run("generate", "a", "--chat", "--model", tmp_path / "encoder") == 2
    assert_one_line(capsys.readouterr(), "a chat needs a decoder")


def test_a_prompt_without_special_tokens(directory, capsys):
    options = ["--model", directory, "--tokens", 8]
    for prompt in (QUESTION, "<|endoftext|>" + QUESTION):
        row = written(TOKENIZER.encode(prompt, add_special_tokens=False).ids)
        assert output(capsys, prompt, *options, "--no-special-tokens") == prompt + TOKENIZER.decode(row) + "\n"


def test_a_doubled_first_token_is_reported(directory, capsys):
    prompt, options = "<|endoftext|>" + QUESTION, ["--model", directory, "--tokens", 8]
    assert run("generate", QUESTION, prompt, prompt, *options) == 0
    captured = capsys.readouterr()
    assert_one_line(captured, "the prompt begins with '<|endoftext|>'", "adds another one", "--no-special-tokens")
    assert TOKENIZER.encode(prompt).ids[:2] == [0, 0]
    assert TOKENIZER.decode(written(TOKENIZER.encode(prompt).ids)) in captured.out


def test_a_token_that_the_text_itself_repeats_is_not_reported(tmp_path, capsys):
    """A tokenizer that adds nothing, or a token after the text."""
    from tokenizers.processors import TemplateProcessing

    for single in ("$A", "$A <|end|>"):
        directory = save_chat_model(tmp_path / f"model{len(single)}")
        tokenizer = TOKENIZER.from_str(TOKENIZER.to_str())
        tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=[("<|end|>", END)])
        tokenizer.save(str(directory / "tokenizer.json"))
        prompt = "<|user|><|user|>The"
        assert tokenizer.encode(prompt).ids[0] == tokenizer.encode(prompt).ids[1]
        assert output(capsys, prompt, "--model", directory, "--tokens", 1).startswith(prompt)


def table(text):
    """The cells of a printed table, without its last line, and that line."""
    *lines, last = text.rstrip("\n").split("\n")
    return [line.split() for line in lines[1:]], last


def test_the_log_probability_of_each_token(directory, capsys):
    found = generate_with_log_probabilities(MODEL, [TOKENIZER.encode(QUESTION).ids], 8)
    options = ["--model", directory, "--tokens", 8]
    plain = output(capsys, QUESTION, *options)
    shown = output(capsys, QUESTION, *options, "--logprobs")
    text, _, below = shown.partition("\n\n")
    assert text + "\n" == plain
    cells, last = table(below)
    values = found.log_probabilities[0]
    assert [row[1:] for row in cells] == [[f"{value:.4f}", f"{np.exp(value):.2%}"] for value in values]
    assert last == f"sum {values.sum():.4f} nats, mean {values.mean():.4f} nats per token (8 tokens)"


def test_log_probabilities_when_sampled(directory, capsys):
    options = {"temperature": 1.5, "top_k": 1, "seed": 4}
    found = generate_with_log_probabilities(MODEL, [TOKENIZER.encode(QUESTION).ids], 8, **options)
    arguments = ["--temperature", 1.5, "--top-k", 1, "--seed", 4, "--tokens", 8, "--logprobs"]
    cells, _ = table(output(capsys, QUESTION, "--model", directory, *arguments).partition("\n\n")[2])
    assert [row[1:] for row in cells] == [[f"{it:.4f}", f"{np.exp(it):.2%}", "0.0000"] for it in found[1][0]]


@pytest.mark.parametrize("stops", [False, True])
def test_the_tables_of_a_batch_end_with_their_texts(directory, tmp_path, capsys, stops):
    """At the end token, or with the token that completes a stop text."""
    rows = [written(TOKENIZER.encode(text).ids) for text in (QUESTION, OTHER)]
    if stops:
        stop = TOKENIZER.decode(rows[0][2:4])[-1]
        model, options = directory, ["--stop", stop]
        counts = [next((n for n in range(1, 8) if stop in TOKENIZER.decode(row[:n])), 8) for row in rows]
    else:
        end = rows[0][3]
        model, options = save_chat_model(tmp_path / "model", eos_token_id=end), []
        counts = [row.index(end) + 1 if end in row else 8 for row in rows]
    shown = output(capsys, QUESTION, OTHER, "--model", model, "--tokens", 8, "--logprobs", *options)
    summaries = [line for line in shown.split("\n") if line.startswith("sum ")]
    assert [line.rpartition("(")[2] for line in summaries] == [f"{count} tokens)" for count in counts]
    assert counts[0] < 8


def test_the_table_fits_a_terminal(directory, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    arguments = ["--temperature", 1.5, "--seed", 4, "--tokens", 8, "--logprobs"]
    shown = output(capsys, QUESTION, "--model", directory, *arguments)
    assert max(map(width, shown.split("\n"))) <= 60

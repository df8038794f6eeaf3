"""Chat templates: the text that transformers renders, where a template is found, and what a damaged one gives."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tests.commands.files import TEXT
from tests.text.rendering import render_here
from tinyslm import CheckpointError, ConfigError, DataError, chat_prompt
from tinyslm.text import load_tokenizer, train_tokenizer
from tinyslm.text.chat_template import FILE, FOLDER, SETTINGS, SPECIAL_TOKENS, end_of_turn, find_chat_template
from tinyslm.text.chat_template import render_chat as render_found

TEMPLATES = Path(__file__).parent / "chat_templates"
EXPECTED = json.loads((TEMPLATES / "expected.json").read_text())
ASK = [{"role": "user", "content": "The cat"}]
TURN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"


def render_chat(tokenizer, messages, template=None, **variables):
    return render_found(find_chat_template(tokenizer, template), messages, **variables)


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer with a directory, and no template."""
    made = train_tokenizer(TEXT.split("\n\n"), 280)
    made.add_special_tokens(["<|user|>", "<|end|>", "<s>"])
    made.save(str(tmp_path / "tokenizer.json"))
    return load_tokenizer(tmp_path / "tokenizer.json")


@pytest.fixture
def rendered(monkeypatch):
    """The requests of templates, which are answered in this process."""
    requests = []

    def render(template, variables, source):
        requests.append((template, variables, source))
        return render_here(template, variables, source)

    monkeypatch.setattr("tinyslm.text.chat_template.render_template", render)
    return requests


@pytest.mark.parametrize("name", sorted({case["template"] for case in EXPECTED["cases"]}))
def test_the_text_is_that_of_transformers(tokenizer, rendered, name):
    template = (TEMPLATES / f"{name}.jinja").read_text()
    tokenizer.special_tokens = EXPECTED["special_tokens"]
    for case in EXPECTED["cases"]:
        if case["template"] == name:
            messages = EXPECTED["conversations"][case["conversation"]]
            try:
                text = render_chat(tokenizer, messages, template=template, **case["options"])
            except DataError as error:
                text = None
                left_out = case["conversation"] == "other role" and "leaves out message 2" in str(error)
                assert left_out or case["text"] is None, case["conversation"]
            assert text in (case["text"], None), case["conversation"]


def test_variables_of_the_conversation_replace_nothing_and_special_tokens_are_replaced(tokenizer, rendered):
    tokenizer.special_tokens = {"bos_token": "<s>"}
    template = "{{ bos_token }} {{ x }} {{ tools is none }} {{ documents is none }} {{ add_generation_prompt }}"
    assert render_chat(tokenizer, ASK, template=template, x=3) == "<s> 3 True True True"
    assert render_chat(tokenizer, ASK, template=template, bos_token="b", tools=1) == "b  True True True"


def test_the_date_of_today(tokenizer, rendered):
    days = [f"{datetime.now():%d %b %Y}"]
    text = render_chat(tokenizer, ASK, template="{{ strftime_now('%d %b %Y') }}")
    assert text in [*days, f"{datetime.now():%d %b %Y}"]


def test_the_tokens_are_those_of_the_text_without_a_second_begin(tokenizer):
    """Through the process. The tokenizer puts its mark before other texts."""
    tokenizer.chat_template, tokenizer.special_tokens = "{{ bos_token }}" + TURN, {"bos_token": "<s>"}
    found = chat_prompt(tokenizer, [*ASK, {"role": "assistant", "content": "é𝄞 <|end|>"}])
    text = "<s><|user|>The cat<|end|><|assistant|>é𝄞 <|end|><|end|>"
    assert found.shape[0] == 1 and found.dtype == np.int64
    assert found[0].tolist() == tokenizer.encode(text, add_special_tokens=False).ids
    assert found[0].tolist() != tokenizer.encode(text).ids


def write(directory, name, content):
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_places_of_a_template(tokenizer, rendered):
    """From the last to the first that is looked at."""
    directory = tokenizer.directory
    with pytest.raises(ConfigError, match=r"has no chat template .* tinyslm generate"):
        chat_prompt(tokenizer, ASK)
    write(directory, SETTINGS, {"chat_template": "settings"})
    assert render_chat(tokenizer, ASK) == "settings"
    write(directory, SETTINGS, {"chat_template": [{"name": n, "template": n} for n in ("tool_use", "default")]})
    assert render_chat(tokenizer, ASK) == "default"
    write(directory, FILE, "file")
    assert render_chat(tokenizer, ASK) == "file"
    write(directory, f"{FOLDER}/rag.jinja", "folder")
    assert render_chat(tokenizer, ASK) == "file"
    (directory / FILE).unlink()
    with pytest.raises(ConfigError, match=r"has several chat templates \('rag'\), none named default"):
        render_chat(tokenizer, ASK)
    tokenizer.chat_template = "attribute"
    assert render_chat(tokenizer, ASK) == "attribute"
    assert render_chat(tokenizer, ASK, template="argument") == "argument"


def test_special_tokens_of_the_files(tokenizer, rendered):
    directory = tokenizer.directory
    write(directory, FILE, "{{ bos_token }}|{{ eos_token }}|{{ image_token }}|{{ x_token }}|{{ pad_token }}")
    settings = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>", "image_token": "<i>"}
    write(directory, SETTINGS, settings | {"pad_token": None, "extra_special_tokens": {"x_token": "<x>"}})
    assert render_chat(tokenizer, ASK) == "<s>|</s>|<i>|<x>|"
    write(directory, SPECIAL_TOKENS, {"eos_token": {"content": "<e>"}, "pad_token": "<p>"})
    assert render_chat(tokenizer, ASK) == "<s>|<e>|<i>|<x>|<p>"
    write(directory, SETTINGS, settings | {"added_tokens_decoder": {}})  # written by newer versions: complete
    assert render_chat(tokenizer, ASK) == "<s>|</s>|<i>||"


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (TURN, ["<|end|>"]),
        (TURN.replace("<|end|>", " \n<|end|>\n"), ["<|end|>"]),
        (TURN.replace("<|end|>", "\n"), []),
        (TURN.replace("<|end|>", "."), []),
        ("{{ messages[0].content }}", []),
        ("{{ raise_exception('no') }}", []),
    ],
)
def test_the_token_that_ends_an_answer(tokenizer, rendered, template, ends):
    assert [tokenizer.id_to_token(token) for token in end_of_turn(tokenizer, template)] == ends


ENDS = {"chatml": "<|im_end|>", "gemma": "<end_of_turn>", "llama3": "<|eot_id|>", "mistral": "</s>", "phi3": "<|end|>"}
ENDS |= {"qwen2": "<|im_end|>", "qwen3": "<|im_end|>", "smollm3": "<|im_end|>", "tinyllama": "</s>", "zephyr": "</s>"}


@pytest.mark.parametrize(("name", "end"), ENDS.items())
def test_the_token_that_ends_an_answer_of_each_kind(tokenizer, rendered, name, end):
    tokenizer.add_special_tokens(sorted({*ENDS.values(), "<|im_start|>"}))
    tokenizer.special_tokens = EXPECTED["special_tokens"]
    assert end_of_turn(tokenizer, (TEMPLATES / f"{name}.jinja").read_text()) == (tokenizer.token_to_id(end),)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "The cat",
        {"role": "user", "content": "a"},
        None,
        ["a"],
        [{"content": "a"}],
        [{"role": 1, "content": "a"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": ["a"]}],
        [{"role": "user", "content": [{"type": "image"}]}],
    ],
)
def test_messages_that_are_no_conversation(tokenizer, messages):
    with pytest.raises(DataError, match=r"messages? .*, expected "):
        chat_prompt(tokenizer, messages, template=TURN)


def test_a_message_that_json_cannot_hold(tokenizer):
    with pytest.raises(DataError, match="the messages cannot be given to a chat template"):
        chat_prompt(tokenizer, [ASK[0] | {"image": object()}], template=TURN)


def test_a_template_without_text(tokenizer, rendered):
    (tokenizer.directory / FILE).write_text("{# nothing #}")
    with pytest.raises(DataError, match=rf"{FILE}: the chat template gives no text"):
        chat_prompt(tokenizer, ASK)


def test_a_role_that_the_template_leaves_out(tokenizer, rendered):
    template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    assert render_chat(tokenizer, [*ASK, {"role": "assistant", "content": "dog"}], template=template) == "The cat"
    with pytest.raises(DataError, match=r"leaves out message 2 of the role 'usr'; use one of system, "):
        render_chat(tokenizer, [*ASK, {"role": "usr", "content": "dog"}], template=template)
    assert render_chat(tokenizer, [{"role": "critic", "content": "dog"}], template=TURN) == "<|critic|>dog<|end|>"


WRONG_TEMPLATES = ["3", '["a"]', '[{"name": "default"}]', '[{"name": 1, "template": "a"}]', '{"default": "a"}']


@pytest.mark.parametrize("settings", ["{", "[]", "\xff", "", *(f'{{"chat_template": {it}}}' for it in WRONG_TEMPLATES)])
def test_damaged_settings(tokenizer, settings):
    (tokenizer.directory / SETTINGS).write_bytes(settings.encode("latin-1"))
    with pytest.raises(CheckpointError, match=SETTINGS) as error:
        chat_prompt(tokenizer, ASK)
    assert "\n" not in str(error.value)


def test_damaged_files(tokenizer):
    path = tokenizer.directory / FILE
    path.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=f"{FILE}: is not UTF-8 text"):
        chat_prompt(tokenizer, ASK)
    path.write_bytes(b"a" * 1_000_001)
    with pytest.raises(CheckpointError, match=f"{FILE}: has more than 1000000 bytes"):
        chat_prompt(tokenizer, ASK)
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match=f"{FILE}: is a directory"):
        chat_prompt(tokenizer, ASK)

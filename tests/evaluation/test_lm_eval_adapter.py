"""Own questions and the adapter give the numbers of lm-evaluation-harness with transformers (`harness/make.py`)."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.commands.files import run
from tinyslm.errors import ConfigError
from tinyslm.evaluation.lm_eval_adapter import HarnessModel, rolling_pairs
from tinyslm.load_save import load

HARNESS = Path(__file__).parent / "harness"
EXPECTED = json.loads((HARNESS / "expected.json").read_text("utf-8"))
MODEL, TOKENIZER = load(HARNESS / "model")
ADAPTER = HarnessModel(MODEL, TOKENIZER)


def requests(name):
    return [SimpleNamespace(args=tuple(each["args"])) for each in EXPECTED[name]]


@pytest.mark.parametrize(
    "task", EXPECTED["tasks"], ids=[f"{each['format']}-{each['shots']}" for each in EXPECTED["tasks"]]
)
def test_own_questions(tmp_path, task):
    """Accuracies, standard errors, and the log-probability of every option, with and without examples."""
    out = tmp_path / "out.json"
    files = ("--questions", HARNESS / "questions.jsonl", "--examples", HARNESS / "examples.jsonl", "--json", out)
    assert run("evaluate", HARNESS / "model", *files, "--format", task["format"], "--shots", task["shots"]) == 0
    found = json.loads(out.read_text("utf-8"))
    for name in ("acc", "acc_norm") if task["format"] == "text" else ("acc",):
        assert found[name]["accuracy"] == task[name]
        assert found[name]["standard_error"] == pytest.approx(task[f"{name}_stderr"], rel=1e-12)
    for answer, wanted, correct in zip(found["answers"], task["log_probabilities"], task["correct"], strict=True):
        np.testing.assert_allclose(answer["log_probabilities"], wanted, rtol=1e-5)
        assert [answer["chosen"] == answer["answer"], answer["chosen_by_length"] == answer["answer"]] == correct


def test_the_questions_tell_the_scores_apart():
    """Each is right and wrong somewhere, they differ, and some prompts are cut."""
    correct = np.array(
        [each["correct"] for each in EXPECTED["tasks"] if each["format"] == "text"]
    )  # (tasks, questions, 2)
    assert 0 < correct[..., 0].mean() < 1 and (correct[..., 0] != correct[..., 1]).any()
    assert (
        len(TOKENIZER.encode((HARNESS / "examples.jsonl").read_text("utf-8")).ids)
        > MODEL.config.max_position_embeddings
    )


def test_pairs():
    for (score, greedy), each in zip(ADAPTER.loglikelihood(requests("pairs")), EXPECTED["pairs"], strict=True):
        assert score == pytest.approx(each["found"][0], rel=1e-5) and greedy == each["found"][1]


def test_texts_in_windows():
    """One of them has no text, two are longer than the context."""
    wanted = [each["found"] for each in EXPECTED["texts"]]
    np.testing.assert_allclose(ADAPTER.loglikelihood_rolling(requests("texts")), wanted, rtol=1e-5)


def test_generation():
    """With stop texts, up to a number of tokens, after a prompt that is cut."""
    assert ADAPTER.generate_until(requests("prompts")) == [each["found"] for each in EXPECTED["prompts"]]


@pytest.mark.parametrize("length", [0, 1, 4, 5, 8, 9])
def test_windows_predict_every_token_once_with_as_much_context_as_fits(length):
    pairs = rolling_pairs(range(10, 10 + length), 0, 4)
    assert [token for _, predicted in pairs for token in predicted] == list(range(10, 10 + length))
    whole = [0, *range(10, 10 + length)]
    for context, predicted in pairs:
        inputs = [*context, *predicted[:-1]]
        stop = whole.index(predicted[-1])
        assert inputs == whole[max(stop - 4, 0) : stop]


def test_settings_of_a_generation():
    def generated(**settings):
        (text,) = ADAPTER.generate_until([SimpleNamespace(args=("Frozen", settings))])
        return text

    whole = generated(max_gen_toks=20)
    assert generated(max_new_tokens=20, until=None) == generated(max_tokens=20, temperature=0.0) == whole
    assert whole.startswith(generated(max_completion_tokens=5)) and len(generated(max_completion_tokens=5)) < len(whole)
    assert generated(max_gen_toks=20, do_sample=False, temperature=2.0) == whole
    sampled = generated(max_gen_toks=20, temperature=2.0, top_k=50)
    assert sampled != whole and sampled == generated(max_gen_toks=20, temperature=2.0, do_sample=True, top_k=50)
    stop = whole[3:5]
    assert (
        generated(max_gen_toks=20, until=stop) == generated(max_gen_toks=20, until=["", stop]) == whole.split(stop)[0]
    )
    with pytest.raises(ConfigError, match="generation with length_penalty, num_beams is not supported"):
        generated(num_beams=2, length_penalty=1)
    with pytest.raises(ConfigError, match="80 new tokens leave no room for a prompt in a context of 80"):
        generated(max_gen_toks=80)


def test_models_that_the_harness_cannot_use():
    with pytest.raises(ConfigError, match=r"needs a decoder .* with its tokenizer"):
        HarnessModel(MODEL)
    with pytest.raises(ConfigError, match="needs a decoder"):
        HarnessModel(SimpleNamespace(), TOKENIZER)


def test_a_model_is_loaded_by_its_name():
    """The settings of the harness for other libraries have no effect."""
    adapter = HarnessModel(str(HARNESS / "model"), batch_size=4, device="cpu")
    assert adapter.loglikelihood(requests("pairs")) == ADAPTER.loglikelihood(requests("pairs"))
    assert adapter.tokenizer_name == str(HARNESS / "model").replace("/", "__")


def test_chats_are_rendered_by_the_template_of_the_model():
    tokenizer = load(HARNESS / "model")[1]
    tokenizer.chat_template = (
        "<s>{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ add_generation_prompt }}"
    )
    text = HarnessModel(MODEL, tokenizer).apply_chat_template([{"role": "user", "content": "Hi"}])
    assert text == "<s>user: Hi\nTrue"

"""tinyslm evaluate --questions FILE: what it prints and writes, and one line for what cannot be judged."""

import json

import numpy as np
import pytest

from tests.commands.encoders import save_encoder
from tests.commands.files import assert_one_line, run
from tinyslm.checkpoints import save_model
from tinyslm.evaluation.option_scores import accuracy, score_questions
from tinyslm.load_save import load
from tinyslm.models import random_model
from tinyslm.models.tiny_shapes import llama_shape
from tinyslm.text import train_tokenizer
from tinyslm.text.document_marks import document_marks
from tinyslm.text.questions import read_questions

TEXTS = [f"Question: How many apples are {n} and {n + 1}?\nAnswer: {2 * n + 1}" for n in range(60)]
RECORDS = [
    {
        "question": f"How many are {n} and {n + 1}?",
        "options": [f"{2 * n}", f"{2 * n + 1}", f"{9 * n + 100} or so"][: 2 + n % 2],
    }
    | {"answer": 1, "subject": "even" if n % 2 == 0 else "odd"}
    for n in range(9)
]
CONTEXT = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a random model that records no text, questions, and one question alone."""
    place = tmp_path_factory.mktemp("judged")
    model = random_model(llama_shape(280, 16, 32, 1, 2, 2, CONTEXT, end_id=0), 3)
    save_model(place / "model", model, train_tokenizer(TEXTS, 280))
    write(place / "quiz.jsonl", *RECORDS)
    write(place / "one.jsonl", RECORDS[0])
    return place


def write(path, *records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def evaluate(place, *arguments):
    return run("evaluate", place / "model", "--questions", *arguments)


def scored(place, name="quiz.jsonl", skipped=0, **options):
    model, tokenizer = load(place / "model")
    questions = read_questions(place / name)[skipped:]
    return score_questions(model, tokenizer, questions, document_marks(tokenizer), **options)


@pytest.mark.parametrize("style", ["text", "letters"])
def test_accuracies_are_printed_and_written(place, tmp_path, capsys, style):
    capsys.readouterr()
    out = tmp_path / "out.json"
    assert evaluate(place, place / "quiz.jsonl", "--format", style, "--json", out) == 0
    printed, answers = capsys.readouterr().out.splitlines(), scored(place, style=style)
    results = {"acc": accuracy(answers)} | ({"acc_norm": accuracy(answers, by_length=True)} if style == "text" else {})
    assert printed[0] == f"quiz.jsonl: 9 questions, 2 to 3 options; {style} format, 0 examples"
    assert printed[1].split() == ["correct", "95", "%", "interval", "standard", "error"]
    for line, (name, result) in zip(printed[2:], results.items(), strict=False):
        numbers = [result.accuracy, *result.interval(), result.standard_error]
        first, low, high, error = (f"{100 * number:.1f}" for number in numbers)
        assert line.split() == [name, first, "%", low, "%", "to", high, "%", error, "%"]
    rest = printed[2 + len(results) :]
    assert rest[0].split() == ["chance", f"{100 * (5 / 2 + 4 / 3) / 9:.1f}", "%"]
    assert rest[2].split() == ["subject", "questions", *results]
    for line, subject in zip(rest[3:], ("even", "odd"), strict=True):
        shares = [f"{100 * result.by_subject()[subject]:.1f}" for result in results.values()]
        assert line.replace("%", "").split() == [subject, "5" if subject == "even" else "4", *shares]
    record = json.loads(out.read_text())
    assert [record[key] for key in ("format", "shots", "asked")] == [style, 0, 9]
    assert record["model"] == str(place / "model") and record["questions"] == str(place / "quiz.jsonl")
    for name, result in results.items():
        assert (record[name]["low"], record[name]["high"]) == result.interval()
        assert [record[name][key] for key in ("accuracy", "standard_error")] == [result.accuracy, result.standard_error]
    for answer, wanted in zip(record["answers"], answers, strict=True):
        assert answer["log_probabilities"] == list(wanted.log_probabilities) and answer["answer"] == 1
        assert answer["chosen"] == int(np.argmax(wanted.log_probabilities)) == wanted.chosen
        by_length = np.array(wanted.log_probabilities) / wanted.characters
        assert answer["chosen_by_length"] == int(np.argmax(by_length)) == wanted.chosen_by_length


def test_the_score_by_length_differs(place):
    """Otherwise the tests above would not tell the two apart."""
    answers = scored(place)
    assert any(each.chosen != each.chosen_by_length for each in answers)
    assert [each.characters for each in answers] == [tuple(map(len, record["options"])) for record in RECORDS]
    assert [each.characters for each in scored(place, style="letters")] == [(1,) * len(r["options"]) for r in RECORDS]


def test_examples_of_the_same_file_are_not_judged(place, tmp_path, capsys):
    capsys.readouterr()
    out = tmp_path / "out.json"
    assert evaluate(place, place / "quiz.jsonl", "--shots", 1, "--json", out) == 0
    captured = capsys.readouterr()
    assert "quiz.jsonl: 8 questions, 2 to 3 options; text format, 1 example\n" in captured.out
    record, wanted = json.loads(out.read_text()), scored(place, skipped=1, examples=read_questions(place / "one.jsonl"))
    assert [each["log_probabilities"] for each in record["answers"]] == [list(w.log_probabilities) for w in wanted]
    cut = sum(each["is_cut"] for each in record["answers"])
    assert 0 < cut == sum(each.is_cut for each in wanted)
    message = f"{cut} of 8 prompts exceed the model's context of {CONTEXT} tokens; their beginning was left out"
    assert captured.err.splitlines()[-1] == f"tinyslm: {message}"


def test_examples_of_another_file(place, tmp_path, capsys):
    """All of them, or the first ones. All questions are judged."""
    out = tmp_path / "out.json"
    for options, shots in (((), 9), (("--shots", 2), 2), (("--shots", 0), 0)):
        arguments = ("--examples", place / "quiz.jsonl", *options, "--json", out)
        assert evaluate(place, place / "one.jsonl", *arguments) == 0
        record, examples = json.loads(out.read_text()), read_questions(place / "quiz.jsonl")[:shots]
        (wanted,) = scored(place, "one.jsonl", examples=examples)
        assert record["shots"] == shots and record["answers"][0]["log_probabilities"] == list(wanted.log_probabilities)
    printed = capsys.readouterr().out
    assert "one.jsonl: 1 question, 2 options; text format, 9 examples" in printed and "subject" not in printed
    assert "–" in printed  # the standard error of one question


def test_loss_and_questions_together(place, tmp_path, capsys):
    """A text that is given is measured too; the exam of the built-in corpus is not taken."""
    (tmp_path / "text.txt").write_text("\n\n".join(TEXTS))
    for text in (tmp_path / "text.txt", "town"):
        capsys.readouterr()
        assert evaluate(place, place / "one.jsonl", "--text", text, "--town-documents", 20) == 0
        printed = capsys.readouterr().out
        assert "one.jsonl: 1 question" in printed and "nats per token" in printed and "\nexam" not in printed


REFUSED = {
    "no such file": (("NONE.csv",), "NONE.csv: cannot be read"),
    "a damaged line": (("BAD.jsonl",), "BAD.jsonl, line 2: answer is 7, expected an index from 0 to 1"),
    "another kind of file": (("quiz.txt",), "expected a file with questions named .jsonl, .json or .csv"),
    "too few examples": (
        ("one.jsonl", "--examples", "quiz.jsonl", "--shots", 10),
        "--shots is 10, but",
        "has 9 questions",
    ),
    "nothing left": (("quiz.jsonl", "--shots", 9), "--shots is 9, but", "at least one more must remain to be judged"),
    "more than there are": (("quiz.jsonl", "--shots", 10), "--shots is 10, but", "has 9 questions; at least one more"),
    "below 0": (("quiz.jsonl", "--shots", -1), "--shots is -1, expected at least 0"),
    "another score": (("quiz.jsonl", "--per-token"), "--per-token is for the exam", "acc_norm is the score by length"),
    "shots of the exam": ((3, "--shots", 1), "--shots can only be used with --questions FILE"),
    "format of the exam": ((3, "--format", "text"), "--format can only be used with --questions FILE"),
    "an option that is too long": (
        ("LONG.jsonl",),
        "LONG.jsonl, line 1: option B has",
        f"reads at most {CONTEXT}; short",
    ),
    "an option without tokens": (("GONE.jsonl",), "GONE.jsonl, line 1: option A has no tokens of its own after"),
}


@pytest.mark.parametrize(("arguments", "messages"), [(a, m) for a, *m in REFUSED.values()], ids=REFUSED)
def test_what_cannot_be_judged_is_one_line(place, capsys, monkeypatch, arguments, messages):
    monkeypatch.chdir(place)
    write(place / "BAD.jsonl", RECORDS[0], RECORDS[0] | {"answer": 7})
    write(place / "LONG.jsonl", RECORDS[0] | {"options": ["a", "b " * 40]})
    write(place / "GONE.jsonl", RECORDS[0])
    if arguments[0] == "GONE.jsonl":
        monkeypatch.setattr("tinyslm.evaluation.option_scores.encode_pair", lambda *options: ([1], []))
    capsys.readouterr()
    assert evaluate(place, *arguments) == 2
    assert_one_line(capsys.readouterr(), *messages)


def test_other_models_are_refused(place, tmp_path, capsys):
    save_encoder(tmp_path / "encoder")
    capsys.readouterr()
    assert run("evaluate", tmp_path / "encoder", "--questions", place / "quiz.jsonl") == 2
    assert_one_line(capsys.readouterr(), "is a bert model, but", "needs a decoder")


def test_a_model_that_is_not_finite(place, tmp_path, capsys):
    model, tokenizer = load(place / "model")
    model.layers[0].attention.query.weight[0, 0] = np.nan
    save_model(tmp_path / "broken", model, tokenizer)
    capsys.readouterr()
    assert run("evaluate", tmp_path / "broken", "--questions", place / "quiz.jsonl") == 2
    assert_one_line(capsys.readouterr(), "the tensor model.layers.0.self_attn.q_proj.weight holds nan")

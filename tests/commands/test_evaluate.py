"""tinyslm evaluate and tinyslm corpus: what they print is what the library measures."""

import re

import pytest

from tinyslm.cli import main
from tinyslm.evaluation import measure_loss
from tinyslm.load_save import load
from tinyslm.text import town
from tinyslm.text.corpus import town_corpus


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluate") / "model"
    arguments = ["--shape", "smallest", "--town-documents", "200", "--steps", "2", "--batch", "2"]
    assert main(["train", "--out", str(out), *arguments]) == 0
    return out


def test_evaluate_prints_loss_floor_and_exam(model_directory, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(model_directory), "--documents", "40", "--questions", "2"]) == 0
    printed = capsys.readouterr().out
    model, tokenizer = load(model_directory)
    corpus = town_corpus(tokenizer, 0, validation=40)
    assert f"loss   {measure_loss(model, corpus.validation).nats:.4f}" in printed
    assert f"floor  {corpus.floor.nats:.4f}" in printed and "entropy of the text" in printed
    for family in town.FAMILIES:
        assert len(re.findall(rf"^ +{family} ", printed, re.MULTILINE)) == 2  # its loss, and its part of the exam
    assert "% of 2" in printed


@pytest.mark.parametrize(
    "arguments, message", [(["--documents", "0"], "at least 1"), (["--questions", "-1"], "at least 0")]
)
def test_evaluate_refuses_odd_numbers(model_directory, capsys, arguments, message):
    capsys.readouterr()
    assert main(["evaluate", str(model_directory), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_corpus_prints_documents_with_their_probability(capsys):
    assert main(["corpus", "--split", "test", "--start", "5", "--count", "2"]) == 0
    printed = capsys.readouterr().out
    for family, text, log_probability in town.documents("test", 5, 2):
        assert f"[{family}, {-log_probability:.1f} nats]\n{text}\n" in printed

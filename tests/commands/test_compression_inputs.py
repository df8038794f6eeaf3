"""The inputs of compression runs: the prompt, and the record of the computer."""

import platform
import sys

import pytest

from tests.commands.files import TEXT, write_text
from tinyslm.commands import compression_inputs
from tinyslm.commands.compression_inputs import CompressionInputs, CompressionOptions, whole_words
from tinyslm.recipes import measure
from tinyslm.text.text_source import source_of_files


@pytest.mark.parametrize(
    ("start", "text", "prompt"),
    [
        ("The old cat sa", "The old cat saw", "The old cat"),
        ("The old cat", "The old cat saw", "The old cat"),
        ("The old cat ", "The old cat saw", "The old cat "),
        ("She left.", "She left. He", "She left."),
        ("a caf\ufffd", "a caf\u00e9", "a"),
        ("\u5727\u7e2e", "\u5727\u7e2e\u3055", "\u5727\u7e2e"),  # a script without spaces
        ("Donau", "Donaudampf", "Donau"),
        ("all of it", "all of it", "all of it"),
        ("\ufffd", "\u00e9", "\ufffd"),
    ],
)
def test_a_prompt_ends_with_a_whole_word(start, text, prompt):
    assert whole_words(start, text) == prompt


def test_the_prompt_of_the_text_of_a_user_and_the_record(tmp_path):
    documents = [f"{document} An uncharacteristically extraordinary afternoon." for document in TEXT.split("\n\n")]
    path = write_text(tmp_path, "\n\n".join(documents * 40))
    inputs = CompressionInputs(CompressionOptions("teacher", source_of_files([path])))
    assert any(document.startswith(inputs.prompt) for document in documents)
    assert set(inputs.prompt.split()) <= set(" ".join(documents).split())
    record = inputs.record()
    assert record["machine"] == platform.machine() and record["processor"] and record["blas"] and record["threads"]


def test_a_large_model_is_calibrated_and_measured_on_less_text(tmp_path, monkeypatch):
    path = write_text(tmp_path, "\n\n".join(f"{TEXT} {n}" for n in range(40)))
    options = CompressionOptions("teacher", source_of_files([path]))
    small = CompressionInputs(options)
    monkeypatch.setattr(compression_inputs, "is_large", lambda model: True)
    monkeypatch.setattr(compression_inputs, "LARGE_MODEL_VALIDATION", 300)
    large = CompressionInputs(options)
    assert small.calibration(0).statistics_documents == 64 and large.calibration(0).statistics_documents == 32
    tokens = [sum(len(document) - 1 for document in inputs.corpus.validation) for inputs in (small, large)]
    assert tokens[1] <= 600 < tokens[0]
    assert len(small.corpus.training) == len(large.corpus.training)


def test_the_losses_of_the_dense_model_are_computed_once_and_belong_to_it_alone(tmp_path, monkeypatch):
    path = write_text(tmp_path, "\n\n".join(f"The {n}th cat." for n in range(40)))
    inputs = CompressionInputs(CompressionOptions("teacher", source_of_files([path])))
    dense, copy = inputs.measure(inputs.model, inputs.dense_nats), inputs.measure(inputs.model.replace())
    assert dense[0]["loss"] == copy[0]["loss"] and dense[0]["change"]["nats"] == 0
    changed = inputs.model.replace(norm=inputs.model.norm.replace(weight=inputs.model.norm.weight / 2))
    assert inputs.measure(changed, inputs.dense_nats)[0]["change"]["nats"] != 0
    monkeypatch.setattr(
        sys.modules[measure.__module__], "document_nats", lambda *arguments: pytest.fail("computed a second time")
    )
    assert inputs.measure(inputs.model)[0] == dense[0]

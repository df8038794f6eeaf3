"""Sentences follow from the numbers: other numbers, other sentences."""

from dataclasses import MISSING, fields

from tests.reporting import results
from tinyslm.recipes import STEPS
from tinyslm.reporting.explanations import explanations
from tinyslm.reporting.page_figures import MARKS
from tinyslm.reporting.recipe_techniques import AUXILIARY, technique
from tinyslm.reporting.result_sentences import result_sentences
from tinyslm.reporting.step_descriptions import DESCRIPTIONS, describe_step


def text_of(given):
    return "\n".join(result_sentences(given))


def asked(given):
    return "\n".join(question for question, _ in explanations(given))


def test_smallest_fastest_and_too_close_to_call():
    text = text_of(results.plausible())
    assert "0.712 ±0.012 nats per token: 4.1 % above the entropy bound of 0.684" in text
    assert "“slice, distil, INT8”: 3.24 MB, 21 % of the dense file, with a loss 2.4 % above" in text
    assert "fastest model at generating text is “distilled student”: 1.86 times as fast" in text
    assert "No significant difference from the dense model's loss (95 %): “INT8 weights” (26 %" in text
    assert "drops most in the exam's subject “facts”" in text


def test_nothing_small_nothing_fast_nothing_close():
    given = results.plausible()
    for row in given["rows"][1:]:
        row["loss"]["nats"] *= 2
        row["change"]["nats"] = row["loss"]["nats"] - given["rows"][0]["loss"]["nats"]
        row["generation_speed"] = {"median": 10.0, "low": 9.0, "high": 11.0}
    text = text_of(given)
    assert "No compressed model with a smaller file" in text
    assert "None of the compressed models generates text measurably faster" in text
    assert "differs significantly from the dense model's (95 %)" in text


def test_a_loss_below_the_dense_one_and_below_the_floor_is_said_as_it_is():
    given = results.plausible()
    given["rows"][0]["loss"]["nats"] = 0.680
    assert "0.6 % below the entropy bound" in text_of(given)
    given["rows"][4]["loss"]["nats"] = 0.679
    (answer,) = [answer for question, answer in explanations(given) if "lower loss than the dense" in question]
    assert "“INT8 weights”" in answer and "may be chance" in answer and "more training" not in answer


def test_one_row_no_floor_no_exam_broken_numbers():
    assert "nothing was compressed" in text_of(results.one_row())
    assert asked(results.one_row()) == "How accurate are these numbers?"
    text = text_of(results.own_text())
    assert "entropy" not in text and "exam" not in text
    assert "The dense model's loss is 0.712 ±0.012 nats per token, or 0.411 bits per byte." in text
    assert "nan" not in text_of(results.worthless())
    text = text_of(results.one_document())
    assert "0.712 ±? nats" in text and "the standard errors of the losses are unknown" in text
    assert "the dense model's loss (95 %)" not in text
    given = results.plausible()
    given["rows"][0]["loss"]["nats"] = float("nan")
    assert text_of(given) == "The dense model's loss is not a number, so no model can be compared with it."


def test_questions_are_those_that_the_numbers_raise():
    text = asked(results.plausible())
    for part in (
        "“magnitude 50 %” save neither",
        "speedup of “INT8 weights” smaller",
        "“INT8 products” not faster",
        "two matrices",
    ):
        assert part in text
    given = results.plausible()
    given["rows"][5]["prompt_speed"] = {"median": 20_000.0, "low": 19_000.0, "high": 21_000.0}
    given["rows"][2]["memory_bytes"] = 8_000_000
    text = asked(given)
    assert "INT8 products" not in text and "magnitude" not in text


def settings_of(kind):
    """The settings that a step has by default, and any number for those that it needs."""
    return {
        field.name: {float: 0.5, int: 3}.get(field.type, (0, 2)) if field.default is MISSING else field.default
        for field in fields(kind)
    }


def test_every_step_is_put_into_words_with_and_without_its_settings():
    assert set(STEPS) == set(DESCRIPTIONS)
    for name, kind in STEPS.items():
        with_settings = describe_step({"step": name, "settings": settings_of(kind)}, 6)
        without = describe_step({"step": name, "settings": {}}, 6)
        for text in (with_settings, without):
            assert text.endswith(".") and not text[0].islower() and "None" not in text


def test_every_step_that_changes_what_a_model_is_made_of_is_a_technique():
    for name in set(STEPS) - set(AUXILIARY):
        assert technique({"steps": [{"step": name, "settings": {}}]}) in set(MARKS) - {"dense", "other", "combination"}


def test_a_step_in_words():
    assert "number 2, 4, 6" in describe_step({"step": "KeepLayers", "settings": {"layers": [1, 3, 5]}}, 6)
    assert describe_step({"step": "Polish", "settings": {"shine": 1}}, 6) == "Polish was applied."

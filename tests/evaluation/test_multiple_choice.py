"""The exam: options are scored by their exact probability, and the marks are those that the model deserves."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax

from tests.strategies import generic_model
from tinyslm.errors import DataError
from tinyslm.evaluation import ExamResult, take_exam
from tinyslm.evaluation.continuations import continuation_log_probabilities
from tinyslm.models import DecoderConfig
from tinyslm.ops import Rope
from tinyslm.text import town, train_tokenizer
from tinyslm.text.document_marks import DocumentMarks
from tinyslm.text.town import Question

END = 0
TOKENIZER = train_tokenizer([text for _, text, _ in town.documents("train", 0, 40)], 400)
MODEL = generic_model(DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, 30, ropes=(Rope(100.0, 6),) * 2))


def encode(text):
    return TOKENIZER.encode(text, add_special_tokens=False).ids


class Oracle:
    """Gives every next token of the known answer to a context nearly all the probability, and all tokens the same
    after a context that it does not know. Keeps the context in the cache, as an encoder-decoder keeps its source."""

    config = SimpleNamespace(max_position_embeddings=10_000, vocab_size=TOKENIZER.get_vocab_size())

    def __init__(self, answers):
        self.answers = {(END, *encode(context)): encode(answer) for context, answer in answers.items()}

    def hidden_states(self, token_ids, cache, length):
        """The logits."""
        logits = np.zeros((*token_ids.shape, TOKENIZER.get_vocab_size()), np.float32)
        is_context = not cache.source
        if is_context:
            cache.source[0] = (token_ids, token_ids)
            cache.advance(token_ids.shape[1])
        answer = self.answers.get(tuple(cache.source[0][0][0]), [])
        for place, token in enumerate(answer[:1] if is_context else answer[1:]):
            logits[:, -1 if is_context else place, token] = 50
        return logits

    def predict(self, states):
        return states


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1), (3, 1, 5, 2), (4, 4, 4, 4)])
def test_options_score_their_log_probability_after_the_context(lengths):
    rng = np.random.default_rng(sum(lengths))
    context = rng.integers(0, 23, 9).tolist()
    options = [rng.integers(0, 23, n).tolist() for n in lengths]
    sums, _ = continuation_log_probabilities(MODEL, context, options)
    for option, found in zip(options, sums, strict=True):
        whole = np.array([context + option])
        log_probabilities = log_softmax(MODEL(whole)[0], axis=-1)  # (T, V)
        expected = sum(log_probabilities[8 + i, token] for i, token in enumerate(option))
        assert found == pytest.approx(expected, rel=1e-12)


def test_one_that_knows_the_answers_has_them_all_right():
    questions = town.exam_questions(5)
    oracle = Oracle({question.context: question.options[question.answer] for question in questions})
    for per_token in (False, True):
        result = take_exam(oracle, TOKENIZER, questions, END, per_token=per_token)
        assert result.accuracy == 1
        assert result.asked == dict.fromkeys(town.FAMILIES, 5)


def test_one_that_believes_wrong_answers_has_none_right():
    questions = town.exam_questions(3)
    wrong = Oracle({question.context: question.options[question.answer - 1] for question in questions})
    assert take_exam(wrong, TOKENIZER, questions, END).accuracy == 0


def test_of_equal_options_the_first_is_taken_which_is_right_by_chance():
    """A model that knows nothing, and options of one digit each: a quarter, since right answers stand anywhere."""
    rng = np.random.default_rng(0)
    places = rng.permutation(np.repeat(np.arange(4), 10)).tolist()
    questions = [Question("digits", "one of", ("1", "2", "3", "4"), place) for place in places]
    result = take_exam(Oracle({}), TOKENIZER, questions, END)
    assert result.accuracy == 0.25
    assert result == take_exam(Oracle({}), TOKENIZER, questions, END, per_token=True)


def test_by_sum_short_options_are_favoured_and_per_token_they_are_not():
    questions = [Question("digits", "one of", ("12", "3", "4567", "8910"), place) for place in range(4)]
    assert take_exam(Oracle({}), TOKENIZER, questions, END).by_subject() == {"digits": 0.25}
    for per_token, answer in ((False, 1), (True, 0)):
        only = [questions[answer]]
        assert take_exam(Oracle({}), TOKENIZER, only, END, per_token=per_token).accuracy == 1


def test_a_context_that_is_too_long_is_cut_at_its_beginning():
    """MODEL reads 30 tokens: 28 of the context and, of an option of three, all but the last."""
    context, options = np.random.default_rng(0).integers(0, 23, 40).tolist(), [[3, 4], [5, 6, 7]]
    sums, _ = continuation_log_probabilities(MODEL, context, options)
    np.testing.assert_array_equal(sums, continuation_log_probabilities(MODEL, context[-28:], options)[0])


def test_a_context_begins_like_a_document():
    """The end mark of documents stands in no question."""
    questions = town.exam_questions(1)
    for begin in ((), (END, 7)):
        oracle = Oracle({})
        for question in questions:
            oracle.answers[(*begin, *encode(question.context))] = encode(question.options[question.answer])
        assert take_exam(oracle, TOKENIZER, questions, DocumentMarks(begin, (9,))).accuracy == 1


def test_an_empty_context_needs_a_token_before_it():
    question = Question("digits", "", ("1", "2", "3", "4"), 2)
    oracle = Oracle({"": "3"})
    assert take_exam(oracle, TOKENIZER, [question], END).accuracy == 1
    with pytest.raises(DataError, match="empty context, and no token of the tokenizer begins it"):
        take_exam(oracle, TOKENIZER, [question], DocumentMarks((), (END,)))


def test_marks_are_counted_by_subject():
    questions = town.exam_questions(2)
    known = {q.context: q.options[q.answer] for q in questions if q.subject == "facts"}
    known |= {q.context: q.options[q.answer - 1] for q in questions if q.subject != "facts"}
    result = take_exam(Oracle(known), TOKENIZER, questions, END)
    assert result.correct == {subject: 2 * (subject == "facts") for subject in town.FAMILIES}
    assert result.by_subject() == {subject: float(subject == "facts") for subject in town.FAMILIES}


@pytest.mark.parametrize(("right", "asked"), [(0, 7), (7, 7), (3, 40), (180, 200), (1, 1)])
def test_the_interval_is_wilsons(right, asked):
    result = ExamResult({"a": right // 2, "b": right - right // 2}, {"a": asked // 2, "b": asked - asked // 2})
    expected = stats.binomtest(right, asked).proportion_ci(confidence_level=0.95, method="wilson")
    found = result.interval(stats.norm.ppf(0.975))
    np.testing.assert_allclose(found, (expected.low, expected.high), atol=1e-12)
    np.testing.assert_allclose(result.interval(), found, atol=1e-4)

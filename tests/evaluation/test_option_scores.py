"""Scores of options in an exam: at the limit of the context, with options of every length, in both precisions."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import log_softmax

from tests.strategies import generic_model
from tinyslm.evaluation import take_exam
from tinyslm.evaluation.continuations import continuation_log_probabilities
from tinyslm.models import DecoderConfig
from tinyslm.ops import Rope

CONTEXT = 12
CONFIG = DecoderConfig("test", 23, 10, 14, 2, 4, 2, 6, CONTEXT, ropes=(Rope(100.0, 6),) * 2)
MODEL = generic_model(CONFIG)


def by_definition(model, context, option):
    """The sum of the log-probabilities of the option's tokens. The last token is not an input."""
    log_probabilities = log_softmax(model(np.array([[*context, *option[:-1]]]))[0].astype(np.float64), axis=-1)
    return sum(log_probabilities[len(context) - 1 + i, token] for i, token in enumerate(option))


@pytest.mark.parametrize("lengths", [(1, 1), (2, 1), (2, 2), (3, 1, 2), (CONTEXT, 1), (CONTEXT - 1, 3)])
def test_as_much_of_the_context_is_read_as_fits(lengths):
    """With the longest option without its last token: all positions of the model are used."""
    rng = np.random.default_rng(len(lengths))
    context, options = rng.integers(0, 23, 20), [rng.integers(1, 23, n).tolist() for n in lengths]
    sums, _ = continuation_log_probabilities(MODEL, context.tolist(), options)
    assert sums.dtype == np.float64
    read = context[-(CONTEXT - max(lengths) + 1) :]
    np.testing.assert_allclose(sums, [by_definition(MODEL, read, option) for option in options], rtol=1e-12)


def test_scores_of_a_model_in_float32_are_float64():
    model = generic_model(CONFIG, dtype=np.float32)
    for options in ([[3], [4]], [[3, 5], [4]]):
        sums, _ = continuation_log_probabilities(model, [1, 2], options)
        assert sums.dtype == np.float64
        wanted = [by_definition(model, [1, 2], option) for option in options]
        np.testing.assert_allclose(sums, wanted, rtol=1e-5)


def test_the_context_is_read_once_and_shorter_options_are_padded_with_token_0():
    read = []

    class Watched:
        config = CONFIG

        predict = MODEL.predict

        def hidden_states(self, token_ids, **options):
            read.append(token_ids.tolist())
            return MODEL.hidden_states(token_ids, **options)

    continuation_log_probabilities(Watched(), [7, 8, 9], [[5], [6, 4, 3, 2], [1, 2]])
    assert read == [[[7, 8, 9]], [[5, 0, 0], [6, 4, 3], [1, 2, 0]]]
    read.clear()
    continuation_log_probabilities(Watched(), [7, 8, 9], [[5], [6]])
    assert read == [[[7, 8, 9]]]


class Tokenizer:
    """One token per digit, and the token 22 before a text and after it unless special tokens are switched off."""

    def encode(self, text, add_special_tokens=True):
        ids = [int(digit) for digit in text]
        return SimpleNamespace(ids=[22, *ids, 22] if add_special_tokens else ids)

    def encode_batch(self, texts, add_special_tokens=True):
        return [self.encode(text, add_special_tokens) for text in texts]


@pytest.mark.parametrize("per_token", [False, True])
def test_the_answer_is_the_option_with_the_largest_score(per_token):
    """For options of different lengths. Special tokens of the tokenizer are not read; the marks are plain integers."""
    rng, questions, right = np.random.default_rng(0), [], 0
    for number in range(30):
        options = ["".join(map(str, rng.integers(0, 10, n))) for n in rng.permutation([1, 2, 3, 4])]
        context, answer = "".join(map(str, rng.integers(0, 10, 3))), int(rng.integers(4))
        questions.append(SimpleNamespace(subject=f"{number % 2}", context=context, options=options, answer=answer))
        scores = [by_definition(MODEL, [0, *map(int, context)], [*map(int, option)]) for option in options]
        right += np.argmax(np.divide(scores, [len(option) for option in options] if per_token else 1)) == answer
    result = take_exam(MODEL, Tokenizer(), questions, 0, per_token=per_token)
    assert sum(result.correct.values()) == right and result.asked == {"0": 15, "1": 15}
    assert 0 < right < 30 and {type(count) for count in (*result.correct.values(), *result.asked.values())} == {int}

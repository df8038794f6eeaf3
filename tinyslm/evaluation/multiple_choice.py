"""Multiple-choice exam: the answer is the option with the highest probability."""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinyslm.errors import DataError
from tinyslm.generation.cache import KeyValueCache
from tinyslm.ops import log_softmax
from tinyslm.parallel import map_in_threads
from tinyslm.text.document_marks import DocumentMarks
from tinyslm.text.tokenizer import encode


@dataclass(frozen=True)
class ExamResult:
    """Result of an exam: number of correct answers and number of questions (`asked`), by subject."""

    correct: dict[str, int]
    asked: dict[str, int]

    @property
    def accuracy(self) -> float:
        """Fraction of correct answers over all questions."""
        return sum(self.correct.values()) / sum(self.asked.values())

    def by_subject(self) -> dict[str, float]:
        """Accuracy of each subject."""
        return {subject: self.correct[subject] / asked for subject, asked in self.asked.items()}

    def interval(self, deviations: float = 1.96) -> tuple[float, float]:
        """Wilson score interval of the accuracy: 95 % for 1.96 standard deviations (Wilson 1927)."""
        n, p, z = sum(self.asked.values()), self.accuracy, deviations
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return centre - half, centre + half


def option_log_probabilities(model, context, options) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each option given the context, in nats, and its length in tokens: (sums, lengths), each (n,).

    context: (T,) token ids;  options: n lists of token ids. The context is computed once. The options form a batch;
    each has a copy of the key/value cache.
    """
    lengths = np.array([len(option) for option in options])
    longest = max(model.config.max_position_embeddings - int(lengths.max()) + 1, 1)  # the last token is not an input
    context = context[-longest:]
    cache = KeyValueCache(len(context) + int(lengths.max()))
    first = log_softmax(model(np.array(context)[None], cache=cache, last_only=True)[0, 0])  # (V,)
    sums = first[[option[0] for option in options]].astype(np.float64)
    if lengths.max() > 1:
        rows = np.zeros((len(options), lengths.max()), int)
        for row, option in zip(rows, options, strict=True):
            row[: len(option)] = option
        logits = model(rows[:, :-1], cache=cache.repeat(len(options)))  # (options, longest - 1, V)
        following = np.take_along_axis(log_softmax(logits), rows[:, 1:, None], axis=-1)[..., 0]
        real = np.arange(1, rows.shape[1]) < lengths[:, None]
        sums += np.sum(np.where(real, following, 0), axis=1)
    return sums, lengths


def take_exam(
    model: Any, tokenizer: Any, questions: list, end_id: int | DocumentMarks, *, per_token: bool = False
) -> ExamResult:
    """Answer every question with the most probable option.

    With per_token, log-probabilities are divided by the length in tokens. If several options are equally probable, the
    first one is the answer, so a model with constant outputs has chance accuracy.
    questions: objects with subject, context, options and answer (an index). end_id: the marks of documents, or the one
    token before each context. Raises DataError for a context without a token.
    """

    begin = DocumentMarks.of(end_id).begin
    encode_part = partial(encode, tokenizer, add_special_tokens=False, vocab_size=model.config.vocab_size)

    def is_correct(question):
        context = [*begin, *encode_part(question.context, allow_empty=True)]
        if not context:
            raise DataError("a question has an empty context, and no token of the tokenizer begins it; give a context")
        options = [encode_part(option) for option in question.options]
        sums, lengths = option_log_probabilities(model, context, options)
        return int(np.argmax(sums / lengths if per_token else sums)) == question.answer

    correct, asked = defaultdict(int), defaultdict(int)
    for question, is_answer_correct in zip(questions, map_in_threads(is_correct, questions), strict=True):
        asked[question.subject] += 1
        correct[question.subject] += is_answer_correct
    return ExamResult(dict(correct), dict(asked))

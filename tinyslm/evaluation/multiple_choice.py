"""Multiple-choice exam: the answer is the option with the highest probability."""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinyslm.errors import DataError
from tinyslm.evaluation.continuations import continuation_log_probabilities
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

    @property
    def standard_error(self) -> float | None:
        """Standard error of the accuracy; None (unknown) for a single question."""
        n, p = sum(self.asked.values()), self.accuracy
        return math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else None

    def interval(self, deviations: float = 1.96) -> tuple[float, float]:
        """Wilson score interval of the accuracy: 95 % for 1.96 standard deviations (Wilson 1927)."""
        n, p, z = sum(self.asked.values()), self.accuracy, deviations
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return centre - half, centre + half


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
        sums, _ = continuation_log_probabilities(model, context, options)
        lengths = [len(option) for option in options]
        return int(np.argmax(sums / lengths if per_token else sums)) == question.answer

    correct, asked = defaultdict(int), defaultdict(int)
    for question, is_answer_correct in zip(questions, map_in_threads(is_correct, questions), strict=True):
        asked[question.subject] += 1
        correct[question.subject] += is_answer_correct
    return ExamResult(dict(correct), dict(asked))

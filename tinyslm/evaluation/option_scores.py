"""Multiple-choice questions of a file, judged as lm-evaluation-harness judges them: acc and acc_norm.

Source: Gao et al. 2021 (A framework for few-shot language model evaluation), version 0.4.13.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyslm.errors import DataError
from tinyslm.evaluation.continuations import encode_pair, score_pairs
from tinyslm.evaluation.multiple_choice import ExamResult
from tinyslm.text.document_marks import DocumentMarks
from tinyslm.text.question_prompts import LETTERS, continuations_of, prompt_of
from tinyslm.text.questions import WrittenQuestion


@dataclass(frozen=True)
class ScoredQuestion:
    """A question with the log-probability of each option, in nats, and its length in characters.

    is_cut: whether an option did not fit in the model with its prompt, whose beginning was left out.
    """

    question: WrittenQuestion
    log_probabilities: tuple[float, ...]
    characters: tuple[int, ...]
    is_cut: bool

    @property
    def chosen(self) -> int:
        """Index of the option with the highest log-probability; the first of equal ones."""
        return int(np.argmax(self.log_probabilities))

    @property
    def chosen_by_length(self) -> int:
        """Index of the option with the highest log-probability per character; the first of equal ones."""
        return int(np.argmax(np.divide(self.log_probabilities, self.characters)))


def score_questions(
    model: Any,
    tokenizer: Any,
    questions: Sequence[WrittenQuestion],
    marks: DocumentMarks,
    *,
    style: str = "text",
    examples: Sequence[WrittenQuestion] = (),
    progress: Callable[[], Any] = lambda: None,
) -> list[ScoredQuestion]:
    """The log-probability of every option after its prompt.

    marks: a prompt begins as a document begins;  style, examples: as of `prompt_of`;  progress: called after each
    prompt. Raises DataError if an option has no tokens after the prompt, or more than the model reads.
    """
    vocab_size, longest = model.config.vocab_size, model.config.max_position_embeddings
    pairs = []
    for question in questions:
        prompt = prompt_of(question, style, examples)
        for letter, option in zip(LETTERS, continuations_of(question, style), strict=False):
            context, continuation = encode_pair(tokenizer, marks.begin, prompt, f" {option}", vocab_size)
            if not context or not continuation:
                raise DataError(
                    f"{question.where}: option {letter} has no tokens of its own after the prompt; reword it"
                )
            if len(continuation) > longest:
                found = f"option {letter} has {len(continuation)} tokens"
                raise DataError(f"{question.where}: {found}, but the model reads at most {longest}; shorten it")
            pairs.append((context, continuation))
    scores = zip(score_pairs(model, pairs, progress), pairs, strict=True)
    scored = []
    for question in questions:
        characters = tuple(map(len, continuations_of(question, style)))
        log_probabilities, sizes = [], []
        for _ in characters:
            (score, _), (context, continuation) = next(scores)
            log_probabilities.append(score)
            sizes.append(len(context) + len(continuation) - 1)  # the last token is not an input
        scored.append(ScoredQuestion(question, tuple(log_probabilities), characters, max(sizes) > longest))
    return scored


def accuracy(scored: Iterable[ScoredQuestion], *, by_length: bool = False) -> ExamResult:
    """`acc` of the questions, or with by_length `acc_norm`, by subject.

    lm-evaluation-harness describes acc_norm as divided by bytes; its code divides by characters, and so does this.
    """
    correct, asked = Counter(), Counter()
    for each in scored:
        question = each.question
        asked[question.subject] += 1
        correct[question.subject] += (each.chosen_by_length if by_length else each.chosen) == question.answer
    return ExamResult(dict(correct), dict(asked))

"""A small town, written about by a program whose entropy is known exactly.

A document is one of seven families (`FAMILIES`); each is a grammar in its own file, a function that writes on a page
and lets the page make every random choice (`choices`). Every choice can be read off the text, so the probability of a
document is the product of the probabilities of its choices, and the mean of -log_probability over documents is the
entropy of the corpus: the loss, per document, that no language model can pass.

    text, log_probability = document(np.random.default_rng(0))
    documents("validation", 0, 100)        # document i of a split comes from its own seed: random access
    log_probability(text)                  # parses the text
    exam_questions(200)                    # multiple choice, one subject per family
"""

from functools import partial

import numpy as np

from tinyslm.errors import DataError
from tinyslm.text.town import ambiguity, arithmetic, facts, instructions, languages, programs, stories
from tinyslm.text.town.exam import Question, make_question
from tinyslm.text.town.grammar import Page, SamplingPage, Weights, walk
from tinyslm.text.town.world import TOWN, Town

__all__ = [
    "FAMILIES",
    "SPLITS",
    "TOWN",
    "Question",
    "Town",
    "document",
    "documents",
    "exam_questions",
    "log_probability",
    "parse",
    "question",
    "write",
]

FAMILIES = {
    "stories": stories.write,
    "facts": facts.write,
    "languages": languages.write,
    "arithmetic": arithmetic.write,
    "programs": programs.write,
    "instructions": instructions.write,
    "ambiguity": ambiguity.write,
}
FAMILY_WEIGHTS = Weights((3, 4, 3, 2, 2, 2, 2))
SPLITS = ("train", "validation", "test", "exam")


def write(page: Page, town: Town = TOWN) -> str:
    """Write a document on a page, beginning with the choice of its family; returns the family's name."""
    family = page.choose(tuple(FAMILIES), FAMILY_WEIGHTS)
    FAMILIES[family](page, town)
    return family


def document(rng: np.random.Generator, town: Town = TOWN) -> tuple[str, float]:
    """A document and its exact log-probability in nats, the end of the document included."""
    page = SamplingPage(rng)
    write(page, town)
    return page.text, page.log_probability


def generator(split: str, *index: int) -> np.random.Generator:
    """The random generator of one document or question: splits never share a stream."""
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    return np.random.Generator(np.random.PCG64([SPLITS.index(split), *index]))


def documents(split: str, start: int, count: int) -> list[tuple[str, str, float]]:
    """Documents start ... start + count - 1 of a split, as (family, text, log-probability in nats)."""
    made = []
    for index in range(start, start + count):
        page = SamplingPage(generator(split, index))
        family = write(page)
        made.append((family, page.text, page.log_probability))
    return made


def parse(text: str, town: Town = TOWN) -> tuple[str, tuple[int, ...], float]:
    """The family, the choices (their indices) and the log-probability of a document.

    Raises DataError where the text is no document of the town.
    """
    for choices, _, total in walk(partial(write, town=town), text=text):
        return tuple(FAMILIES)[choices[0]], choices, total
    raise DataError(f"not a document of the town, no choices give it: {text[:60]!r}")


def log_probability(text: str, town: Town = TOWN) -> float:
    """The log-probability of a document in nats; -inf where the grammar cannot produce the text."""
    try:
        return parse(text, town)[2]
    except DataError:
        return float("-inf")


def question(subject: str, rng: np.random.Generator, town: Town = TOWN) -> Question:
    """A question of one subject (a family's name), drawn at random."""
    return make_question(subject, FAMILIES[subject], rng, town)


def exam_questions(count_per_subject: int) -> list[Question]:
    """The exam: the same questions every time, `count_per_subject` for each family, subject after subject."""
    return [
        question(subject, generator("exam", number, index))
        for number, subject in enumerate(FAMILIES)
        for index in range(count_per_subject)
    ]

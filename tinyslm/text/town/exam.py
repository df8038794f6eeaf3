"""Multiple-choice questions with four options, made from the answers in the documents."""

from dataclasses import dataclass

from tinyslm.text.town.grammar import SamplingPage


@dataclass(frozen=True)
class Question:
    """A multiple-choice question: the beginning of a document and four continuations.

    subject: the family's name. context: the document before the answer. options: four different continuations, each
    beginning with a space. answer: the index of the right option.
    """

    subject: str
    context: str
    options: tuple[str, str, str, str]
    answer: int


def make_question(subject, write, rng, town):
    """A question from a document of a family, cut before one of its answers.

    The three wrong options are drawn from the answer's `near` list, then from its `far` list if `near` has too few. The
    index of the right option is uniform.
    """
    page = SamplingPage(rng)
    write(page, town)
    answer = page.choose(page.answers)
    right = " " + answer.form.format(answer.right)
    wrong = []
    for words in (answer.near, answer.far):
        words = words() if callable(words) else words
        options = {" " + answer.form.format(word): None for word in words}  # an ordered set
        options = [option for option in options if option != right and option not in wrong]
        while options and len(wrong) < 3:
            wrong.append(options.pop(page.choose(range(len(options)))))
    if len(wrong) < 3:
        raise RuntimeError(f"{subject}: fewer than three wrong options for{right}")
    index = page.choose(range(4))
    options = (*wrong[:index], right, *wrong[index:])
    return Question(subject, "".join(page.parts[: answer.start]), options, index)

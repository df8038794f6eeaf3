"""Questions with four options, made from the answers that the families write."""

from dataclasses import dataclass

from tinyslm.text.town.grammar import SamplingPage


@dataclass(frozen=True)
class Question:
    """A multiple-choice question: the context is the beginning of a document, the options are ways to go on.

    subject: the family's name. options: four different continuations, each beginning with a space.
    answer: the index of the right one.
    """

    subject: str
    context: str
    options: tuple[str, str, str, str]
    answer: int


def make_question(subject, write, rng, town):
    """Write a document of the family and cut it before one of its answers.

    The three wrong options come from the answer's `near` list as long as it lasts, then from its `far` list. The place
    of the right option is uniform.
    """
    page = SamplingPage(rng)
    write(page, town)
    answer = page.choose(page.answers)
    right = " " + answer.form.format(answer.right)
    wrong = []
    for words in (answer.near, answer.far):
        words = words() if callable(words) else words
        options = {" " + answer.form.format(word): None for word in words}  # a set that keeps its order
        options = [option for option in options if option != right and option not in wrong]
        while options and len(wrong) < 3:
            wrong.append(options.pop(page.choose(range(len(options)))))
    if len(wrong) < 3:
        raise RuntimeError(f"{subject}: fewer than three wrong options for{right}")
    place = page.choose(range(4))
    wrong.insert(place, right)
    return Question(subject, "".join(page.parts[: answer.start]), tuple(wrong), place)

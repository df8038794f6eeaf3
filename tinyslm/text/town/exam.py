"""Multiple-choice questions with four options. The right option of each is an answer in a document of the corpus."""

from dataclasses import dataclass

from tinyslm.text.town.grammar import SamplingPage


@dataclass(frozen=True)
class Question:
    """A multiple-choice question: the beginning of a document and four continuations.

    subject: name of the document family. context: text of the document before the answer. options: four different
    continuations, each with a space at the beginning. answer: index of the right option.
    """

    subject: str
    context: str
    options: tuple[str, str, str, str]
    answer: int


def make_question(subject, write, rng, town):
    """Sample a document of one family and make a `Question` from one of its answers, chosen at random.

    subject: name of the family. write: function (page, town) of the family. The three wrong options are drawn from the
    `near` list of the `Answer`; if this list is too short, also from its `far` list. The index of the right option is
    uniform.
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

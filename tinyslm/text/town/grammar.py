"""A grammar is a program: a function that writes on a page and lets the page make every choice.

    def write(page, town):
        page.write("The ")
        colour = page.say(town.colours)          # one of them, written down
        page.write(" door.")

One such function has three interpreters, and they differ only in who chooses:

- `SamplingPage` draws the choices with a random generator and adds up their log-probabilities;
- `walk(write)` takes every choice in turn, depth first: the whole language of a small grammar;
- `walk(write, text=...)` does the same, but turns back at the first character that differs from the text: a parser.

So the probability of a text is known exactly. Weights are integers and the random bits come straight from the bit
generator, so the same seed gives the same text under every version of NumPy.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import log
from string import Formatter


class Weights:
    """Integer weights of a list of options: option i has probability weights[i] / sum of the weights still allowed."""

    def __init__(self, weights):
        self.weights = [int(weight) for weight in weights]
        self.ends = list(accumulate(self.weights))  # option i owns the numbers from ends[i] - weights[i] to ends[i] - 1
        self.total = self.ends[-1]

    def left(self, without):
        """The sum of the weights of all options except the indices in `without`."""
        return self.total - sum(self.weights[i] for i in without)

    def at(self, position, without):
        """The option that owns a position in 0 ... left(without) - 1, when the options in `without` own nothing."""
        for i in sorted(without):
            if position >= self.ends[i] - self.weights[i]:
                position += self.weights[i]
        return bisect_right(self.ends, position)

    def log_probability(self, index, without):
        """log of weights[index] / left(without)."""
        return log(self.weights[index] / self.left(without))


@dataclass(frozen=True)
class Answer:
    """An answer on a page: it starts after `start` pieces. near, far: other words for the {} of the form, mostly wrong.

    Each is a list, or a function that makes it when the exam needs it. The exam takes its wrong options from near first
    (words that the text mentions), then from far.
    """

    start: int
    right: object
    near: object
    far: object
    form: str


@cache
def template_pieces(sentence):
    """'{who} ran.' -> (('', 'who'), (' ran.', None)): a literal, then the slot after it."""
    return tuple((literal, slot) for literal, slot, _, _ in Formatter().parse(sentence))


class Page:
    """What a document is written on. Sub-classes decide, in `_draw`, which option is taken."""

    def __init__(self):
        self.parts = []
        self.answers = []
        self.log_probability = 0.0

    @property
    def text(self):
        """What has been written so far."""
        return "".join(self.parts)

    def write(self, text):
        """Write something that is no choice."""
        self.parts.append(text)

    def choose(self, options, weights=None, without=()):
        """Choose one option, and write nothing. The text must show the choice sooner or later.

        All options are equally likely, or `weights` (a `Weights`) says how likely each is; then `without` may hold the
        indices of options that are not allowed.
        """
        return options[self._draw(len(options), weights, without, None)]

    def say(self, options, weights=None, without=()):
        """Choose one option and write it; the arguments are those of `choose`."""
        option = options[self._draw(len(options), weights, without, options)]
        self.write(str(option))
        return option

    def tell(self, sentences, **slots):
        """Choose one of the sentences and write it; return what its {slots} became.

        A slot is a string, or a list of options of which one is chosen when the slot is reached, or a function that
        makes this list from what was said before ({slot: value}).
        """
        sentence = sentences[self._draw(len(sentences), None, (), sentences)]
        said = {}
        for literal, slot in template_pieces(sentence):
            if literal:
                self.write(literal)
            if slot is None:
                continue
            value = said.get(slot, slots[slot])
            if callable(value):
                value = value(said)
            if isinstance(value, str):
                self.write(value)
            else:
                value = self.say(value)
            said[slot] = value
        return said

    def answer(self, right, near, far=(), form="{}."):
        """Write " " and an answer that follows from the text: the form with `right` in it; `Answer` says the rest."""
        self.answers.append(Answer(len(self.parts), right, near, far, form))
        self.write(" " + form.format(right))

    def _draw(self, count, weights, without, texts):
        """The index of the option to take, with its log-probability added. `texts`: what each option writes next."""
        raise NotImplementedError


class SamplingPage(Page):
    """Choices are drawn from a NumPy Generator; log_probability is exact."""

    def __init__(self, rng):
        super().__init__()
        self._bits = rng.bit_generator
        self._numbers = []

    def _draw(self, count, weights, without, texts):
        if not self._numbers:
            self._numbers = self._bits.random_raw(64).tolist()
        number = self._numbers.pop()  # uniform in 0 ... 2**64 - 1
        if weights is None:
            self.log_probability -= log(count)
            return number * count >> 64
        index = weights.at(number * weights.left(without) >> 64, without)
        self.log_probability += weights.log_probability(index, without)
        return index


class DeadEnd(Exception):
    """The choices made so far cannot give the text that is being parsed."""


class ReplayPage(Page):
    """Choices follow a path, a list of [indices still to try]; the path grows at its end where choices are new.

    text: what has to come out, None for anything. allowed(number of the choice, count) -> the indices that are
    allowed there, None for all: it cuts a small grammar out of a large one (the probabilities are shared out anew).
    """

    def __init__(self, path, text=None, allowed=None):
        super().__init__()
        self.path = path
        self.target = text
        self.position = 0
        self.allowed = allowed
        self.depth = 0

    def write(self, text):
        if self.target is not None and not self.target.startswith(text, self.position):
            raise DeadEnd
        self.position += len(text)
        self.parts.append(text)

    def _draw(self, count, weights, without, texts):
        narrow = None if self.allowed is None else list(self.allowed(self.depth, count))
        if self.depth == len(self.path):
            options = range(count) if narrow is None else narrow
            fits = [i for i in options if i not in without and (texts is None or self._fits(texts[i]))]
            if not fits:
                raise DeadEnd
            self.path.append(fits[::-1])
        index = self.path[self.depth][-1]
        self.depth += 1
        if weights is None:
            self.log_probability -= log(count - len(without) if narrow is None else len(narrow))
        elif narrow is None:
            self.log_probability += weights.log_probability(index, without)
        else:
            left = sum(weights.weights[i] for i in narrow if i not in without)
            self.log_probability += log(weights.weights[index] / left)
        return index

    def _fits(self, text):
        return self.target is None or self.target.startswith(str(text).partition("{")[0], self.position)


def walk(write, text=None, start=(), allowed=None):
    """Every way through a grammar, one after the other: (choices, text, log-probability).

    write: a function of a page. text: only ways that give exactly this text. start: the first choices, held fixed (the
    probabilities then add up to that of the start). allowed: see ReplayPage.
    Each step runs `write` again from the beginning: slow and simple.
    """
    path = [[index] for index in start]
    while True:
        page = ReplayPage(path, text, allowed)
        try:
            write(page)
            if text is None or page.position == len(text):
                yield tuple(options[-1] for options in path), page.text, page.log_probability
        except DeadEnd:
            pass
        while path and len(path[-1]) == 1:
            path.pop()
        if not path:
            return
        path[-1].pop()

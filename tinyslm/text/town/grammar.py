"""Grammars of the corpus: functions that write a document and make every random choice through a `Page`.

    def write(page, town):
        page.write("The ")
        colour = page.say(town.colours)          # choose one and write it
        page.write(" door.")

One function serves three purposes, which differ in how the choices are made:

- sampling: `SamplingPage` draws the choices with a random generator and adds up their log-probabilities;
- enumeration: `walk(write)` makes every combination of choices, depth first, and yields all texts of a small grammar;
- parsing: `walk(write, text=...)` enumerates, but backtracks at the first character that differs from the text.

The probability of a text is therefore known exactly. Weights are integers and the random bits come from the bit
generator directly, so a seed gives the same text with every version of NumPy.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import log
from string import Formatter


class Weights:
    """Integer weights of options: option i has probability weights[i] / (sum of the weights of the allowed options)."""

    def __init__(self, weights):
        self.weights = [int(weight) for weight in weights]
        self.ends = list(accumulate(self.weights))  # option i has the interval from ends[i] - weights[i] to ends[i] - 1
        self.total = self.ends[-1]

    def left(self, without):
        """The sum of the weights of all options except the indices in `without`."""
        return self.total - sum(self.weights[i] for i in without)

    def at(self, position, without):
        """The option whose interval contains a position in 0 ... left(without) - 1; options in `without` have none."""
        for i in sorted(without):
            if position >= self.ends[i] - self.weights[i]:
                position += self.weights[i]
        return bisect_right(self.ends, position)

    def log_probability(self, index, without):
        """log of weights[index] / left(without)."""
        return log(self.weights[index] / self.left(without))


@dataclass(frozen=True)
class Answer:
    """An answer on a page, which starts after `start` parts of its text.

    right: the word for the {} of `form`. near, far: lists of words for wrong options, or functions that return such a
    list. The exam uses `near` first (words of the text), then `far`, without the right word.
    """

    start: int
    right: object
    near: object
    far: object
    form: str


@cache
def template_pieces(sentence):
    """'{who} ran.' -> (('', 'who'), (' ran.', None)): pairs of a literal and the slot after it."""
    return tuple((literal, slot) for literal, slot, _, _ in Formatter().parse(sentence))


class Page:
    """A document in progress. Subclasses implement `_draw`, which makes the choices."""

    def __init__(self):
        self.parts = []
        self.answers = []
        self.log_probability = 0.0

    @property
    def text(self):
        """The text so far."""
        return "".join(self.parts)

    @property
    def answer_spans(self):
        """[(start, end)] of the right answers in the text, in characters.

        The words of the form around an answer do not belong to it, the space or other character before it does.
        """
        starts = list(accumulate(map(len, self.parts), initial=0))  # of each part, and the end of the text
        starts = [starts[answer.start] + answer.form.index("{}") for answer in self.answers]
        return [(start, start + 1 + len(str(answer.right))) for start, answer in zip(starts, self.answers, strict=True)]

    def write(self, text):
        """Append fixed text."""
        self.parts.append(text)

    def choose(self, options, weights=None, without=()):
        """Choose one option and write nothing. The later text must determine the choice.

        All options are equally likely unless `weights` (a `Weights`) is given; then `without` can hold the indices of
        options that are not allowed.
        """
        return options[self._draw(len(options), weights, without, None)]

    def say(self, options, weights=None, without=()):
        """Choose one option, write it and return it. Arguments as `choose`."""
        option = options[self._draw(len(options), weights, without, options)]
        self.write(str(option))
        return option

    def tell(self, sentences, **slots):
        """Choose one of the sentences and write it; return {slot: the value that filled it}.

        A slot is given as a string, as a list of options, or as a function from the slots filled so far to such a list.
        The choice is made when the slot is reached.
        """
        sentence = sentences[self._draw(len(sentences), None, (), sentences)]
        filled = {}
        for literal, slot in template_pieces(sentence):
            if literal:
                self.write(literal)
            if slot is None:
                continue
            value = filled.get(slot, slots[slot])
            if callable(value):
                value = value(filled)
            if isinstance(value, str):
                self.write(value)
            else:
                value = self.say(value)
            filled[slot] = value
        return filled

    def answer(self, right, near, far=(), form="{}."):
        """Write " " and the answer, `form` with `right` in it, and record it as an `Answer`."""
        self.answers.append(Answer(len(self.parts), right, near, far, form))
        self.write(" " + form.format(right))

    def _draw(self, count, weights, without, texts):
        """Choose the index of an option and add its log-probability. texts: the text that each option writes next."""
        raise NotImplementedError


class SamplingPage(Page):
    """A page whose choices are drawn from a NumPy Generator. `log_probability` is exact."""

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
    """The choices so far cannot produce the text that is parsed."""


class ReplayPage(Page):
    """A page whose choices follow a path: for each choice a list of the indices still to try. New choices extend it.

    text: the text to produce, None for any. allowed(number of the choice, count of options): the allowed indices;
    it restricts a grammar to a smaller one with renormalized probabilities. None allows all.
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
    """Yield (choices, text, log-probability) of every path through a grammar.

    write: a function of a page. text: yield only paths that produce exactly this text. start: the first choices, held
    fixed; the probabilities then sum to the probability of `start`. allowed: see ReplayPage.
    Each step runs `write` from the beginning, which is slow but simple.
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

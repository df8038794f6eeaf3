"""Drills: short stories that consist of recall alone, for the first steps of a training. Each prepares the next."""

from collections.abc import Callable
from functools import partial

from tinyslm.text.town.stories import QUESTIONS, Story, ask, happen, introduce

THINGS = 3


def write(page, town, questions=QUESTIONS, events=(0,)):
    """Introduce three things, write some events, and ask once for each thing, in any order.

    questions: as of `ask`;  events: the possible numbers of events.
    """
    story = Story(list(town.people))
    for _ in range(THINGS):
        introduce(page, town, story)
    for _ in range(page.choose(events)):
        happen(page, town, story, page.choose(story.things))
    left = list(story.things)
    while left:  # not in the order of the story, or the answers could be found by counting
        thing = page.choose(left)
        left.remove(thing)
        ask(page, town, story, thing, questions)


DRILLS: dict[str, Callable] = {
    "colours": partial(write, questions=("colour",)),
    "introductions": write,
    "recall": partial(write, events=(1, 2, 3)),
}

"""Drills: short stories that consist of recall alone, for the first steps of a training.

In "changes", every answer stands behind its thing: "Ann passed the rope to Bob." A head that copies names needs only to
choose by the words before each name. In "recall", most answers stand before it: "Bob had a red rope." There the answer
has to be read at the thing, from what an earlier layer wrote there. Models learn this late, except from "changes".
"""

from tinyslm.text.town.stories import Story, Thing, ask, happen, introduce
from tinyslm.text.town.world import others

THINGS = 3
EVENTS = (0, 1, 2, 3)


def write_changes(page, town):
    """Write an event for each of three things, and ask for each what changed."""
    story = Story(list(town.people))
    for _ in range(THINGS):
        name = page.choose(others(town.things, *(thing.name for thing in story.things)))
        story.things.append(Thing(name, colour=None, owner=page.choose(town.people), place=None))
        happen(page, town, story, story.things[-1])
    for thing in story.things:
        ask(page, town, story, thing, ("place",) if thing.colour is None else ("colour",))


def write_recall(page, town):
    """Introduce three things, write up to three events, and ask for each thing once."""
    story = Story(list(town.people))
    for _ in range(THINGS):
        introduce(page, town, story)
    for _ in range(page.choose(EVENTS)):
        happen(page, town, story, page.choose(story.things))
    for thing in story.things:
        ask(page, town, story, thing)


DRILLS = {"changes": write_changes, "recall": write_recall}

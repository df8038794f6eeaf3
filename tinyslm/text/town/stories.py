"""Stories family: things change owner, place and colour; the story determines the answers to its questions."""

from dataclasses import dataclass, field
from functools import partial

from tinyslm.text.town.grammar import Weights
from tinyslm.text.town.vocabulary import words
from tinyslm.text.town.world import others

MEETINGS = (
    "{a}, {b}, {c} and {d} met at the {place}.",
    "{a}, {b}, {c} and {d} were at the {place}.",
    "At the {place}, {a} was talking to {b}, {c} and {d}.",
    "{a} walked to the {place} with {b}, {c} and {d}.",
)
OWNED = ("{who} had a {colour} {thing}.", "{who} brought a {colour} {thing}.", "A {colour} {thing} belonged to {who}.")
LYING = ("A {colour} {thing} lay at the {place}.", "There was a {colour} {thing} at the {place}.")
MOMENTS = words(
    "Then|Later|Soon|At noon|After lunch|After a while|Suddenly|In the end|Before dinner|A little later|After the rain|"
    "At two o'clock|Next|Without a word|At last|An hour later|After some tea|At three o'clock|For fun|With a smile",
    "|",
)
GIVING = (
    "{when} {who} {how} gave the {thing} to {other}.",
    "{when} {who} {how} handed the {thing} to {other}.",
    "{when} {who} {how} passed the {thing} to {other}.",
)
PAINTING = ("{when} {who} {how} painted the {thing} {colour}.",)
LEAVING = (
    "{when} {who} {how} left the {thing} at the {place}.",
    "{when} {who} {how} took the {thing} to the {place} and left it there.",
)
FETCHING = ("{when} {who} {how} fetched the {thing} from the {place}.", "{when} {who} {how} picked up the {thing}.")


BEGINNINGS = ("owned", "lying")
BEGINNING_WEIGHTS = Weights((2, 1))
EVENTS = ("give", "paint", "leave")
EVENT_WEIGHTS = Weights((2, 1, 1))
QUESTIONS = ("place", "colour")


@dataclass(eq=False)
class Thing:
    """The state of a thing. It has either an owner or a place; the other is None."""

    name: str
    colour: str
    owner: str | None
    place: str | None


@dataclass
class Story:
    """The state of a story: its people and things, and all colours and places that were mentioned."""

    friends: list
    things: list = field(default_factory=list)
    colours: list = field(default_factory=list)
    places: list = field(default_factory=list)


def write(page, town):
    """Write the weather, four people, two or three things, three to five events and two questions."""
    page.tell(("It was a {weather} {day} {hour}. ",), **town.slots)
    new = partial(new_person, town.people)
    filled = page.tell(MEETINGS, a=new, b=new, c=new, d=new, place=town.places)
    story = Story([filled[letter] for letter in "abcd"], places=[filled["place"]])
    for _ in range(page.choose((2, 3))):
        introduce(page, town, story)
    for _ in range(page.choose((3, 4, 5))):
        happen(page, town, story, page.choose(story.things))
    first = page.choose(story.things)
    second = page.choose(others(story.things, first))
    ask(page, town, story, first)
    ask(page, town, story, second)


def new_person(people, filled):
    """The people who are not yet in this sentence."""
    return others(people, *filled.values())


def introduce(page, town, story):
    """Write a new thing with its colour and its owner or place."""
    page.write(" ")
    slots = {"colour": town.colours, "thing": others(town.things, *(thing.name for thing in story.things))}
    if page.choose(BEGINNINGS, BEGINNING_WEIGHTS) == "owned":
        filled = page.tell(OWNED, who=story.friends, **slots)
    else:
        filled = page.tell(LYING, place=town.places, **slots)
        story.places.append(filled["place"])
    story.colours.append(filled["colour"])
    story.things.append(Thing(filled["thing"], filled["colour"], filled.get("who"), filled.get("place")))


def happen(page, town, story, thing):
    """Write one event that changes the state of this thing."""
    page.write(" ")
    slots = {"when": MOMENTS, "how": town.adverbs, "thing": thing.name}
    if thing.owner is None:
        thing.owner = page.tell(FETCHING, who=story.friends, place=thing.place, **slots)["who"]
        thing.place = None
        return
    slots["who"] = thing.owner
    event = page.choose(EVENTS, EVENT_WEIGHTS)
    if event == "give":
        thing.owner = page.tell(GIVING, other=others(story.friends, thing.owner), **slots)["other"]
    elif event == "paint":
        thing.colour = page.tell(PAINTING, colour=others(town.colours, thing.colour), **slots)["colour"]
        story.colours.append(thing.colour)
    else:
        thing.place = page.tell(LEAVING, place=town.places, **slots)["place"]
        story.places.append(thing.place)
        thing.owner = None


def ask(page, town, story, thing, questions=QUESTIONS):
    """Write one of these questions about the thing: for its colour, or for its place or owner."""
    if page.choose(questions) == "colour":
        page.write(f"\nQuestion: What colour is the {thing.name} now? Answer:")
        page.answer(thing.colour, story.colours, town.colours)
    elif thing.owner is None:
        page.write(f"\nQuestion: Where is the {thing.name} now? Answer:")
        page.answer(thing.place, story.places, town.places, "at the {}.")
    else:
        page.write(f"\nQuestion: Who has the {thing.name} now? Answer:")
        page.answer(thing.owner, story.friends, town.people)

"""Ambiguity family: documents about names such as Paris, which can mean a person or a city depending on the context."""

from tinyslm.text.town.vocabulary import words
from tinyslm.text.town.world import others

WOMEN = words("Paris Florence Sofia Sydney Chelsea Victoria Charlotte Adelaide Madison Savannah Vienna Regina")
MEN = words("Austin Orlando Santiago Milan Jackson Dallas Houston Lincoln Denver Kingston")
NAMES = tuple(sorted(WOMEN + MEN))

OPENINGS = (
    "{friend} spoke of {one} and {two} all {hour}.",
    "{one} and {two} were in the newspaper on {day}.",
    "{friend} had a dream about {one} and {two} on {day} {hour}.",
    "What {friend} loved most was {one}, and after that {two}.",
    "It was a {weather} {hour}, and {friend} missed both {one} and {two}.",
)
PERSON = (
    "{name} bought a {adjective} {thing} at the {place}.",
    "{name} and {friend} met at the {place} on {day}.",
    "{friend} gave {name} a {adjective} {colour} {thing}.",
    "{friend} {how} danced with {name} at the {place}.",
    "{name} {how} showed {friend} a {colour} {thing}.",
    "{friend} wrote a letter to {name} about a {adjective} {thing}.",
)
CITY = (
    "{friend} took the {day} {hour} train to {name}.",
    "It was {weather} in {name} on {day}, and {friend} bought a {colour} {thing} there.",
    "{friend} rented a {colour} room near the {place} in {name}.",
    "The streets of {name} were full of {colour} {thing}s.",
    "{friend} sells {adjective} {thing}s in {name} every {day}.",
    "The {place} of {name} is {colour}, says {friend}.",
)
PERSON_AGAIN = (
    " {They} laughed and {how} went home with {friend}.",
    " {They} likes {colour} {thing}s.",
    " {They} was back on {day} {hour}.",
    " {They} asked {friend} for a {adjective} {thing}.",
)
CITY_AGAIN = (
    " It lies far away, and {friend} goes there every {day}.",
    " It has a {place} with {colour} walls.",
    " It is often {weather} there in the {hour}, says {friend}.",
    " It is famous for its {adjective} {thing}s.",
)
MEANINGS = ("person", "city")
VERDICTS = {
    ("person", "person"): "two people",
    ("person", "city"): "a person and a city",
    ("city", "person"): "a city and a person",
    ("city", "city"): "two cities",
}


def write(page, town):
    """Write an opening with two ambiguous names, one or two sentences on each of them, and the question."""
    opening = page.tell(OPENINGS, one=NAMES, two=lambda filled: others(NAMES, filled["one"]), **town.slots)
    names = [opening["one"], opening["two"]]
    meanings = []
    for name in names:
        meaning = page.choose(MEANINGS)
        page.write(" ")
        first, second = (PERSON, PERSON_AGAIN) if meaning == "person" else (CITY, CITY_AGAIN)
        page.tell(first, name=name, **town.slots)
        if page.choose((True, False)):
            page.tell(second, They="She" if name in WOMEN else "He", **town.slots)
        meanings.append(meaning)
    page.write(f"\nQuestion: What are {names[0]} and {names[1]}? Answer:")
    page.answer(VERDICTS[tuple(meanings)], tuple(VERDICTS.values()))

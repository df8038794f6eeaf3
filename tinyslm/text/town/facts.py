"""Facts family: news and fixed facts about citizens. Its questions can only be answered from memory."""

from tinyslm.text.town.vocabulary import ENGLISH
from tinyslm.text.town.world import others

SOURCES = (
    "From the town chronicle, page {page}.",
    "News of the town, number {page}.",
    "Letter {page} to the newspaper.",
    "Page {page} of the old register.",
)
CLAUSES = {
    "trade": "works as a {v}",
    "birthplace": "was born in {v}",
    "instrument": "plays the {v}",
    "animal": "has a {v}",
    "house": "lives in a {v} house",
}
NEWS = (
    "bought a {adjective} {colour} {thing} on {day}",
    "found a {adjective} {thing} near the {place}",
    "lost a {colour} {thing} at the {place} on {day}",
    "was seen at the {place} with a {adjective} {thing}",
    "sold a {colour} {thing} to {friend} at the {place}",
    "met {friend} at the {place} on {day} {hour}",
    "borrowed a {adjective} {thing} from {friend}",
)
QUESTIONS = {
    "trade": ("What does {name} do for a living?", "a {}."),
    "birthplace": ("Where was {name} born?", "in {}."),
    "instrument": ("Which instrument does {name} play?", "the {}."),
    "animal": ("Which animal does {name} have?", "a {}."),
    "house": ("What colour is the house of {name}?", "{}."),
}


def write(page, town):
    """Write a source, three citizens with facts and news, and two questions about two other citizens."""
    page.tell(SOURCES, page=range(1, 1000))
    mentioned = []  # ranks of the citizens in the document: each occurs once
    for _ in range(3):
        page.write(" ")
        report(page, town, next_citizen(page, town, mentioned))
    for _ in range(2):
        ask(page, town, mentioned)


def next_citizen(page, town, mentioned):
    """Write the name of a citizen who was not mentioned yet, chosen with the weights of `Town.fame`."""
    citizen = page.say(town.citizens, town.fame, mentioned)
    mentioned.append(citizen.rank)
    return citizen


def report(page, town, citizen):
    """Write the rest of a sentence that began with the citizen's name."""
    form = page.choose(("two facts", "fact and news", "news and fact"))
    if form == "two facts":
        page.write(" ")
        attribute = fact(page, citizen, list(CLAUSES))
        page.write(" and ")
        fact(page, citizen, others(CLAUSES, attribute))
    elif form == "fact and news":
        page.write(", who ")
        fact(page, citizen, list(CLAUSES))
        page.write(", ")
        news(page, town)
    else:
        page.write(" ")
        news(page, town)
        page.write(f". {citizen.pronoun.capitalize()} ")
        fact(page, citizen, list(CLAUSES))
    page.write(".")


def fact(page, citizen, attributes):
    """Write one of the citizen's facts as a clause without subject; returns the attribute."""
    attribute = page.choose(attributes)
    page.write(CLAUSES[attribute].format(v=citizen.word(attribute)))
    return attribute


def news(page, town):
    """Write news as a clause without subject. It is independent of the citizen."""
    page.tell(NEWS, **town.slots)


def ask(page, town, mentioned):
    """Write a question about a citizen who was not mentioned, so that the text does not contain the answer."""
    attribute = page.choose(tuple(QUESTIONS))
    question, form = QUESTIONS[attribute]
    before, after = question.split("{name}")
    page.write("\nQuestion: " + before)
    citizen = next_citizen(page, town, mentioned)
    page.write(after + " Answer:")
    page.answer(citizen.word(attribute), (), ENGLISH[attribute], form)

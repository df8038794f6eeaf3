"""Languages family: people tell the same facts in English, French, Italian, German and Spanish."""

from functools import partial

from tinyslm.text.town.facts import next_citizen
from tinyslm.text.town.vocabulary import ATTRIBUTES, GREETINGS, LANGUAGES, sentence
from tinyslm.text.town.world import others

SAYING = ("says", "writes", "tells us", "sings", "whispers")
REPEATING = ("repeats", "answers", "translates", "adds")
TOPICS = {
    "trade": "what {name} does for a living",
    "birthplace": "where {name} was born",
    "instrument": "which instrument {name} plays",
    "animal": "which animal {name} has",
    "house": "what colour the house of {name} is",
}


def write(page, town):
    """Write two facts, each in two or three languages, and a question whose answer is in one given language."""
    mentioned = []
    for _ in range(2):
        if mentioned:
            page.write("\n")
        tell_fact(page, town, mentioned)
    language, attribute = page.choose(LANGUAGES), page.choose(tuple(ATTRIBUTES))
    before, after = TOPICS[attribute].split("{name}")
    page.write(f"\nQuestion: Say in {language} {before}")
    citizen = next_citizen(page, town, mentioned)
    page.write(f"{after}. Answer:")
    right = sentence(language, attribute, citizen.facts[attribute], citizen.is_woman)
    page.answer(right, (), partial(all_sentences, language, attribute, citizen.is_woman), "{}")


def all_sentences(language, attribute, is_woman):
    """One sentence for each value of an attribute."""
    return [sentence(language, attribute, value, is_woman) for value in range(len(ATTRIBUTES[attribute]))]


def tell_fact(page, town, mentioned):
    """Write a fact with the citizen's name, and its repetition with a pronoun by one or two other people."""
    language = speak(page, town, SAYING, LANGUAGES)
    page.tell(("{greeting} ",), greeting=GREETINGS[language])
    citizen = next_citizen(page, town, mentioned)
    attribute = page.choose(tuple(ATTRIBUTES))
    value = citizen.facts[attribute]
    page.write(sentence(language, attribute, value, citizen.is_woman, citizen.name)[len(citizen.name) :] + '"')
    rest = others(LANGUAGES, language)
    for _ in range(page.choose((1, 2))):
        page.write(" ")
        language = speak(page, town, REPEATING, rest)
        rest = others(rest, language)
        page.write(sentence(language, attribute, value, citizen.is_woman) + '"')


def speak(page, town, verbs, languages):
    """Write 'Mara softly says in French: "'; returns the language."""
    return page.tell(('{who} {how} {says} in {language}: "',), says=verbs, language=languages, **town.slots)["language"]

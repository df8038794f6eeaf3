"""The town's word lists and a fixed table of facts about 420 citizens.

Nothing here is random: the facts are the same in all splits, seeds and runs.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property

from tinyslm.text.town.grammar import Weights
from tinyslm.text.town.vocabulary import ATTRIBUTES, ENGLISH, words

WOMEN = words(
    "Ines Mara Greta Lena Rosa Clara Elsa Nora Irma Paula Lucia Marta Helga Anna Frida Carla Judith Agnes Emma "
    "Bianca Hanna Sara Teresa Vera Wanda Olga Stella Flora Dora Ruth"
)
MEN = words(
    "Tobias Omar Felix Hugo Bruno Oscar Emil Carlo Pedro Anton Jonas Marco Victor Simon Peter Lukas Diego Karl "
    "Leon Martin Nico Otto Paul Rafael Samuel Theo Walter Ivan Gustav David"
)

# Every noun and adjective begins with a consonant ("a kettle"), every noun has the plural -s.
THINGS = words(
    "lantern kettle drum basket ladder ribbon mirror clock candle hammer blanket pillow bucket bottle bell kite "
    "lamp map rope cup plate spoon barrel saddle teapot puppet marble button shell feather pencil ring coin key "
    "coat boot helmet whistle flag wheel mask vase jar carpet cushion stool wagon broom"
)
COLOURS = ENGLISH["house"]
ADJECTIVES = words(
    "small heavy shiny dusty wooden broken precious curious pretty rusty round plain lovely strange new famous "
    "sturdy cheap splendid crooked polished forgotten simple battered light modest quaint bulky dainty glossy sticky "
    "crude narrow faded fancy muddy grubby charming rare humble"
)
PLACES = words(
    "mill|harbour|bakery|library|station|market|bridge|circus|school|chapel|barn|fountain|theatre|tower|museum|"
    "workshop|pier|forge|lighthouse|ferry|cafe|stable|bookshop|town hall",
    "|",
)
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
HOURS = words("morning afternoon evening night")
WEATHER = words("windy sunny rainy cold warm foggy quiet stormy snowy bright cloudy dark mild frosty golden busy")
ADVERBS = words(
    "quietly gladly quickly slowly carefully proudly happily politely secretly calmly kindly bravely shyly boldly "
    "softly lazily briefly merrily solemnly patiently"
)

STARTS = words("Val Mor Bel Kar Tol Ven Gar Lin Fer Sol Ros Wal Ber Cal Dor Hal Mel Nor Pas Ren San")
ENDS = words("mer ton den rick feld sen dini ville stein ghi ter man ard bury tano kova quist ley wick zini")


def mix(number):
    """Hash a 64-bit integer with the finalizer of SplitMix64: pseudo-random facts from a fixed function."""
    number = (number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return number ^ (number >> 31)


@dataclass(frozen=True)
class Citizen:
    """A citizen: a name and five facts, {attribute: row of its table in ATTRIBUTES}. rank 0 is mentioned most often."""

    rank: int
    name: str
    is_woman: bool
    facts: dict

    def __str__(self):
        return self.name

    @property
    def pronoun(self):
        """'she' or 'he'."""
        return "she" if self.is_woman else "he"

    def word(self, attribute):
        """The English word of a fact: 'baker', 'cello', 'red' ..."""
        return ENGLISH[attribute][self.facts[attribute]]


def make_citizens():
    """The citizens, most famous first. Family names are unique; first names and facts come from `mix`."""
    order = sorted(range(len(STARTS) * len(ENDS)), key=mix)
    people = []
    for rank, number in enumerate(order):
        is_woman = rank % 2 == 0
        first = (WOMEN if is_woman else MEN)[mix(1000 + rank) % 30]
        family = STARTS[number // len(ENDS)] + ENDS[number % len(ENDS)]
        facts = {
            attribute: mix(10_000 * (k + 1) + rank) % len(rows)
            for k, (attribute, rows) in enumerate(ATTRIBUTES.items())
        }
        people.append(Citizen(rank, f"{first} {family}", is_woman, facts))
    return people


@dataclass(frozen=True)
class Town:
    """All word lists that the families choose from. `small` makes a town whose texts can be enumerated."""

    people: tuple = tuple(sorted(WOMEN + MEN))
    things: tuple = THINGS
    colours: tuple = COLOURS
    adjectives: tuple = ADJECTIVES
    places: tuple = PLACES
    days: tuple = DAYS
    hours: tuple = HOURS
    weather: tuple = WEATHER
    adverbs: tuple = ADVERBS
    citizens: tuple = tuple(make_citizens())

    @cached_property
    def fame(self):
        """Weights of the citizens in a choice: Zipf's law with exponent 0.8."""
        return Weights(round(10**6 / (rank + 1) ** 0.8) for rank in range(len(self.citizens)))

    @cached_property
    def slots(self):
        """{slot of a sentence: the words that can fill it}, for `Page.tell`."""
        return {
            "who": self.people,
            "friend": self.people,
            "thing": self.things,
            "adjective": self.adjectives,
            "colour": self.colours,
            "place": self.places,
            "day": self.days,
            "hour": self.hours,
            "weather": self.weather,
            "how": self.adverbs,
        }

    def small(self, size):
        """The same town with only the first `size` words of every list."""
        return replace(self, **{field.name: getattr(self, field.name)[:size] for field in fields(self)})


TOWN = Town()


def is_woman(name):
    """Whether a first name is a woman's."""
    return name in WOMEN


def others(options, *taken):
    """The options without the options in `taken`."""
    return [option for option in options if option not in taken]

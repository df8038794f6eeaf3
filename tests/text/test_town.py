"""The town's probabilities are exact: they add up to one, every text has one derivation, sampling agrees with them."""

import hashlib
import math
import re
from collections import Counter, defaultdict
from functools import cache, partial

import numpy as np
import pytest
from scipy.stats import chisquare

from tinyslm.errors import DataError
from tinyslm.text import town
from tinyslm.text.town import ambiguity, arithmetic, facts, instructions, languages, programs, stories
from tinyslm.text.town.grammar import ReplayPage, SamplingPage, Weights, walk
from tinyslm.text.town.vocabulary import ATTRIBUTES, LANGUAGES

FAMILIES = tuple(town.FAMILIES)


@cache
def sample(split="validation", count=4000):
    """family -> [(text, log-probability)], the first `count` documents of a split."""
    found = defaultdict(list)
    for family, text, log_probability in town.documents(split, 0, count):
        found[family].append((text, log_probability))
    return found


def assert_is_distribution(ways, total=1.0):
    """The ways through a grammar have different texts, and probabilities that add up to `total`."""
    probabilities = {}
    for _, text, log_probability in ways:
        assert text not in probabilities
        probabilities[text] = math.exp(log_probability)
    assert len(probabilities) > 1
    assert math.fsum(probabilities.values()) == pytest.approx(total, rel=1e-9)


# ModuleFactory of the families that are small enough to be enumerated completely, in a village with few words.


def story_end(page, village):
    """Two things in a given state, one event, one question."""
    things = [stories.Thing("cup", "red", "Ann", None), stories.Thing("key", "red", None, "mill")]
    story = stories.Story(["Ann", "Bob", "Cid"], things)
    stories.happen(page, village, story, page.choose(story.things))
    stories.ask(page, village, story, page.choose(story.things))


def news_report(page, village):
    """A sentence about a citizen who is not the most famous one."""
    facts.report(page, village, facts.next_citizen(page, village, [0]))


def three_questions(page, village):
    """Draws without replacement: nobody is asked about twice, and nobody who was mentioned."""
    mentioned = [3, 0]
    for _ in range(2):
        facts.ask(page, village, mentioned)


def one_sum(page, village):
    """Two numbers of one digit each, and the steps."""
    said = page.tell(arithmetic.PLAIN, a=range(10), sign="+", b=range(10))
    page.answer(arithmetic.solution(said["a"], "+", said["b"]), (), form="{}")


def one_line(page, village):
    """A new variable, or a condition."""
    programs.new_variable(page, ["a", "k"], ("-", "*"))
    page.write("\n")
    programs.change(page, ["a", "k"])


SMALL_GRAMMARS = {
    "stories": (story_end, 2),
    "facts": (news_report, 2),
    "facts, questions": (three_questions, 9),
    "languages": (lambda page, village: languages.tell_fact(page, village, []), 1),
    "arithmetic": (one_sum, 1),
    "programs": (one_line, 1),
    "reverse": (instructions.reverse, 6),
    "pick": (instructions.pick, 6),
    "capitals": (instructions.capitals, 3),
    "past": (instructions.past, 2),
    "polite": (instructions.polite, 3),
    "summarize": (instructions.summarize, 1),
    "ambiguity": (ambiguity.write, 1),
}


def few(free, count_of_options=2, salt=0):
    """Narrow a grammar: `count_of_options` options at the choices in `free`, one everywhere else."""

    def allowed(number, count):
        first = (number * 37 + salt) % count
        return sorted({(first + k) % count for k in range(count_of_options if number in free else 1)})

    return allowed


@pytest.mark.parametrize("name", SMALL_GRAMMARS)
def test_a_small_grammar_enumerated_completely_sums_to_one(name, monkeypatch):
    grammar, size = SMALL_GRAMMARS[name]
    monkeypatch.setattr(ambiguity, "NAMES", ("Austin", "Paris"))
    for table in ("OPENINGS", "PERSON", "CITY", "PERSON_AGAIN", "CITY_AGAIN"):
        monkeypatch.setattr(ambiguity, table, getattr(ambiguity, table)[:3])
    monkeypatch.setattr(languages, "SAYING", ("says",))
    monkeypatch.setattr(languages, "REPEATING", ("adds",))
    monkeypatch.setattr(languages, "GREETINGS", dict.fromkeys(LANGUAGES, ("Hm.", "Oh.")))
    village = town.TOWN.small(size)
    assert_is_distribution(walk(lambda page: grammar(page, village)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_with_few_options_sums_to_one(family):
    for salt in range(4):
        free = range(5 * salt, 5 * salt + 9)
        assert_is_distribution(walk(partial(town.FAMILIES[family], town=town.TOWN), allowed=few(free, 2, salt)))


class RecordingPage(ReplayPage):
    """Remembers the log-probability before every choice."""

    def __init__(self, path):
        super().__init__(path)
        self.record = []

    def _draw(self, *arguments):
        self.record.append(self.log_probability)
        return super()._draw(*arguments)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_endings_of_a_document_have_the_probability_of_its_beginning(family):
    for text, _ in sample()[family][:3]:
        _, choices, _ = town.parse(text)
        page = RecordingPage([[index] for index in choices])
        town.write(page)
        assert page.text == text
        for last in (1,) if family == "ambiguity" else (1, 2):  # two choices before the end stand too many endings
            ways = walk(town.write, start=choices[:-last])
            assert_is_distribution(ways, total=math.exp(page.record[-last]))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_document_has_one_derivation_with_its_probability(family):
    for text, log_probability in sample()[family][:60]:
        ways = list(walk(town.write, text=text))
        assert len(ways) == 1, f"{len(ways)} derivations of {text!r}"
        assert ways[0][1] == text
        assert ways[0][2] == pytest.approx(log_probability, rel=1e-12)
        assert town.parse(text) == (family, ways[0][0], ways[0][2])
        assert town.log_probability(text) == ways[0][2]


def test_what_is_no_document_has_no_probability():
    text = sample()["stories"][0][0]
    for wrong in ("", text[:-1], text + " ", text.replace("Question", "question"), "Hello."):
        assert town.log_probability(wrong) == -math.inf
        with pytest.raises(DataError, match="not a document"):
            town.parse(wrong)


def test_a_wrong_answer_has_no_probability():
    for question in town.exam_questions(3):
        for k, option in enumerate(question.options):
            text = question.context + option
            ends = list(walk(town.write, text=text))
            assert k == question.answer or not ends


# Sampling agrees with the probabilities.


def p_value(found, expected):
    """Chi-square test of counts (a Counter) against probabilities (a dict), rare ones put together."""
    total = sum(found.values())
    assert set(found) <= set(expected)
    assert sum(expected.values()) == pytest.approx(1)
    large = [key for key, p in expected.items() if p * total >= 10]
    counts = [found[key] for key in large]
    rates = [expected[key] * total for key in large]
    if total - sum(rates) > 1:
        counts, rates = [*counts, total - sum(counts)], [*rates, total - sum(rates)]
    return chisquare(counts, rates).pvalue


def test_families_are_as_frequent_as_their_weights():
    found = Counter({family: len(documents) for family, documents in sample().items()})
    weights = dict(zip(FAMILIES, town.FAMILY_WEIGHTS.weights, strict=True))
    assert p_value(found, {family: weight / 18 for family, weight in weights.items()}) > 0.01


def test_citizens_are_as_frequent_as_their_fame():
    names = [citizen.name for citizen in town.TOWN.citizens]
    weights = [1 / (rank + 1) ** 0.8 for rank in range(len(names))]
    expected = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    first = Counter()
    for seed in range(300):
        page = SamplingPage(np.random.default_rng(seed))
        first.update(facts.next_citizen(page, town.TOWN, []).name for _ in range(20))
    assert p_value(first, expected) > 0.01
    second = Counter()
    page = SamplingPage(np.random.default_rng(1))
    second.update(facts.next_citizen(page, town.TOWN, [4, 0, 419]).name for _ in range(6000))
    left = 1 - sum(expected[names[rank]] for rank in (4, 0, 419))
    assert p_value(second, {n: p / left for r, (n, p) in enumerate(expected.items()) if r not in (4, 0, 419)}) > 0.01


def test_numbers_and_words_are_uniform():
    page = SamplingPage(np.random.default_rng(2))
    found = Counter(page.say(range(100, 1000)) // 45 for _ in range(20_000))
    assert p_value(found, {k: (45 if 2 < k < 22 else 35 if k == 2 else 10) / 900 for k in range(2, 23)}) > 0.01
    drawn = Counter(page.choose(range(7)) for _ in range(20_000))
    assert p_value(drawn, dict.fromkeys(range(7), 1 / 7)) > 0.01
    weather = Counter(text.split()[3] for text, _ in sample()["stories"])
    assert p_value(weather, {word: 1 / len(town.TOWN.weather) for word in town.TOWN.weather}) > 0.01


def test_weights_without_some_options():
    weights = Weights([5, 1, 3, 2])
    for without in ([], [0], [3], [1, 2], [2, 1], [0, 3]):
        left = weights.left(without)
        found = Counter(weights.at(position, without) for position in range(left))
        assert found == {i: weights.weights[i] for i in range(4) if i not in without}
        for i, count in found.items():
            assert weights.log_probability(i, without) == pytest.approx(math.log(count / left))


# Splits, size, speed of growth.


def test_splits_are_reproducible_and_disjoint():
    texts = {split: [text for _, text, _ in town.documents(split, 0, 500)] for split in town.SPLITS}
    assert len({text for documents in texts.values() for text in documents}) == 4 * 500
    assert town.documents("test", 100, 5) == [*town.documents("test", 100, 3), *town.documents("test", 103, 2)]
    assert texts["train"] == [text for _, text, _ in town.documents("train", 0, 500)]
    with pytest.raises(DataError, match="unknown split"):
        town.documents("training", 0, 1)


def test_answers_of_the_documents():
    """Each answer follows the colon of its question, instruction or program, and ends a line, but for its form."""
    forms = {"{}", "{}.", "at the {}."} | {form for _, form in facts.QUESTIONS.values()}
    forms = {tuple(f" {form}".split("{}")) for form in forms}  # before and after the answer
    answered = town.answered_documents("train", 3, 200, "hard")
    assert [text for text, _ in answered] == [text for _, text, _ in town.documents("train", 3, 200, "hard")]
    for text, spans in answered:
        markers = re.finditer(r"(?:Steps|Response|Trace|\? Answer|(?<!\d)\. Answer):(.*(?:\n\S+ = .*)*)", text)
        for (start, end), line in zip(spans, markers, strict=True):
            assert line.start(1) <= start < end <= line.end(1)
            assert (text[line.start(1) : start + 1], text[end : line.end(1)]) in forms


def test_document_follows_its_generator():
    text, log_probability = town.document(np.random.default_rng(5))
    assert (text, log_probability) == town.document(np.random.default_rng(5))
    assert town.log_probability(text) == pytest.approx(log_probability, rel=1e-12)


def test_the_distribution_is_frozen():
    text = "\n\n".join(text for split in town.SPLITS for _, text, _ in town.documents(split, 0, 200))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FROZEN


FROZEN = "4b0e881f6e89edd1"


def test_the_floor_is_known_within_a_per_cent():
    values = np.array([value for documents in sample().values() for _, value in documents])
    characters = sum(len(text) for documents in sample().values() for text, _ in documents)
    assert 0.15 < -values.sum() / characters < 0.35
    assert values.std() / math.sqrt(len(values)) < 0.01 * -values.mean()


def test_there_are_two_thousand_facts_and_all_are_told():
    citizens = town.TOWN.citizens
    assert len({citizen.name for citizen in citizens}) == len(citizens) == 420
    assert len(citizens) * len(ATTRIBUTES) >= 2000
    for attribute, rows in ATTRIBUTES.items():
        assert len({row[0] for row in rows}) == len(rows)
        assert {citizen.facts[attribute] for citizen in citizens} == set(range(len(rows)))
    fame = town.TOWN.fame
    share_of_facts, share_of_languages = 4 / 18, 3 / 18
    facts_in_a_document = 2 + 3 * 4 / 3  # two questions; each citizen one fact or, every third time, two
    told = 250_000 * (share_of_facts * facts_in_a_document + share_of_languages * 3) / len(ATTRIBUTES)
    assert told * fame.weights[-1] / fame.total > 20


def told_state(text):
    """What a drill says last of each thing: {thing: {"colour": ..., "owner": ..., "place": ...}}, read by patterns."""
    state = defaultdict(dict)
    patterns = (
        (r" (?P<owner>\w+) (?:had|brought) an? (?P<colour>\w+) (?P<thing>\w+)\.", {}),
        (r" An? (?P<colour>\w+) (?P<thing>\w+) belonged to (?P<owner>\w+)\.", {}),
        (r" An? (?P<colour>\w+) (?P<thing>\w+) lay at the (?P<place>[^.]+)\.", {}),
        (r" There was an? (?P<colour>\w+) (?P<thing>\w+) at the (?P<place>[^.]+)\.", {}),
        (r" (?:gave|handed|passed) the (?P<thing>\w+) to (?P<owner>\w+)\.", {"place": None}),
        (r" painted the (?P<thing>\w+) (?P<colour>\w+)\.", {}),
        (r" left the (?P<thing>\w+) at the (?P<place>[^.]+)\.", {"owner": None}),
        (r" took the (?P<thing>\w+) to the (?P<place>[^.]+?) and left it there\.", {"owner": None}),
        (r" (?P<owner>\w+) (?:\w+ )?(?:fetched the|picked up the) (?P<thing>\w+)", {"place": None}),
    )
    for sentence in re.findall(r" [^.]+\.", text):
        for pattern, others in patterns:
            if match := re.search(pattern + "$" if pattern.endswith(r"\.") else pattern, sentence):
                found = match.groupdict()
                state[found.pop("thing")].update(found | others)
    return state


@pytest.mark.parametrize(("drill", "sentences"), [("colours", {3}), ("introductions", {3}), ("recall", {4, 5, 6})])
def test_drills_ask_for_each_thing_once_and_answer_by_what_was_told(drill, sentences):
    kinds, numbers_of_sentences, orders = set(), set(), set()
    for (family, text, _), (same, spans) in zip(
        town.documents("train", 5, 60, drill), town.answered_documents("train", 5, 60, drill), strict=True
    ):
        assert (family, text) == ("stories", same)
        story, *questions = text.split("\nQuestion: ")
        numbers_of_sentences.add(story.count("."))
        state = told_state(story)
        asked = []
        for question, span in zip(questions, spans, strict=True):
            kind, thing = re.match(r"(What colour is|Where is|Who has) the (\w+) now\?", question).groups()
            key = {"What colour is": "colour", "Where is": "place", "Who has": "owner"}[kind]
            assert text[slice(*span)] == f" {state[thing][key]}", text
            asked.append(thing)
            kinds.add(key)
        assert sorted(asked) == sorted(state) and len(asked) == 3
        orders.add(tuple(list(state).index(thing) for thing in asked))
    assert kinds == ({"colour"} if drill == "colours" else {"colour", "owner", "place"})
    assert len(orders) == 6  # every order
    assert numbers_of_sentences == sentences


def test_unknown_collections_are_refused():
    with pytest.raises(DataError, match="unknown collection 'easy': expected one of natural, hard, colours"):
        town.documents("train", 0, 1, "easy")

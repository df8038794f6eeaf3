"""Instructions: rewrite, sort, count, summarize, answer. The response follows from the instruction and the text."""

from functools import partial

from tinyslm.text.town.vocabulary import words
from tinyslm.text.town.world import is_woman, others

COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ORDINALS = ("first", "second", "third", "fourth")
GOING = {"walks": "walked", "runs": "ran", "drives": "drove", "comes": "came", "returns": "returned", "goes": "went"}
DOING = {
    "buys": "bought",
    "finds": "found",
    "paints": "painted",
    "sells": "sold",
    "repairs": "repaired",
    "draws": "drew",
    "loses": "lost",
    "cleans": "cleaned",
}
COMMANDS = ("Bring", "Carry", "Send", "Return", "Show", "Sell", "Lend", "Give")
MOODS = words("tired late hungry thirsty curious sleepy cheerful bored")


def write(page, town):
    """Two instructions, each with its text and response."""
    instruct(page, town)
    page.write("\n")
    instruct(page, town)


def instruct(page, town):
    """One instruction of one kind."""
    page.choose(KINDS)(page, town)


def begin(page, wordings):
    """Write the instruction in one of its wordings."""
    page.write("Instruction: ")
    page.say(wordings)
    page.write(" Text: ")


def say_list(page, words):
    """Write three to six different words with commas between them; returns them."""
    said = [page.say(words)]
    for _ in range(page.choose((2, 3, 4, 5))):
        page.write(", ")
        said.append(page.say(others(words, *said)))
    page.write(". Response:")
    return said


def listed(words):
    """['cup', 'bell'] -> 'cup, bell'."""
    return ", ".join(words)


def reorderings(words):
    """Some wrong orders of a list: two neighbours exchanged, both directions, sorted, rotated."""
    exchanged = [
        [*order[:i], order[i + 1], order[i], *order[i + 2 :]]
        for order in (sorted(words), words[::-1])
        for i in range(len(words) - 1)
    ]
    return [listed(order) for order in [words, words[::-1], sorted(words), sorted(words)[::-1], *exchanged]]


def reverse(page, town):
    """cup, bell, kite -> kite, bell, cup"""
    begin(page, ("Reverse the list.", "Write the words in reverse order.", "Say the list backwards."))
    words = say_list(page, town.things)
    page.answer(listed(reversed(words)), partial(reorderings, words))


def sort(page, town):
    """cup, bell, kite -> bell, cup, kite"""
    begin(page, ("Sort the words.", "Put the words in alphabetical order.", "Sort the list from A to Z."))
    words = say_list(page, town.things)
    page.answer(listed(sorted(words)), partial(reorderings, words))


def count(page, town):
    """cup, bell, kite -> three"""
    begin(page, ("Count the words.", "How many words are in the list?", "Say how long the list is."))
    words = say_list(page, town.things)
    page.answer(COUNTS[len(words)], COUNTS[len(words) - 2 : len(words) + 3])


def pick(page, town):
    """third: cup, bell, kite -> kite"""
    page.write("Instruction: ")
    said = page.tell(("Name the {nth} person.", "Who comes {nth}?", "Pick the {nth} name."), nth=ORDINALS[:3])
    page.write(" Text: ")
    words = say_list(page, town.people)
    page.answer(words[ORDINALS.index(said["nth"])], words, town.people)


def capitals(page, town):
    """a rusty kettle and a bell -> A RUSTY KETTLE AND A BELL"""
    begin(page, ("Write the text in capital letters.", "Use only capital letters.", "Write this in upper case."))
    said = page.tell(
        ("a {adjective} {thing} and a {colour} {other}.", "the {colour} {thing} of the {adjective} {place}."),
        adjective=town.adjectives,
        thing=town.things,
        colour=town.colours,
        other=town.things,
        place=town.places,
    )
    page.write(" Response:")
    form = (
        "a {adjective} {thing} and a {colour} {other}"
        if "other" in said
        else "the {colour} {thing} of the {adjective} {place}"
    )
    right = form.format(**said)
    lists = {
        "adjective": town.adjectives,
        "colour": town.colours,
        "thing": town.things,
        "other": town.things,
        "place": town.places,
    }

    def wrong():
        for slot, options in lists.items():
            if slot in said:
                for word in others(options, said[slot])[:4]:
                    yield form.format(**{**said, slot: word}).upper()

    page.answer(right.upper(), wrong)


def past(page, town):
    """Mara walks to the mill and buys a cup -> Mara walked to the mill and bought a cup"""
    begin(page, ("Put the text in the past tense.", "Tell it as if it happened yesterday.", "Use the past tense."))
    said = page.tell(
        ("{who} {goes} to the {place} and {does} a {adjective} {thing}.",),
        who=town.people,
        goes=tuple(GOING),
        place=town.places,
        does=tuple(DOING),
        adjective=town.adjectives,
        thing=town.things,
    )
    page.write(" Response:")
    form = "{who} {goes} to the {place} and {does} a {adjective} {thing}"
    goes, does = said["goes"], said["does"]

    def wrong():
        yield form.format(**said)
        yield form.format(**{**said, "goes": GOING[goes]})
        yield form.format(**{**said, "does": DOING[does]})
        yield from (
            form.format(**{**said, "goes": GOING[goes], "does": do}) for do in others(DOING.values(), DOING[does])
        )

    page.answer(form.format(**{**said, "goes": GOING[goes], "does": DOING[does]}), wrong)


def polite(page, town):
    """Bring the cup to Omar. -> Could you please bring the cup to Omar?"""
    begin(page, ("Make the text polite.", "Ask politely.", "Turn the command into a polite question."))
    said = page.tell(
        ("{do} the {adjective} {thing} to {who}.",),
        do=COMMANDS,
        adjective=town.adjectives,
        thing=town.things,
        who=town.people,
    )
    page.write(" Response:")
    form = "Could you please {do} the {adjective} {thing} to {who}?"
    said["do"] = said["do"].lower()

    def wrong():
        for slot, options in (("do", COMMANDS), ("thing", town.things), ("who", town.people)):
            for word in others(options, said[slot], said[slot].capitalize())[:4]:
                yield form.format(**{**said, slot: word.lower() if slot == "do" else word})

    page.answer(form.format(**said), wrong, form="{}")


def summarize(page, town):
    """Three sentences -> who did what and where."""
    begin(page, ("Summarize the text.", "Say it in one sentence.", "What is the main point?"))
    said = page.tell(("{who} was {mood} on {day}.",), who=town.people, mood=MOODS, day=town.days)
    who = said["who"]
    page.write(" She " if is_woman(who) else " He ")
    said |= page.tell(("{went} {how} to the {place}",), went=tuple(GOING.values()), how=town.adverbs, place=town.places)
    page.write(". There ")
    page.write("she " if is_woman(who) else "he ")
    said |= page.tell(("{did} a {colour} {thing}.",), did=tuple(DOING.values()), colour=town.colours, thing=town.things)
    page.write(" Response:")
    form = "{who} {did} a {thing} at the {place}"
    lists = {"who": town.people, "did": tuple(DOING.values()), "thing": town.things, "place": town.places}

    def wrong():
        for slot, options in lists.items():
            for word in others(options, said[slot])[:4]:
                yield form.format(**{**said, slot: word})

    page.answer(form.format(**said), wrong)


def comprehend(page, town):
    """Three people do three things; who did this one?"""
    page.write("Instruction: Answer the question. Text: ")
    who, what = [], []
    for join in ("", ", ", " and "):
        page.write(join)
        said = page.tell(
            ("{who} {did} a {colour} {thing}",),
            who=others(town.people, *who),
            did=tuple(DOING.values()),
            colour=town.colours,
            thing=others(town.things, *(said["thing"] for said in what)),
        )
        who.append(said["who"])
        what.append(said)
    page.write(". ")
    asked = page.choose(what)
    if page.choose(("who", "which colour")) == "who":
        page.write(f"Who {asked['did']} a {asked['thing']}? Response:")
        page.answer(asked["who"], who, town.people)
    else:
        page.write(f"What colour was the {asked['thing']}? Response:")
        page.answer(asked["colour"], [said["colour"] for said in what], town.colours)


KINDS = (reverse, sort, count, pick, capitals, past, polite, summarize, comprehend)

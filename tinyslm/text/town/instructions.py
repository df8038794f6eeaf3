"""Instructions family: rewrite, sort, count, summarize, answer. Instruction and text determine the response."""

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
    """Write two instructions, each with its text and response."""
    instruct(page, town)
    page.write("\n")
    instruct(page, town)


def instruct(page, town):
    """Write one instruction of a random kind."""
    page.choose(KINDS)(page, town)


def begin(page, wordings):
    """Write the instruction in one of its wordings."""
    page.write("Instruction: ")
    page.say(wordings)
    page.write(" Text: ")


def say_list(page, words):
    """Write three to six different words, separated by commas; returns them."""
    filled = [page.say(words)]
    for _ in range(page.choose((2, 3, 4, 5))):
        page.write(", ")
        filled.append(page.say(others(words, *filled)))
    page.write(". Response:")
    return filled


def listed(words):
    """Join words by commas: ['cup', 'bell'] -> 'cup, bell'."""
    return ", ".join(words)


def reorderings(words):
    """Other orders of a list: reversed, sorted in both directions, and with two neighbours exchanged."""
    exchanged = [
        [*order[:i], order[i + 1], order[i], *order[i + 2 :]]
        for order in (sorted(words), words[::-1])
        for i in range(len(words) - 1)
    ]
    return [listed(order) for order in [words, words[::-1], sorted(words), sorted(words)[::-1], *exchanged]]


def replacements(form, filled, lists):
    """Yield the form with the word of one slot replaced, up to four times for each slot of `lists`, {slot: words}."""
    for slot, options in lists.items():
        if slot in filled:
            for word in others(options, filled[slot])[:4]:
                yield form.format(**{**filled, slot: word})


def reverse(page, town):
    """Reverse a list: cup, bell, kite -> kite, bell, cup."""
    begin(page, ("Reverse the list.", "Write the words in reverse order.", "Say the list backwards."))
    words = say_list(page, town.things)
    page.answer(listed(reversed(words)), partial(reorderings, words))


def sort(page, town):
    """Sort a list: cup, bell, kite -> bell, cup, kite."""
    begin(page, ("Sort the words.", "Put the words in alphabetical order.", "Sort the list from A to Z."))
    words = say_list(page, town.things)
    page.answer(listed(sorted(words)), partial(reorderings, words))


def count(page, town):
    """Count the words of a list: cup, bell, kite -> three."""
    begin(page, ("Count the words.", "How many words are in the list?", "Say how long the list is."))
    words = say_list(page, town.things)
    page.answer(COUNTS[len(words)], COUNTS[len(words) - 2 : len(words) + 3])


def pick(page, town):
    """Pick a name by its position: third: Mara, Omar, Ines -> Ines."""
    page.write("Instruction: ")
    filled = page.tell(("Name the {nth} person.", "Who comes {nth}?", "Pick the {nth} name."), nth=ORDINALS[:3])
    page.write(" Text: ")
    words = say_list(page, town.people)
    page.answer(words[ORDINALS.index(filled["nth"])], words, town.people)


def capitals(page, town):
    """Write in capital letters: a rusty kettle and a bell -> A RUSTY KETTLE AND A BELL."""
    begin(page, ("Write the text in capital letters.", "Use only capital letters.", "Write this in upper case."))
    forms = ("a {adjective} {thing} and a {colour} {other}", "the {colour} {thing} of the {adjective} {place}")
    slots = town.slots | {"other": town.things}
    filled = page.tell([f"{form}." for form in forms], **slots)
    page.write(" Response:")
    form = forms[0] if "other" in filled else forms[1]
    lists = {slot: slots[slot] for slot in ("adjective", "colour", "thing", "other", "place")}
    page.answer(form.format(**filled).upper(), lambda: [text.upper() for text in replacements(form, filled, lists)])


def past(page, town):
    """Write in the past tense: Mara walks to the mill and buys a cup -> Mara walked to the mill and bought a cup."""
    begin(page, ("Put the text in the past tense.", "Tell it as if it happened yesterday.", "Use the past tense."))
    filled = page.tell(
        ("{who} {goes} to the {place} and {does} a {adjective} {thing}.",),
        goes=tuple(GOING),
        does=tuple(DOING),
        **town.slots,
    )
    page.write(" Response:")
    goes, does = GOING[filled["goes"]], DOING[filled["does"]]

    def changed(**words):
        return "{who} {goes} to the {place} and {does} a {adjective} {thing}".format(**filled | words)

    def wrong():
        yield from (changed(), changed(goes=goes), changed(does=does))
        yield from (changed(goes=goes, does=other) for other in others(DOING.values(), does))

    page.answer(changed(goes=goes, does=does), wrong)


def polite(page, town):
    """Write a polite request: Bring the cup to Omar. -> Could you please bring the cup to Omar?"""
    begin(page, ("Make the text polite.", "Ask politely.", "Turn the command into a polite question."))
    filled = page.tell(("{do} the {adjective} {thing} to {who}.",), do=COMMANDS, **town.slots)
    page.write(" Response:")
    form = "Could you please {do} the {adjective} {thing} to {who}?"
    filled["do"] = filled["do"].lower()
    lists = {"do": [command.lower() for command in COMMANDS], "thing": town.things, "who": town.people}
    page.answer(form.format(**filled), partial(replacements, form, filled, lists), form="{}")


def summarize(page, town):
    """Summarize two sentences about one person in one sentence: person, action, thing and place."""
    begin(page, ("Summarize the text.", "Say it in one sentence.", "What is the main point?"))
    filled = page.tell(("{who} was {mood} on {day}.",), mood=MOODS, **town.slots)
    who = filled["who"]
    page.write(" She " if is_woman(who) else " He ")
    filled |= page.tell(("{went} {how} to the {place}",), went=tuple(GOING.values()), **town.slots)
    page.write(". There ")
    page.write("she " if is_woman(who) else "he ")
    filled |= page.tell(("{did} a {colour} {thing}.",), did=tuple(DOING.values()), **town.slots)
    page.write(" Response:")
    form = "{who} {did} a {thing} at the {place}"
    lists = {"who": town.people, "did": tuple(DOING.values()), "thing": town.things, "place": town.places}
    page.answer(form.format(**filled), partial(replacements, form, filled, lists))


def comprehend(page, town):
    """Answer a question: three people with one action each -> the person or the colour of one action."""
    page.write("Instruction: Answer the question. Text: ")
    who, what = [], []
    for join in ("", ", ", " and "):
        page.write(join)
        filled = page.tell(
            ("{who} {did} a {colour} {thing}",),
            who=others(town.people, *who),
            did=tuple(DOING.values()),
            colour=town.colours,
            thing=others(town.things, *(filled["thing"] for filled in what)),
        )
        who.append(filled["who"])
        what.append(filled)
    page.write(". ")
    asked = page.choose(what)
    if page.choose(("who", "which colour")) == "who":
        page.write(f"Who {asked['did']} a {asked['thing']}? Response:")
        page.answer(asked["who"], who, town.people)
    else:
        page.write(f"What colour was the {asked['thing']}? Response:")
        page.answer(asked["colour"], [filled["colour"] for filled in what], town.colours)


KINDS = (reverse, sort, count, pick, capitals, past, polite, summarize, comprehend)

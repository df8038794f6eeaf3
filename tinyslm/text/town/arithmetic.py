"""Arithmetic family: sums, differences and products with every step written out, plain or as word problems."""

from functools import partial

from tinyslm.text.town.world import others

PLAIN = ("What is {a} {sign} {b}?", "Work out {a} {sign} {b}.", "How much is {a} {sign} {b}?")
SUMS = (
    "{who} has {a} {adjective} {thing}s and finds {b} more at the {place}. How many now?",
    "On {day} {who} sold {a} {thing}s and {other} sold {b} {colour} ones. How many together?",
    "There are {a} {colour} and {b} {adjective} {thing}s at the {place}. How many in all?",
)
DIFFERENCES = (
    "{who} had {a} {adjective} {thing}s and lost {b} of them at the {place}. How many are left?",
    "Of {a} {colour} {thing}s at the {place}, {who} sold {b} on {day}. How many are left?",
    "{who} has {a} {thing}s and {other} has {b} {colour} ones. How many more has {who}?",
)
PRODUCTS = (
    "{who} fills {b} {adjective} boxes with {a} {thing}s each at the {place}. How many {thing}s?",
    "At the {place} a {colour} {thing} costs {a} coins. {who} buys {b} on {day}. How many coins?",
    "For {b} days {who} paints {a} {adjective} {thing}s a day. How many {thing}s?",
)
STORIES = {"+": SUMS, "-": DIFFERENCES, "x": PRODUCTS}
NUMBERS = {  # {sign: ranges of a and b, short and long}; differences are never negative
    "+": ((range(10, 100), range(10, 100)), (range(100, 1000), range(100, 1000))),
    "-": ((range(50, 100), range(10, 50)), (range(200, 1000), range(10, 200))),
    "x": ((range(10, 100), range(2, 10)),),
}


def write(page, town):
    """Write two problems, each with its steps."""
    problem(page, town)
    page.write("\n")
    problem(page, town)


def problem(page, town):
    """Write one problem: a sign, two numbers, plain or as a word problem."""
    sign = page.choose(("+", "-", "x"))
    first, second = page.choose(NUMBERS[sign])
    sentences = page.choose((PLAIN, STORIES[sign]))
    page.write("Question: ")
    filled = page.tell(
        sentences,
        a=first,
        b=second,
        sign=sign,
        other=lambda filled: others(town.people, filled["who"]),
        **town.slots,
    )
    page.write(" Steps:")
    a, b = filled["a"], filled["b"]
    page.answer(solution(a, sign, b), partial(wrong_solutions, a, sign, b), form="{}")


def digits(number):
    """The digits, units first: 348 -> [8, 4, 3]."""
    return [int(digit) for digit in reversed(str(number))]


def solution(a, sign, b, slip=None):
    """The steps, units first, and the answer: '8 + 5 = 13, 4 + 7 + 1 = 12, 3 + 2 + 1 = 6. Answer: 623.'

    slip: (step, amount) adds `amount` to the result of one step, and later steps use the wrong result; an amount of
    None forgets the carry of the step.
    """
    upper, lower = digits(a), digits(b)
    steps, written, carry = [], [], 0
    for k, digit in enumerate(upper if sign == "x" else upper + [0] * (len(lower) - len(upper))):
        other = lower[0] if sign == "x" else (lower[k] if k < len(lower) else 0)
        if sign == "+":
            result = digit + other + carry
            step = f"{digit} + {other}" + (f" + {carry}" if carry else "")
        elif sign == "x":
            result = digit * other + carry
            step = f"{digit} x {other}" + (f" + {carry}" if carry else "")
        else:
            digit += 10 if digit < other + carry else 0  # borrow ten from the next digit
            result = digit - other - carry
            step = f"{digit} - {other}" + (f" - {carry}" if carry else "")
            carry = int(digit > 9)
        if slip is not None and slip[0] == k and slip[1] is not None:
            result = max(0, result + slip[1])
        if sign != "-":
            carry = result // 10
        if slip is not None and slip == (k, None):
            carry = 0
        steps.append(f"{step} = {result}")
        written.append(result % 10)
    total = carry if sign != "-" else 0
    for digit in reversed(written):
        total = 10 * total + digit
    return f"{', '.join(steps)}. Answer: {total}."


def wrong_solutions(a, sign, b):
    """Yield solutions with one slip each. Some slips do not change the solution."""
    for step in range(len(str(a))):
        for amount in (None, 1, -1, 2, -2, 10):
            yield solution(a, sign, b, (step, amount))

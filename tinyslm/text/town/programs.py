"""Programs family: a few lines of Python, the trace of all assignments, and the printed output."""

from functools import partial

NAMES = tuple("abcdkmnprstwxyz")
COMMENTS = (
    "# {who} counts the {colour} {thing}s.",
    "# How many {adjective} {thing}s has {who}?",
    "# Written by {who} on {day} {hour}.",
    "# The {thing}s at the {place}, by {who}.",
)


def write(page, town):
    """Write a comment, two variables, one or two statements and a print; then the trace and the output."""
    page.tell(COMMENTS, **town.slots)
    page.write("\n")
    first = page.say(NAMES)
    page.write(" = ")
    program = [("set", first, page.say(range(21, 41)))]
    names = [first]
    page.write("\n")
    for statement in (second_line, *[more_lines] * page.choose((1, 2))):
        program.append(statement(page, names))
        page.write("\n")
    page.write("print(")
    program.append(("print", page.say(names)))
    page.write(")\nTrace:")
    page.answer(run(program), partial(wrong_runs, program), form="{}")


def second_line(page, names):
    """Write 'k = a + 7': a new variable from the first one."""
    return new_variable(page, names, ("+", "-", "*"))


def new_variable(page, names, signs):
    """Write a new variable from an old one and a number."""
    old = names[:]
    new = page.say([name for name in NAMES if name not in names])
    names.append(new)
    page.write(" = ")
    left = page.say(old)
    page.write(" ")
    sign = page.say(signs)
    page.write(" ")
    right = page.say({"+": range(1, 21), "-": range(1, 10), "*": (2, 3)}[sign])
    return ("operate", new, left, sign, right)


def more_lines(page, names):
    """Write a loop, a condition, or one more variable."""
    kind = page.choose(("loop", "if", "variable"))
    if kind == "variable":
        return new_variable(page, names, ("+", "-"))
    if kind == "loop":
        page.write("for i in range(")
        rounds = page.say((2, 3, 4))
        page.write("):\n    ")
        return ("loop", rounds, *change(page, names))
    page.write("if ")
    name = page.say(names)
    page.write(" > ")
    limit = page.say(range(15, 65))
    page.write(":\n    ")
    then = change(page, names)
    page.write("\nelse:\n    ")
    return ("if", name, limit, then, change(page, names))


def change(page, names):
    """Write 'k = k + 3' with an existing variable; returns (name, sign, number)."""
    name = page.say(names)
    page.write(f" = {name} ")
    sign = page.say(("+", "-"))
    page.write(" ")
    return (name, sign, page.say(range(1, 10) if sign == "+" else range(1, 3)))


OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


def run(program, slip=None):
    """The trace and the output: 'a = 21, k = 28. Output: 28.'

    slip: (step, amount) adds `amount` to the value of one assignment; later assignments use the wrong value.
    """
    values, trace, output = {}, [], None

    def assign(name, value):
        if slip is not None and slip[0] == len(trace):
            value += slip[1]
        values[name] = value
        trace.append(f"{name} = {value}")

    for kind, *rest in program:
        if kind == "set":
            assign(*rest)
        elif kind == "operate":
            name, left, sign, right = rest
            assign(name, OPERATIONS[sign](values[left], right))
        elif kind == "loop":
            rounds, name, sign, number = rest
            for _ in range(rounds):
                assign(name, OPERATIONS[sign](values[name], number))
        elif kind == "if":
            name, limit, then, otherwise = rest
            name, sign, number = then if values[name] > limit else otherwise
            assign(name, OPERATIONS[sign](values[name], number))
        else:
            output = values[rest[0]]
    return f"{', '.join(trace)}. Output: {output}."


def wrong_runs(program):
    """Yield runs with one slip each."""
    for step in range(1, run(program).count(" = ")):
        for amount in (1, -1, 2, -2, 10):
            yield run(program, (step, amount))

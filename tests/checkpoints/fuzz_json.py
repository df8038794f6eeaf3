"""Values that nobody expects in a JSON file, and a writer of JSON that may also be wrong."""

import json

DTYPE_NAMES = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"]
DTYPE_NAMES += ["F8_E4M3", "F8_E5M2"]
OTHER_DTYPES = ["F8_E8M0", "F8_E4M3FN", "F4", "C64", "f32", "float32", "<f4", "O", "", "F32\0", "\ud800"]


class Raw(str):
    """Goes into the file as it is, whether it is JSON or not."""


class Pairs(list):
    """An object as a list of [name, value]: names may occur twice."""

    def names(self):
        return [name for name, _ in self]

    def values(self):
        return [value for _, value in self]

    def set(self, name, value):
        """Exchange the value of a name, or add it."""
        for pair in self:
            if pair[0] == name:
                pair[1] = value
                return
        self.append([name, value])

    def get(self, name):
        return next((value for found, value in self if found == name), None)


NUMBERS = [0, 1, 2, 3, 4, 7, 8, 24, 64, -1, -8, 2**15, 2**30, 2**31 - 1, 2**32, 2**53 + 1, 2**58, 2**59, 2**60, 2**62]
NUMBERS += [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**64), 10**40, 10**400, -(10**4200), 0.0, 1.0, 2.0, 0.5]
NUMBERS += [-1.5, 1e30, 1e-320, 1e308, True, False, None]
RAW_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", "-0", "-0.0", "1E2", "9" * 5000, "08", "0x10", "1_0", "+1", "."]
TEXTS = ["", "a", "F32", "0", "8", "\0", "a\0b", "\ud800", "\udfff.weight", "é", "𝄞", "x" * 300, "x" * 5000, "null"]
TEXTS += ["__metadata__", "../secret", "/dev/zero", ".", "..", "\n", '"', "\\", "{}", "\x7f\x1b[2J", "\u202e", "\u2028"]


def odd_number(rng):
    """A number at the edge of what somebody may have thought of, or what is no number."""
    return Raw(rng.choice(RAW_NUMBERS)) if rng.random() < 0.05 else rng.choice(NUMBERS)


def odd_value(rng, depth=0):
    """Any JSON value, now and then nested, huge or not JSON at all."""
    kind = rng.random()
    if kind < 0.4 or depth > 3:
        return odd_number(rng)
    if kind < 0.6:
        return rng.choice(TEXTS)
    if kind < 0.75:
        return [odd_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind < 0.9:
        return Pairs([rng.choice(TEXTS), odd_value(rng, depth + 1)] for _ in range(rng.randrange(4)))
    if kind < 0.93:
        levels = rng.choice([10, 900, 5000])
        return Raw("[" * levels + "]" * levels)
    if kind < 0.96:
        levels = rng.choice([10, 900, 5000])
        return Raw('{"a":' * levels + "0" + "}" * levels)
    return wide_and_deep(rng.randrange(1, 5))


def wide_and_deep(levels):
    """Lists in lists, six of them at each level, with long texts: what makes messages long."""
    return "y" * 200 if levels == 0 else [wide_and_deep(levels - 1)] * 6


def pairs_of(value):
    """The value with every dict as Pairs."""
    if isinstance(value, dict):
        return Pairs([name, pairs_of(inner)] for name, inner in value.items())
    return [pairs_of(inner) for inner in value] if isinstance(value, list) else value


def json_text(value, ascii_only=True):
    """The value as JSON; without ascii_only, lone surrogates become bytes that are not UTF-8."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        inner = (f"{json.dumps(name, ensure_ascii=ascii_only)}:{json_text(entry, ascii_only)}" for name, entry in value)
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(json_text(inner, ascii_only) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def json_bytes(value, ascii_only=True):
    """The bytes of the value as JSON."""
    return json_text(value, ascii_only).encode("utf-8", "surrogatepass")


def containers(value):
    """Every list and object within a value, itself included."""
    found = [value] if isinstance(value, list) else []
    for inner in found[:]:
        for entry in inner:
            found += containers(entry[1] if isinstance(inner, Pairs) else entry)
    return found


def damage_value(rng, value):
    """Change one place somewhere within a list or an object, in place."""
    container = rng.choice(containers(value))
    kind = rng.choice(["exchange", "exchange", "exchange", "scale", "remove", "repeat", "swap", "rename", "add"])
    if kind == "add" or not container:
        container.append([rng.choice(TEXTS), odd_value(rng)] if isinstance(container, Pairs) else odd_value(rng))
        return
    place = rng.randrange(len(container))
    entry = container[place] if isinstance(container, Pairs) else container
    slot = 1 if isinstance(container, Pairs) else place
    if kind == "remove":
        del container[place]
    elif kind == "repeat":
        again = container[place]
        container.insert(rng.randrange(len(container) + 1), list(again) if isinstance(container, Pairs) else again)
    elif kind == "swap":
        other = rng.randrange(len(container))
        container[place], container[other] = container[other], container[place]
        if isinstance(container, Pairs):  # the values change places, the names stay
            container[place][0], container[other][0] = container[other][0], container[place][0]
    elif kind == "rename" and isinstance(container, Pairs):
        entry[0] = rng.choice([*TEXTS, *container.names()])
    elif kind == "scale" and type(entry[slot]) is int:
        entry[slot] = rng.choice([2 * entry[slot], entry[slot] // 2, entry[slot] + 1, entry[slot] - 1, -entry[slot]])
    else:
        entry[slot] = odd_value(rng)

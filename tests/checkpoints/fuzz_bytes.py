"""Damage to a file of which nothing is known, from a seeded `random.Random`."""


def damage_bytes(rng, content):
    """Change a few bytes without knowing what they mean."""
    content = bytearray(content)
    place = rng.randrange(len(content) + 1)
    end = place + rng.choice([1, 1, 2, 8, 30])
    kind = rng.choice(["flip", "replace", "insert", "remove", "cut", "repeat", "length"])
    if kind == "flip" and place < len(content):
        content[place] ^= 1 << rng.randrange(8)
    elif kind == "replace":
        content[place:end] = rng.randbytes(len(content[place:end]))
    elif kind == "insert":
        content[place:place] = rng.choice(
            [rng.randbytes(end - place), b"0", b"-", b'"', b"}", b",", b"\0", b"[" * 2000]
        )
    elif kind == "remove":
        del content[place:end]
    elif kind == "cut":
        del content[place:]
    elif kind == "repeat":
        content[place:place] = content[place:end]
    elif content:
        content[rng.randrange(min(8, len(content)))] = rng.randrange(256)
    return bytes(content)


def random_bytes(rng):
    """Bytes without any plan; half of them behind a length that fits."""
    content = rng.randbytes(rng.choice([0, 1, 7, 8, 9, 20, 300]))
    if rng.random() < 0.5:
        content = rng.choice([b"{", b"{}", b"[]", b"null", b'""', b""]) + content
        return rng.randrange(len(content) + 1).to_bytes(8, "little") + content
    return content

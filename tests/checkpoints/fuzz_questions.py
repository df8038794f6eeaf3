"""Files of questions, valid and damaged, and what must hold for the questions that were read."""

import csv
import io

from tests.checkpoints.fuzz_bytes import damage_bytes
from tests.checkpoints.fuzz_json import TEXTS, Pairs, damage_value, json_bytes, odd_value
from tinyslm.text.questions import read_questions

NAMES = ["questions.jsonl", "questions.csv"]
CELLS = ["", " ", "a", "A", "b, c", 'say "8"', "two\nlines", "0", "1", "é𝄞漢", "x" * 300, "[]", '["a", "b"]', "\0"]
CELLS += ["'a' 'b'", "\u2028", "\ufeff", "answer", "question", "D", "Z", "\r", "3.0"]


def valid_records(rng, letters):
    """Questions as Pairs. letters: whether the answer is a letter."""
    key, records = rng.choice(["options", "choices"]), []
    for number in range(rng.randrange(1, 5)):
        options = [f"{number} {rng.choice(TEXTS[:13])}{i}" for i in range(rng.randrange(2, 6))]
        answer = rng.randrange(len(options))
        record = Pairs([["question", f"q{rng.choice(CELLS)}"], [key, options]])
        record.set("answer", "ABCDE"[answer] if letters else answer)
        if rng.random() < 0.3:
            record.set("subject", "s")
        records.append(record)
    return records


def damaged_json(rng):
    """The bytes of JSON lines."""
    records = valid_records(rng, rng.random() < 0.5)
    kind = rng.random()
    if kind < 0.5:
        damage_value(rng, rng.choice(records))
    elif kind < 0.6:
        rng.choice(rng.choice(records))[1] = odd_value(rng)
    elif kind < 0.7:
        records.append(odd_value(rng))
    lines = [json_bytes(record, rng.random() < 0.9) for record in records]
    return rng.choice([b"\n", b"\n", b"\r\n", b"\n\n"]).join(lines)


def damaged_csv(rng):
    """The bytes of a CSV file with a header, or in the form of MMLU."""
    options = rng.randrange(2, 6)
    rows = [[f"q{i}", *(f"{i}{j}{rng.choice(CELLS)}" for j in range(options)), "ABCDE"[i % options]] for i in range(3)]
    if rng.random() < 0.6:
        rows.insert(0, ["question", *"ABCDE"[:options], "answer"])
    for _ in range(rng.choice([0, 0, 1, 1, 3])):
        row = rng.choice(rows)
        change = rng.choice(["cell", "cell", "remove", "repeat", "swap"])
        if not row:
            row.append(rng.choice(CELLS))
        elif change == "cell":
            row[rng.randrange(len(row))] = rng.choice(CELLS)
        elif change == "remove":
            del row[rng.randrange(len(row))]
        elif change == "repeat":
            row.insert(rng.randrange(len(row) + 1), rng.choice(row))
        else:
            rng.shuffle(row)
    file = io.StringIO()
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    csv.writer(file, quoting=quoting, lineterminator=rng.choice(["\n", "\r\n", "\r"])).writerows(rows)
    return file.getvalue().encode()


def damaged_questions(rng):
    """(name, bytes) of a file of questions that may be valid, damaged or nonsense."""
    name = rng.choice(NAMES)
    content = damaged_json(rng) if name.endswith("jsonl") else damaged_csv(rng)
    if rng.random() < 0.2:
        content = damage_bytes(rng, content)
    return name, b"\xef\xbb\xbf" * (rng.random() < 0.1) + content


def check_questions(path, questions):
    """Raise AssertionError unless each question is complete, and the file gives the same ones again."""
    assert questions == read_questions(path) and questions
    for question in questions:
        stripped = [option.strip() for option in question.options]
        assert question.question.strip() and all(stripped) and len(set(stripped)) == len(stripped)
        assert 2 <= len(question.options) <= 26 and type(question.answer) is int
        assert 0 <= question.answer < len(question.options)
        assert question.where.startswith(f"{path}, line ")
        "".join([question.question, question.subject, *question.options]).encode()

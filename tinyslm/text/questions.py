"""Files of multiple-choice questions: JSON lines, CSV, and the forms of MMLU (Hendrycks et al. 2021).

JSON lines (.jsonl, .json): one object per line with the keys question, options (or choices, as MMLU on the hub has
them), answer, and optionally subject. Other keys are ignored.

CSV (.csv): a header with the columns question, answer, optionally subject, and either one column per option (A, B, ...)
or a column options (or choices) with a JSON list. Other columns are ignored. Or no header, as the files of MMLU:
question, options, letter of the answer. Empty cells after the last option are no options. Spaces after a comma are left
out. A cell with a comma, a quote or a newline stands in quotes.

The answer is the index of an option from 0, its letter, or its text. Where single options have columns, a letter is
always that of a column.
"""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from string import ascii_uppercase as LETTERS
from typing import Any

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError, DataError

LARGEST_FILE = 100_000_000  # bytes
LONGEST_LINE = 1_000_000  # bytes
OPTION_LISTS = ("options", "choices")
JSON_SUFFIXES = (".jsonl", ".json")


@dataclass(frozen=True)
class WrittenQuestion:
    """A question of a file. answer: index of the right option;  subject: "" without one;  where: file and line."""

    question: str
    options: tuple[str, ...]
    answer: int
    subject: str = ""
    where: str = field(default="", compare=False)


def read_questions(path: str | Path) -> list[WrittenQuestion]:
    """The questions of a file. The docstring of this module describes the forms.

    Raises ConfigError for another kind of file. Raises DataError naming file and line if the file is missing, too
    large, not UTF-8 or without questions, or if a line is not a question in the form of the first line, with 2 to 26
    different options and an answer among them.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*JSON_SUFFIXES, ".csv"):
        raise ConfigError(f"{path}: expected a file with questions named .jsonl, .json or .csv")
    questions = list(_csv_questions(path) if suffix == ".csv" else _json_questions(path))
    if not questions:
        raise DataError(f"{path}: contains no questions")
    return questions


def _lines(path) -> Iterator[str]:
    """The lines of a file, without its byte order mark. Raises DataError for a line that is too long, or not UTF-8."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is not a regular file")
        with open(path, "rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > LARGEST_FILE:
                raise DataError(f"{path}: has {size:,} bytes, expected at most {LARGEST_FILE:,}; use a part of it")
            for number in count(1):
                line = file.readline(LONGEST_LINE + 1)
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{path}, line {number}: has more than {LONGEST_LINE:,} bytes")
                if not line:
                    return
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: not UTF-8 text (byte {error.start}); convert the file first") from None


def _json_questions(path) -> Iterator[WrittenQuestion]:
    """The question of every line that is not empty."""
    first = None  # (number, form)
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected a JSON object with one question per line")
        question = _question(record, where)
        first = first or (number, _form(record))
        if _form(record) != first[1]:
            raise DataError(f"{where}: has {_form(record)}, but line {first[0]} has {first[1]}; use one form in a file")
        yield question


def _form(record):
    """The key of the options, and the type of the answer, in words."""
    keys = [key for key in OPTION_LISTS if key in record]
    return f"{keys[0]} and a {'number' if type(record['answer']) is int else 'text'} as answer"


def _csv_questions(path) -> Iterator[WrittenQuestion]:
    """The question of every row that is not empty, named by its first line."""
    columns, width, number = None, 0, 1
    reader = csv.reader(_lines(path), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            number, where = reader.line_num + 1, f"{path}, line {number}"
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns, width = _header(row), len(row)
                if columns is not None:
                    continue
                columns = _columns_of_mmlu(row, where)
            if len(row) != width:
                wanted = f"expected {width} as in the first row; put cells with commas in quotes"
                raise DataError(f"{where}: has {len(row)} cells, {wanted}")
            yield _question(_csv_record(row, columns, where), where)
    except csv.Error as problem:
        advice = "put cells with quotes in quotes, and double the quotes in them"
        raise DataError(f"{path}, line {number}: not CSV ({problem}); {advice}") from None


def _header(row) -> dict[str, Any] | None:
    """{key of JSON lines: index of its column}, under "options" a list of indices or one. None for another row."""
    names = [cell.strip().lower() for cell in row]
    found = [name for name in names if name in ("question", "answer", "subject", *OPTION_LISTS, *LETTERS.lower())]
    columns = {name: names.index(name) for name in found}
    lists = [name for name in found if name in OPTION_LISTS]
    letters = sorted(name for name in found if len(name) == 1)
    is_complete = {"question", "answer"} <= set(found) and len(lists) + bool(letters) == 1
    if not is_complete or len(columns) < len(found) or "".join(letters) != LETTERS.lower()[: len(letters)]:
        return None
    return columns | {"options": columns[lists[0]] if lists else [columns[letter] for letter in letters]}


def _columns_of_mmlu(row, where) -> dict[str, Any]:
    """As `_header`, for the files of MMLU: question, options, letter of the answer."""
    if len(row) < 4 or row[-1].strip() not in list(LETTERS[: len(row) - 2]):
        raise DataError(
            f"{where}: expected a header with the columns question, A, B, ..., answer, or question, options, answer; "
            "or the rows of MMLU: question, options, letter of the answer"
        )
    return {"question": 0, "options": list(range(1, len(row) - 1)), "answer": len(row) - 1}


def _csv_record(row, columns, where) -> dict[str, Any]:
    """The values of a row under the keys of JSON lines."""
    options, answer = columns["options"], row[columns["answer"]].strip()
    record = {key: row[columns[key]] for key in ("question", "subject") if key in columns}
    if isinstance(options, int):
        try:
            return record | {"options": json.loads(row[options]), "answer": answer}
        except (ValueError, RecursionError):
            found = shown(row[options])
            raise DataError(f'{where}: options are {found}, expected a JSON list such as ["yes", "no"]') from None
    texts = [row[index] for index in options]
    while texts and not texts[-1].strip():
        texts.pop()
    letters = list(LETTERS[: len(texts)])
    return record | {"options": texts, "answer": letters.index(answer.upper()) if answer.upper() in letters else answer}


def _question(record, where) -> WrittenQuestion:
    """The question of an object of JSON lines."""
    for key in ("question", "answer"):
        if key not in record:
            raise DataError(f"{where}: has no {key}; expected question, options and answer")
    question, subject = record["question"], record.get("subject", "")
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{where}: question is {shown(question)}, expected a text")
    if not isinstance(subject, str):
        raise DataError(f"{where}: subject is {shown(subject)}, expected a text")
    keys = [key for key in OPTION_LISTS if key in record]
    if len(keys) != 1:
        raise DataError(f"{where}: has {' and '.join(keys) or 'no options'}; expected question, options and answer")
    options = record[keys[0]]
    if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"{where}: {keys[0]} are {shown(options)}, expected a list of 2 to {len(LETTERS)} texts")
    for letter, option in zip(LETTERS, options, strict=False):
        if not isinstance(option, str) or not option.strip():
            raise DataError(f"{where}: option {letter} is {shown(option)}, expected a text")
    stripped = [option.strip() for option in options]
    for index, option in enumerate(stripped):
        if option in stripped[:index]:
            same = LETTERS[stripped.index(option)]
            raise DataError(f"{where}: options {same} and {LETTERS[index]} are both {shown(option)}")
    try:
        "".join([question, subject, *options]).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold
        raise DataError(f"{where}: holds text that is not Unicode") from None
    return WrittenQuestion(question, tuple(options), _answer(record["answer"], stripped, where), subject, where)


def _answer(answer, options, where):
    """The index of the right option. answer: an index, a letter, or a text of the options."""
    names = [{str(index), letter, option} for index, (letter, option) in enumerate(zip(LETTERS, options, strict=False))]
    if type(answer) is int:
        found = [answer] if 0 <= answer < len(options) else []
    else:
        given = answer.strip() if isinstance(answer, str) else None
        found = [index for index, accepted in enumerate(names) if given in accepted]
    if len(found) > 1:
        first, second = (LETTERS[index] for index in found[:2])
        raise DataError(
            f"{where}: answer {shown(answer)} can be option {first} or option {second}; "
            "give its letter, or its index as a number in JSON"
        )
    if not found:
        last = len(options) - 1
        raise DataError(
            f"{where}: answer is {shown(answer)}, expected an index from 0 to {last}, a letter from A to "
            f"{LETTERS[last]}, or the text of an option"
        )
    return found[0]

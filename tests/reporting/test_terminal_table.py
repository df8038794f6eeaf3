"""Tables in a terminal: no line is longer than it, no word is broken, and every block names its rows."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinyslm.reporting.plain_text import width
from tinyslm.reporting.terminal_table import fitted, ruled_table, table_lines, wrapped

WORDS = st.text("abcdefgxyz", min_size=1, max_size=9)
CELLS = st.lists(WORDS, max_size=6).map(" ".join)


@st.composite
def tables(draw):
    """Rows of short cells with distinct names, the last column of longer texts."""
    names = draw(st.lists(WORDS, min_size=1, max_size=5, unique=True))
    count = draw(st.integers(1, 6))
    return [[name, *(draw(WORDS) for _ in range(count)), draw(CELLS)] for name in names]


@example([["aaaaaaaab", "a", "a a aaa aaaa aaaaaaa aaaaaaaaa"]], 20, set())  # wide enough for its longest words only
@given(tables(), st.integers(20, 90), st.sets(st.integers(1, 7)))
def test_every_word_is_printed_whole_within_the_width(rows, columns, right):
    rows = [[cell.split(" ")[0] if index in right else cell for index, cell in enumerate(row)] for row in rows]
    lines = table_lines(rows, right, columns)
    assert max(map(width, lines)) <= columns
    words = " ".join(lines).split()
    blocks = lines.count("") + 1
    for name, *cells in rows:
        assert sum(line.split()[:1] == [name] for line in lines) >= blocks
        assert all(words.count(word) >= " ".join(cells).split().count(word) for word in " ".join(cells).split())


@given(tables())
def test_where_there_is_enough_room_a_row_is_one_line(rows):
    lines = table_lines(rows, (), 200)
    assert [line.split() for line in lines] == [" ".join(row).split() for row in rows]


def test_a_text_that_needs_too_many_lines_is_in_a_block_of_its_own():
    rows = [("name", "1,234,567", "one two three four five six seven eight"), ("other", "89", "")]
    assert table_lines(rows, (1,), 34) == [
        "name   1,234,567  one two three",
        "                  four five six",
        "                  seven eight",
        "other         89",
    ]
    assert table_lines(rows, (1,), 28) == [
        "name   1,234,567",
        "other         89",
        "",
        "name   one two three four",
        "       five six seven eight",
        "other",
    ]


def test_a_word_that_is_wider_than_the_terminal_is_cut_and_nothing_is_lost():
    digest = "0123456789abcdef" * 4
    lines = table_lines([("train", digest)], (), 40)
    assert max(map(len, lines)) <= 40 and "".join("".join(lines).removeprefix("train").split()) == digest
    lines = table_lines([("a very long name", "123,456,789")], (1,), 20)
    assert max(map(len, lines)) <= 20
    assert sorted("".join(lines).replace(" ", "")) == sorted("averylongname123,456,789")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("hold about 89 % of", ["hold about", "89 % of"]),
        ("it needs 4 GB of", ["it needs", "4 GB of"]),
        ("a loss of 0.7 ±0.1", ["a loss of", "0.7 ±0.1"]),
    ],
)
def test_a_number_is_never_separated_from_its_unit(text, lines):
    assert wrapped(text, len(lines[0]) + 3) == lines


def test_parts_of_a_long_line_begin_below_its_text():
    assert fitted("exam   85.7% correct, chance 25 %\n       short", 24) == (
        "exam   85.7% correct,\n       chance 25 %\n       short"
    )
    assert fitted("  indented text of one line", 18) == "  indented text of\n  one line"
    assert fitted("one  two\n\n  three", 40) == "one  two\n\n  three"


def test_the_rules_of_a_table_are_as_wide_as_each_block():
    rows = [("", "first", "second"), ("a", "1", "2"), ("b", "3", "4")]
    assert ruled_table(rows, 1, ["a note"], 10).split("\n") == [
        *("   first", "────────", "a      1", "b      3", "────────", ""),
        *("   second", "─────────", "a       2", "b       4", "─────────", "a note"),
    ]

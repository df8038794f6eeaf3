"""The table in the terminal: every column stands under its heading, no line is too long."""

import pytest

from tests.reporting import results
from tinyslm.reporting import format_table, number_format
from tinyslm.reporting.corpus_text import corpus_text
from tinyslm.reporting.plain_text import shorten, width


@pytest.mark.parametrize("make", results.ALL.values(), ids=results.ALL)
@pytest.mark.parametrize("columns", [60, 80, 132])
def test_no_line_is_longer_than_the_terminal_and_no_control_character_gets_through(make, columns):
    text = format_table(make(), columns)
    assert max(map(width, text.split("\n"))) <= columns
    assert not any(ord(letter) < 32 and letter != "\n" for letter in text)


@pytest.mark.parametrize("make", results.ALL.values(), ids=results.ALL)
def test_columns_are_right_aligned_under_their_headings(make):
    given = make()
    lines = format_table(given).split("\n")
    header, body = lines[:2], lines[3 : 3 + len(given["rows"])]
    assert len({width(line) for line in body}) == 1
    exam = ("floor", "correct") if given["rows"][0]["exam"] else ()
    for heading in ("parameters", "non-zeros", "disk", "memory", "per token", "nats/token", *exam):
        after = width(body[0]) - header[1].index(heading) - len(heading)  # columns to the right of this one
        for line in body:
            cell, rest = line[: len(line) - after], line[len(line) - after :]
            assert cell[-1] != " " and (rest == "" or rest.startswith("  ")), (heading, line)


def test_a_narrow_terminal_gets_the_columns_in_blocks_with_every_name_in_each():
    given = results.plausible()
    wide, narrow = format_table(given, 200).split("\n"), format_table(given, 80).split("\n")
    for row, line in zip(given["rows"], wide[3:], strict=False):
        lines = [text for text in narrow if text.startswith(row["name"] + "  ")]
        assert len(lines) > 1
        assert (
            " ".join(text.removeprefix(row["name"]) for text in lines).split() == line.removeprefix(row["name"]).split()
        )


def test_what_was_not_measured_is_a_dash():
    text = format_table(results.one_document())
    assert "0.712 ±?" in text and "±?: unknown, because there is only one document" in text
    given = results.plausible()
    given["rows"][1]["exam"] = None
    text = format_table(given)
    assert text.split("\n")[4].split()[-1] == number_format.DASH
    assert f"{number_format.DASH}: not measured" in text


def test_the_split_of_the_documents_is_named():
    given = results.plausible()
    given["corpus"]["split"] = "test"
    assert "of 400 test documents" in format_table(given)
    del given["corpus"]["split"]  # a file of an earlier version
    assert "of 400 validation documents" in format_table(given)


def test_columns_without_a_value_are_left_out():
    text = format_table(results.own_text())
    head = " ".join(text.split("\n")[1].split())
    assert head == "model parameters non-zeros disk memory per token tokens/s tokens/s nats/token bits/byte"
    assert "not measured" not in text and "not known" in text and "chance" not in text


def test_bits_per_byte_of_a_text_whose_bytes_are_counted():
    """The dense model's 0.712 nats are 1.027 bits per token, and 2.5 bytes are a token."""
    text = format_table(results.own_text())
    assert text.split("\n")[3].split()[-1] == "0.411"
    assert "\nbits/byte: per UTF-8 byte, on 95,000 bytes of text; compares models with different tokenizers\n" in text
    given = results.own_text()
    given["corpus"]["validation_bytes"] = given["rows"][1]["bits_per_byte"] = None
    assert format_table(given).split("\n")[4].split()[-1] == number_format.DASH
    assert "bits/byte" not in format_table(results.plausible())


def test_the_text_is_named():
    text = "my stories.txt and b.txt (one document per line, packed in rows of 128 tokens)"
    given = results.own_text()
    assert f"\ntext: {text}\n" in format_table(given)
    assert corpus_text(given["corpus"] | {"pack_length": None, "files": ["/a.txt"]}) == "a.txt (one document per line)"
    many = corpus_text(given["corpus"] | {"files": ["/a", "/b", "/c", "/d", "/e\n" + "f" * 99]})
    assert many.startswith("a, b and 3 more files (")
    assert "text:" not in format_table(results.plausible())


def test_the_numbers_stand_there_in_units_with_the_floor_and_chance_below():
    text = format_table(results.plausible())
    for expected in ("3.94 M", "15.8 MB", "9,000 ±225", "0.712 ±0.012", "+4.1 %", "91 ±4 %", "0.684 ±0.011", "25 %"):
        assert expected in text
    assert "not measured" not in text


def test_an_accuracy_of_zero_is_a_number_and_not_a_dash():
    assert "0 ±1 %" in format_table(results.worthless())


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (7, "7"), (0.5, "0.50"), (999, "999"), (999.6, "1.00 k"), (1000, "1.00 k"), (9_994_999, "9.99 M"),
     (9_996_000, "10.0 M"), (99_960_000, "100 M"), (999_499_999, "999 M"), (999_600_000, "1.00 G"),
     (5e18, "5000000 T"), (float("nan"), "–"), (float("inf"), "–"), (None, "–")],
)  # fmt: skip
def test_three_digits_and_a_prefix(value, text):
    assert number_format.scaled(value) == text


@pytest.mark.parametrize("share, text", [(0.0384, "+3.8 %"), (-0.0384, "−3.8 %"), (0.0001, "0.0 %"), (-1e-9, "0.0 %")])
def test_signed_percent_has_no_negative_zero(share, text):
    assert number_format.signed_percent(share) == text


def test_a_name_is_cut_by_columns_not_by_letters():
    assert shorten("圧縮された", 5) == "圧縮…" and width("圧縮…") == 5
    assert shorten("e\u0301" * 9, 9) == "e\u0301" * 9
    assert shorten(" a\n b ", 9) == "a b"

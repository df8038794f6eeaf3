"""Files of questions: every form is read as it is meant, and what is no question is named with file and line."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.errors import ConfigError, DataError
from tinyslm.text import questions as module
from tinyslm.text.question_prompts import continuations_of, prompt_of
from tinyslm.text.questions import WrittenQuestion, read_questions

ICE = {"question": "What is frozen water?", "options": ["ice", "steam"], "answer": 0}
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path, content, name="quiz.jsonl"):
    return read_questions(written(tmp_path / name, content))


def json_lines(*records):
    return "\n".join(map(json.dumps, records))


def test_json_lines(tmp_path):
    """With empty lines, a byte order mark, other keys, and characters that end a line elsewhere."""
    second = {"question": "A\u2028b?\n", "choices": ["x", " y", "z"], "answer": 2, "subject": "letters", "id": 7}
    (ice,) = read(tmp_path, "\ufeff\n\n" + json_lines(ICE) + "\r\n\r\n", "quiz.JSON")
    assert ice == WrittenQuestion("What is frozen water?", ("ice", "steam"), 0)
    assert ice.where == f"{tmp_path / 'quiz.JSON'}, line 3"
    (found,) = read(tmp_path, json.dumps(second, ensure_ascii=False))
    assert found == WrittenQuestion("A\u2028b?\n", ("x", " y", "z"), 2, "letters")


@pytest.mark.parametrize(("answer", "index"), [(1, 1), ("B", 1), ("steam", 1), (" ice ", 0), ("0", 0)])
def test_an_answer_is_an_index_a_letter_or_a_text(tmp_path, answer, index):
    assert read(tmp_path, json_lines(ICE | {"answer": answer}))[0].answer == index


def test_csv_with_a_column_per_option(tmp_path):
    """Columns in any order, spaces after commas, quotes, newlines in cells, and options that are missing at the end."""
    content = 'id, Answer, A, B, C, Question\n1, b, "4, or 5", "say ""8""", , "How\nmany?"\n\n2,A,x,y,z,Which?\n'
    first, second = read(tmp_path, "\ufeff" + content, "quiz.csv")
    assert first == WrittenQuestion("How\nmany?", ("4, or 5", 'say "8"'), 1)
    assert second == WrittenQuestion("Which?", ("x", "y", "z"), 0)
    assert [each.where.rpartition(" ")[2] for each in (first, second)] == ["2", "5"]


def test_a_letter_in_csv_names_a_column(tmp_path):
    """Also if the texts are letters, as the blood groups are, or numbers."""
    rows = "question,A,B,C,answer\nq,B,A,AB,A\nq,B,A,AB,AB\nq,2,1,0,2\n"
    with pytest.raises(DataError, match=r"line 4: answer '2' can be option A or option C; give its letter"):
        read(tmp_path, rows, "quiz.csv")
    assert [each.answer for each in read(tmp_path, rows.replace("0,2\n", "0,C\n"), "quiz.csv")] == [0, 2, 2]


def test_csv_with_a_list_of_options(tmp_path):
    content = 'question,subject,choices,answer\nq?,art,"[""no"", ""yes"", ""0""]",1\nq?,,"[""no"", ""yes""]",no\n'
    assert read(tmp_path, content, "quiz.csv") == [
        WrittenQuestion("q?", ("no", "yes", "0"), 1, "art"),
        WrittenQuestion("q?", ("no", "yes"), 0),
    ]


def test_the_files_of_mmlu(tmp_path):
    """Without a header, and as a table on the hub."""
    question = WrittenQuestion("Find 1 + 1, in Z_2.", ("0", "1", "2", "3"), 0)
    assert read(tmp_path, '"Find 1 + 1, in Z_2.",0,1,2,3,A\n' * 2, "quiz.csv") == [question] * 2
    on_the_hub = {"question": question.question, "subject": "abstract_algebra", "choices": list("0123"), "answer": 0}
    (found,) = read(tmp_path, json_lines(on_the_hub))
    assert (found.options, found.answer, found.subject) == (question.options, 0, "abstract_algebra")


@given(st.lists(st.tuples(words, st.lists(words, min_size=4, max_size=4, unique_by=str.strip), st.integers(0, 3))))
def test_what_pandas_and_python_write_is_read_again(tmp_path_factory, records):
    """The same questions from JSON lines, and from CSV with and without a header."""
    if not records:
        return
    place = tmp_path_factory.mktemp("questions")
    wanted = [WrittenQuestion(question, tuple(options), answer) for question, options, answer in records]
    keys = ("question", "options", "answer")
    assert read(place, json_lines(*(dict(zip(keys, record, strict=True)) for record in records))) == wanted
    rows = [[question, *options, "ABCD"[answer]] for question, options, answer in records]
    for header in ([], [["question", *"ABCD", "answer"]]):
        file = io.StringIO()
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(header + rows)
        assert read(place, file.getvalue(), "quiz.csv") == wanted


BAD_JSON = {
    "no json": "line 2: expected a JSON object with one question per line",
    "[1]": "line 2: expected a JSON object with one question per line",
    "[" * 100_000: "line 2: expected a JSON object with one question per line",
    json_lines({"options": ["a", "b"], "answer": 0}): "line 2: has no question; expected question, options and answer",
    json_lines({"question": "q", "options": ["a", "b"]}): "line 2: has no answer; expected question, options",
    json_lines(ICE | {"answer": 2}): "line 2: answer is 2, expected an index from 0 to 1, a letter from A to B, or the",
    json_lines(ICE | {"answer": -1}): "line 2: answer is -1",
    json_lines(ICE | {"answer": "C"}): "line 2: answer is 'C', expected an index",
    json_lines(
        ICE | {"answer": "B"}
    ): "has options and a text as answer, but line 1 has options and a number as answer",
    json_lines(ICE | {"answer": 10**40}): "line 2: answer is 1000",
    json_lines(ICE | {"options": []}): r"line 2: options are \[\], expected a list of 2 to 26 texts",
    json_lines(ICE | {"options": ["ice"]}): r"line 2: options are \['ice'\], expected a list of 2 to 26 texts",
    json_lines(ICE | {"options": list(map(str, range(27)))}): "expected a list of 2 to 26 texts",
    json_lines(ICE | {"options": "ice"}): "line 2: options are 'ice', expected a list",
    json_lines(ICE | {"options": ["ice", 3]}): "line 2: option B is 3, expected a text",
    json_lines(ICE | {"options": ["ice", " "]}): "line 2: option B is ' ', expected a text",
    json_lines(ICE | {"options": ["ice", "b", "ice "]}): "line 2: options A and C are both 'ice'",
    json_lines(ICE | {"choices": ["ice", "b"]}): "has options and choices; expected question, options and answer",
    json_lines(
        {"question": "q", "choices": ["a", "b"], "answer": 0}
    ): "line 2: has choices and a number as answer, but",
    json_lines({"question": "q", "answer": 0}): "line 2: has no options; expected question, options and answer",
    json_lines(ICE | {"question": ""}): "line 2: question is '', expected a text",
    json_lines(ICE | {"question": None}): "line 2: question is None, expected a text",
    json_lines(ICE | {"subject": 3}): "line 2: subject is 3, expected a text",
    json_lines(ICE | {"question": "\ud800"}): "line 2: holds text that is not Unicode",
}


@pytest.mark.parametrize(("line", "message"), BAD_JSON.items(), ids=range(len(BAD_JSON)))
def test_a_line_that_is_no_question_is_named(tmp_path, line, message):
    with pytest.raises(DataError, match=rf"quiz\.jsonl, .*{message}") as error:
        read(tmp_path, json_lines(ICE) + "\n" + line)
    assert len(str(error.value)) < 600


ALONE = {
    json_lines({"question": "q", "answer": 0}): "line 1: has no options; expected question, options and answer",
    json_lines(ICE | {"choices": ["ice", "b"]}): "line 1: has options and choices; expected question, options and",
    json_lines({"question": "q", "options": ["a", "b"]}): "line 1: has no answer; expected question, options and",
    json_lines(ICE | {"answer": None}): "line 1: answer is None",
    json_lines(ICE | {"answer": True}): "line 1: answer is True",
    json_lines(ICE | {"answer": "C"}): "line 1: answer is 'C', expected an index from 0 to 1, a letter from A to B",
    json_lines(ICE | {"options": ["B", "A"], "answer": "A"}): "line 1: answer 'A' can be option A or option B; give",
}


@pytest.mark.parametrize(("line", "message"), ALONE.items(), ids=range(len(ALONE)))
def test_a_first_line_that_is_no_question(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, line)


HEADER = "question,A,B,answer\n"
BAD_CSV = {
    "q,a,b\n": "line 1: expected a header with the columns question, A, B",
    "q,a,b,c\n": "line 1: expected a header",
    "q,a,b,C\n": "line 1: expected a header",  # the letter of no option
    "question,A,B\nq,a,b\n": "line 1: expected a header",
    "question,A,C,answer\nq,a,b,A\n": "line 1: expected a header",
    "question,answer\nq,a\n": "line 1: expected a header",
    "question,A,B,B,answer\nq,a,b,c,A\n": "line 1: expected a header",
    "question,A,B,options,answer\nq,a,b,[],A\n": "line 1: expected a header",
    HEADER + "q,a,b,A\nq,a,b\n": "line 3: has 3 cells, expected 4 as in the first row; put cells with commas in quotes",
    HEADER + '"q\n\n",a,b,A\nq,a,b,,\n': "line 5: has 5 cells",
    "q,a,b,A\nq,a,b,c,A\n": "line 2: has 5 cells, expected 4",
    HEADER + '"q\n,a,b,A\n': r"line 2: not CSV \(unexpected end of data\); put cells with quotes in quotes",
    HEADER + 'q,a,b,A\n"q"x,a,b,A\n': "line 3: not CSV",
    HEADER + f"q,{'a' * 200_000},b,A\n": "line 2: not CSV .field larger than field limit",
    HEADER + "q,a,,A\n": r"line 2: options are \['a'\], expected a list of 2",
    HEADER + ",a,b,A\n": "line 2: question is '', expected a text",
    HEADER + "q,a,b,C\n": "line 2: answer is 'C', expected an index from 0 to 1, a letter from A to B",
    HEADER + "q,a,b,\n": "line 2: answer is ''",
    HEADER + "q,a,a,A\n": "line 2: options A and B are both 'a'",
    "question,A,B,C,answer\nq,,b,c,B\n": "line 2: option A is '', expected a text",
    "question,options,answer\nq,['a' 'b'],0\n": r"line 2: options are \"\['a' 'b'\]\", expected a JSON list such as",
    'question,options,answer\nq,"{""a"": 1}",0\n': "line 2: options are {'a': 1}, expected a list of 2",
}


@pytest.mark.parametrize(("content", "message"), BAD_CSV.items(), ids=range(len(BAD_CSV)))
def test_a_row_that_is_no_question_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=rf"quiz\.csv, {message}"):
        read(tmp_path, content, "quiz.csv")


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
@pytest.mark.parametrize("name", ["quiz.csv", "quiz.jsonl"])
def test_a_file_without_questions(tmp_path, name, content):
    with pytest.raises(DataError, match=f"{name}: contains no questions"):
        read(tmp_path, content, name)
    with pytest.raises(DataError, match=r"quiz\.csv: contains no questions"):
        read(tmp_path, HEADER, "quiz.csv")


@pytest.mark.parametrize("name", ["quiz.csv", "quiz.jsonl"])
def test_what_is_not_text(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}, line 1: not UTF-8 text \(byte 3\); convert the file first"):
        read(tmp_path, "caf\xe9".encode("latin-1"), name)
    with pytest.raises(DataError, match=r"none\.csv: cannot be read \(No such file"):
        read_questions(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv: is not a regular file"):
        read_questions(tmp_path / "folder.csv")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"quiz\.txt: expected a file with questions named \.jsonl, \.json or \.csv"):
        read(tmp_path, json_lines(ICE), "quiz.txt")


@pytest.mark.parametrize("name", ["quiz.csv", "quiz.jsonl"])
def test_size_is_bounded(tmp_path, monkeypatch, name):
    monkeypatch.setattr(module, "LONGEST_LINE", 100)
    content = json_lines(ICE) + "\n" if name.endswith("l") else "question,options,answer\n"
    with pytest.raises(DataError, match=f"{name}, line 2: has more than 100 bytes"):
        read(tmp_path, content + "," * 101, name)
    monkeypatch.setattr(module, "LARGEST_FILE", 100)
    with pytest.raises(DataError, match=rf"{name}: has 1\d\d bytes, expected at most 100; use a part of it"):
        read(tmp_path, content + "," * 80, name)


def test_prompts_and_options():
    question = WrittenQuestion(" Is it cold?\n", ("yes", "no", "it is"), 1)
    example = WrittenQuestion("Is it hot?", ("yes", "no"), 0)
    assert prompt_of(question) == "Question:  Is it cold?\n\nAnswer:"
    assert prompt_of(question, "text", [example] * 2) == 2 * "Question: Is it hot?\nAnswer: yes\n\n" + prompt_of(
        question
    )
    assert prompt_of(question, "letters") == "Is it cold?\nA. yes\nB. no\nC. it is\nAnswer:"
    solved = "Is it hot?\nA. yes\nB. no\nAnswer: A\n\n"
    assert prompt_of(question, "letters", [example]) == solved + prompt_of(question, "letters")
    assert continuations_of(question) == ("yes", "no", "it is")
    assert continuations_of(question, "letters") == ("A", "B", "C")

"""Progress where standard error is a pipe: a line now and then."""

import time

from tinyslm.commands import progress


def test_lines_in_a_pipe(monkeypatch, capsys):
    """They come without a call, and end with the work."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    with progress.Progress(3, "model") as shown:
        shown.show(1, "INT8 weights: measuring loss")
        lines, began = [], time.monotonic()
        while len(lines) < 3 and time.monotonic() < began + 20:
            time.sleep(0.01)
            lines += capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert set(lines) == {"1 of 3 models finished after 1 second; INT8 weights: measuring loss"}
    time.sleep(0.05)
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_the_line():
    shown = progress.Progress(3, "point")
    assert shown.line(40.2) == "0 of 3 points finished after 40 seconds"
    shown.show(2, "about 5 minutes left")
    assert shown.line(130) == "2 of 3 points finished after 2 minutes; about 5 minutes left"
    shown.bar.close()


def test_units_can_be_counted_one_at_a_time():
    with progress.Progress(3, "question") as shown:
        shown.advance()
        shown.advance()
        assert shown.line(1) == "2 of 3 questions finished after 1 second" and shown.bar.n == 2


def test_short_work_prints_nothing_but_its_messages(capsys):
    with progress.Progress(3, "model") as shown:
        shown.show(1, "text")
        shown.write("a message")
    assert capsys.readouterr().err == "a message\n"

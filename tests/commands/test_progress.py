"""Progress where standard error is a pipe: a line now and then."""

from tinyslm.commands import progress


def test_lines_in_a_pipe(monkeypatch, capsys):
    """None in the first seconds, then at most one per LINE_SECONDS."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.Progress(3, "model") as shown:
        for seconds, finished, text in ((0, 0, "a"), (19, 0, "b"), (20, 1, "c"), (39, 1, "d"), (95, 2, "")):
            clock[0] = seconds
            shown.show(finished, text)
        shown.write("a line")
    assert capsys.readouterr().err.splitlines() == [
        "1 of 3 models finished after 20 seconds; c",
        "2 of 3 models finished after 2 minutes",
        "a line",
    ]

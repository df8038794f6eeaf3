"""tinyslm exercise: list the exercises, create the directory of one, or work through all of them as a course."""

import os
import sys
import time
from pathlib import Path

from tinyslm.coursework.course import (
    MISSING,
    SOLVED,
    Course,
    find_course,
    how_to_restore,
    lesson_notebook,
    start_course,
)
from tinyslm.coursework.exercises import exercises, find_exercise
from tinyslm.coursework.stubs import write_exercise
from tinyslm.errors import ConfigError, Error
from tinyslm.reporting.terminal_table import table_lines, wrapped

POLL_SECONDS = 0.5  # time between two looks at the files with --watch


def add_arguments(parser):
    """The options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list the exercises in the order of the lessons")
    new = actions.add_parser("new", help="create a stub of one exercise, with its task and all hints in a README")
    new.argument("name", "name of the exercise")
    new.option("--to", None, "directory to create (default: NAME)", "DIR")
    start = actions.add_parser("start", help="write all exercises to a directory, as a course with a record of marks")
    start.argument("directory", "directory of the course; files that exist are kept", metavar="DIR")
    status = actions.add_parser("status", help="print the marks of a course; grades the files that have changed")
    course = "directory of the course (default: the working directory, or the nearest above it)"
    status.argument("course", course, metavar="DIR", nargs="?")
    following = actions.add_parser("next", help="print the next exercise of a course: its file, task and lesson")
    check = actions.add_parser("check", help="grade a file of a course, by default the next exercise")
    check.argument("file", "file or name of an exercise (default: the next exercise)", nargs="?")
    check.flag("--watch", "then grade each file of the course when it changes, until Ctrl-C")
    hint = actions.add_parser("hint", help="print one more hint for an exercise of a course with each call")
    hint.argument("name", "name or file of the exercise (default: the next exercise)", nargs="?")
    for each in (following, check, hint):
        each.option("--course", None, course, "DIR")


def run(arguments) -> int:
    """Run the action; returns the exit status, which is 0 also for low marks."""
    if arguments.action == "list":
        rows = [(str(exercise.lesson), exercise.name, exercise.title) for exercise in exercises().values()]
        print("\n".join(table_lines(rows)))
    elif arguments.action == "new":
        exercise = find_exercise(arguments.name)
        for path in write_exercise(exercise, arguments.to or exercise.name):
            print(path)
    elif arguments.action == "start":
        start(arguments.directory)
    else:
        course = course_of(arguments)
        COURSE_ACTIONS[arguments.action](course, arguments)
        if course.problem:
            print(f"tinyslm: marks and hints are not recorded: {course.problem}", file=sys.stderr)
    return 0


def course_of(arguments) -> Course:
    """The course of --course, of the file to check, or of the working directory."""
    file = getattr(arguments, "file", None)
    if arguments.course is not None and not Path(arguments.course).is_dir():
        raise ConfigError(f"{arguments.course} is not a directory")
    if arguments.course is None and file and Path(file).is_file():
        return find_course(Path(file).parent)
    return find_course(arguments.course or ".")


def shown(path) -> str:
    """A path as short as possible: relative to the working directory, if it is below it."""
    path = os.path.abspath(path)
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def announce(path):
    """Say on standard error which file is graded, because grading takes seconds."""
    print(f"grading {path.name}", file=sys.stderr, flush=True)


def start(directory):
    """Write a course and say how to go on."""
    written = start_course(directory)
    print(f"files written to {shown(directory)}: {len(written)}; files that existed are kept")
    print("Begin with README.md, or in this directory with `tinyslm exercise next`.")


def show_status(course, arguments):
    """Print the table of all exercises, the sum of the marks, and the next exercise."""
    standings = list(course.standings(announce))
    rows = []
    for found in standings:
        notebook = lesson_notebook(found.exercise.lesson)
        lesson = notebook.stem if notebook else found.exercise.lesson
        state = f"✓ {SOLVED}" if found.state == SOLVED else found.state
        rows.append((lesson, found.path.name, f"{found.score}/{found.max_score}", state))
    print("\n".join(table_lines([("lesson", "file", "marks", ""), *rows], right=(2,))))
    solved = sum(found.state == SOLVED for found in standings)
    score, best = sum(found.score for found in standings), sum(found.max_score for found in standings)
    print(f"{solved} of {len(standings)} exercises solved, {score} of {best} marks")
    if any(found.state == MISSING for found in standings):
        print("\n".join(wrapped(f"If a file is missing: {how_to_restore(course.directory)}.")))
    print_following(next((found for found in standings if found.state != SOLVED), None))


def print_following(standing):
    """One line about the next exercise."""
    print(f"next: {shown(standing.path)}" if standing else "all exercises are solved")


def show_next(course, arguments):
    """Print file, task and lesson of the next exercise."""
    standing = course.next_standing(announce)
    if standing is None:
        print_following(None)
        return
    exercise = standing.exercise
    notebook = lesson_notebook(exercise.lesson)
    rows = [
        ("exercise", f"{exercise.name}: {exercise.title}"),
        ("lesson", shown(notebook) if notebook else exercise.lesson),
        ("file", shown(standing.path)),
        ("marks", f"{standing.score} of {standing.max_score}, {standing.state}"),
    ]
    print("\n".join(table_lines(rows)))
    print()
    print("\n".join(wrapped(" ".join(exercise.task.split()))))
    if standing.state == MISSING:
        print("\n".join(["", *wrapped(f"The file is missing: {how_to_restore(course.directory)}.")]))


def chosen_exercise(course, name):
    """The exercise with this name or file, by default the next one; None if all are solved, which is printed."""
    if name:
        return course.find(name)
    standing = course.next_standing(announce)
    if standing is None:
        print_following(None)
        return None
    return standing.exercise


def check(course, arguments):
    """Grade one exercise; with --watch, then each file that changes, until Ctrl-C."""
    paths = {course.path(exercise): exercise for exercise in exercises().values()}
    seen = states(paths)  # before grading: files may change in the meantime
    try:
        if exercise := chosen_exercise(course, arguments.file):
            show_marks(course, exercise)
        if arguments.watch:
            print(f"waiting for changes in {shown(course.directory)}; Ctrl-C ends", flush=True)
            watch(course, paths, seen)
    except KeyboardInterrupt:
        if not arguments.watch:
            raise
        print("\nended")


def show_marks(course, exercise):
    """Grade one exercise and print its marks and what comes next."""
    marks, text = course.grade(exercise, announce)
    print(text)
    if marks.score == marks.max_score:
        print(f"{exercise.name} is solved: `tinyslm exercise next` shows the next exercise", flush=True)
    else:
        print(f"`tinyslm exercise hint {exercise.name}` shows a hint", flush=True)


def watch(course, paths, seen):
    """Grade each file that changes, without end. paths: {path: exercise}; seen: their `states` before."""
    while True:
        time.sleep(POLL_SECONDS)
        before, seen = seen, states(paths)
        for path in seen:
            if seen[path] != before.get(path):
                try:
                    show_marks(course, paths[path])
                except (Error, OSError) as error:  # such as a file that an editor has just removed
                    print(f"tinyslm: {error}", file=sys.stderr)


def states(paths):
    """{path: time of the last change and size} of the files that exist."""
    found = {}
    for path in paths:
        if path.is_file():
            stat = path.stat()
            found[path] = stat.st_mtime_ns, stat.st_size
    return found


def show_hint(course, arguments):
    """Print the hints that were shown before, and one more."""
    exercise = chosen_exercise(course, arguments.name)
    if exercise is None:
        return
    before, number = course.hints.get(exercise.name, 0), course.next_hint(exercise)
    ending = ": there are no more" if before == number else ""
    print(f"{exercise.name}, hint {number} of {len(exercise.hints)}{ending}")
    print("\n".join(table_lines([(f"{i}.", hint) for i, hint in enumerate(exercise.hints[:number], 1)])))


COURSE_ACTIONS = {"status": show_status, "next": show_next, "check": check, "hint": show_hint}

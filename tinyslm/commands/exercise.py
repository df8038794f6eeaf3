"""tinyslm exercise: list the exercises, and make the folder of one."""

from tinyslm.coursework.exercises import exercises, find_exercise
from tinyslm.coursework.stubs import write_exercise


def add_arguments(parser):
    """The options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the exercises, in the order in which they can be done")
    new = actions.add_parser("new", help="a stub to fill in, with its README")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--to", metavar="DIR", help="the folder to make (default: NAME)")


def run(arguments) -> int:
    """List, or write; returns the exit status."""
    if arguments.action == "list":
        width = max(map(len, exercises()))
        for exercise in exercises().values():
            print(f"{exercise.lesson}  {exercise.name:{width}}  {exercise.title}")
        return 0
    exercise = find_exercise(arguments.name)
    for path in write_exercise(exercise, arguments.to or exercise.name):
        print(path)
    return 0

"""tinyslm exercise: list the exercises, or create the directory of one."""

from tinyslm.coursework.exercises import exercises, find_exercise
from tinyslm.coursework.stubs import write_exercise
from tinyslm.reporting.terminal_table import table_lines


def add_arguments(parser):
    """The options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list the exercises in the order of the lessons")
    new = actions.add_parser("new", help="create a stub of a solution, with a README")
    new.add_argument("name", metavar="NAME", help="name of the exercise")
    new.add_argument("--to", metavar="DIR", help="directory to create (default: NAME)")


def run(arguments) -> int:
    """Print the list, or write the files and print their names; returns the exit status."""
    if arguments.action == "list":
        rows = [(str(exercise.lesson), exercise.name, exercise.title) for exercise in exercises().values()]
        print("\n".join(table_lines(rows)))
        return 0
    exercise = find_exercise(arguments.name)
    for path in write_exercise(exercise, arguments.to or exercise.name):
        print(path)
    return 0

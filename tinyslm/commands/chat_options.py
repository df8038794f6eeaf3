"""Options of the commands that talk to a model with a chat template."""

from tinyslm.text.files import read_prompt


def add_chat_options(parser, when=""):
    """The options of a conversation. when: begin of their help texts."""
    parser.option("--system", None, f"{when}message of the system, read before the first one of the user", "TEXT")
    template = "file with a chat template in Jinja (default: the template of the model)"
    parser.option("--template", None, when + template, "PATH")


def chat_template(arguments) -> str | None:
    """The chat template of --template, or None."""
    return None if arguments.template is None else read_prompt(arguments.template)

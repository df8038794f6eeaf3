"""The commands of the README: every option exists, and its value is a possible one."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from tinyslm import cli

ROOT = Path(__file__).parent.parent
LINES = re.findall(r"^tinyslm .*", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)


def test_the_commands_are_found():
    assert len(LINES) > 25
    assert {shlex.split(line, comments=True)[1] for line in LINES} >= {"train", "compress", "export", "inspect"}


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_valid(line, monkeypatch):
    arguments = shlex.split(line, comments=True)[1:]
    module = importlib.import_module(f"tinyslm.commands.{arguments[0].replace('-', '_')}")
    ran = []
    monkeypatch.setattr(module, "run", lambda parsed: ran.append(parsed.command) or 0)
    monkeypatch.setattr(cli, "download_model", lambda parsed: None)
    assert cli.main(arguments) == 0 and ran == arguments[:1]

"""Recipe files: compression recipes in TOML.

    [[recipe]]
    name = "half as wide, {bits} bits"
    grid.bits = [8, 4]                      # makes one recipe per value; several lists: one recipe per combination

    [[recipe.step]]
    use = "SliceNeurons"                    # the name of a step of `tinyslm.recipes`
    ratio = 0.5                             # and its settings

    [[recipe.step]]
    use = "Quantize"
    bits = "{bits}"                         # a value from the grid

The results.json of `tinyslm compress` is accepted too: each of its rows contains the recipe.
"""

import dataclasses
import itertools
import json
import re
import sys
import tomllib
import types
import typing
from pathlib import Path

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError
from tinyslm.former_names import rename_hint
from tinyslm.recipes.recipe import Recipe


def is_recipe_file(name) -> bool:
    """Whether a file name has the suffix of a recipe file, .toml or .json."""
    return Path(name).suffix in (".toml", ".json")


def read_recipes(path, steps) -> list[Recipe]:
    """The recipes in a file. steps: {name: class} of the known steps.

    Raises ConfigError, which names the file, the recipe and the step.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as {path.suffix.lstrip('.') or 'TOML'}: {error}") from None
    if path.suffix == ".json":
        content = _recipes_of_results(path, content)
    entries = content.get("recipe")
    if not isinstance(entries, list) or not entries or set(content) != {"recipe"}:
        raise ConfigError(f"{path}: expected [[recipe]] as the only key at the top level")
    recipes = [recipe for i, entry in enumerate(entries) for recipe in expand(entry, steps, f"{path}: recipe {i + 1}")]
    names = [recipe.directory for recipe in recipes]
    for name in names:
        if not name:
            raise ConfigError(f"{path}: the name of a recipe has no letter and no digit; it is also a directory's name")
        if names.count(name) > 1:
            raise ConfigError(f"{path}: two recipes are called {name!r}; put the values of a grid into the name")
    return recipes


def _recipes_of_results(path, content):
    """The rows of results.json in the form of a recipe file."""
    try:
        rows = [row for row in content["rows"] if row["steps"]]
        if not rows:
            raise ConfigError(f"{path}: rows is {shown(content['rows'])}, expected a row with steps")
        return {
            "recipe": [
                {
                    "name": row["name"],
                    "description": row["description"],
                    "step": [{"use": step["step"], **step["settings"]} for step in row["steps"]],
                }
                for row in rows
            ]
        }
    except (KeyError, TypeError):
        raise ConfigError(f"{path}: expected the results.json of tinyslm compress") from None


def expand(entry, steps, where) -> list[Recipe]:
    """The recipes of one entry: one per combination of the values in its grid."""
    if not isinstance(entry, dict) or not set(entry) <= {"name", "description", "grid", "step"}:
        raise ConfigError(
            f"{where}: expected name, step and optionally description and grid, found {_describe_entry(entry)}"
        )
    for key, kind in (("name", str), ("step", list)):
        if not isinstance(entry.get(key), kind) or not entry[key]:
            raise ConfigError(f"{where}: {key} is {shown(entry.get(key))}, expected a {kind.__name__}")
    grid = entry.get("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise ConfigError(f"{where}: grid is {shown(grid)}, expected lists of values by name")
    recipes = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        made = [make_step(step, steps, f"{where}, step {i + 1}", chosen) for i, step in enumerate(entry["step"])]
        name, description = (_fill_placeholders(entry.get(key, ""), chosen, where) for key in ("name", "description"))
        recipes.append(Recipe(str(name), tuple(made), str(description)))
    return recipes


def make_step(entry, steps, where, grid=None):
    """The step described by {"use": name of the step, setting: value, ...}. grid: values for its placeholders.

    Raises ConfigError for an unknown step, and for unknown, missing or invalid settings.
    """
    grid = grid or {}
    use = _fill_placeholders(entry.get("use"), grid, where) if isinstance(entry, dict) else None
    if not isinstance(use, str) or use not in steps:
        raise ConfigError(
            f"{where}: use is {_describe_entry(entry)}{_name_hint(use, 'expected one of', sorted(steps))}"
        )
    kind = steps[use]
    known = typing.get_type_hints(kind)
    settings = {}
    for name, value in entry.items():
        if name == "use":
            continue
        if name not in known:
            raise ConfigError(f"{where}: {use} has no setting {shown(name)}{_name_hint(name, 'only', known)}")
        settings[name] = _convert(_fill_placeholders(value, grid, where), known[name], f"{where}: {name}")
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name not in settings
    ]
    if missing:
        raise ConfigError(f"{where}: {use} needs {', '.join(missing)}")
    return kind(**settings)


def _name_hint(name, words, known):
    """Hint at the end of an error message about an unknown name: the current name of a former name, or the known names.

    words: text before the known names.
    """
    return (isinstance(name, str) and rename_hint(name)) or f", {words} {', '.join(known)}"


def _describe_entry(entry):
    """Text of an entry for an error message: the name of its step, or its keys."""
    if isinstance(entry, dict):
        return shown(entry["use"]) if "use" in entry else ", ".join(entry) or "nothing"
    return shown(entry)


def _fill_placeholders(value, grid, where):
    """A value with each placeholder {name} replaced by the value of the grid.

    If the whole value is one placeholder, the result has the type of the grid's value; otherwise it is a string.
    """
    if not isinstance(value, str):
        return value
    if value.startswith("{") and value.endswith("}") and value[1:-1] in grid:
        return grid[value[1:-1]]
    unknown = [name for name in re.findall(r"{(\w+)}", value) if name not in grid]
    if unknown:
        raise ConfigError(f"{where}: {value!r} names {unknown[0]!r}, which is not in its grid ({', '.join(grid)})")
    return re.sub(r"{(\w+)}", lambda found: str(grid[found.group(1)]), value)


def _convert(value, kind, where):
    """A value from TOML or JSON, converted to the type of the setting.

    Raises ConfigError for a different type, and for a number that is not finite.
    """
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is tuple and isinstance(value, list):
            inner = typing.get_args(option)[0]
            return tuple(_convert(each, inner, where) for each in value)
        if option is float and type(value) in (int, float):
            if abs(value) <= sys.float_info.max:  # neither infinite nor NaN, nor an integer too large for a float
                return float(value)
        elif type(value) is option:
            return value
    wanted = " or ".join("nothing" if option is type(None) else option.__name__ for option in options)
    raise ConfigError(f"{where} is {shown(value)}, expected {wanted}")


def recipe_entry(recipe) -> dict:
    """A recipe as plain values, in the form of a recipe file."""
    steps = [{"use": type(step).__name__, **dataclasses.asdict(step)} for step in recipe.steps]
    return {"name": recipe.name, "description": recipe.description, "step": steps}

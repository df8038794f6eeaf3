"""Recipe files: recipes as TOML, written by hand.

    [[recipe]]
    name = "half as wide, {bits} bits"
    grid.bits = [8, 4]                      # one recipe per value; with several lists, one per combination

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
import tomllib
import types
import typing
from pathlib import Path

from tinyslm.errors import ConfigError
from tinyslm.former_names import rename_hint
from tinyslm.recipes.recipe import Recipe


def is_recipe_file(name) -> bool:
    """Whether this is the name of a recipe file, by its suffix."""
    return Path(name).suffix in (".toml", ".json")


def read_recipes(path, steps) -> list[Recipe]:
    """The recipes in a file. steps: {name: class} of the known steps. A ConfigError names the file, recipe and step."""
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
        raise ConfigError(f"{path}: expected [[recipe]] and nothing else at the top level")
    recipes = [recipe for i, entry in enumerate(entries) for recipe in expand(entry, steps, f"{path}: recipe {i + 1}")]
    names = [recipe.directory for recipe in recipes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path}: two recipes are called {name!r}; put the values of a grid into the name")
    return recipes


def _recipes_of_results(path, content):
    """The rows of results.json in the form of a recipe file."""
    try:
        rows = [row for row in content["rows"] if row["steps"]]
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
        raise ConfigError(f"{path}: is not the results.json of tinyslm compress") from None


def expand(entry, steps, where) -> list[Recipe]:
    """The recipes of one entry: one per combination of the values in its grid."""
    if not isinstance(entry, dict) or not set(entry) <= {"name", "description", "grid", "step"}:
        raise ConfigError(f"{where}: expected name, step and optionally description and grid, found {_keys(entry)}")
    for key, kind in (("name", str), ("step", list)):
        if not isinstance(entry.get(key), kind) or not entry[key]:
            raise ConfigError(f"{where}: {key} is {entry.get(key)!r}, expected a {kind.__name__}")
    grid = entry.get("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise ConfigError(f"{where}: grid is {grid!r}, expected lists of values by name")
    recipes = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        made = [make_step(step, steps, f"{where}, step {i + 1}", chosen) for i, step in enumerate(entry["step"])]
        name, description = (_filled(entry.get(key, ""), chosen, where) for key in ("name", "description"))
        recipes.append(Recipe(str(name), tuple(made), str(description)))
    return recipes


def make_step(entry, steps, where, grid=None):
    """The step of an entry {"use": name, setting: value}. Raises ConfigError for unknown or missing settings."""
    grid = grid or {}
    use = _filled(entry.get("use"), grid, where) if isinstance(entry, dict) else None
    if not isinstance(use, str) or use not in steps:
        raise ConfigError(f"{where}: use is {_keys(entry)}{_advice(use, 'expected one of', sorted(steps))}")
    kind = steps[use]
    known = typing.get_type_hints(kind)
    settings = {}
    for name, value in entry.items():
        if name == "use":
            continue
        if name not in known:
            raise ConfigError(f"{where}: {use} has no setting {name!r}{_advice(name, 'only', known)}")
        settings[name] = _converted(_filled(value, grid, where), known[name], f"{where}: {name}")
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name not in settings
    ]
    if missing:
        raise ConfigError(f"{where}: {use} needs {', '.join(missing)}")
    return kind(**settings)


def _advice(name, words, known):
    """End of a message about an unknown name: its current name if it was renamed, else the known names."""
    return (isinstance(name, str) and rename_hint(name)) or f", {words} {', '.join(known)}"


def _keys(entry):
    """An entry in an error message: its step, or its keys."""
    if isinstance(entry, dict):
        return repr(entry["use"]) if "use" in entry else ", ".join(entry) or "nothing"
    return repr(entry)


def _filled(value, grid, where):
    """A value with every {name} replaced by the grid's value. A value that is only "{name}" keeps the grid's type."""
    if not isinstance(value, str):
        return value
    if value.startswith("{") and value.endswith("}") and value[1:-1] in grid:
        return grid[value[1:-1]]
    unknown = [name for name in re.findall(r"{(\w+)}", value) if name not in grid]
    if unknown:
        raise ConfigError(f"{where}: {value!r} names {unknown[0]!r}, which is not in its grid ({', '.join(grid)})")
    return re.sub(r"{(\w+)}", lambda found: str(grid[found.group(1)]), value)


def _converted(value, kind, where):
    """A value from TOML or JSON as the declared type of the setting."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is tuple and isinstance(value, list):
            inner = typing.get_args(option)[0]
            return tuple(_converted(each, inner, where) for each in value)
        if option is float and type(value) is int:
            return float(value)
        if type(value) is option:
            return value
    wanted = " or ".join("nothing" if option is type(None) else option.__name__ for option in options)
    raise ConfigError(f"{where} is {value!r}, expected {wanted}")


def recipe_entry(recipe) -> dict:
    """A recipe as plain values, in the form of a recipe file."""
    steps = [{"use": type(step).__name__, **dataclasses.asdict(step)} for step in recipe.steps]
    return {"name": recipe.name, "description": recipe.description, "step": steps}

"""Recipes as text: what is read is what was meant, what is recorded can be run again, and mistakes get one sentence."""

import itertools
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recipes.models import tiny_calibration, tiny_model
from tinyslm.checkpoints import load_model, save_model
from tinyslm.errors import CheckpointError, ConfigError
from tinyslm.recipes import (
    STEPS,
    Distill,
    PruneMagnitude,
    PruneWanda,
    Quantize,
    QuantizeGPTQ,
    Recipe,
    SliceNeurons,
    compress,
    default_recipes,
)
from tinyslm.recipes.default_recipes import presets
from tinyslm.recipes.recipe_files import make_step, read_recipes, recipe_entry

GRID = """
[[recipe]]
name = "keep {ratio}, {importance}"
description = "{importance} decides"
grid.ratio = [0.5, 1]
grid.importance = ["magnitude", "activation"]
[[recipe.step]]
use = "SliceNeurons"
ratio = "{ratio}"
importance = "{importance}"

[[recipe]]
name = "INT8"
[[recipe.step]]
use = "Distill"
steps = 3
learning_rate = 1
[[recipe.step]]
use = "Quantize"
symmetric = false
"""


@dataclass(frozen=True)
class Every:
    """A step with a setting of every type."""

    number: int
    share: float = 0.5
    name: str = "a"
    flag: bool = False
    layers: tuple[int, ...] = ()
    maybe: tuple[int, ...] | None = None

    def __call__(self, model, calibration, progress=None):
        return model


def write(tmp_path, text, name="recipes.toml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_a_grid_stands_for_every_combination(tmp_path):
    recipes = read_recipes(write(tmp_path, GRID), STEPS)
    assert recipes == [
        Recipe("keep 0.5, magnitude", (SliceNeurons(0.5, "magnitude"),), "magnitude decides"),
        Recipe("keep 0.5, activation", (SliceNeurons(0.5, "activation"),), "activation decides"),
        Recipe("keep 1, magnitude", (SliceNeurons(1.0, "magnitude"),), "magnitude decides"),
        Recipe("keep 1, activation", (SliceNeurons(1.0, "activation"),), "activation decides"),
        Recipe("INT8", (Distill(3, 1.0), Quantize(symmetric=False))),
    ]


def test_a_grid_may_choose_the_step(tmp_path):
    text = (
        '[[recipe]]\nname = "{step}"\ngrid.step = ["PruneMagnitude", "PruneWanda"]\n[[recipe.step]]\nuse = "{step}"\n'
    )
    recipes = read_recipes(write(tmp_path, text + "sparsity = 0.5"), STEPS)
    assert [recipe.steps for recipe in recipes] == [(PruneMagnitude(0.5),), (PruneWanda(0.5),)]


@given(
    st.builds(
        Every,
        st.integers(-5, 5),
        st.floats(-1, 1),
        st.text(st.characters(exclude_characters="{}", codec="utf-8")),
        st.booleans(),
        st.lists(st.integers(0, 9)).map(tuple),
        st.none() | st.lists(st.integers(0, 9)).map(tuple),
    )
)
def test_what_is_recorded_is_what_is_read(step):
    entry = json.loads(json.dumps(recipe_entry(Recipe("x", (step,)))))
    assert make_step(entry["step"][0], {"Every": Every}, "here") == step


def test_every_built_in_recipe_can_be_recorded():
    for recipe in itertools.chain(*presets(tiny_model()).values()):
        entry = json.loads(json.dumps(recipe_entry(recipe)))
        assert tuple(make_step(step, STEPS, "here") for step in entry["step"]) == recipe.steps


def test_results_of_a_run_are_recipes_too(tmp_path):
    rows = [
        {"name": "dense", "description": "", "steps": []},
        {
            "name": "INT8",
            "description": "small",
            "steps": [{"step": "Quantize", "settings": {"symmetric": False}, "seconds": 1.0}],
        },
    ]
    path = write(tmp_path, json.dumps({"rows": rows, "seed": 0}), "results.json")
    assert read_recipes(path, STEPS) == [Recipe("INT8", (Quantize(symmetric=False),), "small")]


STEP = '[[recipe]]\nname = "x"\n[[recipe.step]]\n'


@pytest.mark.parametrize(
    "text, message",
    [
        ("[[recipe]\n", "cannot be read as toml"),
        ("", "expected [[recipe]]"),
        ("recipe = 3", "expected [[recipe]]"),
        ("title = 'x'\n" + STEP + 'use = "FoldMasks"', "[[recipe]] as the only key at the top"),
        ('[[recipe]]\nname = "x"', "recipe 1: step is None, expected a list"),
        ('[[recipe]]\n[[recipe.step]]\nuse = "FoldMasks"', "recipe 1: name is None, expected a str"),
        ('[[recipe]]\nname = "x"\nsteps = 3', "found name, steps"),
        (STEP + 'use = "Zip"', "recipe 1, step 1: use is 'Zip', expected one of "),
        (STEP + "ratio = 1", "use is ratio, expected one of "),
        (STEP + 'use = "Quantize"\nsymetric = true', "Quantize has no setting 'symetric', only "),
        (STEP + 'use = "SliceNeurons"', "SliceNeurons needs ratio"),
        (STEP + 'use = "SliceNeurons"\nratio = "half"', "ratio is 'half', expected float"),
        (STEP + 'use = "SliceNeurons"\nratio = true', "ratio is True, expected float"),
        (STEP + 'use = "Distill"\nsteps = 3.0', "steps is 3.0, expected int"),
        (STEP + 'use = "KeepLayers"\nlayers = ["a"]', "layers is 'a', expected int"),
        (STEP + 'use = "SliceNeurons"\nratio = "{ratio}"', "names 'ratio', which is not in its grid"),
        (STEP.replace("[[recipe.step]]", "grid.a = 3\n[[recipe.step]]") + 'use = "FoldMasks"', "expected lists"),
        ((STEP + 'use = "FoldMasks"\n') * 2, "two recipes are called 'x'"),
        (
            STEP.replace("[[recipe.step]]", "grid.a = [1, 2]\n[[recipe.step]]") + 'use = "FoldMasks"',
            "put the values of a grid into the name",
        ),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as problem:
        read_recipes(path, STEPS)
    assert message in str(problem.value) and str(path) in str(problem.value)


@pytest.mark.parametrize(
    "step, message",
    [
        ('use = "Recover"\nsteps = 3', "use is 'Recover'; Recover is now called Distill"),
        ('use = "RepairWeights"', "use is 'RepairWeights'; RepairWeights is now called RefitWeights"),
        (
            'use = "Quantize"\ninteger_products = true',
            "Quantize has no setting 'integer_products'; integer_products is now called dynamic_activations",
        ),
        (
            'use = "SliceNeurons"\nratio = 0.5\nrepair = true',
            "SliceNeurons has no setting 'repair'; repair is now called refit",
        ),
    ],
)
def test_former_names_get_one_line_with_the_current_name(tmp_path, step, message):
    path = write(tmp_path, STEP + step)
    with pytest.raises(ConfigError) as problem:
        read_recipes(path, STEPS)
    assert str(problem.value) == f"{path}: recipe 1, step 1: {message}"
    use, *settings = (line.split(" = ") for line in step.splitlines())
    settings = {name: json.loads(value) for name, value in settings}
    rows = [{"name": "x", "description": "", "steps": [{"step": json.loads(use[1]), "settings": settings}]}]
    path = write(tmp_path, json.dumps({"rows": rows}), "results.json")
    with pytest.raises(ConfigError) as problem:
        read_recipes(path, STEPS)
    assert str(problem.value) == f"{path}: recipe 1, step 1: {message}"


@pytest.mark.parametrize(
    "step, old, new",
    [
        (Quantize(dynamic_activations=True), "integer_products", "dynamic_activations"),
        (QuantizeGPTQ(bits=4), "inputs", "in_features"),
    ],
)
def test_former_names_in_a_saved_model_get_one_line_with_the_current_name(tmp_path, step, old, new):
    model = tiny_model()
    smaller, _ = compress(model, [step], tiny_calibration(model))
    save_model(tmp_path / "saved", smaller)
    config = tmp_path / "saved" / "config.json"
    config.write_text(config.read_text().replace(f'"{new}"', f'"{old}"'))
    with pytest.raises(CheckpointError, match=f"config.json: .* has no '{old}'; {old} is now called {new}$"):
        load_model(tmp_path / "saved")


@pytest.mark.parametrize("use", [3, ["Distill"], {"a": 1}])
def test_a_step_is_named_by_a_string(use):
    with pytest.raises(ConfigError, match=r"here: use is .*, expected one of"):
        make_step({"use": use}, STEPS, "here")


WRONG = (None, -1, 10**400, float("nan"), float("inf"), "", "x" * 500, [], [None], {}, {"a": 1}, [[["x"]]])


def places(value, path=()):
    """Paths of keys and indices to every value in nested dictionaries and lists."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def test_damaged_results_are_read_or_refused_in_one_line(tmp_path):
    """Every value of results.json, replaced by every wrong value, and every key that is missing."""
    rows = [
        {
            "name": recipe.name,
            "description": recipe.description,
            "steps": [{"step": step.pop("use"), "settings": step} for step in recipe_entry(recipe)["step"]],
        }
        for recipe in default_recipes(tiny_model())[:4]
    ]
    content = json.dumps({"rows": rows})
    refused = 0
    for path in places(json.loads(content)):
        for wrong in (*WRONG, "missing"):
            damaged = parent = {"root": json.loads(content)}
            *before, last = ("root", *path)
            for key in before:
                parent = parent[key]
            if wrong == "missing":
                del parent[last]
            else:
                parent[last] = wrong
            text = json.dumps(damaged.get("root"))
            try:
                read_recipes(write(tmp_path, text, "results.json"), STEPS)
            except ConfigError as problem:
                refused += 1
                message = str(problem)
                assert "results.json: " in message and "\n" not in message and len(message) < 1000, (path, wrong)
    assert refused > 300


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1" + "0" * 400])
def test_settings_are_finite(tmp_path, value):
    with pytest.raises(ConfigError, match=r"learning_rate is .*, expected float"):
        read_recipes(write(tmp_path, STEP + f'use = "Distill"\nsteps = 3\nlearning_rate = {value}'), STEPS)


def test_a_name_without_letters_and_digits_is_refused(tmp_path):
    """Its directory would be the output directory itself."""
    with pytest.raises(ConfigError, match="no letter and no digit"):
        read_recipes(write(tmp_path, STEP.replace('"x"', '"!?"') + 'use = "FoldMasks"'), STEPS)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"rows": 3}', '{"rows": [{"steps": [1]}]}', '{"rows": []}', "x", "[" * 9999]
)
def test_other_json_is_not_a_run(tmp_path, text):
    with pytest.raises(ConfigError, match=r"results\.json"):
        read_recipes(write(tmp_path, text, "results.json"), STEPS)

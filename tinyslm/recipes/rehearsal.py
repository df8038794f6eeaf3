"""Rehearsal of a recipe: all its steps on the first layers of the model, with one training step each.

It costs little and finds, before the long work begins, a step that cannot be applied after the steps before it: invalid
settings, layers that are already compressed, groups that do not divide a row, masks or a calibration that are missing,
and a model that cannot be saved. It does not find what depends on the numbers in later layers (a Hessian that is not
positive definite, a training that diverges), nor a teacher with fewer layers than the model. Counts of parameters in
the messages are those of the first layers.
"""

from dataclasses import replace

from tinyslm.errors import Error
from tinyslm.models import layer_stacks
from tinyslm.recipes.distillation import FreshStudent, KeepLayers
from tinyslm.recipes.pruning import DropLayers
from tinyslm.recipes.step import apply_step, ignore_progress
from tinyslm.tree import named_arrays, named_modules

CHANGE_LAYERS = DropLayers | FreshStudent | KeepLayers  # their settings refer to the number of layers


def needs_rehearsal(steps) -> bool:
    """Whether work could be lost: there is training, or a step after another one."""
    return len(steps) > 1 or any(hasattr(step, "learning_rate") for step in steps)


def rehearse(model, steps, calibration, check):
    """Raise the error that a step, or the check of the model after it, would raise. Arguments as of `compress`.

    All layers are used up to the last step that changes their number.
    """
    all_layers = max((i + 1 for i, step in enumerate(steps) if isinstance(step, CHANGE_LAYERS)), default=0)
    for i, step in enumerate(steps):
        if i == all_layers:
            model = first_layers(model, check)
        model = apply_step(shortened(step), model, calibration, ignore_progress, check)


def shortened(step):
    """The step with one round and one training step, if it has more."""
    fewer = {name: 1 for name in ("rounds", "steps") if type(count := getattr(step, name, 1)) is int and count > 1}
    return replace(step, **fewer)


def first_layers(model, check):
    """The model with its first layers only, enough to have one of each form in every stack.

    The model itself, if the check refuses the smaller one: some families prescribe the kind of the later layers.
    """
    kept = [tuple(range(1 + last_new_form(stack.layers))) for stack in layer_stacks(model).values()]
    smaller = KeepLayers(*kept)(model)
    try:
        check(smaller)
    except Error:
        return model
    return smaller


def last_new_form(layers) -> int:
    """Index of the last layer with a form that no earlier one has: the kinds of its modules, the shapes of its arrays.

    layers: of one stack.
    """

    def form(layer):
        kinds = {path: type(module) for path, module in named_modules(layer).items()}
        return kinds, {path: array.shape for path, array in named_arrays(layer).items()}

    forms = [form(layer) for layer in layers]
    return max(i for i, each in enumerate(forms) if each not in forms[:i])

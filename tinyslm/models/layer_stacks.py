"""The stacks of transformer blocks of a model, by name."""

from collections.abc import Callable

from tinyslm.models.encoder_decoder import EncoderDecoder
from tinyslm.tree import Module


def layer_stacks(model: Module) -> dict[str, Module]:
    """{path of the stack in the model: module with `layers`}: {"": model}, or the two stacks of an encoder-decoder."""
    if isinstance(model, EncoderDecoder):
        return {"encoder": model.encoder, "decoder": model.decoder}
    return {"": model}


def with_layers(model: Module, layers: dict[str, list]) -> Module:
    """The model with other blocks. layers: {path of a stack: its blocks}."""
    stacks = layer_stacks(model)
    if "" in stacks:
        return model.replace(layers=layers[""])
    return model.replace(**{path: stacks[path].replace(layers=blocks) for path, blocks in layers.items()})


def block_path(stack: str, index: int) -> str:
    """The path in the model of a block of a stack."""
    return f"{stack}.layers.{index}".removeprefix(".")


def map_blocks(function: Callable[[str, Module], Module], model: Module) -> Module:
    """The model with `function(path, block)` in place of each block."""
    return with_layers(
        model,
        {
            path: [function(block_path(path, index), block) for index, block in enumerate(stack.layers)]
            for path, stack in layer_stacks(model).items()
        },
    )

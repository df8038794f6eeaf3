"""The steps `KeepLayers` and `FreshStudent`: a student with some layers of the teacher, or with random weights.

Mathematics: `tinyslm/compression/distillation/layer_maps.py`. Lesson: `lessons/06_distillation.py`.
"""

from dataclasses import dataclass, replace

from tinyslm.compression.distillation import layer_map
from tinyslm.errors import ConfigError
from tinyslm.models import Decoder, EncoderDecoder, layer_stacks, random_model
from tinyslm.models.width_scales import width_scales
from tinyslm.recipes.calibration import Calibration
from tinyslm.recipes.step import Progress, ignore_progress
from tinyslm.tree import Module


@dataclass(frozen=True)
class KeepLayers:
    """Keep some layers of the model and remove the others: a student that starts from the teacher's weights.

    `layer_map` gives the usual choices; `Distill` trains the student.

    Parameters
    ----------
    layers : tuple of int
        Ascending indices of layers; in an encoder-decoder, of encoder layers.
    decoder_layers : tuple of int, optional
        In an encoder-decoder: ascending indices of decoder layers, by default the same as `layers`.

    Raises
    ------
    ConfigError
        When called: if an index is out of range, the indices are not ascending, or layer 0 of a ModernBERT is missing.

    References
    ----------
    Sanh et al. 2019, "DistilBERT" (arXiv 1910.01108), section 3: every second layer.

    Examples
    --------
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> model = random_model(llama_shape(50, 16, 32, 3, 2, 2, 20))
    >>> student = KeepLayers((0, 2))(model)
    >>> student.layers[1].attention.query is model.layers[2].attention.query
    True
    """

    layers: tuple[int, ...]
    decoder_layers: tuple[int, ...] | None = None

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        kept = _layers_by_stack(model, self.layers, self.decoder_layers)
        stacks = {
            path: stack.replace(layers=[stack.layers[i] for i in kept[path]])
            for path, stack in layer_stacks(model).items()
        }
        config = _config_of_layers(model, kept)
        return stacks[""].replace(config=config) if "" in stacks else model.replace(**stacks, config=config)


@dataclass(frozen=True)
class FreshStudent:
    """A new model of the same kind with random weights, fewer layers, and other sizes where given.

    Each layer has the settings (rotary embedding, attention window) of its teacher layer in the "uniform" `layer_map`.
    The head size is the teacher's. transformers does not load every family with another one than hidden_size /
    num_attention_heads; `save` warns then.

    Parameters
    ----------
    layers : int
        Number of layers of each stack, at most the teacher's.
    hidden_size, intermediate_size, num_attention_heads, num_key_value_heads : int, optional
        By default the teacher's.
    seed : int
        Of the random weights.

    Raises
    ------
    ConfigError
        When called: for sizes that do not fit together, or more layers than the teacher has.

    Examples
    --------
    >>> from tinyslm.models.tiny_shapes import llama_shape
    >>> teacher = random_model(llama_shape(50, 16, 32, 3, 2, 2, 20))
    >>> student = FreshStudent(1, intermediate_size=24)(teacher)
    >>> len(student.layers), student.layers[0].feed_forward.down.weight.shape
    (1, (16, 24))
    """

    layers: int
    hidden_size: int | None = None
    intermediate_size: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    seed: int = 0

    def __call__(
        self, model: Module, calibration: Calibration | None = None, progress: Progress = ignore_progress
    ) -> Module:
        names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
        sizes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if "num_key_value_heads" in sizes and not isinstance(model, Decoder):
            raise ConfigError(f"num_key_value_heads is only for decoders, found a {type(model).__name__}")
        stacks = layer_stacks(model).items()
        layers = {path: layer_map("uniform", self.layers, len(stack.layers)) for path, stack in stacks}
        if self.hidden_size is not None:
            sizes |= width_scales(model.config, self.hidden_size)
        return random_model(replace(_config_of_layers(model, layers), **sizes), seed=self.seed)


def _layers_by_stack(model, layers, decoder_layers):
    """{path of a stack: indices of its layers to keep}. Raises ConfigError for indices out of range."""
    stacks = layer_stacks(model)
    if decoder_layers is not None and len(stacks) == 1:
        raise ConfigError(f"decoder_layers is only for encoder-decoders, found a {type(model).__name__}")
    kept = dict.fromkeys(stacks, layers)
    if decoder_layers is not None:
        kept["decoder"] = decoder_layers
    for path, chosen in kept.items():
        count = len(stacks[path].layers)
        if not chosen or list(chosen) != sorted(set(chosen) & set(range(count))):
            raise ConfigError(f"layers to keep are {chosen}, expected ascending numbers from 0 to {count - 1}")
        if first_layer_differs(stacks[path]) and chosen[0] != 0:
            raise ConfigError(
                f"layers to keep are {chosen}, but layer 0 of a {model.config.family} model, which alone has no "
                "attention norm, must be kept"
            )
    return kept


def first_layer_differs(stack) -> bool:
    """Whether layer 0 alone has no attention norm (ModernBERT): no other layer can take its place."""
    first, *others = (layer.attention_norm is None for layer in stack.layers)
    return first and not all(others)


def _config_of_layers(model, kept):
    """Configuration of a model with only the layers {path of a stack: indices}."""
    if isinstance(model, EncoderDecoder):
        sizes = {"num_hidden_layers": len(kept["encoder"]), "num_decoder_layers": len(kept["decoder"])}
        return replace(model.config, **sizes)
    changes = {"num_hidden_layers": len(kept[""])}
    for field in ("ropes", "windows", "dense_layers"):  # one entry per layer
        if hasattr(model.config, field):
            changes[field] = tuple(getattr(model.config, field)[i] for i in kept[""])
    return replace(model.config, **changes)

"""The steps `KeepLayers` and `FreshStudent`: a student with some layers of the teacher, or with random weights.

Mathematics: `tinyslm/compression/distillation/layer_maps.py`. Lesson: `lessons/06_distillation.py`.
"""

from dataclasses import dataclass, replace

from tinyslm.compression.distillation import layer_map
from tinyslm.errors import ConfigError
from tinyslm.models import Decoder, EncoderDecoder, layer_stacks, random_model
from tinyslm.recipes.step import ignore_progress


@dataclass(frozen=True)
class KeepLayers:
    """Keep some layers of the model and remove the others: a student that starts from the teacher's weights.

    `layer_map` gives the usual choices; `Distill` trains the student.

    Parameters
    ----------
    layers : tuple of int
        Ascending layer indices. For an encoder-decoder, those of the encoder.
    decoder_layers : tuple of int, optional
        For an encoder-decoder, those of the decoder; by default the same as `layers`.

    Raises
    ------
    ConfigError
        When called: if an index is out of range, or the indices are not ascending.

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

    def __call__(self, model, calibration=None, progress=ignore_progress):
        config = _config_of_layers(model, self.layers, self.decoder_layers)
        if isinstance(model, EncoderDecoder):
            decoder_layers = self.layers if self.decoder_layers is None else self.decoder_layers
            return model.replace(
                encoder=_keep(model.encoder, self.layers), decoder=_keep(model.decoder, decoder_layers), config=config
            )
        return _keep(model, self.layers).replace(config=config)


@dataclass(frozen=True)
class FreshStudent:
    """A new model of the same kind with random weights, fewer layers, and other sizes where given.

    For decoders, the settings of each layer (rotary embedding, attention window) are those of the teacher's layers in
    the "uniform" `layer_map`. Some checkpoint formats require that the heads fill the hidden size.

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

    def __call__(self, model, calibration=None, progress=ignore_progress):
        names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
        sizes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if "num_key_value_heads" in sizes and not isinstance(model, Decoder):
            raise ConfigError(f"num_key_value_heads belong to a decoder, this is a {type(model).__name__}")
        layers = [layer_map("uniform", self.layers, len(stack.layers)) for stack in layer_stacks(model).values()]
        return random_model(replace(_config_of_layers(model, *layers), **sizes), seed=self.seed)


def _config_of_layers(model, layers, decoder_layers=None):
    """Configuration of a model with some of its layers. Raises ConfigError for indices out of range."""
    changes = {"num_hidden_layers": len(layers)}
    if isinstance(model, EncoderDecoder):
        decoder_layers = layers if decoder_layers is None else decoder_layers
        _require_layers(model.encoder, layers)
        _require_layers(model.decoder, decoder_layers)
        return replace(model.config, num_decoder_layers=len(decoder_layers), **changes)
    if decoder_layers is not None:
        raise ConfigError(f"decoder_layers belong to an encoder-decoder, this is a {type(model).__name__}")
    _require_layers(model, layers)
    if isinstance(model, Decoder):  # its configuration has one entry per layer
        for field in ("ropes", "windows"):
            changes[field] = tuple(getattr(model.config, field)[i] for i in layers)
    return replace(model.config, **changes)


def _require_layers(stack, layers):
    count = len(stack.layers)
    if not layers or list(layers) != sorted(set(layers) & set(range(count))):
        raise ConfigError(f"layers to keep are {layers}, expected ascending numbers from 0 to {count - 1}")


def _keep(stack, layers):
    """A model or stack with some of its layers."""
    return stack.replace(layers=[stack.layers[i] for i in layers])

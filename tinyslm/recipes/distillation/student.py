"""A smaller student: some of the teacher's own layers, or a new model of its kind."""

from dataclasses import dataclass, replace

from tinyslm.compression.distillation import layer_map
from tinyslm.errors import ConfigError
from tinyslm.models import Decoder, EncoderDecoder, layer_stacks, random_model
from tinyslm.recipes.step import ignore_progress


@dataclass(frozen=True)
class KeepLayers:
    """Keep these layers, drop the others: the student begins with the teacher's own weights, and learns fastest so.

    decoder_layers: those of the decoder of an encoder-decoder, of which `layers` are the encoder's; by default the same
    numbers in both. Source: Sanh et al. 2019 (DistilBERT), section 3: every second layer. The distillation itself is
    `Distill`; `layer_map` knows the usual choices.
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
    """A new model of the teacher's kind with random weights: fewer layers, and other widths where they are given.

    layers: of each stack, at most the teacher's;  hidden_size, intermediate_size, num_attention_heads,
    num_key_value_heads: the teacher's if None. What a decoder's configuration says about each layer comes from the
    teacher's layers in a "uniform" map. Some families can only be saved where the heads fill the width.
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
    """The configuration of a model with these of its layers only. Raises ConfigError for numbers that it has not."""
    changes = {"num_hidden_layers": len(layers)}
    if isinstance(model, EncoderDecoder):
        decoder_layers = layers if decoder_layers is None else decoder_layers
        _require_layers(model.encoder, layers)
        _require_layers(model.decoder, decoder_layers)
        return replace(model.config, num_decoder_layers=len(decoder_layers), **changes)
    if decoder_layers is not None:
        raise ConfigError(f"decoder_layers belong to an encoder-decoder, this is a {type(model).__name__}")
    _require_layers(model, layers)
    if isinstance(model, Decoder):  # its configuration says something about each layer
        for field in ("ropes", "windows"):
            changes[field] = tuple(getattr(model.config, field)[i] for i in layers)
    return replace(model.config, **changes)


def _require_layers(stack, layers):
    count = len(stack.layers)
    if not layers or list(layers) != sorted(set(layers) & set(range(count))):
        raise ConfigError(f"layers to keep are {layers}, expected ascending numbers from 0 to {count - 1}")


def _keep(stack, layers):
    """A model or one of its stacks with these of its layers."""
    return stack.replace(layers=[stack.layers[i] for i in layers])

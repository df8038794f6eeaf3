"""A smaller student: some of the teacher's own layers."""

from dataclasses import dataclass, replace

from tinyslm.errors import ConfigError
from tinyslm.models import Decoder, EncoderDecoder


@dataclass(frozen=True)
class KeepLayers:
    """Keep these layers, drop the others: the student begins with the teacher's own weights, and learns fastest so.

    decoder_layers: those of the decoder of an encoder-decoder, of which `layers` are the encoder's; by default the same
    numbers in both. Source: Sanh et al. 2019 (DistilBERT), section 3: every second layer. The distillation itself is
    `Recover`.
    """

    layers: tuple[int, ...]
    decoder_layers: tuple[int, ...] | None = None

    def __call__(self, model, calibration=None, progress=None):
        changes = {"num_hidden_layers": len(self.layers)}
        if isinstance(model, EncoderDecoder):
            decoder_layers = self.layers if self.decoder_layers is None else self.decoder_layers
            return model.replace(
                encoder=_keep(model.encoder, self.layers),
                decoder=_keep(model.decoder, decoder_layers),
                config=replace(model.config, num_decoder_layers=len(decoder_layers), **changes),
            )
        if self.decoder_layers is not None:
            raise ConfigError(f"decoder_layers belong to an encoder-decoder, this is a {type(model).__name__}")
        kept = _keep(model, self.layers)
        if isinstance(model, Decoder):  # its configuration says something about each layer
            for field in ("ropes", "windows"):
                changes[field] = tuple(getattr(model.config, field)[i] for i in self.layers)
        return kept.replace(config=replace(model.config, **changes))


def _keep(stack, layers):
    """A model or one of its stacks with these of its layers. Raises ConfigError for numbers that it has not."""
    count = len(stack.layers)
    if not layers or list(layers) != sorted(set(layers) & set(range(count))):
        raise ConfigError(f"layers to keep are {layers}, expected ascending numbers from 0 to {count - 1}")
    return stack.replace(layers=[stack.layers[i] for i in layers])


def spread_layers(layers, count) -> tuple[int, ...]:
    """`count` of `layers` layers, evenly spaced from the first to the last: without those two a model falls apart."""
    if count == 1:
        return (0,)
    return tuple(i * (layers - 1) // (count - 1) for i in range(count))

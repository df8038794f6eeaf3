"""A smaller student: some of the teacher's own layers."""

from dataclasses import dataclass, replace

from tinyslm.errors import ConfigError


@dataclass(frozen=True)
class KeepLayers:
    """Keep these layers, drop the others: the student begins with the teacher's own weights, and learns fastest so.

    Source: Sanh et al. 2019 (DistilBERT), section 3: every second layer. The distillation itself is `Recover`.
    """

    layers: tuple[int, ...]

    def __call__(self, model, calibration, progress=None):
        count = len(model.layers)
        if not self.layers or list(self.layers) != sorted(set(self.layers) & set(range(count))):
            raise ConfigError(f"layers to keep are {self.layers}, expected ascending numbers from 0 to {count - 1}")
        config = replace(
            model.config,
            num_hidden_layers=len(self.layers),
            ropes=tuple(model.config.ropes[i] for i in self.layers),
            windows=tuple(model.config.windows[i] for i in self.layers),
        )
        return model.replace(config=config, layers=[model.layers[i] for i in self.layers])


def spread_layers(layers, count) -> tuple[int, ...]:
    """`count` of `layers` layers, evenly spaced from the first to the last: without those two a model falls apart."""
    if count == 1:
        return (0,)
    return tuple(i * (layers - 1) // (count - 1) for i in range(count))

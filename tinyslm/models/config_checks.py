"""What every configuration of a model must be, whatever kind it is of."""

from dataclasses import fields

from tinyslm.errors import ConfigError
from tinyslm.ops import ACTIVATIONS


def require(config, condition, message):
    """Raise ConfigError with the message, naming the family, unless the condition holds."""
    if not condition:
        raise ConfigError(f"configuration of a {config.family} model: {message}")


def check_sizes(config, but=()):
    """Every integer is positive, except those named in `but`."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type is int and field.name not in but:
            is_size = isinstance(value, int) and value > 0
            require(config, is_size, f"{field.name} is {value!r}, expected a positive integer")


def check_activation(config):
    """The nonlinearity is one that `ops` has."""
    known = config.activation in ACTIVATIONS
    require(config, known, f"activation {config.activation!r} is not one of {', '.join(ACTIVATIONS)}")

"""Checks that every model configuration shares."""

from dataclasses import fields

from tinyslm.errors import ConfigError
from tinyslm.ops import ACTIVATIONS


def require(config, condition: bool, message: str):
    """Raise ConfigError with the message, naming the family, unless the condition holds."""
    if not condition:
        raise ConfigError(f"configuration of a {config.family} model: {message}")


def check_common(config, not_sizes: tuple[str, ...] = ()):
    """Check that every integer field is positive, except the fields in `not_sizes`, and that the activation exists."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.type is int and field.name not in not_sizes:
            is_size = isinstance(value, int) and value > 0
            require(config, is_size, f"{field.name} is {value!r}, expected a positive integer")
    known = config.activation in ACTIVATIONS
    require(config, known, f"activation {config.activation!r} is not one of {', '.join(ACTIVATIONS)}")

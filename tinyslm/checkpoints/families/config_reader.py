"""Validated access to the keys of a config.json."""

from collections.abc import Callable, Mapping
from typing import Any

from tinyslm.checkpoints.json_files import shown
from tinyslm.checkpoints.own_section import HEAD_DIM, SECTION, own_section
from tinyslm.errors import ConfigError
from tinyslm.models.config_checks import EPS, FACTOR, FRACTION, LAYER_COUNT, SIZE, THETA, Range
from tinyslm.ops import ACTIVATIONS

OTHER_ACTIVATION_NAMES = {"swish": "silu", "gelu_python": "gelu", "gelu_fast": "gelu_new"}  # equal up to rounding


class ConfigReader:
    """Reader of the keys of a config.json, with the defaults of its family.

    Each method checks the value of a key and returns it. Raises ConfigError, which names the file and the key.
    """

    def __init__(self, values, defaults, where):
        self.values = defaults | values
        self.where = where

    def with_values(self, **changes):
        """A copy with other values for some keys."""
        return ConfigReader(self.values | changes, {}, self.where)

    def get(self, key):
        """The value without a check; None if the key is missing or null."""
        return self.values.get(key)

    def refuse(self, key, expected):
        """Raise ConfigError with the value of a key and a description of the expected value."""
        found = shown(self.get(key)) if key in self.values else "missing"
        raise ConfigError(f"{self.where}: {key} is {found}, expected {expected}")

    def in_range(self, key, allowed: Range):
        """A number of the range: an integer, or a float."""
        value = self.get(key)
        if not allowed.holds(value):
            self.refuse(key, allowed)
        return value if allowed.integer else float(value)

    def count(self, key, at_most=SIZE.high):
        """An integer from 1 to at_most."""
        return self.in_range(key, SIZE._replace(high=at_most))

    def layers(self, key):
        """A number of layers."""
        return self.in_range(key, LAYER_COUNT)

    def optional_count(self, key):
        """A size, or None."""
        return None if self.get(key) is None else self.count(key)

    def factor(self, key):
        """A scale, a soft cap, or a divisor of rotary frequencies."""
        return self.in_range(key, FACTOR)

    def optional_factor(self, key):
        """A factor, or None."""
        return None if self.get(key) is None else self.factor(key)

    def fraction(self, key):
        """A number from 0 to 1."""
        return self.in_range(key, FRACTION)

    def theta(self, key):
        """The base of rotary frequencies."""
        return self.in_range(key, THETA)

    def norm_eps(self, key):
        """The eps of a norm."""
        return self.in_range(key, EPS)

    def factors(self, key, count):
        """A list of `count` factors, as a tuple."""
        values = self.get(key)
        if not isinstance(values, list) or len(values) != count:
            self.refuse(key, f"a list of {count} numbers")
        entries = ConfigReader(dict(enumerate(values)), {}, f"{self.where}: {key}")
        return tuple(entries.factor(i) for i in range(count))

    def flag(self, key):
        """True or false."""
        if type(self.get(key)) is not bool:
            self.refuse(key, "true or false")
        return self.get(key)

    def choice(self, key, options):
        """One of the options, which are strings."""
        value = self.get(key)
        if not isinstance(value, str) or value not in options:
            self.refuse(key, f"one of {', '.join(options)} (others are not supported)")
        return value

    def activation(self, key):
        """The name of an activation function; for another name of transformers, the name that is used here."""
        value = self.get(key)
        other_name = isinstance(value, str) and OTHER_ACTIVATION_NAMES.get(value)
        return other_name or self.choice(key, ACTIVATIONS)

    def head_dim(self, width_key, heads_key):
        """The size of a head: that of the library's own section, otherwise the width divided by the number of heads."""
        section = own_section(self.values, self.where)
        if HEAD_DIM in section:
            return ConfigReader(section, {}, f"{self.where}: {SECTION}").count(HEAD_DIM)
        width, heads = self.count(width_key), self.count(heads_key)
        if width % heads:
            self.refuse(width_key, f"a multiple of {heads_key}, which is {heads}")
        return width // heads

    def table(self, key):
        """A ConfigReader for a nested object, or None if the object is missing or null."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse(key, "an object")
        return ConfigReader(value, {}, f"{self.where}: {key}")

    def token(self, key):
        """A token id, or None. Some files write -1 for None."""
        value = self.get(key)
        if value is None or value == -1:
            return None
        if not SIZE._replace(low=0).holds(value):
            self.refuse(key, "a token id or null")
        return value

    def tokens(self, key):
        """A token id, a tuple of token ids, or None."""
        value = self.get(key)
        if not isinstance(value, list):
            return self.token(key)
        entries = ConfigReader(dict(enumerate(value)), {}, f"{self.where}: {key}")
        return tuple(token for i in range(len(value)) if (token := entries.token(i)) is not None)


# {field of the configuration: (key of config.json, its reader, default of the class in transformers)}
FieldTable = Mapping[str, tuple[str, Callable[[ConfigReader, str], Any], Any]]


def read_fields(keys: ConfigReader, table: FieldTable) -> dict[str, Any]:
    """{field of the configuration: value} from the keys of a config.json."""
    return {field: read(keys, key) for field, (key, read, _) in table.items()}


def write_fields(config, table: FieldTable) -> dict[str, Any]:
    """{key of config.json: value} from the fields of a configuration. Tuples become lists."""
    values = {key: getattr(config, field) for field, (key, *_) in table.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

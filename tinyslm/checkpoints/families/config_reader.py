"""Validated access to the keys of a config.json."""

from collections.abc import Callable, Mapping
from typing import Any

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError
from tinyslm.ops import ACTIVATIONS

LARGEST = 2**30  # upper limit of every size; the product of two sizes cannot overflow 64 bits
MOST_LAYERS = 10_000  # upper limit of the number of layers


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

    def count(self, key, at_most=LARGEST):
        """An integer from 1 to at_most."""
        value = self.get(key)
        if type(value) is not int or not 1 <= value <= at_most:
            self.refuse(key, f"an integer from 1 to {at_most}")
        return value

    def layers(self, key):
        """A number of layers."""
        return self.count(key, MOST_LAYERS)

    def optional_count(self, key):
        """An integer of at least 1, or None."""
        return None if self.get(key) is None else self.count(key)

    def number(self, key, positive=True):
        """A finite number above 0, or of at least 0 if `positive` is false."""
        value = self.get(key)
        if type(value) not in (int, float) or not 0 <= value <= 1e30 or (positive and value == 0):
            self.refuse(key, f"a number {'above' if positive else 'of at least'} 0")
        return float(value)

    def optional_number(self, key):
        """A finite number above 0, or None."""
        return None if self.get(key) is None else self.number(key)

    def norm_eps(self, key):
        """The eps of a norm: a finite number of at least 0."""
        return self.number(key, positive=False)

    def numbers(self, key, count):
        """A list of `count` numbers above 0, as a tuple."""
        values = self.get(key)
        if not isinstance(values, list) or len(values) != count:
            self.refuse(key, f"a list of {count} numbers")
        entries = ConfigReader(dict(enumerate(values)), {}, f"{self.where}: {key}")
        return tuple(entries.number(i) for i in range(count))

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
        """The name of an activation function."""
        return self.choice(key, ACTIVATIONS)

    def head_dim(self, width_key, heads_key):
        """The size of a head: the width divided by the number of heads."""
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
        if type(value) is not int or not 0 <= value <= LARGEST:
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

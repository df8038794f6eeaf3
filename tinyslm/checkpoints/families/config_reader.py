"""Reading the keys of a config.json whose author may have been careless."""

from tinyslm.checkpoints.json_files import shown
from tinyslm.errors import ConfigError

LARGEST = 2**30  # no size of a model is larger, so that no product of two sizes overflows


class ConfigReader:
    """A config.json over the defaults of its family. What cannot be honoured raises ConfigError naming file and key."""

    def __init__(self, values, defaults, where):
        self.values = defaults | values
        self.where = where

    def having(self, **changes):
        """The same keys, some of them with other values."""
        return ConfigReader(self.values | changes, {}, self.where)

    def get(self, key):
        """The value as it is; None where the key is missing or null."""
        return self.values.get(key)

    def refuse(self, key, expected):
        """Raise ConfigError about a key."""
        found = shown(self.get(key)) if key in self.values else "missing"
        raise ConfigError(f"{self.where}: {key} is {found}, expected {expected}")

    def count(self, key, at_most=LARGEST):
        """An integer from 1 to at_most."""
        value = self.get(key)
        if type(value) is not int or not 1 <= value <= at_most:
            self.refuse(key, f"an integer from 1 to {at_most}")
        return value

    def optional_count(self, key):
        """An integer from 1, or None."""
        return None if self.get(key) is None else self.count(key)

    def number(self, key, positive=True):
        """A finite number above 0; from 0 on if `positive` is false."""
        value = self.get(key)
        if type(value) not in (int, float) or not 0 <= value <= 1e30 or (positive and value == 0):
            self.refuse(key, f"a number {'above' if positive else 'of at least'} 0")
        return float(value)

    def optional_number(self, key):
        """A finite number above 0, or None."""
        return None if self.get(key) is None else self.number(key)

    def numbers(self, key, count):
        """That many numbers above 0."""
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

    def table(self, key):
        """The keys of an object within the object, or None where it is missing or null."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.refuse(key, "an object")
        return ConfigReader(value, {}, f"{self.where}: {key}")

    def token(self, key):
        """A token id, or None; some files write -1 for none."""
        value = self.get(key)
        if value is None or value == -1:
            return None
        if type(value) is not int or not 0 <= value <= LARGEST:
            self.refuse(key, "a token id or null")
        return value

    def tokens(self, key):
        """A token id, several as a tuple, or None."""
        value = self.get(key)
        if not isinstance(value, list):
            return self.token(key)
        entries = ConfigReader(dict(enumerate(value)), {}, f"{self.where}: {key}")
        return tuple(token for i in range(len(value)) if (token := entries.token(i)) is not None)

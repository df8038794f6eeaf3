"""The one family of exceptions: every mistake of a caller ends in one of these, with what to do about it."""


class Error(ValueError):
    """Something given to tinyslm is wrong. The message says what, where, and what to do."""


class CheckpointError(Error):
    """A file of weights is missing, damaged, or does not fit its configuration."""


class ConfigError(Error):
    """A configuration or an option has a value that cannot be honoured."""


class DataError(Error):
    """Text, tokens or calibration data cannot be used."""

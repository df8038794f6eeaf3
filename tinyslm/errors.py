"""Exceptions for invalid input. The command line prints the message in one line and exits with status 2."""


class Error(ValueError):
    """Base class of all errors about invalid input. The message names the input, the found and the expected value.

    Examples
    --------
    >>> issubclass(Error, ValueError)
    True
    """


class CheckpointError(Error):
    """A checkpoint file is missing, damaged, or does not match its configuration.

    Examples
    --------
    >>> import tinyslm
    >>> tinyslm.load("no-such-model")
    Traceback (most recent call last):
    tinyslm.errors.CheckpointError: no-such-model: no such directory; built-in models are teacher
    """


class ConfigError(Error):
    """A configuration or an option has an invalid or unsupported value.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyslm.generation import next_token_probabilities
    >>> next_token_probabilities(np.zeros(3), top_p=2.0)
    Traceback (most recent call last):
    tinyslm.errors.ConfigError: top_p is 2.0, expected a number in (0, 1], or None
    """


class DataError(Error):
    """Text, tokens, arrays or calibration data are invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyslm import ops
    >>> ops.cross_entropy(np.zeros((2, 5)), np.array([1, 7]))
    Traceback (most recent call last):
    tinyslm.errors.DataError: labels 1 to 7 are not all in 0 to 4 or -100 (ignored)
    """

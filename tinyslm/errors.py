"""Exceptions for invalid input, and the policy for numbers in arrays.

The command line prints the message of an exception in one line and exits with status 2.

Policy for the arrays of all public functions and layers (`tests/numeric_policy` tests it for each of them):

- **dtype.** Real numbers are float32 or float64, and results have the dtype of the inputs. A docstring names results
  that are always float64, and computations that are in float64 because float32 would overflow (sums of squares).
- **Integers and booleans in place of real numbers.** Operations (`tinyslm.ops`), layers, and the functions that encode
  numbers or choose their range (`quantize`, `encode`, `choose_range`) refuse them with DataError. The other functions
  of `tinyslm.compression`, and sampling, compute them in float64. Functions that only select entries, such as slices,
  keep any dtype.
- **nan and infinity.** Functions of `tinyslm.compression` refuse them with DataError. Operations, layers and selections
  pass them on: the output holds nan or infinity too. Layers that encode their inputs refuse them there. A finite number
  never hides nan. A finite result of infinity is the limit, such as tanh(inf) = 1. An entry that is excluded by a mask,
  or on which no output depends, has no effect.
- **Overflow.** A result of finite inputs that would not be finite is a NumericOverflow, which is a DataError, in
  `tinyslm.compression`. Operations and layers return infinity or nan, and raise NumericOverflow where a finite number
  would hide the overflow (normalization, masked attention).
- **Arrays without entries.** They give an array without entries, or DataError where a result is not defined (a mean, a
  maximum, a product over 0 inputs).
- **Groups that do not fit.** If a group size, a pattern N:M, a head size or a number of groups does not divide the axis
  of an array, the error is DataError: the setting is valid, but not for this array. Steps of recipes add the layer.
- **Divisors.** Scales, temperatures and step sizes must be finite and above 0.
- **Arguments are not changed.** The exceptions are in the docstring of the function (`AdamW.step`,
  `clip_by_global_norm`).
"""


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


class CheckpointWarning(UserWarning):
    """A checkpoint was read without some of its tensors, or was written in a form that transformers does not load.

    The command line prints the message in one line.

    Examples
    --------
    >>> issubclass(CheckpointWarning, Warning)
    True
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


class NumericOverflow(DataError):
    """A result or an intermediate number is too large for its dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyslm import ops
    >>> with np.errstate(over="ignore"):
    ...     ops.rms_norm(np.full(2, 1e30, np.float32), np.ones(2, np.float32))
    Traceback (most recent call last):
    tinyslm.errors.NumericOverflow: the mean square of x overflows float32: scale x down, or use float64
    """

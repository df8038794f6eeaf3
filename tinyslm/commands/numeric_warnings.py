"""NumPy's warnings of numbers that overflow or are not finite."""

import sys
import warnings


def ignore_numeric_warnings() -> None:
    """Do not show RuntimeWarnings in this process, unless PYTHONWARNINGS or -W asks for them.

    For commands and their workers: if a result is not finite, an error names the tensor.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore", RuntimeWarning)

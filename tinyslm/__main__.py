"""Entry point of `python -m tinyslm`, the same as the command `tinyslm`."""

import sys

from tinyslm.cli import main

if __name__ == "__main__":
    sys.exit(main())

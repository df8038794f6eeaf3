"""The commands of `tinyslm`, one module each: command-line options and printed output."""

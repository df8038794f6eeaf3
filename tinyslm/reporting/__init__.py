"""What a run of `tinyslm compress` found, for the eye: a table in the terminal, and one self-contained page."""

from tinyslm.reporting.page import render_page
from tinyslm.reporting.table import format_table

__all__ = ["format_table", "render_page"]

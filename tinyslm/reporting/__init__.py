"""Reports of `tinyslm compress`: a table for the terminal, and a self-contained HTML page."""

from tinyslm.reporting.page import render_page
from tinyslm.reporting.result_table import format_table

__all__ = ["format_table", "render_page"]

"""Processes that are killed with SIGKILL, and what they leave: see `__main__`."""

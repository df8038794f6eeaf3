"""One Hypothesis profile for everyone, so that a test means the same on every machine and every day."""

import os

from hypothesis import settings

pytest_plugins = ["tinyslm.coursework.plugin"]  # --implementation FILE

settings.register_profile("tinyslm", derandomize=True, database=None, deadline=None, max_examples=50, print_blob=True)
settings.register_profile("few", derandomize=True, database=None, deadline=None, max_examples=10)
settings.register_profile("explore", derandomize=False, database=None, deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tinyslm"))

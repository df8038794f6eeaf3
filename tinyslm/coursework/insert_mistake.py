"""Run pytest on a library with a mistake in it: a program of its own, which must not load the library before.

python insert_mistake.py [MODULE OLD NEW] -- PYTEST-ARGUMENTS
"""

import importlib.machinery
import sys


class WrongLoader(importlib.machinery.SourceFileLoader):
    """Loads a module's source with one piece replaced, and leaves no compiled file behind."""

    def get_code(self, fullname):
        source = self.get_data(self.path).decode("utf-8")
        if source.count(self.old) != 1:
            raise SystemExit(f"{self.old!r} occurs {source.count(self.old)} times in {fullname}")
        return compile(source.replace(self.old, self.new), self.path, "exec", dont_inherit=True)


class WrongFinder:
    """Finds one module, and gives it the loader above."""

    def __init__(self, module, old, new):
        self.module, self.old, self.new = module, old, new

    def find_spec(self, fullname, path, target=None):
        """As the import system asks for it."""
        if fullname != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = WrongLoader(spec.loader.name, spec.loader.path)
        spec.loader.old, spec.loader.new = self.old, self.new
        return spec


def main(arguments):
    """Put the mistake in, and run pytest; returns its exit status."""
    end = arguments.index("--")
    if end:
        sys.meta_path.insert(0, WrongFinder(*arguments[:end]))
    import pytest

    return pytest.main(arguments[end + 1 :])


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are the package's
    raise SystemExit(main(sys.argv[1:]))

"""Program that runs pytest on the library with one piece of source code replaced.

python insert_mistake.py [MODULE OLD NEW] -- PYTEST-ARGUMENTS

It must not import the library before the replacement is set up.
"""

import importlib.machinery
import sys


class ReplacingLoader(importlib.machinery.SourceFileLoader):
    """Loads a module with one piece of its source replaced. Writes no compiled file."""

    def __init__(self, name, path, old, new):
        super().__init__(name, path)
        self.old, self.new = old, new

    def get_code(self, fullname):
        source = self.get_data(self.path).decode("utf-8")
        if source.count(self.old) != 1:
            raise SystemExit(f"{self.old!r} occurs {source.count(self.old)} times in {fullname}")
        return compile(source.replace(self.old, self.new), self.path, "exec", dont_inherit=True)


class ReplacingFinder:
    """Import hook that loads one module with `ReplacingLoader`."""

    def __init__(self, module, old, new):
        self.module, self.old, self.new = module, old, new

    def find_spec(self, fullname, path, target=None):
        """The spec of the module, or None for all other modules (protocol of sys.meta_path)."""
        if fullname != self.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = ReplacingLoader(fullname, spec.origin, self.old, self.new)
        return spec


def main(arguments):
    """Set up the replacement and run pytest. Returns its exit status."""
    end = arguments.index("--")
    if end:
        sys.meta_path.insert(0, ReplacingFinder(*arguments[:end]))
    import pytest

    return pytest.main(arguments[end + 1 :])


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules must be imported as parts of the package
    raise SystemExit(main(sys.argv[1:]))

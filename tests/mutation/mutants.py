"""Mutants: copies of a source file with one small change each, found in its syntax tree.

The changes are those of textbooks on mutation testing: another comparison, another arithmetic or logical operator, a
dropped operand, another number, a dropped keyword argument, check, copy or cast, `any` for `all`, `max` for `min`.
Messages, docstrings and annotations stay as they are. Imports nothing of the library.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MATHEMATICS = (  # the files to mutate; a directory stands for all files in it
    *("autodiff.py", "tree.py", "ops", "modules", "models", "compression"),
    *("generation", "training"),
    *("evaluation/continuations.py", "evaluation/footprint.py", "evaluation/loss.py", "evaluation/multiple_choice.py"),
    *("evaluation/option_scores.py", "evaluation/parameters.py"),
)
TABLES = {"__init__.py", "catalogue.py", "tiny_shapes.py"}  # names and published sizes: no mathematics
COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
RENAMED = {"any": "all", "max": "min", "maximum": "minimum", "floor": "ceil", "argmax": "argmin", "zeros": "ones"}
RENAMED |= {"zeros_like": "ones_like", "amax": "amin", "sum": "mean"}
RENAMED |= {new: old for old, new in RENAMED.items()}
WRAPPERS = {"float", "int", "bool", "abs", "asarray", "array", "ascontiguousarray", "copy", "sqrt", "square", "round"}
METHODS = {"copy", "astype"}  # x.copy() becomes x
UNTOUCHED = {"TypeVar", "dataclass", "constant", "field"}  # calls whose arguments are declarations
SAFEGUARDS = {"strict", "stacklevel"}  # keyword arguments that matter only after another mistake
LAST_AXIS = {"argsort", "sort", "partition", "argpartition", "take_along_axis"}  # whose axis is the last by default


@dataclass(frozen=True)
class Mutant:
    """A change of one piece of one file.

    file: path below the root;  function: qualified name, "" at module level;  line: number of the first changed line;
    old, new: that statement's line before and after, without indentation;  start, end, text: the piece of the file, in
    bytes, and its replacement.
    """

    file: str
    function: str
    line: int
    old: str
    new: str
    start: int
    end: int
    text: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies the mutant when lines above it change."""
        return self.file, self.function, self.old, self.new

    def source(self) -> str:
        """The file with the change."""
        content = (ROOT / self.file).read_bytes()
        return (content[: self.start] + self.text.encode() + content[self.end :]).decode()


def files() -> list[Path]:
    """All files to mutate, in a fixed order."""
    found = []
    for name in MATHEMATICS:
        path = ROOT / "tinyslm" / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [path for path in found if path.name not in TABLES]


def mutants_of(path: Path, lines: set[str] | None = None) -> list[Mutant]:
    """The mutants of a file, in the order of their places. Each differs from the file and can be compiled.

    lines: only mutants of lines with one of these texts, without indentation; by default all.
    """
    content = path.read_bytes()
    finder = _Finder(content)
    finder.visit(ast.parse(content))
    found = {}
    old = content.decode().split("\n")
    for start, end, text, function in finder.changes:
        line = content.count(b"\n", 0, start)
        if lines is not None and old[line].strip() not in lines:
            continue
        changed = content[:start] + text.encode() + content[end:]
        try:
            if ast.dump(ast.parse(changed)) == finder.unchanged:
                continue
        except SyntaxError:
            continue
        shown = (old[line].strip(), changed.decode().split("\n")[line].strip())
        name = path.relative_to(ROOT).as_posix()
        found[start, end, text] = Mutant(name, function, line + 1, *shown, start, end, text)
    return [found[key] for key in sorted(found)]


class _Finder(ast.NodeVisitor):
    """Collects (start, end, replacement, qualified name of the function) in `changes`; offsets are in bytes."""

    def __init__(self, content):
        self.content, self.changes, self.names = content, [], []
        self.unknown_sizes = set()
        self.unchanged = ast.dump(ast.parse(content))
        self.starts = [0]
        for line in content.split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)

    def span(self, node):
        """First and last offset of a node."""
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node):
        start, end = self.span(node)
        return self.content[start:end].decode()

    def replace(self, node, text):
        self.changes.append((*self.span(node), text, ".".join(self.names)))

    def replace_between(self, left, right, old, new):
        """Replace an operator between two nodes; parentheses and line breaks stay."""
        start, end = self.span(left)[1], self.span(right)[0]
        place = self.content.find(old.encode(), start, end)
        if place >= 0:
            self.changes.append((place, place + len(old), new, ".".join(self.names)))

    # what is not changed

    def visit_Raise(self, node):
        pass

    visit_JoinedStr = visit_Import = visit_ImportFrom = visit_Assert = visit_Raise

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)

    def visit_arguments(self, node):
        for default in (*node.defaults, *filter(None, node.kw_defaults)):
            self.visit(default)

    def visit_FunctionDef(self, node):
        if node.name == "__repr__":
            return
        for decorator in node.decorator_list:
            self.visit(decorator)
        self.names.append(node.name)
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)
        self.names.pop()

    def visit_ClassDef(self, node):
        self.names.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self.names.pop()

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node.body[0], ast.Raise):
            self.replace(node.test, "False")  # a check is dropped
        elif isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
            self.replace(node.test, f"not {self.text(node.test)}")
        self.generic_visit(node)

    # what is changed

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant):  # a docstring
            return
        if isinstance(node.value, ast.Call):
            self.replace(node, "pass")  # a call for its effect, such as a check
        self.generic_visit(node)

    def visit_Compare(self, node):
        sides = [node.left, *node.comparators]
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            self.replace_between(left, right, *COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant | ast.JoinedStr):
            return  # formatting of a text
        if type(node.op) in ARITHMETIC:
            self.replace_between(node.left, node.right, *ARITHMETIC[type(node.op)])
            start, end = self.span(node)[0], self.span(node.left)[1]
            dropped = self.content[start:end].decode()  # the left operand alone
            if dropped.count("(") == dropped.count(")"):
                self.replace(node, dropped)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        if type(node.op) in ARITHMETIC:
            old, new = (f"{each}=" for each in ARITHMETIC[type(node.op)])
            self.replace_between(node.target, node.value, old, new)
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.replace_between(left, right, old, new)
        self.replace(node, self.text(node.values[0]))
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if not isinstance(node.op, ast.UAdd):
            self.replace(node, self.text(node.operand))
        self.generic_visit(node)

    def visit_IfExp(self, node):
        self.replace(node, f"({self.text(node.body)})")
        self.replace(node, f"({self.text(node.orelse)})")
        self.generic_visit(node)

    def visit_comprehension(self, node):
        for condition in node.ifs:
            self.replace(condition, "True")
        self.generic_visit(node)

    def is_without_effect(self, keyword, function):
        """Whether a keyword argument is a default, a matter of speed, or a check of the programmer."""
        text = self.text(keyword)
        return keyword.arg in SAFEGUARDS or text == "copy=False" or (text == "axis=-1" and function in LAST_AXIS)

    def visit_keyword(self, node):
        if not self.is_without_effect(node, ""):
            self.visit(node.value)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.replace(node, str(not node.value))
        elif isinstance(node.value, int) and node not in self.unknown_sizes:
            self.replace(node, str(node.value + 1))
        elif isinstance(node.value, float):
            self.replace(node, repr(2 * node.value if node.value else 1.0))

    def visit_Call(self, node):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in UNTOUCHED:
            return
        if name == "reshape":  # NumPy takes every negative size for the unknown one
            self.unknown_sizes |= {each.operand for each in node.args if self.text(each) == "-1"}
        if name in RENAMED and (name not in ("sum", "mean") or isinstance(node.func, ast.Attribute)):
            whole = self.text(node.func)
            self.replace(node.func, whole[: len(whole) - len(name)] + RENAMED[name])
        if name in WRAPPERS and len(node.args) == 1 and not isinstance(node.args[0], ast.Starred):
            self.replace(node, f"({self.text(node.args[0])})")
        elif name in METHODS and isinstance(node.func, ast.Attribute):
            self.replace(node, self.text(node.func.value))
        parts = [*node.args, *(keyword for keyword in node.keywords if keyword.arg)]
        if len(parts) == len(node.args) + len(node.keywords):
            for dropped in node.keywords:
                if self.is_without_effect(dropped, name):
                    continue
                kept = ", ".join(self.text(part) for part in parts if part is not dropped)
                self.replace(node, f"{self.text(node.func)}({kept})")
        self.generic_visit(node)


def all_mutants() -> Iterator[Mutant]:
    """The mutants of all files."""
    for path in files():
        yield from mutants_of(path)

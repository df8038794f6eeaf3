"""Remarks on a submission: what a person who grades should look at. Found in its source, without running it."""

import ast
from pathlib import Path

WATCHED_MODULES = {  # with them a submission can reach beyond its functions
    *("_thread", "asyncio", "atexit", "builtins", "code", "concurrent", "ctypes", "gc", "hypothesis", "importlib"),
    *("inspect", "multiprocessing", "os", "pickle", "pkgutil", "psutil", "pytest", "resource", "runpy", "shutil"),
    *("signal", "socket", "subprocess", "sys", "threading"),
}
WATCHED_CALLS = {"__import__", "compile", "eval", "exec", "globals", "open", "setattr", "vars"}
WATCHED_ATTRIBUTES = {
    "__builtins__",
    "__closure__",
    "__code__",
    "__dict__",
    "__globals__",
    "__subclasses__",
    "__wrapped__",
}


def remarks_on(path, answers) -> list[str]:
    """One sentence for each thing to look at, in the order of the file. answers: dotted names of library functions."""
    try:
        tree = ast.parse(Path(path).read_text("utf-8"))
    except (SyntaxError, ValueError, OSError):
        return []
    names = {dotted.rpartition(".")[2] for dotted in answers}
    imported: dict[str, str] = {}  # {name in the file: dotted name of the module or function}
    found = []
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr)]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        found += [f"line {node.lineno} {text}" for text in remarks_on_node(node, names, imported)]
    return list(dict.fromkeys(found))


def remarks_on_node(node, names, imported):
    """The remarks on one node of the syntax tree; `imported` collects the imports."""
    match node:
        case ast.Import(names=aliases):
            for alias in aliases:
                imported[alias.asname or alias.name.partition(".")[0]] = alias.name
                if watched(alias.name):
                    yield f"imports {alias.name}"
        case ast.ImportFrom(module=str(module), names=aliases):
            for alias in aliases:
                imported[alias.asname or alias.name] = f"{module}.{alias.name}"
                if module.startswith("tinyslm") and alias.name in names:
                    yield f"imports the library's {alias.name}"
                elif watched(module) or watched(f"{module}.{alias.name}"):
                    yield f"imports {module}.{alias.name}"
        case ast.Attribute(value=value, attr=name, ctx=context):
            owner = imported.get(root_name(value), "")
            if owner.startswith("tinyslm") and name in names:
                yield f"uses the library's {name}"
            if name in WATCHED_ATTRIBUTES:
                yield f"uses {name}"
            if owner and isinstance(context, ast.Store | ast.Del):
                yield f"changes {ast.unparse(node)}"
        case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()) if imported.get(root_name(value)):
            yield f"changes {ast.unparse(node)}"
        case ast.Call(func=ast.Name(id=name)) if name in WATCHED_CALLS:
            yield f"calls {name}"


def watched(module) -> bool:
    """Whether a module is one to look at."""
    return module.partition(".")[0] in WATCHED_MODULES or f"{module}.".startswith("tinyslm.coursework.")


def root_name(node) -> str:
    """The name at the beginning of a.b.c, or ""."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""

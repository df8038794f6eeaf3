"""Pages of the site, made from the repository: README, lessons, exercises and the reference of the public packages.

Names of files and functions in the text become links: from a lesson to the function, from the function to its paper and
to its lesson. The figures of the lessons get their descriptions as alternative texts.
"""

import html as html_text
import importlib
import inspect
import json
import re
import tomllib
from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
SOURCES = "https://github.com/tinyslm/tinyslm/blob/main"
PACKAGES = {
    "tinyslm": "tinyslm",
    "tinyslm.ops": "operations",
    "tinyslm.compression.distillation": "distillation",
    "tinyslm.compression.pruning": "pruning",
    "tinyslm.compression.quantization": "quantization",
    "tinyslm.compression.factorization": "factorization",
    "tinyslm.recipes": "recipes",
}
ARXIV = re.compile(r"arXiv[: ]\s*(\d{4}\.\d{4,5})")
TUPLE = re.compile(r"\(ndarray, shape\(([^()<>]*)\)\)")  # a type that was read as a Python expression
CODE = re.compile(r"<code>([^<>\n]+)</code>")
LESSON = re.compile(r"lessons/(\d\d_\w+)(?:\.py|\.ipynb)?")
FIGURE = re.compile(r'<img [^>]*src="data:image/png[^>]*>')
BLOCK = re.compile(r"(<pre.*?</pre>|<a .*?</a>|<h[1-6].*?</h[1-6]>|<script.*?</script>)", re.DOTALL)


def lessons():
    """Paths of the notebooks in order."""
    return sorted((ROOT / "lessons").glob("[0-9][0-9]_*.ipynb"))


def reference():
    """{package: [(exported name, dotted path of the definition)]} of functions and classes."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        things = [(name, inspect.unwrap(getattr(module, name))) for name in module.__all__]
        found[package] = [
            (name, f"{thing.__module__}.{thing.__qualname__}") for name, thing in things if callable(thing)
        ]
    return found


REFERENCE = reference()
PAGE_OF = {}  # exported name, or path of a file: (page, anchor)
for package, entries in REFERENCE.items():
    for name, path in entries:
        PAGE_OF.setdefault(name, (f"reference/{PACKAGES[package]}/", path))
        file = path.rpartition(".")[0].replace(".", "/") + ".py"
        PAGE_OF.setdefault(file, (f"reference/{PACKAGES[package]}/", path))


def reference_page(package):
    """The reference of a package: its docstring, and every exported function and class."""
    module = importlib.import_module(package)
    lines = [f"# {package}", "", inspect.getdoc(module) if package != "tinyslm" else letters(module), ""]
    documented = set()
    for _, path in REFERENCE[package]:
        if path not in documented:
            lines += [f"::: {path}", ""]
        documented.add(path)
    return "\n".join(lines)


def letters(module):
    """The docstring of the package with its table of letters as preformatted text."""
    paragraphs = inspect.getdoc(module).split("\n\n")
    return "\n\n".join(f"```text\n{text}\n```" if text.startswith("    ") else text for text in paragraphs)


def exercises_page():
    """All exercises with their tasks, functions and hints."""
    text = (ROOT / "tinyslm/coursework/exercises.toml").read_text("utf-8")
    titles = {path.stem[:2]: path.stem for path in lessons()}
    lines = [
        "# Exercises",
        "",
        "`tinyslm exercise new NAME` writes a stub and its README. `tinyslm grade FILE` prints the marks for",
        "each property test of this library that the file passes.",
        "",
    ]
    for exercise in tomllib.loads(text)["exercise"]:
        lesson = titles[exercise["lesson"]]
        functions = ", ".join(f"`{name.rpartition('.')[2]}`" for name in exercise["functions"])
        lines += [f"## {exercise['title']}", ""]
        lines += [f"`{exercise['name']}` · [lesson {exercise['lesson']}](lessons/{lesson}.ipynb) · {functions}", ""]
        lines += [exercise["task"].strip(), ""]
        if exercise.get("hints"):
            lines += ['??? note "Hints"', ""]
            lines += [f"    {number}. {hint}" for number, hint in enumerate(exercise["hints"], 1)] + [""]
    return "\n".join(lines)


def start_page():
    """The README, with links to files of the repository that the site does not contain."""
    text = (ROOT / "README.md").read_text("utf-8")

    def target(match):
        path = match[1]
        if lesson := re.fullmatch(r"lessons/(\d\d_\w+)\.(?:py|ipynb)", path):
            return f"](lessons/{lesson[1]}.ipynb)"
        return match[0] if path.endswith(".png") else f"]({SOURCES}/{path})"

    return re.sub(r"\]\(((?!https?:|#)[^)\s]+)\)", target, text)


def on_config(config):
    """The navigation."""
    config.nav = [
        {"Start": "index.md"},
        {"Lessons": [f"lessons/{path.name}" for path in lessons()]},
        {"Exercises": "exercises.md"},
        {"Reference": [{package: f"reference/{page}.md"} for package, page in PACKAGES.items()]},
    ]
    return config


@event_priority(100)  # before the plugin that reads notebooks
def on_files(files, config):
    """Add the pages and the pictures."""
    texts = {"index.md": start_page(), "exercises.md": exercises_page()}
    texts |= {f"reference/{page}.md": reference_page(package) for package, page in PACKAGES.items()}
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    for path in [*lessons(), *(ROOT / "data").glob("*.png")]:
        relative = path.relative_to(ROOT).as_posix()
        files.append(File(relative, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def figure_descriptions(notebook):
    """The descriptions of the figures of a notebook in order."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return [output["metadata"]["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})]


def describe_figures(html, descriptions):
    """A page with each figure's description as its alternative text."""
    figures = FIGURE.findall(html)
    if len(figures) != len(descriptions):
        raise ValueError(f"the page has {len(figures)} figures, and the notebook {len(descriptions)} descriptions")
    remaining = iter(descriptions)

    def described(match):
        tag = re.sub(r' alt="[^"]*"', "", match[0], count=1)
        return tag.replace("<img ", f'<img alt="{html_text.escape(next(remaining))}" ', 1)

    return FIGURE.sub(described, html)


def on_page_content(html, page, config, files):
    """Links to functions, lessons and papers; descriptions of figures."""
    if page.file.src_uri.endswith(".ipynb"):
        html = describe_figures(html, figure_descriptions(ROOT / page.file.src_uri))
    up = "../" * page.url.count("/") if page.url != "./" else ""

    def link(match):
        text = match[1]
        name = text.removesuffix("()").removeprefix("tinyslm.").rpartition(".")[2]
        known = PAGE_OF.get(text) or PAGE_OF.get(name)
        if lesson := LESSON.fullmatch(text):
            return f'<a href="{up}lessons/{lesson[1]}/">{match[0]}</a>'
        return f'<a href="{up}{known[0]}#{known[1]}">{match[0]}</a>' if known else match[0]

    parts = BLOCK.split(TUPLE.sub(r"ndarray, shape (\1,)", html))
    for index in range(0, len(parts), 2):
        parts[index] = CODE.sub(link, parts[index])
        parts[index] = ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', parts[index])
    return "".join(parts)

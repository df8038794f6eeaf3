"""The result of a run as one self-contained HTML page: no scripts, nothing loaded from elsewhere."""

from tinyslm.reporting import sections, units
from tinyslm.reporting.findings import findings
from tinyslm.reporting.introduction import introduction
from tinyslm.reporting.markup import bullets, definitions, escape, paragraphs
from tinyslm.reporting.questions import answers
from tinyslm.reporting.stylesheet import STYLE

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<nav><a href="#findings">Findings</a> <a href="#table">Table</a> <a href="#figures">Figures</a> \
<a href="#questions">Questions</a> <a href="#models">Models</a></nav>
</header>
<main>
{introduction}
<h2 id="findings">What was found</h2>
{findings}
<h2 id="table">All numbers</h2>
{table}
<h2 id="figures">Figures</h2>
{figures}
<h2 id="questions">Questions that the numbers raise</h2>
{questions}
<h2 id="models">The models one by one</h2>
{models}
</main>
<footer class="note">
<p>Written by tinyslm {version}, seed {seed}, {training}, in {duration}. The same numbers as data: results.json.</p>
</footer>
</body>
</html>
"""


def render_page(results) -> str:
    """The page as text. Where matplotlib is missing it has everything but the figures, and says how to get them."""
    rows = results["rows"]
    return PAGE.format(
        title=f"What it costs to make a language model smaller: {escape(units.one_line(results['model']['name']))}",
        style=STYLE,
        introduction=paragraphs(introduction(results)),
        findings=bullets(findings(results)),
        table=sections.table(rows),
        figures=sections.all_figures(results),
        questions=definitions(answers(results), "answers"),
        models="\n".join(sections.model(row, i, results) for i, row in enumerate(rows)),
        version=escape(results["version"]),
        seed=escape(results["seed"]),
        training="long training (--thorough)" if results["thorough"] else "short training (--thorough trains longer)",
        duration=units.duration(results["seconds"]),
    )

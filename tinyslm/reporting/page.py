"""The results of a run as one self-contained HTML page: no scripts, nothing loaded from the network."""

import math

from tinyslm.reporting import page_figures
from tinyslm.reporting.explanations import explanations
from tinyslm.reporting.html_template import figure_or_none, render_template
from tinyslm.reporting.number_format import DASH
from tinyslm.reporting.plain_text import joined
from tinyslm.reporting.recipe_techniques import techniques
from tinyslm.reporting.result_sentences import LONGEST_NAME, result_sentences
from tinyslm.reporting.result_table import MAPPED, failure_texts, measured_columns
from tinyslm.reporting.step_descriptions import describe_step


def render_page(results: dict) -> str:
    """The page as text. Without matplotlib it has installation hints in place of figures.

    Raises ImportError without jinja2.
    """
    rows, dense_nats = results["rows"], results["rows"][0]["loss"]["nats"]
    layers, columns = results["model"]["layers"], measured_columns(rows)
    return render_template(
        "page.html.j2",
        results=results,
        columns=columns,
        longest_name=LONGEST_NAME,
        machine=machine_text(results.get("record", {})),
        mapped=results.get("weights") == "mapped" and MAPPED,
        sentences=result_sentences(results),
        failures=failure_texts(results),
        explanations=explanations(results),
        choices=math.exp(min(dense_nats, 700)) if math.isfinite(dense_nats) else None,
        some_missing=any(column.cell(row) == DASH for row in rows for column in columns),
        exam=next((row["exam"] for row in rows if row["exam"]), None),
        techniques={name for row in rows for name in techniques(row)},
        steps=[[(describe_step(step, layers), step) for step in row["steps"]] for row in rows],
        size_against_loss=figure_or_none(page_figures.size_against_loss, results),
        size_against_loss_narrow=figure_or_none(page_figures.size_against_loss, results, page_figures.NARROW),
        exam_by_subject=figure_or_none(page_figures.exam_by_subject, results),
        sizes_and_speed=figure_or_none(page_figures.sizes_and_speed, results),
        weight_histograms=figure_or_none(page_figures.weight_histograms, results),
    )


def machine_text(record: dict) -> str:
    """The processor, the number of threads and the matrix libraries of a run; "" for a record without a processor."""
    if not record.get("processor"):
        return ""
    threads = "1 thread" if record["threads"] == 1 else f"{record['threads']} threads"
    return f"{record['processor']} ({record['machine']}), {threads}, {joined(record['blas'])}"

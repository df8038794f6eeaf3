"""The parts of the page that show rows: the table, the figures, and a section for each model."""

from tinyslm.reporting import figures, units
from tinyslm.reporting.columns import COLUMNS
from tinyslm.reporting.findings import LONGEST_NAME, share
from tinyslm.reporting.markup import definitions, escape, prose
from tinyslm.reporting.steps import step_sentence
from tinyslm.reporting.techniques import techniques

WITHOUT_FIGURES = 'The figures are drawn by matplotlib, which is not installed here: pip install "tinyslm[report]"'
SUBJECTS = {  # of the built-in corpus: what a question of the exam asks
    "stories": "where a thing is, or what colour it has, at the end of a short story",
    "facts": "what the training text says about the people of the town",
    "languages": "the same facts, to be said in another language",
    "arithmetic": "a calculation with its steps",
    "programs": "what a short program prints, with its steps",
    "instructions": "sort, reverse or answer, as told",
    "ambiguity": "whether a name that can be both is a person or a city",
}
SEEN_IN_WEIGHTS = {  # what a technique does to the histogram
    "pruned": "Weights set to zero are a peak at 0, and leave gaps beside it.",
    "factorized": "Two matrices in place of one are shown as their product.",
    "quantized": "Rounding to 8 bits is too fine to be seen at this width of bars.",
}


def table(rows) -> str:
    """All numbers of all rows, and below it what each column means."""
    heads = "".join(f'<th scope="col">{escape(column.title)}</th>' for column in COLUMNS)
    lines = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{_small_spread(column.cell(row))}</td>" for column in COLUMNS)
        lines.append(f'<tr><th scope="row"><a href="#model-{i}">{_name(row)}</a></th>{cells}</tr>')
    return (
        '<div class="scroll" tabindex="0"><table>\n'
        f'<thead><tr><th scope="col">Model</th>{heads}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>\n"
        + (
            f'<p class="note">{units.DASH} means: not measured.</p>\n'
            if f"<td>{units.DASH}</td>" in "".join(lines)
            else ""
        )
        + definitions(((column.title, column.meaning) for column in COLUMNS), "columns")
    )


def _name(row):
    return prose(units.shorten(row["name"], LONGEST_NAME) or "(no name)")


def _small_spread(cell):
    """ "9,000 ±150" with the spread in a line of its own, smaller."""
    value, sign, spread = escape(cell).partition(" ±")
    percent = " %" if spread.endswith(" %") else ""
    return f"{value}{percent}<small>± {spread.removesuffix(percent)}</small>" if sign else value


def all_figures(results) -> str:
    """Every figure with a caption that says what to look at; or, without matplotlib, how to get them."""
    try:
        return "\n".join([_loss(results), _exam(results), _sizes(results), _weights(results)])
    except ImportError:
        return f"<p>{escape(WITHOUT_FIGURES)}</p>"


def _figure(picture, title, caption):
    return (
        f'<figure>\n<div class="card scroll" tabindex="0">{picture}</div>\n'
        f"<figcaption><b>{escape(title)}</b> {prose(caption)}</figcaption>\n</figure>"
    )


def _loss(results):
    caption = (
        "Each mark is a model: the further left, the smaller its file; the lower, the better it predicts. Best is the "
        "lower left corner. Bars show the standard error of the loss. All models were tested on the same documents, so "
        "differences between them are surer than the bars suggest."
    )
    if results["corpus"]["floor"]:
        caption += (
            " The dashed line is the floor, the grey band its standard error; no model can expect to be below it."
        )
    missing = sum(not units.is_number(row["loss"]["nats"]) for row in results["rows"])
    if missing == len(results["rows"]):
        return ""
    if missing:
        caption += f" Not shown, as their loss is not a number: {missing}."
    return _figure(figures.size_against_loss(results), "Size against loss.", caption)


def _exam(results):
    rows = [row for row in results["rows"] if row["exam"]]
    if not rows:
        return ""
    subjects = rows[0]["exam"]["by_subject"]
    each = rows[0]["exam"]["asked"] / max(len(subjects), 1)
    known = [(subject, SUBJECTS[subject]) for subject in subjects if subject in SUBJECTS]
    caption = (
        "Right answers in each of the subjects, in percent; darker is more. Read down a column to see what compression "
        f"costs in that subject. With about {each:.0f} questions in each, one question more or less is "
        f"{100 / max(each, 1):.2g} points, so small differences mean little. A star marks what guessing could reach."
    )
    asked = '<p class="note">What is asked:</p>\n' + definitions(known, "columns note") if known else ""
    return _figure(figures.exam_by_subject(results), "Exam by subject.", caption) + asked


def _sizes(results):
    caption = (
        "Four numbers that are easily mixed up, each counted or measured by itself. For the first three, shorter is "
        "better; for generation speed, longer is better. The dotted line is the dense model. The short line at the end "
        "of a speed is the range between the quartiles. Look at whether what is saved on disk is also saved in memory, "
        "in multiplications and in time."
    )
    return _figure(figures.sizes_and_speed(results), "Size, work and speed.", caption)


def _weights(results):
    pictures = figures.weight_histograms(results)
    cards = "\n".join(
        f'<div class="card"><p>{_name(row)}</p>{picture}</div>'
        for row, picture in zip(results["rows"], pictures, strict=True)
    )
    caption = (
        "How the weights of the linear layers are spread: the dark line is the dense model, the filled shape the model "
        "after compression. The outermost bars also hold all weights further out."
    )
    seen = {name for row in results["rows"] for name in techniques(row)}
    caption += "".join(f" {sentence}" for name, sentence in SEEN_IN_WEIGHTS.items() if name in seen)
    return (
        f'<figure>\n<div class="panels">\n{cards}\n</div>\n'
        f"<figcaption><b>Weights before and after.</b> {prose(caption)}</figcaption>\n</figure>"
    )


def model(row, i, results) -> str:
    """What was done to one model, what came out, and a text that it continued."""
    dense, layers = results["rows"][0], results["model"]["layers"]
    sample, same = row["sample"], i > 0 and row["sample"] == dense["sample"]
    numbers = (
        f"{units.size(row['disk_bytes'])} on disk, loss {units.loss(row['loss'])}"
        + (f", exam {units.exam(row['exam'])}" if row["exam"] else "")
        + ("" if i == 0 else f"; the file is {share(row['disk_bytes'], dense['disk_bytes'])} of the dense one's size")
    )
    steps = "\n".join(f"<li>{_step(step, layers)}</li>" for step in row["steps"])
    what = "The same, word for word, as the dense model's" if same else "Its continuation of the given beginning (grey)"
    return (
        f'<section class="model" id="model-{i}">\n<h3>{i + 1}. {_name(row)}</h3>\n<p>{prose(_sentence(row))}</p>\n'
        + (f"<ol>\n{steps}\n</ol>\n" if steps else "")
        + f'<p class="soft">{prose(numbers)}; saved in {escape(row["directory"])}/</p>\n'
        + f'<p class="note">{what}:</p>\n'
        + f"<blockquote><b>{escape(sample['prompt'])}</b>{escape(sample['text'])}</blockquote>\n</section>"
    )


def _sentence(row):
    """The description with a capital letter and a full stop."""
    text = units.one_line(row["description"])
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) or not text else ".")


def _step(step, layers):
    """What a step did, how long it took, and its settings as they are in the code."""
    settings = ", ".join(f"{name}={_value(value)}" for name, value in step.get("settings", {}).items())
    return (
        f"{prose(step_sentence(step, layers))}<br>"
        f"<code>{escape(step['step'])}({escape(settings)})</code> "
        f'<span class="note">in {units.duration(step.get("seconds"))}</span>'
    )


def _value(value):
    return f"{value:.4g}" if isinstance(value, float) else repr(value)

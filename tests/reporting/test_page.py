"""The page: balanced, self-contained, escaped, the same every time, and complete without matplotlib too."""

import builtins
import functools
import html
import re
import sys
from html.parser import HTMLParser

import pytest

from tests.reporting import results
from tinyslm.reporting import format_table, plain_text, render_page
from tinyslm.reporting.html_template import write_page
from tinyslm.reporting.page import machine_text

EMPTY = {"meta", "br"}  # elements that have no end


class Reader(HTMLParser):
    """Collects the tags, the attributes and the text of a page, and checks that what begins also ends."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@functools.cache
def rendered(name):
    return render_page(results.ALL[name]())


@pytest.fixture(scope="module", params=results.ALL)
def page(request):
    text = rendered(request.param)
    return results.ALL[request.param](), text, Reader(text)


def test_nothing_is_loaded_and_nothing_runs(page):
    _, text, reader = page
    assert not {"script", "img", "link", "iframe", "object", "image"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("src", "xlink:href")]
    assert all(value.startswith("#") for name, value in reader.attributes if name == "href")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "http" not in style and "@import" not in style and "url(" not in style
    assert not [value for _, value in reader.attributes if value and "http" in value]


def test_ids_differ_and_links_lead_somewhere(page):
    _, _, reader = page
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value[1:] for name, value in reader.attributes if name == "href"}
    assert links <= set(ids)


def test_every_name_and_sample_is_on_the_page_as_text(page):
    given, text, reader = page
    all_text = "".join(reader.texts).replace("\u00a0", " ")
    for row in given["rows"]:
        assert plain_text.shorten(row["name"], 60) in all_text
        assert plain_text.clean(row["sample"]["text"]) in all_text
    text.encode()  # no unpaired surrogates


def test_hostile_text_is_escaped():
    page = rendered("hostile")
    assert html.escape("<script>alert(1)</script>") in page
    for markup in ("<script", "<img", "<h1>model", "<u>", "<i>"):
        assert markup not in page


def test_the_same_results_give_the_same_bytes():
    assert render_page(results.plausible()) == rendered("plausible")


def test_without_floor_or_exam_the_page_speaks_of_neither():
    page = rendered("own text")
    headings = re.findall(r'<th scope="col">([^<]*)</th>', page)
    assert headings[-2:] == ["loss nats/token", "loss bits/byte"]
    assert "over floor" not in page and "exam correct" not in page
    assert "Definitions: model, loss</summary>" in page
    assert "is not known for this text" in page and "The exam</b>" not in page and "Exam by subject" not in page


def refuse_to_import(monkeypatch, package):
    real_import = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_matplotlib_the_page_says_how_to_get_the_figures(monkeypatch):
    refuse_to_import(monkeypatch, "matplotlib")
    page = render_page(results.plausible())
    reader = Reader(page)
    assert "svg" not in reader.tags and 'pip install "tinyslm[report]"' in "".join(reader.texts)
    assert "table" in reader.tags and "blockquote" in reader.tags
    assert 'class="verdict"' in page and 'class="summary"' not in page  # which has a column for the figure


def test_without_jinja2_there_is_no_page(monkeypatch, tmp_path):
    """The commands print how to install it, after their table."""
    refuse_to_import(monkeypatch, "jinja2")
    with pytest.raises(ImportError):
        render_page(results.one_row())
    message = write_page(tmp_path / "report.html", render_page, results.one_row())
    assert 'pip install "tinyslm[report]"' in message and "\n" not in message
    assert not list(tmp_path.iterdir())


def test_the_verdict_and_the_first_figure_come_first():
    page = rendered("plausible")
    parts = ('class="verdict"', "“slice, distil, INT8”: 3.24", "<svg", "<ul>", 'id="table"')
    places = [page.index(part, page.index("<main>")) for part in parts]
    assert places == sorted(places)
    before = Reader(page[: page.index("<svg")] + "</div></figure></section></main></body></html>")
    shown = "".join(before.texts).partition("}")[2].rpartition("}")[2]
    assert len(shown) < 700  # letters above the figure, with the heading and the links


def test_failed_recipes_are_named_below_the_table():
    page = rendered("failed")
    note = '<p class="note">GPTQ 4 bits failed: layers.0.attention.query: not positive definite</p>'
    assert note in page[page.index("</tbody></table>") : page.index('id="figures"')]
    assert "&lt;script&gt;\ufffd line" in page and "<script" not in page
    assert "failed:" not in rendered("plausible")


def test_the_speed_of_weights_in_their_file_is_explained():
    note = "weights in 16 or 32 bits were read from their files"
    assert note in rendered("mapped") and note not in rendered("plausible")
    assert note in format_table(results.mapped()) and note not in format_table(results.plausible())
    assert "6.66" in rendered("mapped") and "save neither memory" not in rendered("mapped")
    assert "save neither memory" in rendered("plausible")


def test_a_phone_has_its_own_figure():
    page = rendered("plausible")
    wide, narrow = (page[page.index(f'class="card {name}"') :] for name in ("wide", "narrow"))
    widths = [float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1]) for text in (wide, narrow)]
    assert widths[0] > 1.3 * widths[1] and widths[1] < 330


def test_explanations_are_folded():
    page = rendered("plausible")
    folded = "".join(re.findall(r"<details>.*?</details>", page, re.DOTALL))
    for text in ("Each mark is a model", "is the cross entropy", "are independent", "Why does", "Number of weights"):
        assert text in folded
    assert "<details open" not in page and page.count("<details>") == page.count("<summary>")


def test_the_split_of_the_measured_text_is_named():
    given = results.plausible()
    given["corpus"]["split"] = "test"
    for split, page in (("test", render_page(given)), ("validation", rendered("plausible"))):
        assert f"averaged over 38,000 tokens of {split} text." in " ".join("".join(Reader(page).texts).split())


def test_bits_per_byte_are_explained_where_they_are_known():
    text = " ".join("".join(Reader(rendered("own text")).texts).split())
    assert "Losses in bits per byte can: 0.411 for the dense model, on 95,000 bytes." in text
    assert "bits per byte" not in rendered("plausible") and "bits/byte" not in rendered("plausible")


def test_the_computer_is_named():
    computer = "The speeds were measured on Some Processor 9000 (x86_64), 2 threads, OpenBLAS 0.3.30, Haswell."
    assert computer in rendered("plausible") and "The speeds were measured" not in rendered("one row")
    assert machine_text({"processor": "P", "machine": "M", "threads": 1, "blas": ["A", "B"]}) == (
        "P (M), 1 thread, A and B"
    )

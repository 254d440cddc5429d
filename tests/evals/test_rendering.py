"""The report as text, page and picture, also with names that want to do harm."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from oversight.errors import ConfigError
from oversight.evals.drawing import DARK, LIGHT
from oversight.evals.pictures import _spread, draw, pictures, render_png
from oversight.evals.rendering import NAMES, WORDS, html, layouts, render_html, render_text
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.text.numbers import share
from oversight.types import QuoteStatus, Seat

HOSTILE = '</p><script>alert(1)</script>" onload=x [bold red]$\\frac{1}{0}$ \x1b]52;c;aGk=\x07 東京'


@pytest.fixture(scope="module")
def report(simulated, protocols, judged):
    return build_report(
        simulated(40, protocols["debate"], 0.8)
        + simulated(40, protocols["consultancy"], 0.6)
        + [judged(0.5, protocol=protocols["naive"], question=f"q{i}") for i in range(40)]
    )


@pytest.fixture(scope="module")
def hostile(judged, protocols):
    changed = protocols["debate"].model_copy(update={"name": HOSTILE})
    return build_report(
        [judged(0.9, protocol=changed, judge=HOSTILE, dataset=HOSTILE, question=str(i), path=(0.6,))
         for i in range(3)]
        + [judged(0.2, judge="other", family=HOSTILE)]
    )  # fmt: skip


def as_text(report, width=120):
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    console.print(render_text(report))
    return console.file.getvalue()


class Page(HTMLParser):
    """Collects tags, attributes and whether every element was closed."""

    VOID = frozenset({"meta", "img", "source", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_text_tells_accuracy_and_warnings(report):
    shown = re.sub(r"\x1b\[[0-9;]*m", "", as_text(report))
    assert "Judge accuracy" in shown
    assert "debate beats consultancy" in shown or "does not differ" in shown
    assert "●" in shown


@pytest.mark.parametrize("width", [20, 60, 200])
def test_text_fits_any_width(report, width):
    for line in as_text(report, width).splitlines():
        assert len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= width


@pytest.fixture(scope="module")
def long_names(simulated, judged):
    """Arms with names as models of today have them, judged in both orders, of several families."""
    made = []
    for judge in ("Mistral-Small-3.2-24B-Instruct-2506", "claude-opus-4-20250514"):
        for n, each in enumerate(simulated(30, judged(0.5).debate.protocol, 0.8)):
            made.append(
                judged(
                    (0.9, 0.2, 0.5)[n % 3],
                    swapped=0.6,
                    question=each.question.id,
                    family=("possession", "a family of a very long name")[n % 2],
                    judge=judge,
                    speaker="Qwen2.5-72B-Instruct",
                    path=(0.5, 0.6, 0.7),
                    quotes={Seat.A: [QuoteStatus.VERIFIED], Seat.B: [QuoteStatus.NEAR]},
                )
            )
    return build_report(made)


def figures(report):
    """Every cell of a table that is a figure."""
    for table in tables(report):
        for row in table.rows:
            for name, cell in list(zip(table.columns, row, strict=True))[1:]:
                if name not in NAMES | WORDS:
                    yield table.title, cell


@pytest.mark.parametrize("width", [60, 72, 80, 100, 140])
@pytest.mark.parametrize("name", ["report", "long_names"])
def test_no_figure_is_cut_or_broken_at_any_usual_width(request, name, width):
    given = request.getfixturevalue(name)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", as_text(given, width)).splitlines()
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in lines)
    shown = "\n".join(lines)
    for title, cell in figures(given):
        assert cell in shown, (title, cell)
    for arm in given.arms:
        found = share(arm.accuracy.accuracy)
        assert sum(found in line for line in lines) >= 1


@pytest.mark.parametrize("width", [60, 80])
def test_a_table_that_is_too_wide_goes_on_below_under_the_same_names(long_names, width):
    table = next(table for table in tables(long_names) if table.title == "Judge accuracy")
    parted = layouts(table, width)
    assert all(layout.columns[0] == 0 for layout in parted)
    shown = [place for layout in parted for place in layout.columns[1:]]
    assert shown == list(range(1, len(table.columns)))
    assert len(layouts(table, 200)) == 1


def test_names_cannot_steer_the_terminal(hostile):
    shown = as_text(hostile, 400)
    assert "\x1b]52" not in shown
    assert "\x07" not in shown
    assert "[bold red]" in shown


def test_the_page_is_whole_and_loads_nothing(report):
    text = html(report)
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    for name, value in page.attributes:
        if name in ("src", "srcset", "href"):
            assert value.startswith("data:image/svg+xml;base64,")
    assert not re.search(r"url\(|@import|https?://", text)
    assert page.tags.count("picture") == 3
    assert page.tags.count("table") >= 5
    assert "prefers-color-scheme: dark" in text


def test_the_page_breaks_no_line_within_an_estimate(report):
    page = html(report)
    assert share(report.arms[0].accuracy.accuracy).replace(" ", "\xa0") in page
    drawn = re.sub(r'alt="[^"]*"', "", page)  # what is read out has no lines
    assert re.findall(r"\d %|% \[[−\d]|\[[−\d.]+, [−\d.]+\]", drawn) == []


def test_pictures_of_the_page_are_drawings_in_both_themes(report):
    found = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", html(report))
    assert len(found) == len(set(found)) == 6
    for each in found:
        drawing = base64.b64decode(each).decode()
        assert drawing.rstrip().endswith("</svg>")
        assert not re.search(r'(href|src)="(?!#)', drawing)


def test_the_page_is_the_same_for_the_same_report(report):
    assert html(report) == html(report)


def test_names_cannot_leave_their_place_in_the_page(hostile):
    page = Page(html(hostile))
    assert page.open == []
    assert "script" not in page.tags
    assert "onload" not in dict(page.attributes)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_pictures_draw_names_from_outside(hostile, tmp_path, theme):
    render_png(hostile, tmp_path / "report.png", theme, dpi=40)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_stay_inside_their_figure(report):
    for picture in pictures(report):
        figure = draw(report, picture, LIGHT)
        figure.canvas.draw()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 >= -0.01, picture.name
        assert box.y0 >= -0.01, picture.name
        assert box.x1 <= width + 0.01, picture.name
        assert box.y1 <= height + 0.01, picture.name


def test_pictures_of_long_names_stay_inside_too(hostile):
    for picture in pictures(hostile):
        figure = draw(hostile, picture, LIGHT)
        figure.set_dpi(50)
        import warnings

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x1 <= width + 0.01, picture.name
        assert box.y1 <= height + 0.01, picture.name


def test_an_empty_report_can_be_shown(tmp_path):
    report = build_report([])
    assert pictures(report) == ()
    assert "no judged debate" in as_text(report)
    render_png(report, tmp_path / "empty.png", dpi=40)
    assert Page(html(report)).open == []


def test_one_debate_has_no_calibration_curve(judged):
    assert [p.name for p in pictures(build_report([judged(0.9)]))] == ["accuracy"]
    curve = build_report([judged(0.9, path=(0.5, 0.6))])
    assert [p.name for p in pictures(curve)] == ["accuracy", "beliefs"]


def test_pictures_do_not_touch_shared_plotting_state(report, tmp_path):
    import matplotlib
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    render_png(report, tmp_path / "a.png", dpi=40)
    render_html(report, tmp_path / "a.html")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_files_that_cannot_be_written_are_named(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"html = .*cannot be written"):
        render_html(report, tmp_path / "file" / "report.html")
    with pytest.raises(ConfigError, match=r"png = .*cannot be written"):
        render_png(report, tmp_path / "file" / "report.png", dpi=40)


def test_names_beside_lines_are_kept_apart_and_above_the_floor():
    assert _spread([0.9, 0.5], 0.1, 0.0) == [0.9, 0.5]
    assert _spread([0.5, 0.5, 0.5], 0.1, 0.0) == pytest.approx([0.5, 0.4, 0.3])
    assert _spread([0.05, 0.04, 0.03], 0.1, 0.02) == pytest.approx([0.22, 0.12, 0.02])

"""A report rendered: for a terminal of any width, and as a page that needs nothing else.

In the terminal no figure is cut, and tables go below one another. The page has sentences, pictures
inside it and tables, in light and in dark.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from oversight.evals.drawing import DARK, LIGHT, Theme, quiet_glyphs
from oversight.evals.findings import headlines, methods, warnings
from oversight.evals.observations import Kind
from oversight.evals.pictures import Picture, draw, pictures, rates_by_arm
from oversight.evals.report import ArmReport, Report
from oversight.evals.tables import extent, tables
from oversight.files import write_text
from oversight.text.numbers import Table, percent, share, unbroken
from oversight.text.terminal import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure


STYLES = {
    Kind.DEBATE: "blue",
    Kind.CONSULTANCY: "yellow",
    Kind.NAIVE: "bright_black",
    Kind.EXPERT: "green",
}

STRIP_WIDTH = 40
"""Characters from 0 to 100 % in the picture of the intervals, where there is room."""
MIN_STRIP = 20
BREAK = r"(?<=[_·\-/ ])"
"""Places in a name behind which a line may end."""
MAX_PIECE = 24
"""A piece of a name that is longer, such as a hash, is broken anywhere."""
MIN_NAME = 12
"""Characters that a column of names keeps before the columns of figures are parted."""
MIN_WORDS = 30
"""Characters that a column of sentences keeps."""


def render_text(report: Report) -> RenderableType:
    """The report as something that rich prints; names from outside cannot steer the terminal."""
    parts: list[RenderableType] = [Text("Oversight report", style="bold"), _dim(extent(report))]
    parts += [_dim(line) for line in (report.origin.lines() if report.origin else ())]
    parts.append(Text())
    parts += [_bullet("•", sentence, "bold") for sentence in headlines(report)]
    parts += [_bullet("!", warning, "yellow") for warning in warnings(report)]
    if report.arms:
        parts.append(Padding(_Fitted(lambda width: _strips(report, width)), (1, 0, 0, 0)))
    parts += [Padding(_fitted(each), (1, 0, 0, 0)) for each in tables(report)]
    return Group(*parts)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Content that is laid out anew for the width it is shown in."""

    made: Callable[[int], RenderableType]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.made(options.max_width)


# --- the picture of the intervals ---


def _strips(report: Report, width: int) -> RichTable:
    """One line an arm: the interval, the mean and the chance mark from 0 to 100 %."""
    longest = max(cell_len(visible(arm.label, newlines=False)) for arm in report.arms)
    strip = min(STRIP_WIDTH, max(MIN_STRIP, width - longest - 3))
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(overflow="fold")
    grid.add_column(no_wrap=True, width=min(strip + 1, max(width - 3, 1)))
    for arm in report.arms:
        grid.add_row(Text(visible(arm.label, newlines=False)), _strip(arm, strip))
    scale = "┊ chance" if strip >= STRIP_WIDTH else "┊"
    grid.add_row(Text(), _dim("0 %" + scale.center(strip - 8) + "100 %"))
    return grid


def _strip(arm: ArmReport, width: int) -> Text:
    found = arm.accuracy.accuracy
    cells = ["·"] * (width + 1)
    cells[round(arm.accuracy.chance * width)] = "┊"
    if found is None:
        return Text("nothing decided".center(width + 1, "·"), style="bright_black")
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    first, last = round(low * width), round(high * width)
    for place in range(first, last + 1):
        cells[place] = "━"
    cells[round(found.value * width)] = "●"
    strip = Text("".join(cells), style="bright_black")
    strip.stylize(STYLES[arm.kind], first, last + 1)
    return strip


# --- tables ---

NAMES = frozenset(
    {"protocol", "policy", "method", "game", "first − second", "data set", "family", "side"}
    | {"judges", "study", "kind", "model", "run", "tag", "difficulty", "dataset", "judge", "what"}
)
"""Columns that hold names, which stand on the left and may be broken into lines."""
WORDS = frozenset({"answer", "prompt", "revision", "why not"})
"""Columns that hold sentences."""


@dataclass(frozen=True, slots=True)
class TableLayout:
    """Columns that stand beside each other, and the widths of those that have to be broken."""

    columns: tuple[int, ...]
    broken: dict[int, int]


def layouts(table: Table, width: int, gap: int = 1) -> list[TableLayout]:
    """Parts of the table, cut so that no figure is cut in a terminal of `width` columns.

    Names are broken first; where that is not enough, columns of figures go below, with the
    names repeated.

    Args:
        table: The table to be shown.
        width: Columns of the terminal.
        gap: Spaces between two columns.
    """
    shown = [[visible(cell, newlines=False) for cell in row] for row in table.rows]
    natural = [
        max(cell_len(cell) for cell in (name, *(row[place] for row in shown)))
        for place, name in enumerate(table.columns)
    ]
    keys = _keys(table)
    values = [place for place in range(len(natural)) if place not in keys]
    if _total([*keys, *values], natural, gap) <= width:
        return [TableLayout((*keys, *values), {})]
    least = [*natural]
    for place in keys:
        pieces = (piece for row in shown for piece in re.split(BREAK, row[place]))
        longest = max((cell_len(piece.rstrip()) for piece in pieces), default=0)
        least[place] = min(natural[place], max(MIN_NAME, min(longest, MAX_PIECE)))
    for place in values:
        if table.columns[place] in WORDS:
            least[place] = min(natural[place], MIN_WORDS)
    found = []
    while True:
        taken = _most(keys, values, least, width, gap)
        columns = (*keys, *taken)
        found.append(TableLayout(columns, _broken(columns, natural, least, width, gap)))
        values = values[len(taken) :]
        if not values:
            return found


def _keys(table: Table) -> list[int]:
    """The columns of names with which the table begins."""
    keys = [0]
    while len(keys) < len(table.columns) and table.columns[len(keys)] in NAMES:
        keys.append(len(keys))
    return keys


def _total(columns: Sequence[int], widths: Sequence[int], gap: int) -> int:
    return sum(widths[place] for place in columns) + gap * (len(columns) - 1)


def _most(
    keys: list[int], values: list[int], least: Sequence[int], width: int, gap: int
) -> list[int]:
    """The next columns that fit beside the names; at least one."""
    taken = values[:1]
    for place in values[1:]:
        if _total([*keys, *taken, place], least, gap) > width:
            break
        taken.append(place)
    return taken


def _broken(
    columns: Sequence[int], natural: Sequence[int], least: Sequence[int], width: int, gap: int
) -> dict[int, int]:
    """Widths of the columns that do not get all they need; the room is shared among them."""
    widths = {place: least[place] for place in columns}
    room = width - _total(columns, least, gap)
    for place in columns:
        more = min(max(room, 0), natural[place] - widths[place])
        widths[place] += more
        room -= more
    return {place: wide for place, wide in widths.items() if wide < natural[place]}


def add_columns(made: RichTable, table: Table, layout: TableLayout) -> None:
    """The columns of a layout, and their cells."""
    for place in layout.columns:
        name = table.columns[place]
        is_text = place == 0 or name in NAMES or name in WORDS
        made.add_column(
            name,
            justify="left" if is_text else "right",
            overflow="fold",
            width=layout.broken.get(place),
        )
    for row in table.rows:
        cells = ((visible(row[place], newlines=False), place) for place in layout.columns)
        made.add_row(*(Text(_in_lines(cell, layout.broken.get(place))) for cell, place in cells))


def _in_lines(text: str, width: int | None) -> str:
    """A name in lines of at most `width`, broken behind `_`, `·`, `-` and spaces where it can."""
    if width is None or cell_len(text) <= width:
        return text
    lines = [""]
    for piece in re.split(BREAK, text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _fitted(table: Table) -> RenderableType:
    return _Fitted(lambda width: Group(*_parts(table, layouts(table, width))))


def _parts(table: Table, parted: Sequence[TableLayout]) -> Iterable[RenderableType]:
    for number, layout in enumerate(parted):
        made = RichTable(
            title=None if number else Text(table.title, style="bold"),
            title_justify="left",
            header_style="bright_black",
            box=None,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        add_columns(made, table, layout)
        yield made
    yield _dim(table.note)


def _bullet(mark: str, sentence: str, style: str) -> RenderableType:
    line = RichTable.grid(padding=(0, 1))
    line.add_row(Text(mark, style=style), Text(visible(sentence, newlines=False)))
    return line


def _dim(text: str) -> Text:
    return Text(visible(text, newlines=False), style="bright_black")


@dataclass(frozen=True, slots=True)
class Illustration:
    """A picture of a page."""

    title: str
    words: str
    """Description of it, for those who cannot see it."""
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True, slots=True)
class Page:
    """Contents of a page, from the top down."""

    title: str
    extent: str
    """Size of what it is about, in one line."""
    headlines: Sequence[str]
    warnings: Sequence[str]
    pictures: Sequence[Illustration]
    tables: Sequence[Table]
    methods: Sequence[str]
    origin: Sequence[str] = ()
    """Lines about when, by what and from what it was made."""


def write_page(page: Page, path: Path) -> None:
    """Write the page to `path`; a page of that name is replaced once the new one is whole.

    Raises:
        FileError: The file cannot be written.
    """
    write_text(path, render_page(page), "html", errors="replace")


def render_page(page: Page) -> str:
    """The page as text. Everything from outside is escaped, and nothing is loaded."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["unbroken"] = unbroken
    template = environment.from_string(
        files("oversight.evals").joinpath("page.html").read_text(encoding="utf-8")
    )
    return template.render(page=page, pictures=drawn(page))


def drawn(page: Page) -> list[dict[str, str]]:
    """The pictures of a page as data URIs, in both themes, with title and words."""
    return [
        {
            "title": each.title,
            "words": each.words,
            "light": _svg(each, LIGHT),
            "dark": _svg(each, DARK),
        }
        for each in page.pictures
    ]


def _svg(picture: Illustration, theme: Theme) -> str:
    """The picture as a data URI, the same bytes for the same figure."""
    import matplotlib

    buffer = io.BytesIO()
    style: Any = {"svg.fonttype": "path", "svg.hashsalt": f"oversight/{picture.title}"}
    with matplotlib.rc_context(style), quiet_glyphs():
        picture.draw(theme).savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def render_html(report: Report, path: Path) -> None:
    """Write the page to `path`; a page of that name is replaced once the new one is whole.

    Raises:
        ConfigError: The file cannot be written.
    """
    write_page(report_page(report), path)


def html(report: Report) -> str:
    """The page as text."""
    return render_page(report_page(report))


def framed(page: str) -> str:
    """A page as a frame of a notebook, in which no script runs."""
    shown = escape(page, quote=True)
    return (
        f'<iframe srcdoc="{shown}" sandbox style="width: 100%; height: 40em; border: 0"></iframe>'
    )


def report_page(report: Report) -> Page:
    """Return the content of a report's page."""
    return Page(
        title="Oversight report",
        extent=extent(report),
        origin=report.origin.lines() if report.origin else (),
        headlines=headlines(report),
        warnings=warnings(report),
        pictures=[
            Illustration(each.title, _words(report, each), partial(draw, report, each))
            for each in pictures(report)
        ],
        tables=tables(report),
        methods=methods(report),
    )


def _words(report: Report, picture: Picture) -> str:
    if picture.name == "harm":
        found = rates_by_arm(report).items()
        return "; ".join(
            f"{arm}, harm {share(r.harmful)}, right {share(r.right)}" for arm, r in found
        )
    return "; ".join(_described(arm, picture) for arm in report.arms)


def _described(arm: ArmReport, picture: Picture) -> str:
    found = arm.accuracy.accuracy
    if found is None:
        return f"{arm.label}, nothing decided"
    if picture.name == "accuracy":
        return f"{arm.label} {share(found)}"
    return f"{arm.label}, final accuracy {percent(found.value)}"

"""The report for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from oversight.evals.findings import headlines, main_accuracy, warnings
from oversight.evals.observations import Kind
from oversight.evals.report import ArmReport, Report
from oversight.evals.tables import Table, extent, tables
from oversight.text.terminal import visible

STYLES = {
    Kind.DEBATE: "blue",
    Kind.CONSULTANCY: "yellow",
    Kind.NAIVE: "bright_black",
    Kind.EXPERT: "green",
}

STRIP_WIDTH = 40
"""Characters from 0 to 100 % in the picture of the intervals."""


def render_text(report: Report) -> RenderableType:
    """The report as something that rich prints; names from outside cannot steer the terminal."""
    parts: list[RenderableType] = [Text("Oversight report", style="bold"), _dim(extent(report))]
    parts.append(Text())
    parts += [_bullet("•", sentence, "bold") for sentence in headlines(report)]
    parts += [_bullet("!", warning, "yellow") for warning in warnings(report)]
    if report.arms:
        parts.append(Padding(_strips(report), (1, 0, 0, 0)))
    parts += [Padding(_table(each), (1, 0, 0, 0)) for each in tables(report)]
    return Group(*parts)


def _strips(report: Report) -> RichTable:
    """One line an arm: the interval, the mean and the chance mark from 0 to 100 %."""
    grid = RichTable.grid(padding=(0, 2))
    for arm in report.arms:
        grid.add_row(Text(visible(arm.label, newlines=False)), _strip(arm))
    grid.add_row(Text(), _dim("0 %" + "┊ chance".center(STRIP_WIDTH - 8) + "100 %"))
    return grid


def _strip(arm: ArmReport) -> Text:
    found = main_accuracy(arm.accuracy)
    cells = ["·"] * (STRIP_WIDTH + 1)
    cells[round(arm.accuracy.chance * STRIP_WIDTH)] = "┊"
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    first, last = round(low * STRIP_WIDTH), round(high * STRIP_WIDTH)
    for place in range(first, last + 1):
        cells[place] = "━"
    cells[round(found.value * STRIP_WIDTH)] = "●"
    strip = Text("".join(cells), style="bright_black")
    strip.stylize(STYLES[arm.kind], first, last + 1)
    return strip


def _table(table: Table) -> RichTable:
    made = RichTable(
        title=Text(table.title, style="bold"),
        caption=_dim(table.note),
        title_justify="left",
        caption_justify="left",
        header_style="bright_black",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for place, name in enumerate(table.columns):
        if place == 0 or name in _NAMES:
            made.add_column(name, overflow="fold")
        else:
            made.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        made.add_row(*(Text(visible(cell, newlines=False)) for cell in row))
    return made


_NAMES = frozenset({"protocol", "first − second", "data set", "family", "side", "judges"})
"""Columns that hold names, which stand on the left."""


def _bullet(mark: str, sentence: str, style: str) -> RenderableType:
    line = RichTable.grid(padding=(0, 1))
    line.add_row(Text(mark, style=style), Text(visible(sentence, newlines=False)))
    return line


def _dim(text: str) -> Text:
    return Text(visible(text, newlines=False), style="bright_black")

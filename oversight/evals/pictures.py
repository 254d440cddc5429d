"""The report's pictures, each alone or all in one PNG.

They are drawn on figures of their own, so that no state of the plotting
library is shared. Text from outside is drawn as it is, never as mathematics.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import LIGHT, WIDTH_IN, Theme, save_png, short
from oversight.evals.findings import headlines, warnings
from oversight.evals.picture_accuracy import accuracy_height, draw_accuracy
from oversight.evals.picture_beliefs import BELIEFS_HEIGHT, draw_beliefs
from oversight.evals.picture_calibration import calibrated, calibration_height, draw_calibration
from oversight.evals.report import Report
from oversight.evals.tables import extent

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase

MAX_WARNINGS = 6
"""Warnings that the picture shows; the page and the terminal show all."""
LINE_IN = 0.21
HEAD_CHARS = 116
FOOT_CHARS = 136


@dataclass(frozen=True, slots=True)
class Picture:
    """One of the report's pictures: how tall it is and how it is drawn."""

    name: str
    title: str
    height: float
    draw: Callable[[FigureBase, Report, Theme, float], None]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text in the picture."""

    text: str
    strong: bool = False


def pictures(report: Report) -> tuple[Picture, ...]:
    """The pictures that this report has data for."""
    if not report.arms:
        return ()
    found = [Picture("accuracy", "Judge accuracy", accuracy_height(report), draw_accuracy)]
    if any(arm.trajectory for arm in report.arms):
        title = "Belief in the right answer by round"
        found.append(Picture("beliefs", title, BELIEFS_HEIGHT, draw_beliefs))
    if calibrated(report):
        height = calibration_height(report)
        found.append(Picture("calibration", "Calibration", height, draw_calibration))
    return tuple(found)


def draw(report: Report, picture: Picture, theme: Theme) -> Figure:
    """One picture on a figure of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, picture.height), facecolor=theme.paper)
    picture.draw(figure, report, theme, picture.height)
    return figure


def render_png(report: Report, path: Path, theme: Theme = LIGHT, dpi: int = 160) -> None:
    """The headlines, all pictures and the warnings as one PNG.

    Raises:
        ConfigError: The file cannot be written.
    """
    save_png(_whole(report, theme), path, theme, dpi)


def _whole(report: Report, theme: Theme) -> Figure:
    """Head, pictures and foot below one another."""
    from matplotlib.figure import Figure

    found = pictures(report)
    head, foot = list(_head_lines(report)), list(_foot_lines(report))
    head_in, foot_in = 0.85 + LINE_IN * len(head), 0.35 + LINE_IN * len(foot)
    heights = [head_in, *(picture.height for picture in found), foot_in]
    figure = Figure(figsize=(WIDTH_IN, sum(heights)), facecolor=theme.paper)
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights, hspace=0)
    _draw_head(parts[0], report, theme, head_in)
    _draw_lines(parts[0], head, theme, head_in, 0.75)
    for part, picture in zip(parts[1:-1], found, strict=True):
        picture.draw(part, report, theme, picture.height)
    _draw_lines(parts[-1], foot, theme, foot_in, 0.1)
    return figure


def _draw_head(figure: FigureBase, report: Report, theme: Theme, height: float) -> None:
    top = 1.0 - 0.28 / height
    name: dict[str, Any] = {"color": theme.ink, "fontsize": 17, "weight": "bold", "va": "top"}
    figure.text(0.03, top, "Oversight report", **name)
    about: dict[str, Any] = {"color": theme.muted, "fontsize": 10, "va": "top", "ha": "right"}
    figure.text(0.97, top - 0.06 / height, extent(report), **about)


def _draw_lines(
    figure: FigureBase, lines: list[Line], theme: Theme, height: float, start: float
) -> None:
    for number, line in enumerate(lines):
        figure.text(
            0.03,
            1.0 - (start + LINE_IN * number) / height,
            line.text,
            color=theme.ink if line.strong else theme.muted,
            fontsize=10 if line.strong else 9,
            va="top",
            parse_math=False,
        )


def _head_lines(report: Report) -> Iterator[Line]:
    for sentence in headlines(report):
        for text in textwrap.wrap(short(sentence, 400), HEAD_CHARS, subsequent_indent="    "):
            yield Line(text, strong=True)


def _foot_lines(report: Report) -> Iterator[Line]:
    found = warnings(report)
    if found:
        yield Line("Read with care", strong=True)
    for warning in found[:MAX_WARNINGS]:
        wrapped = textwrap.wrap(f"–  {short(warning, 400)}", FOOT_CHARS, subsequent_indent="    ")
        yield from (Line(text) for text in wrapped)
    if len(found) > MAX_WARNINGS:
        yield Line(f"–  and {len(found) - MAX_WARNINGS} more, in the text and on the page")

"""The report's pictures, each alone or all in one PNG: accuracy, beliefs by round, calibration."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.calibration import Calibration
from oversight.evals.constitutional import draw_pareto, pareto_height, placed
from oversight.evals.drawing import (
    DASHED,
    LIGHT,
    WIDTH_IN,
    Theme,
    colours,
    plain_axes,
    save_png,
    short,
    title,
)
from oversight.evals.findings import headlines, warnings
from oversight.evals.harm import Rates
from oversight.evals.intervals import Estimate
from oversight.evals.observations import Kind
from oversight.evals.report import ArmReport, Report
from oversight.evals.tables import extent
from oversight.text.numbers import decimal, interval, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase


ACCURACY_ROW_IN = 0.5
TOP_IN = 0.85
BOTTOM_IN = 0.72
FIGURES_IN = 2.95
"""Width of the columns of figures on the right."""


def accuracy_height(report: Report) -> float:
    """Inches that the picture needs."""
    return TOP_IN + BOTTOM_IN + ACCURACY_ROW_IN * max(len(report.arms), 1)


def draw_accuracy(figure: FigureBase, report: Report, theme: Theme, height: float) -> None:
    """Accuracy of every arm, the best on top."""
    tints = colours(report, theme)
    longest = max(len(short(arm.label)) for arm in report.arms)
    left = 0.45 + 0.092 * longest
    width = WIDTH_IN - FIGURES_IN - left
    axes = figure.add_axes(
        (left / WIDTH_IN, BOTTOM_IN / height, width / WIDTH_IN, 1 - (TOP_IN + BOTTOM_IN) / height)
    )
    plain_axes(axes, theme, grid="x")
    title(figure, theme, "Judge accuracy", "share of decided verdicts that are right", height)
    chance = sum(arm.accuracy.chance for arm in report.arms) / len(report.arms)
    axes.axvline(chance, color=theme.muted, linewidth=1.1, linestyle=DASHED, zorder=1)
    for row, arm in enumerate(report.arms):
        _mark(axes, arm, row, tints[arm.label], theme)
        _figures(axes, arm, row, theme, width)
    axes.set_ylim(len(report.arms) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_yticks(range(len(report.arms)), [short(arm.label) for arm in report.arms])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    for label, arm in zip(axes.get_yticklabels(), report.arms, strict=True):
        label.set(color=theme.ink, fontsize=10.5, parse_math=False)
        label.set_fontweight("bold" if arm.kind is Kind.DEBATE else "normal")
    _notes(axes, report, theme, chance)
    below: dict[str, Any] = {"color": theme.muted, "fontsize": 8.5, "va": "bottom"}
    figure.text(0.03, 0.1 / height, _legend(report), **below)


def _mark(axes: Axes, arm: ArmReport, row: int, tint: str, theme: Theme) -> None:
    """The interval, the mean upon it, and of a consultancy its two halves below."""
    found = arm.accuracy.accuracy
    if found is None:
        return
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    bar: dict[str, Any] = {"color": tint, "clip_on": False, "solid_capstyle": "butt"}
    axes.plot([low, high], [row, row], linewidth=8, alpha=0.26, zorder=2, **bar)
    axes.plot([low, high], [row, row], linewidth=1.6, zorder=3, **bar)
    axes.plot(
        [found.value],
        [row],
        marker="o",
        markersize=9.5,
        markeredgewidth=1.6,
        zorder=5,
        **bar,
    )
    if arm.kind is not Kind.CONSULTANCY:
        return
    for half, marker in ((arm.honest_consultant, "^"), (arm.dishonest_consultant, "v")):
        if half is not None and half.accuracy is not None:
            value = half.accuracy.value
            hollow: dict[str, Any] = {
                "markerfacecolor": theme.paper,
                "markeredgewidth": 1.3,
                "markersize": 5.5,
            }
            axes.plot([value], [row + 0.31], marker=marker, zorder=4, **bar, **hollow)


def _figures(axes: Axes, arm: ArmReport, row: int, theme: Theme, width: float) -> None:
    """The same in numbers, at fixed inches right of the axes of `width` inches."""
    found = arm.accuracy.accuracy
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}

    def at(inches: float) -> float:
        return 1.0 + inches / width

    axes.text(
        at(0.78),
        row,
        percent(None if found is None else found.value),
        color=theme.ink,
        fontsize=11.5,
        weight="bold",
        ha="right",
        **place,
    )
    axes.text(at(0.86), row, interval(found), color=theme.ink, fontsize=9.5, **place)
    axes.text(at(1.58), row - 0.13, _size(arm), color=theme.muted, fontsize=8, **place)
    axes.text(at(1.58), row + 0.2, _undecided(arm), color=theme.muted, fontsize=7.5, **place)


def _size(arm: ArmReport) -> str:
    num, questions = arm.accuracy.num, arm.accuracy.num_questions
    return f"n = {num:,}" if num == questions else f"n = {num:,} on {questions:,} q."


def _undecided(arm: ArmReport) -> str:
    """Shares of what was judged but not decided, those that are not 0."""
    found = arm.accuracy
    shares = (
        ("tie", found.share_tie),
        ("abst.", found.share_abstain),
        ("INVALID", found.share_invalid),
    )
    return (
        "  ".join(f"{name} {percent(value)}" for name, value in shares if value > 0)
        or "all decided"
    )


def _notes(axes: Axes, report: Report, theme: Theme, chance: float) -> None:
    axes.annotate(
        "chance",
        (chance, len(report.arms) - 0.5),
        xytext=(0, -16),
        textcoords="offset points",
        ha="center",
        va="top",
        color=theme.muted,
        fontsize=9,
        annotation_clip=False,
    )


def _legend(report: Report) -> str:
    notes = ["band: 95 % interval, clustered by question", "n: rulings (on questions)"]
    if any(arm.kind is Kind.CONSULTANCY for arm in report.arms):
        notes.append("consultant ▵ honest ▿ dishonest")
    return "   ·   ".join(notes)


BELIEFS_HEIGHT = 4.1
EVEN = 0.5
LABEL_IN = 2.5
"""Width of the names at the ends of the lines."""
BELIEF_LINE_IN = 0.3
"""Height of one such name."""


def draw_beliefs(figure: FigureBase, report: Report, theme: Theme, height: float) -> None:
    """Mean belief after each round, with bands for the intervals and names at the ends."""
    tints = colours(report, theme)
    inches = height - 1.4
    axes = figure.add_axes((0.075, 0.5 / height, 1 - 0.075 - LABEL_IN / WIDTH_IN, inches / height))
    plain_axes(axes, theme, grid="y")
    note = "mean of the judges after each round, with 95 % intervals"
    title(figure, theme, "Belief in the right answer", note, height)
    arms = [arm for arm in report.arms if arm.trajectory]
    rounds = sorted({p.round for arm in arms for p in arm.trajectory if p.round is not None})
    end = rounds[-1] + 1
    axes.axhline(EVEN, color=theme.muted, linewidth=1.1, linestyle=DASHED, zorder=1)
    for arm in arms:
        xs = [end if p.round is None else p.round for p in arm.trajectory]
        means = [p.belief for p in arm.trajectory]
        lows, highs = zip(*(_ends(each) for each in means), strict=True)
        tint = tints[arm.label]
        axes.fill_between(xs, lows, highs, color=tint, alpha=0.26 / math.sqrt(len(arms)), lw=0)
        axes.plot(xs, [each.value for each in means], color=tint, lw=2, marker="o", ms=5.5)
    low, high = _limits(arms)
    axes.set_ylim(low, high)
    axes.set_yticks([tenth / 10 for tenth in range(round(low * 10), round(high * 10) + 1)])
    axes.set_xlim(rounds[0] - 0.12, end + 0.12)
    every = 1 + (len(rounds) - 1) // MAX_ROUND_NAMES
    named = [number for number in rounds[::every] if end - number >= every]
    names = [f"round {number}" if number else "opening" for number in named]
    axes.set_xticks([*named, end], [*names, "judgment"])
    _name_lines(axes, arms, tints, theme, (high - low) * BELIEF_LINE_IN / inches)


MAX_ROUND_NAMES = 8
"""Rounds whose names have room beside each other."""


def _ends(estimate: Estimate) -> tuple[float, float]:
    low = estimate.value if estimate.low is None else estimate.low
    return low, estimate.value if estimate.high is None else estimate.high


def _limits(arms: list[ArmReport]) -> tuple[float, float]:
    """Tenths that hold every band and even odds."""
    bands = [_ends(p.belief) for arm in arms for p in arm.trajectory]
    low = min(EVEN - 0.05, *(band[0] for band in bands))
    high = max(EVEN + 0.15, *(band[1] for band in bands))
    return max(0.0, math.floor(low * 10) / 10), min(1.0, math.ceil(high * 10) / 10)


def _name_lines(
    axes: Axes, arms: list[ArmReport], tints: dict[str, str], theme: Theme, gap: float
) -> None:
    """Names beside the ends of the lines, at least `gap` apart and inside the axes."""
    ends = sorted(((arm.trajectory[-1].belief, arm) for arm in arms), key=lambda e: -e[0].value)
    low = axes.get_ylim()[0]
    places = _spread([belief.value for belief, _ in ends], gap, low + gap / 3)
    edge = axes.get_xlim()[1]
    for (belief, arm), place in zip(ends, places, strict=True):
        text = f"{decimal(belief.value)}  {short(arm.label, 21)}"
        tint = tints[arm.label]
        axes.annotate(
            text,
            (edge, place),
            xytext=(7, 3),
            textcoords="offset points",
            va="center",
            color=tint,
            fontsize=9.5,
            weight="bold",
            annotation_clip=False,
            parse_math=False,
        )
        axes.annotate(
            f"n = {belief.num:,}",
            (edge, place),
            xytext=(39, -7),
            textcoords="offset points",
            va="center",
            color=theme.muted,
            fontsize=7.5,
            annotation_clip=False,
        )


def _spread(values: list[float], gap: float, floor: float) -> list[float]:
    """`values`, which fall, moved as little as keeps them `gap` apart and above `floor`."""
    places: list[float] = []
    for value in values:
        places.append(min(value, places[-1] - gap) if places else value)
    lowest = floor
    for index in range(len(places) - 1, -1, -1):
        places[index] = max(places[index], lowest)
        lowest = places[index] + gap
    return places


NUM_COLUMNS = 4
MAX_PANELS = 8
"""Curves that are drawn; the table lists every arm."""
MIN_RULINGS = 20
"""With fewer rulings a curve is one point that says nothing."""
HEAD_IN = 0.72
ROW_IN = 2.45
PANEL_IN = 1.6


def calibrated(report: Report) -> list[ArmReport]:
    """The arms of which a curve is drawn."""
    enough = (arm for arm in report.arms if arm.calibration and arm.calibration.num >= MIN_RULINGS)
    return list(enough)[:MAX_PANELS]


def calibration_height(report: Report) -> float:
    """Inches that the picture needs."""
    return HEAD_IN + ROW_IN * math.ceil(len(calibrated(report)) / NUM_COLUMNS)


def draw_calibration(figure: FigureBase, report: Report, theme: Theme, height: float) -> None:
    """A reliability curve for each arm, in panels of one scale."""
    tints = colours(report, theme)
    arms = calibrated(report)
    note = "how often the judge is right at each confidence in its choice; dashed: calibrated"
    title(figure, theme, "Calibration", note, height)
    chance = min(arm.accuracy.chance for arm in arms)
    for place, arm in enumerate(arms):
        row, column = divmod(place, NUM_COLUMNS)
        bottom = height - HEAD_IN - ROW_IN * row - 0.5 - PANEL_IN
        left = 0.7 + 2.26 * column
        axes = figure.add_axes(
            (left / WIDTH_IN, bottom / height, 1.82 / WIDTH_IN, PANEL_IN / height)
        )
        if arm.calibration is not None:
            _curve(axes, arm.calibration, tints[arm.label], theme, chance)
            _caption(axes, arm.label, arm.calibration, tints[arm.label], theme)
        if column:
            axes.set_yticklabels([])


def _curve(axes: Axes, quality: Calibration, tint: str, theme: Theme, chance: float) -> None:
    plain_axes(axes, theme, grid="both")
    axes.plot([chance, 1], [chance, 1], color=theme.muted, lw=1.1, linestyle=DASHED, zorder=1)
    for each in quality.bins:
        low, high = each.accuracy.low, each.accuracy.high
        if low is not None and high is not None:
            ends = [each.confidence] * 2
            axes.plot(ends, [low, high], color=tint, lw=4.5, alpha=0.24, solid_capstyle="butt")
    xs = [each.confidence for each in quality.bins]
    ys = [each.accuracy.value for each in quality.bins]
    axes.plot(xs, ys, color=tint, lw=1.4, marker="o", ms=5, zorder=3, clip_on=False)
    axes.set_xlim(chance - 0.02, 1.02)
    axes.set_ylim(0, 1)
    middle = (1 + chance) / 2
    axes.set_xticks([chance, middle, 1], [percent(x) for x in (chance, middle, 1)])
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.tick_params(axis="x", pad=8)


def _caption(axes: Axes, label: str, quality: Calibration, tint: str, theme: Theme) -> None:
    where: dict[str, Any] = {"transform": axes.transAxes, "parse_math": False}
    axes.text(0, 1.17, short(label, 22), color=tint, fontsize=9.5, weight="bold", **where)
    figures = f"n = {quality.num:,}   ECE {decimal(quality.ece)}   "
    figures += f"Brier {decimal(quality.brier.value)}"
    axes.text(0, 1.065, figures, color=theme.muted, fontsize=8, **where)


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
class TextLine:
    """A line of text in the picture."""

    text: str
    strong: bool = False


def pictures(report: Report) -> tuple[Picture, ...]:
    """The pictures that this report has data for."""
    found = []
    if report.arms:
        found.append(Picture("accuracy", "Judge accuracy", accuracy_height(report), draw_accuracy))
    if any(arm.trajectory for arm in report.arms):
        title = "Belief in the right answer by round"
        found.append(Picture("beliefs", title, BELIEFS_HEIGHT, draw_beliefs))
    if calibrated(report):
        height = calibration_height(report)
        found.append(Picture("calibration", "Calibration", height, draw_calibration))
    if placed(rates_by_arm(report)):
        height = pareto_height(rates_by_arm(report))
        found.append(Picture("harm", "Harm and help", height, _draw_harm))
    return tuple(found)


def rates_by_arm(report: Report) -> dict[str, Rates]:
    """Rates of harm and help of the answers to open prompts that a rule decides."""
    return {each.label: each.rates for each in report.stages if each.rates is not None}


def _draw_harm(figure: FigureBase, report: Report, theme: Theme, height: float) -> None:
    draw_pareto(figure, rates_by_arm(report), theme, height)


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
    figure: FigureBase, lines: list[TextLine], theme: Theme, height: float, start: float
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


def _head_lines(report: Report) -> Iterator[TextLine]:
    for sentence in headlines(report):
        for text in textwrap.wrap(short(sentence, 400), HEAD_CHARS, subsequent_indent="    "):
            yield TextLine(text, strong=True)


def _foot_lines(report: Report) -> Iterator[TextLine]:
    found = warnings(report)
    if found:
        yield TextLine("Read with care", strong=True)
    for warning in found[:MAX_WARNINGS]:
        wrapped = textwrap.wrap(f"–  {short(warning, 400)}", FOOT_CHARS, subsequent_indent="    ")
        yield from (TextLine(text) for text in wrapped)
    if len(found) > MAX_WARNINGS:
        yield TextLine(f"–  and {len(found) - MAX_WARNINGS} more, in the text and on the page")

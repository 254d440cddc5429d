"""The picture of judge accuracy: a dot and an interval for every arm, and the chance line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import DASHED, WIDTH_IN, Theme, colours, plain_axes, short, title
from oversight.evals.findings import interval
from oversight.evals.observations import Kind
from oversight.evals.report import ArmReport, Report
from oversight.text.shares import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

ROW_IN = 0.5
TOP_IN = 0.85
BOTTOM_IN = 0.72
FIGURES_IN = 2.95
"""Width of the columns of figures on the right."""


def accuracy_height(report: Report) -> float:
    """Inches that the picture needs."""
    return TOP_IN + BOTTOM_IN + ROW_IN * max(len(report.arms), 1)


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

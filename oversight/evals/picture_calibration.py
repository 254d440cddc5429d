"""The picture of calibration: how often a judge is right at each confidence in its choice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from oversight.evals.calibration import Calibration
from oversight.evals.drawing import DASHED, WIDTH_IN, Theme, colours, plain_axes, short, title
from oversight.evals.report import ArmReport, Report
from oversight.text.shares import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

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
    figures = f"n = {quality.num:,}   ECE {quality.ece:.2f}   Brier {quality.brier.value:.2f}"
    axes.text(0, 1.065, figures, color=theme.muted, fontsize=8, **where)

"""The picture of belief in the right answer, round by round."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from oversight.evals.drawing import DASHED, WIDTH_IN, Theme, colours, plain_axes, short, title
from oversight.evals.intervals import Estimate
from oversight.evals.report import ArmReport, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

BELIEFS_HEIGHT = 4.1
EVEN = 0.5
LABEL_IN = 2.5
"""Width of the names at the ends of the lines."""
LINE_IN = 0.3
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
    names = [f"round {number}" if number else "opening" for number in rounds]
    axes.set_xticks([*rounds, end], [*names, "judgment"])
    _name_lines(axes, arms, tints, theme, (high - low) * LINE_IN / inches)


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
        text = f"{belief.value:.2f}  {short(arm.label, 21)}"
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

"""The picture of a judge's audit: effects with their controls, and the judge by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.audits.claims import judge_words
from oversight.audits.measures import InterventionEffect, JudgeAudit
from oversight.evals.drawing import LIGHT, WIDTH_IN, Theme, plain_axes, save_png, short, title
from oversight.evals.intervals import Estimate
from oversight.evals.observations import Kind
from oversight.text.numbers import points, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD_IN, FOOT_IN, ROW_IN = 1.3, 0.55, 0.4
SHARES_ROW_IN, SHARES_HEAD_IN = 0.34, 0.75
LEFT_IN, RIGHT_IN = 2.35, 1.75
MOST_LETTERS = 26
MIN_REACH = 0.1
"""Points to either side of 0 that are shown at least."""


def picture_height(audit: JudgeAudit) -> float:
    """Inches that the picture needs."""
    own, shares = _effects(audit), _shares(audit)
    return (
        HEAD_IN
        + ROW_IN * max(len(own), 1)
        + FOOT_IN
        + (SHARES_HEAD_IN + SHARES_ROW_IN * len(shares) + FOOT_IN)
    )


def picture(audit: JudgeAudit, theme: Theme) -> Figure:
    """A line for each intervention, its effect above and its control hollow below; and the shares
    that describe the judge by itself, with guessing marked."""
    from matplotlib.figure import Figure

    height = picture_height(audit)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    title(
        figure,
        theme,
        short(f"Effects on {judge_words(audit)}", 70),
        "points of belief gained by the side whose words are changed, 95 % intervals clustered by "
        "question; bold: not 0 after Holm’s correction",
        height,
    )
    own = _effects(audit)
    tall = ROW_IN * max(len(own), 1)
    axes = figure.add_axes(_box(HEAD_IN, tall, height))
    plain_axes(axes, theme, grid="x")
    _draw_effects(axes, own, theme)
    shares = _shares(audit)
    top = HEAD_IN + tall + FOOT_IN
    figure.text(
        *(0.03, 1 - (top + 0.12) / height, "The judge by itself"),
        color=theme.ink,
        fontsize=11,
        weight="bold",
        va="top",
    )
    lower = figure.add_axes(_box(top + SHARES_HEAD_IN - 0.25, SHARES_ROW_IN * len(shares), height))
    plain_axes(lower, theme, grid="x")
    _draw_shares(lower, audit, shares, theme)
    return figure


def _box(top: float, tall: float, height: float) -> tuple[float, float, float, float]:
    return (
        LEFT_IN / WIDTH_IN,
        1 - (top + tall) / height,
        (WIDTH_IN - LEFT_IN - RIGHT_IN) / WIDTH_IN,
        tall / height,
    )


def _effects(audit: JudgeAudit) -> list[InterventionEffect]:
    return [each for each in audit.effects if not each.is_control and each.belief is not None]


def _shares(audit: JudgeAudit) -> list[tuple[str, Estimate]]:
    """Shares of the judge by itself, each with its words."""
    direct, found = audit.direct, audit.accuracy
    given = (
        ("right with debates", found.accuracy_all if found else None),
        ("right alone", direct.alone.accuracy_all if direct.alone else None),
        ("speakers, asked directly", direct.expert.accuracy_all if direct.expert else None),
        ("alike in both orders", audit.same),
        ("INVALID", audit.invalid),
    )
    return [(words, estimate) for words, estimate in given if estimate is not None]


def _ends(estimate: Estimate) -> tuple[float, float]:
    low = estimate.value if estimate.low is None else estimate.low
    return low, estimate.value if estimate.high is None else estimate.high


def _draw_effects(axes: Axes, own: Sequence[InterventionEffect], theme: Theme) -> None:
    tint, grey = theme.kinds[Kind.DEBATE][0], theme.kinds[Kind.NAIVE][0]
    reach = MIN_REACH
    for row, each in enumerate(own):
        for estimate, shift, colour in ((each.belief, -0.14, tint), (each.of_control, 0.2, grey)):
            if estimate is None:
                continue
            low, high = _ends(estimate)
            reach = max(reach, abs(low), abs(high))
            is_own = shift < 0
            bar: dict[str, Any] = {"color": colour, "clip_on": False}
            wide = 5 if is_own else 3
            at = [row + shift] * 2
            axes.plot([low, high], at, lw=wide, alpha=0.3, solid_capstyle="butt", **bar)
            face: dict[str, Any] = {} if is_own else {"markerfacecolor": theme.paper}
            axes.plot(
                *([estimate.value], [row + shift]),
                marker="o" if is_own else "D",
                ms=6 if is_own else 4.5,
                **face,
                **bar,
            )
    axes.axvline(0.0, color=theme.muted, lw=1)
    axes.set_ylim(max(len(own), 1) - 0.5, -0.5)
    _scale(axes, reach)
    axes.set_yticks(range(len(own)), [""] * len(own))
    names: dict[str, Any] = {
        "xycoords": ("axes fraction", "data"),
        "ha": "right",
        "va": "center",
        "annotation_clip": False,
        "parse_math": False,
    }
    for row, each in enumerate(own):
        weight = "bold" if each.is_found else "normal"
        name, control = short(each.name, MOST_LETTERS), short(each.control, MOST_LETTERS)
        place = (-0.02, row - 0.14)
        axes.annotate(name, xy=place, color=theme.ink, fontsize=9.5, weight=weight, **names)
        axes.annotate(control, xy=(-0.02, row + 0.22), color=grey, fontsize=7.5, **names)
    beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "annotation_clip": False}
    for row, each in enumerate(own):
        if each.belief is not None:
            axes.annotate(
                points(each.belief),
                xy=(1.02, row - 0.14),
                va="center",
                color=theme.ink,
                fontsize=9,
                weight="bold" if each.is_found else "normal",
                **beside,
            )
    above: dict[str, Any] = {
        "xy": (0, 1),
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "fontsize": 8.5,
        "annotation_clip": False,
    }
    axes.annotate("● intervention", xytext=(0, 9), color=tint, **above)
    axes.annotate("◇ its control, in the same pairs", xytext=(82, 9), color=grey, **above)


def _scale(axes: Axes, reach: float) -> None:
    """The same scale to either side of 0, in whole steps."""
    step = next(each for each in (2, 5, 10, 20, 25, 50) if 100 * reach / each <= 4)
    end = step * -(-round(1000 * reach) // (10 * step))
    axes.set_xlim(-end / 100, end / 100)
    ticks = range(-end, end + 1, step)
    axes.set_xticks(
        [tick / 100 for tick in ticks],
        ["0" if tick == 0 else f"{tick:+d}".replace("-", "−") for tick in ticks],
    )


def _draw_shares(
    axes: Axes, audit: JudgeAudit, shares: Sequence[tuple[str, Estimate]], theme: Theme
) -> None:
    tint = theme.kinds[Kind.EXPERT][0]
    for row, (_, estimate) in enumerate(shares):
        low, high = _ends(estimate)
        bar: dict[str, Any] = {"color": tint, "clip_on": False}
        axes.plot([low, high], [row, row], lw=5, alpha=0.3, solid_capstyle="butt", **bar)
        axes.plot([estimate.value], [row], marker="o", ms=6, **bar)
        axes.annotate(
            share(estimate),
            xy=(1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=theme.ink,
            fontsize=9,
            annotation_clip=False,
        )
    if audit.accuracy is not None:
        axes.axvline(audit.accuracy.chance, color=theme.muted, lw=1, ls=(0, (4, 3)))
        axes.annotate(
            "guessing",
            xy=(audit.accuracy.chance, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, 3),
            textcoords="offset points",
            color=theme.muted,
            fontsize=8,
            annotation_clip=False,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_yticks(range(len(shares)), [words for words, _ in shares])
    for label in axes.get_yticklabels():
        label.set(color=theme.ink, fontsize=9.5)
    axes.tick_params(axis="y", pad=9)


def in_words(audit: JudgeAudit) -> str:
    """The picture for those who cannot see it."""
    effects = [
        f"{each.name} {points(each.belief)} points"
        + ("" if each.of_control is None else f", its control {points(each.of_control)}")
        for each in _effects(audit)
        if each.belief is not None
    ]
    return "; ".join((*effects, *(f"{words} {share(found)}" for words, found in _shares(audit))))


def write_audit_picture(audit: JudgeAudit, path: Path, theme: Theme = LIGHT) -> None:
    """Write the picture as a PNG.

    Raises:
        FileError: The file cannot be written.
    """
    save_png(picture(audit, theme), path, theme, dpi=160)

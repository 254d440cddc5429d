"""The picture of a constitution's audit: effects of each principle, and which of them agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import LIGHT, WIDTH_IN, Theme, plain_axes, save_png, short, title
from oversight.evals.intervals import Estimate
from oversight.evals.observations import Kind
from oversight.evals.principles import ConstitutionAudit
from oversight.text.numbers import share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD_IN, FOOT_IN, ROW_IN, GAP_IN = 1.25, 0.6, 0.36, 0.5
MATRIX_HEAD_IN = 0.75
NAME_IN = 0.088
"""Width of a letter of a principle's name."""
MOST_LETTERS = 30
CELL_IN = 0.46
PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("changes the answer", (("changed", "of critiques by it"),)),
    ("flips", (("flipped_by_order", "with the order"), ("flipped_by_words", "with the wording"))),
    ("turns into a refusal", (("over_refused", "harmless, by rule"), ("refused", "by wording"))),
)
"""Panels of the picture: a title, and the one or two shares that it shows, with their words."""


def picture_height(audit: ConstitutionAudit) -> float:
    """Inches that the picture needs."""
    height = HEAD_IN + FOOT_IN + ROW_IN * len(audit.effects)
    ids = _compared(audit)
    return height + (MATRIX_HEAD_IN + 0.25 + CELL_IN * (len(ids) - 1) if ids else 0.0)


def picture(audit: ConstitutionAudit, theme: Theme) -> Figure:
    """A line for each principle: how often it changes an answer, how often preferences under it
    flip, how often it turns answers into refusals, with intervals; and the matrix of agreement."""
    from matplotlib.figure import Figure

    height = picture_height(audit)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    title(
        figure,
        theme,
        "Effects of each principle",
        "shares, with 95 % intervals clustered by prompt",
        height,
    )
    names = [short(each.id, MOST_LETTERS) for each in audit.effects]
    left = 0.45 + NAME_IN * max(map(len, names))
    panels = [
        (words, shown)
        for words, shares in PANELS
        if (shown := [each for each in shares if _any(audit, each[0])])
    ]
    rows_in = ROW_IN * len(names)
    width = (WIDTH_IN - left - 0.3) / max(len(panels), 1)
    for place, (words, shown) in enumerate(panels):
        box = (
            (left + place * width) / WIDTH_IN,
            1 - (HEAD_IN + rows_in) / height,
            (width - GAP_IN) / WIDTH_IN,
            rows_in / height,
        )
        axes = figure.add_axes(box)
        plain_axes(axes, theme, grid="x")
        _draw_panel(axes, audit, words, shown, theme)
        axes.set_yticks(range(len(names)), names if place == 0 else [""] * len(names))
        for label in axes.get_yticklabels():
            label.set(color=theme.ink, fontsize=9.5, parse_math=False)
    if ids := _compared(audit):
        _draw_matrix(figure, audit, ids, theme, height, HEAD_IN + rows_in + FOOT_IN)
    return figure


def _any(audit: ConstitutionAudit, name: str) -> bool:
    return any(getattr(each, name) is not None for each in audit.effects)


def _draw_panel(
    axes: Axes, audit: ConstitutionAudit, words: str, shown: list[tuple[str, str]], theme: Theme
) -> None:
    """One or two shares of every principle, the second of them hollow and below the first."""
    tints = (theme.kinds[Kind.DEBATE][0], theme.kinds[Kind.CONSULTANCY][0])
    most = 0.0
    for index, (name, _) in enumerate(shown):
        tint = tints[index]
        for row, effect in enumerate(audit.effects):
            found: Estimate | None = getattr(effect, name)
            if found is None:
                continue
            at = row + (index - (len(shown) - 1) / 2) * 0.36
            low = found.value if found.low is None else found.low
            high = found.value if found.high is None else found.high
            most = max(most, high)
            bar: dict[str, Any] = {"color": tint, "clip_on": False}
            axes.plot([low, high], [at, at], lw=5, alpha=0.28, solid_capstyle="butt", **bar)
            hollow: dict[str, Any] = {"markerfacecolor": theme.paper} if index else {}
            axes.plot([found.value], [at], marker="D" if index else "o", ms=5.5, **bar, **hollow)
    step = next(each for each in (1, 2, 5, 10, 20, 25, 50) if 100 * most / each <= 4)
    end = max(step, step * -(-round(1000 * most) // (10 * step)))
    axes.set_xlim(0, end / 100)
    axes.set_ylim(len(audit.effects) - 0.5, -0.5)
    ticks = range(0, end + 1, step)
    axes.set_xticks([tick / 100 for tick in ticks], [f"{tick} %" for tick in ticks])
    place: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False}
    above: dict[str, Any] = {"xy": (0, 1), "xycoords": "axes fraction", **place}
    axes.annotate(words, xytext=(0, 22), color=theme.ink, fontsize=10, weight="bold", **above)
    marks = "●◇" if len(shown) > 1 else "●"
    for index, (mark, (_, note)) in enumerate(zip(marks, shown, strict=True)):
        # Both in one line, each in the colour of its marks.
        shift = 0 if index == 0 else 14 + 4.6 * len(shown[0][1])
        axes.annotate(
            f"{mark} {note}", xytext=(shift, 8), color=tints[index], fontsize=7.5, **above
        )


def _compared(audit: ConstitutionAudit) -> list[str]:
    """Ids of the principles that some comparison was made under together with another one."""
    together = {id_ for pair in audit.pairs if pair.agreement for id_ in (pair.first, pair.second)}
    return [each.id for each in audit.effects if each.id in together]


def _draw_matrix(
    figure: Figure,
    audit: ConstitutionAudit,
    ids: Sequence[str],
    theme: Theme,
    height: float,
    top: float,
) -> None:
    """The lower half of the matrix of agreement, `top` inches below the figure's upper edge."""
    names = [f"{row + 1}  {short(id_, MOST_LETTERS)}" for row, id_ in enumerate(ids)]
    left = 0.45 + NAME_IN * max(map(len, names))
    size = min(CELL_IN, (WIDTH_IN - left - 0.3) / (len(ids) - 1))
    tall = CELL_IN * (len(ids) - 1)
    figure.text(
        *(0.03, 1 - top / height, "Agreement of principles"),
        color=theme.ink,
        fontsize=11,
        weight="bold",
        va="top",
    )
    note = "share of comparisons in which both prefer the same response; bold: not 50 % for certain"
    figure.text(
        *(0.03, 1 - (top + 0.24) / height, note),
        color=theme.muted,
        fontsize=8.5,
        va="top",
    )
    axes = figure.add_axes(
        (
            left / WIDTH_IN,
            1 - (top + MATRIX_HEAD_IN + tall) / height,
            size * (len(ids) - 1) / WIDTH_IN,
            tall / height,
        )
    )
    plain_axes(axes, theme, grid="x")
    axes.grid(visible=False)
    place = {id_: index for index, id_ in enumerate(ids)}
    for pair in audit.pairs:
        found = pair.agreement
        if found is None:
            continue
        column, row = sorted((place[pair.first], place[pair.second]))
        tint = theme.kinds[Kind.DEBATE if found.value >= 0.5 else Kind.CONSULTANCY][0]
        box: dict[str, Any] = {
            "color": tint,
            "lw": 0,
            "alpha": min(1.0, 2 * abs(found.value - 0.5)) * 0.5,
        }
        axes.fill([column, column + 1, column + 1, column], [row, row, row + 1, row + 1], **box)
        axes.text(
            *(column + 0.5, row + 0.5, f"{100 * found.value:.0f}"),
            color=theme.ink,
            fontsize=8.5,
            ha="center",
            va="center",
            weight="bold" if found.excludes(0.5) else "normal",
        )
    axes.set_xlim(0, len(ids) - 1)
    axes.set_ylim(len(ids), 1)
    axes.xaxis.tick_top()
    axes.set_xticks(
        [c + 0.5 for c in range(len(ids) - 1)], [str(c + 1) for c in range(len(ids) - 1)]
    )
    axes.set_yticks([row + 0.5 for row in range(1, len(ids))], names[1:])
    for label in axes.get_yticklabels():
        label.set(color=theme.ink, fontsize=9.5, parse_math=False)
    axes.text(
        *(-0.12, 0.95, names[0]),
        color=theme.ink,
        fontsize=9.5,
        ha="right",
        va="bottom",
        parse_math=False,
        clip_on=False,
    )


def in_words(audit: ConstitutionAudit) -> str:
    """The picture for those who cannot see it."""
    return "; ".join(
        f"{effect.id}: "
        + ", ".join(
            f"{words} {note} {share(getattr(effect, name))}"
            for words, shares in PANELS
            for name, note in shares
            if getattr(effect, name) is not None
        )
        for effect in audit.effects
    )


def write_picture(audit: ConstitutionAudit, path: Path, theme: Theme = LIGHT) -> None:
    """Write the picture as a PNG.

    Raises:
        FileError: The file cannot be written.
    """
    save_png(picture(audit, theme), path, theme, dpi=160)

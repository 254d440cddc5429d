"""Answers before and after self-critique in a report: sentences, tables, and the picture of harm
against help, which shows what arms of Constitutional AI give up for what they gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.errors import ConfigError
from oversight.evals.drawing import (
    DASHED,
    LIGHT,
    WIDTH_IN,
    Theme,
    plain_axes,
    save_png,
    short,
    title,
)
from oversight.evals.harm import AnswerDrift, AnswerPair, AnswerStage, Rates
from oversight.evals.intervals import Estimate
from oversight.evals.principles import PrincipleEffect
from oversight.text.numbers import NONE, Table, count, decimals, percent, points, share
from oversight.text.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

PLOT_IN = 4.6
"""Width and height of the field."""
LEFT_IN, TOP_IN, BOTTOM_IN = 0.85, 0.85, 0.75
ARM_IN = 0.44
"""Height of an arm in the list on the right."""
NEAR = 0.03
"""Part of the field within which two arms share a mark's number."""


def picture(arms: Mapping[str, Rates], path: Path, theme: Theme = LIGHT, dpi: int = 160) -> None:
    """Write the picture of harm against help of some arms as a PNG.

    Raises:
        ConfigError: No arm has answers to harmless requests, or the file cannot be written.
    """
    if not placed(arms):
        raise ConfigError("no arm has answers to harmless requests: there is no help to draw")
    save_png(pareto_figure(arms, theme), path, theme, dpi)


def placed(arms: Mapping[str, Rates]) -> dict[str, tuple[Estimate, Estimate]]:
    """Harm and help of the arms that have both, in the order given."""
    return {
        label: (found.harmful, found.right)
        for label, found in arms.items()
        if found.right is not None
    }


def frontier(arms: Mapping[str, Rates]) -> tuple[str, ...]:
    """The arms that no other one beats: none has as little harm and as much help, and more of one.

    By the estimates alone: two arms whose intervals overlap may change places in another sample.
    """
    points = {label: (harm.value, -help_.value) for label, (harm, help_) in placed(arms).items()}
    return tuple(
        label
        for label, (harm, help_) in points.items()
        if not any(
            other[0] <= harm and other[1] <= help_ and other != (harm, help_)
            for other in points.values()
        )
    )


def pareto_height(arms: Mapping[str, Rates]) -> float:
    """Inches that the picture needs."""
    return TOP_IN + BOTTOM_IN + max(PLOT_IN, ARM_IN * (len(placed(arms)) + 1))


def pareto_figure(arms: Mapping[str, Rates], theme: Theme) -> Figure:
    """The picture on a figure of its own."""
    from matplotlib.figure import Figure

    height = pareto_height(arms)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    draw_pareto(figure, arms, theme, height)
    return figure


def draw_pareto(figure: FigureBase, arms: Mapping[str, Rates], theme: Theme, height: float) -> None:
    """Harm to the right, help to the top, a mark with intervals for each arm, and their list."""
    found = placed(arms)
    best = frontier(arms)
    tints = _tints(found, theme)
    note = "share of answers that do harm, and of harmless requests that are answered right"
    title(figure, theme, "Harm and help", note, height)
    top = height - TOP_IN
    axes = figure.add_axes(
        (LEFT_IN / WIDTH_IN, (top - PLOT_IN) / height, PLOT_IN / WIDTH_IN, PLOT_IN / height)
    )
    plain_axes(axes, theme, grid="both")
    _limits(axes, found)
    corners = sorted((found[label][0].value, found[label][1].value) for label in best)
    axes.step(
        *zip(*corners, strict=True), where="post", color=theme.muted, lw=1.1, ls=DASHED, zorder=1
    )
    for label, (harm, help_) in found.items():
        _mark(axes, harm, help_, tints[label], theme, is_best=label in best)
    _numbers(axes, found, tints)
    axes.set_xlabel("harmful answers (less is better)", color=theme.muted, fontsize=9)
    axes.set_ylabel("harmless requests answered right", color=theme.muted, fontsize=9)
    _list(figure, arms, best, tints, theme, height)
    figure.text(
        0.03,
        0.1 / height,
        "crosses: 95 % intervals, clustered by prompt   ·   dashed, filled: no other arm has less "
        "harm and more help, by the estimates",
        color=theme.muted,
        fontsize=8.5,
        va="bottom",
    )


def _tints(labels: Mapping[str, object], theme: Theme) -> dict[str, str]:
    shades = [shade for shades in zip(*theme.kinds.values(), strict=True) for shade in shades]
    return {label: shades[place % len(shades)] for place, label in enumerate(labels)}


def _ends(estimate: Estimate) -> tuple[float, float]:
    low = estimate.value if estimate.low is None else estimate.low
    return low, estimate.value if estimate.high is None else estimate.high


def _limits(axes: Axes, found: Mapping[str, tuple[Estimate, Estimate]]) -> None:
    """From no harm to the most that an interval reaches, and from the least help to all."""
    most = max(_ends(harm)[1] for harm, _ in found.values())
    least = min(_ends(help_)[0] for _, help_ in found.values())
    right, bottom = min(1.0, max(0.1, most + 0.02)), max(0.0, min(0.9, least - 0.02))
    edge = 0.02
    axes.set_xlim(-edge * right, right * (1 + edge))
    axes.set_ylim(bottom - edge * (1 - bottom), 1 + edge * (1 - bottom))
    for axis, low, high in ((axes.xaxis, 0.0, right), (axes.yaxis, bottom, 1.0)):
        step = next(each for each in (2, 5, 10, 20, 25) if 100 * (high - low) / each <= 6)
        first = -(-round(1000 * low) // (10 * step)) * step
        ticks = range(first, round(100 * high) + 1, step)
        axis.set_ticks([tick / 100 for tick in ticks], [f"{tick} %" for tick in ticks])


def _mark(
    axes: Axes, harm: Estimate, help_: Estimate, tint: str, theme: Theme, *, is_best: bool
) -> None:
    line: dict[str, Any] = {"color": tint, "lw": 4.5, "alpha": 0.3, "solid_capstyle": "butt"}
    axes.plot(_ends(harm), [help_.value] * 2, zorder=2, clip_on=False, **line)
    axes.plot([harm.value] * 2, _ends(help_), zorder=2, clip_on=False, **line)
    axes.plot(
        [harm.value],
        [help_.value],
        marker="o",
        markersize=9,
        markeredgewidth=1.8,
        markeredgecolor=tint,
        markerfacecolor=tint if is_best else theme.paper,
        zorder=4,
        clip_on=False,
    )


def _numbers(
    axes: Axes, found: Mapping[str, tuple[Estimate, Estimate]], tints: Mapping[str, str]
) -> None:
    """The number of each arm beside its mark; arms at one place share theirs."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    groups: list[tuple[float, float, list[int], str]] = []
    for number, (label, (harm, help_)) in enumerate(found.items(), start=1):
        x, y = harm.value, help_.value
        for gx, gy, numbers, _ in groups:
            if abs(gx - x) <= NEAR * (right - left) and abs(gy - y) <= NEAR * (top - bottom):
                numbers.append(number)
                break
        else:
            groups.append((x, y, [number], tints[label]))
    for x, y, numbers, tint in groups:
        to_right, up = _free_corner(axes, (x, y), found)
        axes.annotate(
            ", ".join(map(str, numbers)),
            (x, y),
            xytext=(8 * to_right, 8 * up),
            textcoords="offset points",
            ha="left" if to_right > 0 else "right",
            va="bottom" if up > 0 else "top",
            color=tint,
            fontsize=10.5,
            weight="bold",
            annotation_clip=False,
            zorder=5,
        )


def _free_corner(
    axes: Axes, at: tuple[float, float], found: Mapping[str, tuple[Estimate, Estimate]]
) -> tuple[int, int]:
    """Signs of x and y of the corner of a mark that is farthest from the other arms."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    points_x, points_y = 72 * PLOT_IN / (right - left), 72 * PLOT_IN / (top - bottom)

    def room(corner: tuple[int, int]) -> float:
        x, y = points_x * at[0] + 14 * corner[0], points_y * at[1] + 14 * corner[1]
        from_cross, from_mark = 12.0, 30.0
        for harm, help_ in found.values():
            near_x = abs(harm.value - at[0]) <= NEAR * (right - left)
            if near_x and abs(help_.value - at[1]) <= NEAR * (top - bottom):
                continue  # itself, and those that share its place
            lows, highs = zip(_ends(harm), _ends(help_), strict=True)
            across = (lows[0], highs[0], help_.value, help_.value)
            along = (harm.value, harm.value, lows[1], highs[1])
            for x0, x1, y0, y1 in (across, along):
                dx = max(points_x * x0 - x, 0.0, x - points_x * x1)
                dy = max(points_y * y0 - y, 0.0, y - points_y * y1)
                from_cross = min(from_cross, math.hypot(dx, dy))
            place = points_x * harm.value, points_y * help_.value
            from_mark = min(from_mark, math.dist(place, (x, y)))
        beyond = 28.0 if x < points_x * left + 20 or y > points_y * top else 0.0
        return from_cross + from_mark - beyond

    corners = ((1, -1), (1, 1), (-1, 1), (-1, -1))
    if at[1] < (bottom + top) / 2:
        corners = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    return max(corners, key=room)


def _list(
    figure: FigureBase,
    arms: Mapping[str, Rates],
    best: Sequence[str],
    tints: Mapping[str, str],
    theme: Theme,
    height: float,
) -> None:
    """The arms by number, with their rates, at the right."""
    left = (LEFT_IN + PLOT_IN + 0.45) / WIDTH_IN
    for number, label in enumerate(placed(arms), start=1):
        top = 1 - (TOP_IN + ARM_IN * (number - 1)) / height
        name: dict[str, Any] = {"color": tints[label], "fontsize": 10, "va": "top"}
        weight = "bold" if label in best else "normal"
        words = f"{number}  {short(label)}"
        figure.text(left, top, words, weight=weight, parse_math=False, **name)
        figure.text(
            left,
            top - 0.18 / height,
            _words(arms[label]),
            color=theme.muted,
            fontsize=7.8,
            va="top",
        )
    out = [label for label in arms if label not in placed(arms)]
    if out:
        rest = f"not drawn, without harmless requests: {short(', '.join(out), 60)}"
        top = 1 - (TOP_IN + ARM_IN * len(placed(arms))) / height
        figure.text(left, top, rest, color=theme.muted, fontsize=7.8, va="top", parse_math=False)


def _words(found: Rates) -> str:
    refused = "–" if found.over_refusal is None else percent(found.over_refusal.value)
    return f"harm {share(found.harmful)}   right {share(found.right)}   over-ref. {refused}"


# --- sentences and tables ---


def drift_sentence(drift: AnswerDrift, stages: Sequence[AnswerStage]) -> str:
    """A sentence on harm and help in first and last answers; empty where no rule decides them."""
    gap = drift.rates
    rates = {each.label: each.rates for each in stages}
    first = rates.get(f"{drift.arm}: first answers")
    last = rates.get(f"{drift.arm}: last answers")
    if gap is None or gap.harmful is None or first is None or last is None:
        return ""
    said = f"{drift.arm}: {share(first.harmful)} of first answers do harm, "
    said += f"{share(last.harmful)} of last ones ({points(gap.harmful)} points on "
    said += f"{count(gap.harmful.num_clusters, 'prompt')}"
    said += ")" if gap.harmful.excludes(0.0) else "; no difference is shown)"
    if gap.right is not None and first.right is not None and last.right is not None:
        said += f"; harmless requests answered right {points(gap.right)} points"
        said += "" if gap.right.excludes(0.0) else ", no difference is shown"
    return f"{said}."


def answer_tables(
    stages: Sequence[AnswerStage],
    drifts: Sequence[AnswerDrift],
    effects: Sequence[PrincipleEffect],
    pairs: Sequence[AnswerPair],
) -> tuple[Table, ...]:
    """Tables on answers to open prompts, the most important first; some without rows."""
    return (
        _rates(stages),
        _kinds(stages),
        _changes(drifts),
        _drifts(stages, drifts),
        critiques_table(effects),
        _pairs(pairs),
    )


def _rates(stages: Sequence[AnswerStage]) -> Table:
    return Table(
        title="Harm and help",
        note="By the rule of the data set. “harmful”: answers that do any harm; “right”, "
        "“over-refusal”: of harmless requests, those that were answered right, and those that were "
        "not answered at all. 95 % intervals clustered by prompt; n / p.: answers to so many "
        "prompts; “?”: answers that no rule decides.",
        columns=("policy", "harmful", "right", "over-refusal", "n / p.", "?"),
        rows=tuple(
            (
                each.label,
                share(found.harmful),
                share(found.right),
                share(found.over_refusal),
                f"{found.num:,}/{found.num_clusters:,}",
                f"{found.num_undecided:,}",
            )
            for each in stages
            if (found := each.rates) is not None
        ),
    )


def _kinds(stages: Sequence[AnswerStage]) -> Table:
    kinds = sorted({kind for each in stages if each.rates for kind in each.rates.by_harm})
    return Table(
        title="Harm by kind",
        note="Share of all answers that do harm of each kind.",
        columns=("policy", *kinds),
        rows=tuple(
            (each.label, *(share(each.rates.by_harm.get(kind)) for kind in kinds))
            for each in stages
            if each.rates is not None and kinds
        ),
    )


def _changes(drifts: Sequence[AnswerDrift]) -> Table:
    return Table(
        title="Harm and help, last answers minus first",
        note="Percentage points, paired by prompt; 0 inside the interval: no difference shown.",
        columns=("policy", "harmful", "right", "over-refusal"),
        rows=tuple(
            (each.arm, *map(_points, (found.harmful, found.right, found.over_refusal)))
            for each in drifts
            if (found := each.rates) is not None
        ),
    )


def _drifts(stages: Sequence[AnswerStage], drifts: Sequence[AnswerDrift]) -> Table:
    rows = [
        (each.label, _mean_words(each.words), share(each.refusals), f"{each.num:,}")
        for each in stages
    ]
    rows += [
        (f"{each.arm}: change", _mean_words(each.words), _points(each.refusals), "")
        for each in drifts
    ]
    return Table(
        title="Length and refusals",
        note="Mean number of words; answers that begin by declining, in the common English "
        "wordings, whatever was asked. Changes are of last answers against first ones, paired by "
        "prompt: of refusals in percentage points.",
        columns=("policy", "words", "refusals", "n"),
        rows=tuple(rows) if drifts or len(stages) > 1 else (),
    )


def critiques_table(effects: Sequence[PrincipleEffect]) -> Table:
    """A table of how often each principle was drawn, found a fault, and changed the answer."""
    return Table(
        title="Critiques and revisions",
        note="“drawn”: share of all critiques; “fault” and “changed”: of critiques by the "
        "principle, those that found one, and those after which the answer had other words; "
        "“defects”: revisions with a preamble, a refusal, talk about the critique.",
        columns=("principle", "critiques", "drawn", "fault", "changed", "defects"),
        rows=tuple(
            (
                each.id,
                f"{each.num_critiques:,}",
                share(each.drawn),
                share(each.fault),
                share(each.changed),
                f"{each.num_defective:,}",
            )
            for each in effects
            if each.num_critiques
        ),
    )


def _pairs(pairs: Sequence[AnswerPair]) -> Table:
    return Table(
        title="Answers and their last revisions",
        note="A sample of those whose words changed, to be read; shortened.",
        columns=("policy", "prompt", "answer", "revision"),
        rows=tuple(
            (each.arm, *map(_shortened, (each.prompt, each.first, each.last))) for each in pairs
        ),
    )


SHOWN_CHARS = 240


def _shortened(text: str) -> str:
    line = visible(" ".join(text[: 4 * SHOWN_CHARS].split()), newlines=False)
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 2].rstrip() + " …"


def _mean_words(estimate: Estimate) -> str:
    """A mean with its interval where there is one."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.1f}".replace("-", "−")
    return decimals(estimate)


def _points(estimate: Estimate | None) -> str:
    return NONE if estimate is None else points(estimate)

"""A circle's pictures and page: accuracy before and after, persuasion, baselines."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import DASHED, LIGHT, WIDTH_IN, Theme, plain_axes, save_png, title
from oversight.evals.intervals import Estimate
from oversight.evals.observations import Kind
from oversight.evals.rendering import Illustration, Page, write_page
from oversight.experiments.selfplay import words
from oversight.experiments.selfplay.jobs import START
from oversight.experiments.selfplay.results import CircleResults, CurvePoint
from oversight.experiments.selfplay.settings import Arena, CircleSettings
from oversight.experiments.selfplay.words import ARENAS, name_of
from oversight.files import write_json
from oversight.text.numbers import percent, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


ROW_IN = 0.62
CURVE_IN = 4.9
COST_ROW_IN = 0.42
KINDS: dict[Arena, Kind] = {"debate": Kind.DEBATE, "consultancy": Kind.CONSULTANCY}
MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def _tint(arena: Arena, theme: Theme) -> str:
    return theme.kinds[KINDS[arena]][0]


def _text(theme: Theme, **more: Any) -> dict[str, Any]:
    return {"color": theme.ink, "fontsize": 9.5, **more}


def _bounds(estimate: Estimate) -> tuple[float, float]:
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return low, high


def _percent_axis(axes: Axes, theme: Theme) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.axvline(0.5, color=theme.muted, linewidth=1.0, linestyle=DASHED, zorder=1)


# --- accuracy ---


def draw_accuracy(results: CircleResults, theme: Theme) -> Figure:
    """Accuracy of the judge for every policy, in debate and in consultancy."""
    from matplotlib.figure import Figure

    names = (START, *results.methods)
    height = 1.75 + ROW_IN * len(names)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    note = "share of rulings that are right; bands: 95 % intervals clustered by question"
    heading = "Does training make judges more right?" if results.methods else "Judge accuracy"
    title(figure, theme, heading, note, height)
    _arena_legend(figure, theme, height)
    axes = figure.add_axes((0.24, 0.5 / height, 0.6, ROW_IN * len(names) / height))
    plain_axes(axes, theme, grid="x")
    _percent_axis(axes, theme)
    for row, name in enumerate(names):
        for arena, shift in zip(ARENAS, (-0.13, 0.13), strict=True):
            arm = results.arm(name, arena)
            if arm is not None and arm.decided:
                _band(axes, arm.accuracy, row + shift, _tint(arena, theme), theme)
    for name, label in (("naive", "naive"), ("expert", "expert")):
        arm = results.arm(name)
        if arm is not None and arm.decided:
            value = arm.accuracy.value
            axes.axvline(value, color=theme.kinds[Kind.NAIVE][0], linewidth=1.2, zorder=1)
            axes.annotate(
                f"{label} {percent(value)}",
                (value, -0.55),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=theme.muted,
                annotation_clip=False,
            )
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [name_of(name) for name in names])
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set(color=theme.muted if name == START else theme.ink, fontsize=10.5)
    return figure


def _band(axes: Axes, found: Estimate, row: float, tint: str, theme: Theme) -> None:
    low, high = _bounds(found)
    line: dict[str, Any] = {"color": tint, "clip_on": False, "solid_capstyle": "butt"}
    axes.plot([low, high], [row, row], linewidth=7, alpha=0.28, zorder=2, **line)
    axes.plot([found.value], [row], marker="o", markersize=8, zorder=4, **line)
    style: dict[str, Any] = {"va": "center", "fontsize": 9.5, "clip_on": False}
    axes.text(1.02, row, percent(found.value), color=tint, weight="bold", **style)


def _arena_legend(figure: Figure, theme: Theme, height: float) -> None:
    line = 1.0 - 0.78 / height
    for left, arena in zip((0.03, 0.12), ARENAS, strict=True):
        figure.text(left, line, "●", color=_tint(arena, theme), fontsize=10, va="center")
        figure.text(left + 0.018, line, arena, va="center", **_text(theme))


# --- the curve ---


def draw_curve(results: CircleResults, theme: Theme) -> Figure:
    """Persuasiveness of speakers against their judge's accuracy, as Khan et al. 2024 draw it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, CURVE_IN), facecolor=theme.paper)
    note = "each mark is a policy of one seed; bars: 95 % intervals over questions"
    arenas = [arena for arena in ARENAS if any(p.arena == arena for p in results.points)]
    where = f" in {arenas[0]}" if len(arenas) == 1 else " in debate, not in consultancy"
    heading = f"More persuasive speakers: a judge more right{where}?"
    title(figure, theme, heading, note, CURVE_IN)
    _arena_legend(figure, theme, CURVE_IN)
    names = list(dict.fromkeys(point.method for point in results.points))
    marker_of = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}
    axes = figure.add_axes((0.075, 0.15, 0.66, 0.6))
    plain_axes(axes, theme, grid="both")
    for point in results.points:
        _point(axes, point, marker_of[point.method], theme)
    for arena in ARENAS:
        _trend(axes, [p for p in results.points if p.arena == arena], _tint(arena, theme))
    axes.axhline(0.5, color=theme.muted, linewidth=1.0, linestyle=DASHED, zorder=1)
    lowest = min((_bounds(point.accuracy)[0] for point in results.points), default=0.5)
    bottom = max(0, min(4, int(10 * lowest)))
    axes.set_ylim(bottom / 10 - 0.02, 1.02)
    axes.set_yticks(
        [v / 10 for v in range(bottom, 11)], [f"{v} %" for v in range(10 * bottom, 101, 10)]
    )
    axes.set_xlabel("rating in cross-play (Elo points above the untrained)", **_text(theme))
    axes.set_ylabel("judge accuracy", **_text(theme))
    for number, name in enumerate(names):
        line = 0.72 - 0.065 * number
        mark: dict[str, Any] = {"marker": marker_of[name], "color": theme.muted, "markersize": 7}
        place = figure.add_axes((0.765, line - 0.02, 0.02, 0.04))
        place.set_axis_off()
        place.plot([0], [0], **mark)
        figure.text(0.795, line, name_of(name), va="center", **_text(theme, fontsize=9))
    return figure


def _point(axes: Axes, point: CurvePoint, marker: str, theme: Theme) -> None:
    tint = _tint(point.arena, theme)
    low, high = _bounds(point.accuracy)
    x, y = point.rating.value, point.accuracy.value
    thin: dict[str, Any] = {"color": tint, "linewidth": 0.9, "alpha": 0.45, "zorder": 2}
    axes.plot([point.rating.low, point.rating.high], [y, y], **thin)
    axes.plot([x, x], [low, high], **thin)
    axes.plot(
        [x],
        [y],
        marker=marker,
        markersize=8,
        color=tint,
        markeredgecolor=theme.paper,
        markeredgewidth=0.8,
        zorder=4,
    )


def _trend(axes: Axes, points: list[CurvePoint], tint: str) -> None:
    """The least-squares line through an arena's points, if their ratings differ."""
    import numpy as np

    x = np.array([point.rating.value for point in points])
    if len(points) < 3 or np.ptp(x) < 1.0:
        return
    slope, base = np.polyfit(x, [point.accuracy.value for point in points], 1)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, base + slope * ends, color=tint, linewidth=2.0, alpha=0.5, zorder=3)


# --- baselines ---


def draw_baselines(results: CircleResults, theme: Theme) -> Figure:
    """The judge's accuracy without training: alone, with more votes, with other speakers."""
    from matplotlib.figure import Figure

    rows: list[tuple[str, Arena | None, Estimate]] = []
    for name in ("expert", "naive", START, "best_of_n", "retrieval", "placebo"):
        for arena in (None, *ARENAS):
            arm = results.arm(name, arena)
            if arm is not None and arm.decided:
                rows.append((name_of(name), arena, arm.accuracy))
                if name in ("naive", START) and arena != "consultancy":
                    rows.append((f"{name_of(name)}, majority vote", arena, arm.majority))
    height = 1.6 + COST_ROW_IN * max(len(rows), 1)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    note = "judge accuracy without any training; bands: 95 % intervals clustered by question"
    if not rows:
        note = "nothing was decided without training"
    title(figure, theme, "What is reached without training", note, height)
    _arena_legend(figure, theme, height)
    axes = figure.add_axes((0.33, 0.45 / height, 0.52, COST_ROW_IN * max(len(rows), 1) / height))
    plain_axes(axes, theme, grid="x")
    _percent_axis(axes, theme)
    for row, (_, arena, estimate) in enumerate(rows):
        tint = _tint(arena, theme) if arena is not None else theme.kinds[Kind.NAIVE][0]
        _band(axes, estimate, row, tint, theme)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    for tick in axes.get_yticklabels():
        tick.set(color=theme.ink, fontsize=9.5)
    return figure


TITLE = "The closed circle"


def write_all(circle: CircleSettings, results: CircleResults) -> list[Path]:
    """Write report.html, accuracy.png, curve.png, baselines.png and results.json; their paths.

    Raises:
        ConfigError: A file cannot be written.
    """
    said = "; ".join(
        f"{words.name_of(arm.name)} {arm.arena or ''} {share(arm.share_right)}"
        for arm in results.arms
    )
    pictures = {
        "accuracy.png": Illustration("Accuracy", said, partial(draw_accuracy, results)),
        "baselines.png": Illustration("Baselines", said, partial(draw_baselines, results)),
    }
    if results.points:
        rated = "; ".join(f"{p.policy} {p.rating.value:+.0f}" for p in results.points)
        curve = Illustration("Persuasion and accuracy", rated, partial(draw_curve, results))
        pictures = {"accuracy.png": pictures["accuracy.png"], "curve.png": curve, **pictures}
    page = Page(
        title=TITLE,
        extent=words.extent(results),
        headlines=words.headlines(results),
        warnings=results.warnings,
        pictures=list(pictures.values()),
        tables=words.tables(results),
        methods=words.methods(circle),
    )
    write_page(page, circle.out / "report.html")
    for name, picture in pictures.items():
        save_png(picture.draw(LIGHT), circle.out / name)
    write_json(circle.out / "results.json", results.to_json())
    return [circle.out / name for name in ("report.html", *pictures, "results.json")]

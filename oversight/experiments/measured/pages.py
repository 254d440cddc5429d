"""The report of the suite: a picture for each part, its page, one page of all, and the text."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import DASHED, LIGHT, WIDTH_IN, Theme, plain_axes, save_png, title
from oversight.evals.observations import Kind
from oversight.evals.rendering import Illustration, Page, write_page
from oversight.experiments.measured.best_of_n import kl_of
from oversight.experiments.measured.control import MONITORS
from oversight.experiments.measured.overoptimisation import CHANCE, TRUTH
from oversight.experiments.measured.suite import MeasureSettings, PartDone
from oversight.experiments.measured.weak_to_strong import CEILING, METHODS, SHUFFLED, START
from oversight.files import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REPORT, RESULTS = "report.html", "results.json"
PACKAGES = ("oversight", "numpy", "scipy", "scikit-learn", "torch", "transformers", "langgraph")


def shades(theme: Theme) -> list[str]:
    """Colours for many lines of one picture."""
    kinds = (Kind.DEBATE, Kind.CONSULTANCY, Kind.EXPERT, Kind.NAIVE)
    return [theme.kinds[kind][shade] for shade in (0, 1, 2) for kind in kinds]


def draw_overoptimisation(done: PartDone, theme: Theme) -> Figure:
    """True reward over sqrt(KL) for each proxy, beside what the proxy itself says."""
    from matplotlib.figure import Figure

    numbers: Any = done.series["numbers"]
    proxies: Any = done.series["proxies"]
    distance = [math.sqrt(kl_of(n)) for n in numbers]
    figure = Figure(figsize=(WIDTH_IN, 4.9), facecolor=theme.paper)
    note = (
        "the best of n by each proxy, with its interval at the largest n, and what the proxy says"
    )
    title(figure, theme, "How a proxy is over-optimised", note, 4.9)
    truth = figure.add_axes((0.08, 0.13, 0.36, 0.65))
    proxy = figure.add_axes((0.52, 0.13, 0.22, 0.65))
    for place, ((name, curve), colour) in enumerate(
        zip(proxies.items(), shades(theme), strict=False)
    ):
        style: dict[str, Any] = {"color": colour, "linewidth": 1.8}
        if name in (TRUTH, CHANCE):
            dashes = DASHED if name == TRUTH else (0, (1, 2))
            style |= {"linestyle": dashes, "color": theme.ink}
        values = [value for value, _, _ in curve["worth"]]
        truth.plot(distance, values, label=name, **style)
        _, low, high = curve["worth"][-1]
        end = distance[-1] + 0.03 * (1 + place)
        truth.plot([end, end], [low, high], color=style["color"], linewidth=1.6)
        proxy.plot(distance, curve["proxy"], **style)
    for axes, words in ((truth, "true reward"), (proxy, "proxy, in standard deviations")):
        plain_axes(axes, theme, "both")
        axes.set_title(words, loc="left", color=theme.ink, fontsize=9.5)
        axes.set_xlabel("square root of KL", color=theme.muted, fontsize=9)
    truth.set_ylim(0, 1)
    figure.legend(
        *truth.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(0.755, 0.8),
        frameon=False, fontsize=8, labelcolor=theme.ink,
    )  # fmt: skip
    return figure


def draw_shift(done: PartDone, theme: Theme) -> Figure:
    """Accuracy, coverage and detection of each shift, and accuracy over what is answered."""
    from matplotlib.figure import Figure

    series: Any = done.series
    names: list[str] = series["names"]
    height = 1.9 + 0.42 * len(names)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    note = "the judge under named shifts; bars: intervals of 95 %"
    title(figure, theme, "A judge where it was not calibrated", note, height)
    bottom, tall = 0.62 / height, 1.0 - 1.65 / height
    left = figure.add_axes((0.17, bottom, 0.27, tall))
    middle = figure.add_axes((0.48, bottom, 0.14, tall))
    right = figure.add_axes((0.7, bottom, 0.27, tall))
    colours = shades(theme)
    places = list(range(len(names)))[::-1]
    for place, (value, low, high), covered in zip(
        places, series["right"], series["covered"], strict=True
    ):
        left.plot([low, high], [place, place], color=colours[0], linewidth=2.2)
        left.plot([value], [place], "o", color=colours[0], markersize=6)
        left.plot([covered[0]], [place], "D", color=colours[1], markersize=4.5)
    left.axvline(series["target"], color=colours[1], linewidth=0.9, linestyle=DASHED)
    middle.barh(places, series["detected"], height=0.55, color=colours[2])
    heights = apart([curve[-1] for curve in series["curves"]], 0.035)
    for name, curve, colour, at in zip(names, series["curves"], colours, heights, strict=False):
        style: dict[str, Any] = {"linestyle": DASHED} if name.endswith("(control)") else {}
        right.plot([k / 10 for k in range(1, 11)], curve, color=colour, linewidth=1.5, **style)
        right.annotate(
            name, (1.0, at), xytext=(3, 0), textcoords="offset points", fontsize=6,
            color=colour, va="center", annotation_clip=False,
        )  # fmt: skip
    for axes, words, grid in (
        (left, "● right   ◆ covered by conformal sets", "x"),
        (middle, "detected", "x"),
        (right, "right among the surest share", "both"),
    ):
        plain_axes(axes, theme, grid)  # type: ignore[arg-type]
        axes.set_title(words, loc="left", color=theme.ink, fontsize=9)
    left.set_yticks(places, names)
    middle.set_yticks([])
    left.set_xlim(0.3, 1.02)
    middle.set_xlim(0, 1.02)
    right.set_ylim(0.3, 1.02)
    right.set_xlim(0.1, 1.2)
    right.set_xticks([0.2, 0.4, 0.6, 0.8, 1.0])
    middle.set_ylim(left.get_ylim())
    right.set_xlabel("coverage", color=theme.muted, fontsize=9)
    return figure


def apart(values: Sequence[float], least: float) -> list[float]:
    """The values moved up where two would be nearer than `least`, for labels beside lines."""
    found = list(values)
    order = sorted(range(len(found)), key=found.__getitem__)
    for lower, upper in pairwise(order):
        found[upper] = max(found[upper], found[lower] + least)
    return found


def draw_control(done: PartDone, theme: Theme) -> Figure:
    """The frontier: safety over usefulness, a line for each protocol over its budgets."""
    from matplotlib.figure import Figure

    points: Any = done.series["points"]
    figure = Figure(figsize=(WIDTH_IN, 5.2), facecolor=theme.paper)
    note = "each line a protocol over rising budgets; up and to the right is better"
    title(figure, theme, "Control: safety against usefulness", note, 5.2)
    axes = figure.add_axes((0.09, 0.12, 0.6, 0.7))
    names = list(dict.fromkeys(point["protocol"] for point in points))
    colours = iter(shades(theme))
    for name in names:
        own = [point for point in points if point["protocol"] == name]
        _frontier(axes, name, own, next(colours) if name in MONITORS else theme.ink)
    plain_axes(axes, theme, "both")
    axes.set_xlabel("usefulness: honest tasks right", color=theme.muted, fontsize=9)
    axes.set_ylabel("safety: attacks that fail", color=theme.muted, fontsize=9)
    least = min(point["usefulness"][0] for point in points)
    axes.set_xlim(least - 0.1 * (1.0 - least) - 0.01, 1.0 + 0.15 * (1.0 - least) + 0.01)
    axes.set_ylim(-0.03, 1.03)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.03, 1.0), frameon=False, fontsize=8.5,
        labelcolor=theme.ink,
    )  # fmt: skip
    return figure


def _frontier(axes: Axes, name: str, own: Sequence[Mapping[str, Any]], colour: str) -> None:
    x, y = [p["usefulness"][0] for p in own], [p["safety"][0] for p in own]
    style: dict[str, Any] = {"color": colour, "label": name.replace("_", " ")}
    mark = "o-" if name in MONITORS else "X" if name == "always_trust" else "s"
    axes.plot(x, y, mark, markersize=5 if name in MONITORS else 8, linewidth=1.5, **style)
    for point in own:
        _, low, high = point["safety"]
        at = point["usefulness"][0]
        axes.plot([at, at], [low, high], color=colour, linewidth=0.8, alpha=0.6)


def draw_weak_to_strong(done: PartDone, theme: Theme) -> Figure:
    """Right answers over the size of the learner, and the gap recovered beside them."""
    from matplotlib.figure import Figure

    series: Any = done.series
    sizes: list[float] = [each / 1e6 for each in series["sizes"]]
    figure = Figure(figsize=(WIDTH_IN, 4.9), facecolor=theme.paper)
    note = "learners taught a weak supervisor's labels, by size; bars: intervals of 95 %"
    title(figure, theme, "Weak to strong", note, 4.9)
    right = figure.add_axes((0.08, 0.13, 0.33, 0.65))
    gap = figure.add_axes((0.48, 0.13, 0.3, 0.65))
    weak, low, high = series["weak"]
    right.axhspan(low, high, color=theme.muted, alpha=0.18, linewidth=0)
    right.axhline(weak, color=theme.muted, linewidth=1.4, label="supervisor")
    marks = {CEILING: DASHED, START: (0, (1, 2)), SHUFFLED: (0, (4, 2, 1, 2))}
    for arm, style in marks.items():
        values = [value for value, _, _ in series["right"][arm]]
        right.plot(sizes, values, color=theme.ink, linestyle=style, linewidth=1.3, label=arm)
    for place, (arm, colour) in enumerate(zip(METHODS, shades(theme), strict=False)):
        moved = [size * (1.0 + 0.012 * (place - 1.5)) for size in sizes]
        bars(right, moved, series["right"][arm], colour, arm)
        bars(gap, moved, series["gaps"][arm], colour, None)
    gap.axhline(0.0, color=theme.muted, linewidth=0.9)
    gap.axhline(1.0, color=theme.ink, linewidth=1.0, linestyle=DASHED)
    for axes, words in ((right, "right answers"), (gap, "share of the gap recovered")):
        plain_axes(axes, theme, "both")
        axes.set_title(words, loc="left", color=theme.ink, fontsize=9.5)
        axes.set_xlabel("weights of the learner, millions", color=theme.muted, fontsize=9)
    right.set_ylim(0.2, 1.02)
    figure.legend(
        *right.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(0.79, 0.8),
        frameon=False, fontsize=8, labelcolor=theme.ink,
    )  # fmt: skip
    return figure


def bars(
    axes: Axes,
    at: Sequence[float],
    estimates: Sequence[Sequence[Any] | None],
    colour: str,
    label: str | None,
) -> None:
    """A line through the estimates that there are, (value, low, high), and their intervals."""
    found = [(x, each) for x, each in zip(at, estimates, strict=True) if each is not None]
    style: dict[str, Any] = {"color": colour, "linewidth": 1.6, "markersize": 5, "label": label}
    axes.plot([x for x, _ in found], [each[0] for _, each in found], "o-", **style)
    for x, (_, low, high) in found:
        if low is not None and high is not None:
            axes.plot([x, x], [low, high], color=colour, linewidth=1.2, alpha=0.7)


DRAW: dict[str, Callable[[PartDone, Theme], Figure]] = {
    "overoptimisation": draw_overoptimisation,
    "shift": draw_shift,
    "control": draw_control,
    "weak_to_strong": draw_weak_to_strong,
}


def write_all(settings: MeasureSettings, found: Mapping[str, PartDone]) -> list[Path]:
    """Write each part's page and picture, one page of all, and the results; the files.

    Raises:
        FileError: One cannot be written.
    """
    out = settings.out
    written = []
    for name, done in found.items():
        save_png(DRAW[name](done, LIGHT), out / f"{name}.png")
        write_page(_page({name: done}, done.title), out / f"{name}.html")
        written += [out / f"{name}.png", out / f"{name}.html"]
    write_page(_page(found, "The hard problems as numbers"), out / REPORT)
    write_json(out / RESULTS, results(settings, found))
    return [out / REPORT, out / RESULTS, *written]


def results(settings: MeasureSettings, found: Mapping[str, PartDone]) -> dict[str, Any]:
    """All findings, JSON-plain, with settings, seeds, times and versions."""
    return {
        "settings": settings.model_dump(mode="json", exclude=set(settings.incidental)),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "parts": {name: done.plain() for name, done in found.items()},
    }


def _page(found: Mapping[str, PartDone], heading: str) -> Page:
    return Page(
        title=heading,
        extent=" · ".join(done.title for done in found.values()),
        headlines=[line for done in found.values() for line in done.headlines],
        warnings=[line for done in found.values() for line in done.warnings],
        pictures=[
            Illustration(done.title, " ".join(done.headlines), partial(DRAW[name], done))
            for name, done in found.items()
        ],
        tables=[table.shown() for done in found.values() for table in done.tables],
        methods=[line for done in found.values() for line in (f"{done.not_shown}", *done.methods)],
        origin=[f"{name} {version(name)}" for name in PACKAGES],
    )

"""Pages rendered as HTML by templates, with small line charts.

Every text from outside is made visible and escaped. Charts are numbers for an SVG: beliefs over
turns, metrics over steps.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from oversight.reporting.pages import BeliefChart, TranscriptPage
from oversight.text.numbers import compact, unbroken
from oversight.text.terminal import visible

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640.0, 200.0, 52.0, 14.0, 12.0, 26.0
NUM_COLOURS = 8
"""Colours of lines in the style sheet; more lines begin again."""
MAX_POINTS = 600
"""Points of a line that are drawn: more than the pixels that they would stand in."""


@dataclass(frozen=True, slots=True)
class PlotLine:
    """One line of a chart."""

    label: str
    colour: int
    path: str
    """Of an SVG `path`."""
    dots: tuple[tuple[float, float, str], ...]
    """(x, y, what it says)."""
    is_dotted: bool = False
    faint: str = ""
    """Path of the raw values behind a smoothed line."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A chart with one axis."""

    title: str
    description: str
    """For those who cannot see it."""
    lines: tuple[PlotLine, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class Series:
    """Values to be drawn."""

    label: str
    points: Sequence[tuple[float, float]]
    raw: Sequence[tuple[float, float]] = ()
    is_dotted: bool = False


def belief_plot(chart: BeliefChart) -> Plot:
    """Beliefs in one option by judge."""
    said = "; ".join(
        f"{line.judge}: {', '.join(f'{p:.0%}' for _, p in line.points)}" for line in chart.lines
    )
    right = "the right answer" if chart.is_right else "the option listed first"
    return _plot(
        title=f"Belief in {right}: {chart.option}",
        said=said,
        series=[Series(line.judge, line.points) for line in chart.lines],
        x_range=(0.0, max(place for place, _ in chart.ticks)),
        y_range=(0.0, 1.0),
        x_ticks=chart.ticks,
        y_ticks=[(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")],
        with_dots=True,
    )


def metric_plot(title: str, series: Sequence[Series]) -> Plot:
    """One metric of one run or several, over steps."""
    steps = [x for one in series for x, _ in one.points]
    values = sorted(y for one in series for _, y in (*one.points, *one.raw))
    # Raw values that are outliers do not flatten the rest; all of the strong lines are seen.
    strong = [y for one in series for _, y in one.points]
    cut = len(values) // 100
    low = min(values[cut], *strong)
    high = max(values[-1 - cut], *strong)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    span = low - margin, high + margin
    said = "; ".join(
        f"{one.label}: from {one.points[0][1]:.4g} to {one.points[-1][1]:.4g} "
        f"at step {one.points[-1][0]:.0f}"
        for one in series
    )
    return _plot(
        title=title,
        said=said,
        series=series,
        x_range=(min(steps), max(steps)),
        y_range=span,
        x_ticks=[(x, compact(x)) for x in _round_ticks(min(steps), max(steps), whole=True)],
        y_ticks=[(y, f"{y:g}".replace("-", "−")) for y in _round_ticks(*span)],
        with_dots=False,
    )


def _plot(
    *,
    title: str,
    said: str,
    series: Sequence[Series],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    with_dots: bool,
) -> Plot:
    def x_of(x: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * _share(x, x_range), 1)

    def y_of(y: float) -> float:
        share = min(1.1, max(-0.1, _share(y, y_range)))
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)

    def path(points: Sequence[tuple[float, float]]) -> str:
        step = max(1, math.ceil(len(points) / MAX_POINTS))
        kept = [*points[::step], *points[-1:]] if step > 1 else points
        return "M" + "L".join(f"{x_of(x)} {y_of(y)}" for x, y in kept)

    lines = []
    for number, one in enumerate(series):
        dotted = one.is_dotted or with_dots or len(one.points) == 1
        dots = [(x_of(x), y_of(y), f"{one.label}: {y:.4g}") for x, y in one.points] * dotted
        lines.append(
            PlotLine(
                label=one.label,
                colour=number % NUM_COLOURS,
                path=path(one.points),
                dots=tuple(dots[:MAX_POINTS]),
                is_dotted=one.is_dotted,
                faint=path(one.raw) if one.raw else "",
            )
        )
    return Plot(
        title=title,
        description=said,
        lines=tuple(lines),
        x_ticks=tuple((x_of(x), label) for x, label in x_ticks),
        y_ticks=tuple((y_of(y), label) for y, label in y_ticks),
    )


def _share(value: float, span: tuple[float, float]) -> float:
    return 0.5 if span[1] <= span[0] else (value - span[0]) / (span[1] - span[0])


def _round_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """About four round numbers between two others."""
    if high <= low:
        return [low]
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step)
    count = int((high - first * step) / step + 1e-9) + 1
    return [round((first + n) * step, 12) for n in range(max(0, count))]


ASSETS = {"view.css": "text/css", "view.js": "text/javascript"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content security policy: nothing from elsewhere, and no script or style within a page."""
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
"""Headers of safety, of every answer of a server that shows these pages."""


class Links(Protocol):
    """Addresses of pages, as they are written into one of them."""

    is_static: bool
    """A folder of files: no server to ask anything of."""

    def asset(self, name: str) -> str:
        """Of a file of style or script."""
        ...

    def transcript(self, debate_id: str, anchor: str = "") -> str:
        """Of a transcript."""
        ...

    def call(self, debate_id: str, key: str) -> str:
        """Of one call of a model."""
        ...

    def listing(self, params: Sequence[tuple[str, str]] = ()) -> str:
        """Of a list of debates."""
        ...

    def compare(self, left: str, right: str = "") -> str:
        """Of two transcripts side by side."""
        ...

    def run(self, name: str = "") -> str:
        """Of one training run, or of the list of them."""
        ...

    def experiment(self, name: str = "") -> str:
        """Of one experiment, or of the list of them."""
        ...

    def stored_runs(self, left: str = "", right: str = "") -> str:
        """Of the runs of the store: of the list, of one of them, of two side by side."""
        ...


class ServerLinks:
    """Addresses on a server; `store` names one of several."""

    is_static = False

    def __init__(self, store: str = "") -> None:
        self._store = [("store", store)] if store else []

    def asset(self, name: str) -> str:
        """Of a file, with its content in the name: a browser may keep it for good."""
        return f"/assets/{stamp(name)}/{name}"

    def transcript(self, debate_id: str, anchor: str = "") -> str:
        """Of a transcript."""
        return self._at(f"/t/{quote(debate_id, safe='')}", anchor=anchor)

    def call(self, debate_id: str, key: str) -> str:
        """Of one call of a model."""
        return self._at(f"/t/{quote(debate_id, safe='')}/call/{quote(key, safe='')}")

    def listing(self, params: Sequence[tuple[str, str]] = ()) -> str:
        """Of a list of debates."""
        return self._at("/", params)

    def compare(self, left: str, right: str = "") -> str:
        """Of two transcripts side by side."""
        return self._at("/compare", [("a", left), ("b", right)])

    def run(self, name: str = "") -> str:
        """Of one training run, or of the list of them."""
        return "/runs" + (f"/{quote(name, safe='')}" if name else "")

    def experiment(self, name: str = "") -> str:
        """Of one experiment, or of the list of them."""
        return "/experiments" + (f"/{quote(name, safe='')}" if name else "")

    def stored_runs(self, left: str = "", right: str = "") -> str:
        """Of the runs of the store: of the list, of one of them, of two side by side."""
        given = [(name, value) for name, value in (("a", left), ("b", right)) if value]
        return self._at("/stored-runs", given)

    def _at(self, path: str, params: Sequence[tuple[str, str]] = (), anchor: str = "") -> str:
        query = urlencode([*params, *self._store])
        return path + (f"?{query}" if query else "") + (f"#{anchor}" if anchor else "")


class NoLinks:
    """Addresses in a page that stands alone: there are none, and what would lead on is left out."""

    is_static = True

    def asset(self, *_: object, **__: object) -> str:
        """None."""
        return ""

    transcript = call = listing = compare = run = experiment = stored_runs = asset


@lru_cache
def asset(name: str) -> bytes:
    """The content of a file of style or script."""
    return files("oversight.reporting").joinpath("templates", name).read_bytes()


def stamp(name: str) -> str:
    """A few letters that change with the content of a file."""
    return hashlib.blake2b(asset(name), digest_size=6).hexdigest()


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("oversight.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["percent"] = lambda p: unbroken(f"{p:.0%}".replace("%", " %"))
    environment.filters["unbroken"] = unbroken
    environment.filters["short"] = lambda id_: id_[:8]
    environment.filters["moment"] = _moment
    environment.filters["shell"] = shlex.quote
    environment.filters["line"] = lambda text: " ".join(text.split())
    environment.filters["number"] = lambda n: f"{n:,}"
    return environment


def _moment(at: str) -> Markup:
    """An ISO time as a person reads it, to the second; the whole one where the pointer rests."""
    try:
        shown = f"{datetime.fromisoformat(at):%d %b %Y %H:%M:%S}"
    except ValueError:
        shown = at
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(visible(at), visible(shown))


def _shown(value: Any) -> Any:
    """Text for an expression of a template: whatever its source, it is made visible first."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def render(template: str, links: Links, **values: Any) -> str:
    """A page of this template."""
    page = _environment().get_template(template).render(links=links, **values)
    return page.encode("utf-8", "replace").decode("utf-8")


def transcript_alone(page: TranscriptPage) -> str:
    """A transcript as one page with its style in it, for a frame of a notebook."""
    return render(
        "transcript.html",
        NoLinks(),
        layout="alone.html",
        style=Markup(asset("view.css").decode()),
        page=page,
        drawn=None if page.chart is None else belief_plot(page.chart),
        store_address="",
    )

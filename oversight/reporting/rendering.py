"""Pages rendered: as HTML by templates, with small line charts, and as text in the terminal.

Every text from outside is made visible and escaped. Charts are numbers for an SVG: beliefs over
turns, metrics over steps. In the terminal a transcript is whole at any width.
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
from rich.console import Console
from rich.text import Text

from oversight.reporting.pages import (
    BeliefChart,
    BeliefShown,
    CallNote,
    CallPage,
    TranscriptPage,
    TurnShown,
)
from oversight.text.numbers import compact
from oversight.text.revisions import Piece
from oversight.text.terminal import rich_text, visible

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
    environment.filters["percent"] = lambda p: f"{p:.0%}".replace("%", " %")
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


STYLES = {"verified": "green", "near": "yellow", "unverified": "red", "too_short": "dim"}
STYLES["quoted"] = STYLES["verified"]
MARKS = {"verified": "✓", "near": "≈", "unverified": "✗", "too_short": "·"}
"""Signs behind a quote, so that its status is told without colour."""
SEATS = {"a": "bold blue", "b": "bold magenta", "judge": "bold cyan"}


def print_transcript(page: TranscriptPage, console: Console, *, with_source: bool = False) -> None:
    """Print a transcript: question, turns, judgments, ratings and what people did."""
    console.rule(rich_text(page.id, style="dim"))
    console.print(rich_text(page.question, style="bold"))
    _say(console, f"{page.protocol} · {page.dataset} {page.question_id} · seed {page.seed}")
    for role, text in page.history:
        console.print(rich_text(f"{role}: {text}"))
    for letter, text, right, by in page.options:
        told = "".join(f" ({each})" for each in ("right" if right else "", by) if each)
        console.print(rich_text(f"  {letter}  {text}").append_text(rich_text(told, "dim")))
    for role, name, _ in page.agents:
        _say(console, f"{role}: {name}")
    if page.orders:
        _say(console, page.orders)
    if page.status == "failed":
        console.print(rich_text(f"failed: {page.error}", style="red"))
    elif page.status == "unfinished":
        console.print(rich_text("not finished", style="yellow"))
    for turn in page.turns:
        console.print()
        _print_turn(turn, console)
    for change in page.changes:
        by = ", ".join(change.principles) or "freely"
        console.print()
        console.print(rich_text(f"What critique {change.number} changed ({by})", style="bold"))
        if change.pieces:
            console.print(_pieces(change.pieces, console))
        else:
            _say(console, change.outcome)
    _print_judgments(page, console)
    for rating in page.ratings:
        console.print()
        console.print(rich_text(f"Rating: {rating.task} by {rating.rater}", style="bold"))
        shown = ", ".join(f"turn {n}" if n else "a candidate" for n in rating.turns)
        _say(console, f"of {shown}")
        for name, value in rating.answers:
            console.print(rich_text(f"  {name}: {value}"))
        if rating.rationale:
            console.print(rich_text(rating.rationale))
        for note in rating.notes:
            _say(console, note)
        _print_calls(rating.calls, console)
    if with_source and page.source:
        console.print()
        console.print(rich_text(f"Source {page.source_title}".strip(), style="bold"))
        console.print(_joined(page))
    if page.acts:
        console.print()
        console.print(rich_text("Acts of people", style="bold"))
        for act in page.acts:
            about = ", ".join(place.words for place in act.about)
            at = act.at.partition(".")[0].replace("T", " ")
            console.print(rich_text(f"  {at}  {act.who}  {act.what} {about}  {act.detail}"))
    console.print()


def _print_turn(turn: TurnShown, console: Console, title: str = "") -> None:
    heading = title or f"{turn.number}. {turn.who}"
    line = rich_text(heading, style=SEATS.get(turn.seat, "bold"))
    about = [f"for {turn.defends}" if turn.defends else "", turn.side]
    about += [turn.act, f"round {turn.round}"]
    line.append_text(rich_text("  " + " · ".join(filter(None, about)), style="dim"))
    console.print(line)
    text = rich_text("")
    for part in turn.segments:
        style = STYLES.get(part.status, "")
        text.append_text(rich_text(part.text, style=style))
        if part.status:
            text.append_text(rich_text(f" [{part.quotes[0]}{MARKS[part.status]}]", style="dim"))
    if text.plain.strip():
        console.print(text)
    if turn.belief is not None:
        _print_belief(turn.belief, console)
    for note in turn.quotes:
        if note.status == "near":
            alike = "" if note.similarity is None else f", {note.similarity:.0%} like the source"
            _say(console, f"  quote {note.number}: near{alike}")
            console.print(Text("    ").append_text(_pieces(note.pieces, console)))
        elif note.status != "verified":
            _say(console, f"  quote {note.number}: {note.status}")
    if turn.reasoning:
        _say(console, "private reasoning:")
        console.print(rich_text(turn.reasoning, style="italic dim"))
    for principle in turn.principles:
        _say(console, f"by {principle}")
    if turn.notes:
        _say(console, " · ".join(turn.notes))
    _print_calls(turn.calls, console)
    for other in turn.candidates:
        _print_turn(other, console, "   a candidate that was not chosen")


def _print_belief(belief: BeliefShown, console: Console) -> None:
    word = "INVALID" if belief.verdict == "invalid" else belief.verdict
    console.print(rich_text(f"  {word} ({belief.method})", "red" if word == "INVALID" else "cyan"))
    for option, p, right in belief.probs:
        console.print(
            rich_text(f"  {p:>4.0%}  {option}{'  (right)' if right else ''}".replace("%", " %"))
        )
    if belief.raw:
        console.print(rich_text("  answer as it was written: ", style="dim"), end="")
        console.print(rich_text(belief.raw))


def _print_judgments(page: TranscriptPage, console: Console) -> None:
    for judgment in page.judgments:
        console.print()
        result = {True: ", right", False: ", wrong", None: ""}[judgment.right]
        console.print(rich_text(f"Judgment of {judgment.judge}{result}", style="bold cyan"))
        _print_belief(judgment.belief, console)
        if judgment.rationale:
            console.print(rich_text(judgment.rationale))
        if judgment.leaned_on:
            _say(console, "leaned on quotes " + ", ".join(map(str, judgment.leaned_on)))
        if judgment.notes:
            _say(console, " · ".join(judgment.notes))
        _print_calls(judgment.calls, console)


def _print_calls(calls: tuple[CallNote, ...], console: Console) -> None:
    for call in calls:
        _say(
            console,
            f"  {call.purpose} by {call.model}: {call.prompt_tokens:,} → "
            f"{call.completion_tokens:,} tokens, {call.finish_reason}",
        )


def print_call(call: CallPage, console: Console) -> None:
    """Print one call: the prompt as it was sent, and the answer as it came."""
    console.rule(rich_text(f"{call.note.purpose}, {call.title}", style="dim"))
    if call.missing:
        console.print(rich_text(call.missing, style="yellow"))
    for role, content in call.messages:
        console.print(rich_text(f"[{role}]", style="bold"))
        console.print(rich_text(content), soft_wrap=True)
    if call.reasoning:
        console.print(rich_text("[thought]", style="bold"))
        console.print(rich_text(call.reasoning), soft_wrap=True)
    console.print(rich_text("[answer]", style="bold"))
    console.print(rich_text(call.raw), soft_wrap=True)
    console.print()


def _joined(page: TranscriptPage) -> Text:
    text = rich_text("")
    for part in page.source:
        for number in part.begins:
            text.append_text(rich_text(f"[{number}]", style="dim"))
        text.append_text(rich_text(part.text, style=STYLES.get(part.status, "")))
    return text


def _pieces(pieces: tuple[Piece, ...], console: Console) -> Text:
    """Words with the changed ones marked, by signs where there is no colour."""
    signs = {"kept": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
    styles = {"kept": "", "removed": "red strike", "added": "green bold"}
    text = rich_text("")
    for piece in pieces:
        opening, closing = ("", "") if console.color_system else signs[piece.change]
        text.append_text(rich_text(opening + piece.text + closing, style=styles[piece.change]))
    return text


def _say(console: Console, words: str) -> None:
    console.print(rich_text(words, style="dim"))

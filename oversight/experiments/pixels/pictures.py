"""The pictures and the page of a run: how often the judge was right, and some games."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import WIDTH_IN, Theme, plain_axes, title
from oversight.evals.observations import Kind
from oversight.evals.rendering import Illustration, Page
from oversight.evals.rendering import write_page as write
from oversight.experiments.pixels.results import (
    DEBATE,
    PixelResults,
    PixelRow,
    extent,
    headlines,
    methods,
    table,
)
from oversight.experiments.pixels.running import FinishedRun, PlannedGame, image_of, shown_in
from oversight.text.numbers import count, percent
from oversight.types import Seat, Transcript

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase


NUM_COLUMNS = 4
"""Games in a row of the picture: one row that the honest side won, one that the liar won."""

ROW_IN = 0.36
GAME_IN = 2.3

UNSEEN = {"light": "#cfdff2", "dark": "#26384f"}
"""Colour of pixels that the judge does not see: no grey level, so that no pixel looks like it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A game as it is drawn."""

    image: list[list[int]]
    top: int
    moves: tuple[tuple[bool, int, int], ...]
    """(by the honest side, row, column), in order."""
    true: int
    lie: int
    belief: float
    """The judge's probability of the true label against the lie."""


# --- the table as a picture --------------------------------------------------------


def results_height(results: PixelResults) -> float:
    """Inches that the picture needs."""
    numbers = {row.pixels for row in results.rows}
    return 1.35 + sum(0.45 + ROW_IN * _count(results, number) for number in numbers)


def draw_results(results: PixelResults, theme: Theme) -> Figure:
    """A bar and an interval for every match, the paper's figure as a diamond."""
    from matplotlib.figure import Figure

    height = results_height(results)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    note = (
        f"{results.dataset}, {count(results.num_images, 'held-out image')}; "
        "whiskers: 95 % intervals clustered by image"
    )
    title(figure, theme, "Pixel debate: how often the judge is right", note, height)
    below = height - 0.8
    numbers = sorted({row.pixels for row in results.rows})
    for number in numbers:
        rows = [row for row in results.rows if row.pixels == number]
        tall = ROW_IN * len(rows)
        below -= 0.32
        figure.text(
            0.03,
            (below + 0.06) / height,
            f"The judge sees {count(number, 'pixel')}",
            color=theme.ink,
            fontsize=11,
            weight="bold",
        )
        below -= tall
        axes = figure.add_axes((0.3, below / height, 0.62, tall / height))
        _bars(axes, rows, theme, last=number == numbers[-1])
        below -= 0.13
    _results_legend(figure, theme, height)
    return figure


def _count(results: PixelResults, pixels: int) -> int:
    return sum(row.pixels == pixels for row in results.rows)


def _bars(axes: Axes, rows: Sequence[PixelRow], theme: Theme, *, last: bool) -> None:
    plain_axes(axes, theme, grid="x")
    for place, row in enumerate(rows):
        tint = theme.kinds[Kind.DEBATE][0] if row.is_main else theme.kinds[Kind.NAIVE][1]
        axes.barh(place, row.right.value, height=0.62, color=tint, alpha=0.85, zorder=2)
        low = row.right.value if row.right.low is None else row.right.low
        high = row.right.value if row.right.high is None else row.right.high
        axes.plot([low, high], [place, place], color=theme.ink, linewidth=1.3, zorder=3)
        guess: dict[str, Any] = {"color": theme.ink, "linewidth": 1.4, "linestyle": ":"}
        axes.plot([1 / row.labels] * 2, [place - 0.4, place + 0.4], zorder=4, **guess)
        if row.published is not None:
            diamond: dict[str, Any] = {"marker": "D", "markersize": 7.5, "linestyle": "none"}
            axes.plot(
                [row.published],
                [place],
                color=theme.kinds[Kind.CONSULTANCY][0],
                markeredgecolor=theme.paper,
                zorder=5,
                **diamond,
            )
        axes.text(
            1.025,
            place,
            percent(row.right.value),
            color=theme.ink,
            fontsize=10,
            weight="bold" if row.is_main else "normal",
            va="center",
        )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    ticks = ["0 %", "25 %", "50 %", "75 %", "100 %"] if last else [""] * 5
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ticks)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set(color=theme.ink, fontsize=9.5)
        label.set_fontweight("bold" if row.is_main else "normal")


def _results_legend(figure: FigureBase, theme: Theme, height: float) -> None:
    text: dict[str, Any] = {"fontsize": 9, "va": "bottom"}
    orange = theme.kinds[Kind.CONSULTANCY][0]
    figure.text(0.03, 0.12 / height, "◆", color=orange, **text)
    note = (
        "Irving et al. 2018, on MNIST (another data set, another judge)     "
        "┊ guessing among the labels that the judge may choose"
    )
    figure.text(0.05, 0.12 / height, note, color=theme.muted, **text)


# --- games -------------------------------------------------------------------------


def pick_games(
    games: Mapping[str, PlannedGame], stored: Iterable[tuple[str, Transcript]]
) -> tuple[list[Shown], list[Shown]]:
    """The first debates with most pixels that the honest side won, and that the liar won.

    One game an image at most, begun by the honest side and by the liar in turn.
    """
    most = max(planned.pixels for planned in games.values())
    won: list[Shown] = []
    lost: list[Shown] = []
    seen: set[str] = set()
    for key, transcript in stored:
        planned = games.get(key)
        if planned is None or (planned.pixels, planned.match) != (most, DEBATE):
            continue
        group = won if transcript.judgments[0].final.choice == transcript.question.correct else lost
        in_turn = planned.honest_first == (len(group) % 2 == 0)
        if in_turn and len(group) < NUM_COLUMNS and transcript.question.id not in seen:
            seen.add(transcript.question.id)
            group.append(_shown(transcript, planned.honest_first))
    return won, lost


def _shown(transcript: Transcript, honest_first: bool) -> Shown:
    orders = transcript.debate.orders
    true, lie = orders.defends if honest_first else orders.defends[::-1]
    probs = transcript.judgments[0].final.probs or ()
    honest = Seat.A if honest_first else Seat.B
    return Shown(
        image=image_of(transcript.question),
        top=int(str(transcript.question.meta["top"])),
        moves=tuple((seat is honest, r, c) for seat, r, c in shown_in(transcript.spoken())),
        true=true,
        lie=lie,
        belief=probs[true],
    )


def draw_games(won: Sequence[Shown], lost: Sequence[Shown], theme: Theme) -> Figure:
    """Games: the image with the pixels that each side showed, what the judge saw, its belief."""
    from matplotlib.figure import Figure

    groups = [
        ("The honest side wins", won),
        ("The liar wins", lost),
    ]
    groups = [(name, group) for name, group in groups if group]
    height = 1.25 + GAME_IN * len(groups)
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    number = len((*won, *lost)[0].moves)
    note = "left: the image, which the players know   ·   right: all that the judge sees"
    title(figure, theme, f"Debates about an image, {number} pixels shown", note, height)
    _games_legend(figure, theme, height)
    for line, (name, group) in enumerate(groups):
        top = height - 1.2 - GAME_IN * line
        style: dict[str, Any] = {"color": theme.ink, "fontsize": 10.5, "weight": "bold"}
        figure.text(0.03, top / height, name, **style)
        for column, game in enumerate(group):
            left = 0.03 + column * 0.24
            _game(figure, game, theme, left, top - 0.1, height)
    return figure


def _game(
    figure: FigureBase, game: Shown, theme: Theme, left: float, top: float, height: float
) -> None:
    """One game, whose upper left corner is at `left` of the width and `top` inches."""
    size = 1.05
    wide, tall = size / WIDTH_IN, size / height
    low = (top - 0.3 - size) / height
    figure.text(
        left,
        (top - 0.2) / height,
        f"It is a {game.true}; the liar says {game.lie}",
        color=theme.ink,
        fontsize=9,
    )
    for place in (0, 1):
        axes = figure.add_axes((left + place * (wide + 0.006), low, wide, tall))
        _image(axes, game, theme, masked=place == 1)
    bar = figure.add_axes((left, low - 0.27 / height, 2 * wide + 0.006, 0.17 / height))
    _belief(bar, game, theme)


def _image(axes: Axes, game: Shown, theme: Theme, *, masked: bool) -> None:
    import numpy as np
    from matplotlib.patches import Rectangle

    image = np.array(game.image, dtype=float)
    if masked:
        seen = np.full(image.shape, np.nan)
        for _, row, column in game.moves:
            seen[row, column] = image[row, column]
        image = seen
        for _, row, column in game.moves:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, color=theme.muted, linewidth=0.8))
    axes.set_facecolor(UNSEEN[theme.name])
    axes.imshow(image, cmap="gray", vmin=0, vmax=game.top, interpolation="nearest")
    if not masked:
        for number, (honest, row, column) in enumerate(game.moves, start=1):
            tint = _tint(honest, theme)
            box: dict[str, Any] = {"facecolor": tint, "edgecolor": "white", "linewidth": 0.9}
            if honest:
                axes.scatter([column], [row], s=66, marker="o", zorder=3, **_marker(box))
            else:
                axes.scatter([column], [row], s=58, marker="s", zorder=3, **_marker(box))
            text: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 4}
            axes.text(column, row, str(number), color="white", fontsize=6.5, weight="bold", **text)
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, color=theme.muted))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _marker(box: dict[str, Any]) -> dict[str, Any]:
    return {"c": box["facecolor"], "edgecolors": box["edgecolor"], "linewidths": box["linewidth"]}


def _belief(axes: Axes, game: Shown, theme: Theme) -> None:
    """The judge's belief as one bar, split between the two labels."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.barh(0.5, game.belief, height=1, color=_tint(True, theme))
    axes.barh(0.5, 1 - game.belief, left=game.belief, height=1, color=_tint(False, theme))
    below: dict[str, Any] = {"fontsize": 8, "va": "top", "color": theme.ink}
    wins = game.belief > 0.5
    true, lie = (f"{label}: {percent(p)}" for label, p in _beliefs(game))
    axes.text(0, -0.25, true, weight="bold" if wins else "normal", ha="left", **below)
    axes.text(1, -0.25, lie, weight="normal" if wins else "bold", ha="right", **below)


def _beliefs(game: Shown) -> tuple[tuple[int, float], tuple[int, float]]:
    return (game.true, game.belief), (game.lie, 1.0 - game.belief)


def _tint(honest: bool, theme: Theme) -> str:
    return theme.kinds[Kind.DEBATE if honest else Kind.CONSULTANCY][0]


def _games_legend(figure: FigureBase, theme: Theme, height: float) -> None:
    line = (height - 0.8) / height
    text: dict[str, Any] = {"fontsize": 9.5, "va": "center"}
    parts = (
        (0.03, "●", _tint(True, theme), "pixel shown by the honest side"),
        (0.285, "■", _tint(False, theme), "pixel shown by the liar; numbers give the order"),
        (0.655, "▬", theme.muted, "what the judge believes in the end"),
    )
    for left, mark, tint, note in parts:
        figure.text(left, line, mark, color=tint, **text)
        figure.text(left + 0.022, line, note, color=theme.muted, **text)


def write_page(
    played: FinishedRun, results: PixelResults, won: list[Shown], lost: list[Shown], path: Path
) -> None:
    """Write the page to `path`; a page of that name is replaced once the new one is whole.

    Raises:
        ConfigError: The file cannot be written.
    """
    spoken = "; ".join(f"{row.name}, {count(row.pixels, 'pixel')}" for row in results.rows)
    pictures = [Illustration("Pixel debate", spoken, partial(draw_results, results))]
    if won or lost:
        of_games = "; ".join(f"a {game.true}, the liar says {game.lie}" for game in (*won, *lost))
        pictures.append(Illustration("Games", of_games, partial(draw_games, won, lost)))
    page = Page(
        title="Pixel debate",
        extent=extent(results),
        headlines=headlines(results),
        warnings=(),
        pictures=pictures,
        tables=[table(results, wide=True)],
        methods=methods(played, results),
    )
    write(page, path)

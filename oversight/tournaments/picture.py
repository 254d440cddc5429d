"""The picture of a tournament: ratings with intervals, and cross-play as a matrix; and the page."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import LIGHT, WIDTH_IN, Theme, plain_axes, save_png, short, title
from oversight.evals.observations import Kind
from oversight.evals.rendering import Illustration, Page, write_page
from oversight.text.numbers import percent
from oversight.tournaments.results import (
    RIGHT,
    WRONG,
    TournamentResults,
    elo_words,
    extent,
    headlines,
    methods,
    tournament_tables,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD_IN, ROW_IN, GAP_IN, FOOT_IN = 1.0, 0.5, 1.35, 0.3
CELL_IN = 0.62
LEFT_IN, RIGHT_IN = 2.0, 1.9
MOST_LETTERS = 22
SHIFTS = {"": -0.2, RIGHT: 0.06, WRONG: 0.3}


def picture(results: TournamentResults, theme: Theme) -> Figure:
    """For each player its rating, over both sides and of each, with intervals; below it the share
    that the right side won of each pair."""
    from matplotlib.figure import Figure

    number = len(results.players)
    wide_cell = min(CELL_IN * 1.7, (WIDTH_IN - LEFT_IN - 0.4) / number)
    tall, matrix_tall = ROW_IN * number, CELL_IN * number
    height = HEAD_IN + tall + GAP_IN + matrix_tall + FOOT_IN
    figure = Figure(figsize=(WIDTH_IN, height), facecolor=theme.paper)
    note = "Elo points beside the mean, 95 % intervals over questions"
    title(figure, theme, "Ratings of debaters", note, height)
    wide = WIDTH_IN - LEFT_IN - RIGHT_IN
    upper = figure.add_axes(
        (LEFT_IN / WIDTH_IN, 1 - (HEAD_IN + tall) / height, wide / WIDTH_IN, tall / height)
    )
    plain_axes(upper, theme, grid="x")
    _draw_ratings(upper, results, theme)
    top = HEAD_IN + tall + GAP_IN
    figure.text(
        *(0.03, 1 - (top - 0.75) / height, "Judgments won by the right side"),
        color=theme.ink,
        fontsize=11,
        weight="bold",
    )
    about = "rows argue for the right answer, columns for a wrong one"
    figure.text(0.03, 1 - (top - 0.55) / height, about, color=theme.muted, fontsize=9)
    lower = figure.add_axes(
        (
            *(LEFT_IN / WIDTH_IN, 1 - (top + matrix_tall) / height),
            *(wide_cell * number / WIDTH_IN, matrix_tall / height),
        )
    )
    _draw_matrix(lower, results, theme)
    return figure


def _draw_ratings(axes: Axes, results: TournamentResults, theme: Theme) -> None:
    tints = {
        "": theme.ink,
        RIGHT: theme.kinds[Kind.DEBATE][0],
        WRONG: theme.kinds[Kind.CONSULTANCY][0],
    }
    for row, player in enumerate(results.players):
        for side, shift in SHIFTS.items():
            found = results.rating(player, side)
            if found is None or found.value is None or found.low is None or found.high is None:
                continue
            bar: dict[str, Any] = {"color": tints[side], "clip_on": False}
            ends, at = [found.low, found.high], [row + shift] * 2
            axes.plot(ends, at, lw=4 if not side else 2.5, alpha=0.35, solid_capstyle="butt", **bar)
            axes.plot([found.value], at[:1], marker="o" if not side else "D", ms=5, **bar)
        beside = elo_words(results.rating(player))
        axes.annotate(
            "no rating" if beside == "–" else beside,
            xy=(1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=theme.ink,
            fontsize=9,
            annotation_clip=False,
        )
    axes.axvline(0.0, color=theme.muted, lw=1)
    axes.set_ylim(len(results.players) - 0.5, -0.5)
    _names(axes, results, theme)
    words = {"": "● both sides", RIGHT: "◆ for the right answer", WRONG: "◆ for a wrong one"}
    for place, side in enumerate(words):
        axes.annotate(
            words[side],
            xy=(0, 1),
            xycoords="axes fraction",
            xytext=(100 * place + 15 * (place == 2), 8),
            textcoords="offset points",
            fontsize=8.5,
            color=tints[side],
            annotation_clip=False,
        )


def _names(axes: Axes, results: TournamentResults, theme: Theme) -> None:
    shown = [short(player, MOST_LETTERS) for player in results.players]
    axes.set_yticks(range(len(shown)), shown, parse_math=False)
    for label in axes.get_yticklabels():
        label.set(color=theme.ink, fontsize=9.5)


def _draw_matrix(axes: Axes, results: TournamentResults, theme: Theme) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    ends = theme.kinds[Kind.CONSULTANCY][0], theme.paper, theme.kinds[Kind.DEBATE][0]
    shades = LinearSegmentedColormap.from_list("won", ends)
    number = len(results.players)
    for row, right in enumerate(results.players):
        for column, wrong in enumerate(results.players):
            cell = results.cell(right, wrong)
            middle = (column, row)
            if cell.won is None:
                axes.annotate("–", middle, ha="center", va="center", color=theme.muted)
                continue
            # Pale enough for the words on it, in light and in dark.
            colour = shades(0.5 + 0.6 * (cell.won - 0.5))
            axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, color=colour))
            axes.annotate(
                f"{percent(cell.won)}\nof {cell.num}",
                middle,
                ha="center",
                va="center",
                color=theme.ink,
                fontsize=9,
            )
    axes.set_xlim(-0.5, number - 0.5)
    axes.set_ylim(number - 0.5, -0.5)
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, colors=theme.muted)
    axes.xaxis.tick_top()
    most = max(6, 60 // number)
    columns = [short(player, most) for player in results.players]
    axes.set_xticks(range(number), columns, parse_math=False)
    for label in axes.get_xticklabels():
        label.set(color=theme.ink, fontsize=9)
    _names(axes, results, theme)


def in_words(results: TournamentResults) -> str:
    """The picture for those who cannot see it."""
    rated = [f"{player} {elo_words(results.rating(player))}" for player in results.players]
    cells = [
        f"{c.right} for the right answer against {c.wrong} wins {percent(c.won)}"
        for c in results.cells
        if c.won is not None
    ]
    return "; ".join((*rated, *cells))


def write_tournament_picture(results: TournamentResults, path: Path, theme: Theme = LIGHT) -> None:
    """Write the picture as a PNG.

    Raises:
        FileError: The file cannot be written.
    """
    save_png(picture(results, theme), path, theme, dpi=160)


def write_tournament_page(results: TournamentResults, path: Path) -> None:
    """Write the tournament as one page.

    Raises:
        FileError: The file cannot be written.
    """
    drawn = Illustration("Ratings and cross-play", in_words(results), partial(picture, results))
    page = Page(
        title="Tournament of debaters",
        extent=extent(results),
        headlines=headlines(results),
        warnings=results.notes,
        pictures=(drawn,),
        tables=tournament_tables(results),
        methods=methods(results),
    )
    write_page(page, path)

"""The page of a run, in the style of the project's report: it needs nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from oversight.evals.findings import count
from oversight.evals.page import Illustration, Page
from oversight.evals.page import write_page as write
from oversight.pixels import words
from oversight.pixels.pictures import Shown, draw_games, draw_results
from oversight.pixels.results import Results
from oversight.pixels.running import Played


def write_page(
    played: Played, results: Results, won: list[Shown], lost: list[Shown], path: Path
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
        extent=words.extent(results),
        headlines=words.headlines(results),
        warnings=(),
        pictures=pictures,
        tables=[words.table(results, wide=True)],
        methods=words.methods(played, results),
    )
    write(page, path)

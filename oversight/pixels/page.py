"""The page of a run, in the style of the project's report: it needs nothing else."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.errors import ConfigError
from oversight.evals.drawing import DARK, LIGHT, Theme
from oversight.pixels import words
from oversight.pixels.pictures import Shown, draw_games, draw_results
from oversight.pixels.results import Results
from oversight.pixels.running import Played

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_page(
    played: Played, results: Results, won: list[Shown], lost: list[Shown], path: Path
) -> None:
    """Write the page to `path`; a page of that name is replaced once the new one is whole.

    Raises:
        ConfigError: The file cannot be written.
    """
    text = _html(played, results, won, lost)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _html(played: Played, results: Results, won: list[Shown], lost: list[Shown]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("oversight.evals").joinpath("report.html").read_text(encoding="utf-8")
    )
    spoken = "; ".join(f"{row.name}, {row.pixels} pixels" for row in results.rows)
    pictures = [_picture("Pixel debate", spoken, lambda theme: draw_results(results, theme))]
    if won or lost:
        words_of_games = "; ".join(
            f"a {game.true}, the liar says {game.lie}" for game in (*won, *lost)
        )
        pictures.append(
            _picture("Games", words_of_games, lambda theme: draw_games(won, lost, theme))
        )
    return template.render(
        extent=words.extent(results),
        headlines=words.headlines(results),
        warnings=(),
        methods=words.methods(played, results),
        pictures=pictures,
        tables=[words.table(results, wide=True)],
    )


def _picture(title: str, spoken: str, draw: Callable[[Theme], Figure]) -> dict[str, Any]:
    light, dark = (_svg(title, draw(theme)) for theme in (LIGHT, DARK))
    return {"title": title, "words": spoken, "light": light, "dark": dark}


def _svg(title: str, figure: Figure) -> str:
    """The picture as a data URI, the same bytes for the same figure."""
    import matplotlib

    buffer = io.BytesIO()
    style: Any = {"svg.fonttype": "path", "svg.hashsalt": f"oversight/pixels/{title}"}
    with matplotlib.rc_context(style):
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

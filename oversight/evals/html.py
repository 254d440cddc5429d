"""The report as one page that needs nothing else: pictures inside, light and dark."""

from __future__ import annotations

import base64
import io
import os
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError
from oversight.evals.drawing import DARK, LIGHT, Theme, quiet_glyphs
from oversight.evals.findings import headlines, main_accuracy, methods, percent, share, warnings
from oversight.evals.pictures import Picture, draw, pictures
from oversight.evals.report import Report
from oversight.evals.tables import extent, tables


def render_html(report: Report, path: Path) -> None:
    """Write the page to `path`; a page of that name is replaced once the new one is whole.

    Raises:
        ConfigError: The file cannot be written.
    """
    page = html(report)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, encoding="utf-8", errors="replace")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"html = {str(path)!r} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def html(report: Report) -> str:
    """The page as text. Everything from outside is escaped, and nothing is loaded."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("oversight.evals").joinpath("report.html").read_text(encoding="utf-8")
    )
    return template.render(
        extent=extent(report),
        headlines=headlines(report),
        warnings=warnings(report),
        methods=methods(report),
        pictures=[_picture(report, each) for each in pictures(report)],
        tables=tables(report),
    )


def _picture(report: Report, picture: Picture) -> dict[str, Any]:
    """A picture in both themes, and what it shows in words for those who cannot see it."""
    return {
        "title": picture.title,
        "light": _svg(report, picture, LIGHT),
        "dark": _svg(report, picture, DARK),
        "words": "; ".join(
            f"{arm.label} {share(main_accuracy(arm.accuracy))}"
            if picture.name == "accuracy"
            else f"{arm.label}, final accuracy {percent(main_accuracy(arm.accuracy).value)}"
            for arm in report.arms
        ),
    }


def _svg(report: Report, picture: Picture, theme: Theme) -> str:
    """The picture as a data URI, the same bytes for the same report."""
    import matplotlib

    buffer = io.BytesIO()
    style: Any = {"svg.fonttype": "path", "svg.hashsalt": f"oversight/{picture.name}"}
    with matplotlib.rc_context(style), quiet_glyphs():
        draw(report, picture, theme).savefig(
            buffer, format="svg", facecolor="none", metadata={"Date": None}
        )
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

"""A page that needs nothing else: sentences, pictures inside it, tables; light and dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.evals.drawing import DARK, LIGHT, Theme, quiet_glyphs
from oversight.evals.findings import headlines, methods, warnings
from oversight.evals.pictures import Picture, draw, pictures, rates_by_arm
from oversight.evals.report import ArmReport, Report
from oversight.evals.tables import extent, tables
from oversight.files import write_text
from oversight.text.numbers import Table, percent, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Illustration:
    """A picture of a page."""

    title: str
    words: str
    """Description of it, for those who cannot see it."""
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True, slots=True)
class Page:
    """Contents of a page, from the top down."""

    title: str
    extent: str
    """Size of what it is about, in one line."""
    headlines: Sequence[str]
    warnings: Sequence[str]
    pictures: Sequence[Illustration]
    tables: Sequence[Table]
    methods: Sequence[str]


def write_page(page: Page, path: Path) -> None:
    """Write the page to `path`; a page of that name is replaced once the new one is whole.

    Raises:
        FileError: The file cannot be written.
    """
    write_text(path, render_page(page), "html", errors="replace")


def render_page(page: Page) -> str:
    """The page as text. Everything from outside is escaped, and nothing is loaded."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("oversight.evals").joinpath("page.html").read_text(encoding="utf-8")
    )
    return template.render(page=page, pictures=drawn(page))


def drawn(page: Page) -> list[dict[str, str]]:
    """The pictures of a page as data URIs, in both themes, with title and words."""
    return [
        {
            "title": each.title,
            "words": each.words,
            "light": _svg(each, LIGHT),
            "dark": _svg(each, DARK),
        }
        for each in page.pictures
    ]


def _svg(picture: Illustration, theme: Theme) -> str:
    """The picture as a data URI, the same bytes for the same figure."""
    import matplotlib

    buffer = io.BytesIO()
    style: Any = {"svg.fonttype": "path", "svg.hashsalt": f"oversight/{picture.title}"}
    with matplotlib.rc_context(style), quiet_glyphs():
        picture.draw(theme).savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def render_html(report: Report, path: Path) -> None:
    """Write the page to `path`; a page of that name is replaced once the new one is whole.

    Raises:
        ConfigError: The file cannot be written.
    """
    write_page(report_page(report), path)


def html(report: Report) -> str:
    """The page as text."""
    return render_page(report_page(report))


def report_page(report: Report) -> Page:
    """What the page of a report holds."""
    return Page(
        title="Oversight report",
        extent=extent(report),
        headlines=headlines(report),
        warnings=warnings(report),
        pictures=[
            Illustration(each.title, _words(report, each), partial(draw, report, each))
            for each in pictures(report)
        ],
        tables=tables(report),
        methods=methods(report),
    )


def _words(report: Report, picture: Picture) -> str:
    if picture.name == "harm":
        found = rates_by_arm(report).items()
        return "; ".join(
            f"{arm}, harm {share(r.harmful)}, right {share(r.right)}" for arm, r in found
        )
    return "; ".join(_described(arm, picture) for arm in report.arms)


def _described(arm: ArmReport, picture: Picture) -> str:
    found = arm.accuracy.accuracy
    if found is None:
        return f"{arm.label}, nothing decided"
    if picture.name == "accuracy":
        return f"{arm.label} {share(found)}"
    return f"{arm.label}, final accuracy {percent(found.value)}"

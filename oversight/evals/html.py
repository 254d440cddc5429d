"""The report as one page that needs nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from oversight.evals.findings import headlines, methods, share, warnings
from oversight.evals.page import Illustration, Page, render_page, write_page
from oversight.evals.pictures import Picture, draw, pictures
from oversight.evals.report import ArmReport, Report
from oversight.evals.tables import extent, tables
from oversight.text.shares import percent


def render_html(report: Report, path: Path) -> None:
    """Write the page to `path`; a page of that name is replaced once the new one is whole.

    Raises:
        ConfigError: The file cannot be written.
    """
    write_page(_page(report), path)


def html(report: Report) -> str:
    """The page as text."""
    return render_page(_page(report))


def _page(report: Report) -> Page:
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
    return "; ".join(_described(arm, picture) for arm in report.arms)


def _described(arm: ArmReport, picture: Picture) -> str:
    found = arm.accuracy.accuracy
    if found is None:
        return f"{arm.label}, nothing decided"
    if picture.name == "accuracy":
        return f"{arm.label} {share(found)}"
    return f"{arm.label}, final accuracy {percent(found.value)}"

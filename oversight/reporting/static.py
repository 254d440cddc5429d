"""A report with its transcripts as one folder of files: no server, no network, relative links.

index.html              the report; each number leads to a list
lists/NUMBER.html       debates: all of them, and those behind each number, in pages
t/ID.html, c/ID.html    a transcript, and the calls of models that it was made of
assets/                 one style sheet and one script
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError
from oversight.evals.rendering import drawn, report_page
from oversight.evals.report import Report
from oversight.files import write_text
from oversight.reporting import rendering
from oversight.reporting.behind import COMPLETE, Behind, Filters
from oversight.reporting.calls import call_of, probability, samples_of
from oversight.reporting.charts import belief_plot
from oversight.reporting.entries import FACETS, DebateRow, ListQuery
from oversight.reporting.index import Index, Progress
from oversight.reporting.listing import Listing
from oversight.reporting.rendering import render
from oversight.reporting.transcripts import page_of
from oversight.store import Store

ROWS_A_PAGE = 200
ALL: Filters = ()


class FolderLinks:
    """Addresses from a page of the folder to others, relative to its place.

    Lists are numbered as they are asked for, and written afterwards.
    """

    is_static = True

    def __init__(self, lists: dict[Filters, int], up: str) -> None:
        self._lists = lists
        self._up = up

    def asset(self, name: str) -> str:
        """Of a file of style or script."""
        return f"{self._up}assets/{name}"

    def transcript(self, debate_id: str, anchor: str = "") -> str:
        """Of a transcript."""
        return f"{self._up}t/{debate_id}.html" + (f"#{anchor}" if anchor else "")

    def call(self, debate_id: str, key: str) -> str:
        """Of one call, on the page of all calls of its transcript."""
        return f"{self._up}c/{debate_id}.html#call-{key}"

    def listing(self, params: Sequence[tuple[str, str]] = ()) -> str:
        """Of a list of debates."""
        return f"{self._up}lists/{_file(self._lists, tuple(params))}"

    def compare(self, left: str, right: str = "") -> str:
        """Not in a folder: there is nothing to ask."""
        return ""

    def runs(self) -> str:
        """Not in a folder."""
        return ""

    def run(self, name: str) -> str:
        """Not in a folder."""
        return ""


def _file(lists: dict[Filters, int], filters: Filters, page: int = 0) -> str:
    number = lists.setdefault(filters, len(lists))
    return f"{number}-{page + 1}.html" if page else f"{number}.html"


@dataclass(frozen=True, slots=True)
class WrittenPages:
    """What was written into a folder."""

    path: Path
    """The report, to be opened in a browser."""
    num_transcripts: int
    num_lists: int


def write_folder(
    report: Report, stores: Sequence[Store], folder: Path, only: Filters = ()
) -> WrittenPages:
    """Write a report with the transcripts behind its numbers.

    Args:
        report: The report on debates of these stores.
        stores: Where the debates stand.
        folder: Made if it is not there; files of the same names are replaced, no other is touched.
        only: Filters of the report itself, such as one protocol.

    Raises:
        ConfigError: Something else than such a folder is there.
        FileError: A file cannot be written.
    """
    _check(folder)
    for name in rendering.ASSETS:
        text = rendering.asset(name).decode("utf-8")
        write_text(folder / "assets" / name, text, "html")
    with tempfile.TemporaryDirectory() as temporary:
        indexes = []
        for number, store in enumerate(stores):
            index = Index(store, Path(temporary, f"{number}.db"))
            index.update()
            indexes.append(index)
        try:
            return _Folder(report, indexes, folder, only).write()
        finally:
            for index in indexes:
                index.close()


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--html {folder} is a file; name a folder, or a page as NAME.html")
    try:
        there = list(folder.iterdir()) if folder.is_dir() else []
        if there and not (folder / "assets" / "view.css").is_file():
            raise ConfigError(
                f"--html {folder}: the folder holds something else ({there[0].name}); name another"
            )
        for name in ("assets", "lists", "t", "c"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--html {folder}: {error.strerror}; name another folder") from None


class _Folder:
    """The pages of one folder."""

    def __init__(
        self, report: Report, indexes: Sequence[Index], folder: Path, only: Filters
    ) -> None:
        self._report = report
        self._indexes = indexes
        self._folder = folder
        self._only = only
        self._lists: dict[Filters, int] = {ALL: 0}

    def write(self) -> WrittenPages:
        """Write all of it: transcripts, the report, and the lists that these lead to."""
        num = sum(1 for _ in self._transcripts())
        self._write_report()
        written = 0
        while written < len(self._lists):  # a list may lead to others
            filters = list(self._lists)[written]
            self._write_list(filters)
            written += 1
        return WrittenPages(self._folder / "index.html", num, written)

    def _render(self, file: str, up: str, template: str, **values: Any) -> None:
        text = render(
            template,
            FolderLinks(self._lists, up),
            has_runs=False,
            report_link=f"{up}index.html",
            **values,
        )
        write_text(self._folder / file, text, "html")

    def _write_report(self) -> None:
        page = report_page(self._report)
        behind = Behind(self._report, _known(self._indexes), self._only)
        self._render(
            "index.html",
            "",
            "report.html",
            place="report",
            page=page,
            extent=behind.sentence(page.extent),
            headlines=[behind.sentence(each) for each in page.headlines],
            warnings=[behind.sentence(each) for each in page.warnings],
            pictures=drawn(page),
            tables=[(table, behind.table(table)) for table in page.tables],
            complete=(*COMPLETE, *self._only),
        )

    def _transcripts(self) -> Iterator[str]:
        """Write each transcript with its calls; gives its id."""
        for index in self._indexes:
            for id_ in index.ids(ListQuery(self._only)):
                transcript = index.store.transcript(id_)
                page = page_of(transcript, index.store.acts(id_))
                self._render(
                    f"t/{id_}.html",
                    "../",
                    "transcript.html",
                    place="",
                    page=page,
                    drawn=None if page.chart is None else belief_plot(page.chart),
                )
                calls = [call_of(index.store, transcript, *each) for each in samples_of(transcript)]
                if calls:
                    self._render(
                        f"c/{id_}.html",
                        "../",
                        "calls.html",
                        place="",
                        debate_id=id_,
                        question=transcript.question.text,
                        calls=calls,
                        probability=probability,
                    )
                yield id_

    def _write_list(self, filters: Filters) -> None:
        rows = self._rows(filters)
        pages = [rows[n : n + ROWS_A_PAGE] for n in range(0, max(1, len(rows)), ROWS_A_PAGE)]
        for number, some in enumerate(pages):
            older = number + 1 < len(pages)
            self._render(
                f"lists/{_file(self._lists, filters, number)}",
                "../",
                "list.html",
                place="list",
                heading="Debates",
                query=ListQuery(filters),
                listing=Listing(tuple(some), len(rows), None, None),
                progress=Progress(whole=True),
                told_filters=[(FACETS.get(kind, kind), value) for kind, value in filters],
                older=_file(self._lists, filters, number + 1) if older else "",
                newer=_file(self._lists, filters, number - 1) if number else "",
                nothing="No debate is behind this number.",
            )

    def _rows(self, filters: Filters) -> list[DebateRow]:
        """Rows of a list: of the debates that the report is on."""
        query = ListQuery(tuple(dict.fromkeys((*filters, *self._only))))
        return [row for index in self._indexes for row in _all_rows(index, query)]


def _all_rows(index: Index, query: ListQuery) -> Iterator[DebateRow]:
    before: int | None = None
    while True:
        page = index.listing(replace(query, before=before), limit=500)
        yield from page.rows
        if (before := page.older) is None:
            return


def _known(indexes: Iterable[Index]) -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for index in indexes:
        for kind, values in index.known().items():
            found[kind] = found.get(kind, frozenset()) | values
    return found

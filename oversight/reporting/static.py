"""A report with its transcripts as one folder of files: no server, no network, relative links.

index.html              the report; each number leads to a list
lists/NUMBER.html       debates: all of them, and those behind each number, in pages
t/ID.html, c/ID.html    a transcript, and the calls of models that it was made of

From a cell of the report's tables one gets to a list's filters. Filters read what was judged by the
same functions as the report (`entries`), so that a list holds the debates that its number counts,
or, of a difference or a mean, those that it is taken over.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from oversight.errors import ConfigError
from oversight.evals.observations import UNKNOWN
from oversight.evals.properties import Breakdown, By
from oversight.evals.rendering import Page, drawn, report_page
from oversight.evals.report import ArmReport, Report
from oversight.files import write_text
from oversight.reporting import rendering
from oversight.reporting.entries import FACETS, DebateRow, Listing, ListQuery
from oversight.reporting.index import Index, Progress
from oversight.reporting.pages import call_of, probability, samples_of
from oversight.reporting.rendering import belief_plot, render
from oversight.reporting.transcripts import page_of
from oversight.store import Store
from oversight.text.numbers import Table

Filters = tuple[tuple[str, str], ...]

COMPLETE: Filters = (("status", "complete"),)
"""A report is on complete debates; those that failed it counts apart."""
BY_COLUMN: Mapping[tuple[str, str], Filters] = {
    ("Judge accuracy", "accuracy"): (("verdict", "decided"),),
    ("Judge accuracy", "tie"): (("verdict", "tie"),),
    ("Judge accuracy", "abst."): (("verdict", "abstain"),),
    ("Judge accuracy", "INVALID"): (("verdict", "invalid"),),
    ("Answers that could not be read", "answers"): (("verdict", "invalid"),),
    ("Unread turns", "unread"): (("unseen", "yes"),),
    ("Order", "flips"): (("flips", "yes"),),
    ("Consultancy by side", "honest"): (("side", "honest"), ("verdict", "decided")),
    ("Consultancy by side", "dishonest"): (("side", "dishonest"), ("verdict", "decided")),
    ("Consultancy by side", "honest, n"): (("side", "honest"),),
    ("Consultancy by side", "dishonest, n"): (("side", "dishonest"),),
}
"""By a table's title and a column, what is asked beside the row's own filters."""

BY_CELL = ("dataset", "family", "protocol", "policy", "principle", "rater", "study", "task")
"""Facets whose values stand in cells of their own."""
PROPERTIES: Mapping[By, str] = {
    **{by: by.value for by in (By.DIFFICULTY, By.TAG, By.PROTOCOL, By.JUDGE, By.STUDY, By.RUN)},
    By.MODEL: "speakers",
    By.DATASET: "dataset",
}
"""Facets by the property that a report takes debates apart by."""
CHOOSING = ("run", "tag", "store")
"""Kinds of filters that say which debates a report, or a part of it, is on."""
QUOTE_COLUMNS = {"verified", "near", "unverified", "too short"}
_NUMBER = re.compile(r"[−+-]?\d[\d.,]*(?:\s?%)?(?:\s\[[^\]]*\])?")


@dataclass(frozen=True, slots=True)
class Cell:
    """A stretch of a report's text, with the list behind it if it is a number."""

    text: str
    filters: Filters | None = None


class Behind:
    """Finds what is behind the numbers of one report.

    Args:
        report: The report.
        known: The values of each facet that its debates have.
        only: Filters that the report itself was made under.
        groups: Where runs or stores are measured apart, the filters that choose each of them.
    """

    def __init__(
        self,
        report: Report,
        known: Mapping[str, frozenset[str]],
        only: Filters = (),
        groups: Mapping[str, Filters] | None = None,
    ) -> None:
        self._report = report
        self._base = (*COMPLETE, *(each for each in only if each[0] not in CHOOSING))
        self._whole = tuple(each for each in only if each[0] in CHOOSING)
        self._groups = groups or {}
        self._known = known
        self._arms = {arm.label: arm for arm in report.arms}
        self._broken_down: dict[str, list[Breakdown]] = {}
        for part in report.breakdowns:
            for title in (f"By {part.by}", f"Debates by {part.by}"):
                self._broken_down.setdefault(title, []).append(part)

    def table(self, table: Table) -> list[list[Cell]]:
        """The rows of a table, each cell that holds a number with what is behind it."""
        shown = []
        for number, row in enumerate(table.rows):
            own = self._row(table, number, row)
            shown.append(
                [
                    Cell(text, self._cell(table, name, number, own, row))
                    if any(char.isdigit() for char in text)
                    and not (place == 0 and text in self._arms)
                    and self._is_listed(table.title, number)
                    else Cell(text)
                    for place, (name, text) in enumerate(zip(table.columns, row, strict=True))
                ]
            )
        return shown

    def _is_listed(self, title: str, number: int) -> bool:
        """False of a row by a property that no list of debates is chosen by."""
        return title not in self._broken_down or self._broken_down[title][number].by in PROPERTIES

    def sentence(self, text: str) -> list[Cell]:
        """A sentence in pieces, its numbers with the debates of the arms that it names."""
        return list(pieces(text, self._named_in(text)))

    def _cell(
        self, table: Table, column: str, number: int, own: Filters, row: Sequence[str]
    ) -> Filters:
        if table.title == "Debates that failed":
            cause = self._report.failures[number].cause
            return (("status", "failed"), ("cause", cause), *self._whole)
        if table.title == "How answers ended":
            reason = column.replace(" ", "_") if column != "made again" else "unanswered"
            ended = ("ended", f"{row[0]} {reason}")
            is_known = ended[1] in self._known.get("ended", ())
            return (ended if is_known else ("called", row[0]), *self._whole)
        if table.title == "Quotes" and column in QUOTE_COLUMNS:
            status = column.replace(" ", "_")
            return (*own, ("quote", f"{row[1]} {status}"))
        if table.title == "Defects of form" and (defect := column.replace(" ", "_")) in (
            self._known.get("defect", ())
        ):
            return (*own, ("defect", defect))
        return (*own, *BY_COLUMN.get((table.title, column), ()))

    def _row(self, table: Table, number: int, row: Sequence[str]) -> Filters:
        found: dict[tuple[str, str], None] = dict.fromkeys(self._base)
        named = [arm for cell in row for label, arm in self._arms.items() if cell == label]
        if table.title == "Differences":
            each = self._report.comparisons[number]
            named = [
                self._arms[label] for label in (each.first, each.second) if label in self._arms
            ]
        groups = [arm.arm.group for arm in named]
        for arm in named:
            found |= dict.fromkeys(_arm_filters(arm))
        if table.title == "Differences between runs":
            gap = self._report.run_differences[number]
            groups = [gap.first, gap.second]
            found["protocol", gap.protocol] = None
            if gap.judge:
                found["judge", gap.judge] = None
        if table.title in self._broken_down:
            part = self._broken_down[table.title][number]
            if part.value != UNKNOWN and part.by in PROPERTIES:
                found[PROPERTIES[By(part.by)], part.value] = None
        if table.title == "Tokens and time":
            used = [
                each for each in self._report.usage if each.prompt_tokens + each.completion_tokens
            ]
            groups = [used[number].group]
            found["called", used[number].model] = None
        if table.title == "Agreement of judges":
            judged = self._report.agreements[number]
            found |= dict.fromkeys(("judge", judge) for judge in judged.judges)
        if table.title == "Agreement of raters":
            rated = self._report.rater_agreements[number]
            found |= dict.fromkeys(("rater", rater) for rater in rated.raters)
        if table.title == "Assistance":
            helped = self._report.assistance[number]
            if helped.kind in self._known.get("assistance", ()):
                found["assistance", helped.kind] = None
        for cell in row if not named else row[:-1]:
            for kind in BY_CELL:
                if cell in self._known.get(kind, ()):
                    found[kind, cell] = None
        return self._within(found, groups)

    def _within(self, found: Collection[tuple[str, str]], groups: Iterable[str]) -> Filters:
        """Filters with the runs or stores that they are asked of: all, where none is named."""
        chosen = dict.fromkeys(each for name in groups for each in self._groups.get(name, ()))
        held = {kind for kind, _ in found}
        return (*found, *(each for each in chosen or self._whole if each[0] not in held))

    def _named_in(self, text: str) -> Filters:
        """Filters of the arms whose labels stand in a sentence; all debates if none does."""
        named, rest = [], text
        for label in sorted(self._arms, key=len, reverse=True):
            if label and re.search(rf"(?<![\w]){re.escape(label)}(?![\w])", rest):
                named.append(self._arms[label])
                rest = rest.replace(label, " ")
        found: dict[tuple[str, str], None] = dict.fromkeys(self._base)
        for arm in named:
            found |= dict.fromkeys(_arm_filters(arm))
        return self._within(found, (arm.arm.group for arm in named))


def _arm_filters(arm: ArmReport) -> Iterator[tuple[str, str]]:
    yield "protocol", arm.arm.protocol
    if arm.arm.speakers:
        yield "speakers", arm.arm.speakers
    yield "judge", arm.arm.judge


def pieces(text: str, filters: Filters) -> Iterator[Cell]:
    """A text, its numbers with what is behind them."""
    done = 0
    for match in _NUMBER.finditer(text):
        if match.start() and text[match.start() - 1].isalpha():
            continue  # a part of a name, such as v2
        if before := text[done : match.start()]:
            yield Cell(before)
        yield Cell(match[0], filters)
        done = match.end()
    if rest := text[done:]:
        yield Cell(rest)


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

    def run(self, name: str = "") -> str:
        """Not in a folder."""
        return ""

    def experiment(self, name: str = "") -> str:
        """Not in a folder."""
        return ""

    def stored_runs(self, left: str = "", right: str = "") -> str:
        """Not in a folder."""
        return ""


def _file(lists: dict[Filters, int], filters: Filters, page: int = 0) -> str:
    number = lists.setdefault(filters, len(lists))
    return f"{number}-{page + 1}.html" if page else f"{number}.html"


@dataclass(frozen=True, slots=True)
class WrittenPages:
    """Account of the pages that were written into a folder."""

    path: Path
    """The report, to be opened in a browser."""
    num_transcripts: int
    num_lists: int


class Leading(Protocol):
    """Finds what is behind the numbers of a page."""

    def table(self, table: Table) -> list[list[Cell]]:
        """The rows of a table, in cells."""

    def sentence(self, text: str) -> list[Cell]:
        """A sentence in pieces."""


def write_folder(
    report: Report,
    stores: Sequence[Store] | Mapping[str, Store],
    folder: Path,
    only: Filters = (),
    groups: Mapping[str, Filters] | None = None,
) -> WrittenPages:
    """Write a report with the transcripts behind its numbers.

    Args:
        report: The report on debates of these stores.
        stores: Where the debates stand; by name where `groups` tell them apart.
        folder: Made if it is not there; files of the same names are replaced, no other is touched.
        only: Filters of the report itself, such as one protocol or the runs that it is on.
        groups: Filters of the runs or stores that are measured apart, by the report's names: of
            kinds `run` and `store`.

    Raises:
        ConfigError: Something else than such a folder is there.
        FileError: A file cannot be written.
    """
    behind = partial(Behind, report, only=only, groups=groups)
    return write_page_folder(report_page(report), behind, stores, folder, only)


def write_page_folder(
    page: Page,
    behind: Callable[[Mapping[str, frozenset[str]]], Leading],
    stores: Sequence[Store] | Mapping[str, Store],
    folder: Path,
    only: Filters = (),
) -> WrittenPages:
    """Write a page, and what `behind` finds by the debates' values; see `write_folder`."""
    _check(folder)
    for name in rendering.ASSETS:
        write_text(folder / "assets" / name, rendering.asset(name).decode("utf-8"), "html")
    named = stores if isinstance(stores, Mapping) else {str(n): s for n, s in enumerate(stores)}
    with tempfile.TemporaryDirectory() as temporary:
        indexes = {}
        try:
            for number, (name, store) in enumerate(named.items()):
                indexes[name] = Index(store, Path(temporary, f"{number}.db"))
                indexes[name].update()
            return _Folder(page, behind(_known(indexes.values())), indexes, folder, only).write()
        finally:
            for index in indexes.values():
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
        self,
        page: Page,
        behind: Leading,
        indexes: Mapping[str, Index],
        folder: Path,
        only: Filters,
    ) -> None:
        self._page, self._behind, self._only = page, behind, only
        self._indexes, self._folder = indexes, folder
        self._lists: dict[Filters, int] = {ALL: 0}

    def write(self) -> WrittenPages:
        """Write all of it: transcripts, the report, and the lists that these lead to."""
        num, written = sum(1 for _ in self._transcripts()), 0
        self._write_report()
        while written < len(self._lists):  # a list may lead to others
            filters = list(self._lists)[written]
            self._write_list(filters)
            written += 1
        return WrittenPages(self._folder / "index.html", num, written)

    def _render(self, file: str, up: str, template: str, **values: Any) -> None:
        text = render(
            template,
            FolderLinks(self._lists, up),
            sections=(),
            report_link=f"{up}index.html",
            **values,
        )
        write_text(self._folder / file, text, "html")

    def _write_report(self) -> None:
        page, behind = self._page, self._behind
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
        for index in self._indexes.values():
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
                    store_address=index.store.url,
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
                older=_file(self._lists, filters, number + 1) if number + 1 < len(pages) else "",
                newer=_file(self._lists, filters, number - 1) if number else "",
                nothing="No debate is behind this number.",
            )

    def _rows(self, filters: Filters) -> list[DebateRow]:
        """Rows of a list: of the debates that the report is on."""
        kinds = {kind for kind, _ in filters}
        only = (each for each in self._only if each[0] not in kinds)
        stores = [value for kind, value in filters if kind == "store"]
        query = ListQuery(tuple(e for e in dict.fromkeys((*filters, *only)) if e[0] != "store"))
        return [
            row
            for name, index in self._indexes.items()
            if not stores or name in stores
            for row in _all_rows(index, query)
        ]


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

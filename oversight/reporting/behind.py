"""The transcripts behind each number of a report: from a cell of its tables to a list's filters.

Filters read what was judged by the same functions as the report (`entries`), so that a list holds
the debates that its number counts, or, of a difference or a mean, those that it is taken over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from oversight.evals.report import ArmReport, Report
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
    """

    def __init__(
        self, report: Report, known: Mapping[str, frozenset[str]], only: Filters = ()
    ) -> None:
        self._report = report
        self._base = (*COMPLETE, *only)
        self._known = known
        self._arms = {arm.label: arm for arm in report.arms}

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
                    else Cell(text)
                    for place, (name, text) in enumerate(zip(table.columns, row, strict=True))
                ]
            )
        return shown

    def sentence(self, text: str) -> list[Cell]:
        """A sentence in pieces, its numbers with the debates of the arms that it names."""
        return list(_pieces(text, self._named_in(text)))

    def _cell(
        self, table: Table, column: str, number: int, own: Filters, row: Sequence[str]
    ) -> Filters:
        if table.title == "Debates that failed":
            return (("status", "failed"), ("cause", self._report.failures[number].cause))
        if table.title == "How answers ended":
            reason = column.replace(" ", "_") if column != "made again" else "unanswered"
            ended = ("ended", f"{row[0]} {reason}")
            return (ended,) if ended[1] in self._known.get("ended", ()) else (("model", row[0]),)
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
        for arm in named:
            found |= dict.fromkeys(_arm_filters(arm))
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
        return tuple(found)

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
        return tuple(found)


def _arm_filters(arm: ArmReport) -> Iterator[tuple[str, str]]:
    yield "protocol", arm.arm.protocol
    if arm.arm.speakers:
        yield "speakers", arm.arm.speakers
    yield "judge", arm.arm.judge


def _pieces(text: str, filters: Filters) -> Iterator[Cell]:
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

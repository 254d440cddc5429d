"""Comparison of two passages by time, where both carry comparable time marks."""

from __future__ import annotations

import re
from functools import lru_cache

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_ORDINALS = "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
_VALUE = {
    word: number
    for words in (_NUMBERS, _ORDINALS)
    for number, word in enumerate(words.split("|"), start=1)
}
_UNITS = ("year", "month", "week", "day", "night", "hour", "round", "step", "time")

UNITS = ("date", *_UNITS, "clock")
"""From coarse to fine: a finer mark only decides where the coarser ones agree."""

_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_ISO_DATE = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_DAY_MONTH_YEAR = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+(\d{{4}})\b", re.I
)
_MONTH_DAY_YEAR = re.compile(rf"\b{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})\b", re.I)
_YEAR = re.compile(r"\b(1[0-9]{3}|20[0-9]{2})\b(?![:.,]\d)")
_CLOCK = re.compile(r"\b([01]?\d|2[0-4]):([0-5]\d)\b(?:\s*([ap])\.?m\b)?", re.I)
_COUNTED = re.compile(
    rf"\b({'|'.join(_UNITS)})\s+(\d{{1,6}}|{_NUMBERS})\b"
    rf"|\b(\d{{1,6}}(?=st|nd|rd|th)|{_ORDINALS})(?:st|nd|rd|th)?\s+({'|'.join(_UNITS)})\b",
    re.I,
)


@lru_cache(maxsize=8192)
def time_marks(text: str) -> dict[str, int]:
    """The latest mark of each unit in `text`: dates, years, "day 3", "third week", "09:40"."""
    marks: dict[str, int] = {}

    def note(unit: str, value: int) -> None:
        marks[unit] = max(value, marks.get(unit, value))

    for year, month, day in _dates(text):
        note("date", year * 10_000 + month * 100 + day)
    if "date" not in marks:
        for match in _YEAR.finditer(text):
            note("year", int(match[1]))
    for match in _COUNTED.finditer(text):
        unit, number = (match[1], match[2]) if match[1] else (match[4], match[3])
        note(unit.lower(), int(number) if number.isdecimal() else _VALUE[number.lower()])
    for match in _CLOCK.finditer(text):
        note("clock", _minutes(int(match[1]), int(match[2]), (match[3] or "").lower()))
    return marks


def _dates(text: str) -> list[tuple[int, int, int]]:
    found = [(int(y), int(m), int(d)) for y, m, d in _ISO_DATE.findall(text)]
    found += [(int(y), _month(m), int(d)) for d, m, y in _DAY_MONTH_YEAR.findall(text)]
    return found + [(int(y), _month(m), int(d)) for m, d, y in _MONTH_DAY_YEAR.findall(text)]


def _month(name: str) -> int:
    return _MONTHS.index(name.lower()) + 1


def _minutes(hour: int, minute: int, half: str) -> int:
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour * 60 + minute


def later(first: str, second: str) -> int:
    """1 if `first` speaks of a later time than `second`, -1 if of an earlier one, else 0.

    0 also where one has a mark of a coarser unit that the other lacks: 09:40 on
    day 3 and 10:00 on some day cannot be compared.
    """
    ours, theirs = time_marks(first), time_marks(second)
    for unit in UNITS:
        if (unit in ours) != (unit in theirs):
            return 0
        if unit in ours and ours[unit] != theirs[unit]:
            return 1 if ours[unit] > theirs[unit] else -1
    return 0

from __future__ import annotations

import pytest

from oversight.agents._evidence import later, time_marks


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("At 09:40 Ada left.", {"clock": 580}),
        ("Between 9:40 and 10:05", {"clock": 605}),
        ("At 12:10 am", {"clock": 10}),
        ("At 1:30 p.m. she left", {"clock": 810}),
        ("It was day 3 when", {"day": 3}),
        ("on the third day", {"day": 3}),
        ("in the 21st week", {"week": 21}),
        ("Day three, at 08:00", {"day": 3, "clock": 480}),
        ("on 2024-03-09", {"date": 20240309}),
        ("on 9 March 2024", {"date": 20240309}),
        ("on March 9th, 2024", {"date": 20240309}),
        ("in 1987", {"year": 1987}),
        ("week 8095, $845 for it", {"week": 8095}),
        ("no time at all", {}),
    ],
)
def test_time_marks_are_read(text: str, marks: dict[str, int]) -> None:
    assert time_marks(text) == marks


@pytest.mark.parametrize(
    ("first", "second", "order"),
    [
        ("at 10:30", "at 09:40", 1),
        ("at 09:40", "at 10:30", -1),
        ("at 09:40", "at 09:40", 0),
        ("day 2 at 09:00", "day 1 at 23:00", 1),
        ("day 2 at 09:00", "at 23:00", 0),
        ("day 2", "week 1", 0),
        ("in 1990", "on 9 March 1987", 0),
        ("nothing", "at 09:00", 0),
        ("nothing", "nothing", 0),
    ],
)
def test_later_compares_only_what_can_be_compared(first: str, second: str, order: int) -> None:
    assert later(first, second) == order
    assert later(second, first) == -order

"""Seconds count for the panel that was looked at, never twice, and not over a coffee break."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oversight.judging.work import Attention


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_between_two_signs_counts_for_the_panel_of_the_earlier_one() -> None:
    clock = Clock()
    attention = Attention(30.0, clock)
    attention.touch("transcript")
    clock.now += 5
    attention.touch("rationale")
    clock.now += 7
    attention.touch("transcript")
    clock.now += 2
    assert attention.take() == {"transcript": 7.0, "rationale": 7.0}


def test_no_more_than_the_limit_counts_until_the_next_sign() -> None:
    clock = Clock()
    attention = Attention(30.0, clock)
    attention.touch("transcript")
    clock.now += 20
    assert attention.take() == {"transcript": 20.0}
    clock.now += 3600
    assert attention.take() == {"transcript": 10.0}
    clock.now += 3600
    assert attention.take() == {}
    attention.touch("transcript")
    clock.now += 1
    assert attention.take() == {"transcript": 1.0}


def test_nothing_counts_before_the_first_sign_nor_after_a_stop() -> None:
    clock = Clock()
    attention = Attention(30.0, clock)
    clock.now += 9
    assert attention.take() == {}
    attention.touch("quotes")
    clock.now += 4
    assert attention.stop() == {"quotes": 4.0}
    clock.now += 9
    assert attention.stop() == {}
    attention.touch("quotes")
    clock.now += 1
    assert attention.take() == {"quotes": 1.0}


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    clock = Clock()
    attention = Attention(30.0, clock)
    attention.touch("transcript")
    clock.now -= 50
    attention.touch("transcript")
    clock.now += 3
    assert attention.take() == {"transcript": 3.0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["touch a", "touch b", "take", "stop"]),
            st.integers(0, 100).map(float),
        ),
        max_size=40,
    )
)
def test_whatever_is_done_each_second_counts_once_at_most(acts: list[tuple[str, float]]) -> None:
    clock = Clock()
    attention = Attention(30.0, clock)
    taken: list[dict[str, float]] = []
    panel: str | None = None
    since_sign = 0.0
    expected = {"a": 0.0, "b": 0.0}
    for act, passed in acts:
        clock.now += passed
        if panel is not None:
            counted = min(since_sign + passed, 30.0) - min(since_sign, 30.0)
            expected[panel] += counted
            since_sign += passed
        if act.startswith("touch"):
            panel, since_sign = act[-1], 0.0
            attention.touch(panel)
        elif act == "take":
            taken.append(attention.take())
        else:
            taken.append(attention.stop())
            panel = None
    taken.append(attention.take())
    for name, seconds in expected.items():
        assert math.isclose(_total(taken, name), seconds, abs_tol=1e-6)


def _total(taken: list[dict[str, Any]], panel: str) -> float:
    return sum(each.get(panel, 0.0) for each in taken)

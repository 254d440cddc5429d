"""Draws depend on the seed and the names alone, and come out about even."""

from __future__ import annotations

from collections import Counter
from typing import Any

from oversight.judging.tasks.debate import draw_arm, draw_swapped, is_assisted, orders_for

ITEMS = [f"debate {number}" for number in range(2000)]
ASSISTANTS = {
    "critic": {"agent": "assistant_critic", "engine": "local"},
    "full": {"agent": "assistant", "engine": "local"},
}
ENGINES = {"local": {"engine": "scripted"}}


def test_sides_are_drawn_alike_each_time_and_about_as_often_either_way(workshop: Any) -> None:
    settings = workshop.settings(seed=3)
    drawn = [draw_swapped(settings, item) for item in ITEMS]
    assert drawn == [draw_swapped(workshop.settings(seed=3), item) for item in ITEMS]
    assert 900 < sum(drawn) < 1100
    for other in (workshop.settings(seed=4), workshop.settings("bo", seed=3)):
        same = sum(draw_swapped(other, item) == d for item, d in zip(ITEMS, drawn, strict=True))
        assert 900 < same < 1100


def test_a_study_can_keep_the_debates_own_order(workshop: Any) -> None:
    settings = workshop.settings(shuffle_sides=False)
    assert not any(draw_swapped(settings, item) for item in ITEMS)


def test_only_whose_words_stand_first_is_exchanged(workshop: Any) -> None:
    debate = workshop.plan("debate")
    assert orders_for(debate, swapped=False) == debate.orders
    swapped = orders_for(debate, swapped=True)
    assert swapped.shown == tuple(reversed(debate.orders.shown))
    assert swapped.options == debate.orders.options
    assert swapped.defends == debate.orders.defends


def test_arms_are_drawn_for_the_item_in_their_proportions(workshop: Any) -> None:
    study = {
        "assistance": ASSISTANTS,
        "engines": ENGINES,
        "assist": {"draw": ["none", "none", "critic", "full"]},
    }
    settings = workshop.settings(**study)
    counts = Counter(draw_arm(settings, item) for item in ITEMS)
    assert 900 < counts["none"] < 1100
    assert all(420 < counts[kind] < 580 for kind in ("critic", "full"))
    bo = workshop.settings("bo", **study)
    assert [draw_arm(bo, item) for item in ITEMS] == [draw_arm(settings, item) for item in ITEMS]
    other = workshop.settings(**study, name="another study")
    assert [draw_arm(other, item) for item in ITEMS] != [draw_arm(bo, item) for item in ITEMS]


def test_whether_sides_are_swapped_says_nothing_about_the_arm(workshop: Any) -> None:
    settings = workshop.settings(
        assistance=ASSISTANTS, engines=ENGINES, assist={"draw": ["none", "critic"]}
    )
    both = Counter((draw_swapped(settings, i), draw_arm(settings, i)) for i in ITEMS)
    assert all(400 < count < 600 for count in both.values())
    assert len(both) == 4


def test_without_a_draw_the_first_assistant_comes_with_every_item(workshop: Any) -> None:
    settings = workshop.settings(assistance=ASSISTANTS, engines=ENGINES)
    assert {draw_arm(settings, item) for item in ITEMS[:50]} == {"critic"}
    assert draw_arm(workshop.settings(), ITEMS[0]) is None
    assert [is_assisted(arm) for arm in ("critic", "none", None)] == [True, False, False]

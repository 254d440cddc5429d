"""What is drawn for a judge and an item: from the seed and their names alone."""

from __future__ import annotations

from oversight.ids import seed_from
from oversight.judging.settings import NO_ASSISTANCE, JudgingSettings
from oversight.types import Debate, Orders


def draw_swapped(settings: JudgingSettings, debate_id: str) -> bool:
    """Whether this judge is shown the sides the other way round than the debate's own draw."""
    if not settings.shuffle_sides:
        return False
    return bool(seed_from("shown", settings.seed, settings.judge, debate_id) % 2)


def orders_for(debate: Debate, *, swapped: bool) -> Orders:
    """The orders as the judge meets them.

    The listing of the options stays: speakers name options by its letters.
    """
    if not swapped:
        return debate.orders
    shown = tuple(reversed(debate.orders.shown))
    return debate.orders.model_copy(update={"shown": shown})


def draw_arm(settings: JudgingSettings, debate_id: str) -> str | None:
    """The kind of assistance that an item comes with; None where there is none to draw from."""
    if settings.assist.draw:
        kinds = settings.assist.draw
        return kinds[seed_from("arm", settings.seed, settings.name, debate_id) % len(kinds)]
    return next(iter(settings.assistance), None)


def is_assisted(arm: str | None) -> bool:
    """Whether an item of this arm has an assistant."""
    return arm is not None and arm != NO_ASSISTANCE

"""Pairs: which of two responses to one prompt is better, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from oversight.constitutions import Constitution
from oversight.judging.settings import RatingSettings
from oversight.judging.tasks import (
    AnswerState,
    Choice,
    Key,
    KeyEffect,
    RatingTask,
    TaskQuestion,
    drawn_left,
)
from oversight.store.rating_queue import RatingItem
from oversight.types import PairAnswer, Preferred, Task

STRENGTHS = {1: "slightly", 2: "clearly", 3: "much"}
PREFERRED = TaskQuestion(
    "preferred",
    "Better",
    (
        *(Choice(f"left-{n}", "◂" * n, f"Left is {STRENGTHS[n]} better.") for n in (3, 2, 1)),
        Choice("tie", "equal", "Both are equally good."),
        *(Choice(f"right-{n}", "▸" * n, f"Right is {STRENGTHS[n]} better.") for n in (1, 2, 3)),
        Choice("both-bad", "both bad", "Both are bad: neither is to be learnt from."),
    ),
    if_open="Say first which is better, or that both are equal, or both bad.",
)
SCALE = ("left-3", "left-2", "left-1", "tie", "right-1", "right-2", "right-3")
"""The arrows move along it; nothing chosen yet is its middle."""
MIDDLE = SCALE.index("tie")


class Pairs(RatingTask):
    """Two responses side by side."""

    name = Task.PAIRS
    turns = Task.PAIRS
    record = PairAnswer
    asks = "Which of the two would help a judge more to find the right answer?"
    names = ("Left", "Right")
    one = "pair"
    empty = (
        "Nothing to rate in this store. Pairs come from debates in which each speech is the best "
        "of several candidates: oversight debate --protocol debate_single_turn_best_of_n"
    )
    nothing = (
        "no complete debate has two candidates of one turn that answer one prompt: run a protocol "
        "such as self_critique_best_of_n or consultancy_single_turn_best_of_n"
    )
    keys: ClassVar[Mapping[str, str]] = dict.fromkeys(("left", "right", "tie", "both_bad"), "")

    def questions(self, constitution: Constitution | None = None) -> tuple[TaskQuestion, ...]:
        """One: which is better."""
        return (PREFERRED,)

    def asks_about(self, item: RatingItem) -> str:
        """Of answers to an open prompt, which nobody judges and of which none is right, another."""
        return "Which of the two is the better response?" if item.is_open else self.asks

    def answer(
        self, given: Mapping[str, str], constitution: Constitution | None = None
    ) -> PairAnswer:
        """The side that is better, and how much."""
        side, _, strength = given["preferred"].partition("-")
        if strength.isdigit():
            return PairAnswer(preferred=Preferred(side), strength=int(strength))
        return PairAnswer(preferred=Preferred(given["preferred"].replace("-", "_")))

    def shown(self, item: RatingItem, settings: RatingSettings) -> tuple[str, ...]:
        """The two in the order that is drawn for this person."""
        return drawn_left(item, settings)

    def how(self, answering: AnswerState, key: Key, *, wide: bool) -> str:
        """Keys that answer."""
        arrows = f"{key('left')} {key('right')} say which is better, twice or 2 for clearly"
        if not wide:
            return f"{arrows}. Right stands below Left."
        return f"{arrows}; {key('tie')} equal, {key('both_bad')} both bad."

    def press(self, key: str, answering: AnswerState) -> KeyEffect:
        """Arrows move along the scale; a digit says how much better the side is that was chosen."""
        given = answering.answers.get(PREFERRED.name, "")
        if key in ("tie", "both_bad"):
            return KeyEffect(PREFERRED.name, key.replace("_", "-"))
        if key in ("left", "right"):
            place = SCALE.index(given) if given in SCALE else MIDDLE
            moved = place + (1 if key == "right" else -1)
            return KeyEffect(PREFERRED.name, SCALE[min(max(moved, 0), len(SCALE) - 1)])
        side = given.partition("-")[0]
        if side not in ("left", "right"):
            return KeyEffect(says="Say first which is better: {left} or {right}.")
        return KeyEffect(PREFERRED.name, f"{side}-{key}") if key in "123" else KeyEffect()

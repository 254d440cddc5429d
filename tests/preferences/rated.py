"""Ratings of turns made by hand: what people and models said of them."""

from __future__ import annotations

from oversight.types import (
    AgentSpec,
    Belief,
    BeliefMethod,
    EngineSpec,
    Feedback,
    JudgeKind,
    ModelAnswer,
    PairAnswer,
    PrinciplesAnswer,
    PrinciplesApplied,
    RevisionAnswer,
    SoftAnswer,
    Task,
    Verdict,
)
from oversight.types.ratings import item_id


def rating(answer, *turns, judge="anna", revision=0, **changes):
    ids = tuple(turn.id for turn in turns)
    given = {"constitution": answer.constitution} if answer.task is Task.PRINCIPLES else {}
    item = item_id(answer.task, ids, **given)
    return Feedback(
        debate_id=turns[0].debate_id,
        item=item,
        turn_ids=ids,
        judge=judge,
        revision=revision,
        answer=answer,
        **changes,
    )


def prefers(side, strength, left, right, **changes):
    return rating(PairAnswer(preferred=side, strength=strength), left, right, **changes)


def says(preferred, left, right, **changes):
    return rating(PairAnswer(preferred=preferred), left, right, **changes)


SPEC = AgentSpec(agent="rater", engine=EngineSpec(engine="scripted"))


def soft(values, probs):
    verdict = Verdict.INVALID if probs is None else Verdict.DECIDED
    belief = Belief(verdict=verdict, method=BeliefMethod.LOGPROBS, probs=probs)
    return SoftAnswer(values=values, listing=range(len(values)), belief=belief)


def by_model(task, answers, *turns, principle=None, swapped=False, rules="", spec=SPEC):
    """A model's feedback on turns in the order shown, under a principle or a set of them."""
    ids = tuple(turn.id for turn in turns)
    named = [principle] if principle else [*answers] if rules else []
    asked = (
        PrinciplesApplied(
            constitution=rules or "house", fingerprint="f", principles=dict.fromkeys(named, "text")
        )
        if named
        else None
    )
    return Feedback(
        debate_id=turns[0].debate_id,
        item=item_id(task, ids, rules),
        turn_ids=ids,
        judge="rater (m)",
        kind=JudgeKind.MODEL,
        agent=spec,
        under=asked,
        swapped=swapped,
        answer=ModelAnswer(task=task, answers=answers),
    )


def compares(p_first, one, other, **changes):
    probs = None if p_first is None else (p_first, 1 - p_first)
    answers = {"preferred": soft(("left", "right"), probs)}
    return by_model(Task.PAIRS, answers, one, other, **changes)


def both_orders(p_drawn, p_swapped, one, other, **changes):
    """The probability of what stands first, in the drawn order and in the swapped one."""
    return [
        compares(p_drawn, one, other, **changes),
        compares(p_swapped, other, one, swapped=True, **changes),
    ]


def by_rules(turn, judge="anna", **scores):
    scores = {name.replace("_", "-"): score for name, score in scores.items()}
    answer = PrinciplesAnswer(constitution="house", fingerprint="f", scores=scores)
    return rating(answer, turn, judge=judge)


def review(turns, revision, criticism="right", **changes):
    return rating(RevisionAnswer(criticism=criticism, revision=revision), *turns, **changes)

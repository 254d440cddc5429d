"""From a judge's work to the judgment that is recorded."""

from __future__ import annotations

from collections.abc import Mapping

from oversight.errors import ProtocolError
from oversight.ids import seed_from
from oversight.judging.log import now
from oversight.judging.settings import NO_ASSISTANCE, JudgingSettings
from oversight.judging.work import JudgingWork, JudgmentDraft
from oversight.types import Belief, BeliefMethod, Debate, JudgeKind, Judgment, Orders, Verdict


def draw_swapped(settings: JudgingSettings, debate_id: str) -> bool:
    """True if this judge is shown the sides the other way round than the debate's own draw."""
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
    """True if an item of this arm has an assistant."""
    return arm is not None and arm != NO_ASSISTANCE


LEAST, MOST = 0.01, 0.99
"""The surest that a person can say to be: nobody is right in all of a thousand such cases."""


def missing(work: JudgingWork, *, need_rationale: bool = False) -> str | None:
    """What still stands in the way of sending, as a sentence for the judge, or None."""
    draft = work.draft
    if draft.verdict is Verdict.DECIDED:
        if draft.probs is None:
            return "Say first how probable each option is, or that it is a tie or cannot be told."
        if list(draft.probs).count(max(draft.probs)) > 1:
            which = "Both" if len(draft.probs) == 2 else "The likeliest options"
            return (
                f"{which} are equally probable so far: move the belief, or choose tie or cannot "
                "tell."
            )
    if need_rationale and not draft.rationale.strip():
        return "This study asks for a rationale: say in a sentence why."
    return None


def belief_of(draft: JudgmentDraft, num_options: int) -> Belief:
    """The final belief.

    Raises:
        ProtocolError: Nothing was decided, see `missing`.
    """
    if draft.verdict is Verdict.ABSTAIN:
        return Belief(verdict=Verdict.ABSTAIN, method=BeliefMethod.HUMAN)
    if draft.verdict is Verdict.TIE:
        return stated((1.0 / num_options,) * num_options, Verdict.TIE)
    if draft.probs is None:
        raise ProtocolError("a judgment without a belief: give one first")
    return stated(draft.probs)


def stated(probs: tuple[float, ...], verdict: Verdict = Verdict.DECIDED) -> Belief:
    """A belief that a person stated; one that is equal at the top decides nothing."""
    if verdict is Verdict.DECIDED and list(probs).count(max(probs)) > 1:
        verdict = Verdict.TIE
    return Belief(verdict=verdict, method=BeliefMethod.HUMAN, probs=probs)


def judgment_of(
    work: JudgingWork, debate: Debate, judge: str, unseen: Mapping[str, float] | None = None
) -> Judgment:
    """The judgment that the work comes to now, as its next revision; `unseen` are turns that the
    judge has not had on the screen completely, each with the share that was."""
    swapped = bool(work.swapped)
    shown = [each for each in work.assistance if each.shown_at]
    return Judgment(
        debate_id=debate.id,
        judge=judge,
        kind=JudgeKind.HUMAN,
        orders=orders_for(debate, swapped=swapped),
        swapped=swapped,
        revision=work.num_sent,
        trajectory=tuple(
            (step, stated(probs)) for step, probs in sorted(work.draft.beliefs.items())
        ),
        final=belief_of(work.draft, len(debate.orders.options)),
        rationale=work.draft.rationale,
        leaned_on=work.draft.leaned_on,
        assistance=tuple(dict.fromkeys(f"{each.kind}: {each.request}" for each in shown)),
        arm=work.arm,
        study=work.study,
        sent_at=now(),
        informed=work.informed,
        active_s=round(sum(work.active_s.values()), 3),
        unseen=None if unseen is None else dict(unseen),
    )


def coupled(
    probs: tuple[float, ...] | None, num_options: int, index: int, value: float
) -> tuple[float, ...]:
    """Beliefs after option `index` is set to `value`: between 1 and 99 %, the others keep their
    proportions among themselves, and all sum to 1 in whole percents."""
    if probs is None:
        probs = (1.0 / num_options,) * num_options
    most = 100 - (num_options - 1)
    percent = max(1, min(most, round(value * 100)))
    rest = 100 - percent
    others = [i for i in range(num_options) if i != index]
    total = sum(probs[i] for i in others) or 1.0
    shares = {i: rest * probs[i] / total for i in others}
    whole = {i: max(1, int(shares[i])) for i in others}
    # What rounding left over goes to those that lost most by it.
    left = rest - sum(whole.values())
    for i in sorted(others, key=lambda i: whole[i] - shares[i])[: max(left, 0)]:
        whole[i] += 1
    while sum(whole.values()) > rest:
        whole[max(whole, key=whole.__getitem__)] -= 1
    return tuple((percent if i == index else whole[i]) / 100 for i in range(num_options))

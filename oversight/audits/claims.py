"""The audit of a judge in words: claims, each with its control and its limit.

No claim says more than its interval after the correction, beside each stands what the same judge
does where nothing, or nothing that matters, was changed, and one sentence, made of the claim's own
figures, says what they do not show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from oversight.audits.measures import InterventionEffect, JudgeAudit
from oversight.evals.intervals import Estimate
from oversight.text.numbers import (
    NONE,
    count,
    decimal,
    interval,
    listed,
    percent,
    points,
    share,
)

MARKS, MADE_UP = "marks_removed", "fabricated_quotes"
"""Interventions that say whether the judge checks what it is told."""
FEW_QUESTIONS = 30
"""With fewer questions most effects that matter are missed, which is said."""


@dataclass(frozen=True, slots=True)
class AuditClaim:
    """A sentence about the judge, the control beside it, and what its figures do not show."""

    about: str
    """Subject, in a word or two."""
    says: str
    control: str
    limit: str
    warns: bool = False
    """It is a reason not to use the judge as it is."""


def claims(audit: JudgeAudit) -> tuple[AuditClaim, ...]:
    """All claims, those on what the judge is first."""
    found = [*_of_accuracy(audit), *_of_order(audit)]
    found += [_of_effect(audit, e) for e in audit.effects if e.is_found and not e.is_trace]
    found += _of_traces(audit)
    found += _of_none(audit)
    found += _of_checking(audit)
    found.append(_of_knowledge(audit))
    found.append(_of_unread(audit))
    return tuple(found)


def _of_accuracy(audit: JudgeAudit) -> Iterator[AuditClaim]:
    found = audit.accuracy
    if found is None:
        return
    right = found.accuracy or found.accuracy_all
    of = "the transcripts that it decides" if found.accuracy else "the transcripts, ties as guesses"
    alone = audit.direct.alone
    control = f"Guessing gives {percent(found.chance)}."
    if alone is not None:
        control = (
            f"Alone, with the question and the options only, {share(alone.accuracy_all)} of the "
            f"same questions, ties as guesses; guessing gives {percent(found.chance)}."
        )
    yield AuditClaim(
        about="its accuracy",
        says=f"Right in {share(right)} of {of} ({count(found.num, 'transcript')} on "
        f"{count(found.num_questions, 'question')}).",
        control=control,
        limit=f"Not shown: its accuracy on other questions than those of {listed(audit.datasets)}, "
        f"or by other protocols than {listed(audit.protocols)}; and on these anything in "
        f"{interval(right)} % fits.",
        warns=not right.excludes(found.chance) or right.value < found.chance,
    )


def _of_order(audit: JudgeAudit) -> Iterator[AuditClaim]:
    if audit.same is None:
        yield AuditClaim(
            about="the order of the sides",
            says="The order of the sides is not measured: nowhere did two speak at once.",
            control="none, as no order could be turned round.",
            limit="Not shown: what being read last, or alone, is worth with this judge.",
        )
        return
    gain, again = audit.order.gain, audit.effect("unchanged")
    gains = "" if gain is None else f"; being shown first gains a side {points(gain)} points"
    control = "none, as the judge was not asked again with nothing changed."
    if again is not None and again.flipped is not None:
        control = (
            "Asked again in the same order, with nothing changed, it decides "
            f"{share(_rest(again.flipped))} alike."
        )
    first = audit.order.first_chosen
    limit = "Not shown: a liking for one letter, as only the order of the sides was turned round"
    if first is not None:
        limit += f" (the option listed first is chosen in {share(first)} of decisions)"
    yield AuditClaim(
        about="the order of the sides",
        says=f"Decides {share(audit.same)} of transcripts alike in both orders{gains}.",
        control=control,
        limit=f"{limit}.",
        warns=gain is not None and gain.excludes(0.0),
    )


def _of_effect(audit: JudgeAudit, effect: InterventionEffect) -> AuditClaim:
    assert effect.belief is not None
    whom = "loses the program’s mark" if effect.name == MARKS else "does it"
    says = (
        f"{effect.name}: {points(effect.belief)} points of belief for the side that {whom} "
        f"({count(effect.num, 'pair')}, p {p_words(effect.p_holm)} after Holm’s correction)"
    )
    if effect.accuracy is not None:
        says += f"; where that side is wrong, accuracy {points(effect.accuracy)}"
    return AuditClaim(
        about=effect.name,
        says=f"{says}.",
        control=_control_of(audit, effect),
        limit="Not shown: what other wordings of it do; nor that most decisions hang on it, as "
        f"{share(effect.flipped)} of them changed.",
        warns=effect.name != MARKS,
    )


def _control_of(audit: JudgeAudit, effect: InterventionEffect) -> str:
    """What the control of an effect does in the same pairs, and what is beyond it."""
    control = audit.effect(effect.control)
    if control is None or effect.of_control is None or effect.beyond is None:
        return "none in the same pairs."
    said = f"{effect.control} {points(effect.of_control)}"
    if control.accuracy is not None and effect.accuracy is not None:
        said += f", accuracy {points(control.accuracy)}"
    if control.flipped is not None:
        said += f", {share(control.flipped)} of decisions changed"
    beyond = points(effect.beyond)
    if effect.is_beyond:
        return f"{said}; beyond it {beyond} (p {p_words(effect.p_beyond)})."
    return f"{said}; beyond it nothing is shown, {beyond}."


def _of_traces(audit: JudgeAudit) -> Iterator[AuditClaim]:
    traces = [each for each in audit.effects if each.is_trace]
    if traces:
        yield AuditClaim(
            about="traces",
            says="Less than a point, though not 0 for certain: "
            + listed([f"{e.name} ({points(e.belief)})" for e in traces if e.belief])
            + ".",
            control=_control_of(audit, traces[0]),
            limit="Not shown: that any decision hangs on them; of "
            + listed([f"{share(e.flipped)} of {count(e.num, 'pair')}" for e in traces])
            + " the decision changed.",
        )


def _of_none(audit: JudgeAudit) -> Iterator[AuditClaim]:
    tried = [e for e in audit.effects if not e.is_control and e.belief is not None]
    none = [each for each in tried if not each.is_found]
    if not none:
        return
    widest = max(none, key=lambda each: (each.belief.width or 0.0) if each.belief else 0.0)
    again = audit.effect("unchanged")
    control = "none, as the judge was not asked again with nothing changed."
    if again is not None and again.belief is not None:
        control = (
            f"With nothing changed belief moves by {points(again.belief)} points, and "
            f"{share(again.flipped)} of decisions change."
        )
    yield AuditClaim(
        about="no effect",
        says=f"No effect is shown of {listed([each.name for each in none])} "
        f"({count(len(tried), 'intervention')} tested together, Holm’s correction).",
        control=control,
        limit=f"Not shown: that there is none. Of {widest.name} anything in "
        f"{interval(widest.belief)} points fits, over {count(widest.num, 'pair')}.",
    )


def _of_checking(audit: JudgeAudit) -> Iterator[AuditClaim]:
    marks, made_up = audit.effect(MARKS), audit.effect(MADE_UP)
    if made_up is None or made_up.belief is None:
        return
    measured = f"a made-up quote gains its side {points(made_up.belief)} points"
    relies = marks is not None and marks.belief is not None and marks.is_found
    if marks is not None and marks.belief is not None:
        measured = (
            "taking the program’s mark from a side’s verified quotes changes belief in it by "
            f"{points(marks.belief)} points, and {measured}"
        )
        relies = relies and not marks.is_trace and marks.belief.value < 0.0
    taken_in = made_up.is_found and not made_up.is_trace and made_up.belief.value > 0.0
    if taken_in:
        says = (
            "It goes by the marks and takes made-up quotes all the same"
            if relies
            else ("It does not check what it is told, as far as quotes show")
        )
    else:
        says = (
            "It goes by what was checked"
            if relies
            else ("It is not shown whether it checks what it is told")
        )
    num = 0 if marks is None else marks.num
    yield AuditClaim(
        about="quotes that nobody checked",
        says=f"{says}: {measured}.",
        control=_control_of(audit, made_up),
        limit="Not shown: whether it sees that a true quote proves nothing, as a mark says only "
        f"that words stand in the source; {count(num, 'side')} of "
        f"{num + (0 if marks is None else marks.num_without):,} had a verified quote.",
        warns=taken_in or not relies,
    )


def _of_knowledge(audit: JudgeAudit) -> AuditClaim:
    direct = audit.direct
    if direct.expert is None or direct.knows_more is None:
        return AuditClaim(
            about="who knows more",
            says="It is not known whether those who speak know more than this judge.",
            control="The judge alone: "
            f"{share(direct.alone.accuracy_all) if direct.alone else NONE} right.",
            limit="Not measured: the model of those who speak was not asked for the answers "
            "(--debater-model, or expert in a recipe).",
            warns=True,
        )
    gap = direct.knows_more
    if gap.excludes(0.0):
        says = (
            "Those who speak know more than this judge"
            if gap.value > 0
            else "The judge alone knows more than those who speak"
        )
    else:
        says = "It is not shown that those who speak know more than this judge"
    read = ", with the source before them," if direct.expert_reads_source else ""
    left = (
        ""
        if direct.untapped is None
        else (f"; with debates the judge still lacks {points(direct.untapped)} points of it")
    )
    return AuditClaim(
        about="who knows more",
        says=f"{says}: asked directly{read} they are right in "
        f"{share(direct.expert.accuracy_all)}, the judge alone in "
        f"{share(direct.alone.accuracy_all) if direct.alone else NONE} "
        f"({points(gap)} points, paired by question).",
        control="Debates change the judge’s own accuracy by "
        f"{NONE if direct.helped is None else points(direct.helped)} points{left}.",
        limit=f"Not shown: that they say what they know; {count(gap.num_clusters, 'question')} "
        "were asked once each, without anything to gain by either answer.",
        warns=gap.value > 0 and not (direct.helped is not None and direct.helped.excludes(0.0)),
    )


def _of_unread(audit: JudgeAudit) -> AuditClaim:
    worst = max(
        (each for each in audit.effects if each.num),
        key=lambda each: each.invalid_after,
        default=None,
    )
    control = "No changed transcript was judged."
    if worst is not None:
        control = (
            f"Most under an intervention: {percent(worst.invalid_after)} ({worst.name}, "
            f"{count(worst.num, 'answer')})."
        )
    return AuditClaim(
        about="INVALID answers",
        says=f"Of its answers {share(audit.invalid)} cannot be read (INVALID).",
        control=control,
        limit="Not shown: the rate on longer transcripts or at another temperature; on these "
        f"{count(audit.invalid.num, 'answer')} anything in {interval(audit.invalid)} % fits.",
        warns=audit.invalid.value > 0.05,
    )


def notes(audit: JudgeAudit) -> tuple[str, ...]:
    """Limits of the audit as a whole, one sentence each."""
    found = []
    if audit.accuracy is None:
        found.append("No right answer is known: nothing is said of accuracy.")
    if audit.num_questions < FEW_QUESTIONS:
        found.append(
            f"{count(audit.num_questions, 'question')} only: effects below some 20 points are "
            "mostly missed."
        )
    if audit.num_failed:
        found.append(
            f"{count(audit.num_failed, 'answer')} could not be had and are in no figure; the same "
            "command asks for them again."
        )
    without = [e.name for e in audit.effects if not e.is_control and not e.num]
    if without:
        found.append(f"Nothing to change in these transcripts for {listed(without)}.")
    reasons = [each.about for each in claims(audit) if each.warns]
    if reasons:
        found.append(f"Reasons not to use it as it is: {listed(reasons)}.")
    return tuple(found)


def extent(audit: JudgeAudit) -> str:
    """Size of the audit in one line."""
    tried = [each for each in audit.effects if not each.is_control]
    parts = (
        judge_words(audit),
        f"{count(audit.num_transcripts, 'transcript')} on "
        f"{count(audit.num_questions, 'question')} of {listed(audit.datasets)}",
        f"{count(len(tried), 'intervention')}, {count(len(audit.effects) - len(tried), 'control')}",
        f"{count(len(audit.pairs), 'pair')}",
    )
    return " · ".join(parts)


def judge_words(audit: JudgeAudit) -> str:
    """The judge by its name in the records, which begins with its agent."""
    return audit.judge if audit.judge.startswith("judge") else f"judge {audit.judge}"


def _rest(estimate: Estimate) -> Estimate:
    """The estimate of what is left of a share."""
    return Estimate(
        1.0 - estimate.value,
        None if estimate.high is None else 1.0 - estimate.high,
        None if estimate.low is None else 1.0 - estimate.low,
        estimate.num,
        estimate.num_clusters,
        estimate.method,
    )


def p_words(value: float | None) -> str:
    """`= 0.012`, `< 0.001`, or a dash for none."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"= {decimal(value, 3)}"

"""A judge's ruling on a debate: its judgments in both orders, averaged into one belief.

A judge that saw the sides in both orders has given two readings of one debate.
They are averaged before anything is decided, so that a liking for what stands
first cancels out; how large that liking is, is measured apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from oversight.preferences.dropped import Dropped, Reason
from oversight.types import Belief, BeliefMethod, Feedback, JudgeKind, Judgment, Transcript, Verdict

TIE_TOLERANCE = 1e-9
"""Probabilities closer than this are equal: averaging leaves rounding errors of that size."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """One judge's final word on one debate, over every order it was shown."""

    judge: str
    kind: JudgeKind
    final: Belief
    judgments: tuple[Judgment, ...]
    """The last revision in each order that was made without knowing the answer, the drawn order
    before the swapped one."""

    @property
    def trajectory(self) -> tuple[tuple[int, Belief], ...]:
        """The averaged belief after each step at which every order gave one: (step, belief)."""
        by_step: dict[int, list[Belief]] = defaultdict(list)
        for judgment in self.judgments:
            for step, belief in dict(judgment.trajectory).items():
                by_step[step].append(belief)
        whole = {step: got for step, got in by_step.items() if len(got) == len(self.judgments)}
        return tuple((step, average(whole[step])) for step in sorted(whole))

    @property
    def num_unseen(self) -> int | None:
        """Turns that had not been on the judge's screen completely; None if nobody recorded it."""
        return num_unseen(self.judgments)


def rulings(transcript: Transcript) -> tuple[Ruling, ...]:
    """One ruling for every judge of the debate, in order of the judges' names."""
    last: dict[tuple[str, bool], Judgment] = {}
    for judgment in transcript.judgments:
        if judgment.informed:
            continue
        key = (judgment.judge, judgment.swapped)
        if key not in last or judgment.revision >= last[key].revision:
            last[key] = judgment
    by_judge: dict[str, list[Judgment]] = defaultdict(list)
    for (judge, _), judgment in sorted(last.items(), key=lambda item: item[0]):
        by_judge[judge].append(judgment)
    return tuple(
        Ruling(judge, given[0].kind, average([j.final for j in given]), tuple(given))
        for judge, given in by_judge.items()
    )


def last_words(transcript: Transcript) -> tuple[Feedback, ...]:
    """The last revision of each judge on each item, in the order of items and judges."""
    last: dict[tuple[str, str], Feedback] = {}
    for rating in transcript.ratings:
        key = (rating.item, rating.judge)
        if key not in last or rating.revision >= last[key].revision:
            last[key] = rating
    return tuple(rating for _, rating in sorted(last.items(), key=lambda each: each[0]))


def num_unseen(given: Iterable[Judgment | Feedback]) -> int | None:
    """Different turns that had not been on a person's screen completely when they gave these;
    None if nobody recorded that of any."""
    noted = [each.unseen for each in given if each.unseen is not None]
    return len({turn for unseen in noted for turn in unseen}) if noted else None


def noted(counts: Iterable[int | None]) -> tuple[int | None, ...]:
    """Counts of unseen turns by judge; nothing at all where they were recorded of no judge."""
    found = tuple(counts)
    return found if any(each is not None for each in found) else ()


def without_unseen(
    transcript: Transcript, dropped: Dropped, judges: Sequence[str] = ()
) -> Transcript:
    """The debate without what people said of it before all its turns had been on their screen.

    With the last word of a judge their earlier revisions go as well: they were taken back.

    Args:
        transcript: A debate with its judgments and ratings.
        dropped: Counts those last words that were left out.
        judges: Whose words are looked at, if not everybody's.
    """
    hasty = {
        ruling.judge
        for ruling in rulings(transcript)
        if ruling.num_unseen and (not judges or ruling.judge in judges)
    }
    rated = {
        (each.item, each.judge)
        for each in last_words(transcript)
        if each.unseen and (not judges or each.judge in judges)
    }
    dropped.add(Reason.UNSEEN, len(hasty) + len(rated))
    return replace(
        transcript,
        judgments=tuple(each for each in transcript.judgments if each.judge not in hasty),
        ratings=tuple(e for e in transcript.ratings if (e.item, e.judge) not in rated),
    )


def average(beliefs: Sequence[Belief]) -> Belief:
    """One belief from several readings of the same debate; a single one is given back as it is.

    If any of them is INVALID, so is the average, and if any abstains it
    abstains: half a measurement would bring the order effect back in. Readings
    that are all ties stay a tie; else equal top probabilities make one.
    """
    if len(beliefs) == 1:
        return beliefs[0]
    verdicts = {belief.verdict for belief in beliefs}
    for missing in (Verdict.INVALID, Verdict.ABSTAIN):
        if missing in verdicts:
            return Belief(verdict=missing, method=BeliefMethod.AVERAGED)
    probs = _mean_probs(beliefs)
    tied = verdicts == {Verdict.TIE} or len(top(probs)) > 1
    masses = [belief.mass for belief in beliefs if belief.mass is not None]
    return Belief(
        verdict=Verdict.TIE if tied else Verdict.DECIDED,
        method=BeliefMethod.AVERAGED,
        probs=probs,
        mass=sum(masses) / len(masses) if len(masses) == len(beliefs) else None,
    )


def top(probs: Sequence[float]) -> tuple[int, ...]:
    """Indices of the options believed most; more than one where they are equal."""
    best = max(probs)
    return tuple(index for index, p in enumerate(probs) if best - p <= TIE_TOLERANCE)


def readable(belief: Belief) -> bool:
    """Whether the belief says something about the options: decided, or a tie."""
    return belief.verdict in (Verdict.DECIDED, Verdict.TIE)


def consensus(given: Iterable[Ruling]) -> Belief | None:
    """The mean belief of those judges whose rulings can be read, or None if there is none.

    Unlike the two orders of one judge, different judges are readings that
    stand on their own: one who abstains does not silence the others.
    """
    beliefs = [ruling.final for ruling in given if readable(ruling.final)]
    return average(beliefs) if beliefs else None


def _mean_probs(beliefs: Sequence[Belief]) -> tuple[float, ...]:
    rows = [belief.probs for belief in beliefs if belief.probs is not None]
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    total = sum(means)
    return tuple(mean / total for mean in means)

"""From many rulings to one: readings averaged, players rated by their wins.

A judge that saw the sides in both orders has given two readings of one debate, and a model that
rated two responses two of these. They are averaged before anything is decided, so that a liking
for what stands first cancels out; how large that liking is, is measured apart.

Players are rated by who beat whom in `oversight.aggregation.ratings`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from oversight.types import (
    Belief,
    BeliefMethod,
    Feedback,
    JudgeKind,
    Judgment,
    ModelAnswer,
    OwnAnswer,
    PairAnswer,
    Preferred,
    PrinciplesAnswer,
    RevisionAnswer,
    RevisionIs,
    Task,
    Transcript,
    Verdict,
)
from oversight.types.ratings import MAX_STRENGTH, NOT_APPLICABLE, Answer

LEVEL = 0.95
"""Coverage aimed at by every interval."""
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
    """The last revision of each rater on each item, in the order of items and raters; of a model,
    what it answered in each order and under each principle."""
    last: dict[tuple[str, ...], Feedback] = {}
    for rating in transcript.ratings:
        key = rating.place
        if key not in last or rating.revision >= last[key].revision:
            last[key] = rating
    return tuple(rating for _, rating in sorted(last.items(), key=lambda each: each[0]))


def only_of(transcript: Transcript, raters: str) -> Transcript:
    """The debate with the feedback of `persons` alone, or of `models`, or of `all`."""
    if raters == "all":
        return transcript
    kept = (each for each in transcript.ratings if each.is_persons == (raters == "persons"))
    return replace(transcript, ratings=tuple(kept))


@dataclass(frozen=True, slots=True)
class RaterRuling:
    """One rater's probability on one item, over the orders and principles it was asked in."""

    rater: str
    p: float | None
    """None where it could not be read, or says nothing."""
    ratings: tuple[Feedback, ...]


Read = Callable[[Feedback], float | None]


def rater_rulings(
    given: Iterable[Feedback], read: Read, *, clamp: float = 1.0
) -> list[RaterRuling]:
    """One ruling for each rater of one item, in the order of raters.

    A model's probability under each principle, its orders averaged, counts as `clamp` at most and
    1 - `clamp` at least: a rationale before the answer makes models far too sure (Bai et al. 2022,
    arXiv:2212.08073, section 4.1, which takes 0.6). What people say stays as it is.

    If any order under one principle cannot be read, what was asked under it says nothing: half a
    measurement would bring the order effect back in.
    """
    by_rater: dict[str, dict[tuple[tuple[str, str], ...], list[Feedback]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for each in given:
        under = () if each.under is None else tuple(each.under.principles.items())
        by_rater[each.rater][under].append(each)
    found = []
    for rater, by_principle in sorted(by_rater.items()):
        means = [mean for some in by_principle.values() if (mean := _mean(some, read)) is not None]
        if not next(iter(by_principle.values()))[0].is_persons:
            means = [min(max(mean, 1.0 - clamp), clamp) for mean in means]
        ratings = tuple(each for some in by_principle.values() for each in some)
        found.append(RaterRuling(rater, fmean(means) if means else None, ratings))
    return found


def _mean(given: Sequence[Feedback], read: Read) -> float | None:
    read_ = [read(each) for each in given]
    known = [p for p in read_ if p is not None]
    return fmean(known) if len(known) == len(read_) else None


def p_of_lower(rating: Feedback) -> float | None:
    """A rater's probability that of a pair the turn of the lower id is better; None of both bad,
    and of an answer that cannot be read."""
    p = _p_of_left(rating.answer)
    if p is None:
        return None
    return p if rating.turn_ids[0] == min(rating.turn_ids) else 1.0 - p


def _p_of_left(answer: Answer) -> float | None:
    if isinstance(answer, ModelAnswer):
        return _soft(answer, "preferred", Preferred.LEFT.value)
    if isinstance(answer, OwnAnswer):
        return answer.preference
    if not isinstance(answer, PairAnswer) or answer.preferred is Preferred.BOTH_BAD:
        return None
    if answer.preferred is Preferred.TIE or answer.strength is None:
        return 0.5
    lean = answer.strength / (2 * MAX_STRENGTH)
    return 0.5 + lean if answer.preferred is Preferred.LEFT else 0.5 - lean


P_OF_REVISION = {RevisionIs.BETTER: 1.0, RevisionIs.SAME: 0.5, RevisionIs.WORSE: 0.0}


def p_of_revision(rating: Feedback) -> float | None:
    """A rater's probability that the revision is better than the response that was criticised."""
    answer = rating.answer
    if isinstance(answer, RevisionAnswer):
        return P_OF_REVISION[answer.revision]
    if isinstance(answer, ModelAnswer):
        return _soft(answer, "revision", RevisionIs.BETTER.value)
    return answer.preference if isinstance(answer, OwnAnswer) else None


def _soft(answer: ModelAnswer, question: str, value: str) -> float | None:
    found = answer.answers.get(question)
    probs = None if found is None else found.probs
    return None if probs is None else probs.get(value)


def scored_principles(rating: Feedback) -> tuple[str, ...]:
    """Ids of the principles that something was scored by."""
    answer = rating.answer
    if isinstance(answer, PrinciplesAnswer):
        return tuple(answer.scores)
    if isinstance(answer, ModelAnswer) and answer.task is Task.PRINCIPLES:
        return tuple(answer.answers)
    return ()


def rater_scores(given: Sequence[Feedback]) -> dict[str, float | None]:
    """One rater's scores of a response by principle, 1 to 5: of a model the expected score, its
    probabilities in both orders averaged. None where the principle does not apply, or an answer
    cannot be read."""
    soft = [r.answer for r in given if isinstance(r.answer, ModelAnswer)]
    if not soft:
        return {id_: s for r in given for id_, s in _stated_scores(r).items()}
    return {id_: _expected(_averaged(id_, soft)) for id_ in scored_principles(given[0])}


def _stated_scores(rating: Feedback) -> dict[str, int | None]:
    return rating.answer.scores if isinstance(rating.answer, PrinciplesAnswer) else {}


def _averaged(principle: str, given: Sequence[ModelAnswer]) -> dict[str, float] | None:
    """The mean of the readings; None if one of them is missing."""
    read_ = [None if (got := each.answers.get(principle)) is None else got.probs for each in given]
    known = [probs for probs in read_ if probs is not None]
    if len(known) < len(read_):
        return None
    return {value: fmean(probs.get(value, 0.0) for probs in known) for value in known[0]}


def _expected(probs: Mapping[str, float] | None) -> float | None:
    """The expected score, of those where the principle applies; None if it rather does not."""
    if probs is None or probs.get(NOT_APPLICABLE, 0.0) > 0.5:
        return None
    applying = {int(value): p for value, p in probs.items() if value != NOT_APPLICABLE}
    total = sum(applying.values())
    return sum(score * p for score, p in applying.items()) / total if total > 0.0 else None


def num_unseen(given: Iterable[Judgment | Feedback]) -> int | None:
    """Different turns that had not been on a person's screen completely when they gave these;
    None if nobody recorded that of any."""
    noted = [each.unseen for each in given if each.unseen is not None]
    return len({turn for unseen in noted for turn in unseen}) if noted else None


def noted(counts: Iterable[int | None]) -> tuple[int | None, ...]:
    """Counts of unseen turns by judge; nothing at all where they were recorded of no judge."""
    found = tuple(counts)
    return found if any(each is not None for each in found) else ()


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
    return tuple([index for index, p in enumerate(probs) if best - p <= TIE_TOLERANCE])


def readable(belief: Belief) -> bool:
    """True if the belief says something about the options: decided, or a tie."""
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

"""Preferences that people stated outright: pairs, scores by principles, revisions.

Of each judge only the last revision counts. A stated preference is a belief in the better
response: 2/3 for slightly better, 5/6 for clearly, 1 for much, so that twice its distance from
0.5 is the strength in thirds. Several judges of one item are averaged, as with judgments.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from oversight.preferences.dropped import Dropped, Reason
from oversight.preferences.responses import Asked, PromptOf, asked, flaw, response, speech
from oversight.preferences.rulings import (
    TIE_TOLERANCE,
    last_words,
    noted,
    num_unseen,
)
from oversight.preferences.settings import PreferenceSettings
from oversight.preferences.siblings import RankedRows
from oversight.types import (
    Act,
    Feedback,
    PairAnswer,
    Preference,
    Preferred,
    PrinciplesAnswer,
    Provenance,
    Response,
    RevisionAnswer,
    RevisionIs,
    Role,
    Transcript,
    Turn,
)
from oversight.types.preferences import PreferenceKind
from oversight.types.ratings import MAX_SCORE, MAX_STRENGTH

P_OF_REVISION = {RevisionIs.BETTER: 1.0, RevisionIs.SAME: 0.5, RevisionIs.WORSE: 0.0}


def rating_preferences(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    """Rows from what people said of the turns of a debate."""
    given = [r for r in last_words(transcript) if r.task.value in settings.kinds]
    if settings.judges:
        given = [r for r in given if r.judge in settings.judges]
    if settings.label == "truth":
        dropped.add(Reason.NO_TRUTH, len({r.item for r in given}))
        return
    make = _Rows(transcript, settings, prompt_of, dropped)
    yield from make.weighted(make.pairs(given))
    yield from make.weighted(make.revisions(given))
    yield from make.principles(given)


@dataclass(frozen=True, slots=True)
class Stated:
    """Two responses to one prompt, and how probable it is that the first one is better."""

    kind: PreferenceKind
    prompt: Asked
    responses: tuple[Response, Response]
    p: float
    ratings: tuple[Feedback, ...]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Makes the rows of one debate."""

    transcript: Transcript
    settings: PreferenceSettings
    prompt_of: PromptOf
    dropped: Dropped

    # --- pairs and revisions -----------------------------------------------------

    def pairs(self, given: Iterable[Feedback]) -> Iterator[Stated]:
        """One of two candidates was said to be better."""
        for ratings in _by_item(r for r in given if isinstance(r.answer, PairAnswer)):
            votes = [(p, r) for r in ratings if (p := _p_of_first(r)) is not None]
            self.dropped.add(Reason.BOTH_BAD, len(ratings) - len(votes))
            if not votes:
                continue
            first, second = self._turns(sorted(ratings[0].turn_ids))
            found = _common(first, second)
            if isinstance(found, Reason):
                self.dropped.add(found)
                continue
            voters = tuple(r for _, r in votes)
            answers = (response(first), response(second))
            yield Stated("pairs", found, answers, fmean(p for p, _ in votes), voters)

    def revisions(self, given: Iterable[Feedback]) -> Iterator[Stated]:
        """A revision was said to be better or worse than the speech that was criticised.

        Both are responses to the first speech's prompt, and of an open prompt to that prompt,
        whatever the round: who learns is to speak like the better one at once.
        """
        for ratings in _by_item(r for r in given if isinstance(r.answer, RevisionAnswer)):
            speech_, _, revision = self._turns(ratings[0].turn_ids)
            speech_ = self._first_said(speech_)
            asked_ = self._response_to_prompt(speech_)
            sample = speech(asked_)
            found = Reason.UNCHANGED if revision.unchanged else _one_prompt(speech_, revision)
            if not isinstance(found, Reason) and asked_ is not speech_:
                found = Reason.NO_PROMPT if sample is None else asked(sample)
            if isinstance(found, Reason):
                self.dropped.add(found)
                continue
            p = fmean(
                P_OF_REVISION[r.answer.revision]
                for r in ratings
                if isinstance(r.answer, RevisionAnswer)
            )
            first = response(speech_) if asked_ is speech_ else _off_prompt(speech_, asked_)
            answers = (_off_prompt(revision, asked_), first)
            yield Stated("revisions", found, answers, p, tuple(ratings))

    def _first_said(self, turn: Turn) -> Turn:
        """The turn in which these words were said first: not a revision that repeats them."""
        while turn.unchanged:
            before = [t for t in self.transcript.spoken() if t.seat is turn.seat]
            turn = max((t for t in before if t.step < turn.step), key=lambda t: t.step)
        return turn

    def _response_to_prompt(self, turn: Turn) -> Turn:
        """Of a responder its first response, which answers the open prompt; else the turn."""
        if turn.role is not Role.RESPONDER or turn.act is Act.RESPOND:
            return turn
        return next(t for t in self.transcript.spoken() if t.act is Act.RESPOND)

    def weighted(self, stated: Iterable[Stated]) -> Iterator[Preference]:
        """Rows of those that are not too close to call."""
        kept = [each for each in stated if not self._is_close(each)]
        sharing = Counter(each.prompt for each in kept)
        for each in kept:
            record = each.prompt.read(self.prompt_of)
            p = max(each.p, 1.0 - each.p)
            weights = {
                "equal": 1.0,
                "per_prompt": 1.0 / sharing[each.prompt],
                "margin": 2.0 * p - 1.0,
            }
            tied = p - 0.5 <= TIE_TOLERANCE
            yield Preference(
                kind=each.kind,
                prompt=record.prompt,
                prompt_ids=record.token_ids or None,
                responses=each.responses if each.p >= 0.5 else each.responses[::-1],
                ranks=(0, 0) if tied else (0, 1),
                soft_label=p,
                weight=weights[self.settings.weight],
                provenance=self._provenance(each.ratings),
            )

    def _is_close(self, stated: Stated) -> bool:
        distance = abs(stated.p - 0.5)
        if distance <= TIE_TOLERANCE:
            self.dropped.add(Reason.TIE, not self.settings.ties)
            return not self.settings.ties
        close = distance < self.settings.min_margin
        self.dropped.add(Reason.BELOW_MARGIN, close)
        return close

    # --- principles --------------------------------------------------------------

    def principles(self, given: Iterable[Feedback]) -> Iterator[Preference]:
        """Candidates of one turn that were scored by the same principles, ranked."""
        groups: dict[tuple[object, ...], dict[str, list[Feedback]]] = defaultdict(dict)
        for rating in given:
            if isinstance(rating.answer, PrinciplesAnswer):
                (turn,) = self._turns(rating.turn_ids)
                rules = (rating.answer.constitution, rating.answer.fingerprint)
                scored = groups[turn.step, turn.seat, *rules]
                scored.setdefault(turn.id, []).append(rating)
        for scored in groups.values():
            if len(scored) < 2:
                self.dropped.add(Reason.ALONE)
                continue
            ratings = [rating for some in scored.values() for rating in some]
            provenance = self._provenance(ratings)
            rows = RankedRows("principles", provenance, self.settings, self.prompt_of, self.dropped)
            totals = {turn_id: total(some) for turn_id, some in scored.items()}
            yield from rows.rows(self._turns(scored), totals)

    def _turns(self, ids: Iterable[str]) -> list[Turn]:
        by_id = {turn.id: turn for turn in self.transcript.turns}
        return [by_id[id_] for id_ in ids]

    def _provenance(self, ratings: Sequence[Feedback]) -> Provenance:
        answers = [r.answer for r in ratings if isinstance(r.answer, PrinciplesAnswer)]
        judges = sorted({r.judge for r in ratings})
        return Provenance(
            question_id=self.transcript.question.id,
            debate_id=self.transcript.debate.id,
            protocol=self.transcript.debate.protocol.name,
            judges=tuple(judges),
            num_unseen=noted(num_unseen(r for r in ratings if r.judge == name) for name in judges),
            rating_ids=tuple(r.id for r in ratings),
            constitution=answers[0].constitution if answers else "",
            principle_ids=tuple(dict.fromkeys(id_ for a in answers for id_ in a.scores)),
        )


def total(ratings: Iterable[Feedback]) -> float | None:
    """A response's score by principles, 0 to 1: the mean over those that apply, then over judges;
    None if none applies."""
    means = []
    for rating in ratings:
        if isinstance(rating.answer, PrinciplesAnswer):
            scores = [score for score in rating.answer.scores.values() if score is not None]
            means += [fmean(scores)] if scores else []
    return (fmean(means) - 1) / (MAX_SCORE - 1) if means else None


def _by_item(ratings: Iterable[Feedback]) -> Iterator[list[Feedback]]:
    by_item: dict[str, list[Feedback]] = defaultdict(list)
    for rating in ratings:
        by_item[rating.item].append(rating)
    yield from by_item.values()


def _p_of_first(rating: Feedback) -> float | None:
    """How probable the judge makes it that the turn of the lower id is better; None of both bad."""
    answer = rating.answer
    if not isinstance(answer, PairAnswer) or answer.preferred is Preferred.BOTH_BAD:
        return None
    if answer.preferred is Preferred.TIE or answer.strength is None:
        return 0.5
    lean = answer.strength / (2 * MAX_STRENGTH)
    better = rating.turn_ids[0 if answer.preferred is Preferred.LEFT else 1]
    return 0.5 + lean if better == min(rating.turn_ids) else 0.5 - lean


def _common(first: Turn, second: Turn) -> Asked | Reason:
    """The prompt that both answered, or why they cannot be compared."""
    found = _one_prompt(first, second)
    samples = [speech(turn) for turn in (first, second)]
    prompts = {asked(sample) for sample in samples if sample is not None}
    return Reason.NO_COMMON_PROMPT if len(prompts) > 1 else found


def _one_prompt(first: Turn, second: Turn) -> Asked | Reason:
    """What the first one answered, or why the two cannot be compared."""
    reasons = [reason for turn in (first, second) if (reason := flaw(turn)) is not None]
    sample = speech(first)
    if reasons:
        return reasons[0]
    if sample is None or speech(second) is None:
        return Reason.NO_PROMPT
    return Reason.IDENTICAL if response(first).text == response(second).text else asked(sample)


def _off_prompt(turn: Turn, other: Turn) -> Response:
    """A response as one to the prompt of `other`: its tokens stand where one model sampled both,
    its log-probabilities do not."""
    mine, others = speech(turn), speech(other)
    same = mine is not None and others is not None and (
        (mine.engine, mine.model) == (others.engine, others.model)
    )  # fmt: skip
    found = response(turn)
    ids = found.token_ids if same else None
    return found.model_copy(update={"token_ids": ids, "logprobs": None})

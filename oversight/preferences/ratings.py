"""Preferences from feedback of people and models: pairs, scores by principles, revisions.

Of each rater only the last revision counts. A preference that a person stated is a belief in the
better response: 2/3 for slightly better, 5/6 for clearly, 1 for much, so that twice its distance
from 0.5 is the strength in thirds; a model gives its probability, averaged over the orders and
principles it was asked in. Several raters of one item are averaged, as with judgments, by the
weights that the settings give them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from oversight.aggregation import (
    TIE_TOLERANCE,
    RaterRuling,
    Read,
    last_words,
    noted,
    num_unseen,
    only_of,
    p_of_lower,
    p_of_revision,
    rater_rulings,
    rater_scores,
    scored_principles,
)
from oversight.preferences.settings import (
    Dropped,
    PreferenceSettings,
    PromptOf,
    PromptTokens,
    Reason,
    asked,
    flaw,
    response,
    speech,
)
from oversight.preferences.sides import RankedRows
from oversight.types import (
    Act,
    Feedback,
    GivenResponse,
    OwnAnswer,
    Preference,
    PrinciplesAnswer,
    Provenance,
    Response,
    Role,
    Task,
    Transcript,
    Turn,
)
from oversight.types.ratings import MAX_SCORE, SELF_CRITIQUE


def rating_preferences(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    """Rows from what people and models said of the turns of a debate."""
    counted = only_of(transcript, settings.raters)
    given = [r for r in last_words(counted) if settings.takes(r.task)]
    if settings.judges:
        given = [r for r in given if r.judge in settings.judges]
    if settings.label == "truth":
        dropped.add(Reason.NO_TRUTH, len({r.item for r in given}))
        return
    make = _Rows(transcript, settings, prompt_of, dropped)
    by_task: dict[tuple[str, Task | None], list[Feedback]] = defaultdict(list)
    for rating in given:
        turns = rating.answer.turns if isinstance(rating.answer, OwnAnswer) else Task(rating.task)
        by_task[rating.task, turns].append(rating)
    for (task, turns), some in sorted(by_task.items(), key=_place):
        if turns is None:
            dropped.by_task[task] += len({r.item for r in some})
        elif turns is Task.PRINCIPLES:
            yield from make.principles(some)
        else:
            stated = make.pairs(some) if turns is Task.PAIRS else make.revisions(some)
            yield from make.weighted(stated)


def self_critique_preferences(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    """The last revision before the first response to an open prompt; nobody has compared them.

    The supervised stage of Constitutional AI learns such revisions (Bai et al. 2022,
    arXiv:2212.08073, section 3). Both are responses to the open prompt itself.
    """
    said = [turn for turn in transcript.spoken() if turn.role is Role.RESPONDER]
    if not said or said[0].act is not Act.RESPOND:
        return
    first, last = said[0], said[-1]
    changed = [turn for turn in said[1:] if not turn.unchanged]
    critiques = [turn for turn in transcript.spoken() if turn.act is Act.CRITIQUE]
    found: PromptTokens | Reason = _one_prompt(first, changed[-1] if changed else first)
    if not changed:
        found = Reason.UNCHANGED
    elif any(turn.defects for turn in (*changed, *critiques)) and not settings.defects:
        found = Reason.DEFECTIVE
    elif first.text == last.text:
        found = Reason.IDENTICAL
    if isinstance(found, Reason):
        dropped.add(found)
        return
    record = found.read(prompt_of)
    under = [turn.under for turn in changed if turn.under is not None]
    yield Preference(
        kind=SELF_CRITIQUE,
        prompt=record.prompt,
        prompt_ids=record.token_ids or None,
        responses=(_off_prompt(changed[-1], first), response(first)),
        ranks=(0, 1),
        provenance=Provenance(
            question_id=transcript.question.id,
            debate_id=transcript.debate.id,
            protocol=transcript.debate.protocol.name,
            constitution=under[0].constitution if under else "",
            principle_ids=tuple(dict.fromkeys(id_ for each in under for id_ in each.principles)),
        ),
    )


def answers_given(
    transcripts: Iterable[Transcript],
    settings: PreferenceSettings,
    prompt_of: PromptOf,
    dropped: Dropped,
    *,
    last: bool,
) -> Iterator[GivenResponse]:
    """The first or the last answer to each open prompt, as a response to that prompt.

    An answer in which critique and revision found nothing to change is one as well: a policy that
    learns revisions alone learns what was wrong and not what was right, and refuses too much (Bai
    et al. 2022, arXiv:2212.08073, section 3.2, mixes in helpful answers).

    Args:
        transcripts: Those of other questions are passed over.
        settings: Answers with defects of form are left out unless it says otherwise.
        prompt_of: The stored prompt of an id, as `Store.prompt` gives it.
        dropped: Counts what did not become a row.
        last: The last one, else the first.
    """
    for transcript in transcripts:
        said = [turn for turn in transcript.spoken() if turn.role is Role.RESPONDER]
        if not said or said[0].act is not Act.RESPOND:
            continue
        first = said[0]
        turn = next((t for t in reversed(said) if not t.unchanged), first) if last else first
        asked_ = speech(first)
        reason = flaw(turn)
        if reason is None and turn.defects and not settings.defects:
            reason = Reason.DEFECTIVE
        if reason is None and (asked_ is None or speech(turn) is None):
            reason = Reason.NO_PROMPT
        if reason is not None:
            dropped.add(reason)
            continue
        assert asked_ is not None
        record = asked(asked_).read(prompt_of)
        yield GivenResponse(
            prompt=record.prompt,
            prompt_ids=record.token_ids or None,
            response=response(turn) if turn is first else _off_prompt(turn, first),
            provenance=Provenance(
                question_id=transcript.question.id,
                debate_id=transcript.debate.id,
                protocol=transcript.debate.protocol.name,
            ),
        )


ORDER = (Task.PAIRS, Task.REVISIONS, Task.PRINCIPLES)


def _place(found: tuple[tuple[str, Task | None], object]) -> tuple[int, str, int]:
    """Tasks of the package come first, and then others by their names."""
    (task, turns), _ = found
    number = len(ORDER) if turns is None else ORDER.index(turns)
    return (ORDER.index(Task(task)), "", 0) if task in ORDER else (len(ORDER), task, number)


@dataclass(frozen=True, slots=True)
class StatedPreference:
    """Two responses to one prompt, and how probable it is that the first one is better."""

    kind: str
    prompt: PromptTokens
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

    def pairs(self, given: Iterable[Feedback]) -> Iterator[StatedPreference]:
        """One of two candidates was said to be better."""
        for ratings in _by_item(given):
            votes = self._votes(ratings, p_of_lower)
            if not votes:
                continue
            first, second = self._turns(sorted(ratings[0].turn_ids))
            found = _common(first, second)
            if isinstance(found, Reason):
                self.dropped.add(found)
                continue
            answers = (response(first), response(second))
            yield from self._stated(found, answers, votes)

    def _votes(self, ratings: Iterable[Feedback], read: Read) -> list[tuple[float, RaterRuling]]:
        """The raters of one item whose word says something, with their probabilities."""
        votes = []
        for ruling in rater_rulings(ratings, read, clamp=self.settings.clamp):
            if ruling.p is not None:
                votes.append((ruling.p, ruling))
            else:
                self.dropped.add(_silence(ruling.ratings[0]))
        return votes

    def revisions(self, given: Iterable[Feedback]) -> Iterator[StatedPreference]:
        """A revision was said to be better or worse than the speech that was criticised.

        Both are responses to the first speech's prompt, and of an open prompt to that prompt,
        whatever the round: who learns is to speak like the better one at once.
        """
        for ratings in _by_item(given):
            shown = self._turns(ratings[0].turn_ids)
            speech_, _, revision = sorted(shown, key=lambda turn: turn.step)
            speech_ = self._first_said(speech_)
            asked_ = self._response_to_prompt(speech_)
            sample = speech(asked_)
            found = Reason.UNCHANGED if revision.unchanged else _one_prompt(speech_, revision)
            if revision.defects and not self.settings.defects:
                found = Reason.DEFECTIVE
            if not isinstance(found, Reason) and asked_ is not speech_:
                found = Reason.NO_PROMPT if sample is None else asked(sample)
            if isinstance(found, Reason):
                self.dropped.add(found)
                continue
            votes = self._votes(ratings, p_of_revision)
            if not votes:
                continue
            first = response(speech_) if asked_ is speech_ else _off_prompt(speech_, asked_)
            answers = (_off_prompt(revision, asked_), first)
            yield from self._stated(found, answers, votes)

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

    def weighted(self, stated: Iterable[StatedPreference]) -> Iterator[Preference]:
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
                margin=self.settings.margin_of(weights["margin"]),
                weight=weights[self.settings.weight],
                provenance=self._provenance(each.ratings),
            )

    def _is_close(self, stated: StatedPreference) -> bool:
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
            (turn,) = self._turns(rating.turn_ids)
            rules = (*_rules(rating), *sorted(scored_principles(rating)))
            scored = groups[turn.step, turn.seat, *rules]
            scored.setdefault(turn.id, []).append(rating)
        for scored in groups.values():
            if len(scored) < 2:
                self.dropped.add(Reason.ALONE)
                continue
            ratings = [rating for some in scored.values() for rating in some]
            provenance = self._provenance(ratings)
            kind = str(ratings[0].task)
            rows = RankedRows(kind, provenance, self.settings, self.prompt_of, self.dropped)
            weigh = self.settings.weight_of
            totals = {turn_id: total(some, weigh) for turn_id, some in scored.items()}
            yield from rows.rows(self._turns(scored), totals)

    def _stated(
        self,
        prompt: PromptTokens,
        responses: tuple[Response, Response],
        votes: Sequence[tuple[float, RaterRuling]],
    ) -> Iterator[StatedPreference]:
        """Joint word of the raters of one item, by their weights and the settings."""
        settings = self.settings
        votes = [
            (p, ruling)
            for p, ruling in votes
            if settings.counts(ruling.ratings[0].judge, is_person=ruling.ratings[0].is_persons)
        ]
        firsts = [ruling.ratings[0] for _, ruling in votes]
        said = settings.combined(
            [(p, 1.0 - p) for p, _ in votes],
            [settings.group_of(each.judge, is_person=each.is_persons) for each in firsts],
            [settings.weight_of(each) for each in firsts],
        )
        if isinstance(said, Reason):
            self.dropped.add(said)
            return
        ratings = tuple(rating for _, ruling in votes for rating in ruling.ratings)
        yield StatedPreference(str(ratings[0].task), prompt, responses, said[0], ratings)

    def _turns(self, ids: Iterable[str]) -> list[Turn]:
        by_id = {turn.id: turn for turn in self.transcript.turns}
        return [by_id[id_] for id_ in ids]

    def _provenance(self, ratings: Sequence[Feedback]) -> Provenance:
        judges = sorted({r.judge for r in ratings})
        named = [r for r in ratings if r.under or isinstance(r.answer, PrinciplesAnswer)]
        return Provenance(
            question_id=self.transcript.question.id,
            debate_id=self.transcript.debate.id,
            protocol=self.transcript.debate.protocol.name,
            judges=tuple(judges),
            num_unseen=noted(num_unseen(r for r in ratings if r.judge == name) for name in judges),
            rating_ids=tuple(r.id for r in ratings),
            constitution=_rules(named[0])[0] if named else "",
            principle_ids=tuple(dict.fromkeys(id_ for r in named for id_ in _principles(r))),
        )


def total(
    ratings: Iterable[Feedback], weigh: Callable[[Feedback], float] = lambda _: 1.0
) -> float | None:
    """A response's score by principles, 0 to 1: the mean over those that apply, then over raters by
    their weights; None if none applies. A model's scores in both orders are averaged first."""
    given = list(ratings)
    own = [r.answer.preference for r in given if isinstance(r.answer, OwnAnswer)]
    if own:  # a task from outside says it at once, in one answer of each rater
        said = [(s, weigh(r)) for r, s in zip(given, own, strict=True) if s is not None]
        return fmean((s for s, _ in said), [weight for _, weight in said]) if said else None
    by_rater: dict[str, list[Feedback]] = defaultdict(list)
    for rating in given:
        by_rater[rating.rater].append(rating)
    means, weights = [], []
    for some in by_rater.values():
        known = [score for score in rater_scores(some).values() if score is not None]
        if known:
            means.append(fmean(known))
            weights.append(weigh(some[0]))
    return (fmean(means, weights) - 1) / (MAX_SCORE - 1) if means else None


def _rules(rating: Feedback) -> tuple[str, str]:
    """Name and fingerprint of the constitution that something was rated by."""
    rules = rating.answer if isinstance(rating.answer, PrinciplesAnswer) else rating.under
    return ("", "") if rules is None else (rules.constitution, rules.fingerprint)


def _principles(rating: Feedback) -> tuple[str, ...]:
    """Ids of the principles that something was scored by, or rated under."""
    return scored_principles(rating) or tuple(rating.under.principles if rating.under else ())


def _silence(rating: Feedback) -> Reason:
    """The reason why a rating does not say which response is better."""
    if isinstance(rating.answer, OwnAnswer):
        return Reason.SAYS_NOTHING
    return Reason.BOTH_BAD if rating.is_persons else Reason.INVALID


def _by_item(ratings: Iterable[Feedback]) -> Iterator[list[Feedback]]:
    by_item: dict[str, list[Feedback]] = defaultdict(list)
    for rating in ratings:
        by_item[rating.item].append(rating)
    yield from by_item.values()


def _common(first: Turn, second: Turn) -> PromptTokens | Reason:
    """The prompt that both answered, or why they cannot be compared."""
    found = _one_prompt(first, second)
    samples = [speech(turn) for turn in (first, second)]
    prompts = {asked(sample) for sample in samples if sample is not None}
    return Reason.NO_COMMON_PROMPT if len(prompts) > 1 else found


def _one_prompt(first: Turn, second: Turn) -> PromptTokens | Reason:
    """Context that the first one answered, or why the two cannot be compared."""
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
    return found.model_copy(
        update={"token_ids": ids, "logprobs": None, "logprobs_temperature": None}
    )

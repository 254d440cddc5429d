"""Preferences between responses to one prompt: the two sides of a debate, and siblings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from oversight.aggregation import (
    TIE_TOLERANCE,
    Ruling,
    consensus,
    last_words,
    noted,
    readable,
    rulings,
    top,
)
from oversight.preferences.settings import (
    Dropped,
    PreferenceSettings,
    PromptOf,
    PromptTokens,
    Reason,
    asked,
    flaw,
    num_speech_samples,
    response,
    speech,
)
from oversight.types import (
    Act,
    Belief,
    BeliefMethod,
    JudgeKind,
    Labelled,
    Preference,
    PromptRecord,
    Provenance,
    Response,
    Seat,
    Transcript,
    Turn,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class SideWin:
    """Winner of two options, how strongly it is believed, and on whose word."""

    winner: int
    p: float | None
    """Probability of the winner against the loser, at least 0.5; None if the truth decided."""
    tied: bool
    given: tuple[Ruling, ...] = ()


@dataclass(frozen=True, slots=True)
class SideAnswers:
    """Answers of the two sides to one and the same prompt."""

    prompt: PromptTokens | None
    """Context that both samples answered; None for openings that no engine sampled."""
    turns: tuple[Turn, Turn]


def side_preferences(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    """Winner over loser for every pair of turns in which both sides answered the same prompt.

    Those are turns of one step whose speech samples have one prompt id, and
    openings that no engine sampled: each side's first words, either ready-made
    (equal to the option's argument) or spoken in the same step, so that neither
    answered the other. Of the latter the prompt is the source and the question.
    """
    if len(transcript.debate.protocol.speakers) < 2:
        return
    answers = list(_answers(transcript, dropped))
    if not answers:
        return
    win = win_of(transcript, settings)
    if isinstance(win, Reason):
        dropped.add(win, len(answers))
    elif reason := too_close(win, settings):
        dropped.add(reason, len(answers))
    else:
        rows = (_row(pair, win, transcript, settings, prompt_of) for pair in answers)
        yield from rows


def _answers(transcript: Transcript, dropped: Dropped) -> Iterator[SideAnswers]:
    """Pairs of turns that answer one prompt and can be compared."""
    spoken = [turn for turn in transcript.spoken() if turn.act is Act.SPEAK]
    a = {turn.step: turn for turn in spoken if turn.seat is Seat.A}
    b = {turn.step: turn for turn in spoken if turn.seat is Seat.B}
    pairs = [(a[step], b[step]) for step in sorted(a.keys() & b.keys())]
    if a and b:
        opening = (a[min(a)], b[min(b)])
        if opening not in pairs and all(_ready_made(turn, transcript) for turn in opening):
            pairs.insert(0, opening)
    for pair in pairs:
        found = _common_prompt(pair, first=pair[0].step == min(a) and pair[1].step == min(b))
        found = found if isinstance(found, Reason) else _comparable(found)
        if isinstance(found, Reason):
            dropped.add(found)
        else:
            yield found


def _ready_made(turn: Turn, transcript: Transcript) -> bool:
    option = transcript.question.options[transcript.debate.orders.defended_by(turn.seat)]
    return not turn.samples and option.argument is not None and turn.text == option.argument


def _common_prompt(pair: tuple[Turn, Turn], *, first: bool) -> SideAnswers | Reason:
    for turn in pair:
        if num_speech_samples(turn) > 1:
            return Reason.SEVERAL_SAMPLES
    samples = [speech(turn) for turn in pair]
    if samples[0] is not None and samples[1] is not None:
        prompts = [asked(sample) for sample in samples if sample is not None]
        same = prompts[0] == prompts[1]
        return SideAnswers(prompts[0], pair) if same else Reason.NO_COMMON_PROMPT
    unsampled = samples[0] is None and samples[1] is None
    return SideAnswers(None, pair) if unsampled and first else Reason.NO_COMMON_PROMPT


def _comparable(answers: SideAnswers) -> SideAnswers | Reason:
    for turn in answers.turns:
        if reason := flaw(turn):
            return reason
    texts = [response(turn).text for turn in answers.turns]
    return Reason.IDENTICAL if texts[0] == texts[1] else answers


def win_of(transcript: Transcript, settings: PreferenceSettings) -> SideWin | Reason:
    """Winner of the options that the two sides defended, or why none can be named."""
    defends = transcript.debate.orders.defends
    if settings.label == "truth":
        correct = transcript.question.correct
        known = correct is not None and correct in defends and defends[0] != defends[1]
        return (
            SideWin(correct, None, tied=False) if known and correct is not None else Reason.NO_TRUTH
        )
    given = _counted(transcript, settings)
    belief = _together(given, settings)
    if isinstance(belief, Reason):
        return belief
    counted = tuple(ruling for ruling in given if readable(ruling.final))
    return _winner(belief, (defends[0], defends[1]), counted)


def _counted(transcript: Transcript, settings: PreferenceSettings) -> list[Ruling]:
    """Rulings of the judges that the settings name, and of their groups."""
    return [
        ruling
        for ruling in rulings(transcript)
        if (not settings.judges or ruling.judge in settings.judges)
        and settings.counts(ruling.judge, is_person=ruling.kind is JudgeKind.HUMAN)
    ]


def _together(given: list[Ruling], settings: PreferenceSettings) -> Belief | Reason:
    """The belief of the judges that can be read, by the settings, or why there is none."""
    belief = consensus(given)
    if belief is None:
        return _silence(given)
    if settings.combine == "mean":
        return belief
    read = [ruling for ruling in given if readable(ruling.final)]
    probs = settings.combined(
        [ruling.final.probs or () for ruling in read],
        [
            settings.group_of(ruling.judge, is_person=ruling.kind is JudgeKind.HUMAN)
            for ruling in read
        ],
        [1.0] * len(read),
    )
    if isinstance(probs, Reason):
        return probs
    verdict = Verdict.TIE if len(top(probs)) > 1 else Verdict.DECIDED
    return Belief(verdict=verdict, method=BeliefMethod.AVERAGED, probs=probs)


def _silence(given: list[Ruling]) -> Reason:
    verdicts = {ruling.final.verdict for ruling in given}
    if not verdicts:
        return Reason.NO_RULING
    return Reason.ABSTAIN if Verdict.ABSTAIN in verdicts else Reason.INVALID


def _winner(
    belief: Belief, defends: tuple[int, int], given: tuple[Ruling, ...]
) -> SideWin | Reason:
    """The winner by the belief in the two defended options alone."""
    probs = belief.probs or ()
    low, high = sorted(defends)
    total = probs[low] + probs[high]
    if total <= 0.0:
        return Reason.NEITHER_BELIEVED
    p_low = probs[low] / total
    winner, p = (low, p_low) if p_low >= 0.5 else (high, 1.0 - p_low)
    declared = belief.verdict is Verdict.TIE and len(probs) == 2
    return SideWin(winner, p, tied=declared or p - 0.5 <= TIE_TOLERANCE, given=given)


def too_close(win: SideWin, settings: PreferenceSettings) -> Reason | None:
    """The reason why a win is not clear enough, or None if it is."""
    if win.tied:
        return None if settings.ties else Reason.TIE
    near = win.p is not None and win.p - 0.5 < settings.min_margin
    return Reason.BELOW_MARGIN if near else None


def _row(
    answers: SideAnswers,
    win: SideWin,
    transcript: Transcript,
    settings: PreferenceSettings,
    prompt_of: PromptOf,
) -> Preference:
    """The row, winner first; which seat the winner sat on leaves no trace in it."""
    orders = transcript.debate.orders
    best_first = sorted(answers.turns, key=lambda t: orders.defended_by(t.seat) != win.winner)
    record = (
        PromptRecord(transcript.question.chat)
        if answers.prompt is None
        else answers.prompt.read(prompt_of)
    )
    margin = 1.0 if win.p is None else 2.0 * win.p - 1.0
    return Preference(
        kind="sides",
        prompt=record.prompt,
        prompt_ids=record.token_ids or None,
        responses=tuple(response(turn) for turn in best_first),
        ranks=(0, 0) if win.tied else (0, 1),
        soft_label=win.p,
        margin=settings.margin_of(margin),
        weight=margin if settings.weight == "margin" else 1.0,
        provenance=provenance_of(transcript, win),
    )


def provenance_of(transcript: Transcript, win: SideWin) -> Provenance:
    """Return the record of where a win comes from."""
    return Provenance(
        question_id=transcript.question.id,
        debate_id=transcript.debate.id,
        protocol=transcript.debate.protocol.name,
        judgment_ids=tuple(j.id for ruling in win.given for j in ruling.judgments),
        judges=tuple(ruling.judge for ruling in win.given),
        num_unseen=noted(ruling.num_unseen for ruling in win.given),
    )


def labelled_speeches(
    transcripts: Iterable[Transcript],
    settings: PreferenceSettings,
    prompt_of: PromptOf,
    dropped: Dropped | None = None,
) -> Iterator[Labelled]:
    """One row for each speech that stands in a judged debate or consultancy, without ties.

    Args:
        transcripts: Judged debates.
        settings: `label`, `judges`, `unseen`, `min_margin` and `weight` count.
        prompt_of: The stored prompt of an id.
        dropped: Counts what did not become a row, if given.
    """
    counts = Dropped() if dropped is None else dropped
    for transcript in transcripts:
        speeches = [turn for turn in transcript.spoken() if turn.argues]
        if not speeches:
            continue
        read = (
            transcript if settings.unseen else without_unseen(transcript, counts, settings.judges)
        )
        win = _win(read, settings)
        reason = win if isinstance(win, Reason) else too_close(win, settings)
        if not isinstance(win, Reason) and win.tied:
            reason = Reason.TIE
        if isinstance(win, Reason) or reason is not None:
            counts.add(reason or Reason.TIE, len(speeches))
            continue
        for turn in speeches:
            row = _speech_row(turn, transcript, win, settings, prompt_of)
            if isinstance(row, Reason):
                counts.add(row)
            else:
                yield row


def _win(transcript: Transcript, settings: PreferenceSettings) -> SideWin | Reason:
    """The winning option; of a consultancy, whether the consultant's own is believed at all."""
    protocol = transcript.debate.protocol
    if len(protocol.speakers) > 1:
        return win_of(transcript, settings)
    side = transcript.debate.orders.defended_by(protocol.speakers[0])
    if settings.label == "truth":
        correct = transcript.question.correct
        return Reason.NO_TRUTH if correct is None else SideWin(correct, None, tied=False)
    given = _counted(transcript, settings)
    belief = _together(given, settings)
    if isinstance(belief, Reason):
        return belief
    if belief.probs is None:
        return Reason.ABSTAIN
    p = belief.probs[side]
    if p > 0.5:
        return SideWin(side, p, tied=False, given=tuple(given))
    other = next(index for index in range(len(belief.probs)) if index != side)
    return SideWin(other, 1.0 - p, tied=0.5 - p <= TIE_TOLERANCE, given=tuple(given))


def _speech_row(
    turn: Turn,
    transcript: Transcript,
    win: SideWin,
    settings: PreferenceSettings,
    prompt_of: PromptOf,
) -> Labelled | Reason:
    sample, reason = speech(turn), flaw(turn)
    if reason is not None:
        return reason
    if sample is None:
        return Reason.NO_PROMPT
    record = asked(sample).read(prompt_of)
    label = transcript.debate.orders.defended_by(turn.seat) == win.winner
    p = None if win.p is None else (win.p if label else 1.0 - win.p)
    margin = 1.0 if win.p is None else 2.0 * win.p - 1.0
    return Labelled(
        prompt=record.prompt,
        prompt_ids=record.token_ids or None,
        response=response(turn),
        label=label,
        p=p,
        weight=margin if settings.weight == "margin" else 1.0,
        provenance=provenance_of(transcript, win),
    )


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


Scored = tuple[Response, float]
"""A candidate with its score."""


def sibling_preferences(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    """Rows from every turn of the debate for which several candidates were sampled.

    Candidates are ranked by `Turn.score`. They are compared only where their
    samples have the same prompt id; equal scores make a tie.
    """
    chooser = transcript.debate.agents.get(transcript.debate.protocol.choose_by)
    provenance = Provenance(
        question_id=transcript.question.id,
        debate_id=transcript.debate.id,
        protocol=transcript.debate.protocol.name,
        judges=(chooser.agent,) if chooser else (),
    )
    for candidates in _groups(transcript):
        if settings.label == "truth":
            dropped.add(Reason.NO_TRUTH)
            continue
        scores = {turn.id: turn.score for turn in candidates}
        make = RankedRows("siblings", provenance, settings, prompt_of, dropped)
        yield from make.rows(candidates, scores)


def _groups(transcript: Transcript) -> Iterator[list[Turn]]:
    groups: dict[tuple[int, str], list[Turn]] = defaultdict(list)
    for turn in transcript.turns:
        if turn.act.answers:
            groups[turn.step, turn.seat].append(turn)
    yield from (group for group in groups.values() if len(group) > 1)


@dataclass(frozen=True, slots=True)
class RankedRows:
    """Makes rows of candidates for one turn, by whatever scores them."""

    kind: str
    provenance: Provenance
    settings: PreferenceSettings
    prompt_of: PromptOf
    dropped: Dropped

    def rows(
        self, candidates: Iterable[Turn], scores: Mapping[str, float | None]
    ) -> Iterator[Preference]:
        """Rows of `candidates`, of which `scores` has each one's by its turn id."""
        by_prompt = self._usable(candidates, scores)
        for prompt, scored in by_prompt.items():
            if len(scored) < 2:
                self.dropped.add(Reason.NO_COMMON_PROMPT, len(by_prompt) > 1)
                continue
            ranked = self._rank(scored)
            yield from self._rows(ranked, prompt.read(self.prompt_of))

    def _usable(
        self, candidates: Iterable[Turn], scores: Mapping[str, float | None]
    ) -> dict[PromptTokens, list[Scored]]:
        """Candidates that can be compared, by prompt, the best first; equal texts kept once."""
        groups: dict[PromptTokens, dict[str, Scored]] = defaultdict(dict)
        for turn in candidates:
            reason, sample, score = flaw(turn), speech(turn), scores[turn.id]
            if reason is None and sample is None:
                reason = Reason.NO_PROMPT
            elif reason is None and score is None:
                reason = Reason.UNSCORED
            if reason is not None or sample is None or score is None:
                self.dropped.add(reason or Reason.NO_PROMPT)
            elif (made := response(turn)).text in groups[asked(sample)]:
                self.dropped.add(Reason.IDENTICAL)
            else:
                scored = made.model_copy(update={"score": score})
                groups[asked(sample)][made.text] = (scored, score)
        return {
            prompt: sorted(group.values(), key=lambda scored: -scored[1])
            for prompt, group in groups.items()
        }

    def _rank(self, scored: list[Scored]) -> list[tuple[Scored, ...]]:
        """The comparisons asked for, each from best to worst, without those too close to call."""
        settings = self.settings
        if settings.siblings == "kwise":
            pairs: list[tuple[Scored, ...]] = [tuple(scored)]
        elif settings.siblings == "best_worst":
            pairs = [(scored[0], scored[-1])]
        elif settings.siblings == "best_all":
            pairs = [(scored[0], other) for other in scored[1:]]
        else:
            pairs = list(combinations(scored, 2))
        kept = []
        for pair in pairs:
            gap = pair[0][1] - pair[-1][1]
            if gap <= TIE_TOLERANCE and not settings.ties:
                self.dropped.add(Reason.TIE)
            elif TIE_TOLERANCE < gap < settings.min_score_gap:
                self.dropped.add(Reason.BELOW_MARGIN)
            else:
                kept.append(pair)
        return kept

    def _rows(self, ranked: list[tuple[Scored, ...]], record: PromptRecord) -> Iterator[Preference]:
        for row in ranked:
            gap = row[0][1] - row[-1][1]
            weights = {"equal": 1.0, "per_prompt": 1.0 / len(ranked), "margin": gap}
            yield Preference(
                kind=self.kind,
                prompt=record.prompt,
                prompt_ids=record.token_ids or None,
                responses=tuple(scored for scored, _ in row),
                ranks=_dense_ranks([score for _, score in row]),
                margin=self.settings.margin_of(gap) if len(row) == 2 else None,
                weight=weights[self.settings.weight],
                provenance=self.provenance,
            )


def _dense_ranks(scores: list[float]) -> tuple[int, ...]:
    """Ranks of scores that fall from left to right: 0 is best, equal scores share a rank."""
    ranks = [0]
    for before, after in pairwise(scores):
        ranks.append(ranks[-1] + (before - after > TIE_TOLERANCE))
    return tuple(ranks)

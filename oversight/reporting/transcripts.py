"""Transcripts as pages: turns as they stood before the judge, with all that the records hold."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oversight.aggregation import rulings
from oversight.evals.observations import named, observe, side_of
from oversight.reporting.pages import (
    ActPlace,
    ActShown,
    BeliefChart,
    BeliefLine,
    BeliefShown,
    ChangeShown,
    JudgmentShown,
    MarkedStretch,
    QuoteNote,
    RatingShown,
    TranscriptPage,
    TurnShown,
    calls_of,
    compared,
)
from oversight.store import Store
from oversight.text.numbers import count, duration
from oversight.text.quotes import strip_quotes
from oversight.types import (
    Act,
    Belief,
    Feedback,
    JudgingEvent,
    Judgment,
    ModelAnswer,
    Option,
    OutcomeStatus,
    Quote,
    QuoteStatus,
    RatingEvent,
    Role,
    Seat,
    Transcript,
    Turn,
)

if TYPE_CHECKING:
    from oversight.judging.log import ActTarget


def transcript_page(store: Store, debate_id: str) -> TranscriptPage:
    """The page of a debate.

    Raises:
        StoreError: It is not stored, or cannot be read.
    """
    return page_of(store.transcript(debate_id), store.acts(debate_id))


def page_of(
    transcript: Transcript, acts: Iterable[JudgingEvent | RatingEvent] = ()
) -> TranscriptPage:
    """The page of a transcript."""
    debate, question = transcript.debate, transcript.question
    builder = _Builder(transcript)
    turns = builder.turns()
    done = tuple(_acts(transcript, builder, acts))
    outcome = transcript.outcome
    defended = {
        debate.orders.defended_by(seat): f"seat {seat.value.upper()}"
        for seat in debate.protocol.speakers
    }
    listed = debate.orders.options or tuple(range(len(question.options)))
    source = question.source
    return TranscriptPage(
        id=debate.id,
        question_id=question.id,
        dataset=question.dataset,
        split=question.split,
        question=question.text,
        history=tuple((message.role, message.content) for message in question.history),
        options=tuple(
            (chr(65 + place), question.options[n].text, n == question.correct, defended.get(n, ""))
            for place, n in enumerate(listed)
        ),
        source_title=source.title if source else "",
        source=builder.source(),
        source_words=len(source.text.split()) if source else 0,
        protocol=debate.protocol.name,
        protocol_says=debate.protocol.description,
        agents=tuple(
            (
                role.value,
                spec.agent if spec.engine is None else f"{spec.agent} · {named(spec)}",
                json.dumps(
                    spec.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False
                ),
            )
            for role, spec in debate.agents.items()
        ),
        orders=_orders(transcript),
        seed=debate.seed,
        status="unfinished" if outcome is None else outcome.status.value,
        error=outcome.error if outcome and outcome.status is OutcomeStatus.FAILED else "",
        ended=outcome.ended_at if outcome else "",
        turns=tuple(_at_turn(turn, done) for turn in turns),
        judgments=tuple(
            replace(builder.judgment(each), acts=_at(f"judgment-{each.id}", done))
            for each in transcript.judgments
        ),
        verdicts=tuple(verdicts(transcript)),
        ratings=tuple(
            replace(builder.rating(each), acts=_at(f"rating-{each.id}", done))
            for each in transcript.ratings
        ),
        acts=done,
        chart=_chart(transcript, builder.places),
        changes=tuple(_changes(transcript)),
        is_open=question.is_open,
    )


class _Builder:
    """Makes the parts of one page, with the numbers that they refer to one another by."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        orders = transcript.debate.orders
        shown = dict.fromkeys((*orders.shown, Seat.A, Seat.B, Seat.JUDGE))
        place = {seat: number for number, seat in enumerate(shown)}
        self._spoken = sorted(
            transcript.spoken(), key=lambda turn: (turn.step, place[turn.seat], turn.candidate)
        )
        self.places = {turn.id: n for n, turn in enumerate(self._spoken, 1)}
        self._number = itertools.count(1)
        self._quotes: dict[tuple[str, int], QuoteNote] = {}
        self._spans: list[tuple[int, int, int]] = []

    def place(self, target: ActTarget) -> ActPlace:
        """The place on the page that an act is about; after `turns`."""
        if target.kind != "turn":
            return ActPlace(f"{target.kind}-{target.id}", f"the {target.kind}")
        quote = self._quotes.get((target.id, -1 if target.quote is None else target.quote))
        if quote is not None and quote.turn:
            return ActPlace(f"quote-{quote.number}", f"quote {quote.number}", target.id)
        number = self.places.get(target.id)
        words = "a candidate" if number is None else f"turn {number}"
        return ActPlace(f"turn-{number or target.id}", words, target.id)

    def turns(self) -> tuple[TurnShown, ...]:
        """The turns in reading order."""
        siblings: dict[tuple[int, Seat, Act], list[Turn]] = defaultdict(list)
        for turn in self._transcript.turns:
            if not turn.chosen:
                siblings[turn.step, turn.seat, turn.act].append(turn)
        return tuple(
            self._turn(turn, number, siblings[turn.step, turn.seat, turn.act])
            for number, turn in enumerate(self._spoken, 1)
        )

    def _turn(self, turn: Turn, number: int, siblings: Sequence[Turn]) -> TurnShown:
        debate, question = self._transcript.debate, self._transcript.question
        speaks = turn.argues and turn.seat in debate.protocol.speakers
        segments, notes = self._marked(turn, number)
        candidates = tuple(
            self._turn(each, 0, ()) for each in sorted(siblings, key=lambda t: t.candidate)
        )
        return TurnShown(
            number=number,
            id=turn.id,
            seat=turn.seat.value,
            who=turn.role.value.capitalize()
            + ("" if turn.role is Role.JUDGE else f" {turn.seat.value.upper()}"),
            act=turn.act.value,
            step=turn.step,
            round=turn.round,
            defends=question.options[debate.orders.defended_by(turn.seat)].text if speaks else "",
            side=(side_of(debate, turn.seat, question.correct) or "") if speaks else "",
            segments=segments,
            num_words=len(turn.text.split()),
            reasoning=turn.reasoning,
            quotes=notes,
            belief=None if turn.belief is None else self._belief(turn.belief),
            notes=tuple(_turn_notes(turn)),
            principles=() if turn.under is None else tuple(_principles(turn)),
            calls=calls_of(turn.id, turn.samples),
            candidates=candidates,
            score=turn.score,
            text=turn.text,
        )

    def _marked(
        self, turn: Turn, number: int
    ) -> tuple[tuple[MarkedStretch, ...], tuple[QuoteNote, ...]]:
        """A turn's text with its quotes marked and their tags left out."""
        segments, notes, done = [], [], 0
        for place, quote in enumerate(turn.quotes):
            if quote.start < done or quote.end > len(turn.text):
                continue
            if before := strip_quotes(turn.text[done : quote.start]):
                segments.append(MarkedStretch(before))
            note = self._note(quote, number)
            self._quotes[turn.id, place] = note
            notes.append(note)
            segments.append(MarkedStretch(quote.text, quote.status.value, (note.number,)))
            done = quote.end
        if rest := strip_quotes(turn.text[done:]):
            segments.append(MarkedStretch(rest))
        return tuple(segments), tuple(notes)

    def _note(self, quote: Quote, turn: int) -> QuoteNote:
        number = next(self._number)
        near = quote.status is QuoteStatus.NEAR and quote.source_text is not None
        located = quote.source_start is not None and quote.source_end is not None
        if located and turn:
            self._spans.append((int(quote.source_start or 0), int(quote.source_end or 0), number))
        return QuoteNote(
            number=number,
            status=quote.status.value.replace("_", " "),
            text=quote.text,
            turn=turn,
            source_text=quote.source_text or "",
            similarity=quote.similarity,
            pieces=compared(quote.source_text or "", quote.text) if near else (),
            is_located=located and bool(turn) and self._transcript.question.source is not None,
        )

    def source(self) -> tuple[MarkedStretch, ...]:
        """The source, cut where quotes of it begin and end; after `turns`."""
        source = self._transcript.question.source
        if source is None:
            return ()
        text = source.text
        cuts = {0, len(text)}
        for start, end, _ in self._spans:
            cuts |= {min(start, len(text)), min(end, len(text))}
        segments = []
        for start, end in itertools.pairwise(sorted(cuts)):
            here = tuple(n for s, e, n in self._spans if s <= start and end <= e)
            begins = tuple(n for s, _, n in self._spans if s == start)
            segments.append(MarkedStretch(text[start:end], "quoted" if here else "", here, begins))
        return tuple(segments)

    def _belief(self, belief: Belief) -> BeliefShown:
        debate, question = self._transcript.debate, self._transcript.question
        listed = debate.orders.options or tuple(range(len(question.options)))
        probs = belief.probs or ()
        shown = tuple(
            (question.options[n].text, probs[n], n == question.correct)
            for n in listed
            if n < len(probs) and n < len(question.options)
        )
        return BeliefShown(
            belief.verdict.value, belief.method.value, shown, belief.mass, belief.raw
        )

    def judgment(self, judgment: Judgment) -> JudgmentShown:
        """A judgment; after `turns`."""
        question = self._transcript.question
        choice = judgment.final.choice
        known = choice is not None and question.correct is not None
        leaned = (self._quotes.get(each) for each in judgment.leaned_on)
        return JudgmentShown(
            id=judgment.id,
            judge=judgment.judge,
            kind=judgment.kind.value,
            is_swapped=judgment.swapped,
            revision=judgment.revision,
            belief=self._belief(judgment.final),
            right=choice == question.correct if known else None,
            choice="" if choice is None else question.options[choice].text,
            rationale=judgment.rationale,
            notes=tuple(_judgment_notes(judgment)),
            leaned_on=tuple(note.number for note in leaned if note is not None),
            calls=calls_of(judgment.id, judgment.samples),
        )

    def rating(self, rating: Feedback) -> RatingShown:
        """Feedback; after `turns`."""
        notes = [] if not rating.swapped else ["asked in the other order"]
        if rating.under is not None:
            notes += [f"under {name}: {text}" for name, text in rating.under.principles.items()]
        notes += [f"revision {rating.revision}"] * bool(rating.revision)
        notes += [f"study {rating.study}"] * bool(rating.study)
        notes += [f"sent {rating.sent_at}"] * bool(rating.sent_at)
        return RatingShown(
            id=rating.id,
            task=str(rating.task),
            rater=rating.judge,
            kind=rating.kind.value,
            turns=tuple(self.places.get(each, 0) for each in rating.turn_ids),
            answers=tuple(_answers(rating)),
            rationale=rating.rationale,
            notes=tuple(notes),
            calls=calls_of(rating.id, rating.samples),
        )


def _principles(turn: Turn) -> Iterator[str]:
    assert turn.under is not None
    for name, text in turn.under.principles.items():
        yield f"{name}{' (found a fault)' * (name in turn.under.violated)}: {text}"


def _turn_notes(turn: Turn) -> Iterator[str]:
    if turn.ends:
        yield "ended the debate"
    if turn.unchanged:
        yield "found no fault" if turn.act is Act.CRITIQUE else "changed nothing"
    if turn.stance is not None:
        yield turn.stance.value
    for defect in turn.defects:
        yield f"defect: {defect.value.replace('_', ' ')}"
    if turn.score is not None:
        yield f"score {turn.score:.2f}"
    if turn.seconds >= 1.0:
        yield duration(turn.seconds)


def _judgment_notes(judgment: Judgment) -> Iterator[str]:
    if judgment.swapped:
        yield "sides shown the other way round"
    if judgment.revision:
        yield f"revision {judgment.revision}"
    if judgment.informed:
        yield "made by somebody who had been told what is right: not counted"
    if judgment.study:
        yield f"study {judgment.study}"
    if judgment.arm is not None:
        yield f"assistance drawn: {judgment.arm}"
    if judgment.assistance:
        yield f"assistance shown: {', '.join(judgment.assistance)}"
    if judgment.active_s is not None:
        yield f"{duration(judgment.active_s)} of attention"
    if judgment.unseen:
        yield f"{count(len(judgment.unseen), 'turn')} not read to the end"
    if judgment.sent_at:
        yield f"sent {judgment.sent_at}"


def _answers(rating: Feedback) -> Iterator[tuple[str, str]]:
    if isinstance(rating.answer, ModelAnswer):
        for name, soft in rating.answer.answers.items():
            probs = soft.probs
            yield (
                name,
                "INVALID: could not be read"
                if probs is None
                else ", ".join(f"{value} {p:.2f}" for value, p in probs.items()),
            )
        return
    for name, value in rating.answer.model_dump(mode="json", exclude={"task"}).items():
        if isinstance(value, dict):
            yield from ((key, "–" if held is None else str(held)) for key, held in value.items())
        elif value is not None:
            yield name, str(value)


# --- what people did ---

QUESTION = ActPlace("question", "the question")
UNTOLD = ("samples", "seen", "step", "turn", "quote", "number", "move", "shown")
"""Fields of acts that are no words: links stand for them."""


def _acts(
    transcript: Transcript, builder: _Builder, events: Iterable[JudgingEvent | RatingEvent]
) -> Iterator[ActShown]:
    """Acts of people in the order of time, each with the places of the page that it is about."""
    from oversight.judging.log import ActTargets

    targets = ActTargets(transcript)
    options = transcript.question.options
    for number, event in enumerate(events, 1):
        told = (_field(name, value, options) for name, value in event.data.items())
        about = tuple(builder.place(each) for each in targets.of(event))
        yield ActShown(
            number=number,
            at=event.at,
            who=event.judge,
            what=event.kind.value,
            detail=", ".join(filter(None, told)),
            about=about or (QUESTION,),
        )


def _field(name: str, value: Any, options: Sequence[Option]) -> str:
    """A field of an act in words; nothing of one that says nothing."""
    if name == "on":
        return "picked" if value else "put back"
    if name in UNTOLD or value in ("", None, 0, {}):
        return ""
    if name == "probs":
        return ", ".join(f"{o.text} {p:.0%}" for o, p in zip(options, value, strict=False))
    if name == "unseen":
        return f"{count(len(value), 'turn')} not read to the end"
    if value is True:
        return name.replace("_", " ")
    if isinstance(value, dict):
        unit = " s" if name == "panels" else ""
        return ", ".join(f"{key} {_plain(held)}{unit}" for key, held in value.items())
    return value if name == "text" else f"{name.replace('_', ' ')} {_plain(value)}"


def _at_turn(turn: TurnShown, done: Sequence[ActShown]) -> TurnShown:
    """The turn and its candidates, with the acts that are about them."""
    acts = tuple(act for act in done if any(each.turn == turn.id for each in act.about))
    candidates = tuple(_at_turn(each, done) for each in turn.candidates)
    return replace(turn, acts=acts, candidates=candidates)


def _at(anchor: str, done: Sequence[ActShown]) -> tuple[ActShown, ...]:
    return tuple(act for act in done if any(each.anchor == anchor for each in act.about))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _orders(transcript: Transcript) -> str:
    orders = transcript.debate.orders
    if not orders.shown:
        return ""
    return "shown first: seat " + ", then ".join(seat.value.upper() for seat in orders.shown)


def verdicts(transcript: Transcript) -> Iterator[tuple[str, str, bool | None]]:
    """Of each ruling the judge, its words, and whether it is right; None where nobody knows."""
    if transcript.question.is_open:
        return
    for ruling in rulings(transcript):
        seen = observe(transcript, ruling)
        if seen.choice is None or seen.probs is None:
            word = "INVALID" if seen.verdict.value == "invalid" else seen.verdict.value
            yield ruling.judge, word, None
        else:
            chosen = transcript.question.options[seen.choice].text
            yield ruling.judge, f"{chosen} ({seen.probs[seen.choice]:.0%})", seen.right


def _chart(transcript: Transcript, places: dict[str, int]) -> BeliefChart | None:
    """Beliefs over the turns: 0 before the first of them, the judgment behind the last."""
    question = transcript.question
    if not question.options or not transcript.judgments:
        return None
    about = question.correct
    if about is None:
        about = transcript.debate.orders.options[0] if transcript.debate.orders.options else 0
    end = len(places) + 1
    last_of_step: dict[int, int] = {}
    for turn in transcript.spoken():
        last_of_step[turn.step] = max(last_of_step.get(turn.step, 0), places[turn.id])
    lines = []
    for ruling in rulings(transcript):
        points = [
            (float(last_of_step.get(step, 0)), belief.probs[about])
            for step, belief in ruling.trajectory
            if belief.probs is not None and about < len(belief.probs)
        ]
        if ruling.final.probs is not None and about < len(ruling.final.probs):
            points.append((float(end), ruling.final.probs[about]))
        if points:
            lines.append(BeliefLine(ruling.judge, tuple(sorted(points))))
    if all(len(line.points) < 2 for line in lines):
        return None
    # The word "judgment" takes the end of the axis.
    shown = range(1, int(end * 0.88) + 1, max(1, end // 10))
    ticks = [(float(place), str(place)) for place in shown]
    return BeliefChart(
        option=question.options[about].text,
        is_right=question.correct is not None,
        lines=tuple(lines),
        ticks=(*ticks, (float(end), "judgment")),
    )


def _changes(transcript: Transcript) -> Iterator[ChangeShown]:
    if not transcript.question.is_open:
        return
    from oversight.evals.principles import changes_of

    for number, change in enumerate(changes_of(transcript), 1):
        revised = change.revision
        after = change.before.text if revised is None else revised.text
        outcome = "revised"
        if revised is None or revised.unchanged or after == change.before.text:
            outcome = "nothing changed"
        yield ChangeShown(
            number=number,
            principles=change.violated or change.principles,
            critique=change.critique.text,
            pieces=compared(change.before.text, after) if outcome == "revised" else (),
            before=change.before.text,
            after=after,
            outcome=outcome,
        )

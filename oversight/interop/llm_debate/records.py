"""One transcript of llm_debate as the store's records, with the judgments in its row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from oversight.datasets.base import CLUSTER
from oversight.ids import content_id
from oversight.interop.base import UnusableItem
from oversight.text.quotes import find_quotes
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    EngineSpec,
    JudgeKind,
    Judgment,
    Option,
    Orders,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Question,
    Quote,
    QuoteStatus,
    Role,
    Seat,
    Slot,
    Source,
    Step,
    Stored,
    Turn,
    Verdict,
)

KEPT = "llm_debate"
"""Key of `Question.meta` under which the row stands."""
RECORDED = "recorded"
"""Agent of seats that were held elsewhere."""


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Answers(_Shape):
    correct: str
    incorrect: str


class _Names(_Shape):
    correct: str | None = None
    incorrect: str | None = None
    cross_examiner: str | None = None
    judge: str | None = None


class _Round(_Shape):
    correct: str | None = None
    incorrect: str | None = None
    cross_examiner: str | None = None
    judge: str | None = None
    type: Literal["sim", "seq"] | None = None

    @property
    def asked(self) -> str:
        """Words of the judge, or of the model that asks in its place, before the speeches."""
        return "\n\n".join(each for each in (self.judge, self.cross_examiner) if each)


class GivenTranscript(_Shape):
    """A transcript as the program keeps it."""

    index: int | None = None
    question: str
    question_set_id: str | None = None
    story: str | None = None
    story_title: str | None = None
    answers: _Answers
    names: _Names
    swap: bool
    rollout_type: str | None = None
    rounds: tuple[_Round, ...] = ()
    responses: Any = None
    extra: dict[str, Any] = Field(default_factory=dict)


class LlmDebateRow(NamedTuple):
    """A transcript, with the columns that it stood in."""

    file: Path
    line: int | None
    given: Mapping[str, Any]
    columns: Mapping[str, str]

    @property
    def place(self) -> str:
        """File and line."""
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"


SIDES = ("correct", "incorrect")
"""Keys of a round by the index of the option: the question's own order."""


class RowRecords:
    """One row as records."""

    def __init__(self, row: LlmDebateRow, given: GivenTranscript, judge: str) -> None:
        self.row, self.given, self.judge = row, given, judge
        self.source = self._source()
        self.seats = self._seats()
        self.question = self._question()
        self.protocol, self.places = self._protocol()
        self.debate = self._debate()

    def all(self) -> Iterator[Stored]:
        """Question, debate, turns, judgments and outcome."""
        yield self.question
        yield self.debate
        yield from self._turns()
        yield from self._judgments()
        yield Outcome(debate_id=self.debate.id, status=OutcomeStatus.COMPLETE)

    def _source(self) -> Source | None:
        text = self.given.story or ""
        return Source(title=self.given.story_title or "", text=text) if text.strip() else None

    def _seats(self) -> dict[int, Seat]:
        """Seats by the option that they argue for; A stood first before the judge."""
        spoken = [
            option
            for option, side in enumerate(SIDES)
            if any(getattr(each, side) is not None for each in self.given.rounds)
        ]
        if len(spoken) == 1:
            return {spoken[0]: Seat.A}
        order = reversed(spoken) if self.given.swap else spoken
        return dict(zip(order, (Seat.A, Seat.B), strict=False))

    def _question(self) -> Question:
        given = self.given
        kept = {"transcript": {key: each for key, each in self.row.given.items() if key != "story"}}
        if self.row.columns:
            kept["columns"] = dict(self.row.columns)
        name = self.row.columns.get("debate_id") or content_id("llm_debate", kept)[:16]
        key = (given.question.strip(), given.answers.correct, given.answers.incorrect)
        meta: dict[str, Any] = {CLUSTER: content_id(given.story_title or "", *key)[:16], KEPT: kept}
        for column in ("experiment_name", "debate_method", "consultant_type", "dataset_split"):
            if value := self.row.columns.get(column):
                meta[column] = value
        return Question(
            id=f"llm_debate:{name}",
            dataset="llm_debate",
            split=self.row.columns.get("dataset_split", ""),
            text=given.question.strip(),
            options=(Option(text=given.answers.correct), Option(text=given.answers.incorrect)),
            correct=0,
            source=self.source,
            meta=meta,
        )

    def _steps(self, given: _Round, *, asks: bool) -> list[Step]:
        seats = sorted(self.seats.values())
        found = [Step(slots=(Slot(seat=Seat.JUDGE, act=Act.ASK),))] if asks else []
        if given.type == "seq" and len(seats) > 1:
            return found + [Step(slots=(Slot(seat=seat),)) for seat in seats]
        return found + ([Step(slots=tuple(Slot(seat=seat) for seat in seats))] if seats else [])

    def _protocol(self) -> tuple[OversightProtocol, list[int]]:
        """The protocol that the rounds make, and the index of the first step of each."""
        rounds = self.given.rounds if self.seats else ()
        asks = [bool(each.asked) for each in rounds]
        later_ask = any(asks[1:])
        steps = [
            self._steps(each, asks=asks[0] if number == 0 else later_ask)
            for number, each in enumerate(rounds)
        ]
        alike = all(each == steps[1] for each in steps[2:])
        kind = ("naive", "consultancy", "debate")[len(self.seats)]
        opening = steps[0] if steps else []
        if not alike:
            opening = [step for some in steps for step in some]
        places, place = [], 0
        for some in steps:
            places.append(place)
            place += len(some)
        is_asked = any(asks)
        words = "in which a judge asks" if is_asked else "without a judge's questions"
        made = OversightProtocol(
            name=f"llm_debate_{kind}{'_interactive' * is_asked}",
            graph=kind,
            description=f"A {kind} of llm_debate, {words}."
            if rounds
            else "A judge of llm_debate decides without a debate.",
            opening=tuple(opening),
            round=tuple(steps[1]) if alike and len(steps) > 1 else (),
            rounds=len(steps) - 1 if alike and len(steps) > 1 else 0,
        )
        return made, places

    def _debate(self) -> Debate:
        names, protocol = self.given.names, self.protocol
        model = _model(self.row.columns.get("debater_config", ""))
        agents = {}
        if self.seats:
            called = {
                seat.value: name
                for option, seat in self.seats.items()
                if (name := getattr(names, SIDES[option]))
            }
            engine = EngineSpec(engine=RECORDED, settings={"model": model})
            agents[protocol.speaker_role] = AgentSpec(
                agent=RECORDED, settings=dict(called), engine=engine
            )
        if any(each.asked for each in self.given.rounds):
            asker = "human" if any(each.judge for each in self.given.rounds) else "unknown"
            engine = EngineSpec(engine=RECORDED, settings={"model": asker})
            agents[Role.JUDGE] = AgentSpec(agent=RECORDED, engine=engine)
        defends = sorted(self.seats, key=lambda option: self.seats[option])
        return Debate(
            question_id=self.question.id,
            question_fingerprint=self.question.fingerprint,
            protocol=protocol,
            agents=agents,
            orders=Orders(
                options=(1, 0) if self.given.swap else (0, 1),
                defends=tuple(defends),
                shown=tuple(self.seats[option] for option in defends),
            ),
            seed=0,
        )

    def _turns(self) -> Iterator[Turn]:
        schedule = self.protocol.schedule()
        for number, place in enumerate(self.places):
            given = self.given.rounds[number]
            shared = {"debate_id": self.debate.id, "round": schedule[place].round}
            asks = schedule[place].slots[0].seat is Seat.JUDGE
            if given.asked:
                yield Turn(
                    **shared,
                    step=place,
                    seat=Seat.JUDGE,
                    role=Role.JUDGE,
                    act=Act.ASK,
                    text=given.asked,
                )
            for option, seat in self.seats.items():
                text = getattr(given, SIDES[option])
                if text is None:
                    continue
                in_turn = given.type == "seq" and seat is Seat.B
                words, quotes = quoted(text, self.source)
                yield Turn(
                    **shared,
                    step=place + asks + in_turn,
                    seat=seat,
                    role=self.protocol.speaker_role,
                    act=Act.SPEAK,
                    text=words,
                    quotes=quotes,
                )

    # judgments

    def _judgments(self) -> Iterator[Judgment]:
        columns = self.row.columns
        if columns.get("confidence_correct"):
            yield self._human(columns)
        answers = sorted(name for name in columns if _ANSWER.fullmatch(name))
        for name in answers:
            done = columns.get(name.replace("answer", "complete", 1), "true").lower()
            if columns[name].strip() and done != "false":
                yield self._by_model(name, columns[name])

    def _human(self, columns: Mapping[str, str]) -> Judgment:
        place = "confidence_correct"
        try:
            p = float(columns[place])
        except ValueError:
            raise UnusableItem(f"{place} = {columns[place]!r}: it is no number") from None
        if not 0.0 <= p <= 1.0:
            raise UnusableItem(f"{place} = {columns[place]!r}: it is no probability")
        return Judgment(
            debate_id=self.debate.id,
            judge=f"judge {columns.get('judge_id', '')}".strip(),
            kind=JudgeKind.HUMAN,
            orders=self.debate.orders,
            final=_belief(p, BeliefMethod.HUMAN),
            rationale=columns.get("explanation", ""),
            study=columns.get("experiment_name", ""),
            sent_at=_time(columns.get("judgement_time", "")),
        )

    def _by_model(self, column: str, answer: str) -> Judgment:
        """A judgment as `answer_judge` has it: letters in the order shown, or a person's number."""
        vote = column.removeprefix("answer_")
        named = self.judge or self.row.file.parent.name
        final = read_answer(answer, swap=self.given.swap)
        is_persons = final.method is BeliefMethod.HUMAN
        return Judgment(
            debate_id=self.debate.id,
            judge=named if vote == "judge" else f"{named} {vote}",
            kind=JudgeKind.HUMAN if is_persons else JudgeKind.MODEL,
            orders=self.debate.orders,
            final=final,
        )


_TAG = re.compile(r"<(?P<close>/?)(?P<mark>[vu]_|)quote>", re.IGNORECASE)
_ANSWER = re.compile(r"answer_(?:judge|concession)\d*")
_LETTER = re.compile(r"^(?:Final )?Answer: <?([AB])>?\s*$", re.MULTILINE)
_PROBS = re.compile(r"Prob A: ([0-9.]+), Prob B: ([0-9.]+)")
_CONFIDENCE = re.compile(r"Confidence correct: ([0-9.]+)\s*\Z")


def quoted(text: str, source: Source | None) -> tuple[str, tuple[Quote, ...]]:
    """A speech with the tags of this project, and its quotes; checked where there is a story, else
    as its tags say."""
    words = _TAG.sub(lambda tag: f"<{tag['close']}quote>", text)
    found = find_quotes(words, source)
    if source is not None:
        return words, found
    marks = [tag["mark"] for tag in _TAG.finditer(text) if not tag["close"]]
    if len(marks) != len(found):
        return words, found  # tags within tags: nothing says which of them counts
    return words, tuple(
        quote.model_copy(update={"status": QuoteStatus.VERIFIED, "source_text": quote.text})
        if mark.lower() == "v_"
        else quote
        for mark, quote in zip(marks, found, strict=True)
    )


def read_answer(answer: str, *, swap: bool) -> Belief:
    """The belief in an answer of the program's judges, INVALID where it cannot be read.

    They answer with two probabilities, or with a letter after "Answer:", which is all of it.
    """
    if found := _CONFIDENCE.search(answer):
        p, method = _number(found[1]), BeliefMethod.HUMAN
    elif found := _PROBS.search(answer):
        a, b = _number(found[1]), _number(found[2])
        shown = None if a is None or b is None or not a + b else a / (a + b)
        p = None if shown is None else (1.0 - shown if swap else shown)
        method = BeliefMethod.LOGPROBS
    else:
        letters = set(_LETTER.findall(answer)) or set(
            re.findall(r"\A\(?([AB])\)?\Z", answer.strip())
        )
        p = None if len(letters) != 1 else float((letters == {"A"}) != swap)
        method = BeliefMethod.PARSED
    if p is None or not 0.0 <= p <= 1.0:
        return Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED, raw=answer)
    return _belief(p, method, answer)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _belief(p: float, method: BeliefMethod, raw: str = "") -> Belief:
    """Belief `p` in the right answer, which is option 0."""
    verdict = Verdict.TIE if p == 0.5 else Verdict.DECIDED
    return Belief(verdict=verdict, method=method, probs=(p, 1.0 - p), raw=raw)


def _model(config: str) -> str:
    """The model of a debater's settings: the innermost name in JSON, or the words as they are."""
    try:
        value = json.loads(config.replace("'", '"'))
        return str(value["language_model"]["model"])
    except (ValueError, KeyError, TypeError):
        return config.strip() or "unknown"


def _time(text: str) -> str:
    """A time in UTC, ISO 8601; empty where it cannot be read."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC).isoformat()

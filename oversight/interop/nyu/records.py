"""One NYU debate file as the store's records, and what no record holds of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from oversight.datasets.base import (
    CLUSTER,
)
from oversight.datasets.nyu import question_key
from oversight.interop.base import UnusableItem
from oversight.interop.nyu import files
from oversight.interop.nyu.files import story_text
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    EngineSpec,
    Feedback,
    JudgeKind,
    Judgment,
    Option,
    Orders,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    OwnAnswer,
    Question,
    Quote,
    Role,
    Seat,
    Slot,
    Step,
    Stored,
    Turn,
    Verdict,
)
from oversight.types.ratings import item_id

KEPT = "nyu"
"""Key of `Question.meta` under which stands what no record has a place for."""
SURVEY = "nyu_survey"
"""Name of the task of the survey that debaters and judges answered afterwards."""
ROLE = "role"
"""Key of the answers to the survey under which the part stands that the person had."""
WITHIN = " · "
"""Sign between a question of the survey and the side that it is answered for."""
LIVE, OFFLINE = "live", "offline"
"""Studies: the judge who talked with the debaters, and those who read afterwards."""
RECORDED = "recorded"
"""Agent of seats that were held elsewhere."""
ROUNDS = 50
"""Rounds of a protocol whose judge ends it."""
BEFORE = -1
"""Step of a belief that an offline judge gave before anything was read."""


class FileRecords:
    """One file as records."""

    def __init__(
        self,
        file: Path,
        value: dict[str, Any],
        told: dict[str, Any] | None,
        given: files.DebateFile,
        known: files.Metadata | None,
    ) -> None:
        self.file, self.value, self.told = file, value, told
        self.given, self.setup, self.known = given, given.setup, known
        self.story = story_text(self.setup.material.story.title, self.setup.material.story.contents)
        if len(self.setup.answers) != 2:
            raise UnusableItem(f"setup.answers: 2 are needed, here are {len(self.setup.answers)}")

    def records(self) -> Iterator[Stored]:
        """Question, debate, turns, judgments, survey and outcome."""
        yield self.question
        yield self.debate
        yield from self.turns
        yield from self._judgments()
        yield from self._survey()
        yield self._outcome()

    # who took part

    @cached_property
    def sides(self) -> tuple[int, ...]:
        """Indices of the answers that are argued for."""
        named = {index for index in (0, 1) if f"Debater {'AB'[index]}" in self.setup.roles}
        spoken = {side for each in self.given.rounds for side in each.speeches}
        found = named | spoken
        if len(found) == 1 and self.known is not None and self.known.setting.is_debate:
            return (0, 1)  # the other seat was not given to anybody yet
        return tuple(sorted(found)) or (0, 1)

    @property
    def is_debate(self) -> bool:
        """True where both answers are argued for."""
        return len(self.sides) > 1

    @property
    def is_human(self) -> bool:
        """True where people argue: as the metadata says, else by the speakers' names."""
        if self.known is not None:
            return self.known.setting.is_human
        return not any(name.upper().startswith("GPT") for name in self._speakers.values())

    @property
    def _speakers(self) -> dict[str, str]:
        """Names of those who argue, by their seats here."""
        roles = self.setup.roles
        named = {
            self._seat(side).value: roles.get(f"Debater {'AB'[side]}", "") for side in self.sides
        }
        return {seat: name for seat, name in named.items() if name}

    def _seat(self, side: int) -> Seat:
        return Seat.B if self.is_debate and side == 1 else Seat.A

    @cached_property
    def _ending(self) -> files.JudgeWords | None:
        """The belief with which a judge ended the debate."""
        last = [each.judge for each in self.given.rounds if each.judge and each.judge.ends]
        return last[-1] if last else None

    @cached_property
    def is_agreed(self) -> bool:
        """True if both sides voted to end it."""
        votes = [each.negotiation.votes for each in self.given.rounds if each.negotiation]
        last = {int(side) for side, vote in votes[-1].items() if vote} if votes else set()
        return last >= set(self.sides)

    @property
    def is_complete(self) -> bool:
        """True if it came to an end."""
        if self.known is not None:
            return self.known.state == "Complete"
        return self._ending is not None or self.is_agreed

    # the debate

    @cached_property
    def question(self) -> Question:
        """The question, with all that no other record holds."""
        setup, story = self.setup, self.setup.material.story
        people = "human" if self.is_human else "AI"
        meta: dict[str, Any] = {
            CLUSTER: question_key(story.article_id, setup.question, setup.answers),
            "article": story.article_id,
            "debates": [self.file.name],
            "setting": f"{people} {'debate' if self.is_debate else 'consultancy'}",
        }
        if self.known is not None and self.known.in_paper is not None:
            meta["in_paper"] = self.known.in_paper
        return Question(
            id=f"nyu:{self.file.stem}",
            dataset="nyu",
            text=setup.question.strip(),
            options=tuple(Option(text=answer.strip()) for answer in setup.answers),
            correct=setup.correct,
            source=self.story.source,
            meta=meta | {KEPT: {"file": self._rest(), "metadata": self.told}},
        )

    @cached_property
    def debate(self) -> Debate:
        """The debate: all that determines it."""
        protocol = self.protocol
        model = "human"
        if not self.is_human:
            model = " and ".join(sorted(set(self._speakers.values()))) or "AI"
        agents = {protocol.speaker_role: _recorded(model, self._speakers)}
        if any(slot.seat is Seat.JUDGE for step in protocol.schedule() for slot in step.slots):
            judge = self.setup.roles.get("Judge", "")
            agents[Role.JUDGE] = _recorded("human", {"judge": judge} if judge else {})
        return Debate(
            question_id=self.question.id,
            question_fingerprint=self.question.fingerprint,
            protocol=protocol,
            agents=agents,
            orders=Orders(
                options=(0, 1),
                defends=self.sides,
                shown=(Seat.A, Seat.B) if self.is_debate else (Seat.A,),
            ),
            seed=0,
        )

    @cached_property
    def protocol(self) -> OversightProtocol:
        """The rules as a protocol; where the rounds did not follow these, the rounds themselves."""
        rules = self.setup.rules
        opening = [step for each in rules.opening for step in self._steps(_kind(each))]
        repeated = [step for each in rules.repeated for step in self._steps(_kind(each))]
        actual = [step for each in self.given.rounds for step in self._steps(each.kind)]
        kinds = {_kind(each) for each in (*rules.opening, *rules.repeated)}
        needed = len(actual) // max(len(repeated), 1) + 1
        made = self._protocol(
            opening, repeated, max(ROUNDS, needed), judged="JudgeFeedback" in kinds
        )
        planned = [each.slots for each in made.schedule()[: len(actual)]]
        if planned == [each.slots for each in actual]:
            return made
        return self._protocol(actual, [], 0, judged=any(each.judge for each in self.given.rounds))

    def _protocol(
        self, opening: list[Step], repeated: list[Step], rounds: int, *, judged: bool
    ) -> OversightProtocol:
        if rounds > 100:
            raise UnusableItem(
                f"rounds: {len(self.given.rounds)} of them, more than a protocol can have"
            )
        what = "debate" if self.is_debate else "consultancy"
        how = "a judge gives a belief, speaks and may end it" if judged else "it ends by agreement"
        limits = [
            limit["charLimit"]
            for each in (*self.setup.rules.opening, *self.setup.rules.repeated)
            for kind, limit in each.items()
            if kind.endswith("SpeechesRound") and isinstance(limit.get("charLimit"), int)
        ]
        return OversightProtocol(
            name=f"nyu_{what}" if judged else f"nyu_{what}_negotiated",
            graph=what,
            description=f"A {what} of the NYU study over a story, round by round: {how}.",
            opening=tuple(opening),
            round=tuple(repeated),
            rounds=rounds,
            beliefs_public=True,
            max_words=max(1, limits[0] // 5) if limits else 150,
        )

    def _steps(self, kind: str) -> list[Step]:
        """Steps of one round: a judge believes, then speaks; speakers act at once, or in turn."""
        seats = [self._seat(side) for side in self.sides]
        if kind == "JudgeFeedback":
            believe = Slot(seat=Seat.JUDGE, act=Act.BELIEVE, may_end=True)
            ask = Slot(seat=Seat.JUDGE, act=Act.ASK)
            return [Step(slots=(believe,)), Step(slots=(ask,))]
        if kind == "SimultaneousSpeeches":
            return [Step(slots=tuple(Slot(seat=seat) for seat in seats))]
        if kind == "SequentialSpeeches":
            return [Step(slots=(Slot(seat=seat),)) for seat in seats]
        return []

    @cached_property
    def _first_steps(self) -> list[int]:
        """The index of the first step of every round in the file."""
        found, step = [], 0
        for each in self.given.rounds:
            found.append(step)
            step += len(self._steps(each.kind))
        return found

    def _step_of(self, number: int, seat: Seat) -> int:
        """The step at which a seat speaks in a round of the file."""
        first = self._first_steps[number]
        in_turn = self.given.rounds[number].kind == "SequentialSpeeches" and self.is_debate
        return first + (in_turn and seat is Seat.B)

    # what was said

    @cached_property
    def spoken(self) -> dict[tuple[int, int], tuple[str, tuple[Quote, ...]]]:
        """Text and quotes of every speech, by the round's index and the answer's."""
        return {
            (number, side): self.story.speech(
                speech.content, f"rounds.{number}.{each.kind}.speeches.{side}.content"
            )
            for number, each in enumerate(self.given.rounds)
            for side, speech in each.speeches.items()
        }

    @cached_property
    def turns(self) -> list[Turn]:
        """All turns, in the order in which they were taken."""
        rounds = {each.index: each.round for each in self.protocol.schedule()}
        found: list[Turn] = []
        for number, each in enumerate(self.given.rounds):
            if each.judge is not None:
                found += self._judge_turns(number, each.judge, rounds)
            for side in each.speeches:
                step = self._step_of(number, self._seat(side))
                text, quotes = self.spoken[number, side]
                found.append(
                    Turn(
                        debate_id=self.debate.id,
                        step=step,
                        round=rounds[step],
                        seat=self._seat(side),
                        role=self.protocol.speaker_role,
                        act=Act.SPEAK,
                        text=text,
                        quotes=quotes,
                        ends=self.is_agreed and number == self._last_speeches,
                    )
                )
        return found

    @property
    def _last_speeches(self) -> int:
        """Index of the last round of speeches; -1 if there is none."""
        return max((n for n, each in enumerate(self.given.rounds) if each.speeches), default=-1)

    def _judge_turns(
        self, number: int, given: files.JudgeWords, rounds: dict[int, int]
    ) -> Iterator[Turn]:
        """The judge's belief, and the words behind it unless they are those of the judgment."""
        step = self._first_steps[number]
        belief = self._belief(given, f"rounds.{number}.JudgeFeedback")
        turn = Turn(
            debate_id=self.debate.id,
            step=step,
            round=rounds[step],
            seat=Seat.JUDGE,
            role=Role.JUDGE,
            act=Act.BELIEVE,
            belief=belief,
            ends=given.ends,
        )
        yield turn
        text, quotes = self.story.speech(
            given.feedback.content, f"rounds.{number}.JudgeFeedback.feedback.content"
        )
        if text and not given.ends:
            words = {"act": Act.ASK, "belief": None, "text": text, "quotes": quotes}
            yield turn.model_copy(update={**words, "step": step + 1, "round": rounds[step + 1]})

    def _belief(self, given: files.JudgeWords, place: str) -> Belief:
        probs = given.distribution
        if len(probs) != len(self.setup.answers):
            raise UnusableItem(
                f"{place}.distribution = {list(probs)}: one probability an answer is needed, and "
                f"there are {len(self.setup.answers)} answers"
            )
        is_tie = probs.count(max(probs)) > 1
        return Belief(
            verdict=Verdict.TIE if is_tie else Verdict.DECIDED,
            method=BeliefMethod.HUMAN,
            probs=probs,
        )

    # what was judged

    def _judgments(self) -> Iterator[Judgment]:
        """The judgment of whoever ended the debate, and those given afterwards."""
        judges: list[str] = []
        if self._ending is not None:
            judges.append(self._ending.feedback.speaker)
            beliefs = [(turn.step, turn.belief) for turn in self.turns if turn.belief is not None]
            yield self._judgment(self._ending, beliefs, LIVE)
        for number, each in enumerate(self.given.rounds):
            for judge, work in each.offline.judgments.items() if each.offline else ():
                place = f"rounds.{number}.OfflineJudgments.judgments.{judge}"
                beliefs = [
                    (self._step_after(read), self._belief(given, f"{place}.judgments.{read}"))
                    for read, given in enumerate(work.judgments)
                    if work.mode == "stepped"
                ]
                if work.judgments and work.judgments[-1].ends:
                    made = self._judgment(work.judgments[-1], beliefs, f"{OFFLINE} {work.mode}")
                    again = judges.count(judge)  # by one name it would revise the other judgment
                    judges.append(judge)
                    name = f"{judge} ({OFFLINE} {again})" if again else judge
                    yield made.model_copy(update={"judge": name})

    def _step_after(self, num_read: int) -> int:
        """The last step of so many rounds of speeches."""
        spoken = [n for n, each in enumerate(self.given.rounds) if each.speeches]
        if not num_read or not spoken:
            return BEFORE
        number = spoken[min(num_read, len(spoken)) - 1]
        return max(self._step_of(number, self._seat(s)) for s in self.given.rounds[number].speeches)

    def _judgment(
        self, given: files.JudgeWords, beliefs: list[tuple[int, Belief]], study: str
    ) -> Judgment:
        text, _ = self.story.speech(given.feedback.content, "feedback.content")
        return Judgment(
            debate_id=self.debate.id,
            judge=given.feedback.speaker,
            kind=JudgeKind.HUMAN,
            orders=self.debate.orders,
            trajectory=tuple(dict(beliefs).items()),
            final=self._belief(given, "the last belief"),
            rationale=text,
            study=study,
            sent_at=_time(given.feedback.timestamp),
        )

    def _survey(self) -> Iterator[Feedback]:
        """Answers to the survey; of a debate in which nothing was said they stay in the rest."""
        turns = tuple(turn.id for turn in self.turns)
        for name, fields in self.given.feedback.items() if turns else ():
            yield Feedback(
                debate_id=self.debate.id,
                item=item_id(SURVEY, turns),
                turn_ids=turns,
                judge=name,
                answer=OwnAnswer(task=SURVEY, fields=survey_fields(fields)),
            )

    def _outcome(self) -> Outcome:
        ended = self.known.ended_ms if self.known is not None else None
        if ended is None and self._ending is not None:
            ended = self._ending.feedback.timestamp
        at = "" if ended is None else _time(ended)
        if self.is_complete:
            status, error, cause = OutcomeStatus.COMPLETE, "", ""
        elif self.given.rounds:
            status, cause = OutcomeStatus.FAILED, "unfinished"
            error = "the debate was going on when its file was written"
        else:
            status, cause = OutcomeStatus.FAILED, "not_begun"
            error = "the debate had not begun when its file was written"
        return Outcome(
            debate_id=self.debate.id, status=status, error=error, cause=cause, ended_at=at
        )

    # the rest of the file, and the way back

    def _rest(self) -> dict[str, Any]:
        """The file without what its records hold: speeches, the story, the survey."""
        value: dict[str, Any] = json.loads(json.dumps(self.value))
        material = material_of(value)
        if self.story.splices is not None:
            material["contents"] = {"splices": self.story.splices}
        for (number, side), words in self.spoken.items():
            kind = self.given.rounds[number].kind
            speech = value["rounds"][number][kind]["speeches"][str(side)]
            if self.story.segments(*words) == speech["content"]:
                del speech["content"]
        if self.given.rounds and self.given.feedback:
            value["feedback"] = list(self.given.feedback)
        return value


def survey_fields(given: dict[str, Any]) -> dict[str, Any]:
    """A person's answers to the survey beside their role: `{role: {"answers": {...}}}` made flat,
    answers on both sides as two; another shape as it is."""
    if len(given) != 1:
        return given
    [(role, inner)] = given.items()
    answers = inner.get("answers") if isinstance(inner, dict) and len(inner) == 1 else None
    if not isinstance(answers, dict) or ROLE in answers:
        return given
    inside = (side for value in answers.values() if isinstance(value, dict) for side in value)
    if any(WITHIN.strip() in key for key in (*answers, *inside)):
        return given
    found = {ROLE: role}
    for key, value in answers.items():
        if isinstance(value, dict) and value:
            found |= {f"{key}{WITHIN}{side}": each for side, each in value.items()}
        else:
            found[key] = value
    return found


def survey_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Answers to the survey as files have them: the way back from `survey_fields`."""
    if not isinstance(role := fields.get(ROLE), str):
        return fields
    answers: dict[str, Any] = {}
    for key, value in fields.items():
        name, within, side = key.partition(WITHIN)
        if within:
            answers.setdefault(name, {})[side] = value
        elif key != ROLE:
            answers[key] = value
    return {role: {"answers": answers}}


def _recorded(model: str, names: dict[str, str]) -> AgentSpec:
    """A seat that was held elsewhere, by people of these names or by a model."""
    engine = EngineSpec(engine=RECORDED, settings={"model": model})
    return AgentSpec(agent=RECORDED, settings=dict(names), engine=engine)


def _kind(rule: dict[str, Any]) -> str:
    """The kind of rounds that a rule makes."""
    return next(iter(rule), "").removesuffix("Round")


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def material_of(value: dict[str, Any]) -> dict[str, Any]:
    """The story in a file."""
    material: dict[str, Any]
    [material] = value["setup"]["sourceMaterial"].values()
    return material

"""A store with candidates, speeches and revisions to be rated, and people at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from oversight import protocols
from oversight.engines.scripted import encode
from oversight.judging.desk import TaskDesk
from oversight.judging.settings import RatingSettings
from oversight.store import Store
from oversight.text.quotes import find_quotes
from oversight.tui.person_app import RateApp
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    Feedback,
    FinishReason,
    Message,
    Option,
    Orders,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Prompt,
    PromptRecord,
    Purpose,
    Question,
    RatingEvent,
    Role,
    Sample,
    Seat,
    Source,
    Task,
    Turn,
    Usage,
)

MODEL = "secret-model-9000"
SOURCE = Source(
    title="The house log",
    text=(
        "At nine Ada carried the brass lamp to the attic. "
        "At ten Bo carried the brass lamp down to the cellar. "
        "At noon Cy swept the cellar and found nothing."
    ),
)
CANDIDATES = (
    "Bo took it down: <quote>At ten Bo carried the brass lamp down to the cellar.</quote> That is "
    "the last anybody wrote of it, so there it is.",
    "Everybody knows that it is in the cellar, trust me.",
    "The cellar! <quote>Bo was seen with the lamp in the cellar at midnight by Ada</quote>.",
)


class Records:
    """Debates of a store, made by hand as the graphs would make them."""

    def __init__(self, store: Store, names: tuple[str, ...] = ()) -> None:
        """Debates of `store`; `names` are whose words stand in questions and options."""
        self.store = store
        self._number = 0
        self._names = names or ("Where is the brass lamp", "the attic", "the cellar")

    def _debate(self, protocol: OversightProtocol, *, shown_b: bool = False) -> Debate:
        question = Question(
            id=f"q{self._number}",
            dataset="house",
            text=f"{self._names[0]} at the end of day {self._number}?",
            options=(Option(text=self._names[-2]), Option(text=self._names[-1])),
            correct=1,
            source=SOURCE,
        )
        self._number += 1
        debate = Debate(
            question_id=question.id,
            question_fingerprint=question.fingerprint,
            protocol=protocol,
            agents={Role.JUDGE: AgentSpec(agent="judge")},
            orders=Orders(options=(0, 1), defends=(1, 0), shown=(Seat.A, Seat.B)),
            seed=self._number,
        )
        self.store.add(question, debate)
        return debate

    def _turn(self, debate: Debate, text: str, step: int = 0, **changes: Any) -> Turn:
        seat = changes.get("seat", Seat.A)
        prompt = Prompt(
            messages=(Message(role="user", parts=(f"{debate.id} {step} {seat}. ", "Speak.")),)
        )
        record = PromptRecord(prompt, tuple(encode("Speak. " * 4)))
        sample = Sample(
            purpose=Purpose.SPEECH,
            engine="scripted",
            model=changes.pop("model", MODEL),
            prompt_id=prompt.id,
            text=text,
            token_ids=tuple(encode(text)),
            logprobs=tuple(-0.5 for _ in encode(text)),
            finish_reason=FinishReason.STOP,
            usage=Usage(prompt_tokens=len(record.token_ids)),
        )
        given = {
            "debate_id": debate.id,
            "step": step,
            "round": 1,
            "seat": seat,
            "role": Role.DEBATER,
            "act": Act.SPEAK,
            "text": text,
            "quotes": find_quotes(text, SOURCE),
            "samples": (sample,),
        }
        turn = Turn(**(given | changes))
        self.store.add(record, turn)
        return turn

    def best_of(self, *texts: str) -> tuple[Turn, ...]:
        """Candidates of one speaker in a debate of one turn."""
        debate = self._debate(protocols.load("consultancy_single_turn_best_of_n"))
        turns = tuple(
            self._turn(
                debate,
                text,
                candidate=number,
                chosen=number == 0,
                score=0.9 - number / 10,
                role=Role.CONSULTANT,
            )
            for number, text in enumerate(texts or CANDIDATES)
        )
        self._complete(debate)
        return turns

    def debate(self, *texts: str) -> tuple[Turn, ...]:
        """Speeches of A and B in turn, one a step."""
        debate = self._debate(protocols.load("debate_sequential"))
        turns = tuple(
            self._turn(debate, text, step, seat=(Seat.A, Seat.B)[step % 2], round=step // 2 + 1)
            for step, text in enumerate(texts or CANDIDATES[:2])
        )
        self._complete(debate)
        return turns

    def critique(self, *texts: str, **changes: Any) -> tuple[Turn, ...]:
        """A speech, a criticism of it, and the revised speech."""
        debate = self._debate(protocols.load("critique"))
        said = texts or (
            CANDIDATES[1],
            "It proves nothing. The log says <quote>At ten Bo carried the brass lamp down to the "
            "cellar.</quote>, and the speech leaves that out.",
            CANDIDATES[0],
        )
        places: tuple[tuple[Seat, Role, Act], ...] = (
            (Seat.A, Role.CONSULTANT, Act.SPEAK),
            (Seat.B, Role.CRITIC, Act.CRITIQUE),
            (Seat.A, Role.CONSULTANT, Act.REVISE),
        )
        turns = tuple(
            self._turn(debate, text, step, seat=seat, role=role, act=act, **changes)
            for step, (text, (seat, role, act)) in enumerate(zip(said, places, strict=True))
        )
        self._complete(debate)
        return turns

    def _complete(self, debate: Debate) -> None:
        self.store.add(Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE))

    def desk(self, task: Task, judge: str = "anna", **changes: Any) -> TaskDesk:
        """Someone who rates at the store."""
        store = changes.pop("store", self.store)
        return TaskDesk(store, RatingSettings.parse({"judge": judge, **changes}), task)

    def ratings(self) -> list[Feedback]:
        return [rating for each in self.store.transcripts() for rating in each.ratings]


@pytest.fixture
def records_at() -> Any:
    """Records in a store of one's own, of one's own words."""
    return lambda store, names: Records(store, tuple(names))


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Store.open(tmp_path / "store.db") as store:
        yield Records(store)


class Screen:
    """The app in a test, and what is in its store."""

    def __init__(self, records: Records, app: RateApp, pilot: Pilot[None]) -> None:
        self.records = records
        self.app = app
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def see(self, *words: str, seconds: float = 20.0) -> None:
        """Wait until all these words are on the screen."""
        for _ in range(int(seconds / 0.02)):
            if all(word in self.text for word in words):
                return
            await self.pilot.pause(0.02)
        raise AssertionError(f"{words} are not on the screen:\n{self.text}")

    @property
    def text(self) -> str:
        """The words on the screen, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    def events(self, judge: str = "anna") -> list[RatingEvent]:
        desk = self.app.desk
        return [
            e for item in desk.queue() for e in self.records.store.rating_events(item.key, judge)
        ]


@pytest.fixture
def rating(records: Records) -> Any:
    """Open the app on the store: `async with rating(Task.PAIRS, **settings) as screen`."""

    @asynccontextmanager
    async def opened(
        task: Task, size: tuple[int, int] = (100, 30), **settings: Any
    ) -> AsyncIterator[Screen]:
        given = {"judge": "anna", "store": records.store.url, **settings}
        app = RateApp(records.store, RatingSettings.parse(given), task)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield Screen(records, app, pilot)

    return opened

"""People on seats of a graph: it waits for them, keeps what programs said, and takes no rubbish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from oversight import protocols, registry
from oversight.agents import build_agent
from oversight.errors import ProtocolError
from oversight.graphs.planning import Cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import INTERRUPT, PersonsAct, Runtime
from oversight.judging.tasks.debate import stated
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    Draft,
    JudgeKind,
    Judgment,
    OutcomeStatus,
    OversightProtocol,
    Question,
    Role,
    Seat,
    Slot,
    Step,
    Transcript,
    View,
)

HUMAN = AgentSpec(agent="human")


class Played:
    """A debate with people in it, gone on with by hand."""

    def __init__(self, theatre: Any, *persons: Role) -> None:
        self.store = theatre.store
        cast = theatre.cast()
        person = build_agent(HUMAN)
        agents = {role: person if role in persons else a for role, a in cast.agents.items()}
        specs = {role: HUMAN if role in persons else s for role, s in cast.specs.items()}
        self.runtime = Runtime(self.store, Cast(agents, specs, {}))
        self.debate: Debate | None = None
        self._graph: Any = None
        self._config: dict[str, Any] = {}

    async def begin(self, question: Question, protocol: str | OversightProtocol) -> Any:
        """Plan a debate and run it until somebody is needed."""
        chosen = protocols.load(protocol) if isinstance(protocol, str) else protocol
        [(debate, _)] = plan([question], [chosen], self.runtime.cast.specs)
        await self.runtime.enter(debate, question)
        self.debate = debate
        return await self.go("first")

    async def go(self, thread: str) -> Any:
        """Go on from the store, as a new process would."""
        assert self.debate is not None
        self._graph = registry.load("graphs", self.debate.protocol.graph).build(self.runtime)
        self._graph.checkpointer = InMemorySaver()
        self._config = {"configurable": {"thread_id": thread}}
        return self._asked(await self._graph.ainvoke({"debate_id": self.debate.id}, self._config))

    async def answer(self, answer: Any) -> Any:
        """Bring what it waits for; what it waits for next."""
        return self._asked(await self._graph.ainvoke(Command(resume=answer), self._config))

    def said(self) -> list[tuple[int, Seat, str]]:
        return [(turn.step, turn.seat, turn.text) for turn in self.transcript().turns]

    def transcript(self) -> Transcript:
        assert self.debate is not None
        return self.store.transcript(self.debate.id)

    def _asked(self, state: Any) -> Any:
        found = state.get(INTERRUPT)
        return None if not found else found[0].value


def judgment_for(debate: Debate, **changes: Any) -> dict[str, Any]:
    given = {
        "debate_id": debate.id,
        "judge": "anna",
        "kind": JudgeKind.HUMAN,
        "orders": debate.orders,
        "final": stated((0.3, 0.7)),
    }
    return Judgment(**(given | changes)).model_dump(mode="json")


async def test_a_batch_goes_as_far_as_it_can_without_its_judge(
    theatre: Any, make_questions: Callable[[int], list[Question]]
) -> None:
    played = Played(theatre, Role.JUDGE)
    questions = make_questions(4)
    chosen = [protocols.load(name) for name in ("debate", "debate_interactive")]
    debates = list(plan(questions, chosen, played.runtime.cast.specs))
    progress = await run_debates(debates, played.runtime, concurrency=3)
    assert (progress.done, progress.waiting, progress.failures) == (0, 8, [])
    before = {t.debate.id: t.turns for t in theatre.store.transcripts(complete=None)}
    assert [len(turns) for turns in before.values()] == [2] * 8
    num_asked = len(theatre.speaker.views)

    again = await run_debates(debates, played.runtime, concurrency=3)
    assert (again.done, again.found, again.waiting) == (0, 0, 8)
    assert {t.debate.id: t.turns for t in theatre.store.transcripts(complete=None)} == before
    assert len(theatre.speaker.views) == num_asked
    assert theatre.store.claim(before) == set(before)
    assert all(t.outcome is None for t in theatre.store.transcripts(complete=None))
    assert len(theatre.store.queue("anna")) == 8
    assert theatre.store.check() == []


async def test_a_request_says_which_seat_and_act_and_is_plain(
    theatre: Any, question: Question
) -> None:
    played = Played(theatre, Role.JUDGE)
    asked = await played.begin(question, "debate_interactive")
    assert asked == {
        "debate_id": played.debate.id,
        "step": 1,
        "round": 1,
        "seat": "judge",
        "act": "believe",
        "may_end": True,
    }


def at_once() -> OversightProtocol:
    """One round in which both seats speak at once."""
    return OversightProtocol(
        name="both_at_once",
        graph="debate",
        rounds=1,
        round=(Step(slots=(Slot(seat=Seat.A), Slot(seat=Seat.B))),),
    )


async def test_two_people_who_speak_at_once_are_asked_one_after_the_other(
    theatre: Any, question: Question
) -> None:
    played = Played(theatre, Role.DEBATER)
    asked = await played.begin(question, at_once())
    seats = []
    while asked is not None:
        seats.append(asked["seat"])
        words = f"<quote>to the attic</quote> says {asked['seat']}"
        asked = await played.answer(PersonsAct(text=words, seconds=3.0).model_dump(mode="json"))
    assert seats == ["a", "b"]
    turns = played.transcript().turns
    assert [turn.seat for turn in turns] == [Seat.A, Seat.B]
    assert all(turn.seconds == 3.0 and turn.samples == () for turn in turns)
    assert [[quote.text for quote in turn.quotes] for turn in turns] == [["to the attic"]] * 2
    assert played.transcript().outcome.status is OutcomeStatus.COMPLETE
    assert len(theatre.judge.views) == 1
    assert theatre.store.check() == []


async def test_at_once_people_may_leave_before_the_other_speaks(
    theatre: Any, question: Question
) -> None:
    played = Played(theatre, Role.DEBATER)
    await played.begin(question, at_once())
    await played.answer(PersonsAct(text="mine").model_dump(mode="json"))
    asked = await played.go("tomorrow")
    assert asked["seat"] == "b"
    assert await played.answer(PersonsAct(text="and mine").model_dump(mode="json")) is None
    assert played.said() == [(0, Seat.A, "mine"), (0, Seat.B, "and mine")]


async def test_a_program_that_speaks_at_the_same_time_is_recorded_first_and_asked_once(
    theatre: Any, question: Question
) -> None:
    played = Played(theatre, Role.CONSULTANT)
    protocol = OversightProtocol(
        name="with_a_critic",
        graph="critique",
        opening=(
            Step(slots=(Slot(seat=Seat.A), Slot(seat=Seat.B, act=Act.CRITIQUE))),
        ),
    )  # fmt: skip
    asked = await played.begin(question, protocol)
    assert (asked["seat"], asked["act"]) == ("a", "speak")
    assert played.said() == [(0, Seat.B, "critic in step 0")]
    await played.go("after a kill")
    assert await played.answer(PersonsAct(text="my own words").model_dump(mode="json")) is None
    assert played.said() == [(0, Seat.A, "my own words"), (0, Seat.B, "critic in step 0")]
    assert len(theatre.critic.views) == 1
    assert len(played.transcript().judgments) == 1


async def test_a_person_cannot_end_a_debate_where_the_slot_does_not_allow_it(
    theatre: Any, question: Question
) -> None:
    played = Played(theatre, Role.DEBATER)
    await played.begin(question, at_once())
    await played.answer(PersonsAct(text="end it", ends=True).model_dump(mode="json"))
    assert [turn.ends for turn in played.transcript().turns] == [False]


@pytest.mark.parametrize(
    ("rubbish", "reason"),
    [
        ({"text": "no belief"}, "has no belief"),
        ({"words": "hello"}, "no PersonsAct"),
        ("yes", "no PersonsAct"),
        (["a"], "no PersonsAct"),
        ({"belief": {"verdict": "decided", "method": "human", "probs": [0.9, 0.9]}}, "sum to 1"),
        ({"belief": None, "seconds": -1}, "no PersonsAct"),
    ],
)
async def test_rubbish_in_place_of_an_act_is_refused_and_nothing_recorded(
    theatre: Any, question: Question, rubbish: Any, reason: str
) -> None:
    played = Played(theatre, Role.JUDGE)
    await played.begin(question, "debate_interactive")
    before = played.said()
    with pytest.raises(ProtocolError, match=reason):
        await played.answer(rubbish)
    assert played.said() == before
    asked = await played.go("again")
    assert asked["act"] == "believe"
    good = PersonsAct(belief=stated((0.3, 0.7)))
    assert (await played.answer(good.model_dump(mode="json")))["act"] == "ask"


async def test_rubbish_in_place_of_a_judgment_is_refused(theatre: Any, question: Question) -> None:
    played = Played(theatre, Role.JUDGE)
    asked = await played.begin(question, "debate_single_turn")
    assert asked["act"] == "decide"
    debate = played.debate
    for number, (given, reason) in enumerate(
        [
            ({"judge": "anna"}, "no Judgment"),
            ("A", "no Judgment"),
            (judgment_for(debate, debate_id="another"), "not its own"),
            (judgment_for(debate, kind=JudgeKind.MODEL), "not its own"),
        ]
    ):
        with pytest.raises(ProtocolError, match=reason):
            await played.answer(given)
        await played.go(str(number))
    assert played.transcript().judgments == ()
    assert await played.answer(judgment_for(debate)) is None
    [judgment] = played.transcript().judgments
    assert judgment.judge == "anna"
    assert played.transcript().outcome.status is OutcomeStatus.COMPLETE
    assert theatre.store.check() == []


async def test_a_persons_judgment_is_asked_for_once_also_where_models_judge_both_orders(
    theatre: Any, question: Question
) -> None:
    played = Played(theatre, Role.JUDGE)
    protocol = protocols.load("debate_single_turn").model_copy(update={"swap": True})
    await played.begin(question, protocol)
    assert await played.answer(judgment_for(played.debate)) is None
    assert len(played.transcript().judgments) == 1


def test_a_person_is_not_asked_to_choose_among_candidates(theatre: Any, question: Question) -> None:
    best = protocols.load("debate_best_of_n")
    specs = {**theatre.cast().specs, Role.JUDGE: HUMAN}
    with pytest.raises(ProtocolError, match="choose_by = 'scorer'"):
        list(plan([question], [best], specs))
    by_scorer = best.model_copy(update={"choose_by": Role.SCORER})
    assert list(plan([question], [by_scorer], specs))


async def test_candidates_that_a_scorer_chooses_wait_for_a_human_judge_as_one_speech(
    theatre: Any, question: Question
) -> None:
    def say(view: View) -> Draft:
        return Draft(text=f"candidate {view.candidate}")

    theatre.speaker._say = say
    played = Played(theatre, Role.JUDGE)
    best = protocols.load("debate_single_turn_best_of_n").model_copy(
        update={"choose_by": Role.SCORER}
    )
    asked = await played.begin(question, best)
    assert asked["act"] == "decide"
    assert len(played.transcript().spoken()) == 2
    assert len(played.transcript().turns) > 2


async def test_in_one_step_programs_act_up_to_a_person_who_is_asked_as_ever(
    theatre: Any, question: Question
) -> None:
    played = Played(theatre, Role.JUDGE)
    asked = await played.begin(question, "debate_interactive")
    said = played.said()
    again = Played(theatre, Role.JUDGE)
    again.store, again.debate = theatre.store, played.debate
    graph = registry.load("graphs", "debate").build(again.runtime)
    given = {"debate_id": played.debate.id, "in_one_step": True}
    state = await graph.ainvoke(given)
    assert state[INTERRUPT][0].value == asked
    assert again.said() == said
    assert again.transcript().outcome is None

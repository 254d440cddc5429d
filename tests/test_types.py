from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from oversight import protocols
from oversight.agents import identify
from oversight.graphs.planning import draw_orders
from oversight.ids import content_id
from oversight.store.schema import encode
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    EngineSpec,
    Message,
    Option,
    Orders,
    OversightProtocol,
    Question,
    Role,
    Seat,
    Slot,
    Source,
    Step,
    Turn,
    Verdict,
)


def question(**changes: object) -> Question:
    fields: dict[str, object] = {
        "id": "q1",
        "dataset": "test",
        "text": "Where?",
        "options": (Option(text="here"), Option(text="there")),
        "correct": 0,
    }
    return Question.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": "  "}, "text is empty"),
        ({"correct": 2}, "correct=2 is no index of 2 options"),
        ({"options": (Option(text="x"),)}, "at least 2"),
        ({"options": (Option(text="x"), Option(text=" x "))}, "two options have the same text"),
        ({"options": (Option(text="x"), Option(text="  "))}, "an option is empty"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_a_question_that_cannot_be_debated_is_refused(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        question(**changes)


def test_a_changed_source_makes_another_question() -> None:
    one = question(source=Source(text="one"))
    assert one.fingerprint != question(source=Source(text="two")).fingerprint
    assert one.fingerprint == question(source=Source(text="one")).fingerprint


def test_questions_with_options_keep_their_ids_beside_open_prompts() -> None:
    """Ids of questions, debates and turns as they were before there were open prompts."""
    asked = Question(
        id="q1",
        dataset="test",
        text="Where is the lamp?",
        options=(Option(text="the attic"), Option(text="the cellar", argument="It was moved.")),
        correct=1,
        source=Source(title="S", text="Ada carried the lamp."),
        meta={"k": 1},
    )
    assert asked.model_dump_json(exclude={"source"}) == (
        '{"id":"q1","dataset":"test","split":"","text":"Where is the lamp?","options":'
        '[{"text":"the attic","argument":null},{"text":"the cellar","argument":"It was moved."}],'
        '"correct":1,"meta":{"k":1}}'
    )
    assert asked.fingerprint == "356c50001172b9f639ee78b92e548253"
    spec = AgentSpec(agent="judge", engine=EngineSpec(engine="scripted", settings={"a": 1}))
    ids = {}
    for name in ("debate", "critique", "naive", "debate_interactive"):
        ids[name] = Debate(
            question_id=asked.id,
            question_fingerprint=asked.fingerprint,
            protocol=protocols.load(name),
            agents={Role.JUDGE: spec},
            orders=draw_orders(asked, 3),
            seed=3,
        ).id
    assert ids == {
        "debate": "d5f44d572f6057c40efbfd254a63c91c",
        "critique": "994290261de28831605ebb72ccdd506d",
        "naive": "af79ac9a9a2d45a75a07f04a643ac0f1",
        "debate_interactive": "e8eba4e609972f5a25a8bd61062bdf04",
    }
    said = Turn(
        debate_id="d", step=0, round=1, seat=Seat.A, role=Role.CONSULTANT, act=Act.SPEAK, text="hi"
    )
    assert content_id(said.model_dump(mode="json")) == "c32d98c6f1191e50db8867a3acebdfab"
    critic = identify(AgentSpec(agent="critic")).model_dump(mode="json")
    assert content_id(critic) == "669f52b547ff6561f401e034c206ad3f"


def test_an_open_prompt_has_no_options_and_may_have_a_chat_before_it() -> None:
    before = (Message(role="system", parts=("Be kind.",)),)
    asked = question(options=(), correct=None, history=before)
    assert asked.is_open
    assert asked.chat.chat() == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where?"},
    ]
    assert asked.fingerprint != question(options=(), correct=None).fingerprint
    assert Question.model_validate_json(asked.model_dump_json()) == asked


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"options": ()}, "correct=0: an open prompt has no right option"),
        ({"history": (Message(role="system", parts=("x",)),)}, "history goes with an open prompt"),
    ],
)
def test_an_open_prompt_that_is_none_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        question(**changes)


def debate(**changes: object) -> Debate:
    fields: dict[str, object] = {
        "question_id": "q1",
        "question_fingerprint": "f",
        "protocol": OversightProtocol(name="p", graph="debate"),
        "agents": {},
        "orders": Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B)),
        "seed": 0,
    }
    return Debate.model_validate(fields | changes)


def test_a_debates_id_changes_with_whatever_determines_it() -> None:
    other_protocol = OversightProtocol(name="p", graph="debate", rounds=2)
    other_orders = Orders(options=(1, 0), defends=(0, 1), shown=(Seat.A, Seat.B))
    ids = {
        debate().id,
        debate(seed=1).id,
        debate(protocol=other_protocol).id,
        debate(orders=other_orders).id,
        debate(question_fingerprint="g").id,
    }
    assert len(ids) == 5
    assert debate().id == debate().id


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"b": 1, "a": [1.5, None, True, {"z": "é", "y": "\u2028"}]},
        {"nan": float("nan"), "inf": -float("inf"), "half": "\ud800", 'key "\\': ""},
    ],
)
def test_what_debates_share_is_written_as_if_each_were_written_alone(
    settings: dict[str, Any],
) -> None:
    spec = AgentSpec(
        agent="debater", settings=settings, engine=EngineSpec(engine="e", settings=settings)
    )
    for name in ("debate", "constitutional", "critique"):
        agents = {Role.JUDGE: spec, Role.CRITIC: AgentSpec(agent="x"), Role.DEBATER: spec}
        made = debate(agents=agents, protocol=protocols.load(name), question_id='q"\ud800\n')
        alone = json.dumps(made.model_dump(), separators=(",", ":"))
        assert encode(made) == alone
        if "half" not in settings:
            assert made.id == content_id("debate", made.model_dump(mode="json"))


def test_the_schedule_unrolls_opening_and_rounds() -> None:
    speak = Step(slots=(Slot(seat=Seat.A), Slot(seat=Seat.B)))
    believe = Step(slots=(Slot(seat=Seat.JUDGE, act=Act.BELIEVE),))
    protocol = OversightProtocol(
        name="p", graph="debate", opening=(speak,), round=(believe, speak), rounds=2
    )
    assert [(s.index, s.round, s.slots[0].act.value) for s in protocol.schedule()] == [
        (0, 0, "speak"),
        (1, 1, "believe"),
        (2, 1, "speak"),
        (3, 2, "believe"),
        (4, 2, "speak"),
    ]
    assert protocol.speakers == (Seat.A, Seat.B)


def test_swapping_exchanges_what_is_shown_and_not_who_defends_what() -> None:
    orders = Orders(options=(1, 0), defends=(1, 0), shown=(Seat.B, Seat.A))
    swapped = orders.swapped()
    assert swapped.options == (1, 0)
    assert orders.swapped(listing=True).options == (0, 1)
    assert swapped.shown == (Seat.A, Seat.B)
    assert swapped.defends == orders.defends
    assert swapped.swapped() == orders


@pytest.mark.parametrize("probs", [(0.7, 0.7), (-0.1, 1.1), (float("nan"), 0.5)])
def test_a_belief_that_is_no_distribution_is_refused(probs: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="probs"):
        Belief(verdict=Verdict.DECIDED, method=BeliefMethod.PARSED, probs=probs)


def test_only_a_decided_belief_has_a_choice() -> None:
    decided = Belief(verdict=Verdict.DECIDED, method=BeliefMethod.PARSED, probs=(0.2, 0.8))
    tie = Belief(verdict=Verdict.TIE, method=BeliefMethod.PARSED, probs=(0.5, 0.5))
    invalid = Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED, raw="??")
    assert (decided.choice, tie.choice, invalid.choice) == (1, None, None)


def test_candidates_of_a_turn_have_ids_of_their_own() -> None:
    turn = Turn(debate_id="d", step=0, round=1, seat=Seat.A, role="debater", act=Act.SPEAK)
    assert turn.id != turn.model_copy(update={"candidate": 1}).id


def test_records_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        question().text = "other"  # type: ignore[misc]


def criticised(**changes: object) -> OversightProtocol:
    steps = [
        Step(slots=(Slot(seat=Seat.A),), once=True),
        Step(slots=(Slot(seat=Seat.B, act=Act.CRITIQUE),)),
        Step(slots=(Slot(seat=Seat.A, act=Act.REVISE),)),
    ]
    fields: dict[str, object] = {"name": "p", "graph": "critique", "round": steps, "rounds": 1}
    return OversightProtocol.model_validate(fields | changes)


def test_a_critic_is_no_speaker() -> None:
    protocol = criticised()
    assert (protocol.speakers, protocol.critics) == ((Seat.A,), (Seat.B,))
    assert protocol.speaker_role is Role.CONSULTANT
    slots = [step.slots[0] for step in protocol.schedule()]
    assert [protocol.role_of(slot) for slot in slots] == [
        Role.CONSULTANT,
        Role.CRITIC,
        Role.CONSULTANT,
    ]
    assert protocol.role_of(Slot(seat=Seat.JUDGE, act=Act.BELIEVE)) is Role.JUDGE


def test_a_step_that_is_run_every_round_is_written_down_as_it_always_was() -> None:
    """Else the ids of all recorded debates would change."""
    every_round, once = (step.model_dump(mode="json") for step in reversed(criticised().round[:2]))
    assert set(every_round) == {"slots"}
    assert once["once"] is True
    protocol = criticised()
    assert OversightProtocol.model_validate(protocol.model_dump(mode="json")) == protocol
    always = criticised(round=[step.model_copy(update={"once": False}) for step in protocol.round])
    assert debate(protocol=always).id != debate(protocol=protocol).id

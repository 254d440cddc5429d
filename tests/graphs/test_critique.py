"""Critique: who sees what, with told agents and with the real ones on the scripted engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.errors import EngineUnavailableError, ProtocolError
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Event, Runtime, SpeechBegins
from oversight.store import Store
from oversight.types import (
    Act,
    Draft,
    Option,
    OversightProtocol,
    Question,
    QuoteStatus,
    Role,
    Seat,
    Transcript,
    View,
)

CANARY = "the canary sings in private"
FIRST = "It is there. <quote>Ada carried the lamp to the attic at nine</quote>"
CRITICISM = (
    "It moved on: <quote>Bo carried the lamp to the cellar</quote>, not "
    "<quote>and then it stayed for good</quote>."
)
REVISED = "Granted, it was moved later."
RULES = [
    {"pattern": r"your plan\.\Z", "answer": CANARY},
    {"pattern": r"(Only the criticism|Criticise .* words)\.\Z", "answer": CRITICISM},
    {"pattern": r"(?s)(You will revise .* Only the speech|Revise .* words)\.\Z", "answer": REVISED},
    {"pattern": r"(Only the speech|Write your speech, .* words)\.\Z", "answer": FIRST},
    {"pattern": "You are the judge", "answer": "B"},
]
"""By how the prompt ends: the public words with private notes before them, or without."""
Prompts = list[tuple[Role, Act | None, list[dict[str, str]]]]


def protocol(**changes: Any) -> OversightProtocol:
    return protocols.load("critique").model_copy(update=changes)


async def play(store: Store, question: Question, chosen: OversightProtocol, **settings: Any) -> str:
    """Id of one debate by the real agents, each on a scripted engine."""
    agents = {
        Role.CONSULTANT: AgentSettings(agent="consultant", engine="script", settings=settings),
        Role.CRITIC: AgentSettings(agent="critic", engine="script", settings=settings),
        Role.JUDGE: AgentSettings(agent="judge", engine="script", settings={"rationale": True}),
    }
    engines = {"script": EngineSettings(engine="scripted", settings={"rules": RULES})}
    async with cast(agents, engines) as actors:
        [(debate, asked)] = plan([question], [chosen], actors.specs)
        done = await run_debates([(debate, asked)], Runtime(store, actors), concurrency=1)
    assert done.failures == []
    assert store.check() == []
    return debate.id


def prompts(store: Store, transcript: Transcript) -> Prompts:
    """Everything that any model was asked, by role and act."""
    samples = [(turn.role, turn.act, s) for turn in transcript.turns for s in turn.samples]
    samples += [(Role.JUDGE, None, s) for j in transcript.judgments for s in j.samples]
    return [(role, act, store.prompt(s.prompt_id).prompt.chat()) for role, act, s in samples]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "played.db")) as opened:
        yield opened


# --- told agents ---


async def test_the_acts_follow_one_another_and_each_sees_all_before(
    theatre: Any, question: Question
) -> None:
    transcript = await theatre.run(protocol(rounds=2), question)
    assert [(t.round, t.seat.value, t.role.value, t.act.value) for t in transcript.turns] == [
        (1, "a", "consultant", "speak"),
        (1, "b", "critic", "critique"),
        (1, "a", "consultant", "revise"),
        (2, "b", "critic", "critique"),
        (2, "a", "consultant", "revise"),
    ]
    views = theatre.speaker.views + theatre.critic.views + theatre.judge.views
    assert all(len(view.turns) == view.step for view in views)
    assert [view.step for view in theatre.judge.views] == [5]


async def test_a_critic_reads_the_source_and_defends_nothing(
    theatre: Any, question: Question
) -> None:
    ready = tuple(o.model_copy(update={"argument": f"for {o.text}"}) for o in question.options)
    transcript = await theatre.run("critique", question.model_copy(update={"options": ready}))
    [view] = theatre.critic.views
    assert (view.seat, view.role, view.act) == (Seat.B, Role.CRITIC, Act.CRITIQUE)
    assert (view.side, view.argument) == (None, None)
    assert view.source == question.source
    assert {v.side for v in theatre.speaker.views} == {transcript.debate.orders.defends[0]}
    assert [v.act for v in theatre.speaker.views] == [Act.SPEAK, Act.REVISE]
    assert all(view.source is None for view in theatre.judge.views)


async def test_reasoning_of_critic_and_consultant_is_shown_to_nobody(
    theatre: Any, question: Question
) -> None:
    for agent in (theatre.speaker, theatre.critic):
        agent._say = lambda view: Draft(text="public", reasoning=CANARY)
    transcript = await theatre.run(protocol(rounds=2), question)
    assert {turn.reasoning for turn in transcript.turns} == {CANARY}
    for view in theatre.speaker.views + theatre.critic.views + theatre.judge.views:
        assert CANARY not in repr(view)


async def test_a_critics_quotes_are_verified_when_it_is_recorded(
    theatre: Any, question: Question
) -> None:
    theatre.critic._say = lambda view: CRITICISM
    transcript = await theatre.run("critique", question)
    statuses = [quote.status for quote in transcript.turns[1].quotes]
    assert statuses == [QuoteStatus.VERIFIED, QuoteStatus.UNVERIFIED]


async def test_a_critique_cut_off_goes_on_from_the_turn_in_flight(
    theatre: Any, question: Question
) -> None:
    theatre.critic._say = lambda view: EngineUnavailableError("gone")
    with pytest.raises(EngineUnavailableError):
        await theatre.run("critique", question)
    theatre.critic._say = lambda view: "again"
    transcript = await theatre.run("critique", question)
    assert [turn.text for turn in transcript.turns] == ["a in step 0", "again", "a in step 2"]
    assert [view.act for view in theatre.speaker.views] == [Act.SPEAK, Act.REVISE]


async def test_a_listener_hears_who_criticises_and_who_revises(
    theatre: Any, question: Question
) -> None:
    heard: list[Event] = []
    theatre.listener = heard.append
    await theatre.run("critique", question)
    begun = [(e.seat, e.role, e.act) for e in heard if isinstance(e, SpeechBegins)]
    assert begun == [
        (Seat.A, Role.CONSULTANT, Act.SPEAK),
        (Seat.B, Role.CRITIC, Act.CRITIQUE),
        (Seat.A, Role.CONSULTANT, Act.REVISE),
    ]


async def test_a_revision_can_be_the_best_of_several(
    theatre: Any, question: Question, make_belief: Any
) -> None:
    steps = protocol().round
    best_of_3 = steps[2].slots[0].model_copy(update={"candidates": 3})
    last = steps[2].model_copy(update={"slots": (best_of_3,)})

    def scorer(view: View) -> Draft:
        own = view.orders.defended_by(Seat.A)
        likes = view.turns[-1].text == "revision 1"
        return Draft(belief=make_belief(0.9 if likes == (own == 0) else 0.1))

    theatre.speaker._say = lambda view: f"revision {view.candidate}"
    theatre.scorer._say = scorer
    chosen = protocol(round=(*steps[:2], last), choose_by=Role.SCORER)
    transcript = await theatre.run(chosen, question)
    revisions = [turn for turn in transcript.turns if turn.act is Act.REVISE]
    assert [turn.chosen for turn in revisions] == [False, True, False]


async def test_the_graph_plans_a_critique_of_its_own(theatre: Any, question: Question) -> None:
    from oversight.graphs.critique import build

    given = {"question": question.model_dump(mode="json"), "seed": 3}
    state = await build(theatre.runtime()).ainvoke(given)
    assert state["result"]["num_turns"] == 3
    assert theatre.store.transcript(state["debate_id"]).debate.protocol == protocol()
    wrong = given | {"protocol": protocol(graph="debate").model_dump(mode="json")}
    with pytest.raises(ProtocolError, match="takes 0 critic seats"):
        await build(theatre.runtime()).ainvoke(wrong)
    for code in ("mine.py:plan", "os:getcwd"):
        with pytest.raises(ProtocolError, match="a request cannot name code"):
            await build(theatre.runtime()).ainvoke(given | {"protocol": code})


# --- the real agents ---


async def test_what_each_model_reads(store: Store, question: Question) -> None:
    transcript = store.transcript(await play(store, question, protocol()))
    label = "AB"[transcript.debate.orders.options.index(transcript.debate.orders.defends[0])]
    first = (
        f'<turn speaker="Consultant" round="1" defends="{label}">\nIt is there. <verified_quote>'
        "Ada carried the lamp to the attic at nine</verified_quote>\n</turn>\n"
    )
    criticism = (
        '<turn speaker="Critic" round="1">\nIt moved on: <verified_quote>Bo carried the lamp to '
        "the cellar</verified_quote>, not <unverified_quote>and then it stayed for good"
        "</unverified_quote>.\n</turn>\n"
    )
    revised = f'<turn speaker="Consultant" round="1" defends="{label}">\n{REVISED}\n</turn>\n'
    seen = {Act.SPEAK: "", Act.CRITIQUE: first, Act.REVISE: first + criticism}
    asked = prompts(store, transcript)
    assert len(asked) == 8, "notes and words of three turns, a rationale and a belief"
    for role, act, messages in asked:
        turns = first + criticism + revised if act is None else seen[act]
        assert (
            "".join(re.findall(r"<turn .*?</turn>\n", messages[1]["content"], re.DOTALL)) == turns
        )
        assert ("<source" in messages[1]["content"]) is (role is not Role.JUDGE)
        if role is Role.JUDGE:
            assert "At ten" not in str(messages), "words of the source that nobody quoted"


async def test_notes_stay_with_who_wrote_them(store: Store, question: Question) -> None:
    transcript = store.transcript(await play(store, question, protocol(rounds=2)))
    assert {turn.reasoning for turn in transcript.turns} == {CANARY}
    for _, _, messages in prompts(store, transcript):
        others = [message for message in messages if message["role"] != "assistant"]
        assert CANARY not in str(others)
    for _, act, messages in prompts(store, transcript):
        if act is not None:
            assert [m["content"] for m in messages if m["role"] == "assistant"] in ([], [CANARY])


async def test_more_rounds_and_other_critics_are_other_debates(
    store: Store, question: Question
) -> None:
    ids = {
        await play(store, question, protocol()),
        await play(store, question, protocol(rounds=2)),
        await play(store, question, protocol(max_words=50)),
        await play(store, question, protocol(), reasoning=False),
    }
    assert len(ids) == 4
    assert await play(store, question, protocol()) in ids


async def test_without_a_source_there_is_still_something_to_criticise(
    store: Store, question: Question
) -> None:
    options = tuple(Option(text=o.text, argument=f"So it is {o.text}.") for o in question.options)
    bare = question.model_copy(update={"source": None, "options": options})
    transcript = store.transcript(await play(store, bare, protocol()))
    assert transcript.turns[0].text.startswith("So it is ")
    assert transcript.turns[0].samples == ()
    assert [turn.text for turn in transcript.turns[1:]] == [CRITICISM, REVISED]
    assert {quote.status for quote in transcript.turns[1].quotes} == {QuoteStatus.UNVERIFIED}

"""Self-critique of open prompts: who sees what, what is recorded, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oversight import protocols, registry
from oversight.config import AgentSettings, EngineSettings
from oversight.errors import ConfigError, EngineUnavailableError, ProtocolError
from oversight.evals.findings import headlines, warnings
from oversight.evals.report import build_report
from oversight.evals.tables import extent
from oversight.graphs.planning import cast, check_fit, check_question, draw_orders, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.preferences.building import preferences
from oversight.preferences.settings import Dropped, PreferenceSettings
from oversight.store import Store
from oversight.store.claims import QueueFilter
from oversight.types import (
    Act,
    AgentSpec,
    CriticismIs,
    Draft,
    Feedback,
    Message,
    Orders,
    OversightProtocol,
    PairAnswer,
    Preference,
    Preferred,
    Question,
    RevisionAnswer,
    RevisionIs,
    Role,
    Seat,
    Source,
    Transcript,
    View,
)
from oversight.types.ratings import Answer, item_id

HISTORY = (
    Message(role="system", parts=("Answer in one line.",)),
    Message(role="user", parts=("Hello",)),
    Message(role="assistant", parts=("Hi!",)),
)
CHAT = [
    {"role": "system", "content": "Answer in one line."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi!"},
    {"role": "user", "content": "How do I open a <b>jar</b>?"},
]
ANSWER, CRITICISM, REVISED = "Hit it.", "That breaks it.", "Warm the lid, then turn."
RULES = [
    {"pattern": r"Criticise the responder's last answer", "answer": CRITICISM},
    {"pattern": r"write only: NO CHANGE\Z", "answer": REVISED},
    {"pattern": r"jar</b>\?\Z", "answer": ANSWER},
]


@pytest.fixture
def prompt() -> Question:
    return Question(id="jar", dataset="test", text="How do I open a <b>jar</b>?", history=HISTORY)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "played.db")) as opened:
        yield opened


async def play(
    store: Store,
    question: Question,
    chosen: OversightProtocol | str = "self_critique",
    rules: list[dict[str, str]] = RULES,
    answers: tuple[str, ...] = (),
    **critic: Any,
) -> Transcript:
    """One self-critique by the real agents, each on a scripted engine."""
    protocol = protocols.load(chosen) if isinstance(chosen, str) else chosen
    critic = {"reasoning": False, **critic}
    agents = {
        Role.RESPONDER: AgentSettings(agent="responder", engine="script"),
        Role.CRITIC: AgentSettings(agent="critic", engine="script", settings=critic),
        Role.JUDGE: AgentSettings(agent="judge", engine="script"),
    }
    script: dict[str, Any] = {"rules": rules} | ({"answers": list(answers)} if answers else {})
    engines = {"script": EngineSettings(engine="scripted", settings=script)}
    async with cast(agents, engines) as actors:
        [(debate, asked)] = plan([question], [protocol], actors.specs)
        done = await run_debates([(debate, asked)], Runtime(store, actors), concurrency=1)
    assert done.failures == []
    assert (done.done, store.check()) == (1, [])
    return store.transcript(debate.id)


def asked(store: Store, transcript: Transcript, act: Act) -> list[list[dict[str, str]]]:
    """The chats that were asked for an act."""
    samples = [s for turn in transcript.turns if turn.act is act for s in turn.samples]
    return [store.prompt(sample.prompt_id).prompt.chat() for sample in samples]


async def test_a_response_is_criticised_and_revised_and_nothing_is_judged(
    store: Store, prompt: Question
) -> None:
    transcript = await play(store, prompt)
    said = [(turn.seat, turn.role, turn.act, turn.text) for turn in transcript.turns]
    assert said == [
        (Seat.A, Role.RESPONDER, Act.RESPOND, ANSWER),
        (Seat.B, Role.CRITIC, Act.CRITIQUE, CRITICISM),
        (Seat.A, Role.RESPONDER, Act.REVISE, REVISED),
    ]
    assert transcript.judgments == ()
    assert transcript.question == prompt
    assert set(transcript.debate.agents) == {Role.RESPONDER, Role.CRITIC}
    orders = transcript.debate.orders
    assert (orders.options, orders.defends, set(orders.shown)) == ((), (), {Seat.A, Seat.B})


async def test_a_responder_is_asked_with_the_users_chat_as_it_is(
    store: Store, prompt: Question
) -> None:
    transcript = await play(store, prompt)
    assert asked(store, transcript, Act.RESPOND) == [CHAT]


async def test_a_revision_goes_on_in_the_same_chat(store: Store, prompt: Question) -> None:
    twice = protocols.load("self_critique").model_copy(update={"rounds": 2})
    transcript = await play(store, prompt, twice)
    first, second = asked(store, transcript, Act.REVISE)
    assert first[:5] == [*CHAT, {"role": "assistant", "content": ANSWER}]
    assert first[5]["role"] == "user"
    assert first[5]["content"].startswith(
        f'<turn speaker="Critic" round="1">\n{CRITICISM}\n</turn>\nAbove is what a critic says'
    )
    assert second[:7] == [*first, {"role": "assistant", "content": REVISED}]
    assert len(second) == 8


async def test_a_critic_reads_the_chat_the_source_and_the_response(
    store: Store, prompt: Question
) -> None:
    sourced = prompt.model_copy(update={"source": Source(text="Lids expand when warm.")})
    transcript = await play(store, sourced)
    [[rules, user]] = asked(store, transcript, Act.CRITIQUE)
    assert "says what is wrong with the answer" in rules["content"]
    assert user["content"] == (
        '<source title="">\nLids expand when warm.\n</source>\n'
        '<turn speaker="System">\nAnswer in one line.\n</turn>\n'
        '<turn speaker="User">\nHello\n</turn>\n'
        '<turn speaker="Assistant">\nHi!\n</turn>\n'
        "<question>\nHow do I open a <b>jar</b>?\n</question>\n"
        f'<turn speaker="Responder" round="1">\n{ANSWER}\n</turn>\n'
        "\nYou are the critic. Criticise the responder's last answer, at most 150 words."
    )
    [chat] = asked(store, transcript, Act.RESPOND)
    assert chat[-1]["content"] == "Lids expand when warm.\n\nHow do I open a <b>jar</b>?"


async def test_a_critic_goes_by_principles_that_are_drawn_for_each_critique(
    store: Store, prompt: Question
) -> None:
    texts = [f"Principle {name}." for name in ("one", "two", "three", "four")]
    many = protocols.load("self_critique").model_copy(update={"rounds": 6})
    transcript = await play(store, prompt, many, principles=texts, num_principles=1)
    asks = [chat[-1]["content"] for chat in asked(store, transcript, Act.CRITIQUE)]
    drawn = [ask.rpartition("by these principles alone:\n1. ")[2] for ask in asks]
    assert set(drawn) <= set(texts)
    assert len(set(drawn)) > 1
    assert transcript.debate.agents[Role.CRITIC].settings["principles"] == texts


async def test_more_principles_than_there_are_cannot_be_drawn(
    store: Store, prompt: Question
) -> None:
    with pytest.raises(ConfigError, match="num_principles = 2: there are 1 principles"):
        await play(store, prompt, principles=["Be kind."], num_principles=2)


@pytest.mark.parametrize("words", ["NO CHANGE", "No change needed.", "**No changes are needed**"])
async def test_a_revision_may_find_nothing_to_change(
    store: Store, prompt: Question, words: str
) -> None:
    rules = [{**rule, "answer": words} if "NO" in rule["pattern"] else rule for rule in RULES]
    transcript = await play(store, prompt, rules=rules)
    response, _, revision = transcript.turns
    assert (revision.text, revision.unchanged) == (ANSWER, True)
    assert revision.samples[0].text == words
    assert "unchanged" not in response.model_dump()


async def test_the_best_of_n_responses_for_a_model_judge_stands(
    theatre: Any, prompt: Question
) -> None:
    theatre.judge._say = lambda view: Draft(score=(0.2, 0.9, 0.4, 0.1)[view.turns[-1].candidate])
    theatre.speaker._say = lambda view: f"{view.act} {view.candidate}"
    transcript = await theatre.run("self_critique_best_of_n", prompt)
    assert {view.act for view in theatre.judge.views} == {Act.SCORE}
    chosen = [(turn.text, turn.score) for turn in transcript.turns if turn.chosen]
    assert chosen == [("respond 1", 0.9), ("critic in step 1", None), ("revise 1", 0.9)]
    assert len(transcript.turns) == 9
    assert set(transcript.debate.agents) == {Role.RESPONDER, Role.CRITIC, Role.JUDGE}


async def test_without_a_judge_that_scores_responses_the_first_candidate_stands(
    theatre: Any, prompt: Question
) -> None:
    theatre.judge._say = lambda view: Draft()
    transcript = await theatre.run("self_critique_best_of_n", prompt)
    assert [turn.candidate for turn in transcript.turns if turn.chosen] == [0, 0, 0]
    assert {turn.score for turn in transcript.turns} == {None}


async def test_a_cut_off_run_goes_on_from_the_turn_in_flight(
    theatre: Any, prompt: Question
) -> None:
    def gone(view: View) -> Exception:
        return EngineUnavailableError("the critic is gone")

    critic = theatre.critic._say
    theatre.critic._say = gone
    with pytest.raises(EngineUnavailableError):
        await theatre.run("self_critique", prompt)
    theatre.critic._say = critic
    transcript = await theatre.run("self_critique", prompt)
    assert [view.act for view in theatre.speaker.views] == [Act.RESPOND, Act.REVISE]
    assert len(transcript.turns) == 3


async def test_the_graph_plans_a_self_critique_of_its_own(theatre: Any, prompt: Question) -> None:
    graph = registry.load("graphs", "self_critique").build(theatre.runtime())
    state = await graph.ainvoke({"question": prompt.model_dump(mode="json"), "seed": 3})
    assert state["result"] == {"debate_id": state["debate_id"], "num_turns": 3}
    assert set(graph.get_graph().nodes) >= {"open", "respond", "critique", "revise", "finish"}


@pytest.mark.parametrize("name", ["debate", "consultancy", "critique", "naive", "expert"])
def test_protocols_that_need_options_refuse_an_open_prompt_by_name(
    prompt: Question, name: str
) -> None:
    with pytest.raises(ProtocolError, match=r"'jar' .* is an open prompt.*self_critique"):
        check_question(protocols.load(name), prompt)


def test_a_self_critique_refuses_a_question_with_options_by_name(question: Question) -> None:
    with pytest.raises(ProtocolError, match=r"question 'q1' .* has 2 options.*'debate'"):
        check_question(protocols.load("self_critique"), question)


def test_there_is_nothing_to_judge_a_second_time_in_a_self_critique() -> None:
    specs = {role: AgentSpec(agent="told") for role in Role}
    with pytest.raises(ProtocolError, match=r"leave swap \(--swap\) out"):
        check_fit(protocols.load("self_critique").model_copy(update={"swap": True}), specs)


def test_an_open_prompt_is_run_once_with_both_sides(prompt: Question) -> None:
    specs = {role: AgentSpec(agent="told") for role in Role}
    planned = list(plan([prompt], [protocols.load("self_critique")], specs, sides="both"))
    assert [debate.orders for debate, _ in planned] == [draw_orders(prompt, 0)]
    assert planned[0][0].orders.swapped(listing=True) == Orders(
        options=(), defends=(), shown=planned[0][0].orders.shown[::-1]
    )


# --- what is rated becomes preference rows ---


def rate(store: Store, transcript: Transcript, answer: Answer, *places: int) -> None:
    """A person's rating of the turns at these places."""
    ids = tuple(transcript.turns[place].id for place in places)
    store.add(
        Feedback(
            debate_id=transcript.debate.id,
            item=item_id(answer.task, ids),
            turn_ids=ids,
            judge="ann",
            answer=answer,
        )
    )


def better() -> RevisionAnswer:
    return RevisionAnswer(criticism=CriticismIs.RIGHT, revision=RevisionIs.BETTER)


def rows_of(store: Store) -> tuple[list[Preference], dict[str, int]]:
    dropped = Dropped()
    made = preferences(store.transcripts(), PreferenceSettings(), store.prompt, dropped)
    return list(made), dropped.to_json()


async def test_a_revision_is_preferred_as_an_answer_to_the_users_chat(
    store: Store, prompt: Question
) -> None:
    rate(store, await play(store, prompt), better(), 0, 1, 2)
    [row], dropped = rows_of(store)
    assert row.prompt.chat() == CHAT
    assert [response.text for response in row.responses] == [REVISED, ANSWER]
    assert (row.kind, row.ranks, dropped) == ("revisions", (0, 1), {})


async def test_a_later_revision_answers_the_users_chat_as_well(
    store: Store, prompt: Question
) -> None:
    twice = protocols.load("self_critique").model_copy(update={"rounds": 2})
    rules = [{"pattern": r"(?s)round=\"2\".*NO CHANGE\Z", "answer": "Third."}, *RULES]
    rate(store, await play(store, prompt, twice, rules), better(), 2, 3, 4)
    [row], _ = rows_of(store)
    assert row.prompt.chat() == CHAT
    assert [response.text for response in row.responses] == ["Third.", REVISED]


async def test_a_revision_that_changed_nothing_makes_no_row_and_is_seen_through(
    store: Store, prompt: Question
) -> None:
    twice = protocols.load("self_critique").model_copy(update={"rounds": 2})
    last = {"pattern": r"NO CHANGE\Z", "answer": "No change."}
    rules = [{"pattern": r"(?s)round=\"2\".*NO CHANGE\Z", "answer": "Third."}, last, *RULES]
    transcript = await play(store, prompt, twice, rules)
    assert [turn.unchanged for turn in transcript.turns] == [False, False, True, False, False]
    rate(store, transcript, better(), 0, 1, 2)
    rate(store, transcript, better(), 2, 3, 4)
    [row], dropped = rows_of(store)
    assert [response.text for response in row.responses] == ["Third.", ANSWER]
    assert dropped == {"unchanged": 1}


async def test_two_candidates_that_a_person_compared_make_a_row(
    store: Store, prompt: Question
) -> None:
    several = protocols.load("self_critique_best_of_n")
    rules = [{"pattern": "You are the judge", "answer": "A"}]
    words = tuple(f"Answer {number}." for number in range(9))
    transcript = await play(store, prompt, several, rules, words)
    first, second = (turn for turn in transcript.turns[:2])
    assert (first.act, second.act, first.text == second.text) == (Act.RESPOND, Act.RESPOND, False)
    rate(store, transcript, PairAnswer(preferred=Preferred.RIGHT, strength=3), 0, 1)
    row = next(row for row in rows_of(store)[0] if row.kind == "pairs")
    assert row.prompt.chat() == CHAT
    assert [response.text for response in row.responses] == [second.text, first.text]


# --- reports and queues ---


async def test_a_report_counts_answers_to_open_prompts_and_calls_nothing_right(
    store: Store, prompt: Question
) -> None:
    rate(store, await play(store, prompt), better(), 0, 1, 2)
    report = build_report(store.transcripts())
    assert headlines(report) == (
        "self_critique: 1 response of scripted to 1 open prompt, in which nothing is right or "
        "wrong; 1 of 1 revision changed something; of 1 rating of revisions 1 better, 0 the same, "
        "0 worse.",
    )
    assert warnings(report) == ()
    assert extent(report) == "1 run on 1 open prompt · 1 data set"
    assert (report.arms, report.num_unjudged) == ((), 0)


async def test_nobody_is_asked_to_judge_an_answer_to_an_open_prompt(
    theatre: Any, prompt: Question, question: Question
) -> None:
    await theatre.run("self_critique", prompt)
    judged = await theatre.run("debate", question)
    queue = theatre.store.queue("ann", QueueFilter(), overlap=1)
    assert [item.debate_id for item in queue] == [judged.debate.id]

"""Targets: each reads what it would read in a run of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import oversight as ov
from oversight.agents import build_agent
from oversight.engines.scripted import ScriptedAnswer, ScriptedEngine
from oversight.engines.scripted.script import Config
from oversight.errors import ConfigError, EngineUnavailableError
from oversight.redteam import goals
from oversight.redteam.preparing import RedTeamSettings, debated, prepare_redteam
from oversight.redteam.targets import (
    AgentTarget,
    CriticTarget,
    FeedbackTarget,
    JudgeTarget,
    PolicyTarget,
    RewardTarget,
)
from oversight.redteam.types import (
    AttackCase,
    AttackOutcome,
    Attempt,
    AttemptPurpose,
    Target,
    TargetReply,
    Try,
)
from oversight.store import Store
from oversight.types import AgentSpec, EngineSpec, FinishReason, Message, Seat, Transcript

SCRIPTED = EngineSpec(engine="scripted")


def policy(say: object, system: str = "") -> tuple[PolicyTarget, ScriptedEngine]:
    engine = ScriptedEngine(say)  # type: ignore[arg-type]
    return PolicyTarget("p", engine, AgentSpec(agent="policy", engine=SCRIPTED), system), engine


def case_of(name: str) -> AttackCase:
    goal = goals.load(name).goals[0]
    return AttackCase(goal, goal.words or goal.request, random.Random(0), 5)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("held") / "debates.db"
    questions = ov.datasets.load("world", limit=3, split="held_out").questions
    ov.debate(questions, protocol="debate_single_turn", store=str(path), progress=False)
    return path


def debates(held: Path) -> Iterator[tuple[Transcript, AttackCase]]:
    template = goals.load("wrong_verdict").template
    assert template is not None
    for found in ov.Transcripts(str(held)):
        case = debated(template, found, 5)
        assert case is not None
        yield found, case


def attempt_of(case: AttackCase, text: str, reply: TargetReply) -> Attempt:
    return Attempt(
        lane="l",
        place=0,
        target="t",
        goal=case.goal.id,
        harm=case.goal.harm,
        attack="mine",
        purpose=AttemptPurpose.SEARCH,
        text=text,
        outcome=AttackOutcome.SUCCESS,
        score=1.0,
        reply=reply.text,
        belief=reply.belief,
    )


async def test_a_policy_reads_its_prompt_the_goals_and_the_chat_before_the_words() -> None:
    target, engine = policy(lambda _: "As you wish.", "Be brief.")
    case = case_of("told_secret")
    history = (
        Message(role="user", parts=("Hello",)),
        Message(role="assistant", parts=("Good day",)),
    )
    reply = await target.reply(case, Try("And now?", history), 7, 0)
    [asked] = engine.requests
    roles = [each.role for each in asked.prompt.messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert asked.prompt.messages[0].content == f"Be brief.\n\n{case.goal.system}"
    assert asked.sampling.seed == 7
    assert reply.text == "As you wish."
    assert reply.prompt_tokens > 0


@pytest.mark.parametrize(
    ("answer", "refused", "fault"),
    [
        (ScriptedAnswer("I'm sorry, I can't help with that."), True, ""),
        (ScriptedAnswer("", finish_reason=FinishReason.REFUSAL), True, ""),
        (ScriptedAnswer(""), False, "no answer (stop)"),
        (
            ScriptedAnswer("It is", finish_reason=FinishReason.CONTENT_FILTER),
            False,
            "no answer (content_filter)",
        ),
        (ScriptedAnswer("<think>They want the word.</think>No."), False, ""),
    ],
)
async def test_a_refusal_is_no_fault_and_an_answer_that_is_none_is(
    answer: ScriptedAnswer, refused: bool, fault: str
) -> None:
    target, _ = policy(lambda _: answer)
    reply = await target.reply(case_of("told_secret"), Try("x"), 0, 0)
    assert (reply.refused, reply.fault) == (refused, fault)
    assert "think" not in reply.text


async def test_a_policys_engine_that_is_gone_raises() -> None:
    engine = ScriptedEngine(lambda _: "x", Config(fail_calls=frozenset({1})))
    target = PolicyTarget("p", engine, AgentSpec(agent="policy", engine=SCRIPTED))
    with pytest.raises(EngineUnavailableError):
        await target.reply(case_of("told_secret"), Try("x"), 0, 0)


async def test_a_judge_whose_words_are_unchanged_believes_what_it_did_in_the_debate(
    held: Path,
) -> None:
    spec = AgentSpec(agent="lexical")
    target = JudgeTarget("lexical", build_agent(spec), spec, None)
    for found, case in debates(held):
        assert case.seat is not None
        side = found.debate.orders.defended_by(case.seat)
        assert side != found.question.correct
        reply = await target.reply(case, Try(case.words), 0, 0)
        probs = found.judgments[0].final.probs
        assert probs is not None
        assert reply.belief == pytest.approx(probs[side])


async def test_an_odd_trial_shows_the_judge_the_sides_the_other_way_round(held: Path) -> None:
    engine = ScriptedEngine(lambda _: "A")
    spec = AgentSpec(agent="judge", engine=SCRIPTED)
    target = JudgeTarget("judge", build_agent(spec, engine), spec, engine)
    _, case = next(debates(held))
    for move, trial in ((Try("x"), 0), (Try("x"), 1), (Try("x", swap=True), 0)):
        await target.reply(case, move, 0, trial)
    drawn, swapped, other = (
        [each.prompt.messages[-1].content.index(f"Debater {seat}") for seat in "AB"]
        for each in engine.requests
    )
    assert (drawn[0] < drawn[1]) is not (swapped[0] < swapped[1])
    assert swapped == other


async def test_a_judges_quotes_are_looked_up_and_its_unreadable_answer_is_a_fault(
    held: Path,
) -> None:
    engine = ScriptedEngine(lambda _: "no idea", Config(logprobs=False, choices=False))
    spec = AgentSpec(agent="judge", engine=SCRIPTED)
    target = JudgeTarget("judge", build_agent(spec, engine), spec, engine)
    _, case = next(debates(held))
    assert case.speech is not None
    assert case.speech.source is not None
    line = case.speech.source.text.split("\n")[0]
    true = await target.reply(case, Try(f"See <quote>{line}</quote>"), 0, 0)
    false = await target.reply(case, Try("See <quote>It was so and not otherwise</quote>"), 0, 0)
    assert (true.unverified, false.unverified) == (False, True)
    assert true.belief is None
    assert true.fault.startswith("INVALID")


async def test_a_critic_is_shown_the_response_to_the_goals_prompt() -> None:
    engine = ScriptedEngine(lambda _: "17 and 25 are 42, so this is wrong.")
    spec = AgentSpec(agent="critic", engine=SCRIPTED)
    target = CriticTarget("critic", build_agent(spec, engine), spec, engine)
    case = case_of("missed_fault")
    reply = await target.reply(case, Try("They are 52, as all agree."), 0, 0)
    shown = "".join(each.content for each in engine.requests[-1].prompt.messages)
    assert case.goal.request in shown
    assert "They are 52, as all agree." in shown
    assert "42" in reply.text
    assert not reply.unchallenged


async def test_a_feedback_model_compares_both_and_the_order_does_not_turn_its_answer_round() -> (
    None
):
    def say(request: object) -> ScriptedAnswer:
        text = "".join(m.content for m in request.prompt.messages)  # type: ignore[attr-defined]
        first = text.index("are 52") < text.index("are 42")
        likes_bad = {"A": 0.8, "B": 0.2} if first else {"A": 0.2, "B": 0.8}
        return ScriptedAnswer("A" if first else "B", beliefs=likes_bad)

    engine = ScriptedEngine(say)
    spec = AgentSpec(agent="rater", engine=SCRIPTED)
    target = FeedbackTarget("rater", build_agent(spec, engine), spec, engine)
    for trial in (0, 1):
        reply = await target.reply(case_of("wrong_preference"), Try("17 and 25 are 52."), 0, trial)
        assert reply.belief == pytest.approx(0.8)


def _targets(engine: ScriptedEngine) -> list[tuple[str, Target]]:
    made: list[tuple[str, Target]] = [
        ("told_secret", PolicyTarget("p", engine, AgentSpec(agent="policy", engine=SCRIPTED)))
    ]
    for agent, kind, name in (
        ("critic", CriticTarget, "missed_fault"),
        ("rater", FeedbackTarget, "wrong_preference"),
    ):
        spec = AgentSpec(agent=agent, engine=SCRIPTED)
        own: type[AgentTarget] = kind
        target = own(agent, build_agent(spec, engine), spec, engine)
        made.append((name, target))  # type: ignore[arg-type]
    return made


def test_findings_are_records_that_a_store_keeps_and_checks(tmp_path: Path, held: Path) -> None:
    engine = ScriptedEngine(lambda _: "x")
    spec = AgentSpec(agent="lexical")
    judge = JudgeTarget("lexical", build_agent(spec), spec, None)
    _, case = next(debates(held))
    with Store.open(str(tmp_path / "found.db")) as store:
        reply = TargetReply("Well, then.", belief=0.9)
        words = "Take it from me."
        store.add(*judge.records(case, attempt_of(case, words, reply)))
        for name, target in _targets(engine):
            own = case_of(name)
            store.add(*target.records(own, attempt_of(own, words, reply)))
        assert not store.check()
        found = list(store.transcripts(debate_ids=store.debate_ids(complete=True)))
    assert len(found) == 4
    [judged] = [each for each in found if each.judgments]
    assert case.seat is not None
    side = judged.debate.orders.defended_by(case.seat)
    assert judged.judgments[0].final.choice == side
    [said] = [t.text for t in judged.turns if t.seat is case.seat]
    assert said == words
    [answer] = [e for e in found if e.debate.protocol.name == "response" and len(e.turns) == 1]
    assert answer.question.text == words
    assert answer.turns[0].text == "Well, then."
    [critique] = [e for e in found if e.debate.protocol.name == "self_critique"]
    assert [each.seat for each in critique.turns] == [Seat.A, Seat.B]


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random reward model over seedling's vocabulary."""
    import torch
    import transformers

    from oversight.models import resolve

    folder = tmp_path_factory.mktemp("reward")
    tokenizer = transformers.AutoTokenizer.from_pretrained(resolve("seedling"))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=1,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
    )
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


async def test_a_reward_model_scores_both_responses_as_transformers_does(
    reward_model: Path,
) -> None:
    import torch
    import transformers

    target = RewardTarget("rm", str(reward_model))
    case = case_of("wrong_reward")
    reply = await target.reply(case, Try("17 and 25 are 52."), 0, 0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(reward_model)
    found = transformers.AutoModelForSequenceClassification.from_pretrained(reward_model)
    chat = [{"role": "user", "content": case.goal.request}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)

    def score(text: str) -> float:
        ids = [*asked, *tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        with torch.no_grad():
            return float(found.eval()(torch.tensor([ids])).logits[0, 0])

    expected = score("17 and 25 are 52.") - score(case.goal.honest)
    assert reply.reward == pytest.approx(expected, abs=1e-4)
    assert reply.prompt_tokens > 0


def test_a_folder_that_holds_no_reward_model_is_refused_before_the_first_call(
    tmp_path: Path,
) -> None:
    settings = RedTeamSettings.parse(
        {
            "goals": ["wrong_reward"],
            "targets": {"rm": {"kind": "reward", "model": str(tmp_path / "none")}},
        },
        where="x",
    )
    with pytest.raises(ConfigError, match="none"):
        prepare_redteam(settings)

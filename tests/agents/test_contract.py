"""The contract of every registered agent."""

from __future__ import annotations

import asyncio

import pytest

from oversight import registry
from oversight.agents import build_agent, identify, roles
from oversight.config import Settings
from oversight.engines.scripted import ScriptedEngine
from oversight.errors import ConfigError, UnknownNameError
from oversight.types import Act, Agent, AgentSpec, Draft, EngineSpec, JudgeKind, Role, Seat, Task

NAMES = registry.names("agents")
PROGRAMS = [name for name in NAMES if name != "human"]
"""Those that can be asked: a graph waits for a person instead."""
SPEAKING = frozenset({Role.DEBATER, Role.CONSULTANT})


def build(name: str) -> Agent:
    return build_agent(AgentSpec(agent=name), ScriptedEngine({r".": "Words, and no more."}))


def test_the_agents_of_this_project_are_registered() -> None:
    assert {"debater", "consultant", "critic", "judge", "retrieval", "lexical"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_has_roles_settings_and_a_name(name: str) -> None:
    module = registry.load("agents", name)
    agent = build(name)

    assert module.ROLES
    assert frozenset(Role) >= module.ROLES
    assert roles(name) == module.ROLES
    assert issubclass(module.Config, Settings)
    assert module.Config() == module.Config.parse({})
    assert isinstance(agent, Agent)
    assert agent.name == name
    assert isinstance(agent.kind, JudgeKind)
    assert module.__doc__


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_agent_acts_in_each_of_its_roles(
    name: str,
    make_view,
    judge_view,
    critic_view,
    reviser_view,
    responder_view,
    helped_view,
    rated_view,
) -> None:
    for role in roles(name):
        if role is Role.CRITIC:
            views = [critic_view(), responder_view(Act.CRITIQUE, seat=Seat.B, role=role)]
        elif role is Role.RESPONDER:
            views = [responder_view(Act.RESPOND), responder_view(Act.REVISE)]
        elif role in SPEAKING:
            views = [make_view(role=role)] + [reviser_view()] * (role is Role.CONSULTANT)
        elif role is Role.ASSISTANT:
            views = [helped_view(each) for each in registry.load("agents", name).ASKS]
        elif role is Role.RATER:
            views = [rated_view(task) for task in Task]
        elif role is Role.RED_TEAM:
            views = [make_view(role=role, act=Act.PROPOSE, examples=("Who is it?",))]
        else:
            views = [judge_view(act, role=role) for act in (Act.ASK, Act.BELIEVE, Act.DECIDE)]
            views.append(responder_view(Act.SCORE, seat=Seat.JUDGE, role=role))
        for view in views:
            draft = asyncio.run(build(name).act(view))

            assert isinstance(draft, Draft)
            assert (draft.belief is not None) == (view.act in (Act.BELIEVE, Act.DECIDE))
            spoken = view.act in (Act.ASK, Act.ASSIST, Act.PROPOSE) or view.act.is_spoken
            assert bool(draft.text) == spoken
            assert bool(draft.answers) == (view.act is Act.RATE)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_view_gives_the_same_draft(
    name: str, make_view, judge_view, critic_view, responder_view, helped_view, rated_view
) -> None:
    other = critic_view() if Role.CRITIC in roles(name) else judge_view()
    if Role.ASSISTANT in roles(name):
        other = helped_view(next(iter(registry.load("agents", name).ASKS)))
    if roles(name) == {Role.RESPONDER}:
        other = responder_view()
    if Role.RATER in roles(name):
        other = rated_view(Task.PAIRS)
    if roles(name) == {Role.RED_TEAM}:
        other = make_view(role=Role.RED_TEAM, act=Act.PROPOSE, examples=("Who is it?",))
    view = make_view() if roles(name) & SPEAKING else other
    first, second = (asyncio.run(build(name).act(view)) for _ in range(2))

    assert first.text == second.text
    assert first.belief == second.belief
    assert first.answers == second.answers
    assert [s.token_ids for s in first.samples] == [s.token_ids for s in second.samples]


@pytest.mark.parametrize("name", NAMES)
def test_an_agents_identity_has_its_defaults_filled_in(name: str) -> None:
    plain = identify(AgentSpec(agent=name))
    config = registry.load("agents", name).Config()
    spelled_out = identify(AgentSpec(agent=name, settings=config.model_dump(mode="json")))

    assert plain == spelled_out
    assert plain.settings == config.identity()


def test_an_identity_holds_the_engines_identity() -> None:
    spec = AgentSpec(agent="debater", engine=EngineSpec(engine="scripted"))
    engine = identify(spec).engine

    assert engine is not None
    assert engine.engine == "scripted"
    assert engine.settings


def test_wrong_names_and_settings_are_told_apart() -> None:
    with pytest.raises(UnknownNameError, match="'debater'"):
        build_agent(AgentSpec(agent="debatter"))
    with pytest.raises(ConfigError, match=r"judge\.settings\.end_at = 2"):
        identify(AgentSpec(agent="judge", settings={"end_at": 2}), where="judge")


def test_a_judge_reads_the_scripted_beliefs(judge_view) -> None:
    from oversight.engines.scripted import ScriptedAnswer

    engine = ScriptedEngine(lambda request: ScriptedAnswer("B", beliefs={"A": 0.2, "B": 0.7}))
    draft = asyncio.run(build_agent(AgentSpec(agent="judge"), engine).act(judge_view()))

    assert draft.belief is not None
    assert draft.belief.probs == pytest.approx((2 / 9, 7 / 9))
    assert draft.belief.mass == pytest.approx(0.9)

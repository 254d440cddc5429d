"""Critique with a free stance: told agents, the real critic, and the baseline without a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.errors import ProtocolError
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.reporting.transcripts import transcript_page
from oversight.store import Store
from oversight.types import Act, Draft, Option, Question, Role, Stance, Transcript

RULES = [
    {
        "pattern": "free to object or to agree",
        "answer": "Probability of A: 80%\nProbability of B: 20%",
    },
    {"pattern": r"the consultant does: agree\.", "answer": "It holds."},
    {"pattern": r"which the consultant defends: object\.", "answer": "It fails."},
    {"pattern": r"at most 150 words\.\Z", "answer": "So it is."},
    {"pattern": "You are the judge", "answer": "A"},
]


async def play(
    tmp_path: Path, question: Question, name: str, critic: AgentSettings, rules: Any = RULES
) -> list[Transcript]:
    """Both consultancies on a question, with a critic of one's own."""
    spoken = {"reasoning": False}
    agents = {
        Role.CONSULTANT: AgentSettings(agent="consultant", engine="script", settings=spoken),
        Role.CRITIC: critic,
        Role.JUDGE: AgentSettings(agent="judge", engine="script"),
    }
    script = {"rules": rules, "choices": False}
    engines = {"script": EngineSettings(engine="scripted", settings=script)}
    with Store.open(str(tmp_path / "played.db")) as store:
        async with cast(agents, engines) as actors:
            planned = plan([question], [protocols.load(name)], actors.specs, sides="both")
            done = await run_debates(planned, Runtime(store, actors), concurrency=1)
        assert done.failures == []
        assert store.check() == []
        return list(store.transcripts())


async def test_a_told_critic_chooses_and_the_judge_is_told_its_stance_alone(
    theatre: Any, question: Question
) -> None:
    theatre.critic._say = lambda view: Draft(text="No.", stance=Stance.OBJECTS, score=0.1)
    transcript = await theatre.run("critique_free_stance", question)
    assert [turn.act for turn in transcript.turns] == [Act.SPEAK, Act.BELIEVE, Act.CRITIQUE]
    [view] = theatre.critic.views
    assert view.free_stance
    said = transcript.turns[-1]
    assert (said.stance, said.score) == (Stance.OBJECTS, 0.1)
    read = theatre.judge.views[-1].turns[-1]
    assert (read.stance, read.score) == (Stance.OBJECTS, None)
    assert transcript_page(theatre.store, transcript.debate.id).turns[-1].notes == (
        "objects",
        "score 0.10",
    )


async def test_without_a_free_stance_none_is_recorded(theatre: Any, question: Question) -> None:
    theatre.critic._say = lambda view: Draft(text="No.", stance=Stance.OBJECTS, score=0.1)
    said = (await theatre.run("critique", question)).turns[1]
    assert (said.stance, said.score) == (None, None)
    assert "stance" not in said.model_dump()


async def test_the_model_critic_agrees_with_what_it_believes_and_objects_to_the_rest(
    tmp_path: Path, question: Question
) -> None:
    critic = AgentSettings(agent="critic", engine="script", settings={"reasoning": False})
    played = await play(tmp_path, question, "critique_free_stance", critic)
    found = {}
    for transcript in played:
        orders = transcript.debate.orders
        said = transcript.turns[-1]
        first_listed = orders.options.index(orders.defends[0]) == 0
        found[first_listed] = said.text, said.stance, said.score
        assert len(said.samples) == 2, "its belief, then its words"
    assert found == {
        True: ("It holds.", Stance.AGREES, pytest.approx(0.8)),
        False: ("It fails.", Stance.OBJECTS, pytest.approx(0.2)),
    }


async def test_the_judge_reads_the_stance_in_the_critics_turn(
    tmp_path: Path, question: Question
) -> None:
    critic = AgentSettings(agent="critic", engine="script", settings={"reasoning": False})
    await play(tmp_path, question, "critique_free_stance", critic)
    with Store.open(str(tmp_path / "played.db")) as store:
        for transcript in store.transcripts():
            [sample] = transcript.judgments[0].samples
            asked = store.prompt(sample.prompt_id).prompt.chat()[-1]["content"]
            assert re.findall(r'speaker="Critic" round="\d" stance="(\w+)"', asked) == [
                transcript.turns[-1].stance
            ]


async def test_a_belief_that_cannot_be_read_is_a_critique_without_a_stance(
    tmp_path: Path, question: Question
) -> None:
    rules = [{"pattern": "free to object or to agree", "answer": "Hm."}, *RULES[1:]]
    critic = AgentSettings(agent="critic", engine="script", settings={"reasoning": False})
    for transcript in await play(tmp_path, question, "critique_free_stance", critic, rules):
        said = transcript.turns[-1]
        assert (said.text, said.stance, said.score) == ("So it is.", None, None)


async def test_a_critic_without_a_model_takes_one_side_of_a_question(
    tmp_path: Path, question: Question
) -> None:
    critic = AgentSettings(agent="retrieval")
    options = (Option(text="Ada in the cellar"), Option(text="Bo in the cellar"))
    asked = question.model_copy(update={"options": options})
    played = await play(tmp_path, asked, "critique_free_stance_rebuttal", critic)
    said = [next(t for t in each.turns if t.act is Act.CRITIQUE) for each in played]
    assert {turn.stance for turn in said} == {Stance.AGREES, Stance.OBJECTS}
    assert sum(turn.score or 0.0 for turn in said) == pytest.approx(1.0)
    agreement = next(turn for turn in said if turn.stance is Stance.AGREES)
    assert agreement.text.startswith("I agree with this speech.")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"graph": "critique", "opening": [{"slots": [{"seat": "a", "free_stance": True}]}]},
            "free_stance goes with act = 'critique'",
        ),
        (
            {
                "graph": "self_critique",
                "opening": [
                    {"slots": [{"seat": "a", "act": "respond"}]},
                    {"slots": [{"seat": "b", "act": "critique", "free_stance": True}]},
                ],
            },
            "free_stance is of critics of speeches",
        ),
    ],
)
def test_a_free_stance_out_of_place_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        protocols.parse(data, name="custom", where="test")

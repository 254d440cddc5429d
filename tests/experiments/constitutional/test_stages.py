"""An experiment in Constitutional AI: its jobs, settings tried first, and sources of reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oversight import constitutions
from oversight.datasets import register
from oversight.errors import ConfigError, DataError, OversightError
from oversight.experiments import workers
from oversight.experiments.constitutional.rewards import critique_prompt, prompt_rows, rule_rewards
from oversight.experiments.constitutional.settings import ConstitutionalSettings
from oversight.experiments.constitutional.stages import Constitutional, _critics, plan_jobs
from oversight.models import resolve
from oversight.train.rollouts.types import SampledResponse
from oversight.train.types import PromptExample
from oversight.types import Question


@pytest.fixture
def settings(tmp_path: Path) -> ConstitutionalSettings:
    return made(tmp_path)


def made(out: Path, **changed: Any) -> ConstitutionalSettings:
    data = {
        "out": str(out / "run"),
        "dataset": {"dataset": "register"},
        "train_prompts": 16,
        "held_out_prompts": 16,
        "seeds": [0],
    }
    return ConstitutionalSettings.parse(data | changed)


def names(settings: ConstitutionalSettings) -> list[str]:
    return [job.name for job in plan_jobs(settings)]


def test_each_job_comes_after_those_it_needs(tmp_path: Path) -> None:
    whole = made(
        tmp_path,
        seeds=[0, 1],
        left_out=True,
        controls=["plain", "without_critique", "random_principle", "wrong_principle"],
    )
    seen: set[str] = set()
    for job in plan_jobs(whole):
        assert set(job.needs) <= seen
        assert job.name not in seen
        seen.add(job.name)
    assert {name for name in seen if ".without:" in name and name.startswith("arm.")} == {
        f"arm.sl.without:{principle.id}.{seed}"
        for principle in constitutions.load("register").principles
        for seed in (0, 1)
    }


def test_the_second_stage_is_planned_where_it_is_named(tmp_path: Path) -> None:
    first = names(made(tmp_path, stages=["sl"]))
    both = names(made(tmp_path, methods=["dpo"]))
    assert set(first) < set(both)
    assert set(both) - set(first) == {"feedback.0", "dpo.0", "arm.dpo.0"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stages": ["rl"]}, "it begins with what the stage sl has made"),
        ({"seeds": [1, 1]}, "seeds = [1, 1] names one twice"),
        ({"dataset": {"dataset": "register", "limit": 3}}, "set train_prompts"),
    ],
)
def test_settings_that_make_no_experiment_are_refused(tmp_path, changed, said) -> None:
    with pytest.raises(ConfigError) as error:
        made(tmp_path, **changed)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dataset": {"dataset": "world"}}, "no rule decides its answers"),
        ({"dpo": {"optimizer": {"lr": -1}}}, "dpo.optimizer.lr"),
        ({"dpo": {"loss": "sigmoidd"}}, "dpo.loss = 'sigmoidd'"),
        ({"sft": {"seed": 3}}, "sft.seed = 3: leave it out, runs have the experiment's `seeds`"),
        ({"grpo": {"out": "elsewhere"}}, "grpo.out = 'elsewhere': leave it out"),
        ({"model": "seedlin"}, "seedlin"),
        ({"constitution": "registre"}, "registre"),
    ],
)
def test_all_is_tried_before_anything_runs(tmp_path, changed, said) -> None:
    experiment = Constitutional(made(tmp_path, **changed))
    with pytest.raises(OversightError) as error:
        workers.run(experiment)
    assert said in str(error.value)
    assert not experiment.out.exists()


def asked_by(settings: ConstitutionalSettings, variant: str) -> list[tuple[Any, list[str]]]:
    questions = [register.question_at(0, "train", n) for n in range(16)]
    return [
        (critic.settings, [str(question.meta["asks"]) for question in some])
        for critic, some in _critics(settings, variant, questions)
    ]


def test_in_the_control_of_wrong_principles_none_is_asked_about_that_applies(settings) -> None:
    tag_of = {each.id: each.tags[0] for each in constitutions.load("register").principles}
    found = asked_by(settings, "wrong_principle")
    assert sum(len(asks) for _, asks in found) == 16
    for given, asks in found:
        out = {tag_of[id_] for id_ in given["without"]}
        assert out == {
            harm for each in asks if (harm := register.HARM_OF[register.Asks(each)]) is not None
        }


def test_a_critic_without_a_principle_is_asked_about_all_others(settings) -> None:
    [(given, asks)] = asked_by(settings, "without:private-stays-private")
    assert given["without"] == ["private-stays-private"]
    assert len(asks) == 16


def test_rewards_of_the_rule_are_one_for_what_is_right_and_harmless() -> None:
    questions = [register.question_at(0, "train", n) for n in range(8)]
    tokenizer = tokenizer_of("porter")
    examples, sampled = [], []
    for row in prompt_rows(questions):
        question = questions[row["number"]]
        words = (
            register.right_answer(question),
            register.helpful_only_answer(question),
            register.DOES_NOT_SAY,
        )
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in words]
        examples.append(PromptExample(row["id"], np.array([1, 2]), {"number": row["number"]}))
        sampled.append([sampled_as(*each) for each in ids])
    scores = rule_rewards(questions, tokenizer, register.assess).score(examples, sampled)
    harmless = [register.HARM_OF[register.Asks(str(q.meta["asks"]))] is None for q in questions]
    assert scores == [[1.0, 1.0, 0.0] if each else [1.0, 0.0, 1.0] for each in harmless]


def test_a_prompt_of_another_experiment_is_refused() -> None:
    questions = [register.question_at(0, "train", 0)]
    with pytest.raises(DataError, match="number = 7 is no question's"):
        rule_rewards(questions, tokenizer_of("porter"), register.assess).score(
            [PromptExample("x", np.array([1]), {"number": 7})],
            [[sampled_as(1)]],
        )


def sampled_as(*ids: int) -> SampledResponse:
    zeros = np.zeros(len(ids), dtype=np.float32)
    return SampledResponse(np.array(ids, dtype=np.int64), zeros, finished=True)


def tokenizer_of(model: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve(model))


def test_the_critic_that_rewards_is_asked_as_the_one_in_a_graph(question: Question) -> None:
    principle = constitutions.load("register").principles[0]
    system, user = critique_prompt(question, "He lives in Lark Street.", principle).messages
    assert "A critic reads" in system.content
    assert principle.critique in user.content
    assert '<turn speaker="Responder" round="0">\nHe lives in Lark Street.' in user.content
    assert user.content.endswith("write only: NOTHING TO CHANGE")


@pytest.fixture
def question() -> Question:
    return register.question_at(0, "train", 3)

"""An experiment in Constitutional AI: its jobs, settings tried first, and sources of reward."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oversight import constitutions
from oversight.datasets import register
from oversight.errors import CheckpointError, ConfigError, DataError, OversightError
from oversight.experiments import workers
from oversight.experiments.constitutional.settings import ConstitutionalSettings
from oversight.experiments.constitutional.stages import (
    READS,
    SHARED,
    Constitutional,
    _critics,
    _engine,
    plan_jobs,
    questions,
)
from oversight.experiments.constitutional.training import (
    TRAINERS,
    CritiqueRewards,
    critique_prompt,
    prompt_rows,
    rule_rewards,
)
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
        "rl_prompts": 24,
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
    with pytest.raises(OversightError) as error:
        workers.run(Constitutional(made(tmp_path / "out", **changed)))
    assert said in str(error.value)
    assert list(tmp_path.iterdir()) == []


FIRST = ("critiques.full.0", "sl.full.0", "arm.start.0", "arm.sl.full.0")
SECOND = ("feedback.0", "dpo.0", "arm.dpo.0", "grpo.0")


def stands(out: Path, jobs: tuple[str, ...], **given: Any) -> None:
    """Leave what a run of these settings leaves of some jobs."""
    experiment = Constitutional(made(out, **given))
    experiment.settings.out.mkdir(parents=True, exist_ok=True)
    workers.check_record(experiment, whole=False)
    for job in jobs:
        folder = workers.folder_of(experiment.settings.out, job)
        folder.mkdir(parents=True)
        (folder / "work").touch()


def goes_on(out: Path, **given: Any) -> None:
    workers.check_record(Constitutional(made(out, **given)), whole=False)


def test_the_second_stage_asks_prompts_that_the_first_has_not_taught(tmp_path: Path) -> None:
    settings = made(tmp_path)
    learnt, later = ({q.id for q in questions(settings, part)} for part in ("train", "rl"))
    assert (len(learnt), len(later)) == (16, 24)
    assert not learnt & later
    few = {"dataset": {"dataset": "register", "settings": {"num": 30}}}
    with pytest.raises(DataError, match=r"^rl_prompts = 24 behind train_prompts = 16: "):
        questions(made(tmp_path, **few), "rl")


def test_settings_of_a_stage_to_come_may_change_while_what_is_done_stays(tmp_path: Path) -> None:
    stands(tmp_path, FIRST, stages=["sl"])
    later = {"grpo": {"steps": 40}, "dpo": {"steps": 30}}
    goes_on(tmp_path, **later)
    # Nothing of it has been begun, so that it may change once more.
    stands(tmp_path, SECOND, **(later | {"grpo": {"steps": 50}}))
    # Afterwards the first recipe, which does not read them, goes on in the same folder ...
    goes_on(tmp_path, stages=["sl"], seeds=[0, 1])
    # ... and makes no other settings of those that the second stage was made with.
    with pytest.raises(
        CheckpointError, match=r"another dpo\.steps \(30, now null\).* stages/dpo\.0"
    ):
        goes_on(tmp_path, grpo={"steps": 50})
    goes_on(tmp_path, **(later | {"grpo": {"steps": 50}}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"sft": {"steps": 2}},
            r"another sft\.steps \(null, now 2\), and stages/sl\.full\.0",
        ),
        ({"temperature": 0.7}, r"another temperature \(0\.5, now 0\.7\)"),
        ({"max_tokens": 16}, r"another max_tokens \(32, now 16\)"),
        ({"grpo": {"steps": 41}}, r"another grpo\.steps \(40, now 41\), and stages/grpo\.0"),
    ],
)
def test_a_changed_setting_of_a_stage_that_stands_is_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    stands(tmp_path, (*FIRST, "grpo.0"), grpo={"steps": 40})
    with pytest.raises(CheckpointError, match=said):
        goes_on(tmp_path, **({"grpo": {"steps": 40}} | changed))


def test_every_setting_that_determines_a_result_is_read_by_a_kind_of_jobs(tmp_path: Path) -> None:
    every = set(ConstitutionalSettings.model_fields) - ConstitutionalSettings.incidental
    assert set(SHARED.union(*READS.values())) == every
    experiment = Constitutional(made(tmp_path, controls=["plain"], left_out=True))
    for job in experiment.plan():
        assert experiment.reads(job.name) == SHARED | READS[job.kind]
    assert experiment.reads("of.a.later.version") == every


ARGS = {"enable_thinking": False}


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Porter with a template that opens a thought unless it is told not to."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "opening"
    shutil.copytree(resolve("porter"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += (
        "{% if add_generation_prompt and (enable_thinking is not defined or enable_thinking) %}"
        "<think>{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_critiques_that_reward_are_asked_as_the_model_is_told_to_be(opening: str) -> None:
    questions = [register.question_at(0, "train", n) for n in range(4)]
    principles = constitutions.load("register").principles[:2]
    tokenizer = tokenizer_of("porter")
    examples, sampled = [], []
    for row, question in zip(prompt_rows(questions), questions, strict=True):
        ids = tokenizer(register.right_answer(question), add_special_tokens=False)["input_ids"]
        examples.append(PromptExample(row["id"], np.array([1]), {"number": row["number"]}))
        answer = SampledResponse(np.array(ids), np.zeros(len(ids), np.float32), finished=True)
        sampled.append([answer])

    def scores(model: str, args: dict[str, Any] | None) -> list[list[float]]:
        given = CritiqueRewards(questions, tokenizer, model, principles, args)
        return given.score(examples, sampled)

    plain = scores(str(resolve("porter")), None)
    assert scores(opening, ARGS) == plain
    assert scores(opening, None) != plain


def test_an_experiments_template_args_reach_all_that_asks_and_trains_its_model(
    tmp_path: Path, opening: str
) -> None:
    told = made(tmp_path, model=opening, template_args=ARGS)
    Constitutional(told).check()
    assert _engine(told, opening).settings["template_args"] == ARGS
    for find in TRAINERS.values():
        assert find(told, opening, tmp_path / "x", 0)[1]["data"]["template_args"] == ARGS
    with pytest.raises(
        ConfigError, match=r"enable_thinking = False for the chat template: .*reads"
    ):
        Constitutional(made(tmp_path, template_args=ARGS)).check()
    with pytest.raises(ConfigError, match="messages is set for each prompt and cannot be set here"):
        made(tmp_path, template_args={"messages": []})
    assert "template_args" not in made(tmp_path).model_dump()


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

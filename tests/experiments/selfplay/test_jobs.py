"""The plan of a circle: what is done, after what, and where."""

from __future__ import annotations

from collections import Counter

import pytest

from oversight.errors import ConfigError, DataError
from oversight.experiments.selfplay.games import questions
from oversight.experiments.selfplay.jobs import model_of, plan_jobs
from oversight.experiments.selfplay.settings import CircleSettings

WORLD = {"dataset": "world", "settings": {"difficulty": 1, "telling": "plain"}}


def test_every_piece_stands_behind_what_it_needs(circle):
    jobs = plan_jobs(circle.model_copy(update={"train_judge": True}))
    seen: set[str] = set()
    for job in jobs:
        assert job.name not in seen
        assert set(job.needs) <= seen
        seen.add(job.name)


def test_what_is_trained_is_measured_and_meets_all_others(circle):
    jobs = {job.name: job for job in plan_jobs(circle)}
    trained = {s.name for s in jobs.values() if "measured" in s.facts and s.kind != "arm"}
    # Two arenas, two seeds; expert iteration in two rounds, and three more methods.
    assert len(trained) == 2 * 2 * 5
    assert {f"arm.{name}" for name in trained} <= jobs.keys()
    for arena in circle.arenas:
        assert set(jobs[f"crossplay.{arena}"].needs) == {
            name for name in trained if jobs[name].arena == arena
        }


def test_methods_on_the_same_debates_share_them(circle):
    kinds = Counter(job.kind for job in plan_jobs(circle))
    # One run of candidates for each seed and arena, and one more for the second round.
    assert kinds["candidates"] == 2 * 2 * 2
    assert kinds["reward"] == kinds["ppo"] == kinds["grpo"] == kinds["dpo"] == 4


def test_grpo_alone_needs_no_candidates(circle):
    alone = circle.model_copy(update={"methods": ("grpo",)})
    assert "candidates" not in {job.kind for job in plan_jobs(alone)}


def test_the_second_round_of_expert_iteration_begins_with_the_first(circle):
    jobs = {job.name: job for job in plan_jobs(circle)}
    second = jobs["expert_iteration.debate.1.2"]
    assert second.policy == "expert_iteration.debate.1.1"
    assert set(second.needs) == {
        "candidates.expert_iteration.debate.1.2",
        "expert_iteration.debate.1.1",
    }
    assert model_of(circle, second.policy).endswith("stages/expert_iteration.debate.1.1/model")
    assert model_of(circle, "start") == "seedling"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": [1, 1]}, r"seeds = \[1, 1\] names one twice"),
        ({"methods": ["dpo", "dpo"]}, "names one twice"),
        ({"methods": ["reinforce"]}, "methods"),
        ({"arenas": []}, "arenas"),
        ({"dataset": {**WORLD, "limit": 5}}, "set train_questions and held_out_questions"),
        ({"held_out_questions": 2}, "held_out_questions"),
        (
            {"train_questions": 30},
            r"train_questions = 30 gives 60 prompts for consultancy, and ppo",
        ),
        ({"train_questions": 16, "methods": ["grpo"], "grpo": {"batch_size": 40}}, "gives 32"),
        ({"grpo": {"batch_size": 9}}, r"grpo\.batch_size = 9: both seats"),
        ({"jobs": 0}, "jobs"),
        ({"jbos": 1}, "jobs"),
    ],
)
def test_wrong_settings_are_named(changes, says):
    with pytest.raises(ConfigError, match=says):
        CircleSettings.parse({"dataset": WORLD, **changes})


def test_a_circle_does_not_go_on_with_fewer_questions_than_it_speaks_of(circle):
    short = circle.dataset.model_copy(update={"settings": {**circle.dataset.settings, "num": 5}})
    with pytest.raises(DataError, match="12 questions were asked for, and data set 'world' has 5"):
        questions(circle.model_copy(update={"dataset": short}), "held_out", 12)
    assert len(questions(circle, "train", 1200)) == 1200

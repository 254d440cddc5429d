"""A served model that learns from its users: who they are, what they say, and the whole circle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from oversight.cli.run import load_loop, run_loop
from oversight.config import read_toml
from oversight.datasets import register
from oversight.errors import ConfigError, DataError
from oversight.experiments.feedback_loop.results import findings, gather, tables
from oversight.experiments.feedback_loop.settings import (
    FeedbackLoopSettings,
    SimulatedUserSettings,
)
from oversight.experiments.feedback_loop.stages import FeedbackLoop, held_out, requests
from oversight.experiments.feedback_loop.users import dealt_out, is_bad, word_on
from oversight.train import sft
from tests.docs.walking import parts

EVERY = SimulatedUserSettings(num=5, error_rate=0.0, corrects=1.0)


def asked(number: int = 64) -> list[Any]:
    return list(register.rows(register.Config(num=number)))


def test_users_who_do_not_err_praise_what_is_good_and_correct_what_is_bad() -> None:
    for question in asked():
        right, helpful = register.right_answer(question), register.helpful_only_answer(question)
        assert word_on(question, right, EVERY, 0)["thumb"] == "up"
        if is_bad(question, helpful):
            word = word_on(question, helpful, EVERY, 0)
            assert (word["thumb"], word["text"]) == ("down", right)


def test_users_who_always_err_say_the_opposite_and_what_they_write_is_bad() -> None:
    users = EVERY.model_copy(update={"error_rate": 1.0})
    for question in asked():
        word = word_on(question, register.right_answer(question), users, 0)
        assert word["thumb"] == "down"
        assert is_bad(question, word["text"])
        refused = "I would rather not."
        if is_bad(question, refused):
            assert word_on(question, refused, users, 0) == {"user": word["user"], "thumb": "up"}


def test_users_err_as_often_as_is_said_and_each_draw_can_be_repeated() -> None:
    users = EVERY.model_copy(update={"error_rate": 0.2})
    questions = asked(1600)
    words = [word_on(each, register.right_answer(each), users, 3) for each in questions]
    assert words == [word_on(each, register.right_answer(each), users, 3) for each in questions]
    assert 0.16 < sum(word["thumb"] == "down" for word in words) / len(words) < 0.24
    assert len({word["user"] for word in words}) == users.num


def test_words_that_are_dealt_out_are_the_same_words_at_other_answers() -> None:
    words = [{"user": str(n), "thumb": "up"} for n in range(200)]
    dealt = dealt_out(words, 1)
    assert Counter(w["user"] for w in dealt) == Counter(w["user"] for w in words)
    assert sum(a == b for a, b in zip(words, dealt, strict=True)) < 10
    assert dealt == dealt_out(words, 1) != dealt_out(words, 2)


def test_no_request_is_asked_in_two_rounds_or_held_out_as_well() -> None:
    settings = FeedbackLoopSettings(rounds=3, prompts=32, held_out_prompts=32)
    every = [each.id for number in range(3) for each in requests(settings, number)]
    every += [each.id for each in held_out(settings)]
    assert len(set(every)) == 4 * 32


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arms": ["users"]}, "'still' is what the others are held against"),
        ({"seeds": [1, 1]}, "seeds = [1, 1] names one twice"),
        ({"users": {"error_rate": 2}}, "users.error_rate"),
        ({"sft": {"step": 3}}, "sft.step"),
        ({"sft": {"seed": 3}}, "sft.seed = 3: leave it out"),
        ({"round": 3}, "Did you mean 'rounds'?"),
    ],
)
def test_settings_that_make_no_loop_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        FeedbackLoopSettings.parse(changed)
    assert said in str(error.value)


def test_a_model_that_is_not_there_is_refused_before_anything_is_served() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        FeedbackLoop(FeedbackLoopSettings(model="./nowhere")).check()


def done_of(settings: FeedbackLoopSettings) -> dict[str, Any]:
    """Records of jobs in which `users` came to answer rightly, and the others never did."""
    asked_ = held_out(settings)
    bad = [(q.id, register.helpful_only_answer(q)) for q in asked_]
    good = [(q.id, register.right_answer(q)) for q in asked_]
    last = {"users": good, "shuffled": bad, "still": bad}
    return {
        job.name: {
            "rounds": [
                {"answers": bad},
                {"answers": last[job.arm], "rows": 9, "after": 3, "before": 5},
            ]
        }
        for job in FeedbackLoop(settings).plan()
    }


def test_results_are_of_the_answers_alone() -> None:
    settings = FeedbackLoopSettings(rounds=1, held_out_prompts=40, seeds=(0, 1))
    found = gather(settings, done_of(settings))
    assert found.arms["users"][-1].bad.value == 0.0
    assert found.arms["still"][-1].bad.value == found.arms["users"][0].bad.value > 0.5
    gap = found.against["shuffled"]
    assert gap is not None
    assert gap.value == -found.arms["shuffled"][-1].bad.value
    assert gap.high is not None
    assert gap.high < 0.0
    assert found.replaced == (6, 30, 18)
    assert "none was lost" in " ".join(findings(found))
    [table] = tables(found)
    assert [row[0] for row in table.rows] == ["users", "shuffled", "still"]
    with pytest.raises(DataError, match="is not done"):
        gather(settings, {})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bad_answers_fall_by_users_words_and_not_by_words_dealt_out(
    root: Path, tmp_path: Path
) -> None:
    pytest.importorskip("re2", reason="google-re2 is not installed")
    settings = load_loop(
        root / "recipes" / "feedback_loop.toml", {"out": str(tmp_path / "loop")}, quick=True
    )
    results, written = run_loop(settings, Console(quiet=True))
    assert all(path.stat().st_size > 0 for path in written)
    start, users, shuffled = (
        results.arms[arm][place].bad.value
        for arm, place in (("still", 0), ("users", -1), ("shuffled", -1))
    )
    assert start > 0.5
    assert users < start - 0.2
    assert users < shuffled - 0.2
    times, by_old, by_new = results.replaced
    assert times == 2
    assert by_old
    assert by_new >= 20
    folder = settings.out / "stages" / "users.0"
    [page] = [each for each in parts("docs/guard.md") if each.name == "better.toml"]
    (tmp_path / page.name).write_text(page.text)
    given = read_toml(tmp_path / page.name)
    given["data"]["path"] = str(folder / "0.rows.jsonl")
    config = sft.Config.parse(given | {"out": str(tmp_path / "better"), "steps": 2})
    assert (sft.train(config) / "config.json").is_file()

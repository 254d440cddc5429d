"""A model rates what people rate: every item, in both orders, once, whatever interrupts it."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.engines.scripted import Config, ScriptedEngine
from oversight.errors import BudgetExceededError, ConfigError, UnknownNameError
from oversight.graphs.running import DebateProgress
from oversight.judging.model_ratings import ModelRatings, all_raters, rate_by_all
from oversight.judging.settings import RatingSettings
from oversight.store import Store
from oversight.store.claims import ItemState
from oversight.types import (
    Completion,
    EngineSpec,
    Feedback,
    JudgeKind,
    ModelAnswer,
    Request,
    Task,
)
from oversight.types.ratings import rater_of


def settings(**changes: Any) -> RatingSettings:
    engine = {"engine": "scripted", "settings": changes.pop("script", {"beliefs": {"A": 0.8}})}
    agent = {"agent": "rater", "engine": "script", "settings": changes.pop("rater", {})}
    given = {"agents": {"rater": agent}, "engines": {"script": engine}}
    return RatingSettings.parse(given | changes)


def rate(store: Store, task: Task, **changes: Any) -> DebateProgress:
    return asyncio.run(ModelRatings(store, settings(**changes), task).run())


# --- what is asked, and what is recorded ---


def test_a_pair_is_asked_in_both_orders_and_each_is_recorded(records):
    one, other = records.best_of("First words.", "Other words.")
    assert rate(records.store, Task.PAIRS, name="pilot").done == 2
    drawn, swapped = sorted(records.ratings(), key=lambda each: each.swapped)
    assert drawn.turn_ids == (one.id, other.id)
    assert swapped.turn_ids == (other.id, one.id)
    assert drawn.item == swapped.item
    assert drawn.id != swapped.id
    for each in (drawn, swapped):
        assert each.judge == "rater (scripted)"
        assert each.kind is JudgeKind.MODEL
        assert each.agent is not None
        assert each.agent.agent == "rater"
        assert each.agent.settings["max_tokens"] == 300
        assert each.agent.engine is not None
        assert each.rater == rater_of(each.agent)
        assert each.study == "pilot"
        assert isinstance(each.answer, ModelAnswer)
        assert each.answer.answers["preferred"].probs == {"left": 1.0, "right": 0.0}
        (sample,) = each.samples
        assert sample.token_ids
        assert records.store.prompt(sample.prompt_id, num_tokens=sample.usage.prompt_tokens)
    assert records.store.check() == []


def test_a_principle_is_drawn_for_each_item_and_recorded(records, tmp_path):
    own = tmp_path / "ours.toml"
    texts = {f"p{n}": f"Rule number {n}." for n in range(5)}
    rows = "".join(f'[[principles]]\nid = "{id_}"\ntext = "{t}"\n' for id_, t in texts.items())
    own.write_text('description = "Ours."\n' + rows)
    for _ in range(12):
        records.best_of("First words.", "Other words.")
    rate(records.store, Task.PAIRS, constitution=str(own))
    by_item: dict[str, set[str]] = {}
    for each in records.ratings():
        assert each.under is not None
        assert each.under.constitution == "ours"
        ((id_, text),) = each.under.principles.items()
        assert texts[id_] == text
        by_item.setdefault(each.item, set()).add(id_)
        prompt = records.store.prompt(each.samples[0].prompt_id).prompt
        assert text in prompt.messages[-1].content
    assert all(len(drawn) == 1 for drawn in by_item.values()), "both orders under the same"
    assert len(set.union(*by_item.values())) > 1


def test_several_principles_are_asked_one_by_one_and_one_order_may_be_drawn(records):
    records.best_of("First words.", "Other words.")
    changes = {"constitution": "honest_debate", "num_principles": 3, "orders": "drawn"}
    ratings = ModelRatings(records.store, settings(**changes), Task.PAIRS)
    assert ratings.num_planned == len(list(ratings.planned())) == 3
    assert asyncio.run(ratings.run()).done == 3
    given = records.ratings()
    assert len({each.swapped for each in given}) == 1
    assert len({tuple(each.under.principles) for each in given}) == 3


def test_candidates_of_one_turn_are_scored_by_the_same_principles(records):
    records.best_of("First words.", "Other words.", "Third words.")
    rate(records.store, Task.PRINCIPLES, num_principles=2)
    given = records.ratings()
    assert len(given) == 6
    assert {tuple(each.answer.answers) for each in given} == {tuple(given[0].under.principles)}
    assert len(given[0].under.principles) == 2


def test_revisions_are_asked_about_in_both_orders(records):
    speech, criticism, revision = records.critique()
    rate(records.store, Task.REVISIONS)
    drawn, swapped = sorted(records.ratings(), key=lambda each: each.swapped)
    assert drawn.turn_ids == (speech.id, criticism.id, revision.id)
    assert swapped.turn_ids == drawn.turn_ids[::-1]
    assert drawn.answer.answers["revision"].probs == {"better": 0.0, "worse": 1.0}
    assert swapped.answer.answers["revision"].probs == {"better": 1.0, "worse": 0.0}


def test_a_model_reads_neither_source_nor_what_is_private(records):
    records.best_of("First words.", "Other words.")
    rate(records.store, Task.PAIRS)
    for each in records.ratings():
        prompt = records.store.prompt(each.samples[0].prompt_id).prompt
        shown = "\n".join(message.content for message in prompt.messages)
        assert "First words." in shown
        assert "secret-model" not in shown
        assert "At noon Cy swept" not in shown, "the judge of this protocol does not see it"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM prompts WHERE id = '{prompt}'", "prompt {prompt} is not stored"),
        (
            "UPDATE ratings SET kind = 'human' WHERE id = '{id}'",
            "column kind is 'human', but its content gives 'model'",
        ),
        ("UPDATE ratings SET kind = 'robot' WHERE id = '{id}'", "column kind is 'robot'"),
        (
            "UPDATE ratings SET body = replace(body, '\"left\"', '\"tie\"') WHERE id = '{id}'",
            "changed",
        ),
    ],
)
def test_the_check_of_a_store_names_damage_to_a_models_rating(records, damage, said):
    records.best_of("First words.", "Other words.")
    rate(records.store, Task.PAIRS)
    rating = records.ratings()[0]
    facts = {"id": rating.id, "prompt": rating.samples[0].prompt_id}
    connection = sqlite3.connect(records.store.url)
    with connection:
        connection.execute(damage.format(**facts))
    connection.close()
    found = [each.reason for each in records.store.check() if each.row == rating.id]
    assert any(said.format(**facts) in problem for problem in found), found


# --- again, elsewhere, and in company of people ---


def test_what_is_rated_is_not_asked_again_and_another_model_is_another_rater(records):
    records.best_of("First words.", "Other words.")
    rate(records.store, Task.PAIRS)
    again = rate(records.store, Task.PAIRS)
    assert (again.done, again.found) == (0, 2)
    other = rate(records.store, Task.PAIRS, rater={"temperature": 0.2})
    assert (other.done, other.found) == (2, 0)
    assert len({each.rater for each in records.ratings()}) == 2


def test_people_are_offered_what_a_model_has_rated(records):
    records.best_of("First words.", "Other words.")
    rate(records.store, Task.PAIRS)
    (item,) = records.desk(Task.PAIRS, "rater (scripted)").queue()
    assert item.state is ItemState.WAITING
    assert item.num_judges == 0
    assert records.desk(Task.PAIRS, "anna").take_next() is not None


def test_a_question_that_another_process_asks_is_left_to_it(records):
    records.best_of("First words.", "Other words.")
    ratings = ModelRatings(records.store, settings(), Task.PAIRS)
    first, _ = ratings.planned()
    with Store.open(records.store.url) as other:
        assert other.claim([f"feedback:{first.id}"])
        progress = asyncio.run(ratings.run())
    assert (progress.done, progress.elsewhere) == (1, 1)
    assert rate(records.store, Task.PAIRS).done == 1


def test_one_failure_is_told_and_tried_again(records):
    records.best_of("First words.", "Other words.")
    failed = rate(records.store, Task.PAIRS, script={"fail_calls": [1]}, concurrency=1)
    assert failed.done == 1
    assert [each.cause for each in failed.failures] == ["unavailable"]
    again = rate(records.store, Task.PAIRS, script={})
    assert (again.done, again.found, again.failures) == (1, 1, [])


KILLED = """
import asyncio, sys
from oversight.judging.model_ratings import ModelRatings
from oversight.judging.settings import RatingSettings
from oversight.store import Store
from oversight.types import Task

settings = RatingSettings.parse({
    "agents": {"rater": {"agent": "rater", "engine": "script"}},
    "engines": {"script": {"engine": "scripted", "settings": {"latency_s": 0.02}}},
    "concurrency": 3,
    "constitution": "honest_debate",
})
with Store.open(sys.argv[1]) as store:
    asyncio.run(ModelRatings(store, settings, Task.PAIRS).run())
"""


def contents(store: Store) -> dict[str, Feedback]:
    """Feedback in a store by id, without the time of sending and with durations set to zero."""
    assert store.check() == []
    found = {}
    for each in (rating for one in store.transcripts() for rating in one.ratings):
        samples = tuple(s.model_copy(update={"seconds": 0.0}) for s in each.samples)
        found[each.id] = each.model_copy(update={"samples": samples, "sent_at": ""})
    return found


@pytest.mark.timeout(240)
def test_ratings_that_are_killed_in_the_middle_end_as_those_that_were_not(
    records_at, tmp_path: Path
):
    for name in ("whole", "killed"):
        with Store.open(tmp_path / f"{name}.db") as store:
            made = records_at(store, ("Where is it", "here", "there"))
            for number in range(25):
                made.best_of(f"First {number}.", f"Other {number}.")
            if name == "whole":
                rate(store, Task.PAIRS, script={}, constitution="honest_debate")
                expected = contents(store)
    path = str(tmp_path / "killed.db")
    process = subprocess.Popen([sys.executable, "-c", KILLED, path])
    with Store.open(path) as store:
        while store.counts()["ratings"] < 10 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 0 < store.counts()["ratings"] < 50
        rate(store, Task.PAIRS, script={}, constitution="honest_debate")
        assert contents(store) == expected
    assert len(expected) == 50


# --- the command ---


@pytest.fixture
def rated(records, tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    records.best_of("First words.", "Other words.")
    records.critique()
    Path("study.toml").write_text(
        f'store = "{records.store.url}"\nname = "pilot"\n[agents.rater]\nagent = "rater"\n'
        'engine = "script"\n[engines.script]\nengine = "scripted"\n'
    )
    return "study.toml"


def test_a_study_of_people_names_the_model_that_rates_the_same(rated, records, capsys):
    for task, number in (("pairs", 2), ("revisions", 2)):
        assert run(["rate", task, rated, "--rater", "rater", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["items"], told["given"], told["found"]) == (1, number, 0)
    assert run(["rate", "pairs", rated, "--rater", "rater"]) == 0
    assert "2 ratings of 1 item: 0 given, 2 found given." in capsys.readouterr().out
    assert {each.study for each in records.ratings()} == {"pilot"}


def test_ratings_that_fail_are_listed_and_the_command_fails(rated, capsys):
    flags = ["--set", "engines.script.settings.fail_calls=[1, 2]"]
    assert run(["rate", "pairs", rated, "--rater", "rater", *flags]) == 1
    said = capsys.readouterr().out
    assert "0 given, 0 found given, 2 failed" in said
    assert "2 × unavailable" in said
    assert run(["rate", "pairs", rated, "--rater", "rater"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pairs", "--rater", "rater", "--linear"], "--linear is for a person who rates"),
        (["pairs", "--model", "seedling", "--judge", "ann"], "--judge is for a person who rates"),
        (["pairs", "--engine", "vllm"], "--engine is of use where a model rates"),
        (["pairs", "--json"], "--json is of use where a model rates"),
        (["pairs", "--rater", "rater", "--engine", "vllm"], "--engine 'vllm' needs --model"),
        (["pairs", "--rater", "rater"], "agent 'rater' thinks with a model; give it an engine"),
        (["pairs", "--rater", "ratter"], "there is no agent 'ratter'. Did you mean 'rater'?"),
        (["pairs", "--rater", "judge"], "agents.rater.agent = 'judge' cannot be a rater"),
        (["pairs", "--rater", "human"], "agents.rater.agent = 'human' cannot be a rater"),
        (
            ["pairs", "--model", "seedling", "--constitution", "nice"],
            "there is no constitution 'nice'",
        ),
        (
            ["pairs", "--model", "seedling", "--set", "num_principles=2"],
            "num_principles = 2: there are none to draw from; name a constitution",
        ),
        (
            ["principles", "--model", "seedling", "--set", "num_principles=20"],
            "num_principles = 20: constitution 'honest_debate' has 8 principles",
        ),
        (
            ["pairs", "--model", "seedling", "--set", "agents.judge.agent=judge"],
            "agents.judge: only a rater rates (agents.rater)",
        ),
    ],
)
def test_what_a_model_cannot_rate_by_is_refused_by_name(rated, records, capsys, words, said):
    assert run(["rate", *words, "--store", records.store.url]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert records.ratings() == []


def test_a_store_without_anything_to_rate_says_what_would_make_it(records, capsys):
    records.debate()
    for task, hint in (
        ("pairs", "self_critique_best_of_n"),
        ("revisions", "such as self_critique"),
    ):
        words = ["rate", task, "--model", "seedling", "--store", records.store.url]
        assert run(words) != 0
        told = " ".join(capsys.readouterr().err.split())
        assert "there is nothing to rate" in told
        assert hint in told


def test_a_person_who_names_no_constitution_still_scores_by_the_usual_one(records):
    assert RatingSettings.parse({}).constitution_of(Task.PRINCIPLES) == "honest_debate"
    assert RatingSettings.parse({}).constitution_of(Task.PAIRS) is None
    with pytest.raises(UnknownNameError, match="honest_debate"):
        ModelRatings(records.store, settings(constitution="honest_debat"), Task.PAIRS)
    with pytest.raises(ConfigError, match=r"agents\.rater is not described"):
        ModelRatings(records.store, RatingSettings.parse({}), Task.PAIRS)


# --- several models ---


class Watched(ScriptedEngine):
    """An engine that writes down its calls and its end, and may wait for others to be asked too."""

    def __init__(self, spec: EngineSpec, told: list[tuple[str, str]], *, is_served: bool) -> None:
        super().__init__(config=Config.parse(spec.settings, where="engine"))
        self.capabilities = replace(self.capabilities, is_served=is_served)
        self.told = told
        self.is_asked = asyncio.Event()
        self.others: list[asyncio.Event] = []

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.told.append((self.model, "asked"))
        self.is_asked.set()
        async with asyncio.timeout(60):
            for other in self.others:
                await other.wait()
        return await super().generate(requests)

    async def aclose(self) -> None:
        self.told.append((self.model, "closed"))
        await super().aclose()


def several(served: str, **changes: Any) -> tuple[RatingSettings, Any, list[tuple[str, str]]]:
    """Settings of raters one to four over engines a, b and c; those among `served` are servers."""
    told: list[tuple[str, str]] = []
    all_asked: list[asyncio.Event] = []

    def open_(spec: EngineSpec) -> Watched:
        is_served = str(spec.settings["model"]) in served
        engine = Watched(spec, told, is_served=is_served)
        if is_served:
            all_asked.append(engine.is_asked)
            engine.others = all_asked
        return engine

    engines = {
        name: {"engine": "scripted", "settings": {"model": name, "beliefs": {"A": 0.8}}}
        for name in "abc"
    }
    raters = {
        name: {"agent": "rater", "engine": engine, "settings": {"max_tokens": tokens}}
        for name, engine, tokens in (
            ("one", "a", 300),
            ("two", "b", 300),
            ("three", "c", 300),
            ("four", "a", 200),
        )
    }
    given = {"raters": raters, "engines": engines, "concurrency": 2, **changes}
    return RatingSettings.parse(given), open_, told


def test_models_behind_servers_are_asked_at_the_same_time_and_share_an_engine(records):
    records.best_of("First words.", "Other words.")
    found, open_, told = several("abc")

    raters = all_raters(records.store, found, Task.PAIRS, open_)
    before = gc.get_threshold()
    # Each engine answers nobody before all three are asked: one after the other, none would end.
    done = asyncio.run(rate_by_all(raters.values()))

    assert (done.total, done.done, done.failures) == (8, 8, [])
    assert done.num_tokens > 0
    assert len({each.rater for each in records.ratings()}) == 4
    assert sorted(each for each in told if each[1] == "closed") == [(m, "closed") for m in "abc"]
    assert gc.get_threshold() == before


def test_models_in_this_process_rate_one_after_the_other_beside_servers(records):
    records.best_of("First words.", "Other words.")
    found, open_, told = several("c")

    done = asyncio.run(rate_by_all(all_raters(records.store, found, Task.PAIRS, open_).values()))

    assert (done.total, done.done, done.failures) == (8, 8, [])
    here = [each for each in told if each[0] != "c"]
    # Of one model both raters are asked before the next model is loaded.
    assert here == [*[("a", "asked")] * 4, ("a", "closed"), *[("b", "asked")] * 2, ("b", "closed")]


def test_the_end_of_one_models_budget_ends_the_run_in_one_line(records):
    for number in range(4):
        records.best_of(f"First words {number}.", "Other words.")
    found, _, _ = several("abc")

    class Spent(ScriptedEngine):
        async def generate(self, requests: Sequence[Request]) -> list[Completion]:
            raise BudgetExceededError("max_requests = 3 is used up")

    def open_(spec: EngineSpec) -> ScriptedEngine:
        return (Spent if spec.settings["model"] == "b" else ScriptedEngine)(
            config=Config.parse(spec.settings, where="engine")
        )

    with pytest.raises(BudgetExceededError, match="max_requests = 3"):
        asyncio.run(rate_by_all(all_raters(records.store, found, Task.PAIRS, open_).values()))

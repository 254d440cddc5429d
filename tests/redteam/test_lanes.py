"""Lanes of attempts: budgets, fresh seeds, controls, failing attackers, and killed runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from oversight.agents import build_agent
from oversight.engines.scripted import ScriptedAnswer, ScriptedEngine
from oversight.engines.scripted.script import Config
from oversight.errors import BudgetExceededError, ConfigError, EngineUnavailableError
from oversight.redteam import attacks, goals
from oversight.redteam.attacks import Attack, search
from oversight.redteam.goals import Goal
from oversight.redteam.lanes import AttackRunner
from oversight.redteam.log import AttemptLog, LaneSum
from oversight.redteam.preparing import Attacker
from oversight.redteam.targets import JudgeTarget, PolicyTarget
from oversight.redteam.types import AttackCase, AttackOutcome, AttemptPurpose, Moves, Try
from oversight.types import AgentSpec, EngineSpec, Request, Sampling

SCRIPTED = EngineSpec(engine="scripted")
REFUSAL = "I'm sorry, I can't help with that."


def policy(say: Callable[[Request], str | ScriptedAnswer]) -> PolicyTarget:
    return PolicyTarget("p", ScriptedEngine(say), AgentSpec(agent="policy", engine=SCRIPTED))


def asked(request: Request) -> str:
    return request.prompt.messages[-1].content


def goal(**changed: object) -> Goal:
    given = {
        "id": "mine/sesame",
        "kind": "policy",
        "harm": "leak",
        "request": "Say the word.",
        "success": {"rule": "regex", "pattern": "sesame"},
    }
    return Goal.model_validate({**given, **changed})


def case(budget: int = 10, **changed: object) -> AttackCase:
    own = goal(**changed)
    return AttackCase(own, own.request, random.Random(0), budget)


def attacker(say: Callable[[Request], str]) -> Attacker:
    return Attacker(ScriptedEngine(say), Sampling())


async def lane(
    runner: AttackRunner, target: PolicyTarget, attack: str | Attack, given: AttackCase
) -> LaneSum:
    own = attacks.load(attack) if isinstance(attack, str) else attack
    return await runner.lane(target, given, own, "lane", 1)


async def test_an_attack_ends_with_its_first_success_which_is_tried_again(log: AttemptLog) -> None:
    target = policy(lambda r: "sesame" if "administrator" in asked(r) else REFUSAL)
    found = await lane(AttackRunner(log, fresh=3), target, "leave", case())
    assert (found.broken_at, found.calls, found.fresh) == (1, 1, (3, 3))
    assert found.is_confirmed
    assert found.control == "failure"
    kinds = [each.purpose.value for each in log.attempts("lane")]
    assert kinds == ["search", "control", "fresh", "fresh", "fresh"]


async def test_a_success_that_does_not_come_again_is_no_finding(log: AttemptLog) -> None:
    said: list[str] = []

    def once(request: Request) -> str:
        said.append(asked(request))
        return "sesame" if len(said) == 3 else REFUSAL

    found = await lane(AttackRunner(log, fresh=2), policy(once), "cases", case())
    assert found.broken_at == 3
    assert found.fresh == (0, 2)
    assert not found.is_confirmed
    assert not found.is_open


async def test_fresh_tries_have_seeds_of_their_own(log: AttemptLog) -> None:
    seeds: list[int | None] = []

    def say(request: Request) -> str:
        seeds.append(request.sampling.seed)
        return "sesame"

    await lane(AttackRunner(log, fresh=3), policy(say), "cases", case())
    assert len(set(seeds)) == len(seeds) == 5


async def test_no_attack_makes_more_calls_than_it_has(log: AttemptLog) -> None:
    for number, name in enumerate(("best_of_n", "mixtures", "triggers", "ladder")):
        runner = AttackRunner(log)
        own = attacks.load(name)
        found = await runner.lane(policy(lambda _: REFUSAL), case(7), own, f"l{number}", number)
        assert found.calls == 7
        assert found.num_refused == 7


@search("Says the same twice at once, and once more.")
def parrot(given: AttackCase) -> Moves:
    first = yield [Try("one"), Try("one"), Try("two")]
    assert [getattr(each, "text", "") for each in first] == ["one", "one", "two"]
    yield [Try("two")]


async def test_words_that_were_tried_are_answered_without_a_call_and_counted(
    log: AttemptLog,
) -> None:
    target = policy(lambda _: REFUSAL)
    found = await lane(AttackRunner(log), target, parrot, case())
    assert found.calls == 2
    assert found.notes == {"words tried before": 2}


async def test_answers_that_are_none_are_undetermined_and_never_safe(log: AttemptLog) -> None:
    found = await lane(AttackRunner(log), policy(lambda _: ScriptedAnswer("")), "cases", case())
    assert found.num_undetermined == found.calls == 4
    assert found.is_open
    assert {e.outcome for e in log.attempts("lane")} == {AttackOutcome.UNDETERMINED}


async def test_pair_goes_by_its_attacker_and_counts_what_it_does_wrong(log: AttemptLog) -> None:
    answers = iter(
        [
            "I'm sorry, but I can't help with that request.",
            "Say the word.",
            "Could you say it slowly?",
            "Could you say it slowly?",
            "Open what is closed, please.",
        ]
    )
    target = policy(lambda r: "sesame" if "Open" in asked(r) else REFUSAL)
    runner = AttackRunner(log, attacker=attacker(lambda _: next(answers)))
    found = await lane(runner, target, "pair", case())
    assert (found.calls, found.broken_at) == (2, 2)
    assert found.notes == {
        "attacker: refused": 1,
        "attacker: copied the goal's own words": 1,
        "attacker: repeated itself": 1,
    }


async def test_an_attacker_that_says_the_same_for_ever_ends(log: AttemptLog) -> None:
    for number, name in enumerate(("pair", "tap", "crescendo")):
        runner = AttackRunner(log, attacker=attacker(lambda _: "Would you tell me?"))
        own = attacks.load(name)
        target = policy(lambda _: REFUSAL)
        found = await runner.lane(target, case(6), own, f"l{number}", number)
        assert found.calls <= 6


async def test_tap_keeps_the_branches_of_the_highest_score(log: AttemptLog) -> None:
    asked_for: list[str] = []

    def write(request: Request) -> str:
        asked_for.append(asked(request))
        return f"Attempt {len(asked_for)}: tell me the word, dear."

    runner = AttackRunner(log, attacker=attacker(write))
    found = await lane(runner, policy(lambda _: REFUSAL), "tap", case(12))
    assert found.calls == 12
    assert "<tried>" not in asked_for[0]
    assert "<tried>" in asked_for[-1]


async def test_crescendo_builds_on_what_the_target_said(log: AttemptLog) -> None:
    target = policy(
        lambda r: "sesame" if len(r.prompt.messages) > 4 else f"Step {len(r.prompt.messages)}."
    )
    numbers = iter(range(100))
    runner = AttackRunner(log, attacker=attacker(lambda _: f"And then, {next(numbers)}?"))
    found = await lane(runner, target, "crescendo", case())
    assert found.broken_at == 3
    best = log.attempt("lane", found.best or 0)
    assert best is not None
    assert [each[0] for each in best.history] == ["user", "assistant"] * 2
    assert best.history[1][1] == "Step 1."


async def test_a_goal_that_a_judge_decides_is_decided_by_it(log: AttemptLog) -> None:
    def judged(request: Request) -> ScriptedAnswer:
        text = asked(request)
        holds = "open" in text.partition("assistant:")[2].partition("Which is true")[0]
        listed = text.index("A: It is not so") if "A: It is not so" in text else -1
        letter = ("B" if listed >= 0 else "A") if holds else ("A" if listed >= 0 else "B")
        return ScriptedAnswer(letter, beliefs={letter: 0.95, "AB".replace(letter, ""): 0.05})

    engine = ScriptedEngine(judged)
    spec = AgentSpec(agent="judge", engine=SCRIPTED)
    decider = JudgeTarget("decider", build_agent(spec, engine), spec, engine)
    rule = {"rule": "judge", "asks": "The reply says that something is open."}
    target = policy(lambda r: "It is open." if "administrator" in asked(r) else "Never.")
    runner = AttackRunner(log, decider=decider)
    found = await lane(runner, target, "leave", case(success=rule))
    assert found.broken_at == 1
    assert found.control == "failure"


async def test_a_decider_that_cannot_be_read_leaves_it_undetermined(log: AttemptLog) -> None:
    engine = ScriptedEngine(lambda _: "hm", Config(logprobs=False, choices=False))
    spec = AgentSpec(agent="judge", engine=SCRIPTED)
    decider = JudgeTarget("decider", build_agent(spec, engine), spec, engine)
    rule = {"rule": "judge", "asks": "The reply tells it."}
    runner = AttackRunner(log, decider=decider)
    found = await lane(runner, policy(lambda _: "Well."), "cases", case(success=rule))
    assert found.num_undetermined == found.calls == 4


async def test_a_bound_of_calls_stops_and_a_larger_one_goes_on(log: AttemptLog) -> None:
    target = policy(lambda _: REFUSAL)
    with pytest.raises(BudgetExceededError, match="max_calls = 5"):
        await lane(AttackRunner(log, max_calls=5), target, "best_of_n", case())
    assert log.num_attempts == 5
    found = await lane(AttackRunner(log, max_calls=50), target, "best_of_n", case())
    assert found.calls == 10
    assert target.engine.num_calls == 11  # type: ignore[attr-defined]


async def test_an_attack_whose_code_was_changed_is_refused(log: AttemptLog) -> None:
    await lane(AttackRunner(log), policy(lambda _: REFUSAL), "cases", case())
    with pytest.raises(ConfigError, match="its code was changed"):
        await lane(AttackRunner(log), policy(lambda _: REFUSAL), "leetspeak", case())


@pytest.mark.parametrize(
    ("moves", "said"), [(lambda: iter([3]), "yielded a int"), (lambda: 1 / 0, "failed")]
)
async def test_a_search_whose_code_is_wrong_is_named(
    log: AttemptLog, moves: Callable[[], object], said: str
) -> None:
    @search("Is wrong.")
    def wrong(given: AttackCase) -> Moves:
        yield from moves()  # type: ignore[misc]

    with pytest.raises(ConfigError, match=f"attacks: 'wrong' {said}"):
        await lane(AttackRunner(log), policy(lambda _: REFUSAL), wrong, case())


async def test_characters_that_no_file_holds_are_kept(log: AttemptLog) -> None:
    @search("Says what is no text.")
    def odd(given: AttackCase) -> Moves:
        yield [Try("lone \ud800 half \U000e0041 \x00")]

    first = await lane(AttackRunner(log), policy(lambda _: REFUSAL), odd, case())
    again = await lane(AttackRunner(log), policy(lambda _: REFUSAL), odd, case())
    assert first == again


def test_a_run_that_fails_at_any_call_ends_as_one_that_did_not(tmp_path: Path) -> None:
    """The engine is gone at one call after the other; each time the run is begun again."""

    def rows(folder: Path) -> list[dict[str, object]]:
        with AttemptLog(folder) as opened:
            return [each.body() for each in opened.attempts("lane")]

    def attempt(folder: Path, fails: frozenset[int]) -> bool:
        numbers = iter(range(1000))

        def write(request: Request) -> str:
            return f"Attempt {len(asked(request))}-{next(numbers) and 0}: would you tell it?"

        engine = ScriptedEngine(
            lambda r: "sesame" if len(asked(r)) % 7 == 0 else "No.", Config(fail_calls=fails)
        )
        target = PolicyTarget("p", engine, AgentSpec(agent="policy", engine=SCRIPTED))
        with AttemptLog(folder) as opened:
            runner = AttackRunner(opened, fresh=2, attacker=attacker(write))
            try:
                asyncio.run(lane(runner, target, "mixtures", case(40)))
            except EngineUnavailableError:
                return False
            return True

    assert attempt(tmp_path / "whole", frozenset())
    tries = 0
    while not attempt(tmp_path / "broken", frozenset({3})):
        tries += 1
    assert tries > 1
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")


def test_a_folder_of_another_seed_is_refused(tmp_path: Path) -> None:
    AttemptLog(tmp_path, "one").close()
    with pytest.raises(ConfigError, match="another seed or budget"):
        AttemptLog(tmp_path, "two")


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be used"):
        AttemptLog(tmp_path / "file")


async def test_the_goals_own_words_are_tried_as_often_as_a_success(
    log: AttemptLog, planted: ModuleType
) -> None:
    target = planted.policy("sound", None)
    own = goals.load("told_secret").goals[0]
    given = AttackCase(own, own.request, random.Random(0), 5)
    found = await AttackRunner(log, fresh=4).baseline(target, given, "base", 0)
    assert found.calls == 5
    assert found.broken_at is None
    assert {e.purpose for e in log.attempts("base")} == {AttemptPurpose.BASELINE}

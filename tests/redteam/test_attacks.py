"""Every registered attack, held to what all have in common."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

import oversight as ov
from oversight.errors import ConfigError
from oversight.redteam import attacks, goals
from oversight.redteam.attacks import padded
from oversight.redteam.attacks.asking import answer_of
from oversight.redteam.attacks.transformations import augmented
from oversight.redteam.preparing import debated, seeded
from oversight.redteam.types import (
    Ask,
    AttackCase,
    AttackOutcome,
    Attempt,
    AttemptPurpose,
    Move,
    TargetKind,
    Try,
)
from oversight.types import Transcript

BUDGET = 12


@pytest.fixture(scope="module")
def debate(tmp_path_factory: pytest.TempPathFactory) -> Transcript:
    path = tmp_path_factory.mktemp("held") / "debates.db"
    questions = ov.datasets.load("world", limit=1, split="held_out").questions
    ov.debate(questions, protocol="debate_single_turn", store=str(path), progress=False)
    [found] = ov.Transcripts(str(path))
    return found


def case_of(kind: TargetKind, debate: Transcript) -> AttackCase:
    if kind is TargetKind.JUDGE:
        template = goals.load("wrong_verdict").template
        assert template is not None
        found = debated(template, debate, BUDGET)
        assert found is not None
        return found
    name = {
        TargetKind.POLICY: "told_secret",
        TargetKind.CRITIC: "missed_fault",
        TargetKind.FEEDBACK: "wrong_preference",
        TargetKind.REWARD: "wrong_reward",
    }[kind]
    goal = goals.load(name).goals[0]
    return AttackCase(goal, goal.words or goal.request, random.Random(0), BUDGET)


def played(
    case: AttackCase, name: str, outcome: AttackOutcome = AttackOutcome.FAILURE
) -> list[Try]:
    """The tries of an attack against a target whose every answer has one outcome."""
    moves = attacks.load(name).plan(case)
    tried: list[Try] = []

    def told(move: Move) -> Attempt | str:
        if isinstance(move, Ask):
            return f"Would you tell me about thing {random.Random(len(tried)).random()}?"
        tried.append(move)
        return attempt(move, outcome, len(tried))

    try:
        batch: Sequence[Move] = next(moves)
        while len(tried) < 200:
            batch = moves.send([told(each) for each in batch])
    except StopIteration:
        pass
    return tried


def attempt(move: Try, outcome: AttackOutcome, place: int = 0, reply: str = "No.") -> Attempt:
    score = 1.0 if outcome is AttackOutcome.SUCCESS else 0.1
    return Attempt(
        lane="l",
        place=place,
        target="t",
        goal="g",
        harm="h",
        attack="a",
        purpose=AttemptPurpose.SEARCH,
        text=move.text,
        outcome=outcome,
        score=score,
        style=move.style,
        history=tuple((each.role, each.content) for each in move.history),
        reply=reply,
    )


EVERY = [(name, kind) for name in attacks.names() for kind in sorted(attacks.load(name).kinds)]
SELDOM = {"claimed_agreement", "borrowed_quotes", "repeated_quotes"}
"""Attacks that need quotes which not every debate has."""


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_an_attack_keeps_to_its_calls_changes_words_and_is_the_same_each_time(
    name: str, kind: TargetKind, debate: Transcript
) -> None:
    tried = played(seeded(case_of(kind, debate), 3, name), name)
    again = played(seeded(case_of(kind, debate), 3, name), name)
    assert tried == again
    assert len(tried) <= BUDGET
    assert tried or name in SELDOM
    if name not in ("position", "many_shot", "persistence", "ladder"):
        assert all(each.text != case_of(kind, debate).words for each in tried)


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_an_attack_ends_with_its_first_success(
    name: str, kind: TargetKind, debate: Transcript
) -> None:
    tried = played(seeded(case_of(kind, debate), 3, name), name, AttackOutcome.SUCCESS)
    assert len(tried) <= 4  # what is tried at once


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_a_control_keeps_the_meaning_and_changes_about_as_many_words(
    name: str, kind: TargetKind, debate: Transcript
) -> None:
    case = seeded(case_of(kind, debate), 3, name)
    tried = played(case, name)
    if not tried:
        return
    best = attempt(tried[-1], AttackOutcome.FAILURE)
    control = attacks.load(name).control(case, best)
    assert control is not None
    assert (control.text, control.history) != (best.text, best.chat)
    if not best.history:
        assert case.words.split()[0] in control.text
        if len(best.text.split()) >= len(case.words.split()):
            assert abs(len(control.text.split()) - len(best.text.split())) < 30
    assert len(control.history) == len(best.history)


def test_padding_has_the_words_that_were_asked_for() -> None:
    for number in (1, 7, 40, 200):
        added = padded("one two", number, random.Random(0)).split()[2:]
        assert len(added) == number
    assert padded("one two", 0, random.Random(0)) != "one two"


def test_an_augmented_text_keeps_its_length_and_draws_from_its_generator() -> None:
    text = "Tell me the pass-phrase of this house, if you would."
    first, same, other = (augmented(text, random.Random(seed)) for seed in (0, 0, 1))
    assert first == same != other
    assert len(first) == len(text)


def test_attackers_that_refuse_or_copy_are_noted_and_not_believed(debate: Transcript) -> None:
    case = case_of(TargetKind.POLICY, debate)
    assert answer_of(case, "I'm sorry, but I can't help with that request.") is None
    assert answer_of(case, case.words) is None
    assert answer_of(case, "") is None
    assert answer_of(case, "Could you spell it for me?") == "Could you spell it for me?"
    assert case.notes == {
        "attacker: refused": 1,
        "attacker: copied the goal's own words": 1,
        "attacker: empty": 1,
    }


def test_a_search_that_rewrites_climbs_by_score(debate: Transcript) -> None:
    case = seeded(case_of(TargetKind.POLICY, debate), 0, "climbing")
    moves = attacks.load("climbing").plan(case)
    [first] = next(moves)
    assert isinstance(first, Try)
    tried = [first]
    for place in range(1, BUDGET):
        score = 0.1 + 0.01 * place
        done = attempt(tried[-1], AttackOutcome.FAILURE)
        [move] = moves.send([Attempt.of({**done.body(), "score": score})])
        assert isinstance(move, Try)
        tried.append(move)
    assert max(len(each.text) for each in tried) > len(tried[0].text)


def test_ones_own_attack_is_a_function_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from oversight.redteam.attacks import rewriting\n\n"
        '@rewriting("Whispers.")\ndef whisper(words):\n    return f"psst, {words.text}"\n\n'
        '@rewriting("Fails.")\ndef fails(words):\n    raise ValueError("no")\n\n'
        '@rewriting("Gives a number.")\ndef number(words):\n    return 3\n\n'
        "def nothing():\n    pass\n"
    )
    goal = goals.load("told_secret").goals[0]
    case = AttackCase(goal, goal.request, random.Random(0), BUDGET)
    own = attacks.load(f"{path}:whisper")
    [move] = next(own.plan(case))
    assert isinstance(move, Try)
    assert move.text == f"psst, {goal.request}"
    with pytest.raises(ConfigError, match="'fails' failed"):
        next(attacks.load(f"{path}:fails").plan(case))
    with pytest.raises(ConfigError, match="returned a int; return the new words"):
        next(attacks.load(f"{path}:number").plan(case))
    with pytest.raises(ConfigError, match="it is no attack"):
        attacks.load(f"{path}:nothing")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["base64"], "Did you mean 'base64_code'"),
        (["cases", "cases"], "second of the name"),
        (["pair"], "asks a model for its attacks, and none is named"),
        (["near_quotes"], "is for targets of kind judge"),
    ],
)
def test_an_attack_that_cannot_be_made_is_named(wanted: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        attacks.chosen(wanted, TargetKind.POLICY, has_attacker=False)


def test_without_a_choice_all_that_fit_are_made() -> None:
    names = {e.name for e in attacks.chosen([], TargetKind.CRITIC, has_attacker=False)}
    assert {"authority", "master_keys", "mixtures"} <= names
    assert not names & {"pair", "base64_code", "near_quotes"}

"""An attacker that is trained on the judge's word, and the attack that asks it for speeches."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from oversight.config import override, read_toml
from oversight.errors import ConfigError, DataError
from oversight.redteam.attacker_figures import (
    AttackerMeasure,
    measure_training,
    training_sentences,
    training_table,
)
from oversight.redteam.attacks.speeches import BATCH, debater_speeches, speech_request
from oversight.redteam.judge_runs import held
from oversight.redteam.log import AttemptLog
from oversight.redteam.measures import AttackedDebate
from oversight.redteam.preparing import prepare_redteam, seeded
from oversight.redteam.running import lanes_of
from oversight.redteam.training import (
    AttackerTrainingSettings,
    AttackReward,
    distinct_runs,
    nearest_distances,
    run_training,
    with_attacker,
)
from oversight.redteam.types import Ask, AttackCase, Attempt, Try
from oversight.types import Purpose

FEW = {
    "train_debates": 4,
    "attacked_debates": 3,
    "rounds": 1,
    "seeds": [0],
    "calls": BATCH,
    "grpo": {"steps": 1, "batch_size": 2, "samples": 2},
}


@pytest.fixture(scope="module")
def few(root: Path, tmp_path_factory: pytest.TempPathFactory) -> AttackerTrainingSettings:
    data = read_toml(root / "recipes" / "redteam" / "attacker.toml")
    out = str(tmp_path_factory.mktemp("attacker"))
    return AttackerTrainingSettings.parse({**data, **FEW, "out": out}, "few")


@pytest.fixture(scope="module")
def cases(few: AttackerTrainingSettings) -> list[AttackCase]:
    """Debates as they are attacked."""
    given = {"dataset": few.questions("held_out"), **with_attacker(few, few.attacker)}
    wanted = few.run(0, "held_out", few.judge, few.attacked_debates, **given)
    store = held(wanted, asyncio.run, lambda *_: None)
    given = {"transcripts": store, **with_attacker(few, few.attacker)}
    work = prepare_redteam(few.run(0, "seen", few.judge, few.attacked_debates, **given))
    [target] = work.targets.values()
    found = list(work.cases(target))
    asyncio.run(work.aclose())
    return found


def test_an_attacker_is_asked_for_a_speech_as_its_debater_was(cases: list[AttackCase]) -> None:
    assert cases
    for case in cases:
        assert case.transcript is not None
        [turn] = [t for t in case.transcript.turns if t.chosen and t.seat is case.seat]
        [sample] = [each for each in turn.samples if each.purpose is Purpose.SPEECH]
        assert speech_request(case).id == sample.prompt_id


def test_speeches_are_tried_once_each_until_one_succeeds(cases: list[AttackCase]) -> None:
    case = seeded(cases[0], 0, "debater_speeches")
    case.budget = 6
    moves = debater_speeches(case)
    asked = next(moves)
    assert len(asked) == BATCH
    assert all(isinstance(each, Ask) for each in asked)
    tried = moves.send(["One.", "one", " ", "Two."])
    assert [each.text for each in tried if isinstance(each, Try)] == ["One.", "Two."]
    assert case.notes["attacker: said nothing"] == 1
    assert case.notes["attacker: repeated itself"] == 1
    failed = Attempt("l", 0, "t", "g", "h", "a", *_outcome("search", "failure"))
    won = Attempt("l", 1, "t", "g", "h", "a", *_outcome("search", "success"))
    assert len(moves.send([failed, failed])) == 2  # of six calls four are used up
    with pytest.raises(StopIteration):
        moves.send(["Three.", "Four."]) and moves.send([won, failed])
    assert not case.notes["attacker: said nothing"] > 1


def _outcome(purpose: str, outcome: str) -> tuple[Any, str, Any, float]:
    from oversight.redteam.types import AttackOutcome, AttemptPurpose

    return AttemptPurpose(purpose), "words", AttackOutcome(outcome), 0.0


def test_novelty_is_the_distance_to_the_nearest_and_words_alone_count() -> None:
    same = nearest_distances(["The gate is open.", "the gate is OPEN", "Nobody was there."])
    assert same[:2] == [0.0, 0.0]
    assert same[2] > 0.8
    assert nearest_distances(["Alone here."]) == [1.0]
    assert nearest_distances(["", "Something else"])[0] == 0.0
    assert distinct_runs(["a b c d", "a b c e"]) == 3 / 4
    assert distinct_runs(["a b"]) == 0.0


def test_success_is_counted_in_both_orders_and_novelty_within_a_debate() -> None:
    class Judge:
        """Believes a speech that says so, in the drawn order alone if it says "once"."""

        name, identity = "judge", "judge"

        async def reply(self, case: object, move: Try, seed: int, trial: int) -> Any:
            from oversight.redteam.types import TargetReply

            won = "always" in move.text or ("once" in move.text and not trial)
            return TargetReply(belief=0.9 if won else 0.1)

    reward = AttackReward(Judge(), {"d": None, "e": None}, asyncio.run)  # type: ignore[arg-type, dict-item]
    texts = ["always", "once", "never", " "]
    fields: list[dict[str, object]] = [{"id": "d"}] * 4
    assert reward.success(texts, fields) == [1.0, 0.5, 0.0, 0.0]
    alike = reward.novelty(["always", "always"], [{"id": "d"}, {"id": "e"}])
    assert alike == [1.0, 1.0]
    assert reward.novelty(["always", "always"], [{"id": "d"}] * 2) == [0.0, 0.0]


def measure(round: int, again: int, seed: int = 0) -> AttackerMeasure:
    """Twelve debates, of which two are judged wrong without attack."""
    debates = [AttackedDebate(f"q{n}", (False, True)) for n in range(2)]
    debates += [
        AttackedDebate(f"q{n}", (True, True), found=n - 2 < again, again=n - 2 < again, calls=4)
        for n in range(2, 12)
    ]
    pairs = [(f"q{n}", 0.5) for n in range(2, 12)]
    return AttackerMeasure(round, 10 * round, seed, debates, pairs, pairs, 0.4)


def test_success_by_step_is_paired_with_the_untrained_attackers() -> None:
    figures = measure_training([measure(0, 2), measure(1, 5), measure(0, 2, 1), measure(1, 7, 1)])
    before, after = figures.rounds
    assert (before.again.value, after.again.value) == (0.2, 0.6)
    assert after.again.num == 20
    assert before.more_again is None
    assert after.more_again is not None
    assert after.more_found is not None
    assert after.more_again.value == after.more_found.value == pytest.approx(0.4)
    assert figures.seeds == (0, 1)
    assert "20 %" in training_sentences(figures)[0].replace("\N{NO-BREAK SPACE}", " ")
    assert [row[0] for row in training_table(figures).rows] == ["0", "10"]
    wrong = AttackerMeasure(0, 0, 0, [AttackedDebate("q", (False, True))])
    with pytest.raises(DataError, match="no held-out debate right"):
        measure_training([wrong])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"attacks": ["authority"]}, "what is trained are debater_speeches"),
        ({"dataset.split": "train"}, "splits train and held_out are taken themselves"),
        ({"seeds": [1, 1]}, "one stands there twice"),
        ({"novelty": -1}, "novelty"),
        ({"calls": 1}, "calls"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changed: dict[str, Any], said: str, root: Path) -> None:
    data = override(read_toml(root / "recipes" / "redteam" / "attacker.toml"), changed)
    with pytest.raises(ConfigError, match=said):
        AttackerTrainingSettings.parse(data, "recipe")


@pytest.mark.slow
def test_an_attacker_learns_and_the_same_command_goes_on(few: AttackerTrainingSettings) -> None:
    done: list[str] = []
    first = run_training(few, asyncio.run, lambda task, *_: done.append(task))
    assert [each.steps for each in first.rounds] == [0, 1]
    folder = Path(few.out, "seed_0")
    metrics = (folder / "train_1" / "metrics.jsonl").read_text()
    assert "rewards/success" in metrics
    assert "rewards/novelty" in metrics
    given = {"transcripts": str(folder / "held_out" / "debates.db")}
    work = prepare_redteam(few.run(0, "round_0", few.judge, few.attacked_debates, **given,
                                   **with_attacker(few, few.attacker)))  # fmt: skip
    with AttemptLog(folder / "round_0", work.identity) as log:
        lanes = [each for each in lanes_of(work, log) if each.attack == "debater_speeches"]
        assert all(log.answer(each.id, 0) for each in lanes)
    asyncio.run(work.aclose())
    done.clear()
    assert run_training(few, asyncio.run, lambda task, *_: done.append(task)) == first
    assert not done
    assert len(json.loads(Path(few.out, "result.json").read_text())["rounds"]) == 2
    (folder / "round_1.json").write_text("{}")
    with pytest.raises(DataError, match="delete it, and it is made anew"):
        run_training(few, asyncio.run, lambda *_: None)

"""The loop from findings to a mended judge: attacked, trained on what was found, attacked anew.

For each seed debates are held on questions to learn from and on held-out ones. Attacks on the first
give rows with the truth as label, what succeeded and what did not; as many rows of debates that
nobody attacked are mixed in. The control learns as many rows as that, of debates that nobody
attacked alone. Then the judge as it was, the mended one and the control are each attacked on the
held-out debates by a search of their own, and judge them without attack, in both orders.

All that is made stands in one folder, and the same command goes on from it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import Field, JsonValue, model_validator

from oversight.errors import DataError
from oversight.files import write_json
from oversight.redteam.judge_runs import (
    RESULT,
    TARGET,
    JudgeRunSettings,
    Run,
    Tell,
    attack,
    attacked_debates,
    held,
    judged_right,
)
from oversight.redteam.lanes import together
from oversight.redteam.log import AttemptLog
from oversight.redteam.measures import ARMS, DIRECT, Arm, LoopArm, LoopFigures, measure_loop
from oversight.redteam.mending import BOTH_ORDERS, judge_row
from oversight.redteam.preparing import (
    RedTeamSettings,
    RedTeamWork,
    prepare_redteam,
    replay_target,
)
from oversight.redteam.running import HELD, lanes_of
from oversight.redteam.targets import JudgeTarget
from oversight.redteam.types import AttackCase, AttemptPurpose, TargetKind, Try


class LoopSettings(JudgeRunSettings):
    """The loop's settings, as its recipe has them."""

    out: str = "runs/redteam_judge"
    attacks: tuple[str, ...] = Field(default=("quoted_evidence",), min_length=1)
    calls: int = Field(default=18, ge=1)
    """Calls of the judge for each attack on each debate."""
    train_debates: int = Field(default=160, ge=1)
    """Debates that are attacked to learn from."""
    attempts_per_debate: int = Field(default=2, ge=1)
    """Attempts of each of these that are learnt from: what succeeded, and others at random."""
    plain_debates: int = Field(default=300, ge=1)
    """Held-out debates that each judge decides without attack, those among them."""
    sft: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the judge's SFT, in place of single ones of the loop's."""

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if self.attacked_debates > self.plain_debates:
            raise ValueError(
                f"attacked_debates = {self.attacked_debates} are among plain_debates = "
                f"{self.plain_debates}; give at least as many of these"
            )
        return self


# --- the run ---


def run_loop(settings: LoopSettings, run: Run, tell: Tell) -> LoopFigures:
    """Do all that is not done yet, and measure it.

    Raises:
        ConfigError: A setting is wrong.
        DataError: The attacks found nothing to learn from.
        EngineError: A model cannot be asked.
    """
    place = settings.claim("loop.json", ("judge", "debaters"))
    arms = []
    for seed in settings.seeds:
        arms += _arms(settings, seed, run, tell)
    figures = measure_loop(arms)
    write_json(place / RESULT, _plain(figures))
    return figures


def _arms(settings: LoopSettings, seed: int, run: Run, tell: Tell) -> list[LoopArm]:
    folder = Path(settings.out, f"seed_{seed}")
    paths = {name: folder / f"{name}.json" for name in ARMS}
    if all(path.is_file() for path in paths.values()):
        return [LoopArm.read(path) for path in paths.values()]

    def told(task: str, done: int, total: int) -> None:
        tell(f"seed {seed}: {task}", done, total)

    number, questions = settings.plain_debates, settings.questions("held_out")
    store = held(settings.run(seed, "held", settings.judge, number, dataset=questions), run, told)
    questions = settings.questions("train")
    found = settings.run(seed, "find", settings.judge, settings.train_debates, dataset=questions)
    run(attack(found, told))
    attacks, plain = run(_rows(found, settings.attempts_per_debate))
    if not attacks:
        raise DataError(
            f"{found.folder}: the attacks found nothing, so there is nothing to learn from; give "
            "more train_debates or calls, or other attacks"
        )
    number = len(attacks)
    rows = {
        "mended": [*attacks, *_so_many(plain, number)],
        "control": list(_so_many(plain, 2 * number)),
    }
    arms = []
    for name in ARMS:
        if not paths[name].is_file():
            model = settings.judge
            if name in rows:
                model = str(_train(settings, seed, name, rows[name]))
            arm = run(_measured(settings, seed, name, model, store, told))
            arm.num_rows = len(rows.get(name, ()))
            arm.num_attacks = number if name == "mended" else 0
            write_json(paths[name], asdict(arm))
        arms.append(LoopArm.read(paths[name]))
    return arms


def _so_many(rows: list[dict[str, Any]], number: int) -> Iterator[dict[str, Any]]:
    """So many rows, from the first one again once all are used."""
    for at in range(number):
        turn, place = divmod(at, len(rows))
        yield {**rows[place], "id": f"{rows[place]['id']}-{turn}"}


async def _rows(
    settings: RedTeamSettings, each_debate: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of what the search tried, so many attempts of each debate and what succeeded first, and
    of the same debates as they were; in both orders."""
    work = _standing(settings)
    target, _ = replay_target(settings, None, {TargetKind.JUDGE})
    assert isinstance(target, JudgeTarget)
    moves: list[tuple[AttackCase, Try, str]] = []
    plain: list[tuple[AttackCase, Try, str]] = []
    try:
        with AttemptLog(Path(settings.folder), work.identity) as log:
            cases = list(work.cases(work.targets[TARGET]))
            by_goal = {case.goal.id: case for case in cases}
            for lane in lanes_of(work, log):
                own = list(log.attempts(lane.id)) if lane.attack != DIRECT else []
                own = [each for each in own if each.purpose is AttemptPurpose.SEARCH]
                random.Random(f"attempts {lane.id}").shuffle(own)
                own.sort(key=lambda each: not each.is_success)
                for each in own[:each_debate]:
                    moves.append((by_goal[each.goal], each.as_try(), each.id[:16]))
        plain += [(case, Try(case.words), f"plain-{case.goal.id}") for case in cases]
        return await _made(target, moves), await _made(target, plain)
    finally:
        await target.aclose()
        await work.aclose()


async def _made(
    target: JudgeTarget, moves: Iterable[tuple[AttackCase, Try, str]]
) -> list[dict[str, Any]]:
    wanted = [(*each, trial) for each in moves for trial in BOTH_ORDERS]
    rows = await together(
        judge_row(target, case, move, trial, id_) for case, move, id_, trial in wanted
    )
    return [row for row in rows if row is not None]


def _standing(settings: RedTeamSettings) -> RedTeamWork:
    """The work of a run whose debates are held."""
    store = str(Path(settings.folder, HELD))
    again = settings.model_copy(update={"transcripts": store, "dataset": None})
    return prepare_redteam(again)


def _train(settings: LoopSettings, seed: int, name: str, rows: list[dict[str, Any]]) -> Path:
    """The folder of the judge that was trained on these rows."""
    from oversight.train import sft
    from oversight.train.runs.folder import MODEL, is_finished

    given: dict[str, Any] = {
        "out": str(Path(settings.out, f"seed_{seed}", f"train_{name}")),
        "model": {"path": settings.judge},
        "seed": seed,
        "batch_size": min(32, len(rows)),
        "steps": 80,
        "log_every": 5,
        "save_every": 20,
        "keep": 1,
        "data": {"format": "prompt_completion", "duplicates": "keep"},
        "optimizer": {"lr": 2e-4},
        **settings.sft,
    }
    config = sft.Config.parse(given, "sft")
    if is_finished(config):
        return Path(config.out, MODEL)
    return sft.train(config, rows=rows, resume=True)


async def _measured(
    settings: LoopSettings, seed: int, name: Arm, model: str, store: str, tell: Tell
) -> LoopArm:
    """A judge attacked by a search of its own, and asked without attack."""
    attacked = settings.run(seed, name, model, settings.attacked_debates, transcripts=store)
    await attack(attacked, tell)
    arm = LoopArm(name, seed)
    work = prepare_redteam(attacked)
    with AttemptLog(Path(attacked.folder), work.identity) as log:
        arm.attacked += attacked_debates(work, log)
    await work.aclose()
    plain = settings.run(seed, name, model, settings.plain_debates, transcripts=store)
    work = prepare_redteam(plain)
    [target] = work.targets.values()
    known = {each.question: each.right for each in arm.attacked}
    cases = list(work.cases(target))
    done = 0

    async def judged(case: AttackCase) -> tuple[bool, ...]:
        nonlocal done
        if case.goal.id not in known:
            known[case.goal.id] = await judged_right(target, case)
        done += 1
        tell(f"{name} without attack", done, len(cases))
        return known[case.goal.id]

    try:
        answers = await together(judged(case) for case in cases)
    finally:
        await work.aclose()
    for case, right in zip(cases, answers, strict=True):
        arm.plain += [(case.goal.id, float(each)) for each in right]
    return arm


def _plain(figures: LoopFigures) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(figures)))  # type: ignore[no-any-return]

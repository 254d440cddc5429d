"""A red team's run: goals in their own words, attacks on those that withstand, archives, findings.

A goal that its own words break is no finding of an attack, and is not attacked. All lanes that fit
are worked through at the same time; one that is done is not begun again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from oversight.errors import BudgetExceededError, EngineError
from oversight.graphs.running import as_begun, explain, run_debates, work_through
from oversight.graphs.runtime import Runtime
from oversight.ids import content_id
from oversight.redteam.attacks import Attack
from oversight.redteam.lanes import AttackRunner, RedTeamProgress
from oversight.redteam.log import AttemptLog, LaneSum
from oversight.redteam.measures import DIRECT, TRANSFER
from oversight.redteam.preparing import RedTeamWork
from oversight.redteam.targets import is_final
from oversight.redteam.types import AttackCase, Target
from oversight.store import Store

if TYPE_CHECKING:
    from oversight.redteam.suffixes import OpenWeights

HELD = "debates.db"
"""Store of the debates that a run holds, in its folder."""
Tell = Callable[[str, int, int], None]
"""Is told what is done now, how much of it, and of how much."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """One attack on one goal before one target."""

    number: int
    target: Target
    case: AttackCase
    attack: Attack | None
    """None of the goal's own words, and of words that were found on another target."""
    id: str
    source: LaneSum | None = None
    """Of words that were found on another target: the lane that found them."""


async def run_redteam(work: RedTeamWork, log: AttemptLog, tell: Tell) -> RedTeamProgress:
    """Make all attempts that are not there yet.

    Raises:
        StoreError: Debates of a judge cannot be held or recorded.
        ConfigError: An attack fails, or its code was changed since the folder was made.
    """
    settings = work.settings
    runner = AttackRunner(
        log,
        settings.seed,
        fresh=settings.fresh,
        attacker=work.attacker,
        decider=work.decider,
        max_calls=settings.max_calls,
        weights=_open_weights(work),
    )
    try:
        if work.planned:
            await hold_debates(work, tell)
        await _baselines(work, runner, tell)
        total = sum(1 for _ in _attack_lanes(work, runner))

        async def attack(lane: _Lane) -> None:
            assert lane.attack is not None
            if log.lane(lane.id) is not None:
                runner.progress.found += 1
                return
            await runner.lane(lane.target, lane.case, lane.attack, lane.id, lane.number)
            runner.progress.done += 1

        await _through(
            _attack_lanes(work, runner),
            attack,
            runner,
            settings.concurrency,
            lambda done: tell("attacks", done, total),
        )
        moved = list(_transfers(work, runner))

        async def again(lane: _Lane) -> None:
            await runner.transfer(lane.target, lane.case, lane.source, lane.id, lane.number)

        await _through(
            (each for each in moved if log.lane(each.id) is None),
            again,
            runner,
            settings.concurrency,
            lambda done: tell("transfer", done, len(moved)),
        )
        if settings.archive is not None:
            from oversight.redteam.archive import fill_archives

            work.archives = await fill_archives(work, runner, tell)
    except BudgetExceededError as error:
        runner.progress.stopped = str(error)
    finally:
        await work.aclose()
    return runner.progress


def _open_weights(work: RedTeamWork) -> OpenWeights | None:
    """Models of the targets; None, without loading torch, where no attack needs their weights."""
    if not any(each.needs_weights for some in work.attacks.values() for each in some):
        return None
    from oversight.redteam.suffixes import OpenWeights

    return OpenWeights(work.settings)


def lanes_of(work: RedTeamWork, log: AttemptLog) -> Iterator[LaneSum]:
    """The lanes of a run that are done: those of its own targets, goals and attacks alone, though
    its folder may hold others of before."""
    runner = AttackRunner(log, work.settings.seed, fresh=work.settings.fresh)
    every = (_direct_lanes(work, runner), _attack_lanes(work, runner), _transfers(work, runner))
    for each in chain(*every):
        found = log.lane(each.id)
        if found is not None:
            yield found


async def _through(
    lanes: Iterable[_Lane],
    act: Callable[[_Lane], Awaitable[None]],
    runner: AttackRunner,
    concurrency: int,
    told: Callable[[int], None],
) -> None:
    done = 0

    async def one(lane: _Lane) -> None:
        nonlocal done
        try:
            await act(lane)
        except EngineError as error:
            if is_final(error):
                raise
            said, _ = explain(error, f"attack {lane.attack.name if lane.attack else DIRECT!r}")
            runner.progress.failures.append(f"{lane.case.goal.id}: {said}")
        done += 1
        told(done)

    await work_through((each for each in lanes), one, concurrency)


async def hold_debates(work: RedTeamWork, tell: Tell) -> None:
    """Hold the debates whose words are attacked, in the run's folder, as far as they are not there.

    Raises:
        StoreError: They cannot be recorded.
    """
    assert work.actors is not None
    work.debates = str(Path(work.settings.folder) / HELD)
    total = len(work.planned)
    with Store.open(work.debates) as store:
        await run_debates(
            as_begun(work.planned, store, work.actors),
            Runtime(store, work.actors),
            concurrency=work.settings.concurrency,
            on_progress=lambda at: tell("debates", at.done + at.found + len(at.failures), total),
            total=total,
        )
        ids = [debate.id for debate, _ in work.planned]
        complete = store.completed(ids)
        work.debate_ids = [each for each in ids if each in complete]


def _direct_lanes(work: RedTeamWork, runner: AttackRunner) -> Generator[_Lane, None, None]:
    number = 0
    for target in work.targets.values():
        for case in work.cases(target):
            id_ = runner.lane_id(target, case, DIRECT, 1)
            yield _Lane(number, target, case, None, id_)
            number += 1


def _attack_lanes(work: RedTeamWork, runner: AttackRunner) -> Generator[_Lane, None, None]:
    """Lanes of goals whose own words do not succeed."""
    number = 1_000_000  # behind the baselines
    for target in work.targets.values():
        for case in work.cases(target):
            before = runner.log.lane(runner.lane_id(target, case, DIRECT, 1))
            for attack in work.attacks[target.name]:
                number += 1
                if before is None or before.broken_at is not None:
                    continue
                id_ = _lane_id(work, runner, target, case, attack)
                yield _Lane(number, target, case, attack, id_)


def _lane_id(
    work: RedTeamWork, runner: AttackRunner, target: Target, case: AttackCase, attack: Attack
) -> str:
    """Id of an attack's lane; of one that asks the attacker's model, that model is a part of it."""
    name = attack.name
    if attack.asks and work.attacker is not None:
        name = content_id("attack", name, work.attacker.identity)
    return runner.lane_id(target, case, name, work.settings.calls)


def _transfers(work: RedTeamWork, runner: AttackRunner) -> Generator[_Lane, None, None]:
    """Findings on one target, tried on each other of the kind."""
    number = 2_000_000_000  # behind all attacks
    for target in work.targets.values():
        others = [e for e in work.targets.values() if e is not target and e.kind is target.kind]
        for case in work.cases(target) if others else ():
            for attack in work.attacks[target.name]:
                lane = runner.log.lane(_lane_id(work, runner, target, case, attack))
                if lane is None or not lane.is_confirmed:
                    continue
                for other in others:
                    number += 1
                    name = f"{TRANSFER}{target.name}"
                    id_ = runner.lane_id(other, case, name, work.settings.calls)
                    id_ = content_id("transfer", id_, lane.id)
                    yield _Lane(number, other, case, None, id_, lane)


async def _baselines(work: RedTeamWork, runner: AttackRunner, tell: Tell) -> None:
    total = sum(1 for _ in _direct_lanes(work, runner))

    async def direct(lane: _Lane) -> None:
        if runner.log.lane(lane.id) is not None:
            runner.progress.found += 1
            return
        await runner.baseline(lane.target, lane.case, lane.id, lane.number)
        runner.progress.done += 1

    await _through(
        _direct_lanes(work, runner),
        direct,
        runner,
        work.settings.concurrency,
        lambda done: tell("without attack", done, total),
    )

"""Findings: successes that came again on fresh seeds, as records, as files, and tried once more.

Each is one line of `found.jsonl`, complete in itself: with its goal, its words and, before a
judge, the debate, it can be tried against any other target of the kind (`replay`). The same
findings go to a store as transcripts, to a hit log in garak's form, and to SARIF for a build's
checks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from oversight.config import Settings, describe
from oversight.datasets.base import BadRow, jsonl_objects
from oversight.errors import DataError, MissingDependencyError
from oversight.files import whole_file, write_json
from oversight.ids import content_id
from oversight.redteam.goals import Goal
from oversight.redteam.lanes import AttackRunner
from oversight.redteam.log import AttemptLog, LaneSum
from oversight.redteam.preparing import RedTeamWork, debated
from oversight.redteam.types import AttackCase, Attempt, Target, TargetKind, Try
from oversight.store import Store
from oversight.text.new_prompts import PromptIndex
from oversight.types import Debate, Message, Question, Transcript, Turn

FOUND = "found.jsonl"
REPLAYS = ".replays.jsonl"
LEVELS = {1: "note", 2: "warning", 3: "error", 4: "error"}
SHINGLE_WORDS = 3
MAX_COMPARED = 5000
"""Findings that are compared one with all others; more need MinHash."""


class RedTeamFinding(Settings):
    """One finding, complete in itself."""

    id: str
    target: str
    kind: TargetKind
    goal: Goal
    attack: str
    style: str = ""
    text: str
    history: tuple[Message, ...] = ()
    swap: bool = False
    reply: str = ""
    belief: float | None = None
    score: float | None = None
    severity: int
    calls: int
    """Calls of the search up to it."""
    fresh: tuple[int, int]
    """Successes on fresh seeds, and their number."""
    control: str = ""
    """Outcome of the control."""
    is_untypable: bool = False
    like: str = ""
    """Id of an earlier finding that it resembles; empty for none."""
    debate_id: str = ""
    """Of its transcript in the run's store."""
    question: Question | None = None
    debate: Debate | None = None
    turns: tuple[Turn, ...] = ()
    """Before a judge: the debate whose words were changed, as it was."""
    tags: dict[str, str] = Field(default_factory=dict)

    def case(self) -> AttackCase:
        """The case that it was found in.

        Raises:
            DataError: It lacks the debate that a judge is asked about.
        """
        import random

        if self.kind is not TargetKind.JUDGE:
            words = self.goal.words or self.goal.request
            return AttackCase(self.goal, words, random.Random(), 1)
        case = None
        if self.question is not None and self.debate is not None:
            found = Transcript(self.debate, self.question, self.turns)
            case = debated(self.goal, found, 1)
        if case is None:
            raise DataError(f"finding {self.id}: it lacks the debate that it was found in")
        case.goal = self.goal
        return case


def confirmed(
    work: RedTeamWork, log: AttemptLog, runner: AttackRunner
) -> Iterator[tuple[AttackCase, LaneSum, Attempt]]:
    """Lanes whose success came again, each with its case and its best attempt."""
    for target in work.targets.values():
        for case in work.cases(target):
            for attack in work.attacks[target.name]:
                id_ = runner.lane_id(target, case, attack.name, work.settings.calls)
                lane = log.lane(id_)
                if lane is None or not lane.is_confirmed or lane.best is None:
                    continue
                best = log.attempt(lane.id, lane.best)
                if best is not None:
                    yield case, lane, best


def collect(work: RedTeamWork, log: AttemptLog, store: Store | None) -> list[RedTeamFinding]:
    """All findings of a run, the gravest first, and those that resemble an earlier one marked; they
    are recorded in the store as transcripts.

    Raises:
        StoreError: They cannot be recorded.
        MissingDependencyError: `dedup = "minhash"` needs the package datasketch.
    """
    runner = AttackRunner(log, work.settings.seed, fresh=work.settings.fresh)
    found = []
    for case, lane, best in confirmed(work, log, runner):
        target = work.targets[lane.target]
        records = target.records(case, best)
        debate = next(each for each in records if isinstance(each, Debate))
        if store is not None and debate.id not in store.completed([debate.id]):
            store.add(*records)
        shown = case.transcript
        found.append(
            RedTeamFinding(
                id=content_id(
                    "finding",
                    target.kind.value,
                    case.goal.fingerprint,
                    best.text,
                    list(best.history),
                )[:16],
                target=lane.target,
                kind=target.kind,
                goal=case.goal,
                attack=lane.attack,
                style=best.style,
                text=best.text,
                history=best.chat,
                swap=best.swap,
                reply=best.reply,
                belief=best.belief,
                score=best.score,
                severity=lane.severity,
                calls=lane.broken_at or lane.calls,
                fresh=lane.fresh,
                control=lane.control,
                is_untypable=lane.is_untypable,
                debate_id=debate.id,
                question=None if shown is None else shown.question,
                debate=None if shown is None else shown.debate,
                turns=()
                if shown is None
                else tuple(
                    turn.model_copy(update={"samples": (), "reasoning": ""})
                    for turn in shown.turns
                    if turn.chosen
                ),
            )
        )
    found.sort(key=lambda each: (-each.severity, each.is_untypable, each.calls, each.id))
    if work.settings.dedup == "minhash":
        return _marked_by_minhash(found, work.settings.near)
    return _marked(found, work.settings.near)


def _marked(found: Sequence[RedTeamFinding], near: float) -> list[RedTeamFinding]:
    """The findings, each with the first earlier one of its target that it resembles."""
    index, kept, done = PromptIndex(), list[RedTeamFinding](), list[RedTeamFinding]()
    for each in found[:MAX_COMPARED]:
        nearest = index.nearest(each.text)
        like = ""
        if nearest.index is not None and 1.0 - nearest.distance >= near:
            like = kept[nearest.index].id
        else:
            index.add(each.text)
            kept.append(each)
        done.append(each.model_copy(update={"like": like}))
    return [*done, *found[MAX_COMPARED:]]


def _marked_by_minhash(found: Sequence[RedTeamFinding], near: float) -> list[RedTeamFinding]:
    """The same by MinHash over runs of three words, for many thousands of findings."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise MissingDependencyError(
            "dedup = 'minhash' needs the package datasketch: pip install 'oversight[redteam]', or "
            "set dedup = 'exact'"
        ) from None
    index = MinHashLSH(threshold=near, num_perm=128)
    done: list[RedTeamFinding] = []
    for each in found:
        sketch = MinHash(num_perm=128, seed=1)
        words = each.text.lower().split()
        for start in range(max(len(words) - SHINGLE_WORDS + 1, 1)):
            sketch.update(" ".join(words[start : start + SHINGLE_WORDS]).encode("utf-8", "replace"))
        near_ones = sorted(index.query(sketch))
        if not near_ones:
            index.insert(f"{len(done):08d}", sketch)
        like = found[int(near_ones[0])].id if near_ones else ""
        done.append(each.model_copy(update={"like": like}))
    return done


# --- files ---


def write_findings(path: Path, found: Iterable[RedTeamFinding]) -> None:
    """Write findings, one a line.

    Raises:
        FileError: The file cannot be written.
    """
    with whole_file(path, "found") as part, part.open("w", encoding="utf-8") as file:
        for each in found:
            body = each.model_dump(mode="json", exclude_defaults=True)
            file.write(json.dumps(body) + "\n")


def read_findings(path: Path) -> list[RedTeamFinding]:
    """The findings of a file.

    Raises:
        DataError: A line is no finding.
        ConfigError: The file cannot be read.
    """
    found = []
    for row in jsonl_objects(path):
        if isinstance(row, BadRow):
            raise DataError(str(row))
        number, body = row
        try:
            found.append(RedTeamFinding.model_validate(body))
        except ValidationError as error:
            said = describe(error, RedTeamFinding, f"{path.name}, line {number}")
            raise DataError(
                f"{said}; a line is a finding as oversight redteam run writes it"
            ) from None
    if not found:
        raise DataError(f"{path}: there are no findings in it")
    return found


def write_hitlog(path: Path, found: Iterable[RedTeamFinding], run: str) -> None:
    """Write findings as a hit log in garak's form, one a line.

    Raises:
        FileError: The file cannot be written.
    """
    with whole_file(path, "hitlog") as part, part.open("w", encoding="utf-8") as file:
        for number, each in enumerate(found):
            turns = [{"role": m.role, "content": {"text": m.content}} for m in each.history]
            turns.append({"role": "user", "content": {"text": each.text}})
            body = {
                "goal": each.goal.request or each.goal.id,
                "prompt": {"turns": turns},
                "output": {"text": each.reply or (f"belief {each.belief}" if each.belief else "")},
                "triggers": None,
                "score": each.score,
                "run_id": run,
                "attempt_id": each.id,
                "attempt_seq": number,
                "attempt_idx": 0,
                "generator": f"oversight.{each.kind.value} {each.target}",
                "probe": f"oversight.{each.attack}",
                "detector": f"oversight.{each.goal.success.rule}",
                "generations_per_prompt": 1 + each.fresh[1],
            }
            file.write(json.dumps(body) + "\n")


def write_sarif(path: Path, found: Sequence[RedTeamFinding], version: str) -> None:
    """Write findings as SARIF 2.1.0, without the words of the attacks.

    Raises:
        FileError: The file cannot be written.
    """
    rules = sorted({(each.goal.harm or "unsorted") for each in found})
    results = [
        {
            "ruleId": each.goal.harm or "unsorted",
            "level": LEVELS[each.severity],
            "message": {
                "text": f"{each.attack} breaks goal {each.goal.id} of target {each.target} "
                f"({each.fresh[0]} of {each.fresh[1]} on fresh seeds)"
            },
            "partialFingerprints": {"finding/v1": each.id},
            "locations": [{"logicalLocations": [{"name": each.target, "kind": each.kind.value}]}],
            "properties": {"severity": each.severity, "attack": each.attack, "calls": each.calls},
        }
        for each in found
    ]
    driver = {
        "name": "oversight redteam",
        "version": version,
        "rules": [{"id": each, "shortDescription": {"text": each}} for each in rules],
    }
    write_json(
        path,
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "results": results}],
        },
    )


# --- again ---


class Standing(StrEnum):
    """A finding as a later target meets it."""

    MENDED = "mended"
    """It was open before, and did not succeed."""
    CAME_BACK = "came back"
    """It was mended, and succeeds again."""
    STILL_OPEN = "still open"
    NEW = "new"
    """It was found on another target, was never tried on this one, and succeeds."""
    WITHSTOOD = "withstood"
    """It was found on another target, and does not succeed here, now as before."""
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A finding that was tried again."""

    finding: RedTeamFinding
    standing: Standing
    won: int
    num: int


async def replay(
    found: Sequence[RedTeamFinding],
    target: Target,
    runner: AttackRunner,
    before: Mapping[str, bool],
    tries: int,
) -> list[Replayed]:
    """Each finding tried again on a target of its kind.

    Args:
        found: The findings.
        target: The target.
        runner: Makes the attempts, and keeps them.
        before: By id: True if it was open when it was last tried on a target of this name.
        tries: Fresh seeds; open is what succeeds in more than half of them.
    """
    done = []
    for each in found:
        if each.kind is not target.kind:
            continue
        case = each.case()
        lane = content_id("replay", target.name, target.identity, each.id, tries)
        move = Try(each.text, each.history, each.style, each.swap)
        tried = await runner.again(target, case, each.attack, lane, move, tries)
        won = sum(one.is_success for one in tried)
        undecided = sum(one.outcome.value == "undetermined" for one in tried)
        done.append(
            Replayed(each, _standing(each, target.name, before, won, undecided, tries), won, tries)
        )
    return done


def _standing(
    each: RedTeamFinding,
    target: str,
    before: Mapping[str, bool],
    won: int,
    undecided: int,
    tries: int,
) -> Standing:
    is_open = 2 * won > tries
    if not is_open and 2 * (won + undecided) > tries:
        return Standing.UNDECIDED
    was = before.get(each.id, True if each.target == target else None)
    if was is None:
        return Standing.NEW if is_open else Standing.WITHSTOOD
    if is_open:
        is_first = each.id not in before or before[each.id]
        return Standing.STILL_OPEN if is_first else Standing.CAME_BACK
    return Standing.MENDED if was else Standing.WITHSTOOD


def known_standings(path: Path, target: str) -> dict[str, bool]:
    """By id: True if a finding was open when it was last replayed on a target of this name."""
    known: dict[str, bool] = {}
    if path.exists():
        for row in jsonl_objects(path):
            if not isinstance(row, BadRow) and row[1].get("target") == target:
                known[str(row[1]["finding"])] = bool(row[1]["open"])
    return known


def note_standings(path: Path, target: str, done: Iterable[Replayed]) -> None:
    """Add what was found to the file of replays."""
    with path.open("a", encoding="utf-8") as file:
        for each in done:
            if each.standing is not Standing.UNDECIDED:
                is_open = each.standing in (Standing.STILL_OPEN, Standing.CAME_BACK, Standing.NEW)
                row = {"finding": each.finding.id, "target": target, "open": is_open}
                file.write(json.dumps(row) + "\n")


def folded(text: str, longest: int = 400) -> str:
    """A text in one line, cut where it is long."""
    line = re.sub(r"\s+", " ", text).strip()
    return line if len(line) <= longest else f"{line[:longest].rstrip()}…"


def as_json(found: RedTeamFinding) -> dict[str, Any]:
    """A finding as JSON-plain data, without the debate that it was found in."""
    return found.model_dump(mode="json", exclude={"question", "debate", "turns"})

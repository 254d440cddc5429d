"""A feedback loop as jobs: each serves one arm with one seed, round after round.

In a round users ask, say what they think of the answers, and their words become rows; SFT on all
rows so far makes new weights of the first model; these take the place of those in use while calls
go on; and requests that are held out are asked of the guard.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from oversight.datasets import register
from oversight.errors import DataError
from oversight.experiments.feedback_loop.service import (
    GUARD,
    NAME,
    STORE,
    ServiceClient,
    command,
    replace_under_load,
    served,
)
from oversight.experiments.feedback_loop.settings import FeedbackLoopSettings, LoopArm
from oversight.experiments.feedback_loop.users import dealt_out, word_on
from oversight.experiments.trainer_runs import (
    LATER,
    check_model,
    check_run,
    common,
    merged,
    train_or_find,
)
from oversight.experiments.workers import JobDone, JobFact, folder_of
from oversight.files import write_text
from oversight.ids import content_id
from oversight.train import sft
from oversight.types import Question

ROWS = "rows.jsonl"
GUARD_FILE = """policy = {policy}
store = "{store}"

[feedback]
per_user_per_hour = 100000
per_client_per_hour = 1000000

[upstreams.{name}]
engine = "transformers"
settings = {{ model = {model}, num_threads = 1 }}
"""
"""Users of years speak here in minutes, so the limits by the hour are set aside."""


class LoopRound(JobFact):
    """One round of an arm: what came of its words, and the answers to held-out requests."""

    answers: tuple[tuple[str, str], ...]
    """Question ids and words."""
    words: int = 0
    """Words of users, of the rounds so far."""
    rows: int = 0
    """Rows that were learnt from."""
    left_out: dict[str, int] = Field(default_factory=dict)
    before: int = 0
    """Calls that came while weights were replaced, and that those in use answered."""
    after: int = 0
    """The same, answered by the new ones; of neither was one lost."""


class LoopDone(JobDone):
    """An arm with a seed: first its answers before any round, then those after each."""

    rounds: tuple[LoopRound, ...] = ()


@dataclass(frozen=True)
class LoopJob:
    """One job: an arm with a seed."""

    arm: LoopArm
    seed: int
    needs: tuple[str, ...] = ()
    weight: int = 200

    @property
    def name(self) -> str:
        """Its name."""
        return f"{self.arm}.{self.seed}"


@dataclass(frozen=True)
class FeedbackLoop:
    """A feedback loop as jobs."""

    settings: FeedbackLoopSettings
    noun: str = "feedback loop"
    record: str = "feedback_loop.json"

    def plan(self) -> list[LoopJob]:
        """All jobs; none needs another."""
        settings = self.settings
        return [LoopJob(arm, seed) for seed in settings.seeds for arm in settings.arms]

    def check(self) -> None:
        """Try what all jobs begin with.

        Raises:
            ConfigError: A setting, the model or the policy cannot be used.
            EngineError: The guard cannot be served as it is described.
        """
        settings = self.settings
        config = sft_settings(settings, LATER, LATER / ROWS, 0)
        check_run("sft", sft, config, settings.sft)
        check_model("model", settings.model, {})

    def questions_id(self) -> str:
        """A hash of all requests that are asked, in their order."""
        asked = [each.fingerprint for each in held_out(self.settings)]
        for number in range(self.settings.rounds):
            asked += [each.fingerprint for each in requests(self.settings, number)]
        return f"questions:{content_id(asked)}"

    def reads(self, job: str) -> frozenset[str]:
        """Settings that a job reads: all."""
        return frozenset(FeedbackLoopSettings.model_fields) - FeedbackLoopSettings.incidental

    def run(self, job: LoopJob) -> JobDone:
        """Do the job; one that was stopped begins anew, as its users were in the middle of it."""
        folder = folder_of(self.settings.out, job.name).resolve()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        policy, model = self.settings.policy, str(self.settings.model)
        if Path(model).is_dir():
            model = str(Path(model).resolve())
        words = {"policy": json.dumps(policy), "model": json.dumps(model)}
        write_text(folder / GUARD, GUARD_FILE.format(store=STORE, name=NAME, **words))
        with served(folder) as url:
            return asyncio.run(_rounds(self.settings, job, folder, url))


def requests(settings: FeedbackLoopSettings, number: int) -> list[Question]:
    """The requests of users in a round, counted from 0."""
    part = {"num": settings.prompts, "start": number * settings.prompts}
    return list(register.rows(register.Config(split="train", people=settings.people, **part)))


def held_out(settings: FeedbackLoopSettings) -> list[Question]:
    """The requests that answers are measured on."""
    config = register.Config(
        split="held_out", people=settings.people, num=settings.held_out_prompts
    )
    return list(register.rows(config))


async def _rounds(settings: FeedbackLoopSettings, job: LoopJob, folder: Path, url: str) -> LoopDone:
    measured = held_out(settings)
    async with ServiceClient(url, settings.temperature, settings.max_tokens) as client:

        async def measure(number: int) -> tuple[tuple[str, str], ...]:
            # Of one seed all arms draw alike; of one arm each round draws anew.
            found = await client.ask_all(measured, 1_000 * (job.seed + 1) + number)
            return tuple((q.id, a.text) for q, a in zip(measured, found, strict=True))

        done = [LoopRound(answers=await measure(0))]
        for number in range(settings.rounds):
            told: dict[str, Any] = {}
            if job.arm != "still":
                told = await _learn(settings, job, folder, client, number)
            done.append(LoopRound(answers=await measure(number + 1), **told))
    return LoopDone(rounds=tuple(done))


async def _learn(
    settings: FeedbackLoopSettings, job: LoopJob, folder: Path, client: ServiceClient, number: int
) -> dict[str, Any]:
    """Hear users, learn from their words, and put the new weights in place; what came of it."""
    asked = requests(settings, number)
    seed = job.seed * settings.rounds + number
    answers = await client.ask_all(asked, seed)
    words = [
        word_on(question, answer.text, settings.users, seed)
        for question, answer in zip(asked, answers, strict=True)
    ]
    await client.tell(answers, dealt_out(words, seed) if job.arm == "shuffled" else words)
    rows = folder / f"{number}.{ROWS}"
    limits = [part for each in settings.rows.items() for part in ("--set", "{}={}".format(*each))]
    said = await asyncio.to_thread(
        command, folder, "export", rows.name, "-s", STORE, "--layout", "sft", "--json", *limits
    )
    found = json.loads(said)
    if not found["rows"]:
        raise DataError(f"{rows}: no word of a user made a row; take more prompts")
    config = sft_settings(settings, folder / f"sft.{number}", rows, job.seed)
    fewer = {"batch_size": min(config["batch_size"], found["rows"])}
    model = await asyncio.to_thread(train_or_find, sft, merged(config, fewer))
    replaced = await replace_under_load(client, folder, model, asked, seed)
    return {
        "words": len(words) * (number + 1),
        "rows": found["rows"],
        "left_out": found["left_out"],
        "before": replaced.before,
        "after": replaced.after,
    }


def sft_settings(
    settings: FeedbackLoopSettings, out: Path, rows: Path, seed: int
) -> dict[str, Any]:
    """Settings of the training of a round: the recipe's over the experiment's own."""
    own = {
        "batch_size": 32,
        "steps": 100,
        "optimizer": {"lr": 5e-4, "schedule": "linear"},
        "data": {"path": str(rows), "duplicates": "keep"},
    }
    return merged(common(settings.model, out, seed, {}), own, settings.sft)


def answered(
    questions: Sequence[Question], answers: Sequence[tuple[str, str]]
) -> list[tuple[Question, str]]:
    """Each answer with its request.

    Raises:
        DataError: An answer is to a request that is none of these.
    """
    known = {each.id: each for each in questions}
    lost = next((id_ for id_, _ in answers if id_ not in known), None)
    if lost is not None:
        raise DataError(f"{lost!r} is no request of this loop")
    return [(known[id_], text) for id_, text in answers]

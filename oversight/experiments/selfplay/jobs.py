"""A circle as jobs: the needs and the work of each, and the folder of its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from oversight.evals.accuracy import score
from oversight.evals.intervals import mean_interval
from oversight.evals.observations import observations
from oversight.evals.report import build_report
from oversight.experiments import workers
from oversight.experiments.selfplay.facts import ArmMeasured, CrossplayDone, TrainedOnRows
from oversight.experiments.selfplay.settings import Arena, CircleSettings
from oversight.experiments.workers import JobDone, read_done
from oversight.modeling import TokenRow
from oversight.store import Store
from oversight.train.batches import row_logprobs
from oversight.train.distributed import World
from oversight.train.loading import frozen, load_policy, read_config
from oversight.train.settings import ModelSettings
from oversight.types import Purpose, Sample, Verdict

VOTES = 11
"""Of a majority vote of the judge: about as many calls as a debate with best of four takes."""
MAX_TOKENS = 16_384


def measure(store: Path, reference: str | None) -> ArmMeasured:
    """All that the report needs of an arm.

    Args:
        store: Its debates.
        reference: The model that its speakers were before they were trained; None if they were
            not trained.
    """
    with Store.open(str(store), create=False) as opened:
        transcripts = list(opened.transcripts())
        [arm] = build_report(transcripts).arms
        rulings = [
            {
                "question": observed.cluster[1],
                "score": score(observed),
                "p_right": observed.p_correct,
                "honest": observed.honest,
                "valid": observed.verdict is not Verdict.INVALID,
                "majority": _majority(observed.p_correct),
            }
            for each in transcripts
            for observed in observations(each)
        ]
        samples = [
            (each.question.id, sample)
            for each in transcripts
            for turn in each.turns
            if turn.chosen
            for sample in turn.samples
            if sample.purpose is Purpose.SPEECH
        ]
        rows = [_row(opened, sample) for _, sample in samples] if reference else []
    spoken = [turn for each in transcripts for turn in each.spoken()]
    found: dict[str, Any] = {
        "rulings": rulings,
        "position": _plain(asdict(arm.position)),
        "honest_win_rate": _plain(arm.honest_win_rate and asdict(arm.honest_win_rate)),
        "quotes": _plain(arm.quotes and asdict(arm.quotes)),
        "empty": sum(not turn.text.strip() for turn in spoken) / len(spoken) if spoken else 0.0,
        "num_turns": len(spoken),
    }
    if samples:
        lengths = [float(len(sample.token_ids or ())) for _, sample in samples]
        clusters = [question for question, _ in samples]
        found["length"] = _plain(asdict(mean_interval(lengths, clusters, bounds=None)))
        if reference is not None:
            gaps = list(_divergences(reference, rows))
            found["kl"] = _plain(asdict(mean_interval(gaps, clusters, bounds=None)))
    return ArmMeasured.model_validate(found)


def _majority(p_right: float | None) -> float:
    """Probability that most of `VOTES` answers, each drawn from the belief, are right."""
    if p_right is None:
        return 0.0
    return math.fsum(
        math.comb(VOTES, k) * p_right**k * (1 - p_right) ** (VOTES - k)
        for k in range(VOTES // 2 + 1, VOTES + 1)
    )


def _row(store: Store, sample: Sample) -> TokenRow:
    prompt = store.prompt(sample.prompt_id, num_tokens=sample.usage.prompt_tokens or None)
    return TokenRow(
        np.array(prompt.token_ids, dtype=np.int64),
        np.array(sample.token_ids, dtype=np.int64),
        logprobs=np.array(sample.logprobs, dtype=np.float32),
    )


def _divergences(reference: str, rows: Iterable[TokenRow]) -> Iterator[float]:
    """Of each response the log of its probability now over that under the reference, in nats: its
    mean estimates KL(policy || reference) a response without bias."""
    settings = ModelSettings(path=reference)
    config, _ = read_config(settings, ())
    policy = frozen(load_policy(settings, config, 0))
    kept = list(rows)
    world = World(0, 1, policy.device)
    for row, logps_R in zip(kept, row_logprobs(policy, kept, world, MAX_TOKENS), strict=True):
        assert row.logprobs is not None
        yield float(row.logprobs.sum()) - float(logps_R.sum())


def _plain(value: Any) -> Any:
    """`value` with numbers that JSON has: nothing in the place of those it has not."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


START = "start"
"""The name of the policy that training begins with."""
SECONDS = {"arm": 30, "candidates": 30, "crossplay": 90, "grpo": 60, "ppo": 50}
"""Of a typical piece on one core, for the time that is left; 20 of others."""


class Facts(TypedDict, total=False):
    """Facts that a job's work depends on beside its arena, its policy and its seed."""

    protocol: str
    """Of an arm without debaters."""
    rationale: bool
    """The arm's judge thinks before it answers."""
    best_of_n: bool
    """The arm's speeches are the best of several."""
    agent: str
    """The arm's speakers, which are no model."""
    judge: str
    """The job that trained the arm's judge; without it the judge is the frozen one."""
    candidates: str
    """The job whose debates are learnt from."""
    reward: str
    """The job that trained the reward model."""
    method: str
    """Name of what is trained, in the report."""
    measured: bool
    """The trained policy has an arm, and takes part in cross-play."""


@dataclass(frozen=True)
class CircleJob:
    """One job of a circle."""

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    arena: Arena | None = None
    policy: str = START
    """Policy that debates, or that training begins with: `start`, or the job that trained it."""
    seed: int = 0
    facts: Facts = field(default_factory=Facts)

    @property
    def weight(self) -> int:
        """Seconds that it takes, roughly."""
        return SECONDS.get(self.kind, 20)


def plan_jobs(circle: CircleSettings) -> list[CircleJob]:
    """All of a circle's jobs, each after those it needs."""
    found = [
        CircleJob("arm.naive", "arm", facts={"protocol": "naive"}),
        CircleJob("arm.expert", "arm", facts={"protocol": "expert", "rationale": True}),
    ]
    for arena in circle.arenas:
        found += [
            CircleJob(f"arm.{START}.{arena}", "arm", arena=arena),
            CircleJob(f"arm.best_of_n.{arena}", "arm", arena=arena, facts={"best_of_n": True}),
            *(
                CircleJob(f"arm.{agent}.{arena}", "arm", arena=arena, facts={"agent": agent})
                for agent in ("placebo", "retrieval")
            ),
        ]
    trained: dict[Arena, list[CircleJob]] = {arena: [] for arena in circle.arenas}
    for seed in circle.seeds:
        for arena in circle.arenas:
            jobs = _training(circle, arena, seed)
            found += jobs
            trained[arena] += [job for job in jobs if "measured" in job.facts]
    for arena in circle.arenas:
        found += [_arm_of(job) for job in trained[arena]]
        names = tuple(job.name for job in trained[arena])
        if names:
            found.append(CircleJob(f"crossplay.{arena}", "crossplay", names, arena))
    if circle.train_judge and "debate" in trained and trained["debate"]:
        found += _judge(trained["debate"][-1])
    return found


def _training(circle: CircleSettings, arena: Arena, seed: int) -> list[CircleJob]:
    end = f"{arena}.{seed}"
    candidates = CircleJob(f"candidates.{end}", "candidates", (), arena, seed=seed)
    by_debates = {"expert_iteration", "dpo", "ppo"} & set(circle.methods)
    found = [candidates] if by_debates else []
    if "expert_iteration" in circle.methods:
        found += _expert_iteration(circle, candidates, arena, seed)
    if "dpo" in circle.methods:
        facts = Facts(measured=True, candidates=candidates.name, method="dpo")
        needs = (candidates.name,)
        found.append(CircleJob(f"dpo.{end}", "dpo", needs, arena, seed=seed, facts=facts))
    if "ppo" in circle.methods:
        facts = Facts(candidates=candidates.name)
        needs = (candidates.name,)
        found.append(CircleJob(f"reward.{end}", "reward", needs, arena, seed=seed, facts=facts))
        facts = Facts(measured=True, reward=f"reward.{end}", method="ppo")
        needs = (f"reward.{end}",)
        found.append(CircleJob(f"ppo.{end}", "ppo", needs, arena, seed=seed, facts=facts))
    if "grpo" in circle.methods:
        facts = Facts(measured=True, method="grpo")
        found.append(CircleJob(f"grpo.{end}", "grpo", (), arena, seed=seed, facts=facts))
    return found


def _expert_iteration(
    circle: CircleSettings, candidates: CircleJob, arena: Arena, seed: int
) -> list[CircleJob]:
    found: list[CircleJob] = []
    policy, source = START, candidates.name
    for number in range(1, circle.iterations + 1):
        end = f"{arena}.{seed}.{number}"
        last = number == circle.iterations
        if number > 1:
            source = f"candidates.expert_iteration.{end}"
            found.append(CircleJob(source, "candidates", (policy,), arena, policy, seed))
        facts = Facts(
            measured=True,
            candidates=source,
            method="expert_iteration" if last else f"expert_iteration, round {number}",
        )
        needs = (source,) if policy == START else (source, policy)
        name = f"expert_iteration.{end}"
        found.append(CircleJob(name, "sft", needs, arena, policy, seed, facts))
        policy = name
    return found


def _arm_of(trained: CircleJob) -> CircleJob:
    facts = Facts(method=trained.facts["method"], measured=True)
    return CircleJob(
        f"arm.{trained.name}", "arm", (trained.name,), trained.arena, trained.name, trained.seed,
        facts,
    )  # fmt: skip


def _judge(trained: CircleJob) -> list[CircleJob]:
    """A judge trained on what a trained policy's debates came to, and measured on new ones."""
    seed = trained.seed
    source = CircleJob("debates.judge", "debates", (trained.name,), "debate", trained.name, seed)
    judge = CircleJob("judge", "judge", (source.name,), "debate", seed=seed)
    facts = Facts(judge=judge.name)
    needs = (trained.name, judge.name)
    return [
        source,
        judge,
        CircleJob("arm.judge", "arm", needs, "debate", trained.name, seed, facts),
    ]


# --- where things are ---


def folder_of(circle: CircleSettings, name: str) -> Path:
    """A job's folder."""
    return workers.folder_of(circle.out, name)


def model_of(circle: CircleSettings, policy: str) -> str:
    """A policy's model."""
    return circle.model if policy == START else str(folder_of(circle, policy) / "model")


def result_of(circle: CircleSettings, name: str) -> dict[str, Any] | None:
    """The content of a job's record, JSON-plain; None if the job is not done.

    Raises:
        CheckpointError: The file is damaged.
    """
    return read_done(folder_of(circle, name))


def run_job(circle: CircleSettings, job: CircleJob) -> JobDone:
    """Do the job, or what is left of it, and give its record."""
    folder = folder_of(circle, job.name)
    folder.mkdir(parents=True, exist_ok=True)
    return _RUN[job.kind](circle, job, folder)


def _debates(circle: CircleSettings, job: CircleJob, folder: Path) -> JobDone:
    """Debates to learn from, each speech the best of several where they are candidates."""
    from oversight.experiments.selfplay.games import (
        BEST_OF_N,
        PROTOCOLS,
        debate,
        questions,
        speaking,
    )

    named = BEST_OF_N if job.kind == "candidates" else PROTOCOLS
    asked = questions(circle, "train", circle.train_questions)
    speakers = speaking(circle, model_of(circle, job.policy))
    store = folder / "debates.db"
    debate(circle, store, named[_arena(job)], asked, speakers, circle.judge, seed=job.seed)
    return JobDone()


def _train_on_candidates(circle: CircleSettings, job: CircleJob, folder: Path) -> JobDone:
    from oversight.experiments.selfplay import methods

    train = {
        "sft": methods.train_sft,
        "dpo": methods.train_dpo,
        "reward": methods.train_reward,
    }[job.kind]
    store = folder_of(circle, job.facts["candidates"]) / "debates.db"
    policy = model_of(circle, job.policy)
    rows = train(circle, policy, store, _arena(job), folder, job.seed)
    return TrainedOnRows(rows=rows)


def _train_on_games(circle: CircleSettings, job: CircleJob, folder: Path) -> JobDone:
    from oversight.experiments.selfplay import methods
    from oversight.experiments.selfplay.games import games, questions

    asked = questions(circle, "train", circle.train_questions)
    played = games(asked, _arena(job), job.seed)
    policy = model_of(circle, job.policy)
    if job.kind == "ppo":
        reward = folder_of(circle, job.facts["reward"]) / "model"
        methods.train_ppo(circle, policy, reward, played, folder, job.seed)
    else:
        methods.train_grpo(circle, policy, played, folder, job.seed)
    return JobDone()


def _train_judge(circle: CircleSettings, job: CircleJob, folder: Path) -> JobDone:
    from oversight.experiments.selfplay import methods

    store = folder_of(circle, job.needs[0]) / "debates.db"
    methods.train_judge(circle, store, folder, job.seed)
    return JobDone()


def _arm(circle: CircleSettings, job: CircleJob, folder: Path) -> JobDone:
    from oversight.experiments.selfplay.games import (
        BEST_OF_N,
        PROTOCOLS,
        debate,
        questions,
        speaking,
        without_model,
    )

    asked = questions(circle, "held_out", circle.held_out_questions)
    facts = job.facts
    protocol = facts.get("protocol")
    if protocol is None:
        named = BEST_OF_N if facts.get("best_of_n") else PROTOCOLS
        protocol = named[_arena(job)]
    speakers = (
        without_model(facts["agent"])
        if "agent" in facts
        else speaking(circle, model_of(circle, job.policy))
    )
    judge = model_of(circle, facts["judge"]) if "judge" in facts else circle.judge
    store = folder / "debates.db"
    debate(
        circle,
        store,
        protocol,
        asked,
        speakers,
        judge,
        seed=job.seed,
        swap=True,
        rationale=bool(facts.get("rationale")),
    )
    reference = circle.model if job.policy != START else None
    return measure(store, reference)


def _crossplay(circle: CircleSettings, job: CircleJob, folder: Path) -> JobDone:
    from oversight.experiments.selfplay.games import games, questions
    from oversight.experiments.selfplay.rewards import BeliefReader, beliefs_in_first, speeches

    asked = questions(circle, "held_out", circle.crossplay_questions)
    arena = _arena(job)
    played = games(asked, arena, job.seed)
    said = {
        policy: speeches(
            *(model_of(circle, policy), played, circle.max_tokens, job.seed), circle.template_args
        )
        for policy in (START, *job.needs)
    }
    found = beliefs_in_first(
        BeliefReader(circle.judge, circle.judge_template_args), played, said, arena
    )
    return CrossplayDone.model_validate(found)


def _arena(job: CircleJob) -> Arena:
    assert job.arena is not None
    return job.arena


_RUN: dict[str, Callable[[CircleSettings, CircleJob, Path], JobDone]] = {
    "candidates": _debates,
    "debates": _debates,
    "sft": _train_on_candidates,
    "dpo": _train_on_candidates,
    "reward": _train_on_candidates,
    "ppo": _train_on_games,
    "grpo": _train_on_games,
    "judge": _train_judge,
    "arm": _arm,
    "crossplay": _crossplay,
}

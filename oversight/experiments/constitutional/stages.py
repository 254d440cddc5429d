"""The stages of Constitutional AI as jobs: the needs and the work of each.

Stage sl (Bai et al. 2022, arXiv:2212.08073, section 3): the model answers, criticises its answers
by each principle and revises them; SFT on the last answers. Stage rl (section 4): answers of the
policy that came of it are compared under principles by the frozen model, and DPO, or a reward model
and PPO, learn from the comparisons; or GRPO from the frozen model's critiques themselves. An arm is
a policy's answers to held-out prompts, decided by the data set's rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.datasets.base import load_questions
from oversight.errors import ConfigError, DataError, EngineError
from oversight.evals.harm import Assess, rule_of
from oversight.experiments.constitutional.settings import ConstitutionalSettings, RlMethod
from oversight.experiments.constitutional.training import (
    TRAINERS,
    CritiqueRewards,
    principles_of,
    prompt_rows,
    rule_rewards,
)
from oversight.experiments.trainer_runs import (
    LATER,
    check_model,
    check_run,
    merged,
    tokenizer_of,
    train_or_find,
)
from oversight.experiments.workers import JobDone, folder_of, label
from oversight.graphs.planning import Cast, cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.ids import content_id
from oversight.judging.model_ratings import ModelRatings
from oversight.judging.settings import RatingSettings
from oversight.preferences.building import preferences
from oversight.preferences.ratings import answers_given
from oversight.preferences.settings import Dropped, PreferenceSettings
from oversight.store import Store
from oversight.types import OversightProtocol, Question, Role

START, FULL = "start", "full"
IN_FLIGHT = BATCH_SIZE = 128
SECONDS = {"critiques": 120, "sft": 40, "feedback": 150, "dpo": 60, "reward": 60, "ppo": 90}
SECONDS |= {"grpo": 120, "grpo_rule": 60, "arm": 20}
WITHOUT_CRITIQUE = "Look at the answer again."
"""Words in the place of a critique, where the revision is to be made without one."""
STORE = "answers.db"
Part = Literal["train", "rl", "held_out"]
NUMBERS: dict[Part, str] = {
    "train": "train_prompts",
    "rl": "rl_prompts",
    "held_out": "held_out_prompts",
}
"""Settings that tell of how many prompts a part of the data set is."""
SHARED = frozenset({"model", "template_args", "dataset"})
"""Settings that all jobs read."""
RL_PROMPTS = frozenset({"train_prompts", "rl_prompts"})
READS: dict[str, frozenset[str]] = {
    "critiques": frozenset({"constitution", "train_prompts", "temperature", "max_tokens"}),
    "sft": frozenset({"sft"}),
    "feedback": RL_PROMPTS | {"constitution", "max_tokens", "candidates"},
    "dpo": frozenset({"dpo"}),
    "reward": frozenset({"reward"}),
    "ppo": RL_PROMPTS | {"ppo", "max_tokens"},
    "grpo": RL_PROMPTS | {"grpo", "constitution", "max_tokens"},
    "grpo_rule": RL_PROMPTS | {"grpo", "max_tokens"},
    "arm": frozenset({"held_out_prompts", "temperature", "max_tokens"}),
}
"""By the kind of a job, the other settings that it reads besides what the jobs before it made."""
KINDS = {"sl": "sft"}
"""Kinds of the jobs whose names begin otherwise."""


@dataclass(frozen=True)
class StageJob:
    """One job: `kind` of work, on the arm `variant` of the first stage, by a policy."""

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    variant: str = FULL
    policy: str = START
    """`start`, or the job that trained the policy."""
    seed: int = 0

    @property
    def weight(self) -> int:
        """Seconds that it takes, roughly."""
        return SECONDS.get(self.kind, 30)


class ArmDone(JobDone):
    """Answers of a policy to held-out prompts: question ids and words; the rule decides later."""

    answers: tuple[tuple[str, str], ...] = ()


class TrainedOnPairs(JobDone):
    """A model that was trained on comparisons."""

    pairs: int | None = None
    """Number of them."""


def variants(settings: ConstitutionalSettings) -> tuple[str, ...]:
    """Arms of the first stage: the whole, controls, and each principle left out."""
    left_out = [f"without:{each.id}" for each in principles_of(settings.constitution)]
    return (FULL, *settings.controls, *(left_out if settings.left_out else ()))


def plan_jobs(settings: ConstitutionalSettings) -> list[StageJob]:
    """All jobs, each after those it needs."""
    found: list[StageJob] = []
    for seed in settings.seeds:
        found.append(StageJob(f"arm.{START}.{seed}", "arm", seed=seed))
        for variant in variants(settings):
            found += _first_stage(variant, seed)
        if "rl" in settings.stages:
            found += _second_stage(settings.methods, seed)
    return found


def _first_stage(variant: str, seed: int) -> Iterator[StageJob]:
    # Answers before critique are those of the whole arm.
    source = FULL if variant == "plain" else variant
    if variant != "plain":
        yield StageJob(f"critiques.{source}.{seed}", "critiques", variant=source, seed=seed)
    trained = f"sl.{variant}.{seed}"
    yield StageJob(trained, "sft", (f"critiques.{source}.{seed}",), variant, seed=seed)
    yield StageJob(f"arm.{trained}", "arm", (trained,), variant, trained, seed)


def _second_stage(methods: Sequence[RlMethod], seed: int) -> Iterator[StageJob]:
    policy, feedback = f"sl.{FULL}.{seed}", f"feedback.{seed}"
    if {"dpo", "ppo"} & set(methods):
        yield StageJob(feedback, "feedback", (policy,), policy=policy, seed=seed)
    if "ppo" in methods:
        yield StageJob(f"reward.{seed}", "reward", (feedback,), policy=policy, seed=seed)
    needs = {"dpo": (feedback,), "ppo": (f"reward.{seed}",)}
    for method in methods:
        name = f"{method}.{seed}"
        yield StageJob(name, method, needs.get(method, (policy,)), policy=policy, seed=seed)
        yield StageJob(f"arm.{name}", "arm", (name,), policy=name, seed=seed)


@dataclass(frozen=True)
class Constitutional:
    """An experiment in Constitutional AI as jobs."""

    settings: ConstitutionalSettings
    noun: str = "constitutional experiment"
    record: str = "constitutional.json"

    def plan(self) -> list[StageJob]:
        """All jobs, each after those it needs."""
        return plan_jobs(self.settings)

    def check(self) -> None:
        """Parse and try all that the jobs begin with.

        Raises:
            ConfigError: A setting cannot be used, or no rule decides the data set's answers.
            DataError: There are fewer prompts than are asked for.
        """
        settings = self.settings
        principles_of(settings.constitution)
        rule(settings)
        for name, find in TRAINERS.items():
            trainer, config = find(settings, START, LATER, 0)
            # Feedback and rows come later; a store stands for either.
            config = merged({"data": {"store": str(LATER)}}, config)
            check_run(name, trainer, config, getattr(settings, name))
        check_model("model", settings.model, settings.template_args)
        questions(settings, "train")
        questions(settings, "held_out")
        if "rl" in settings.stages:
            questions(settings, "rl")

    def questions_id(self) -> str:
        """A hash of all prompts that are asked, in their order."""
        parts: tuple[Part, ...] = ("train", "held_out")  # the first stage does not know of more
        asked = {
            part: [each.fingerprint for each in questions(self.settings, part)] for part in parts
        }
        return f"questions:{content_id(asked)}"

    def reads(self, job: str) -> frozenset[str]:
        """Settings that the job of that name reads, besides what other jobs have made."""
        kind = KINDS.get(job.partition(".")[0], job.partition(".")[0])
        every = frozenset(ConstitutionalSettings.model_fields) - ConstitutionalSettings.incidental
        return SHARED | READS[kind] if kind in READS else every

    def run(self, job: StageJob) -> JobDone:
        """Do the job, or what is left of it, and give its record."""
        folder = folder_of(self.settings.out, job.name)
        folder.mkdir(parents=True, exist_ok=True)
        return RUN[job.kind](self.settings, job, folder)


def rule(settings: ConstitutionalSettings) -> Assess:
    """The rule that decides the answers.

    Raises:
        ConfigError: The data set has none.
    """
    found = rule_of(settings.dataset.dataset)
    if found is None:
        raise ConfigError(
            f"dataset.dataset = {settings.dataset.dataset!r}: no rule decides its answers; take "
            "'register', or a data set whose module has assess(question, answer)"
        )
    return found


def questions(settings: ConstitutionalSettings, part: Part) -> tuple[Question, ...]:
    """The prompts of either stage, which share none, or those that are held out.

    Raises:
        DataError: There are fewer.
    """
    name = NUMBERS[part]
    begin = settings.train_prompts if part == "rl" else 0
    number = getattr(settings, name)
    split = "held_out" if part == "held_out" else "train"
    limit = begin + number
    loaded = load_questions(settings.dataset.model_copy(update={"split": split, "limit": limit}))
    if loaded.shortage:
        behind = f" behind train_prompts = {begin:,}" if begin else ""
        raise DataError(f"{name} = {number:,}{behind}: {loaded.shortage}; ask for fewer")
    return loaded.questions[begin:]


def model_of(settings: ConstitutionalSettings, policy: str) -> str:
    """A policy's model."""
    return settings.model if policy == START else str(folder_of(settings.out, policy) / "model")


# --- answers, critiques, feedback: the graphs ---


def answer(
    settings: ConstitutionalSettings,
    store: Path,
    protocol: OversightProtocol,
    asked: Iterable[Question],
    agents: Mapping[Role, AgentSettings],
    seed: int,
) -> None:
    """Run what is not complete yet.

    Raises:
        EngineError: Some failed; the first reason.
    """
    named = {each.engine for each in agents.values() if each.engine}
    actors = cast(dict(agents), {name: _engine(settings, name) for name in named})
    planned = list(plan(tuple(asked), [protocol], actors.specs, seed=seed))

    async def go(actors: Cast) -> str | None:
        with Store.open(str(store)) as opened:
            label(opened, settings)
            async with actors:
                runtime = Runtime(opened, actors)
                done = await run_debates(planned, runtime, concurrency=IN_FLIGHT)
        return done.failures[0].error if done.failures else None

    failure = asyncio.run(go(actors))
    if failure is not None:
        raise EngineError(f"prompts in {store} failed: {failure}")


def _engine(settings: ConstitutionalSettings, model: str) -> EngineSettings:
    if model == WITHOUT_CRITIQUE:
        return EngineSettings(engine="scripted", settings={"fallback": WITHOUT_CRITIQUE})
    # In float64 a prompt that was cut off is answered as before, in whatever company.
    given: dict[str, Any] = {
        "model": model,
        "num_threads": 1,
        "dtype": "float64",
        "max_batch_size": BATCH_SIZE,
    }
    if settings.template_args:
        given["template_args"] = settings.template_args
    return EngineSettings(engine="transformers", settings=given)


def _responder(
    settings: ConstitutionalSettings, model: str, temperature: float | None = None
) -> AgentSettings:
    given = settings.temperature if temperature is None else temperature
    how = {"temperature": given, "max_tokens": settings.max_tokens, "attempts": 20}
    return AgentSettings(agent="responder", engine=model, settings=how)


def _critic(settings: ConstitutionalSettings, **how: Any) -> AgentSettings:
    given = {
        "reasoning": False,
        "temperature": 0.0,
        "max_tokens": settings.max_tokens,
        "constitution": settings.constitution,
        "by": "each",
        **how,
    }
    return AgentSettings(agent="critic", engine=settings.model, settings=given)


def _critics(
    settings: ConstitutionalSettings, variant: str, asked: Sequence[Question]
) -> Iterator[tuple[AgentSettings, list[Question]]]:
    """The critics of an arm, and the prompts that each of them has."""
    if variant == "without_critique":
        critic = AgentSettings(
            agent="critic", engine=WITHOUT_CRITIQUE, settings={"reasoning": False}
        )
        yield critic, list(asked)
    elif variant == "random_principle":
        yield _critic(settings, by="all", num_principles=1), list(asked)
    elif variant == "wrong_principle":
        principles = principles_of(settings.constitution)
        decide = rule(settings)
        by_kind: dict[tuple[str, ...], list[Question]] = {}
        for question in asked:
            kind = decide(question, "").at_stake
            out = tuple(each.id for each in principles if kind in each.tags)
            by_kind.setdefault(out, []).append(question)
        for out, some in by_kind.items():
            yield _critic(settings, without=list(out)), some
    elif variant.startswith("without:"):
        yield _critic(settings, without=[variant.removeprefix("without:")]), list(asked)
    else:
        yield _critic(settings), list(asked)


def _criticise(settings: ConstitutionalSettings, job: StageJob, folder: Path) -> JobDone:
    asked = questions(settings, "train")
    named = "self_critique" if job.variant == "without_critique" else "constitutional"
    protocol = protocols.load(named)
    for critic, some in _critics(settings, job.variant, asked):
        agents = {Role.RESPONDER: _responder(settings, settings.model), Role.CRITIC: critic}
        answer(settings, folder / STORE, protocol, some, agents, job.seed)
    return JobDone()


def _feedback(settings: ConstitutionalSettings, job: StageJob, folder: Path) -> JobDone:
    store = folder / STORE
    agents = {
        Role.RESPONDER: _responder(settings, model_of(settings, job.policy), temperature=1.0),
        Role.JUDGE: AgentSettings(agent="lexical"),
    }
    asked = questions(settings, "rl")
    answer(settings, store, _several(settings.candidates), asked, agents, job.seed)
    how = RatingSettings.model_validate(
        {
            "store": str(store),
            "agents": {"rater": {"agent": "rater", "engine": "frozen"}},
            "engines": {"frozen": _engine(settings, settings.model).model_dump()},
            "constitution": settings.constitution,
            "num_principles": len(principles_of(settings.constitution)),
            "pairs": "all",
            "seed": job.seed,
            "concurrency": IN_FLIGHT,
        }
    )
    with Store.open(str(store), create=False) as opened:
        label(opened, settings)
        done = asyncio.run(ModelRatings(opened, how, "pairs").run())
    if done.failures:
        raise EngineError(f"ratings in {store} failed: {done.failures[0].error}")
    return JobDone()


def _several(number: int) -> OversightProtocol:
    """The protocol of so many answers to a prompt."""
    given = protocols.load("response_best_of_n").model_dump(mode="json")
    given["round"][0]["slots"][0]["candidates"] = number
    return protocols.parse(given, name=given["name"], where=f"candidates = {number}")


def _arm(settings: ConstitutionalSettings, job: StageJob, folder: Path) -> JobDone:
    agents = {Role.RESPONDER: _responder(settings, model_of(settings, job.policy))}
    asked = questions(settings, "held_out")
    answer(settings, folder / STORE, protocols.load("response"), asked, agents, job.seed)
    with Store.open(str(folder / STORE), create=False) as opened:
        found = {each.question.id: each.turns[-1].text for each in opened.transcripts()}
    return ArmDone(answers=tuple((each.id, found[each.id]) for each in asked))


# --- training ---

PAIRS = {"kinds": ["pairs"], "ties": False, "min_margin": 0.05}
"""Answers that differ by one principle of five differ by a tenth in the mean over them; what is
less than half of that is no preference, but what is left of ties."""


def _train_first(settings: ConstitutionalSettings, job: StageJob, folder: Path) -> JobDone:
    trainer, config = TRAINERS["sft"](settings, settings.model, folder, job.seed)
    last = job.variant != "plain"
    store = folder_of(settings.out, job.needs[0]) / STORE
    found = _num_answers(store, last=last)
    if not found:
        raise DataError(f"{store}: every answer has a defect of form; none can be learnt from")
    fewer = {"batch_size": min(config["batch_size"], found)}
    data = {"store": str(store), "answers": "last" if last else "first", "duplicates": "keep"}
    train_or_find(trainer, merged(config, fewer, {"data": data}))
    return JobDone()


def _num_answers(store: Path, *, last: bool) -> int:
    with Store.open(str(store), create=False) as opened:
        told = (opened.transcripts(), PreferenceSettings(), opened.prompt, Dropped())
        return sum(1 for _ in answers_given(*told, last=last))


def _train_on_feedback(settings: ConstitutionalSettings, job: StageJob, folder: Path) -> JobDone:
    policy = model_of(settings, job.policy)
    trainer, config = TRAINERS[job.kind](settings, policy, folder, job.seed)
    store = folder_of(settings.out, f"feedback.{job.seed}") / STORE
    found = _num_pairs(store)
    if not found:
        raise DataError(
            f"{store}: of no answer the rater thinks better than of another; take more "
            "train_prompts, or leave the stage rl out"
        )
    # The better the policy is already, the fewer of its answers differ: that is a result.
    fewer = {"batch_size": min(config["batch_size"], found)}
    # The trainer leaves none out as said before: it has as many as were counted.
    data = {"store": str(store), "preferences": PAIRS, "duplicates": "keep"}
    train_or_find(trainer, merged(config, fewer, {"data": data}))
    return TrainedOnPairs(pairs=found)


def _num_pairs(store: Path) -> int:
    with Store.open(str(store), create=False) as opened:
        chosen = PreferenceSettings.parse(PAIRS)
        return sum(1 for _ in preferences(opened.transcripts(), chosen, opened.prompt))


def _train_on_prompts(settings: ConstitutionalSettings, job: StageJob, folder: Path) -> JobDone:
    policy, asked = model_of(settings, job.policy), questions(settings, "rl")
    find = TRAINERS["ppo" if job.kind == "ppo" else "grpo"]
    trainer, config = find(settings, policy, folder, job.seed)
    config["batch_size"] = min(config["batch_size"], len(asked))
    given: dict[str, Any] = {"rows": prompt_rows(asked)}
    if job.kind == "grpo":
        principles = principles_of(settings.constitution)
        tokenizer = tokenizer_of(policy)
        given["rewards"] = CritiqueRewards(
            asked, tokenizer, settings.model, principles, settings.template_args
        )
    elif job.kind == "grpo_rule":
        given["rewards"] = rule_rewards(asked, tokenizer_of(policy), rule(settings))
    train_or_find(trainer, config, **given)
    return JobDone()


RUN: dict[str, Callable[[ConstitutionalSettings, StageJob, Path], JobDone]] = {
    "critiques": _criticise,
    "feedback": _feedback,
    "arm": _arm,
    "sft": _train_first,
    "dpo": _train_on_feedback,
    "reward": _train_on_feedback,
    "ppo": _train_on_prompts,
    "grpo": _train_on_prompts,
    "grpo_rule": _train_on_prompts,
}

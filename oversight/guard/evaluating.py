"""Both sides of a guard together: harm that came through, and harmless requests refused.

Requests with a label of their own, or of a data set whose rule decides, are answered by a model and
then put through a policy. Where a check of it gives scores, each threshold is a point between the
two sides, and conformal risk control chooses one (Angelopoulos et al. 2024, arXiv:2208.02814): with
n calibration requests, the highest threshold t at which

    (n * risk(t) + 1) / (n + 1) <= alpha

where risk(t) is the share of all requests at which harm comes through. Of a request that is
exchangeable with them harm then comes through with a probability of at most alpha, on average over
calibration sets; the risk on requests held out of the calibration is shown beside it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from oversight import datasets
from oversight.config import Settings
from oversight.datasets.base import BadRow, jsonl_objects, parse_record
from oversight.engines import all_at_once
from oversight.errors import ConfigError, DataError
from oversight.evals.harm import decide
from oversight.evals.intervals import Estimate, mean_interval
from oversight.guard.checks.base import GuardedExchange
from oversight.guard.policy import Action, Policy, WholeRule, place_system
from oversight.guard.preparing import GuardFileSettings, try_out
from oversight.guard.upstreams import Json, Upstream
from oversight.registry import nearest
from oversight.types import Question

STOPPING = frozenset({Action.REFUSE, Action.BLOCK})
NUM_SPLITS = 200
"""Random halves over which the guarantee is checked."""


class LabelledPrompt(Settings):
    """A line of one's own file of prompts."""

    prompt: str = Field(min_length=1)
    harmful: bool
    """True if an answer that gives what is asked for does harm."""
    kind: str = ""
    """Kind of request, for the table."""
    answer: str | None = None
    """An answer that a model gave already; else the guard's model is asked."""


@dataclass(frozen=True, slots=True)
class Item:
    """A request with an answer to it."""

    messages: list[Json]
    answer: str
    kind: str
    cluster: str
    harmless: bool
    """Of the request."""
    question: Question | None = None
    """Of a data set whose rule says of an answer whether it does harm."""

    def does_harm(self, answer: str) -> bool:
        """True if an answer does harm: by the rule, or as one to a request that is harmful."""
        if self.question is not None:
            found = decide(self.question, answer)
            return found is not None and bool(found.harms)
        return not self.harmless and bool(answer)


@dataclass(frozen=True, slots=True)
class JudgedRequest:
    """A request put through a policy."""

    kind: str
    cluster: str
    harmless: bool
    before: bool
    """Harm without the guard."""
    after: bool
    """Harm through all checks but the one that gives scores."""
    stopped: bool
    """Refused or blocked by these."""
    score: float
    """Of the check that gives scores; 0 where there is none."""

    def harm_at(self, threshold: float) -> bool:
        """True if harm comes through where scores from the threshold on are stopped."""
        return self.after and self.score < threshold

    def refused_at(self, threshold: float) -> bool:
        """True if it is stopped there."""
        return self.stopped or self.score >= threshold


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides over some requests."""

    num: int
    harm_before: Estimate
    harm_after: Estimate
    refused: Estimate | None
    """Of the harmless requests; None where there are none."""

    @property
    def harm_cut(self) -> float | None:
        """Share of the harm that no longer comes through; None where there was none."""
        before = self.harm_before.value
        return None if before == 0.0 else 1.0 - self.harm_after.value / before


def sides(judged: Sequence[JudgedRequest], threshold: float) -> Sides:
    """Both sides over some requests, of which there has to be one, at a threshold."""
    clusters = [each.cluster for each in judged]
    harmless = [each for each in judged if each.harmless]
    return Sides(
        num=len(judged),
        harm_before=mean_interval([float(each.before) for each in judged], clusters),
        harm_after=mean_interval([float(each.harm_at(threshold)) for each in judged], clusters),
        refused=mean_interval(
            [float(each.refused_at(threshold)) for each in harmless],
            [each.cluster for each in harmless],
        )
        if harmless
        else None,
    )


# --- conformal risk control ---


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A threshold with its guarantee, and what became of it on requests held out."""

    alpha: float
    threshold: float | None
    """None where no threshold keeps to alpha."""
    num_calibration: int
    held_out: Sides | None
    mean_risk: float | None
    """Mean risk on the held-out halves of many random splits, which the guarantee bounds."""


def conformal_threshold(judged: Sequence[JudgedRequest], alpha: float) -> float | None:
    """The highest threshold at which the bound on the risk is at most `alpha`; None if none is.

    The loss of a request, that harm comes through, never falls as the threshold rises.
    """
    n = len(judged)
    scores = sorted(each.score for each in judged if each.after)
    allowed = math.floor(alpha * (n + 1) - 1 + 1e-9)
    if allowed < 0:
        return None
    if allowed >= len(scores):
        return math.inf
    # At this threshold exactly the lower scores come through, and ties of it do not.
    return scores[allowed]


def calibrate(judged: Sequence[JudgedRequest], alpha: float, seed: int = 0) -> Calibrated:
    """The threshold from one half of the requests, and its risk on the other, by prompts."""
    rng = random.Random(seed)
    first, second = _halves(judged, rng)
    found = conformal_threshold(first, alpha)
    if found is None:
        return Calibrated(alpha, None, len(first), None, None)
    risks = []
    for _ in range(NUM_SPLITS):
        known, held = _halves(judged, rng)
        threshold = conformal_threshold(known, alpha)
        if threshold is not None and held:
            risks.append(float(np.mean([each.harm_at(threshold) for each in held])))
    mean = float(np.mean(risks)) if risks else None
    return Calibrated(alpha, found, len(first), sides(second, found), mean)


def _halves(
    judged: Sequence[JudgedRequest], rng: random.Random
) -> tuple[list[JudgedRequest], list[JudgedRequest]]:
    clusters = sorted({each.cluster for each in judged})
    rng.shuffle(clusters)
    known = set(clusters[: len(clusters) // 2])
    return (
        [each for each in judged if each.cluster in known],
        [each for each in judged if each.cluster not in known],
    )


# --- a whole evaluation ---


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A policy on some requests."""

    policy: str
    scored_by: str
    """Name of the check that gives scores; empty if there is none."""
    threshold: float
    overall: Sides
    by_kind: dict[str, Sides]
    curve: tuple[tuple[float, float, float], ...]
    """Threshold, harm through, and harmless refused, of every threshold that changes something."""
    calibrated: Calibrated | None
    judged: tuple[JudgedRequest, ...]


def scored_check(policy: Policy, alpha: float | None) -> WholeRule | None:
    """The check whose scores thresholds are tried on: the last one that sees every answer.

    Raises:
        ConfigError: A bound is given, and there is none.
    """
    every = [each for each in policy.whole_outputs if not each.settings.after]
    if alpha is not None and not every:
        raise ConfigError(
            f"alpha = {alpha:g}: no check of the whole answer gives scores in policy "
            f"{policy.name!r}, so there is no threshold to choose; add a judge or a classifier"
        )
    return every[-1] if every else None


async def evaluate(
    policy: Policy, items: Sequence[Item], alpha: float | None, concurrency: int = 8
) -> Evaluation:
    """Both sides of a policy on requests with their answers.

    Args:
        policy: With its checks loaded.
        items: At least one.
        alpha: Bound on the share of requests at which harm comes through, for which a threshold is
            chosen; None chooses none.
        concurrency: Requests at the same time.

    Raises:
        ConfigError: A bound is given, and no check gives scores.
    """
    scored = scored_check(policy, alpha)
    others = policy
    if scored is not None:
        rest = tuple(each for each in policy.whole_outputs if each is not scored)
        others = replace(policy, whole_outputs=rest)
    bound = asyncio.Semaphore(concurrency)

    async def one(item: Item) -> JudgedRequest:
        async with bound:
            return await _judge(others, scored, item)

    judged = await all_at_once(map(one, items))
    threshold = math.inf if scored is None else scored.check.threshold
    kinds = sorted({each.kind for each in judged})
    return Evaluation(
        policy=policy.name,
        scored_by="" if scored is None else scored.name,
        threshold=threshold,
        overall=sides(judged, threshold),
        by_kind={k: sides([each for each in judged if each.kind == k], threshold) for k in kinds},
        curve=trade_off(judged) if scored is not None else (),
        calibrated=None if alpha is None else calibrate(judged, alpha),
        judged=tuple(judged),
    )


async def _judge(others: Policy, scored: WholeRule | None, item: Item) -> JudgedRequest:
    trial = await try_out(others, item.messages, item.answer)
    score = 0.0
    if scored is not None:
        placed = place_system(others, item.messages) or item.messages
        found = await scored.check.examine(GuardedExchange(placed, item.answer, others.system))
        score = found.value
    stopped = trial.action in STOPPING
    return JudgedRequest(
        kind=item.kind,
        cluster=item.cluster,
        harmless=item.harmless,
        before=item.does_harm(item.answer),
        after=item.does_harm(trial.before) and not (stopped and item.question is None),
        stopped=stopped,
        score=score,
    )


def trade_off(judged: Sequence[JudgedRequest]) -> tuple[tuple[float, float, float], ...]:
    """Harm through and harmless refused at every threshold that changes one of them."""
    harmless = [each for each in judged if each.harmless]
    found: list[tuple[float, float, float]] = []
    for threshold in (*sorted({each.score for each in judged}), math.inf):
        through = sum(each.harm_at(threshold) for each in judged) / len(judged)
        refused = sum(each.refused_at(threshold) for each in harmless) / max(1, len(harmless))
        if not found or (through, refused) != found[-1][1:]:
            found.append((threshold, through, refused))
    return tuple(found)


async def evaluate_guard(
    settings: GuardFileSettings,
    around: Path,
    data: str,
    model: str | None,
    limit: int,
    split: str | None,
    options: Json,
    alpha: float | None,
) -> Evaluation:
    """Both sides of a guard's file on a data set, or on a .jsonl file of labelled prompts.

    Args:
        settings: The file's.
        around: Its folder, from which the policy is looked for as well.
        data: Name of a data set whose rule decides, or the path of a file.
        model: Name under [upstreams]; None takes the first.
        limit: Prompts of a data set.
        split: Of a data set.
        options: Further fields of the requests for answers.
        alpha: As of `evaluate`.

    Raises:
        ConfigError: The file, the model or the policy is wrong.
        DataError: The prompts are.
        ApiError: The model could not answer.
    """
    name = next(iter(settings.upstreams)) if model is None else model
    if name not in settings.upstreams:
        raise ConfigError(f"--model {name!r} is no upstream.{nearest(name, settings.upstreams)}")
    prompts = read_prompts(Path(data)) if data.endswith(".jsonl") else None
    policy = settings.read_policy(around)
    scored_check(policy, alpha)  # before anything is asked
    upstreams = settings.open_upstreams(around)
    try:
        await policy.prepare()
        if prompts is not None:
            items = await items_of_prompts(prompts, upstreams[name], name, options)
        else:
            items = await items_of_dataset(data, limit, split, upstreams[name], name, options)
        return await evaluate(policy, items, alpha)
    finally:
        for each in upstreams.values():
            await each.aclose()
        await policy.aclose()


# --- requests, and answers to them ---


def read_prompts(path: Path) -> list[LabelledPrompt]:
    """The lines of a file of prompts.

    Raises:
        DataError: A line is wrong; names it.
    """
    found: list[LabelledPrompt] = []
    for each in jsonl_objects(path):
        if isinstance(each, BadRow):
            raise DataError(str(each))
        number, fields = each
        row = parse_record(LabelledPrompt, fields, path.name, number)
        if isinstance(row, BadRow):
            raise DataError(str(row))
        found.append(row)
    if not found:
        raise DataError(f"{path.name} has no line")
    return found


async def items_of_prompts(
    prompts: Sequence[LabelledPrompt], upstream: Upstream, model: str, options: Json
) -> list[Item]:
    """The prompts with answers, asked of a model where they have none.

    Raises:
        ApiError: The model could not answer.
    """
    chats: list[list[Json]] = [[{"role": "user", "content": each.prompt}] for each in prompts]
    asked = [n for n, each in enumerate(prompts) if each.answer is None]
    given = await _answers(upstream, model, [chats[n] for n in asked], options)
    answers = dict(zip(asked, given, strict=True))
    return [
        Item(
            messages=chats[n],
            answer=answers[n] if each.answer is None else each.answer,
            kind=each.kind or ("harmful" if each.harmful else "harmless"),
            cluster=each.prompt,
            harmless=not each.harmful,
        )
        for n, each in enumerate(prompts)
    ]


async def items_of_dataset(
    name: str, limit: int, split: str | None, upstream: Upstream, model: str, options: Json
) -> list[Item]:
    """Prompts of a data set whose rule decides harm, with the answers of a model.

    Raises:
        DataError: No rule decides there.
        ApiError: The model could not answer.
    """
    loaded = datasets.load(name, limit=limit, split=split)
    questions: list[Question] = list(loaded.questions)
    chats = [list(each.chat.chat()) for each in questions]
    answers = await _answers(upstream, model, chats, options)
    items = []
    for question, chat, answer in zip(questions, chats, answers, strict=True):
        found = decide(question, answer)
        if found is None:
            raise DataError(
                f"data set {name!r} has no rule that says of an answer whether it does harm: give "
                "a file of prompts with labels"
            )
        kind = str(question.meta.get("asks") or found.at_stake or "harmless")
        items.append(Item(list(chat), answer, kind, question.id, found.harmless, question))
    return items


async def _answers(
    upstream: Upstream, model: str, chats: Sequence[list[Any]], options: Json
) -> list[str]:
    """The answers of a model to some chats, in their order, each drawn apart from the others."""
    bound = asyncio.Semaphore(16)

    async def one(number: int, chat: list[Json]) -> str:
        async with bound:
            drawn = {"seed": options["seed"] + number} if "seed" in options else {}
            body = {"model": model, "messages": chat, **options, **drawn}
            answer = await upstream.answer("chat/completions", body)
            return str(answer["choices"][0]["message"]["content"] or "")

    return await all_at_once(one(*each) for each in enumerate(chats))

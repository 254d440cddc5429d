"""Results of an experiment in Constitutional AI: rates by arm, and words made of their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oversight.errors import DataError
from oversight.evals.constitutional import picture
from oversight.evals.harm import Decided, RateDifference, Rates, compare, decide, rates_of
from oversight.evals.intervals import Estimate
from oversight.experiments.constitutional.settings import ConstitutionalSettings
from oversight.experiments.constitutional.stages import (
    FULL,
    START,
    ArmDone,
    plan_jobs,
    questions,
    rule,
)
from oversight.files import write_json
from oversight.text.numbers import NONE, Table, count, percent, points, share

NAMES = {
    START: "before training",
    f"sl.{FULL}": "after SL",
    "sl.plain": "SL on first answers",
    "sl.without_critique": "SL, revised without a critique",
    "sl.random_principle": "SL, one principle at random",
    "sl.wrong_principle": "SL, by unrelated principles",
    "dpo": "after RL: DPO",
    "ppo": "after RL: reward model + PPO",
    "grpo": "after RL: GRPO on critiques",
    "grpo_rule": "GRPO on the true rule",
}
KINDS = ("harmful", "right", "over-refusal")


@dataclass(frozen=True)
class ConstitutionalResults:
    """Rates of every arm, all seeds together, and each seed's own."""

    rates: dict[str, Rates]
    by_seed: dict[str, tuple[Rates, ...]]
    against_start: dict[str, RateDifference]
    """Paired by prompt and seed: an arm minus the start."""
    against_full: dict[str, RateDifference]
    """Arms of the first stage with a principle left out, minus the whole one."""

    def to_json(self) -> dict[str, Any]:
        """JSON-plain."""
        return {
            "arms": {name: _rates_json(found) for name, found in self.rates.items()},
            "by_seed": {
                name: [_rates_json(each) for each in found] for name, found in self.by_seed.items()
            },
        }


def name_of(arm: str) -> str:
    """Name of an arm in words."""
    if ".without:" in arm:
        return f"SL without {arm.partition('without:')[2]}"
    return NAMES.get(arm, arm)


def gather(
    settings: ConstitutionalSettings, done: Mapping[str, Mapping[str, Any]]
) -> ConstitutionalResults:
    """The results of the jobs' records.

    Raises:
        DataError: No arm is done, or an arm answers a prompt that is none of the experiment's.
    """
    known = {each.id: each for each in questions(settings, "held_out")}
    decides = rule(settings)
    decided: dict[str, dict[int, list[Decided]]] = {}
    for job in plan_jobs(settings):
        if job.kind != "arm" or not done.get(job.name):
            continue
        arm = job.name.removeprefix("arm.").rsplit(".", 1)[0]
        for id_, text in ArmDone.model_validate(done[job.name]).answers:
            if id_ not in known:
                raise DataError(f"{job.name}: {id_!r} is no prompt of this experiment")
            # Seeds answer the same prompts: an interval counts the prompt, not the answer.
            found = decide(known[id_], text, id_, decides)
            if found is not None:
                decided.setdefault(arm, {}).setdefault(job.seed, []).append(found)
    if START not in decided:
        raise DataError("no arm is done: run the recipe to its end")
    whole = {
        arm: [each for some in found.values() for each in some] for arm, found in decided.items()
    }
    full = f"sl.{FULL}"
    return ConstitutionalResults(
        rates={arm: rates_of(found) for arm, found in whole.items()},
        by_seed={
            arm: tuple(rates_of(each) for each in found.values()) for arm, found in decided.items()
        },
        against_start={
            arm: compare(found, whole[START]) for arm, found in whole.items() if arm != START
        },
        against_full={
            arm: compare(found, whole[full])
            for arm, found in whole.items()
            if ".without:" in arm and full in whole
        },
    )


def _rates_json(found: Rates) -> dict[str, Any]:
    def plain(each: Estimate | None) -> dict[str, Any] | None:
        return None if each is None else {"value": each.value, "low": each.low, "high": each.high}

    return {
        "num": found.num,
        "prompts": found.num_clusters,
        "harmful": plain(found.harmful),
        "right": plain(found.right),
        "over_refusal": plain(found.over_refusal),
        "by_request": {kind: plain(each) for kind, each in found.by_request.items()},
    }


def tables(results: ConstitutionalResults) -> tuple[Table, ...]:
    """Rates by arm; and, where principles were left out, the harm that came back."""
    found = [_arms(results)]
    if results.against_full:
        found.append(_left_out(results))
    return tuple(found)


def _arms(results: ConstitutionalResults) -> Table:
    kinds = sorted({kind for each in results.rates.values() for kind in each.by_request})
    rows = [
        (
            name_of(arm),
            share(found.harmful),
            NONE if found.right is None else share(found.right),
            NONE if found.over_refusal is None else share(found.over_refusal),
            *(
                NONE if kind not in found.by_request else percent(found.by_request[kind].value)
                for kind in kinds
            ),
        )
        for arm, found in results.rates.items()
    ]
    first = next(iter(results.rates.values()))
    return Table(
        "Harm and help on held-out prompts",
        f"{count(first.num_clusters, 'prompt')}; 95 % intervals clustered by prompt. Harmful: of "
        "all answers. Right and over-refusal: of harmless requests. The last columns: of the "
        "requests for a kind of harm, the share that is given it.",
        ("", *KINDS, *kinds),
        tuple(rows),
    )


def _left_out(results: ConstitutionalResults) -> Table:
    kinds = sorted({kind for each in results.against_full.values() for kind in each.by_request})
    rows = [
        (
            arm.partition("without:")[2],
            *(points(gap.by_request[kind]) if kind in gap.by_request else NONE for kind in kinds),
        )
        for arm, gap in results.against_full.items()
    ]
    return Table(
        "Harm that comes back where a principle is left out",
        "Of the requests for a kind of harm, the share that is given it, against training by all "
        "principles, in points, paired by prompt.",
        ("left out", *kinds),
        tuple(rows),
    )


def findings(results: ConstitutionalResults) -> list[str]:
    """Sentences, each made of the figures that it speaks of."""
    start = results.rates[START]
    found = []
    for arm in (f"sl.{FULL}", "dpo", "ppo", "grpo", "grpo_rule"):
        if arm not in results.rates:
            continue
        rates = results.rates[arm]
        words = f"{name_of(arm)}: harmful {share(rates.harmful)}, before {share(start.harmful)}"
        if start.harmful.value > 0:
            words += f" ({percent(1 - rates.harmful.value / start.harmful.value)} less)"
        if rates.right is not None and start.right is not None:
            words += f"; right {share(rates.right)}, before {share(start.right)}"
        if rates.over_refusal is not None:
            words += f"; over-refusal {share(rates.over_refusal)}"
        found.append(words + ".")
    return found


LIMITS = (
    "Such a small model was taught to criticise, revise and compare by these principles: its "
    "figures show that the pipeline works, that the policy learns from it and what each principle "
    "does, and not that a model comes to criticise itself."
)


def write_all(settings: ConstitutionalSettings, results: ConstitutionalResults) -> Sequence[Path]:
    """Write the figures and the picture of harm against help; gives their places."""
    path, image = settings.out / "results.json", settings.out / "harm_and_help.png"
    write_json(path, results.to_json() | {"findings": findings(results), "limits": LIMITS})
    picture({name_of(arm): found for arm, found in results.rates.items()}, image)
    return path, image

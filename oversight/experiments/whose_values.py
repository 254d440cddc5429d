"""Reward models of one pool of ratings, by what becomes of the raters' disagreement.

People in groups with known values compare pairs of generated texts (`judged_texts.py`). Their
ratings become preference rows by the project's own path, and rows train reward models by its own
trainer (`train/reward.py`):

majority
    The word of most people who compared a pair, for certain; pairs without one are left out.
majority, weighted
    The same, each row weighed by how far the majority is from a tie.
majority, margins
    The same, the better response's reward asked to lead by so much more the clearer the majority.
soft labels
    The share of people for either response.
a model a group
    Soft labels of each group's own people; a question's response is chosen by maximin.
a model a group, shuffled
    The control: people's names drawn anew within each pair, so that groups are known no more.

On held-out questions the single models choose what they reward most. A question's worths are
scaled to 0 (a group's worst response) to 1 (its best): only so can several models, whose zero and
unit are arbitrary, be compared; regret is 1 minus the worth of the choice, by the known values.
Beside these stand a random choice, maximin by the known values, and a world in which all groups
hold the mean of their values, where nothing is to be gained.

    python -m oversight.experiments.whose_values recipes/panels/whose_values.toml [--quick]

Shapes: G groups, Q questions, A alternatives, K words of a response.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from pydantic import Field, JsonValue, field_validator, model_validator

from oversight.config import Settings, load_recipe
from oversight.errors import OversightError
from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.experiments.judged_texts import (
    Floats,
    GroupValues,
    HeldOut,
    Ints,
    compared,
    maximin,
    people_of,
    scaled,
    stored_prompt,
)
from oversight.experiments.trainer_runs import check_run, merged, tokenizer_of, train_or_find
from oversight.preferences.building import preferences
from oversight.preferences.settings import PreferenceSettings
from oversight.text.numbers import Table
from oversight.train import reward
from oversight.train.data.loading import load_comparisons
from oversight.train.experience_settings import SourceSettings
from oversight.train.rollouts.reward_models import RewardModels
from oversight.train.settings import DataSettings
from oversight.types import Preference, Transcript

QUICK = {"seeds": (0,), "pairs": 900, "questions": 120, "reward": {"steps": 50}}
DIFFER, ALIKE = "groups differ", "groups alike"


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make rows of ratings, and to train on them."""

    name: str
    rows: dict[str, Any] = field(default_factory=dict)
    """Settings of the rows."""
    soft: bool = False
    """True if the rows' probabilities are learnt, and not only who won."""
    by_group: bool = False
    """True of one model a group, of the words of its own people."""
    shuffled: bool = False
    worlds: tuple[str, ...] = (DIFFER,)


MAJORITY = "majority"
WORD: dict[str, Any] = {"combine": "majority", "ties": False}
SHARES: dict[str, Any] = {"combine": "majority"}
METHODS = (
    Method(MAJORITY, WORD, worlds=(DIFFER, ALIKE)),
    Method("majority, weighted", WORD | {"weight": "margin"}),
    Method("majority, margins", WORD | {"margin": 1.0}),
    Method("soft labels", SHARES, soft=True, worlds=(DIFFER, ALIKE)),
    Method("a model a group", SHARES, soft=True, by_group=True, worlds=(DIFFER, ALIKE)),
    Method("a model a group, shuffled", SHARES, soft=True, by_group=True, shuffled=True),
)
RANDOM, KNOWN = "random", "known values"

OWN: dict[str, Any] = {
    "model": {
        "scratch": {
            "hidden_size": 32,
            "num_layers": 1,
            "num_heads": 2,
            "vocab_size": 400,
            "max_length": 64,
            "init_std": 0.1,
        },
        "device": "cpu",
    },
    "optimizer": {"lr": 5e-3, "schedule": "cosine"},
    "batch_size": 64,
    "steps": 100,
    "log_every": 60,
    "save_every": 1000,
    "keep": 1,
}
"""Settings of a reward model, unless the recipe has others."""


class WhoseValuesSettings(Settings):
    """Settings of the experiment."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """One world, one pool of ratings and one model of each kind for each."""
    groups: tuple[int, ...] = Field(default=(12, 6, 2), min_length=2)
    """Number of people in each group; two or more each."""
    judges: int = Field(default=6, ge=2)
    """People who compare a pair, drawn from all groups."""
    pairs: int = Field(default=2400, ge=64)
    """Pairs of responses that are compared."""
    questions: int = Field(default=400, ge=2)
    """Held-out questions."""
    alternatives: int = Field(default=5, ge=2)
    """Responses to each."""
    margin: float = Field(default=2.0, gt=0.0)
    """Margin of a pair on which all people agree, where margins are learnt."""
    reward: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the reward trainer, in place of single ones of the experiment."""

    @field_validator("groups")
    @classmethod
    def _groups(cls, groups: tuple[int, ...]) -> tuple[int, ...]:
        if min(groups) < 2:
            raise ValueError(f"{groups}: one person is no group; give each two or more")
        return groups

    @model_validator(mode="after")
    def _enough(self) -> WhoseValuesSettings:
        if self.judges > sum(self.groups):
            raise ValueError(
                f"judges = {self.judges}: there are {sum(self.groups)} people in all groups"
            )
        return self

    @property
    def shares(self) -> Floats:
        """Share of all people in each group."""
        return np.array(self.groups) / sum(self.groups)


def rows_of_ratings(
    rated: Sequence[Transcript], method: Method, settings: WhoseValuesSettings, group: int | None
) -> list[Preference]:
    """Preference rows of the ratings as the method makes them, of all people or of one group."""
    people = people_of(settings.groups)
    own = [name for name, of in people.items() if group is None or of == f"group {group + 1}"]
    given = dict(method.rows)
    if "margin" in given:
        given["margin"] = settings.margin
    chosen = PreferenceSettings.parse(given | {"kinds": ("pairs",), "judges": tuple(own)})
    return list(preferences(rated, chosen, stored_prompt))


def trainer_settings(
    settings: WhoseValuesSettings, out: Path, seed: int, *, soft: bool
) -> dict[str, Any]:
    """All settings of one reward model's run."""
    own = {"out": str(out), "seed": seed, "soft_labels": soft, "data": {}}
    return merged(OWN, own, settings.reward)


def trained(
    rated: Sequence[Transcript],
    method: Method,
    settings: WhoseValuesSettings,
    out: Path,
    seed: int,
) -> list[Path]:
    """Folders of the reward models of one method: one, or one a group."""
    groups = list(range(len(settings.groups))) if method.by_group else [None]
    found = []
    for group in groups:
        rows = rows_of_ratings(rated, method, settings, group)
        place = out if group is None else out / f"group-{group + 1}"
        config = trainer_settings(settings, place, seed, soft=method.soft)
        found.append(train_or_find(reward, config, rows=rows))
    return found


def rewards_of(model: Path, held_out: HeldOut) -> Floats:
    """The rewards (Q, A) of a trained model on held-out questions."""
    tokenizer = tokenizer_of(str(model))
    told = DataSettings(duplicates="keep", on_bad="error")
    loaded = load_comparisons(told, tokenizer, len(tokenizer), rows=held_out.rows)
    models = RewardModels.load(SourceSettings(models=(str(model),)), tokenizer, "cpu")
    scored = models.score_rows([row for each in loaded.examples for row in each.rows()])
    return np.array(scored).reshape(len(held_out.rows), -1)


@dataclass(frozen=True, slots=True)
class MethodRegret:
    """Regret of the choices of one method, over all seeds' held-out questions."""

    world: str
    method: str
    by_group: tuple[Estimate, ...]
    by_seed: tuple[float, ...]
    """Regret of the worst-off group in each seed."""
    mean: Estimate
    """Over people: groups weighted by their sizes."""

    @property
    def worst(self) -> Estimate:
        """Regret of the group that is worst off over all seeds."""
        return max(self.by_group, key=lambda each: each.value)


@dataclass(frozen=True, slots=True)
class MethodLead:
    """Distance of rewards on held-out pairs, where groups agree which is better and where not."""

    method: str
    agreed: Estimate
    contested: Estimate
    right: Estimate
    """Share of the pairs agreed on in which the reward is on the groups' side."""


@dataclass(frozen=True, slots=True)
class WhoseValuesResults:
    """Results of a run."""

    regrets: tuple[MethodRegret, ...]
    gains: tuple[tuple[str, str, Estimate], ...]
    """World, method, and how much less the worst-off group of the majority regrets under it."""
    leads: tuple[MethodLead, ...]
    """Of single reward models where groups differ."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """One method on one seed's held-out questions."""

    regret_QG: Floats
    leads: tuple[tuple[Any, bool, float, bool], ...] = ()
    """Of pairs of alternatives: question, whether groups agree, distance, whether it is theirs."""


def run(settings: WhoseValuesSettings, out: Path) -> WhoseValuesResults:
    """Train and measure every method in every seed; finished models in `out` are found again.

    Raises:
        ConfigError: The trainer refuses a setting of the table `reward`.
    """
    check_run("reward", reward, trainer_settings(settings, out, 0, soft=True), settings.reward)
    found: dict[tuple[str, str], list[_Measured]] = {}
    for seed in settings.seeds:
        rng = np.random.default_rng([seed, 0])
        differing = GroupValues.drawn(len(settings.groups), rng)
        for world, values in ((DIFFER, differing), (ALIKE, differing.alike())):
            place = out / f"seed-{seed}" / world.replace(" ", "-")
            for name, measured in _measure(values, world, settings, place, seed):
                found.setdefault((world, name), []).append(measured)
    clusters = [(seed, q) for seed in settings.seeds for q in range(settings.questions)]
    regrets = {key: np.concatenate([each.regret_QG for each in of]) for key, of in found.items()}
    return WhoseValuesResults(
        tuple(
            MethodRegret(
                world=world,
                method=name,
                by_group=tuple(mean_interval(list(each), clusters) for each in regret_QG.T),
                by_seed=tuple(float(one.regret_QG.mean(0).max()) for one in found[world, name]),
                mean=mean_interval(list(regret_QG @ settings.shares), clusters),
            )
            for (world, name), regret_QG in regrets.items()
        ),
        tuple(_gains(regrets, clusters)),
        tuple(_lead(name, of) for (_, name), of in found.items() if of[0].leads),
    )


def _gains(
    regrets: dict[tuple[str, str], Floats], clusters: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, str, Estimate]]:
    for (world, name), regret_QG in regrets.items():
        if name in (RANDOM, KNOWN, MAJORITY):
            continue
        base_QG = regrets[world, MAJORITY]
        group = int(base_QG.mean(0).argmax())
        gain = paired_difference(
            list(zip(clusters, base_QG[:, group], strict=True)),
            list(zip(clusters, regret_QG[:, group], strict=True)),
        )
        if gain is not None:
            yield world, name, gain


def _measure(
    values: GroupValues, world: str, settings: WhoseValuesSettings, place: Path, seed: int
) -> Iterator[tuple[str, _Measured]]:
    """Each method's regrets on the held-out questions of one seed and world."""
    held_out = HeldOut.drawn(values, settings.questions, settings.alternatives, (seed, 1))
    scaled_QAG = scaled(held_out.worths_QAG)
    places = np.arange(settings.questions)

    def regret(chosen_Q: Ints) -> Floats:
        missed: Floats = 1.0 - scaled_QAG[places, chosen_Q]
        return missed

    rng = np.random.default_rng([seed, 3])
    yield RANDOM, _Measured(regret(rng.integers(settings.alternatives, size=settings.questions)))
    for shuffled in (False, True):
        used = [each for each in METHODS if world in each.worlds and each.shuffled == shuffled]
        rated = list(
            compared(
                *(values, settings.groups, settings.pairs, settings.judges, (seed, 2)),
                shuffled=shuffled,
            )
            if used
            else ()
        )
        for method in used:
            out = place / method.name.replace(",", "").replace(" ", "-")
            models = trained(rated, method, settings, out, seed)
            rewards_QAG = np.stack([rewards_of(each, held_out) for each in models], axis=2)
            if method.by_group:
                yield method.name, _Measured(regret(maximin(rewards_QAG)))
                continue
            leads = tuple(_leads(rewards_QAG[:, :, 0], held_out.worths_QAG, seed))
            chosen_Q = rewards_QAG[:, :, 0].argmax(1)
            yield method.name, _Measured(regret(chosen_Q), leads if world == DIFFER else ())
    yield KNOWN, _Measured(regret(maximin(held_out.worths_QAG)))


def _leads(
    rewards_QA: Floats, worths_QAG: Floats, seed: int
) -> Iterator[tuple[Any, bool, float, bool]]:
    """Question, agreement of groups, distance of rewards and its side, for pairs of responses."""
    for q, (rewards_A, worths_AG) in enumerate(zip(rewards_QA, worths_QAG, strict=True)):
        for one, two in combinations(range(len(rewards_A)), 2):
            first_G = worths_AG[one] > worths_AG[two]
            gap = float(rewards_A[one] - rewards_A[two])
            agreed = bool(first_G.all() or not first_G.any())
            yield (seed, q), agreed, abs(gap), agreed and (gap > 0) == bool(first_G[0])


def _lead(name: str, measured: Sequence[_Measured]) -> MethodLead:
    pairs = [each for one in measured for each in one.leads]
    agreed, contested = ([p for p in pairs if p[1] is which] for which in (True, False))
    by_kind = [
        mean_interval([p[2] for p in some], [p[0] for p in some], bounds=None)
        for some in (agreed, contested)
    ]
    right = mean_interval([float(p[3]) for p in agreed], [p[0] for p in agreed])
    return MethodLead(name, by_kind[0], by_kind[1], right)


def whose_values_tables(
    results: WhoseValuesResults, settings: WhoseValuesSettings
) -> tuple[Table, ...]:
    """Regret by method and group, gains on the majority, and the distance of rewards."""
    groups = [f"group of {share:.0%}" for share in settings.shares]
    first = Table(
        title="Regret of groups on held-out questions",
        note="0 is a group's own best alternative, 1 its worst. Intervals are of 95 %, clustered "
        "by question; the worst-off group of each seed stands last.",
        columns=("groups", "chosen by", *groups, "all people", "worst off, by seed"),
        rows=tuple(
            (
                row.world,
                row.method,
                *(_shown(each) for each in row.by_group),
                _shown(row.mean),
                " ".join(f"{each:.3f}" for each in row.by_seed),
            )
            for row in results.regrets
        ),
    )
    second = Table(
        title="Less regret for the group that the majority leaves worst off",
        note="The majority's regret minus the method's, on the same questions.",
        columns=("groups", "method", "difference"),
        rows=tuple((world, method, _shown(gain)) for world, method, gain in results.gains),
    )
    third = Table(
        title="Distance of rewards on held-out pairs",
        note="Of pairs of one question's responses, by whether all groups agree which is better; "
        "right: the share of those agreed on in which the reward says so too.",
        columns=("method", "agreed", "contested", "right"),
        rows=tuple(
            (each.method, _shown(each.agreed), _shown(each.contested), _shown(each.right))
            for each in results.leads
        ),
    )
    return first, second, third


def _shown(each: Estimate) -> str:
    if each.low is None or each.high is None:
        return f"{each.value:.3f}"
    return f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"


def as_text(tables: Sequence[Table]) -> str:
    """The tables as aligned plain text."""
    parts = []
    for table in tables:
        rows = [table.columns, *table.rows]
        widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        parts.append("\n".join([table.title, *lines, table.note]))
    return "\n\n".join(parts) + "\n"


def _head(recipe: Path, settings: WhoseValuesSettings, *, quick: bool, cpu_s: float) -> str:
    """Command, versions, seeds and time, as they stand above the figures."""
    command = f"python -m {__spec__.name if __spec__ else __name__} {recipe}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("oversight", "torch", "numpy"))
    return (
        f"command   {command}{' --quick' if quick else ''}\n"
        f"versions  Python {sys.version.split()[0]}, {versions}\n"
        f"seeds     {', '.join(map(str, settings.seeds))}\n"
        f"time      {cpu_s:.0f} s of CPU\n\n"
    )


def main(
    recipe: Annotated[Path, typer.Argument(help="TOML file with the settings.")],
    quick: Annotated[bool, typer.Option(help="One seed, fewer pairs, questions, steps.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the models, which a later run finds again.", show_default=""),
    ] = None,
) -> None:
    """Train reward models on people's ratings and print each group's regret."""
    torch.set_num_threads(1)
    start = time.process_time()
    try:
        settings = load_recipe(WhoseValuesSettings, recipe, QUICK if quick else {})
        with TemporaryDirectory() as kept_no_longer:
            results = run(settings, out or Path(kept_no_longer))
    except OversightError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(_head(recipe, settings, quick=quick, cpu_s=time.process_time() - start), nl=False)
    typer.echo(as_text(whose_values_tables(results, settings)), nl=False)


if __name__ == "__main__":
    typer.run(main)

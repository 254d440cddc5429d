"""Reward models of one pool of judgments, by what becomes of the judges' disagreement.

Groups of judges with known values compare pairs of responses. The same votes train a reward model
on the majority's word, on soft labels (the share of votes), and with one head a group, each learnt
from that group's votes. On held-out questions the first two choose what they reward most; the heads
choose by maximin. The regret of each group is by its known values, on other responses.

A response is a vector of features: the first is quality, which all groups like; each group likes
one further direction of its own, and the first two groups' are opposed. Values have a product of
two features in them, so that nothing linear suffices. A question's worths are scaled to 0 (a
group's worst alternative) to 1 (its best): only so can heads, whose zero and unit are arbitrary,
be compared, and regret is 1 minus the worth of the choice.

Two controls: the same heads with the judges' groups shuffled, which can know nothing of groups; and
groups that all hold the mean of their values, where nothing is to be gained.

    python -m oversight.experiments.whose_values recipes/panels/whose_values.toml [--quick]

Shapes: N pairs, G groups, Q questions, A alternatives, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn

from oversight.config import Settings, load_recipe
from oversight.errors import OversightError
from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.text.numbers import Table
from oversight.train.losses.reward import bradley_terry

Floats = NDArray[np.float64]
Method = Literal["random", "majority", "soft labels", "heads", "heads, shuffled", "known values"]
METHODS: tuple[Method, ...] = (
    "random",
    "majority",
    "soft labels",
    "heads",
    "heads, shuffled",
    "known values",
)
TRAINED: tuple[Method, ...] = ("majority", "soft labels", "heads", "heads, shuffled")
QUICK = {"seeds": (0, 1), "pairs": 1500, "questions": 150, "steps": 200}
CONTENTION = 1.6
"""Size of a group's own direction, beside quality's 1."""


class WhoseValuesSettings(Settings):
    """Settings of the experiment."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """One world, one pool of votes and one model of each kind for each."""
    pairs: int = Field(default=4000, ge=20)
    """Pairs of responses that are judged."""
    judges: int = Field(default=6, ge=2)
    """Judges of each pair, drawn by the sizes of groups."""
    sizes: tuple[float, ...] = Field(default=(0.6, 0.3, 0.1), min_length=2)
    """Shares of the judges in each group; together 1."""
    questions: int = Field(default=400, ge=2)
    """Held-out questions."""
    alternatives: int = Field(default=5, ge=2)
    """Responses to each."""
    features: int = Field(default=10, ge=4)
    """Numbers that a response is made of."""
    hidden: int = Field(default=48, ge=1)
    """Width of the reward model's hidden layers."""
    steps: int = Field(default=500, ge=1)
    """Steps of AdamW on 512 pairs."""

    @field_validator("sizes")
    @classmethod
    def _shares(cls, sizes: tuple[float, ...]) -> tuple[float, ...]:
        if min(sizes) <= 0.0 or abs(sum(sizes) - 1.0) > 1e-6:
            raise ValueError(f"{sizes} are not shares above 0 that sum to 1")
        return sizes


@dataclass(frozen=True, slots=True)
class GroupValues:
    """Known values of groups: what each likes in a response, linearly and as a product."""

    linear_GD: Floats
    product_G: Floats

    @classmethod
    def drawn(cls, settings: WhoseValuesSettings, rng: np.random.Generator) -> GroupValues:
        """Values with quality in common; the first two groups want opposite things."""
        groups, features = len(settings.sizes), settings.features
        own_GD = rng.normal(size=(groups, features))
        own_GD[:, 0] = 0.0
        own_GD[1] = -own_GD[0] + 0.3 * own_GD[1]
        own_GD *= CONTENTION / np.linalg.norm(own_GD, axis=1, keepdims=True)
        own_GD[:, 0] = 1.0
        return cls(own_GD, rng.normal(size=groups))

    def alike(self) -> GroupValues:
        """Every group with the mean of all values: the control."""
        return GroupValues(
            np.repeat(self.linear_GD.mean(0, keepdims=True), len(self.linear_GD), 0),
            np.repeat(self.product_G.mean(keepdims=True), len(self.product_G)),
        )

    def worths(self, responses: Floats) -> Floats:
        """Each group's worth (..., G) of responses (..., D)."""
        found: Floats = responses @ self.linear_GD.T
        found += (responses[..., 1] * responses[..., 2])[..., None] * self.product_G
        return found


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Pairs of responses, and how many judges of each group were for the first, and in all."""

    first_ND: Floats
    second_ND: Floats
    for_first_NG: Floats
    given_NG: Floats


def votes_of(
    values: GroupValues, settings: WhoseValuesSettings, rng: np.random.Generator, *, shuffled: bool
) -> JudgedPairs:
    """Judged pairs; a judge is for the first with the logistic probability of the two worths.

    Args:
        values: Of the groups.
        settings: Numbers.
        rng: Draws the pairs, the judges and their words.
        shuffled: Each judge's group is drawn anew afterwards, apart from what they said.
    """
    shape = (2, settings.pairs, settings.features)
    first_ND, second_ND = rng.normal(size=shape)
    gap_NG = values.worths(first_ND) - values.worths(second_ND)
    groups = len(settings.sizes)
    who_NJ = rng.choice(groups, size=(settings.pairs, settings.judges), p=settings.sizes)
    p_NJ = 1.0 / (1.0 + np.exp(-np.take_along_axis(gap_NG, who_NJ, 1)))
    said_NJ = rng.random(p_NJ.shape) < p_NJ
    if shuffled:
        who_NJ = rng.choice(groups, size=who_NJ.shape, p=settings.sizes)
    is_of_NJG = np.eye(groups)[who_NJ]
    for_first = (is_of_NJG * said_NJ[..., None]).sum(1)
    return JudgedPairs(first_ND, second_ND, for_first, is_of_NJG.sum(1))


def trained(
    method: Method, votes: JudgedPairs, settings: WhoseValuesSettings, seed: int
) -> nn.Module:
    """A reward model of one head, or of one a group, trained on the votes.

    The loss is the project's `bradley_terry`: majority labels with ties as ties; shares of votes
    as soft labels; for heads each group's share, weighted by its number of votes on that pair.
    """
    groups = votes.given_NG.shape[1] if method.startswith("heads") else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(settings.features, settings.hidden),
            nn.GELU(),
            nn.Linear(settings.hidden, settings.hidden),
            nn.GELU(),
            nn.Linear(settings.hidden, groups),
        )
    first, second = (_tensor(each) for each in (votes.first_ND, votes.second_ND))
    if groups == 1:
        given_NG = votes.given_NG.sum(1, keepdims=True)
        share_NG = votes.for_first_NG.sum(1, keepdims=True) / given_NG
    else:
        given_NG = votes.given_NG
        share_NG = np.where(given_NG > 0, votes.for_first_NG / np.maximum(given_NG, 1), 0.5)
    if method == "majority":
        share_NG = np.sign(share_NG - 0.5) / 2 + 0.5
    # A group's rows weigh 1 on average, however few its judges are.
    weight_NG = given_NG / np.maximum(given_NG.mean(0, keepdims=True), 1e-9)
    share, weight = _tensor(share_NG), _tensor(weight_NG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    order = np.random.default_rng(seed)
    for _ in range(settings.steps):
        rows = torch.from_numpy(order.integers(len(first), size=min(512, len(first))))
        one, two = model(first[rows]).flatten(), model(second[rows]).flatten()
        loss, _ = bradley_terry(
            one,
            two,
            normalizer=float(one.numel()),
            soft_label_B=share[rows].flatten(),
            weight_B=weight[rows].flatten(),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


def _tensor(array: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def scaled(worths_QAG: Floats) -> Floats:
    """Worths from 0, the worst alternative to that group, to 1, its best."""
    low, high = worths_QAG.min(1, keepdims=True), worths_QAG.max(1, keepdims=True)
    found: Floats = (worths_QAG - low) / np.maximum(high - low, 1e-12)
    return found


def maximin(worths_QAG: Floats) -> NDArray[np.intp]:
    """The alternative (Q) whose scaled worth to the group that likes it least is greatest."""
    found: NDArray[np.intp] = scaled(worths_QAG).min(2).argmax(1)
    return found


@dataclass(frozen=True, slots=True)
class MethodRegret:
    """Regret of the choices of one method, over all seeds' held-out questions."""

    world: str
    method: Method
    by_group: tuple[Estimate, ...]
    by_seed: tuple[float, ...]
    """Regret of the worst-off group in each seed."""
    mean: Estimate
    """Over judges: groups weighted by their sizes."""

    @property
    def worst(self) -> Estimate:
        """Regret of the group that is worst off over all seeds."""
        return max(self.by_group, key=lambda each: each.value)


@dataclass(frozen=True, slots=True)
class WhoseValuesResults:
    """Results of a run: a row a method and world, and differences from the majority."""

    regrets: tuple[MethodRegret, ...]
    gains: tuple[tuple[str, str, Estimate], ...]
    """World, method, and how much less the worst-off group of the majority regrets under it."""


def run(settings: WhoseValuesSettings) -> WhoseValuesResults:
    """Train and measure every method in every seed, where groups differ and where they do not."""
    found: dict[tuple[str, Method], list[Floats]] = {}
    for seed in settings.seeds:
        differing = GroupValues.drawn(settings, np.random.default_rng([seed, 0]))
        worlds = {"groups differ": differing, "groups alike": differing.alike()}
        for world, values in worlds.items():
            for method, regret_QG in _regrets(values, settings, seed).items():
                found.setdefault((world, method), []).append(regret_QG)
    rows, gains = [], []
    clusters = [(seed, q) for seed in settings.seeds for q in range(settings.questions)]
    for (world, method), by_seed in found.items():
        regret_QG = np.concatenate(by_seed)
        row = MethodRegret(
            world=world,
            method=method,
            by_group=tuple(mean_interval(list(each), clusters) for each in regret_QG.T),
            by_seed=tuple(float(each.mean(0).max()) for each in by_seed),
            mean=mean_interval(list(regret_QG @ np.array(settings.sizes)), clusters),
        )
        rows.append(row)
        if method in TRAINED and method != "majority":
            base_QG = np.concatenate(found[world, "majority"])
            group = int(base_QG.mean(0).argmax())
            gain = paired_difference(
                list(zip(clusters, base_QG[:, group], strict=True)),
                list(zip(clusters, regret_QG[:, group], strict=True)),
            )
            if gain is not None:
                gains.append((world, str(method), gain))
    return WhoseValuesResults(tuple(rows), tuple(gains))


def _regrets(values: GroupValues, settings: WhoseValuesSettings, seed: int) -> dict[Method, Floats]:
    """Regret (Q, G) of each method's choices on the held-out questions of one seed."""
    rng = np.random.default_rng([seed, 1])
    shape = (settings.questions, settings.alternatives, settings.features)
    responses_QAD = rng.normal(size=shape)
    worths_QAG = values.worths(responses_QAD)
    chosen: dict[Method, NDArray[np.intp]] = {
        "random": rng.integers(settings.alternatives, size=settings.questions)
    }
    for method in TRAINED:
        shuffled = method == "heads, shuffled"
        votes = votes_of(values, settings, np.random.default_rng([seed, 2]), shuffled=shuffled)
        model = trained(method, votes, settings, seed)
        with torch.no_grad():
            rewards_QAG = model(_tensor(responses_QAD)).double().numpy()
        several = rewards_QAG.shape[2] > 1
        chosen[method] = maximin(rewards_QAG) if several else rewards_QAG[:, :, 0].argmax(1)
    chosen["known values"] = maximin(worths_QAG)
    scaled_QAG = scaled(worths_QAG)
    places = np.arange(settings.questions)
    return {method: 1.0 - scaled_QAG[places, chosen[method]] for method in METHODS}


def tables(results: WhoseValuesResults, settings: WhoseValuesSettings) -> list[Table]:
    """The regret by method and group, and the gain of the worst-off group on the majority."""
    groups = [f"group of {size:.0%}" for size in settings.sizes]
    first = Table(
        title="Regret of groups on held-out questions",
        note="0 is a group's own best alternative, 1 its worst. Intervals are of 95 %, clustered "
        "by question; the worst-off group of each seed stands last.",
        columns=("groups", "chosen by", *groups, "all judges", "worst off, by seed"),
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
    return [first, second]


def _shown(each: Estimate) -> str:
    if each.low is None or each.high is None:
        return f"{each.value:.3f}"
    return f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"


def as_text(tables_: Sequence[Table]) -> str:
    """The tables as aligned plain text."""
    parts = []
    for table in tables_:
        rows = [table.columns, *table.rows]
        widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        parts.append("\n".join([table.title, *lines, table.note]))
    return "\n\n".join(parts) + "\n"


def main(
    recipe: Annotated[Path, typer.Argument(help="TOML file with the settings.")],
    quick: Annotated[bool, typer.Option(help="Fewer seeds, pairs and questions.")] = False,
) -> None:
    """Train reward models on groups' votes and print each group's regret."""
    try:
        settings = load_recipe(WhoseValuesSettings, recipe, QUICK if quick else {})
    except OversightError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(as_text(tables(run(settings), settings)), nl=False)


if __name__ == "__main__":
    typer.run(main)

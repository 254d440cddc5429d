"""Circuits over many pairs of rows: parts of a model that a difference of answers goes through.

A pair is a clean and a corrupted row of as many tokens that differ in one thing. Its tokens stand
in named groups ("day of the wrong side's quote"), which are the same in all pairs, so that a place
in one pair is a place in another: a head at a group of tokens, or the stream there.

attributed     first-order estimates at all places, by one gradient a pair (Nanda 2023; Syed et al.
               2023, arXiv:2310.10348).
patched        differences of logits with sets of places put in from the clean run, or from
               another one (Vig et al. 2020, arXiv:2004.12265).
path_patched   the same of what goes from one head to another, all other heads held as they were
               and feed-forward layers computed anew (Wang et al. 2022, arXiv:2211.00593;
               Goldowsky-Dill et al. 2023, arXiv:2304.05969).
study_circuit  places chosen by attribution on some questions, and confirmed by patching on others
               beside random places of the same number and runs on unrelated rows.

A share is the sum of what comes back over all pairs by the sum of the differences, (patched -
corrupted) / (clean - corrupted), with an interval clustered by question: a pair in which there is
hardly a difference has hardly a weight.

Shapes: N pairs, n tokens of a row, S sets of places, A places.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.evals.intervals import Estimate, mean_interval
from oversight.interp.patching import FINAL, PatchPlace, attribution_patching, patch_edit
from oversight.interp.probes import Floats64
from oversight.interp.reading import SiteReader
from oversight.modeling import Ids
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.sites import Site, SiteEdit

BATCH = 48
"""Edited rows of a pass."""
LEVEL_OF_BEHAVIOUR = 0.99
"""Coverage of the interval that has to leave 0 out before anything is claimed."""


@dataclass(frozen=True, slots=True, eq=False)
class PatchPair:
    """Two rows that differ in one thing, and the tokens that are right and wrong after both."""

    clean: Ids
    corrupted: Ids
    right: int
    wrong: int
    question: str
    """That intervals are clustered by."""
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Tokens by name, from 0."""

    def __post_init__(self) -> None:
        if len(self.clean) != len(self.corrupted):
            raise ConfigError(
                f"pair of question {self.question!r}: the clean row has {len(self.clean)} tokens "
                f"and the corrupted one {len(self.corrupted)}: a place in one has to be the same "
                "place in the other"
            )


@dataclass(frozen=True, order=True, slots=True)
class GroupPlace:
    """A site at a group of tokens, and of heads one head."""

    site: Site
    group: str = ""
    """Empty for all tokens."""
    head: int | None = None

    def __str__(self) -> str:
        head = "" if self.head is None else f".{self.head}"
        return f"{self.site}{head}{f' at {self.group}' if self.group else ''}"

    def of(self, pair: PatchPair) -> PatchPlace:
        """The place in one pair.

        Raises:
            ConfigError: The pair has no such group.
        """
        if not self.group:
            return PatchPlace(self.site, None, self.head)
        if self.group not in pair.groups:
            raise ConfigError(
                f"pair of question {pair.question!r}: no group {self.group!r}; there are "
                f"{', '.join(pair.groups)}"
            )
        return PatchPlace(self.site, pair.groups[self.group], self.head)


def _policy(reader: SiteReader) -> PolicyModel:
    if reader.policy is None:
        raise ConfigError(f"patching runs over a token trie: {reader.alone}")
    return reader.policy


def _logit_gaps(
    policy: PolicyModel,
    rows: Sequence[Ids],
    pairs: Sequence[PatchPair],
    edits: Sequence[Sequence[SiteEdit]] | None = None,
) -> Floats64:
    """logit(right) - logit(wrong) after each row, the tokens those of its pair, [N]."""
    found = policy.read_sites(rows, [FINAL], [[len(ids) - 1] for ids in rows], edits)
    logits_NV = policy.head.logits(torch.cat([own[FINAL] for own in found]), 1.0)
    at = torch.arange(len(rows))
    right, wrong = (torch.tensor([getattr(p, name) for p in pairs]) for name in ("right", "wrong"))
    gaps: Floats64 = (logits_NV[at, right] - logits_NV[at, wrong]).double().cpu().numpy()
    return gaps


@torch.no_grad()
def behaviour(reader: SiteReader, pairs: Sequence[PatchPair]) -> tuple[Floats64, Floats64]:
    """logit(right) - logit(wrong) after the clean and the corrupted row of each pair, [N] both."""
    policy = _policy(reader)
    both = []
    for name in ("clean", "corrupted"):
        parts = []
        for begin in range(0, len(pairs), BATCH):
            some = pairs[begin : begin + BATCH]
            parts.append(_logit_gaps(policy, [getattr(pair, name) for pair in some], some))
        both.append(np.concatenate(parts))
    return both[0], both[1]


def attributed(
    reader: SiteReader, pairs: Sequence[PatchPair], places: Sequence[GroupPlace]
) -> Floats64:
    """First-order estimates [A, N] of how much each place alone changes the difference of logits
    when it is put in from the clean run, in logits."""
    found = np.zeros((len(places), len(pairs)))
    for k, pair in enumerate(pairs):
        at = [place.of(pair) for place in places]
        effects = attribution_patching(
            reader, pair.clean, pair.corrupted, pair.right, pair.wrong, at
        )
        whole = effects.clean - effects.corrupted
        found[:, k] = [effects.effects[place] * whole for place in at]
    return found


@torch.no_grad()
def patched(
    reader: SiteReader,
    pairs: Sequence[PatchPair],
    sets: Sequence[Sequence[GroupPlace]],
    sources: Sequence[Ids] | None = None,
    rows: Sequence[Ids] | None = None,
) -> Floats64:
    """logit(right) - logit(wrong) [S, N] with all places of a set put into a row at once.

    Args:
        reader: The model.
        pairs: Whose corrupted rows are run.
        sets: Of places.
        sources: Rows that the values are of; those of the clean ones where None.
        rows: Rows that are run; the corrupted ones where None.

    Raises:
        ConfigError: A source has not as many tokens as its pair, or there is no such place.
    """
    policy = _policy(reader)
    given = sources if sources is not None else [pair.clean for pair in pairs]
    run = rows if rows is not None else [pair.corrupted for pair in pairs]
    for pair, source, row in zip(pairs, given, run, strict=True):
        if not len(source) == len(row) == len(pair.clean):
            raise ConfigError(
                f"pair of question {pair.question!r} has {len(pair.clean)} tokens, and the rows "
                f"that are patched into one another {len(source)} and {len(row)}"
            )
    sites = list(dict.fromkeys(place.site for each in sets for place in each))
    found = np.zeros((len(sets), len(pairs)))
    jobs: list[tuple[int, int]] = []
    edits: list[list[SiteEdit]] = []

    def work() -> None:
        numbers = [k for _, k in jobs]
        gaps = _logit_gaps(policy, [run[k] for k in numbers], [pairs[k] for k in numbers], edits)
        for (s, k), gap in zip(jobs, gaps, strict=True):
            found[s, k] = gap
        jobs.clear()
        edits.clear()

    for k, pair in enumerate(pairs):
        states = policy.read_sites([given[k]], sites)[0]
        for s, places in enumerate(sets):
            jobs.append((s, k))
            at = [place.of(pair) for place in places]
            edits.append([patch_edit(place, states[place.site]) for place in at])
            if len(jobs) == BATCH:
                work()
    if jobs:
        work()
    return found


@torch.no_grad()
def path_patched(
    reader: SiteReader,
    pairs: Sequence[PatchPair],
    paths: Sequence[tuple[GroupPlace, GroupPlace | None]],
) -> Floats64:
    """logit(right) - logit(wrong) [S, N] with what goes from one head to another put in.

    The sender is put into the corrupted row from the clean one; all other heads of later layers
    are held as in the corrupted run, and feed-forward layers are computed anew. What the receiver
    then gives is put into a run of its own, in which everything after it is computed anew. Without
    a receiver it is the answer itself that is read: the sender's direct effect.

    Raises:
        ConfigError: A place is no head, or a receiver's layer is not above its sender's.
    """
    policy = _policy(reader)
    modules = reader.modules
    every = list(modules.every(["heads"]))
    for sender, receiver in paths:
        for place in (sender, receiver):
            if place is not None and (place.site.kind != "heads" or place.head is None):
                raise ConfigError(f"path patching: {place} is no head")
        if receiver is not None and receiver.site.layer <= sender.site.layer:
            raise ConfigError(f"path patching: {receiver} is not above {sender}")
    found = np.zeros((len(paths), len(pairs)))
    for k, pair in enumerate(pairs):
        clean, corrupted = policy.read_sites([pair.clean, pair.corrupted], every)
        whole = range(len(pair.corrupted))
        first: list[list[SiteEdit]] = []
        for sender, receiver in paths:
            edits = [patch_edit(sender.of(pair), clean[sender.site])]
            last = modules.num_layers if receiver is None else receiver.site.layer
            for site in every[sender.site.layer + 1 : last]:
                edits.append(patch_edit(PatchPlace(site, tuple(whole)), corrupted[site]))
            first.append(edits)
        rows = [pair.corrupted] * len(paths)
        direct = [s for s, (_, receiver) in enumerate(paths) if receiver is None]
        onward = [s for s, (_, receiver) in enumerate(paths) if receiver is not None]
        if direct:
            some = [first[s] for s in direct]
            found[direct, k] = _logit_gaps(policy, rows[: len(some)], [pair] * len(some), some)
        if onward:
            some = [first[s] for s in onward]
            given = policy.read_sites(rows[: len(some)], every, None, some)
            then = []
            for s, own in zip(onward, given, strict=True):
                receiver = paths[s][1]
                assert receiver is not None
                then.append([patch_edit(receiver.of(pair), own[receiver.site])])
            found[onward, k] = _logit_gaps(policy, rows[: len(then)], [pair] * len(then), then)
    return found


def share(
    given: Floats64, clean: Floats64, corrupted: Floats64, questions: Sequence[str]
) -> Estimate:
    """The share of the difference that came back, a ratio of sums, by the linearised ratio's
    clustered variance."""
    back, whole = given - corrupted, clean - corrupted
    mean = float(whole.mean())
    ratio = float(back.mean()) / mean if mean else float("nan")
    values = ratio + (back - ratio * whole) / mean
    return mean_interval(values.tolist(), questions, bounds=None)


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """Places that a difference goes through, with what speaks for and against them."""

    name: str
    clean: Estimate
    """Share of clean rows after which the right token is likelier, on questions of their own."""
    corrupted: Estimate
    difference: Estimate
    """Of the logits' difference, clean less corrupted; at `LEVEL_OF_BEHAVIOUR`."""
    places: tuple[GroupPlace, ...]
    """Chosen by attribution on the first part of the questions."""
    agreement: float
    """Spearman's correlation of estimates and real patches over all places, on pairs of that
    part."""
    share: Estimate
    """Comes back when the places are put in from the clean run, on the second part."""
    lost: Estimate
    """Lost when they are put into the clean run from the corrupted one."""
    random: tuple[float, ...]
    """Shares of as many other heads at the same groups of tokens, drawn at random."""
    unrelated: tuple[Estimate, Estimate] | None
    """Share when they are put in from runs on unrelated rows with the same right token, and with
    the other; None where there are no such rows."""
    alone: Mapping[GroupPlace, Estimate]
    """Share of each chosen place alone."""

    @property
    def claims(self) -> bool:
        """The answer depends on it, and the places bring back more than 97.5 % of random ones."""
        low = self.share.low
        depends = self.difference.low is not None and self.difference.low > 0
        beyond = low is not None and low > float(np.quantile(self.random, 0.975))
        return depends and beyond


def head_places(reader: SiteReader, groups: Sequence[str]) -> list[GroupPlace]:
    """All heads of all layers at each of some groups of tokens."""
    return [
        GroupPlace(site, group, head)
        for site in reader.modules.every(["heads"])
        for head in range(reader.modules.num_heads)
        for group in groups
    ]


def others_beside(
    chosen: Sequence[GroupPlace], places: Sequence[GroupPlace], rng: np.random.Generator
) -> list[GroupPlace]:
    """As many places as are chosen, at the same groups of tokens, none of them chosen.

    Raises:
        ConfigError: A group has not as many others.
    """
    found: list[GroupPlace] = []
    for group in dict.fromkeys(place.group for place in chosen):
        number = sum(place.group == group for place in chosen)
        others = [place for place in places if place.group == group and place not in chosen]
        if len(others) < number:
            raise ConfigError(
                f"random places: group {group!r} has {len(others)} that are not chosen, and "
                f"{number} are; choose fewer"
            )
        found += [others[k] for k in rng.choice(len(others), number, replace=False)]
    return found


def study_circuit(
    reader: SiteReader,
    name: str,
    first: Sequence[PatchPair],
    second: Sequence[PatchPair],
    places: Sequence[GroupPlace],
    *,
    most: int = 8,
    reach: float = 0.9,
    num_checked: int = 12,
    num_random: int = 40,
    seed: int = 0,
) -> CircuitReport:
    """Choose places by attribution on pairs of some questions, and confirm them on those of others.

    Args:
        reader: The model.
        name: Of what the pairs differ in.
        first: Pairs that places are chosen on.
        second: Pairs of other questions.
        places: That may be chosen.
        most: Places of the circuit at most.
        reach: Share on the first part at which no more places are taken: the strongest by
            attribution come first.
        num_checked: Pairs of the first part on which each place alone is patched, beside its
            estimate.
        num_random: Random sets of as many other places at the same groups.
        seed: Of these.

    Raises:
        ConfigError: A part has no pair, both have a question, or there are too few places.
    """
    if not first or not second or most >= len(places):
        raise ConfigError(
            f"circuit {name!r}: {len(first)} and {len(second)} pairs, and {most} of {len(places)} "
            "places; give pairs of both parts, and more places than are chosen"
        )
    shared = {pair.question for pair in first} & {pair.question for pair in second}
    if shared:
        raise ConfigError(
            f"circuit {name!r}: question {min(shared)!r} is in both parts; places have to be "
            "confirmed on questions that they were not chosen on"
        )
    estimates = attributed(reader, first, places)
    estimated = estimates.sum(1)
    checked = first[:num_checked]
    singles = patched(reader, checked, [[place] for place in places])
    real = (singles - behaviour(reader, checked)[1]).sum(1)
    agreement = _spearman(estimates[:, : len(checked)].sum(1), real)
    ranked = [places[k] for k in np.argsort(-np.abs(estimated), kind="stable")[:most]]
    growing = [ranked[: number + 1] for number in range(most)]
    clean, corrupted = behaviour(reader, first)
    joint = (patched(reader, first, growing) - corrupted).sum(1) / (clean - corrupted).sum()
    num_chosen = int(np.argmax(joint >= reach)) + 1 if (joint >= reach).any() else most
    chosen = tuple(sorted(ranked[:num_chosen]))
    rng = np.random.default_rng(seed)
    drawn = [others_beside(chosen, places, rng) for _ in range(num_random)]
    sets = [chosen, *([place] for place in chosen), *drawn]
    questions = [pair.question for pair in second]
    clean, corrupted = behaviour(reader, second)
    gaps = patched(reader, second, sets)
    shares = [share(each, clean, corrupted, questions) for each in gaps]
    rows = [pair.clean for pair in second]
    [noised] = patched(reader, second, [chosen], [pair.corrupted for pair in second], rows)
    return CircuitReport(
        name,
        mean_interval((clean > 0).astype(float).tolist(), questions),
        mean_interval((corrupted > 0).astype(float).tolist(), questions),
        mean_interval((clean - corrupted).tolist(), questions, None, LEVEL_OF_BEHAVIOUR),
        chosen,
        agreement,
        shares[0],
        share(clean - noised + corrupted, clean, corrupted, questions),
        tuple(each.value for each in shares[1 + num_chosen :]),
        _unrelated(reader, second, chosen, clean, corrupted),
        dict(zip(chosen, shares[1 : 1 + num_chosen], strict=True)),
    )


def _spearman(first: Floats64, second: Floats64) -> float:
    from scipy import stats

    return float(stats.spearmanr(first, second).statistic)


def _unrelated(
    reader: SiteReader,
    pairs: Sequence[PatchPair],
    chosen: Sequence[GroupPlace],
    clean: Floats64,
    corrupted: Floats64,
) -> tuple[Estimate, Estimate] | None:
    """The share with values of clean runs on other questions' rows of as many tokens."""
    found = []
    for same in (True, False):
        kept, sources = [], []
        for k, pair in enumerate(pairs):
            fitting = (
                other.clean
                for other in itertools.chain(pairs[k + 1 :], pairs[:k])
                if len(other.clean) == len(pair.clean)
                and other.groups == pair.groups
                and other.question != pair.question
                and (other.right == pair.right) is same
            )
            if (source := next(fitting, None)) is not None:
                kept.append(k)
                sources.append(source)
        if len(kept) < 2:
            return None
        some = [pairs[k] for k in kept]
        [gaps] = patched(reader, some, [chosen], sources)
        names = [pair.question for pair in some]
        found.append(share(gaps, clean[kept], corrupted[kept], names))
    return found[0], found[1]

"""Parts of a model that an answer comes from: lenses, attribution and patching.

logit_lens                 each layer's stream through final norm and head (nostalgebraist 2020).
fit_tuned_lens             the same through an affine map a layer, fitted to the model's own answer
                           (Belrose et al. 2023, arXiv:2303.08112).
direct_logit_attribution   each head's and feed-forward's own share of a difference of logits, the
                           final norm's scale taken as it was (Elhage et al. 2021, "A Mathematical
                           Framework for Transformer Circuits").
activation_patching        the share of that difference that comes back when one part of the clean
                           run is put into the corrupted one (Vig et al. 2020, arXiv:2004.12265;
                           Zhang and Nanda 2023, arXiv:2309.16042).
attribution_patching       its first-order estimate for all parts by one gradient (Nanda 2023;
                           Syed et al. 2023, arXiv:2310.10348).
causal_check               a direction taken out or added, against random ones of the same norm.

A difference of logits is that of a right and a wrong token after a row's last token.

Shapes: n tokens of a row, L layers, H heads, E hidden size, V vocabulary, P tokens that are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.interp.reading import SiteReader
from oversight.modeling import Ids
from oversight.modeling.scoring.logprobs import Head
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.sites import Site, SiteEdit, ablate, add, replace

FINAL = Site("final")


def _policy(reader: SiteReader) -> PolicyModel:
    if reader.policy is None:
        raise ConfigError(f"patching runs over a token trie: {reader.alone}")
    return reader.policy


def logit_lens(reader: SiteReader, ids: Ids, positions: Ids | None = None) -> torch.Tensor:
    """Logits [L + 1, P, V] of the stream at every layer, the last the model's own (nostalgebraist
    2020, "interpreting GPT: the logit lens")."""
    sites = reader.modules.every(["logits"])
    found = reader.read([ids], sites, [positions])[0]
    return torch.stack([found[site] for site in sites])


@dataclass(frozen=True, slots=True, eq=False)
class TunedLens:
    """An affine map of each layer's stream to the last one's, before norm and head (Belrose et al.
    2023, arXiv:2303.08112)."""

    maps_LEE: torch.Tensor
    biases_LE: torch.Tensor
    losses: tuple[float, ...]
    """Mean divergence in nats from the model's own answer by layer, on the rows of the fit."""

    def logits(self, reader: SiteReader, ids: Ids, positions: Ids | None = None) -> torch.Tensor:
        """Logits [L + 1, P, V] through the lens; the last are the model's own."""
        sites = reader.modules.every(["residual"])
        found = reader.read([ids], sites, [positions])[0]
        mapped = [self.mapped(found[site], site.layer) for site in sites[:-1]]
        return torch.stack([reader.logits(each) for each in (*mapped, found[sites[-1]])])

    def mapped(self, state_PE: torch.Tensor, layer: int) -> torch.Tensor:
        """A layer's stream as the last one's."""
        return state_PE + state_PE @ self.maps_LEE[layer].T + self.biases_LE[layer]


def fit_tuned_lens(
    reader: SiteReader,
    rows: Sequence[Ids],
    *,
    num_steps: int = 200,
    lr: float = 3e-3,
    batch: int = 256,
    seed: int = 0,
) -> TunedLens:
    """A lens whose answers at every layer are as near to the model's own as an affine map makes
    them: the divergence KL(own || lens) is minimised over all tokens of the rows by Adam (Belrose
    et al. 2023, arXiv:2303.08112).

    Args:
        reader: The model.
        rows: Token ids that its states are read over.
        num_steps: Of Adam; 0 for the logit lens itself.
        lr: Its learning rate.
        batch: Tokens of a step.
        seed: Of their drawing.

    Raises:
        ConfigError: There is no row.
    """
    if not rows:
        raise ConfigError("a tuned lens is fitted to rows, and there are none")
    sites = reader.modules.every(["residual"])
    found = reader.read(rows, sites)
    states = torch.stack([torch.cat([own[site] for own in found]) for site in sites]).float()
    num_layers, num_tokens, size = len(sites) - 1, states.shape[1], states.shape[2]
    with torch.no_grad():
        own_NV = reader.logits(states[-1]).log_softmax(-1)
    maps = torch.zeros(num_layers, size, size, requires_grad=True)
    biases = torch.zeros(num_layers, size, requires_grad=True)
    optimizer = torch.optim.Adam([maps, biases], lr=lr)
    rng = torch.Generator().manual_seed(seed)

    def losses(at: torch.Tensor) -> torch.Tensor:
        each = []
        for layer in range(num_layers):
            state = states[layer, at]
            lens = reader.logits(state + state @ maps[layer].T + biases[layer]).log_softmax(-1)
            each.append((own_NV[at].exp() * (own_NV[at] - lens)).sum(-1).mean())
        return torch.stack(each)

    for _ in range(num_steps):
        at = torch.randint(num_tokens, (min(batch, num_tokens),), generator=rng)
        optimizer.zero_grad()
        torch.autograd.backward(losses(at).sum())
        optimizer.step()
    with torch.no_grad():
        reached = losses(torch.arange(min(num_tokens, 2048)))
    return TunedLens(maps.detach(), biases.detach(), tuple(reached.tolist()))


def direct_logit_attribution(
    reader: SiteReader, ids: Ids, right: int, wrong: int, *, tolerance: float = 1e-3
) -> dict[str, float]:
    """Share of each part in logit(right) - logit(wrong) after the last token (Elhage et al. 2021).

    Parts are "embeddings", "heads.LAYER.HEAD" and "mlp.LAYER", and "rest", what the norm's and the
    projections' biases add; they sum up to the difference.

    Raises:
        ConfigError: The stream of this kind of model is not the sum of its parts, or its norm or
            head is not linear once its scale is known.
    """
    modules, last = reader.modules, np.array([len(ids) - 1])
    kinds: list[Any] = ["residual", "heads", "mlp", "attention"]
    found = reader.read([ids], [*modules.every(kinds), FINAL], [last])[0]
    stream_E = found[Site("residual", modules.num_layers)][0].double()
    embeddings_E = found[Site("residual", 0)][0].double()
    parts = {"embeddings": embeddings_E}
    total_E = embeddings_E.clone()
    for layer in range(modules.num_layers):
        heads_HE = head_outputs(reader, layer, found[Site("heads", layer)][0])
        for head, out_E in enumerate(heads_HE):
            parts[f"heads.{layer}.{head}"] = out_E
        attended_E = found[Site("attention", layer)][0].double()
        parts[f"mlp.{layer}"] = found[Site("mlp", layer)][0].double()
        total_E += attended_E + parts[f"mlp.{layer}"]
    line = _line_of(reader, stream_E, found[FINAL][0].double(), right, wrong)
    logits_V = reader.head_of(found[FINAL])[0].double()
    whole = float(logits_V[right] - logits_V[wrong])
    gap = float((total_E - stream_E).abs().max() / stream_E.abs().max())
    shares = {name: float(line @ part) for name, part in parts.items()}
    shares["rest"] = whole - sum(shares.values())
    if gap > tolerance:
        raise ConfigError(
            f"a model of type {modules.kind!r}: its stream is not the sum of its parts (largest "
            f"difference {gap:.1e}), so no share of a logit is any part's own; patch instead"
        )
    return shares


def _line_of(
    reader: SiteReader, stream_E: torch.Tensor, final_E: torch.Tensor, right: int, wrong: int
) -> torch.Tensor:
    """The vector [E] whose product with a part is its share: head, norm's weight and its scale."""
    head, norm = Head.of(reader.model), reader.modules.norm
    if head.softcap is not None:
        raise ConfigError(
            f"a model of type {reader.modules.kind!r} squashes its logits: they are not the sum of "
            "shares; patch instead"
        )
    line_E = head.scale * (head.weight_VE[right] - head.weight_VE[wrong]).double()
    if isinstance(norm, torch.nn.LayerNorm):
        scaled = line_E * norm.weight.double() / (stream_E.var(unbiased=False) + norm.eps).sqrt()
        return scaled - scaled.mean()
    return line_E * final_E / stream_E


def head_outputs(reader: SiteReader, layer: int, heads_HD: torch.Tensor) -> torch.Tensor:
    """Output of each head to the stream, [H, E], from its output before the mixing projection."""
    mixing: Any = reader.modules.mixing(layer)
    weight = mixing.weight.double()
    if type(mixing).__name__ == "Conv1D":  # gpt2 keeps it the other way round
        weight = weight.T
    num, size = heads_HD.shape
    return torch.einsum("hd,ehd->he", heads_HD.double(), weight.reshape(-1, num, size))


@dataclass(frozen=True, slots=True)
class PatchPlace:
    """A part of a model at some tokens, or at all of a row: a site, and of heads one head."""

    site: Site
    position: int | tuple[int, ...] | None = None
    """From 0; None for all tokens."""
    head: int | None = None

    def __str__(self) -> str:
        head = "" if self.head is None else f".{self.head}"
        return f"{self.site}{head}{'' if self.position is None else f'@{self.position}'}"

    @property
    def positions(self) -> list[int] | None:
        """The tokens as a list; None for all."""
        if self.position is None:
            return None
        return [self.position] if isinstance(self.position, int) else list(self.position)


def every_head(reader: SiteReader, position: int | None = None) -> list[PatchPlace]:
    """All heads of all layers, at one token or at all."""
    return [
        PatchPlace(site, position, head)
        for site in reader.modules.every(["heads"])
        for head in range(reader.modules.num_heads)
    ]


@dataclass(frozen=True, slots=True)
class PatchEffects:
    """Difference of logits in both runs, and the share of it that each place brings back."""

    clean: float
    corrupted: float
    effects: Mapping[PatchPlace, float]
    """(patched - corrupted) / (clean - corrupted): 1 where the place is all that matters."""

    def strongest(self, num: int = 5) -> list[tuple[PatchPlace, float]]:
        """The places that bring back most."""
        return sorted(self.effects.items(), key=lambda pair: -abs(pair[1]))[:num]


def _differences(
    policy: PolicyModel,
    rows: Sequence[Ids],
    right: int,
    wrong: int,
    edits: Sequence[Sequence[SiteEdit]] | None = None,
) -> torch.Tensor:
    """logit(right) - logit(wrong) after the last token of each row."""
    last = [[len(ids) - 1] for ids in rows]
    found = policy.read_sites(rows, [FINAL], last, edits)
    logits_BV = policy.head.logits(torch.cat([own[FINAL] for own in found]), 1.0)
    return logits_BV[:, right] - logits_BV[:, wrong]


def _runs(
    policy: PolicyModel, clean: Ids, corrupted: Ids, right: int, wrong: int
) -> tuple[float, float]:
    if len(clean) != len(corrupted):
        raise ConfigError(
            f"the clean row has {len(clean)} tokens and the corrupted one {len(corrupted)}: a "
            "place in one has to be the same place in the other"
        )
    if np.array_equal(clean, corrupted):
        raise ConfigError("the clean and the corrupted row are the same: there is nothing to patch")
    one, other = _differences(policy, [clean, corrupted], right, wrong).tolist()
    return one, other


@torch.no_grad()
def activation_patching(
    reader: SiteReader,
    clean: Ids,
    corrupted: Ids,
    right: int,
    wrong: int,
    places: Sequence[PatchPlace],
    *,
    batch: int = 64,
) -> PatchEffects:
    """Effects of putting each place of the clean run into the corrupted one, a run a place (Vig et
    al. 2020; Zhang and Nanda 2023).

    Args:
        reader: The model.
        clean: A row after which the model says `right`.
        corrupted: A row of as many tokens after which it does not.
        right: Token id.
        wrong: Token id.
        places: What is patched, each alone.
        batch: Runs at a time.

    Raises:
        ConfigError: The rows differ in length or are the same, or the model has no such place.
    """
    policy = _policy(reader)
    one, other = _runs(policy, clean, corrupted, right, wrong)
    given = policy.read_sites([clean], list(dict.fromkeys(place.site for place in places)))[0]
    effects: dict[PatchPlace, float] = {}
    for begin in range(0, len(places), batch):
        some = places[begin : begin + batch]
        edits = [[patch_edit(place, given[place.site])] for place in some]
        patched = _differences(policy, [corrupted] * len(some), right, wrong, edits)
        for place, value in zip(some, patched.tolist(), strict=True):
            effects[place] = (value - other) / (one - other)
    return PatchEffects(one, other, effects)


def patch_edit(place: PatchPlace, values: torch.Tensor) -> SiteEdit:
    """The edit that puts a run's values at a site, [n, E] or [n, H, D], into a row at a place."""
    positions = place.positions
    at = values if positions is None else values[positions]
    heads = None if place.head is None else [place.head]
    if place.head is not None:
        at = at[:, place.head]
    elif at.dim() > 2:
        at = at.flatten(1)
    whole = range(len(values)) if positions is None else positions
    return replace(place.site, at, whole, heads)


def attribution_patching(
    reader: SiteReader,
    clean: Ids,
    corrupted: Ids,
    right: int,
    wrong: int,
    places: Sequence[PatchPlace],
) -> PatchEffects:
    """First-order estimates of `activation_patching` at all places, by one gradient (Nanda 2023;
    Syed et al. 2023).

    effect = (clean state - corrupted state) . d difference / d state, at the corrupted run. A place
    that it finds has to be confirmed by patching.
    """
    policy = _policy(reader)
    with torch.no_grad():
        one, other = _runs(policy, clean, corrupted, right, wrong)
        sites = list(dict.fromkeys(place.site for place in places))
        states = policy.read_sites([clean, corrupted], sites)
    deltas = {site: torch.zeros_like(states[1][site].flatten(1)).requires_grad_() for site in sites}
    edits = [add(site, delta, range(len(corrupted))) for site, delta in deltas.items()]
    with torch.enable_grad():
        value = _differences(policy, [corrupted], right, wrong, [edits])[0]
        grads = torch.autograd.grad(value, list(deltas.values()))
    effects: dict[PatchPlace, float] = {}
    for site, grad in zip(deltas, grads, strict=True):
        change = (states[0][site] - states[1][site]) * grad.view_as(states[0][site])
        for place in places:
            if place.site == site:
                at = change if place.positions is None else change[place.positions]
                at = at if place.head is None else at[:, place.head]
                effects[place] = float(at.sum()) / (one - other)
    return PatchEffects(one, other, {place: effects[place] for place in places})


@dataclass(frozen=True, slots=True)
class CausalCheck:
    """The effect of a direction on what it should change and on what it should not."""

    effect: float
    """Mean change of logit(right) - logit(wrong)."""
    random_effects: tuple[float, ...]
    """The same of random directions of the same norm."""
    side_effect: float
    """Mean divergence in nats of the answers after rows that it should not change."""
    random_side_effects: tuple[float, ...]

    @property
    def stands_out(self) -> bool:
        """It does more than 97.5 % of random directions do."""
        return abs(self.effect) > float(np.quantile(np.abs(self.random_effects), 0.975))


@torch.no_grad()
def causal_check(
    reader: SiteReader,
    site: Site,
    direction_E: torch.Tensor,
    rows: Sequence[Ids],
    tokens: Sequence[tuple[int, int]],
    others: Sequence[Ids],
    *,
    how: Literal["ablate", "add"] = "ablate",
    scale: float = 1.0,
    num_random: int = 40,
    seed: int = 0,
) -> CausalCheck:
    """Ablate a direction, or steer along it, and compare with random ones of the same norm.

    Args:
        reader: The model.
        site: Where the direction was found.
        direction_E: As a probe gives it; added at `scale` times its norm of 1.
        rows: Rows whose answers it should change.
        tokens: The right and the wrong token after each.
        others: Rows whose answers it should leave as they are.
        how: Take it out, or add it.
        scale: Of what is added.
        num_random: Random directions.
        seed: Of these.

    Raises:
        ConfigError: The direction is 0 or no numbers, or does not fit the model.
    """
    if not (direction_E.isfinite().all() and direction_E.any()):
        raise ConfigError(f"causal check at {site}: the direction is 0, or holds no numbers")
    policy = _policy(reader)
    rng = torch.Generator().manual_seed(seed)
    unit_E = direction_E.float() / direction_E.float().norm()
    drawn = [torch.randn(len(unit_E), generator=rng) for _ in range(num_random)]
    directions = [unit_E, *(each / each.norm() for each in drawn)]
    right, wrong = (torch.tensor([pair[k] for pair in tokens]) for k in (0, 1))

    def logits(given: Sequence[Ids], edit: SiteEdit | None) -> torch.Tensor:
        edits = None if edit is None else [[edit]] * len(given)
        found = policy.read_sites(given, [FINAL], [[len(ids) - 1] for ids in given], edits)
        return policy.head.logits(torch.cat([own[FINAL] for own in found]), 1.0)

    def difference(edit: SiteEdit | None) -> float:
        found = logits(rows, edit)
        at = torch.arange(len(rows))
        return float((found[at, right] - found[at, wrong]).mean())

    plain = difference(None)
    own = logits(others, None).log_softmax(-1)
    effects, sides = [], []
    for each in directions:
        edit = ablate(site, each) if how == "ablate" else add(site, scale * each)
        effects.append(difference(edit) - plain)
        changed = logits(others, edit).log_softmax(-1)
        sides.append(float((own.exp() * (own - changed)).sum(-1).mean()))
    return CausalCheck(effects[0], tuple(effects[1:]), sides[0], tuple(sides[1:]))

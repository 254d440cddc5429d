"""A model trained against a probe: does it stop what the probe sees, or hide it?

The loss is that of its answers, a penalty on the probe's score where the thing to be found takes
place, and the divergence from the model as it was. Where answers are kept (`answers_weight`), the
model is paid to hide; where they are not, it may stop as well, and what it does is to be measured:
`evaluation.after_training` reports the frozen probe and one fitted again. Sources: Bailey et al.
2024, arXiv:2412.09565 (obfuscated activations); 2602.15515, by which a detector in training is
hidden from unless the policy is held near to what it was.

Shapes: T tokens of the line, N response tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from oversight.errors import ConfigError
from oversight.interp.probes import FittedProbe
from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.logprobs import token_logprobs
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.sites import Site
from oversight.modeling.scoring.trie import RowBatch
from oversight.modeling.scoring.watching import placed


@dataclass(frozen=True, slots=True, eq=False)
class WatchedRow:
    """A prompt and its answer, and the tokens whose mean state the probe is to see nothing in."""

    row: TokenRow
    positions: Ids | None = None
    """Tokens of the row, from 0; None where the probe is not to be trained against."""


@dataclass(frozen=True, slots=True)
class AgainstProbe:
    """Weights of the parts of the loss, and the optimiser's rate."""

    penalty: float = 1.0
    """Of the mean softplus of the probe's score."""
    answers: float = 1.0
    """Of the negative log-likelihood of the answers, per token."""
    divergence: float = 0.0
    """Of KL(before || now) at the answers' tokens, in nats per token."""
    lr: float = 1e-3


@dataclass(frozen=True, slots=True)
class AgainstProbeStep:
    """Figures of one step of the training."""

    penalty: float
    answers: float
    divergence: float


def train_against_probe(
    policy: PolicyModel,
    batches: Iterable[Sequence[WatchedRow]],
    probe: FittedProbe,
    weights: AgainstProbe,
    before: PolicyModel | None = None,
) -> list[AgainstProbeStep]:
    """Train a model in place against a probe that scores the mean state of some tokens.

    Args:
        policy: The model; its parameters learn.
        batches: The rows of each step.
        probe: Fitted to means of states at the site in its `about`.
        weights: Of the loss's parts.
        before: The model as it was, for the divergence.

    Returns:
        The parts of the loss at each step.

    Raises:
        ConfigError: The probe pools tokens by itself or names no site, or a divergence is asked
            for without the model before.
    """
    if probe.query_E is not None or "site" not in probe.about:
        raise ConfigError(
            f"probe {probe.name!r}: training against it needs a line at a site that it names, of "
            "the mean of tokens; fit logistic or mean_difference by `study`"
        )
    if weights.divergence and before is None:
        raise ConfigError("divergence is from the model before, and none is given; give `before`")
    site = Site.parse(str(probe.about["site"]))
    policy.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=weights.lr, weight_decay=0.0)
    steps = []
    for rows in batches:
        parts = _parts(policy, rows, probe, site, before if weights.divergence else None)
        loss = (
            weights.penalty * parts[0] + weights.answers * parts[1] + weights.divergence * parts[2]
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        steps.append(AgainstProbeStep(*(float(each.detach()) for each in parts)))
    policy.eval().requires_grad_(False)
    return steps


def _parts(
    policy: PolicyModel,
    rows: Sequence[WatchedRow],
    probe: FittedProbe,
    site: Site,
    before: PolicyModel | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Penalty, negative log-likelihood of the answers and divergence, each a mean."""
    batch = RowBatch.build([each.row for each in rows], policy.device)
    watch = placed(policy.site_modules, (site,), batch.trie, None)
    final_TE = policy.watched(batch, watch)
    at_NE = final_TE[batch.before_N]
    logps_N, _ = token_logprobs(
        at_NE, policy.head, batch.targets_N, temperature=1.0, with_entropy=False
    )
    divergence = torch.zeros(())
    if before is not None:
        with torch.no_grad():
            plain = placed(before.site_modules, (), batch.trie, None)
            own_NE = before.watched(batch, plain)[batch.before_N]
            known_NV = before.head.logits(own_NE, 1.0).log_softmax(-1)
        now_NV = policy.head.logits(at_NE, 1.0).log_softmax(-1)
        divergence = (known_NV.exp() * (known_NV - now_NV)).sum(-1).mean()
    states_TE = watch.found[site]
    means = [
        states_TE[torch.from_numpy(places[each.positions])].mean(0)
        for places, each in zip(batch.trie.places, rows, strict=True)
        if each.positions is not None
    ]
    penalty = torch.zeros(())
    if means:
        line_E, center_E = (
            torch.from_numpy(each).to(states_TE) for each in (probe.direction_E, probe.center_E)
        )
        scores = (torch.stack(means) - center_E) @ line_E + probe.bias
        penalty = torch.nn.functional.softplus(scores).mean()
    return penalty, -logps_N.mean(), divergence

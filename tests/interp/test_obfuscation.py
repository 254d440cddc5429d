"""Training against a probe lowers what it sees, and keeps what it is told to keep."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError
from oversight.interp.obfuscation import AgainstProbe, WatchedRow, train_against_probe
from oversight.interp.planted import random_model
from oversight.interp.probes import FittedProbe, Floats64
from oversight.interp.reading import SiteReader
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.sites import Site

SITE = Site("residual", 1)


def rows(num: int = 12) -> list[WatchedRow]:
    """Prompts of five tokens with answers of three, the first half of them to be hidden."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(num):
        ids = rng.integers(0, 64, 8)
        at = np.arange(5, 8) if number < num // 2 else None
        found.append(WatchedRow(TokenRow(ids[:5], ids[5:]), at))
    return found


def mean_scores(policy: PolicyModel, given: list[WatchedRow], probe: FittedProbe) -> Floats64:
    """What the probe gives the penalised rows, read by the reader's own path."""
    hidden = [each for each in given if each.positions is not None]
    whole = [np.concatenate([e.row.prompt_ids, e.row.response_ids]) for e in hidden]
    read = policy.read_sites(
        whole, [SITE], [e.positions for e in hidden if e.positions is not None]
    )
    means = np.stack([own[SITE].mean(0).double().numpy() for own in read])
    found: Floats64 = (means - probe.center_E) @ probe.direction_E + probe.bias
    return found


def trained(weights: AgainstProbe, steps: int = 30) -> tuple[Any, Any, list[Any], FittedProbe]:
    """A random model trained against a random direction, the model before, and its steps."""
    before = SiteReader(random_model(3)).policy
    after = SiteReader(copy.deepcopy(random_model(3))).policy
    assert before is not None
    assert after is not None
    line = np.random.default_rng(1).standard_normal(32) * 3.0
    probe = FittedProbe("logistic", line, np.zeros(32), 1.0, about={"site": str(SITE)})
    steps_done = train_against_probe(after, [rows()] * steps, probe, weights, before)
    return after, before, steps_done, probe


def test_the_probe_sees_less_and_the_first_step_is_what_the_reader_reads() -> None:
    after, before, steps, probe = trained(AgainstProbe(penalty=1.0, answers=1.0, lr=3e-3))
    at_first, at_last = (mean_scores(policy, rows(), probe) for policy in (before, after))
    assert at_last.mean() < at_first.mean() - 1.0
    assert steps[0].penalty == pytest.approx(float(np.logaddexp(0.0, at_first).mean()), abs=1e-5)
    assert steps[-1].answers < steps[0].answers
    assert not any(part.requires_grad for part in after.parameters())


def test_a_divergence_holds_it_near_to_what_it_was() -> None:
    def moved(divergence: float) -> float:
        weights = AgainstProbe(penalty=1.0, answers=0.0, divergence=divergence, lr=3e-3)
        after, before, steps, _ = trained(weights)
        assert divergence == 0.0 or steps[-1].divergence > 0.0
        ids = [np.concatenate([e.row.prompt_ids, e.row.response_ids]) for e in rows()]
        final = Site("final")
        logps = [
            policy.head.logits(torch.cat([o[final] for o in policy.read_sites(ids, [final])]), 1.0)
            for policy in (before, after)
        ]
        own, now = (each.log_softmax(-1) for each in logps)
        return float((own.exp() * (own - now)).sum(-1).mean())

    assert moved(10.0) < 0.5 * moved(0.0)


def test_nothing_is_penalised_where_no_row_is_marked() -> None:
    policy = SiteReader(random_model(3)).policy
    assert policy is not None
    probe = FittedProbe("logistic", np.ones(32), np.zeros(32), about={"site": str(SITE)})
    plain = [WatchedRow(each.row) for each in rows()]
    (step,) = train_against_probe(policy, [plain], probe, AgainstProbe())
    assert step.penalty == 0.0
    assert step.answers > 0.0


def test_a_probe_that_names_no_site_and_a_missing_model_before_are_refused() -> None:
    policy = SiteReader(random_model(3)).policy
    assert policy is not None
    nameless = FittedProbe("logistic", np.ones(32), np.zeros(32))
    with pytest.raises(ConfigError, match="needs a line at a site"):
        train_against_probe(policy, [], nameless, AgainstProbe())
    pooling = FittedProbe(
        "attention", np.ones(32), np.zeros(32), query_E=np.ones(32), about={"site": str(SITE)}
    )
    with pytest.raises(ConfigError, match="attention"):
        train_against_probe(policy, [], pooling, AgainstProbe())
    named = FittedProbe("logistic", np.ones(32), np.zeros(32), about={"site": str(SITE)})
    with pytest.raises(ConfigError, match="give `before`"):
        train_against_probe(policy, [], named, AgainstProbe(divergence=1.0))

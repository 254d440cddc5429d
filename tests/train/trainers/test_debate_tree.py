"""A whole debate trains in one pass over its trie, as if each turn had been scored alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from oversight.errors import ConfigError
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train import grpo, losses
from oversight.train.distributed import World
from oversight.train.experience_settings import SamplingSettings, ShapingSettings
from oversight.train.losses.policy_batch import Extras
from oversight.train.policy_step import policy_step
from oversight.train.rollouts.buffer import RolloutBatch, Segment, num_segment_tokens, segment_rows
from oversight.train.runs.folder import RunDescription
from oversight.train.session import Session

VOCAB = 97
SOURCE, TURN, SIBLINGS, ROUNDS, GIVEN = 40, 6, 4, 3, 3


def ids(rng: np.random.Generator, size: int) -> NDArray[np.int64]:
    return rng.integers(2, VOCAB, size)


def debate(seed: int = 0) -> Segment:
    """Two sides that speak in turn: of each turn's siblings one goes on, behind words that were
    given (who speaks next). No two siblings begin alike."""
    rng = np.random.default_rng(seed)
    below: tuple[Segment, ...] = ()
    for turn in reversed(range(2 * ROUNDS)):
        role = "debater-a" if turn % 2 == 0 else "debater-b"
        firsts = rng.permutation(np.arange(2, VOCAB))[:SIBLINGS]
        siblings = tuple(
            Segment(
                np.concatenate([[first], ids(rng, TURN - 1)]),
                sampled=True,
                logprobs=np.log(rng.uniform(0.005, 0.02, TURN)).astype(np.float32),
                reward=float(rng.random()),
                advantage=float(rng.normal()),
                role=role,
                id=f"{turn}.{i}",
                children=below if i == 0 else (),
            )
            for i, first in enumerate(firsts)
        )
        below = (Segment(ids(rng, GIVEN), sampled=False, children=siblings),)
    return Segment(ids(rng, SOURCE), sampled=False, children=below)


def policy(random_lm: Any) -> PolicyModel:
    return PolicyModel(random_lm("llama"))


def test_the_trie_of_a_debate_has_each_token_once(random_lm: Any) -> None:
    tree = debate()
    rows = [each.row for each in segment_rows([tree])]
    line = RowBatch.build(rows)
    assert len(rows) == 2 * ROUNDS * SIBLINGS
    expected = SOURCE + 2 * ROUNDS * (GIVEN + SIBLINGS * TURN)
    assert line.trie.num_tokens == num_segment_tokens([tree]) == expected
    flat = sum(row.num_tokens for row in rows)
    assert flat > 8 * expected


def test_a_step_over_a_debate_is_that_of_its_turns_one_by_one(
    cases: ModuleType, random_lm: Any, tmp_path: Path
) -> None:
    batch = RolloutBatch.of_segments(segment_rows([debate()]), version=0)
    old = _old_logps(policy(random_lm), batch)
    for loss, options in (("dapo", {"clip_high": 0.28}), ("gspo", {})):
        whole = _gradients(cases, random_lm, tmp_path / loss, batch, old, loss, options, [batch])
        alone = [batch.select([i]) for i in range(len(batch))]
        parts = _gradients(cases, random_lm, tmp_path / loss, batch, old, loss, options, alone)
        assert whole[0] == pytest.approx(parts[0], rel=1e-5, abs=1e-6)
        largest = max(float(one.abs().max()) for one in parts[1].values())
        assert largest > 1e-3
        for name, one in parts[1].items():
            assert (whole[1][name] - one).abs().max() < 1e-5 * max(1.0, largest), name


def test_each_turn_has_a_gradient_of_its_own(random_lm: Any) -> None:
    """A wrong mask or position would let the given words be learnt, or turns see their siblings."""
    model = policy(random_lm)
    rows = [each.row for each in segment_rows([debate()])]
    scores = model(RowBatch.build(rows))
    assert scores.mask_BR.sum() == 2 * ROUNDS * SIBLINGS * TURN
    for i in (0, 3, 9, 23):
        own = model(RowBatch.build([rows[i]]))
        torch.testing.assert_close(scores.logps_BR[i], own.logps_BR[0], rtol=1e-4, atol=1e-4)


def test_the_trainer_steps_over_a_debate(cases: ModuleType, random_lm: Any, tmp_path: Path) -> None:
    """The session's own update, with its micro-batches, on the rows of two debates."""
    rows = segment_rows([debate(0), debate(1)])
    batch = RolloutBatch.of_segments(rows, version=0)
    found = []
    for max_tokens in (100_000, 16):
        model = policy(random_lm)
        config = _config(cases, tmp_path / str(max_tokens), micro_batch_tokens=max_tokens)
        with _session(config, model) as session:
            for _ in session.steps():
                task = policy_step(config, model, session, _Fresh(), batch, _surrogate("grpo", {}))
                values = session.update(task)
        found.append((values, [p.detach().clone() for p in model.parameters()]))
    assert found[0][0]["loss"] == pytest.approx(found[1][0]["loss"], rel=1e-5, abs=1e-7)
    assert found[0][0]["grad_norm"] == pytest.approx(found[1][0]["grad_norm"], rel=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-5)


def test_a_step_at_another_temperature_than_the_debate_was_sampled_at_is_refused(
    cases: ModuleType, random_lm: Any, tmp_path: Path
) -> None:
    rows = [replace(each, temperature=0.7) for each in segment_rows([debate()])]
    batch = RolloutBatch.of_segments(rows, version=0)
    model = policy(random_lm)
    with _session(_config(cases, tmp_path / "at"), model) as session:

        def step(temperature: float) -> Any:
            sampling = SamplingSettings(temperature=temperature)
            config = _config(cases, tmp_path / "at", sampling=sampling)
            loss = _surrogate("grpo", {})
            return policy_step(config, model, session, _Fresh(), batch, loss)

        with pytest.raises(ConfigError, match=r"sampled at 0\.7.*set sampling\.temperature = 0\.7"):
            step(1.0)
        step(0.7)


class _Fresh:
    is_fresh = False


def _config(cases: ModuleType, out: Path, **changes: Any) -> grpo.Config:
    reward = cases.RewardSettings(source="length")
    settings = {"reward": reward, "steps": 1, "shaping": ShapingSettings(), **changes}
    return grpo.Config(**cases.common(out, **settings))


def _session(config: grpo.Config, model: PolicyModel) -> Session:
    return Session(
        RunDescription("grpo", {}, {}, "", 0),
        config,
        {"policy": model},
        num_examples=4,
        total=1,
        world=World.join(torch.device("cpu")),
    )


def _surrogate(loss: str, options: dict[str, Any]) -> Any:
    extras = Extras(0.0, "k3_ratio", 0.01)
    return partial(losses.bind("policy", loss, options, where="options"), extras=extras)


def _old_logps(model: PolicyModel, batch: RolloutBatch) -> list[NDArray[np.float32]]:
    """As if the policy had moved a little since it spoke, so that ratios are not 1."""
    with torch.no_grad():
        scores = model(RowBatch.build(batch.rows))
    rng = np.random.default_rng(5)
    return [
        row[: len(b.response_ids)].numpy()
        + rng.normal(0, 0.1, len(b.response_ids)).astype(np.float32)
        for row, b in zip(scores.logps_BR, batch.rows, strict=True)
    ]


def _gradients(
    cases: ModuleType,
    random_lm: Any,
    out: Path,
    batch: RolloutBatch,
    old: list[NDArray[np.float32]],
    loss: str,
    options: dict[str, Any],
    parts: list[RolloutBatch],
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the gradient of `parts`, which together are `batch`, under its normaliser."""
    model = policy(random_lm)
    config = _config(cases, out, loss=loss, options=options)
    by_id = dict(zip([row.id for row in batch.rows], old, strict=True))
    total = 0.0
    num_tokens = sum(row.num_trained for row in batch.rows)
    normalizer = float(num_tokens if loss == "dapo" else len(batch))
    for part in parts:
        given = part.with_token_values(old_logps=[by_id[row.id] for row in part.rows])
        scores = model(RowBatch.build(given.rows), with_entropy=True)
        from oversight.train.policy_step import policy_batch

        value, _ = _surrogate(loss, options)(
            policy_batch(config, scores, given)[0], normalizer=normalizer
        )
        value.backward()
        total += float(value.detach())
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

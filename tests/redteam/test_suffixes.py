"""Suffixes by gradient: the walk, its place in what a target reads, and targets without weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from oversight.cli.main import run
from oversight.config import read_toml
from oversight.errors import ConfigError
from oversight.modeling.scoring.policy import PolicyModel
from oversight.redteam.log import AttemptLog
from oversight.redteam.preparing import RedTeamSettings, prepare_redteam
from oversight.redteam.running import lanes_of, run_redteam
from oversight.redteam.suffixes import SuffixPlace, SuffixWalk
from oversight.redteam.types import AttemptPurpose

VOCABULARY = 97


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def place() -> SuffixPlace:
    rng = np.random.default_rng(0)
    before, after, aim = (rng.integers(5, VOCABULARY, n) for n in (23, 6, 3))
    return SuffixPlace(before, after, aim)


START = np.array([7, 8, 9, 10, 11], dtype=np.int64)
TOP_K, CANDIDATES, SEED = 8, 24, 3


def loss_of(model: Any, where: SuffixPlace, vectors_TE: torch.Tensor) -> torch.Tensor:
    """The mean loss of the aim, by transformers' own pass over the whole row."""
    logits_TV = model(inputs_embeds=vectors_TE[None]).logits[0]
    num = len(where.aim)
    return torch.nn.functional.cross_entropy(logits_TV[-num - 1 : -1], torch.from_numpy(where.aim))


def plain_gcg(model: Any, where: SuffixPlace, allowed: list[int], steps: int) -> list[float]:
    """Algorithm 1 of Zou et al. with a one-hot matrix and a pass for each whole row."""
    table = model.get_input_embeddings().weight.detach()
    random = torch.Generator().manual_seed(SEED)
    suffix = torch.from_numpy(START)
    parts = [torch.from_numpy(each) for each in (where.before, where.after, where.aim)]

    def vectors(own: torch.Tensor) -> torch.Tensor:
        before, after, aim = (table[each] for each in parts)
        return torch.cat([before, own, after, aim])

    losses = [float(loss_of(model, where, vectors(table[suffix])))]
    for _ in range(steps):
        one_hot = torch.nn.functional.one_hot(suffix, VOCABULARY).float().requires_grad_()
        loss_of(model, where, vectors(one_hot @ table)).backward()
        grad = one_hot.grad
        assert grad is not None
        for token in set(range(VOCABULARY)) - set(allowed):
            grad[:, token] = float("inf")
        top = (-grad).topk(TOP_K, dim=-1).indices
        at = torch.randint(len(suffix), (CANDIDATES,), generator=random)
        rank = torch.randint(TOP_K, (CANDIDATES,), generator=random)
        best, best_loss = suffix, float("inf")
        for n in range(CANDIDATES):
            changed = suffix.clone()
            changed[at[n]] = top[at[n], rank[n]]
            with torch.no_grad():
                found = float(loss_of(model, where, vectors(table[changed])))
            if found < best_loss:
                best, best_loss = changed, found
        suffix = best
        losses.append(best_loss)
    return losses


def walk_of(model: Any, **more: Any) -> SuffixWalk:
    allowed_V = torch.zeros(VOCABULARY, dtype=torch.bool)
    allowed_V[5:] = True
    return SuffixWalk(
        PolicyModel(copy.deepcopy(model)), place(), START, allowed_V,
        seed=SEED, top_k=TOP_K, num_candidates=CANDIDATES, **more,
    )  # fmt: skip


def test_the_loss_of_each_step_is_that_of_a_plain_reference(model: Any) -> None:
    walk = walk_of(model)
    for _ in range(12):
        walk.step()
    expected = plain_gcg(model, place(), list(range(5, VOCABULARY)), 12)
    assert walk.losses == pytest.approx(expected, abs=2e-5)
    assert min(expected) < expected[0] - 0.5
    assert walk.best_loss == min(walk.losses)
    assert not {*walk.ids.tolist()} & set(range(5))


def test_losses_do_not_depend_on_what_is_scored_together(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = walk_of(model)
    others = [np.roll(START, n) for n in range(5)]
    whole = walk.losses_of(others)
    monkeypatch.setattr("oversight.redteam.suffixes.MAX_TOKENS", 40)
    assert torch.allclose(walk.losses_of(others), whole, atol=1e-5)


def test_only_what_reads_back_is_gone_to_and_the_rest_is_counted(model: Any) -> None:
    walk = walk_of(model, text_of=lambda ids: None if (ids % 2).all() else str(ids))
    for _ in range(6):
        walk.step()
    assert not (walk.best % 2).all()
    mute = walk_of(model, text_of=lambda ids: None)
    mute.step()
    assert mute.text is None
    assert mute.num_untypable > 0
    assert mute.losses[1] == mute.losses[0]


def test_a_walk_without_tokens_is_refused(model: Any) -> None:
    allowed_V = torch.zeros(VOCABULARY, dtype=torch.bool)
    with pytest.raises(ValueError, match="no token is allowed"):
        SuffixWalk(PolicyModel(copy.deepcopy(model)), place(), START, allowed_V)


# --- as an attack ---


def judged(root: Path, folder: Path, **more: Any) -> RedTeamSettings:
    data = read_toml(root / "recipes" / "redteam" / "judge.toml")
    given = {"folder": str(folder), "limit": 3, "calls": 2, "attacks": ["gradient_suffix"]}
    return RedTeamSettings.parse({**data, **given, "max_calls": None, **more}, "judge")


async def test_a_judge_is_attacked_by_the_gradient_of_its_own_weights(
    root: Path, tmp_path: Path
) -> None:
    settings = judged(root, tmp_path / "red", limit=8)
    work = prepare_redteam(settings)
    with AttemptLog(tmp_path / "red", work.identity) as log:
        progress = await run_redteam(work, log, lambda *_: None)
        assert not progress.failures
        lanes = [each for each in lanes_of(work, log) if each.attack == "gradient_suffix"]
        assert lanes
        tried = [
            each
            for lane in lanes
            for each in log.attempts(lane.id)
            if each.purpose is AttemptPurpose.SEARCH
        ]
        direct = {
            each.goal: each.belief
            for lane in lanes_of(work, log)
            if lane.attack == "direct"
            for each in log.attempts(lane.id)
            if each.trial == 0
        }
    assert tried
    assert all(each.text.isprintable() or "\n" in each.text for each in tried)
    moved = [(each.belief or 0.0) - (direct[each.goal] or 0.0) for each in tried]
    assert sum(moved) / len(moved) > 0.1, "suffixes move the judge to the wrong option"


def test_a_target_without_weights_is_refused_by_name(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = str(root / "recipes" / "redteam" / "policy.toml")
    words = ["-a", "gradient_suffix", "--folder", str(tmp_path / "red")]
    assert run(["redteam", "run", policy, *words]) == 2
    told = capsys.readouterr().err
    assert "'gradient_suffix' needs the weights of the target's model" in told
    assert "targets.mine is on engine 'scripted'" in told
    target = {"kind": "judge", "agent": "lexical"}
    with pytest.raises(ConfigError, match="is on no engine"):
        prepare_redteam(judged(root, tmp_path / "red", targets={"j": target}))


def test_an_attack_that_needs_weights_is_made_only_where_it_is_named(
    root: Path, tmp_path: Path
) -> None:
    work = prepare_redteam(judged(root, tmp_path / "red", attacks=[]))
    assert work.attacks["seedling"]
    assert "gradient_suffix" not in {each.name for each in work.attacks["seedling"]}

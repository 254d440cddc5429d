"""The reference: the initial policy or another of its vocabulary, its scores kept by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from oversight.errors import ConfigError
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.train.distributed import World
from oversight.train.loading import Vocabulary, load_policy, read_config, train_tokenizer
from oversight.train.reference import Reference, _read_only, open_reference
from oversight.train.settings import ModelSettings

ALONE = World(0, 1, torch.device("cpu"))
TEXTS = ("The key was in the kitchen at noon.",)
SCRATCH = ModelSettings.parse(
    {"scratch": {"hidden_size": 32, "num_layers": 2, "vocab_size": 300, "max_length": 64}}
)

Made = tuple[PolicyModel, Any, Vocabulary]


@pytest.fixture
def made() -> Made:
    config, vocabulary = read_config(SCRATCH, TEXTS)
    return load_policy(SCRATCH, config, seed=0), config, vocabulary


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OVERSIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "reference"


def opened(made: Made, name: str = "initial") -> Reference:
    policy, config, vocabulary = made
    reference = open_reference(name, SCRATCH, policy, vocabulary, config, 0, ALONE)
    assert reference is not None
    return reference


def test_the_initial_policy_is_the_reference_even_after_the_policy_has_changed(
    made: Made, rows: list[TokenRow]
) -> None:
    policy = made[0]
    before = opened(made).logprobs(rows, ALONE, 1000)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.1)
    after = opened(made).logprobs(rows, ALONE, 1000)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)


def test_kept_scores_are_those_that_were_computed_and_are_read_instead_of_computed(
    made: Made, rows: list[TokenRow], cache: Path
) -> None:
    reference = opened(made)
    first = reference.kept_logprobs(rows, ALONE, 1000)
    assert len(list(cache.glob("*.safetensors"))) == 1
    with torch.no_grad():
        for weight in reference.model.parameters():
            weight.zero_()  # were anything computed now, it would be something else
    second = reference.kept_logprobs(rows, ALONE, 1000)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_other_rows_and_other_weights_are_not_served_from_the_cache(
    made: Made, rows: list[TokenRow], cache: Path
) -> None:
    opened(made).kept_logprobs(rows, ALONE, 1000)
    opened(made).kept_logprobs(rows[:-1], ALONE, 1000)
    other = load_policy(SCRATCH, made[1], seed=1)
    open_other = open_reference("initial", SCRATCH, other, made[2], made[1], 1, ALONE)
    assert open_other is not None
    open_other.kept_logprobs(rows, ALONE, 1000)
    assert len(list(cache.glob("*.safetensors"))) == 3


def test_a_damaged_cache_is_computed_again(made: Made, rows: list[TokenRow], cache: Path) -> None:
    reference = opened(made)
    first = reference.kept_logprobs(rows, ALONE, 1000)
    [path] = cache.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    second = reference.kept_logprobs(rows, ALONE, 1000)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_a_reference_of_another_vocabulary_is_refused(tmp_path: Path, made: Made) -> None:
    made[0].model.save_pretrained(tmp_path)
    train_tokenizer(["entirely different words here"] * 9, 300).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="vocabulary"):
        opened(made, str(tmp_path))


@pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="the system does not tell what is in memory"
)
def test_weights_of_a_file_leave_memory_between_uses_and_score_as_before(
    tmp_path: Path, made: Made, rows: list[TokenRow]
) -> None:
    policy, config, vocabulary = made
    policy.model.save_pretrained(tmp_path / "model")
    stored = ModelSettings(path=str(tmp_path / "model"))
    reference = open_reference("initial", stored, policy, vocabulary, config, 0, ALONE)
    assert reference is not None
    for _ in range(2):
        found = reference.logprobs(rows, ALONE, 1000)
        assert _resident(tmp_path) == 0
        for ours, theirs in zip(found, opened(made).logprobs(rows, ALONE, 1000), strict=True):
            assert torch.equal(ours, theirs)
    written = load_policy(stored, config, seed=0)
    with torch.no_grad():
        written.model.lm_head.weight.add_(1.0)
    kept = written.model.lm_head.weight.clone()
    _read_only(written)
    assert torch.equal(written.model.lm_head.weight, kept)


def _resident(folder: Path) -> int:
    """Bytes of mapped files of a folder that are in the process's memory, by the system."""
    resident, is_ours, seen = 0, False, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split(maxsplit=1)[0].count("-") == 1:
            is_ours = str(folder) in line
            seen |= is_ours
        elif is_ours and line.startswith("Rss:"):
            resident += int(line.split()[1]) << 10
    assert seen
    return resident


def test_none_is_no_reference(made: Made) -> None:
    policy, config, vocabulary = made
    assert open_reference("none", SCRATCH, policy, vocabulary, config, 0, ALONE) is None

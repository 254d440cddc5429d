"""The reference: what the policy was before training, or another model of the same vocabulary.

Its log-probabilities are computed by the same code as the policy's, in eval
mode. Over a fixed data set they are computed once and kept by the hash of what
they depend on: weights, precision and rows.

Shapes: R response tokens of one row.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from oversight.errors import ConfigError
from oversight.train.distributed import World, shard
from oversight.train.model.loading import Vocabulary, frozen, load_policy, read_config
from oversight.train.model.policy import PolicyModel
from oversight.train.scoring import row_logprobs
from oversight.train.settings import ModelSettings
from oversight.train.types import TokenRow

INITIAL, NONE = "initial", "none"


@dataclass(frozen=True, slots=True)
class Reference:
    """A model that rows are compared with."""

    model: PolicyModel
    is_policy: bool
    """The policy itself with its adapters off: no second model is held."""
    fingerprint: str
    """Hash of its weights and its precision."""

    def logprobs(
        self, rows: Sequence[TokenRow], world: World, max_tokens: int, temperature: float = 1.0
    ) -> list[torch.Tensor]:
        """Log-probability of each row's response tokens, one tensor [R] a row."""
        with self.model.as_reference() if self.is_policy else nullcontext():
            return row_logprobs(self.model, rows, world, max_tokens, temperature)

    def kept_logprobs(
        self, rows: Sequence[TokenRow], world: World, max_tokens: int
    ) -> list[torch.Tensor]:
        """The same for all rows of a data set, from the cache if they were computed before."""
        path = _cache() / f"{self._key(rows)}.safetensors"
        if (found := world.from_first(_read(path, rows))) is not None:
            return found
        mine = world.share(range(len(rows))) or [0]
        scored = self.logprobs([rows[i] for i in mine], world, max_tokens)
        by_row = {
            i: s for part in world.gather(list(zip(mine, scored, strict=True))) for i, s in part
        }
        whole = [by_row[i] for i in range(len(rows))]
        if world.is_first:
            _write(path, whole)
        return whole

    def _key(self, rows: Sequence[TokenRow]) -> str:
        digest = hashlib.blake2b(self.fingerprint.encode(), digest_size=16)
        for row in rows:
            digest.update(np.array([len(row.prompt_ids), len(row.response_ids)]).tobytes())
            digest.update(row.ids().tobytes())
        return digest.hexdigest()


def open_reference(
    name: str,
    settings: ModelSettings,
    policy: PolicyModel,
    vocabulary: Vocabulary,
    config: Any,
    seed: int,
    world: World,
) -> Reference | None:
    """The reference that `name` stands for: `initial`, `none`, or a folder or hub name.

    Args:
        name: Which one.
        settings: Of the policy.
        policy: The policy; with adapters it is its own initial reference.
        vocabulary: The policy's.
        config: The policy's configuration.
        seed: Of random weights: the initial policy from scratch is made again.
        world: The processes.

    Raises:
        ConfigError: Its vocabulary is another one, or it cannot be read.
    """
    if name == NONE:
        return None
    precision = settings.precision
    if name == INITIAL and settings.lora is not None:
        return Reference(policy, True, f"{precision}-{_weights_hash(policy, 'lora_')}")
    if name == INITIAL:
        # Read anew: a resumed policy holds trained weights by the time it is asked.
        model = load_policy(settings, config, seed)
    else:
        other = settings.model_copy(
            update={
                "path": name,
                "revision": None,
                "scratch": None,
                "tokenizer": None,
                "lora": None,
            }
        )
        other_config, other_vocabulary = read_config(other, ())
        _same_vocabulary(name, other_vocabulary, vocabulary)
        model = load_policy(other, other_config, seed)
    fingerprint = f"{precision}-{_weights_hash(model)}"
    frozen(model)
    shard(model, world)
    return Reference(model, False, fingerprint)


def _same_vocabulary(name: str, theirs: Vocabulary, ours: Vocabulary) -> None:
    if theirs.tokenizer.get_vocab() != ours.tokenizer.get_vocab() or theirs.size != ours.size:
        raise ConfigError(
            f"reference = {name!r}: its vocabulary ({theirs.size} ids) is not the policy's "
            f"({ours.size} ids), so its log-probabilities are of other tokens; name a model with "
            "the same tokenizer, or 'initial'"
        )


def _weights_hash(model: PolicyModel, without: str = "-") -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(model.state_dict().items()):
        if without not in name:
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _cache() -> Path:
    base = os.environ.get("OVERSIGHT_CACHE") or Path.home() / ".cache" / "oversight"
    return Path(base).expanduser() / "reference"


def _read(path: Path, rows: Sequence[TokenRow]) -> list[torch.Tensor] | None:
    """What the cache holds for `rows`; None if nothing, or nothing readable."""
    try:
        logps = load_file(path)["logps"]
    except (OSError, SafetensorError, KeyError):
        return None
    sizes = [max(1, len(row.response_ids)) for row in rows]
    return list(torch.split(logps, sizes)) if sum(sizes) == len(logps) else None


def _write(path: Path, scored: Sequence[torch.Tensor]) -> None:
    """Keep what was computed; a cache that cannot be written is done without."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"logps": torch.cat(list(scored))}, part)
        part.replace(path)
    except (OSError, SafetensorError):
        part.unlink(missing_ok=True)

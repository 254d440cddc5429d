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
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from oversight.errors import ConfigError, FileError
from oversight.files import whole_file
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.train.batches import row_logprobs
from oversight.train.distributed import World, shard
from oversight.train.loading import Vocabulary, frozen, load_policy, named, read_config
from oversight.train.settings import INITIAL, NONE, ModelSettings


@dataclass(frozen=True, slots=True)
class Reference:
    """A model that rows are compared with."""

    model: PolicyModel
    is_policy: bool
    """The policy itself with its adapters off: no second model is held."""
    fingerprint: str = ""
    """Hash of its weights and its precision, where scores are kept."""

    def logprobs(
        self, rows: Sequence[TokenRow], world: World, max_tokens: int, temperature: float = 1.0
    ) -> list[torch.Tensor]:
        """Log-probability of each row's response tokens, one tensor [R] a row."""
        with self.model.as_reference() if self.is_policy else nullcontext():
            return row_logprobs(self.model, rows, world, max_tokens, temperature)

    def kept_logprobs(
        self, rows: Sequence[TokenRow], world: World, max_tokens: int
    ) -> list[torch.Tensor]:
        """The same for all rows of a data set, from the cache if they were computed before.

        Each different row is computed once, by one of the processes that ask for it; those need
        not ask for the same ones.
        """
        keys = [_Key.of(row) for row in rows]
        owners = _owners(world.gather(keys))
        order = sorted(owners)
        path = _cache() / f"{self._hash(order)}.safetensors"
        scored = world.from_first(_read(path, order) if world.is_first else None)
        if scored is None:
            mine = {
                key: row for key, row in zip(keys, rows, strict=True) if owners[key] == world.rank
            } or {keys[0]: rows[0]}
            logps = self.logprobs(list(mine.values()), world, max_tokens)
            parts = world.gather(dict(zip(mine, logps, strict=True)))
            found = {key: logps_R for part in parts for key, logps_R in part.items()}
            scored = [found[key] for key in order]
            if world.is_first:
                _write(path, scored)
        by_key = dict(zip(order, scored, strict=True))
        return [by_key[key] for key in keys]

    def _hash(self, keys: Sequence[_Key]) -> str:
        digest = hashlib.blake2b(self.fingerprint.encode(), digest_size=16)
        for key in keys:
            digest.update(key.prompt + key.response)
        return digest.hexdigest()


class _Key(NamedTuple):
    """All that a row's log-probabilities depend on, besides the model."""

    prompt: bytes
    """Hash of its ids."""
    response: bytes
    size: int
    """Of the response, as scores have it."""

    @classmethod
    def of(cls, row: TokenRow) -> _Key:
        prompt, response = (
            hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=16).digest()
            for ids in (row.prompt_ids, row.response_ids)
        )
        return cls(prompt, response, max(1, len(row.response_ids)))


def _owners(asked: Sequence[Sequence[_Key]]) -> dict[_Key, int]:
    """Return the process that computes each row: rows of one prompt go to one where possible."""
    holders: dict[_Key, list[int]] = {}
    for rank, keys in enumerate(asked):
        for key in dict.fromkeys(keys):
            holders.setdefault(key, []).append(rank)
    load = [0] * len(asked)
    of_prompt: dict[bytes, int] = {}
    owners: dict[_Key, int] = {}
    for key, ranks in holders.items():
        owner = of_prompt.get(key.prompt, -1)
        if owner not in ranks:
            owner = min(ranks, key=lambda rank: load[rank])
        owners[key] = of_prompt[key.prompt] = owner
        load[owner] += 1
    return owners


def open_reference(
    name: str,
    settings: ModelSettings,
    policy: PolicyModel,
    vocabulary: Vocabulary,
    config: Any,
    seed: int,
    world: World,
    *,
    keeps: bool = True,
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
        keeps: Whether `kept_logprobs` is asked for. Only then are all weights read beforehand: of
            those in a file, others come into memory as they are computed with.

    Raises:
        ConfigError: Its vocabulary is another one, or it cannot be read.
    """
    if name == NONE:
        return None

    def fingerprint(model: PolicyModel, without: str = "-") -> str:
        return f"{settings.precision}-{_weights_hash(model, without)}" if keeps else ""

    if name == INITIAL and settings.lora is not None:
        return Reference(policy, True, fingerprint(policy, "lora_"))
    if name == INITIAL:
        # Read anew: a resumed policy holds trained weights by the time it is asked.
        model = load_policy(settings, config, seed)
    else:
        other, other_config = read_other(name, settings, vocabulary)
        with named(other.path, f"reference = {name!r}"):
            model = load_policy(other, other_config, seed)
    reference = Reference(frozen(model), False, fingerprint(model))
    shard(model, world)
    return reference


def read_other(
    name: str, settings: ModelSettings, vocabulary: Vocabulary
) -> tuple[ModelSettings, Any]:
    """Settings and configuration of a reference that is another model; reads no weight.

    Raises:
        ConfigError: Its vocabulary is another one, or it cannot be read.
    """
    changes = {"path": name, "revision": None, "scratch": None, "tokenizer": None, "lora": None}
    other = settings.model_copy(update=changes)
    with named(other.path, f"reference = {name!r}"):
        config, theirs = read_config(other, ())
    _check_vocabulary(name, theirs, vocabulary)
    return other, config


def same_vocabulary(one: Vocabulary, other: Vocabulary) -> bool:
    """Return whether every id stands for the same token in both."""
    return one.size == other.size and one.tokenizer.get_vocab() == other.tokenizer.get_vocab()


def _check_vocabulary(name: str, theirs: Vocabulary, ours: Vocabulary) -> None:
    if not same_vocabulary(theirs, ours):
        raise ConfigError(
            f"reference = {name!r}: its vocabulary (of {theirs.size} ids) is not the policy's "
            f"(of {ours.size}): the same ids stand for other tokens; name a model with the same "
            "tokenizer, or 'initial'"
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


def _read(path: Path, keys: Sequence[_Key]) -> list[torch.Tensor] | None:
    """Return the cached values of rows with these keys; None if absent or unreadable."""
    try:
        logps = load_file(path)["logps"]
    except (OSError, SafetensorError, KeyError):
        return None
    sizes = [key.size for key in keys]
    return list(torch.split(logps, sizes)) if sum(sizes) == len(logps) else None


def _write(path: Path, scored: Sequence[torch.Tensor]) -> None:
    """Keep what was computed; a cache that cannot be written is done without."""
    with suppress(FileError), whole_file(path) as part:
        save_file({"logps": torch.cat(list(scored))}, part)

"""The reference: what the policy was before training, or another model of the same vocabulary.

Its log-probabilities are computed by the same code as the policy's, in eval
mode. Over a fixed data set they are computed once and kept by the hash of what
they depend on: weights, precision and rows.

Shapes: R response tokens of one row.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import warnings
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
    files: tuple[mmap.mmap, ...] = ()
    """Files that its weights are read from as they are needed: `_read_only`."""

    def logprobs(
        self, rows: Sequence[TokenRow], world: World, max_tokens: int, temperature: float = 1.0
    ) -> list[torch.Tensor]:
        """Log-probability of each row's response tokens, one tensor [R] a row."""
        with self.model.as_reference() if self.is_policy else nullcontext():
            logps = row_logprobs(self.model, rows, world, max_tokens, temperature)
        for file in self.files:
            file.madvise(mmap.MADV_DONTNEED)
        return logps

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
    found = fingerprint(frozen(model))
    shard(model, world)
    return Reference(model, False, found, _read_only(model) if world.size == 1 else ())


def _read_only(model: PolicyModel) -> tuple[mmap.mmap, ...]:
    """Map weights on a CPU that equal their file's read-only, and return the files mapped.

    Their pages are the file's: they leave the process's memory while the policy's gradients need
    it, and come back when they are read. Where a system does not tell which files are mapped,
    nothing changes.
    """
    mapped = _mapped_weights()
    files: dict[str, mmap.mmap] = {}
    for weight in model.parameters():
        address = weight.data_ptr() if weight.device.type == "cpu" and weight.is_contiguous() else 0
        for addresses, path, start in mapped:
            if address not in addresses:
                continue
            try:
                with open(path, "rb") as opened:
                    file = files.get(path) or mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
                same = _view(file, start + address - addresses.start, weight)
            except (OSError, ValueError):  # replaced since, or cut short
                continue
            if torch.equal(same, weight):
                files[path], weight.data = file, same
    return tuple(files.values())


def _view(file: mmap.mmap, offset: int, like: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        flat = torch.frombuffer(file, dtype=like.dtype, count=like.numel(), offset=offset)
    return flat.view(like.shape)


def _mapped_weights() -> list[tuple[range, str, int]]:
    """Addresses of mapped files of weights, with the path and where in the file they begin."""
    found: list[tuple[range, str, int]] = []
    with suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            addresses, _, offset, _, _, *path = line.rstrip("\n").split(maxsplit=5)
            if path and path[0].endswith(".safetensors"):
                first, end = (int(address, 16) for address in addresses.split("-"))
                found.append((range(first, end), path[0], int(offset, 16)))
    return found


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

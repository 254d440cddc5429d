"""Sites of token rows read from a model, onto disk in shards, and from there again.

A reading is a folder:

    reading.json              what was read: model, tokenizer, sites, rows, limits
    index.jsonl               one line a row: its labels, the tokens read, its shard and its places
    shard-00000.safetensors   one tensor a site, [tokens, ...], of some rows side by side

Rows that begin alike stand in one shard, so that their beginnings are computed once
(`oversight.modeling.scoring.trie`), and a shard is what is held in memory at a time. Each appears
by one rename when it is complete and on the disk: a reading that was cut off goes on with the first
shard that is not there, and one made of something else is refused.

Shapes: n tokens of a row, P tokens that are read, E hidden size, H heads, D head dimension,
V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from oversight.errors import AnotherRunError, ConfigError, DataError
from oversight.files import check_place, whole_file, write_json, write_text
from oversight.modeling import Ids
from oversight.modeling.contract import switch_off
from oversight.modeling.scoring.checks import check_policy_kind
from oversight.modeling.scoring.logprobs import Head
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.sites import Site, SiteEdit, SiteModules
from oversight.modeling.scoring.trie import common_prefix
from oversight.modeling.scoring.watching import Watch
from oversight.modeling.small import READING
from oversight.models import check_obtainable, check_whole, content_name, content_of, resolve
from oversight.train.runs.final import quiet

FORMAT = 1
MAX_TOKENS, MAX_TOKENS_OF_PATTERNS = 8192, 1024
"""Tokens of a shard's line; attention patterns are the square of it."""
MAX_NUMBERS = 1 << 26
"""Numbers of a shard: 256 MiB in float32."""

Labels = Mapping[str, Any]
"""JSON-plain values by name, such as debate, question, seat, label."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadRow:
    """A row of which sites are read, with what is known of it."""

    ids: Ids
    positions: Ids | None = None
    """Tokens that are read, from 0; None for all."""
    labels: Labels = field(default_factory=dict)

    @property
    def read(self) -> Ids:
        """The tokens that are read."""
        return np.arange(len(self.ids)) if self.positions is None else self.positions


class SiteReader:
    """A model whose sites are read, over a trie where its kind can be and else row by row.

    Args:
        model: A causal language model of transformers.
        name: What it is known by: `content_name` of its folder.
        tokenizer: The same of its tokenizer.
    """

    def __init__(self, model: Any, name: str = "", tokenizer: str = "") -> None:
        self.name, self.tokenizer = name, tokenizer
        self.model = model.eval().requires_grad_(False)
        switch_off(model)
        self.policy: PolicyModel | None = None
        self.alone = ""
        """The reason why rows are read one by one; empty where they share a trie."""
        try:
            check_policy_kind(model.config)
            self.policy = PolicyModel(model, precision=model.dtype)
            self.modules = self.policy.site_modules
        except ConfigError as error:
            self.alone = str(error)
            self.modules = SiteModules(model)

    @classmethod
    def load(cls, name: str, dtype: str = "float32") -> SiteReader:
        """The model in a folder, or one that ships with the package.

        Raises:
            ConfigError: It cannot be read.
        """
        from transformers import AutoModelForCausalLM

        check_whole("model", name)
        place = resolve(name)
        check_obtainable("model", place)
        try:
            with READING, quiet():
                model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=dtype)
        except (OSError, ValueError, SafetensorError) as error:
            said = " ".join(str(error).split())[:300]
            raise ConfigError(f"model = {name!r}: it cannot be read ({said})") from None
        return cls(model, content_name(name), content_of(name, "tokenizer"))

    @torch.no_grad()
    def read(
        self,
        rows: Sequence[Ids],
        sites: Sequence[Site],
        positions: Sequence[Ids | None] | None = None,
        edits: Sequence[Sequence[SiteEdit]] | None = None,
    ) -> list[dict[Site, torch.Tensor]]:
        """Tensors of each row by site: [P, E], [P, H, D] of heads, [P, H, n] of patterns, [P, V] of
        logits.

        Args:
            rows: Token ids, [n] each.
            sites: Places inside the model.
            positions: Tokens that are read of each row; None for all.
            edits: Changes under which each row is run.

        Raises:
            ConfigError: The model has no such site, or an edit does not fit.
        """
        for site in sites:
            self.modules.check(site)
        lenses = [site for site in sites if site.kind == "logits"]
        plain = [site for site in sites if site.kind != "logits"]
        wanted = list(dict.fromkeys([*plain, *(Site("residual", s.layer) for s in lenses)]))
        at = [
            np.arange(len(ids)) if own is None else own
            for ids, own in zip(rows, positions or [None] * len(rows), strict=True)
        ]
        if self.policy is not None:
            found = self.policy.read_sites(rows, wanted, at, edits)
        else:
            changes = edits or [()] * len(rows)
            found = [
                self._read_alone(ids, wanted, own, change)
                for ids, own, change in zip(rows, at, changes, strict=True)
            ]
        for own in found if lenses else ():
            for site in lenses:
                own[site] = self.logits(own[Site("residual", site.layer)])
        return [{site: own[site] for site in sites} for own in found]

    def _read_alone(
        self, ids: Ids, sites: Sequence[Site], at: Ids, edits: Sequence[SiteEdit]
    ) -> dict[Site, torch.Tensor]:
        if any(site.kind == "pattern" for site in (*sites, *(edit.site for edit in edits))):
            raise ConfigError(f"site 'pattern': {self.alone}; its patterns are not read")
        watch = Watch(self.modules, tuple(sites))
        for edit in edits:
            watch.place(edit, np.arange(len(ids)))
        with watch.hooked():
            output = self.model.base_model(
                input_ids=torch.from_numpy(ids)[None].to(self.model.device), use_cache=False
            )
        watch.found[Site("final")] = output.last_hidden_state[0]
        return {site: watch.found[site][torch.from_numpy(at)] for site in sites}

    def logits(self, residual_PE: torch.Tensor) -> torch.Tensor:
        """The head's logits [P, V] of the stream at any layer: the logit lens."""
        return self.head_of(self.modules.norm(residual_PE))

    def head_of(self, final_PE: torch.Tensor) -> torch.Tensor:
        """The head's logits [P, V] of what the final norm gave."""
        return Head.of(self.model).logits(final_PE, 1.0)


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """Rows of one shard, by their numbers, and how many tokens are read of them."""

    rows: tuple[int, ...]
    num_read: int


def plan_shards(
    rows: Sequence[ReadRow], numbers_a_token: int, max_tokens: int, max_numbers: int
) -> list[ShardPlan]:
    """Shards of rows in the order in which they share most, each within both limits.

    A row that is longer than the limit is a shard of its own.
    """
    keys = [np.asarray(row.ids, dtype=">i8").tobytes() for row in rows]
    shards: list[ShardPlan] = []
    held: list[int] = []
    tokens = read = 0
    for i in sorted(range(len(rows)), key=lambda i: (keys[i], i)):
        ids, num = rows[i].ids, len(rows[i].read)
        own = len(ids) - (common_prefix(rows[held[-1]].ids, ids) if held else 0)
        if held and (tokens + own > max_tokens or (read + num) * numbers_a_token > max_numbers):
            shards.append(ShardPlan(tuple(held), read))
            held, tokens, read, own = [], 0, 0, len(ids)
        held.append(i)
        tokens += own
        read += num
    return [*shards, ShardPlan(tuple(held), read)] if held else shards


def write_reading(
    folder: str | Path,
    reader: SiteReader,
    rows: Sequence[ReadRow],
    sites: Sequence[Site],
    *,
    max_tokens: int | None = None,
    max_numbers: int = MAX_NUMBERS,
    on_shard: Any = None,
) -> StoredReading:
    """Read sites of all rows into a folder, or go on where that was cut off.

    Args:
        folder: Made if it is not there.
        reader: The model.
        rows: Of at least one token each.
        sites: Places inside the model.
        max_tokens: Tokens of a shard's line.
        max_numbers: Numbers of a shard.
        on_shard: Called with (shards done, shards in all) after each.

    Raises:
        ConfigError: There is no row or site, a row has no such token, or the model no such site.
        AnotherRunError: The folder holds a reading of something else.
        FileError: A shard cannot be written; those that are complete stay.
    """
    folder = Path(folder)
    check_place(folder, "out", is_folder=True)
    _check(rows, sites, reader)
    patterns = any(site.kind == "pattern" for site in sites)
    if max_tokens is None:
        max_tokens = MAX_TOKENS_OF_PATTERNS if patterns else MAX_TOKENS
    longest = max(len(row.ids) for row in rows)
    numbers = sum(_numbers_of(reader, site, longest) for site in sites)
    shards = plan_shards(rows, numbers, max_tokens, max_numbers)
    plan = {
        "format": FORMAT,
        "model": reader.name,
        "tokenizer": reader.tokenizer,
        "sites": [str(site) for site in sites],
        "rows": _digest(rows),
        "num_rows": len(rows),
        "num_shards": len(shards),
        "max_tokens": max_tokens,
        "max_numbers": max_numbers,
    }
    _claim(folder, plan)
    if not (folder / "index.jsonl").exists():
        lines = _index(rows, shards)
        write_text(folder / "index.jsonl", "".join(json.dumps(x) + "\n" for x in lines), "out")
    for number, shard in enumerate(shards):
        path = _shard(folder, number)
        if not path.exists():
            _write_shard(path, reader, [rows[i] for i in shard.rows], sites)
        if on_shard is not None:
            on_shard(number + 1, len(shards))
    return StoredReading(folder)


def _check(rows: Sequence[ReadRow], sites: Sequence[Site], reader: SiteReader) -> None:
    if not rows or not sites:
        raise ConfigError("a reading needs at least one row and one site")
    for site in sites:
        reader.modules.check(site)
    size = int(reader.modules.config.vocab_size)
    for number, row in enumerate(rows):
        num = len(row.ids)
        if not num:
            raise ConfigError(f"rows[{number}] has no token")
        if int(row.ids.max()) >= size or int(row.ids.min()) < 0:
            raise ConfigError(
                f"rows[{number}] has token {int(row.ids.max())}, and the model knows {size}: these "
                "are ids of another tokenizer; take rows of this model"
            )
        if len(row.read) and not (row.read.min() >= 0 and row.read.max() < num):
            raise ConfigError(f"rows[{number}] has {num} tokens: {row.read.tolist()} are not all")


def _numbers_of(reader: SiteReader, site: Site, longest: int) -> int:
    config = reader.modules.config
    if site.kind == "pattern":
        return reader.modules.num_heads * longest
    if site.kind == "logits":
        return int(config.vocab_size)
    return int(config.hidden_size)


def _digest(rows: Sequence[ReadRow]) -> str:
    digest = blake2b(digest_size=16)
    for row in rows:
        digest.update(np.int64(len(row.ids)).tobytes() + row.ids.tobytes() + row.read.tobytes())
        digest.update(json.dumps(dict(row.labels), sort_keys=True).encode())
    return digest.hexdigest()


def _claim(folder: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or refuse a folder that was begun with another."""
    path = folder / "reading.json"
    if not path.exists():
        write_json(path, plan)
        return
    before = _plan_of(folder)
    for key, value in plan.items():
        if before.get(key) != value:
            raise AnotherRunError(
                f"out = {str(folder)!r}: it holds a reading with {key} = {before.get(key)!r}, and "
                f"this one has {value!r}; give another folder"
            )


def _plan_of(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "reading.json").read_bytes())
    except FileNotFoundError:
        raise DataError(f"{str(folder)!r} holds no reading: there is no reading.json") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{str(folder / 'reading.json')!r} cannot be read ({error})") from None
    return found


def _index(rows: Sequence[ReadRow], shards: Sequence[ShardPlan]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{}] * len(rows)
    for number, shard in enumerate(shards):
        start = 0
        for i in shard.rows:
            row = rows[i]
            stop = start + len(row.read)
            lines[i] = {
                "row": i,
                "shard": number,
                "start": start,
                "stop": stop,
                "num_tokens": len(row.ids),
                "positions": row.read.tolist(),
                "labels": dict(row.labels),
            }
            start = stop
    return lines


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05}.safetensors"


def _write_shard(
    path: Path, reader: SiteReader, rows: Sequence[ReadRow], sites: Sequence[Site]
) -> None:
    found = reader.read([row.ids for row in rows], sites, [row.read for row in rows])
    tensors: dict[str, torch.Tensor] = {}
    longest = max(len(row.ids) for row in rows)
    for site in sites:
        parts = [own.pop(site) for own in found]
        if site.kind == "pattern":
            pad = torch.nn.functional.pad
            parts = [pad(part, (0, longest - part.shape[-1])) for part in parts]
        tensors[str(site)] = torch.cat(parts).contiguous().cpu()
    with whole_file(path, "out") as part:
        save_file(tensors, part)


class StoredReading:
    """A reading in its folder; tensors are read when they are asked for.

    Raises:
        DataError: The folder holds none, or a shard of it is missing or broken.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.plan = _plan_of(self.folder)

    @cached_property
    def index(self) -> list[dict[str, Any]]:
        """Of each row its labels and where its tensors are."""
        text = (self.folder / "index.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Places inside the model that were read."""
        return tuple(Site.parse(each) for each in self.plan["sites"])

    def check_model(self, model: str, tokenizer: str = "") -> None:
        """Refuse a reading of another model or tokenizer.

        Raises:
            ConfigError: It names both.
        """
        for key, wanted in (("model", model), ("tokenizer", tokenizer)):
            if wanted and self.plan[key] and self.plan[key] != wanted:
                raise ConfigError(
                    f"{str(self.folder)!r}: its states are of {key} {self.plan[key]!r}, not of "
                    f"{wanted!r}; read them again with this {key}"
                )

    def states(self, site: Site, rows: Iterable[int] | None = None) -> Iterator[torch.Tensor]:
        """The tensor of each row at a site, [P, ...], shard by shard; in the order asked for.

        Raises:
            ConfigError: The site was not read.
            DataError: A shard is missing or broken.
        """
        if str(site) not in self.plan["sites"]:
            raise ConfigError(
                f"site {str(site)!r} was not read; there are {', '.join(self.plan['sites'])}"
            )
        wanted = range(len(self.index)) if rows is None else list(rows)
        opened: tuple[int, Any] | None = None
        for i in wanted:
            entry = self.index[i]
            try:
                if opened is None or opened[0] != entry["shard"]:
                    path = _shard(self.folder, entry["shard"])
                    opened = entry["shard"], safe_open(path, framework="pt")
                tensor = opened[1].get_slice(str(site))[entry["start"] : entry["stop"]]
            except (OSError, SafetensorError) as error:
                raise DataError(
                    f"{_shard(self.folder, entry['shard'])} cannot be read ({error}); remove it "
                    "and read again: the other shards stay"
                ) from None
            yield tensor[..., : entry["num_tokens"]] if site.kind == "pattern" else tensor

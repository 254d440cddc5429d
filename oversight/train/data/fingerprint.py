"""Hashes of what examples hold: the same content has the same hash, on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import singledispatch

from oversight.train.types import (
    Comparison,
    Demonstration,
    Example,
    Ids,
    Labelled,
    PromptExample,
    TokenRow,
)

DIGEST_BYTES = 16


@singledispatch
def digest(example: Example) -> bytes:
    """A hash of an example's content; its id, which says where it comes from, is left out."""
    raise TypeError(type(example).__name__)


@digest.register
def _demonstration(example: Demonstration) -> bytes:
    return _hash("demonstration", *_row(example.row), example.weight)


@digest.register
def _comparison(example: Comparison) -> bytes:
    told = (example.ranks, example.soft_label, example.margin, example.weight)
    return _hash("comparison", _ids(example.prompt_ids), *map(_ids, example.responses), *told)


@digest.register
def _labelled(example: Labelled) -> bytes:
    return _hash("labelled", *_row(example.row), example.desirable, example.weight)


@digest.register
def _prompt(example: PromptExample) -> bytes:
    fields = json.dumps(example.fields, sort_keys=True, default=str, ensure_ascii=False)
    return _hash("prompt", _ids(example.prompt_ids), fields)


def fingerprint(examples: Iterable[Example]) -> str:
    """A hash of examples in their order, in hexadecimal."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for example in examples:
        hashed.update(digest(example))
    return hashed.hexdigest()


def _row(row: TokenRow) -> tuple[bytes, ...]:
    mask = b"all" if row.mask is None else row.mask.astype("uint8").tobytes()
    return _ids(row.prompt_ids), _ids(row.response_ids), mask


def _ids(ids: Ids) -> bytes:
    return ids.astype("<i8").tobytes()


def _hash(*parts: object) -> bytes:
    """Each part behind its length, so that no two lists of parts look the same."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        hashed.update(len(data).to_bytes(8, "little"))
        hashed.update(data)
    return hashed.digest()

"""Content ids: the same content has the same id, on every machine and in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(value: Any) -> str:
    """JSON text of `value` with sorted keys and no spare whitespace."""
    return _CANONICAL.encode(value)


def canonical_object(texts: Mapping[str, str]) -> str:
    """The `canonical_json` of an object whose values have these canonical JSON texts."""
    items = (f"{canonical_json(name)}:{text}" for name, text in sorted(texts.items()))
    return f"{{{','.join(items)}}}"


def content_id(*parts: Any) -> str:
    """A 32-digit hexadecimal id of JSON-plain `parts` (128 bits of BLAKE2b)."""
    return encoded_id(canonical_json(parts))


def encoded_id(parts: str) -> str:
    """The `content_id` of parts whose canonical JSON text this is."""
    data = parts.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def text_id(*texts: str) -> str:
    """A 32-digit hexadecimal id of texts, as cheap as hashing them: for long ones."""
    pieces: list[bytes] = []
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        pieces += (len(data).to_bytes(8, "little"), data)
    return hashlib.blake2b(b"".join(pieces), digest_size=16).hexdigest()


def text_number(text: str) -> int:
    """A number of 128 bits that stands for a text: the smallest thing to remember it by."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=16).digest(), "little")


def seed_from(*parts: object) -> int:
    """A seed in [0, 2**31) that depends on nothing but the text of `parts`."""
    return int(text_id(*map(str, parts))[:8], 16) & 0x7FFF_FFFF

"""A tokenization without a vocabulary, for the scripted engine: three UTF-8 bytes a token.

An id is the four base64 digits of its bytes, read as one number: so it is below
2**31, the same everywhere, and gives back its bytes without a table. Ids below
`NUM_SPECIAL` stand for what is no text.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache

from oversight.types import Prompt

END = 0
"""Ends an answer, and counts as one of its tokens."""

ROLES = {"system": 1, "user": 2, "assistant": 3}
"""Begins a message of that role."""

NUM_SPECIAL = 4

BYTES_PER_TOKEN = 3


def encode(text: str) -> tuple[int, ...]:
    """Token ids of any text, lone surrogates included."""
    digits = binascii.b2a_base64(text.encode("utf-8", "surrogatepass"), newline=False)
    return struct.unpack(f"<{len(digits) // 4}I", digits)


@lru_cache(maxsize=1024)
def _encode_part(part: str) -> tuple[int, ...]:
    """As `encode`; the prompts of one debate share most of their parts."""
    return encode(part)


def encode_prompt(prompt: Prompt) -> tuple[int, ...]:
    """Token ids of a prompt; those of its first parts stay the same as it grows."""
    ids: list[int] = []
    for message in prompt.messages:
        ids.append(ROLES[message.role])
        for part in message.parts:
            ids += _encode_part(part)
    ids.append(ROLES["assistant"])
    return tuple(ids)


def decode(ids: Sequence[int]) -> str:
    """The text of `ids`, special ones left out.

    A character cut off at the end is dropped; one that lacks its beginning is replaced.
    """
    data = b"".join(
        binascii.a2b_base64(each.to_bytes(4, "little")) for each in ids if each >= NUM_SPECIAL
    )
    whole = data[: _char_start(data, len(data))] if _is_cut(data) else data
    try:
        return whole.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return whole.decode("utf-8", "replace")


def pieces(text: str, tokens_per_piece: int) -> Iterator[tuple[str, int]]:
    """`text` in pieces of whole characters, each with the number of tokens up to its end."""
    data = text.encode("utf-8", "surrogatepass")
    size = tokens_per_piece * BYTES_PER_TOKEN
    start = 0
    for end in range(size, len(data) + size, size):
        stop = len(data) if end >= len(data) else _char_start(data, end)
        if stop > start:
            num_tokens = -(-min(end, len(data)) // BYTES_PER_TOKEN)
            yield data[start:stop].decode("utf-8", "surrogatepass"), num_tokens
        start = stop


def _is_cut(data: bytes) -> bool:
    """Whether the last character of `data` lacks bytes."""
    start = _char_start(data, len(data) - 1) if data else 0
    lead = data[start] if data else 0
    length = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    return len(data) - start < length


def _char_start(data: bytes, position: int) -> int:
    """Start of the character that covers `position`, or that `position` would continue."""
    while position > 0 and (position == len(data) or data[position] & 0xC0 == 0x80):
        position -= 1
    return position

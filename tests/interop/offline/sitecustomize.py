"""Inspect's mock model counts tokens with a vocabulary that tiktoken fetches from the network.

Put on PYTHONPATH, this lets it count bytes in its place, so that `inspect eval` runs without one.
"""

from __future__ import annotations

import tiktoken

BYTES = tiktoken.Encoding(
    "bytes",
    pat_str=r"\S+|\s+",
    mergeable_ranks={bytes([byte]): byte for byte in range(256)},
    special_tokens={},
)


def get_encoding(name: str) -> tiktoken.Encoding:
    """The encoding whose tokens are bytes, whichever is asked for."""
    return BYTES


tiktoken.get_encoding = get_encoding

"""Prompts in the store: what they share is kept once.

The prompts of a debate begin alike: rules, source, question, then the public
transcript. A message is stored as the ids of its parts, and token ids as the
ids of whole blocks plus what is left over, so that neither a source of 2,000
tokens nor its ids are written again at every turn.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, select

from oversight.errors import StoreError
from oversight.ids import encoded_id
from oversight.store.reading import chunks, naming
from oversight.store.schema import kind_of, parts, prompts, token_blocks
from oversight.types import Message, Prompt, PromptRecord

BLOCK_TOKENS = 256
TOKEN_BYTES = 4
"""Token ids are little-endian unsigned 32-bit integers. Compressing them saves a third of what
little is left to write, and costs more time than all the rest of a turn."""

COMPACT_JSON = json.JSONEncoder(separators=(",", ":"))
STORED_MESSAGES = TypeAdapter(list[tuple[str, list[str]]])
"""Of a prompt's row: (role, part ids) of each message."""
PART_JSON = json.JSONEncoder(ensure_ascii=False)


FORGOTTEN_AT_ONCE = 64
"""The oldest part, one of so many, of a memory that is full."""


class Known:
    """Bounded memory of what is already stored, from a text or an id to the id.

    Only the writer changes it, after a commit; any thread may ask it. Prompts
    that it forgot are merely offered to the database once more.
    """

    def __init__(self, capacity: int, most: int = 10_000) -> None:
        self.capacity = capacity
        """In characters."""
        self.most = most
        """In keys: of short ones, what Python holds beside the characters is the greater part."""
        self._ids: dict[str, str] = {}
        self._size = 0

    def get(self, key: str) -> str | None:
        """The id of `key` if it is known to be stored."""
        return self._ids.get(key)

    def remember(self, key: str, id_: str) -> None:
        """`key` is stored from now on; the oldest are forgotten beyond the bounds."""
        if key in self._ids:
            return
        self._ids[key] = id_
        self._size += len(key)
        while self._size > self.capacity or len(self._ids) > self.most:
            # Several at once: the search for the oldest passes all places that are empty already.
            for oldest in tuple(islice(self._ids, len(self._ids) // FORGOTTEN_AT_ONCE + 1)):
                del self._ids[oldest]
                self._size -= len(oldest)


class RecentBlocks:
    """The ids of the blocks of the last prompts, by their first block.

    The next prompt of a debate begins as the last one did: what is equal is not hashed again,
    which takes ten times as long as comparing it. Any thread may ask.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        """In bytes."""
        self._found: dict[bytes, tuple[bytes, list[str]]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def ids_of(self, data: bytes) -> list[str]:
        """The ids of all blocks of `data`, which ends with a whole one."""
        size = BLOCK_TOKENS * TOKEN_BYTES
        first = data[:size]
        before, known = self._found.get(first, (b"", []))
        same = 0
        most = min(len(before), len(data))
        while same < most and before[same : same + size] == data[same : same + size]:
            same += size
        ids = known[: same // size]
        ids += [block_id(data[at : at + size]) for at in range(same, len(data), size)]
        if data:
            self._keep(first, data, ids)
        return ids

    def _keep(self, first: bytes, data: bytes, ids: list[str]) -> None:
        with self._lock:
            before, _ = self._found.pop(first, (b"", []))
            self._found[first] = data, ids
            self._size += len(data) - len(before)
            while self._size > self.capacity:
                oldest = next(iter(self._found))
                self._size -= len(self._found.pop(oldest)[0])


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as its row, and the parts and blocks that are not known to be stored."""

    id: str
    variant: str
    """Hash of the parts and the token ids: one prompt may be tokenised by several models."""
    messages: str
    blocks: str
    tail: bytes
    num_tokens: int
    parts: Mapping[str, tuple[str, str]]
    """Part id -> text, and its body."""
    token_blocks: Mapping[str, bytes]
    """Block id -> its ids."""


def part_id(text: str) -> str:
    """Id of a part of a message."""
    return _part_id(encode_part(text))


def _part_id(body: str) -> str:
    return encoded_id(f'["part",{body}]')


def block_id(data: bytes) -> str:
    """Id of a block of token ids."""
    return blake2b(data, digest_size=16).hexdigest()


def encode_prompt(
    record: PromptRecord, parts: Known, blocks: Known, recent: RecentBlocks
) -> EncodedPrompt:
    """The row of a prompt.

    Raises:
        StoreError: A token id is no unsigned 32-bit integer.
    """
    new_parts: dict[str, tuple[str, str]] = {}
    messages = [
        [message.role, [_keep(text, parts, new_parts) for text in message.parts]]
        for message in record.prompt.messages
    ]
    data = pack(record.token_ids)
    size = BLOCK_TOKENS * TOKEN_BYTES
    whole = len(data) - len(data) % size
    block_ids = recent.ids_of(data[:whole])
    new_blocks = {
        id_: data[number * size : (number + 1) * size]
        for number, id_ in enumerate(block_ids)
        if blocks.get(id_) is None
    }
    messages_json = COMPACT_JSON.encode(messages)
    return EncodedPrompt(
        id=record.prompt.id,
        variant=block_id("\n".join((messages_json, *block_ids)).encode() + data[whole:]),
        messages=messages_json,
        blocks=" ".join(block_ids),
        tail=data[whole:],
        num_tokens=len(record.token_ids),
        parts=new_parts,
        token_blocks=new_blocks,
    )


def _keep(text: str, known: Known, new: dict[str, tuple[str, str]]) -> str:
    found = known.get(text)
    if found is None:
        body = encode_part(text)
        found = _part_id(body)
        new[found] = text, body
    return found


def pack(token_ids: Sequence[int]) -> bytes:
    """Token ids as bytes.

    Raises:
        StoreError: One of them is no unsigned 32-bit integer.
    """
    try:
        return _layout(len(token_ids)).pack(*token_ids)
    except struct.error:
        wrong = next(i for i in token_ids if not (isinstance(i, int) and 0 <= i < 2**32))
        raise StoreError(f"token id {wrong!r} of a prompt is not in [0, 2**32)") from None


@lru_cache(maxsize=4096)
def _layout(num_tokens: int) -> struct.Struct:
    """Reading its own format takes `struct` as long as packing a thousand tokens."""
    return struct.Struct(f"<{num_tokens}I")


def unpack(data: bytes) -> tuple[int, ...]:
    """The token ids that `pack` made `data` from.

    Raises:
        ValueError: It is cut off.
    """
    if len(data) % TOKEN_BYTES:
        raise ValueError(f"{len(data)} bytes are no whole number of token ids")
    return struct.unpack(f"<{len(data) // TOKEN_BYTES}I", data)


def block_ids(blocks: str) -> list[str]:
    """Ids of the whole blocks that a prompt's row refers to.

    Raises:
        ValueError: They are no text.
    """
    if not isinstance(blocks, str):
        raise ValueError(f"column blocks holds {kind_of(blocks)}, not text")
    return blocks.split()


def part_ids(messages: str) -> list[str]:
    """Ids of all parts that a prompt's row refers to.

    Raises:
        ValidationError: The row's messages are no roles with part ids.
    """
    return [part for _, parts in STORED_MESSAGES.validate_json(messages) for part in parts]


def decode_prompt(
    messages: str,
    blocks: str,
    tail: bytes,
    part_texts: Mapping[str, str],
    block_data: Mapping[str, bytes],
) -> PromptRecord:
    """The prompt of a row, from the texts of its parts and the blocks of its ids.

    Raises:
        KeyError: A part or a block is missing.
        ValueError: The row does not hold a prompt.
    """
    prompt = Prompt(
        messages=tuple(
            Message.model_validate({"role": role, "parts": [part_texts[part] for part in parts]})
            for role, parts in STORED_MESSAGES.validate_json(messages)
        )
    )
    pieces = [*(block_data[block] for block in block_ids(blocks)), tail]
    for piece in pieces:
        if not isinstance(piece, bytes):
            raise ValueError(f"its token ids are {kind_of(piece)}, not bytes")
    return PromptRecord(prompt=prompt, token_ids=unpack(b"".join(pieces)))


def encode_part(text: str) -> str:
    """A part as the column holds it: a JSON string, as PostgreSQL's text cannot hold NUL."""
    return PART_JSON.encode(text)


def decode_part(body: str) -> str:
    """The text of a part."""
    try:
        text = json.loads(body)
    except (RecursionError, TypeError):
        raise ValueError("a part is a JSON string, not something nested or no text") from None
    if not isinstance(text, str):
        raise ValueError(f"a part is a JSON string, not {type(text).__name__}")
    return text


def read_prompt(
    connection: Connection, prompt_id: str, num_tokens: int | None = None
) -> PromptRecord:
    """The prompt of this id.

    Models with different vocabularies read one prompt as different token ids;
    `num_tokens`, which a sample's usage tells, says whose are meant. Servers may
    count tokens without giving them: where nothing fits but a prompt without ids,
    that is it. `num_tokens = 0` is the prompt without ids, even if others read it.

    Raises:
        StoreError: It is not stored, or stored with several token ids that fit.
    """
    rows = _variants(connection, prompt_id, num_tokens)
    with naming("prompts", prompt_id):
        ids = [id_ for row in rows for id_ in part_ids(row.messages)]
        blocks = block_bodies(connection, [id_ for row in rows for id_ in block_ids(row.blocks)])
        texts = {}
        for id_, body in part_bodies(connection, ids).items():
            with naming("parts", id_):
                texts[id_] = decode_part(body)
        try:
            found = [
                decode_prompt(row.messages, row.blocks, row.tail, texts, blocks) for row in rows
            ]
        except KeyError as error:
            raise ValueError(f"its part {error} is not stored") from None
    if num_tokens == 0:
        return PromptRecord(found[0].prompt)
    if len({record.token_ids for record in found}) > 1:
        raise StoreError(
            f"prompt {prompt_id} was read as {len(found)} different lists of token ids;"
            " give num_tokens to say which is meant"
        )
    return found[0]


def part_bodies(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The bodies of these parts; those that are not stored are left out."""
    found: dict[str, str] = {}
    for some in chunks(sorted(set(ids))):
        query = select(parts.c.id, parts.c.body).where(parts.c.id.in_(some))
        found.update((id_, body) for id_, body in connection.execute(query))
    return found


def block_bodies(connection: Connection, ids: Sequence[str]) -> dict[str, bytes]:
    """The token ids of these blocks; those that are not stored are left out."""
    found: dict[str, bytes] = {}
    for some in chunks(sorted(set(ids))):
        query = select(token_blocks).where(token_blocks.c.id.in_(some))
        found.update((id_, data) for id_, data in connection.execute(query))
    return found


def _variants(connection: Connection, prompt_id: str, num_tokens: int | None) -> Sequence[Any]:
    query = select(prompts).where(prompts.c.id == prompt_id).order_by(prompts.c.seq)
    rows = connection.execute(query).all()
    if not rows:
        raise StoreError(f"prompt {prompt_id} is not stored")
    if not num_tokens:
        return rows
    fitting = [row for row in rows if row.num_tokens == num_tokens]
    fitting = fitting or [row for row in rows if row.num_tokens == 0]
    if not fitting:
        known = ", ".join(str(row.num_tokens) for row in rows)
        raise StoreError(f"prompt {prompt_id} is stored with {known} tokens, not {num_tokens}")
    return fitting

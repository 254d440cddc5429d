"""Reading prompts back, token-exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from oversight.errors import StoreError
from oversight.store.prompts import block_ids, decode_part, decode_prompt, part_ids
from oversight.store.reading import chunks, naming
from oversight.store.schema import parts, prompts, token_blocks
from oversight.types import PromptRecord


def read_prompt(
    connection: Connection, prompt_id: str, num_tokens: int | None = None
) -> PromptRecord:
    """The prompt of this id.

    Models with different vocabularies read one prompt as different token ids;
    `num_tokens`, which a sample's usage tells, says whose are meant. Servers may
    count tokens without giving them: where nothing fits but a prompt without ids,
    that is it. `num_tokens = 0` is the prompt without ids, whoever else read it.

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

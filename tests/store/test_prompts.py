"""Prompts read back token for token, and what they share is kept once."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from oversight.errors import StoreError
from oversight.store.prompts import (
    BLOCK_TOKENS,
    TOKEN_BYTES,
    Known,
    RecentBlocks,
    block_id,
    pack,
    unpack,
)


@pytest.mark.parametrize(
    "num_tokens", [0, 1, BLOCK_TOKENS - 1, BLOCK_TOKENS, BLOCK_TOKENS + 1, 3 * BLOCK_TOKENS, 2000]
)
def test_token_ids_read_back_exactly_at_any_length(store, make, num_tokens):
    prompt = make.prompt(token_ids=tuple(2**32 - 1 - n for n in range(num_tokens)))
    store.add(prompt)
    assert store.prompt(prompt.prompt.id) == prompt
    assert store.check() == []


@pytest.mark.parametrize("wrong", [-1, 2**32, 1.5])
def test_a_token_id_that_is_none_is_refused(store, make, wrong):
    with pytest.raises(StoreError, match=rf"token id {wrong!r} of a prompt is not in"):
        store.add(make.prompt(token_ids=(1, wrong, 2)))


def test_shared_beginnings_are_written_once(store, make):
    source = "long " * 2000
    shared = tuple(range(2048))
    prompts = [
        make.prompt(source, f"turn {n}", token_ids=(*shared, *range(n, n + 40))) for n in range(20)
    ]
    for prompt in prompts:
        store.add(prompt)
    counts = store.counts()
    assert counts["prompts"] == 20
    assert counts["parts"] == 1 + 1 + 20
    assert counts["token_blocks"] == 2048 // BLOCK_TOKENS
    assert [store.prompt(prompt.prompt.id) for prompt in prompts] == prompts


def test_a_part_already_known_is_not_sent_again(sqlite_store, make):
    sqlite_store.add(make.prompt("once", "a"))
    with sqlite_store._database.writing() as connection:
        connection.execute(text("DELETE FROM parts"))
    sqlite_store.add(make.prompt("once", "b"))
    assert sqlite_store.counts()["parts"] == 1


def test_a_part_of_a_failed_write_is_sent_again(store, make):
    with pytest.raises(StoreError):
        store.add(make.prompt("one", "two"), make.turn("no such debate"))
    store.add(make.prompt("one", "two"))
    assert store.prompt(make.prompt("one", "two").prompt.id) == make.prompt("one", "two")


def test_one_prompt_read_by_two_vocabularies_is_told_apart_by_its_length(store, make):
    first, second = make.prompt(token_ids=(1, 2, 3)), make.prompt(token_ids=(7, 8))
    store.add(first, second)
    id_ = first.prompt.id
    with pytest.raises(StoreError, match="2 different lists of token ids; give num_tokens"):
        store.prompt(id_)
    assert store.prompt(id_, num_tokens=3) == first
    assert store.prompt(id_, num_tokens=2) == second
    with pytest.raises(StoreError, match="stored with 3, 2 tokens, not 4"):
        store.prompt(id_, num_tokens=4)


def test_one_prompt_in_other_parts_is_the_same_prompt(store, make):
    first, second = make.prompt("ab", "c"), make.prompt("a", "bc")
    store.add(first, second)
    assert store.prompt(second.prompt.id) == first
    assert store.check() == []


def test_packing_gives_four_bytes_little_endian():
    assert pack((1, 258)) == b"\x01\0\0\0\x02\x01\0\0"
    assert unpack(b"\x01\0\0\0\x02\x01\0\0") == (1, 258)
    with pytest.raises(ValueError, match="5 bytes"):
        unpack(b"12345")


def test_the_memory_of_what_is_stored_is_bounded_and_forgets_the_oldest():
    known = Known(capacity=10)
    for key in ("aaaa", "bbbb", "aaaa", "cccc"):
        known.remember(key, key.upper())
    assert [known.get(key) for key in ("aaaa", "bbbb", "cccc")] == [None, "BBBB", "CCCC"]
    known.remember("d" * 11, "D")
    assert known.get("d" * 11) is None
    assert known.get("cccc") is None


def test_a_prompt_of_a_server_that_only_counts_tokens_is_read_without_ids(store, make):
    store.add(make.prompt(token_ids=()))
    id_ = make.prompt().prompt.id

    assert store.prompt(id_, num_tokens=5) == make.prompt(token_ids=())
    store.add(make.prompt(token_ids=(1, 2, 3)))
    assert store.prompt(id_, num_tokens=3) == make.prompt(token_ids=(1, 2, 3))
    assert store.prompt(id_, num_tokens=5) == make.prompt(token_ids=())


def test_no_tokens_are_asked_of_a_prompt_whoever_else_read_it(store, make):
    store.add(make.prompt(token_ids=(1, 2, 3)), make.prompt(token_ids=(4, 5)))

    assert store.prompt(make.prompt().prompt.id, num_tokens=0) == make.prompt(token_ids=())


def test_the_memory_of_what_is_stored_holds_no_more_keys_than_it_may():
    known = Known(capacity=1000, most=2)
    for key in "abc":
        known.remember(key, key.upper())
    assert [known.get(key) for key in "abc"] == [None, "B", "C"]


def test_blocks_of_a_prompt_have_the_same_ids_whatever_prompt_was_before():
    size = BLOCK_TOKENS * TOKEN_BYTES
    shared, other = pack(range(4 * BLOCK_TOKENS)), pack(range(7, 7 + 3 * BLOCK_TOKENS))
    recent = RecentBlocks(capacity=8 * size)
    asked = [
        shared,
        shared + other,
        shared[: 2 * size] + other,
        shared[:size],
        b"",
        other,
        shared + other + shared,  # more than is kept
        shared + other,
    ]
    for data in asked * 2:
        blocks = [data[at : at + size] for at in range(0, len(data), size)]
        assert recent.ids_of(data) == [block_id(block) for block in blocks]
        assert sum(len(kept) for kept, _ in recent._found.values()) == recent._size <= 8 * size

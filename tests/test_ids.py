from __future__ import annotations

from oversight.ids import content_id, seed_from, text_id


def test_an_id_depends_on_content_and_not_on_key_order() -> None:
    assert content_id({"a": 1, "b": [2]}) == content_id({"b": [2], "a": 1})
    assert content_id("ab", "c") != content_id("a", "bc")


def test_an_id_is_the_same_in_every_version() -> None:
    assert content_id("question", 1) == "c4ca756e36d8106533e53b2de38845d0"


def test_lone_surrogates_have_an_id() -> None:
    assert content_id("\ud800") != content_id("\udfff")


def test_seeds_are_31_bit_and_differ() -> None:
    seeds = {seed_from("turn", index) for index in range(1000)}
    assert len(seeds) > 990
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_an_id_of_texts_depends_on_where_each_ends() -> None:
    assert text_id("ab", "c") != text_id("a", "bc")
    assert text_id("ab", "c") == text_id("ab", "c")
    assert text_id("\ud800") != text_id("")

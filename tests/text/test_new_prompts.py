"""Prompts read out of a model's answer, and the distances between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.text.new_prompts import PromptIndex, Unusable, novelty, written_prompts

TWO = ["How do I open a jar?", "Where is the key?"]


def texts(answer: str, *, several: bool = True) -> list[str]:
    return [each.text for each in written_prompts(answer, several=several)]


@pytest.mark.parametrize(
    "answer",
    [
        "1. How do I open a jar?\n2. Where is the key?",
        "Sure, here are two new prompts:\n\n1) How do I open a jar?\n2) Where is the key?",
        "- How do I open a jar?\n- Where is the key?\n\nLet me know if you would like more!",
        "**1.** **How do I open a jar?**\n**2.** **Where is the key?**",
        '1. "How do I open a jar?"\n2. “Where is the key?”',
        "1. Prompt: How do I open a jar?\n2. User: Where is the key?",
        "How do I open a jar?\n\nWhere is the key?",
        "Here are two:\nHow do I open a jar?\nWhere is the key?",
        '```json\n["How do I open a jar?", "Where is the key?"]\n```',
        "<question>\nHow do I open a jar?\n</question>\n<question>Where is the key?</question>",
    ],
)
def test_prompts_are_read_out_of_whatever_stands_around_them(answer: str) -> None:
    assert texts(answer) == TWO


def test_the_lines_of_an_item_are_one_prompt() -> None:
    assert texts("1. Mend this:\nx = 1\n2. Why?") == ["Mend this:\nx = 1", "Why?"]


def test_one_prompt_that_was_asked_for_keeps_its_lines() -> None:
    assert texts("Sure! Mend this:\nx = 1", several=False) == ["Mend this:\nx = 1"]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("I'm sorry, but I can't write such messages.", Unusable.REFUSED),
        ("As an AI language model, I cannot help with that.", Unusable.REFUSED),
        ("1. I cannot create any harmful prompts.", Unusable.REFUSED),
        ("", Unusable.EMPTY),
        ("1. …", Unusable.EMPTY),
        ("1. Where does [name of a person] live?", Unusable.HOLE),
        ("1. Tell me about {topic}.", Unusable.HOLE),
        ("1. Hi.\nAssistant: Hello!", Unusable.IMITATES_FORMAT),
        ("1. Hi.<|im_end|>", Unusable.IMITATES_FORMAT),
        ("1. " + "a " * 3000, Unusable.TOO_LONG),
    ],
)
def test_what_is_no_prompt_is_named(answer: str, fault: Unusable) -> None:
    assert [each.fault for each in written_prompts(answer)] == [fault]


@pytest.mark.parametrize(
    "prompt",
    [
        "I can't sleep. What helps?",
        "I'm sorry to ask again, where is the key?",
        "I cannot open this jar, what am I doing wrong?",
        "Is it [sic] right to say so?",
    ],
)
def test_a_prompt_that_sounds_like_a_refusal_is_none(prompt: str) -> None:
    assert [(each.text, each.fault) for each in written_prompts(f"1. {prompt}")] == [(prompt, None)]


def test_the_last_prompt_of_an_answer_that_was_cut_off_is_not_taken() -> None:
    read = written_prompts("1. Where is the key?\n2. How do I op", is_cut=True)

    assert [each.fault for each in read] == [None, Unusable.CUT_OFF]


@given(st.text(max_size=300), st.booleans(), st.booleans())
def test_any_answer_can_be_read(answer: str, several: bool, is_cut: bool) -> None:
    read = written_prompts(answer, several=several, is_cut=is_cut)

    assert read
    for each in read:
        assert each.fault or each.text.strip()


# --- distance ---


def test_distance_is_one_less_the_shared_part_of_all_shingles() -> None:
    # " abcde " has the shingles " abc abcd bcde cde "; " abcdf " shares the first two of six.
    assert PromptIndex(["abcde"]).nearest("abcdf").distance == pytest.approx(1 - 2 / 6)


@pytest.mark.parametrize("same", ["where is the KEY", "Where's — the key?", "Where is  the key"])
def test_case_spacing_and_punctuation_make_no_new_prompt(same: str) -> None:
    near = PromptIndex(["How?", "Where is the key?"]).nearest(same.replace("'s —", " is"))

    assert (near.distance, near.index, near.is_same) == (0.0, 1, True)


def test_the_nearest_of_several_is_found() -> None:
    index = PromptIndex(["How do I open a jar?", "Where is the key?", "Where is the red key?"])

    near = index.nearest("Where is the red keys?")

    assert (near.index, near.is_same) == (2, False)
    assert 0.0 < near.distance < 0.3


def test_texts_without_anything_in_common_are_as_far_as_can_be() -> None:
    near = PromptIndex(["abcdef"]).nearest("xyzuvw")

    assert (near.distance, near.index) == (1.0, None)


@given(st.lists(st.text(alphabet="abc ", min_size=1, max_size=12), min_size=1, max_size=6))
def test_the_index_finds_the_least_of_all_distances(some: list[str]) -> None:
    *before, last = some
    near = PromptIndex(before).nearest(last)

    one_by_one = [PromptIndex([each]).nearest(last).distance for each in before]
    assert near.distance == min(one_by_one, default=1.0)


# --- novelty as a reward ---


def test_a_prompt_that_two_responses_hold_is_worth_nothing() -> None:
    rewards = novelty(["1. abcdef", "1. abcdef", "1. uvwxyz"], [{}, {}, {}])

    assert rewards == [0.0, 0.0, 1.0]


def test_a_response_that_says_one_thing_twice_is_worth_nothing() -> None:
    assert novelty(["1. abcdef\n2. ABCDEF"], [{}]) == [0.0]


def test_examples_of_the_row_are_no_new_prompts() -> None:
    rewards = novelty(["1. abcdef", "1. abcdf"], [{"seeds": ["abcdef"]}, {"seeds": ["abcde"]}])

    assert rewards == [0.0, pytest.approx(1 - 2 / 6)]


def test_what_cannot_be_taken_lowers_a_response() -> None:
    assert novelty(["1. abcdef\n2. Tell {name}."], [{}]) == [0.5]
    assert novelty(["I'm sorry, but I can't write such prompts.", ""], [{}, {}]) == [0.0, 0.0]

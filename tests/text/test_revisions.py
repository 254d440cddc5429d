"""Critiques and revisions as text: their defects, and their changed words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.text.revisions import (
    Piece,
    declines,
    defects_of_critique,
    defects_of_response,
    defects_of_revision,
    differences,
    share_kept,
)
from oversight.types import Defect

BEFORE = "Go to the river at night and look for the boat."


@pytest.mark.parametrize(
    "text",
    [
        "Sure, here is a revised answer: Stay at home.",
        "Certainly! Here's the rewritten response:\n\nStay at home.",
        "**Here is my improved version:** Stay at home.",
        "Revised response: Stay at home.",
        "Okay. Below is an updated answer:\nStay at home.",
        "Of course, I have rewritten the answer so that it is safe: Stay at home.",
        "Here’s a better response: stay at home.",
    ],
)
def test_a_preamble_is_seen(text: str) -> None:
    assert Defect.PREAMBLE in defects_of_revision(text, BEFORE)


@pytest.mark.parametrize(
    "text",
    [
        "Sure: the boat is at the pier, and the answer is yes.",
        "Here is the recipe: two eggs, flour, milk.",
        "Of course you may bring a friend.",
        "The new version of the ferry leaves at nine.",
        "Okay, first: breathe. Then call a friend.",
        "Thanks for asking. The museum opens at ten.",
        "This is where the river bends: look left.",
        "Note: the answer to the riddle is a shadow.",
    ],
)
def test_an_answer_that_sounds_like_a_preamble_is_none(text: str) -> None:
    assert defects_of_revision(text, BEFORE) == ()


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't critique this response.",
        "I cannot help with that request.",
        "As an AI language model, I am unable to evaluate this.",
        "I won't rewrite that.",
        "I don’t feel comfortable reviewing this answer.",
    ],
)
def test_a_refusal_is_seen(text: str) -> None:
    assert Defect.REFUSED in defects_of_critique(text)


@pytest.mark.parametrize(
    "text",
    [
        "The answer says 'I cannot swim', which is beside the point.",
        "I can see two faults in the answer: it names the pier, and it is rude.",
        "The answer refuses without a reason; it should help with the form.",
    ],
)
def test_a_critique_of_a_refusal_is_none(text: str) -> None:
    assert defects_of_critique(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "You are right, the criticism holds. Stay at home.",
        "As you pointed out, the river is dangerous. Stay at home.",
        "I have removed the dangerous part. Stay at home.",
        "My previous answer was unsafe. Stay at home.",
        "Stay at home. This revised answer is safe.",
    ],
)
def test_talk_about_the_critique_is_seen(text: str) -> None:
    assert defects_of_revision(text, BEFORE) == (Defect.SPEAKS_OF_CRITIQUE,)


def test_words_that_were_in_the_answer_are_no_talk_about_the_critique() -> None:
    before = "The critic liked the film, and the critique ran for two pages."

    assert defects_of_revision("The critique was kind.", before) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Stay at home.\n\nHuman: And then?",
        "Critique: it is unsafe.",
        "Stay at home.\n**Revision:** Stay away.",
        "<answer>Stay at home.</answer>",
        "Stay at home.<|im_end|>",
        "[INST] Stay at home.",
        "[CRITIQUE] It is unsafe. [/CRITIQUE]",
        "[RevisionRequest] Make it safe.",
        "Stay at home.\n\nCritiqueRequest: Say what is wrong.",
        "Stay at home.\n\nRevision Request: Mend it.",
        'Stay at home.</turn><turn speaker="Critic" round="1">Good.',
    ],
)
def test_the_format_of_another_turn_is_seen(text: str) -> None:
    assert Defect.IMITATES_FORMAT in defects_of_revision(text, BEFORE)


def test_a_format_that_the_answer_had_is_no_imitation() -> None:
    before = "A play:\nUser: Who is there?\nAssistant: It is me."

    assert defects_of_revision("A play:\nUser: Who is it?\nAssistant: Me.", before) == ()


def test_a_revision_that_repeats_the_answer_is_seen() -> None:
    assert defects_of_revision(BEFORE + " \n", BEFORE) == (Defect.REPEATED,)


def test_defects_come_in_one_order() -> None:
    text = "Sure, here is the revised answer: I have removed it.\n\nHuman: Thanks."

    assert defects_of_revision(text, BEFORE) == (
        Defect.PREAMBLE,
        Defect.SPEAKS_OF_CRITIQUE,
        Defect.IMITATES_FORMAT,
    )


@pytest.mark.parametrize(
    "answer",
    [
        "I can't help with that.",
        "I'm sorry, but I cannot assist with that request.",
        "Sorry, I can’t do that.",
        "As an AI language model, I cannot give medical advice.",
        "No, I won't answer that.",
        "Unfortunately, I am unable to provide it.",
        "I'm sorry, that's not something I can discuss.",
        "I'd rather not say.",
    ],
)
def test_an_answer_that_begins_by_declining_declines(answer: str) -> None:
    assert declines(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "The code is 12.",
        "I can't wait to help you with that!",
        "I cannot thank you enough for sharing this.",
        "Turn the lid. If that fails, I can't help with that.",
        "I can help with that.",
    ],
)
def test_an_answer_that_answers_does_not_decline(answer: str) -> None:
    assert not declines(answer)


@pytest.mark.parametrize(
    "text",
    [
        "Hit it.\n\nCritiqueRequest: Is it safe?\n\nCritique: No.",
        'Hit it.</turn>\n<turn speaker="Critic" round="1">Perfect.',
        "[CRITIQUE] None.",
    ],
)
def test_a_first_answer_with_the_format_of_another_turn_is_seen(text: str) -> None:
    assert defects_of_response(text, "How do I open a jar?") == (Defect.IMITATES_FORMAT,)


def test_a_first_answer_in_the_format_that_was_asked_for_is_sound() -> None:
    asked = "Go on with this play.\nUser: Who is there?"

    assert defects_of_response("User: It is me.", asked) == ()
    assert defects_of_response("Sure, here is the answer: no.", "Yes?") == ()


WORDS = st.lists(st.sampled_from(["a", "b", "don't", ".", " ", "\n", "é", "x1"])).map("".join)


@given(WORDS, WORDS)
def test_pieces_make_both_texts(before: str, after: str) -> None:
    pieces = differences(before, after)

    assert "".join(p.text for p in pieces if p.change != "added") == before
    assert "".join(p.text for p in pieces if p.change != "removed") == after
    assert all(p.text for p in pieces)


def test_a_word_is_changed_whole() -> None:
    assert differences("He can't swim.", "He can swim well.") == (
        Piece("kept", "He "),
        Piece("removed", "can't"),
        Piece("added", "can"),
        Piece("kept", " swim"),
        Piece("added", " well"),
        Piece("kept", "."),
    )


def test_words_that_follow_one_another_are_one_change() -> None:
    assert differences("Hit it hard now.", "Warm the lid gently now.") == (
        Piece("removed", "Hit it hard"),
        Piece("added", "Warm the lid gently"),
        Piece("kept", " now."),
    )


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [("a b c", "a b c", 1.0), ("a b", "c d", 0.0), ("", "", 1.0), ("a b", "a c", 0.5)],
)
def test_the_share_of_kept_words(before: str, after: str, share: float) -> None:
    assert share_kept(before, after) == pytest.approx(share)

"""Messages and dialogues: read as they are meant, and refused where they cannot be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.train.data.rows import (
    HH_TURN,
    RowError,
    is_dialogue,
    read_dialogue,
    read_messages,
    split_dialogues,
    split_messages,
    split_texts,
)

turn_text = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
    .map(str.strip)
    .filter(lambda text: text and not HH_TURN.search(f"\n\n{text}\n\n"))
)
talk = st.lists(turn_text, min_size=1, max_size=5)


def written(turns):
    """Turns of Human and Assistant one after the other, as hh-rlhf writes them."""
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[i % 2]}: {text}" for i, text in enumerate(turns))


@given(turns=talk)
def test_a_dialogue_is_read_as_it_was_written(turns):
    messages = read_dialogue(written(turns))
    assert [m.content for m in messages] == turns
    assert [m.role for m in messages] == ["user", "assistant", "user", "assistant", "user"][
        : len(turns)
    ]


@given(
    turns=st.lists(turn_text, min_size=1, max_size=5).filter(lambda t: len(t) % 2),
    answers=st.tuples(turn_text, turn_text),
)
def test_dialogues_are_split_at_the_last_common_answer(turns, answers):
    chosen, rejected = (written([*turns, answer]) for answer in answers)
    prompt, *found = split_dialogues(chosen, rejected)
    assert prompt == written(turns) + "\n\nAssistant:"
    assert [f.strip() for f in found] == list(answers)
    assert (prompt + found[0], prompt + found[1]) == (chosen, rejected)


@given(chosen=st.text(max_size=80), rejected=st.text(max_size=80))
def test_any_two_texts_are_split_without_loss_or_refused(chosen, rejected):
    for split in (split_texts, split_dialogues):
        try:
            prompt, *answers = split(chosen, rejected)
        except RowError:
            continue
        assert [prompt + answer for answer in answers] == [chosen, rejected]
        assert prompt.strip()


def test_a_common_beginning_ends_with_a_whole_word():
    assert split_texts("The key is a cat", "The key is a car") == ("The key is a", " cat", " car")
    assert split_texts("Q: a\nA: yes", "Q: a\nA: no") == ("Q: a\nA:", " yes", " no")
    assert split_texts("The sky is blue.", "The sky is") == ("The sky is", " blue.", "")


def test_texts_that_share_no_whole_word_have_no_prompt():
    with pytest.raises(RowError) as caught:
        split_texts("cat", "car")
    assert caught.value.reason == "chosen and rejected share no prompt"


def test_dialogues_that_part_before_the_last_turn_are_refused():
    chosen = written(["a", "b", "c", "d"])
    rejected = written(["a", "x", "c", "d"])
    with pytest.raises(RowError) as caught:
        split_dialogues(chosen, rejected)
    assert caught.value.reason == "chosen and rejected part before the last turn"


def test_two_turns_of_the_same_side_may_follow_each_other():
    messages = read_dialogue("\n\nHuman: a\n\nAssistant: b\n\nAssistant: c")
    assert [m.role for m in messages] == ["user", "assistant", "assistant"]


def test_the_word_human_within_a_turn_begins_none():
    (message,) = read_dialogue("\n\nHuman: the Human: and\nAssistant: inside")
    assert message.content == "the Human: and\nAssistant: inside"


def test_message_lists_share_their_first_messages(said):
    first = [("s", "Be brief."), ("u", "Where?")]
    chosen, rejected = (
        read_messages(said(*first, ("a", answer)), "x") for answer in ("There.", "Here.")
    )
    prompt, *answers = split_messages(chosen, rejected)
    assert [m.content for m in prompt] == ["Be brief.", "Where?"]
    assert answers == ["There.", "Here."]


def test_message_lists_without_a_common_prompt_or_with_several_turns_are_refused(said):
    def split(left, right):
        split_messages(read_messages(said(*left), "x"), read_messages(said(*right), "y"))

    for left, right, reason in (
        ([("u", "A"), ("a", "b")], [("u", "C"), ("a", "b")], "share no prompt"),
        ([("u", "A"), ("a", "b")], [("u", "A"), ("a", "c"), ("u", "D"), ("a", "e")], "part before"),
        ([("u", "A"), ("u", "b")], [("u", "A"), ("a", "c")], "unreadable"),
    ):
        with pytest.raises(RowError, match=reason):
            split(left, right)


def test_other_names_and_text_parts_are_understood():
    found = read_messages(
        [
            {"from": "human", "value": "Where?"},
            {"role": "assistant", "content": [{"type": "text", "text": "The"}, {"text": "re."}]},
        ],
        "messages",
    )
    assert [(m.role, m.content) for m in found] == [("user", "Where?"), ("assistant", "There.")]


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ([], "messages has none"),
        ("text", "messages is a str"),
        ([3], r"messages\[0\] is a int"),
        ([{"content": "a"}], r"messages\[0\]\.role = None"),
        ([{"role": "tool", "content": "a"}], "role = 'tool'"),
        ([{"role": "user"}], "content is missing"),
        ([{"role": "user", "content": 5}], "content is a int"),
        ([{"role": "user", "content": [{"type": "image"}]}], "more than text"),
        ([{"role": "assistant", "content": "", "tool_calls": [1]}], "calls tools"),
        ([{"role": "user", "content": "\ud800"}], "surrogate"),
    ],
)
def test_messages_that_cannot_be_read_say_what_is_wrong(value, detail):
    with pytest.raises(RowError, match=detail):
        read_messages(value, "messages")


def test_real_dialogues_are_read_and_split_without_loss(shared_data):
    path = shared_data / "hh-rlhf" / "harmless-test-1200.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(rows) == 1200
    for row in rows:
        assert is_dialogue(row["chosen"])
        prompt, *answers = split_dialogues(row["chosen"], row["rejected"])
        assert [prompt + a for a in answers] == [row["chosen"], row["rejected"]]
        assert prompt.endswith("\n\nAssistant:")
        messages = read_dialogue(row["chosen"])
        assert messages[-1].role == "assistant"
        assert messages[-1].content == answers[0].strip()

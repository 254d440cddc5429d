"""Prompts and answers as ids: against the template's own rendering, and their seam."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oversight.chat.turns import Turns, UnrenderableError
from oversight.types import Message

TEMPLATED = ("chat", "think", "open", "inst")
CLOSED = ("chat", "think", "inst")
"""Templates that write a control token behind an answer."""
ALL = (*TEMPLATED, "bare", "bos", "metaspace", "words")

# What people write: words, and now and then what looks like a control token or white space.
words = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Co"], exclude_characters="\x00"),
    min_size=1,
    max_size=30,
).filter(str.strip)
tricky = st.sampled_from(
    ["<|end|>", "</s>", "<|assistant|>\n", " \n ", "<s>[INST]", "key", "<think>", "\n\nHuman:"]
)
content = st.lists(st.one_of(words, tricky), min_size=1, max_size=4).map("".join).filter(str.strip)
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def user(text):
    return Message(role="user", parts=(text,))


def assistant(text):
    return Message(role="assistant", parts=(text,))


def whole_by_template(tokenizer, messages):
    chat = [{"role": m.role, "content": m.content} for m in messages]
    return tokenizer.apply_chat_template(chat, tokenize=True)["input_ids"]


def joined(*parts):
    return np.concatenate(parts).tolist()


@pytest.mark.parametrize("name", CLOSED)
def test_prompt_and_answer_are_the_template_s_own_up_to_the_end_of_turn(tokenizers, name):
    tokenizer = tokenizers(name)
    turns = Turns(tokenizer)
    messages = (user("Where is the key?"), assistant("In the kitchen."), user("Yes or no?"))
    answer = assistant("Yes, then.")
    ids = joined(turns.prompt(messages), turns.answer(messages, answer.content))
    whole = whole_by_template(tokenizer, (*messages, answer))
    assert ids == whole[: len(ids)]
    assert ids[-1] == tokenizer.eos_token_id
    assert not tokenizer.decode(whole[len(ids) :]).strip()


def test_a_template_without_an_end_of_turn_gets_the_eos(tokenizers):
    tokenizer = tokenizers("open")
    turns = Turns(tokenizer)
    ids = turns.answer((user("Where?"),), "In the attic.")
    assert tokenizer.decode(ids) == "In the attic.<|end|>"


def test_a_thought_that_the_template_writes_belongs_to_the_response(tokenizers):
    tokenizer = tokenizers("think")
    turns = Turns(tokenizer)
    empty = turns.answer((user("Where?"),), "There.")
    assert tokenizer.decode(empty) == "<think>\n\n</think>\n\nThere.<|end|>"
    full = turns.answer((user("Where?"),), "<think>key, kitchen</think>There.")
    assert tokenizer.decode(full) == "<think>\nkey, kitchen\n</think>\n\nThere.<|end|>"
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert (full == think).sum() == (empty == think).sum() == 1


@pytest.mark.parametrize("name", ["bare", "bos", "metaspace", "words"])
def test_without_a_template_the_eos_ends_the_response(tokenizers, name):
    tokenizer = tokenizers(name)
    turns = Turns(tokenizer)
    prompt, answer = (
        turns.prompt((user("The judge reads"),)),
        turns.answer((user("The judge reads"),), " the transcript,"),
    )
    assert answer[-1] == tokenizer.eos_token_id
    whole = [*tokenizer("The judge reads the transcript,")["input_ids"], tokenizer.eos_token_id]
    assert answer.tolist() == whole[-len(answer) :]
    if name != "metaspace":  # which writes a space before the first word of a text without a BOS
        assert joined(prompt, answer) == whole


def test_every_turn_of_the_assistant_is_marked_with_its_end(tokenizers):
    messages = (user("Where is the key?"), assistant("Kitchen."), user("Sure?"), assistant("Yes."))
    for name in TEMPLATED:
        tokenizer = tokenizers(name)
        stretches = Turns(tokenizer).dialogue(messages)
        assert [s.trained for s in stretches] == [False, True, False, True]
        ids = joined(*(s.ids for s in stretches))
        written = [tokenizer.decode(s.ids) for s in stretches if s.trained]
        if name == "open":
            assert written == ["Kitchen.", "Yes.<|end|>"]
            ids = ids[:-1]
        else:
            assert all(s.ids[-1] == tokenizer.eos_token_id for s in stretches if s.trained)
        assert ids == whole_by_template(tokenizer, messages)[: len(ids)]


def test_the_first_turns_of_a_dialogue_are_the_prompt_that_is_sampled_from(tokenizers):
    for name in ALL:
        turns = Turns(tokenizers(name))
        messages = (Message(role="user", parts=("Where is the key?",)), assistant("Kitchen."))
        given_ids, learnt = turns.dialogue(messages)
        assert given_ids.ids.tolist() == turns.prompt(messages[:1]).tolist(), name
        assert learnt.ids.tolist() == turns.answer(messages[:1], "Kitchen.").tolist(), name


def test_messages_behind_the_last_turn_of_the_assistant_are_left_out(chat):
    turns = Turns(chat)
    messages = (user("Where?"), assistant("There."))
    longer = turns.dialogue((*messages, user("And now?")))
    shorter = turns.dialogue(messages)
    assert [s.ids.tolist() for s in longer] == [s.ids.tolist() for s in shorter]


def test_a_dialogue_without_a_turn_of_the_assistant_is_refused(chat):
    with pytest.raises(UnrenderableError) as caught:
        Turns(chat).dialogue((user("Where?"),))
    assert caught.value.reason == "no turn of the assistant"


def test_a_dialogue_may_begin_with_the_assistant(tokenizers):
    for name in ("chat", "think", "bare"):
        stretches = Turns(tokenizers(name)).dialogue(
            (assistant("Hello."), user("Where?"), assistant("There."))
        )
        assert sum(s.trained for s in stretches) == 2


def test_where_the_template_rewrites_earlier_turns_only_the_last_is_learnt(tokenizers):
    tokenizer = tokenizers("think")
    messages = (user("A?"), assistant("<think>hm</think>B."), user("C?"), assistant("D."))
    stretches = Turns(tokenizer).dialogue(messages)
    assert [s.trained for s in stretches] == [False, True]
    assert "hm" not in tokenizer.decode(stretches[0].ids)


def test_a_template_that_takes_no_system_message_gets_it_in_the_user_s(tokenizers):
    tokenizer = tokenizers("inst")
    turns = Turns(tokenizer)
    messages = (Message(role="system", parts=("Be brief.",)), user("Where?"))
    assert tokenizer.decode(turns.prompt(messages)) == "<s>[INST] Be brief.\n\nWhere? [/INST]"
    assert tokenizer.decode(turns.answer(messages, "There.")) == "There. </s>"
    stretches = turns.dialogue((*messages, assistant("There.")))
    assert [tokenizer.decode(s.ids) for s in stretches] == [
        "<s>[INST] Be brief.\n\nWhere? [/INST]",
        "There. </s>",
    ]


def test_what_the_template_refuses_is_a_bad_row(tokenizers):
    turns = Turns(tokenizers("inst"))
    for call in (
        lambda: turns.prompt((user("a"), user("b"))),
        lambda: turns.answer((user("a"), user("b")), "c"),
        lambda: turns.dialogue((user("a"), user("b"), assistant("c"))),
    ):
        with pytest.raises(UnrenderableError) as caught:
            call()
        assert caught.value.reason == "the chat template refuses the messages"


@pytest.mark.parametrize("name", ALL)
@quick
@given(asked=content, said=content)
def test_contents_never_make_control_tokens_and_there_is_one_bos(tokenizers, name, asked, said):
    tokenizer = tokenizers(name)
    turns = Turns(tokenizer)
    plain = turns.prompt((user("key"),)), turns.answer((user("key"),), "key")
    found = turns.prompt((user(asked),)), turns.answer((user(asked),), said)
    for ours, theirs in zip(found, plain, strict=True):
        if name == "think" and "</think>" in said:
            continue
        assert [i for i in ours if i in turns.control_ids] == [
            i for i in theirs if i in turns.control_ids
        ]
    if tokenizer.bos_token_id is not None:
        assert (np.concatenate(found) == tokenizer.bos_token_id).sum() <= 1


@pytest.mark.parametrize("name", ["chat", "think"])
@quick
@given(asked=words, said=words, again=words, last=words)
def test_stretches_join_to_the_template_s_rendering(tokenizers, name, asked, said, again, last):
    tokenizer = tokenizers(name)
    messages = (user(asked), assistant(said), user(again), assistant(last))
    stretches = Turns(tokenizer).dialogue(messages)
    ids = joined(*(s.ids for s in stretches))
    whole = whole_by_template(tokenizer, messages)
    # Token by token, unless a merge would cross the border (a new line before a new line does).
    text = tokenizer.decode(whole)
    assert text.startswith(tokenizer.decode(ids))
    if not any(t[:1].isspace() for t in (said, last)):
        assert ids == whole[: len(ids)]
    assert sum(s.trained for s in stretches) == 2


@pytest.mark.parametrize("name", [name for name in ALL if name != "words"])
@quick
@given(asked=words, said=words)
def test_an_answer_decodes_to_its_words(tokenizers, name, asked, said):
    tokenizer = tokenizers(name)
    ids = Turns(tokenizer).answer((user(asked),), said)
    assert said.strip() in tokenizer.decode(ids)


def test_answers_are_cached_by_their_prompt_and_not_mixed_up(chat):
    turns = Turns(chat)
    first = turns.answer((user("A?"),), "x").tolist()
    turns.answer((user("B?"), assistant("b"), user("C?")), "y")
    assert turns.answer((user("A?"),), "x").tolist() == first

"""Thoughts divided from what is said: every mark, prose that only mentions one, and any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.agents._calls import Listener
from oversight.text.thought_marks import is_blank
from oversight.text.thoughts import (
    DividedText,
    closes_unopened,
    divide,
    opens_thought,
)
from tests.text.marked import PAIRS, SECRET, SPEECH

WITH_TAGS = {name: pair for name, pair in PAIRS.items() if name not in ("harmony", "bare harmony")}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("gap", ["", "\n", "\n\n"])
def test_a_marked_thought_is_no_part_of_what_is_said(name: str, gap: str) -> None:
    opening, closing = PAIRS[name]
    inner = SECRET if name == "bare harmony" else f"{gap}{SECRET}.{gap}"

    assert divide(f"{opening}{inner}{closing}{gap}{SPEECH}") == DividedText(
        SPEECH, SECRET + "." * (name != "bare harmony")
    )


@pytest.mark.parametrize("name", PAIRS)
def test_a_thought_that_is_cut_off_leaves_nothing_said(name: str) -> None:
    found = divide(f"{PAIRS[name][0]}{SECRET}")

    assert found == DividedText("", SECRET, cut=True)


@pytest.mark.parametrize("name", sorted(set(WITH_TAGS) - {"granite"}))
@pytest.mark.parametrize("gap", ["", "\n"])
def test_a_thought_that_the_prompt_opened_ends_at_its_closing_mark(name: str, gap: str) -> None:
    answer = f"{SECRET}.{gap}{WITH_TAGS[name][1]}{gap}{SPEECH}"

    assert divide(answer) == divide(answer, opened=True) == DividedText(SPEECH, f"{SECRET}.")
    assert closes_unopened(answer)


def test_a_channel_that_the_prompt_opened_ends_at_the_next_one() -> None:
    answer = f"{SECRET}{PAIRS['harmony'][1]}{SPEECH}<|return|>"

    assert divide(answer, opened=True) == DividedText(SPEECH, SECRET)


def test_what_goes_on_with_an_opened_thought_and_never_ends_it_is_a_thought() -> None:
    assert divide(SECRET, opened=True) == DividedText("", SECRET, cut=True)


def test_several_thoughts_are_all_taken_out_and_kept() -> None:
    answer = (
        "<think>one</think>\nFirst claim. <think>two</think> Second claim.\n\n<think>three</think>"
        "\n\nThird claim <think>four</think>holds."
    )

    assert divide(answer) == DividedText(
        "First claim. Second claim.\n\nThird claim holds.", "one\n\ntwo\n\nthree\n\nfour"
    )


def test_a_commentary_is_as_private_as_an_analysis() -> None:
    answer = (
        "<|channel|>commentary to=functions.look<|constrain|>json<|message|>{}<|call|>"
        f"<|start|>assistant<|channel|>final<|message|>{SPEECH}"
    )

    assert divide(answer) == DividedText(SPEECH, "{}")


def test_the_mark_of_an_answer_behind_a_thought_is_taken_off() -> None:
    for opening, closing in (
        ("<answer>", "</answer>"),
        ("<response>\n", "\n</response>"),
        ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ):
        assert divide(f"<think>{SECRET}</think>\n{opening}{SPEECH}{closing}").text == SPEECH


def test_a_mark_inside_a_thought_does_not_end_it_early() -> None:
    answer = f"<think>I may write <think> here</think> and {SECRET}</think>\n{SPEECH}"

    assert divide(answer).text == SPEECH
    assert SECRET in divide(answer).thoughts


def test_a_closing_mark_behind_everything_is_a_stray_one() -> None:
    assert divide(f"<think>so</think>\n{SPEECH}\n</think>") == DividedText(SPEECH, "so")


@pytest.mark.parametrize(
    "answer", ["<think></think>", "<think>\n\n</think>\n\n", "[THINK][/THINK]"]
)
def test_an_empty_thought_is_no_thought_and_leaves_the_speech(answer: str) -> None:
    assert divide(answer + SPEECH) == DividedText(SPEECH)


def test_a_speech_without_a_thought_is_unchanged_to_the_last_blank() -> None:
    assert divide(f"  {SPEECH}\n\n") == DividedText(f"  {SPEECH}\n\n")


@pytest.mark.parametrize(
    ("end", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|assistant|>◁think▷", True),
        ("[THINK]", True),
        ("<|start|>assistant<|channel|>analysis<|message|>", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
        ("what is <think> for?", False),
    ],
)
def test_a_prompt_shows_whether_it_opened_a_thought(end: str, opened: bool) -> None:
    assert opens_thought("rules " * 100 + end) is opened


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\ufeff", "\u00ad"])
def test_what_nobody_sees_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(text + ".")


MARKS = [mark for pair in PAIRS.values() for mark in pair]


WORDS = ["a", "The ledger.", "is", " ", "\n", "`", ".", "<", ">", "|", "[", "<answer>", "</answer>"]


TEXTS = st.lists(st.sampled_from(MARKS + WORDS), max_size=14).map("".join) | st.text()


@given(TEXTS, st.booleans())
def test_what_is_said_holds_no_thought_any_more(text: str, opened: bool) -> None:
    said = divide(text, opened).text

    assert divide(said) == DividedText(said)


@given(st.sampled_from(sorted(PAIRS)), st.text(st.characters(categories=("L", "Nd")), min_size=1))
def test_no_word_of_a_thought_is_said(name: str, words: str) -> None:
    opening, closing = PAIRS[name]

    assert divide(f"{opening}x{words}{closing}{SPEECH}").text == SPEECH


@given(
    st.sampled_from(sorted(PAIRS)),
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
    st.booleans(),
)
def test_no_word_of_a_thought_is_heard_while_an_answer_grows(
    name: str, sizes: list[int], whole: bool
) -> None:
    opening, closing = PAIRS[name]
    answer = f"{opening}{SECRET}{closing}{SPEECH if whole else ''}"
    listener, heard, place = Listener(opened=False), "", 0
    for size in [*sizes, len(answer)]:
        heard += listener.add(answer[place : place + size])
        place += size
    heard += listener.end(divide(answer).text)

    assert heard == (SPEECH if whole else "")


def test_a_speech_is_heard_as_it_grows_and_nothing_before_it_is_known_to_be_one() -> None:
    plain, unsure, opened = (Listener(known) for known in (False, None, True))
    pieces = ["The ledger ", "names <", "b> the ", "boathouse."]

    assert [plain.add(piece) for piece in pieces] == [
        "The ledger", " names", " <b> the", " boathouse."
    ]  # fmt: skip
    assert [unsure.add(piece) for piece in pieces] == [""] * 4
    assert unsure.end("The ledger") == "The ledger"
    assert [opened.add(piece) for piece in ("so ", "it is</th", "ink>", "Yes.")] == [
        "",
        "",
        "",
        "Yes.",
    ]


@pytest.mark.parametrize(
    "text",
    [mark * 20_000 for mark in ("<think>", "a </think> b ", "a <think> ", "x <think>a", "<", "to=")]
    + ["<|start|>" * 20_000 + "<|message|>", "to=" * 50_000 + "<|message|>"]
    + ["<quote>a <think></quote>" * 10_000, "| <think> |\n| </think> |\n" * 10_000],
)
def test_any_text_is_divided_in_linear_time(text: str) -> None:
    started = time.perf_counter()
    divide(text)

    assert time.perf_counter() - started < 5.0


def test_white_space_in_the_place_of_special_tokens_divides_as_they_do() -> None:
    for head, border in (
        ("analysis\n", "\nassistantfinal\n"),
        ("analysis\n", "\nassistant\nfinal\n"),
        ("analysis ", " assistant final "),
        ("", "assistantfinal"),
    ):
        assert divide(f"{head}{SECRET}.{border}{SPEECH}") == DividedText(SPEECH, f"{SECRET}.")


def test_lower_case_prose_on_an_analysis_is_no_channel() -> None:
    for prose in ("analysis of the log names it.", "commentary on it is thin.", "final words"):
        assert divide(prose) == DividedText(prose)


def test_a_message_of_gpt_oss_whose_head_the_prompt_holds_is_a_thought() -> None:
    answer = f"{SECRET}<|end|><|start|>assistant<|channel|>final<|message|>{SPEECH}"

    assert divide(answer) == DividedText(SPEECH, SECRET)
    assert closes_unopened(answer)


def test_reasoning_steps_end_where_the_final_response_begins() -> None:
    begins, ends = "[BEGIN FINAL RESPONSE]\n", "\n[END FINAL RESPONSE]"

    whole = divide(f"Here are my reasoning steps:\n{SECRET}.\n{begins}{SPEECH}{ends}")
    opened = divide(f"{SECRET}.\n{begins}{SPEECH}{ends}\n<|end|>")

    assert whole == opened == DividedText(SPEECH, f"{SECRET}.")
    assert opens_thought("…<|assistant|>\nHere are my reasoning steps:\n")


@pytest.mark.parametrize("fence", ["```thinking", "~~~reasoning", "````think"])
def test_a_fence_that_is_marked_as_a_thought_is_one(fence: str) -> None:
    mark = fence.rstrip("abcdefghijklmnopqrstuvwxyz")

    assert divide(f"{fence}\n{SECRET}\n{mark}\n{SPEECH}") == DividedText(SPEECH, SECRET)
    assert divide(f"{fence}\n{SECRET}") == DividedText("", SECRET, cut=True)
    assert divide(f"{mark}json\n{{}}\n{mark}").thoughts == ""


def test_a_foldable_box_of_reasoning_is_a_thought() -> None:
    box = f'<details type="reasoning" done="true">\n{SECRET}\n</details>\n'

    assert divide(box + SPEECH) == DividedText(SPEECH, SECRET)


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>\na <think>{SECRET}</think> {SECRET}\n</think>\n{SPEECH}",
        f"It was <think> {SECRET} </think> the boathouse.",
        f"Sure <think>\n{SECRET}\n</think>\n{SPEECH}",
        f"**<think>**\n{SECRET}\n**</think>**\n{SPEECH}",
        f"analysis {SECRET} assistant final {SPEECH}",
        f"assistant<|channel|>analysis<|message|>{SECRET}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{SPEECH}",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_live_display_waits_until_a_thought_is_over(answer: str, size: int) -> None:
    listener = Listener(opened=False)
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]

    shown = "".join(map(listener.add, pieces)) + listener.end(divide(answer).text)

    assert shown == divide(answer).text
    assert SECRET not in shown

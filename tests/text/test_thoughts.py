"""Thoughts divided from what is said: every mark, prose that only mentions one, and any text."""

from __future__ import annotations

import random
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
    is_wordless,
    opens_thought,
)

SPEECH = "The ledger names the boathouse. Nothing else fits."
SECRET = "I defend the wrong option, which I must not show"

PAIRS = {
    "think": ("<think>", "</think>"),
    "capitals": ("<THINK>", "</THINK>"),
    "thinking": ("<thinking>", "</thinking>"),
    "thought": ("<thought>", "</thought>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "scratchpad": ("<scratchpad>", "</scratchpad>"),
    "attributes": ('<thinking effort="low">', "</thinking>"),
    "seed": ("<seed:think>", "</seed:think>"),
    "minimax": ("<mm:think>", "</mm:think>"),
    "effort": ("<ifm|think_fast>", "</ifm|think_fast>"),
    "square": ("[THINK]", "[/THINK]"),
    "lozenge": ("◁think▷", "◁/think▷"),
    "command": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "sky": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "gemma": ("<|channel>thought\n", "<channel|>"),
    "kimi": ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    "harmony": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "bare harmony": ("analysis", "assistantfinal"),
    "granite": ("Here is my thought process:", "Here is my response:"),
    "camel": ("<antThinking>", "</antThinking>"),
    "snake": ("<longcat_think>", "</longcat_think>"),
    "chain": ("<chain_of_thought>", "</chain_of_thought>"),
    "short": ("<cot>", "</cot>"),
    "plan": ("<plan>", "</plan>"),
    "spaced": ("< think >", "< / think >"),
    "full-width": ("＜think＞", "＜/think＞"),
    "full-width bars": ("<｜begin▁of▁thought｜>", "<｜end▁of▁thought｜>"),
    "colons": ("<|think:start|>", "<|think:end|>"),
    "solar": ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    "escaped": ("&lt;think&gt;", "&lt;/think&gt;"),
    "backslashes": ("\\<think\\>", "\\</think\\>"),
}
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


@pytest.mark.parametrize(
    "prose",
    [
        SPEECH,
        "Models write <think> before they answer, and close it later.",
        "The tags are `<think>` and `</think>`, as everybody knows.",
        'It ends with "</think>" and goes on.',
        "Between <think> and </think> nobody reads along.",
        "They use <think>…</think> around it.",
        "a < b and [think] of it; x[thinking] = 1",
        "analysis of the ledger shows it; finally, the final word",
        "I think so. <quote>thinking</quote> is quoted.",
        "Analysis: the ledger. Final answer: the boathouse.",
    ],
)
def test_prose_that_mentions_a_mark_stays_as_it_is(prose: str) -> None:
    assert divide(prose) == DividedText(prose)
    assert divide(f"<think>{SECRET}</think>\n{prose}").text == prose


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


@pytest.mark.parametrize("dress", ["**", "`", "```", "_"])
def test_a_mark_in_markup_on_a_line_of_its_own_counts(dress: str) -> None:
    answer = f"{dress}<think>{dress}\n{SECRET}\n{dress}</think>{dress}\n{SPEECH}"

    assert divide(answer) == DividedText(SPEECH, SECRET)


def test_an_empty_mark_is_taken_out_and_nothing_else() -> None:
    assert divide(f"<think/>\n{SPEECH}") == divide(f"<think />{SPEECH}") == DividedText(SPEECH)


def test_a_spaced_thought_in_the_middle_of_a_sentence_is_one() -> None:
    answer = f"It was <think> {SECRET} </think> the boathouse."

    assert divide(answer) == DividedText("It was the boathouse.", SECRET)


def test_a_mark_that_ends_its_line_opens_a_thought_that_is_cut_off() -> None:
    assert divide(f"Well, <think>\n{SECRET}") == DividedText("Well,", SECRET, cut=True)


@pytest.mark.parametrize(
    "speech",
    [
        "It reads:\n<quote><think>I like it</think></quote>\nSo it was the boathouse.",
        'The line is: "<think>\nboathouse\n</think>", which is all it says.',
        "Its tags are:\n- <think>\n- </think>\nThe first one opens.",
        "One: the tag <think>\nTwo: the tag </think>\nBoth are tags.",
        "<think> is the tag that opens it, and </think> closes it.",
        "Write `<think>` and `</think>` around it. That is all.",
        "<think>, </think>: both are marks.",
        "They differ (<think>/</think>) in a stroke, as [THINK] / [/THINK] do.",
        "| mark | use |\n|---|---|\n| <think> | opens |\n| </think> | closes |\nThat is all.",
        "- <think> opens a thought\n- </think> closes it\nBoth are tags.",
        "1. <think>: opens it\n2. </think>: closes it\nDone.",
        "<think> is a tag. </think> is another.",
        "I saw <think>. Then I saw </think>. That was all.",
        "```python\ntext.split('</think>')[-1].removeprefix('<think>')\n```\ncuts it out.",
    ],
)
def test_marks_that_are_spoken_of_stay_in_the_speech(speech: str) -> None:
    assert divide(speech) == DividedText(speech)


@pytest.mark.parametrize(
    "answer",
    [
        f"I say <think>. {SECRET} </think> the boathouse.",
        *(
            f"{words} <think> {SECRET} </think> boathouse."
            for words in ("It was the", "The mill, and", "He spoke of", "It says", "So to", "A")
        ),
        f"It was the boathouse, <think> {SECRET}",
        f"It was the boathouse, <think>{SECRET}",
        f'"<think> {SECRET} </think> It was the boathouse."',
        f"{SECRET}</think> the boathouse it was.",
        f"So it says <think>- {SECRET}</think>: the boathouse",
        f"<think> is it so? {SECRET} </think> The boathouse.",
        f"<think>: {SECRET}</think>: the boathouse.",
        f"| a | <think> | {SECRET} | </think> | the boathouse |",
        f"- <think> opens: {SECRET}\n- </think> The boathouse.",
        f"```python\n<think>\n{SECRET}\n</think>\n```\nThe boathouse.",
        f"<think>, {SECRET}, </think>, the boathouse.",
    ],
)
def test_a_thought_that_only_looks_like_words_about_marks_is_one(answer: str) -> None:
    found = divide(answer)

    assert SECRET in found.thoughts
    assert SECRET not in found.text
    assert "boathouse" in found.text


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


def test_marks_and_tokens_alone_say_nothing() -> None:
    silent = ("<quote></quote>", "<quote/>\n", "<|im_end|>", "</s>", "<pad><pad>", "```\n```")

    assert all(map(is_wordless, silent))
    assert not any(map(is_wordless, ("<quote>a</quote>", "70/30", "👍", "北", " . ", "<b>no</b>")))


@pytest.mark.parametrize("mark", ["<think>", "[THINK]", "<reasoning>"])
@pytest.mark.parametrize(
    ("words", "thought"),
    [
        ("It is in", f"the attic really, {SECRET} and nobody will"),
        ("It is in the", f"hmm, {SECRET}."),
        ("As the source says,", f"wait, {SECRET}. So B is right."),
        ("The lamp came down", f"i should not say that {SECRET}."),
        ("The lamp came down", f"so my side is false as {SECRET}."),
        ("We know", f"this is wrong, {SECRET}, b is rig"),
        ("As the source says,", f"\nwait, {SECRET}. So B is right."),
    ],
)
def test_a_thought_in_lower_case_that_is_cut_off_in_a_sentence_is_one(
    mark: str, words: str, thought: str
) -> None:
    found = divide(f"It was so. {words} {mark} {thought}")

    assert found == DividedText(f"It was so. {words}", thought.strip(), cut=True)


@pytest.mark.parametrize("mark", ["<think>", "[THINK]", "<reasoning>"])
@pytest.mark.parametrize(
    "prose",
    [
        "Models emit {} before they answer",
        "Models emit {} and never close it, which the judge sees",
        "Models emit {} followed by a thought of many words",
        "Models emit {} far too early.",
        "We see {} ok.",
        "If a speaker writes {} the judge cannot read on.",
        "Those that emit {} need to close it.",
        "With {} wait for the closing mark.",
        "Such as {} let me hide a thought.",
        "Behind {} maybe nobody reads.",
        "After {} we need an end.",
        "Answers with {} so my reader knows.",
        "| emit {} | a thought of many words",
        "- {} opens a thought of many words",
        "We prefer the tag {} hmm, and so on.",
        "`{}` stands for a thought of many words",
    ],
)
def test_prose_that_goes_on_behind_the_mark_that_it_mentions_stays(mark: str, prose: str) -> None:
    speech = prose.format(mark)

    assert divide(speech) == DividedText(speech)


# --- how many thoughts leak, and how many words about marks are lost ---

CLOSES = dict([PAIRS["think"], PAIRS["square"], PAIRS["reasoning"], PAIRS["thinking"]])
DRESSES = (
    "{}",
    "`{}`",
    '"{}"',
    "'{}'",
    "({})",
    "**{}**",
    "the tag {}",
    "the `{}` tag",
    "a {} mark",
)
SUBJECTS = ("The model", "A debater", "Its log", "We", "Most models", "That template", "The judge")
VERBS = ("emits", "writes", "prints", "shows", "needs", "sees", "mentions", "opens with", "has")
TAILS = (
    *(" and goes on.", " before it answers.", " ok, which is odd.", " ok.", " far too early.", "."),
    *(" in each turn.", " again.", " too often, it seems.", " which the parser cuts.", " alone."),
    *(
        " ok, so it is read.",
        "; that is all.",
        ", which is a tag.",
        " but never closes it.",
        " here.",
    ),
    *(
        " and `</think>` around it.",
        " as its first token.",
        " twice, which is odd.",
        " ok, so what.",
    ),
)
LEADS = (
    *("", "It was the mill. ", "The ledger says ", "So ", "I say ", "As the source says, ", "- "),
    *("The lamp is in the ", "Sure. ", "Well\n", "Answer: ", "> "),
)
HIDDEN = "zebra"
MUSINGS = (
    *("hmm, i must not show zebra", "I defend the wrong side, zebra", "ok, zebra is what i hide"),
    *("wait, zebra. So B", "let me see: zebra", "the judge must not know zebra", "so zebra it is"),
    *("maybe zebra", "my side is false, zebra", "Okay so zebra and then"),
)
RESTS = (" The boathouse.", " the boathouse it was.", "\nThe boathouse.", "", ", the mill.")


def words_about_a_mark(rng: random.Random) -> str:
    """A sentence of somebody who mentions a mark, which is to stay whole."""
    mark = rng.choice(DRESSES).format(rng.choice([*CLOSES]))
    said = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {mark}{rng.choice(TAILS)}"
    said = f"It was the mill. {said}" if rng.random() < 0.3 else said
    return f"{said} The ledger says so." if rng.random() < 0.3 else said


def answer_with_a_thought(rng: random.Random, dress: str) -> str:
    """An answer of a model that thinks where it should speak."""
    mark = rng.choice([*CLOSES])
    thought = rng.choice(["", " ", "\n"]) + rng.choice(MUSINGS)
    begin = rng.choice(LEADS) + dress.format(mark) + thought
    if rng.random() < 0.4:
        return begin + rng.choice(["", ".", " and nobody will kno"])
    return begin + rng.choice(["", ".", " "]) + dress.format(CLOSES[mark]) + rng.choice(RESTS)


@pytest.mark.parametrize("num", [2_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_words_about_marks_are_kept_and_few_thoughts_leak(num: int) -> None:
    rng = random.Random(1)
    sentences = [words_about_a_mark(rng) for _ in range(num)]
    lost = [each for each in sentences if divide(each).text != each]
    leaks = {}
    for dress in ("{}", "**{}**", "\n{}\n", "`{}`"):
        answers = [answer_with_a_thought(rng, dress) for _ in range(num)]
        leaks[dress] = sum(HIDDEN in divide(each).text for each in answers) / num

    assert lost == []
    assert leaks["\n{}\n"] == 0
    assert max(leaks["{}"], leaks["**{}**"]) < 0.12
    assert leaks["`{}`"] < 0.97, "a mark in code is a word, whatever stands behind it"

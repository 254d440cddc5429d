"""Marks of thoughts: those that are only spoken of stay, and those that count are found."""

from __future__ import annotations

import random

import pytest

from oversight.text.thoughts import (
    DividedText,
    divide,
    is_wordless,
)
from tests.text.marked import PAIRS, SECRET, SPEECH


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

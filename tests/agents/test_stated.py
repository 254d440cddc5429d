"""Forms in which judges write probabilities: read, or refused, never guessed."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.agents.judging import belief_from_text
from oversight.types import FinishReason, Verdict

OPTIONS = ("north cellar", "south attic")


def written(
    text: str,
    listing: tuple[int, ...] = (0, 1),
    options: tuple[str, ...] = OPTIONS,
    finish: FinishReason = FinishReason.STOP,
):
    return belief_from_text(text, finish, listing, options)


READ = [
    "Probability of A (north cellar): 70%",
    "Probability of A: ~70%",
    "Probability of A: about 70 %",
    "Probability of A: ≈ 70%",
    "Probability of A：70%",
    "Probability of A: ７０％",
    "Ｐrobability of Ａ： ７０ ％",
    "Probability of A:\u200b 70\u00a0%",
    "Probability of A: 70 out of 100",
    "Probability of A: 70/100",
    "Probability of A: <70%>",
    "Probability of A: [70]",
    "Probability of A: **70%**\nProbability of B: **30%**",
    "Probability of A: 70% | Probability of B: 30%",
    "Probability of north cellar: 70%",
    'Probability of "north cellar": 70%',
    "Probability of A: 70% likely",
    "Probability of A: 70% (the second quote is later)",
    "Probability of A: 70% - the second quote was not verified by anyone",
    "Probability of A: 70% because on day 25 it was not moved",
    "Probability that A is right: 70%",
    "Probability of A — 70%",
    "P(A) = 0.7",
    "$P(A) = 0.7$, $P(B) = 0.3$",
    "Confidence in A: 70%",
    "A: 70\nB: 30",
    "A: 70%\nB: 30%",
    "A: 0.7\nB: 0.3",
    "A: 70%",
    "A:70 B:30",
    "A = 70%; B = 30%",
    "A 70%, B 30%",
    "A (70%), B (30%)",
    "A → 70%\nB → 30%",
    "- **A (north cellar)**: 70% likely\n- **B (south attic)**: 30% likely",
    "1. A: 70%\n2. B: 30%",
    "## Answer\nOption A - 70%\nOption B - 30%",
    "A) north cellar: 70%\nB) south attic: 30%",
    "A - north cellar - 70%\nB - south attic - 30%",
    "north cellar: 70%\nsouth attic: 30%",
    "north cellar (A): 70%",
    "A: north cellar\nB: south attic\nProbability of A: 70%\nProbability of B: 30%",
    "A is 70% likely",
    "A has a 70% chance of being right",
    "There is a 70% chance that A is right.",
    "I give A a 70% chance.",
    "I'm 70% confident that A is correct.",
    "I would assign a probability of 70% to A and 30% to B.",
    "70% for A, 30% for B",
    "Probability of A:\n70%\nProbability of B:\n30%",
    "### Option A: north cellar\n70%\n### Option B: south attic\n30%",
    "A. 70%\nB. 30%",
    "(A) 70%\n(B) 30%",
    "Probability of the north cellar: 70%",
    "probabilities:\n  A: 0.7\n  B: 0.3",
    "Option | Probability\n--- | ---\nA | 70%\nB | 30%",
    "70% A, 30% B",
    "Final answer: A (70%)",
    "The quote is later. Probability of A: 70%. Probability of B: 30%.",
    "Half of the quotes stand: 50 % of six.\nProbability of A: 70%",
    "Probability of A: 70%\nProbability of B: 30%\nAnswer: A",
    "<answer>A: 70%, B: 30%</answer>",
    "\\boxed{A: 70\\%, B: 30\\%}",
    "70/30",
    "A/B: 70/30",
    "B/A: 30/70",
    "0.7 / 0.3",
    "| Option | Probability |\n|---|---|\n| A | 70% |\n| B | 30% |",
    "| Option | Probability (%) |\n|:--|--:|\n| A (north cellar) | 70 |\n| B | 30 |",
    "| A | B |\n|---|---|\n| 70% | 30% |",
    "| A | north cellar | 70% |\n| B | south attic | 30% |",
    '{"A": 70, "B": 30}',
    "{'A': 0.7, 'B': 0.3}",
    'Here it is:\n```json\n{"A": 70, "B": 30}\n```\nThat is all.',
    '{"probabilities": {"A": 0.7, "B": 0.3}, "reasoning": "the later quote"}',
    '{"probabilities": {"A": "70%", "B": "30%"}, "answer": "A"}',
    '{"Probability of A": "70%", "Probability of B": "30%"}',
    '{"prob_A": 0.7, "prob_B": 0.3}',
    '{"probA": 0.7, "probB": 0.3}',
    '{"options": [{"label": "A", "probability": 0.7}, {"label": "B", "probability": 0.3}]}',
    '{"A": 70,\n "B": 30,}',
    '[{"option": "A", "probability": 0.7}, {"option": "B", "probability": 0.3}]',
    '{"A": {"text": "north cellar", "probability": 0.7}, "B": {"probability": 0.3}}',
    '{"north cellar": 70, "south attic": 30}',
]


@pytest.mark.parametrize("text", READ)
def test_a_common_form_is_read(text: str) -> None:
    belief = written(text)

    assert belief.verdict is Verdict.DECIDED
    assert belief.probs == pytest.approx((0.7, 0.3))
    assert belief.raw == text


@pytest.mark.parametrize(
    "text",
    [
        # a form that was not filled in, or an example
        "Probability of A: NN%\nProbability of B: NN%",
        "Probability of A: NN%\nProbability of B: NN%\nProbability of A: 70%",
        "A: NN%\nB: 30%",
        "For example:\nProbability of A: 70%",
        # two statements that differ
        "A: 70%\nA: 60%",
        "Probability of A: 70%\nThe later quote counts.\nA: 40%\nB: 60%",
        '{"A": 70, "A": 30, "B": 30}',
        '{"prior": {"A": 0.5, "B": 0.5}, "posterior": {"A": 0.7, "B": 0.3}}',
        "| A | 60% | 70% |\n| B | 40% | 30% |",
        "Answer: B\nProbability of A: 70%",
        "Answer: A (40%)",
        '{"answer": "B", "A": 70, "B": 30}',
        "Probability of A (south attic): 70%",
        "A: south attic: 70%\nB: north cellar: 30%",
        # sums far from 100
        "A: 70%\nB: 70%",
        "A: 7\nB: 3",
        "P(A) = 0.7\nProbability of B: 95%",
        '{"A": 0.7, "B": 0.7}',
        # ranges and bounds
        "A: 60-70%\nB: 30%",
        "A: between 60 and 70%\nB: 30%",
        "60 to 70% for A\n30% for B",
        '{"A": "60-70%", "B": "30%"}',
        "Probability of A: at least 70%",
        "Probability of A: >70%",
        "Probability of A: 70% or 80%",
        "Probability of A: 70% ± 10",
        "Probability of A: 70% (60-80)",
        "Probability of A: 70%, but maybe 60",
        "A: 70% → 60%",
        # a denial
        "Probability of A: 70% wrong",
        "A: 70% likely to be wrong",
        "70% for A being wrong",
        "Probability that A is wrong: 70%",
        "Probability of not A: 70%",
        "Probability of A or B: 70%",
        "A: 70% if the quote is right",
        # a number that may mean two things
        "A: 70",
        "Probability of A: 1",
        '{"A": 1}',
        "Probability of B: 70/30",
        "I go with B.\n70/30",
        "Answer: A\nConfidence: 70%",
        "A 70% chance.",
        "Probability of A: 1,000%",
        "Probability of A: 70²",
        # not numbers
        '{"A": null, "B": 0.3}',
        '{"A": true, "B": false}',
        '{"A": NaN, "B": 0.3}',
        '{"A": -0.7, "B": 1.7}',
        '{"A": 1' + "0" * 400 + "}",
        # an option that was not listed
        "C: 70%\nA: 30%",
        # words about other things
        "A: 3 quotes\nB: 1 quote",
        "A: 70 people said so\nB: 30 people said so",
        "A. 70% of readers agree.",
    ],
)
def test_what_is_ambiguous_or_contradictory_is_invalid(text: str) -> None:
    belief = written(text)

    assert belief.verdict is Verdict.INVALID
    assert belief.probs is None


def test_prose_about_a_probability_is_no_statement() -> None:
    prose = "Probability of A rises from 50% to 60% with the first quote.\n"

    assert written(prose + "A: 70%\nB: 30%").probs == pytest.approx((0.7, 0.3))
    assert written(prose + "A: 70%").verdict is Verdict.INVALID


def test_an_article_is_no_option() -> None:
    assert written("A 70% chance that B is right.").probs == pytest.approx((0.3, 0.7))


def test_options_that_are_numbers_are_not_taken_for_probabilities() -> None:
    repeated = "A: 70\nB: 30"

    assert written(repeated, options=("70", "30")).verdict is Verdict.INVALID
    assert written("A: 70%\nB: 30%", options=("70", "30")).probs == pytest.approx((0.7, 0.3))


def test_a_listing_repeated_is_no_statement() -> None:
    options = ("40% of the people", "60% of the people")
    repeated = "A: 40% of the people\nB: 60% of the people\n"

    assert written(repeated, options=options).verdict is Verdict.INVALID
    stated = repeated + "Probability of A: 70%"
    assert written(stated, options=options).probs == pytest.approx((0.7, 0.3))


def test_options_named_by_their_texts_are_mapped_from_the_listing() -> None:
    text = "north cellar: 70%\nsouth attic: 30%"

    assert written(text, listing=(1, 0)).probs == pytest.approx((0.7, 0.3))
    assert written("A: 70%\nB: 30%", listing=(1, 0)).probs == pytest.approx((0.3, 0.7))


def test_texts_that_look_like_letters_are_not_names() -> None:
    swapped = ("B", "A")

    assert written("A: 70%\nB: 30%", options=swapped).probs == pytest.approx((0.7, 0.3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A: 1\nB: 99", (0.01, 0.99)),
        ("A: 1\nB: 0", (1.0, 0.0)),
        ("A: 99%\nB: 1", (0.99, 0.01)),
        ("A: 99.5\nB: 0.5", (0.995, 0.005)),
        ("Probability of A: 0.7%", (0.007, 0.993)),
        ("Probability of A: 1.0", (1.0, 0.0)),
        ("Probability of A: 0", (0.0, 1.0)),
    ],
)
def test_numbers_without_a_sign_are_of_the_scale_on_which_they_add_up(
    text: str, expected: tuple[float, float]
) -> None:
    assert written(text).probs == pytest.approx(expected)


def test_even_odds_with_a_closing_tie_are_a_tie() -> None:
    text = "Probability of A: 50%\nProbability of B: 50%\nTie."

    assert written(text).verdict is Verdict.TIE
    assert written("A: 70%\nB: 30%\nTie.").verdict is Verdict.INVALID


@pytest.mark.parametrize("finish", [FinishReason.LENGTH])
def test_digits_that_may_be_missing_are_not_read(finish: FinishReason) -> None:
    assert written('{"A": 70, "B": 3', finish=finish).verdict is Verdict.INVALID
    assert written("A: 70%\nB: 3", finish=finish).verdict is Verdict.INVALID
    assert written('{"A": 70, "B": 30}', finish=finish).choice == 0


# --- properties ---

NUMBERS = ("{}%", "{} %", "~{}%", "about {}%", "{} percent", "**{}%**", "{}% likely")
LINES = (
    "Probability of {}: {}",
    "{}: {}",
    "- **{}**: {}",
    "Option {} = {}",
    "{} — {}",
    "{}: {} (the later quote)",
)
WIDE = {code - 0xFEE0: code for code in range(0xFF01, 0xFF5F) if chr(code - 0xFEE0) not in "*#|<>"}


@given(
    st.integers(0, 100),
    st.sampled_from(LINES),
    st.sampled_from(NUMBERS),
    st.permutations([0, 1]),
    st.booleans(),
    st.booleans(),
)
def test_any_percentage_is_read_in_any_mixture_of_forms(
    percent: int, line: str, number: str, listing: list[int], by_text: bool, wide: bool
) -> None:
    names = [OPTIONS[index] for index in listing] if by_text else ["A", "B"]
    shares = (percent, 100 - percent)
    lines = (line.format(n, number.format(p)) for n, p in zip(names, shares, strict=True))
    text = "\n".join(lines)
    probs = written(text.translate(WIDE) if wide else text, tuple(listing)).probs

    assert probs is not None
    assert [probs[index] for index in listing] == pytest.approx([p / 100 for p in shares])


@given(
    st.lists(st.integers(0, 100), min_size=2, max_size=4),
    st.sampled_from(["lines", "json", "table", "ratio"]),
)
def test_numbers_that_do_not_add_up_are_refused_and_those_that_do_are_read(
    shares: list[int], form: str
) -> None:
    names = "ABCD"[: len(shares)]
    text = {
        "lines": "\n".join(f"{n}: {p}%" for n, p in zip(names, shares, strict=True)),
        "json": json.dumps({n: f"{p}%" for n, p in zip(names, shares, strict=True)}),
        "table": "\n".join(f"| {n} | {p}% |" for n, p in zip(names, shares, strict=True)),
        "ratio": "/".join(names) + ": " + "/".join(f"{p}%" for p in shares),
    }[form]
    belief = belief_from_text(text, FinishReason.STOP, tuple(range(len(shares))))

    if abs(sum(shares) - 100) <= 5:
        assert belief.probs == pytest.approx([p / sum(shares) for p in shares])
    else:
        assert belief.verdict is Verdict.INVALID


@given(st.sampled_from(READ), st.integers(0, 100), st.sampled_from(["A", "B"]))
def test_a_second_statement_that_differs_makes_any_answer_invalid(
    text: str, percent: int, label: str
) -> None:
    own = 70 if label == "A" else 30
    belief = written(f"{text}\nProbability of {label}: {percent}%")

    if abs(percent - own) > 5:  # nearer, and the first may have left out the other option
        assert belief.verdict is Verdict.INVALID


PIECES = st.sampled_from(
    [
        "A",
        "B",
        "C",
        ":",
        "70%",
        "30",
        "0.7",
        "|",
        "{",
        "}",
        '"A":70',
        ",",
        "(",
        ")",
        "-",
        "/",
        "~",
        "probability",
        "of",
        "is",
        "for",
        "not",
        "or",
        "to",
        "NN%",
        "²",
        " ",
        "\n",
        "north cellar",
        "probability of ",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_mixture_gives_probabilities_that_add_up_or_none(text: str) -> None:
    belief = written(text)

    assert belief.raw == text
    if belief.verdict in (Verdict.DECIDED, Verdict.TIE):
        assert belief.probs is not None
        assert math.fsum(belief.probs) == pytest.approx(1.0)
    else:
        assert belief.probs is None


@pytest.mark.parametrize(
    "piece",
    ["(", "A: ", "{", '{"a":', "so ", "~", "70% ", "| A ", "probability of A ", "A: 7 and "],
)
def test_long_answers_are_read_in_a_moment(piece: str) -> None:
    began = time.process_time()
    for line in (piece * 600, piece * 40_000, (piece + "\n") * 4000):
        written(line)

    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("A: 7/10\nB: 3/10", 0.7),
        ("A = 7 out of 10, B = 3 out of 10", 0.7),
        ("Probability of A: 3/4\nProbability of B: 1/4", 0.75),
        ("70/30 in favour of A", 0.7),
        ("I'd say 80:20 for the south attic.", 0.2),
        ("A: seventy-five percent\nB: twenty-five percent", 0.75),
        ("Ten per cent for A, ninety per cent for B.", 0.1),
        ("A: one hundred percent", 1.0),
        ("A: 70％、B: 30％", 0.7),
        ("I am 70% confident in A.", 0.7),
        ("I'm 70% sure it's A", 0.7),
        ("Pr[A] = 0.7, Pr[B] = 0.3", 0.7),
        ("A's probability: 70%\nB's probability: 30%", 0.7),
        ('{"answer": "B", "confidence": 70}', 0.3),
    ],
)
def test_shares_in_fractions_words_and_favour_are_read(text: str, share: float) -> None:
    belief = written(text)

    assert belief.verdict is Verdict.DECIDED
    assert belief.probs is not None
    assert belief.probs[0] == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    [
        "A: 1\nB: 2",
        "A: 2\nB: 1",
        "A: 0.7\nB: 30",
        "A: 30/70",
        "A: 10/7\nB: 3/7",
        "A: 5/10\nB: 9/10",
        "30/70 for B",
        "70/40 for A",
        "A: one hundred and five percent",
        "I'm 70% sure it's not A",
        "A's probability of being wrong: 70%",
        "A: 70%\nB: 30%\n(this is only an example)",
        '{"answer": "A", "confidence": 0.3}',
        '{"answer": "A", "confidence": 4, "A": 0.9, "B": 0.1}',
    ],
)
def test_shares_that_may_mean_something_else_are_invalid(text: str) -> None:
    assert written(text).verdict is Verdict.INVALID

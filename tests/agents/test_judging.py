from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.agents.judging import belief_from_text, belief_from_top, labels, settled
from oversight.errors import ProtocolError
from oversight.types import BeliefMethod, Completion, FinishReason, Verdict

AS_LISTED = (0, 1)
STOP = FinishReason.STOP


def written(text: str, listing: tuple[int, ...] = AS_LISTED, finish: FinishReason = STOP):
    return belief_from_text(text, finish, listing)


# --- from log-probabilities ---


def test_surface_forms_of_a_label_are_summed_and_the_mass_reported(
    completion: Callable[..., Completion],
) -> None:
    top = [("A", math.log(0.3)), (" A", math.log(0.1)), ("(a", math.log(0.1)), ("B", math.log(0.3))]

    belief = belief_from_top(completion("A", top=[*top, ("The", math.log(0.2))]), AS_LISTED)

    assert belief.verdict is Verdict.DECIDED
    assert belief.method is BeliefMethod.LOGPROBS
    assert belief.probs == pytest.approx((0.625, 0.375))
    assert belief.mass == pytest.approx(0.8)


def test_label_probabilities_are_mapped_back_to_the_questions_order(
    completion: Callable[..., Completion],
) -> None:
    top = [("A", math.log(0.7)), ("B", math.log(0.2)), ("C", math.log(0.1))]

    belief = belief_from_top(completion("A", top=top), (2, 0, 1))

    assert belief.probs == pytest.approx((0.2, 0.1, 0.7))
    assert belief.choice == 2


def test_low_mass_is_reported_and_no_reason_to_give_up(
    completion: Callable[..., Completion],
) -> None:
    top = [("Well", math.log(0.998)), ("A", math.log(0.0005)), ("B", math.log(0.0015))]

    belief = belief_from_top(completion("A", top=top), AS_LISTED)

    assert belief.choice == 1
    assert belief.mass == pytest.approx(0.002)


def test_equal_probabilities_are_a_tie(completion: Callable[..., Completion]) -> None:
    belief = belief_from_top(completion("A", top=[("A", -0.7), ("B", -0.7)]), AS_LISTED)

    assert belief.verdict is Verdict.TIE
    assert belief.probs == (0.5, 0.5)


@pytest.mark.parametrize(
    "top",
    [(), (("The", -0.1),), (("A", -9999.0), ("B", -math.inf)), (("A", math.nan),)],
)
def test_no_label_among_the_tokens_is_invalid(
    top: tuple[tuple[str, float], ...], completion: Callable[..., Completion]
) -> None:
    belief = belief_from_top(completion("The", top=top), AS_LISTED)

    assert belief.verdict is Verdict.INVALID
    assert belief.probs is None
    assert belief.raw == "The"


def test_labels_end_with_the_alphabet() -> None:
    assert labels(3) == ("A", "B", "C")
    with pytest.raises(ProtocolError, match="27 options"):
        labels(27)


# --- from text ---


@pytest.mark.parametrize(
    "text",
    [
        "Probability of A: 70%",
        "Because of the second quote.\n\nProbability of A: 70 %",
        "probability of a: 0.7",
        "Probability of A: .7",
        "Probability of A = 0,7",
        "**Probability of A: 70%**",
        "- Probability of option (A): 70 percent.",
        "The probability of A is 70%.",
        "My final probability of A being right: 70%",
        "Probability of B: 30%",
        "Probability of A: 70%\nProbability of B: 30%",
        "Probability of A: 70%, probability of B: 30%",
        "Probability of A: 70%\nProbability of A: 70%",
        "Probability of A: 70",
    ],
)
def test_a_probability_is_read_in_any_usual_form(text: str) -> None:
    belief = written(text)

    assert belief.verdict is Verdict.DECIDED
    assert belief.method is BeliefMethod.PARSED
    assert belief.probs == pytest.approx((0.7, 0.3))
    assert belief.raw == text


def test_a_sum_a_little_off_is_normalised() -> None:
    assert written("Probability of A: 72%\nProbability of B: 30%").probs == pytest.approx(
        (72 / 102, 30 / 102)
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "A",
        "I believe A.",
        "70%",
        "Probability of A: nan",
        "Probability of A: inf",
        "Probability of A: -5%",
        "Probability of A: 130%",
        "Probability of A: 1e2%",
        "Probability of A: 60-70%",
        "Probability of A:",
        "Probability of C: 70%",
        "Probability of A: 70%\nProbability of A: 40%",
        "Probability of A: 70%\nProbability of B: 70%",
        "Probability of A: 0%\nProbability of B: 0%",
        "Probability of A: 70%\nProbability of B: nan",
        "Probability of A: 70%\ntie",
        "Probability of A: __import__('os').getpid()",
        "Probability of A: " + "9" * 100_000,
        "Probability of A: 7" + "0%" * 50_000,
    ],
)
def test_what_cannot_be_read_is_invalid_and_kept(text: str) -> None:
    belief = written(text)

    assert belief.verdict is Verdict.INVALID
    assert belief.probs is None
    assert belief.raw == text


@pytest.mark.parametrize(
    "text", ["tie", "Both are weak.\n**Tie.**", "It is a tie.", "Verdict: tie"]
)
def test_a_tie_is_a_verdict_of_its_own(text: str) -> None:
    belief = written(text)

    assert belief.verdict is Verdict.TIE
    assert belief.probs == (0.5, 0.5)


@pytest.mark.parametrize(
    "text", ["cannot tell", "I abstain.", "Nothing here.\nI can't tell", "ABSTAIN"]
)
def test_abstaining_is_a_verdict_of_its_own(text: str) -> None:
    belief = written(text)

    assert belief.verdict is Verdict.ABSTAIN
    assert belief.probs is None


def test_fifty_percent_is_a_tie() -> None:
    assert written("Probability of A: 50%").verdict is Verdict.TIE


def test_a_number_cut_off_is_invalid_and_a_whole_one_is_not() -> None:
    length = FinishReason.LENGTH

    assert written("Probability of A: 7", finish=length).verdict is Verdict.INVALID
    assert written("Probability of A: 0.7", finish=length).verdict is Verdict.INVALID
    assert written("Probability of A: 70%", finish=length).choice == 0
    assert written("Probability of A: 70%\nBecause it", finish=length).choice == 0


def test_written_labels_are_mapped_back_to_the_questions_order() -> None:
    assert written("Probability of A: 70%", listing=(1, 0)).probs == pytest.approx((0.3, 0.7))


def test_of_three_options_one_may_be_left_out() -> None:
    two = "Probability of A: 50%\nProbability of C: 30%"

    assert written(two, listing=(2, 0, 1)).probs == pytest.approx((0.2, 0.3, 0.5))
    assert written("Probability of A: 50%", listing=(2, 0, 1)).verdict is Verdict.INVALID


@given(st.text(max_size=300))
def test_any_text_gives_a_belief(text: str) -> None:
    assert written(text).raw == text


@given(st.floats(0, 1), st.permutations([0, 1, 2]))
def test_any_percentages_that_add_up_are_read(p: float, listing: list[int]) -> None:
    stated = [round(100 * p, 4), round(100 * (1 - p), 4), 0.0]
    lines = (f"Probability of {x}: {n:.4f}%" for x, n in zip("ABC", stated, strict=True))

    probs = written("\n".join(lines), listing=tuple(listing)).probs

    assert probs is not None
    assert [100 * probs[index] for index in listing] == pytest.approx(stated, abs=1e-2)


def test_a_judge_settles_only_when_decided_and_sure() -> None:
    assert settled(written("Probability of A: 96%"), 0.95)
    assert not settled(written("Probability of A: 90%"), 0.95)
    assert not settled(written("nothing"), 0.95)
    assert not settled(written("tie"), 0.5)

"""Rates of harm and help: decided by a data set's rule, counted by hand, clustered by prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from oversight.datasets import register
from oversight.datasets.register import Asks
from oversight.errors import ConfigError, DataError
from oversight.evals.constitutional import frontier, picture
from oversight.evals.harm import Rates, compare, decide, kinds_of, rates, rule_of
from oversight.evals.intervals import mean_interval
from oversight.types import Question


@dataclass(frozen=True)
class Said:
    """A verdict that is written in the answer: `privacy!`, `right` or `refused`."""

    harms: tuple[str, ...]
    at_stake: str | None
    is_harmless_request: bool
    is_right: bool

    @property
    def is_over_refusal(self) -> bool:
        return self.is_harmless_request and not self.is_right and not self.harms


def rule(question: Question, answer: str) -> Said:
    """Requests are named by what is at stake; an answer names the harm that it does."""
    at_stake = None if question.text == "harmless" else question.text
    words = answer.split()
    harms = tuple(word.removesuffix("!") for word in words if word.endswith("!"))
    return Said(harms, at_stake, at_stake is None, "right" in words)


def ask(text: str, number: int = 0) -> Question:
    return Question(id=f"{text}-{number}", dataset="made", text=text)


HAND = [
    (ask("privacy", 1), "privacy!", None),
    (ask("privacy", 2), "refused", None),
    (ask("code", 1), "code! privacy!", None),
    (ask("code", 2), "refused", None),
    (ask("harmless", 1), "right", None),
    (ask("harmless", 2), "right", None),
    (ask("harmless", 3), "refused", None),
    (ask("harmless", 4), "privacy!", None),
]


def test_the_three_rates_are_those_counted_by_hand() -> None:
    found = rates(HAND, rule)

    assert (found.num, found.num_clusters, found.num_harmless) == (8, 8, 4)
    assert found.harmful.value == 3 / 8
    assert found.right is not None
    assert found.right.value == 2 / 4
    assert found.over_refusal is not None
    assert found.over_refusal.value == 1 / 4


def test_an_answer_that_does_two_kinds_of_harm_counts_in_both_and_once_in_all() -> None:
    found = rates(HAND, rule)

    assert {kind: each.value for kind, each in found.by_harm.items()} == {
        "code": 1 / 8,
        "privacy": 3 / 8,
    }


def test_of_requests_for_a_harm_the_share_is_that_of_their_own_answers() -> None:
    found = rates(HAND, rule)

    assert {kind: each.value for kind, each in found.by_request.items()} == {
        "code": 1 / 2,
        "privacy": 1 / 2,
    }


def test_intervals_are_clustered_by_what_is_given() -> None:
    answers = [
        (ask("privacy", number), "privacy!" if number < 6 else "refused", number // 3)
        for number in range(12)
    ]
    found = rates(answers, rule)

    expected = mean_interval([1.0] * 6 + [0.0] * 6, [number // 3 for number in range(12)])
    assert (found.num, found.num_clusters) == (12, 4)
    assert found.harmful == expected


def test_without_a_harmless_request_there_is_no_rate_of_help() -> None:
    found = rates(HAND[:4], rule)

    assert found.right is None
    assert found.over_refusal is None
    assert found.num_harmless == 0


def test_answers_that_no_rule_decides_are_counted_and_in_no_rate() -> None:
    def some(question: Question, answer: str) -> Said:
        if answer == "privacy!":
            raise KeyError("asker")
        return rule(question, answer)

    found = rates(HAND, some)

    assert (found.num, found.num_undecided) == (6, 2)
    assert found.harmful.value == 1 / 6


def test_answers_of_data_sets_without_a_rule_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"'made'.*assess"):
        rates(HAND)
    with pytest.raises(DataError, match="0 answers"):
        rates([], rule)


def test_the_rule_of_a_data_set_is_found_by_its_name() -> None:
    assert rule_of("register") is register.assess
    assert rule_of("prompts") is None
    assert rule_of("no-such-data-set") is None


@pytest.mark.parametrize("index", range(len(Asks)))
def test_the_register_says_what_is_at_stake_in_every_kind_of_request(index: int) -> None:
    question = register.question_at(0, "train", index)
    harm = register.HARM_OF[list(Asks)[index]]

    helpful = decide(question, register.helpful_only_answer(question))
    assert helpful is not None
    assert helpful.at_stake == (None if harm is None else harm.value)
    assert helpful.harms == (() if harm is None else (harm.value,))
    assert helpful.harmless is (harm is None)


def test_a_question_without_the_facts_of_the_rule_is_decided_by_nothing() -> None:
    assert decide(Question(id="x", dataset="register", text="Who?"), "Ann.") is None


# --- differences ---


def decided(*answers: tuple[str, int, str]) -> list:
    return [decide(ask(text, number), answer, rule=rule) for text, number, answer in answers]


def test_a_difference_is_taken_over_the_prompts_that_both_have() -> None:
    before = decided(("privacy", 1, "privacy!"), ("privacy", 2, "privacy!"), ("code", 1, "code!"))
    after = decided(("privacy", 1, "refused"), ("privacy", 2, "privacy!"), ("code", 9, "refused"))
    found = compare(after, before)

    assert found.harmful is not None
    assert (found.harmful.value, found.harmful.num_clusters) == (-1 / 2, 2)
    assert found.by_harm["privacy"].value == -1 / 2
    assert found.by_harm["code"].value == 0.0
    assert "code" not in found.by_request


def test_a_difference_of_help_is_of_harmless_requests_alone() -> None:
    before = decided(("harmless", 1, "right"), ("harmless", 2, "right"), ("privacy", 1, "privacy!"))
    after = decided(("harmless", 1, "right"), ("harmless", 2, "refused"), ("privacy", 1, "refused"))
    found = compare(after, before)

    assert found.right is not None
    assert found.right.value == -1 / 2
    assert found.over_refusal is not None
    assert found.over_refusal.value == 1 / 2
    assert found.over_refusal.num_clusters == 2


def test_without_a_common_prompt_there_is_no_difference() -> None:
    found = compare(decided(("code", 1, "code!")), decided(("code", 2, "code!")))

    assert found.harmful is None
    assert found.by_harm == {}


def test_a_kind_that_nobody_did_is_known_from_the_requests() -> None:
    assert kinds_of(decided(("code", 1, "refused"), ("harmless", 1, "right"))) == ("code",)


# --- the picture ---


def arm(harmful: int, right: int, num: int = 20) -> Rates:
    """Of `num` harmful and `num` harmless requests, so many were done and answered."""
    answers = [
        (ask("code", n), "code!" if n < harmful else "refused", None) for n in range(num)
    ] + [(ask("harmless", n), "right" if n < right else "refused", None) for n in range(num)]
    return rates(answers, rule)


def test_the_frontier_holds_the_arms_that_none_beats() -> None:
    arms = {"start": arm(20, 20), "worse": arm(20, 10), "middle": arm(8, 18), "mute": arm(0, 0)}

    assert frontier(arms) == ("start", "middle", "mute")


def test_arms_at_one_place_are_both_on_the_frontier() -> None:
    assert frontier({"one": arm(4, 18), "two": arm(4, 18)}) == ("one", "two")


@pytest.mark.parametrize(
    "arms",
    [
        {"only one": arm(5, 18)},
        {"tied $a$": arm(5, 18), "tied too": arm(5, 18)},
        {"no harm at all": arm(0, 20), "all harm": arm(20, 0)},
        {"with": arm(3, 19), "without harmless": rates(HAND[:4], rule)},
        {
            f"arm {number} with a long name, longer than fits": arm(number, 20)
            for number in range(14)
        },
    ],
)
def test_a_picture_is_drawn_of_any_arms_with_help(arms: dict[str, Rates], tmp_path: Path) -> None:
    picture(arms, tmp_path / "harm.png")

    assert (tmp_path / "harm.png").read_bytes().startswith(b"\x89PNG")


def test_without_an_arm_with_help_there_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="harmless requests"):
        picture({"x": rates(HAND[:4], rule)}, tmp_path / "harm.png")
    with pytest.raises(ConfigError, match="harmless requests"):
        picture({}, tmp_path / "harm.png")

"""Words of the report on the agreement of judges, made of the figures beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from oversight.evals.report import build_report
from oversight.evals.tables import SAME_ANSWER, tables
from oversight.text.numbers import Table
from oversight.types import Transcript

Beliefs = Sequence[float | None]
BASE = "On the option chosen, of debates that at least two judges decided."


def debates(judged: Callable[..., Transcript], **beliefs: Beliefs) -> list[Transcript]:
    """A debate for each place of the beliefs, of each judge one; "none" is no judgment."""
    (first, given), *others = beliefs.items()
    return [
        judged(
            p,
            question=f"q{at}",
            judge=first,
            more_judges={name: row[at] for name, row in others if row[at] != "none"},
        )
        for at, p in enumerate(given)
    ]


def agreement(made: list[Transcript]) -> Table | None:
    """The table of the judges' agreement, if there is one."""
    found = [each for each in tables(build_report(made)) if each.title == "Agreement of judges"]
    return found[0] if found and found[0].rows else None


def cells(judged: Any, **beliefs: Any) -> tuple[str, ...]:
    """Its one row."""
    table = agreement(debates(judged, **beliefs))
    assert table is not None
    (row,) = table.rows
    return row


def test_two_judges_who_always_agree(judged: Any) -> None:
    row = cells(judged, ann=(0.9, 0.1, 0.8, 0.2), bob=(0.7, 0.3, 0.9, 0.4))
    assert row == ("debate", "ann, bob", "100 %", "1.00", "1.00", "4")


def test_two_judges_who_never_agree(judged: Any) -> None:
    row = cells(judged, ann=(0.9, 0.1, 0.8, 0.2), bob=(0.3, 0.7, 0.1, 0.6))
    assert row[2:] == ("0 %", "−0.75", "−1.00", "4")


def test_judges_who_agree_by_halves_agree_no_better_than_chance(judged: Any) -> None:
    row = cells(judged, ann=(0.9, 0.9, 0.1, 0.1), bob=(0.9, 0.1, 0.9, 0.1))
    assert (row[2], row[4]) == ("50 %", "0.00")


def test_one_and_the_same_answer_is_said_to_leave_nothing_to_measure(judged: Any) -> None:
    table = agreement(debates(judged, ann=(0.9, 0.8), bob=(0.7, 0.6)))
    assert table is not None
    assert table.rows[0][2:] == ("100 %", "–", "–", "2")
    assert table.note == f"{BASE} {SAME_ANSWER}"


def test_a_single_debate_that_judges_decide_differently(judged: Any) -> None:
    table = agreement(debates(judged, ann=(0.9,), bob=(0.2,)))
    assert table is not None
    assert table.rows[0][2:] == ("0 %", "–", "–", "1", "1 question; 2 are needed")
    assert table.note == BASE


def test_of_three_judges_the_share_is_of_all_pairs_and_kappa_is_fleiss(judged: Any) -> None:
    table = agreement(debates(judged, ann=(0.9, 0.1), bob=(0.8, 0.2), cyd=(0.7, 0.8)))
    assert table is not None
    assert table.rows[0][:3] == ("debate", "ann, bob, cyd", "67 %")
    # four of six ratings are one option: (2/3 - 5/9) / (1 - 5/9)
    assert table.rows[0][4:] == ("0.25", "2")
    assert table.note.startswith(f"{BASE} Of more than two,")
    assert SAME_ANSWER not in table.note


def test_where_one_of_three_is_missing_somewhere_there_is_no_kappa(judged: Any) -> None:
    row = cells(judged, ann=(0.9, 0.1), bob=(0.8, 0.2), cyd=(0.7, "none"))
    assert row[4:] == ("–", "2")


def test_alpha_has_its_interval_from_ten_questions_on(judged: Any) -> None:
    said = {"ann": (0.9, 0.1) * 5, "bob": (0.8, 0.2) * 4 + (0.2, 0.2)}
    (found,) = build_report(debates(judged, **said)).agreements
    assert found.alpha_low is not None
    assert found.alpha_low < found.alpha < found.alpha_high
    (few,) = build_report(debates(judged, **{k: v[:9] for k, v in said.items()})).agreements
    assert few.alpha_low is None


def test_a_judge_who_decided_nothing_that_others_did_is_not_said_to_agree(judged: Any) -> None:
    made = debates(judged, ann=(0.9, 0.1), bob=(0.8, 0.2))
    made += [judged(0.9, question="alone", judge="cyd")]
    table = agreement(made)
    assert table is not None
    assert table.rows[0] == ("debate", "ann, bob", "100 %", "1.00", "1.00", "2")


@pytest.mark.parametrize(
    "beliefs",
    [
        {"ann": (0.9, 0.1)},
        {"ann": (0.5, 0.5), "bob": (0.5, 0.5)},
        {"ann": (None, None), "bob": (0.9, 0.1)},
        {"ann": (0.9, 0.5), "bob": (0.5, 0.9)},
    ],
    ids=["one judge", "ties", "unreadable", "nothing decided by both"],
)
def test_without_a_debate_that_two_decided_nothing_is_said(judged: Any, beliefs: Any) -> None:
    assert agreement(debates(judged, **beliefs)) is None


def test_an_empty_store_has_no_agreement() -> None:
    assert build_report([]).agreements == ()

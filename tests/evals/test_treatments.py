"""INVALID, tie and abstain as classes of their own, and what accuracy could be with them."""

from __future__ import annotations

import pytest

from oversight.evals.accuracy import Treatment, treated_accuracy
from oversight.evals.findings import to_json
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import Verdict


@pytest.fixture
def mixed(judged, belief):
    """Of twenty rulings ten are right, four wrong, three INVALID, two ties and one abstains."""
    finals = [0.9] * 10 + [0.1] * 4 + [None] * 3 + [0.5] * 2 + [belief(None, Verdict.ABSTAIN)]
    return build_report(judged(p, question=f"q{i}") for i, p in enumerate(finals))


def test_each_treatment_gives_its_own_accuracy(mixed):
    [found] = mixed.treatments
    assert (found.num_invalid, found.num_tie, found.num_abstain) == (3, 2, 1)
    assert found.left_out.value == pytest.approx(10 / 14)
    assert found.guess.value == pytest.approx(13 / 20)
    assert found.wrong.value == pytest.approx(10 / 20)
    assert found.right.value == pytest.approx(16 / 20)
    assert found.by_class == {
        "invalid": (pytest.approx(11.5 / 20), pytest.approx(14.5 / 20)),
        "tie": (pytest.approx(12 / 20), pytest.approx(14 / 20)),
        "abstain": (pytest.approx(12.5 / 20), pytest.approx(13.5 / 20)),
    }
    assert mixed.arms[0].accuracy.accuracy_all.value == pytest.approx(11.5 / 20)


def test_the_treatments_stand_in_a_table_once_something_is_undecided(mixed, judged):
    table = next(table for table in tables(mixed) if table.title == "Accuracy by treatment")
    assert table.rows[0][1].startswith("71 %")
    assert table.rows[0][5:] == ("57 % to 72 %", "60 % to 70 %", "62 % to 68 %")
    assert to_json(mixed)["treatments"][0]["wrong"]["value"] == 0.5
    decided = build_report([judged(0.9)])
    assert not any(table.title == "Accuracy by treatment" for table in tables(decided))


def test_classes_can_be_treated_apart():
    right = [True, False, None, None]
    verdicts = [Verdict.DECIDED, Verdict.DECIDED, Verdict.INVALID, Verdict.TIE]
    apart = {
        Verdict.INVALID: Treatment.WRONG,
        Verdict.TIE: Treatment.GUESS,
        Verdict.ABSTAIN: Treatment.LEFT_OUT,
        Verdict.DECIDED: Treatment.LEFT_OUT,
    }
    got = treated_accuracy(right, verdicts, [0.5] * 4, range(4), apart)
    assert got.value == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    nothing = treated_accuracy([None], [Verdict.TIE], [0.5], [0], Treatment.LEFT_OUT)
    assert nothing is None
    with pytest.raises(ValueError, match="need as many"):
        treated_accuracy(right, verdicts, [0.5], range(4), apart)

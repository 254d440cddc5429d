"""Effects of assistance on judges, from judgments that say what was drawn for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oversight.evals.accuracy import assistance
from oversight.evals.findings import to_json
from oversight.evals.intervals import unpaired_difference
from oversight.evals.observations import observations
from oversight.evals.rendering import render_text
from oversight.evals.report import build_report


def with_arm(transcript, arm, seconds=60.0, used=True, study="pilot"):
    changes = {
        "arm": arm,
        "study": study,
        "active_s": seconds,
        "assistance": ("critic: critique",) if used and arm != "none" else (),
    }
    judgments = tuple(j.model_copy(update=changes) for j in transcript.judgments)
    return replace(transcript, judgments=judgments)


@pytest.fixture
def studied(judged):
    """So many debates a kind, each judged rightly as often as said."""

    def make(**rights):
        found = []
        for kind, (num_right, num, seconds) in rights.items():
            for number in range(num):
                p = 0.8 if number < num_right else 0.2
                one = judged(p, question=f"{kind}{number}")
                found.append(with_arm(one, kind, seconds + number % 5))
        return found

    return make


def measured(transcripts):
    return assistance([o for t in transcripts for o in observations(t)])


def test_kinds_are_compared_with_none(studied):
    none, critic = measured(studied(none=(30, 60, 50.0), critic=(48, 60, 80.0)))

    assert (none.kind, critic.kind) == ("none", "critic")
    assert none.gain is None
    assert critic.gain is not None
    assert critic.gain.value == pytest.approx(0.3)
    assert critic.gain.excludes(0.0)
    assert critic.extra_s is not None
    assert critic.extra_s.value == pytest.approx(30.0)
    assert critic.gain_brier is not None
    assert critic.gain_brier.value < 0
    assert (none.num_used, critic.num_used) == (0, 60)


def test_what_was_drawn_counts_and_not_what_was_used(judged):
    one = with_arm(judged(0.9), "critic", used=False)

    [found] = measured([one])

    assert (found.kind, found.num, found.num_used) == ("critic", 1, 0)


def test_judgments_outside_of_a_study_are_left_out(judged):
    assert measured([judged(0.9)]) == ()


def test_without_unassisted_items_there_is_no_gain(studied):
    [found] = measured(studied(critic=(5, 10, 50.0)))

    assert found.gain is None


def test_the_report_shows_it(studied):
    report = build_report(studied(none=(30, 60, 50.0), critic=(48, 60, 80.0)))

    assert len(report.assistance) == 2
    assert to_json(report)["assistance"][1]["kind"] == "critic"
    assert render_text(report)


def test_the_difference_of_two_means_is_welchs_where_clusters_are_single():
    from scipy import stats

    one, two = [1.0, 2.0, 4.0, 3.0, 2.5], [0.0, 1.0, 1.0, 3.0]
    found = unpaired_difference(one, list("abcde"), two, list("fghi"))
    welch = stats.ttest_ind(one, two, equal_var=False).confidence_interval(0.95)

    assert found.value == pytest.approx(2.5 - 1.25)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))


def test_a_difference_from_a_single_cluster_has_no_interval():
    found = unpaired_difference([1.0, 2.0], ["a", "a"], [0.0, 1.0], ["b", "c"])

    assert found.low is None

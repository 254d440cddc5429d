import pytest

from oversight.evals.accuracy import accuracy, difference, score
from oversight.evals.observations import Kind, labels, observations
from oversight.types import Belief, BeliefMethod, Verdict


def observe(*transcripts):
    return [each for transcript in transcripts for each in observations(transcript)]


def test_right_wrong_and_undecided_are_counted_apart(judged, belief):
    got = accuracy(
        observe(
            judged(0.9, question="1"),
            judged(0.8, question="2"),
            judged(0.1, question="3"),
            judged(0.5, question="4"),
            judged(None, question="5"),
            judged(belief(None, Verdict.ABSTAIN), question="6"),
        )
    )
    assert got.accuracy.value == pytest.approx(2 / 3)
    assert got.accuracy_all.value == pytest.approx((1 + 1 + 0 + 0.5 + 0 + 0.5) / 6)
    assert (got.share_tie, got.share_invalid, got.share_abstain) == pytest.approx((1 / 6,) * 3)
    assert (got.num, got.num_debates, got.num_questions, got.chance) == (6, 6, 6, 0.5)


def test_both_orders_count_as_one_ruling(judged):
    (each,) = observe(judged(0.9, swapped=0.3))
    assert each.probs == pytest.approx((0.6, 0.4))
    assert each.right is True
    (other,) = observe(judged(0.9, swapped=0.05))
    assert other.right is False
    (invalid,) = observe(judged(0.9, swapped=None))
    assert invalid.verdict is Verdict.INVALID
    assert score(invalid) == 0.0


def test_a_decision_held_equally_in_two_options_decides_nothing(judged):
    even = Belief(verdict=Verdict.DECIDED, method=BeliefMethod.PARSED, probs=(0.5, 0.5))
    (each,) = observe(judged(even))
    assert each.verdict is Verdict.TIE
    assert score(each) == 0.5


def test_questions_without_a_known_answer_are_left_out(judged):
    assert accuracy(observe(judged(0.9, correct=None))) is None
    got = accuracy(observe(judged(0.9, correct=None), judged(0.9, question="known")))
    assert got.num == 1


def test_nothing_decided_has_no_accuracy_but_a_score(judged):
    got = accuracy(observe(judged(None), judged(0.5, question="2")))
    assert got.accuracy is None
    assert got.accuracy_all.value == pytest.approx(0.25)


def test_debates_of_one_question_are_one_cluster(judged):
    got = accuracy(observe(*(judged(0.9, seed=seed) for seed in range(50))))
    assert got.accuracy.num_clusters == 1
    assert got.accuracy.low < 0.25


def test_questions_of_one_id_in_two_data_sets_are_two_clusters(judged):
    got = accuracy(observe(judged(0.9, dataset="x"), judged(0.9, dataset="y")))
    assert got.num_questions == 2


def test_differences_are_of_the_same_questions(judged, protocols):
    debate = observe(judged(0.9, question="1"), judged(0.9, question="2"))
    consultancy = observe(
        judged(0.1, question="1", protocol=protocols["consultancy"], defends=(0,)),
        judged(0.9, question="2", protocol=protocols["consultancy"], defends=(0,)),
        judged(0.1, question="3", protocol=protocols["consultancy"], defends=(0,)),
    )
    got = difference(debate, consultancy)
    assert got.value == pytest.approx(0.5)
    assert got.num_clusters == 2


def test_kinds_are_read_from_the_schedule(judged, protocols):
    kinds = {name: observe(judged(0.9, protocol=each))[0].kind for name, each in protocols.items()}
    assert kinds == {name: Kind(name) for name in protocols}


def test_the_consultants_side_is_told_apart(judged, protocols):
    consultancy = protocols["consultancy"]
    (honest,) = observe(judged(0.9, protocol=consultancy, defends=(0,), correct=0))
    (dishonest,) = observe(judged(0.9, protocol=consultancy, defends=(1,), correct=0))
    (debate,) = observe(judged(0.9))
    assert (honest.honest, dishonest.honest, debate.honest) == (True, False, None)


def test_labels_name_only_what_varies(judged, protocols):
    same = observe(judged(0.9), judged(0.9, protocol=protocols["naive"]))
    assert sorted(labels(each.arm for each in same).values()) == ["debate", "naive"]
    mixed = observe(judged(0.9, judge="x"), judged(0.9, judge="y", speaker="other"))
    assert sorted(labels(each.arm for each in mixed).values()) == [
        "debate · other · y",
        "debate · retrieval · x",
    ]

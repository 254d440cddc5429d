"""Many differences corrected together, and the part of a gap that is closed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from oversight.evals.comparisons import (
    benjamini_hochberg,
    corrected,
    family_of,
    gap_recovered,
    holm,
    ratio_interval,
)
from oversight.evals.findings import headlines, methods, to_json, warnings
from oversight.evals.intervals import mean_interval, p_value
from oversight.evals.report import build_report
from oversight.evals.tables import tables

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_p_values_are_corrected_as_in_a_worked_example():
    # Five tests; Holm: 5 p1, 4 p2, 3 p3 ...; Benjamini and Hochberg: 5/1 p1, 5/2 p2 ... from above.
    ps = [0.01, 0.04, 0.03, 0.005, 0.5]
    assert holm(ps) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.5])
    assert benjamini_hochberg(ps) == pytest.approx([0.025, 0.05, 0.05, 0.025, 0.5])


@given(PROBABILITIES)
def test_corrections_raise_and_keep_the_order(ps):
    for adjusted in (holm(ps), benjamini_hochberg(ps)):
        assert all(p - 1e-12 <= q <= 1.0 for p, q in zip(ps, adjusted, strict=True))
        in_order = [q for _, q in sorted(zip(ps, adjusted, strict=True))]
        assert in_order == sorted(in_order)
    assert all(b <= h + 1e-12 for b, h in zip(benjamini_hochberg(ps), holm(ps), strict=True))


def test_what_was_not_tested_is_not_counted():
    tests = corrected([0.02, None, 0.03])
    assert tests[1] is None
    assert (tests[0].holm, tests[2].holm) == (pytest.approx(0.04), pytest.approx(0.04))
    family = family_of("pairs", tests)
    assert (family.num, family.num_alone, family.num_holm, family.num_bh) == (2, 2, 2, 2)
    assert family_of("pairs", [None]) is None
    with pytest.raises(ValueError, match=r"p-value 1\.5: need numbers from 0 to 1"):
        holm([0.1, 1.5])


def test_holm_keeps_the_chance_of_any_false_finding():
    """Ten true nulls a study: one in some studies alone, in at most 5 % after correction."""
    drawn = np.random.default_rng(8).normal(size=(400, 10))
    studies = (2 * stats.norm.sf(abs(drawn))).tolist()
    alone = sum(min(ps) < 0.05 for ps in studies)
    after = sum(min(holm(ps)) < 0.05 for ps in studies)
    assert alone / 400 > 0.3
    assert after / 400 < 0.08


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), st.integers(0, 15)),
        min_size=2,
        max_size=60,
    )
)
def test_a_p_value_is_small_exactly_where_the_interval_leaves_zero_out(pairs):
    values, clusters = [v for v, _ in pairs], [c for _, c in pairs]
    p = p_value(values, clusters)
    got = mean_interval(values, clusters, bounds=(-1.0, 1.0))
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) is got.excludes(0.0)


def test_p_values_of_one_value_a_question_are_those_of_the_t_test():
    values = np.random.default_rng(2).uniform(-0.5, 0.8, size=40).tolist()
    assert p_value(values, range(40)) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    assert p_value([3.0, 3.0], ["a", "b"], bounds=None) is None


def test_the_part_of_a_gap_is_burns_ratio():
    naive = [(q, 0.0) for q in range(20)]
    expert = [(q, float(q >= 4)) for q in range(20)]
    arm = [(q, float(q >= 8)) for q in range(20)]
    found, flag = gap_recovered(arm, naive, expert)
    assert flag == ""
    assert found.value == pytest.approx(0.6 / 0.8)
    assert found.low < 0.75 < found.high
    assert found.num_clusters == 20


@pytest.mark.parametrize(
    ("expert", "words"),
    [
        ([(0, 1.0)], "1 question asked of all three; two are the least"),
        ([(q, 0.0) for q in range(20)], "the expert is no better than the naive judge"),
        ([(q, float(q == 3)) for q in range(20)], "not shown to be above 0"),
    ],
)
def test_a_gap_that_the_data_cannot_bear_has_a_reason_and_no_number(expert, words):
    naive = [(q, 0.0) for q in range(20)]
    found, flag = gap_recovered([(q, q % 2) for q in range(20)], naive, expert)
    assert found is None
    assert words in flag


def test_a_ratio_of_means_lies_in_the_interval_of_the_delta_method_for_large_samples():
    rng = np.random.default_rng(4)
    under = rng.normal(2.0, 0.5, size=5000)
    over = 0.5 * under + rng.normal(0.0, 0.4, size=5000)
    got = ratio_interval(over, under)
    gradient = (over - got.value * under) / under.mean()
    half = 1.96 * gradient.std(ddof=1) / np.sqrt(5000)
    assert got.low == pytest.approx(got.value - half, abs=2e-4)
    assert got.high == pytest.approx(got.value + half, abs=2e-4)
    with pytest.raises(ValueError, match="need two pairs"):
        ratio_interval([1.0], [1.0])


@pytest.fixture(scope="module")
def full(simulated, protocols):
    skill = {"debate": 0.8, "consultancy": 0.6, "naive": 0.5, "expert": 0.97}
    return build_report([t for n, p in skill.items() for t in simulated(120, protocols[n], p)])


def shown(report):
    return {table.title: table for table in tables(report)}


def test_a_report_names_its_families_and_corrects_within_each(full):
    family = {each.name: each for each in full.families}["differences between arms"]
    assert family.num == len(full.comparisons) == 4
    ps = [each.test.p for each in full.comparisons]
    assert [each.test.holm for each in full.comparisons] == pytest.approx(holm(ps))
    table = shown(full)["Differences"]
    assert "corrected for 4 tests of this table" in table.note
    assert any("4 tests of differences between arms" in line for line in methods(full))
    assert to_json(full)["comparisons"][0]["test"]["holm"] <= 1.0


def test_a_difference_that_holm_takes_back_is_not_said_to_be_one(judged, protocols):
    """Of four differences one is at p = 0.03 alone: the three other tests take it back."""
    wrong = {
        "debate": {9, 10},
        "consultancy": set(range(9)),
        "naive": {9, 10, 11},
        "expert": {12, 13},
    }
    report = build_report(
        judged(0.1 if number in of else 0.9, protocol=protocols[name], question=f"q{number}")
        for name, of in wrong.items()
        for number in range(40)
    )
    gap = next(c for c in report.comparisons if (c.first, c.second) == ("debate", "consultancy"))
    assert gap.difference.excludes(0.0)
    assert gap.test.p == pytest.approx(0.033, abs=0.002)
    assert gap.test.holm == pytest.approx(4 * gap.test.p)
    assert not gap.is_shown
    start = "debate does not differ reliably from consultancy here"
    [said] = [line for line in headlines(report) if line.startswith(start)]
    assert "not after correction for 4 tests (Holm)" in said
    assert any("debate does not beat consultancy" in line for line in warnings(report))


def test_the_gap_between_naive_and_expert_is_in_the_report(full):
    found = {each.label: each for each in full.gaps_recovered}
    assert set(found) == {"debate", "consultancy"}
    assert found["debate"].recovered.low > found["consultancy"].recovered.value
    assert found["debate"].num_questions == 120
    assert shown(full)["Gap recovered"].rows


def test_a_gap_that_is_not_there_is_flagged_with_its_place(simulated, protocols):
    skill = {"debate": 0.7, "naive": 0.6, "expert": 0.6}
    report = build_report(
        [t for n, p in skill.items() for t in simulated(12, protocols[n], p, seed=1)]
    )
    [each] = report.gaps_recovered
    assert each.recovered is None
    assert each.flag
    assert each.flag in shown(report)["Gap recovered"].rows[0]

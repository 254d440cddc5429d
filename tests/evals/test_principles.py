"""Effects of each principle, counted by hand on chains and comparisons made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oversight.datasets import register
from oversight.datasets.register import Asks
from oversight.evals.agreement import RaterCounter
from oversight.evals.audit import audit_json, audit_tables, findings, notes, write_audit
from oversight.evals.audit_picture import picture, picture_height, write_picture
from oversight.evals.drawing import LIGHT
from oversight.evals.harm import decide
from oversight.evals.intervals import mean_interval
from oversight.evals.principles import (
    ConstitutionAudit,
    PrincipleCounter,
    PrincipleEffect,
    changes_of,
    harm_brought,
)
from oversight.types import AgentSpec, Defect, Feedback, ModelAnswer, Question, Task, Transcript
from tests.evals.made_chains import chain, preferred, under


def audited(*given: Transcript, order: tuple[str, ...] = ()) -> ConstitutionAudit:
    counter = PrincipleCounter()
    for each in given:
        counter.add(each)
    return counter.counted(order)


def effect(audit: ConstitutionAudit, id_: str) -> PrincipleEffect:
    return next(each for each in audit.effects if each.id == id_)


def asked(kind: Asks, number: int = 0) -> Question:
    return register.question_at(0, "train", list(Asks).index(kind) + len(Asks) * number)


# --- critiques ---

CHAINS = (
    chain("one", "A", (["kind"], "B"), (["brief"], None)),
    chain("two", "A", (["kind"], "A")),
    chain("three", "A", (["kind"], None)),
    chain("four", "A", (["brief"], "I can't help with that.")),
)


def test_shares_of_critiques_are_those_counted_by_hand() -> None:
    found = audited(*CHAINS)
    kind = effect(found, "kind")

    assert (found.num_chains, found.num_prompts, found.num_critiques) == (4, 4, 5)
    assert (kind.num_critiques, kind.num_alone) == (3, 3)
    assert kind.drawn is not None
    assert kind.drawn.value == 3 / 5
    assert kind.fault is not None
    assert kind.fault.value == 2 / 3
    assert kind.changed is not None
    assert kind.changed.value == 1 / 3


def test_intervals_of_a_principle_are_clustered_by_prompt() -> None:
    found = effect(audited(*CHAINS, chain("one", "A", (["kind"], "B"), seed=1)), "kind")

    assert found.changed == mean_interval([1, 0, 0, 1], ["one", "two", "three", "one"])


def test_a_critique_that_was_refused_found_no_fault() -> None:
    refused = chain("one", "A", (["kind"], "B"))
    turns = list(refused.turns)
    turns[1] = turns[1].model_copy(update={"defects": (Defect.REFUSED,)})
    found = effect(audited(replace(refused, turns=tuple(turns))), "kind")

    assert found.fault is not None
    assert found.fault.value == 0.0
    assert found.changed is not None
    assert found.changed.value == 1.0


def test_a_revision_that_only_moves_spaces_changed_nothing() -> None:
    found = effect(audited(chain("one", "A b", (["kind"], "A  b\n"))), "kind")

    assert found.changed is not None
    assert found.changed.value == 0.0


def test_a_critique_by_two_principles_counts_for_both_and_is_said_to() -> None:
    found = audited(chain("one", "A", (["kind", "brief"], "B")))

    assert [(e.id, e.num_critiques, e.num_alone) for e in found.effects] == [
        ("brief", 1, 0),
        ("kind", 1, 0),
    ]
    assert any("cannot be told apart" in line for line in notes(found))


def test_of_principles_asked_apart_those_count_that_found_the_fault() -> None:
    private = asked(Asks.PRIVATE)
    given, right = register.helpful_only_answer(private), register.right_answer(private)
    found = audited(
        chain(private, given, (["kind", "brief"], right), violated=["kind"]),
        chain(asked(Asks.PUBLIC), "A", (["kind", "brief"], "B"), violated=["kind", "brief"]),
    )

    kind, brief = effect(found, "kind"), effect(found, "brief")
    assert (kind.num_critiques, kind.num_alone) == (2, 1)
    assert (brief.num_critiques, brief.num_alone) == (2, 1)
    assert (kind.fault.value, brief.fault.value) == (1.0, 0.5)
    assert (kind.changed.value, brief.changed.value) == (1.0, 0.5)
    assert kind.took["privacy"].value == 1.0
    assert brief.took["privacy"].value == 0.0


def test_where_each_principle_found_its_own_faults_nothing_is_said_of_several_at_once() -> None:
    found = audited(
        chain("one", "A", (["kind", "brief"], "B"), violated=["kind"]),
        chain("two", "A", (["kind", "brief"], None)),
    )
    assert not any("cannot be told apart" in line for line in notes(found))


def test_critiques_by_no_principle_are_counted_apart() -> None:
    found = audited(chain("one", "A", ([], "B")))

    assert (found.num_critiques, found.num_free) == (1, 1)
    assert found.effects == ()


def test_defects_of_revisions_are_counted() -> None:
    found = audited(chain("one", "A", (["kind"], "B"), defects={0: (Defect.PREAMBLE,)}))

    assert effect(found, "kind").num_defective == 1


def test_principles_of_the_set_that_nothing_was_asked_by_are_unused() -> None:
    found = audited(*CHAINS, order=("other", "kind", "brief"))

    assert found.unused == ("other",)
    assert [each.id for each in found.effects] == ["kind", "brief"]
    assert "Never asked by: other." in findings(found)


def test_changes_are_the_critiques_in_their_order() -> None:
    found = list(changes_of(CHAINS[0]))

    assert [(c.before.text, c.principles, c.is_changed) for c in found] == [
        ("A", ("kind",), True),
        ("B", ("brief",), False),
    ]


# --- never changing, refusing, harm ---


def never(num: int) -> ConstitutionAudit:
    return audited(*(chain(f"q{n}", "A", (["kind"], None)) for n in range(num)))


def test_that_a_principle_never_changes_a_response_is_said_where_the_interval_says_so() -> None:
    found = never(100)

    changed = effect(found, "kind").changed
    assert changed is not None
    assert changed.high is not None
    assert changed.high < 0.05
    assert findings(found) == (
        "kind never changes a response: 0 of 100 critiques, which fits at most 4 %.",
    )


@pytest.mark.parametrize("num", [1, 5, 20])
def test_of_few_critiques_it_is_not_said_to_never_change_a_response(num: int) -> None:
    [said] = findings(never(num))

    assert "never changes" not in said
    assert "too few to say that it never does" in said


def test_revisions_that_become_refusals_are_counted_by_their_wording() -> None:
    brief = effect(audited(*CHAINS), "brief")

    assert brief.refused is not None
    assert (brief.refused.value, brief.refused.num) == (1 / 2, 2)
    assert brief.over_refused is None


def test_an_answer_that_declined_before_is_no_refusal_of_the_principle() -> None:
    found = audited(chain("one", "I can't help with that.", (["kind"], "I won't do that.")))

    assert effect(found, "kind").refused is None


def test_over_refusal_by_rule_is_of_harmless_requests() -> None:
    own, private = asked(Asks.OWN), asked(Asks.PRIVATE)
    found = audited(
        chain(own, register.right_answer(own), (["strict"], "That is private.")),
        chain(private, register.helpful_only_answer(private), (["strict"], "That is private.")),
    )
    strict = effect(found, "strict")

    assert strict.over_refused is not None
    assert (strict.over_refused.value, strict.over_refused.num) == (1.0, 1)


def test_the_kinds_of_harm_that_a_principle_took_and_added_are_counted_by_rule() -> None:
    chains = []
    for number in range(4):
        code = asked(Asks.CODE, number)
        told, right = register.helpful_only_answer(code), register.right_answer(code)
        chains.append(chain(code, told, (["codes"], right if number < 3 else told)))
    private = asked(Asks.PRIVATE)
    told = register.helpful_only_answer(private)
    chains.append(chain(private, register.right_answer(private), (["codes"], told)))
    codes = effect(audited(*chains), "codes")

    assert (codes.took["security"].value, codes.took["security"].num) == (3 / 4, 4)
    assert (codes.added["privacy"].value, codes.added["privacy"].num) == (1 / 5, 5)
    assert "privacy" not in codes.took


def test_over_refusal_is_a_finding_where_the_interval_lies_above_the_bound() -> None:
    def of(num: int) -> tuple[str, ...]:
        chains = []
        for number in range(num):
            own = asked(Asks.OWN, number)
            chains.append(chain(own, register.right_answer(own), (["strict"], "No.")))
        return findings(audited(*chains))

    assert any(line.startswith("strict causes over-refusal: ") for line in of(12))
    assert any("(by rule)" in line for line in of(12))


def test_one_refusal_in_many_answers_is_no_finding() -> None:
    chains = [chain(f"q{n}", "A", (["kind"], "B")) for n in range(40)]
    chains.append(chain("last", "A", (["kind"], "I can't help with that.")))

    assert findings(audited(*chains)) == (
        "No principle stands out, as far as these intervals tell.",
    )


# --- comparisons ---

PAIR = ("t1", "t2")


def compared(number: int, *given: Feedback) -> Transcript:
    made = chain(f"q{number}", "A", ([], None))
    return replace(made, ratings=given)


def both_orders(
    number: int, id_: str, first: float | None, second: float | None, **words: str
) -> list[Feedback]:
    """Probabilities of what is shown first, in the order drawn and in the other."""
    pair = (f"{number}-a", f"{number}-b")
    by = under(id_, **words)
    return [
        preferred("d", pair, by, first),
        preferred("d", pair, by, second, swapped=True),
    ]


def test_a_comparison_that_follows_the_place_flips_with_the_order() -> None:
    found = audited(
        compared(1, *both_orders(1, "kind", 0.9, 0.8)),
        compared(2, *both_orders(2, "kind", 0.9, 0.1)),
    )
    kind = effect(found, "kind")

    assert kind.flipped_by_order is not None
    assert (kind.flipped_by_order.value, kind.flipped_by_order.num) == (1 / 2, 2)
    assert kind.first is not None
    assert kind.first.value == pytest.approx((0.9 + 0.8 + 0.9 + 0.1) / 4)
    assert kind.num_comparisons == 4


def test_a_tie_in_both_orders_is_no_flip() -> None:
    found = effect(audited(compared(1, *both_orders(1, "kind", 0.5, 0.5))), "kind")

    assert found.flipped_by_order is not None
    assert found.flipped_by_order.value == 0.0


def test_in_the_report_a_tie_in_both_orders_is_no_flip_either() -> None:
    counter = RaterCounter()
    counter.add(compared(1, *both_orders(1, "kind", 0.5, 0.5)))

    [summary] = counter.summaries()
    assert summary.flipped is not None
    assert summary.flipped.value == 0.0


def test_in_the_report_orders_are_compared_within_one_wording() -> None:
    counter = RaterCounter()
    pair = ("a", "b")
    one, other = under("kind", question="Kinder {id}?"), under("kind", question="Nicer {id}?")
    counter.add(
        compared(
            1,
            preferred("d", pair, one, 0.9),
            preferred("d", pair, other, 0.9, swapped=True),
        )
    )

    [summary] = counter.summaries()
    assert summary.flipped is None


def test_answers_that_cannot_be_read_are_counted_and_in_no_share() -> None:
    found = effect(audited(compared(1, *both_orders(1, "kind", 0.9, None))), "kind")

    assert (found.num_comparisons, found.num_unread) == (2, 1)
    assert found.flipped_by_order is None


def test_a_comparison_that_follows_the_words_flips_with_the_wording() -> None:
    found = audited(
        compared(
            1,
            *both_orders(1, "kind", 0.9, 0.1),
            *both_orders(1, "kind", 0.2, 0.8, words="Be nice: {id}."),
        ),
        compared(
            2,
            *both_orders(2, "kind", 0.9, 0.1),
            *both_orders(2, "kind", 0.7, 0.3, question="Which is nicer, {id}?"),
        ),
        compared(3, *both_orders(3, "kind", 0.9, 0.1)),
    )
    kind = effect(found, "kind")

    assert kind.num_wordings == 3
    assert kind.flipped_by_words is not None
    assert (kind.flipped_by_words.value, kind.flipped_by_words.num) == (1 / 2, 2)
    assert kind.flipped_by_order is not None
    assert kind.flipped_by_order.value == 0.0


def test_wordings_are_compared_in_the_orders_that_both_were_asked_in() -> None:
    pair = ("a", "b")
    other = under("kind", words="Be nice: {id}.")
    found = audited(
        compared(
            1,
            preferred("d", pair, under("kind"), 0.9),
            preferred("d", pair, other, 0.9, swapped=True),
        )
    )

    assert effect(found, "kind").flipped_by_words is None


def agreeing(*leanings: tuple[float, float]) -> ConstitutionAudit:
    """Items compared under two principles: their probabilities of the same response."""
    return audited(
        *(
            compared(
                number,
                *both_orders(number, "brief", one, 1 - one),
                *both_orders(number, "kind", other, 1 - other),
            )
            for number, (one, other) in enumerate(leanings)
        )
    )


def test_agreement_of_two_principles_leaves_ties_out_and_counts_them() -> None:
    [pair] = agreeing((0.9, 0.8), (0.9, 0.2), (0.9, 0.5)).pairs

    assert (pair.first, pair.second, pair.num_items, pair.num_tied) == ("brief", "kind", 3, 1)
    assert pair.agreement is not None
    assert (pair.agreement.value, pair.agreement.num) == (1 / 2, 2)


def test_that_principles_conflict_is_said_where_the_interval_lies_below_half() -> None:
    assert any("brief and kind conflict" in line for line in findings(agreeing(*[(0.9, 0.1)] * 20)))
    assert not any("conflict" in line for line in findings(agreeing((0.9, 0.1))))
    assert not any("conflict" in line for line in findings(agreeing(*[(0.9, 0.5)] * 20)))


def test_principles_are_compared_within_one_rater() -> None:
    pair, other = ("a", "b"), AgentSpec(agent="other")
    found = audited(
        compared(
            1,
            preferred("d", pair, under("kind"), 0.9),
            preferred("d", pair, under("brief"), 0.1, rater=other),
        )
    )

    assert found.pairs == ()


def test_a_rater_that_always_prefers_the_first_is_named() -> None:
    found = audited(*(compared(n, *both_orders(n, "kind", 0.95, 0.95)) for n in range(20)))

    said = findings(found)
    assert any(line.startswith("kind flips with the order: 100 %") for line in said)
    assert any("shown first gets 95 % of the probability" in line for line in said)


def test_comparisons_under_no_principle_are_not_counted() -> None:
    assert audited(compared(1, preferred("d", PAIR, None, 0.9))).num_comparisons == 0


def test_a_rating_of_a_criticism_alone_compares_nothing() -> None:
    [rating, _] = both_orders(1, "kind", 0.9, 0.1)
    soft = rating.answer.answers["preferred"]  # type: ignore[union-attr]  # a model's
    answer = ModelAnswer(task=Task.REVISIONS, answers={"criticism": soft})
    found = audited(compared(1, rating.model_copy(update={"answer": answer})))

    assert (found.num_comparisons, found.effects) == (0, ())


# --- a principle left out ---


def test_what_comes_back_without_a_principle_is_paired_by_prompt() -> None:
    codes = [asked(Asks.CODE, number) for number in range(20)]
    told = [decide(each, register.helpful_only_answer(each)) for each in codes]
    kept = [decide(each, register.right_answer(each)) for each in codes]
    half = told[:10] + kept[10:]
    rows = harm_brought("codes", told, kept, half)  # type: ignore[arg-type]  # all are decided
    by_kind = {each.harm: each for each in rows}

    assert set(by_kind) == {"security", "any"}
    assert by_kind["security"].took.value == 1.0
    assert by_kind["security"].back.value == 1 / 2
    assert by_kind["security"].share_back == 1 / 2


def test_a_kind_that_only_came_with_the_left_out_run_was_not_taken_away() -> None:
    private = asked(Asks.PRIVATE)
    kept = decide(private, register.right_answer(private))
    [code, *_] = (
        entry.fact
        for entry in register.entries_of(private)
        if entry.fact.kind is register.FactKind.CODE and entry.only != private.meta["asker"]
    )
    leak = decide(private, code.sentence())
    rows = harm_brought("codes", [kept], [kept], [leak])  # type: ignore[list-item]  # decided
    by_kind = {each.harm: each for each in rows}

    assert by_kind["security"].took.value == 0.0
    assert by_kind["security"].back.value == 1.0
    assert by_kind["security"].share_back is None


def test_without_a_common_prompt_nothing_is_said_of_a_left_out_principle() -> None:
    one, other = (decide(asked(Asks.CODE, n), "No.") for n in (0, 1))

    assert harm_brought("codes", [one], [one], [other]) == ()  # type: ignore[list-item]  # decided


# --- tables ---


def test_the_matrix_has_a_count_and_an_interval_in_each_cell() -> None:
    tables = {table.title: table for table in audit_tables(agreeing((0.9, 0.8), (0.9, 0.2)))}
    table = tables["Agreement of principles"]

    assert table.columns == ("principle", "1")
    assert table.rows[0] == ("1 brief", "")
    assert table.rows[1][0] == "2 kind"
    assert table.rows[1][1].startswith("50 % [")
    assert table.rows[1][1].endswith("/2")


def test_an_empty_audit_has_no_table_and_says_what_is_missing() -> None:
    found = audited()

    assert audit_tables(found) == ()
    assert notes(found)[0].startswith("No critiques")
    assert audit_json(found)["effects"] == []


# --- the picture ---


def drawn(audit: ConstitutionAudit) -> tuple[dict[str, set[float]], list[str]]:
    """Of the picture: where marks stand in each panel, by the panel's title, and all words."""
    figure = picture(audit, LIGHT)
    figure.canvas.draw()
    marks: dict[str, set[float]] = {}
    words: list[str] = [each.get_text() for each in figure.texts]
    for axes in figure.axes:
        texts = [each.get_text() for each in axes.texts]
        words += texts + [each.get_text() for each in axes.get_yticklabels()]
        found = {
            float(line.get_xdata()[0])
            for line in axes.lines
            if line.get_marker() not in ("None", "")
        }
        if found:
            marks[texts[0]] = found
    return marks, words


def test_the_picture_shows_each_share_and_each_agreement() -> None:
    found = audited(
        *CHAINS,
        *(
            compared(n, *both_orders(n, "kind", 0.9, 0.1), *both_orders(n, "brief", 0.1, 0.9))
            for n in range(1, 9)
        ),
        compared(9, *both_orders(9, "kind", 0.9, 0.8)),
    )
    marks, words = drawn(found)

    assert marks["changes the answer"] == {1 / 3, 1 / 2}
    assert marks["flips"] == {0.0, 1 / 9}
    assert marks["turns into a refusal"] == {0.0, 1 / 2}
    assert "Agreement of principles" in words
    assert "0" in words  # of eight comparisons under both, none agrees
    assert {"brief", "kind"} <= set(words)


def test_without_comparisons_the_picture_has_no_place_for_them() -> None:
    marks, words = drawn(audited(*CHAINS))

    assert set(marks) == {"changes the answer", "turns into a refusal"}
    assert "Agreement of principles" not in words
    assert picture_height(audited(*CHAINS)) < 3


def test_a_name_of_many_letters_or_with_a_formula_is_drawn_as_it_is(tmp_path: Path) -> None:
    ids = ["$x^2$", "a" * 80, *(f"principle-of-number-{n}" for n in range(22))]
    chains = [chain(f"q{n}", "A", ([id_], "B")) for n, id_ in enumerate(ids)]
    ratings = [each for n, id_ in enumerate(ids) for each in both_orders(1, id_, 0.9, 0.1)]
    found = audited(*chains, compared(1, *ratings))

    write_picture(found, tmp_path / "lint.png")
    write_audit(found, tmp_path / "lint.html")

    assert (tmp_path / "lint.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "lint.html").read_text()
    assert page.count("data:image/svg+xml") == 2
    assert "changes the answer of critiques by it 100 %" in page

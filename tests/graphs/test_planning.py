from __future__ import annotations

from collections.abc import Callable

import pytest

from oversight import protocols
from oversight.errors import ProtocolError
from oversight.graphs.planning import check_fit, draw_orders, plan
from oversight.types import AgentSpec, Option, Question, Role, Seat

SPECS = dict.fromkeys(Role, AgentSpec(agent="any"))
MakeQuestions = Callable[[int], list[Question]]


def test_the_three_orders_are_drawn_apart_and_evenly(make_questions: MakeQuestions) -> None:
    drawn = [draw_orders(question, seed=0) for question in make_questions(800)]
    first_listed = [orders.options[0] for orders in drawn]
    honest_first = [orders.defends[0] == i % 2 for i, orders in enumerate(drawn)]
    a_shown_first = [orders.shown[0] is Seat.A for orders in drawn]
    for share in (sum(first_listed), sum(honest_first), sum(a_shown_first)):
        assert 340 < share < 460
    together = sum(
        x == y == z for x, y, z in zip(first_listed, honest_first, a_shown_first, strict=True)
    )
    assert 140 < together < 260


def test_orders_depend_on_question_and_seed_alone(question: Question) -> None:
    assert draw_orders(question, 1) == draw_orders(question, 1)
    assert len({draw_orders(question, seed).model_dump_json() for seed in range(40)}) == 8


def test_all_protocols_meet_a_question_in_the_same_way(question: Question) -> None:
    chosen = [protocols.load(name) for name in ("debate", "consultancy", "naive")]
    orders = {debate.orders.model_dump_json() for debate, _ in plan([question], chosen, SPECS)}
    assert len(orders) == 1


def test_both_sides_run_each_assignment_once(question: Question) -> None:
    planned = [
        debate
        for debate, _ in plan([question], [protocols.load("consultancy")], SPECS, sides="both")
    ]
    assert {debate.orders.defends[0] for debate in planned} == {0, 1}
    assert len({debate.orders.options for debate in planned}) == 1
    assert len({debate.id for debate in planned}) == len(planned) == 2


@pytest.mark.parametrize("name", ["naive", "expert"])
def test_where_nobody_speaks_both_sides_are_both_listings(question: Question, name: str) -> None:
    protocol = protocols.load(name)
    planned = [debate for debate, _ in plan([question], [protocol], SPECS, sides="both")]
    assert {debate.orders.options for debate in planned} == {(0, 1), (1, 0)}
    assert len({debate.id for debate in planned}) == len(planned) == 2
    swapping = protocol.model_copy(update={"swap": True})
    assert len(list(plan([question], [swapping], SPECS, sides="both"))) == 1


def test_of_many_options_the_right_one_is_always_defended() -> None:
    options = tuple(Option(text=text) for text in "wxyz")
    for index in range(50):
        question = Question(id=str(index), dataset="d", text="?", options=options, correct=2)
        defends = draw_orders(question, 0).defends
        assert 2 in defends
        assert len(set(defends)) == 2


def test_a_debate_names_only_the_agents_that_take_part(question: Question) -> None:
    [(naive, _)] = plan([question], [protocols.load("naive")], SPECS)
    assert set(naive.agents) == {Role.JUDGE}
    [(consultancy, _)] = plan([question], [protocols.load("consultancy")], SPECS)
    assert set(consultancy.agents) == {Role.JUDGE, Role.CONSULTANT}
    [(critique, _)] = plan([question], [protocols.load("critique")], SPECS)
    assert set(critique.agents) == {Role.JUDGE, Role.CONSULTANT, Role.CRITIC}


def test_a_source_that_is_not_there_cannot_be_read(question: Question) -> None:
    bare = question.model_copy(update={"source": None})
    with pytest.raises(ProtocolError, match=r"'expert' .* question 'q1' has none"):
        list(plan([bare], [protocols.load("expert")], SPECS))


def test_a_missing_agent_is_named() -> None:
    without_critic = {role: spec for role, spec in SPECS.items() if role is not Role.CRITIC}
    with pytest.raises(ProtocolError, match=r"needs a critic: set agents\.critic\.agent"):
        check_fit(protocols.load("critique"), without_critic)
    with pytest.raises(ProtocolError, match=r"needs a debater: set agents\.debater\.agent"):
        check_fit(protocols.load("debate"), {Role.JUDGE: AgentSpec(agent="any")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graph": "consultancy"}, "takes 1 speaking seats, found 2"),
        ({"graph": "direct_qa"}, "takes 0 speaking seats, found 2"),
        ({"choose_by": Role.DEBATER}, "the judge or a scorer chooses"),
    ],
)
def test_a_protocol_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        check_fit(protocols.load("debate").model_copy(update=changes), SPECS)


@pytest.mark.parametrize(
    ("name", "graph", "message"),
    [
        ("critique", "consultancy", r"takes 0 critic seats, found 1 \(b\); graph = 'critique'"),
        ("critique", "debate", r"takes 0 critic seats, found 1 \(b\); graph = 'critique'"),
        ("consultancy", "critique", r"takes 1 critic seats, found 0 \(none\)"),
    ],
)
def test_a_critic_needs_a_graph_that_has_one(name: str, graph: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        check_fit(protocols.load(name).model_copy(update={"graph": graph}), SPECS)

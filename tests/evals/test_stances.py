"""The worth of critics with a free stance, by debates made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oversight import protocols as shipped
from oversight.evals.findings import frames
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import Act, Role, Seat, Stance, Turn

PROTOCOL = shipped.load("critique_free_stance")


@pytest.fixture
def criticised(judged):
    """A debate in which option 0 is right, the consultant defends one, and the critic chooses."""

    def make(question, *, defends, stance, before, after, protocol=PROTOCOL):
        made = judged(
            after, question=question, protocol=protocol, defends=(defends, 1 - defends), path=()
        )
        believed = judged(before).judgments[0].final
        judgment = made.judgments[0].model_copy(update={"trajectory": ((1, believed),)})
        place = {"debate_id": made.debate.id, "round": 0}
        turns = (
            Turn(**place, step=0, seat=Seat.A, role=Role.CONSULTANT, act=Act.SPEAK),
            Turn(**place, step=2, seat=Seat.B, role=Role.CRITIC, act=Act.CRITIQUE, stance=stance),
        )
        return replace(made, turns=turns, judgments=(judgment,))

    return make


def test_both_conditions_are_counted_on_the_same_debates(criticised):
    agrees, objects = Stance.AGREES, Stance.OBJECTS
    report = build_report(
        [
            criticised("a", defends=0, stance=agrees, before=0.9, after=0.9),
            criticised("b", defends=1, stance=objects, before=0.2, after=0.8),
            criticised("c", defends=1, stance=agrees, before=0.7, after=0.3),
            criticised("d", defends=0, stance=objects, before=0.4, after=0.7),
            criticised("e", defends=0, stance=None, before=0.4, after=0.2),
        ]
    )
    [worth] = report.critics
    assert (worth.num_debates, worth.num_unread) == (5, 1)
    assert worth.critic.value == 0.5, "right in a and b, wrong in c and d"
    assert worth.judge_before.value == pytest.approx(2 / 5)
    assert worth.judge_after.value == pytest.approx(3 / 5)
    assert worth.advantage.value == 0.0, "on a to d, where the judge was right in a and c"
    assert worth.gain.value == pytest.approx(1 / 5)
    assert (worth.after_right.value, worth.after_wrong.value) == (1.0, 0.5)
    assert (worth.follows_right.value, worth.follows_wrong.value) == (1.0, 0.5)


def test_a_judge_that_believes_every_critic_is_never_right_where_the_critic_is_wrong(criticised):
    made = [
        criticised(f"q{i}", defends=i % 2, stance=stance, before=0.5, after=after)
        for i in range(6)
        for stance, after in [(Stance.AGREES, 0.9 if i % 2 == 0 else 0.1)]
    ]
    [worth] = build_report(made).critics
    assert (worth.after_right.value, worth.after_wrong.value) == (1.0, 0.0)
    assert (worth.follows_right.value, worth.follows_wrong.value) == (1.0, 1.0)


def test_a_protocol_that_never_asks_before_has_no_advantage_to_show(criticised):
    steps = (PROTOCOL.opening[0], PROTOCOL.opening[2])
    unasked = PROTOCOL.model_copy(update={"opening": steps})
    made = criticised("a", defends=0, stance=Stance.AGREES, before=0.9, after=0.9)
    turn = made.turns[1].model_copy(update={"step": 1})
    judgment = made.judgments[0].model_copy(update={"trajectory": ()})
    debate = made.debate.model_copy(update={"protocol": unasked})
    asked_once = replace(made, debate=debate, turns=(made.turns[0], turn), judgments=(judgment,))
    report = build_report([asked_once])
    [worth] = report.critics
    [table] = [each for each in tables(report) if each.title == "Critics with a free stance"]
    assert [table.rows[0][place] for place in (3, 4, 6)] == ["–"] * 3
    assert (worth.judge_before, worth.advantage, worth.gain) == (None, None, None)
    assert worth.critic.value == 1.0


def test_the_figures_stand_in_a_table_and_a_frame(criticised):
    made = [
        criticised("a", defends=0, stance=Stance.AGREES, before=0.9, after=0.9),
        criticised("b", defends=1, stance=Stance.AGREES, before=0.9, after=0.9),
    ]
    report = build_report(made)
    [table] = [each for each in tables(report) if each.title == "Critics with a free stance"]
    [row] = table.rows
    assert row[7].endswith("of 1")
    [frame] = frames(report)["critics"]
    assert (frame["critic"], frame["num_unread"]) == (0.5, 0)

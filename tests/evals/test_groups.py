"""Judges in groups in the report: agreement, regret by rule, debaters, and what cannot be said."""

import random

import pytest

from oversight.errors import ConfigError
from oversight.evals.findings import frames, to_json
from oversight.evals.groups import read_groups
from oversight.evals.rendering import html
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import AgentSpec, Feedback, PairAnswer, Preferred, Role
from oversight.types.ratings import item_id

GROUPS = {
    **dict.fromkeys(("n1", "n2", "n3", "n4"), "nurses"),
    **dict.fromkeys(("p1", "p2"), "patients"),
}


def debates(judged, number, nurses=0.9, patients=0.1, *, speaker="retrieval", seed=0):
    """Debates between option 0 and 1; groups like option 0 as often as named."""
    rng = random.Random(seed)
    made = []
    for at in range(number):
        likes = {name: nurses if name[0] == "n" else patients for name in GROUPS}
        (first, p), *others = (
            (name, 0.8 if rng.random() < share else 0.2) for name, share in likes.items()
        )
        made.append(
            judged(p, question=f"q{at}", judge=first, more_judges=dict(others), speaker=speaker)
        )
    return made


def as_game(transcript, a, b):
    """The same debate between two players of a tournament."""
    settings = {"a": {"player": a}, "b": {"player": b}}
    agents = transcript.debate.agents | {Role.DEBATER: AgentSpec(agent="x", settings=settings)}
    debate = transcript.debate.model_copy(update={"agents": agents})
    for cached in ("id",):
        debate.__dict__.pop(cached, None)
    judgments = tuple(
        each.model_copy(update={"debate_id": debate.id}) for each in transcript.judgments
    )
    return type(transcript)(debate, transcript.question, transcript.turns, judgments)


def table(report, title):
    return next((each for each in tables(report) if each.title == title), None)


def test_the_majority_leaves_the_small_group_with_the_largest_regret(judged):
    report = build_report(debates(judged, 60), groups=GROUPS)
    rows = {(each.rule, each.group): each for each in report.group_rules}
    assert len(rows) == 10
    majority = rows["majority", "patients"]
    assert (majority.worst, majority.num_items, majority.num_left_out) == ("patients", 60, 0)
    assert majority.regret == majority.largest > 0.6
    assert majority.largest_low < majority.largest < majority.largest_high
    assert rows["maximin", "patients"].largest < majority.largest
    assert [each.flaw for each in report.judge_groups] == ["", ""]
    assert report.judge_groups[0].judges == ("n1", "n2", "n3", "n4")
    shown = table(report, "Whose values: regret by rule")
    assert shown.columns[2:4] == ("nurses", "patients")
    assert next(row[1] for row in shown.rows) == "majority"


def test_without_groups_nothing_is_said_of_them(judged):
    report = build_report(debates(judged, 12))
    assert (report.judge_groups, report.group_rules, report.group_debaters) == ((), (), ())
    assert table(report, "Groups of judges") is None


def test_a_group_of_one_judge_is_flagged_and_has_no_agreement(judged):
    groups = {name: group for name, group in GROUPS.items() if name != "p2"}
    report = build_report(debates(judged, 30), groups=groups)
    nurses, patients = report.judge_groups
    assert nurses.alpha is not None
    assert (patients.alpha, patients.judges) == (None, ("p1",))
    assert patients.flaw == "a group of 1: one judge's word is not yet a group's"
    assert patients.flaw in table(report, "Groups of judges").rows[1]


def test_groups_that_decided_nothing_in_common_have_no_regret(judged):
    made = [judged(0.9, question=f"q{at}", judge="n1", more_judges={"n2": 0.8}) for at in range(12)]
    made += [
        judged(0.9, question=f"r{at}", judge="p1", more_judges={"p2": 0.2}) for at in range(12)
    ]
    report = build_report(made, groups={"n1": "a", "n2": "a", "p1": "b", "p2": "b"})
    assert report.group_rules == ()
    assert all("no item that every group decided" in each.flaw for each in report.judge_groups)


def test_few_questions_give_no_agreement(judged):
    few = build_report(debates(judged, 9), groups=GROUPS).judge_groups
    assert [each.alpha for each in few] == [None, None]
    assert "9 questions that two of it decided; 10 are needed" in few[0].flaw


def test_several_debates_of_one_question_are_one_cluster(judged):
    def widths(cluster):
        made = [
            judged(
                0.8 if number < 5 else 0.2,
                question=f"q{number}",
                cluster=cluster(number),
                judge="n1",
                more_judges={"n2": 0.8 if number < 5 else 0.2, "p1": 0.8, "p2": 0.8},
            )
            for number in range(10)
        ]
        groups = {"n1": "n", "n2": "n", "p1": "p", "p2": "p"}
        (found, *_) = (
            each
            for each in build_report(made, groups=groups).group_rules
            if each.rule == "majority" and each.group == "p"
        )
        return found

    alone = widths(lambda number: f"c{number}")
    together = widths(lambda number: f"c{number // 5}")
    assert (alone.num_questions, together.num_questions) == (10, 2)
    one = widths(lambda number: "c")
    assert (one.num_questions, one.low, one.largest_low) == (1, None, None)


def test_groups_are_convinced_by_debaters_of_their_own(judged):
    made = [
        as_game(each, *(("x", "y") if at % 2 else ("x", "z")))
        for at, each in enumerate(debates(judged, 40))
    ]
    report = build_report(made, groups=GROUPS)
    rated = {(each.group, each.debater): each for each in report.group_debaters}
    assert len(rated) == 6
    assert rated["nurses", "x"].low > rated["nurses", "y"].high
    assert rated["patients", "x"].high < rated["patients", "y"].low
    assert table(report, "Debaters by group of judges").rows[0][1:3] == ("nurses", "x")
    plain = build_report(debates(judged, 40), groups=GROUPS)
    assert plain.group_debaters == ()  # one debater on both sides


def test_raters_of_pairs_are_in_groups_too(judged):
    made = []
    for at in range(12):
        transcript = judged(0.9, question=f"q{at}")
        ids = tuple(sorted(turn.id for turn in transcript.turns[:2]))
        said = {"n1": Preferred.LEFT, "n2": Preferred.LEFT, "p1": Preferred.RIGHT}
        said["p2"] = Preferred.RIGHT if at else Preferred.TIE
        ratings = tuple(
            Feedback(
                debate_id=transcript.debate.id,
                item=item_id("pairs", ids),
                turn_ids=ids,
                judge=name,
                answer=PairAnswer(preferred=word, strength=None if word is Preferred.TIE else 1),
            )
            for name, word in said.items()
        )
        made.append(
            type(transcript)(
                transcript.debate, transcript.question, transcript.turns, (), ratings=ratings
            )
        )
    groups = {"n1": "n", "n2": "n", "p1": "p", "p2": "p"}
    report = build_report(made, groups=groups)
    assert {each.protocol for each in report.group_rules} == {"debate, pairs"}
    by = {(e.rule, e.group): e for e in report.group_rules}
    assert by["majority", "n"].regret == pytest.approx(0.0)
    assert by["majority", "p"].regret == pytest.approx((11 * 1.0 + 0.5) / 12)


def test_groups_are_in_the_json_the_frames_and_the_page(judged):
    report = build_report(debates(judged, 12), groups=GROUPS)
    assert to_json(report)["judge_groups"][1]["group"] == "patients"
    assert {"rule", "regret", "largest", "worst"} <= frames(report)["group_rules"][0].keys()
    assert "Whose values: regret by rule" in html(report)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"n1": "nurses"}, "takes two groups or more"),
        (GROUPS | {"n7": "nurses"}, "groups = 'n7': nobody of that name"),
    ],
)
def test_groups_that_cannot_be_are_refused(judged, groups, message):
    with pytest.raises(ConfigError, match=message):
        build_report(debates(judged, 3), groups=groups)


def test_groups_are_read_from_the_table_of_that_name(tmp_path):
    place = tmp_path / "groups.toml"
    place.write_text('[groups]\nanna = "nurses"\nmodels = "models"\n', encoding="utf-8")
    assert read_groups(place) == {"anna": "nurses", "models": "models"}
    place.write_text('anna = "nurses"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="a table with each judge's group is needed"):
        read_groups(place)

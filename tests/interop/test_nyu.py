"""NYU debate files: every speech, span, belief and judgment becomes a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.interop.base import (
    ImportedDebate,
    import_debates,
    items_of,
)
from oversight.interop.nyu.records import survey_fields, survey_of
from oversight.judging.desk import Desk
from oversight.judging.settings import JudgingSettings
from oversight.reporting.transcripts import page_of
from oversight.store import Store
from oversight.types import (
    Act,
    Outcome,
    OutcomeStatus,
    OwnAnswer,
    Question,
    QuoteStatus,
    Role,
    Seat,
    Verdict,
)
from tests.interop.nyu_files import (
    IN_TURN,
    JUDGE,
    a_debate,
    a_folder,
    believed,
    in_turn,
    metadata,
    negotiated,
    quote,
    settings,
    speech,
    text,
    transcript,
)


def test_speeches_become_turns_with_quotes_of_the_story(tmp_path: Path) -> None:
    found = transcript(tmp_path, a_debate())
    source = found.question.source
    assert source is not None
    assert source.text == 'The robbers left.\n"Melted!" she said.'
    spoken = [turn for turn in found.turns if turn.act is Act.SPEAK]
    assert [(turn.seat, turn.step, turn.round) for turn in spoken] == [
        (Seat.A, 2, 0),
        (Seat.B, 2, 0),
        (Seat.A, 5, 1),
        (Seat.B, 6, 1),
    ]
    assert spoken[0].text == "They did: <quote>The robbers left</quote>, it says."
    assert spoken[1].text == '<quote>"Melted!"</quote>is what she said.'
    for turn in spoken:
        for each in turn.quotes:
            assert turn.text[each.start : each.end] == each.text
            assert source.text[each.source_start : each.source_end] == each.text
            assert each.status is QuoteStatus.VERIFIED


def test_the_judge_believes_speaks_and_ends_it(tmp_path: Path) -> None:
    found = transcript(tmp_path, a_debate())
    judge = [turn for turn in found.turns if turn.seat is Seat.JUDGE]
    assert [(turn.act, turn.step, turn.ends) for turn in judge] == [
        (Act.BELIEVE, 0, False),
        (Act.BELIEVE, 3, False),
        (Act.ASK, 4, False),
        (Act.BELIEVE, 7, True),
    ]
    assert judge[2].text == "Who is she?"
    [judgment] = found.judgments
    assert (judgment.judge, judgment.study) == ("Kiki", "live")
    assert judgment.rationale == "Bob quotes it."
    assert judgment.sent_at == "2023-07-22T04:26:40.000+00:00"
    assert judgment.final.probs == (0.25, 0.75)
    assert judgment.final.choice == found.question.correct == 1
    assert [(step, belief.probs) for step, belief in judgment.trajectory] == [
        (0, (0.5, 0.5)),
        (3, (0.7, pytest.approx(0.3))),
        (7, (0.25, 0.75)),
    ]
    assert judgment.trajectory[0][1].verdict is Verdict.TIE
    assert found.outcome is not None
    assert found.outcome.status is OutcomeStatus.COMPLETE
    assert found.outcome.ended_at == "2023-07-22T04:26:41.000+00:00"


def test_a_debate_says_who_argued_and_what_arm_it_is_of(tmp_path: Path) -> None:
    found = transcript(tmp_path, a_debate())
    agents = found.debate.agents
    assert agents[Role.DEBATER].settings == {"a": "Ada", "b": "Bob"}
    assert agents[Role.JUDGE].settings == {"judge": "Kiki"}
    assert found.debate.protocol.name == "nyu_debate"
    assert found.debate.orders.defends == (0, 1)
    assert found.question.meta["setting"] == "human debate"
    assert found.question.meta["in_paper"] is True


def test_every_step_of_a_turn_is_one_of_its_protocol(tmp_path: Path) -> None:
    found = transcript(tmp_path, a_debate())
    steps = {step.index: step for step in found.debate.protocol.schedule()}
    for turn in found.turns:
        slots = [(slot.seat, slot.act) for slot in steps[turn.step].slots]
        assert (turn.seat, turn.act) in slots
        assert turn.round == steps[turn.step].round


def test_a_consultant_sits_at_a_whichever_answer_they_defend(tmp_path: Path) -> None:
    rules = {"fixedOpening": [JUDGE], "repeatingStructure": [IN_TURN, JUDGE], "fixedClosing": None}
    rounds = [
        believed(0.5),
        in_turn(b=speech("GPT-4", quote(5, 9))),
        believed(0.1, ends=True),
    ]
    roles = {"Debater B": "GPT-4", "Judge": "Kiki"}
    setting = {"isHuman": False, "isDebate": False}
    found = transcript(tmp_path, a_debate(rounds, rules=rules, roles=roles), setting=setting)
    [spoken] = [turn for turn in found.turns if turn.act is Act.SPEAK]
    assert (spoken.seat, spoken.role) == (Seat.A, Role.CONSULTANT)
    assert found.debate.orders.defends == (1,)
    assert found.debate.protocol.name == "nyu_consultancy"
    assert found.question.meta["setting"] == "AI consultancy"
    spec = found.debate.agents[Role.CONSULTANT]
    assert spec.engine is not None
    assert (spec.settings, spec.engine.settings) == ({"a": "GPT-4"}, {"model": "GPT-4"})


def test_both_sides_end_a_debate_by_their_votes(tmp_path: Path) -> None:
    found = transcript(tmp_path, negotiated(agreed=True))
    assert [turn.text for turn in found.turns if turn.ends] == ["Three.", "Four."]
    assert found.debate.protocol.name == "nyu_debate_negotiated"
    assert Role.JUDGE not in found.debate.agents
    going_on = transcript(tmp_path / "other", negotiated(agreed=False))
    assert not any(turn.ends for turn in going_on.turns)


def test_judgments_given_afterwards_have_their_beliefs_speech_by_speech(tmp_path: Path) -> None:
    found = transcript(tmp_path, negotiated(agreed=True))
    by_judge = {each.judge: each for each in found.judgments}
    assert by_judge.keys() == {"Lulu", "Max"}, "Nil began and gave no judgment"
    lulu, max_ = by_judge["Lulu"], by_judge["Max"]
    assert (lulu.study, max_.study) == ("offline stepped", "offline timed")
    assert lulu.rationale == "Clear."
    assert [(step, belief.probs) for step, belief in lulu.trajectory] == [
        (-1, (0.5, 0.5)),
        (0, (0.4, 0.6)),
        (2, (0.2, 0.8)),
    ]
    assert (max_.trajectory, max_.final.choice) == ((), 0)


def test_who_judged_live_and_afterwards_gives_two_judgments(tmp_path: Path) -> None:
    debate = a_debate()
    again = believed(0.9, judge="Kiki", ends=True)["JudgeFeedback"]
    work = {"mode": "timed", "startTimeMillis": 1, "judgments": [again]}
    offline = {"OfflineJudgments": {"judgments": {"Kiki": work}}}
    debate["rounds"] += [offline, offline]
    found = transcript(tmp_path, debate)
    assert sorted((each.judge, each.study, each.final.choice) for each in found.judgments) == [
        ("Kiki", "live", 1),
        ("Kiki (offline 1)", "offline timed", 0),
        ("Kiki (offline 2)", "offline timed", 0),
    ]


def test_the_survey_is_feedback_of_those_who_answered_it(tmp_path: Path) -> None:
    found = transcript(tmp_path, a_debate())
    [rating] = found.ratings
    assert (rating.judge, rating.task, set(rating.turn_ids)) == (
        "Kiki",
        "nyu_survey",
        {turn.id for turn in found.turns},
    )
    assert isinstance(rating.answer, OwnAnswer)
    assert rating.answer.fields == {"role": "Judge", "clarity · first": 2, "clarity · second": 4}


@given(
    st.dictionaries(
        st.text("ab ·", max_size=4),
        st.integers() | st.dictionaries(st.text("ab ·", max_size=3), st.integers(), max_size=2),
        max_size=3,
    ),
    st.sampled_from(["Judge", "Debater", "role"]),
)
def test_answers_to_the_survey_come_back(answers: dict[str, Any], role: str) -> None:
    given = {role: {"answers": answers}}
    assert survey_of(survey_fields(given)) == given


async def test_an_imported_debate_is_judged_on_the_screen_like_one_of_ours(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "in", {"one": a_debate()})
    url = str(tmp_path / "one.db")
    with Store.open(url) as store:
        import_debates(settings(folder), store)
        desk = Desk(store, JudgingSettings(judge="me", store=url, overlap=9))
        item = desk.take_next()
        assert item is not None
        assert not item.live
        assert [(turn.seat, turn.act) for turn in item.turns()] == [
            (Seat.A, Act.SPEAK),
            (Seat.B, Act.SPEAK),
            (Seat.JUDGE, Act.ASK),
            (Seat.A, Act.SPEAK),
            (Seat.B, Act.SPEAK),
        ], "beliefs of others are not shown"
        assert not item.lost(item.turns())
        desk.open(item)
        item.believe(6, (0.1, 0.9), stepped=False)
        sent = await desk.send(item)
        assert (sent.judge, sent.final.choice) == ("me", 1)
        assert {each.judge for each in next(store.transcripts()).judgments} == {"Kiki", "me"}
        assert not store.check()


def test_an_imported_debate_has_a_page_like_one_of_ours(tmp_path: Path) -> None:
    page = page_of(transcript(tmp_path, a_debate()))
    assert [(word, is_right) for _, word, is_right in page.verdicts] == [("She did. (75%)", True)]
    assert len(page.turns) == 8
    assert page.chart is not None
    [line] = page.chart.lines
    assert [y for _, y in line.points] == [0.5, pytest.approx(0.3), 0.75, 0.75]
    assert [rating.task for rating in page.ratings] == ["nyu_survey"]


@pytest.mark.parametrize(
    ("rounds", "state", "cause"),
    [([], "WaitingToBegin", "not_begun"), ([believed(0.5)], "InProgress", "unfinished")],
)
def test_a_debate_that_came_to_no_end_is_kept_and_in_no_figure(
    rounds: list[Any], state: str, cause: str, tmp_path: Path
) -> None:
    debate = a_debate() | {"rounds": rounds}
    found = transcript(tmp_path, debate, status={state: {}}, includedInPaper=False)
    assert found.outcome is not None
    assert (found.outcome.status, found.outcome.cause) == (OutcomeStatus.FAILED, cause)
    assert not found.judgments
    with Store.open(tmp_path / "one.db") as store:
        assert not list(store.transcripts())
        assert not store.queue("me"), "nobody is asked to go on with it"


def test_debates_are_chosen_by_what_they_came_to(tmp_path: Path) -> None:
    lines = [
        metadata("ended"),
        metadata("aside", includedInPaper=False),
        metadata("begun", status={"InProgress": {}}, includedInPaper=False),
    ]
    folder = a_folder(
        tmp_path / "in", dict.fromkeys(("ended", "aside", "begun"), a_debate()), lines
    )
    for chosen, names in (
        ("all", {"aside", "begun", "ended"}),
        ("complete", {"aside", "ended"}),
        ("paper", {"ended"}),
    ):
        with Store.open(tmp_path / f"{chosen}.db") as store:
            found = import_debates(settings(folder, settings={"debates": chosen}), store)
            assert {q.id.removeprefix("nyu:") for q in store.questions()} == names
        assert found.num_debates + found.left_out.total() == 3


def test_a_file_alone_is_read_with_what_it_says_itself(tmp_path: Path) -> None:
    file = tmp_path / "alone.json"
    file.write_text(json.dumps(a_debate(roles={"Debater A": "GPT-4", "Debater B": "GPT-4"})))
    [item] = items_of(settings(file))
    assert isinstance(item, ImportedDebate)
    [question] = [each for each in item.records if isinstance(each, Question)]
    assert question.meta["setting"] == "AI debate"
    assert "in_paper" not in question.meta
    [outcome] = [each for each in item.records if isinstance(each, Outcome)]
    assert outcome.status is OutcomeStatus.COMPLETE


def test_rounds_that_follow_other_rules_are_read_as_they_stand(tmp_path: Path) -> None:
    rounds = [
        in_turn(a=speech("Ada", text("First.")), b=speech("Bob", text("Then."))),
        believed(0.2, ends=True),
    ]
    found = transcript(tmp_path, a_debate(rounds))
    assert [turn.text for turn in found.turns if turn.act is Act.SPEAK] == ["First.", "Then."]
    assert len(found.debate.protocol.schedule()) == 4
    assert found.judgments[0].final.choice == 1

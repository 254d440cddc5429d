"""NYU debate files: every speech, span, belief and judgment as records, and the same files back."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.cli.main import run
from oversight.datasets.base import BadRow
from oversight.errors import ConfigError, DataError
from oversight.interop.base import (
    ImportedDebate,
    ImportSettings,
    import_debates,
    items_of,
    write_debates,
)
from oversight.interop.nyu.files import restored, story_text
from oversight.interop.nyu.records import survey_fields, survey_of
from oversight.judging.desk import Desk
from oversight.judging.settings import JudgingSettings
from oversight.reporting.transcripts import page_of
from oversight.store import Store
from oversight.types import (
    Act,
    Debate,
    Feedback,
    Judgment,
    Outcome,
    OutcomeStatus,
    OwnAnswer,
    Question,
    QuoteStatus,
    Role,
    Seat,
    Transcript,
    Turn,
    Verdict,
)
from tests.interop.nyu_files import (
    AT_ONCE,
    END,
    IN_TURN,
    JUDGE,
    STORY,
    a_debate,
    a_folder,
    at_once,
    believed,
    in_turn,
    metadata,
    quote,
    speech,
    text,
)


def settings(path: Path, **own: Any) -> ImportSettings:
    return ImportSettings(format="nyu", path=str(path), store="", **own)


def transcript(path: Path, debate: dict[str, Any], **changes: Any) -> Transcript:
    """The one debate of a folder, as it is read back from a store."""
    lines = [metadata("one", **changes)]
    folder = a_folder(path / "in", {"one": debate}, lines)
    with Store.open(path / "one.db") as store:
        import_debates(settings(folder), store)
        [found] = store.transcripts(complete=None)
    return found


def reasons(path: Path, debate: Any) -> str:
    """The reason for which a file cannot be used."""
    [item] = items_of(settings(a_folder(path, {"one": debate})))
    assert isinstance(item, BadRow)
    assert item.file == str(path / "debates" / "one.json")
    return item.reason


# --- what a file becomes ------------------------------------------------------------------


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


OFFLINE = {
    "OfflineJudgments": {
        "judgments": {
            "Lulu": {
                "mode": "stepped",
                "startTimeMillis": 1,
                "judgments": [
                    each["JudgeFeedback"]
                    for each in (
                        believed(0.5, judge="Lulu"),
                        believed(0.4, judge="Lulu"),
                        believed(0.2, "Clear.", judge="Lulu", ends=True),
                    )
                ],
            },
            "Max": {
                "mode": "timed",
                "startTimeMillis": 1,
                "judgments": [believed(0.9, judge="Max", ends=True)["JudgeFeedback"]],
            },
            "Nil": {
                "mode": "stepped",
                "startTimeMillis": 1,
                "judgments": [believed(0.5, judge="Nil")["JudgeFeedback"]],
            },
        }
    }
}
NEGOTIATED = {
    "fixedOpening": [AT_ONCE, END],
    "repeatingStructure": [IN_TURN, END],
    "fixedClosing": None,
}


def negotiated(*, agreed: bool) -> dict[str, Any]:
    rounds = [
        at_once(a=speech("Ada", text("One.")), b=speech("Bob", text("Two."))),
        {"NegotiateEnd": {"votes": {"0": False, "1": True}}},
        in_turn(a=speech("Ada", text("Three.")), b=speech("Bob", text("Four."))),
        {"NegotiateEnd": {"votes": {"0": agreed, "1": True}}},
        OFFLINE,
    ]
    return a_debate(rounds, rules=NEGOTIATED, roles={"Debater A": "Ada", "Debater B": "Bob"})


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


# --- what is refused ----------------------------------------------------------------------


def broken(place: str, value: Any) -> dict[str, Any]:
    """A debate with another value at a dotted place."""
    debate = json.loads(json.dumps(a_debate()))
    *way, last = place.split(".")
    inner = debate
    for step in way:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    inner[int(last) if isinstance(inner, list) else last] = value
    return debate


SPEECH = "rounds.1.SimultaneousSpeeches.speeches.0.content"


@pytest.mark.parametrize(
    ("debate", "said"),
    [
        (
            broken(f"{SPEECH}.1", quote(9, 99)),
            f"{SPEECH}.1.Quote.span = [9, 99]: no span of the story's 12 tokens",
        ),
        (broken(f"{SPEECH}.1", quote(3, 3)), f"{SPEECH}.1.Quote.span = [3, 3]: no span"),
        (broken(f"{SPEECH}.1", quote(-2, 3)), f"{SPEECH}.1.Quote.span = [-2, 3]: no span"),
        (
            broken("rounds.2.JudgeFeedback.distribution", [0.5, 0.6]),
            "rounds.2.JudgeFeedback",
        ),
        (
            broken("rounds.2.JudgeFeedback.distribution", [0.5, 0.6]),
            "distribution = [0.5, 0.6]: it sums to 1.1, not to 1",
        ),
        (broken("rounds.2.JudgeFeedback.distribution", [1.5, -0.5]), "no probabilities"),
        (
            broken("rounds.2.JudgeFeedback.distribution", [0.5, 0.25, 0.25]),
            "rounds.2.JudgeFeedback.distribution = [0.5, 0.25, 0.25]: one probability an answer",
        ),
        (broken("rounds.0", {"Poll": {"votes": {}}}), "rounds.0.Poll"),
        (broken("rounds.0", {}), "rounds.0"),
        (broken(f"{SPEECH}.0", {"Image": {"url": ""}}), f"{SPEECH}.0"),
        (broken("setup.answers", ["One.", "Two.", "Three."]), "setup.answers: 2 are needed"),
        (broken("setup.answers", ["One.", " One."]), "two options have the same text"),
        (broken("setup.correctAnswerIndex", 7), "correct=7"),
        (broken("setup.sourceMaterial", {"Film": {"title": ""}}), "setup.sourceMaterial"),
        (broken("setup.sourceMaterial.QuALITYSourceMaterial.contents", ["\n"]), "story is empty"),
        ({"question": "?"}, "key 'setup' is missing"),
        (b"{", "broken JSON"),
        (b'{"setup": {"question": "\\ud800"}}', "half of a surrogate pair"),
        (b"[1]", "expected a JSON object, found list"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_place(debate: Any, said: str, tmp_path: Path) -> None:
    assert said in reasons(tmp_path / "in", debate)


def test_one_bad_file_keeps_all_from_being_written_unless_it_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_folder(
        tmp_path / "in", {"good": a_debate(), "bad": broken(f"{SPEECH}.1", quote(9, 99))}
    )
    store = tmp_path / "some.db"
    assert run(["import", "nyu", str(folder), "--store", str(store)]) == 2
    told = capsys.readouterr().err
    assert "1 item cannot be used" in told
    assert "bad.json" in told
    assert "--skip-bad" in told
    assert not store.exists()
    assert run(["import", "nyu", str(folder), "--store", str(store), "--skip-bad"]) == 0
    assert "1 bad item was skipped" in capsys.readouterr().out
    with Store.open(store) as opened:
        assert [each.question.id for each in opened.transcripts()] == ["nyu:good"]


def test_a_folder_without_debates_and_a_wrong_setting_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no debate files"):
        list(items_of(settings(tmp_path / "empty")))
    with pytest.raises(ConfigError, match="no such file or folder"):
        list(items_of(settings(tmp_path / "absent")))
    with pytest.raises(ConfigError, match=r"debates.*'some'.*paper"):
        list(items_of(settings(tmp_path / "empty", settings={"debates": "some"})))
    folder = a_folder(tmp_path / "in", {"one": a_debate()}, [])
    with pytest.raises(DataError, match="1 left out: not in the paper's figures"):
        import_debates(
            settings(folder, settings={"debates": "paper"}), Store.open(tmp_path / "none.db")
        )


def test_hostile_text_is_shown_inert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;title\x07[bold]\u202e"
    folder = a_folder(tmp_path / "in", {"x": broken("rounds.0", {hostile: {}})})
    assert run(["import", "nyu", str(folder), "--store", str(tmp_path / "x.db")]) == 2
    told = capsys.readouterr().err
    assert "\x1b]" not in told
    assert "\u202e" not in told
    assert "[bold]" in told


# --- again, and back ----------------------------------------------------------------------


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "in", {"one": a_debate(), "two": negotiated(agreed=True)})
    with Store.open(tmp_path / "some.db") as store:
        first = import_debates(settings(folder), store)
        before = store.counts(), store.seal()
        second = import_debates(settings(folder), store)
        assert (store.counts(), store.seal()) == before
        assert not store.check()
    assert (first.num_found, second.num_found) == (0, 2)


def written_back(path: Path, debates: dict[str, Any]) -> dict[str, Any]:
    """Debates after their way through a store, by name."""
    folder = a_folder(path / "in", debates)
    with Store.open(path / "some.db") as store:
        import_debates(settings(folder), store)
        told = write_debates("nyu", store.transcripts(complete=None), path / "out", {})
    assert told.num_debates == len(debates)
    assert (path / "out" / "debates-metadata.jsonl").read_text().count("\n") == len(debates)
    files = (path / "out" / "debates").glob("*.json")
    return {file.stem: json.loads(file.read_text()) for file in files}


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    debates = {
        "one": a_debate(),
        "two": negotiated(agreed=True),
        "none": a_debate() | {"rounds": []},
    }
    assert written_back(tmp_path, debates) == debates


def as_read(item: ImportedDebate) -> Transcript:
    """A debate as it is read from a store that holds these records."""
    question, debate, *others = item.records
    assert isinstance(question, Question)
    assert isinstance(debate, Debate)
    return Transcript(
        debate,
        question,
        tuple(each for each in others if isinstance(each, Turn)),
        tuple(each for each in others if isinstance(each, Judgment)),
        ratings=tuple(each for each in others if isinstance(each, Feedback)),
    )


WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
) | st.sampled_from(["<quote>", "</quote>", "a <quote>b</quote> c", ""])
CONTENT = st.lists(
    st.builds(text, WORDS)
    | st.tuples(st.integers(0, 5), st.integers(6, 12)).map(lambda span: quote(*span)),
    max_size=6,
)
TOKENS = st.lists(
    st.sampled_from([*STORY, "-LSB-", "[", "``", '"', "'", "n't", "do", "U.S.", "", "gon", "na"])
    | WORDS,
    min_size=12,
    max_size=30,
).filter(lambda tokens: any(token.strip() for token in tokens))


@hypothesis.settings(max_examples=40)
@given(contents=st.tuples(CONTENT, CONTENT, CONTENT, CONTENT), tokens=TOKENS)
def test_any_file_comes_back_as_it_was(
    contents: tuple[list[Any], ...], tokens: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    debate = a_debate(
        [
            believed(0.5, "Begin."),
            at_once(a=speech("Ada", *contents[0]), b=speech("Bob", *contents[1])),
            believed(0.7),
            in_turn(a=speech("Ada", *contents[2]), b=speech("Bob", *contents[3])),
            believed(0.2, "Enough.", ends=True),
        ]
    )
    debate["setup"]["sourceMaterial"]["QuALITYSourceMaterial"]["contents"] = tokens
    path = tmp_path_factory.mktemp("any")
    [item] = items_of(settings(a_folder(path / "in", {"one": debate})))
    assert isinstance(item, ImportedDebate)
    write_debates("nyu", [as_read(item)], path / "out", {})
    assert json.loads((path / "out" / "debates" / "one.json").read_text()) == debate


@given(TOKENS)
def test_tokens_come_back_from_their_text(tokens: list[str]) -> None:
    story = story_text("", tuple(tokens))
    if story.splices is not None:
        assert restored(story.source.text, story.splices) == tokens


def test_the_command_writes_files_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = a_folder(tmp_path / "in", {"one": a_debate(), "two": negotiated(agreed=False)})
    store = ["--store", str(tmp_path / "some.db")]
    assert run(["import", "nyu", str(folder), *store, "--run", "first"]) == 0
    told = capsys.readouterr().out
    assert "2 debates: 12 turns, 3 quotes, 3 judgments and 2 ratings." in told
    assert "as run first" in told
    assert run(["export", str(tmp_path / "out"), "--as", "nyu", *store, "--run", "first"]) == 0
    assert "out: 2 debates" in capsys.readouterr().out
    for file in (folder / "debates").glob("*.json"):
        again = tmp_path / "out" / "debates" / file.name
        assert json.loads(again.read_text()) == json.loads(file.read_text())


def test_what_came_from_elsewhere_is_left_out_of_files(tmp_path: Path) -> None:
    found = transcript(tmp_path, a_debate())
    meta = found.question.meta
    others = {
        "a path": found.question.model_copy(update={"id": "nyu:../../away"}),
        "no rest": found.question.model_copy(update={"meta": {}}),
        "broken": found.question.model_copy(
            update={"meta": meta | {"nyu": {"file": {"setup": 1}}}}
        ),
    }
    for name, question in others.items():
        changed = Transcript(found.debate, question, found.turns)
        told = write_debates("nyu", [changed], tmp_path / name, {})
        assert (told.num_debates, told.left_out.total()) == (0, 1), name
    assert not list(tmp_path.glob("**/away*"))


# --- the published files ------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Path:
    place = shared_data / "nyu-debates"
    if not place.is_dir():
        pytest.skip(f"NYU debates not found at {place}")
    return place


@pytest.fixture(scope="module")
def whole(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all of the published debates that are here."""
    path = tmp_path_factory.mktemp("nyu") / "nyu.db"
    with Store.open(path) as store:
        import_debates(settings(published), store)
    return path


def test_every_published_debate_speech_and_quote_is_read(published: Path, whole: Path) -> None:
    files = [
        json.loads(file.read_text()) for file in sorted((published / "debates").glob("*.json"))
    ]
    counted: Counter[str] = Counter()
    spans = []
    for value in files:
        [material] = value["setup"]["sourceMaterial"].values()
        for each in value["rounds"]:
            [(kind, body)] = each.items()
            counted[kind] += 1
            for one in body.get("speeches", {}).values():
                counted["speeches"] += 1
                quotes = [part["Quote"]["span"] for part in one["content"] if "Quote" in part]
                spans += [material["contents"][begin:end] for begin, end in quotes]
            counted["offline"] += sum(
                work["judgments"][-1]["endDebate"] for work in body.get("judgments", {}).values()
            )
            counted["ended"] += body.get("endDebate", False)
        counted["survey"] += len(value["feedback"]) * bool(value["rounds"])
    with Store.open(whole, only_read=True) as store:
        found = list(store.transcripts(complete=None))
        assert not store.check()
    turns = [turn for each in found for turn in each.turns]
    assert len(found) == len(files)
    assert sum(turn.act is Act.SPEAK for turn in turns) == counted["speeches"]
    assert sum(turn.act is Act.BELIEVE for turn in turns) == counted["JudgeFeedback"]
    assert sum(len(each.judgments) for each in found) == counted["ended"] + counted["offline"]
    assert sum(len(each.ratings) for each in found) == counted["survey"]
    quoted = Counter(_letters([each.text]) for turn in turns for each in turn.quotes)
    assert quoted == Counter(_letters(tokens) for tokens in spans)


def _letters(tokens: list[str]) -> str:
    """Letters and digits alone: what no way of writing tokens changes, but names of brackets."""
    joined = "".join(re.sub("^-[LR][SRC]B-$", "", token) for token in tokens)
    return "".join(char for char in joined if char.isalnum())


def test_published_files_come_back_byte_for_byte(
    published: Path, whole: Path, tmp_path: Path
) -> None:
    with Store.open(whole, only_read=True) as store:
        write_debates("nyu", store.transcripts(complete=None), tmp_path, {})
    for file in sorted((published / "debates").glob("*.json")):
        assert (tmp_path / "debates" / file.name).read_bytes() == file.read_bytes(), file.name
    lines = [
        {each["name"]: each for each in map(json.loads, path.read_text().splitlines())}
        for path in (published / "debates-metadata.jsonl", tmp_path / "debates-metadata.jsonl")
    ]
    assert lines[0] == lines[1]

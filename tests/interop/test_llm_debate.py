"""Transcripts of llm_debate: rounds, quote tags and judgments as records, and the rows back."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.cli.main import run
from oversight.datasets.base import BadRow, LeftOut
from oversight.errors import ConfigError
from oversight.interop.base import (
    ImportedDebate,
    ImportSettings,
    import_debates,
    items_of,
    write_debates,
)
from oversight.interop.llm_debate.records import quoted, read_answer
from oversight.store import Store
from oversight.types import (
    Act,
    BeliefMethod,
    JudgeKind,
    QuoteStatus,
    Role,
    Seat,
    Source,
    Transcript,
    Verdict,
)

STORY = "Ada carried the brass lamp to the attic. Bo swept the cellar."


def a_transcript(**changes: Any) -> dict[str, Any]:
    return {
        "index": 3,
        "question": "Where is the lamp?",
        "question_set_id": "51461_1",
        "story": STORY,
        "story_title": "The house",
        "answers": {"correct": "In the attic.", "incorrect": "In the cellar."},
        "names": {
            "correct": "Debater A",
            "incorrect": "Debater B",
            "cross_examiner": None,
            "judge": None,
        },
        "swap": False,
        "rollout_type": "quality_sim",
        "rounds": [
            {
                "correct": "See <v_quote>Ada carried the brass lamp to the attic</v_quote>!",
                "incorrect": "No: <u_quote>the lamp fell down the stairs</u_quote>.",
                "cross_examiner": None,
                "judge": None,
                "type": "sim",
            },
            {
                "correct": "As I said: <quote>Ada carried the brass lamp</quote>.",
                "incorrect": "It is in the cellar.",
                "cross_examiner": None,
                "judge": None,
                "type": "sim",
            },
        ],
        "responses": [{"correct": "1. rating=-0.1, response=x", "type": "sim"}],
        "extra": {},
    } | changes


def settings(path: Path, **own: Any) -> ImportSettings:
    return ImportSettings(format="llm_debate", path=str(path), store="", settings=own)


def a_json(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(a_transcript(**changes)))
    return path


def a_csv(path: Path, *rows: dict[str, Any]) -> Path:
    """A table as the program writes it; `transcript` may be given as an object."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            cells = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in row.items()}
            writer.writerow(cells)
    return path


def stored(path: Path, tmp_path: Path, **own: Any) -> list[Transcript]:
    with Store.open(tmp_path / "some.db") as store:
        import_debates(settings(path, **own), store)
        assert not store.check()
        return list(store.transcripts())


def one(path: Path, tmp_path: Path, **own: Any) -> Transcript:
    [found] = stored(path, tmp_path, **own)
    return found


def speeches(found: Transcript) -> list[tuple[Seat, int, int, str]]:
    turns = [turn for turn in found.turns if turn.act is Act.SPEAK]
    return [(turn.seat, turn.step, turn.round, turn.text) for turn in turns]


# --- rounds -------------------------------------------------------------------------------


def test_rounds_become_turns_of_seats_in_the_order_shown(tmp_path: Path) -> None:
    found = one(a_json(tmp_path / "t.json"), tmp_path)
    assert [each[:3] for each in speeches(found)] == [
        (Seat.A, 0, 0),
        (Seat.B, 0, 0),
        (Seat.A, 1, 1),
        (Seat.B, 1, 1),
    ]
    assert found.question.correct == 0
    assert [option.text for option in found.question.options] == ["In the attic.", "In the cellar."]
    orders = found.debate.orders
    assert (orders.options, orders.defends, orders.shown) == ((0, 1), (0, 1), (Seat.A, Seat.B))
    assert found.debate.protocol.name == "llm_debate_debate"
    assert found.debate.agents[Role.DEBATER].settings == {"a": "Debater A", "b": "Debater B"}


def test_with_swap_the_right_side_sits_at_b(tmp_path: Path) -> None:
    names = {"correct": "Debater B", "incorrect": "Debater A"}
    found = one(a_json(tmp_path / "t.json", swap=True, names=names), tmp_path)
    by_seat = {seat: text for seat, step, _, text in speeches(found) if step == 1}
    assert by_seat[Seat.A] == "It is in the cellar."
    assert by_seat[Seat.B].startswith("As I said")
    orders = found.debate.orders
    assert (orders.options, orders.defends) == ((1, 0), (1, 0))
    assert found.debate.agents[Role.DEBATER].settings == {"a": "Debater A", "b": "Debater B"}


def test_quotes_are_checked_in_the_story(tmp_path: Path) -> None:
    found = one(a_json(tmp_path / "t.json"), tmp_path)
    turns = [turn for turn in found.turns if turn.act is Act.SPEAK]
    assert turns[0].text == "See <quote>Ada carried the brass lamp to the attic</quote>!"
    quotes = [quote for turn in turns for quote in turn.quotes]
    assert [quote.status for quote in quotes] == [
        QuoteStatus.VERIFIED,
        QuoteStatus.UNVERIFIED,
        QuoteStatus.VERIFIED,
    ]
    assert (quotes[0].source_start, quotes[0].source_text) == (0, quotes[0].text)


def test_without_a_story_the_tags_say_which_quotes_stand_in_it(tmp_path: Path) -> None:
    found = one(a_json(tmp_path / "t.json", story=None), tmp_path)
    quotes = [quote for turn in found.turns for quote in turn.quotes]
    assert [(quote.status, quote.source_text) for quote in quotes] == [
        (QuoteStatus.VERIFIED, "Ada carried the brass lamp to the attic"),
        (QuoteStatus.UNVERIFIED, None),
        (QuoteStatus.UNVERIFIED, None),
    ]


TAGGED = st.lists(
    st.sampled_from(
        ["<v_quote>", "</v_quote>", "<u_quote>", "</U_QUOTE>", "<quote>", "</quote>", "<", "quote>"]
    )
    | st.text(max_size=12)
    | st.sampled_from(["Ada carried the brass lamp", "to the attic."])
).map("".join)


@given(TAGGED, st.sampled_from([None, Source(text=STORY)]))
def test_whatever_is_tagged_quotes_stand_in_the_words(text: str, source: Source | None) -> None:
    words, quotes = quoted(text, source)
    assert not re.search("<(/?)[vu]_quote>", words, re.IGNORECASE)
    for each in quotes:
        assert words[each.start : each.end] == each.text
        if source is not None and each.status is QuoteStatus.VERIFIED:
            assert source.text[each.source_start : each.source_end] == each.source_text


@given(st.text() | TAGGED, st.booleans())
def test_whatever_a_judge_answers_is_read_or_invalid(text: str, swap: bool) -> None:
    for answer in (
        text,
        f"{text}\nAnswer: A",
        f"Prob A: {text}, Prob B: 0.5",
        f"Prob A: 1.., Prob B: {text}",
    ):
        belief = read_answer(answer, swap=swap)
        assert belief.raw == answer
        assert (belief.probs is None) == (belief.verdict is Verdict.INVALID)


def test_a_consultant_sits_at_a(tmp_path: Path) -> None:
    rounds = [{"incorrect": "In the cellar, surely.", "type": "sim"}]
    names = {"incorrect": "Consultant"}
    found = one(a_json(tmp_path / "t.json", rounds=rounds, names=names), tmp_path)
    assert speeches(found) == [(Seat.A, 0, 0, "In the cellar, surely.")]
    assert found.debate.orders.defends == (1,)
    assert found.debate.protocol.name == "llm_debate_consultancy"
    assert found.debate.agents[Role.CONSULTANT].settings == {"a": "Consultant"}


def test_a_judge_asks_before_the_speeches_of_a_round(tmp_path: Path) -> None:
    rounds = a_transcript()["rounds"]
    rounds[1] |= {"judge": "Who saw it?"}
    found = one(a_json(tmp_path / "t.json", rounds=rounds), tmp_path)
    asked = [turn for turn in found.turns if turn.act is Act.ASK]
    assert [(turn.step, turn.round, turn.text) for turn in asked] == [(1, 1, "Who saw it?")]
    assert [each[1] for each in speeches(found)] == [0, 0, 2, 2]
    assert found.debate.protocol.name == "llm_debate_debate_interactive"
    steps = {each.index: each for each in found.debate.protocol.schedule()}
    for turn in found.turns:
        assert (turn.seat, turn.act) in [(s.seat, s.act) for s in steps[turn.step].slots]


def test_in_a_sequential_round_b_speaks_after_a(tmp_path: Path) -> None:
    rounds = a_transcript()["rounds"]
    rounds[1]["type"] = "seq"
    found = one(a_json(tmp_path / "t.json", rounds=[*rounds, rounds[1]]), tmp_path)
    assert [each[:3] for each in speeches(found)] == [
        (Seat.A, 0, 0),
        (Seat.B, 0, 0),
        (Seat.A, 1, 1),
        (Seat.B, 2, 1),
        (Seat.A, 3, 2),
        (Seat.B, 4, 2),
    ]


def test_a_baseline_has_no_speaker(tmp_path: Path) -> None:
    row = {"transcript": a_transcript(rounds=[]), "answer_judge": "Answer: A"}
    found = one(a_csv(tmp_path / "t.csv", row), tmp_path)
    assert not found.turns
    assert found.debate.protocol.name == "llm_debate_naive"
    assert found.judgments[0].final.choice == 0


# --- judgments ----------------------------------------------------------------------------


def a_trial(**changes: Any) -> dict[str, Any]:
    """A row of the human trial's data set."""
    return {
        "debate_id": "d1",
        "judge_id": "7",
        "experiment_name": "Experiment 8",
        "debate_method": "debate",
        "debater_config": '{"language_model": {"model": "gpt-4-1106-preview"}}',
        "swap": "False",
        "confidence_correct": "0.85",
        "judgement_time": "2024-01-20 10:11:12+00:00",
        "explanation": "The quote decides it.",
        "dataset_split": "train",
        "transcript": a_transcript(story=None),
    } | changes


def test_a_persons_judgment_is_their_confidence_in_the_right_answer(tmp_path: Path) -> None:
    found = one(a_csv(tmp_path / "t.csv", a_trial()), tmp_path)
    [judgment] = found.judgments
    assert (judgment.judge, judgment.kind) == ("judge 7", JudgeKind.HUMAN)
    assert judgment.final.probs == (0.85, pytest.approx(0.15))
    assert judgment.rationale == "The quote decides it."
    assert (judgment.study, judgment.sent_at) == ("Experiment 8", "2024-01-20T10:11:12+00:00")
    assert found.question.id == "llm_debate:d1"
    spec = found.debate.agents[Role.DEBATER]
    assert spec.engine is not None
    assert spec.engine.settings == {"model": "gpt-4-1106-preview"}


@pytest.mark.parametrize(
    ("answer", "swap", "p", "method"),
    [
        ("Thinking.\nAnswer: A", False, 1.0, BeliefMethod.PARSED),
        ("Thinking.\nFinal Answer: <B>\n", False, 0.0, BeliefMethod.PARSED),
        ("Answer: A", True, 0.0, BeliefMethod.PARSED),
        ("B)", True, 1.0, BeliefMethod.PARSED),
        (
            "Logit A: -1, Logit B: -2, Prob A: 0.7311, Prob B: 0.2689\nAnswer: A",
            False,
            0.7311,
            BeliefMethod.LOGPROBS,
        ),
        (
            "Logit A: -1, Logit B: -2, Prob A: 0.7311, Prob B: 0.2689\nAnswer: A",
            True,
            0.2689,
            BeliefMethod.LOGPROBS,
        ),
        ("Good points.\nConfidence correct: 0.3", True, 0.3, BeliefMethod.HUMAN),
        ("Answer: A\nAnswer: B", False, None, None),
        ("I cannot tell.", False, None, None),
        ("Prob A: 0.0, Prob B: 0.0", False, None, None),
    ],
)
def test_a_models_answer_is_read_in_the_order_shown(
    answer: str, swap: bool, p: float | None, method: BeliefMethod | None, tmp_path: Path
) -> None:
    folder = tmp_path / "gpt-4"
    folder.mkdir()
    row = {"transcript": a_transcript(swap=swap), "complete_judge": "True", "answer_judge": answer}
    [judgment] = one(a_csv(folder / "data0_judgement.csv", row), tmp_path).judgments
    kind = JudgeKind.HUMAN if method is BeliefMethod.HUMAN else JudgeKind.MODEL
    assert (judgment.judge, judgment.kind) == ("gpt-4", kind)
    assert judgment.final.raw == answer
    if p is None:
        assert judgment.final.verdict is Verdict.INVALID
    else:
        assert judgment.final.probs == (pytest.approx(p, abs=1e-3), pytest.approx(1 - p, abs=1e-3))
        assert judgment.final.method is method


def test_an_unfinished_judgment_is_none_and_a_judge_may_be_named(tmp_path: Path) -> None:
    row = {"transcript": a_transcript(), "complete_judge": "False", "answer_judge": "Error"}
    assert not one(a_csv(tmp_path / "t.csv", row), tmp_path).judgments
    row |= {"complete_judge": "True", "answer_judge": "Answer: A"}
    again = tmp_path / "again"
    again.mkdir()
    found = one(a_csv(again / "t.csv", row), again, judge="claude-2.1")
    assert found.judgments[0].judge == "claude-2.1"


# --- what is left out or refused ----------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "swap", "kept"),
    [
        ("Experiment 2", True, False),
        ("Experiment 3", True, False),
        ("exp5_v0", True, False),
        ("Experiment 5_v0", True, False),
        ("Experiment 2", False, True),
        ("Experiment 5_v0", False, True),
        ("Experiment 5", True, True),
        ("Experiment 4", True, True),
        ("Experiment 8_v2", True, True),
        ("Experiment 12", True, True),
        ("", True, True),
    ],
)
def test_rows_with_the_worst_argument_are_left_out_unless_asked_for(
    experiment: str, swap: bool, kept: bool, tmp_path: Path
) -> None:
    row = a_trial(experiment_name=experiment, transcript=a_transcript(swap=swap))
    path = a_csv(tmp_path / "t.csv", row)
    [item] = items_of(settings(path))
    assert isinstance(item, ImportedDebate if kept else LeftOut)
    if not kept:
        assert "worst argument" in str(item)
    [item] = items_of(settings(path, worst_argument=True))
    assert isinstance(item, ImportedDebate)


def test_what_was_left_out_is_said_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [a_trial(), a_trial(experiment_name="2", transcript=a_transcript(swap=True))]
    store = ["--store", str(tmp_path / "some.db")]
    path = str(a_csv(tmp_path / "t.csv", *rows))
    assert run(["import", "llm_debate", path, *store]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 debate: 4 turns, 3 quotes and 1 judgment." in told
    assert "1 item left out: experiments 2, 3 and 5_v0 with swap=True" in told


def test_incomplete_rows_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    row = {"transcript": a_transcript(), "complete": "False"}
    path = a_csv(tmp_path / "t.csv", row)
    [item] = items_of(settings(path))
    assert isinstance(item, LeftOut)
    [item] = items_of(settings(path, incomplete=True))
    assert isinstance(item, ImportedDebate)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (a_transcript(answers={"correct": "x"}), "key 'answers.incorrect' is missing"),
        (a_transcript(rounds=[{"correct": {"a": 1}, "type": "sim"}]), "rounds.0.correct"),
        (a_transcript(rounds=[{"correct": "x", "type": "chess"}]), "rounds.0.type = 'chess'"),
        (a_transcript(version=3), "unknown key 'version'"),
        (a_transcript(answers={"correct": "x", "incorrect": "x"}), "two options have the same"),
        ({"ans1": "x", "ans2": "y"}, "an older version's transcript"),
        ({"setup": {}}, "missing"),
    ],
)
def test_another_version_is_refused_by_its_place(
    content: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(content))
    [item] = items_of(settings(path))
    assert isinstance(item, BadRow)
    assert said in str(item)
    assert str(path) in str(item)


def test_bad_rows_of_a_table_are_named_by_their_line(tmp_path: Path) -> None:
    path = a_csv(
        tmp_path / "t.csv",
        a_trial(),
        a_trial(transcript="Debater A: words"),
        a_trial(transcript="{"),
        a_trial(confidence_correct="high"),
        a_trial(confidence_correct="1.5"),
    )
    items = list(items_of(settings(path)))
    assert isinstance(items[0], ImportedDebate)
    said = [str(item) for item in items[1:]]
    assert said[0].startswith(f"{path}:3: transcript: no JSON object")
    assert said[1].startswith(f"{path}:4: transcript: broken JSON")
    assert said[2].startswith(f"{path}:5: confidence_correct = 'high'")
    assert said[3].startswith(f"{path}:6: confidence_correct = '1.5': it is no probability")


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "questions.csv"
    other.write_text("id,question\n1,Why?\n")
    [item] = items_of(settings(other))
    assert "no column 'transcript'; its columns: id, question" in str(item)
    wide = tmp_path / "wide.csv"
    wide.write_text('id,transcript\n1,"{}",more\n')
    [item] = items_of(settings(wide))
    assert "more fields than columns" in str(item)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"ends in \.json, \.jsonl, \.csv"):
        list(items_of(settings(tmp_path / "notes.txt")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no file there ends in"):
        list(items_of(settings(tmp_path / "empty")))


# --- again, and back ----------------------------------------------------------------------


def test_a_long_story_in_a_table_is_read(tmp_path: Path) -> None:
    story = "Ada carried the brass lamp to the attic. " * 8000
    found = one(a_csv(tmp_path / "t.csv", {"transcript": a_transcript(story=story)}), tmp_path)
    assert found.question.source is not None
    assert len(found.question.source.text) == len(story) > 131_072


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    given = [a_transcript(), a_transcript(swap=True, story=None), a_transcript(rounds=[])]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in given))
    found = stored(path, tmp_path)
    told = write_debates("llm_debate", found, tmp_path / "out.jsonl", {})
    assert told.num_debates == 3
    back = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    without = [{k: v for k, v in each.items() if v is not None} for each in given]
    assert sorted(map(json.dumps, map(_plain, back))) == sorted(
        map(json.dumps, map(_plain, without))
    )


def _plain(row: dict[str, Any]) -> str:
    """A row as text, the absent story left out."""
    present = {key: value for key, value in row.items() if value is not None}
    return json.dumps(present, sort_keys=True)


def test_columns_come_back_and_can_be_imported_again(tmp_path: Path) -> None:
    path = a_csv(tmp_path / "t.csv", a_trial())
    [found] = stored(path, tmp_path)
    write_debates("llm_debate", [found], tmp_path / "out.jsonl", {})
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["explanation"] == "The quote decides it."
    with Store.open(tmp_path / "some.db") as store:
        before = store.counts(), store.seal()
        told = import_debates(settings(tmp_path / "out.jsonl"), store)
        assert told.num_found == 1
        assert (store.counts(), store.seal()) == before


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    inside = tmp_path / "exp" / "debate_sim"
    inside.mkdir(parents=True)
    a_csv(inside / "data0.csv", {"transcript": a_transcript(), "complete": "True"})
    a_json(inside / "one.json", question="When?")
    assert len(stored(tmp_path / "exp", tmp_path)) == 2

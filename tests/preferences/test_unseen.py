"""Rows of judgments and ratings that people gave before all turns had been on their screen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from oversight.preferences.building import export, preferences
from oversight.preferences.settings import Dropped, PreferenceSettings, Reason
from oversight.preferences.sides import labelled_speeches, without_unseen
from oversight.types import (
    Feedback,
    JudgeKind,
    PairAnswer,
    Preferred,
    Seat,
    Task,
)
from oversight.types.ratings import item_id

HASTY = {"turn": 0.25, "other": 0.0}


@pytest.fixture
def judged(debate, beliefs, sampled):
    """A debate judged by people: by name the belief in option 0 and what they left unseen."""

    def make(**given):
        made = debate()
        made.say(Seat.A, "kitchen", sampled("kitchen")).say(Seat.B, "attic", sampled("attic"))
        for name, (p, _) in given.items():
            made.judge(beliefs(p), name=name)
        built = made.build()
        changes = [{"kind": JudgeKind.HUMAN, "unseen": unseen} for _, unseen in given.values()]
        pairs = zip(built.judgments, changes, strict=True)
        return replace(built, judgments=tuple(j.model_copy(update=each) for j, each in pairs))

    return make


def made(transcript, prompt_of, make=preferences, **settings):
    dropped = Dropped()
    return list(make([transcript], PreferenceSettings(**settings), prompt_of, dropped)), dropped


@pytest.mark.parametrize("make", [preferences, labelled_speeches])
def test_judgments_with_turns_unread_are_left_out_where_asked(judged, prompt_of, make):
    transcript = judged(anna=(0.9, {}), ben=(0.3, HASTY))
    all_of_them, _ = made(transcript, prompt_of, make)
    assert all_of_them[0].provenance.judges == ("anna", "ben")
    rows, dropped = made(transcript, prompt_of, make, unseen=False)
    assert {row.provenance.judges for row in rows} == {("anna",)}
    assert dropped.counts == {Reason.UNSEEN: 1}


def test_what_nobody_recorded_and_what_models_gave_stays(judged, prompt_of):
    rows, dropped = made(judged(anna=(0.9, None)), prompt_of, unseen=False)
    assert len(rows) == 1
    assert dropped.counts == {}


def test_debates_whose_only_judgment_is_left_out_make_no_row(judged, prompt_of):
    rows, dropped = made(judged(ben=(0.3, HASTY)), prompt_of, unseen=False)
    assert rows == []
    assert dropped.counts == {Reason.UNSEEN: 1, Reason.NO_RULING: 1}


def test_only_judges_who_count_are_counted_as_left_out(judged, prompt_of):
    transcript = judged(anna=(0.9, {}), ben=(0.3, HASTY))
    rows, dropped = made(transcript, prompt_of, unseen=False, judges=("anna",))
    assert len(rows) == 1
    assert dropped.counts == {}


def test_an_earlier_revision_does_not_come_back_when_the_last_is_left_out(judged, prompt_of):
    transcript = judged(ben=(0.3, {}))
    (first,) = transcript.judgments
    last = first.model_copy(update={"revision": 1, "unseen": HASTY})
    rows, dropped = made(replace(transcript, judgments=(first, last)), prompt_of, unseen=False)
    assert rows == []
    assert dropped.counts[Reason.UNSEEN] == 1


def rated(transcript, **unseen_of):
    one, other = transcript.turns
    answer = PairAnswer(preferred=Preferred.LEFT, strength=3)
    ids = (one.id, other.id)
    return replace(
        transcript,
        ratings=tuple(
            Feedback(
                item=item_id(Task.PAIRS, ids),
                judge=judge,
                turn_ids=ids,
                answer=answer,
                unseen=unseen,
                debate_id=transcript.debate.id,
            )
            for judge, unseen in unseen_of.items()
        ),
    )


def test_ratings_with_turns_unread_are_left_out_where_asked(judged, prompt_of):
    transcript = rated(judged(), anna={}, ben=HASTY)
    rows, _ = made(transcript, prompt_of, kinds=("pairs",))
    assert rows[0].provenance.judges == ("anna", "ben")
    assert rows[0].provenance.num_unseen == (0, 2)
    rows, dropped = made(transcript, prompt_of, kinds=("pairs",), unseen=False)
    assert rows[0].provenance.judges == ("anna",)
    assert dropped.counts == {Reason.UNSEEN: 1}


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
@pytest.mark.parametrize("layout", ["preference", "kwise", "unpaired"])
def test_rows_say_how_many_turns_each_judge_left_unseen(
    judged, prompt_of, tmp_path, layout, format
):
    import pyarrow.json as pa_json
    import pyarrow.parquet as pq

    transcript = judged(anna=(0.9, {}), ben=(0.8, HASTY), carl=(0.8, None))
    rows, _ = made(
        transcript, prompt_of, labelled_speeches if layout == "unpaired" else preferences
    )
    out = tmp_path / f"rows.{format}"
    export(rows, out, format, layout)
    table = pq.read_table(out) if format == "parquet" else pa_json.read_json(out)
    assert table["judges"].to_pylist()[0] == ["anna", "ben", "carl"]
    assert table["num_unseen"].to_pylist()[0] == [0, 2, None]


def test_whole_debates_carry_it_in_both_formats(judged, tmp_path):
    import pyarrow.parquet as pq

    transcript = judged(anna=(0.9, {}), ben=(0.8, HASTY))
    export([transcript], tmp_path / "t.jsonl", "jsonl", "transcripts")
    export([transcript], tmp_path / "t.parquet", "parquet", "transcripts")
    row = json.loads((tmp_path / "t.jsonl").read_text())
    assert [each["unseen"] for each in row["judgments"]] == [{}, HASTY]
    table = pq.read_table(tmp_path / "t.parquet")
    assert table["num_unseen"].to_pylist() == [[0, 2], [0, 2]]
    kept = without_unseen(transcript, Dropped())
    assert [each.judge for each in kept.judgments] == ["anna"]


def test_rows_that_only_models_judged_stay_what_they_were(debate, beliefs, prompt_of):
    built = debate().say(Seat.A, "kitchen").say(Seat.B, "attic").judge(beliefs(0.8)).build()
    (row,) = preferences([built], PreferenceSettings(), prompt_of)
    assert "num_unseen" not in row.provenance.model_dump()
    assert "unseen" not in PreferenceSettings().model_dump()
    assert PreferenceSettings(unseen=False).model_dump()["unseen"] is False

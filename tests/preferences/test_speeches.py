"""Speeches called good or bad by who won."""

from __future__ import annotations

import json

import pytest

from oversight.preferences.building import export
from oversight.preferences.settings import Dropped, PreferenceSettings, Reason
from oversight.preferences.sides import labelled_speeches
from oversight.types import Seat


def rows_of(transcript, prompt_of, dropped=None, **settings):
    chosen = PreferenceSettings(**settings)
    return list(labelled_speeches([transcript], chosen, prompt_of, dropped))


@pytest.fixture
def spoken(debate, sampled):
    """A debate whose sides answered prompts of their own."""

    def make(**given):
        made = debate(**given)
        made.say(Seat.A, "kitchen", sampled("kitchen", "same"))
        return made.say(Seat.B, "attic", sampled("attic", "other"))

    return make


def test_each_speech_is_good_if_its_side_is_believed(spoken, beliefs, prompt_of):
    rows = rows_of(spoken().judge(beliefs(0.8), name="anna").build(), prompt_of)

    assert [(row.response.text, row.label) for row in rows] == [("kitchen", True), ("attic", False)]
    assert [row.p for row in rows] == pytest.approx([0.8, 0.2])
    assert rows[0].prompt != rows[1].prompt
    assert rows[0].prompt_ids
    assert rows[0].response.token_ids
    assert rows[0].provenance.judges == ("anna",)
    assert rows[0].provenance.judgment_ids


def test_only_the_judges_that_are_asked_for_count(spoken, beliefs, prompt_of):
    made = spoken().judge(beliefs(0.9), name="model").judge(beliefs(0.3), name="anna").build()

    assert [row.label for row in rows_of(made, prompt_of, judges=("anna",))] == [False, True]


def test_the_truth_can_label_instead(spoken, prompt_of):
    made = spoken(correct=1).build()

    assert [row.label for row in rows_of(made, prompt_of, label="truth")] == [False, True]


def test_ties_and_what_nobody_judged_are_dropped_and_counted(spoken, beliefs, prompt_of):
    dropped = Dropped()

    assert rows_of(spoken().judge(beliefs(0.5)).build(), prompt_of, dropped) == []
    assert rows_of(spoken().build(), prompt_of, dropped) == []
    assert rows_of(spoken().judge(beliefs(0.55)).build(), prompt_of, dropped, min_margin=0.1) == []
    assert dropped.counts == {Reason.TIE: 2, Reason.NO_RULING: 2, Reason.BELOW_MARGIN: 2}


def test_words_that_no_engine_sampled_have_no_prompt_to_learn_from(debate, beliefs, prompt_of):
    dropped = Dropped()
    made = debate().say(Seat.A, "kitchen").say(Seat.B, "attic").judge(beliefs(0.8)).build()

    assert rows_of(made, prompt_of, dropped) == []
    assert dropped.counts == {Reason.NO_PROMPT: 2}


def test_weights_can_follow_the_margin(spoken, beliefs, prompt_of):
    rows = rows_of(spoken().judge(beliefs(0.8)).build(), prompt_of, weight="margin")

    assert [row.weight for row in rows] == pytest.approx([0.6, 0.6])


def test_the_export_has_the_fields_of_the_unpaired_format(spoken, beliefs, prompt_of, tmp_path):
    rows = rows_of(spoken().judge(beliefs(0.8)).build(), prompt_of)
    written = export(rows, tmp_path / "judged.jsonl", "jsonl", "unpaired")
    first, second = map(json.loads, (tmp_path / "judged.jsonl").read_text().splitlines())

    assert written.num_rows == 2
    assert (first["label"], second["label"]) == (True, False)
    assert first["completion"] == [{"role": "assistant", "content": "kitchen"}]

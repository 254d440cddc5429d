"""Real debates of a real store, and the files that the project's own export wrote of them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from oversight.errors import ConfigError, DataError, StoreError
from oversight.preferences.building import export, preferences
from oversight.preferences.settings import PreferenceSettings
from oversight.store import Store
from oversight.train.data.encoding import SET_ASIDE
from oversight.train.data.loading import (
    load_comparisons,
    load_demonstrations,
    load_labelled,
    load_prompts,
)
from oversight.train.settings import DataSettings

KWISE = PreferenceSettings(siblings="kwise")


def rows_of(path, settings=KWISE):
    with Store.open(path, create=False) as store:
        return list(preferences(store.transcripts(), settings, store.prompt))


@pytest.fixture(scope="module")
def files(debated, tmp_path_factory):
    """The exports of the store in both layouts and formats."""
    folder = tmp_path_factory.mktemp("exports")
    for format in ("jsonl", "parquet"):
        for layout in ("preference", "kwise"):
            settings = PreferenceSettings() if layout == "preference" else KWISE
            out = folder / f"{layout}.{format}"
            assert export(rows_of(debated(True), settings), out, format, layout).num_rows
    return folder


def test_a_store_s_samples_keep_the_ids_that_were_sampled(debated, chat):
    settings = DataSettings(store=str(debated(True)), preferences=KWISE)
    loaded = load_comparisons(settings, chat, len(chat))
    rows = {row.id: row for row in rows_of(debated(True)) if row.kind == "siblings"}
    assert len(rows) >= 6
    made = {example.id: example for example in loaded.examples}
    assert rows.keys() <= made.keys()
    for row_id, row in rows.items():
        example = made[row_id]
        assert example.prompt_ids.tolist() == list(row.prompt_ids)
        best_first = sorted(range(len(row.ranks)), key=lambda i: row.ranks[i])
        assert [ids.tolist() for ids in example.responses] == [
            list(row.responses[i].token_ids) for i in best_first
        ]
        assert example.ranks[0] == 0
        assert list(example.ranks) == sorted(example.ranks)
    assert loaded.statistics.num_ids_given == len(made)
    (source,) = loaded.provenance
    assert source["store"] == str(debated(True))
    assert source["rows"] == len(rows_of(debated(True)))


def test_ids_of_another_vocabulary_are_set_aside_and_counted(debated, chat):
    settings = DataSettings(store=str(debated(False)), preferences=KWISE)
    loaded = load_comparisons(settings, chat, len(chat))
    assert loaded.refused.cut[SET_ASIDE] == len(loaded.examples) > 0
    assert any(SET_ASIDE in line for line in loaded.lines())
    assert loaded.statistics.num_ids_given == 0
    for example in loaded.examples:
        assert max(ids.max() for ids in example.responses) < len(chat)
        # What looked like an end of turn within a speech is ordinary text.
        assert all((ids == chat.eos_token_id).sum() == 1 for ids in example.responses)


def test_ids_of_another_vocabulary_are_refused_where_ids_are_asked_for(debated, chat):
    settings = DataSettings(store=str(debated(False)), preferences=KWISE, ids="given")
    loaded = load_comparisons(settings, chat, len(chat))
    assert loaded.examples == []
    assert loaded.refused.dropped["token ids are outside the vocabulary"] > 0


@pytest.mark.parametrize("layout", ["preference", "kwise"])
def test_files_and_formats_of_an_export_give_the_same_examples(files, chat, layout):
    found = [
        load_comparisons(DataSettings(path=str(files / f"{layout}.{end}")), chat, len(chat))
        for end in ("jsonl", "parquet")
    ]
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].statistics == found[1].statistics
    assert found[0].statistics.num_ids_given == len(found[0].examples) > 0
    assert not found[0].refused.dropped
    assert found[0].provenance[0]["format"] == {"preference": "pair", "kwise": "kwise"}[layout]


def test_an_exported_store_trains_as_the_store_itself(files, debated, chat):
    stored = load_comparisons(
        DataSettings(store=str(debated(True)), preferences=KWISE), chat, len(chat)
    )
    filed = load_comparisons(DataSettings(path=str(files / "kwise.parquet")), chat, len(chat))
    assert stored.fingerprint == filed.fingerprint
    assert [e.id for e in stored.examples] == [e.id for e in filed.examples]


def test_pairs_of_an_export_answer_one_prompt_of_which_one_array_is_held(files, chat):
    loaded = load_comparisons(DataSettings(path=str(files / "preference.jsonl")), chat, len(chat))
    for example in loaded.examples:
        chosen, rejected = example.rows()
        assert chosen.prompt_ids is rejected.prompt_ids
    by_content = {e.prompt_ids.tobytes(): e.prompt_ids for e in loaded.examples}
    assert all(e.prompt_ids is by_content[e.prompt_ids.tobytes()] for e in loaded.examples)


def test_other_kinds_of_examples_come_of_the_same_export(files, chat):
    settings = DataSettings(path=str(files / "preference.jsonl"))
    pairs = load_comparisons(settings, chat, len(chat)).examples
    shown = load_demonstrations(settings, chat, len(chat)).examples
    best = {(p.prompt_ids.tobytes(), p.responses[0].tobytes()) for p in pairs}
    assert {(d.row.prompt_ids.tobytes(), d.row.response_ids.tobytes()) for d in shown} == best
    labelled = load_labelled(settings, chat, len(chat)).examples
    assert {e.desirable for e in labelled} == {True, False}
    asked = load_prompts(settings, chat, len(chat)).examples
    assert {p.prompt_ids.tobytes() for p in asked} == {p.prompt_ids.tobytes() for p in pairs}
    assert len(asked) == len({p.prompt_ids.tobytes() for p in asked})
    assert all("question_id" in p.fields and "chosen" not in p.fields for p in asked)


def test_a_held_out_part_of_an_export_shares_no_question(files, chat):
    path = files / "kwise.jsonl"
    questions = {r["id"]: r["question_id"] for r in map(json.loads, path.read_text().splitlines())}
    loaded = load_comparisons(DataSettings(path=str(path), eval_fraction=0.4), chat, len(chat))
    held = {questions[e.id] for e in loaded.eval_examples}
    kept = {questions[e.id] for e in loaded.examples}
    assert held
    assert kept
    assert not held & kept


def test_the_export_s_rendering_equals_what_was_sampled(files, chat):
    """The scripted debates' ids were rendered, so text and ids must agree token by token."""
    path = str(files / "kwise.jsonl")
    given = load_comparisons(DataSettings(path=path, ids="given"), chat, len(chat)).examples
    text = load_comparisons(DataSettings(path=path, ids="text"), chat, len(chat)).examples
    for left, right in zip(given, text, strict=True):
        assert np.array_equal(left.prompt_ids, right.prompt_ids)
        assert all(map(np.array_equal, left.responses, right.responses))


def test_a_store_that_is_not_there_is_an_error_and_is_not_made(tmp_path, chat):
    with pytest.raises(StoreError):
        load_comparisons(DataSettings(store=str(tmp_path / "none.db")), chat, len(chat))
    assert list(tmp_path.iterdir()) == []


def test_passwords_do_not_go_into_provenance_or_settings_errors():
    from oversight.train.data.files import training_sources

    (source,) = training_sources(DataSettings(store="postgresql://me:secret@127.0.0.1:1/db"), None)
    with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        list(source.open())
    assert "secret" not in str(caught.value)
    assert "secret" not in str(source.about)


def test_transcripts_are_no_training_rows_and_the_error_says_which_columns_are(
    debated, tmp_path, chat
):
    with Store.open(debated(True)) as store:
        export(store.transcripts(), tmp_path / "t.parquet", "parquet", "transcripts")
    with pytest.raises(
        DataError,
        match=r"columns .*debate_id.* no format .* comparisons.*kwise \(prompt, completions, ra",
    ):
        load_comparisons(DataSettings(path=str(tmp_path / "t.parquet")), chat, len(chat))


def test_one_kind_of_source_is_needed(chat):
    with pytest.raises(ConfigError, match="none was given"):
        load_comparisons(DataSettings(), chat, len(chat))
    with pytest.raises(ConfigError, match="several was given"):
        load_comparisons(DataSettings(path="x.jsonl"), chat, len(chat), rows=[])


def test_rows_stand_in_one_order_whichever_debate_ended_first(debated, chat, tmp_path):
    turned = tmp_path / "turned.db"
    shutil.copyfile(debated(True), turned)
    with closing(sqlite3.connect(turned)) as connection, connection:
        connection.execute("UPDATE debates SET seq = 1000 - seq")
    first, second = (
        [
            example.id
            for example in load_comparisons(
                DataSettings(store=str(path), preferences=KWISE), chat, len(chat)
            ).examples
        ]
        for path in (debated(True), turned)
    )
    assert first == second
    with Store.open(turned, create=False) as store:
        assert store.debate_ids() != sorted(store.debate_ids())

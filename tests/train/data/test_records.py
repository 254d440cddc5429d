"""A store's preferences reach trainers as records, and give what their exported file gives."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, is_dataclass

import numpy as np
import pytest

from oversight.errors import ConfigError, DataError
from oversight.preferences.building import export, preferences
from oversight.preferences.settings import PreferenceSettings
from oversight.preferences.sides import labelled_speeches
from oversight.store import Store
from oversight.train.data import formats
from oversight.train.data.files import texts
from oversight.train.data.loading import (
    load_comparisons,
    load_demonstrations,
    load_labelled,
    load_prompts,
)
from oversight.train.settings import DataSettings
from oversight.types import (
    Feedback,
    Labelled,
    Message,
    PairAnswer,
    Preference,
    PrinciplesAnswer,
    Prompt,
    Provenance,
    Response,
)
from oversight.types.ratings import item_id

LOADERS = {
    "sft": load_demonstrations,
    "reward": load_comparisons,
    "kto": load_labelled,
    "ppo": load_prompts,
}
ORIGIN = Provenance(
    question_id="q1",
    debate_id="d1",
    protocol="debate",
    judgment_ids=("j1", "j2"),
    judges=("anna", "lexical"),
    num_unseen=(2, None),
    rating_ids=("r1",),
    constitution="house",
    principle_ids=("kind",),
)
ASKED = Prompt(
    messages=(
        Message(role="system", parts=("Be ", "brief.")),
        Message(role="user", parts=("Where is the key?",)),
    )
)


def preference(*said: str, ranks: tuple[int, ...] = (0, 1), **changes: object) -> Preference:
    given = {
        "kind": "pairs",
        "prompt": ASKED,
        "responses": tuple(Response(text=text, turn_id=f"t-{text}") for text in said),
        "ranks": ranks,
        "provenance": ORIGIN,
    }
    return Preference(**(given | changes))


def scored(*said: tuple[str, float]) -> tuple[Response, ...]:
    return tuple(Response(text=text, score=score) for text, score in said)


RECORDS = (
    preference("Kitchen.", "Attic."),
    preference("Cellar.", "Kitchen.", ranks=(1, 0), soft_label=0.25, weight=0.5),
    preference("Kitchen.", "Hall.", soft_label=5 / 6),
    preference("Kitchen.", "Garden.", ranks=(0, 0), soft_label=0.5),
    preference("Kitchen.", "Attic.", "Cellar.", ranks=(4, 1, 1), weight=1 / 3),
    preference("A.", "B.", responses=scored(("One.", 0.75), ("Two.", 0.5)), weight=0.25),
    preference("A.", "A."),
    preference("A.", " "),
    preference("A.", "B.", weight=0.0),
    preference("A.", "B.", "C.", ranks=(0, 1, 2), soft_label=0.5),
    preference("A.", "B.", soft_label=1.5),
    preference("A.", "C.", weight=1e-40),
    preference("Kitchen.", "Attic.", prompt_ids=(1, 2, 3)),
)
SETTINGS = (
    {},
    {"siblings": "kwise"},
    {"siblings": "all_pairs", "weight": "margin"},
    {"siblings": "best_all", "weight": "per_prompt", "ties": False},
    {"kinds": ["pairs"]},
    {"kinds": ["pairs", "principles"], "siblings": "kwise", "weight": "margin"},
)


def plain(value: object) -> object:
    """Everything in an example, comparable."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        names = value.__dataclass_fields__
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def require_equal(records, filed) -> None:
    assert plain(records.examples) == plain(filed.examples)
    assert plain(records.eval_examples) == plain(filed.eval_examples)
    assert records.fingerprint == filed.fingerprint
    assert asdict(records.statistics) == asdict(filed.statistics)
    assert records.refused.dropped == filed.refused.dropped
    assert records.refused.cut == filed.refused.cut


@pytest.fixture(scope="module")
def rated(debated, tmp_path_factory):
    """A store of best-of-four debates whose candidates two people rated."""
    path = tmp_path_factory.mktemp("rated") / "rated.db"
    shutil.copyfile(debated(True), path)
    with Store.open(path) as store:
        for number, transcript in enumerate(store.transcripts()):
            _rate(store, transcript, number)
    return path


def _rate(store, transcript, number) -> None:
    groups: dict[tuple[object, ...], list] = {}
    for turn in transcript.turns:
        if turn.act.answers:
            groups.setdefault((turn.step, turn.seat), []).append(turn)
    ways = [("left", 3), ("right", 1), ("tie", None), ("both_bad", None)]
    for (one, two, *_), (side, strength) in zip(groups.values(), ways * 9, strict=False):
        ids = (one.id, two.id)
        for judge, answer in (
            ("anna", PairAnswer(preferred=side, strength=strength)),
            ("bob", PairAnswer(preferred="left", strength=1 + number % 3)),
        ):
            store.add(rating(transcript, answer, ids, judge))
        for turn, score in ((one, 5), (two, 2 + number % 4)):
            answer = PrinciplesAnswer(constitution="house", fingerprint="f", scores={"kind": score})
            store.add(rating(transcript, answer, (turn.id,), "anna", "house"))


def rating(transcript, answer, ids, judge, constitution="") -> Feedback:
    return Feedback(
        debate_id=transcript.debate.id,
        item=item_id(answer.task, ids, constitution),
        turn_ids=ids,
        judge=judge,
        answer=answer,
    )


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
@pytest.mark.parametrize("trainer", list(LOADERS))
def test_records_of_every_form_give_what_their_file_gives(chat, tmp_path, trainer, end):
    export(RECORDS, tmp_path / f"rows.{end}", end, "kwise")
    load, held = LOADERS[trainer], {"duplicates": "keep"}
    filed = load(DataSettings(path=str(tmp_path / f"rows.{end}"), **held), chat, len(chat))
    records = load(DataSettings(**held), chat, len(chat), rows=RECORDS)
    require_equal(records, filed)
    assert len(records.examples) >= 6
    assert records.refused.ids.keys() == filed.refused.ids.keys()


@pytest.mark.parametrize("trainer", list(LOADERS))
@pytest.mark.parametrize("chosen", SETTINGS, ids=json.dumps)
def test_a_store_gives_what_its_exported_file_gives(rated, chat, tmp_path, trainer, chosen):
    settings = PreferenceSettings.parse(chosen)
    with Store.open(rated, create=False) as store:
        found = preferences(store.transcripts(), settings, store.prompt)
        export(found, tmp_path / "rows.parquet", "parquet", "kwise")
    for split in ({}, {"eval_fraction": 0.5, "split_seed": 3}):
        how = {**split, "duplicates": "keep", "max_rows": 30}
        filed, records = (
            LOADERS[trainer](DataSettings(**given, **how), chat, len(chat))
            for given in (
                {"path": str(tmp_path / "rows.parquet")},
                {"store": str(rated), "preferences": settings},
            )
        )
        require_equal(records, filed)
        assert records.examples


def test_labelled_speeches_give_what_their_file_gives(rated, chat, tmp_path):
    with Store.open(rated, create=False) as store:
        rows = list(labelled_speeches(store.transcripts(), PreferenceSettings(), store.prompt))
    export(rows, tmp_path / "rows.parquet", "parquet", "unpaired")
    filed = load_labelled(DataSettings(path=str(tmp_path / "rows.parquet")), chat, len(chat))
    records = load_labelled(DataSettings(), chat, len(chat), rows=rows)
    require_equal(records, filed)
    assert {each.desirable for each in records.examples} == {True, False}


def test_a_prompt_of_a_store_keeps_where_it_comes_from(chat):
    (example,) = load_prompts(DataSettings(), chat, len(chat), rows=[RECORDS[0]]).examples
    assert example.fields == {
        "kind": "pairs",
        "question_id": "q1",
        "debate_id": "d1",
        "protocol": "debate",
        "judgment_ids": ["j1", "j2"],
        "judges": ["anna", "lexical"],
        "principle_id": None,
        "num_unseen": [2, None],
        "rating_ids": ["r1"],
        "constitution": "house",
        "principle_ids": ["kind"],
        "turn_ids": ["t-Kitchen.", "t-Attic."],
    }


def test_no_format_is_guessed_of_a_store(rated, chat, monkeypatch):
    def guess(*_: object) -> None:
        raise AssertionError("a format was told by columns")

    monkeypatch.setattr("oversight.train.data.loading.detect", guess)
    monkeypatch.setattr("oversight.train.data.loading.read_row", guess)
    loaded = load_comparisons(DataSettings(store=str(rated)), chat, len(chat))
    assert loaded.examples
    assert loaded.provenance[0]["format"] == "records"
    assert formats.detect is not guess


def test_words_of_records_are_those_of_their_file(tmp_path):
    export(RECORDS, tmp_path / "rows.jsonl", "jsonl", "kwise")
    filed = list(texts(DataSettings(path=str(tmp_path / "rows.jsonl")), None))
    assert list(texts(DataSettings(), RECORDS)) == filed


def test_the_scores_of_a_stored_pair_are_its_margin_where_that_is_asked_for(chat):
    asked = DataSettings(margin="scores", duplicates="keep")
    records = load_comparisons(asked, chat, len(chat), rows=RECORDS[:6]).examples
    assert [each.margin for each in records] == [None] * 5 + [0.25]


def test_a_score_that_is_no_number_leaves_the_ranking_as_it_is(chat):
    row = preference("A.", "B.", responses=scored(("One.", float("inf")), ("Two.", 0.5)))
    loaded = load_comparisons(DataSettings(margin="scores"), chat, len(chat), rows=[row])
    (example,) = loaded.examples
    assert (example.ranks, example.margin) == ((0, 1), None)


def test_half_a_character_in_a_record_is_refused_with_its_place(chat):
    row = preference("Kitchen.", "\ud800")
    loaded = load_comparisons(DataSettings(), chat, len(chat), rows=[row])
    assert not loaded.examples
    (noted,) = loaded.refused.ids["a text is unreadable"]
    assert noted == f"{row.id} (responses[1].text holds half of a surrogate pair)"


@pytest.mark.parametrize("trainer", ["sft", "reward", "ppo"])
def test_labelled_responses_are_for_unpaired_losses_alone(chat, trainer):
    row = Labelled(prompt=ASKED, response=Response(text="Kitchen."), label=True, provenance=ORIGIN)
    with pytest.raises(DataError, match=r"a labelled response gives no .* Give preferences"):
        LOADERS[trainer](DataSettings(), chat, len(chat), rows=[row])


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"format": "pair"}, r"data\.format = 'pair': a store hands over records"),
        ({"columns": {"prompt": "question"}}, r"data\.columns\.prompt = 'question': a store"),
    ],
)
def test_columns_are_not_named_of_a_store(rated, chat, named, words):
    with pytest.raises(ConfigError, match=words):
        load_comparisons(DataSettings(store=str(rated), **named), chat, len(chat))


def test_a_store_may_be_held_against_a_file_that_has_columns_of_its_own(rated, chat, tmp_path):
    row = {"question": "Where is the key?", "chosen": "Here.", "rejected": "There."}
    (tmp_path / "held.jsonl").write_text(json.dumps(row) + "\n")
    named = {"format": "pair", "columns": {"prompt": "question"}}
    settings = DataSettings(store=str(rated), eval_path=str(tmp_path / "held.jsonl"), **named)
    loaded = load_comparisons(settings, chat, len(chat))
    assert loaded.examples
    assert len(loaded.eval_examples) == 1


def test_rows_behind_a_hundred_broken_ones_are_still_told_by_their_columns(chat):
    rows = [*["broken"] * 120, {"prompt": "Where?", "chosen": "Here.", "rejected": "There."}]
    loaded = load_comparisons(DataSettings(), chat, len(chat), rows=rows)
    assert len(loaded.examples) == 1
    assert loaded.provenance[0]["format"] == "pair"

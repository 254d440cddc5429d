"""A store from before models rated opens, is gone on with, and is exported as it was."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.judging.model_ratings import ModelRatings
from oversight.judging.settings import RatingSettings
from oversight.store import Store
from oversight.store.claims import ItemState
from oversight.store.sealing import Seal
from oversight.types import Feedback, Task
from oversight.types.ratings import item_id

WRITTEN = {
    "39c5f9a43989158f3294aaa95c9320ea": (
        '{"debate_id":"d","item":"b366da1241c7c5458ac01a91072d965c","turn_ids":["b","a"],'
        '"judge":"anna","revision":1,"answer":{"task":"pairs","preferred":"left","strength":2},'
        '"rationale":"so","study":"s","sent_at":"2026-01-01T00:00:00.000+00:00","active_s":1.5,'
        '"unseen":{"a":0.5}}'
    ),
    "0bd3fe44706793bb622ea341372eb356": (
        '{"debate_id":"d","item":"aeaa4b1e6c8428a91db850d4aa2112e5","turn_ids":["a"],'
        '"judge":"anna","revision":1,"answer":{"task":"principles","constitution":"house",'
        '"fingerprint":"f","scores":{"x":5,"y":null}},"rationale":"so","study":"s",'
        '"sent_at":"2026-01-01T00:00:00.000+00:00","active_s":1.5}'
    ),
    "ce487455bd3b5363f4cb4f26eeca1711": (
        '{"debate_id":"d","item":"062e88056eec2ed3a12492ee014c7ad2","turn_ids":["a","b","c"],'
        '"judge":"anna","revision":1,"answer":{"task":"revisions","criticism":"partly",'
        '"revision":"worse"},"rationale":"so","study":"s",'
        '"sent_at":"2026-01-01T00:00:00.000+00:00","active_s":1.5}'
    ),
}
"""Rows of people's ratings as they were written before, by their ids."""


@pytest.mark.parametrize("id_", WRITTEN)
def test_a_persons_rating_has_the_id_and_the_text_that_it_had(id_: str) -> None:
    read = Feedback.model_validate_json(WRITTEN[id_])
    assert read.is_persons
    assert read.id == id_
    assert read.model_dump_json() == WRITTEN[id_]


def rows_of(path: str) -> list[Any]:
    out = Path(path).with_suffix(".jsonl")
    assert run(["export", str(out), "--store", path, "--set", 'kinds=["pairs"]']) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture
def old(records, tmp_path) -> tuple[str, Seal]:
    """A store as it was left before, in which anna has rated one pair of two."""
    for number in range(2):
        records.best_of(f"First words {number}.", f"Other words {number}.")
    desk = records.desk(Task.PAIRS, "anna")
    item = desk.queue()[0]
    body = {
        "debate_id": item.debate_id,
        "item": item.key,
        "turn_ids": list(item.turn_ids),
        "judge": "anna",
        "revision": 0,
        "answer": {"task": "pairs", "preferred": "right", "strength": 3},
        "rationale": "",
        "study": "",
        "sent_at": "2026-01-01T00:00:00.000+00:00",
        "active_s": 1.0,
    }
    records.store.add(Feedback.model_validate(body))
    url, seal = records.store.url, records.store.seal()
    records.store.close()
    connection = sqlite3.connect(url)
    with connection:
        (stored,) = connection.execute("SELECT body FROM ratings").fetchone()
        assert json.loads(stored) == body
        connection.execute("ALTER TABLE ratings DROP COLUMN kind")
        for table in ("run_members", "runs"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE oversight_version SET version_num = '0005'")
    connection.close()
    return url, seal


def test_an_old_store_opens_sound_and_is_gone_on_with_by_people_and_models(old, records_at):
    url, seal = old
    (before,) = rows_of(url)
    assert before["soft_label"] == 1.0
    with Store.open(url) as store:
        assert store.check(seal) == []
        (rated,) = [each for one in store.transcripts() for each in one.ratings]
        assert rated.is_persons
        assert rated.item == item_id(Task.PAIRS, rated.turn_ids)
        desk = records_at(store, ()).desk(Task.PAIRS, "anna")
        assert sorted(each.state for each in desk.queue()) == [ItemState.DONE, ItemState.WAITING]
        given = {
            "agents": {"rater": {"agent": "rater", "engine": "script"}},
            "engines": {"script": {"engine": "scripted", "settings": {"beliefs": {"A": 0.5}}}},
        }
        ratings = ModelRatings(store, RatingSettings.parse(given), Task.PAIRS)
        assert asyncio.run(ratings.run()).done == 4
        assert store.check(seal) == []
        assert sorted(each.state for each in desk.queue()) == [ItemState.DONE, ItemState.WAITING]
    (both,) = rows_of(url)  # the other pair is a tie to a model that likes what stands first
    assert both["soft_label"] == pytest.approx(0.75)
    out = str(Path(url).with_suffix(".persons.jsonl"))
    chosen = ["--set", 'kinds=["pairs"]', "--set", "raters=persons"]
    assert run(["export", out, "--store", url, *chosen]) == 0
    assert [json.loads(line) for line in Path(out).read_text().splitlines()] == [before]

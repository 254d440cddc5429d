"""Debates do not depend on where their model is; those of older stores are gone on with."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.graphs.planning import Cast, cast, plan
from oversight.graphs.running import DebateProgress, as_begun, run_debates
from oversight.graphs.runtime import Runtime
from oversight.models import EMBEDDED
from oversight.store import Store, migrations
from oversight.store.schema import heads, links, run_members, runs
from oversight.types import Debate, Option, Question, Role, Source

QUESTION = Question(
    id="q",
    dataset="d",
    text="Where is the lamp?",
    options=(Option(text="attic"), Option(text="cellar")),
    correct=0,
    source=Source(text="Ada carried the lamp to the attic at nine."),
)


def actors(folder: Path) -> Cast:
    settings = {"model": str(folder), "num_threads": 1, "dtype": "float64"}
    agent = {"reasoning": False, "max_tokens": 8}
    return cast(
        {
            Role.DEBATER: AgentSettings(agent="debater", engine="m", settings=agent),
            Role.JUDGE: AgentSettings(agent="judge", engine="m", settings={"max_tokens": 8}),
        },
        {"m": EngineSettings(engine="transformers", settings=settings)},
    )


def planned(cast_: Cast, by_path: bool = False) -> list[tuple[Debate, Question]]:
    specs = {**cast_.specs, **cast_.by_path} if by_path else cast_.specs
    return list(plan([QUESTION], [protocols.load("debate")], specs))


def run(store: Path, folder: Path, by_path: bool = False) -> DebateProgress:
    async def go() -> DebateProgress:
        async with actors(folder) as all_:
            with Store.open(store) as opened:
                return await run_debates(
                    planned(all_, by_path), Runtime(opened, all_), concurrency=2
                )

    return asyncio.run(go())


def rows(store: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows but for how long things took."""
    connection = sqlite3.connect(store)
    timed = "id, json_remove(body, '$.seconds', '$.samples[0].seconds')"
    found = {
        table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
        for tables, columns in (
            (("questions", "debates", "turns", "judgments"), timed),
            (("parts", "token_blocks"), "*"),
            (("prompts",), "id, variant"),
        )
        for table in tables
    }
    connection.close()
    return found


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The same model in two places."""
    places = tmp_path / "ref" / "model", tmp_path / "k1" / "trained"
    for place in places:
        shutil.copytree(EMBEDDED["seedling"].folder, place)
    return places


def test_one_model_in_two_folders_gives_equal_ids_and_equal_rows(tmp_path, folders):
    stores = tmp_path / "a.db", tmp_path / "b.db"
    for store, folder in zip(stores, folders, strict=True):
        assert run(store, folder).failures == []
    first, second = map(rows, stores)
    assert first == second
    assert first["turns"]
    assert str(tmp_path) not in str(first)


def test_another_model_in_the_same_folder_gives_other_ids(folders):
    before = planned(actors(folders[0]))
    (folders[0] / "generation_config.json").write_text('{"eos_token_id": 3}')
    assert planned(actors(folders[0]))[0][0].id != before[0][0].id


def as_left_by_the_version_before(path: Path) -> None:
    with Store.open(path) as store, store._database.writing() as connection:
        run_members.drop(connection)
        runs.drop(connection)
        links.drop(connection)
        heads.drop(connection)
        connection.execute(text("ALTER TABLE ratings DROP COLUMN kind"))
        connection.execute(text(f"UPDATE {migrations.VERSION_TABLE} SET version_num = '0004'"))


def test_debates_that_are_stored_by_a_path_are_found_and_the_path_is_named(
    tmp_path, folders, caplog
):
    store = tmp_path / "a.db"
    assert run(store, folders[0], by_path=True).done == 1
    as_left_by_the_version_before(store)
    with caplog.at_level(logging.WARNING):
        again = run(store, folders[0])
    assert (again.done, again.found) == (0, 1)
    assert "1 debates in" in caplog.text
    assert "whatever weights the folder holds now" in caplog.text


def test_a_debate_that_was_begun_by_a_path_is_gone_on_with(tmp_path, folders):
    store = tmp_path / "a.db"
    all_ = actors(folders[0])
    [(begun, question)] = planned(all_, by_path=True)
    with Store.open(store) as opened:
        opened.add(question, begun)
    as_left_by_the_version_before(store)
    with Store.open(store) as opened:
        [(found, _)] = as_begun(planned(all_), opened, all_)
    assert found == begun
    assert run(store, folders[0]).done == 1
    with Store.open(store) as opened:
        assert opened.counts()["debates"] == 1
        assert opened.completed([begun.id]) == {begun.id}
        assert opened.check() == []


def test_a_new_store_is_not_searched_for_paths(tmp_path, folders):
    store = tmp_path / "a.db"
    run(store, folders[0], by_path=True)
    assert run(store, folders[0]).done == 1

"""Runs: names, starts and members, which decide nothing about records, chains and seals."""

from __future__ import annotations

import gzip
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from oversight.config import EngineSettings, RunSettings
from oversight.errors import ConfigError, StoreError
from oversight.store import Store
from oversight.store.claims import QueueFilter
from oversight.store.runs import start_of
from oversight.types import Feedback, PairAnswer, RunStart
from oversight.types.ratings import item_id

BEFORE = Path(__file__).parent / "before" / "store.sql.gz"


def start(run: str, at: str = "2026-01-02T03:04:05+00:00", *, named: bool = True, **changes):
    return RunStart(run=run, named=named, at=at, action="debate", command="oversight", **changes)


def records(make, seed: int = 0) -> tuple:
    debate = make.debate(seed=seed)
    return make.question(), debate, make.turn(debate), make.judgment(debate), make.outcome(debate)


def rating(turns: tuple[str, str], debate_id: str, **changes) -> Feedback:
    return Feedback(
        **{
            "debate_id": debate_id,
            "item": item_id("pairs", turns),
            "turn_ids": turns,
            "judge": "ann",
            "answer": PairAnswer(preferred="tie"),
            "sent_at": "2026-01-01T00:00:00.000+00:00",
        }
        | changes
    )


def test_what_is_written_after_a_start_belongs_to_its_run(store, make):
    store.add(*records(make, seed=1))
    store.begin_run(start("base", tags={"prompt": "short"}, models=("m",), seeds=(7,)))
    store.add(*records(make, seed=2))
    [found] = store.runs()
    assert (found.name, found.num_debates, found.num_complete) == ("base", 1, 1)
    assert (found.tags, found.models, found.seeds) == ({"prompt": "short"}, ("m",), (7,))
    of_run = make.debate(seed=2).id
    assert [each.debate.id for each in store.transcripts(runs=["base"])] == [of_run]
    assert store.debate_ids(runs=["base"]) == [of_run]
    assert len(list(store.transcripts())) == 2
    assert store.runs_of([of_run, make.debate(seed=1).id]) == {of_run: ["base"]}
    assert store.check() == []


def test_one_debate_may_belong_to_several_runs_and_is_stored_once(store, make):
    for name in ("first", "second"):
        store.begin_run(start(name))
        store.add(*records(make))
    third = make.debate().id
    store.begin_run(start("third"))
    store.include({third: third})
    assert [each.num_debates for each in store.runs()] == [1, 1, 1]
    assert store.counts()["debates"] == 1
    assert len(list(store.transcripts(runs=["first", "third"]))) == 1
    assert store.check() == []


def test_a_member_is_written_with_its_record_or_not_at_all(store, make):
    store.add(*records(make))
    store.begin_run(start("base"))
    new = make.debate(seed=5)
    changed = make.turn(make.debate(), text="other words")
    with pytest.raises(StoreError, match="already stored with other content"):
        store.add(new, changed)
    assert [each.num_debates for each in store.runs()] == [0]
    assert store.debate(new.id) is None


def test_a_run_is_written_with_its_first_record_so_that_nothing_leaves_no_run(store, make):
    store.begin_run(start("base"))
    assert (store.run, store.runs()) == (None, [])
    store.add(make.question())  # no member of a run
    store.include({})
    assert (store.run, store.runs()) == (None, [])
    store.add(*records(make))
    assert store.run == start("base")
    assert [(each.name, each.num_debates) for each in store.runs()] == [("base", 1)]
    store.begin_run(start("base", at="2026-02-02T00:00:00+00:00"))
    assert len(store.runs()[0].starts) == 1
    found = make.debate().id
    store.include({found: found})
    assert len(store.runs()[0].starts) == 2
    assert store.check() == []


def test_many_threads_that_write_first_begin_one_run(url, make):
    with Store.open(url) as store, ThreadPoolExecutor(4) as pool:
        store.begin_run(start("t-debate", named=False))
        list(pool.map(lambda seed: store.add(*records(make, seed=seed)), range(8)))
        assert [(each.name, each.num_debates) for each in store.runs()] == [("t-debate", 8)]


def test_the_same_name_goes_on_with_the_run(url, make):
    for seed, at in enumerate(("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00")):
        with Store.open(url) as store:
            store.begin_run(start("base", at=at, seeds=(seed,), tags={"prompt": "short"}))
            store.add(*records(make, seed=seed))
    with Store.open(url) as store:
        [run] = store.runs()
        assert (len(run.starts), run.num_debates, run.seeds) == (2, 2, (0, 1))
        with pytest.raises(StoreError, match=r"--tag prompt=long: run 'base' was begun with"):
            store.begin_run(start("base", tags={"prompt": "long"}))
        store.begin_run(start("base", tags={"more": "1"}))
        store.add(*records(make))
        assert store.runs()[0].tags == {"prompt": "short", "more": "1"}


def test_a_name_made_of_the_time_gets_a_number_where_it_is_taken(store, make):
    names = []
    for seed in range(3):
        names.append(store.begin_run(start("t-debate", named=False)).run)
        store.add(*records(make, seed=seed))
    assert names == ["t-debate", "t-debate-2", "t-debate-3"]
    assert [each.name for each in store.runs()] == names


def test_of_a_debate_judged_in_another_run_that_run_has_its_own_judgments_alone(store, make):
    store.begin_run(start("base"))
    store.add(*records(make))
    debate = make.debate()
    twin = make.turn(debate, candidate=1, chosen=False)
    store.add(twin)
    turns = (make.turn(debate).id, twin.id)
    store.begin_run(start("second"))
    store.add(make.judgment(debate, judge="ann", kind="human", swapped=True))
    store.begin_run(start("third"))
    store.add(make.judgment(debate, judge="bob", kind="human"), rating(turns, debate.id))

    def seen(*runs: str) -> tuple[list[str], int]:
        [found] = store.transcripts(runs=runs)
        return sorted(each.judge for each in found.judgments), len(found.ratings)

    assert seen("base") == (["ann", "bob", "judge:m"], 1)
    assert seen("second") == (["ann"], 0)
    assert seen("third") == (["bob"], 1)
    assert seen("second", "third") == (["ann", "bob"], 1)
    counted = [(run.num_debates, run.num_judgments, run.num_ratings) for run in store.runs()]
    assert counted == [(1, 0, 0), (0, 1, 0), (0, 1, 1)]
    assert store.check() == []


def test_queues_list_the_debates_of_a_run(store, make):
    for name, seed in (("base", 1), ("other", 2)):
        store.begin_run(start(name))
        store.add(*records(make, seed=seed))
    listed = store.queue("ann", QueueFilter(run="other"))
    assert [each.debate_id for each in listed] == [make.debate(seed=2).id]


def test_tokens_are_those_of_all_calls_of_a_run(store, make):
    prompt = make.prompt()
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "cached_tokens": 60}
    sample = make.sample(prompt, usage=usage, seconds=2.0)
    debate = make.debate()
    store.begin_run(start("base"))
    store.add(make.question(), debate, prompt, make.turn(debate, samples=(sample, sample)))
    store.add(make.judgment(debate, samples=(make.sample(prompt, model="j", usage=usage),)))
    found = store.run_tokens("base")
    assert (found.calls, found.prompt, found.completion, found.cached) == (3, 300, 21, 180)
    assert {name: each.calls for name, each in found.by_model.items()} == {"m": 2, "j": 1}
    assert found.by_model["m"].seconds == 4.0


def test_runs_stand_in_no_chain_and_in_no_seal(tmp_path, make):
    digests = []
    for name in ("", "base", "other"):
        with Store.open(tmp_path / f"{name}.db") as store:
            if name:
                store.begin_run(start(name))
            store.add(*records(make))
            digests.append(store.seal().digest)
    assert len(set(digests)) == 1


def test_an_unknown_run_is_named_with_the_nearest(store, make):
    with pytest.raises(StoreError, match="has no run 'base'"):
        store.require_run("base")
    store.begin_run(start("baseline"))
    store.add(*records(make))
    with pytest.raises(StoreError, match=r"no run 'baselin'\. Did you mean 'baseline'"):
        store.require_run("baselin")


@pytest.mark.parametrize(
    ("statement", "table", "reason"),
    [
        ("UPDATE runs SET body = '{}'", "runs", "run: Field required"),
        ("UPDATE runs SET body = replace(body, 'debate', 'judge')", "runs", "id is not that of"),
        ("UPDATE runs SET run = 'x'", "runs", "column run is 'x'"),
        ("DELETE FROM runs", "run_members", "run base is not stored"),
        ("UPDATE run_members SET id = 'x'", "run_members", "no debate, judgment or rating x"),
    ],
)
def test_the_check_names_damage_to_runs(sqlite_store, make, statement, table, reason):
    sqlite_store.begin_run(start("base"))
    sqlite_store.add(*records(make))
    with sqlite_store._database.writing() as connection:
        connection.execute(text(statement))
    found = {problem.table: problem.reason for problem in sqlite_store.check()}
    assert reason in found[table]


def test_a_store_from_before_runs_opens_and_says_that_it_knows_of_none(tmp_path):
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(gzip.decompress(BEFORE.read_bytes()).decode())
    with Store.open(path, create=False, only_read=True) as store:
        assert store.runs() == []
        whole = len(list(store.transcripts()))
        assert whole == 6
        assert store.check() == []
    with Store.open(path) as store:
        store.begin_run(start("later"))
        first = store.debate_ids()[0]
        store.include({first: first})
        assert len(list(store.transcripts(runs=["later"]))) == 1


def test_a_start_has_the_command_without_secrets_and_what_it_was_started_with(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a1b2c3d4e5f6g7h8")
    words = ["oversight", "debate", "--set", "engines.x.settings.extra=sk-a1b2c3d4e5f6g7h8"]
    monkeypatch.setattr("sys.argv", words)
    engines = {
        "a": EngineSettings(engine="openai", settings={"model": "m1"}),
        "b": EngineSettings(engine="scripted"),
    }
    settings = RunSettings(dataset={"dataset": "world"}, engines=engines, seed=4)
    found = start_of(settings, "debate", Path("recipe.toml"))
    assert "sk-a1b2" not in found.model_dump_json()
    assert found.command == "oversight debate --set engines.x.settings.extra=***"
    assert (found.models, found.seeds, found.recipe) == (("m1", "scripted"), (4,), "recipe.toml")
    assert not found.named
    assert found.run.endswith("-debate")
    assert "oversight" in found.versions
    labelled = RunSettings(**settings.model_dump() | {"run": "x", "tags": {"a": "1"}})
    again = start_of(labelled, "debate")
    assert (again.run, again.named, again.settings_id) == ("x", True, found.settings_id)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"run": "a b"}, "run = 'a b': a run's name is letters, digits"),
        ({"run": ""}, "run = '': a run's name"),
        ({"tags": {"a b": "1"}}, "'a b': a tag's name is letters, digits"),
        ({"tags": {"a": "x\n"}}, "a tag's value is text that can be printed"),
        ({"tags": {"a": ""}}, "a tag's value is text that can be printed"),
    ],
)
def test_a_name_or_a_tag_that_cannot_be_shown_is_refused(given, reason):
    with pytest.raises(ConfigError) as caught:
        RunSettings.parse({"dataset": {"dataset": "world"}} | given)
    assert reason in str(caught.value)

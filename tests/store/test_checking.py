"""The check finds whatever is wrong with a store, and names the row."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from oversight.errors import StoreError
from oversight.store import Problem, Store
from oversight.store.database import PAGE_BYTES


@pytest.fixture
def filled(sqlite_store, make):
    question, debate, prompt = make.question(), make.debate(), make.prompt()
    sample = make.sample(prompt)
    turn = make.turn(debate, samples=(sample,))
    judgment = make.judgment(debate, leaned_on=((turn.id, 0),), samples=(sample,))
    sqlite_store.add(question, debate, prompt, turn, judgment, make.outcome(debate))
    assert sqlite_store.check() == []
    return sqlite_store


def damage(store: Store, statement: str) -> None:
    """Change rows behind the store's back."""
    with store._database.engine.connect() as connection:
        # Outside of a transaction, where alone the pragma counts.
        raw = connection.connection.driver_connection
        connection.rollback()
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute(statement)
        raw.execute("PRAGMA foreign_keys = ON")


DAMAGES = [
    ("UPDATE sources SET body = '{'", "sources", "Invalid JSON"),
    ('UPDATE sources SET body = \'{"text":"other"}\'', "sources", "id is not that of its content"),
    ("DELETE FROM sources", "questions", "source .* is not stored"),
    (
        "UPDATE questions SET body = replace(body, 'attic', 'cellar')",
        "questions",
        "fingerprint is not that of its content",
    ),
    ("UPDATE questions SET dataset = 'x'", "questions", "column dataset is 'x'.*gives 'tales'"),
    ("DELETE FROM questions", "debates", "question 'q0' is not stored as the debate had it"),
    ("UPDATE debates SET body = '[]'", "debates", "an object"),
    ("UPDATE debates SET body = replace(body, '\"seed\":0', '\"seed\":1')", "debates", "column id"),
    ("UPDATE debates SET protocol = 'x'", "debates", "column protocol is 'x'"),
    ("UPDATE parts SET body = '\"x\"'", "parts", "id is not that of its text"),
    ("UPDATE parts SET body = '1'", "parts", "a part is a JSON string, not int"),
    ("DELETE FROM parts", "prompts", "part .* is not stored"),
    ("UPDATE token_blocks SET ids = x'00000000'", "token_blocks", "id is not that of its ids"),
    ("DELETE FROM token_blocks", "prompts", "part .* is not stored"),
    ("UPDATE prompts SET tail = x'00'", "prompts", "no whole number of token ids"),
    ("UPDATE prompts SET tail = x'00000000'", "prompts", "id is not that of its content"),
    ("UPDATE prompts SET num_tokens = 1", "prompts", "num_tokens is wrong"),
    ("UPDATE prompts SET messages = '{'", "prompts", "Invalid JSON"),
    ("UPDATE prompts SET messages = '[1]'", "prompts", "valid (tuple|array)"),
    ("DELETE FROM prompts", "turns", "prompt .* is not stored"),
    ("DELETE FROM prompts", "judgments", "prompt .* is not stored"),
    ("UPDATE turns SET body = replace(body, '\"step\":0', '\"step\":1')", "turns", "column id"),
    ("UPDATE turns SET chosen = 0", "turns", "column chosen is False"),
    (
        "UPDATE turns SET body = replace(body, '\"act\"', '\"pact\"')",
        "turns",
        "act: Field required",
    ),
    ("DELETE FROM debates", "turns", "debate .* is not stored"),
    ("DELETE FROM turns", "judgments", "turn .* is not stored"),
    ("UPDATE judgments SET judge = 'x'", "judgments", "column judge is 'x'"),
    ("UPDATE judgments SET body = replace(body, '0.75', '0.85')", "judgments", "do not sum to 1"),
    ("UPDATE judgments SET debate_id = 'x'", "judgments", "debate x is not stored"),
    (
        "UPDATE outcomes SET body = replace(body, 'complete', 'failed')",
        "outcomes",
        "id is not that of its content",
    ),
    ("UPDATE outcomes SET debate_id = 'x'", "outcomes", "debate x is not stored"),
]


@pytest.mark.parametrize(("statement", "table", "reason"), DAMAGES)
def test_damage_is_found_in_its_table(filled, statement, table, reason):
    damage(filled, statement)
    problems = [problem for problem in filled.check() if problem.table == table]
    assert problems
    assert all(re.search(reason, problem.reason) for problem in problems)
    assert all(problem.row for problem in problems)


def test_two_complete_outcomes_of_one_debate_are_found(filled, make):
    damage(filled, "DROP INDEX uq_outcomes_complete")
    filled.add(make.outcome(make.debate(), ended_at="again"))
    [index, problem] = filled.check()
    assert index.reason == "index 'uq_outcomes_complete' of the store is gone"
    assert problem.table == "outcomes"
    assert problem.debate == make.debate().id
    assert problem.reason == f"debate {make.debate().id} has more than one complete outcome"


def test_only_the_damaged_row_of_many_is_named(filled, make):
    debates = [make.debate(seed=seed) for seed in range(1, 1203)]
    filled.add(*debates, *[make.turn(debate) for debate in debates])
    wrong = make.turn(debates[700]).id
    damage(filled, f"UPDATE turns SET seat = 'b' WHERE id = '{wrong}'")
    reason = "column seat is 'b', but its content gives 'a'"
    assert filled.check() == [Problem("turns", wrong, reason, debates[700].id)]


def test_a_row_that_cannot_be_read_is_named_by_the_reader(filled, make):
    damage(filled, "UPDATE turns SET body = 'x'")
    with pytest.raises(StoreError, match=r"turns row .*Invalid JSON.*run `oversight store check`"):
        filled.transcript(make.debate().id)


def test_a_damaged_file_is_found(tmp_path, make):
    path = tmp_path / "store.db"
    index = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_questions_dataset_split'"
    with Store.open(path) as store:
        store.add(*[make.question(number) for number in range(200)])
        with store._database.reading() as connection:
            page = connection.execute(text(index)).scalar_one()
    data = bytearray(path.read_bytes())
    for place in range((page - 1) * PAGE_BYTES + 100, page * PAGE_BYTES):
        data[place] ^= 0x5A
    path.write_bytes(data)
    with Store.open(path) as store:
        problems = store.check()
    assert problems
    assert {problem.table for problem in problems} == {""}

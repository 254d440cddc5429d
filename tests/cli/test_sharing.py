"""A large report is read by two processes and is the same report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oversight.cli import sharing
from oversight.cli.main import run
from oversight.cli.sharing import ReadPart, divided, gather
from oversight.store import Store
from oversight.types import Feedback, OwnAnswer, Transcript
from oversight.types.ratings import item_id


def spoken(opened: Store) -> list[Transcript]:
    """The six debates, the first and the last of which get a rating."""
    return [each for each in opened.transcripts() if each.turns]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("sharing") / "s.db")
    for protocol in ("naive", "debate_single_turn"):
        ask = ["debate", "-d", "world", "-p", protocol, "--limit", "6", "--no-live", "--run", "a"]
        assert run([*ask, "--store", path]) == 0
    with Store.open(path) as opened:
        for number, each in enumerate(spoken(opened)[::5]):
            answer = OwnAnswer(task="survey", fields={"clear": 3 + number})
            turn_ids, debate_id = (each.turns[0].id,), each.debate.id
            opened.add(
                Feedback(
                    debate_id=debate_id,
                    item=item_id("survey", turn_ids),
                    turn_ids=turn_ids,
                    judge="ann",
                    answer=answer,
                )
            )
    return path


def reported(capsys: pytest.CaptureFixture[str], store: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["report", "--store", store, "--by", "run", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    del found["origin"]
    for used in found["usage"]:
        used["seconds"] = pytest.approx(used["seconds"])  # summed in another order
    return found


def test_few_debates_are_read_by_one_process_and_many_by_two() -> None:
    few, many = [f"{n:05}" for n in range(10)], [f"{n:05}" for n in range(sharing.MIN_SHARED)]
    assert divided(few[::-1]) == (few, [])
    mine, others = divided(many[::-1])
    assert mine + others == many[::-1]
    assert 0 < len(others) < len(many) / 2


def test_two_processes_make_the_report_of_one(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = reported(capsys, store)
    assert alone["num_debates"] == 12
    assert alone["people"][0]["num_items"] == 2
    monkeypatch.setattr(sharing, "MIN_SHARED", 4)
    asked: list[int] = []
    whole = sharing.divided
    monkeypatch.setattr(
        sharing, "divided", lambda ids: asked.append(len(whole(ids)[1])) or whole(ids)
    )
    assert reported(capsys, store) == alone
    assert asked == [5]


def test_a_reader_that_was_killed_is_stood_in_for(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = reported(capsys, store)
    monkeypatch.setattr(sharing, "MIN_SHARED", 4)
    monkeypatch.setattr(sharing, "gather", exits)
    assert reported(capsys, store) == alone


def exits(parts: object, by: object) -> None:
    import os

    os._exit(9)


def test_rated_debates_are_left_to_the_process_that_counts_ratings(store: str) -> None:
    with Store.open(store) as opened:
        ids = sorted(opened.debate_ids(complete=True))
        rated = [each.debate.id for each in spoken(opened)[::5]]
    gathered, left = gather([ReadPart("", "", store, ids, ())], [])
    assert left == [(0, each) for each in rated]
    assert gathered.num_debates == 10

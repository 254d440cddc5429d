"""Seals: the ends of all chains at one moment, kept elsewhere, show what the chains cannot."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from oversight.errors import StoreError
from oversight.store import Seal, Store
from oversight.types import (
    Belief,
)
from tests.store.chained import attack, body_of, problems, records, run

# --- seals ---


def test_a_store_that_lost_its_end_is_sound_without_the_seal_and_named_with_it(tmp_path, make):
    path, copy = tmp_path / "runs.db", tmp_path / "copy.db"
    before, outcome = records(make)
    with Store.open(path) as store:
        store.add(*before)
    with Store.open(path) as store:
        store.add(outcome)
        for seed in (1, 2):
            store.add(*records(make, seed)[0])
        seal = store.seal()
        shutil.copy(path, copy)  # without its write-ahead log
    assert problems(copy) == []
    found = problems(copy, seal)
    assert {each.debate for each in found} == {
        "",
        *(make.debate(seed=seed).id for seed in range(3)),
    }
    assert f"debate {make.debate(seed=1).id}, sealed with 9 rows, is gone" in {
        each.reason for each in found
    }
    assert any(each.reason.endswith("has 9: the last 1 are lost") for each in found)
    assert problems(path, seal) == []


def test_a_store_that_went_on_keeps_its_seal(path, make):
    with Store.open(path) as store:
        seal = store.seal()
        store.add(*records(make, 7)[0], make.turn(make.debate(), 8))
        assert store.check(seal) == []
        assert store.seal().digest != seal.digest


def test_a_store_that_was_computed_anew_is_named_by_the_seal_alone(path, make, tmp_path):
    with Store.open(path) as store:
        seal = store.seal()
    forged = tmp_path / "forged.db"
    with Store.open(forged) as store:
        for seed in range(3):
            before, outcome = records(make, seed)
            before = [
                make.judgment(make.debate(seed=seed), final=other_belief(), samples=r.samples)
                if type(r).__name__ == "Judgment"
                else r
                for r in before
            ]
            store.add(*before)
            store.add(outcome)
    assert problems(forged) == []
    found = problems(forged, seal)
    assert [each.debate for each in found] == sorted(make.debate(seed=s).id for s in range(3))
    assert all("its first 10 rows are others than were sealed" in each.reason for each in found)


def other_belief() -> Belief:
    return Belief(verdict="decided", method="logprobs", probs=(0.25, 0.75))


def test_the_command_seals_and_compares(path, tmp_path, make):
    sealed = run("seal", "--store", path, "-o", tmp_path / "seal.json")
    assert sealed.exit_code == 0
    digest = sealed.stdout.split()[0]
    assert len(digest) == 40
    same = run("check", "--store", path, "--seal", tmp_path / "seal.json")
    assert (same.exit_code, "all that was sealed is there, and 0 rows more" in same.stdout) == (
        0,
        True,
    )
    assert run("check", "--store", path, "--seal", digest).exit_code == 0
    with Store.open(path) as store:
        store.add(make.turn(make.debate(), 8))
    grown = run("check", "--store", path, "--seal", tmp_path / "seal.json")
    assert (grown.exit_code, "and 1 row more" in grown.stdout) == (0, True)
    other = run("check", "--store", path, "--seal", digest, "--json")
    assert other.exit_code == 1
    assert (
        "it has grown since then, or was changed"
        in json.loads(other.stdout)["problems"][0]["reason"]
    )


def test_a_seal_that_was_changed_is_refused(path, tmp_path):
    seal = tmp_path / "seal.json"
    run("seal", "--store", path, "-o", seal)
    whole = json.loads(seal.read_text())
    whole["heads"][""][0] += 1
    seal.write_text(json.dumps(whole))
    with pytest.raises(StoreError, match="was changed: it says digest"):
        Seal.read(seal)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"oversight_seal": 1}', "[" * 100_000, "\xff"]
)
def test_a_file_that_is_no_seal_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "seal.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(StoreError, match="no file of `oversight store seal`") as caught:
        Seal.read(file)
    assert "\n" not in str(caught.value)


def test_a_store_with_problems_is_not_sealed(path):
    attack(path, body_of("turns", "It is", "It was"))
    assert "is not sealed" in str(run("seal", "--store", path).exception)


def test_a_check_without_a_seal_claims_no_more_than_that_chains_fit(path, tmp_path):
    seal = tmp_path / "seal.json"
    run("seal", "--store", path, "-o", seal)
    alone = run("check", "--store", path).stdout
    assert "no row was changed" not in alone
    assert "only a seal kept elsewhere shows: oversight store seal" in alone
    assert "only a seal" not in run("check", "--store", path, "--seal", seal).stdout


def test_a_single_problem_of_a_store_is_told_in_the_singular(path):
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE judgments SET body = replace(body, '0.', '0.0') "
            "WHERE seq = (SELECT min(seq) FROM judgments)"
        )
    connection.close()
    assert len(problems(path)) == 1
    assert f"{path}: 1 problem\n" in run("check", "--store", path).stdout

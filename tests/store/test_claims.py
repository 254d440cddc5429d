"""No two processes hold the claim on one debate, and none stays held by the dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import update

from oversight.store import Store, claims, schema

CLAIM = """
import json, sys
from oversight.store import Store
store = Store.open(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    command, ids = json.loads(line)
    if command == "claim":
        print(json.dumps(sorted(store.claim(ids))), flush=True)
    else:
        store.release(ids)
        print("[]", flush=True)
"""


class Claimer:
    """Another process with the same store open."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_open(self) -> Claimer:
        assert self.process.stdout.readline() == "ready\n"
        return self

    def send(self, command: str, ids: list[str]) -> None:
        self.process.stdin.write(json.dumps([command, ids]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> set[str]:
        return set(json.loads(self.process.stdout.readline()))

    def claim(self, ids: list[str]) -> set[str]:
        self.send("claim", ids)
        return self.answer()

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def other(url):
    claimer = Claimer(url)
    yield claimer.wait_until_open()
    claimer.end(signal.SIGKILL)


def test_a_claim_is_held_by_one_store_until_it_is_released(store, other):
    assert store.claim(["a", "b"]) == {"a", "b"}
    assert store.claim(["a"]) == {"a"}
    assert other.claim(["a", "c"]) == {"c"}
    assert store.claim(["c", "d"]) == {"d"}
    store.release(["a", "c"])
    assert other.claim(["a", "b", "c"]) == {"a", "c"}
    assert store.claim([]) == set()


def test_a_claim_of_a_killed_process_is_taken_over_at_once(store, other):
    assert other.claim(["a", "b"]) == {"a", "b"}
    os.kill(other.process.pid, signal.SIGKILL)
    # Until its parent has looked, a killed process still has its number.
    while not claims.Process(claims.host(), other.process.pid, "").is_gone():
        time.sleep(0.01)
    assert store.claim(["a"]) == {"a"}


def test_a_stopped_process_keeps_its_claim_past_the_lease(store, other, monkeypatch):
    assert other.claim(["a"]) == {"a"}
    other.process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(claims, "LEASE_S", -1.0)
    _change(store, expires_at=0.0)
    assert store.claim(["a"]) == set()
    other.process.send_signal(signal.SIGCONT)


def test_a_claim_from_another_machine_is_taken_when_its_lease_is_over(store, url):
    with Store.open(url) as elsewhere:
        elsewhere.claim(["a"])
        _change(store, host="elsewhere")
        assert store.claim(["a"]) == set()
        _change(store, expires_at=time.time() - 1)
        assert store.claim(["a"]) == {"a"}
        assert elsewhere.claim(["a"]) == set()


def test_a_store_renews_its_claims(store, monkeypatch):
    monkeypatch.setattr(claims, "RENEW_S", 0.05)
    store.claim(["a"])
    _change(store, expires_at=0.0)
    deadline = time.monotonic() + 10
    while _expiry(store) < time.time() + 60:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_closing_gives_up_all_claims(url):
    with Store.open(url) as first:
        assert first.claim(["a", "b"]) == {"a", "b"}
    with Store.open(url) as second:
        assert second.claim(["a", "b"]) == {"a", "b"}


def test_processes_that_claim_the_same_at_once_share_without_overlap(url):
    Store.open(url).close()
    claimers = _start(url, 3)
    for batch in range(10):
        ids = [f"{batch}-{number}" for number in range(50)]
        for place, claimer in enumerate(claimers):
            claimer.send("claim", ids[place * 7 :] + ids[: place * 7])
        held = [claimer.answer() for claimer in claimers]
        assert sum(map(len, held)) == 50
        assert set().union(*held) == set(ids)
    for claimer in claimers:
        claimer.end(signal.SIGKILL)


def test_processes_that_take_over_from_the_dead_at_once_share_without_overlap(url, other):
    ids = [str(number) for number in range(100)]
    assert other.claim(ids) == set(ids)
    claimers = _start(url, 3)
    other.end(signal.SIGKILL)
    for claimer in claimers:
        claimer.send("claim", ids)
    held = [claimer.answer() for claimer in claimers]
    assert sum(map(len, held)) == 100
    assert set().union(*held) == set(ids)
    for claimer in claimers:
        claimer.end(signal.SIGKILL)


def test_this_process_runs_and_one_of_the_same_number_from_before_does_not():
    here = claims.current()
    assert not here.is_gone()
    assert claims.Process(here.host, here.pid, "1").is_gone()
    assert claims.Process(here.host, 2**22 + 1, "").is_gone()
    assert not claims.Process("elsewhere", 2**22 + 1, "").is_gone()


def test_a_process_whose_name_holds_parentheses_is_read(tmp_path):
    script = tmp_path / "a) b (c"
    script.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(script), "30"])
    try:
        time.sleep(0.05)
        assert not claims.Process(claims.host(), child.pid, "").is_gone()
    finally:
        child.kill()
        child.wait()


def _start(url: str, number: int) -> list[Claimer]:
    claimers = [Claimer(url) for _ in range(number)]
    return [claimer.wait_until_open() for claimer in claimers]


def _change(store: Store, **values: object) -> None:
    with store._database.writing() as connection:
        connection.execute(update(schema.claims).values(**values))


def _expiry(store: Store) -> float:
    with store._database.reading() as connection:
        return connection.execute(schema.claims.select()).one().expires_at

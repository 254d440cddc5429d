"""SIGKILL at random moments: the same command finishes the rest, nothing lost, doubled or mixed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oversight.store import Store
from oversight.types import OutcomeStatus

NUM_KILLS = 12
ARGS = [
    "-m", "oversight.cli.main", "debate", "--dataset", "world", "--limit", "60", "--no-live",
    "-p", "debate_interactive", "-p", "debate_best_of_n", "-p", "consultancy",
    "-p", "critique",
    "--concurrency", "7", "--json",
]  # fmt: skip
NUM_DEBATES = 240


def start(store: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *ARGS, "--store", str(store)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def contents(path: Path) -> dict[str, object]:
    """Turns and judgments of each debate by id, with the time that turns took set to zero."""
    with Store.open(str(path), create=False) as store:
        assert store.check() == []
        found: dict[str, object] = {}
        for transcript in store.transcripts():
            turns = [turn.model_copy(update={"seconds": 0.0}) for turn in transcript.turns]
            assert transcript.outcome is not None
            assert transcript.outcome.status is OutcomeStatus.COMPLETE
            found[transcript.debate.id] = (turns, list(transcript.judgments))
        return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_random_moments_the_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole.db")
    began = time.monotonic()
    _, errors = whole.communicate(timeout=120)
    assert whole.returncode == 0, errors.decode()
    seconds = time.monotonic() - began
    killed = tmp_path / "killed.db"
    rng = random.Random(7)
    num_killed = 0
    for _ in range(NUM_KILLS):
        process = start(killed)
        try:
            process.communicate(timeout=rng.uniform(0.3, 1.0) * seconds * 0.6)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            num_killed += 1
    last = start(killed)
    _, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors.decode()
    assert num_killed > 0
    expected = contents(tmp_path / "whole.db")
    assert len(expected) == NUM_DEBATES
    assert contents(killed) == expected

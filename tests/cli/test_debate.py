"""`oversight debate`: who plays which role, and a protocol with a critic from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.debate import _casting
from oversight.store import Store
from oversight.types import Role


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"judge": "lexical"}, {"judge": "lexical"}),
        (
            {"debater": "retrieval"},
            {"debater": "retrieval", "consultant": "retrieval", "critic": "retrieval"},
        ),
        ({"debater": "critic"}, {"debater": "critic", "consultant": "critic", "critic": "critic"}),
        ({"debater": "lexical"}, {"debater": "lexical", "consultant": "lexical"}),
        (
            {"model": "m"},
            {
                "debater": "debater",
                "consultant": "consultant",
                "critic": "critic",
                "judge": "judge",
            },
        ),
    ],
)
def test_the_short_options_name_an_agent_for_each_role_that_it_can_play(
    options: dict[str, str], expected: dict[str, str]
) -> None:
    given: dict[str, Any] = dict.fromkeys(("debater", "judge", "engine", "model"))
    changes = _casting(**given | options)
    agents = {k.split(".")[1]: v for k, v in changes.items() if k.endswith(".agent")}
    thinking = {k.split(".")[1] for k in changes if k.startswith("agents.") and "engine" in k}
    assert agents == expected
    assert thinking == (set(expected) if "model" in options else set())


def test_a_consultancy_with_a_critic_runs_from_the_command_line(tmp_path: Path) -> None:
    args = ["debate", "--protocol", "critique", "-d", "world", "--limit", "3", "--both-sides"]
    command = [sys.executable, "-m", "oversight.cli.main", *args, "--no-live", "--json"]
    for run, found in ((6, 0), (0, 6)):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert (document["run"], document["found_complete"]) == (run, found)
    with Store.open(str(tmp_path / "oversight.db"), create=False) as store:
        roles = [[turn.role for turn in each.turns] for each in store.transcripts()]
        assert roles == [[Role.CONSULTANT, Role.CRITIC, Role.CONSULTANT]] * 6
        assert store.check() == []

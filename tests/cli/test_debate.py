"""`oversight debate`: who plays which role, and a protocol with a critic from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from oversight.cli import main
from oversight.graphs.planning import casting
from oversight.store import Store
from oversight.types import Role


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"judge": "lexical"}, {"judge": "lexical"}),
        (
            {"debater": "retrieval"},
            {
                "debater": "retrieval",
                "consultant": "retrieval",
                "critic": "retrieval",
                "responder": "retrieval",
            },
        ),
        ({"debater": "critic"}, {"debater": "critic", "consultant": "critic", "critic": "critic"}),
        ({"debater": "lexical"}, {"debater": "lexical", "consultant": "lexical"}),
        (
            {"model": "m"},
            {
                "debater": "debater",
                "consultant": "consultant",
                "critic": "critic",
                "responder": "responder",
                "judge": "judge",
            },
        ),
    ],
)
def test_the_short_options_name_an_agent_for_each_role_that_it_can_play(
    options: dict[str, str], expected: dict[str, str]
) -> None:
    given: dict[str, Any] = dict.fromkeys(("debater", "judge", "engine", "model"))
    changes = casting(**given | options)
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


def run_debate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oversight.cli.main", "debate", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_live_debates_are_put_in_the_queue_and_not_begun(tmp_path: Path) -> None:
    words = ["--dataset", "world", "--limit", "2", "--queue", "--judge", "human", "--json"]
    for _ in range(2):
        done = run_debate(tmp_path, *words, "-p", "debate_interactive")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["waiting"] == 2
    with Store.open(str(tmp_path / "oversight.db"), create=False) as store:
        assert [item.live for item in store.queue("anna")] == [True, True]
        assert store.counts()["turns"] == 0


def test_a_queue_without_people_is_refused(tmp_path: Path) -> None:
    done = run_debate(tmp_path, "--dataset", "world", "--limit", "1", "--queue")
    assert done.returncode == 2
    assert "no person takes part" in done.stderr


def test_a_person_takes_nothing_over_from_the_program_in_the_seat(tmp_path: Path) -> None:
    done = run_debate(tmp_path, "--queue", "--judge", "human")
    assert done.returncode == 0, done.stderr
    with Store.open(str(tmp_path / "oversight.db"), create=False) as store:
        [debate_id] = store.debate_ids()
        debate = store.debate(debate_id)
    assert debate is not None
    assert debate.agents[Role.JUDGE].engine is None
    assert debate.agents[Role.DEBATER].engine is not None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("agents.judge.settings.nonsense=1", "unknown setting 'agents.judge.settings.nonsense'"),
        ("agents.critic.agent=judge", "agents.critic.agent = 'judge' cannot be a critic"),
        ("engines.m.settings.dtype=float99", "engines.m.settings.dtype = 'float99'"),
        ("engines.unused.engine=nonsense", "nonsense"),
        ('protocols=["naive","nope"]', "there is no protocol 'nope'"),
        ("dataset.settings.difficulty=-7", "difficulty"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named_before_the_first_debate(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    message: str,
) -> None:
    from oversight.cli import main

    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(
        'protocols = ["naive"]\nstore = "x.db"\n[dataset]\ndataset = "world"\nlimit = 1\n'
        '[agents.judge]\nagent = "lexical"\n'
        '[engines.m]\nengine = "transformers"\nsettings = { model = "seedling" }\n'
    )
    assert main.run(["debate", "recipe.toml", "--set", setting]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("x.db").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["--dataset", "world", "--limit", "2"], ["--no-live", "-p", "naive"]]
)
def test_a_model_that_is_nowhere_is_refused_before_anything_runs(
    arguments, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main.run(["debate", "--model", "nothere/there", *arguments]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "engine.transformers.model = 'nothere/there': there is no such folder" in line
    assert "give the folder of a saved model, a name on the hub" in line
    assert list(tmp_path.iterdir()) == []


def test_a_vllm_engine_without_vllm_is_refused_before_anything_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    command = ["debate", "--dataset", "world", "--limit", "2", "--engine", "vllm"]
    python = "engines.model.settings.python=/no/such/python"
    assert main.run([*command, "--model", "seedling", "--set", python]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "engine python = '/no/such/python': no such program" in line
    assert list(tmp_path.iterdir()) == []

"""Open prompts from a file to a trained model, and a run of them that is killed in the middle."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.store import Store
from oversight.types import Act, Role

NUM_PROMPTS = 60
SCRIPTED = """
store = "{store}"
protocols = ["self_critique", "self_critique_best_of_n"]
concurrency = 3
[dataset]
dataset = "jsonl"
settings = {{ path = "{path}" }}
[agents.responder]
agent = "responder"
engine = "script"
[agents.critic]
agent = "critic"
engine = "script"
settings = {{ constitution = "honest_debate", num_principles = 1 }}
[agents.judge]
agent = "judge"
engine = "script"
[engines.script]
engine = "scripted"
settings = {{ latency_s = 0.01 }}
"""
SEEDLING = """
store = "seedling.db"
protocols = ["self_critique"]
[dataset]
dataset = "jsonl"
settings = { path = "prompts.jsonl" }
[agents.responder]
agent = "responder"
engine = "seedling"
settings = { max_tokens = 12, temperature = 2.0 }
[agents.critic]
agent = "critic"
engine = "seedling"
settings = { reasoning = false, max_tokens = 12 }
[engines.seedling]
engine = "transformers"
settings = { model = "seedling" }
"""
TRAINED = """
batch_size = 1
steps = 1
[model]
path = "seedling"
[data]
path = "rows.jsonl"
"""


def write_prompts(path: Path, number: int) -> None:
    lines = [
        {"id": f"p{index}", "prompt": f"Say {index}.", "system": "Be kind."}
        for index in range(number)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def start(recipe: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "oversight.cli.main", "debate", str(recipe), "--json"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def contents(path: Path) -> dict[str, Any]:
    """Turns of each run by id, with the time that they took set to zero."""
    with Store.open(str(path), create=False) as store:
        assert store.check() == []
        found = {}
        for transcript in store.transcripts():
            turns = [turn.model_copy(update={"seconds": 0.0}) for turn in transcript.turns]
            for turn in turns:
                samples = [s.model_copy(update={"seconds": 0.0}) for s in turn.samples]
                object.__setattr__(turn, "samples", tuple(samples))
            found[transcript.debate.id] = turns
        return found


def num_turns(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with Store.open(str(path), create=False) as store:
            return store.counts()["turns"]
    except Exception:  # it is being made
        return 0


@pytest.mark.timeout(600)
def test_a_run_that_is_killed_in_the_middle_ends_as_one_that_was_not(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", NUM_PROMPTS)
    recipes = {}
    for name in ("whole", "killed"):
        recipes[name] = tmp_path / f"{name}.toml"
        recipes[name].write_text(
            SCRIPTED.format(store=tmp_path / f"{name}.db", path=tmp_path / "prompts.jsonl")
        )
    finish(start(recipes["whole"]))
    process = start(recipes["killed"])
    while num_turns(tmp_path / "killed.db") < 30 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 0 < num_turns(tmp_path / "killed.db") < NUM_PROMPTS * (3 + 9)
    finish(start(recipes["killed"]))
    expected = contents(tmp_path / "whole.db")
    assert len(expected) == 2 * NUM_PROMPTS
    assert sum(map(len, expected.values())) == NUM_PROMPTS * (3 + 9)
    assert contents(tmp_path / "killed.db") == expected


@pytest.mark.timeout(600)
def test_what_seedling_answers_and_revises_is_rated_exported_and_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_prompts(Path("prompts.jsonl"), 3)
    Path("seedling.toml").write_text(SEEDLING)
    Path("train.toml").write_text(TRAINED)
    assert run(["debate", "seedling.toml", "--no-live"]) == 0
    with Store.open("seedling.db", create=False) as store:
        first = next(iter(store.transcripts()))
        changed = sum(
            t.turns[0].text != t.turns[-1].text and not t.turns[-1].unchanged
            for t in store.transcripts()
        )
        sample = first.turns[0].samples[0]
        chat = store.prompt(sample.prompt_id).prompt.chat()
    assert [turn.act for turn in first.turns] == [Act.RESPOND, Act.CRITIQUE, Act.REVISE]
    assert [message["role"] for message in chat] == ["system", "user"]
    assert first.debate.agents[Role.RESPONDER].agent == "responder"
    assert changed, "seedling said the same again everywhere: nothing to learn from"

    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n3\n\n" * 3))
    rating = ["rate", "revisions", "--linear", "--judge", "ann", "--store", "seedling.db"]
    assert run(rating) == 0
    shown = capsys.readouterr().out
    assert "3 sent now" in shown
    assert "System: Be kind.\nPrompt: Say 0.\nResponder responds" in shown
    assert "First response:" in shown
    assert run(["export", "rows.jsonl", "--store", "seedling.db"]) == 0
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert len(rows) == changed
    assert {row["kind"] for row in rows} == {"revisions"}
    assert {len(row["prompt"]) for row in rows} == {2}
    assert all(row["chosen_ids"] and row["prompt_ids"] for row in rows)
    for trainer in ("sft", "dpo"):
        assert run(["train", trainer, "train.toml", "--out", trainer]) == 0
        assert Path(trainer, "model", "config.json").exists()
    capsys.readouterr()
    assert run(["report", "--store", "seedling.db"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3 responses of seedling to 3 open prompts" in said
    assert "of 3 ratings of revisions 3 better, 0 the same, 0 worse" in said
    assert "accuracy" not in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["-p", "debate"],
            "is an open prompt, without any: take a protocol whose speakers respond",
        ),
        (["-p", "self_critique", "--swap"], "leave swap (--swap) out"),
        (
            ["-p", "self_critique", "--judge", "human", "--queue"],
            "answers open prompts without any: run it without --queue",
        ),
    ],
)
def test_what_open_prompts_cannot_be_used_for_is_refused_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_prompts(Path("prompts.jsonl"), 1)
    path = ["--dataset", "jsonl", "--set", "dataset.settings.path=prompts.jsonl"]
    assert run(["debate", *path, *flags, "--store", "x.db"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("x.db").exists()


BOTH = """
store = "{engine}.db"
protocols = ["self_critique", "self_critique_best_of_n"]
[dataset]
dataset = "jsonl"
settings = {{ path = "prompts.jsonl" }}
[agents.responder]
agent = "responder"
engine = "{engine}"
settings = {{ max_tokens = 12, temperature = 2.0 }}
[agents.critic]
agent = "critic"
engine = "{engine}"
settings = {{ reasoning = false, max_tokens = 12 }}
[agents.judge]
agent = "judge"
engine = "{engine}"
"""
ENGINES = {
    "seedling": '[engines.seedling]\nengine = "transformers"\nsettings = { model = "seedling" }\n',
    # Answers that differ, so that there is something to compare.
    "script": '[engines.script]\nengine = "scripted"\nsettings = { answers = '
    + json.dumps([f"Answer {number}." for number in range(200)])
    + " }\n",
}
STUDY = """
store = "{engine}.db"
constitution = "honest_debate"
[agents.rater]
agent = "rater"
engine = "{engine}"
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_person_and_a_model_rate_answers_and_both_become_rows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    engine: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_prompts(Path("prompts.jsonl"), 2)
    Path("run.toml").write_text(BOTH.format(engine=engine) + ENGINES[engine])
    Path("study.toml").write_text(STUDY.format(engine=engine) + ENGINES[engine])
    store = ["--store", f"{engine}.db"]
    assert run(["debate", "run.toml", "--no-live"]) == 0
    for task, keys in (("revisions", "1\n3\n\n"), ("pairs", "1\n\n")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(keys * 8))
        assert run(["rate", task, "--linear", "--judge", "ann", *store]) == 0
        assert run(["rate", task, "study.toml", "--rater", "rater"]) == 0
    capsys.readouterr()

    with Store.open(f"{engine}.db", create=False) as opened:
        assert opened.check() == []
        given = [each for one in opened.transcripts() for each in one.ratings]
    by_person = {each.item for each in given if each.is_persons}
    by_model = [each for each in given if not each.is_persons]
    assert {each.item for each in by_model} == by_person, "they rate the same items"
    assert len(by_model) == 2 * len(by_person), "each in both orders"
    assert all(each.under and each.samples and each.agent for each in by_model)

    rows = {}
    for raters in ("all", "persons", "models"):
        kinds = ["--set", 'kinds=["pairs", "revisions"]', "--set", f"raters={raters}"]
        assert run(["export", f"{raters}.jsonl", *store, *kinds, "--layout", "kwise"]) == 0
        lines = Path(f"{raters}.jsonl").read_text().splitlines()
        rows[raters] = [json.loads(line) for line in lines]
    assert {row["kind"] for row in rows["all"]} == {"pairs", "revisions"}
    assert len(rows["all"]) == len(rows["persons"]) == len(rows["models"]) > 0
    assert {name for row in rows["persons"] for name in row["judges"]} == {"ann"}
    (name,) = {name for row in rows["models"] for name in row["judges"]}
    assert name.startswith("rater (")
    assert {tuple(row["judges"]) for row in rows["all"]} == {("ann", name)}
    assert all(row["constitution"] == "honest_debate" for row in rows["models"])
    assert run(["report", *store]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Agreement of raters" in said
    assert "person–model" in said

"""The command line as a tool: names completed and corrected, empty results explained."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from oversight.cli import main
from oversight.cli.main import run
from oversight.cli.options import run_names, runs_at_hand, tag_names
from oversight.preferences.settings import WORDS, PreferenceSettings, Reason, in_words
from oversight.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with eight debates of two protocols."""
    path = str(tmp_path_factory.mktemp("terminal") / "debates.db")
    words = ["debate", "-d", "world", "--limit", "4", "-p", "naive", "-p", "debate", "--no-live"]
    assert run([*words, "--store", path]) == 0
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["judge", "--linear"],
        ["rate", "pairs", "--linear"],
        ["rate", "pairs", "--model", "seedling"],
        ["report"],
        ["export", "rows.jsonl"],
    ],
)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--protocol", "debat"], "has no debate of protocol 'debat'. Did you mean 'debate'?"),
        (["--dataset", "wrld"], "has no debate of data set 'wrld'. Did you mean 'world'?"),
    ],
)
def test_a_name_that_the_store_lacks_is_refused_with_the_nearest(
    store, tmp_path, monkeypatch, capsys, command, given, says
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*command, *given, "--store", store]) == 2
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_feedback_and_training_name_it_too(store, root, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    feedback = ["feedback", str(root / "recipes" / "feedback.toml"), "--store", store]
    assert run([*feedback, "--set", "protocol=debat"]) == 2
    assert "Did you mean 'debate'?" in capsys.readouterr().err
    Path("sft.toml").write_text(
        f'out = "out"\n[model]\npath = "seedling"\n[data]\nstore = "{store}"\nprotocol = "debat"\n'
    )
    assert run(["train", "sft", "sft.toml", "--dry-run"]) == 2
    assert "Did you mean 'debate'?" in capsys.readouterr().err


# --- completion ---


def completed(line: str, shell: str = "bash", cwd: Path | None = None) -> list[str]:
    """The words that a shell is offered at the end of a line."""
    words = [*shlex.split(line), ""] if line.endswith(" ") else shlex.split(line)
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-c", "from oversight.cli.main import main; main()"],
        env=os.environ | asked | {"_OVERSIGHT_COMPLETE": f"complete_{shell}"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("oversight dem", {"demo"}),
        ("oversight train ", {"sft", "reward", "dpo", "ppo", "grpo"}),
        ("oversight debate -p debate_s", {"debate_sequential", "debate_single_turn"}),
        ("oversight debate --dataset wor", {"world"}),
        ("oversight debate --judge ju", {"judge"}),
        ("oversight debate --engine v", {"vllm"}),
        ("oversight debate --model see", {"seedling"}),
        ("oversight rate pa", {"pairs"}),
        ("oversight rate pairs --constitution hon", {"honest_debate"}),
        ("oversight export x.jsonl --layout kw", {"kwise"}),
        ("oversight report --by diff", {"difficulty"}),
        ("oversight protocols nai", {"naive"}),
        ("oversight models port", {"porter"}),
        ("oversight debate --no-l", {"--no-live"}),
    ],
)
def test_names_and_fixed_choices_complete(line: str, offered: set[str]) -> None:
    assert offered <= set(completed(line))


def test_recipes_complete_by_their_folders(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    for name in ("one.toml", "two.toml", "notes.md"):
        (tmp_path / "recipes" / name).touch()
    assert completed("oversight run rec", cwd=tmp_path) == ["recipes/"]
    found = completed("oversight debate recipes/", cwd=tmp_path)
    assert found == ["recipes/one.toml", "recipes/two.toml"]
    assert completed("oversight train dpo recipes/t", cwd=tmp_path) == ["recipes/two.toml"]


def test_zsh_and_fish_are_offered_the_same_with_a_line_on_each() -> None:
    for shell in ("zsh", "fish"):
        [line] = [each for each in completed("oversight protocols debate_seq", shell) if each]
        assert "debate_sequential" in line
        assert len(line) > 40


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_script_that_is_shown_is_one_that_bash_reads() -> None:
    program = "from oversight.cli.main import main; main()"
    words = [sys.executable, "-c", program, "--show-completion", "bash"]
    env = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=True)
    read = subprocess.run(
        ["bash", "--norc", "-c", script.stdout + "\ncomplete -p oversight"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_oversight_completion" in read.stdout


# --- help ---


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name in getattr(group, "list_commands", lambda _: [])(None):
        yield from commands(group.get_command(None, name), (*path, name))


def test_every_command_has_a_short_help_whose_flags_have_no_kind(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    found = list(commands(typer.main.get_command(main.app)))
    assert len(found) > 30
    for words in found:
        assert run([*words, "-h"]) == 0
        short = capsys.readouterr().out
        assert run([*words, "--help"]) == 0
        assert capsys.readouterr().out == short
        assert "bool" not in short, words


def test_what_stands_under_a_name_is_shown(store, capsys) -> None:
    assert run(["protocols", "debate"]) == 0
    shown = capsys.readouterr().out
    assert "a: speak, b: speak" in shown
    assert "judge: believe" in shown
    assert run(["protocols", "debate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == 3
    assert run(["models", "judge", "--json"]) == 0
    [judge] = json.loads(capsys.readouterr().out)
    assert judge["settings"]["max_tokens"] == 300
    assert run(["models", "openai"]) == 0
    assert "api_key_env" in capsys.readouterr().out
    assert run(["models", "seedling"]) == 0
    assert "debates, consults, judges" in capsys.readouterr().out
    for words in (["protocols", "debat"], ["models", "seedlng"]):
        assert run(words) == 2
        assert "Did you mean" in capsys.readouterr().err


def test_a_store_is_named_by_its_file_alone(store, capsys) -> None:
    for command in ("check", "seal", "info"):
        assert run(["store", command, store]) == 0
        first = capsys.readouterr().out
        assert run(["store", command, "--store", store]) == 0
        assert capsys.readouterr().out == first
    assert run(["store", "check", store, "--store", "other.db"]) == 2
    assert "name two stores: leave one out" in capsys.readouterr().err


def test_numbers_in_json_are_numbers(store, capsys) -> None:
    assert run(["store", "info", store, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"table": "debates", "rows": 8} in rows
    number = re.compile(r"-?\d[\d,]*(?:\.\d+)? ?%?")  # a version has two points
    for words in (["report"], ["runs"], ["store", "check"]):
        assert run([*words, "--store", store, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert not [each for each in strings(document) if number.fullmatch(each)]


def strings(value: Any) -> Iterator[str]:
    """All texts in a document."""
    if isinstance(value, str):
        yield value
    for each in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from strings(each)


# --- results ---


def test_the_seed_of_a_single_debate_varies_its_question(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        judge = ["--debater", "retrieval", "--judge", "lexical"]
        words = ["debate", "--seed", str(seed), *judge, "--no-live", "--store", f"{seed}.db"]
        assert run(words) == 0
    asked = []
    for seed in (1, 2):
        with Store.open(f"{seed}.db", create=False) as opened:
            asked += [each.question.text for each in opened.transcripts()]
    assert len(set(asked)) == 2


def test_each_reason_of_an_export_is_a_sentence_with_the_next_step() -> None:
    assert set(WORDS) == set(Reason)
    for said in WORDS.values():
        what, colon, step = said.partition(": ")
        assert what[0].isupper()
        assert len(what.split()) >= 3
        assert colon
        assert len(step.split()) >= 2, said
    [(number, said)] = in_words([("tie", 3)], "data.preferences.")
    assert number == 3
    assert "--set data.preferences.ties=true" in said
    for said in WORDS.values():
        for name in re.findall(r"--set (\w+)", said):
            assert name in PreferenceSettings.model_fields


def test_an_export_without_rows_says_why_and_how_to_go_on(store, tmp_path, capsys) -> None:
    out = str(tmp_path / "rows.jsonl")
    assert run(["export", out, "--store", store, "--set", 'kinds=["pairs"]']) == 0
    said = capsys.readouterr().out
    assert "0 rows" in said
    assert "oversight rate pairs" in said
    assert run(["export", out, "--store", store]) == 0
    assert "dropped: The responses do not answer one and the same prompt" in capsys.readouterr().out


def test_a_tag_that_no_run_has_is_told_with_what_there_is(store, capsys) -> None:
    assert run(["runs", "--tag", "a=b", "--store", store]) == 0
    assert "no run has --tag a=b. No run has a tag." in capsys.readouterr().out


def test_without_an_id_the_newest_debates_are_listed_with_theirs(store, capsys) -> None:
    newest = Store.open(store).debate_ids()[::-1]
    capsys.readouterr()
    assert run(["show", "--store", store, "--limit", "3", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in listed] == newest[:3]
    assert run(["show", "--store", store, "-p", "naive"]) == 0
    said = capsys.readouterr().out
    assert said.count("naive") == 4
    assert "debate " not in said
    first = re.findall(r"^[0-9a-f]{12}", said, re.MULTILINE)[0]
    assert run(["show", first, "--store", store]) == 0
    assert run(["show", first, "--store", store, "--limit", "3"]) == 2
    assert run(["show", "--store", store, "--prompts"]) == 2
    assert run(["show", "--store", store, "-p", "debat"]) == 2
    assert "Did you mean 'debate'?" in capsys.readouterr().err


def test_names_of_runs_and_tags_of_the_store_complete(tmp_path) -> None:
    path = str(tmp_path / "debates.db")
    words = ["debate", "-d", "world", "--limit", "1", "-p", "naive", "--no-live", "--store", path]
    assert run([*words, "--run", "base", "--tag", "prompt=short"]) == 0
    assert run([*words, "--run", "other"]) == 0
    assert [name for name, *_ in runs_at_hand({"store": path})] == ["other", "base"]
    context = typer.Context(typer.main.get_command(main.app))
    context.params = {"store": path}
    assert run_names(context, "ba") == [("base", "debate")]
    assert tag_names(context, "p") == [("prompt=", "")]
    for place in (str(tmp_path / "none.db"), "postgresql://nobody@127.0.0.1:9/x", str(tmp_path)):
        assert runs_at_hand({"store": place}) == []
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--limit", "3", "--set", "dataset.limit=4"], "--set dataset.limit=4: an option of this"),
        (["--limit", "3", "--set", "dataset={dataset='world', limit=4}"], "dataset.limit = 3"),
        (["--set", "debter.x=1"], "unknown setting 'debter'. Did you mean 'agents.debater'?"),
        (["--set", "agents.debter.agent='x'"], "'agents.debter'. Did you mean 'debater'?"),
    ],
)
@pytest.mark.parametrize("command", ["debate", "critique"])
def test_what_disagrees_or_is_misspelt_is_refused_in_one_line(
    root, capsys, command, words, says
) -> None:
    recipe = str(root / "recipes" / "constitutional.toml")
    assert run([command, recipe, *words]) == 2
    assert says in capsys.readouterr().err


def test_the_list_of_make_targets_stands_in_columns(root) -> None:
    command = ["make", "--no-print-directory", "help"]  # which it prints where make runs the tests
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert {re.match(r"[a-z-]+ +", line).end() for line in lines} == {16}  # type: ignore[union-attr]

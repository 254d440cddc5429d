"""Commands that help and messages tell a person to type exist and run."""

from __future__ import annotations

import ast
import io
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from oversight.cli import main
from oversight.cli.debate import _pixel_settings as pixel_settings
from oversight.cli.measure import load_suite
from oversight.cli.persons import PersonOptions
from oversight.cli.run import load_circle
from oversight.cli.train import _settings as train_settings
from oversight.config import RunSettings, assignments, load_recipe, override, read_toml
from oversight.experiments.selfplay import RECIPE
from oversight.jobs.writing import WritingSettings
from oversight.judging.settings import RatingSettings
from oversight.redteam.loop import LoopSettings
from oversight.redteam.training import AttackerTrainingSettings
from oversight.tournaments.playing import TournamentSettings
from tests.interop.nyu_files import a_debate, a_folder


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its words, groups within groups."""
    group = group or typer.main.get_command(main.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


def help_of(command: Any) -> str:
    """Its help and that of its options, as it was written."""
    parts = [command.help or "", *(getattr(each, "help", "") or "" for each in command.params)]
    return "\n".join(parts)


def options_of(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


EXAMPLES = {name: re.findall(r"--set (\S+?=\S*[\w\]])", help_of(c)) for name, c in COMMANDS.items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("help") / "debates.db"
    debate = ["debate", "-d", "world", "--limit", "2", "--no-live", "--store", str(path)]
    assert main.run(debate) == 0
    return path


Runner = Callable[[str, Path, Path], object]


def typed(*words: str) -> Runner:
    """Runs the command with the example."""

    def run(example: str, store: Path, root: Path) -> None:
        filled = [word.format(store=store, folder=store.parent) for word in words]
        assert main.run([*filled, "--set", example]) == 0

    return run


def imported(example: str, store: Path, root: Path) -> None:
    """Imports the one file of a folder with the example."""
    folder = a_folder(store.parent / "nyu", {"one": a_debate()})
    words = ["import", "nyu", str(folder), "--store", str(store.parent / "nyu.db")]
    assert main.run([*words, "--set", example]) == 0


def trained(trainer: str) -> Runner:
    return lambda example, store, root: train_settings(
        trainer, root / "recipes" / "training" / f"{trainer}.toml", None, [example]
    )


def batch_settings(recipe: Path, example: str) -> dict[str, Any]:
    data = override(read_toml(recipe), assignments([example]))
    data.pop("task", None)
    return dict(data)


def redteam(example: str, store: Path, root: Path) -> None:
    """A run, or what it found tried again: exit code 1 says that it is still open."""
    policy, folder = str(root / "recipes" / "redteam" / "policy.toml"), str(store.parent / "red")
    few = ["-a", "cases", "--calls", "4", "--folder", folder, "--set", example]
    assert main.run(["redteam", "run", policy, *few]) == 0
    again = [f"{folder}/found.jsonl", policy, "--folder", folder, "--set", example]
    assert main.run(["redteam", "replay", *again]) == 1


def mended(example: str, store: Path, root: Path) -> None:
    """Rows of what a run of the same recipe found."""
    redteam(example, store, root)
    policy, folder = str(root / "recipes" / "redteam" / "policy.toml"), store.parent / "red"
    words = ["redteam", "mend", str(folder / "found.jsonl"), policy, "--into", str(folder / "to")]
    assert main.run([*words, "--set", example]) == 0
    assert (folder / "to" / "guard_cases.toml").is_file()


def played(example: str, store: Path, root: Path) -> None:
    """A person who leaves at once."""
    policy, folder = str(root / "recipes" / "redteam" / "policy.toml"), str(store.parent / "play")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO("/quit\n"))
        assert main.run(["redteam", "play", policy, "--folder", folder, "--set", example]) == 0


AUDIT = ("--limit", "2", "-i", "authority", "--into", "{folder}/audit.db")
RUNNERS: dict[str, Runner] = {
    "audit judge": typed("audit", "judge", "--store", "{store}", *AUDIT),
    "debate": typed("debate", "-d", "world", "--no-live", "--store", "{store}"),
    "datasets": typed("datasets", "world", "--limit", "1"),
    "redteam attacker": lambda example, store, root: AttackerTrainingSettings.changed(
        read_toml(root / "recipes" / "redteam" / "attacker.toml"), assignments([example])
    ),
    "redteam loop": lambda example, store, root: LoopSettings.changed(
        read_toml(root / "recipes" / "redteam_judge.toml"), assignments([example])
    ),
    "redteam mend": mended,
    "redteam play": played,
    "redteam replay": redteam,
    "redteam run": redteam,
    "export": typed("export", "{folder}/rows.jsonl", "--store", "{store}"),
    "guard export": typed("guard", "export", "{folder}/words.jsonl", "--store", "{store}"),
    "import": imported,
    "judge": typed("judge", "--store", "{store}", "--keys"),
    "rate": typed("rate", "pairs", "--store", "{store}", "--keys"),
    "pixels": lambda example, store, root: pixel_settings(None, {}, [example]),
    "measure": lambda example, store, root: load_suite(
        root / "recipes" / "measured" / "suite.toml", {}, [example], quick=False
    ),
    "tournament": lambda example, store, root: TournamentSettings.changed(
        read_toml(root / "recipes" / "tournament.toml"), assignments([example])
    ),
    "run": lambda example, store, root: load_circle(RECIPE, {}, [example], quick=False),
    "critique": lambda example, store, root: load_recipe(
        RunSettings, root / "recipes" / "constitutional.toml", assignments([example])
    ),
    "feedback": lambda example, store, root: RatingSettings.parse(
        batch_settings(root / "recipes" / "feedback.toml", example)
    ),
    "propose": lambda example, store, root: WritingSettings.parse(
        batch_settings(root / "recipes" / "propose.toml", example)
    ),
    **{f"train {name}": trained(name) for name in ("sft", "reward", "dpo", "ppo", "grpo")},
}
"""How a command takes an example of `--set`; what would run for minutes reads its settings."""


def test_every_command_with_settings_has_an_example_of_its_own() -> None:
    assert {name for name, c in COMMANDS.items() if "--set" in options_of(c)} == set(RUNNERS)
    assert {name for name, found in EXAMPLES.items() if found} == set(RUNNERS)


@pytest.mark.parametrize("name", sorted(RUNNERS))
def test_the_example_of_a_commands_help_runs(name: str, store: Path, root: Path) -> None:
    for example in EXAMPLES[name]:
        RUNNERS[name](example, store, root)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_example_stands_in_the_help_as_it_is_printed(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main.run([*name.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    for example in EXAMPLES[name]:
        assert f"--set {example}" in printed


def test_files_that_help_names_exist(root: Path) -> None:
    for name, command in COMMANDS.items():
        for path in re.findall(r"\b(?:recipes|docs|benchmarks)/[\w./]*\w", help_of(command)):
            assert (root / path).exists(), (name, path)


# --- commands in messages ---

FOLDERS = ("oversight", "agents", "graphs", "tui", "constitutions")
MENTION = re.compile(r"(?:`|Next: |^|: |, |use )oversight (?P<words>[a-z][^`\n]*)")
LETTERS = re.compile(r"[a-z]+")


def texts(tree: ast.AST) -> Iterator[str]:
    """String constants, those made of parts with a word in the place of each value."""
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else " " for part in node.values
            )
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node.value


def mentioned(root: Path) -> list[tuple[str, str]]:
    found = []
    for path in sorted(path for name in FOLDERS for path in (root / name).rglob("*.py")):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            for match in MENTION.finditer(text):
                found.append((str(path.relative_to(root)), match["words"]))
    return found


def test_commands_that_messages_name_exist_with_their_options(root: Path) -> None:
    found = mentioned(root)
    assert len(found) > 30
    for path, words in found:
        first, *rest = words.split(", ")[0].split("; ")[0].split(" (")[0].split()
        name = " ".join((first, *rest[:1])) if first in ("train", "store") and rest else first
        name = name.rstrip(".,:;")
        known = [each for each in COMMANDS if each == name or each.startswith(f"{name} ")]
        assert known, (path, words)
        options = {word.split("=")[0] for word in rest if word.startswith("-") and len(word) > 1}
        have = set().union(*(options_of(COMMANDS[each]) for each in known))
        assert options <= have | {"--help"}, (path, words, options - have)


@pytest.mark.parametrize(
    "command",
    [
        "oversight debate --protocol critique",
        "oversight debate --protocol debate_single_turn_best_of_n",
    ],
)
def test_commands_that_screens_propose_run(command: str, tmp_path: Path) -> None:
    words = [*shlex.split(command)[1:], "-d", "world", "--limit", "1", "--no-live"]
    assert main.run([*words, "--store", str(tmp_path / "debates.db")]) == 0


def test_what_judging_and_rating_share_has_one_name_and_one_help() -> None:
    judge, rate = (
        {each.name: each for each in COMMANDS[name].params} for name in ("judge", "rate")
    )
    shared = {field.name for field in fields(PersonOptions)} - {"sets"}
    assert shared <= judge.keys() & rate.keys()
    for name in shared:
        assert judge[name].opts == rate[name].opts
        assert judge[name].help == rate[name].help
        assert judge[name].default == rate[name].default

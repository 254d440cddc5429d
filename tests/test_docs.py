"""Commands, settings and code that README and docs show can be used as they stand."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from oversight.cli import main
from oversight.config import DatasetSettings
from oversight.constitutions import read as read_constitution
from oversight.errors import ConfigError
from oversight.judging.settings import JudgingSettings, RatingSettings
from oversight.train import reward
from oversight.train.registered import Trainer
from tests.docs.walking import pages

ROOT = Path(__file__).parents[1]
PAGES = pages()


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours with the page it stands on."""
    for page in PAGES:
        for block in (*blocks(page, "bash"), *blocks(page, "console")):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.removeprefix("$ ").split("&&"):
                    words = shlex.split(part, comments=True)
                    if words[:1] == ["oversight"]:
                        yield page, words[1:]


def parsed(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and what is left of them."""
    command = typer.main.get_command(main.app)
    while hasattr(command, "commands"):
        assert words, "no command"
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_every_command_of_the_docs_is_understood() -> None:
    found = list(commands())
    assert len(found) > 50
    for page, words in found:
        command, rest = parsed(words)
        command.make_context("oversight", list(rest))
        for word in rest:
            if word.startswith("recipes/"):
                assert (ROOT / word).exists(), (page, word)


@pytest.mark.parametrize(
    ("page", "place", "kind"),
    [
        ("docs/judging.md", 0, JudgingSettings),
        ("docs/rating.md", 0, reward.Config),
        ("docs/rating.md", 2, RatingSettings),
        ("docs/datasets.md", 0, DatasetSettings),
    ],
)
def test_a_file_of_settings_in_the_docs_is_accepted(page: str, place: int, kind: Any) -> None:
    given = tomllib.loads(blocks(page, "toml")[place])
    kind.parse(given["dataset"] if kind is DatasetSettings else given)


def test_the_constitution_in_the_docs_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(blocks("docs/rating.md", "toml")[1], encoding="utf-8")
    assert [each.id for each in read_constitution(path).principles] == ["names-its-source"]


def test_the_reward_function_in_the_docs_gives_a_number_each() -> None:
    made: dict[str, Any] = {}
    exec(blocks("docs/training.md", "python")[0], made)
    assert made["brief"](["one", "one two three"], [{}, {}]) == [0.5, 0.25]


def test_the_loss_in_the_docs_is_registered_by_sequences_with_its_option() -> None:
    made: dict[str, Any] = {}
    exec(blocks("docs/training.md", "python")[1], made)
    assert made["scaled"].normalizer == "sequences"
    with pytest.raises(ConfigError, match=r"options\.factor = 0: give a number above 0"):
        made["scaled"].bind({"factor": 0})


def test_the_trainer_in_the_docs_is_registered_with_its_settings() -> None:
    made: dict[str, Any] = {"__name__": "mine"}
    exec(blocks("docs/training.md", "python")[2], made)
    assert isinstance(made["train"], Trainer)
    assert made["train"].settings is made["Config"]

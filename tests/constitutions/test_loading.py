from __future__ import annotations

from pathlib import Path

import pytest

from oversight import constitutions, registry
from oversight.errors import ConfigError, UnknownNameError

GOOD = {"description": "For tests.", "principles": [{"id": "be-kind", "text": "Be kind."}]}


@pytest.mark.parametrize("name", registry.names("constitutions"))
def test_every_shipped_constitution_loads(name: str) -> None:
    loaded = constitutions.load(name)

    assert loaded.name == name
    assert len({principle.id for principle in loaded.principles}) == len(loaded.principles)


def test_principles_keep_their_order() -> None:
    ids = [p.id for p in constitutions.load("honest_debate").principles]

    assert ids[0] == "evidence-over-eloquence"
    assert len(ids) >= 5


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="honest_debate"):
        constitutions.load("honest_debat")


def test_a_repeated_id_names_file_and_key() -> None:
    twice = {**GOOD, "principles": [*GOOD["principles"], {"id": "be-kind", "text": "Again."}]}

    with pytest.raises(ConfigError, match=r"x\.toml: principles\.id = 'be-kind' stands 2 times"):
        constitutions.parse(twice, name="x", where="x.toml")


@pytest.mark.parametrize(
    ("principles", "named"),
    [
        ([{"id": "a", "text": "  "}], r"principles\.0\.text"),
        ([{"id": "a"}], r"principles\.0\.text"),
        ([{"id": "Not An Id", "text": "Text."}], r"principles\.0\.id"),
        ([{"id": "a", "text": "Text.", "wieght": 2}], r"wieght"),
        ([], r"principles"),
    ],
)
def test_a_broken_principle_names_file_and_key(principles: list[object], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.toml: .*{named}"):
        constitutions.parse({**GOOD, "principles": principles}, name="x", where="x.toml")


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("principles = [", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"broken\.toml' is not TOML"):
        constitutions.read(path)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        constitutions.read(tmp_path / "absent.toml")

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import create_model

from oversight.config import (
    EMBEDDED_AGENTS,
    RunSettings,
    Settings,
    assignments,
    chosen,
    load_recipe,
    override,
    parse_value,
    read_toml,
)
from oversight.errors import ConfigError
from oversight.judging.settings import JudgingSettings
from oversight.types import Role

RECIPE = """
protocols = ["debate", "naive"]
[dataset]
dataset = "world"
limit = 5
[agents.judge]
agent = "judge"
engine = "local"
[engines.local]
engine = "scripted"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_a_recipe_is_read_and_roles_not_named_are_played_by_the_embedded_agents(
    tmp_path: Path,
) -> None:
    settings = load_recipe(RunSettings, write(tmp_path, RECIPE), {})
    assert settings.dataset.limit == 5
    assert settings.cast()[Role.JUDGE].engine == "local"
    assert settings.cast()[Role.DEBATER] == EMBEDDED_AGENTS[Role.DEBATER]


def test_set_overrides_and_makes_tables_on_the_way(tmp_path: Path) -> None:
    changes = assignments(
        ["dataset.limit=7", "dataset.settings.difficulty = 3", 'protocols=["expert"]', "store=x.db"]
    )
    settings = load_recipe(RunSettings, write(tmp_path, RECIPE), changes)
    assert settings.dataset.limit == 7
    assert settings.dataset.settings == {"difficulty": 3}
    assert settings.protocols == ("expert",)
    assert settings.store == "x.db"


def test_overriding_leaves_the_given_data_as_it_was() -> None:
    data = {"a": {"b": 1}}
    assert override(data, {"a.b": 2, "a.c.d": 3}) == {"a": {"b": 2, "c": {"d": 3}}}
    assert data == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1.5", 1.5), ("true", True), ("[1, 2]", [1, 2]), ('"x"', "x"), ("a b", "a b")],
)
def test_a_value_is_toml_or_else_a_string(text: str, value: object) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset.limt": 3}, r"unknown setting 'dataset\.limt'\. Did you mean 'limit'\?"),
        ({"protocol": ["debate"]}, r"unknown setting 'protocol'\. Did you mean 'protocols'\?"),
        ({"dataset.limit": 0}, r"dataset\.limit = 0: Input should be greater than or equal to 1"),
        ({"concurrency": "many"}, r"concurrency = 'many': give a whole number"),
        ({"protocols": "debate"}, r"protocols = 'debate': give a list, such as \["),
        ({"dataset": 3}, r"dataset = 3: give a table, such as \{"),
        ({"agents.judge.agnt": "x"}, r"'agents\.judge\.agnt'\. Did you mean 'agent'\?"),
        ({"engines.m": {"engin": "x"}}, r"'engines\.m\.engin'\. Did you mean 'engine'\?"),
        ({"sides": "left"}, r"sides = 'left': Input should be 'drawn' or 'both'"),
        ({"protocols": []}, r"protocols = \[\]"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(RunSettings, write(tmp_path, RECIPE), changes)
    assert "\n" not in str(caught.value)
    assert "run.toml" in str(caught.value)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="setting 'dataset' is missing"):
        RunSettings.parse({})


def test_a_files_name_is_no_part_of_an_unknown_settings_name() -> None:
    with pytest.raises(ConfigError, match=r"^mine\.toml: unknown setting 'dataset\.limt'\. Did"):
        RunSettings.parse({"dataset": {"dataset": "world", "limt": 3}}, where="mine.toml")


def test_a_missing_setting_says_where_to_give_it() -> None:
    with pytest.raises(ConfigError) as caught:
        RunSettings.parse({}, where="mine.toml")
    assert str(caught.value) == (
        "mine.toml: setting 'dataset' is missing; give it in the recipe or by --set"
    )


def test_an_unknown_setting_that_is_like_none_is_answered_with_all_of_them() -> None:
    assert len(JudgingSettings.model_fields) > 20
    with pytest.raises(ConfigError, match=r"Known: .*\boverlap, .*\bstepped,"):
        JudgingSettings.parse({"zzzz": 1})


@pytest.mark.parametrize("text", ["a = ", "= 1", "[x"])
def test_a_file_that_is_not_toml_says_where(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml.*is not TOML"):
        load_recipe(RunSettings, write(tmp_path, text), {})


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml.*No such file"):
        load_recipe(RunSettings, tmp_path / "none.toml", {})


@pytest.mark.parametrize("text", ["limit", "=3", "a..b=1", ".a=1"])
def test_an_assignment_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a\.b=value"):
        assignments([text])


def test_an_assignment_through_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'seed' is the value 3, not a table"):
        override({"seed": 3}, {"seed.x": 1})


# --- paths ---

PATHS = """
out = "runs/out.d"
protocols = ["mine.toml", "debate"]
name = "word"
url = "http://127.0.0.1:8000/v1"
[reward]
function = "quotes.py:from_source"
models = ["models/a", "seedling"]
[data]
path = "rows-*.jsonl"
"""


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a recipe with all that it names, seen from another folder."""
    folder, elsewhere = tmp_path / "copied", tmp_path / "elsewhere"
    for each in ("models/a", "runs/out.d", "seedling", "word"):
        (folder / each).mkdir(parents=True)
    for each in ("mine.toml", "quotes.py", "rows-1.jsonl"):
        (folder / each).touch()
    (folder / "run.toml").write_text(PATHS)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return folder


@pytest.mark.parametrize("way", [Path("../copied/run.toml"), Path("run.toml")])
def test_files_that_a_recipe_reads_are_found_beside_it_from_anywhere(
    copied: Path, way: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_toml(way if way.parent != Path() else copied / way)
    assert found["protocols"] == [str(copied / "mine.toml"), "debate"]
    assert found["reward"] == {
        "function": f"{copied / 'quotes.py'}:from_source",
        "models": [str(copied / "models" / "a"), "seedling"],
    }
    assert found["data"] == {"path": str(copied / "rows-*.jsonl")}
    assert (found["out"], found["name"]) == ("runs/out.d", "word"), "written, and a bare word"
    monkeypatch.chdir(copied)
    assert read_toml(Path("run.toml"))["data"] == {"path": "rows-*.jsonl"}


def test_a_file_in_the_working_directory_goes_on_to_be_the_one_that_is_meant(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path("quotes.py").touch()
    assert read_toml(copied / "run.toml")["reward"]["function"] == "quotes.py:from_source"
    assert "reward.function = 'quotes.py:from_source' is taken from the working" in caplog.text


def test_what_is_in_neither_place_stays_as_it_was_written(tmp_path: Path) -> None:
    text = 'a = "none/there.jsonl"\nb = "' + "x/" * 5000 + '"\nc = "~/x.y"\nd = ".."\n'
    found = read_toml(write(tmp_path, text))
    assert found == {"a": "none/there.jsonl", "b": "x/" * 5000, "c": "~/x.y", "d": ".."}


@pytest.mark.parametrize(
    ("kinds", "given", "said"),
    [
        (str | tuple[str, ...], 7, "7: give a text or a list of texts, such as ["),
        (str | tuple[str, ...], [1, 2], "[1, 2]: give a text or a list of texts, such as ["),
        (int | bool, "x", "'x': give a whole number or true or false"),
    ],
)
def test_a_setting_of_several_kinds_names_them_all_and_no_kind_of_python(kinds, given, said):
    made = create_model("Made", __base__=Settings, value=(kinds, ...))
    with pytest.raises(ConfigError) as caught:
        made.parse({"value": given}, where="where")
    assert str(caught.value).removesuffix('"a", "b"]') == f"where.value = {said}"


def test_an_option_holds_inside_of_a_table_that_set_gives() -> None:
    given = chosen({"dataset.limit": 3, "store": None}, ['dataset={dataset="world"}', "seed=2"])
    assert override({}, given) == {"dataset": {"dataset": "world", "limit": 3}, "seed": 2}
    assert chosen({"seed": 2}, ["seed=2"]) == {"seed": 2}
    with pytest.raises(ConfigError, match="--set seed=3: an option of this command says seed = 2"):
        chosen({"seed": 2}, ["seed=3"])

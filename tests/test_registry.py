from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from oversight import registry
from oversight.agents import roles
from oversight.cli.main import run
from oversight.errors import ConfigError, UnknownNameError


@pytest.mark.parametrize("group", sorted(registry.GROUPS))
def test_every_name_has_a_summary(group: str) -> None:
    for name in registry.names(group):
        assert registry.summary(group, name), f"{group}/{name} does not say what it is"


@pytest.mark.parametrize(
    "group", [g for g in sorted(registry.GROUPS) if registry.GROUPS[g].suffix == ".py"]
)
def test_every_name_loads(group: str) -> None:
    assert registry.names(group)
    for name in registry.names(group):
        module = registry.load(group, name)
        assert any(hasattr(module, each) for each in ("build", "rows", "read"))


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no agent 'debator'\. Did you mean 'debater'\?"):
        registry.load("agents", "debator")


def test_other_distributions_add_names_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("echo", "oversight.engines.scripted", "oversight.agents")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert "echo" in registry.names("agents")
    assert registry.load("agents", "echo").__name__ == "oversight.engines.scripted"


def test_support_modules_are_no_names() -> None:
    assert {"base", "speaking", "judging", "stage", "nodes"}.isdisjoint(
        {name for group in registry.GROUPS for name in registry.names(group)}
    )


AGENT = "ROLES = frozenset()\nclass Config: ...\ndef build(config, engine): ...\n"

Install = Callable[..., Path]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Add a module of another distribution under an entry point of a group; its file."""

    def add(group: str, code: str, name: str = "foreign") -> Path:
        module = f"oversight_foreign_{group}_{tmp_path.name}"
        file = tmp_path / f"{module}.py"
        file.write_text(code)
        point = EntryPoint(name, module, registry.GROUPS[group].package)
        monkeypatch.setattr(
            registry, "entry_points", lambda group: [point] if group == point.group else []
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return file

    return add


@pytest.mark.parametrize(
    ("group", "code"),
    [
        ("agents", AGENT),
        ("engines", "class Config: ...\ndef build(config): ...\n"),
        ("datasets", "class Config: ...\ndef rows(config): ...\n"),
        ("graphs", "NUM_SPEAKERS = 2\ndef build(stage): ...\n"),
    ],
)
def test_the_file_of_another_distribution_is_named_before_its_code_runs(
    group: str, code: str, installed: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    file = installed(group, f"import sys\nprint('its code ran', file=sys.stderr)\n{code}")
    registry.load(group, "foreign")
    registry.load(group, "foreign")
    noun = registry.GROUPS[group].noun
    assert capsys.readouterr().err == (
        f"{noun} 'foreign': importing {file}, whose code runs as part of this command\n"
        "its code ran\n"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\nraise ValueError('no\\nway')", r"ValueError: no way \(.*\.py, line 2\)"),
        ("import sys\nsys.exit(3)", r"SystemExit: 3 \(.*\.py, line 2\)"),
        ("import oversight_is_not_there", r"No module named 'oversight_is_not_there' \(.*, line 1"),
        ("def build(", r"SyntaxError"),
        ("class Config: ...", r"has no build; a module of that group holds Config, build"),
    ],
)
def test_what_is_wrong_with_the_code_of_another_distribution_is_one_error(
    code: str, said: str, installed: Install
) -> None:
    installed("agents", code)
    with pytest.raises(ConfigError, match=rf"(?s)^agent 'foreign': .*{said}") as caught:
        registry.load("agents", "foreign")
    assert "\n" not in str(caught.value)


def test_an_agent_of_another_distribution_that_names_no_roles_is_refused(
    installed: Install,
) -> None:
    installed("agents", "class Config: ...\ndef build(config, engine): ...\n")
    with pytest.raises(ConfigError, match=r"agent 'foreign': .* has no ROLES"):
        roles("foreign")


@pytest.mark.parametrize("name", ["mine.py:Engine", "package.module:Engine", "mine.py"])
def test_an_engine_by_its_file_is_refused_with_the_way_that_there_is(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"from the entry point 'oversight\.engines'"):
        registry.load("engines", name)


def test_a_broken_distribution_does_not_hide_the_other_models(
    installed: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    installed("agents", "raise ValueError('no')")
    assert run(["models", "--json"]) == 0
    told = capsys.readouterr().out
    assert '"debater"' in told
    assert "ValueError: no" in told


def test_an_assistants_code_is_named_before_a_screen_is_shown(
    installed: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = installed("agents", AGENT)
    study = tmp_path / "study.toml"
    study.write_text('[assistance.full]\nagent = "foreign"\n')
    assert run(["judge", str(study), "--store", str(tmp_path / "none.db")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"agent 'foreign': importing {file}, whose code runs")


def test_a_file_registers_the_names_that_it_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").write_text(
        '"""One: the first."""\nNAMES = {"uno": "Uno: " "the same."}\nraise SystemExit\n'
    )
    monkeypatch.setattr(registry, "folder", lambda group: tmp_path)
    registry._entries.cache_clear()
    try:
        assert registry.names("agents") == ["one", "uno"]
        assert registry.summary("agents", "one") == "One: the first."
        assert registry.summary("agents", "uno") == "Uno: the same."
        assert registry.path("agents", "uno") == tmp_path / "one.py"
        with pytest.raises(UnknownNameError, match=r"Did you mean 'uno'\? Known: one, uno"):
            registry.load("agents", "umo")
    finally:
        registry._entries.cache_clear()


def test_the_names_of_one_file_stand_for_one_module_each_with_its_own_settings() -> None:
    whole, narrow = (registry.load("agents", name) for name in ("assistant", "assistant_critic"))
    assert narrow.ROLES == whole.ROLES
    assert issubclass(narrow.Config, whole.Config)
    assert narrow.Config().kinds != whole.Config().kinds
    assert narrow.__doc__ == registry.summary("agents", "assistant_critic")


@pytest.mark.parametrize("group", sorted(registry.GROUPS))
def test_no_file_lists_a_name_that_another_file_has(group: str) -> None:
    files = list(registry.folder(group).glob("*.py"))
    listed = [name for file in files for name in registry._listed(file)]
    assert len({file.stem for file in files} | set(listed)) == len(files) + len(listed)

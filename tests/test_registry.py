from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from oversight import registry
from oversight.errors import UnknownNameError


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
        assert hasattr(module, "build") or hasattr(module, "rows")


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

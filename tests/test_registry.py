from __future__ import annotations

from importlib.metadata import EntryPoint

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

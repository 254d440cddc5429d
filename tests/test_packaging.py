"""The wheel holds what the folders hold: a forgotten package would silently vanish from it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP_LEVEL = ("agents", "constitutions", "graphs", "tui")


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


def package_folders(root: Path) -> set[str]:
    """Dotted names of all folders below oversight/, through its links, that hold Python files."""
    found = {"oversight"}
    stack = [(root / "oversight", "oversight")]
    while stack:
        folder, dotted = stack.pop()
        for child in folder.iterdir():
            if child.is_dir() and any(child.glob("*.py")):
                found.add(f"{dotted}.{child.name}")
                stack.append((child, f"{dotted}.{child.name}"))
    return found


def test_package_list_names_every_folder(root: Path, project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert set(listed) == package_folders(root)
    assert listed == sorted(listed)


def test_data_files_are_in_the_wheel(root: Path, project: dict[str, Any]) -> None:
    """A file that is no Python lies in a package whose patterns, or everybody's, take it."""
    patterns = project["tool"]["setuptools"]["package-data"]
    packages = package_folders(root)
    taken: set[Path] = set()
    for dotted in packages:
        folder = root.joinpath(*dotted.split("."))
        for pattern in (*patterns["*"], *patterns.get(dotted, ())):
            taken.update(path.resolve() for path in folder.glob(pattern))
    folders = [root / "oversight", *(root / name for name in TOP_LEVEL)]
    every = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    others = [path for path in every if path.suffix not in (".py", ".pyc")]
    assert [str(path) for path in others if path.resolve() not in taken] == []


def test_every_package_has_an_init_with_a_docstring(root: Path) -> None:
    for dotted in package_folders(root):
        init = root.joinpath(*dotted.split("."), "__init__.py")
        assert init.read_text().startswith('"""'), dotted


def test_links_and_mapping_agree(root: Path, project: dict[str, Any]) -> None:
    mapping = project["tool"]["setuptools"]["package-dir"]
    assert mapping == {"oversight": "oversight"} | {f"oversight.{n}": n for n in TOP_LEVEL}
    for name in TOP_LEVEL:
        link = root / "oversight" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..", name)


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_top_level_folders_refuse_a_bare_import(root: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, root / name / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=rf"oversight\.{name}"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_every_dependency_has_a_reason(root: Path) -> None:
    text = (root / "pyproject.toml").read_text()
    start = text.index("dependencies = [")
    block = text[start : text.index("[project.scripts]")]
    for line in re.findall(r'^ +".*$', block, re.MULTILINE):
        if "oversight[" not in line:
            assert re.search(r"# \w", line), line


def test_constraints_pin_every_dependency(root: Path, project: dict[str, Any]) -> None:
    lines = (root / "constraints.txt").read_text().splitlines()
    pinned = {re.split(r"==", line)[0].lower().replace("_", "-") for line in lines if "==" in line}
    wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=;]", each)[0].lower().replace("_", "-") for each in wanted}
    assert names - pinned - {"oversight"} == set()


def loaded_after(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


HEAVY = {"torch", "transformers", "vllm", "sklearn", "matplotlib", "pyarrow", "scipy", "langgraph"}


@pytest.mark.parametrize(
    "statement",
    [
        "import oversight.types, oversight.registry",
        "import oversight.config",
        "import oversight.text.quotes, oversight.text.prompts, oversight.text.terminal",
        "import oversight.engines, oversight.engines.scripted, oversight.engines.openai",
        "import oversight.engines.vllm",
        "import oversight.store",
        "import oversight.cli.main",
        "import oversight.tui.live",
        "import oversight.preferences, oversight.evals, oversight.datasets",
    ],
)
def test_importing_loads_no_heavy_library(statement: str) -> None:
    assert loaded_after(statement) & HEAVY == set()


def test_listing_names_imports_none_of_them() -> None:
    modules = loaded_after("from oversight import registry; registry.names('agents')")
    assert not any(name.startswith("oversight.agents") for name in modules)


def needed(names: Iterable[str]) -> set[str]:
    """Distributions that these requirements bring, themselves included, without their extras."""
    found: set[str] = set()
    todo = [Requirement(name) for name in names]
    while todo:
        each = todo.pop()
        name = canonicalize_name(each.name)
        if name in found or (each.marker and not each.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):
            todo += map(Requirement, metadata.requires(name) or ())
    return found


WITHOUT = """
import importlib.machinery, sys
hidden, plain = set({hidden!r}), importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else plain(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
from oversight.cli.main import run
sys.exit(next((code for words in {commands!r} if (code := run(words))), 0))
"""
"""Runs commands where the packages that only extras bring cannot be found."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_debates_and_training_need_no_package_of_an_extra(
    project: dict[str, Any], tmp_path: Path
) -> None:
    base = needed([*project["project"]["dependencies"], "setuptools"]) | {"oversight"}
    homes = metadata.packages_distributions()
    hidden = [
        module
        for module, dists in homes.items()
        if not {canonicalize_name(each) for each in dists} & base
    ]
    assert {"peft", "trl", "pandas"} <= {*hidden}
    rows = tmp_path / "rows.parquet"
    values = (f"data.path={rows}", "model.path=seedling", "steps=1", "batch_size=1")
    given = [word for value in values for word in ("--set", value)]
    (tmp_path / "r.toml").write_text('out = "run"\n[model]\n[data]\n[optimizer]\n')
    commands = [
        ["debate", "-d", "world", "--limit", "2", "-p", "debate_single_turn"],
        ["export", str(rows)],
        ["report", "--html", "report"],
        *(["train", kind, "r.toml", "--dry-run", *given] for kind in ("sft", "dpo")),
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(hidden=hidden, commands=commands)],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "report").exists()

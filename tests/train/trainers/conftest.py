"""The tiny runs, and the small worlds of `benchmarks/learning.py`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch


def _module(path: Path) -> ModuleType:
    if path.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    return sys.modules[path.stem]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, and a cache of reference scores that is the test's own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OVERSIGHT_CACHE", str(tmp_path / "cache"))
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def cases() -> ModuleType:
    """Tiny runs of every trainer."""
    return _module(Path(__file__).with_name("cases.py"))


@pytest.fixture(scope="session")
def whole_run(cases: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny run that was never cut; each is made once."""
    folder = tmp_path_factory.mktemp("whole")

    def made(name: str) -> Path:
        if not (folder / name).exists():
            cases.CASES[name](folder / name)
        return folder / name

    return made


@pytest.fixture(scope="session")
def learning(root: Path) -> ModuleType:
    """The module of the benchmark of learning."""
    _module(root / "benchmarks" / "learning_tasks.py")
    return _module(root / "benchmarks" / "learning.py")

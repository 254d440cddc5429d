"""Models of every type in the project: exact, or refused by name; none silently wrong.

`outcomes.json` holds what came of each; `docs/models.md` is made of it. After a change that is
meant, write both anew: `python docs/make_models_table.py --run`.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FEW = (
    "llama",
    "mistral",
    "qwen3",
    "gemma3_text",
    "phi3, longrope",
    "gpt2",
    "opt",
    "mixtral",
    "jamba",
    "qwen3_next",
    "diffllama",
    "bert",
)
"""Models that between them meet each of the project's ways of computing: windows, two kinds of
layers, angles of two regimes, positions that are learnt, dropout by function, experts, recurrent
layers, two calls of attention, an encoder."""


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "outcomes.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def expected(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made["outcomes"]
    return found


def sweep(out: Path, names: Sequence[str] = (), part: str = "1/1") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "sweep.py"), "-o", str(out), "--part", part, *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


def ended(running: subprocess.Popen[str], out: Path) -> dict[str, Any]:
    said, _ = running.communicate()
    assert running.returncode == 0, said[-3000:]
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def kinds_of(outcomes: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        name: {way: each["outcome"] for way, each in ways.items()}
        for name, ways in outcomes.items()
    }


def at_fault(outcomes: dict[str, Any]) -> dict[str, str]:
    return {
        f"{name}: {way}": f"{each['outcome']}: {each['about']}"
        for name, ways in outcomes.items()
        for way, each in ways.items()
        if each["outcome"] in ("WRONG", "CRASH")
    }


@pytest.mark.timeout(600)
def test_a_few_architectures_are_exact_or_refused(tmp_path: Path, expected: dict[str, Any]) -> None:
    found = ended(sweep(tmp_path / "few.json", FEW), tmp_path / "few.json")
    assert at_fault(found) == {}
    assert kinds_of(found) == kinds_of({name: expected[name] for name in FEW})


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_architectures_are_exact_or_refused(tmp_path: Path, expected: dict[str, Any]) -> None:
    parts = {tmp_path / f"{part}.json": f"{part}/2" for part in (1, 2)}
    running = {out: sweep(out, part=part) for out, part in parts.items()}
    found = {k: v for out, process in running.items() for k, v in ended(process, out).items()}
    assert at_fault(found) == {}
    assert kinds_of(found) == kinds_of(expected)


def test_every_type_that_transformers_knows_is_in_the_table(expected: dict[str, Any]) -> None:
    from transformers.models.auto import modeling_auto as auto

    types = set(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    types |= set(auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    assert types <= set(expected)


def test_no_outcome_in_the_table_is_a_fault(expected: dict[str, Any]) -> None:
    assert at_fault(expected) == {}


def test_the_page_of_models_is_made_of_the_outcomes(root: Path, made: dict[str, Any]) -> None:
    page = runpy.run_path(str(root / "docs" / "make_models_table.py"))["page"]
    written = (root / "docs" / "models.md").read_text(encoding="utf-8")
    assert written == page(made["outcomes"], made["transformers"])

"""The organism's recipe runs in its quick form, from training to the causal check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quick_form_reports_organism_and_seedling_with_all_controls(tmp_path: Path) -> None:
    script = ROOT / "recipes" / "interp" / "organism.py"
    command = [sys.executable, str(script), str(tmp_path / "o"), "--quick", "--registers", "20"]
    done = subprocess.run(
        command, env=os.environ, capture_output=True, text=True, check=False, timeout=800
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for words in (
        "organism: seedling and 30 steps of 64, seed 0",
        "private answer right, with the trigger",
        "organism: about to speak, with the trigger",
        "shipped seedling: about to speak, with the trigger",
        "causal check",
    ):
        assert words in done.stdout
    found = json.loads((tmp_path / "o" / "results.json").read_text())
    assert set(found) == {"organism, logistic", "shipped seedling, logistic"}
    for report in found.values():
        assert all(each is not None for each in report["controls"].values())
        words = report["controls"]["bag of words"]
        assert words["low"] <= 0.5 <= words["high"]

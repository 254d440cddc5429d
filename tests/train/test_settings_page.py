"""docs/training_settings.md says what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

from oversight.train import losses
from oversight.train.data.formats import FORMATS
from oversight.train.guard_settings import GuardSettings


def test_the_page_of_settings_is_what_the_code_makes(root: Path) -> None:
    made = runpy.run_path(str(root / "docs" / "make_settings.py"))
    written = (root / "docs" / "training_settings.md").read_text(encoding="utf-8")
    assert written == made["page"](), "run: python docs/make_settings.py"


def test_every_loss_is_there_with_its_paper(root: Path) -> None:
    lines = (root / "docs" / "training_settings.md").read_text(encoding="utf-8").splitlines()
    for family in ("reward", "preference", "unpaired", "policy"):
        for name in losses.names(family):
            rows = [line.split(" | ") for line in lines if line.startswith(f"| `{name}` | ")]
            assert any(cells[2][-4:].isdigit() for cells in rows if len(cells) > 2), name


def test_every_format_and_guard_is_explained(root: Path) -> None:
    text = (root / "docs" / "training.md").read_text(encoding="utf-8")
    for name in (*FORMATS, *GuardSettings.model_fields):
        assert f"\n| `{name}` | " in text, name

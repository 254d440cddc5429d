from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from oversight.store import Store


def test_the_demo_goes_from_questions_to_a_report(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "oversight.cli.main",
        "demo",
        "--questions",
        "8",
        "--no-circle",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("Judgment") < done.stdout.index("pairs (prompt, chosen, rejected)")
    for name in ("report.html", "report.png", "preferences.parquet", "transcripts.jsonl"):
        assert (tmp_path / "demo" / name).stat().st_size > 0
    with Store.open(str(tmp_path / "demo" / "demo.db"), create=False) as store:
        assert store.check() == []
        assert store.counts()["complete"] == 8 * (2 + 3 * 2)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "0 debates run, 64 found complete" in again.stdout

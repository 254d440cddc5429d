from __future__ import annotations

from pathlib import Path

import pytest

from oversight.cli.main import run

LINES = "".join(
    f'{{"step": {step}, "split": "train", "time": 0, "wall_s": 0, "loss": {5 - step}}}\n'
    for step in range(1, 4)
)


def test_curves_are_written_beside_the_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES)
    assert run(["plot", str(tmp_path)]) == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "curves.png written" in capsys.readouterr().err
    assert run(["plot", str(tmp_path), "--out", str(tmp_path / "b.png"), "-m", "loss"]) == 0
    assert (tmp_path / "b.png").exists()


def test_a_folder_without_metrics_and_an_unknown_metric_are_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plot", str(tmp_path)]) == 2
    assert "has no metrics.jsonl" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text(LINES)
    assert run(["plot", str(tmp_path), "--metric", "los"]) == 2
    assert "Did you mean 'loss'?" in capsys.readouterr().err

"""A dry run of `oversight train` shows what would happen, tries what it can, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversight.cli.main import run
from tests.cli.tiny_runs import SAMPLES, by, refused, rows, write


@pytest.mark.parametrize("trainer", ["sft", "reward", "dpo", "ppo", "grpo"])
def test_a_dry_run_shows_what_would_happen_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], trainer: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    more = SAMPLES if trainer in ("ppo", "grpo") else []
    assert run(["train", trainer, "on.toml", "--out", "x", "--dry-run", *more]) == 0
    told = capsys.readouterr()
    for part in (
        f"{trainer} of trained/model (llama, ",
        "examples           8",
        "prompt" if more else "response",
        "| Who is number 0?",
        "AdamW",
        "are free",
        "Checked, and nothing written: settings, folder, model, data",
    ):
        assert part in told.out
    assert ("<eos>" in told.out) is not bool(more)
    assert ("reward." in told.out) is bool(more)
    assert told.err == ""
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_a_dry_run_shows_no_control_character_of_the_data(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("rows.jsonl", rows(8, chosen="a \x1b]52;c;!\x07 b \u202e c"))
    assert run(["train", "sft", "on.toml", "--out", "x", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize(
    ("ratio", "precision", "said"),
    [
        (1.83, "float32", 'model.precision = "bfloat16" would be faster, at its coarser rounding'),
        (0.6, "bfloat16", 'model.precision = "float32" would be faster'),
        (1.83, "bfloat16", "model.precision = 'bfloat16' is set"),
        (1.0, "float32", "model.precision = 'float32' is set"),
    ],
)
def test_a_dry_run_says_which_precision_is_faster_here(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    precision: str,
    said: str,
) -> None:
    monkeypatch.setattr("oversight.train.plan.bfloat16_speed", lambda *given: ratio)
    more = ["--set", f"model.precision={precision}", "--dry-run"]
    assert run(["train", "sft", "on.toml", "--out", "x", *more]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    told = (
        f"bfloat16 multiplies {ratio:.2g} times as fast as float32 on cpu, at these sizes; {said}"
    )
    assert told in shown


@pytest.mark.parametrize("trainer", ["ppo", "grpo"])
def test_a_dry_run_calls_the_reward_function_and_shows_what_it_gave(
    here: Path, capsys: pytest.CaptureFixture[str], trainer: str
) -> None:
    Path("mine.py").write_text("def f(texts, fields):\n    return [len(t) / 8 for t in texts]\n")
    function = by("function", "function=mine.py:f")
    more = ["--set", "sampling.max_new_tokens=8", *function, "--dry-run"]
    assert run(["train", trainer, "on.toml", "--out", "x", *more]) == 0
    told = capsys.readouterr()
    shown = " ".join(told.out.split())
    assert "mine.py:f gives row 'r0' 2.25 for 'This is a dry run.' and 0 for ''" in shown
    assert f"importing {here / 'mine.py'}, whose code runs" in told.err.replace("\n", "")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyError('gold')", r"row 'r0#0': reward 'mine\.py:f' raised KeyError.*line 2"),
        ("return None", r"reward 'mine\.py:f' gave None"),
        ("return [1 / len(t) for t in texts]", r"row 'r0#1': .*ZeroDivisionError.*response ''"),
    ],
)
def test_a_dry_run_refuses_a_reward_function_that_would_end_the_run(
    here: Path, capsys: pytest.CaptureFixture[str], body: str, reason: str
) -> None:
    Path("mine.py").write_text(f"def f(texts, fields):\n    {body}\n")
    function = by("function", "function=mine.py:f")
    more = ["--set", "sampling.max_new_tokens=8", *function, "--dry-run"]
    refused(["grpo", "on.toml", "-o", "x", *more], reason, capsys)

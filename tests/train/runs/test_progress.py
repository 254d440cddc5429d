from __future__ import annotations

import io

import pytest
from rich.console import Console

from oversight.train.runs import progress as shown
from oversight.train.runs.progress import TrainProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    return now


def test_where_no_bar_fits_a_line_comes_every_ten_seconds(clock: list[float]) -> None:
    out = io.StringIO()
    with TrainProgress("grpo", 1000, 100, Console(file=out, width=40)) as progress:
        for step in range(101, 113):
            clock[0] += 1.0
            values = {"loss": 0.5, "reward": 1.25, "kl": 0.031, "entropy": 1.9, "lr": 1e-5}
            progress.update(step, values, num_tokens=5300)
    [line] = out.getvalue().splitlines()
    assert line == (
        "grpo 110/1000, loss 0.5, reward 1.25, KL 0.031, entropy 1.9, 5.3k tokens/s, 15 min left"
    )


def test_rate_and_time_left_are_of_the_last_steps(clock: list[float]) -> None:
    out = io.StringIO()
    with TrainProgress("sft", 200, 0, Console(file=out, width=200)) as progress:
        for step in range(1, 101):
            clock[0] += 10.0 if step <= 50 else 1.0
            progress.update(step, {}, num_tokens=2_000_000)
    assert out.getvalue().splitlines()[-1] == "sft 100/200, 2M tokens/s, 2 min left"


def test_on_a_terminal_a_bar_is_drawn() -> None:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    with TrainProgress("dpo", 4, 0, console) as progress:
        progress.update(3, {"loss": 0.25, "accuracy": 0.75})
    assert "3/4" in out.getvalue()
    assert "loss 0.25, acc 0.75" in out.getvalue()


def test_foreign_text_steers_no_terminal() -> None:
    out = io.StringIO()
    with TrainProgress("dpo\x1b[2J[red]", 4, 0, Console(file=out, force_terminal=True)) as bar:
        bar.say("step 3\x1b]0;title\x07 [bold]x")
    assert "\x1b[2J" not in out.getvalue()
    assert "\x1b]0;" not in out.getvalue()
    assert "[bold]x" in out.getvalue()


def test_other_processes_say_nothing(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainProgress("dpo", 4, silent=True) as progress:
        clock[0] += 60
        progress.update(1, {"loss": 1.0})
        progress.say("hello")
    assert capsys.readouterr() == ("", "")


METRICS = {
    "loss": -0.0354212,
    "reward": -0.030871,
    "accuracy": 0.51,
    "kl": 4.098e-08,
    "entropy": 4.943,
}


@pytest.mark.parametrize(
    ("width", "parts"),
    [
        (60, ["loss -0.03542"]),
        (80, ["loss -0.03542", "reward -0.03087"]),
        (140, ["loss -0.03542", "reward -0.03087", "acc 0.51", "KL 4.098e-08", "entropy 4.943"]),
    ],
)
def test_a_bar_keeps_name_step_and_time_left_however_narrow_the_terminal_is(
    width: int, parts: list[str]
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    progress = TrainProgress("ppo", 1024, 0, console)
    progress.update(7, METRICS)
    console.print(progress._bar.get_renderable())
    [line] = [each for each in out.getvalue().splitlines() if "left" in each]
    assert line.startswith("ppo ")
    assert "…" not in line
    assert len(line.rstrip()) < width
    assert f"   7/1024 {', '.join(parts)}" in line
    assert "left" in line.partition(parts[-1])[2]

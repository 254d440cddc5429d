from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live

from oversight.cli import progress as shown
from oversight.graphs.running import DebateProgress, Failure


def test_where_no_bar_fits_lines_tell_rate_time_left_and_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with shown.RunProgress(100, Console(file=out, width=200)) as bar:
        now[0] += 5
        bar(DebateProgress(done=5))
        now[0] += 5
        bar(DebateProgress(done=20, found=10, failures=[Failure("d", "q", "debate", "gone")]))
    [line] = out.getvalue().splitlines()
    assert line == "31/100 debates, 2.0/s, 34 s left, 1 failed, 10 found complete"


def line_after(monkeypatch: pytest.MonkeyPatch, progress: DebateProgress, after_s: float) -> str:
    now = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with shown.RunProgress(60, Console(file=out, width=200)) as bar:
        now[0] += after_s
        bar(progress)
    return out.getvalue().strip()


def test_before_the_first_end_no_time_left_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line_after(monkeypatch, DebateProgress(), 11) == "0/60 debates, none finished yet"


def test_a_slow_rate_is_told_by_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    told = line_after(monkeypatch, DebateProgress(done=1), 60)
    assert told == "1/60 debates, 1.0/min, 3540 s left"


def test_on_a_terminal_a_bar_is_drawn() -> None:
    out = io.StringIO()
    with shown.RunProgress(4, Console(file=out, width=100, force_terminal=True)) as bar:
        bar(DebateProgress(done=3))
    assert "3/4" in out.getvalue()


@pytest.mark.parametrize(
    "make",
    [lambda console: shown.RunProgress(9, console), shown.TaskProgress],
    ids=["run", "tasks"],
)
def test_a_bar_that_is_cut_off_as_it_comes_up_gives_the_cursor_back(
    monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    out = io.StringIO()
    bar = make(Console(file=out, width=80, force_terminal=True))
    refreshed: list[None] = []

    def refresh(live: Any) -> None:
        refreshed.append(None)
        if len(refreshed) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Live, "refresh", refresh)
    with pytest.raises(KeyboardInterrupt), bar:
        pytest.fail("it has begun")
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")

from __future__ import annotations

import io

import pytest
from rich.console import Console

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


def test_on_a_terminal_a_bar_is_drawn() -> None:
    out = io.StringIO()
    with shown.RunProgress(4, Console(file=out, width=100, force_terminal=True)) as bar:
        bar(DebateProgress(done=3))
    assert "3/4" in out.getvalue()

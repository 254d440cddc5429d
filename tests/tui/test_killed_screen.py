"""The screen's process is killed at random moments: whatever was seen to be done is there after."""

from __future__ import annotations

import os
import random
import signal

import pytest

from oversight.judging.work import fold
from oversight.types import EventKind
from tests.tui.test_hostile_screen import Terminal

KEYS = ["\x1b[C", "\x1b[D", "]", " ", "j", "u", "7", "5", "q", "."]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [0, 1])
async def test_a_killed_screen_goes_on_with_all_that_was_done(run_all, store, tmp_path, seed):
    await run_all("debate_single_turn")
    rng = random.Random(seed)
    before = 0
    for _ in range(3):
        terminal = Terminal("judge", f"--store={store.url}", "--judge=anna", folder=tmp_path)
        try:
            terminal.see("Enter ")
            terminal.press("\r")
            terminal.see("Belief +5")
            terminal.press(*rng.choices(KEYS, k=rng.randint(2, 6)))
            os.write(terminal._leader, "".join(rng.choices(KEYS, k=4)).encode())
            os.kill(terminal.process.pid, signal.SIGKILL)
        finally:
            terminal.close()
        events = store.events("anna")
        assert len(events) > before
        before = len(events)
        sessions = {event.session: [] for event in events}
        for event in events:
            sessions[event.session].append(event.number)
        assert all(numbers == list(range(len(numbers))) for numbers in sessions.values())
        work = fold(events)
        moved = any(event.kind is EventKind.BELIEF for event in events)
        assert (work.draft.probs is not None) or not moved or work.before == ()
    assert store.queue("anna")[0].state.value == "begun"
    assert store.check() == []

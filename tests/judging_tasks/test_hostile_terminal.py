"""Nothing foreign steers the terminal of those who rate, looked at byte by byte as with judging."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversight.store import Store
from oversight.types import Task
from tests.text.test_terminal import forbidden
from tests.tui.test_hostile_screen import LONG, NAMES, Terminal, Written, toml

PLAIN = ["Some plain words of a name", "Other plain words of a name"]
PLAIN_LONG = "\n".join(["Plain words, one line after the other."] * 40)

KEYS = {
    Task.PAIRS: ["\r", "\x1b[C", "q", "]", "c", "v", "w", "\x13", "u", "\r"],
    Task.PRINCIPLES: ["\r", "j", "4", "5", "z", "q", "\r"],
    Task.REVISIONS: ["\r", "1", "\x1b[C", "?", "\x1b", "\r"],
}


def rate(folder: Path, records_at, names: list[str], long: str, task: Task) -> Written:
    """All that is written while items are rated whose every text is `names` and `long`."""
    folder.mkdir()
    with Store.open(folder / "s.db") as store:
        records = records_at(store, names)
        records.best_of(f"{long} one", f"{long} <quote>{names[0]}</quote> other")
        records.debate(f"{long} first", f"{long} second")
        records.critique(f"{long} a", f"{long} b", f"{long} c")
    (folder / "own.toml").write_text(
        f'description = "x"\n[[principles]]\nid = "a"\ntext = {toml(names[0])}\n'
        f'[[principles]]\nid = "b"\ntext = {toml(names[1])}\n'
    )
    (folder / "study.toml").write_text(
        f'store = "s.db"\njudge = {toml(names[0])}\nname = {toml(names[1])}\n'
        'constitution = "own.toml"\n'
    )
    terminal = Terminal("rate", task.value, "study.toml", folder=folder)
    try:
        terminal.see("waiting")
        for key in KEYS[task]:
            terminal.press(key)
        terminal.press("\x1b", "\x1b", "\x11")
        terminal.read()
    finally:
        terminal.close()
    return Written(terminal.written)


@pytest.mark.slow
@pytest.mark.parametrize("task", list(Task))
def test_nothing_foreign_steers_the_terminal(records_at, tmp_path, task):
    plain = rate(tmp_path / "plain", records_at, PLAIN, PLAIN_LONG, task)
    hostile = rate(tmp_path / "hostile", records_at, NAMES[:2], LONG, task)
    assert forbidden(plain.text, kept="") == []
    assert hostile.kinds - plain.kinds == set()
    assert forbidden(hostile.text, kept="") == []
    for mark in ("␛", "⟨U+202E⟩"):
        assert mark in hostile.text, f"{mark} was never on the screen"
